//! A process that is there before its calls are.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
};

/// A target that waits for a line before its first call.
pub(crate) struct Waiting {
    child: Child,
}

impl Waiting {
    pub(crate) fn start(command: Command) -> Self {
        Self::start_with(command, |_| ())
    }

    /// The same of one that does not come to its wait without help.
    pub(crate) fn start_with(mut command: Command, help: impl FnOnce(u32)) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        help(child.id());
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("waiting"), "{line}");
        Self { child }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn go_and_end(mut self) {
        self.child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        let output = self.child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}
