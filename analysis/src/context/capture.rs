//! Which streams are being captured: what is launched there goes into a graph and does not run.

use std::collections::HashMap;

use trace::call_view::CallView;

use super::function::Hasher;

/// Streams and events of open captures; a program has a few.
const MAX_MEMBERS: usize = 65_536;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Member {
    Stream(u64),
    /// Recorded on a stream of the capture: who waits for it joins.
    Event(u64),
}

/// By process and stream or event: the stream on which the capture began.
#[derive(Default)]
pub struct Captures(HashMap<(u32, Member), u64, Hasher>);

impl Captures {
    pub(crate) fn call(&mut self, line: &CallView<'_>, canonical: &str) {
        let stem = canonical.trim_start_matches("cuda").trim_start_matches("cu");
        let Some(stream) = line.stream else { return };
        // One that fails to end a capture ends it all the same.
        if line.ret.is_some_and(|ret| ret != 0) && !stem.starts_with("StreamEndCapture") {
            return;
        }
        let (pid, stream) = (line.pid, stream.0);
        let event = line.event.map(|event| event.0);
        match (stem, event) {
            ("StreamBeginCapture" | "StreamBeginCaptureToGraph" | "StreamBeginCaptureToCig", _) => {
                self.insert(pid, Member::Stream(stream), stream);
            }
            ("StreamEndCapture" | "StreamEndCaptureToCig", _) => {
                self.0.retain(|&(of, _), origin| of != pid || *origin != stream);
            }
            _ if self.0.is_empty() => {}
            ("EventRecord" | "EventRecordWithFlags", Some(event)) => {
                match self.origin(pid, stream) {
                    Some(origin) => self.insert(pid, Member::Event(event), origin),
                    None => drop(self.0.remove(&(pid, Member::Event(event)))),
                }
            }
            ("StreamWaitEvent", Some(event)) => {
                if let Some(&origin) = self.0.get(&(pid, Member::Event(event))) {
                    self.insert(pid, Member::Stream(stream), origin);
                }
            }
            _ => {}
        }
    }

    fn insert(&mut self, pid: u32, member: Member, origin: u64) {
        if self.0.len() < MAX_MEMBERS {
            self.0.insert((pid, member), origin);
        }
    }

    /// The stream on which the capture began that this stream is part of.
    pub fn origin(&self, pid: u32, stream: u64) -> Option<u64> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&(pid, Member::Stream(stream))).copied()
    }
}

#[cfg(test)]
mod tests {
    use trace::line::Address;

    use super::*;

    #[test]
    fn streams_join_by_events_and_leave_together() {
        let mut captures = Captures::default();
        let mut call = |canonical: &str, stream: u64, event: Option<u64>| {
            let line = CallView {
                pid: 7,
                ret: Some(0),
                stream: Some(Address(stream)),
                event: event.map(Address),
                ..CallView::default()
            };
            captures.call(&line, canonical);
            [captures.origin(7, 1), captures.origin(7, 2), captures.origin(8, 1)]
        };
        assert_eq!(call("cuEventRecord", 1, Some(9)), [None; 3]);
        assert_eq!(call("cuStreamBeginCapture", 1, None), [Some(1), None, None]);
        assert_eq!(call("cudaStreamWaitEvent", 2, Some(9)), [Some(1), None, None]);
        call("cuEventRecord", 1, Some(9));
        assert_eq!(call("cuStreamWaitEvent", 2, Some(9)), [Some(1), Some(1), None]);
        assert_eq!(call("cudaStreamEndCapture", 1, None), [None; 3]);
    }
}
