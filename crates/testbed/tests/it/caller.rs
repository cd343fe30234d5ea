//! `standin-caller` over the libraries: every function, and counts that are right whatever the process does.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use testbed::libraries::{self, DRIVER, Driver, RUNTIME};
use testbed::sequence::Handles;

use crate::Bench;

const BOTH: [Driver; 2] = [Driver::R550, Driver::R580];

#[test]
fn sequence_calls_every_function_of_both_libraries() {
    for driver in BOTH {
        let bench = Bench::new(driver);
        let lines = bench.call(&["--sequence"]);
        let handles: Handles = serde_json::from_value(lines[0]["handles"].clone()).unwrap();
        assert!(handles.stream != 0 && handles.driver_kernel != 0 && handles.device_memory != 0);
        let counts = bench.counts_of(DRIVER);
        assert_eq!(counts.first, "cuInit");
        let missing: Vec<_> =
            libraries::driver_functions().filter(|name| counts.of(name) == 0).collect();
        assert!(missing.is_empty(), "never called: {missing:?}");
        let counts = bench.counts_of(RUNTIME);
        assert_eq!(counts.first, "__cudaRegisterFatBinary");
        let missing: Vec<_> =
            libraries::runtime_functions().filter(|name| counts.of(name) == 0).collect();
        assert!(missing.is_empty(), "never called: {missing:?}");
    }
}

#[test]
fn calls_of_all_threads_are_counted() {
    for driver in BOTH {
        let bench = Bench::new(driver);
        let lines =
            bench.call(&["--function", "cuCtxSynchronize", "--calls", "25000", "--threads", "4"]);
        assert_eq!(lines[0]["calls"], 100_000);
        let counts = bench.counts_of(DRIVER);
        assert_eq!(u64::from(counts.pid), lines[0]["pid"].as_u64().unwrap());
        assert_eq!(counts.of("cuCtxSynchronize"), 100_000);
        assert_eq!(counts.of("cuInit"), 1);
        assert_eq!(counts.total(), 100_001);
    }
}

#[test]
fn forked_child_counts_from_zero() {
    for driver in BOTH {
        let bench = Bench::new(driver);
        let lines = bench.call(&["--function", "cuCtxSynchronize", "--calls", "100", "--fork"]);
        let mut printed: Vec<_> = lines.iter().map(|line| line["pid"].as_u64().unwrap()).collect();
        printed.sort_unstable();
        let counts = bench.counts();
        let mut reported: Vec<_> = counts.iter().map(|counts| u64::from(counts.pid)).collect();
        reported.sort_unstable();
        assert_eq!(printed, reported);
        assert_eq!(counts.len(), 2);
        for counts in counts {
            assert_eq!(counts.first, "cuInit");
            assert_eq!(
                (counts.of("cuInit"), counts.of("cuCtxSynchronize"), counts.total()),
                (1, 100, 101)
            );
        }
    }
}

#[test]
fn forked_child_of_a_runtime_user_gets_its_own_context() {
    let bench = Bench::new(Driver::R580);
    let arguments =
        ["--function", "cudaLaunchKernel", "--arguments", "valid", "--calls", "50", "--fork"];
    assert_eq!(bench.call(&arguments).len(), 2);
    let counts = bench.counts();
    assert_eq!(counts.len(), 4);
    for counts in counts {
        let launches = if counts.library == DRIVER { "cuLaunchKernel" } else { "cudaLaunchKernel" };
        assert_eq!(counts.of(launches), 50, "{counts:?}");
    }
}

#[test]
fn exec_and_late_load_keep_the_pid_and_count_once() {
    let bench = Bench::new(Driver::R550);
    let lines =
        bench.call(&["--function", "cuMemFree_v2", "--calls", "7", "--exec", "--late", "20"]);
    assert_eq!(lines.len(), 1);
    let counts = bench.counts_of(DRIVER);
    assert_eq!(u64::from(counts.pid), lines[0]["pid"].as_u64().unwrap());
    assert_eq!(counts.of("cuMemFree_v2"), 7);
}

#[test]
fn driver_sees_one_launch_for_each_launch_of_the_runtime() {
    for (function, behind) in [
        ("cudaLaunchKernel", "cuLaunchKernel"),
        ("cudaLaunchKernelExC", "cuLaunchKernelEx"),
        ("cudaGraphLaunch", "cuGraphLaunch"),
        ("cudaMemcpyAsync", "cuMemcpyHtoDAsync_v2"),
        ("cudaGetDevice", "cuCtxGetDevice_v2"),
    ] {
        for driver in BOTH {
            let bench = Bench::new(driver);
            bench.call(&[
                "--function",
                function,
                "--arguments",
                "valid",
                "--calls",
                "1000",
                "--threads",
                "2",
            ]);
            assert_eq!(bench.counts_of(RUNTIME).of(function), 2000);
            assert_eq!(bench.counts_of(DRIVER).of(behind), 2000, "{behind} behind {function}");
        }
    }
}

#[test]
fn several_functions_are_called_in_turn_as_often_as_they_are_named() {
    let bench = Bench::new(Driver::R550);
    let turn = [
        "cudaLaunchKernel",
        "cudaLaunchKernel",
        "cuLaunchKernelEx",
        "cuMemcpyDtoHAsync_v2",
        "cudaStreamSynchronize",
    ];
    let mut arguments = vec!["--arguments", "valid", "--calls", "100", "--threads", "2"];
    arguments.extend(turn.iter().flat_map(|name| ["--function", name]));
    let lines = bench.call(&arguments);
    assert_eq!(lines[0]["calls"], 1000);
    let (driver, runtime) = (bench.counts_of(DRIVER), bench.counts_of(RUNTIME));
    assert_eq!((runtime.of("cudaLaunchKernel"), driver.of("cuLaunchKernel")), (400, 400));
    assert_eq!((driver.of("cuLaunchKernelEx"), driver.of("cuMemcpyDtoHAsync_v2")), (200, 200));
    assert_eq!(runtime.of("cudaStreamSynchronize"), 200);
}

#[test]
fn runtime_finds_the_driver_through_get_proc_address() {
    let bench = Bench::new(Driver::R580);
    bench.call(&["--function", "cudaGetDeviceCount"]);
    let counts = bench.counts_of(DRIVER);
    assert_eq!(counts.first, "cuGetProcAddress_v2");
    assert!(counts.of("cuGetProcAddress_v2") > 300, "{counts:?}");
    assert_eq!(counts.of("cuInit"), 1);
}

#[test]
fn nothing_works_before_init() {
    let bench = Bench::new(Driver::R550);
    let caller = env!("CARGO_BIN_EXE_standin-caller");
    let prepared = ["--function", "cuLaunchKernel", "--arguments", "valid", "--no-init"];
    let output = bench.command(caller).args(prepared).output().unwrap();
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("cuModuleLoadData failed with 3"), "{message}");
    assert_eq!(bench.counts_of(DRIVER).first, "cuModuleLoadData");
}

#[test]
fn without_the_variable_nothing_is_written() {
    let bench = Bench::new(Driver::R550);
    let mut command = bench.command(env!("CARGO_BIN_EXE_standin-caller"));
    command
        .env_remove(testbed::counts::DIRECTORY_VARIABLE)
        .args(["--function", "cuCtxSynchronize"]);
    crate::lines(&command.output().unwrap());
    assert!(bench.counts().is_empty());
}

#[test]
fn wait_stdin_holds_every_call_back() {
    let bench = Bench::new(Driver::R550);
    let mut child = bench
        .command(env!("CARGO_BIN_EXE_standin-caller"))
        .args(["--function", "cuCtxSynchronize", "--wait-stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(first["waiting"], true);
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", child.id())).unwrap();
    assert!(maps.contains("libcuda.so.550.163.01"), "the library is loaded while it waits");
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert!(lines.next().unwrap().unwrap().contains("\"calls\":1"));
    assert!(child.wait().unwrap().success());
}

#[test]
fn an_unknown_function_is_named() {
    let bench = Bench::new(Driver::R550);
    let output = bench
        .command(env!("CARGO_BIN_EXE_standin-caller"))
        .args(["--function", "cuNothing"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("cuNothing") && message.contains("libcuda.so.1"), "{message}");
}
