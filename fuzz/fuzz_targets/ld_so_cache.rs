//! `/etc/ld.so.cache` of a container.

#![no_main]

use libfuzzer_sys::fuzz_target;
use libraries::loader::libraries_in_cache;

/// As long as the longest path.
const MAX_PATH_BYTES: usize = 4096;

fuzz_target!(|content: &[u8]| {
    for path in libraries_in_cache(content) {
        assert!(path.is_absolute() && path.as_os_str().len() < MAX_PATH_BYTES, "{path:?}");
    }
});
