//! `/proc/PID/maps`, whose file names the process chooses.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sidecar::process::executable_files;

fuzz_target!(|content: &[u8]| {
    let text = String::from_utf8_lossy(content);
    for path in executable_files(&text) {
        assert!(path.is_absolute(), "{path:?}");
    }
});
