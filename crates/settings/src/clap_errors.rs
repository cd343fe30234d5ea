//! Errors of clap in the words of these programs: the variable, its value, and what is accepted.

use std::env::{self, VarError};

use clap::{
    Command,
    error::{ContextKind, ContextValue, Error, ErrorKind},
};
use trace::secrets::{MASK, mask};

/// clap names the flag; most people set the variable. The values of the flags in `hidden` are not shown.
pub fn name_the_variable(mut command: Command, error: Error, hidden: &[&str]) -> Error {
    if error.kind() == ErrorKind::InvalidUtf8 {
        let odd = |variable: &str| match env::var(variable) {
            Err(VarError::NotUnicode(value)) => Some(value.to_string_lossy().into_owned()),
            _ => None,
        };
        let message = command.get_arguments().find_map(|arg| {
            let variable = arg.get_env()?.to_str()?;
            let value = odd(variable)?;
            let is_hidden = arg.get_long().is_some_and(|long| hidden.contains(&long));
            let value = if is_hidden { MASK.to_owned() } else { mask(&value) };
            Some(format!("{variable} is {value:?}: accepted: UTF-8"))
        });
        return match message {
            Some(message) => command.error(ErrorKind::ValueValidation, message),
            None => error,
        };
    }
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
    let value = if hidden.contains(&long) { MASK.to_owned() } else { mask(value) };
    let message = format!("{name} is {value:?}: {}", mask(&reason));
    command.error(ErrorKind::ValueValidation, message)
}
