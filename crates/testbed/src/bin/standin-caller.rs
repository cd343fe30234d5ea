//! Calls CUDA functions as a test or a benchmark asks: which, how often, from how many threads, before or after a
//! fork, an exec or a late load.

use std::hint::black_box;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use serde_json::json;
use testbed::cuda::{self, Function, Library, WORDS};
use testbed::libraries::{DRIVER, RUNTIME};
use testbed::sequence::{self, Prepared};
use testbed::unusual::{self, ChangeCode, LoadAs};

#[derive(Debug, Parser)]
#[expect(clippy::struct_excessive_bools, reason = "they are flags of a command line")]
#[command(
    version,
    about = "Calls CUDA functions in a loop, or every one of them once, and says in one JSON line how that went"
)]
struct Options {
    /// A library to load, by path or by soname through the loader; may be repeated, the driver first.
    /// Without it, the one that has the function is loaded by soname.
    #[arg(long)]
    library: Vec<PathBuf>,
    /// The function to call; may be repeated: they are called in turn, one as often as it is named.
    #[arg(long, required_unless_present = "sequence", conflicts_with = "sequence")]
    function: Vec<String>,
    /// Call every function of the loaded libraries (without --library: of both) once or more, with known arguments.
    #[arg(long)]
    sequence: bool,
    /// Zeros, or what makes the function succeed (launches, copies, graph launches and synchronisations).
    #[arg(long, value_enum, default_value_t = Arguments::Zero)]
    arguments: Arguments,
    /// Calls of each thread; with several functions, turns over all of them.
    #[arg(long, default_value_t = 1, conflicts_with = "seconds")]
    calls: u64,
    /// Call for this long instead.
    #[arg(long)]
    seconds: Option<f64>,
    /// Call until stdin ends instead; prints `{"pid":N,"calling":true}` first.
    #[arg(long, conflicts_with_all = ["calls", "seconds", "wait_stdin", "sequence"])]
    until_stdin_ends: bool,
    /// Microseconds that each thread sleeps after each turn.
    #[arg(long, default_value_t = 0)]
    pause: u64,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Do not call cuInit first.
    #[arg(long)]
    no_init: bool,
    /// Milliseconds to wait before loading.
    #[arg(long, default_value_t = 0)]
    late: u64,
    /// After loading, print `{"pid":N,"waiting":true}` and wait for a line on stdin before the first call.
    #[arg(long)]
    wait_stdin: bool,
    /// After loading and cuInit, fork a child that makes the same calls and prints its own line.
    #[arg(long)]
    fork: bool,
    /// Replace the process by a fresh run of itself first.
    #[arg(long)]
    exec: bool,
    /// Make the calls, then replace the process by a run of PROGRAM with the same arguments.
    #[arg(long, value_name = "PROGRAM")]
    then_exec: Option<PathBuf>,
    /// Change the root directory first.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Load the libraries, which must be paths, in an unusual way.
    #[arg(long, value_enum, requires = "library")]
    load_as: Option<LoadAs>,
    /// Change the code of the (last) function before the first call.
    #[arg(long, value_enum, requires = "function")]
    change_code: Option<ChangeCode>,
    /// Words that only stand in the command line, behind `--`.
    #[arg(last = true)]
    words: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Arguments {
    Zero,
    Valid,
}

static STDIN_HAS_ENDED: AtomicBool = AtomicBool::new(false);

fn main() -> Result<()> {
    let options = Options::parse();
    if options.exec {
        return Err(exec_again());
    }
    if let Some(root) = &options.root {
        unusual::change_root(root)?;
    }
    thread::sleep(Duration::from_millis(options.late));
    let libraries = load(&options)?;
    if let (Some(change), Some(name)) = (options.change_code, options.function.last()) {
        unusual::change_code(having(&libraries, name)?.1, change)?;
    }
    if options.wait_stdin {
        print_line(&json!({"pid": std::process::id(), "waiting": true}))?;
        std::io::stdin()
            .read_line(&mut String::new())
            .context("cannot read the line to wait for from stdin")?;
    }
    init(&options, &libraries)?;
    if options.until_stdin_ends {
        print_line(&json!({"pid": std::process::id(), "calling": true}))?;
        thread::spawn(|| {
            // An error is an end too.
            drop(std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
            STDIN_HAS_ENDED.store(true, Ordering::Relaxed);
        });
    }
    if !options.fork {
        run(&options, &libraries)?;
        return match &options.then_exec {
            Some(program) => Err(exec_other(program)),
            None => Ok(()),
        };
    }
    // SAFETY: no other thread runs yet, so the child may do whatever the parent may.
    let child = unsafe { libc::fork() };
    match child {
        -1 => Err(std::io::Error::last_os_error()).context("cannot fork"),
        0 => {
            init(&options, &libraries)?;
            run(&options, &libraries)
        }
        child => {
            let own = run(&options, &libraries);
            wait_for(child)?;
            own
        }
    }
}

fn exec_again() -> anyhow::Error {
    let arguments = std::env::args_os().skip(1).filter(|argument| argument != "--exec");
    let error = match std::env::current_exe() {
        Ok(path) => Command::new(path).args(arguments).exec(),
        Err(error) => error,
    };
    anyhow::Error::from(error).context("cannot execute this program again")
}

/// With the same arguments, but for the one that led here.
fn exec_other(program: &Path) -> anyhow::Error {
    let mut arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--then-exec") {
        arguments.drain(at..at + 2);
    }
    let error = Command::new(program).args(arguments).exec();
    anyhow::Error::from(error).context("cannot execute the other program")
}

fn load(options: &Options) -> Result<Vec<Library>> {
    if let Some(way) = options.load_as {
        return options.library.iter().map(|path| unusual::load(path, way)).collect();
    }
    if !options.library.is_empty() {
        return options.library.iter().map(Library::open).collect();
    }
    let has = |runtime| options.function.iter().any(|name| is_runtime(name) == runtime);
    let by_soname = [(DRIVER, false), (RUNTIME, true)];
    by_soname
        .into_iter()
        .filter(|(_, runtime)| options.sequence || has(*runtime))
        .map(|(soname, _)| Library::open(soname))
        .collect()
}

fn is_runtime(function: &str) -> bool {
    function.trim_start_matches('_').starts_with("cuda")
}

fn having<'library>(
    libraries: &'library [Library],
    function: &str,
) -> Result<(&'library Library, Function)> {
    let mut missing = Vec::new();
    for library in libraries {
        match library.function(function) {
            Ok(found) => return Ok((library, found)),
            Err(error) => missing.push(format!("{error:#}")),
        }
    }
    bail!("cannot find {function}: {}", missing.join("; "))
}

/// The runtime initialises itself; the driver is told.
fn init(options: &Options, libraries: &[Library]) -> Result<()> {
    if options.no_init || options.function.iter().all(|name| is_runtime(name)) {
        return Ok(());
    }
    let (_, init) = having(libraries, "cuInit")?;
    // SAFETY: cuInit takes one word, which must be zero.
    let code = cuda::code(unsafe { cuda::call(init, [0]) });
    ensure!(code == 0, "cuInit failed with {code}");
    Ok(())
}

fn run(options: &Options, libraries: &[Library]) -> Result<()> {
    let started = Instant::now();
    let pid = std::process::id();
    if options.sequence {
        let driver = libraries.first().context("no library is loaded")?;
        let handles = sequence::run(driver, libraries.get(1))?;
        return print_line(
            &json!({"pid": pid, "seconds": started.elapsed().as_secs_f64(), "handles": handles}),
        );
    }
    let turn = options
        .function
        .iter()
        .map(|name| {
            let (library, function) = having(libraries, name)?;
            let arguments = match options.arguments {
                Arguments::Zero => [0; WORDS],
                Arguments::Valid => Prepared::of(name, library)?.arguments,
            };
            Ok((function, arguments))
        })
        .collect::<Result<Vec<_>>>()?;
    let started = Instant::now();
    // All threads there are at once, whatever each of them does.
    let last_call = Barrier::new(options.threads);
    let call = || {
        let calls = repeat(options, &turn);
        last_call.wait();
        calls
    };
    let calls: u64 = thread::scope(|scope| {
        let threads: Vec<_> = (0..options.threads).map(|_| scope.spawn(call)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(0)).sum()
    });
    let seconds = started.elapsed().as_secs_f64();
    let nanoseconds =
        if calls == 0 { 0.0 } else { seconds * 1e9 * options.threads as f64 / calls as f64 };
    print_line(&json!({"pid": pid, "calls": calls, "seconds": seconds, "ns_per_call": nanoseconds}))
}

/// Returns how many calls were made.
fn repeat(options: &Options, turn: &[(Function, [usize; WORDS])]) -> u64 {
    if let &[(function, arguments)] = turn {
        if arguments == [0; WORDS] {
            return repeat_plain(options, function);
        }
        // SAFETY: the arguments were prepared for this function.
        return repeat_call(options, || unsafe { cuda::call(function, black_box(arguments)) });
    }
    let turns = repeat_call(options, || {
        for &(function, arguments) in turn {
            // SAFETY: as above.
            black_box(unsafe { cuda::call(function, black_box(arguments)) });
        }
    });
    turns * turn.len() as u64
}

/// Six zeros in registers, nothing on the stack: the cheapest call there is, for measuring what a probe adds.
fn repeat_plain(options: &Options, function: Function) -> u64 {
    type Plain = unsafe extern "C" fn(usize, usize, usize, usize, usize, usize) -> usize;
    // SAFETY: both are C functions of words; what a function reads beyond the sixth it may find as anything.
    let function = unsafe { std::mem::transmute::<Function, Plain>(function) };
    // SAFETY: CUDA functions answer null handles and pointers with a code.
    repeat_call(options, || unsafe { function(0, 0, 0, 0, 0, 0) })
}

fn repeat_call<Answer>(options: &Options, call: impl Fn() -> Answer) -> u64 {
    let pause = Duration::from_micros(options.pause);
    if options.until_stdin_ends || !pause.is_zero() {
        let end = options.seconds.map(|seconds| Instant::now() + Duration::from_secs_f64(seconds));
        let mut calls = 0;
        loop {
            let is_over = if options.until_stdin_ends {
                STDIN_HAS_ENDED.load(Ordering::Relaxed)
            } else {
                end.map_or(calls == options.calls, |end| Instant::now() >= end)
            };
            if is_over {
                return calls;
            }
            black_box(call());
            calls += 1;
            if !pause.is_zero() {
                thread::sleep(pause);
            }
        }
    }
    let Some(seconds) = options.seconds else {
        for _ in 0..options.calls {
            black_box(call());
        }
        return options.calls;
    };
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let mut calls = 0;
    while Instant::now() < end {
        for _ in 0..256 {
            black_box(call());
        }
        calls += 256;
    }
    calls
}

fn wait_for(child: libc::pid_t) -> Result<()> {
    let mut status = 0;
    // SAFETY: the child is ours and `status` is writable.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    ensure!(
        waited == child,
        "cannot wait for the forked child: {}",
        std::io::Error::last_os_error()
    );
    ensure!(
        libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0,
        "the forked child ended with status {status:#x}"
    );
    Ok(())
}

/// One whole line in one write, so that parent and child cannot mix theirs.
fn print_line(value: &serde_json::Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{value}\n").as_bytes())
        .and_then(|()| out.flush())
        .context("cannot print the result")
}
