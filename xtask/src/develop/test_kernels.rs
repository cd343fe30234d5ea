//! `cargo xtask test-kernels`: the kernels that the README names, booted in guests in which the real sidecar traces.

mod guest;
mod initramfs;
mod package;

use std::{collections::BTreeMap, sync::Mutex, thread};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use tasks::{
    command::is_on_path,
    ctx::{Ctx, target_directory},
};

use crate::pins;
use guest::{Outcome, Report};

/// Boot the kernels that the README names, and run the tests with real probes that concern kernels
///
/// Debian's cloud kernels, emulated, so that it needs neither root nor KVM: 6.1 attaches by perf
/// events, 6.12 and the newest of unstable by links. The tests are those of
/// sidecar/tests/privileged: each compares the trace with what the called libraries counted.
/// Kernels are downloaded once, to target/kernels; remove that to get newer ones.
#[derive(Debug, Args)]
pub(crate) struct TestKernels {
    /// Only this one; may be repeated
    #[arg(long, value_name = "KERNEL", value_parser = pins::KERNELS.map(|kernel| kernel.name))]
    kernel: Vec<String>,

    /// Guests at a time; most of their time they wait for grace periods of their kernels
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=16))]
    guests: u32,
}

/// What is run in each guest.
#[derive(Debug, Clone, Copy)]
struct Check {
    /// For the table.
    what: &'static str,
    /// The module and the function in `sidecar/tests/privileged`.
    test: &'static str,
}

/// Those that attach many perf events stand last: the kernel goes on closing them meanwhile.
const CHECKS: [Check; 9] = [
    Check {
        what: "what the kernel cannot do is refused by name",
        test: "kernels::what_the_kernel_cannot_do_is_said_and_what_it_asks_for_is_named",
    },
    Check {
        what: "threads keep their calls, by links and by perf events",
        test: "kernels::threads_that_share_a_processor_do_not_share_their_calls",
    },
    Check {
        what: "kill and restart",
        test: "crash::after_kill_9_and_restart_every_closed_segment_is_stored_once_and_the_open_one_is_marked",
    },
    Check {
        what: "the end does not wait for perf events",
        test: "stopping::the_sidecar_ends_before_its_perf_events_are_closed_one_by_one",
    },
    Check {
        what: "a kill while they are closed",
        test: "stopping::a_kill_while_probes_are_closed_leaves_a_whole_trace",
    },
    Check {
        what: "a library found by its mapping",
        test: "coverage::a_library_at_an_unusual_path_is_attached_when_it_is_mapped_and_stays_attached",
    },
    Check {
        what: "a processor that was away",
        test: "kernels::what_is_mapped_on_a_processor_that_was_away_is_seen",
    },
    Check {
        what: "every function: entries, JSON lines, stop in time",
        test: "kernels::entries_of_every_function_are_recorded",
    },
    Check {
        what: "every function: whole calls, zstd, stop in time",
        test: "kernels::compressed_segments_hold_every_call",
    },
];

/// Programs, and Debian's packages of them.
const TOOLS: [(&str, &str); 7] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("setpriv", "util-linux"),
    ("strip", "binutils"),
    ("apt-get", "apt"),
    ("dpkg-deb", "dpkg"),
    ("tar", "tar"),
];

pub(crate) fn run(ctx: &Ctx, TestKernels { kernel, guests }: &TestKernels) -> Result<()> {
    let kernels: Vec<_> = pins::KERNELS
        .into_iter()
        .filter(|one| kernel.is_empty() || kernel.iter().any(|name| name == one.name))
        .collect();
    if ctx.dry_run {
        for kernel in kernels {
            eprintln!("would boot {} and run:", kernel.name);
            for Check { test, .. } in CHECKS {
                eprintln!("  {test}");
            }
        }
        return Ok(());
    }
    require_tools()?;
    let directory = target_directory().join("kernels");
    let images = ctx.step("kernels", || {
        kernels.iter().map(|kernel| package::image(kernel, &directory)).collect::<Result<Vec<_>>>()
    })?;
    let initramfs = ctx.step("what the guests run", || initramfs::build(&ctx.sh, &directory))?;
    let reports = ctx.step("guests", || {
        let waiting = Mutex::new(images.into_iter().enumerate().collect::<Vec<_>>());
        let reports = Mutex::new(BTreeMap::new());
        let work = || -> Result<()> {
            loop {
                let next = waiting.lock().expect("no other thread panics").pop();
                let Some((number, image)) = next else { return Ok(()) };
                let report = guest::run(&image, &initramfs)
                    .with_context(|| format!("cannot run a guest with {}", image.release))?;
                reports.lock().expect("no other thread panics").insert(number, report);
            }
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..*guests).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|worker| worker.join().expect("it does not panic"))
        })?;
        Ok(reports.into_inner().expect("no thread panicked").into_values().collect::<Vec<_>>())
    })?;
    println!("{}", table(&reports));
    let failed: Vec<_> = reports.iter().filter(|report| !report.passed()).collect();
    for report in &failed {
        for (test, reason) in report.failures() {
            eprintln!("\n{}: {test}\n{reason}", report.release);
        }
    }
    if let [first, ..] = failed[..] {
        bail!(
            "{} of {} kernels failed; consoles are in {}, such as {}.log",
            failed.len(),
            reports.len(),
            directory.display(),
            first.name
        );
    }
    eprintln!("test-kernels: {} kernels passed in {}", reports.len(), ctx.elapsed());
    Ok(())
}

fn require_tools() -> Result<()> {
    let missing: Vec<_> = TOOLS.into_iter().filter(|(program, _)| !is_on_path(program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let (programs, packages): (Vec<_>, Vec<_>) = missing.into_iter().unzip();
    let programs = programs.join(", ");
    ensure!(
        is_on_path("apt-get"),
        "no {programs} here: kernels come from Debian's packages, so this task needs Debian or Ubuntu"
    );
    bail!("no {programs} here: apt-get install --no-install-recommends {}", packages.join(" "))
}

/// Checks by kernels.
fn table(reports: &[Report]) -> String {
    let heads = reports.iter().map(|report| report.release.clone());
    let mut rows = vec![["check".to_owned()].into_iter().chain(heads).collect::<Vec<_>>()];
    let boots = reports.iter().map(|report| match report.boot_seconds {
        Some(seconds) => format!("{seconds:.0} s"),
        None => "no".to_owned(),
    });
    rows.push(["boots".to_owned()].into_iter().chain(boots).collect());
    for Check { what, test } in CHECKS {
        let cells = reports.iter().map(|report| match report.outcomes.get(test) {
            Some(Outcome::Passed { seconds }) => format!("ok {seconds} s"),
            Some(Outcome::Failed { .. }) => "FAILED".to_owned(),
            None => "not run".to_owned(),
        });
        rows.push([what.to_owned()].into_iter().chain(cells).collect());
    }
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let line = |row: &Vec<String>| {
        let cells = row.iter().enumerate();
        let cells = cells.map(|(column, cell)| format!("{cell:<width$}", width = width(column)));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use tasks::ctx::workspace_root;

    #[test]
    fn every_check_is_a_test_that_exists() {
        for Check { test, .. } in CHECKS {
            let (module, function) = test.split_once("::").unwrap();
            let file = workspace_root().join(format!("sidecar/tests/privileged/{module}.rs"));
            let text = fs::read_to_string(file).unwrap();
            assert!(text.contains(&format!("fn {function}()")), "no test {test}");
        }
    }

    #[test]
    fn a_check_that_failed_and_one_that_was_not_reached_stand_in_the_table() {
        let mut report = Report::new("6.1", "6.1.0-50-cloud-amd64");
        for line in [
            "@ boot 9.1",
            "@ start kernels::entries_of_every_function_are_recorded",
            "@ ok kernels::entries_of_every_function_are_recorded 12",
            "@ start kernels::compressed_segments_hold_every_call",
            "| assertion failed",
            "@ failed kernels::compressed_segments_hold_every_call 3",
        ] {
            report.take(line);
        }
        let table = table(&[report]);
        let cell = |what: &str| {
            let row = table.lines().find(|line| line.starts_with(what)).unwrap();
            row.rsplit("  ").next().unwrap().to_owned()
        };
        assert_eq!(cell("boots"), "9 s");
        assert_eq!(cell("every function: entries"), "ok 12 s");
        assert_eq!(cell("every function: whole calls"), "FAILED");
        assert_eq!(cell("a processor that was away"), "not run");
    }
}
