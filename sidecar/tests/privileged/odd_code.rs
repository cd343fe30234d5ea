//! Code and data that a probe must not touch: calls of odd libraries return what they return
//! untraced, and what has no probe is said by name.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use testbed::libraries::Driver;
use trace::{
    check::{Problem, check},
    line::{ENTRY_PHASE, Kernel, Library, Line, Meta},
};

use crate::harness::{Scene, Waiting};

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/privileged/odd_code");

/// How long a target may run that takes a moment.
const TIMEOUT: Duration = Duration::from_secs(60);

const METHODS: [&str; 2] = ["auto", "perf-events"];

/// A scene whose only library is `libcuda.so.1`, made from `source`.
struct Odd {
    scene: Scene,
    program: PathBuf,
    library: PathBuf,
}

impl Odd {
    fn new(source: &str, flags: &[&str]) -> Self {
        Self::from_path(&Path::new(SOURCES).join(source), flags)
    }

    fn from_path(source: &Path, flags: &[&str]) -> Self {
        let scene = Scene::new(Driver::R580);
        for entry in fs::read_dir(scene.libraries()).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        let library = scene.libraries().join("libcuda.so.1");
        let program = scene.path("standin-odd");
        compile(source, &library, &[&["-shared", "-fPIC", "-Wl,--build-id"], flags].concat());
        let caller = Path::new(SOURCES).join("caller.c");
        compile(&caller, &program, &["-fexceptions", "-pthread", "-ldl"]);
        Self { scene, program, library }
    }

    fn change_library(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(&self.library).unwrap();
        change(&mut bytes);
        fs::write(&self.library, bytes).unwrap();
    }

    /// Runs the target; gives what the library counted.
    fn call(&self, mode: &str, function: &str, calls: u64) -> u64 {
        let calls = calls.to_string();
        let library = self.library.to_str().unwrap();
        let mut child = Command::new(&self.program)
            .args([mode, library, function, &calls])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if started.elapsed() > TIMEOUT {
                child.kill().unwrap();
                panic!("{mode} of {function} does not end");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{mode} of {function}: {}", output.status);
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    }

    fn lines_of(&self, function: &str) -> u64 {
        let report = check(&self.scene.segments());
        // A library without any probe is said to be unseen, which is right here.
        let is_said = |problem: &Problem| matches!(problem, Problem::Unseen { .. });
        assert!(report.problems.iter().all(is_said), "{:?}", report.problems);
        assert_eq!(report.dropped, 0);
        report.functions.get(function).map_or(0, |total| total.lines)
    }

    fn library_line(&self) -> Library {
        let lines = self.scene.library_lines();
        let path = self.library.to_str().unwrap();
        lines.into_iter().find(|line| line.path == path).expect("the library has a line")
    }

    /// The function got no probe, for a reason with this in it, and neither call nor line is lost.
    #[track_caller]
    fn assert_refused(&self, function: &str, reason: &str) {
        let failed = self.library_line().failed;
        let found = failed.get(function).unwrap_or_else(|| panic!("{failed:?}"));
        assert!(found.contains(reason), "{found}");
        assert_eq!(self.lines_of(function), 0);
    }

    fn kernels(&self) -> Vec<Kernel> {
        let kernel = |line| match line {
            Line::Meta(line) => match line.meta {
                Meta::Kernel(kernel) => Some(kernel),
                _ => None,
            },
            Line::Call(_) => None,
        };
        self.scene.lines().into_iter().filter_map(kernel).collect()
    }
}

fn compile(source: &Path, output: &Path, flags: &[&str]) {
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let mut words = compiler.split_whitespace();
    let status = Command::new(words.next().unwrap())
        .args(words)
        // Every function begins with a push, which takes a probe.
        .args(["-O0", "-w", "-o"])
        .args([output, source])
        .args(flags)
        .status()
        .expect("a C compiler: install gcc or clang, or set CC");
    assert!(status.success(), "{}", source.display());
}

#[test]
fn children_survive_calls_of_functions_that_begin_with_a_long_nop() {
    for method in METHODS {
        for detail in ["call", "entry"] {
            let odd = Odd::new("long_nop.S", &[]);
            let sidecar = odd.scene.sidecar(&[("ATTACH_BY", method), ("TRACE_DETAIL", detail)]);
            let mut counted = [0; 3];
            let functions = ["cuEventQuery", "cuEventRecord", "cuEventSynchronize"];
            for (count, function) in counted.iter_mut().zip(functions) {
                *count = odd.call("fork", function, 50);
                assert_eq!(*count, 200, "the parent and three children");
            }
            sidecar.stop();
            odd.assert_refused("cuEventQuery", "long nop");
            // Behind the nop, where the kernel does not step over `lock`: it says so when it is
            // asked, although nobody had mapped the library then.
            odd.assert_refused("cuEventRecord", "");
            let failed = odd.library_line().failed;
            for (count, function) in counted.into_iter().zip(functions) {
                let expected = if failed.contains_key(function) { 0 } else { count };
                assert_eq!(odd.lines_of(function), expected, "{method} {detail} {function}");
            }
            assert_eq!(odd.lines_of("cuEventSynchronize"), 200, "{failed:?}");
        }
    }
}

#[test]
fn a_page_that_never_answers_behind_a_name_holds_up_neither_the_call_nor_the_sidecar() {
    for method in METHODS {
        for function in ["cuModuleGetFunction", "__cudaRegisterFunction"] {
            let odd = Odd::new("library.c", &[]);
            let sidecar = odd.scene.sidecar(&[("ATTACH_BY", method)]);
            let counted = odd.call("name-before", function, 20);
            sidecar.stop();
            assert_eq!((counted, odd.lines_of(function)), (20, 20), "{method}");
            let kernels = odd.kernels();
            assert!(!kernels.is_empty());
            for kernel in kernels {
                assert_eq!(kernel.name.as_deref(), Some("kernel_at_the_end_of_its_page"));
            }
        }
    }
}

#[test]
fn a_name_in_a_page_that_never_answers_and_nobody_reads_does_not_hold_up_a_call() {
    for method in METHODS {
        let odd = Odd::new("library.c", &[]);
        let sidecar = odd.scene.sidecar(&[("ATTACH_BY", method)]);
        let counted = odd.call("name-inside", "cuModuleGetFunction", 20);
        sidecar.stop();
        assert_eq!((counted, odd.lines_of("cuModuleGetFunction")), (20, 20), "{method}");
        assert!(odd.kernels().iter().all(|kernel| kernel.name.is_none()));
    }
}

#[test]
fn a_registered_name_is_read_also_where_nobody_has_touched_its_pages() {
    let odd = Odd::new("library.c", &[]);
    let sidecar = odd.scene.sidecar(&[]);
    let counted = odd.call("name-untouched", "__cudaRegisterFunction", 1);
    sidecar.stop();
    assert_eq!((counted, odd.lines_of("__cudaRegisterFunction")), (1, 1));
    let names: Vec<_> = odd.kernels().into_iter().map(|kernel| kernel.name).collect();
    assert_eq!(names, [Some("kernel_across_two_pages_of_a_file".to_owned())]);
}

#[test]
fn threads_that_end_or_jump_out_of_a_callback_leave_the_process_whole() {
    for method in METHODS {
        let odd = Odd::new("library.c", &["-fexceptions"]);
        let sidecar = odd
            .scene
            .sidecar(&[("ATTACH_BY", method), ("TRACE_FUNCTIONS", "default,cuUserObjectRelease")]);
        let counted = odd.call("call-back", "cuUserObjectRelease", 20);
        sidecar.stop();
        assert_eq!((counted, odd.lines_of("cuUserObjectRelease")), (60, 60), "{method}");
        assert!(odd.scene.calls().iter().all(|call| call.phase == ENTRY_PHASE));
    }
}

#[test]
fn a_library_without_section_headers_is_traced() {
    for method in METHODS {
        let odd = Odd::new("library.c", &[]);
        odd.change_library(|bytes| {
            bytes[40..48].fill(0);
            bytes[60..64].fill(0);
        });
        let sidecar = odd.scene.sidecar(&[("ATTACH_BY", method)]);
        let counted = odd.call("call", "cuEventRecord", 100);
        sidecar.stop();
        assert_eq!((counted, odd.lines_of("cuEventRecord")), (100, 100));
        assert!(!odd.library_line().attached_late);
    }
}

#[test]
fn an_indirect_function_is_refused_by_name_and_the_others_are_traced() {
    for method in METHODS {
        let odd = Odd::new("library.c", &["-DINDIRECT"]);
        let sidecar = odd.scene.sidecar(&[("ATTACH_BY", method)]);
        assert_eq!(odd.call("call", "cuLaunchKernel", 100), 100);
        assert_eq!(odd.call("call", "cuEventRecord", 100), 100);
        sidecar.stop();
        odd.assert_refused("cuLaunchKernel", "IFUNC");
        assert_eq!(odd.lines_of("cuEventRecord"), 100);
    }
}

#[test]
fn functions_in_writable_code_are_refused_by_name() {
    for method in METHODS {
        let odd = Odd::new("library.c", &[]);
        odd.change_library(|bytes| make_code_writable(bytes));
        let sidecar = odd.scene.sidecar(&[("ATTACH_BY", method)]);
        assert_eq!(odd.call("call", "cuEventRecord", 100), 100);
        sidecar.stop();
        odd.assert_refused("cuEventRecord", "writable");
        assert_eq!(odd.library_line().functions, 0);
    }
}

/// Sets the flag of each executable segment, as packers do.
fn make_code_writable(bytes: &mut [u8]) {
    let count = usize::from(bytes[56]);
    for header in bytes[64..].chunks_exact_mut(56).take(count) {
        let is_code = header[..4] == 1_u32.to_le_bytes() && header[4] & 1 != 0;
        header[4] |= if is_code { 2 } else { 0 };
    }
}

#[test]
fn functions_of_a_library_with_text_relocations_are_refused_by_name() {
    for method in METHODS {
        let odd = Odd::new("text_relocations.S", &["-Wl,-z,notext"]);
        let sidecar = odd.scene.sidecar(&[("ATTACH_BY", method)]);
        assert_eq!(odd.call("call", "cuEventRecord", 100), 100);
        sidecar.stop();
        odd.assert_refused("cuEventRecord", "DT_TEXTREL");
    }
}

/// Probes on what is in the file would be decrypted too, into other instructions.
#[test]
fn functions_of_a_library_that_decrypts_itself_are_refused_by_name_and_work() {
    for method in METHODS {
        let odd = Odd::new("encrypted.S", &[]);
        odd.change_library(|bytes| {
            let find = |mark: &[u8]| bytes.windows(mark.len()).position(|found| found == mark);
            let begin = find(b"ENCRYPTED BEGINS").unwrap() + 16;
            let end = find(b"ENCRYPTED ENDS").unwrap();
            bytes[begin..end].iter_mut().for_each(|byte| *byte ^= 0x5a);
        });
        assert_eq!(odd.call("call", "cuEventRecord", 100), 100, "untraced");
        let sidecar = odd.scene.sidecar(&[("ATTACH_BY", method)]);
        assert_eq!(odd.call("call", "cuEventRecord", 100), 100);
        sidecar.stop();
        odd.assert_refused("cuEventRecord", "no code: the library is packed");
    }
}

#[test]
fn a_runtime_that_a_program_has_in_itself_and_exports_is_traced() {
    let scene = Scene::new(Driver::R580);
    let program = scene.path("standin-static");
    compile(&Path::new(SOURCES).join("static_runtime.c"), &program, &["-rdynamic"]);
    let mut sidecar = scene.sidecar(&[]);
    let target = Waiting::start(scene.program(&program, &["100"]));
    sidecar.wait_for("standin-static");
    target.go_and_end();
    sidecar.stop();
    let report = scene.whole_report();
    assert_eq!(report.functions["cuEventRecord"].lines, 100);
    let path = program.to_str().unwrap();
    assert!(scene.library_lines().iter().any(|line| line.path == path && line.attached_late));
}

#[test]
fn more_functions_than_can_be_traced_are_refused_and_the_sidecar_goes_on() {
    let mut source = String::from(".text\n");
    for number in 0..5000 {
        let name = format!("cuMem{number}");
        write!(source, ".globl {name}\n.type {name},@function\n{name}: push %rbp\n").unwrap();
        source.push_str(" lock incq (%rdi)\n xor %eax,%eax\n pop %rbp\n ret\n");
        writeln!(source, ".size {name},.-{name}").unwrap();
    }
    source.push_str(".section .note.GNU-stack,\"\",@progbits\n");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("many.S");
    fs::write(&path, source).unwrap();
    let odd = Odd::from_path(&path, &[]);
    let sidecar = odd.scene.sidecar(&[("TRACE_FUNCTIONS", "all")]);
    let counted = [0, 4999].map(|number| odd.call("call", &format!("cuMem{number}"), 10));
    sidecar.stop();
    assert_eq!(counted, [10, 10]);
    let line = odd.library_line();
    assert_eq!(line.functions, sidecar_common::MAX_FUNCTIONS);
    // The first of them are told by name.
    assert_eq!(line.failed.len(), 65);
    assert!(line.failed.contains_key("(840 more functions)"), "{:?}", line.failed);
    assert_eq!(line.refused(), 904);
    assert!(line.failed.values().all(|reason| reason.contains("narrow TRACE_FUNCTIONS")));
    assert_eq!([0, 4999].map(|number| odd.lines_of(&format!("cuMem{number}"))), [10, 0]);
}
