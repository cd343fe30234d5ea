//! The variables that describe a deployment: `manifests` reads them, and a command that is shown names those
//! that are set.

use std::env;

use settings::deployment::{SECRET_VARIABLES, names};

pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) is_hidden: bool,
}

/// Those that are set here; an empty one counts as unset.
pub(super) fn set() -> Vec<Variable> {
    let value = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let variable = |name: String| {
        let is_hidden = SECRET_VARIABLES.contains(&&name[..]);
        Some(Variable { value: value(&name)?, name, is_hidden })
    };
    names().into_iter().filter_map(variable).collect()
}
