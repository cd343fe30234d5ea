//! Which processes call CUDA, which of their libraries get probes, and the probes themselves.

pub mod discovery;
pub mod preflight;
pub mod probes;
pub mod process_events;
