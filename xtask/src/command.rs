//! A command as data: it can be shown, compared in a test, run, or only read from.

mod failure;
mod view;

use std::{
    env,
    fmt::Write as _,
    io,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use duct::Expression;

use crate::ctx::variables_of_cargo;
pub(crate) use failure::Failure;
use view::View;

/// What only looks has answered by then, or something hangs.
const LOOK_LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command {
    words: Vec<String>,
    variables: Vec<Variable>,
    input: Input,
    needs_root: bool,
    limit: Option<Duration>,
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

/// What a command has answered, whether it succeeded or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    pub(crate) fn is_success(&self) -> bool {
        self.code == Some(0)
    }
}

impl Command {
    /// Words stand between white space; [`Self::arg`] adds one that may hold anything.
    pub(crate) fn new(words: &str) -> Self {
        Self {
            words: words.split_whitespace().map(str::to_owned).collect(),
            variables: Vec::new(),
            input: Input::Nothing,
            needs_root: false,
            limit: None,
        }
    }

    pub(crate) fn words(mut self, words: &str) -> Self {
        self.words.extend(words.split_whitespace().map(str::to_owned));
        self
    }

    pub(crate) fn arg(mut self, argument: impl Into<String>) -> Self {
        self.words.push(argument.into());
        self
    }

    pub(crate) fn args<T: Into<String>>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        self.words.extend(arguments.into_iter().map(Into::into));
        self
    }

    pub(crate) fn path(self, path: &Path) -> Self {
        self.arg(path.display().to_string())
    }

    pub(crate) fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        let (name, value) = (name.to_owned(), value.into());
        self.variables.push(Variable { name, value, is_secret: false });
        self
    }

    /// Never shown; not for commands that `sudo` stands in front of, whose variables are arguments.
    pub(crate) fn secret_variable(mut self, name: &str, value: impl Into<String>) -> Self {
        let (name, value) = (name.to_owned(), value.into());
        self.variables.push(Variable { name, value, is_secret: true });
        self
    }

    /// `sudo` stands in front of it, unless the task runs as root already.
    pub(crate) fn with_root(mut self) -> Self {
        self.needs_root = true;
        self
    }

    /// It is stopped when this has passed.
    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    pub(crate) fn text(mut self, text: impl Into<String>) -> Self {
        self.input = Input::Text(text.into());
        self
    }

    pub(crate) fn text_from(mut self, source: &Self, text: impl Into<String>) -> Self {
        self.input = Input::From { text: text.into(), source: source.shown() };
        self
    }

    /// None of `values` is shown either if the command repeats it.
    pub(crate) fn secret(mut self, name: &str, text: impl Into<String>, values: &[&str]) -> Self {
        let values = values.iter().map(|&value| value.to_owned()).collect();
        self.input = Input::Secret { text: text.into(), name: name.to_owned(), values };
        self
    }

    /// As it would be typed into a shell.
    pub(crate) fn shown(&self) -> String {
        let mut shown = match &self.input {
            Input::Nothing | Input::Secret { .. } => String::new(),
            Input::Text(text) => {
                let lines: Vec<String> = text.lines().map(quoted).collect();
                format!("printf '%s\\n' {} | ", lines.join(" "))
            }
            Input::From { source, .. } => format!("{source} | "),
        };
        let words = self.words_as(is_root()).into_iter().map(|word| quoted(&word));
        let variables = (!self.needs_root || is_root()).then_some(&self.variables);
        let variables = variables.into_iter().flatten().map(|variable| {
            let Variable { name, value, is_secret } = variable;
            if *is_secret { format!("{name}=***") } else { format!("{name}={}", quoted(value)) }
        });
        shown.push_str(&variables.chain(words).collect::<Vec<_>>().join(" "));
        if let Input::Secret { name, .. } = &self.input {
            let _: std::fmt::Result = write!(shown, "  # {name} on stdin, not shown");
        }
        shown
    }

    /// With `sudo` in front where it is needed; it drops variables that are not named to it.
    fn words_as(&self, root: bool) -> Vec<String> {
        let mut words = Vec::new();
        if self.needs_root && !root {
            words.push("sudo".to_owned());
            if !self.variables.is_empty() {
                words.push("env".to_owned());
                let assignment = |Variable { name, value, .. }: &_| format!("{name}={value}");
                words.extend(self.variables.iter().map(assignment));
            }
        }
        words.extend(self.words.iter().cloned());
        words
    }

    /// Runs it in view: says it, and passes on what it prints, to stderr; an error quotes the end of
    /// that, with its cause and the way out where both are known.
    pub(crate) fn run(&self) -> Result<()> {
        self.in_view(&self.expression().stdout_to_stderr()).map(drop)
    }

    /// Its stdout is that of the task: what it prints was asked for.
    pub(crate) fn run_for_output(&self) -> Result<()> {
        let output = self.finish(&self.expression(), self.limit)?;
        self.successful(output).map(drop)
    }

    /// What it says, without the final newline; for commands that change nothing.
    pub(crate) fn read(&self) -> Result<String> {
        let output = self.output()?;
        Ok(self.successful(output)?.stdout.trim_end().to_owned())
    }

    /// What it prints on stdout, while its stderr is in view; for commands that take a while.
    pub(crate) fn read_in_view(&self) -> Result<String> {
        Ok(self.in_view(&self.expression().stdout_capture())?.stdout)
    }

    /// The same, whatever its exit code.
    pub(crate) fn output(&self) -> Result<Output> {
        self.captured(self.limit.or(Some(LOOK_LIMIT)))
    }

    fn in_view(&self, expression: &Expression) -> Result<Output> {
        eprintln!("$ {}", self.shown());
        let secrets = self.secrets();
        let (view, expression) = View::of(expression, move |line| without(&secrets, line))?;
        let output = self.finish(&expression, self.limit);
        drop(expression);
        self.successful(Output { stderr: view.seen(), ..output? })
    }

    fn successful(&self, output: Output) -> Result<Output> {
        if output.is_success() {
            return Ok(output);
        }
        Err(Failure::new(self.shown(), output).into())
    }

    fn captured(&self, limit: Option<Duration>) -> Result<Output> {
        self.finish(&self.expression().stdout_capture().stderr_capture(), limit)
    }

    fn expression(&self) -> Expression {
        let words = self.words_as(is_root());
        let (program, arguments) = words.split_first().expect("a command has a program");
        let mut expression = duct::cmd(program, arguments).unchecked();
        for name in variables_of_cargo() {
            expression = expression.env_remove(name);
        }
        for Variable { name, value, .. } in &self.variables {
            expression = expression.env(name, value);
        }
        match &self.input {
            Input::Nothing => expression.stdin_null(),
            Input::Text(text) | Input::From { text, .. } | Input::Secret { text, .. } => {
                expression.stdin_bytes(text.as_bytes())
            }
        }
    }

    fn finish(&self, expression: &Expression, limit: Option<Duration>) -> Result<Output> {
        let program = self.words.first().expect("a command has a program");
        let handle = expression.start().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => anyhow!("`{program}` is not on PATH"),
            _ => anyhow!(error).context(format!("cannot run `{program}`")),
        })?;
        let started = Instant::now();
        let output = match limit {
            None => Some(handle.wait()),
            Some(limit) => handle.wait_deadline(started + limit).transpose(),
        };
        let Some(output) = output else {
            // It may have ended just now.
            let _: io::Result<()> = handle.kill();
            return Err(anyhow!(
                "`{}` did not end within {:?}",
                self.shown(),
                limit.unwrap_or_default()
            ));
        };
        let output = output.with_context(|| format!("cannot run `{program}`"))?;
        let secrets = self.secrets();
        let text = |bytes| without(&secrets, &String::from_utf8_lossy(bytes));
        Ok(Output {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        })
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

fn without(secrets: &[String], text: &str) -> String {
    secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
}

/// Whether a program can be found as the shell would.
pub(crate) fn is_on_path(program: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| {
        env::split_paths(&path).any(|directory| directory.join(program).is_file())
    })
}

pub(crate) fn is_root() -> bool {
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
        let command = Command::new("sh install.sh").variable("VERSION", "1").with_root();
        assert_eq!(command.words_as(false), ["sudo", "env", "VERSION=1", "sh", "install.sh"]);
        assert_eq!(command.words_as(true), ["sh", "install.sh"]);
    }

    #[test]
    fn a_secret_is_read_by_the_command_and_shown_nowhere() {
        let command = Command::new("wc -c").secret("hf-token", "hf_abc", &["hf_abc"]);
        assert_eq!(command.shown(), "wc -c  # hf-token on stdin, not shown");
        assert_eq!(command.read().unwrap(), "6");
        let failing =
            Command::new("sh -c").arg("cat >&2; exit 3").secret("hf-token", "hf_abc", &["hf_abc"]);
        let error = format!("{:#}", failing.read().unwrap_err());
        assert!(error.contains("exit code 3\n  ***"), "{error}");
    }

    #[test]
    fn a_command_that_hangs_or_is_missing_is_named() {
        let command = Command::new("sleep 60").limit(Duration::from_millis(50));
        let error = command.read().unwrap_err().to_string();
        assert_eq!(error, "`sleep 60` did not end within 50ms");
        let error = Command::new("no-such-program").read().unwrap_err().to_string();
        assert_eq!(error, "`no-such-program` is not on PATH");
    }

    #[test]
    fn cargo_is_run_as_if_from_a_shell() {
        assert!(!Command::new("env").read().unwrap().contains("CARGO_PKG_"));
    }
}
