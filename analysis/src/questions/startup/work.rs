//! What a process has done up to a moment, added up.

use std::collections::HashMap;

use trace::call_view::CallView;

use super::stages::Mark;
use crate::context::function::Hasher;

/// A time without a call that is worth telling: shorter ones lie between any two calls.
const PAUSE_NS: i64 = 10_000_000;

const MAX_THREADS: usize = 65_536;

/// Sums since the first call of the process.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Work {
    /// Outermost ones.
    pub calls: u64,
    pub api_ns: u64,
    pub launches: u64,
    /// From the host to the device.
    pub copied_bytes: u64,
    /// Modules and libraries of device code.
    pub code_loads: u64,
    pub captures: u64,
    /// Without a call of any thread, in pauses of 10 ms and more.
    pub pauses_ns: u64,
    /// Of these, the ones behind which code was loaded before anything was launched.
    pub pauses_before_code_ns: u64,
    /// Live device memory, not a sum.
    pub live_bytes: u64,
}

impl Work {
    /// From `begin` to this.
    pub(super) fn since(self, begin: Self) -> Self {
        Self {
            calls: self.calls.saturating_sub(begin.calls),
            api_ns: self.api_ns.saturating_sub(begin.api_ns),
            launches: self.launches.saturating_sub(begin.launches),
            copied_bytes: self.copied_bytes.saturating_sub(begin.copied_bytes),
            code_loads: self.code_loads.saturating_sub(begin.code_loads),
            captures: self.captures.saturating_sub(begin.captures),
            pauses_ns: self.pauses_ns.saturating_sub(begin.pauses_ns),
            pauses_before_code_ns: self
                .pauses_before_code_ns
                .saturating_sub(begin.pauses_before_code_ns),
            live_bytes: self.live_bytes,
        }
    }
}

/// What a call is to the stages of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// It asks how much memory is free.
    AskForMemory,
    LoadCode,
    BeginCapture,
    EndCapture,
    Launch,
    Copy,
}

impl Sign {
    pub(super) fn of(canonical: &str) -> Option<Self> {
        let stem = canonical.trim_start_matches('_');
        let stem = stem.strip_prefix("cuda").or_else(|| stem.strip_prefix("cu"))?;
        Some(match stem {
            "MemGetInfo" => Self::AskForMemory,
            "StreamEndCapture" => Self::EndCapture,
            _ if stem.starts_with("ModuleLoad") || stem.starts_with("LibraryLoad") => {
                Self::LoadCode
            }
            _ if stem.starts_with("StreamBeginCapture") => Self::BeginCapture,
            "LaunchHostFunc" => return None,
            "GraphLaunch" => Self::Launch,
            _ if stem.starts_with("Launch") => Self::Launch,
            _ if stem.starts_with("Memcpy") => Self::Copy,
            _ => return None,
        })
    }
}

/// Adds up the calls of a process.
#[derive(Debug, Default)]
pub(super) struct Counter {
    pub work: Work,
    /// The latest return of any thread.
    latest_ns: Option<i64>,
    /// Pauses since the latest launch or loaded code.
    undecided_ns: u64,
    /// Bytes that the driver's part of a copy took to the device, by thread, until the runtime's returns.
    threads: HashMap<u32, u64, Hasher>,
}

impl Counter {
    /// A pause in front of the call: since when, and for how long.
    pub(super) fn call(&mut self, sign: Option<Sign>, line: &CallView<'_>) -> Option<(Mark, i64)> {
        let is_outermost = line.depth.unwrap_or(0) == 0;
        let latest_ns = self.latest_ns.unwrap_or(line.ts_ns);
        let pause_ns = line.ts_ns.saturating_sub(latest_ns);
        let pause = (pause_ns >= PAUSE_NS)
            .then_some((Mark { at_ns: latest_ns, work: self.work }, pause_ns));
        if pause.is_some() {
            let pause_ns = pause_ns.unsigned_abs();
            self.work.pauses_ns = self.work.pauses_ns.saturating_add(pause_ns);
            self.undecided_ns = self.undecided_ns.saturating_add(pause_ns);
        }
        self.latest_ns = Some(latest_ns.max(line.end_ns()));
        let tid = line.tid.unwrap_or(0);
        match sign {
            Some(Sign::LoadCode) if is_outermost => {
                let before = std::mem::take(&mut self.undecided_ns);
                self.work.pauses_before_code_ns =
                    self.work.pauses_before_code_ns.saturating_add(before);
                self.work.code_loads += 1;
            }
            Some(Sign::Launch) => {
                self.undecided_ns = 0;
                self.work.launches += u64::from(is_outermost);
            }
            // The runtime's call does not always say the direction, the driver's inside does.
            Some(Sign::Copy) if line.kind == Some("HtoD") => {
                let bytes = line.bytes.unwrap_or(0);
                let inside = self.threads.remove(&tid).unwrap_or(0);
                if is_outermost {
                    let bytes = bytes.max(inside);
                    self.work.copied_bytes = self.work.copied_bytes.saturating_add(bytes);
                } else if self.threads.len() < MAX_THREADS {
                    self.threads.insert(tid, bytes);
                }
            }
            Some(Sign::Copy) if is_outermost => {
                let inside = self.threads.remove(&tid).unwrap_or(0);
                self.work.copied_bytes = self.work.copied_bytes.saturating_add(inside);
            }
            Some(Sign::EndCapture) if is_outermost => self.work.captures += 1,
            _ => {}
        }
        if is_outermost {
            self.work.calls += 1;
            self.work.api_ns = self.work.api_ns.saturating_add(line.dur_ns.unwrap_or(0));
        }
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(ts_ns: i64, depth: u16) -> CallView<'static> {
        CallView { ts_ns, dur_ns: Some(10), depth: Some(depth), ..CallView::default() }
    }

    #[test]
    fn a_pause_in_front_of_code_is_told_from_one_in_front_of_a_launch() {
        let mut counter = Counter::default();
        assert!(counter.call(None, &line(0, 0)).is_none());
        let (since, length) = counter.call(None, &line(PAUSE_NS + 10, 0)).unwrap();
        assert_eq!((since.at_ns, length, since.work.calls), (10, PAUSE_NS, 1));
        counter.call(Some(Sign::LoadCode), &line(PAUSE_NS + 30, 0));
        counter.call(None, &line(3 * PAUSE_NS, 0));
        counter.call(Some(Sign::Launch), &line(3 * PAUSE_NS + 20, 0));
        counter.call(Some(Sign::LoadCode), &line(3 * PAUSE_NS + 40, 0));
        let Work { pauses_ns, pauses_before_code_ns, code_loads, launches, .. } = counter.work;
        assert_eq!(pauses_before_code_ns, PAUSE_NS.unsigned_abs());
        assert_eq!(pauses_ns, 3 * PAUSE_NS.unsigned_abs() - 40);
        assert_eq!((code_loads, launches), (2, 1));
    }

    #[test]
    fn a_copy_counts_once_whichever_layer_says_where_it_goes() {
        let mut counter = Counter::default();
        let copy = |ts_ns, depth, kind| CallView { kind, bytes: Some(8), ..line(ts_ns, depth) };
        counter.call(Some(Sign::Copy), &copy(0, 1, Some("HtoD")));
        counter.call(Some(Sign::Copy), &copy(0, 0, None));
        counter.call(Some(Sign::Copy), &copy(20, 1, Some("HtoD")));
        counter.call(Some(Sign::Copy), &copy(20, 0, Some("HtoD")));
        counter.call(Some(Sign::Copy), &copy(40, 0, Some("HtoD")));
        counter.call(Some(Sign::Copy), &copy(60, 0, Some("DtoH")));
        assert_eq!(counter.work.copied_bytes, 24);
    }

    #[test]
    fn functions_of_both_layers_mean_the_same() {
        for (name, sign) in [
            ("cuMemGetInfo", Some(Sign::AskForMemory)),
            ("cudaMemGetInfo", Some(Sign::AskForMemory)),
            ("cuLibraryLoadData", Some(Sign::LoadCode)),
            ("cuModuleLoadDataEx", Some(Sign::LoadCode)),
            ("cuLaunchKernelEx", Some(Sign::Launch)),
            ("cudaGraphLaunch", Some(Sign::Launch)),
            ("cuLaunchHostFunc", None),
            ("cuInit", None),
        ] {
            assert_eq!(Sign::of(name), sign, "{name}");
        }
    }
}
