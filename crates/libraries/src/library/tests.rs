//! Handmade ELF files: whole, odd, cut and lying.

use std::{
    collections::BTreeSet,
    io::{Seek as _, SeekFrom, Write as _},
};

use allocations::allocated_bytes;
use testbed::libraries::{self, Driver};

use super::*;

/// Where the code is mapped; the tables are mapped where they lie in the file.
const TEXT: u64 = 0x1000_0000;
const PAGE: u64 = 0x1000;

/// A library without section headers: one segment with all tables, one with code.
#[derive(Clone)]
struct Image {
    symbols: Vec<Entry>,
    code: Vec<u8>,
    /// Of the segment with the code: readable, executable.
    flags: u32,
    /// Beside those that lead to symbols.
    dynamic: Vec<(i64, u64)>,
    has_gnu_hash: bool,
    /// Instead of the true number.
    claimed_symbols: Option<u32>,
    claimed_code_bytes: Option<u64>,
    build_id: Vec<u8>,
}

#[derive(Clone)]
struct Entry {
    name: Vec<u8>,
    info: u8,
    section: u16,
    address: u64,
    size: u64,
}

const GLOBAL: u8 = 1 << 4;

/// `push %rbp; ret`, and what fills the space up to the next function.
const PUSH: [u8; 16] = [0x55, 0xc3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const NOP5: [u8; 16] = [0x0f, 0x1f, 0x44, 0, 0, 0x31, 0xc0, 0xc3, 0, 0, 0, 0, 0, 0, 0, 0];

impl Image {
    fn new() -> Self {
        Self {
            symbols: Vec::new(),
            code: Vec::new(),
            flags: 5,
            dynamic: Vec::new(),
            has_gnu_hash: true,
            claimed_symbols: None,
            claimed_code_bytes: None,
            build_id: (0..20).collect(),
        }
    }

    /// A library with these functions, each `push %rbp; ret`.
    fn with(names: &[&str]) -> Self {
        names.iter().fold(Self::new(), |image, name| image.function(name, STT_FUNC, &PUSH))
    }

    fn function(mut self, name: impl AsRef<[u8]>, kind: u8, code: &[u8]) -> Self {
        let address = TEXT + self.code.len() as u64;
        self.code.extend(code);
        let (name, info, size) = (name.as_ref().to_vec(), GLOBAL | kind, code.len() as u64);
        self.symbols.push(Entry { name, info, section: 1, address, size });
        self
    }

    fn change(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn bytes(&self) -> Vec<u8> {
        const HEADERS: usize = 64 + 4 * 56;
        let mut strings = vec![0];
        let mut symbols = vec![0; 24];
        for Entry { name, info, section, address, size } in &self.symbols {
            symbols.extend(u32::try_from(strings.len()).unwrap().to_le_bytes());
            symbols.extend([*info, 0]);
            symbols.extend(section.to_le_bytes());
            symbols.extend(address.to_le_bytes());
            symbols.extend(size.to_le_bytes());
            strings.extend(name);
            strings.push(0);
        }
        let count = u32::try_from(self.symbols.len() + 1).unwrap();
        let claimed = self.claimed_symbols.unwrap_or(count);
        let hash: Vec<u32> = if self.has_gnu_hash {
            // One bucket with all symbols in one chain; one word of filter.
            let chain = (1..count).map(|index| u32::from(index + 1 == claimed));
            [1, 1, 1, 0, 0, 0, 1].into_iter().chain(chain).collect()
        } else {
            vec![1, claimed]
        };
        let hash: Vec<u8> = hash.into_iter().flat_map(u32::to_le_bytes).collect();
        let mut note = Vec::new();
        for word in [4, u32::try_from(self.build_id.len()).unwrap(), 3] {
            note.extend(word.to_le_bytes());
        }
        note.extend(b"GNU\0");
        note.extend(&self.build_id);

        let symbols_at = HEADERS as u64;
        let strings_at = symbols_at + symbols.len() as u64;
        let hash_at = (strings_at + strings.len() as u64).next_multiple_of(8);
        let note_at = (hash_at + hash.len() as u64).next_multiple_of(8);
        let dynamic_at = (note_at + note.len() as u64).next_multiple_of(8);
        let hash_tag = if self.has_gnu_hash { 0x6fff_fef5_i64 } else { 4 };
        let entries = [(6, symbols_at), (5, strings_at), (10, strings.len() as u64)];
        let entries = entries.into_iter().chain([(hash_tag, hash_at)]);
        let mut dynamic = Vec::new();
        for (tag, value) in entries.chain(self.dynamic.iter().copied()).chain([(0, 0)]) {
            dynamic.extend(tag.to_le_bytes());
            dynamic.extend(value.to_le_bytes());
        }
        let tables = dynamic_at + dynamic.len() as u64;
        let code_at = tables.next_multiple_of(PAGE);
        let code_bytes = self.claimed_code_bytes.unwrap_or(self.code.len() as u64);

        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(16, 0);
        for half in [3_u16, 62] {
            file.extend(half.to_le_bytes());
        }
        file.extend(1_u32.to_le_bytes());
        for word in [0_u64, 64, 0] {
            file.extend(word.to_le_bytes());
        }
        file.extend(0_u32.to_le_bytes());
        for half in [64_u16, 56, 4, 0, 0, 0] {
            file.extend(half.to_le_bytes());
        }
        for (kind, flags, offset, address, length, align) in [
            (1_u32, 4_u32, 0, 0, tables, PAGE),
            (1, self.flags, code_at, TEXT, code_bytes, PAGE),
            (2, 6, dynamic_at, dynamic_at, dynamic.len() as u64, 8),
            (4, 4, note_at, note_at, note.len() as u64, 4),
        ] {
            file.extend(kind.to_le_bytes());
            file.extend(flags.to_le_bytes());
            for word in [offset, address, address, length, length, align] {
                file.extend(word.to_le_bytes());
            }
        }
        for (at, table) in [
            (symbols_at, symbols),
            (strings_at, strings),
            (hash_at, hash),
            (note_at, note),
            (dynamic_at, dynamic),
            (code_at, self.code.clone()),
        ] {
            file.resize(usize::try_from(at).unwrap(), 0);
            file.extend(table);
        }
        file
    }
}

fn open(bytes: &[u8]) -> Result<Option<Library>> {
    open_with(bytes, "all")
}

fn open_with(bytes: &[u8], selection: &str) -> Result<Option<Library>> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Library::read(file, &Selection::parse(selection).unwrap())
}

fn names(library: &Library) -> BTreeSet<&str> {
    library.functions.iter().map(|function| function.name.as_str()).collect()
}

/// The only function, refused for a reason with this in it.
fn assert_refused(image: &Image, name: &str, reason: &str) {
    let library = open(&image.bytes()).unwrap().unwrap();
    assert!(!names(&library).contains(name), "{:?}", library.functions);
    let found = library.refused.get(name).unwrap_or_else(|| panic!("{:?}", library.refused));
    assert!(found.contains(reason), "{found}");
}

#[test]
fn exports_are_found_without_section_headers_by_either_hash_table() {
    for has_gnu_hash in [true, false] {
        let image = Image::with(&["cuInit", "cudaMalloc", "other", "cublasCreate_v2"])
            .change(|image| image.has_gnu_hash = has_gnu_hash);
        let bytes = image.bytes();
        let library = open(&bytes).unwrap().unwrap();
        assert_eq!(names(&library), BTreeSet::from(["cuInit", "cudaMalloc"]));
        assert_eq!(library.id.build_id, Some((0..20).collect()));
        assert!(library.refused.is_empty());
        for function in &library.functions {
            let at = usize::try_from(function.file_offset).unwrap();
            assert_eq!(function.site_bytes, bytes[at..bytes.len().min(at + SITE_BYTES)]);
            assert_eq!(function.entry_offset, function.file_offset);
            assert_eq!(function.site_bytes[..2], [0x55, 0xc3]);
        }
    }
}

#[test]
fn a_real_library_exports_the_same_with_and_without_section_headers() {
    let images = [
        (Driver::R550.image(), libraries::driver_functions().collect::<BTreeSet<_>>()),
        (Driver::R580.image(), libraries::driver_functions().collect()),
        (libraries::RUNTIME_IMAGE, libraries::runtime_functions().collect()),
    ];
    for (image, expected) in images {
        let mut stripped = image.to_vec();
        // e_shoff, and e_shnum with e_shstrndx.
        stripped[40..48].fill(0);
        stripped[60..64].fill(0);
        let [whole, stripped] = [image, &stripped].map(|image| open(image).unwrap().unwrap());
        assert_eq!(names(&whole), expected);
        assert_eq!(whole.functions, stripped.functions);
        assert!(whole.id.build_id.is_some());
    }
}

#[test]
fn functions_without_a_type_are_functions_and_data_is_none() {
    let image = Image::new()
        .function("cuInit", STT_NOTYPE, &PUSH)
        .function("cuCtxSynchronize", 1, &PUSH)
        .function("cuMemFree_v2", STT_FUNC, &PUSH)
        .change(|image| {
            let of = |name: &str, address| Entry {
                name: name.into(),
                info: GLOBAL | STT_NOTYPE,
                section: 1,
                address,
                size: 8,
            };
            // Data without a type lies with the tables; the others are not defined, or absolute.
            image.symbols.push(of("cuEventRecord", 0x40));
            image.symbols.push(Entry { section: 0, ..of("cuEventQuery", TEXT) });
            image.symbols.push(Entry { section: SHN_ABS, ..of("cuEventCreate", TEXT) });
            image.symbols.push(Entry { info: STT_FUNC, ..of("cuLaunchKernel", TEXT) });
        });
    let library = open(&image.bytes()).unwrap().unwrap();
    assert_eq!(names(&library), BTreeSet::from(["cuInit", "cuMemFree_v2"]));
    assert!(library.refused.is_empty(), "{:?}", library.refused);
}

#[test]
fn of_several_names_at_one_address_the_plainest_stands_for_all() {
    let image = Image::with(&["cuMemAlloc_v2"]).change(|image| {
        let alias = Entry { name: b"cuMemAlloc".to_vec(), ..image.symbols[0].clone() };
        image.symbols.push(alias);
    });
    let library = open(&image.bytes()).unwrap().unwrap();
    assert_eq!(names(&library), BTreeSet::from(["cuMemAlloc"]));
}

#[test]
fn an_indirect_function_is_refused_and_its_neighbours_are_not() {
    let image = Image::with(&["cuInit"]).function("cuLaunchKernel", STT_GNU_IFUNC, &PUSH);
    assert_refused(&image, "cuLaunchKernel", "IFUNC");
    assert_eq!(names(&open(&image.bytes()).unwrap().unwrap()), BTreeSet::from(["cuInit"]));
}

#[test]
fn functions_in_writable_code_are_refused() {
    let image = Image::with(&["cuInit"]).change(|image| image.flags = 7);
    assert_refused(&image, "cuInit", "writable segment");
    let image = Image::with(&["cuInit"]).change(|image| image.flags = 4);
    assert_refused(&image, "cuInit", "not executable");
}

#[test]
fn functions_of_a_library_with_text_relocations_are_refused() {
    for entry in [(22, 0), (30, 4)] {
        let image = Image::with(&["cuInit"]).change(|image| image.dynamic.push(entry));
        assert_refused(&image, "cuInit", "DT_TEXTREL");
    }
    // DF_BIND_NOW is no such thing.
    let image = Image::with(&["cuInit"]).change(|image| image.dynamic.push((30, 8)));
    assert_eq!(names(&open(&image.bytes()).unwrap().unwrap()), BTreeSet::from(["cuInit"]));
}

#[test]
fn one_function_with_unreadable_code_does_not_refuse_the_others() {
    let image = Image::with(&["cuInit", "cuEventRecord"]).change(|image| {
        // Inside the segment by what it claims, behind the end of the file; and in no segment.
        image.claimed_code_bytes = Some(1 << 30);
        image.symbols[1].address = TEXT + (1 << 20);
        let nowhere = Entry { name: b"cuEventQuery".to_vec(), ..image.symbols[1].clone() };
        image.symbols.push(Entry { address: u64::MAX - 3, ..nowhere });
    });
    assert_refused(&image, "cuEventRecord", "cannot read its code");
    assert_refused(&image, "cuEventQuery", "not in the file");
    assert_eq!(names(&open(&image.bytes()).unwrap().unwrap()), BTreeSet::from(["cuInit"]));
}

#[test]
fn a_long_nop_at_the_entry_moves_the_probe_behind_it_or_refuses_the_function() {
    let jump_back = [0x0f, 0x1f, 0x44, 0, 0, 0x31, 0xc0, 0xeb, 0xfc];
    let image = Image::new().function("cuInit", STT_FUNC, &NOP5).function(
        "cuEventRecord",
        STT_FUNC,
        &jump_back,
    );
    assert_refused(&image, "cuEventRecord", "long nop");
    let library = open(&image.bytes()).unwrap().unwrap();
    let [function] = &library.functions[..] else { panic!("{:?}", library.functions) };
    assert_eq!(function.file_offset, function.entry_offset + 5);
    assert_eq!(function.entry_bytes[..5], NOP5[..5]);
    assert_eq!(function.site_bytes[..3], [0x31, 0xc0, 0xc3]);
}

#[test]
fn names_that_no_c_function_has_are_refused_printably() {
    let long = format!("cuMem{}", "A".repeat(1000));
    let image = Image::with(&["cuInit"])
        .function("cuMemA\"},\n{\"ts\":0", STT_FUNC, &PUSH)
        .function(b"cuMemB\xff\x1b[2J", STT_FUNC, &PUSH)
        .function(&long, STT_FUNC, &PUSH);
    let library = open(&image.bytes()).unwrap().unwrap();
    assert_eq!(names(&library), BTreeSet::from(["cuInit"]));
    assert_eq!(library.refused.len(), 3, "{:?}", library.refused);
    for name in library.refused.keys() {
        assert!(name.len() <= 2 * MAX_NAME_BYTES, "{}", name.len());
        assert!(name.bytes().all(|byte| byte.is_ascii_graphic()), "{name:?}");
    }
    // Nobody asked for them.
    let library = open_with(&image.bytes(), "cuInit").unwrap().unwrap();
    assert!(library.refused.is_empty(), "{:?}", library.refused);
}

#[test]
fn more_functions_than_can_be_traced_are_refused_with_the_way_out_and_the_first_ones_are_not() {
    let mut image = Image::new();
    for number in 0..10_000 {
        image = image.function(format!("cuMem{number}"), STT_FUNC, &PUSH);
    }
    let image = image.function("cuInit", STT_FUNC, &PUSH);
    let library = open(&image.bytes()).unwrap().unwrap();
    assert_eq!(library.functions.len(), MAX_FUNCTIONS as usize);
    let more = 10_001 - library.functions.len() - (library.refused.len() - 1);
    let rest = &library.refused[&format!("({more} more functions)")];
    assert!(rest.contains("narrow TRACE_FUNCTIONS"), "{rest}");
    assert!(names(&library).contains("cuInit"), "what is called first has a probe first");
    let narrow = open_with(&image.bytes(), "cuInit").unwrap().unwrap();
    assert_eq!(names(&narrow), BTreeSet::from(["cuInit"]));
    assert!(narrow.refused.is_empty());
}

/// Linkers fold functions of equal code, and stubs have many names for one.
#[test]
fn an_alias_that_is_not_wanted_hides_no_function_that_is() {
    let image = Image::with(&["cuLaunchKernel", "cuHook"])
        .change(|image| image.symbols[1].address = image.symbols[0].address);
    let library = open_with(&image.bytes(), "default").unwrap().unwrap();
    assert_eq!(names(&library), BTreeSet::from(["cuLaunchKernel"]));
    let library = open_with(&image.bytes(), "all,!cuLaunchKernel").unwrap().unwrap();
    assert_eq!(names(&library), BTreeSet::from(["cuHook"]));
}

/// As with `libcufile.so`, which every PyTorch maps: none of its `cuFile*` is in the default set.
#[test]
fn a_file_without_a_function_that_is_wanted_is_no_library() {
    let image = Image::with(&["cuFileDriverOpen", "cuFileRead"]);
    assert!(open_with(&image.bytes(), "default").unwrap().is_none());
    assert!(open_with(&image.bytes(), "all").unwrap().is_some());
    let indirect = Image::new().function("cuInit", STT_GNU_IFUNC, &PUSH);
    let refused = open_with(&indirect.bytes(), "default").unwrap();
    assert!(refused.is_some(), "one that is wanted and gets no probe is missed");
    assert!(open_with(&indirect.bytes(), "cudaMalloc").unwrap().is_none());
}

#[test]
fn a_sparse_file_that_claims_huge_tables_costs_neither_memory_nor_time() {
    const HUGE: u64 = 3 << 30;
    let claims: [fn(&mut Image); 3] = [
        |image| image.claimed_symbols = Some(u32::MAX),
        |image| image.claimed_symbols = Some(0x0800_0000),
        // DT_STRSZ a second time: the last one counts.
        |image| image.dynamic.push((10, HUGE)),
    ];
    for (number, claim) in claims.into_iter().enumerate() {
        for has_gnu_hash in [true, false] {
            let image = Image::with(&["cuInit"]).change(|image| image.has_gnu_hash = has_gnu_hash);
            let mut bytes = image.change(claim).bytes();
            // The first segment reaches to the end of the file: p_filesz and p_memsz.
            for at in [64 + 32, 64 + 40] {
                bytes[at..at + 8].copy_from_slice(&HUGE.to_le_bytes());
            }
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            file.set_len(HUGE).unwrap();
            file.seek(SeekFrom::Start(0)).unwrap();
            let mut result = None;
            let bytes = allocated_bytes(|| {
                result = Some(Library::read(file, &Selection::parse("all").unwrap()));
            });
            assert!(bytes < 80 << 20, "{number}: {bytes} bytes");
            // The other table has no number: its chain ends where the file happens to say so.
            assert!(result.unwrap().is_err() || has_gnu_hash, "{number}");
        }
    }
}
