//! Whose calls are covered: for each target and each CUDA library that it has mapped, whether its
//! probes were there from before its first call, from a moment on, or not at all.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    time::Duration,
};

use processes::{
    clock,
    process::{MappedFile, Mappings, exists},
};
use trace::line::{Coverage as Line, CoverageCounts, CoverageKind};

use super::{
    Discovery,
    attach::Examined,
    files::mappings_of,
    has_cuda_name,
    memory::{Look, Site, sites},
};

use crate::recording::recorder::DiscoveryEvent;

/// Lines of one run that say that calls are missing; more are only counted.
const MAX_LINES: u32 = 4096;

/// Files of one process that nobody could look into and that are remembered, so that each counts once.
const MAX_UNEXAMINED: usize = 4096;

/// A mapping is told of before the kernel has put the probes into it. Each wait is twice the last:
/// the process may have to wait for its turn in between.
const TRIES: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(2);

/// What has been said of targets and libraries.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    said: HashMap<u32, HashMap<MappedFile, Said>>,
    counts: CoverageCounts,
    /// Of what is said now, all together.
    unprobed: u64,
    /// Processes that were known to be no targets until then.
    target_since_ns: HashMap<u32, u64>,
    events_lost_ns: Option<u64>,
    /// Files that nobody could look into, by the process that has them mapped.
    unexamined: HashMap<u32, HashSet<MappedFile>>,
    lines: u32,
    ended: Vec<u32>,
}

/// What has been said of one target and one library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Said {
    kind: CoverageKind,
    /// Functions without a probe in this process.
    unprobed: u32,
}

/// What is known of one target and one library.
struct Judgement {
    kind: CoverageKind,
    at_ns: u64,
    unprobed: u32,
    reason: Option<String>,
}

/// What the memory of a process says of the probes of a library.
enum Probes {
    /// So many functions have none.
    Missing(usize),
    /// The process has ended, or unmapped the library.
    Gone,
    Unreadable,
}

impl Coverage {
    pub(super) fn counts(&self) -> CoverageCounts {
        self.counts
    }

    /// Functions of libraries with probes that have none in a process, over all processes.
    pub(super) fn unprobed(&self) -> u64 {
        self.unprobed
    }

    /// A process began, or became another program: nothing that was said holds for it.
    pub(super) fn began(&mut self, pid: u32) {
        let said = self.said.remove(&pid).unwrap_or_default();
        self.unprobed -= said.values().map(|said| u64::from(said.unprobed)).sum::<u64>();
        self.target_since_ns.remove(&pid);
        // They stay counted: nobody can look into them any more.
        self.unexamined.remove(&pid);
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

    /// Nobody could look into a file that a process has mapped.
    pub(super) fn not_examined(&mut self, pid: u32, file: MappedFile) {
        let files = self.unexamined.entry(pid).or_default();
        // Beyond that, one may count twice.
        if files.len() >= MAX_UNEXAMINED || files.insert(file) {
            self.counts.unexamined += 1;
        }
    }

    /// It was looked into after all.
    pub(super) fn examined(&mut self, pid: u32, file: MappedFile) {
        let is_known = self.unexamined.get_mut(&pid).is_some_and(|files| files.remove(&file));
        self.counts.unexamined -= u64::from(is_known);
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

    pub(super) fn said(&self, pid: u32, file: MappedFile) -> Option<Said> {
        self.said.get(&pid)?.get(&file).copied()
    }

    /// Returns what holds now, if it is new. Calls that are missing stay missing, so nothing becomes
    /// exact again.
    fn say(
        &mut self,
        pid: u32,
        file: MappedFile,
        kind: CoverageKind,
        unprobed: u32,
    ) -> Option<CoverageKind> {
        use CoverageKind::{Exact, From, Unseen};
        let before = self.said(pid, file);
        let kind = match (before.map(|said| said.kind), kind) {
            (Some(Unseen | From), Exact) => From,
            (_, kind) => kind,
        };
        let now = Said { kind, unprobed };
        if before == Some(now) {
            return None;
        }
        if let Some(before) = before {
            *self.count(before.kind) -= 1;
            self.unprobed -= u64::from(before.unprobed);
        }
        *self.count(kind) += 1;
        self.unprobed += u64::from(unprobed);
        self.said.entry(pid).or_default().insert(file, now);
        Some(kind)
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
            match examined {
                // The kernel's times tell most of it, and a look at its memory follows.
                Examined::Library(index) if self.time_slice.is_over() => {
                    let judgement = self.judge_by_time(pid, file, *index);
                    self.say(pid, file, path, judgement, true);
                    self.examine_later(pid, file, path.to_owned());
                }
                examined => self.cover(pid, file, path, examined),
            }
        }
    }

    /// A child has what its parent had mapped, and no more probes in it. It is told in a line only if
    /// calls are missing.
    pub(super) fn cover_inherited(&mut self, pid: u32, parent: u32) {
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
                    let judgement = self.judge_by_time(pid, file, index);
                    let judgement = match self.coverage.said(parent, file) {
                        Some(said) => judgement.inherit(said),
                        None => judgement,
                    };
                    (self.libraries[index].path.clone(), judgement)
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

    /// Asks targets whether they still have their probes: one after the other, when there is time.
    pub(super) fn begin_checks(&mut self) {
        if self.unchecked.is_empty() {
            self.unchecked = self.coverage.said.keys().copied().collect();
        }
    }

    pub(super) fn check_probes(&mut self, pid: u32) {
        let Some(mappings) = mappings_of(pid).ok().filter(|mappings| mappings.is_complete) else {
            return;
        };
        let mut seen = HashSet::new();
        let files: Vec<_> = mappings
            .executable()
            .filter(|mapping| seen.insert(mapping.file))
            .map(|mapping| (mapping.file, mapping.path.clone()))
            .collect();
        for (file, path) in files {
            // What is left is asked for at the next check.
            if let Some((_, examined @ Examined::Library(_))) = self.mapped.get(&file)
                && self.time_slice.has_time()
            {
                self.cover(pid, file, &path, &examined.clone());
            }
        }
        self.cover_moved_code(pid, &mappings);
    }

    /// Targets that have a file mapped, or had it before they ended.
    pub(super) fn targets_with(&self, file: MappedFile) -> Vec<u32> {
        let mut pids: HashSet<u32> = self.history.who_mapped(file).into_iter().collect();
        if let Some(told) = self.file_aliases.in_events(file) {
            let who = self.history.who_mapped(told).into_iter();
            pids.extend(who.filter(|&pid| self.as_listed(pid, told) == file));
        }
        let targets = self.processes().targets();
        pids.retain(|&pid| self.processes().is_target(pid));
        // Those that mapped it before there were events to tell of it.
        pids.extend(targets.into_iter().filter(|&pid| {
            self.mapped_ns(pid, file).is_none()
                && mappings_of(pid).is_ok_and(|mappings| {
                    mappings.of_file(file).any(|mapping| mapping.is_executable)
                })
        }));
        pids.into_iter().collect()
    }

    /// When a process first mapped a file, which events may call otherwise.
    pub(super) fn mapped_ns(&self, pid: u32, file: MappedFile) -> Option<u64> {
        let by_its_alias = || self.history.mapped_ns(pid, self.file_aliases.in_events(file)?);
        self.history.mapped_ns(pid, file).or_else(by_its_alias)
    }

    /// What the list of mappings of a process calls a file that an event told of.
    pub(super) fn as_listed(&self, pid: u32, told: MappedFile) -> MappedFile {
        match self.file_aliases.in_maps(told) {
            [] => told,
            &[listed] => listed,
            several => {
                let mappings = mappings_of(pid).unwrap_or_default();
                let is_mapped = |file: &MappedFile| mappings.of_file(*file).next().is_some();
                several.iter().copied().find(is_mapped).unwrap_or(told)
            }
        }
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
        let functions = self.libraries[index].functions().len();
        match self.probes_in(pid, file, index) {
            // Of a process that has ended the kernel's times are all there is.
            Probes::Gone | Probes::Missing(0) => by_time,
            Probes::Unreadable => by_time.but(
                "its memory cannot be read, so that nothing tells whether the probes are there",
            ),
            Probes::Missing(unprobed) if unprobed == functions => Judgement::unseen(
                "the kernel has put no probe into its memory: the code is mapped writable, or is \
                 not that of the file"
                    .to_owned(),
            ),
            Probes::Missing(unprobed) => Judgement {
                unprobed: u32::try_from(unprobed).unwrap_or(u32::MAX),
                ..by_time.but(&format!(
                    "{unprobed} of its {functions} functions have no probe in this process: their \
                     code was changed or moved"
                ))
            },
        }
    }

    /// By what happened first: the mapping, or the probes.
    fn judge_by_time(&self, pid: u32, file: MappedFile, index: usize) -> Judgement {
        let library = &self.libraries[index];
        if !library.is_held() {
            return Judgement::unseen("its file was overwritten in place".to_owned());
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

    /// Which probes of a library a process lacks in its memory.
    fn probes_in(&self, pid: u32, file: MappedFile, index: usize) -> Probes {
        let functions = self.libraries[index].functions();
        let is_first = self.coverage.said(pid, file).is_none();
        let mut wait = FIRST_WAIT;
        for last in (0..if is_first { TRIES } else { 1 }).rev() {
            let (sites, is_loaded) = match sites(pid, file, functions) {
                Look::Sites { sites, is_loaded } => (sites, is_loaded),
                Look::NotMapped => return Probes::Gone,
                Look::Unreadable => return Probes::Unreadable,
            };
            let is_missing = |site: &&Site| match site {
                Site::Plain | Site::Changed => true,
                // A loader maps one part after the other.
                Site::Unmapped => is_loaded || !is_first,
                Site::Probed | Site::Unknown => false,
            };
            let missing = sites.iter().filter(is_missing).count();
            if missing == 0 || last == 0 {
                return Probes::Missing(missing);
            }
            std::thread::sleep(wait);
            wait *= 2;
        }
        Probes::Gone
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
        let Some(now) = self.coverage.say(pid, file, kind, unprobed) else { return };
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
            unprobed,
            reason,
        });
        self.coverage.lines += u32::from(line.is_some());
        let counts = self.coverage.counts();
        self.state.covered(pid, line.as_ref(), counts);
        self.state.unprobed(self.coverage.unprobed());
        self.tell(DiscoveryEvent::Coverage { at_ns, line: line.map(|line| (pid, line)), counts });
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

    /// Not exact, for one more reason.
    fn but(self, reason: &str) -> Self {
        let reason = match self.reason {
            Some(before) => format!("{before}; {reason}"),
            None => reason.to_owned(),
        };
        Self { kind: CoverageKind::From, reason: Some(reason), ..self }
    }

    /// The same of a child of a process of which this was said: its memory is a copy.
    fn inherit(self, said: Said) -> Self {
        match said {
            Said { kind: CoverageKind::Unseen, .. } => {
                Self::unseen("the process that it was forked from has no probes".to_owned())
            }
            Said { unprobed: unprobed @ 1.., .. } => Self {
                unprobed,
                ..self.but(&format!(
                    "{unprobed} functions have no probe, as in the process that it was forked from"
                ))
            },
            Said { .. } => self,
        }
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
        assert_eq!(coverage.say(1, FILE, Unseen, 0), Some(Unseen));
        assert_eq!(coverage.say(1, FILE, Unseen, 0), None);
        assert_eq!(coverage.say(1, FILE, Exact, 0), Some(From), "attached to after all");
        assert_eq!(coverage.say(1, FILE, Exact, 0), None);
        assert_eq!(coverage.say(2, FILE, Exact, 0), Some(Exact));
        assert_eq!(coverage.say(2, FILE, Unseen, 0), Some(Unseen), "its probes were removed");
        let CoverageCounts { exact, from, unseen, .. } = coverage.counts();
        assert_eq!((exact, from, unseen), (0, 1, 1));
    }

    #[test]
    fn functions_that_lose_their_probes_are_said_and_summed() {
        let mut coverage = Coverage::default();
        coverage.say(1, FILE, Exact, 0);
        assert_eq!(coverage.say(1, FILE, From, 1), Some(From), "one was hooked");
        assert_eq!(coverage.say(1, FILE, From, 3), Some(From), "two more");
        assert_eq!(coverage.say(1, FILE, From, 3), None);
        coverage.say(2, FILE, From, 4);
        assert_eq!((coverage.unprobed(), coverage.counts().from), (7, 2));
        coverage.began(2);
        assert_eq!(coverage.say(1, FILE, Exact, 0), Some(From), "they are back");
        assert_eq!(coverage.unprobed(), 0);
    }

    #[test]
    fn a_judgement_with_a_doubt_is_not_exact_and_a_child_has_the_gaps_of_its_parent() {
        let told = |judgement: Judgement| (judgement.kind, judgement.unprobed, judgement.reason);
        let doubtful = Judgement::exact(5).but("why");
        assert_eq!(told(doubtful), (From, 0, Some("why".to_owned())));
        let twice = Judgement::from(5, "late").but("why");
        assert_eq!(told(twice), (From, 0, Some("late; why".to_owned())));
        let inherit = |kind, unprobed| {
            let (kind, unprobed, _) = told(Judgement::exact(5).inherit(Said { kind, unprobed }));
            (kind, unprobed)
        };
        assert_eq!(inherit(From, 0), (Exact, 0), "probes that came late are there now");
        assert_eq!(inherit(From, 2), (From, 2));
        assert_eq!(inherit(Unseen, 0), (Unseen, 0));
    }

    #[test]
    fn a_file_that_nobody_could_look_into_counts_once_and_no_more_once_somebody_could() {
        let mut coverage = Coverage::default();
        for pid in [1, 1, 2, 1] {
            coverage.not_examined(pid, FILE);
        }
        assert_eq!(coverage.counts().unexamined, 2);
        coverage.examined(1, FILE);
        coverage.examined(1, FILE);
        coverage.examined(3, FILE);
        assert_eq!(coverage.counts().unexamined, 1);
        coverage.began(2);
        coverage.examined(2, FILE);
        assert_eq!(coverage.counts().unexamined, 1, "that of another process of its number");
    }

    #[test]
    fn a_number_that_is_used_again_counts_again() {
        let mut coverage = Coverage::default();
        coverage.say(1, FILE, Unseen, 0);
        coverage.began(1);
        assert_eq!(coverage.say(1, FILE, Exact, 0), Some(Exact));
        assert_eq!((coverage.counts().exact, coverage.counts().unseen), (1, 1));
    }
}
