//! Load tests against an OpenAI-compatible vLLM server.
//!
//! [`client::Client`] runs one measured request, [`run::run`] many, [`summary::summarise`] makes figures of them, and
//! [`record::RunResult`] is the result file. The binary `loadtest` is [`app::execute`] behind a command line.

#![forbid(unsafe_code)]

pub mod app;
mod bench_keys;
pub mod cli;
pub mod client;
mod client_figures;
mod collected;
pub mod error;
pub mod headers;
mod http;
pub mod lengths;
mod measurement;
mod notes;
pub mod pace;
pub mod plan;
mod progress;
pub mod prompts;
pub mod protocol;
mod random;
pub mod record;
pub mod replay;
mod result_file;
pub mod run;
pub mod server_metrics;
pub mod slo;
pub mod sse;
pub mod statistics;
pub mod study;
pub mod summary;
mod table;
pub mod target;
