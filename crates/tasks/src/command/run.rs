//! Running a command: in view, for its output, or only to read what it says.

use std::{
    io,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use duct::{Expression, Handle, ReaderHandle};

use super::{Command, Failure, Input, is_root, view::View};
use crate::ctx::variables_of_cargo;

/// What only looks has answered by then, or something hangs.
const LOOK_LIMIT: Duration = Duration::from_secs(60);

/// Settings of kubectl's user that change what its commands mean: another diff may answer that nothing
/// differs, and a kuberc may make `delete` ask.
const OF_KUBECTL: [(&str, Option<&str>); 3] =
    [("KUBECTL_EXTERNAL_DIFF", None), ("KUBERC", Some("off")), ("KUBECTL_KUBERC", Some("false"))];

/// What a command has answered, whether it succeeded or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    pub fn is_success(&self) -> bool {
        self.code == Some(0)
    }
}

impl Command {
    /// Runs it in view: says it, and passes on what it prints, to stderr; an error quotes the end of
    /// that, with its cause and the way out where both are known.
    pub fn run(&self) -> Result<()> {
        self.in_view(&self.expression().stdout_to_stderr()).map(drop)
    }

    /// The same, but its stdout is that of the task: what it prints was asked for.
    pub fn run_for_output(&self) -> Result<()> {
        self.in_view(&self.expression()).map(drop)
    }

    /// Both streams are those of the task: for programs of this repository, which show their progress
    /// on a terminal and explain their own errors.
    pub fn run_as_it_is(&self) -> Result<()> {
        eprintln!("$ {}", self.shown());
        let output = self.wait(&self.start(&self.expression())?)?;
        self.successful(output).map(drop)
    }

    /// The same, of a program whose exit codes mean something to who asked for it: these are passed on,
    /// any other is an error.
    pub fn run_for_exit_code(&self, meant: &[u8]) -> Result<u8> {
        eprintln!("$ {}", self.shown());
        let output = self.wait(&self.start(&self.expression())?)?;
        let code = output.code.and_then(|code| u8::try_from(code).ok());
        match code.filter(|code| meant.contains(code)) {
            Some(code) => Ok(code),
            None => self.successful(output).map(|_| 0),
        }
    }

    /// What it prints on stdout, while its stderr is in view; for commands that take a while.
    pub fn read_in_view(&self) -> Result<String> {
        Ok(self.in_view(&self.expression().stdout_capture())?.stdout)
    }

    /// What it prints on stdout, to be read while it runs; behind its end, how it has ended, with what it
    /// said on stderr.
    pub fn reader(&self) -> Result<ReaderHandle> {
        self.expression().stderr_capture().reader().with_context(|| self.cannot())
    }

    /// What it says, without the final newline; for commands that change nothing.
    pub fn read(&self) -> Result<String> {
        let output = self.output()?;
        Ok(self.successful(output)?.stdout.trim_end().to_owned())
    }

    /// The same, whatever its exit code.
    pub fn output(&self) -> Result<Output> {
        self.output_within(LOOK_LIMIT)
    }

    fn output_within(&self, limit: Duration) -> Result<Output> {
        let handle = self.start(&self.expression().stdout_capture().stderr_capture())?;
        let output = handle.wait_deadline(Instant::now() + limit).with_context(|| self.cannot())?;
        if output.is_none() {
            // It may have ended just now. What sudo has started is root's, and goes on.
            let _: io::Result<()> = handle.kill();
            return Err(anyhow!("`{}` did not end within {limit:?}", self.shown()));
        }
        self.wait(&handle)
    }

    fn in_view(&self, expression: &Expression) -> Result<Output> {
        eprintln!("$ {}", self.shown());
        let secrets = self.secrets();
        let (view, expression) = View::of(expression, move |line| without(&secrets, line))?;
        let handle = self.start(&expression)?;
        // It holds an end of the pipe, whose reader waits until all are closed.
        drop(expression);
        let output = self.wait(&handle)?;
        self.successful(Output { stderr: view.seen(), ..output })
    }

    fn successful(&self, output: Output) -> Result<Output> {
        if output.is_success() {
            return Ok(output);
        }
        Err(Failure::new(self.shown(), output).into())
    }

    fn expression(&self) -> Expression {
        let words = self.words_as(is_root());
        let (program, arguments) = words.split_first().expect("a command has a program");
        let mut expression = duct::cmd(program, arguments).unchecked();
        for name in variables_of_cargo() {
            expression = expression.env_remove(name);
        }
        for (name, value) in OF_KUBECTL {
            expression = match value {
                Some(value) => expression.env(name, value),
                None => expression.env_remove(name),
            };
        }
        for variable in &self.variables {
            expression = expression.env(&variable.name, &variable.value);
        }
        match &self.input {
            Input::Nothing => expression.stdin_null(),
            Input::Text(text) | Input::From { text, .. } | Input::Secret { text, .. } => {
                expression.stdin_bytes(text.as_bytes())
            }
        }
    }

    fn start(&self, expression: &Expression) -> Result<Handle> {
        expression.start().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => anyhow!("`{}` is not on PATH", self.program()),
            _ => anyhow!(error).context(self.cannot()),
        })
    }

    fn wait(&self, handle: &Handle) -> Result<Output> {
        let output = handle.wait().with_context(|| self.cannot())?;
        let secrets = self.secrets();
        let text = |bytes| without(&secrets, &String::from_utf8_lossy(bytes));
        Ok(Output {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        })
    }

    /// What is looked for on PATH: `sudo` where that stands in front.
    fn program(&self) -> String {
        self.words_as(is_root()).swap_remove(0)
    }

    fn cannot(&self) -> String {
        format!("cannot run `{}`", self.program())
    }
}

fn without(secrets: &[String], text: &str) -> String {
    secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_by_the_command_and_not_repeated() {
        let command = Command::new("wc -c").secret("hf-token", "hf_abc", &["hf_abc"]);
        assert_eq!(command.read().unwrap(), "6");
        let failing =
            Command::new("sh -c").arg("cat >&2; exit 3").secret("hf-token", "hf_abc", &["hf_abc"]);
        for error in [failing.read().unwrap_err(), failing.run().unwrap_err()] {
            let error = format!("{error:#}");
            assert!(error.contains("exit code 3\n  ***"), "{error}");
        }
    }

    #[test]
    fn a_command_that_hangs_or_is_missing_is_named() {
        let hanging = Command::new("sleep 60").output_within(Duration::from_millis(50));
        let error = hanging.unwrap_err().to_string();
        assert_eq!(error, "`sleep 60` did not end within 50ms");
        let error = Command::new("no-such-program").read().unwrap_err().to_string();
        assert_eq!(error, "`no-such-program` is not on PATH");
    }

    /// As the server of a compiler cache does, which the first compiler starts.
    #[test]
    fn what_a_command_leaves_in_the_background_is_not_waited_for() {
        let started = Instant::now();
        let command =
            Command::new("sh -c").arg("echo seen >&2; sleep 60 >/dev/null & echo $!; exit 3");
        let error = command.read_in_view().unwrap_err();
        let failure = error.downcast_ref::<Failure>().unwrap();
        assert_eq!(failure.output.stderr, "seen\n");
        let left = failure.output.stdout.trim();
        assert!(Command::new("kill").arg(left).output().unwrap().is_success());
        assert!(started.elapsed() < Duration::from_secs(50));
    }

    #[test]
    fn cargo_is_run_as_if_from_a_shell() {
        assert!(!Command::new("env").read().unwrap().contains("CARGO_PKG_"));
    }
}
