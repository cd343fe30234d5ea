//! What the tracer itself says, or that it says nothing: vLLM may serve while nothing is traced.

use super::{Finding, SHORT};
use tasks::advice::of_tracer_log;

use crate::cluster::tracer::{Failing, Status, Uploads};

/// What is wrong with tracing while the tracer runs; `asked` is its answer, or why there is none.
pub(crate) fn of_tracer(asked: &Result<Status, String>) -> Vec<Finding> {
    let status = match asked {
        Ok(status) => status,
        Err(error) => {
            return vec![Finding::new(
                format!("the tracer does not answer: {error}"),
                "it hangs or was stopped, or its node does not answer",
                "cargo xtask logs tracer; then cargo xtask deploy --restart",
                SHORT,
            )];
        }
    };
    let uploads = status.uploads.as_ref().and_then(of_uploads);
    let failed = (status.phase == "failed").then(|| {
        Finding::new(
            "the tracer has failed, and traces nothing any more",
            "a part of it ended by itself; its log says why",
            "cargo xtask logs tracer; then cargo xtask deploy --restart",
            SHORT,
        )
    });
    let lost = of_lost_calls(status, uploads.is_some());
    failed.into_iter().chain(uploads).chain(lost).collect()
}

fn of_lost_calls(status: &Status, uploads_fail: bool) -> Option<Finding> {
    let (dropped, segments) = (status.dropped(), &status.segments);
    let all = status.calls.recorded + dropped;
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    if segments.is_paused {
        let what = format!(
            "calls are dropped now, {dropped} of {all} so far: {} trace files ({:.1} MB) wait for upload, \
             of {:.1} MB that may",
            segments.waiting,
            megabytes(segments.waiting_bytes),
            megabytes(segments.limit_bytes)
        );
        let (cause, next) = if uploads_fail {
            (
                "uploads fail, and so the volume for traces has filled",
                "what helps the uploads, see above",
            )
        } else {
            (
                "the volume for traces is full, or trace files come faster than they are uploaded",
                "df -h on the node; deploy again with a larger TRACE_DIR_LIMIT and TRACES_SIZE, or with \
                 fewer functions in TRACE_FUNCTIONS",
            )
        };
        return Some(Finding::new(what, cause, next, SHORT));
    }
    if status.calls.dropped_at_disk > 0 {
        return Some(Finding::new(
            format!("{dropped} of {all} calls were dropped: the trace has gaps"),
            "the volume for traces was full for a while",
            "deploy again with a larger TRACE_DIR_LIMIT and TRACES_SIZE; a new run begins with it",
            None,
        ));
    }
    (dropped > 0).then(|| {
        Finding::new(
            format!("{dropped} of {all} calls were dropped: the trace has gaps"),
            "calls came faster than the tracer takes them from its ring buffer",
            "deploy again with a larger RING_BUFFER_SIZE and TRACER_CPU, or with fewer functions in \
             TRACE_FUNCTIONS",
            None,
        )
    })
}

/// Why traces do not get into S3, where the tracer says so.
pub(crate) fn of_uploads(uploads: &Uploads) -> Option<Finding> {
    let Failing { since, error } = uploads.failing.as_ref()?;
    let what = format!("uploads fail since {since}: {error}");
    Some(match of_tracer_log(error) {
        Some((advice, _)) => Finding::advised(what, advice, SHORT),
        None => Finding::new(
            what,
            "the store, or what lies before it, refuses for a reason that is in no table here",
            "cargo xtask logs tracer",
            SHORT,
        ),
    })
}
