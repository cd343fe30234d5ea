//! The scanner against serde, on lines as the writer spells them and on any other JSON.

use super::*;
use crate::reader::parse_line;

/// Of a seed: the same lines in every run of the test.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn one_of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len())]
    }
}

const FIELDS: [&str; 24] = [
    "dur_us",
    "ret",
    "error",
    "result",
    "depth",
    "parent",
    "function",
    "kernel",
    "grid",
    "block",
    "shared_bytes",
    "bytes",
    "count",
    "kind",
    "ptr",
    "dst",
    "src",
    "allocation",
    "module",
    "graph",
    "graph_exec",
    "event",
    "stream",
    "new_field",
];

const NUMBERS: [&str; 24] = [
    "0",
    "1",
    "2",
    "7",
    "65535",
    "65536",
    "4294967295",
    "4294967296",
    "-1",
    "-0",
    "1.0",
    "1.5",
    "0.001",
    "123456789.123456",
    "123456789.1234567",
    "1e3",
    "2.5E-3",
    "01",
    "1.",
    ".5",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999",
    "1234567890.123",
];

const STRINGS: [&str; 14] = [
    r#""cuInit""#,
    r#""cudaLaunchKernel""#,
    r#""""#,
    r#""a\"b""#,
    r#""\u0063uInit""#,
    r#""\ud83d\ude00""#,
    r#""\ud83d""#,
    "\"ü\"",
    "\"\u{7f}\"",
    "\"\t\"",
    r#""0x7f5c2a000000""#,
    r#""0xFFFFFFFFFFFFFFFF""#,
    r#""0x+1""#,
    r#""0x""#,
];

const OTHERS: [&str; 9] =
    ["null", "true", "[1,2,3]", "[1,2]", "[1, 2, 3]", "[1,2,3,4]", "{}", "nul", "{\"a\":[1,{}]}"];

fn value(random: &mut Random) -> &'static str {
    match random.below(3) {
        0 => random.one_of(&NUMBERS),
        1 => random.one_of(&STRINGS),
        _ => random.one_of(&OTHERS),
    }
}

/// A value of the type that the field has, most of the time.
fn value_of(field: &str, random: &mut Random) -> String {
    if random.below(12) == 0 {
        return value(random).to_owned();
    }
    if random.below(12) == 0 {
        return "null".to_owned();
    }
    match field {
        "ts" => format!("{}.{:06}", random.next() % 100_000_000_000, random.next() % 1_000_000),
        "dur_us" => format!("{}.{:03}", random.next() % 10_000_000, random.next() % 1000),
        "pid" | "tid" | "ret" | "depth" | "kernel" => (random.next() % 70_000).to_string(),
        "bytes" | "count" | "shared_bytes" => (random.next() >> random.below(64)).to_string(),
        "grid" | "block" => format!("[{},{},1]", random.next() % 9, random.next() % 2000),
        "type" => format!("\"{}\"", random.one_of(&["cuda_api", "cuda_runtime", "hip_api"])),
        "phase" => format!("\"{}\"", random.one_of(&["call", "call", "call", "entry", "other"])),
        "func" | "parent" | "error" | "kind" => format!("\"cu{:x}\"", random.next() % 999),
        _ => format!("\"0x{:x}\"", random.next() >> random.below(64)),
    }
}

fn random_line(random: &mut Random) -> String {
    let mut fields = vec!["ts", "pid", "tid", "type", "func", "phase"];
    if random.below(4) == 0 {
        fields.remove(2);
    }
    for field in FIELDS {
        if random.below(3) == 0 {
            fields.push(field);
        }
    }
    if random.below(6) == 0 {
        let (one, other) = (random.below(fields.len()), random.below(fields.len()));
        fields.swap(one, other);
    }
    if random.below(12) == 0 {
        let again = fields[random.below(fields.len())];
        fields.push(again);
    }
    let space = if random.below(12) == 0 { " " } else { "" };
    let fields: Vec<String> = fields
        .iter()
        .map(|field| format!("\"{field}\":{space}{}", value_of(field, random)))
        .collect();
    let mut line = format!("{{{}}}", fields.join(","));
    match random.below(40) {
        0 => line.truncate(random.below(line.len())),
        1 => line.push(' '),
        2 => line.push('x'),
        3 => line = line.replacen(',', ",,", 1),
        _ => {}
    }
    line
}

/// What serde reads; times by its own floating-point numbers.
fn compare(line: &[u8]) -> (bool, bool) {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut parser = Parser::default();
    let is_fast = Scanner::new(line).call().is_some();
    match (parser.parse(line), parse_line(line)) {
        (Ok(LineView::Call(found)), Ok(Line::Call(expected))) => {
            let mut with_time = view(&expected, found.ts_ns);
            // The one field that the scanner reads better: beyond 13 days it has more digits.
            if found.ts_ns.abs() < 1 << 50 {
                with_time.ts_ns = from_milliseconds(expected.ts);
            }
            let text = String::from_utf8_lossy(line);
            assert_eq!(found, with_time, "{text}");
            // Fast and slow agree on the time to the nanosecond.
            let slow = exact_ns(line).unwrap_or_else(|| from_milliseconds(expected.ts));
            assert_eq!(found.ts_ns, slow, "{text}");
            (true, is_fast)
        }
        (Ok(LineView::Meta(found)), Ok(Line::Meta(expected))) => {
            assert_eq!(*found, expected);
            (true, is_fast)
        }
        (Err(found), Err(expected)) => {
            assert_eq!(found.to_string(), expected.to_string());
            (false, is_fast)
        }
        (found, expected) => {
            panic!("{}: {found:?}, {expected:?}", String::from_utf8_lossy(line))
        }
    }
}

#[test]
fn every_line_is_read_as_serde_reads_it() {
    let mut random = Random(1);
    let (mut good, mut fast) = (0, 0);
    for _ in 0..200_000 {
        let (is_good, is_fast) = compare(random_line(&mut random).as_bytes());
        good += u32::from(is_good);
        fast += u32::from(is_fast);
    }
    // All three ways were taken.
    assert!(good > 20_000 && good < 180_000 && fast > 5_000 && fast < good, "{good} {fast}");
}

#[test]
fn bytes_that_are_no_text_are_read_as_serde_reads_them() {
    let mut random = Random(2);
    for _ in 0..50_000 {
        let mut line = random_line(&mut random).into_bytes();
        if line.is_empty() {
            continue;
        }
        for _ in 0..=random.below(2) {
            let at = random.below(line.len());
            line[at] = u8::try_from(random.below(256)).unwrap();
        }
        compare(&line);
    }
}

#[test]
fn lines_as_they_are_written_take_the_fast_way() {
    for line in [
        r#"{"ts":3018.407248,"pid":27967,"tid":27967,"type":"cuda_api","func":"cuLaunchKernel","phase":"call","dur_us":1.322,"ret":0,"depth":1,"parent":"cudaLaunchKernel","function":"0x55a382e75380","kernel":1,"grid":[2,3,4],"block":[5,6,7],"shared_bytes":1024,"stream":"0x55a382e752c0"}"#,
        r#"{"ts":3017.976619,"pid":27967,"tid":27967,"type":"cuda_api","func":"cuMemAlloc_v2","phase":"call","dur_us":0.911,"ret":2,"error":"CUDA_ERROR_OUT_OF_MEMORY","depth":1,"parent":"cudaMalloc","bytes":1125899906842624,"ptr":null}"#,
        r#"{"ts":756.362034,"pid":18002,"tid":18002,"type":"cuda_runtime","func":"cudaLaunchKernel","phase":"entry"}"#,
        r#"{"ts":3528.001,"pid":728,"type":"cuda_runtime","func":"cudaEventSynchronize","phase":"entry"}"#,
    ] {
        assert_eq!(compare(line.as_bytes()), (true, true), "{line}");
    }
}

#[test]
fn the_time_of_a_run_of_years_keeps_its_nanoseconds() {
    let line = |ts| {
        format!(r#"{{"ts":{ts},"pid":1,"type":"cuda_api","func":"cuInit","phase":"entry","x":1}}"#)
    };
    let ts_ns = |text: &str| match Parser::default().parse(text.as_bytes()) {
        Ok(LineView::Call(call)) => call.ts_ns,
        other => panic!("{other:?}"),
    };
    assert_eq!(ts_ns(&line("94608000000.000001")), 94_608_000_000_000_001);
    assert_eq!(ts_ns(&line("94608000000.000001").replace(",\"x\":1", "")), 94_608_000_000_000_001);
    assert_eq!(ts_ns(&line("-1.5")), -1_500_000);
    assert_eq!(ts_ns(&line("1e3")), 1_000_000_000);
    assert_eq!(ts_ns(&line("1e300")), i64::MAX);
}
