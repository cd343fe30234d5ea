//! Whole calls: what the tour passed is what the lines say.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use testbed::{
    libraries::Driver,
    sequence::{
        ALLOCATION, BLOCK, COPY, DRIVER_KERNEL, GRID, Handles, IMPOSSIBLE_ALLOCATION,
        OUT_OF_MEMORY, RUNTIME_KERNEL, SHARED_MEMORY,
    },
};
use trace::line::{Address, Call, Line, Meta};

use crate::harness::{Scene, run};

/// The lines of a tour, and the handles that it used.
pub(crate) fn tour(driver: Driver, variables: &[(&str, &str)]) -> (Scene, Handles) {
    let scene = Scene::new(driver);
    let sidecar = scene.sidecar(variables);
    let output = scene.caller(&["--sequence"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    sidecar.stop();
    scene.whole_report();
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    (scene, serde_json::from_value(answer["handles"].clone()).unwrap())
}

pub(crate) fn address(handle: usize) -> Address {
    Address(handle as u64)
}

/// Names of kernels, by number.
pub(crate) fn kernels(scene: &Scene) -> BTreeMap<u32, Option<String>> {
    let kernel = |line| match line {
        Line::Meta(line) => match line.meta {
            Meta::Kernel(kernel) => Some((kernel.id, kernel.name)),
            _ => None,
        },
        Line::Call(_) => None,
    };
    scene.lines().into_iter().filter_map(kernel).collect()
}

fn calls_of<'a>(calls: &'a [Call], names: &'a [&str]) -> impl Iterator<Item = &'a Call> {
    calls.iter().filter(|call| names.contains(&call.func.as_str()))
}

#[test]
fn launches_say_what_was_launched_where_and_how_large() {
    for driver in [Driver::R550, Driver::R580] {
        let (scene, handles) = tour(driver, &[]);
        let (calls, kernels) = (scene.calls(), kernels(&scene));
        let of_driver = [
            "cuLaunchKernel",
            "cuLaunchKernel_ptsz",
            "cuLaunchCooperativeKernel",
            "cuLaunchCooperativeKernel_ptsz",
            "cuLaunchKernelEx",
            "cuLaunchKernelEx_ptsz",
        ];
        let mut seen = BTreeSet::new();
        for call in calls_of(&calls, &of_driver).filter(|call| call.detail.depth == Some(0)) {
            let detail = &call.detail;
            assert_eq!(detail.grid, Some(GRID), "{call:?}");
            assert_eq!(detail.block, Some(BLOCK), "{call:?}");
            assert_eq!(detail.shared_bytes, Some(SHARED_MEMORY.into()), "{call:?}");
            assert_eq!(detail.stream, Some(address(handles.stream)), "{call:?}");
            assert_eq!(detail.function, Some(address(handles.driver_kernel)), "{call:?}");
            assert_eq!(kernels[&detail.kernel.unwrap()].as_deref(), Some(DRIVER_KERNEL));
            seen.insert(call.func.as_str());
        }
        assert_eq!(seen, BTreeSet::from(of_driver));
        let of_runtime = ["cudaLaunchKernel", "cudaLaunchKernelExC", "cudaLaunchCooperativeKernel"];
        let mut seen = BTreeSet::new();
        for call in calls_of(&calls, &of_runtime) {
            let detail = &call.detail;
            if detail.function != Some(address(handles.runtime_symbol)) {
                continue;
            }
            assert_eq!((detail.grid, detail.block), (Some(GRID), Some(BLOCK)), "{call:?}");
            assert_eq!(detail.stream, Some(address(handles.runtime_stream)), "{call:?}");
            assert_eq!(kernels[&detail.kernel.unwrap()].as_deref(), Some(RUNTIME_KERNEL));
            seen.insert(call.func.as_str());
        }
        assert_eq!(seen, BTreeSet::from(of_runtime));
    }
}

#[test]
fn memory_has_bytes_addresses_and_directions_and_failures_their_names() {
    let (scene, handles) = tour(Driver::R580, &[]);
    let calls = scene.calls();
    let (failed, allocated): (Vec<_>, Vec<_>) = calls_of(&calls, &["cuMemAlloc_v2", "cudaMalloc"])
        .partition(|call| call.detail.bytes == Some(IMPOSSIBLE_ALLOCATION as u64));
    assert!(!failed.is_empty());
    for call in failed {
        assert_eq!(call.detail.ret, Some(OUT_OF_MEMORY.cast_unsigned()), "{call:?}");
        assert!(call.detail.error.is_some() && call.detail.ptr.is_none(), "{call:?}");
    }
    let pointers: BTreeSet<_> = allocated.iter().filter_map(|call| call.detail.ptr).collect();
    for memory in [handles.device_memory, handles.runtime_device_memory] {
        assert!(pointers.contains(&address(memory)), "{memory:#x} in {pointers:?}");
    }
    assert!(allocated.iter().any(|call| call.detail.bytes == Some(ALLOCATION as u64)));
    let freed: BTreeSet<_> =
        calls_of(&calls, &["cuMemFree_v2"]).filter_map(|call| call.detail.ptr).collect();
    assert!(freed.contains(&Address(0xbad0)), "{freed:?}");
    for (name, kind) in [
        ("cuMemcpyHtoD_v2", "HtoD"),
        ("cuMemcpyDtoHAsync_v2", "DtoH"),
        ("cuMemcpyDtoDAsync_v2_ptsz", "DtoD"),
    ] {
        for call in calls_of(&calls, &[name]).filter(|call| call.detail.depth == Some(0)) {
            assert_eq!(call.detail.kind.as_deref(), Some(kind), "{call:?}");
            assert_eq!(call.detail.bytes, Some(COPY as u64), "{call:?}");
        }
    }
}

#[test]
fn a_call_of_the_runtime_encloses_what_it_asks_of_the_driver() {
    let (scene, _) = tour(Driver::R550, &[]);
    let calls = scene.calls();
    let mut nested = 0;
    for (at, call) in calls.iter().enumerate() {
        let Some(parent) = &call.detail.parent else {
            assert_eq!(call.detail.depth, Some(0), "{call:?}");
            continue;
        };
        nested += 1;
        // Calls are written when they return, so the one around it comes later.
        let depth = call.detail.depth.unwrap() - 1;
        let around = calls[at..].iter().find(|other| {
            other.tid == call.tid && other.detail.depth == Some(depth) && other.ts <= call.ts
        });
        let around = around.unwrap_or_else(|| panic!("nothing around {call:?}"));
        assert_eq!(&around.func, parent);
        let end = |call: &Call| call.ts + call.detail.dur_us.unwrap() / 1e3;
        assert!(end(call) <= end(around) + 1e-6, "{call:?} in {around:?}");
    }
    assert!(nested > 50, "{nested}");
}

#[test]
fn a_rate_limit_holds_in_each_second_and_what_it_suppresses_is_counted() {
    const LIMIT: u64 = 100;
    let scene = Scene::new(Driver::R580);
    let sidecar = scene.sidecar(&[("TRACE_RATE_LIMIT", &LIMIT.to_string())]);
    run(scene.caller(&["--function", "cuLaunchKernel", "--calls", "5000"]));
    sidecar.stop();
    let report = scene.whole_report();
    let total = report.functions["cuLaunchKernel"];
    assert_eq!(total.hits, 5000);
    assert_eq!(total.lines + total.suppressed, 5000);
    assert!(total.lines >= LIMIT, "{total:?}");
    // The limit's seconds are those of CLOCK_MONOTONIC. A call may be counted at the end of one and
    // begin in the next, and processors that begin one together may each let a call pass.
    let processors = std::thread::available_parallelism().unwrap().get() as u64;
    let start = Duration::from_nanos(scene.start_monotonic_ns());
    let mut recorded: BTreeMap<u64, u64> = BTreeMap::new();
    for call in calls_of(&scene.calls(), &["cuLaunchKernel"]) {
        let at = start + Duration::from_secs_f64(call.ts / 1e3);
        *recorded.entry(at.as_secs()).or_default() += 1;
    }
    assert!(recorded.values().all(|count| *count <= LIMIT + processors), "{recorded:?}");
}
