//! Calls written down by hand, as an engine with graphs, an eager one, and one that polls make them.

use trace::line::Address;

use super::{
    super::{
        kind::{Kind, kinds},
        operation::Operation as Op,
    },
    *,
};

const MAIN: u64 = 0;
const COPIES: u64 = 0xc0;
const NORM: u32 = 1;
const ATTENTION: u32 = 2;
const FILL: u32 = 3;
const WAIT_THREAD: u32 = 9;

/// Calls of a thread, one after the other, each of 2 us with 8 us behind it.
struct Script {
    ledger: Ledger,
    now: i64,
    tid: u32,
    event: u64,
}

impl Script {
    fn new() -> Self {
        Self { ledger: Ledger::default(), now: 1_000_000_000, tid: 1, event: 0xe00 }
    }

    fn line(&self) -> CallView<'static> {
        CallView {
            ts_ns: self.now,
            dur_ns: Some(2000),
            tid: Some(self.tid),
            depth: Some(0),
            ret: Some(0),
            phase: "call",
            ..CallView::default()
        }
    }

    fn call(&mut self, operation: Op, line: &CallView<'_>) {
        self.ledger.call(operation, line, false);
        self.now = self.now.max(line.end_ns()) + 8000;
    }

    fn launch(&mut self, kernel: u32, width: u32) {
        let line = CallView {
            kernel: Some(kernel),
            grid: Some([width, 1, 1]),
            stream: Some(Address(MAIN)),
            ..self.line()
        };
        self.call(Op::Launch, &line);
    }

    fn layers(&mut self, tokens: u32) {
        for _ in 0..4 {
            self.launch(NORM, tokens);
            self.launch(ATTENTION, 132);
        }
    }

    fn input(&mut self, bytes: u64) {
        let line = CallView {
            kind: Some("HtoD"),
            bytes: Some(bytes),
            stream: Some(Address(MAIN)),
            ..self.line()
        };
        self.call(Op::Copy, &line);
    }

    fn capture(&mut self, tokens: u32, graph: u64) {
        let on_main = CallView { stream: Some(Address(MAIN)), ..self.line() };
        self.call(Op::BeginCapture, &CallView { ts_ns: self.now, ..on_main });
        self.layers(tokens);
        let line =
            CallView { graph: Some(Address(graph)), stream: Some(Address(MAIN)), ..self.line() };
        self.call(Op::EndCapture, &line);
        let graph_exec = Some(Address(graph + 0x1000));
        self.call(
            Op::Instantiate,
            &CallView { graph: Some(Address(graph)), graph_exec, ..self.line() },
        );
        self.call(Op::GraphDestroy, &CallView { graph: Some(Address(graph)), ..self.line() });
    }

    fn replay(&mut self, graph: u64) {
        let line = CallView {
            graph_exec: Some(Address(graph + 0x1000)),
            stream: Some(Address(MAIN)),
            ..self.line()
        };
        self.call(Op::GraphLaunch, &line);
    }

    /// The copy of the output and the record behind it; the event is returned.
    fn output(&mut self, requests: u64) -> u64 {
        let line = CallView {
            kind: Some("DtoH"),
            bytes: Some(requests * 4),
            src: Some(Address(0x5000)),
            stream: Some(Address(COPIES)),
            ..self.line()
        };
        self.call(Op::Copy, &line);
        self.event += 1;
        let event = self.event;
        let line =
            CallView { event: Some(Address(event)), stream: Some(Address(COPIES)), ..self.line() };
        self.call(Op::EventRecord, &line);
        event
    }

    /// Another thread waits for this long, from now on.
    fn wait(&mut self, event: u64, dur_ns: u64) {
        let line = CallView {
            tid: Some(WAIT_THREAD),
            event: Some(Address(event)),
            dur_ns: Some(dur_ns),
            ..self.line()
        };
        self.call(Op::EventSynchronize, &line);
    }

    fn query(&mut self, event: u64, ret: u32) {
        let line = CallView { event: Some(Address(event)), ret: Some(ret), ..self.line() };
        self.call(Op::EventQuery, &line);
    }

    fn rows(mut self) -> Vec<Row> {
        self.ledger.finish();
        self.ledger.rows
    }
}

#[test]
fn an_engine_with_graphs() {
    let mut script = Script::new();
    for (graph, tokens) in [(1, 64), (2, 32), (3, 16), (4, 8)] {
        script.capture(tokens, graph);
        // Pieces, for batches with prompts.
        script.capture(tokens, 10 * graph);
        script.capture(tokens, 10 * graph + 1);
    }
    script.now += 20_000_000_000;
    script.input(8192);
    script.replay(20);
    script.launch(ATTENTION, 7);
    script.replay(21);
    let event = script.output(1);
    script.wait(event, 5_000_000);
    script.input(8192);
    script.replay(4);
    let event = script.output(1);
    script.wait(event, 4_000_000);
    script.input(8192);
    script.replay(20);
    script.replay(21);
    let event = script.output(16);
    script.wait(event, 4_000_000);
    script.input(8192);
    script.replay(3);
    let event = script.output(12);
    script.wait(event, 10_000);
    let rows = script.rows();
    let seen: Vec<_> =
        rows.iter().map(|row| (row.mode, row.graph_tokens, row.requests, row.launches)).collect();
    assert_eq!(
        seen,
        [
            (GraphMode::Piecewise, Some(32), 1, 1),
            (GraphMode::Full, Some(8), 1, 0),
            (GraphMode::Piecewise, Some(32), 16, 0),
            (GraphMode::Full, Some(16), 12, 0),
        ]
    );
    assert_eq!(
        kinds(&rows),
        [Some(Kind::Prefill), Some(Kind::Decode), Some(Kind::Mixed), Some(Kind::Decode)]
    );
    assert!(rows[..3].iter().all(|row| row.estimate.is_some() && row.wait_ns >= 4_000_000));
    assert_eq!((rows[3].estimate, rows[3].handed), (None, rows[3].high));
    assert!(rows.windows(2).all(|pair| pair[0].high.unwrap() <= pair[1].start));
    assert!(rows.iter().all(|row| row.low >= row.start && row.high.unwrap() >= row.low));
}

#[test]
fn an_eager_engine() {
    let mut script = Script::new();
    script.layers(2048);
    script.now += 3_000_000_000;
    for (requests, tokens) in [(1, 18), (1, 1), (16, 241), (16, 16), (15, 15)] {
        script.input(8192);
        script.layers(tokens);
        let event = script.output(requests);
        script.wait(event, 10_000);
    }
    let rows = script.rows();
    assert!(rows.iter().all(|row| row.mode == GraphMode::None && row.launches == 8));
    let tokens: Vec<_> = rows.iter().map(|row| row.tokens).collect();
    assert_eq!(tokens, [Some(18), Some(1), Some(241), Some(16), Some(15)]);
    let decode = Some(Kind::Decode);
    assert_eq!(kinds(&rows), [Some(Kind::Prefill), decode, Some(Kind::Mixed), decode, decode]);
    assert!(rows.iter().all(|row| row.estimate.is_none() && row.high.is_some()));
    let fingerprints: Vec<_> = rows.iter().map(|row| row.fingerprint).collect();
    assert_ne!(fingerprints[2], fingerprints[3]);
}

/// An eager engine that fills buffers: before the first step in more sizes than it computed tokens in.
fn filling(fills: &[u32], steps: &[(u64, u32)]) -> Vec<Row> {
    let mut script = Script::new();
    for &width in fills {
        script.launch(FILL, width);
    }
    script.layers(8192);
    script.layers(1024);
    script.now += 3_000_000_000;
    for &(requests, tokens) in steps {
        script.input(u64::from(tokens) * 8);
        script.input(u64::from(tokens) * 8);
        for _ in 0..3 {
            script.launch(FILL, 1);
        }
        script.layers(tokens);
        let event = script.output(requests);
        script.wait(event, 10_000);
    }
    script.rows()
}

#[test]
fn a_kernel_of_more_sizes_than_the_trials_had_does_not_hide_the_tokens() {
    let rows = filling(&[1, 128, 8, 2], &[(2, 491), (16, 3093), (16, 16), (16, 16)]);
    let told: Vec<_> = rows.iter().map(|row| (row.requests, row.tokens)).collect();
    assert_eq!(told, [(2, Some(491)), (16, Some(3093)), (16, Some(16)), (16, Some(16))]);
}

#[test]
fn one_step_that_misleads_does_not_decide_the_size_of_an_item() {
    let rows = filling(&[1, 128, 8, 2, 4], &[(2, 491), (16, 3093), (16, 16), (15, 15)]);
    let told: Vec<_> = rows.iter().map(|row| (row.requests, row.tokens)).collect();
    assert_eq!(told[1..], [(16, Some(3093)), (16, Some(16)), (15, Some(15))]);
    assert!([0, 2].contains(&told[0].0), "not known, or right: {:?}", told[0]);
}

#[test]
fn outputs_of_64_bits_are_told_by_more_requests_than_tokens() {
    let mut script = Script::new();
    script.layers(2048);
    script.now += 3_000_000_000;
    for (requests, tokens) in [(16, 16), (1, 18), (4, 4)] {
        script.input(8192);
        script.layers(tokens);
        let event = script.output(2 * requests);
        script.wait(event, 10_000);
    }
    let requests: Vec<_> = script.rows().iter().map(|row| row.requests).collect();
    assert_eq!(requests, [16, 1, 4]);
}

#[test]
fn a_thread_that_polls_before_it_waits() {
    let mut script = Script::new();
    script.input(64);
    script.layers(16);
    let event = script.output(16);
    let recorded = script.now;
    for _ in 0..20 {
        script.query(event, NOT_READY);
    }
    let last = script.now - 10_000;
    script.query(event, 0);
    let row = &script.rows()[0];
    assert!(row.low > recorded && row.low < last);
    assert_eq!(row.estimate, Some(i64::midpoint(last, row.high.unwrap())));
    assert_eq!(row.handed, row.high);
}

/// The order of calls of vLLM's second model runner: one thread does all, polls included.
#[test]
fn one_thread_that_queues_the_next_step_before_it_waits() {
    let mut script = Script::new();
    // Trials, for which nobody waits.
    script.layers(16);
    script.output(16);
    script.now += 4_000_000_000;
    let mut before: Option<u64> = None;
    for step in 0..6 {
        script.input(64);
        script.layers(16);
        let on_copies = CallView { stream: Some(Address(COPIES)), ..script.line() };
        let line = CallView { event: Some(Address(5)), stream: Some(Address(MAIN)), ..on_copies };
        script.call(Op::EventRecord, &line);
        let line = CallView { event: Some(Address(5)), ts_ns: script.now, ..on_copies };
        script.call(Op::StreamWaitEvent, &line);
        if step > 1 {
            // Of memory that was given back behind the output before: not there yet.
            script.query(6, NOT_READY);
        }
        let line =
            CallView { kind: Some("DtoH"), bytes: Some(128), ts_ns: script.now, ..on_copies };
        script.call(Op::Copy, &line);
        let event = script.output(16);
        script.launch(77, 1);
        script.launch(78, 1);
        if let Some(event) = before.replace(event) {
            let tid = script.tid;
            let line = CallView {
                tid: Some(tid),
                event: Some(Address(event)),
                dur_ns: Some(4_000_000),
                ..script.line()
            };
            script.call(Op::EventSynchronize, &line);
            let line = CallView {
                event: Some(Address(6)),
                stream: Some(Address(COPIES)),
                ..script.line()
            };
            script.call(Op::EventRecord, &line);
        }
        script.now += 500_000;
    }
    let rows = script.rows();
    assert_eq!(rows.len(), 7);
    assert_eq!(rows[0].handed, None, "a trial");
    let steps = &rows[1..];
    // What follows the last output may be of another step.
    assert!(steps[..5].iter().all(|row| (row.requests, row.launches) == (16, 10)));
    assert!(steps[..5].windows(2).all(|pair| pair[0].fingerprint == pair[1].fingerprint));
    // The step before was waited for when this one was queued.
    assert!(steps[..5].iter().all(|row| row.wait_ns == 4_000_000 && row.high.is_some()));
    // A query in the next step found the output of this one missing.
    for pair in steps[1..5].windows(2) {
        assert!(pair[0].low > pair[1].start, "{pair:?}");
    }
    assert!(kinds(steps)[1..].iter().all(|kind| *kind == Some(Kind::Decode)));
}

#[test]
fn what_follows_an_output_at_once_belongs_to_its_step() {
    let mut script = Script::new();
    for _ in 0..3 {
        script.input(64);
        script.layers(16);
        let event = script.output(16);
        script.launch(77, 1);
        script.launch(78, 1);
        script.wait(event, 1_000_000);
    }
    let rows = script.rows();
    assert_eq!(rows[0].launches, 10);
    assert_eq!(rows[1].launches, 10);
    assert_eq!(rows[0].fingerprint, rows[1].fingerprint);
    assert!(rows[1].start > rows[0].handed.unwrap());
}

#[test]
fn a_copy_that_was_waited_for_at_once_is_no_output() {
    let mut script = Script::new();
    script.layers(16);
    let line = CallView {
        kind: Some("DtoH"),
        bytes: Some(4),
        stream: Some(Address(MAIN)),
        ..script.line()
    };
    script.call(Op::Copy, &line);
    let line = CallView { stream: Some(Address(MAIN)), ..script.line() };
    script.call(Op::StreamSynchronize, &line);
    let line = CallView { event: Some(Address(1)), stream: Some(Address(MAIN)), ..script.line() };
    script.call(Op::EventRecord, &line);
    script.wait(1, 10);
    assert!(script.rows().is_empty());
}

#[test]
fn the_record_of_another_thread_is_not_that_of_the_output() {
    let mut script = Script::new();
    script.layers(16);
    let line = CallView {
        kind: Some("DtoH"),
        bytes: Some(64),
        stream: Some(Address(COPIES)),
        ..script.line()
    };
    script.call(Op::Copy, &line);
    let line = CallView {
        tid: Some(WAIT_THREAD),
        event: Some(Address(1)),
        stream: Some(Address(COPIES)),
        ..script.line()
    };
    script.call(Op::EventRecord, &line);
    let line = CallView { event: Some(Address(2)), stream: Some(Address(COPIES)), ..script.line() };
    script.call(Op::EventRecord, &line);
    script.wait(2, 3_000_000);
    let rows = script.rows();
    assert_eq!(rows.len(), 1);
    assert!(rows[0].handed.is_some());
}

#[test]
fn a_call_without_an_end_proves_nothing() {
    let mut script = Script::new();
    script.layers(16);
    let event = script.output(16);
    let line = CallView { phase: "entry", dur_ns: None, ret: None, ..script.line() };
    script.call(Op::EventSynchronize, &CallView { event: Some(Address(event)), ..line });
    assert_eq!(script.ledger.entries, 1);
    assert_eq!(script.rows()[0].high, None);
}
