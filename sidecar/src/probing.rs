//! Which processes call CUDA, which of their libraries get probes, and the probes themselves.

pub mod discovery;
pub mod library;
pub mod loader;
pub mod placement;
pub mod preflight;
pub mod probes;
pub mod process;
pub mod process_events;
pub mod time_limit;
pub mod untrusted_file;
