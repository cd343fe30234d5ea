//! From events of the ring buffer to lines, every one counted.

pub mod accounting;
pub mod event;
pub mod recorder;
