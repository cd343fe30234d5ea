//! Starts the sidecar and its targets, and reads what they left.

// By path, because the suite of faults has this file too.
#[path = "harness/sidecar.rs"]
mod sidecar;
#[path = "harness/waiting.rs"]
mod waiting;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

pub(crate) use sidecar::Sidecar;
use tables::lines::open;
use testbed::libraries::{self, Driver};
use trace::{
    check::{Report, check_opened},
    line::{Call, Library, Line, Meta, Process},
    reader::Reader,
    segment_name::Format,
};
pub(crate) use waiting::Waiting;

const SIDECAR: &str = env!("CARGO_BIN_EXE_ebpf-cuda-tracer");

/// Also for a guest whose processor is emulated.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A directory with libraries, a trace directory, and the callee's own counts.
pub(crate) struct Scene {
    directory: tempfile::TempDir,
}

impl Scene {
    pub(crate) fn new(driver: Driver) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let scene = Self { directory };
        for path in [scene.libraries(), scene.traces(), scene.counts_directory()] {
            fs::create_dir(path).unwrap();
        }
        libraries::install(&scene.libraries(), driver).unwrap();
        scene
    }

    pub(crate) fn libraries(&self) -> PathBuf {
        self.directory.path().join("lib")
    }

    /// Moves the driver to where no search finds it.
    pub(crate) fn hide_driver(&self, path: &Path) {
        let link = self.libraries().join("libcuda.so.1");
        fs::rename(fs::canonicalize(&link).unwrap(), path).unwrap();
        fs::remove_file(link).unwrap();
    }

    pub(crate) fn traces(&self) -> PathBuf {
        self.directory.path().join("traces")
    }

    pub(crate) fn counts_directory(&self) -> PathBuf {
        self.directory.path().join("counts")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A sidecar that traces `standin`, finds the libraries before anyone maps them, and does not
    /// upload, unless `variables` say otherwise.
    pub(crate) fn sidecar(&self, variables: &[(&str, &str)]) -> Sidecar {
        let mut command = Command::new(SIDECAR);
        self.configure(&mut command).envs(variables.iter().copied());
        Sidecar::start(command)
    }

    /// The same, started by another program.
    pub(crate) fn sidecar_by(&self, program: &str, arguments: &[&str]) -> Sidecar {
        let mut command = Command::new(program);
        command.args(arguments).arg(SIDECAR);
        self.configure(&mut command);
        Sidecar::start(command)
    }

    /// The same with nothing but these capabilities, as a container has them.
    pub(crate) fn sidecar_with_capabilities(&self, names: &str) -> Sidecar {
        Sidecar::start(self.with_capabilities(names))
    }

    /// What the sidecar says when these capabilities are not enough.
    pub(crate) fn refused_with_capabilities(&self, names: &str) -> String {
        refused(self.with_capabilities(names))
    }

    /// What it says when these variables do not let it start.
    pub(crate) fn refused(&self, variables: &[(&str, &str)]) -> String {
        let mut command = Command::new(SIDECAR);
        self.configure(&mut command).envs(variables.iter().copied());
        refused(command)
    }

    fn with_capabilities(&self, names: &str) -> Command {
        let only = format!("-all,+{}", names.replace(',', ",+"));
        let mut command = Command::new("setpriv");
        command.args(["--inh-caps", &only, "--bounding-set", &only, SIDECAR]);
        self.configure(&mut command);
        command
    }

    /// The sidecar as it is, to be started in another way than here.
    pub(crate) fn sidecar_command(&self) -> Command {
        let mut command = Command::new(SIDECAR);
        self.configure(&mut command);
        command
    }

    pub(crate) fn configure<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("TARGET_PROCESS", "standin")
            .env("TRACE_DIR", self.traces())
            .env("UPLOAD_ENABLED", "false")
            .env("CUDA_LIBRARY_DIRS", self.libraries())
            // Tests may run beside other sidecars.
            .env("HTTP_ADDRESS", "127.0.0.1:0")
    }

    /// `standin-caller`, which calls what its arguments say.
    pub(crate) fn caller(&self, arguments: &[&str]) -> Command {
        self.program(&standin_caller(), arguments)
    }

    pub(crate) fn program(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("LD_LIBRARY_PATH", self.libraries())
            .env("CUDA_STANDIN_COUNTS", self.counts_directory());
        command
    }

    /// What the libraries counted, by function, over all processes.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        testbed::counts::sum(&testbed::counts::read(&self.counts_directory()).unwrap())
    }

    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        segments_in(&self.traces())
    }

    /// Waits until so many call lines are in files, closed or not.
    pub(crate) fn wait_for_lines(&self, count: usize) {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let files = fs::read_dir(self.traces()).unwrap().map(|entry| entry.unwrap().path());
            // A file may get another name meanwhile, and what is being written may be half there.
            let lines =
                files.filter_map(|path| Some(Reader::new(open(&path).ok()?, &path))).flatten();
            let found = lines.filter(|line| matches!(line, Ok(Line::Call(_)))).count();
            if found >= count {
                return;
            }
            assert!(Instant::now() < deadline, "only {found} of {count} lines were written");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The trace, which must be whole.
    pub(crate) fn whole_report(&self) -> Report {
        let report = check_opened(&self.segments(), open);
        assert!(report.is_whole(), "dropped {}, problems {:?}", report.dropped, report.problems);
        report
    }

    pub(crate) fn lines(&self) -> Vec<Line> {
        self.segments()
            .iter()
            .flat_map(|segment| Reader::new(open(segment).unwrap(), segment))
            .map(|line| line.unwrap())
            .collect()
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        let call = |line| if let Line::Call(call) = line { Some(call) } else { None };
        self.lines().into_iter().filter_map(call).collect()
    }

    /// `CLOCK_MONOTONIC` at `ts` 0.
    pub(crate) fn start_monotonic_ns(&self) -> u64 {
        let start = self.lines().into_iter().find_map(|line| match line {
            Line::Meta(line) => match line.meta {
                Meta::SegmentOpen(open) => Some(open.clock.start_monotonic_ns),
                _ => None,
            },
            Line::Call(_) => None,
        });
        start.expect("every segment is opened")
    }

    pub(crate) fn library_lines(&self) -> Vec<Library> {
        let library = |line| match line {
            Line::Meta(line) => match line.meta {
                Meta::Library(library) => Some(library),
                _ => None,
            },
            Line::Call(_) => None,
        };
        self.lines().into_iter().filter_map(library).collect()
    }

    pub(crate) fn process_lines(&self) -> Vec<(u32, Process)> {
        let process = |line| match line {
            Line::Meta(line) => match line.meta {
                Meta::Process(process) => Some((line.pid, process)),
                _ => None,
            },
            Line::Call(_) => None,
        };
        self.lines().into_iter().filter_map(process).collect()
    }
}

fn refused(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

pub(crate) fn segments_in(directory: &Path) -> Vec<PathBuf> {
    let mut segments: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().and_then(Format::of).is_some())
        .collect();
    segments.sort();
    segments
}

/// The report has so many lines by function, and no others.
#[track_caller]
pub(crate) fn assert_lines(report: &Report, counts: &BTreeMap<String, u64>) {
    let hits: u64 = report.functions.values().map(|total| total.hits).sum();
    let Report { files, ignored, .. } = report;
    assert_eq!(
        &lines_of(report),
        counts,
        "of {hits} hits {ignored} were ignored as of no target; {files} files"
    );
}

fn lines_of(report: &Report) -> BTreeMap<String, u64> {
    let lines = report.functions.iter().map(|(name, total)| (name.clone(), total.lines));
    lines.filter(|(_, lines)| *lines > 0).collect()
}

/// Only functions that the sidecar traces by default.
pub(crate) fn default_set(counts: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let selection = cuda::function::Selection::default();
    counts.into_iter().filter(|(name, _)| selection.contains(name)).collect()
}

/// Lies beside this test's directory when the workspace has been built.
pub(crate) fn standin_caller() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().with_file_name("standin-caller");
    assert!(path.exists(), "{} is missing: cargo build -p testbed", path.display());
    path
}

/// Runs a target to its end.
pub(crate) fn run(mut command: Command) {
    let status = command.stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}
