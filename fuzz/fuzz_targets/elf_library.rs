//! A library file that a process maps: exported functions, and where their probes go.

#![no_main]

use std::sync::LazyLock;

use cuda::function::Selection;
use fuzz::Scratch;
use libfuzzer_sys::fuzz_target;
use libraries::library::Library;

static SCRATCH: LazyLock<Scratch> = LazyLock::new(|| Scratch::new("libcuda.so.1"));
static ALL: LazyLock<Selection> =
    LazyLock::new(|| Selection::parse("all").expect("`all` is a set"));

fuzz_target!(|file: &[u8]| {
    let Ok(Some(library)) = Library::open(SCRATCH.with(file), &ALL) else { return };
    for function in &library.functions {
        // Where the kernel is told to put a breakpoint, there must be code in the file.
        assert!(function.file_offset < file.len() as u64, "{function:?}");
    }
});
