//! The crate as its users meet it, and what is written about it.

mod allocations;
mod call_lines;
mod documentation;
mod real_trace;
