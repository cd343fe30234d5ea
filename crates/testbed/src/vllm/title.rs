//! Retitling a process, as Python's setproctitle does it: over its own arguments and environment.

use std::env;
use std::ffi::{CString, OsString};
use std::fs;
use std::ptr;

use anyhow::{Context, Result, ensure};

/// Where the kernel looks for the command line, free to be overwritten.
#[derive(Debug)]
pub(super) struct Title {
    start: usize,
    end: usize,
}

impl Title {
    /// Finds the place and moves the environment out of it. Must run while the process has one thread.
    /// If the place cannot be found, setting the title will say so.
    pub(super) fn reserve() -> Self {
        let environment: Vec<(OsString, OsString)> = env::vars_os().collect();
        for (name, value) in environment {
            // SAFETY: there is no other thread that could read the environment. The C library copies the value, so
            // that no variable lies in the old place any more.
            unsafe { env::set_var(name, value) };
        }
        let (start, end) = place().unwrap_or((0, 0));
        Self { start, end }
    }

    /// Sets the command line and the name of the calling thread, which must be the main one for the latter to be the
    /// name of the process. Arguments are lost by it.
    pub(super) fn set(&self, title: &str) -> Result<()> {
        let room = self.end - self.start;
        ensure!(
            room > title.len(),
            "cannot set the title {title}: there are {room} bytes of arguments to overwrite"
        );
        // SAFETY: the kernel put the arguments and the environment here, on the stack below `main`; nothing refers to
        // them: the environment has moved, the arguments have been read.
        unsafe {
            let place = ptr::with_exposed_provenance_mut::<u8>(self.start);
            ptr::write_bytes(place, 0, room);
            ptr::copy_nonoverlapping(title.as_ptr(), place, title.len());
        }
        set_name(title)
    }
}

/// Names the calling thread; the kernel keeps 15 bytes.
pub(super) fn set_name(name: &str) -> Result<()> {
    let name = CString::new(name).context("a process name has no NUL")?;
    rustix::thread::set_name(&name).with_context(|| format!("cannot name the process {name:?}"))
}

/// `arg_start` to `env_end` of `/proc/self/stat`.
fn place() -> Option<(usize, usize)> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    // The first field after the name is the third.
    let field =
        |number: usize| after_name.split_whitespace().nth(number - 3)?.parse::<usize>().ok();
    let (argument_start, argument_end) = (field(48)?, field(49)?);
    let (environment_start, environment_end) = (field(50)?, field(51)?);
    let end = if environment_start == argument_end { environment_end } else { argument_end };
    Some((argument_start, end))
}
