//! Faults into the real sidecar: each is injected while programs are traced on stand-ins, and then
//! it is proved that nothing was lost. A table says which, how often, and what it took.
//!
//! `cargo xtask test-faults` runs it; needs root, eBPF and util-linux. It moves into namespaces of
//! its own, so that its mounts end with it and no other sidecar sees its processes.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a case fails by panicking; the table goes to stdout"
)]

mod case;
mod cgroup;
mod disk;
#[expect(dead_code, unused_imports, reason = "the privileged tests have the rest")]
#[path = "../privileged/harness.rs"]
mod harness;
mod load;
mod memory;
mod processes;
mod proof;
mod soak;
mod stage;
mod stops;
mod store;
mod table;
mod target;
mod traps;
mod witness;

use std::{
    env,
    os::unix::process::CommandExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
    process::{Command, ExitCode},
    time::Instant,
};

use clap::Parser as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use case::{Case, Ended, Size};
use table::Row;

/// Inject faults into the real sidecar, and prove that nothing is lost
#[derive(Debug, clap::Parser)]
#[command(name = "test-faults")]
struct Options {
    /// Each fault fewer times and for less time
    #[arg(long)]
    short: bool,

    /// Only cases whose name contains this; may be repeated
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,

    /// Print the names of all cases and what they do
    #[arg(long)]
    list: bool,

    /// Chooses the random moments; the same number, the same moments
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,

    /// Instead of faults: hours of use in this many minutes, in which nothing may grow
    #[arg(long, value_name = "MINUTES")]
    soak: Option<u64>,
}

/// Set inside the namespaces.
const INSIDE: &str = "FAULTS_INSIDE";

fn main() -> ExitCode {
    let Options { short, only, list, seed, soak } = Options::parse();
    let cases: Vec<Case> =
        [store::CASES, disk::CASES, processes::CASES, stops::CASES, memory::CASES]
            .concat()
            .into_iter()
            .filter(|case| only.is_empty() || only.iter().any(|name| case.name.contains(name)))
            .collect();
    if list {
        for Case { name, about, .. } in &cases {
            println!("{name:<26} {about}");
        }
        return ExitCode::SUCCESS;
    }
    if cases.is_empty() {
        eprintln!("no case has a name like {only:?}: --list prints them");
        return ExitCode::from(2);
    }
    if env::var_os(INSIDE).is_none() {
        return enter_namespaces();
    }
    // The witness keeps every segment open.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    if let Some(minutes) = soak {
        return soak::run(minutes);
    }
    let size = Size { is_short: short, seed };
    let started = Instant::now();
    let rows: Vec<Row> = cases.iter().map(|case| run(case, size)).collect();
    println!("\n{}", table::text(&rows));
    let failed: Vec<&str> =
        rows.iter().filter(|row| row.is_failure()).map(|row| row.name).collect();
    println!("seed {seed}, {} s", started.elapsed().as_secs());
    if failed.is_empty() {
        println!("nothing was lost");
        return ExitCode::SUCCESS;
    }
    println!("FAILED: {}", failed.join(", "));
    ExitCode::FAILURE
}

fn run(case: &Case, size: Size) -> Row {
    eprintln!("\n== {}: {}", case.name, case.about);
    let started = Instant::now();
    // What a case says when it panics has been printed.
    let ended = catch_unwind(AssertUnwindSafe(|| (case.run)(size))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panicked");
        Ended::Failed(text.to_owned())
    });
    let row = Row { name: case.name, ended, seconds: started.elapsed().as_secs() };
    eprintln!("== {}: {}", case.name, row.verdict());
    row
}

/// Runs this again with its own mounts and processes; all of them end with it.
fn enter_namespaces() -> ExitCode {
    let error = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"])
        .arg(env::current_exe().unwrap())
        .args(env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    eprintln!("cannot run unshare, of util-linux: {error}; it needs root");
    ExitCode::FAILURE
}
