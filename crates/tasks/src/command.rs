//! A command as data: it can be shown, compared in a test, run, or only read from.

mod failure;
mod run;
mod view;

use std::{
    env,
    fmt::Write as _,
    path::{Path, PathBuf},
};

pub use failure::{Failure, in_short};
pub use run::Output;

/// Nothing happens before it is run.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    words: Vec<String>,
    variables: Vec<Variable>,
    input: Input,
    needs_root: bool,
    /// Of this environment, and let through by `sudo`.
    kept: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Variable {
    name: String,
    value: String,
    is_secret: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Input {
    Nothing,
    /// Shown as it is.
    Text(String),
    /// Shown by the command that makes it.
    From {
        text: String,
        source: String,
    },
    /// Never shown.
    Secret {
        text: String,
        name: String,
        values: Vec<String>,
    },
}

/// How programs are told of a proxy.
const PROXIES: [&str; 6] =
    ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"];

impl Command {
    /// Words stand between white space; [`Self::arg`] adds one that may hold anything.
    pub fn new(words: &str) -> Self {
        Self {
            words: words.split_whitespace().map(str::to_owned).collect(),
            variables: Vec::new(),
            input: Input::Nothing,
            needs_root: false,
            kept: Vec::new(),
        }
    }

    pub fn words(mut self, words: &str) -> Self {
        self.words.extend(words.split_whitespace().map(str::to_owned));
        self
    }

    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.words.push(argument.into());
        self
    }

    pub fn args<T: Into<String>>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        self.words.extend(arguments.into_iter().map(Into::into));
        self
    }

    pub fn path(self, path: &Path) -> Self {
        self.arg(path.display().to_string())
    }

    pub fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        let (name, value) = (name.to_owned(), value.into());
        self.variables.push(Variable { name, value, is_secret: false });
        self
    }

    /// Never shown; not for commands that `sudo` stands in front of, whose variables are arguments.
    pub fn secret_variable(mut self, name: &str, value: impl Into<String>) -> Self {
        let (name, value) = (name.to_owned(), value.into());
        self.variables.push(Variable { name, value, is_secret: true });
        self
    }

    /// `sudo` stands in front of it, unless the task runs as root already.
    pub fn with_root(mut self) -> Self {
        self.needs_root = true;
        self
    }

    /// Behind `sudo` too it knows of the proxy, whose address may hold a password: by name, not value.
    pub fn through_proxy(mut self) -> Self {
        let is_set = |name: &&&str| env::var_os(name).is_some_and(|value| !value.is_empty());
        self.kept = PROXIES.iter().filter(is_set).map(|&name| name.to_owned()).collect();
        self
    }

    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.input = Input::Text(text.into());
        self
    }

    pub fn text_from(mut self, source: &Self, text: impl Into<String>) -> Self {
        self.input = Input::From { text: text.into(), source: source.shown() };
        self
    }

    /// None of `values` is shown either if the command repeats it.
    pub fn secret(mut self, name: &str, text: impl Into<String>, values: &[&str]) -> Self {
        let values = values.iter().map(|&value| value.to_owned()).collect();
        self.input = Input::Secret { text: text.into(), name: name.to_owned(), values };
        self
    }

    /// What anybody on this machine can see of it while it runs.
    pub fn arguments(&self) -> Vec<String> {
        self.words_as(true)
    }

    /// As it would be typed into a shell.
    pub fn shown(&self) -> String {
        let mut shown = match &self.input {
            Input::Nothing | Input::Secret { .. } => String::new(),
            Input::Text(text) => {
                let lines: Vec<String> = text.lines().map(quoted).collect();
                format!("printf '%s\\n' {} | ", lines.join(" "))
            }
            Input::From { source, .. } => format!("{source} | "),
        };
        shown.push_str(&self.shown_to(is_root()).join(" "));
        if let Input::Secret { name, .. } = &self.input {
            let _: std::fmt::Result = write!(shown, "  # {name} on stdin, not shown");
        }
        shown
    }

    fn shown_to(&self, root: bool) -> Vec<String> {
        let assignments = self.variables.iter().map(|Variable { name, value, is_secret }| {
            let value = if *is_secret { "***".to_owned() } else { quoted(value) };
            format!("{name}={value}")
        });
        let words = self.words.iter().map(|word| quoted(word));
        self.sudo(root).into_iter().chain(assignments).chain(words).collect()
    }

    /// What is executed: without `sudo`, variables are no words.
    fn words_as(&self, root: bool) -> Vec<String> {
        let mut words = self.sudo(root);
        if !words.is_empty() {
            let assignment = |Variable { name, value, .. }: &_| format!("{name}={value}");
            words.extend(self.variables.iter().map(assignment));
        }
        words.extend(self.words.iter().cloned());
        words
    }

    /// What stands in front where it is needed; it drops variables that are not named to it.
    fn sudo(&self, root: bool) -> Vec<String> {
        if root || !self.needs_root {
            return Vec::new();
        }
        let kept = format!("--preserve-env={}", self.kept.join(","));
        let keeps = (!self.kept.is_empty()).then_some(&kept[..]);
        let env = (!self.variables.is_empty()).then_some("env");
        [Some("sudo"), keeps, env].into_iter().flatten().map(str::to_owned).collect()
    }

    fn secrets(&self) -> Vec<String> {
        let read: &[String] = match &self.input {
            Input::Secret { values, .. } => values,
            _ => &[],
        };
        let variables = self.variables.iter().filter(|variable| variable.is_secret);
        read.iter()
            .chain(variables.map(|variable| &variable.value))
            .filter(|value| !value.is_empty())
            .cloned()
            .collect()
    }
}

/// Where the shell would find a program.
pub fn find_on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file())
}

pub fn is_on_path(program: &str) -> bool {
    find_on_path(program).is_some()
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A word as a shell must see it to take it as one.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_commands_can_be_pasted() {
        let command = Command::new("kubectl get pods -o").arg("jsonpath={.items[*]}");
        assert_eq!(command.shown(), "kubectl get pods -o 'jsonpath={.items[*]}'");
        let written = Command::new("tee /etc/x").text("it's\ntwo lines\n");
        assert_eq!(written.shown(), r"printf '%s\n' 'it'\''s' 'two lines' | tee /etc/x");
        let piped = Command::new("kubectl apply -f -").text_from(&Command::new("render"), "a: b");
        assert_eq!(piped.shown(), "render | kubectl apply -f -");
    }

    #[test]
    fn sudo_gets_variables_by_name_and_only_where_it_is_needed() {
        let command = Command::new("sh install.sh").variable("VERSION", "1 2").with_root();
        assert_eq!(command.words_as(false), ["sudo", "env", "VERSION=1 2", "sh", "install.sh"]);
        assert_eq!(command.words_as(true), ["sh", "install.sh"]);
        assert_eq!(command.shown_to(false).join(" "), "sudo env VERSION='1 2' sh install.sh");
        assert_eq!(command.shown_to(true).join(" "), "VERSION='1 2' sh install.sh");
    }

    #[test]
    fn sudo_lets_a_proxy_through_without_showing_it() {
        let kept = vec!["HTTPS_PROXY".to_owned()];
        let command = Command { kept, ..Command::new("apt-get update").with_root() };
        let expected = ["sudo", "--preserve-env=HTTPS_PROXY", "apt-get", "update"];
        assert_eq!(command.words_as(false), expected);
        assert_eq!(command.words_as(true), expected[2..]);
    }

    #[test]
    fn a_secret_is_shown_by_its_name() {
        let command = Command::new("wc -c").secret("hf-token", "hf_abc", &["hf_abc"]);
        assert_eq!(command.shown(), "wc -c  # hf-token on stdin, not shown");
        let command = Command::new("fetch").secret_variable("AWS_SECRET_ACCESS_KEY", "shhh");
        assert_eq!(command.shown(), "AWS_SECRET_ACCESS_KEY=*** fetch");
    }
}
