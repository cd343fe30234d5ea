//! Two segments of a real vLLM on an H100, held against what must be true of any CUDA program: the
//! lines prove each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use trace::{
    line::{Call, Line, Meta, MetaLine},
    reader::Reader,
};

fn files() -> [PathBuf; 2] {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vllm-h100");
    let entries = fs::read_dir(directory).expect("the directory is part of this crate");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a directory can be read").path())
        .filter(|path| path.extension().is_some_and(|end| end == "zst"))
        .collect();
    files.sort();
    files.try_into().expect("there are two segments")
}

fn lines(file: &Path) -> Vec<Line> {
    let lines = Reader::open(file).expect("it is there");
    lines.map(|line| line.expect("every line can be read")).collect()
}

fn calls(lines: &[Line]) -> Vec<&Call> {
    let calls = lines.iter().filter_map(|line| match line {
        Line::Call(call) => Some(call),
        Line::Meta(_) => None,
    });
    calls.collect()
}

/// In milliseconds; the end is good to the nanosecond that `dur_us` has.
fn span(call: &Call) -> (f64, f64) {
    let duration = call.detail.dur_us.expect("a whole call has a duration");
    (call.ts, call.ts + duration / 1e3 + 2e-6)
}

#[test]
fn the_kernels_counts_agree_with_the_lines() {
    let [first, second] = files().map(|file| lines(&file));
    let [before, after] = [&first, &second].map(|lines| match lines.last() {
        Some(Line::Meta(MetaLine { meta: Meta::SegmentClose(close), .. })) => close,
        other => panic!("not a closing line: {other:?}"),
    });
    assert_eq!(before.calls, calls(&first).len() as u64);
    assert_eq!(after.calls, calls(&second).len() as u64);
    assert!(after.r#final && after.functions.len() > 60, "{after:?}");
    let mut total = 0;
    for (name, counts) in &after.functions {
        let lines = calls(&second).iter().filter(|call| call.func == *name).count() as u64;
        let lines_before = before.functions.get(name).map_or(0, |counts| counts.run_lines);
        assert_eq!(counts.run_lines, lines_before + lines, "{name}");
        assert_eq!(counts.run_hits, counts.run_lines, "{name}: nothing was dropped or ignored");
        total += counts.run_lines;
    }
    // The sum that `bench gpu` reported of the whole run.
    assert_eq!(total, 318_357);
}

#[test]
fn a_launch_of_the_runtime_encloses_one_of_the_driver_of_the_same_kernel() {
    for file in files() {
        let lines = lines(&file);
        let calls = calls(&lines);
        let mut enclosed = BTreeMap::<usize, usize>::new();
        for driver in calls.iter().filter(|call| call.func.starts_with("cuLaunchKernel")) {
            let Some(parent) = driver.detail.parent.as_deref() else { continue };
            let (begin, end) = span(driver);
            let found: Vec<usize> = (0..calls.len())
                .filter(|index| {
                    let other = calls[*index];
                    let (other_begin, other_end) = span(other);
                    other.func == parent
                        && other.tid == driver.tid
                        && other.detail.depth.unwrap() + 1 == driver.detail.depth.unwrap()
                        && other_begin <= begin
                        && end <= other_end
                })
                .collect();
            assert_eq!(found.len(), 1, "{driver:?}");
            let runtime = calls[found[0]];
            assert_eq!(runtime.detail.kernel, driver.detail.kernel, "{driver:?} in {runtime:?}");
            assert_eq!(runtime.detail.grid, driver.detail.grid, "{driver:?} in {runtime:?}");
            assert_eq!(runtime.detail.block, driver.detail.block, "{driver:?} in {runtime:?}");
            *enclosed.entry(found[0]).or_default() += 1;
        }
        let launches = calls.iter().filter(|call| call.func.starts_with("cudaLaunchKernel"));
        assert_eq!(enclosed.len(), launches.count());
        assert!(enclosed.values().all(|count| *count == 1));
    }
}

#[test]
fn every_kernel_and_graph_is_said_before_it_is_launched_in_each_segment() {
    for file in files() {
        let mut named = BTreeSet::new();
        let mut graphs = BTreeSet::new();
        let mut launches = 0;
        for line in lines(&file) {
            match line {
                Line::Meta(line) => match line.meta {
                    Meta::Kernel(kernel) => {
                        assert!(kernel.name.is_some(), "{kernel:?}");
                        named.insert(kernel.id);
                    }
                    Meta::Graph(graph) => {
                        assert!(!graph.kernels.is_empty());
                        assert!(graph.kernels.iter().all(|kernel| named.contains(kernel)));
                        graphs.insert(graph.graph_exec);
                    }
                    _ => {}
                },
                Line::Call(call) if call.func == "cuGraphLaunch" => {
                    assert!(graphs.contains(&call.detail.graph_exec.unwrap()), "{call:?}");
                    launches += 1;
                }
                Line::Call(call) => {
                    let is_launch = call.func.contains("LaunchKernel");
                    assert!(!is_launch || named.contains(&call.detail.kernel.unwrap()), "{call:?}");
                }
            }
        }
        assert!(launches > 5, "{launches}");
    }
}

#[test]
fn a_copy_moves_as_many_bytes_through_the_driver_as_through_the_runtime() {
    let mut copied = BTreeMap::<bool, u64>::new();
    for file in files() {
        for call in calls(&lines(&file)) {
            let is_runtime = call.func == "cudaMemcpyAsync";
            let is_of_runtime = call.detail.parent.as_deref() == Some("cudaMemcpyAsync");
            if is_runtime || is_of_runtime {
                *copied.entry(is_runtime).or_default() += call.detail.bytes.unwrap();
            }
        }
    }
    assert!(copied[&true] > 0);
    assert_eq!(copied[&true], copied[&false]);
}

#[test]
fn the_engine_is_known_and_serves() {
    let first = lines(&files()[0]);
    let stages: Vec<&str> = first
        .iter()
        .filter_map(|line| match line {
            Line::Meta(line) => match &line.meta {
                Meta::Process(process) => {
                    assert_eq!(process.role.as_deref(), Some("engine_core"));
                    None
                }
                Meta::Stage(stage) => Some(stage.stage.as_str()),
                _ => None,
            },
            Line::Call(_) => None,
        })
        .collect();
    assert_eq!(stages, ["warm_up", "serve"]);
}
