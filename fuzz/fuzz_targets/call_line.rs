//! One line of a trace, by the scanner of the analysis and by serde: both must read the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use trace::{
    call_view::{CallView, LineView, Parser},
    line::{Call, Line},
    reader::parse_line,
};

fuzz_target!(|line: &[u8]| {
    // Where lines end is decided before.
    if line.contains(&b'\n') {
        return;
    }
    let mut parser = Parser::default();
    match (parser.parse(line), parse_line(line)) {
        (Ok(LineView::Call(view)), Ok(Line::Call(call))) => same(&view, &call),
        (Ok(LineView::Meta(view)), Ok(Line::Meta(meta))) => assert_eq!(*view, meta),
        (Err(_), Err(_)) => {}
        (view, line) => panic!("{view:?} {line:?}"),
    }
});

fn same(view: &CallView<'_>, call: &Call) {
    let detail = &*call.detail;
    assert_eq!(
        (view.pid, view.tid, view.api, view.func, view.phase),
        (call.pid, call.tid, &call.r#type[..], &call.func[..], &call.phase[..])
    );
    assert_eq!(
        (view.ret, view.error, view.result, view.depth, view.parent, view.function, view.kernel),
        (
            detail.ret,
            detail.error.as_deref(),
            detail.result,
            detail.depth,
            detail.parent.as_deref(),
            detail.function,
            detail.kernel
        )
    );
    assert_eq!(
        (view.grid, view.block, view.shared_bytes, view.bytes, view.count, view.kind),
        (
            detail.grid,
            detail.block,
            detail.shared_bytes,
            detail.bytes,
            detail.count,
            detail.kind.as_deref()
        )
    );
    assert_eq!(
        (view.ptr, view.dst, view.src, view.allocation, view.module),
        (detail.ptr, detail.dst, detail.src, detail.allocation, detail.module)
    );
    assert_eq!(
        (view.graph, view.graph_exec, view.event, view.stream),
        (detail.graph, detail.graph_exec, detail.event, detail.stream)
    );
    assert!(is_near(view.ts_ns as f64, call.ts * 1e6), "{} {}", view.ts_ns, call.ts);
    assert_eq!(view.dur_ns.is_some(), detail.dur_us.is_some());
    if let (Some(ns), Some(us)) = (view.dur_ns, detail.dur_us) {
        // What is below zero is no duration.
        assert!(is_near(ns as f64, us.max(0.0) * 1e3), "{ns} {us}");
    }
}

/// As far as a floating-point number tells, and to the whole nanosecond; beyond 292 years the
/// nanoseconds stay at their largest.
fn is_near(ns: f64, expected: f64) -> bool {
    let expected = expected.clamp(i64::MIN as f64, u64::MAX as f64);
    let is_beyond = expected > i64::MAX as f64 && ns >= i64::MAX as f64;
    is_beyond || (ns - expected).abs() <= 1.0 + expected.abs() * 1e-15
}
