//! A command that failed: what it said, and where known the cause and the command that helps.

use std::{error::Error, fmt};

use super::Output;
use crate::advice::of_output;

/// Lines of output that an error quotes.
const QUOTED: usize = 6;

/// Callers match on what the command said, so it is a type.
#[derive(Debug)]
pub struct Failure {
    shown: String,
    pub output: Output,
}

impl Failure {
    pub(super) fn new(shown: String, output: Output) -> Self {
        Self { shown, output }
    }

    /// Both streams: some programs complain on stdout.
    pub fn said(&self) -> String {
        format!("{}\n{}", self.output.stdout, self.output.stderr)
    }
}

/// One line, for a look that may fail: the last that the command said tells most.
pub fn in_short(error: &anyhow::Error) -> String {
    let failure = error.chain().find_map(|cause| cause.downcast_ref::<Failure>());
    let said = failure.map(Failure::said).unwrap_or_default();
    let last = lines(&said).next_back().map(str::to_owned);
    last.unwrap_or_else(|| error.root_cause().to_string().lines().next().unwrap_or("").to_owned())
}

/// Of kubectl's own tries, five times over, and of cargo's progress: they say less than the line after.
const NOISE: [&str; 5] =
    ["memcache.go:", "   Compiling ", "    Finished `", "     Running `", "    Blocking waiting"];

fn lines(said: &str) -> impl DoubleEndedIterator<Item = &str> {
    let is_noise = |line: &&str| NOISE.iter().any(|noise| line.contains(noise));
    said.lines().map(str::trim_end).filter(move |line| !line.is_empty() && !is_noise(line))
}

impl Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.output.code {
            Some(code) => write!(f, "`{}` ended with exit code {code}", self.shown)?,
            None => write!(f, "`{}` was ended by a signal", self.shown)?,
        }
        let said = self.said();
        let lines: Vec<&str> = lines(&said).collect();
        for line in &lines[lines.len().saturating_sub(QUOTED)..] {
            write!(f, "\n  {line}")?;
        }
        of_output(&said).map_or(Ok(()), |advice| write!(f, "\n{advice}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As kubectl 1.32 without a kubeconfig.
    #[test]
    fn noise_is_left_out() {
        let refused = "The connection to the server localhost:8080 was refused - did you specify the right host or port?";
        let noise = "E1124 08:55:26.304117   23215 memcache.go:265] \"Unhandled Error\" err=\"couldn't get current server API group list: connect: connection refused\"\n";
        let output = Output {
            code: Some(1),
            stdout: String::new(),
            stderr: format!("{}{refused}\n", noise.repeat(5)),
        };
        let error = anyhow::Error::new(Failure::new("kubectl get nodes".to_owned(), output));
        assert_eq!(in_short(&error.context("cannot look")), refused);
        let said = "    Finished `dev` profile in 0.15s\n     Running `target/debug/manifests`\nerror: S3_BUCKET is not set\n";
        assert_eq!(lines(said).collect::<Vec<_>>(), ["error: S3_BUCKET is not set"]);
        let error = anyhow::anyhow!("`podman` is not on PATH").context("cannot look");
        assert_eq!(in_short(&error), "`podman` is not on PATH");
    }
}
