//! The libraries as files: exports and first instructions.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use object::read::elf::ElfFile64;
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};
use testbed::libraries::{self, Driver, RUNTIME_IMAGE};

use crate::Bench;

/// The first bytes of each exported function.
fn prologues(image: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let file: ElfFile64 = ElfFile64::parse(image).unwrap();
    let text = file.section_by_name(".text").unwrap();
    let code = text.data().unwrap();
    file.dynamic_symbols()
        .filter(|symbol| symbol.is_definition() && symbol.kind() == SymbolKind::Text)
        .map(|symbol| {
            assert!(symbol.size() > 0, "{symbol:?} has a size");
            let start = usize::try_from(symbol.address() - text.address()).unwrap();
            (symbol.name().unwrap().to_owned(), code[start..start + 32].to_vec())
        })
        .collect()
}

fn names(names: impl Iterator<Item = &'static str>) -> BTreeSet<String> {
    names.map(str::to_owned).collect()
}

/// `cmpl $0x321cba00, off(%rip)`: ten bytes, of which the offset is four.
fn is_gate(code: &[u8]) -> bool {
    code[..2] == [0x81, 0x3d] && code[6..10] == 0x321c_ba00_u32.to_le_bytes()
}

fn is_je(code: &[u8]) -> bool {
    code[0] == 0x74 || code[..2] == [0x0f, 0x84]
}

#[test]
fn libraries_export_their_tables_and_nothing_else() {
    for driver in [Driver::R550, Driver::R580] {
        let exported: BTreeSet<String> = prologues(driver.image()).into_keys().collect();
        assert_eq!(exported, names(libraries::driver_functions()));
        assert!(exported.len() > 300, "{} functions", exported.len());
    }
    let exported: BTreeSet<String> = prologues(RUNTIME_IMAGE).into_keys().collect();
    assert_eq!(exported, names(libraries::runtime_functions()));
    assert!(exported.len() > 200, "{} functions", exported.len());
}

#[test]
fn r550_exports_begin_with_the_gate_and_its_je() {
    let prologues = prologues(Driver::R550.image());
    let short = prologues.values().filter(|code| code[10] == 0x74).count();
    for (name, code) in &prologues {
        assert!(is_gate(code), "{name} begins with {code:02x?}");
        assert!(is_je(&code[10..]), "{name} goes on with {:02x?}", &code[10..]);
    }
    assert!(
        short > 0 && short < prologues.len(),
        "both encodings of je occur: {short} of {} are short",
        prologues.len()
    );
}

#[test]
fn r580_exports_push_a_frame_before_the_gate() {
    for (name, code) in prologues(Driver::R580.image()) {
        // push %rbp; mov %rsp,%rbp; push %r12; sub $imm8,%rsp
        assert_eq!(code[..9], [0x55, 0x48, 0x89, 0xe5, 0x41, 0x54, 0x48, 0x83, 0xec], "{name}");
        assert!(is_gate(&code[10..]), "{name} goes on with {code:02x?}");
        assert!(is_je(&code[20..]), "{name} has its je at +0x14: {code:02x?}");
    }
}

#[test]
fn runtime_exports_begin_with_push_rbp() {
    for (name, code) in prologues(RUNTIME_IMAGE) {
        assert_eq!(code[..4], [0x55, 0x48, 0x89, 0xe5], "{name}");
    }
}

#[test]
fn install_replaces_what_is_there() {
    let bench = Bench::new(Driver::R550);
    let directory = &bench.installed.directory;
    fs::write(directory.join("libcudart.so.13.new"), "left by an interrupted run").unwrap();
    let installed = libraries::install(directory, Driver::R580).unwrap();
    assert_eq!(fs::read(&installed.driver).unwrap(), Driver::R580.image());
    assert_eq!(fs::read_link(&installed.driver).unwrap(), Path::new("libcuda.so.580.159.04"));
    assert_eq!(fs::read(&installed.runtime).unwrap(), RUNTIME_IMAGE);
}

#[test]
fn install_says_where_it_could_not_write() {
    let error = libraries::install(Path::new("/proc/none"), Driver::R550).unwrap_err();
    assert!(format!("{error:#}").contains("/proc/none"), "{error:#}");
}
