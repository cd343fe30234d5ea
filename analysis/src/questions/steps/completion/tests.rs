//! Hand-written orders of calls, and a GPU with a simulated clock.

use super::*;

const COPY: u64 = 0xc0;
const MAIN: u64 = 0;
const EVENT: u64 = 0xe;

fn at(entry: i64, ret: i64) -> Interval {
    Interval { entry, ret }
}

/// One output, copied from 1000 on, recorded up to 1200.
fn queued() -> StreamOrder {
    let mut order = StreamOrder::default();
    order.output(COPY, at(1000, 1100), EVENT, at(1110, 1200), true, 1).unwrap();
    order
}

fn only(mut order: StreamOrder) -> Output {
    let output = order.next_left().unwrap();
    assert!(order.next_left().is_none());
    output
}

#[test]
fn a_wait_that_waited_tells_the_end_and_one_that_came_late_only_bounds_it() {
    let mut order = queued();
    order.event_done(EVENT, at(2000, 5_002_000), true);
    let output = only(order);
    assert_eq!((output.low, output.high), (1000, Some(5_002_000)));
    assert_eq!(output.estimate, Some(5_002_000 - WAKE_UP_NS));
    assert_eq!((output.handed, output.waited_ns), (Some(5_002_000), 5_000_000));

    let mut order = queued();
    order.event_done(EVENT, at(9_000_000, 9_010_000), true);
    assert_eq!(only(order).estimate, None);
}

#[test]
fn the_runtime_around_the_driver_tells_no_more() {
    let mut order = queued();
    order.event_done(EVENT, at(2100, 12_000), true);
    order.event_done(EVENT, at(2000, 3_000_000), true);
    let output = only(order);
    assert_eq!((output.high, output.estimate), (Some(12_000), None));
}

#[test]
fn polls_bound_the_end_from_both_sides() {
    let mut order = queued();
    order.event_not_ready(EVENT, at(500_000, 501_000));
    order.event_not_ready(EVENT, at(900_000, 901_000));
    order.event_done(EVENT, at(910_000, 911_000), false);
    let output = only(order);
    assert_eq!(output.low, 900_000 - SIGNAL_DELAY_NS);
    assert_eq!((output.high, output.estimate), (Some(911_000), Some(905_500)));

    // So soon after the record, the GPU may not have come to see it.
    let mut order = queued();
    order.event_not_ready(EVENT, at(1300, 2000));
    assert_eq!(only(order).low, 1000);

    // The event waits for another stream too, the copy has not.
    let mut order = StreamOrder::default();
    order.output(COPY, at(1000, 1100), EVENT, at(1110, 1200), false, 1).unwrap();
    order.event_not_ready(EVENT, at(900_000, 901_000));
    assert_eq!(only(order).low, 1000);
}

#[test]
fn an_event_behind_an_output_that_is_not_ready_waits_for_the_output() {
    let behind = |tid: u32, with_work: bool| {
        let mut order = queued();
        if with_work {
            order.work(COPY, 1);
        }
        order.record(0xf, COPY, at(1300, 1400), tid);
        order.event_not_ready(0xf, at(900_000, 901_000));
        only(order).low
    };
    assert_eq!(behind(1, false), 900_000 - SIGNAL_DELAY_NS);
    assert_eq!(behind(1, true), 1000, "it may wait for the work");
    assert_eq!(behind(2, false), 1000, "the threads may have queued more, nobody knows when");
}

#[test]
fn order_is_carried_over_streams() {
    let mut order = queued();
    order.stream_wait(MAIN, EVENT, at(1300, 1400), 1);
    order.record(0xf, MAIN, at(1500, 1600), 1);
    order.event_done(0xf, at(2000, 7000), true);
    let output = only(order);
    assert_eq!((output.high, output.handed), (Some(7000), None));

    let mut order = queued();
    order.record(0xf, MAIN, at(1500, 1600), 1);
    order.event_done(0xf, at(2000, 7000), true);
    order.stream_done(MAIN, at(7000, 8000));
    assert_eq!(only(order).high, None, "the main stream knows nothing of the copy");

    let mut order = queued();
    order.stream_done(COPY, at(1100, 8000));
    assert_eq!(only(order).high, Some(8000));
}

#[test]
fn calls_that_overlap_prove_nothing() {
    let mut order = queued();
    order.record(0xf, COPY, at(1050, 1300), 1);
    order.event_done(0xf, at(2000, 3000), true);
    assert_eq!(only(order).high, None, "recorded perhaps before the copy");

    let mut order = queued();
    order.record(EVENT, MAIN, at(2500, 2600), 1);
    order.event_done(EVENT, at(2550, 3000), true);
    assert_eq!(only(order).high, None, "one of two records was waited for");

    let mut order = queued();
    order.record(EVENT, MAIN, at(4000, 4100), 1);
    order.event_done(EVENT, at(2000, 3000), true);
    assert_eq!(only(order).high, Some(3000), "recorded anew after the wait");

    let mut order = queued();
    order.forget_event(EVENT);
    order.event_done(EVENT, at(2000, 3000), true);
    assert_eq!(only(order).high, None, "another event of the same handle");
}

#[test]
fn an_output_ends_no_sooner_than_the_one_before_it() {
    let mut order = queued();
    order.output(COPY, at(1300, 1400), 0xf, at(1410, 1500), true, 1).unwrap();
    order.event_not_ready(EVENT, at(700_000, 701_000));
    order.event_done(0xf, at(800_000, 900_000), true);
    assert_eq!(order.next_left().unwrap().low, 700_000 - SIGNAL_DELAY_NS);
    let second = order.next_left().unwrap();
    assert_eq!((second.low, second.high), (700_000 - SIGNAL_DELAY_NS, Some(900_000)));
}

#[test]
fn an_output_for_which_nobody_waits_is_let_go() {
    let mut order = StreamOrder::default();
    for number in 0..1000_i64 {
        let from = number * 1000;
        order.output(COPY, at(from, from + 10), 1, at(from + 20, from + 30), true, 1).unwrap();
        if let Some(output) = order.next_settled() {
            assert_eq!(output.high, None);
        }
        assert!(order.open.len() <= MAX_OPEN_OUTPUTS);
    }
}

mod simulation;
