//! The result of a load test, by whatever program: read, or refused with a reason.

#![no_main]

use analysis::questions::tokens::load;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| match load::parse(file) {
    Err(reason) => assert!(!reason.is_empty()),
    Ok(content) => {
        for request in &content.requests {
            assert!(request.arrivals.is_sorted_by(|one, other| one.0 < other.0));
            assert!(request.arrivals.iter().all(|&(_, at)| at >= request.sent_ns));
        }
    }
});
