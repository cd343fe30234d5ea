//! What an executable says about where its libraries are.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use object::{
    Endianness, ReadCache, ReadRef,
    elf::{DT_NULL, DT_RPATH, DT_RUNPATH, DT_STRTAB, FileHeader64},
    read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _},
};

use super::{in_root, resolve_in};
use crate::untrusted_file;

/// More than any real dynamic section: a file may claim any size, and what it claims is allocated.
const MAX_BYTES: u64 = 1 << 20;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct RunPaths {
    /// `DT_RPATH`: searched before `LD_LIBRARY_PATH`.
    pub(super) rpath: Option<OsString>,
    /// `DT_RUNPATH`: searched after it.
    pub(super) runpath: Option<OsString>,
    /// The dynamic loader.
    pub(super) interpreter: Option<PathBuf>,
}

/// `None` if the file is no 64-bit ELF file, or gone.
pub(super) fn read(root: &Path, executable: &Path) -> Option<RunPaths> {
    let path = resolve_in(root, executable).ok()?;
    let file = untrusted_file::open(&in_root(root, &path)).ok()?;
    parse(&ReadCache::new(file))
}

fn parse<'data>(data: impl ReadRef<'data>) -> Option<RunPaths> {
    let header = FileHeader64::<Endianness>::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, data).ok()?;
    let mut run_paths = RunPaths::default();
    let (mut rpath, mut runpath, mut strings) = (None, None, None);
    for segment in segments.iter().filter(|segment| segment.p_filesz(endian) <= MAX_BYTES) {
        if let Ok(Some(interpreter)) = segment.interpreter(endian, data) {
            run_paths.interpreter = Some(PathBuf::from(OsStr::from_bytes(interpreter)));
        }
        let Ok(Some(entries)) = segment.dynamic(endian, data) else { continue };
        for entry in entries.iter().take_while(|entry| entry.d_tag(endian) != DT_NULL) {
            let value = entry.d_val(endian);
            match entry.d_tag(endian) {
                DT_RPATH => rpath = Some(value),
                DT_RUNPATH => runpath = Some(value),
                DT_STRTAB => strings = Some(value),
                _ => {}
            }
        }
    }
    // The string table is named by its address: some loaded segment holds it.
    let text = |offset: Option<u64>| {
        let address = strings?.checked_add(offset?)?;
        let segment = segments.iter().find(|segment| {
            let start = segment.p_vaddr(endian);
            segment.p_type(endian) == object::elf::PT_LOAD
                && (start..start.saturating_add(segment.p_filesz(endian))).contains(&address)
        })?;
        let behind = address - segment.p_vaddr(endian);
        let start = segment.p_offset(endian).checked_add(behind)?;
        let end = segment.p_offset(endian).checked_add(segment.p_filesz(endian))?;
        let bytes = data.read_bytes_at_until(start..end, 0).ok()?;
        Some(OsStr::from_bytes(bytes).to_owned())
    };
    run_paths.rpath = text(rpath);
    run_paths.runpath = text(runpath);
    Some(run_paths)
}

#[cfg(test)]
pub(super) mod tests {
    use object::elf::{DT_STRSZ, PT_DYNAMIC, PT_INTERP, PT_LOAD};

    use super::*;

    const HEADER_BYTES: u64 = 64;
    const SEGMENT_BYTES: u64 = 56;
    /// Where the file is loaded: addresses and file offsets must not be mistaken for each other.
    const LOADED_AT: u64 = 0x40_0000;

    /// The smallest executable with an interpreter and a dynamic section.
    pub(in crate::loader) fn executable(
        interpreter: &str,
        rpath: Option<&str>,
        runpath: Option<&str>,
    ) -> Vec<u8> {
        let interpreter_at = HEADER_BYTES + 3 * SEGMENT_BYTES;
        let interpreter = [interpreter.as_bytes(), b"\0"].concat();
        let strings_at = interpreter_at + interpreter.len() as u64;
        let mut strings = vec![0];
        let mut dynamic = Vec::new();
        let mut entry = |tag: i64, value: u64| {
            dynamic.extend(tag.to_le_bytes());
            dynamic.extend(value.to_le_bytes());
        };
        for (tag, text) in [(DT_RPATH, rpath), (DT_RUNPATH, runpath)] {
            let Some(text) = text else { continue };
            entry(tag, strings.len() as u64);
            strings.extend(text.as_bytes());
            strings.push(0);
        }
        entry(DT_STRTAB, LOADED_AT + strings_at);
        entry(DT_STRSZ, strings.len() as u64);
        entry(DT_NULL, 0);
        // Behind the end of the table: must not be read.
        entry(DT_RUNPATH, 0);
        let dynamic_at = strings_at + strings.len() as u64;
        let file_bytes = dynamic_at + dynamic.len() as u64;

        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(16, 0);
        file.extend([3, 0, 62, 0, 1, 0, 0, 0]);
        file.extend(0_u64.to_le_bytes());
        file.extend(HEADER_BYTES.to_le_bytes());
        file.extend(0_u64.to_le_bytes());
        file.extend(0_u32.to_le_bytes());
        for half in [64_u16, 56, 3, 0, 0, 0] {
            file.extend(half.to_le_bytes());
        }
        for (kind, at, bytes) in [
            (PT_INTERP, interpreter_at, interpreter.len() as u64),
            (PT_LOAD, 0, file_bytes),
            (PT_DYNAMIC, dynamic_at, dynamic.len() as u64),
        ] {
            file.extend(kind.to_le_bytes());
            file.extend(4_u32.to_le_bytes());
            for value in [at, LOADED_AT + at, LOADED_AT + at, bytes, bytes, 8] {
                file.extend(value.to_le_bytes());
            }
        }
        file.extend(interpreter);
        file.extend(strings);
        file.extend(dynamic);
        file
    }

    #[test]
    fn both_kinds_of_run_path_are_read() {
        let file = executable("/lib64/ld.so", Some("/old:$ORIGIN"), Some("$ORIGIN/../lib"));
        let expected = RunPaths {
            rpath: Some("/old:$ORIGIN".into()),
            runpath: Some("$ORIGIN/../lib".into()),
            interpreter: Some("/lib64/ld.so".into()),
        };
        assert_eq!(parse(file.as_slice()), Some(expected));
        let neither = parse(executable("/ld.so", None, None).as_slice()).unwrap();
        assert_eq!((neither.rpath, neither.runpath), (None, None));
    }

    #[test]
    fn the_test_itself_has_an_interpreter() {
        let myself = std::env::current_exe().unwrap();
        let run_paths = read(Path::new("/"), &myself).unwrap();
        assert!(run_paths.interpreter.unwrap().is_absolute());
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let whole = executable("/lib64/ld.so", Some("/old"), Some("/new"));
        assert_eq!(parse(&b"#!/bin/sh\n"[..]), None);
        for length in 0..whole.len() {
            let _ = parse(&whole[..length]);
        }
        for at in 0..whole.len() {
            for value in [0x00, 0x7f, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let _ = parse(bytes.as_slice());
            }
        }
    }
}
