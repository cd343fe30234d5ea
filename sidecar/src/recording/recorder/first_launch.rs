//! The first launch of each process: it tells the role of one that has no title.
//!
//! This runs for every event: no allocation and no hashing, for most events one look into a table.

use cuda::function::{Api, DRIVER_LAUNCHES, canonical};
use sidecar_common::CallEvent;

use crate::recording::event::Call;

/// Processes that are remembered: a node runs a few dozen that compute. Of others no first launch is
/// told, so that nobody makes every launch look through a long list.
const MAX_PROCESSES: usize = 1024;

#[derive(Default)]
pub(super) struct FirstLaunch {
    /// By number of the function.
    is_launch: Vec<bool>,
    /// Few processes launch, and events of one come in a row.
    launched: Vec<Launched>,
    latest: usize,
}

struct Launched {
    pid: u32,
    at_ns: u64,
}

impl FirstLaunch {
    /// Numbers come in order, each once. The driver's calls alone are followed: the runtime makes
    /// them for its own.
    pub(super) fn add_function(&mut self, name: &str) {
        let name = (Api::of(name) == Some(Api::Driver)).then(|| canonical(name));
        self.is_launch
            .push(name.is_some_and(|it| it == "cuGraphLaunch" || DRIVER_LAUNCHES.contains(&it)));
    }

    /// Whether this is the first launch of its process. Of a call without an end only the entry is
    /// known.
    pub(super) fn is_first(&mut self, event: &CallEvent, call: Option<&Call<'_>>) -> bool {
        if !self.is_launch.get(event.function as usize).is_some_and(|it| *it) {
            return false;
        }
        #[expect(clippy::cast_possible_truncation, reason = "a code has 32 bits")]
        let has_failed = call.is_some_and(|call| call.result as u32 != 0);
        let pid = event.tgid;
        if has_failed || self.launched.get(self.latest).is_some_and(|it| it.pid == pid) {
            return false;
        }
        if let Some(index) = self.launched.iter().position(|it| it.pid == pid) {
            self.latest = index;
            return false;
        }
        if self.launched.len() >= MAX_PROCESSES {
            return false;
        }
        self.latest = self.launched.len();
        self.launched.push(Launched { pid, at_ns: event.start_ns });
        true
    }

    /// The process ended, or ran another program from then on, and that one may be here already.
    pub(super) fn forget(&mut self, pid: u32, at_ns: u64) {
        self.launched.retain(|it| it.pid != pid || it.at_ns >= at_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(function: u32, tgid: u32, start_ns: u64) -> CallEvent {
        CallEvent { start_ns, tgid, tid: tgid, function, kind: 1, depth: 0 }
    }

    #[test]
    fn the_first_launch_of_each_process_is_told_once() {
        let mut launches = FirstLaunch::default();
        for name in ["cuInit", "cudaLaunchKernel", "cuLaunchKernel", "cuGraphLaunch"] {
            launches.add_function(name);
        }
        let mut first = |function, pid| launches.is_first(&entry(function, pid, 10), None);
        assert!(!first(0, 7) && !first(1, 7), "these are no launches of the driver");
        assert!(first(2, 7) && !first(2, 7) && !first(3, 7));
        assert!(first(3, 8) && !first(2, 7) && !first(2, 8));
        assert!(!first(9, 9), "a number that nobody has told");
        launches.forget(7, 5);
        assert!(!launches.is_first(&entry(2, 7, 11), None), "it launched after that");
        launches.forget(7, 20);
        assert!(launches.is_first(&entry(2, 7, 21), None));
    }

    #[test]
    fn the_list_is_bounded() {
        let mut launches = FirstLaunch::default();
        launches.add_function("cuLaunchKernel");
        let told = (1..3000).filter(|pid| launches.is_first(&entry(0, *pid, 0), None)).count();
        assert_eq!((told, launches.launched.len()), (MAX_PROCESSES, MAX_PROCESSES));
    }
}
