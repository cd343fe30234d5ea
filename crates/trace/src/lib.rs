//! The one definition of a trace: its lines, its files, and how to tell that it is whole.
//!
//! The sidecar writes with [`writer`], everything else reads with [`reader`], or with [`call_view`]
//! where there are many million lines; [`check`] proves that no call is missing. `docs/trace-format.md` says the same for people.

#![forbid(unsafe_code)]

pub mod call_view;
pub mod check;
pub mod frames;
pub mod key_prefix;
pub mod line;
pub mod reader;
pub mod secrets;
pub mod segment_name;
pub mod segments;
pub mod writer;
