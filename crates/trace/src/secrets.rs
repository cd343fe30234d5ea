//! Secrets in texts that are kept or shown: command lines of traced processes, settings, messages.
//!
//! What a secret looks like cannot be known, so this goes by names: of options, of variables, of
//! parameters. A secret that is given under no name, or a harmless one, stays; the documentation
//! says to keep secrets out of command lines.
//!
//! Where a value ends is told by the end of its argument, its quote, or the blank behind it, in
//! this order. Where nothing tells, more is masked rather than less.

mod name;
mod scan;
mod text;
mod token;

#[cfg(test)]
mod tests;

use scan::Kind;

/// What stands in the place of a secret.
pub const MASK: &str = "***";

/// Shells, whose `-c` has a script behind it.
const SHELLS: [&str; 6] = ["ash", "bash", "dash", "ksh", "sh", "zsh"];

/// Arguments of a process with its secrets masked; one for each.
pub fn mask_arguments<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut expected = Expected::Nothing;
    let mut has_shell = false;
    let mut masked = Vec::new();
    for argument in arguments {
        if expected.takes(argument) {
            masked.push(mask_value(argument, expected));
            expected = expected.after_one();
            continue;
        }
        if expected != Expected::Nothing && argument == "--" {
            masked.push(argument.to_owned());
            continue;
        }
        // A title stands where the program's name did.
        let kind = match expected {
            _ if masked.is_empty() => Kind::Title,
            Expected::Script => Kind::Script,
            _ => Kind::Argument,
        };
        masked.push(text::mask(argument, kind));
        expected = if !argument.starts_with('-') || argument.contains(['=', ' ', '\t', '\n']) {
            Expected::Nothing
        } else if has_shell && !argument.starts_with("--") && argument.ends_with('c') {
            Expected::Script
        } else {
            expected_after(argument)
        };
        has_shell |= SHELLS.contains(&argument.rsplit('/').next().unwrap_or_default());
    }
    masked
}

/// A text with its secrets masked: what stands behind their names, in addresses, and tokens.
/// Of one that begins with such a name nothing else is left.
pub fn mask(text: &str) -> String {
    text::mask(text, Kind::Argument)
}

/// What the next argument is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Nothing,
    Secret,
    /// Some options take many: vLLM's `--api-key` does.
    Secrets,
    /// Or the next option.
    MoreSecrets,
    /// `name:password`, as of `curl --user`.
    Login,
    /// Of a shell.
    Script,
}

impl Expected {
    /// Passwords may begin with a dash; with two it is plainly another option.
    fn takes(self, argument: &str) -> bool {
        match self {
            Self::Nothing | Self::Script => false,
            Self::Secret | Self::Secrets | Self::Login => {
                argument != "--" && !scan::is_long_option(argument.as_bytes())
            }
            Self::MoreSecrets => !argument.starts_with('-'),
        }
    }

    fn after_one(self) -> Self {
        match self {
            Self::Secrets | Self::MoreSecrets => Self::MoreSecrets,
            _ => Self::Nothing,
        }
    }
}

fn expected_after(option: &str) -> Expected {
    match option.trim_start_matches('-').trim_end_matches(':') {
        "api-key" | "api_key" => Expected::Secrets,
        "u" | "user" | "proxy-user" => Expected::Login,
        name if name.len() > 1 && name::is_secret(name) => Expected::Secret,
        _ => Expected::Nothing,
    }
}

fn mask_value(value: &str, expected: Expected) -> String {
    match (expected, value.split_once(':')) {
        (Expected::Login, Some((name, _))) => format!("{name}:{MASK}"),
        (Expected::Login, None) => mask(value),
        _ if value.is_empty() => String::new(),
        _ => MASK.to_owned(),
    }
}
