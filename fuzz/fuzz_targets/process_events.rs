//! A record of the kernel's about a process, whose name and mapped file the process chooses.

#![no_main]

use libfuzzer_sys::fuzz_target;
use perf_event::{
    Builder, SampleFlag,
    data::{
        Record,
        endian::Native,
        parse::{Parse as _, ParseConfig, Parser},
    },
    events::Software,
};
use sidecar::probing::process_events::event_of;

/// Type, misc and size.
const HEADER_BYTES: usize = 8;

fuzz_target!(|record: &[u8]| {
    let Ok(size) = u16::try_from(record.len()) else { return };
    let Some((header, body)) = record.split_at_checked(HEADER_BYTES) else { return };
    // The kernel knows how long its records are.
    let mut record = record.to_vec();
    record[6..8].copy_from_slice(&size.to_ne_bytes());
    let mut builder = Builder::new(Software::DUMMY);
    builder.sample_id_all(true).sample(SampleFlag::TIME);
    let config = ParseConfig::<Native>::from(*builder.attrs());
    let Ok(parsed) = Record::parse(&mut Parser::new(&record[..], config)) else { return };
    let misc = u16::from_ne_bytes([header[4], header[5]]);
    let _ = event_of(parsed, misc, body);
});
