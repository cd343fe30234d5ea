//! Errors of clap in the words of this program: the variable, its value, and what is accepted.

use std::env::{self, VarError};

use clap::{
    Arg, CommandFactory as _,
    error::{ContextKind, ContextValue, ErrorKind},
};

use trace::secrets::mask;

use super::Config;

/// clap names the flag; most people here set the variable.
pub(super) fn name_the_variable(error: clap::Error) -> clap::Error {
    let complain = |message| Config::command().error(ErrorKind::ValueValidation, message);
    if error.kind() == ErrorKind::InvalidUtf8 {
        let odd = |variable: String| match env::var(&variable) {
            Err(VarError::NotUnicode(value)) => Some((variable, value)),
            _ => None,
        };
        let Some((variable, value)) = variables().into_iter().find_map(odd) else { return error };
        return complain(format!(
            "{variable} is {:?}: accepted: UTF-8",
            mask(&value.to_string_lossy())
        ));
    }
    let (Some(ContextValue::String(flag)), Some(ContextValue::String(value))) =
        (error.get(ContextKind::InvalidArg), error.get(ContextKind::InvalidValue))
    else {
        return error;
    };
    let flag = flag.split([' ', '=']).next().unwrap_or(flag);
    let variable = flag.trim_start_matches('-').to_uppercase().replace('-', "_");
    let name = if variables().contains(&variable) {
        format!("{variable} (or {flag})")
    } else {
        flag.to_owned()
    };
    let reason = match (error.get(ContextKind::ValidValue), std::error::Error::source(&error)) {
        (Some(ContextValue::Strings(accepted)), _) if !accepted.is_empty() => {
            format!("accepted: {}", accepted.join(", "))
        }
        (_, Some(reason)) => reason.to_string(),
        _ => "a value is needed".to_owned(),
    };
    // A secret in the wrong place shows in no log.
    complain(format!("{name} is {:?}: {}", mask(value), mask(&reason)))
}

fn variables() -> Vec<String> {
    let names = |arg: &Arg| Some(arg.get_env()?.to_str()?.to_owned());
    Config::command().get_arguments().filter_map(names).collect()
}
