//! Settings as environment variables.

use std::{collections::BTreeMap, env};

use clap::{Arg, ArgMatches, Args as _, Command, builder::Resettable};

use crate::{HTTP_ADDRESS, Local, Settings};

/// Every variable that the tracer reads, but for those of the AWS SDK.
pub(crate) fn names() -> Vec<String> {
    names_of(&Local::augment_args(Settings::augment_args(Command::new("settings"))))
}

pub(crate) fn names_of(command: &Command) -> Vec<String> {
    let name = |arg: &Arg| Some(arg.get_env()?.to_str()?.to_owned());
    command.get_arguments().filter_map(name).collect()
}

/// The values of [`Settings`] as they were typed, or the defaults: what gives a tracer the same settings.
pub(crate) fn variables(matches: &ArgMatches) -> BTreeMap<String, String> {
    let command = Settings::augment_args(Command::new("settings"));
    let variable = |arg: &Arg| {
        let id = arg.get_id().as_str();
        // Another spelling of the same would make a new pod.
        let value = match matches.try_get_one::<bool>(id) {
            Ok(value) => value?.to_string(),
            Err(_) => matches.get_raw(id)?.next()?.to_str()?.to_owned(),
        };
        let name = arg.get_env()?.to_str()?.to_owned();
        (!value.is_empty()).then_some((name, value))
    };
    command.get_arguments().filter_map(variable).collect()
}

/// Kubernetes and shells set variables to nothing where nothing is meant; only for `HTTP_ADDRESS`
/// is that a value.
pub fn without_empty(command: Command) -> Command {
    let is_empty = |arg: &Arg| {
        let variable = arg.get_env().filter(|&variable| variable != HTTP_ADDRESS);
        variable.and_then(env::var_os).is_some_and(|value| value.is_empty())
    };
    command.mut_args(|arg| if is_empty(&arg) { arg.env(Resettable::Reset) } else { arg })
}
