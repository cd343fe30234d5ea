//! The content of a `.jsonl.zst`: frame by frame it is the same as at once.

#![no_main]

use std::io::Read;

use libfuzzer_sys::fuzz_target;
use trace::frames::Frames;

/// Few bytes can stand for many; their first say enough.
const MAX_CONTENT_BYTES: u64 = 1 << 20;

fuzz_target!(|file: &[u8]| {
    let mut whole = Vec::new();
    let read = Frames::new(file).take(MAX_CONTENT_BYTES).read_to_end(&mut whole);

    let mut frames = Frames::new(file);
    let mut pieces = Vec::new();
    let piecewise = loop {
        match frames.next_frame() {
            Ok(None) => break Ok(()),
            Ok(Some(frame)) => {
                let left = MAX_CONTENT_BYTES - pieces.len() as u64;
                if left == 0 {
                    break Ok(());
                }
                if let Err(error) = frame.take(left).read_to_end(&mut pieces) {
                    break Err(error);
                }
            }
            Err(error) => break Err(error),
        }
    };
    assert_eq!(whole, pieces);
    assert_eq!(
        read.map(drop).map_err(|error| error.to_string()),
        piecewise.map_err(|error| error.to_string())
    );
    assert!(frames.offset() <= file.len() as u64);
});
