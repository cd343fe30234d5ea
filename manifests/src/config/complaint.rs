//! Errors of clap in the words of this program: the variable, its value, and what is accepted.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use trace::secrets::{MASK, mask};

/// Of these no value is repeated.
const HIDDEN: [&str; 2] = ["tracer-env", "vllm-env"];

/// clap names the flag; most people here set the variable.
pub(crate) fn name_the_variable(mut command: clap::Command, error: clap::Error) -> clap::Error {
    let (Some(ContextValue::String(flag)), Some(ContextValue::String(value))) =
        (error.get(ContextKind::InvalidArg), error.get(ContextKind::InvalidValue))
    else {
        return error;
    };
    let flag = flag.split([' ', '=']).next().unwrap_or(flag);
    let long = flag.trim_start_matches('-');
    let variable = command
        .get_arguments()
        .find(|arg| arg.get_long() == Some(long))
        .and_then(|arg| Some(arg.get_env()?.to_str()?.to_owned()));
    let name = variable.map_or_else(|| flag.to_owned(), |name| format!("{name} (or {flag})"));
    let reason = match (error.get(ContextKind::ValidValue), std::error::Error::source(&error)) {
        (Some(ContextValue::Strings(accepted)), _) if !accepted.is_empty() => {
            format!("accepted: {}", accepted.join(", "))
        }
        (_, Some(reason)) => reason.to_string(),
        _ => "a value is needed".to_owned(),
    };
    // Whoever sets variables may set secrets among them, and an address may hold a password.
    let value = if HIDDEN.contains(&long) { MASK.to_owned() } else { mask(value) };
    let message = format!("{name} is {value:?}: {}", mask(&reason));
    command.error(ErrorKind::ValueValidation, message)
}
