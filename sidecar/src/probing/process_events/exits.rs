//! When a process ends: with its last thread, which need not be the first one.
//!
//! `main` may call `pthread_exit`; the process then lives on under the id of a thread that is gone.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt as _,
    time::{Duration, Instant},
};

use super::{ProcessEvent, Told};

/// How often processes without their first thread are looked at, beside when a thread of theirs
/// ends: of many that end together, as when the whole process does, not each is worth a look.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// `PF_EXITING`: the thread runs no code of the program any more.
const EXITING: u64 = 4;

/// Processes whose first thread has ended, and when the last of their threads did that has.
#[derive(Default)]
pub(super) struct Leaderless {
    ended_ns: HashMap<u32, u64>,
    looked: Option<Instant>,
}

impl Leaderless {
    /// Passes on what happened, and tells of the end of a process when that has come.
    pub(super) fn follow(&mut self, told: Told, events: &mut Vec<ProcessEvent>) {
        match told {
            Told::ThreadEnded { pid, is_first, at_ns } => {
                if !is_first && !self.ended_ns.contains_key(&pid) {
                    return;
                }
                if threads(pid) <= 2 && has_ended(pid) {
                    self.ended_ns.remove(&pid);
                    events.push(ProcessEvent::Exited { pid, at_ns });
                } else {
                    self.ended_ns.insert(pid, at_ns);
                }
            }
            Told::Event(event) => {
                match event {
                    // Its pid is that of another process now.
                    ProcessEvent::Forked { pid, .. } => {
                        if let Some(at_ns) = self.ended_ns.remove(&pid) {
                            events.push(ProcessEvent::Exited { pid, at_ns });
                        }
                    }
                    // Another thread executed a program, and is the first one since.
                    ProcessEvent::Executed { pid, is_replaced: true, .. } => {
                        self.ended_ns.remove(&pid);
                    }
                    _ => {}
                }
                events.push(event);
            }
        }
    }

    pub(super) fn look_if_due(&mut self, events: &mut Vec<ProcessEvent>) {
        if self.ended_ns.is_empty()
            || self.looked.is_some_and(|looked| looked.elapsed() < LOOK_INTERVAL)
        {
            return;
        }
        self.looked = Some(Instant::now());
        let ended: Vec<u32> = self.ended_ns.keys().copied().filter(|&pid| has_ended(pid)).collect();
        for pid in ended {
            if let Some(at_ns) = self.ended_ns.remove(&pid) {
                events.push(ProcessEvent::Exited { pid, at_ns });
            }
        }
    }
}

/// Whether no thread is left that could run, beside the first one.
fn has_ended(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    let mut others = threads
        .filter_map(|thread| thread.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|&tid| tid != pid);
    !others.any(|tid| {
        fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat"))
            .is_ok_and(|stat| flags(&stat).is_some_and(|flags| flags & EXITING == 0))
    })
}

/// How many threads a process has; those that have ended are counted until nobody waits for them.
fn threads(pid: u32) -> usize {
    fs::metadata(format!("/proc/{pid}/task")).map_or(0, |task| {
        // Each is a directory, beside `.` and the parent.
        usize::try_from(task.nlink()).unwrap_or(usize::MAX).saturating_sub(2)
    })
}

/// The ninth field of `stat`, behind a name that may itself hold spaces and parentheses.
fn flags(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(6)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// Above any real pid while the test runs.
    const GONE: u32 = 4_000_001;

    fn told(leaderless: &mut Leaderless, told: Told) -> Vec<ProcessEvent> {
        let mut events = Vec::new();
        leaderless.follow(told, &mut events);
        events
    }

    fn thread_ended(pid: u32, is_first: bool, at_ns: u64) -> Told {
        Told::ThreadEnded { pid, is_first, at_ns }
    }

    #[test]
    fn a_process_without_its_first_thread_lives_as_long_as_another_thread_does() {
        // This very process: its tests have threads of their own.
        let own = std::process::id();
        assert!(threads(own) > 1 && !has_ended(own));
        let mut leaderless = Leaderless::default();
        assert_eq!(told(&mut leaderless, thread_ended(own, false, 1)), []);
        assert!(leaderless.ended_ns.is_empty(), "nothing is kept of threads that come and go");
        assert_eq!(told(&mut leaderless, thread_ended(own, true, 2)), []);
        assert_eq!(told(&mut leaderless, thread_ended(own, false, 3)), []);
        let mut events = Vec::new();
        leaderless.look_if_due(&mut events);
        assert_eq!(events, []);
        assert_eq!(leaderless.ended_ns, HashMap::from([(own, 3)]));
    }

    #[test]
    fn the_end_is_told_when_the_last_thread_has_ended_and_with_its_time() {
        let mut leaderless = Leaderless::default();
        leaderless.ended_ns.insert(GONE, 3);
        assert_eq!(
            told(&mut leaderless, thread_ended(GONE, false, 4)),
            [ProcessEvent::Exited { pid: GONE, at_ns: 4 }]
        );
        leaderless.ended_ns.insert(GONE, 5);
        let mut events = Vec::new();
        leaderless.look_if_due(&mut events);
        assert_eq!(events, [ProcessEvent::Exited { pid: GONE, at_ns: 5 }]);
        assert!(leaderless.ended_ns.is_empty());
    }

    #[test]
    fn the_end_of_the_only_thread_is_that_of_the_process() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = child.id();
        let mut leaderless = Leaderless::default();
        // The kernel tells of it before the process is a zombie.
        assert_eq!(
            told(&mut leaderless, thread_ended(pid, true, 2)),
            [ProcessEvent::Exited { pid, at_ns: 2 }]
        );
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn a_pid_that_is_used_again_ends_what_had_it_before() {
        let own = std::process::id();
        let mut leaderless = Leaderless::default();
        assert_eq!(told(&mut leaderless, thread_ended(own, true, 2)), []);
        let forked = ProcessEvent::Forked { pid: own, parent: 1, at_ns: 9 };
        assert_eq!(
            told(&mut leaderless, Told::Event(forked.clone())),
            [ProcessEvent::Exited { pid: own, at_ns: 2 }, forked]
        );
    }

    #[test]
    fn a_process_goes_on_when_another_thread_executes_a_program() {
        let own = std::process::id();
        let mut leaderless = Leaderless::default();
        assert_eq!(told(&mut leaderless, thread_ended(own, true, 10)), []);
        let comm = "cat".to_owned();
        let executed = ProcessEvent::Executed { pid: own, comm, is_replaced: true, at_ns: 11 };
        assert_eq!(told(&mut leaderless, Told::Event(executed.clone())), [executed]);
        assert!(leaderless.ended_ns.is_empty());
    }

    #[test]
    fn flags_are_found_behind_any_name() {
        assert_eq!(flags("7 (a) b (c)) S 1 7 7 0 -1 4194308 0"), Some(4_194_308));
        assert_eq!(flags("7 (a"), None);
    }
}
