//! From a file to probes: looks into it once, and attaches if it exports CUDA functions.

use std::{fs, path::Path, time::Instant};

use anyhow::{Context as _, Result};
use sidecar_common::{MAX_FUNCTIONS, Plan};
use trace::function::{
    Api,
    arguments::{Naming, capture, naming},
    calls_back,
};
use tracing::{debug, info, warn};

use super::{
    Discovery, FoundBy,
    files::{FileKey, from_outside, maps},
    has_cuda_name,
};
use crate::{
    clock,
    config::Detail,
    library::{Library, Refusals, TOO_MANY},
    recorder::Notice,
};

impl Discovery {
    /// Attaches to a file that exports CUDA functions, unless that has been done.
    ///
    /// `path` is as process `pid` sees it. A file that cannot be read is a warning, not an error:
    /// processes end while they are looked at.
    pub(super) fn inspect(&mut self, pid: u32, path: &Path, found_by: FoundBy) -> Result<()> {
        let outside = from_outside(pid, path);
        let opened = fs::metadata(&outside).context("cannot stat it").and_then(|metadata| {
            let file = FileKey::of(&metadata);
            if !metadata.is_file() || self.inspected.contains(&file) {
                return Ok(None);
            }
            let library = Library::open(&outside, &self.selection)?;
            self.inspected.insert(file);
            Ok(library.map(|library| (file, library)))
        });
        match opened {
            Ok(Some((file, library))) if self.attached.insert(library.id.clone()) => {
                self.attach(pid, path, file, &library, found_by)
            }
            Ok(_) => Ok(()),
            Err(error) => {
                self.complain(pid, path, &error);
                Ok(())
            }
        }
    }

    /// Once per path, and only of what is a CUDA library of a process that still runs.
    fn complain(&mut self, pid: u32, path: &Path, error: &anyhow::Error) {
        let has_ended = !fs::exists(format!("/proc/{pid}/root/")).unwrap_or(true);
        if !has_cuda_name(path) || has_ended || !self.unreadable.insert(path.to_owned()) {
            debug!(pid, path = %path.display(), "cannot look into a file: {error:#}");
            return;
        }
        warn!(
            pid,
            path = %path.display(),
            "cannot look into a CUDA library, its calls are not traced: {error:#} (files of other \
             users and containers need CAP_SYS_PTRACE)"
        );
    }

    fn attach(
        &mut self,
        pid: u32,
        path: &Path,
        file: FileKey,
        library: &Library,
        found_by: FoundBy,
    ) -> Result<()> {
        let started = Instant::now();
        for function in &library.functions {
            self.give_number(&function.name, function.api);
        }
        let numbers = &self.numbers;
        let detail = self.attacher.detail();
        let mut failed = self.attacher.attach(library, |name| {
            let number = numbers.get(name).ok_or(TOO_MANY)?;
            Ok(plan(*number, name, detail))
        })?;
        let attached_ns = clock::monotonic_ns();
        let attached_late = self.may_have_been_called(pid, file);
        let functions = library.functions.len() - failed.len();
        failed.extend(library.refused.clone());
        let failed = Refusals::of(failed);
        let single_stepped = library.functions.iter().filter(|function| !function.emulated).count();
        let path = path.display().to_string();
        info!(
            path,
            functions,
            single_stepped,
            failed = failed.len(),
            attached_late,
            milliseconds = started.elapsed().as_millis(),
            "attached to a CUDA library"
        );
        if let Some((name, reason)) = failed.first_key_value() {
            let failed = failed.len();
            warn!(path, failed, "some functions refused a probe, as {name}: {reason}");
        }
        let library = trace::line::Library {
            path,
            device: library.id.device,
            inode: library.id.inode,
            found_by: found_by.as_str().to_owned(),
            attached_late,
            functions: u32::try_from(functions).unwrap_or(u32::MAX),
            single_stepped: u32::try_from(single_stepped).unwrap_or(u32::MAX),
            failed,
        };
        self.state.attached(library.clone());
        self.tell(Notice::Library { attached_ns, library });
        Ok(())
    }

    /// Gives a name its number, and tells the recorder before anyone can use it. A name beyond
    /// [`MAX_FUNCTIONS`] gets none.
    fn give_number(&mut self, name: &str, api: Api) {
        let number = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
        if number >= MAX_FUNCTIONS || self.numbers.contains_key(name) {
            return;
        }
        self.numbers.insert(name.to_owned(), number);
        self.tell(Notice::Function { number, name: name.to_owned(), api });
    }

    /// Looked at when the last probe is in place: whoever maps the file later loses nothing.
    fn may_have_been_called(&self, pid: u32, file: FileKey) -> bool {
        let has_ended = !fs::exists(format!("/proc/{pid}")).unwrap_or(false);
        let targets = self.processes().targets();
        has_ended || targets.into_iter().any(|pid| maps(pid, file))
    }
}

/// What the programs copy of a function's calls.
fn plan(number: u32, name: &str, detail: Detail) -> Plan {
    let mut plan = Plan::bare(number);
    if detail == Detail::Entry || calls_back(name).is_some() {
        return plan;
    }
    let capture = capture(name);
    if capture.registers {
        plan = plan.with_registers();
    }
    if capture.stack {
        plan = plan.with_stack();
    }
    if let Some((register, words)) = capture.memory {
        plan = plan.with_window(register, words);
    }
    if let Some(register) = capture.second {
        plan = plan.with_second(register);
    }
    if let Some(Naming::Named { name, is_read, .. }) = naming(name) {
        plan = if is_read { plan.with_name(name) } else { plan.with_untouched_name(name) };
    }
    plan
}
