//! Whose calls are covered: for each target and each CUDA library that it has mapped, whether its
//! probes were there from before its first call, from a moment on, or not at all.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    time::Duration,
};

use trace::line::{Coverage as Line, CoverageCounts, CoverageKind};

use super::{
    Discovery,
    attach::Examined,
    has_cuda_name,
    memory::{Site, sites},
};
use crate::{
    clock,
    process::{MappedFile, Mappings, exists},
    recorder::Notice,
};

/// Lines of one run that say that calls are missing; more are only counted.
const MAX_LINES: u32 = 4096;

/// A mapping is told of before the kernel has put the probes into it.
const TRIES: u32 = 5;
const BETWEEN_TRIES: Duration = Duration::from_millis(2);

/// What has been said of targets and libraries.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    said: HashMap<u32, HashMap<MappedFile, CoverageKind>>,
    counts: CoverageCounts,
    /// Processes that were known to be no targets until then.
    target_since_ns: HashMap<u32, u64>,
    events_lost_ns: Option<u64>,
    lines: u32,
    ended: Vec<u32>,
}

/// What is known of one target and one library.
struct Judgement {
    kind: CoverageKind,
    at_ns: u64,
    unprobed: usize,
    reason: Option<String>,
}

impl Coverage {
    pub(super) fn counts(&self) -> CoverageCounts {
        self.counts
    }

    /// A process began, or became another program: nothing that was said holds for it.
    pub(super) fn began(&mut self, pid: u32) {
        self.said.remove(&pid);
        self.target_since_ns.remove(&pid);
    }

    pub(super) fn became_target(&mut self, pid: u32, at_ns: u64) {
        self.target_since_ns.insert(pid, at_ns);
    }

    pub(super) fn ended(&mut self, pid: u32) {
        self.ended.push(pid);
    }

    pub(super) fn events_lost(&mut self, at_ns: u64) {
        self.counts.events_lost += 1;
        self.events_lost_ns = Some(at_ns);
    }

    /// The counts stay.
    pub(super) fn forget_ended(&mut self) {
        for pid in std::mem::take(&mut self.ended) {
            // Another process may have its number by now.
            if !exists(pid) {
                self.began(pid);
            }
        }
    }

    /// Returns what holds now, if it is new. Calls that are missing stay missing, so nothing becomes
    /// exact again.
    fn say(&mut self, pid: u32, file: MappedFile, kind: CoverageKind) -> Option<CoverageKind> {
        use CoverageKind::{Exact, From, Unseen};
        let before = self.said.get(&pid).and_then(|files| files.get(&file)).copied();
        let now = match (before, kind) {
            (Some(Unseen | From), Exact) => From,
            (_, kind) => kind,
        };
        if before == Some(now) {
            return None;
        }
        if let Some(before) = before {
            *self.count(before) -= 1;
        }
        *self.count(now) += 1;
        self.said.entry(pid).or_default().insert(file, now);
        Some(now)
    }

    fn count(&mut self, kind: CoverageKind) -> &mut u64 {
        match kind {
            CoverageKind::Exact => &mut self.counts.exact,
            CoverageKind::From => &mut self.counts.from,
            CoverageKind::Unseen => &mut self.counts.unseen,
        }
    }
}

impl Discovery {
    /// Says how the calls of a target into a mapped file are covered.
    pub(super) fn cover(&mut self, pid: u32, file: MappedFile, path: &Path, examined: &Examined) {
        if !self.processes().is_target(pid) {
            return;
        }
        let judgement = match examined {
            Examined::Plain => return,
            Examined::Refused(reason) => Judgement::unseen(reason.clone()),
            Examined::Library(index) => self.judge(pid, file, *index),
        };
        self.say(pid, file, path, judgement, true);
    }

    /// The same for all targets that have the file mapped, or had it before they ended.
    pub(super) fn cover_all(&mut self, file: MappedFile, path: &Path, examined: &Examined) {
        for pid in self.targets_with(file) {
            self.cover(pid, file, path, examined);
        }
    }

    /// A child has what its parent had mapped. It is told in a line only if calls are missing.
    pub(super) fn cover_inherited(&mut self, pid: u32) {
        if !self.processes().is_target(pid) {
            return;
        }
        for told in self.history.files_of(pid) {
            let file = self.as_listed(pid, told);
            if let Some((path, reason)) = self.unopened.get(&file).cloned() {
                self.say(pid, file, &path, Judgement::unseen(reason), false);
            }
            let Some((_, examined)) = self.mapped.get(&file) else { continue };
            let (path, judgement) = match examined.clone() {
                Examined::Plain => continue,
                Examined::Refused(reason) => (String::new(), Judgement::unseen(reason)),
                Examined::Library(index) => {
                    (self.libraries[index].path.clone(), self.judge_by_time(pid, file, index))
                }
            };
            self.say(pid, file, Path::new(&path), judgement, false);
        }
    }

    /// Libraries that are loaded, but whose code is no longer a mapping of the file: nothing can be
    /// put on it.
    pub(super) fn cover_moved_code(&mut self, pid: u32, mappings: &Mappings) {
        let mut files: HashMap<MappedFile, (bool, bool, &Path)> = HashMap::new();
        for mapping in &mappings.list {
            let (code, data, _) =
                files.entry(mapping.file).or_insert((false, false, &mapping.path));
            *code |= mapping.is_executable;
            *data |= mapping.is_writable;
        }
        for (file, (has_code, has_data, path)) in files {
            // Data that is mapped writable is that of a library which the loader has finished with.
            if !has_code && has_data && self.is_cuda(file, path) {
                let reason = "its code is no longer that of the file: it was moved to other memory";
                self.say(pid, file, path, Judgement::unseen(reason.to_owned()), true);
            }
        }
    }

    /// Asks targets whether they still have their probes.
    pub(super) fn check_probes(&mut self) -> anyhow::Result<()> {
        let pids: Vec<u32> = self.coverage.said.keys().copied().collect();
        for pid in pids {
            let Some(mappings) = Mappings::of(pid).ok().filter(|mappings| mappings.is_complete)
            else {
                continue;
            };
            let mut seen = HashSet::new();
            let files: Vec<_> = mappings
                .executable()
                .filter(|mapping| seen.insert(mapping.file))
                .map(|mapping| (mapping.file, mapping.path.clone()))
                .collect();
            for (file, path) in files {
                if let Some((_, examined @ Examined::Library(_))) = self.mapped.get(&file) {
                    self.cover(pid, file, &path, &examined.clone());
                }
            }
            self.cover_moved_code(pid, &mappings);
            // Many processes take their time; what happens meanwhile comes first.
            self.receive(Duration::ZERO)?;
        }
        Ok(())
    }

    /// Targets that have a file mapped, or had it before they ended.
    pub(super) fn targets_with(&self, file: MappedFile) -> Vec<u32> {
        let mut pids: HashSet<u32> = self.history.who_mapped(file).into_iter().collect();
        let targets = self.processes().targets();
        pids.retain(|&pid| self.processes().is_target(pid));
        // Those that mapped it before there were events to tell of it.
        pids.extend(targets.into_iter().filter(|&pid| {
            self.mapped_ns(pid, file).is_none()
                && Mappings::of(pid).is_ok_and(|mappings| {
                    mappings.of_file(file).any(|mapping| mapping.is_executable)
                })
        }));
        pids.into_iter().collect()
    }

    fn is_cuda(&self, file: MappedFile, path: &Path) -> bool {
        match self.mapped.get(&file) {
            Some((_, Examined::Library(_))) => true,
            Some((_, Examined::Plain)) => false,
            _ => has_cuda_name(path),
        }
    }

    fn judge(&self, pid: u32, file: MappedFile, index: usize) -> Judgement {
        let by_time = self.judge_by_time(pid, file, index);
        if by_time.kind == CoverageKind::Unseen {
            return by_time;
        }
        match self.probes_in(pid, file, index) {
            // The process has ended, or may not be looked at: the kernel's times are all there is.
            None => by_time,
            Some(0) => Judgement::unseen(
                "the kernel has put no probe into its memory: the code is mapped writable, or is \
                 not that of the file"
                    .to_owned(),
            ),
            Some(probed) => {
                let unprobed = self.libraries[index].functions().len() - probed;
                Judgement { unprobed, ..by_time }
            }
        }
    }

    /// By what happened first: the mapping, or the probes.
    fn judge_by_time(&self, pid: u32, file: MappedFile, index: usize) -> Judgement {
        let library = &self.libraries[index];
        if !library.is_held() {
            return Judgement::unseen("its file was overwritten in place".to_owned());
        if let Some(told) = self.twins.in_events(file) {
            let who = self.history.who_mapped(told).into_iter();
            pids.extend(who.filter(|&pid| self.as_listed(pid, told) == file));
        }
        }
        if library.functions().is_empty() {
            let reason = "none of its functions took a probe: its library line says why";
            return Judgement::unseen(reason.to_owned());
        }
        let attached_ns = library.since_ns;
        if let Some(&since_ns) = self.coverage.target_since_ns.get(&pid) {
            let reason = "it became a target after it had begun";
            return Judgement::from(since_ns.max(attached_ns), reason);
        }
        let known_ns = self.mapped_ns(pid, file).or_else(|| self.history.started_ns(pid));
        match known_ns {
    /// When a process first mapped a file, which events may call otherwise.
    pub(super) fn mapped_ns(&self, pid: u32, file: MappedFile) -> Option<u64> {
        let by_its_twin = || self.history.mapped_ns(pid, self.twins.in_events(file)?);
        self.history.mapped_ns(pid, file).or_else(by_its_twin)
    }

    /// What the list of mappings of a process calls a file that an event told of.
    pub(super) fn as_listed(&self, pid: u32, told: MappedFile) -> MappedFile {
        match self.twins.in_maps(told) {
            [] => told,
            &[listed] => listed,
            several => {
                let mappings = Mappings::of(pid).unwrap_or_default();
                let is_mapped = |file: &MappedFile| mappings.of_file(*file).next().is_some();
                several.iter().copied().find(is_mapped).unwrap_or(told)
            }
        }
    }

            Some(at_ns) if at_ns > attached_ns => Judgement::exact(at_ns),
            Some(_) => {
                Judgement::from(attached_ns, "it was mapped before its probes were in place")
            }
            None => {
                let lost_ns = self.coverage.events_lost_ns;
                let reason = match lost_ns {
                    Some(_) => "the kernel lost process events, so it may have been missed",
                    None => "the process was there before the sidecar",
                };
                Judgement::from(attached_ns.max(lost_ns.unwrap_or(0)), reason)
            }
        }
    }

    /// How many probes of a library a process has in its memory; `None` if that cannot be told.
    fn probes_in(&self, pid: u32, file: MappedFile, index: usize) -> Option<usize> {
        let functions = self.libraries[index].functions();
        let is_there = |site: &&Site| matches!(site, Site::Probed | Site::Unknown);
        let mut probed = 0;
        for _ in 0..TRIES {
            let sites = sites(pid, file, functions)?;
            probed = sites.iter().filter(is_there).count();
            if probed == functions.len() {
                break;
            }
            std::thread::sleep(BETWEEN_TRIES);
        }
        Some(probed)
    }

    fn say(
        &mut self,
        pid: u32,
        file: MappedFile,
        path: &Path,
        judgement: Judgement,
        in_a_line: bool,
    ) {
        let Judgement { kind, at_ns, unprobed, reason } = judgement;
        let Some(now) = self.coverage.say(pid, file, kind) else { return };
        let at_ns = if now == CoverageKind::From && kind == CoverageKind::Exact {
            clock::monotonic_ns()
        } else {
            at_ns
        };
        let reason = match (now, reason) {
            (CoverageKind::From, None) => Some("its calls before were not seen".to_owned()),
            (_, reason) => reason,
        };
        let is_worth_a_line = now != CoverageKind::Exact || in_a_line;
        let line = (is_worth_a_line && self.coverage.lines < MAX_LINES).then(|| Line {
            coverage: now,
            path: path.display().to_string(),
            device: file.device,
            inode: file.inode,
            unprobed: u32::try_from(unprobed).unwrap_or(u32::MAX),
            reason,
        });
        self.coverage.lines += u32::from(line.is_some());
        let counts = self.coverage.counts();
        self.state.covered(pid, line.as_ref(), counts);
        self.tell(Notice::Coverage { at_ns, line: line.map(|line| (pid, line)), counts });
    }
}

impl Judgement {
    fn exact(at_ns: u64) -> Self {
        Self { kind: CoverageKind::Exact, at_ns, unprobed: 0, reason: None }
    }

    fn from(at_ns: u64, reason: &str) -> Self {
        Self { kind: CoverageKind::From, at_ns, unprobed: 0, reason: Some(reason.to_owned()) }
    }

    fn unseen(reason: String) -> Self {
        let at_ns = clock::monotonic_ns();
        Self { kind: CoverageKind::Unseen, at_ns, unprobed: 0, reason: Some(reason) }
    }
}

#[cfg(test)]
mod tests {
    use CoverageKind::{Exact, From, Unseen};

    use super::*;

    const FILE: MappedFile = MappedFile { device: 1, inode: 2 };

    #[test]
    fn what_is_missing_stays_missing() {
        let mut coverage = Coverage::default();
        assert_eq!(coverage.say(1, FILE, Unseen), Some(Unseen));
        assert_eq!(coverage.say(1, FILE, Unseen), None);
        assert_eq!(coverage.say(1, FILE, Exact), Some(From), "attached to after all");
        assert_eq!(coverage.say(1, FILE, Exact), None);
        assert_eq!(coverage.say(2, FILE, Exact), Some(Exact));
        assert_eq!(coverage.say(2, FILE, Unseen), Some(Unseen), "its probes were removed");
        let CoverageCounts { exact, from, unseen, .. } = coverage.counts();
        assert_eq!((exact, from, unseen), (0, 1, 1));
    }

    #[test]
    fn a_number_that_is_used_again_counts_again() {
        let mut coverage = Coverage::default();
        coverage.say(1, FILE, Unseen);
        coverage.began(1);
        assert_eq!(coverage.say(1, FILE, Exact), Some(Exact));
        assert_eq!((coverage.counts().exact, coverage.counts().unseen), (1, 1));
    }
}
