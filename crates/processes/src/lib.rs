//! Processes of this node: who one is, which role it has in a vLLM server, and what it maps.
//!
//! Whatever a process says of itself is read in bounded time and space.

pub mod clock;
pub mod process;
pub mod time_limit;
