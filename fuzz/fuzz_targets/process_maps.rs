//! `/proc/PID/maps`, whose file names the process chooses.

#![no_main]

use libfuzzer_sys::fuzz_target;
use processes::process::Mappings;

fuzz_target!(|content: &[u8]| {
    for mapping in Mappings::read(content).list {
        assert!(mapping.start <= mapping.end && mapping.file.inode != 0, "{mapping:?}");
    }
});
