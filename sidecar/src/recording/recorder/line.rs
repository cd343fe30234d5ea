//! The line of one event: what it refers to was said before it.

use sidecar_common::CallEvent;
use trace::writer::{Returned, push_call, push_entry};
use tracing::error;

use crate::recording::{accounting::Accounting, event::Call};

/// Counts a line and appends it. Of `call` maybe only the entry is known.
pub(super) fn push_line(
    out: &mut Vec<u8>,
    accounting: &mut Accounting,
    since_start_ns: u64,
    event: &CallEvent,
    call: Option<&Call<'_>>,
    kernel: Option<u32>,
) {
    accounting.line(event.function);
    let Some((text, capture)) = accounting.function(event.function) else {
        error!(function = event.function, "skipped an event of a function without a name");
        return;
    };
    let (pid, tid) = (event.tgid, event.tid);
    let Some(call) = call else {
        return push_entry(out, since_start_ns, pid, tid, text);
    };
    let caller = call.caller.and_then(|number| accounting.function(number));
    let returned = Returned {
        since_start_ns,
        pid,
        tid,
        duration_ns: call.duration_ns,
        result: call.result,
        depth: event.depth,
        parent: caller.map(|(text, _)| text),
        kernel,
    };
    push_call(out, text, &returned, |place| call.word(place, capture));
}

#[cfg(test)]
mod tests;
