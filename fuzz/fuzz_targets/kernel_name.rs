//! The mangled name of a kernel, as a module of the traced process gives it.

#![no_main]

use demangle::{MAX_DEMANGLED_BYTES, demangle};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|name: &[u8]| {
    let name = format!("_Z{}", String::from_utf8_lossy(name));
    if let Some(text) = demangle(&name) {
        assert!(text.len() <= MAX_DEMANGLED_BYTES, "{} bytes", text.len());
    }
});
