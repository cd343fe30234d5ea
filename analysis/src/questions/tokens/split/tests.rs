//! Parts of hand-written steps, and of random ones.

use super::*;
use crate::context::process::ProcessId;

const MS: i64 = 1_000_000;

fn step(start: i64, queued: i64, done: i64, handed: i64) -> EngineStep {
    EngineStep {
        at: 0,
        start: start * MS,
        queued: queued * MS,
        low: queued * MS,
        high: handed * MS,
        estimate: Some(done * MS),
        handed: handed * MS,
        requests: 0,
        is_decode: false,
        is_touched: false,
    }
}

fn engine(steps: Vec<EngineStep>) -> Engine {
    Engine { process: ProcessId(0), steps }
}

fn parts(split: &Split) -> [i64; 6] {
    split.parts.map(|part| part.ns / MS)
}

#[test]
fn a_first_token_waits_for_others_and_for_its_own_step() {
    let engine = engine(vec![step(10, 12, 17, 18), step(20, 23, 30, 31)]);
    // Sent before the other step began; 5 until then, 8 for that step, 2 until the own began.
    assert_eq!(parts(&first(&engine, 5 * MS, 35 * MS, 1, false)), [7, 8, 3, 7, 1, 4]);
    // Sent while the engine was idle.
    assert_eq!(parts(&first(&engine, 19 * MS, 35 * MS, 1, false)), [1, 0, 3, 7, 1, 4]);
    // A request that was sent within the first call of its step.
    assert_eq!(parts(&first(&engine, 21 * MS, 35 * MS, 1, false)), [0, 0, 2, 7, 1, 4]);
}

#[test]
fn a_later_token_waits_for_its_step_and_not_for_a_way_that_is_always_as_long() {
    // The second step was queued before the first was handed out.
    let engine = engine(vec![step(10, 12, 17, 18), step(13, 15, 22, 23)]);
    let split = next(&engine, (0, 20 * MS), (1, 25 * MS), false);
    assert_eq!(parts(&split), [0, 0, 0, 4, 1, 0]);
    // This one was 1 ms longer on its way, and one was shorter.
    assert_eq!(parts(&next(&engine, (0, 20 * MS), (1, 26 * MS), false)), [0, 0, 0, 4, 1, 1]);
    assert_eq!(parts(&next(&engine, (0, 23 * MS), (1, 25 * MS), false)), [0, 0, 0, 4, 1, -3]);
}

#[test]
fn an_engine_that_queues_first_and_gives_out_then_is_bound_by_its_host() {
    let engine = engine(vec![step(0, 9, 10, 10), step(10, 19, 20, 20), step(20, 29, 30, 30)]);
    let split = next(&engine, (0, 20 * MS), (1, 30 * MS), true);
    assert_eq!(parts(&split), [0, 0, 9, 1, 0, 0]);
    // Nothing came while the next step was queued.
    let late = [(0, 20 * MS), (1, 30 * MS)];
    let late = |times: usize| late.into_iter().cycle().take(2 * times);
    assert_eq!(holds(&engine, late(100)), Some(true));
    assert_eq!(holds(&engine, late(10)), None, "so few may have been slow on their way");
    let early = |times: usize| std::iter::repeat_n((0, 12 * MS), times);
    assert_eq!(holds(&engine, early(3).chain(late(10))), Some(false));
    assert_eq!(holds(&engine, early(2).chain(late(10))), None);
    assert_eq!(holds(&engine, early(1).chain(late(200))), Some(true));
}

#[test]
fn without_an_estimate_the_gpu_has_bounds() {
    let mut steps = vec![step(10, 12, 17, 18)];
    steps[0].estimate = None;
    steps[0].low = 14 * MS;
    let split = first(&engine(steps), 10 * MS, 20 * MS, 0, false);
    let (gpu, wait) = (split.of(Part::Gpu), split.of(Part::Wait));
    assert_eq!([gpu.low, gpu.ns, gpu.high].map(|ns| ns / MS), [2, 6, 6]);
    assert_eq!([wait.low, wait.ns, wait.high].map(|ns| ns / MS), [0, 0, 4]);
}

#[test]
fn parts_always_add_up_to_what_the_client_saw() {
    let mut seed = 3_u64;
    let mut below = |bound: i64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        i64::try_from(seed >> 33).unwrap() % bound
    };
    for _ in 0..20_000 {
        let (mut steps, mut handed) = (Vec::new(), 0);
        for at in 0..12 {
            let start = below(400);
            let queued = start + below(50);
            handed = handed.max(queued + below(50));
            let (low, high) = (queued + below(30), handed + below(9));
            let estimate = (below(2) == 0).then_some(low);
            let is_touched = below(9) == 0;
            let (requests, is_decode) = (0, false);
            steps.push(EngineStep {
                at,
                start,
                queued,
                low,
                high,
                estimate,
                handed,
                requests,
                is_decode,
                is_touched,
            });
        }
        let engine = engine(steps);
        let target = usize::try_from(below(12)).unwrap();
        let (sent, holds) = (below(300), below(2) == 0);
        let arrived = engine.steps[target].handed.max(sent) + below(80);
        let split = first(&engine, sent, arrived, target, holds);
        assert_eq!(split.parts.iter().map(|it| it.ns).sum::<i64>(), arrived - sent);
        assert!(split.parts.iter().all(|it| it.low <= it.ns && it.ns <= it.high && it.low >= 0));
        let before = usize::try_from(below(12)).unwrap().min(target);
        let arrived_before = engine.steps[before].handed + below(80);
        let split = next(&engine, (before, arrived_before), (target, arrived), holds);
        assert_eq!(split.parts.iter().map(|it| it.ns).sum::<i64>(), arrived - arrived_before);
    }
}
