//! A command that failed: what it said, and where known the cause and the command that helps.

use std::{error::Error, fmt};

use super::Output;
use crate::advice::{Advice, of_output};

/// Lines of output that an error quotes.
const QUOTED: usize = 6;

/// Callers match on what the command said, so it is a type.
#[derive(Debug)]
pub(crate) struct Failure {
    shown: String,
    pub(crate) output: Output,
}

impl Failure {
    pub(super) fn new(shown: String, output: Output) -> Self {
        Self { shown, output }
    }

    /// Both streams: some programs complain on stdout.
    pub(crate) fn said(&self) -> String {
        format!("{}\n{}", self.output.stdout, self.output.stderr)
    }
}

impl Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.output.code {
            Some(code) => write!(f, "`{}` ended with exit code {code}", self.shown)?,
            None => write!(f, "`{}` was ended by a signal", self.shown)?,
        }
        let said = self.said();
        let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
        for line in &lines[lines.len().saturating_sub(QUOTED)..] {
            write!(f, "\n  {line}")?;
        }
        if let Some(Advice { cause, next }) = of_output(&said) {
            write!(f, "\ncause: {cause}\nnext:  {next}")?;
        }
        Ok(())
    }
}
