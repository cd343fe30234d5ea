//! Calls that took long, so that a slow token can name the one behind it.

use crate::context::{function::FunctionId, process::ProcessId};

/// A step takes some milliseconds.
const MIN_LONG_NS: i64 = 500_000;

/// When there are as many, the longer half stays.
const MAX_CALLS: usize = 65_536;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct LongCall {
    pub process: ProcessId,
    pub function: FunctionId,
    pub from: i64,
    pub to: i64,
}

#[derive(Debug)]
pub(super) struct LongCalls {
    least_ns: i64,
    calls: Vec<LongCall>,
}

impl Default for LongCalls {
    fn default() -> Self {
        Self { least_ns: MIN_LONG_NS, calls: Vec::new() }
    }
}

impl LongCall {
    fn ns(&self) -> i64 {
        self.to.saturating_sub(self.from)
    }

    /// How much of it lies between two times.
    fn within(&self, from: i64, to: i64) -> i64 {
        self.to.min(to).saturating_sub(self.from.max(from)).max(0)
    }
}

impl LongCalls {
    pub(super) fn add(&mut self, call: LongCall) {
        if call.ns() < self.least_ns {
            return;
        }
        self.calls.push(call);
        if self.calls.len() >= MAX_CALLS {
            self.calls.sort_unstable_by_key(|call| std::cmp::Reverse(call.ns()));
            self.calls.truncate(MAX_CALLS / 2);
            self.least_ns = self.calls.last().map_or(self.least_ns, LongCall::ns);
        }
    }

    /// The call that filled most of this time, and how much of it.
    pub(super) fn longest(
        &self,
        process: ProcessId,
        from: i64,
        to: i64,
    ) -> Option<(LongCall, i64)> {
        let of_process = self.calls.iter().filter(|call| call.process == process);
        let within = of_process.map(|call| (*call, call.within(from, to)));
        within.filter(|&(_, ns)| ns >= MIN_LONG_NS).max_by_key(|&(_, ns)| ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_stay() {
        let mut calls = LongCalls::default();
        let call = |number: i64, ns: i64| LongCall {
            process: ProcessId(1),
            function: FunctionId(2),
            from: number * 10_000_000_000,
            to: number * 10_000_000_000 + ns,
        };
        for number in 0..200_000 {
            calls.add(call(number, 400_000 + (number % 100) * 1_000_000));
        }
        calls.add(call(300_000, 5_000_000_000));
        assert!(calls.calls.len() < MAX_CALLS && calls.calls.len() >= MAX_CALLS / 2);
        assert!(calls.least_ns > 40_000_000);
        let at = 300_000 * 10_000_000_000;
        let found = calls.longest(ProcessId(1), at + 1_000_000_000, at + 3_000_000_000);
        assert_eq!(found.map(|(_, ns)| ns), Some(2_000_000_000));
        assert_eq!(calls.longest(ProcessId(7), at, at + 3_000_000_000), None);
        // Too short to explain anything.
        assert_eq!(calls.longest(ProcessId(1), at - 10, at + 10), None);
    }
}
