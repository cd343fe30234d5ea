//! What each value may be. An error says what is accepted.

mod amounts;
mod names;
mod words;

use std::str::FromStr as _;

use trace::function::Selection;

pub use amounts::Memory;
pub use words::{Variables, Words};

pub(super) use amounts::{cpu, memory, node_port, ring_size, segment_size, share, tracer_size};
pub(super) use names::{absolute_path, directories, dns_name, image, model, prefix, region};
/// As the tracer checks them.
pub(super) use store::settings::{bucket, endpoint};
pub(super) use words::{variables, vllm_arguments};

pub(super) fn boolean(value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("accepted: true, false".to_owned()),
    }
}

/// As typed: the tracer reads it.
pub(super) fn seconds(value: &str) -> Result<String, String> {
    match f64::from_str(value) {
        Ok(number) if (0.1..=86_400.0).contains(&number) => Ok(value.to_owned()),
        _ => Err("accepted: seconds, 0.1 to 86400, such as 60 or 0.5".to_owned()),
    }
}

/// Known functions, globs and sets, by the tracer's own parser.
pub(super) fn functions(value: &str) -> Result<String, String> {
    Selection::parse(value).map(|_| value.to_owned()).map_err(|error| error.to_string())
}

pub(super) fn text(value: &str) -> Result<String, String> {
    if value.trim().is_empty() || value.contains(char::is_control) {
        return Err("accepted: text on one line".to_owned());
    }
    Ok(value.to_owned())
}
