use std::thread;

use super::*;
use allocations::allocated_bytes;

/// Mangled names, each with what `c++filt -r` prints; nothing where that refuses it.
fn known_names() -> Vec<(String, Option<String>)> {
    let packed = include_bytes!("../tests/data/kernel-names.tsv.zst");
    let mut text = Vec::with_capacity(1 << 20);
    zstd_safe::decompress(&mut text, packed).expect("it has less than 1 MiB");
    let text = String::from_utf8(text).unwrap();
    let row = |line: &str| {
        let (name, text) = line.split_once('\t').unwrap();
        (name.to_owned(), Some(text).filter(|text| !text.is_empty()).map(str::to_owned))
    };
    text.lines().map(row).collect()
}

#[test]
fn names_are_as_cxxfilt_prints_them() {
    let names = known_names();
    assert!(names.len() > 900);
    for (name, expected) in &names {
        assert_eq!(demangle(name), *expected, "{name}");
    }
    assert_eq!(demangle("_Z3addPfi").as_deref(), Some("add(float*, int)"));
    for name in ["add", "_Z", "_Z3ad", "_Z3addPfi.garbage\0", "_Z5scalePf$local", ""] {
        assert_eq!(demangle(name), None, "{name}");
    }
}

/// As binutils 2.47 prints them; 2.40 refuses them.
#[test]
fn newer_forms_are_as_the_newest_cxxfilt_prints_them() {
    for (name, expected) in [
        ("_ZN1AF1fEv", "A::f[friend]()"),
        ("_ZN1AF1fB3abiEv", "A::f[abi:abi][friend]()"),
        ("_ZNH1A1fES_", "A::f(this A)"),
        ("_ZN1A1fEvQ1C", "A::f() requires C"),
        ("_Z1fIiEvT_QLb1E", "void f<int>(int) requires true"),
        ("_Z1fIiEDTnx1aEv", "decltype (noexcept(a)) f<int>()"),
        ("_Z1fUlvE_", "f({lambda()#1})"),
        ("_Z1fUt_S_S0_", "f({unnamed type#1}, {unnamed type#1}, {unnamed type#1})"),
    ] {
        assert_eq!(demangle(name).as_deref(), Some(expected), "{name}");
    }
}

#[test]
fn long_names_of_real_kernels_are_kept() {
    let name = format!("_Z1500{}v", "k".repeat(1500));
    assert_eq!(demangle(&name).unwrap(), format!("{}()", "k".repeat(1500)));
    let most = known_names().iter().map(|(name, _)| demangle_within(name, MAX_STEPS).1).max();
    assert!(most < Some(MAX_STEPS / 4), "{most:?}");
}

#[test]
fn a_name_is_given_up_when_its_steps_are_used_up() {
    for (name, expected) in known_names() {
        let (text, steps) = demangle_within(&name, MAX_STEPS);
        assert_eq!(text, expected);
        if expected.is_some() {
            assert_eq!(demangle_within(&name, steps), (expected, steps), "{name}");
            assert_eq!(demangle_within(&name, steps - 1), (None, steps - 1), "{name}");
        }
    }
}

/// `f(P<A, A>, P<P<A, A>, P<A, A>>, ...)`: each parameter is a pair of the one before it.
fn doubling(levels: usize) -> String {
    format!("_Z1f{}", pairs(levels, 0))
}

/// Behind a name that has had `before` substitutions.
fn pairs(levels: usize, before: usize) -> String {
    let mut pairs = format!("1PI1A{}E", substitution(before + 1));
    for level in 1..=levels {
        let (pair, of) = (substitution(before), substitution(before + level + 1));
        pairs.extend([&pair, "I", &of, &of, "E"]);
    }
    pairs
}

/// `S_`, `S0_` and so on.
fn substitution(number: usize) -> String {
    const DIGITS: &[u8; 36] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let digit = |number: usize| char::from(DIGITS[number % 36]);
    match number {
        0 => "S_".to_owned(),
        1..=36 => format!("S{}_", digit(number - 1)),
        _ => format!("S{}{}_", digit((number - 1) / 36), digit(number - 1)),
    }
}

#[test]
fn a_name_that_doubles_with_each_reference_is_given_up_in_little_memory() {
    let small = demangle(&doubling(3)).expect("a valid name");
    assert!(small.len() > demangle(&doubling(2)).unwrap().len() * 3 / 2, "{small}");
    let name = doubling(30);
    assert!(name.len() < 400);
    let bytes = allocated_bytes(|| assert_eq!(demangle(&name), None));
    assert!(bytes < 1 << 20, "{bytes}");
}

/// A pack is looked for in every part of what is to be expanded, and here is none: without the limit 2^30 parts.
#[test]
fn a_search_that_doubles_with_each_reference_is_given_up() {
    let name = |levels| format!("_Z1fI{}EDp{}v", pairs(levels, 1), substitution(levels + 3));
    assert!(demangle(&name(3)).unwrap().contains("> > > >)... f<"), "{:?}", demangle(&name(3)));
    let name = name(30);
    assert_eq!(demangle_within(&name, MAX_STEPS), (None, MAX_STEPS));
}

/// The arguments behind `operator T` are read twice, in each of them those behind the next one: 2^30 times in all.
#[test]
fn a_name_that_is_read_twice_at_each_level_is_given_up() {
    let name =
        |levels| format!("_ZN1A{}cvT_IiE{}Ev", "cvT_IL_ZN1A".repeat(levels), "EvEE".repeat(levels));
    let steps = |levels| demangle_within(&name(levels), MAX_STEPS).1;
    assert!(steps(5) > steps(3) * 3, "{} {}", steps(5), steps(3));
    let bytes = allocated_bytes(|| assert_eq!(demangle(&name(30)), None));
    assert!(bytes < 1 << 20, "{bytes}");
    assert_eq!(demangle_within(&name(30), MAX_STEPS), (None, MAX_STEPS));
}

/// A demangler that tries several meanings of each part took minutes for them.
#[test]
fn names_that_mean_nothing_are_refused_at_once() {
    for part in ["nwdlsrDT", "StId", "cvDpM", "StnwdlsrDT"] {
        for count in 1..100 {
            let name = format!("_Z{}vtwD0Li0EDp", part.repeat(count));
            let (text, steps) = demangle_within(&name, MAX_STEPS);
            assert_eq!(text, None, "{name}");
            assert!(steps as usize <= 2 * name.len(), "{steps}: {name}");
        }
    }
}

/// An eighth of what a thread of the recorder has.
const SMALL_STACK: usize = 256 << 10;

fn with_small_stack(run: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().stack_size(SMALL_STACK).spawn(run).unwrap();
    thread.join().unwrap();
}

/// What can lie in itself: before it, the part that repeats, the innermost, what repeats behind it, and the end.
const NESTED: [[&str; 5]; 25] = [
    ["_Z1f", "P", "i", "", ""],
    ["_Z1f", "1TI", "i", "E", ""],
    ["_Z1f", "K", "i", "", ""],
    ["_Z1fI", "J", "i", "E", "Evv"],
    ["_Z1fIX", "ng", "Li1E", "", "EEvv"],
    ["_Z1fIX", "pl", "Li1E", "Li1E", "EEvv"],
    ["_Z1f", "PF", "i", "vE", ""],
    ["_Z1f", "A3_", "i", "", ""],
    ["_Z1f", "M1A", "i", "", ""],
    ["_Z", "Z", "1f", "vE1g", "v"],
    ["_Z1f", "N1TI", "i", "E1AE", ""],
    ["_Z1f", "UlN1AI", "i", "E1BEE_", ""],
    ["_Z1fI", "XadL_Z1gI", "Li1E", "EvvEE", "Evv"],
    ["_ZN1A", "cvN1AI", "i", "E1BE", "Ev"],
    ["_Z1f", "DTcl1g", "1a", "EE", ""],
    ["_Z1f", "DTsr1AI", "i", "E1bE", ""],
    ["_Z1f", "U3fooI", "i", "Ei", ""],
    ["_Z1fI", "L_Z1fI", "i", "EvvE", "Evv"],
    ["_Z1fIX", "tl1TIX", "Li1E", "EELi1EE", "EEvv"],
    ["_Z1fIX", "quLi1ELi2E", "Li1E", "", "EEvv"],
    ["_Z1f", "DpR", "i", "", ""],
    ["_Z1f", "Dv4_", "i", "", ""],
    ["_ZZ1fvENK", "UlTn1AI", "i", "EvE_", "clEv"],
    ["_ZZ1fvENKUl", "Tt", "Ty", "E", "vE_clEv"],
    ["_Z1f", "DwDO1gE", "Fv", "vE", ""],
];

/// Parts that refer to the one before, so that they are read without depth, and printed with it: the first, what
/// stands around the reference, the number of the first reference, and the distance to the next.
const CHAINED: [(&str, [&str; 2], usize, usize); 12] = [
    ("PFivE", ["PF", "vE"], 1, 2),
    ("PFviE", ["PFv", "E"], 1, 2),
    ("RFivE", ["RF", "vE"], 1, 2),
    ("PA3_i", ["PA3_", ""], 1, 2),
    ("PKA3_i", ["PA3_K", ""], 2, 3),
    ("PFPA3_ivE", ["PFPA3_", "vE"], 3, 4),
    ("PM1AFivE", ["PMS_F", "vE"], 3, 3),
    ("1AIiE", ["S_I", "E"], 1, 1),
    ("1AIUliE_E", ["S_IUl", "E_E"], 2, 2),
    ("Dv4_i", ["Dv4_", ""], 0, 1),
    ("U3fooi", ["U3foo", ""], 0, 1),
    ("DTszLi1EE", ["DTcv", "Li1EE"], 0, 1),
];

fn nested([begin, part, inner, behind, end]: [&str; 5], levels: usize) -> String {
    [begin, &part.repeat(levels), inner, &behind.repeat(levels), end].concat()
}

fn chained(
    (first, [before, behind], reference, distance): (&str, [&str; 2], usize, usize),
    levels: usize,
) -> String {
    let mut name = format!("_Z1f{first}");
    for level in 0..levels {
        name.extend([before, &substitution(reference + level * distance), behind]);
    }
    name
}

#[test]
fn names_that_lie_deep_do_not_use_up_the_stack() {
    with_small_stack(|| {
        for levels in 1..1000 {
            for form in NESTED {
                let name = nested(form, levels);
                assert!(demangle(&name).is_none() || levels < 200, "{name}");
            }
            for form in CHAINED {
                let name = chained(form, levels);
                assert!(demangle(&name).is_none() || levels < 200, "{name}");
            }
        }
    });
    // What can be read of each of them is: the test is of names, not of nonsense.
    for form in CHAINED {
        let name = chained(form, 30);
        assert!(demangle(&name).is_some(), "{name}");
    }
    let is_read = |form: &&[&str; 5]| demangle(&nested(**form, 20)).is_some();
    assert!(NESTED.iter().filter(is_read).count() > 20);
}

/// Deterministic: xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).unwrap()
    }
}

const PARTS: [&str; 48] = [
    "S_", "S0_", "S1_", "T_", "T0_", "I", "J", "E", "N", "X", "K", "R", "O", "P", "Dp", "sZ", "sP",
    "sp", "cv", "cl", "ad", "L_Z", "Li1E", "LDn0E", "UlvE_", "UlT_E_", "UlTyT_E_", "Ut_", "Z",
    "DT", "Dv4_", "A3_", "M", "F", "1A", "C1", "D1", "St", "Sa", "il", "tl", "fp_", "fL", "qu",
    "nw", "on", ".a", "\u{fc}",
];

fn mutated(names: &[String], random: &mut Random) -> String {
    let mut name = names[random.below(names.len())].clone();
    for _ in 0..=random.below(4) {
        let bounds: Vec<usize> =
            name.char_indices().map(|(at, _)| at).chain([name.len()]).collect();
        let first = random.below(bounds.len());
        let last = (first + random.below(8)).min(bounds.len() - 1);
        let (first, last) = (bounds[first], bounds[last]);
        let part = match random.below(4) {
            0 => "",
            1 | 2 => PARTS[random.below(PARTS.len())],
            _ => {
                let other = &names[random.below(names.len())];
                let begin = random.below(other.len());
                other.get(begin..(begin + random.below(40)).min(other.len())).unwrap_or("")
            }
        };
        name.replace_range(if random.below(2) == 0 { first..first } else { first..last }, part);
    }
    name
}

#[test]
fn mutated_names_are_read_or_refused_within_all_limits() {
    with_small_stack(|| {
        let names: Vec<String> = known_names().into_iter().map(|(name, _)| name).collect();
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mut read = 0;
        for _ in 0..50_000 {
            let name = mutated(&names, &mut random);
            let (text, steps) = demangle_within(&name, MAX_STEPS);
            assert!(steps <= MAX_STEPS);
            if let Some(text) = text {
                read += 1;
                assert!(name.starts_with("_Z") && text.len() <= MAX_DEMANGLED_BYTES, "{name}");
            }
        }
        assert!(read > 2_000, "{read}");
    });
}
