//! Schedules at random: streams in order, events, delays of launch, work, signal and wake-up, threads
//! that poll, wait, come late or are held up. Whatever happens, the truth lies in the interval.
//!
//! `SCHEDULES=1000000 cargo test --release -p analysis simulation` tries a million of them.

use super::super::*;

const SCHEDULES: u64 = 1000;

#[test]
fn the_truth_lies_in_every_interval() {
    let schedules =
        std::env::var("SCHEDULES").map_or(SCHEDULES, |text| text.parse().expect("a number"));
    let (mut outputs, mut bounded, mut raised, mut estimated) = (0_u64, 0_u64, 0_u64, 0_u64);
    for seed in 0..schedules {
        let (calls, truths) = Simulation::new(seed).run();
        let found = replay(&calls);
        assert_eq!(found.len(), truths.len(), "seed {seed}");
        for (output, truth) in found.iter().zip(&truths) {
            let Output { low, high, estimate, .. } = output;
            assert!(low <= truth, "seed {seed}: {truth} before {output:?}");
            assert!(
                high.is_none_or(|high| *truth <= high),
                "seed {seed}: {truth} after {output:?}"
            );
            assert!(estimate.is_none_or(|it| *low <= it && high.is_some_and(|high| it <= high)));
            outputs += 1;
            bounded += u64::from(high.is_some());
            raised += u64::from(*low > output.copied.entry);
            estimated += u64::from(estimate.is_some());
        }
    }
    // The test would be empty if nothing were claimed.
    assert!(bounded * 10 > outputs * 8, "{bounded} of {outputs}");
    assert!(raised * 20 > outputs, "{raised} of {outputs}");
    assert!(estimated * 10 > outputs, "{estimated} of {outputs}");
}

#[derive(Debug, Clone, Copy)]
enum What {
    Output { copied: Interval, event: u64, stream: u64 },
    Record { event: u64, stream: u64 },
    StreamWait { event: u64, stream: u64 },
    Work { stream: u64 },
    Wait(u64),
    Ready(u64),
    NotReady(u64),
    StreamWaited(u64),
    Destroy(u64),
}

#[derive(Debug, Clone, Copy)]
struct Traced {
    what: What,
    call: Interval,
}

/// Lines of a trace stand in the order in which calls returned.
fn replay(calls: &[Traced]) -> Vec<Output> {
    let mut order = StreamOrder::default();
    let mut found = Vec::new();
    for &Traced { what, call } in calls {
        match what {
            What::Output { copied, event, stream } => {
                order.output(stream, copied, event, call, true, 1).expect("a few streams");
            }
            What::Record { event, stream } => order.record(event, stream, call, 1),
            What::StreamWait { event, stream } => order.stream_wait(stream, event, call, 1),
            What::Work { stream } => order.work(stream, 1),
            What::Wait(event) => order.event_done(event, call, true),
            What::Ready(event) => order.event_done(event, call, false),
            What::NotReady(event) => order.event_not_ready(event, call),
            What::StreamWaited(stream) => order.stream_done(stream, call),
            What::Destroy(event) => order.forget_event(event),
        }
        found.extend(std::iter::from_fn(|| order.next_settled()));
    }
    found.extend(std::iter::from_fn(|| order.next_left()));
    found
}

/// One thread queues steps; another waits for their outputs, or the same one does.
struct Simulation {
    random: u64,
    /// When the work queued so far ends, by stream: main, copies, one more.
    ends: [i64; 3],
    /// By event: when it is signalled.
    signals: HashMap<u64, i64>,
    calls: Vec<Traced>,
    truths: Vec<i64>,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        Self {
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            ends: [0; 3],
            signals: HashMap::new(),
            calls: Vec::new(),
            truths: Vec::new(),
        }
    }

    /// From 0 up to below `most`.
    fn below(&mut self, most: i64) -> i64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        i64::try_from(self.random % u64::try_from(most).expect("positive")).expect("below most")
    }

    fn one_in(&mut self, many: i64) -> bool {
        self.below(many) == 0
    }

    /// A call of a few microseconds, at times one that is held up for a millisecond. What it asks
    /// for happens somewhere inside of it.
    fn call(&mut self, now: &mut i64) -> (Interval, i64) {
        let entry = *now + self.below(20_000);
        let length = if self.one_in(40) { self.below(1_000_000) } else { self.below(15_000) };
        let happens = entry + self.below(length + 1);
        *now = entry + length;
        (Interval { entry, ret: *now }, happens)
    }

    /// The GPU works on it once it has been told, and what is before it has ended.
    fn work(&mut self, stream: usize, submitted: i64, length: i64) -> i64 {
        let seen = submitted + self.below(8000);
        self.ends[stream] = self.ends[stream].max(seen) + length;
        self.ends[stream]
    }

    fn signal(&mut self, event: u64, stream: usize, submitted: i64) {
        let seen = submitted + self.below(8000);
        let signalled = self.ends[stream].max(seen) + self.below(20_000);
        self.signals.insert(event, signalled);
    }

    fn run(mut self) -> (Vec<Traced>, Vec<i64>) {
        let mut main = 1_000_000;
        let mut output = 1_000_000;
        let steps = 3 + self.below(12);
        let typical = 20_000 + self.below(5_000_000);
        let is_one_stream = self.one_in(4);
        let is_one_thread = self.one_in(3);
        let polls = self.one_in(2);
        let mut pending: VecDeque<u64> = VecDeque::new();
        let mut free: HashMap<u64, i64> = HashMap::new();
        for _ in 0..steps {
            let (call, happens) = self.call(&mut main);
            self.calls.push(Traced { what: What::Work { stream: 0 }, call });
            let length = if self.one_in(6) { self.below(1000) } else { self.below(typical) };
            self.work(0, happens, length);
            let copies = usize::from(!is_one_stream);
            // Handles are given out again as soon as nobody waits for them.
            let is_free = |event: &u64| free.get(event).is_none_or(|&from| from <= main);
            let event = (100..200).find(is_free).expect("one more than are on their way");
            free.insert(event, i64::MAX);
            if copies == 1 {
                let joint = 7;
                let (call, happens) = self.call(&mut main);
                self.signal(joint, 0, happens);
                self.calls.push(Traced { what: What::Record { event: joint, stream: 0 }, call });
                let (call, happens) = self.call(&mut main);
                self.ends[1] = self.ends[1].max(self.signals[&joint]).max(happens);
                self.calls
                    .push(Traced { what: What::StreamWait { event: joint, stream: 1 }, call });
            }
            if self.one_in(3) {
                self.poll(pending.back().copied(), &mut main);
            }
            let (copied, happens) = self.call(&mut main);
            let length = 1000 + self.below(3000);
            let truth = self.work(copies, happens, length);
            self.truths.push(truth);
            let (call, happens) = self.call(&mut main);
            self.signal(event, copies, happens);
            let stream = copies as u64;
            self.calls.push(Traced { what: What::Output { copied, event, stream }, call });
            pending.push_back(event);
            if self.one_in(4) {
                self.detour(event, &mut main);
            }
            if self.one_in(4) {
                self.record_behind(copies, &mut main);
            }
            if polls {
                for _ in 0..self.below(6) {
                    self.poll(Some(event), &mut main);
                }
            }
            // At most two outputs are on their way; the waiting thread comes at its own time.
            if pending.len() == 2 || self.one_in(2) {
                let thread = if is_one_thread { &mut main } else { &mut output };
                let mut now = (*thread).max(call.ret);
                if self.one_in(5) {
                    now += self.below(8_000_000);
                }
                let event = pending.pop_front().expect("one is on its way");
                self.wait(event, &mut now);
                free.insert(event, now);
                *(if is_one_thread { &mut main } else { &mut output }) = now;
                main = if pending.is_empty() { main.max(now) } else { main };
            }
        }
        let mut now = main.max(output);
        while let Some(event) = pending.pop_front() {
            self.wait(event, &mut now);
        }
        self.calls.sort_by_key(|traced| traced.call.ret);
        (self.calls, self.truths)
    }

    /// Another stream waits for the output, and its own event or its end is waited for later.
    fn detour(&mut self, event: u64, now: &mut i64) {
        let (call, happens) = self.call(now);
        self.ends[2] = self.ends[2].max(self.signals[&event]).max(happens);
        self.calls.push(Traced { what: What::StreamWait { event, stream: 2 }, call });
        let other = 50;
        let (call, happens) = self.call(now);
        self.signal(other, 2, happens);
        self.calls.push(Traced { what: What::Record { event: other, stream: 2 }, call });
        if self.one_in(2) {
            self.poll(Some(other), now);
        } else if self.one_in(3) {
            let (Interval { entry, .. }, happens) = self.call(now);
            let wake_up = self.below(30_000);
            *now = (*now).max(self.ends[2].max(happens) + wake_up);
            let call = Interval { entry, ret: *now };
            self.calls.push(Traced { what: What::StreamWaited(2), call });
        }
        if self.one_in(2) {
            let (call, _) = self.call(now);
            self.calls.push(Traced { what: What::Destroy(other), call });
            self.signals.remove(&other);
        }
    }

    /// Memory of the host that is given back: an event behind the output, asked for soon.
    fn record_behind(&mut self, stream: usize, now: &mut i64) {
        let event = 60;
        let (call, happens) = self.call(now);
        self.signal(event, stream, happens);
        self.calls.push(Traced { what: What::Record { event, stream: stream as u64 }, call });
        for _ in 0..self.below(5) {
            self.poll(Some(event), now);
        }
    }

    fn poll(&mut self, event: Option<u64>, now: &mut i64) {
        let Some(event) = event else { return };
        let (call, happens) = self.call(now);
        let is_ready = self.signals.get(&event).is_none_or(|&signalled| signalled <= happens);
        let what = if is_ready { What::Ready(event) } else { What::NotReady(event) };
        self.calls.push(Traced { what, call });
    }

    fn wait(&mut self, event: u64, now: &mut i64) {
        let (Interval { entry, .. }, happens) = self.call(now);
        let wake_up =
            if self.one_in(10) { self.below(3_000_000) } else { 4000 + self.below(20_000) };
        if self.signals[&event] > happens {
            *now = (*now).max(self.signals[&event] + wake_up);
        }
        let call = Interval { entry, ret: *now };
        self.calls.push(Traced { what: What::Wait(event), call });
    }
}
