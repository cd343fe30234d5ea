//! The CUDA calls behind the answers, as the callee counts them.

use std::fs;

use testbed::counts::Counts;

use super::{Vllm, usage};
use crate::terminate;

#[test]
fn decoding_launches_graphs_and_the_driver_agrees_with_the_runtime() {
    let vllm = Vllm::ready(&[]);
    vllm.post(
        "/v1/completions",
        r#"{"model":"org/model","prompt":"one two three","max_tokens":50}"#,
    );
    let (runtime, driver) = vllm.stop();
    // The first token comes with the prompt, the others from a graph each.
    assert_eq!((runtime.of("cudaGraphLaunch"), driver.of("cuGraphLaunch")), (49, 49));
    assert_eq!(
        (runtime.of("cudaStreamBeginCapture"), driver.of("cuGraphInstantiateWithFlags")),
        (7, 7)
    );
    assert_agreement(&runtime, &driver);
}

#[test]
fn eager_decoding_launches_every_kernel() {
    let vllm = Vllm::ready(&["--enforce-eager"]);
    vllm.post(
        "/v1/completions",
        r#"{"model":"org/model","prompt":"one two three","max_tokens":50}"#,
    );
    let (runtime, driver) = vllm.stop();
    assert_eq!((runtime.of("cudaGraphLaunch"), driver.of("cuStreamBeginCapture_v2")), (0, 0));
    assert!(runtime.of("cudaLaunchKernel") > 50 * 100, "{runtime:?}");
    assert!(runtime.of("cudaGetDevice") > 50 * 1000, "{runtime:?}");
    assert_agreement(&runtime, &driver);
}

#[test]
fn workers_compute_for_their_engine_and_say_their_rank() {
    let mut vllm = Vllm::ready(&["--tensor-parallel-size", "2"]);
    let answer = vllm.post(
        "/v1/completions",
        r#"{"model":"org/model","prompt":"one two three","max_tokens":50}"#,
    );
    assert_eq!(answer.json()["usage"], usage(3, 50));
    let of_engine = format!("/proc/{0}/task/{0}/children", vllm.engine);
    let workers = fs::read_to_string(of_engine).unwrap();
    let mut titles: Vec<String> = workers
        .split_whitespace()
        .map(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap())
        .collect();
    titles.sort();
    let titles: Vec<&str> = titles.iter().map(|title| title.trim_end_matches('\0')).collect();
    assert_eq!(titles, ["VLLM::Worker_TP0", "VLLM::Worker_TP1"]);
    terminate(&vllm.child);
    assert!(vllm.child.wait().unwrap().success());
    let counts = vllm.bench.counts();
    let launches: Vec<u64> =
        counts.iter().map(|counts| counts.of("cuGraphLaunch")).filter(|count| *count > 0).collect();
    assert_eq!(launches, [49, 49], "each computes every step");
    assert!(counts.iter().all(|counts| counts.pid != vllm.engine), "and the engine none");
}

fn assert_agreement(runtime: &Counts, driver: &Counts) {
    assert_eq!(runtime.of("cudaLaunchKernel"), driver.of("cuLaunchKernel"));
    assert_eq!(runtime.of("cudaGetDevice"), driver.of("cuCtxGetDevice_v2"));
    assert_eq!(runtime.of("cudaMalloc"), driver.of("cuMemAlloc_v2"));
    assert_eq!(runtime.of("cudaFree"), driver.of("cuMemFree_v2"));
    assert_eq!(runtime.of("cudaMalloc"), runtime.of("cudaFree"), "everything is freed");
    let copies = ["cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2", "cuMemcpyDtoDAsync_v2"];
    assert_eq!(
        runtime.of("cudaMemcpyAsync"),
        copies.iter().map(|name| driver.of(name)).sum::<u64>()
    );
    assert!(
        driver.of("cuLaunchKernelEx") > runtime.of("cudaLaunchKernelExC"),
        "Triton and cuBLAS launch directly"
    );
}
