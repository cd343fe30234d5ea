//! Questions to traces, answered from API calls alone; every figure says how it is known.
//!
//! [`input`] finds the segments of each run, [`pass`] reads them once and hands every line to the
//! [`question`]s that were asked, with what several of them need to know in a [`context`]. A
//! question ends in an [`answer`], whose figures carry a [`grade`]; what the trace lacks is a
//! [`gap`]. `docs/analysis.md` says the same for people.

#![forbid(unsafe_code)]

pub mod answer;
pub mod context;
pub mod diff;
pub mod gap;
pub mod grade;
pub mod input;
pub mod kernel_name;
pub mod nothing;
pub mod pass;
pub mod quantiles;
pub mod question;
pub mod questions;
pub mod report;
mod time_ranges;
pub mod timeline;
