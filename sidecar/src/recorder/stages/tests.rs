use super::*;

/// One process, as its calls go by.
#[derive(Default)]
struct Engine {
    process: Process,
    now_ms: u64,
    /// Stages with what told them and when.
    stages: Vec<(&'static str, &'static str, u64)>,
}

impl Engine {
    fn does(&mut self, sign: Sign) -> &mut Self {
        let now = self.now_ms * 1_000_000;
        if self.process.follow(sign, now, now + 10_000).stage.is_some() {
            let Entered { stage, by, at_ns } = self.process.stage.unwrap();
            self.stages.push((stage.name(), by.as_str(), at_ns / 1_000_000));
        }
        self
    }

    fn all(&mut self, signs: &[Sign]) -> &mut Self {
        for sign in signs {
            self.does(*sign).after(1);
        }
        self
    }

    fn after(&mut self, milliseconds: u64) -> &mut Self {
        self.now_ms += milliseconds;
        self
    }

    fn steps(&mut self, count: u32) -> &mut Self {
        for _ in 0..count {
            self.all(&[Sign::Launch, Sign::Launch, Sign::ReadBack]);
        }
        self
    }

    /// From 10 ms on: weights, a compiler that takes long, a profile run, the cache.
    fn loads(&mut self) -> &mut Self {
        self.after(10).does(Sign::Init).after(1500);
        self.all(&[Sign::Measure, Sign::Allocate, Sign::Allocate, Sign::LoadCode]);
        self.after(20_000).all(&[Sign::Launch, Sign::ReadBack]);
        self.after(20_000).all(&[Sign::LoadCode, Sign::Launch, Sign::Launch, Sign::ReadBack]);
        self.all(&[Sign::Measure, Sign::Allocate, Sign::Allocate])
    }

    fn captures(&mut self) -> &mut Self {
        for _ in 0..7 {
            self.all(&[Sign::Launch, Sign::BeginCapture, Sign::Launch, Sign::Launch]);
            self.all(&[Sign::EndCapture]).after(300);
        }
        self
    }
}

#[test]
fn an_engine_with_graphs_loads_captures_waits_and_serves() {
    let mut engine = Engine::default();
    engine.loads();
    let captured = engine.now_ms + 1;
    engine.captures();
    // The sampler is warmed up.
    engine.steps(3).after(5000);
    let request = engine.now_ms;
    engine.steps(200).after(9000).steps(200);
    assert_eq!(
        engine.stages,
        [("load", "init", 10), ("warm_up", "capture", captured), ("serve", "idle", request)]
    );
}

#[test]
fn an_eager_engine_loads_waits_and_serves() {
    let mut engine = Engine::default();
    engine.loads().steps(3).after(5000);
    let request = engine.now_ms;
    engine.steps(200);
    assert_eq!(engine.stages, [("load", "init", 10), ("serve", "idle", request)]);
}

#[test]
fn without_a_pause_many_steps_tell_that_it_serves() {
    let mut engine = Engine::default();
    engine.loads().captures().steps(STEPS - 1);
    assert_eq!(engine.stages.len(), 2);
    engine.steps(1);
    assert_eq!(engine.stages[2].1, "steps");
    // Memory or code that is still needed begins the count anew.
    let mut eager = Engine::default();
    eager.loads();
    for sign in [Sign::Allocate, Sign::LoadCode] {
        eager.steps(STEPS - 1).all(&[sign]);
    }
    assert_eq!(eager.stages.len(), 1);
    eager.steps(STEPS);
    assert_eq!((eager.stages[1].0, eager.stages[1].1), ("serve", "steps"));
}

#[test]
fn pauses_of_a_load_are_not_idle() {
    let mut engine = Engine::default();
    engine.does(Sign::Init).all(&[Sign::Allocate, Sign::Launch]);
    // No cache was sized: layers are made ready one by one.
    engine.after(5000).steps(STEPS * 2);
    engine.all(&[Sign::Measure, Sign::Allocate]);
    // A kernel is compiled.
    engine.after(5000).all(&[Sign::LoadCode, Sign::Launch]);
    assert_eq!(engine.stages, [("load", "init", 0)]);
}

/// As vLLM 0.20 does with graphs: it compiles for seconds between the cache and the captures, and
/// then runs once without any result to read.
#[test]
fn waking_up_without_a_result_is_not_serving() {
    let mut engine = Engine::default();
    engine.loads().after(12_000).all(&[Sign::Launch; 40]);
    let captured = engine.now_ms + 1;
    engine.captures().after(2000).all(&[Sign::Launch; 40]).after(2000);
    let request = engine.now_ms;
    engine.steps(1);
    assert_eq!(
        engine.stages,
        [("load", "init", 10), ("warm_up", "capture", captured), ("serve", "idle", request)]
    );
}

#[test]
fn a_capture_is_not_served_from_and_a_later_one_is_warming_up_again() {
    let mut engine = Engine::default();
    engine.loads().does(Sign::BeginCapture).after(5000).steps(STEPS * 2);
    assert_eq!(engine.stages.len(), 2);
    engine.all(&[Sign::EndCapture]).after(5000).steps(1).captures().after(5000).steps(1);
    let names: Vec<_> = engine.stages.iter().map(|stage| stage.0).collect();
    assert_eq!(names, ["load", "warm_up", "serve", "warm_up", "serve"]);
}

#[test]
fn of_one_that_was_met_late_only_a_capture_or_many_steps_tell() {
    let mut engine = Engine::default();
    engine.all(&[Sign::Launch, Sign::Allocate]).after(5000).steps(1).after(5000).steps(3);
    assert_eq!(engine.stages, []);
    engine.steps(STEPS);
    assert_eq!((engine.stages[0].0, engine.stages[0].1), ("serve", "steps"));
    let mut engine = Engine::default();
    engine.all(&[Sign::EndCapture]).captures();
    assert_eq!((engine.stages[0].0, engine.stages[0].1), ("warm_up", "capture"));
}

#[test]
fn who_only_looks_around_has_no_stage() {
    let mut engine = Engine::default();
    engine.all(&[Sign::Init, Sign::Measure, Sign::LoadCode]);
    assert_eq!(engine.stages, []);
}

#[test]
fn variants_of_a_function_say_the_same_and_the_runtime_says_nothing() {
    for (name, sign) in [
        ("cuMemAlloc_v2", Some(Sign::Allocate)),
        ("cuMemcpyDtoHAsync_v2_ptsz", Some(Sign::ReadBack)),
        ("cuStreamBeginCapture_v2", Some(Sign::BeginCapture)),
        ("cuGraphLaunch_ptsz", Some(Sign::Launch)),
        ("cuMemcpyHtoDAsync_v2", None),
        ("cudaLaunchKernel", None),
    ] {
        assert_eq!(Sign::of(name), sign, "{name}");
    }
}

fn event(pid: u32, function: u32, start_ns: u64) -> CallEvent {
    let mut bytes = Vec::new();
    bytes.extend(start_ns.to_ne_bytes());
    for number in [pid, pid, function] {
        bytes.extend(number.to_ne_bytes());
    }
    bytes.extend([0; 4]);
    CallEvent::from_bytes(&bytes).unwrap()
}

#[test]
fn each_process_has_its_stage_which_every_segment_says_once() {
    let mut stages = Stages::default();
    for name in ["cuInit", "cudaMalloc", "cuMemAlloc_v2"] {
        stages.add_function(name);
    }
    for pid in [7, 8] {
        assert_eq!(stages.follow(&event(pid, 0, 5_000_000), None), News::default());
    }
    let news = stages.follow(&event(7, 2, 6_000_000), None);
    assert_eq!(news, News { is_first_launch: false, stage: Some(Stage::Load) });
    assert_eq!(stages.follow(&event(7, 1, 6_000_000), None), News::default());
    let said = |stages: &mut Stages, pid| {
        let mut out = Vec::new();
        stages.announce(&mut out, 1_000_000, pid);
        String::from_utf8(out).unwrap()
    };
    let line = "{\"ts\":4.000000,\"pid\":7,\"type\":\"meta\",\"phase\":\"meta\",\
                \"func\":\"stage\",\"stage\":\"load\",\"stage_by\":\"init\"}\n";
    assert_eq!(said(&mut stages, 7), line);
    assert_eq!(said(&mut stages, 7), "");
    assert_eq!(said(&mut stages, 8), "");
    stages.begin_segment();
    assert_eq!(said(&mut stages, 7), line);
    stages.forget(7, u64::MAX);
    stages.begin_segment();
    assert_eq!(said(&mut stages, 7), "");
}
