//! A status for people. Escapes nothing: what it is given is escaped already.

use std::fmt::Write as _;

use jiff::Timestamp;
use trace::line::{CoverageCounts, CoverageKind};

use super::{Process, Segments, Status, Upload};
use crate::reporting::state::{Blocked, Caller, Coverage, Failing, Gap, Phase, Stalled};

/// Functions that are shown; `--json` has all of them.
const MAX_FUNCTIONS: usize = 10;

/// Processes that are shown; `--json` has all that are known.
const MAX_PROCESSES: usize = 20;

/// Libraries that are shown; `--json` has all of them.
const MAX_LIBRARIES: usize = 20;

pub(crate) fn of(status: &Status) -> String {
    let mut out = String::new();
    head(&mut out, status);
    processes(&mut out, status);
    libraries(&mut out, status);
    coverage(&mut out, &status.coverage);
    calls(&mut out, status);
    segments(&mut out, &status.segments);
    match &status.uploads {
        Some(upload) => uploads(&mut out, upload),
        None => line(&mut out, "uploads", "off (UPLOAD_ENABLED is false)"),
    }
    out
}

fn head(out: &mut String, status: &Status) {
    let phase = match (status.phase, &status.failed_thread) {
        (Phase::Starting, _) => "starting: attaching to libraries".to_owned(),
        (Phase::Recording, _) => "recording".to_owned(),
        (Phase::Stopping, _) => "stopping: closing and uploading the trace".to_owned(),
        (Phase::Failed, thread) => {
            format!("FAILED: the thread {} ended", thread.as_deref().unwrap_or("?"))
        }
    };
    let Status { version, host, kernel, pid, started, run, target_process, .. } = status;
    line(
        out,
        "sidecar",
        &format!("{phase} (version {version}, pid {pid} on {host}, Linux {kernel})"),
    );
    line(out, "run", &format!("{run}, for {}", since(*started)));
    line(
        out,
        "target",
        &format!(
            "what has {target_process:?} in its executable, comm or command line, and what it starts"
        ),
    );
}

fn processes(out: &mut String, status: &Status) {
    let visible = status.visible_processes;
    if status.processes.is_empty() {
        let text = format!(
            "none of the {visible} visible ones has mapped a CUDA library or called a traced function \
             (those of other containers are visible with shareProcessNamespace or hostPID only)"
        );
        line(out, "processes", &text);
        return;
    }
    let text = format!(
        "{} traced and {} not are running, of {visible} visible ones",
        status.running(true),
        status.running(false)
    );
    line(out, "processes", &text);
    for Process { caller, reason } in status.processes.iter().take(MAX_PROCESSES) {
        let verdict = if caller.matched_by.is_some() { "traced" } else { "not traced" };
        let did = match (caller.has_mapped, caller.has_called) {
            (_, true) => "called CUDA",
            (true, false) => "mapped a CUDA library, called nothing yet",
            (false, false) => "did nothing yet",
        };
        let part = part(caller);
        let ended = if caller.is_running { "" } else { ", ended" };
        let name = [&caller.command, &caller.executable, &caller.comm].into_iter().flatten().next();
        let name = name.map_or("?", String::as_str);
        push(out, format_args!("  {:>7}  {verdict}: {reason}; {did}{part}{ended}\n", caller.pid));
        push(out, format_args!("           {name}\n"));
    }
    more(out, status.processes.len(), MAX_PROCESSES, "processes");
    if status.forgotten_processes > 0 {
        push(
            out,
            format_args!("  and {} that were too many to be kept\n", status.forgotten_processes),
        );
    }
}

/// What it is in a vLLM server, as far as that is known.
fn part(caller: &Caller) -> String {
    let mut part = String::new();
    if let (Some(role), Some(by)) = (&caller.role, &caller.role_by) {
        push(&mut part, format_args!("; {role}"));
        for (label, rank) in &caller.ranks {
            push(&mut part, format_args!(" {label} {rank}"));
        }
        push(&mut part, format_args!(" by its {by}"));
    }
    part
}

fn libraries(out: &mut String, status: &Status) {
    let libraries = &status.libraries;
    if libraries.is_empty() {
        line(out, "libraries", "none found yet: CUDA_LIBRARY_DIRS adds places to look in");
        return;
    }
    line(out, "libraries", &format!("{} with {} probes", libraries.len(), status.probes()));
    for library in libraries.iter().take(MAX_LIBRARIES) {
        push(out, format_args!("  {}\n", library.path));
        let late =
            if library.attached_late { ", mapped before: earlier calls are missing" } else { "" };
        push(
            out,
            format_args!(
                "    {} probes ({} single-stepped, {} refused), found by {}{late}\n",
                library.functions,
                library.single_stepped,
                library.refused(),
                library.found_by
            ),
        );
    }
    more(out, libraries.len(), MAX_LIBRARIES, "libraries");
}

fn coverage(out: &mut String, coverage: &Coverage) {
    let Coverage {
        counts: CoverageCounts { exact, from, unseen, events_lost, unexamined },
        gaps,
        ..
    } = coverage;
    let text = format!(
        "of {} libraries in processes: {exact} from the first call on, {from} from a later moment \
         on, {unseen} NOT SEEN",
        exact + from + unseen
    );
    line(out, "coverage", &text);
    for Gap { pid, coverage, path, reason, .. } in gaps {
        let what = match coverage {
            CoverageKind::Unseen => "NOT SEEN",
            _ => "in part",
        };
        let reason = reason.as_deref().unwrap_or("?").escape_debug();
        push(out, format_args!("  {pid:>7}  {what}: {}: {reason}\n", path.escape_debug()));
    }
    if *events_lost > 0 {
        push(
            out,
            format_args!(
                "  the kernel lost process events {events_lost} times: processes that lived only \
                 then may be missing\n"
            ),
        );
    }
    if *unexamined > 0 {
        push(
            out,
            format_args!(
                "  mapped files not examined: {unexamined}; calls into CUDA libraries among them are \
                 missing\n"
            ),
        );
    }
}

fn calls(out: &mut String, status: &Status) {
    let calls = &status.calls;
    let dropped = calls.dropped_at_ring + calls.dropped_at_disk;
    let arrived = calls.recorded + calls.ignored + calls.suppressed + dropped;
    let text = format!(
        "{} = {} recorded + {} ignored + {dropped} dropped{} + {} open or on their way",
        calls.hits,
        calls.recorded,
        calls.ignored,
        match calls.suppressed {
            0 => String::new(),
            suppressed => format!(" + {suppressed} suppressed"),
        },
        calls.hits.saturating_sub(arrived)
    );
    line(out, "calls", &text);
    if dropped > 0 {
        push(
            out,
            format_args!(
                "  dropped: {} at a full ring buffer (RING_BUFFER_SIZE), {} at a full disk, \
                 TRACE_DIR_LIMIT or a deleted segment\n",
                calls.dropped_at_ring, calls.dropped_at_disk
            ),
        );
    }
    let mut functions: Vec<(&String, &u64)> = status.functions.iter().collect();
    functions.sort_by_key(|&(name, hits)| (std::cmp::Reverse(*hits), name));
    for (name, hits) in functions.iter().take(MAX_FUNCTIONS) {
        push(out, format_args!("  {hits:>10}  {name}\n"));
    }
    more(out, functions.len(), MAX_FUNCTIONS, "functions");
}

fn segments(out: &mut String, segments: &Segments) {
    let Segments { closed, written_bytes, waiting, waiting_bytes, limit_bytes, .. } = segments;
    line(out, "segments", &format!("{closed} closed, {written_bytes} bytes written in this run"));
    push(
        out,
        format_args!(
            "  {waiting} closed ones in {}: {waiting_bytes} of {limit_bytes} bytes\n",
            segments.directory.display()
        ),
    );
    if segments.is_paused {
        push(
            out,
            format_args!(
                "  PAUSED: the disk is full, TRACE_DIR_LIMIT reached, or the open segment deleted\n"
            ),
        );
    }
}

fn uploads(out: &mut String, Upload { destination, uploads }: &Upload) {
    line(out, "uploads", &format!("to {destination}"));
    let last = uploads.last_stored.map_or("never".to_owned(), |time| since(time) + " ago");
    push(
        out,
        format_args!(
            "  {} stored ({} bytes, the last {last}), {} failed by the store, {} by the file\n",
            uploads.stored, uploads.stored_bytes, uploads.store_failures, uploads.file_failures
        ),
    );
    if let Some(Failing { since: first, error }) = &uploads.failing {
        push(out, format_args!("  FAILING for {}: {error}\n", since(*first)));
    }
    if let Some(Stalled { since: first, step }) = &uploads.stalled {
        push(
            out,
            format_args!(
                "  STALLED for {}: uploads neither succeed nor fail, they hang at {step}: look at what \
                 that waits for, with `check-s3`; a restart of the sidecar takes them up again\n",
                since(*first)
            ),
        );
    }
    if uploads.restarts > 0 {
        push(out, format_args!("  the upload task was started again {} times\n", uploads.restarts));
    }
    for Blocked { segment, since: first, attempts, error } in &uploads.blocked {
        let first = since(*first);
        push(out, format_args!("  BLOCKED for {first}, {attempts} attempts: {segment}: {error}\n"));
    }
    if let Some(more) =
        uploads.blocked_segments.checked_sub(uploads.blocked.len()).filter(|&more| more > 0)
    {
        push(out, format_args!("  and {more} segments more\n"));
    }
}

/// What a list leaves out.
fn more(out: &mut String, there: usize, shown: usize, what: &str) {
    if there > shown {
        push(out, format_args!("  and {} more {what}: --json has all\n", there - shown));
    }
}

fn line(out: &mut String, what: &str, text: &str) {
    push(out, format_args!("{what:<10} {text}\n"));
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("memory takes everything");
}

fn since(time: Timestamp) -> String {
    duration(Timestamp::now().as_second() - time.as_second())
}

/// The two largest units.
fn duration(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reporting::status::tests::{busy, reporter};

    #[test]
    fn a_busy_sidecar_tells_of_everything() {
        let (_directory, reporter) = busy();
        let text = of(&reporter.status());
        for expected in [
            "sidecar    recording (version ",
            "run        node_20261124T032105.123Z, for ",
            "processes  1 traced and 1 not are running, of ",
            "  traced: its executable contains \"python\"; called CUDA\n",
            "not traced: neither its executable, comm nor command line contains \"python\", and no \
             target started it; mapped a CUDA library, called nothing yet\n",
            "libraries  1 with 400 probes\n  /usr/lib/libcuda.so.1\n",
            "    400 probes (3 single-stepped, 1 refused), found by mapping, mapped before",
            "calls      12 = 6 recorded + 2 ignored + 4 dropped + 0 open or on their way\n",
            "  dropped: 3 at a full ring buffer (RING_BUFFER_SIZE), 1 at a full disk",
            "          10  cuMemAlloc_v2\n           2  cuInit\n",
            "segments   2 closed, 4096 bytes written in this run\n  1 closed ones in /",
            ": 3 of 1073741824 bytes\n",
            "uploads    to s3://traces/k3s-vllm/\n  1 stored (2048 bytes, the last 0 s ago), 5 failed \
             by the store, 0 by the file\n",
            "  FAILING for 0 s: cannot reach http://minio:9000: Connection refused\n",
        ] {
            assert!(text.contains(expected), "no {expected:?} in\n{text}");
        }
        let executable = std::env::current_exe().unwrap().display().to_string();
        assert!(text.contains(&executable), "{text}");
    }

    #[test]
    fn long_lists_are_bounded_and_say_what_they_leave_out() {
        let (_directory, reporter) = busy();
        let mut status = reporter.status();
        let last = status.processes[1].clone();
        status.processes.resize(100, last);
        let library = status.libraries[0].clone();
        status.libraries.resize(100, library);
        status.forgotten_processes = 7;
        let text = of(&status);
        assert!(
            text.contains("  and 80 more processes: --json has all\n  and 7 that were"),
            "{text}"
        );
        assert!(text.contains("  and 80 more libraries: --json has all\n"), "{text}");
        assert!(text.lines().count() < 120, "{text}");
    }

    #[test]
    fn an_idle_sidecar_says_what_may_be_wrong() {
        let (_directory, reporter) = reporter(None);
        reporter.state().enter(Phase::Recording);
        let text = of(&reporter.status());
        for expected in [
            "visible ones has mapped a CUDA library",
            "with shareProcessNamespace or hostPID only",
            "libraries  none found yet: CUDA_LIBRARY_DIRS",
            "calls      0 = 0 recorded",
            "uploads    off (UPLOAD_ENABLED is false)\n",
        ] {
            assert!(text.contains(expected), "no {expected:?} in\n{text}");
        }
    }

    #[test]
    fn uploads_that_hang_and_segments_that_wait_for_a_reason_of_their_own_are_told() {
        let (_directory, reporter) = busy();
        {
            let mut uploads = reporter.state().uploads();
            uploads.begin("finding credentials", std::time::Duration::ZERO);
            uploads.restarts = 2;
            uploads.blocked_segments = 3;
            uploads.blocked.push(Blocked {
                segment: "trace_h_s_000001.jsonl".to_owned(),
                since: Timestamp::now(),
                attempts: 4,
                error: "the store keeps something else under this name".to_owned(),
            });
        }
        let text = of(&reporter.status());
        for expected in [
            "  STALLED for 0 s: uploads neither succeed nor fail, they hang at finding credentials: ",
            "  the upload task was started again 2 times\n",
            "  BLOCKED for 0 s, 4 attempts: trace_h_s_000001.jsonl: the store keeps something else",
            "  and 2 segments more\n",
        ] {
            assert!(text.contains(expected), "no {expected:?} in\n{text}");
        }
    }

    #[test]
    fn a_failure_names_the_thread() {
        let (_directory, reporter) = reporter(None);
        reporter.state().thread_failed("recorder");
        assert!(of(&reporter.status()).contains("sidecar    FAILED: the thread recorder ended"));
    }

    #[test]
    fn a_worker_is_told_with_its_ranks() {
        let (_directory, reporter) = busy();
        let mut status = reporter.status();
        let caller = &mut status.processes[0].caller;
        caller.role = Some("worker".to_owned());
        caller.role_by = Some("title".to_owned());
        caller.ranks = [("tp".to_owned(), 1), ("pp".to_owned(), 0)].into();
        let expected = "; called CUDA; worker pp 0 tp 1 by its title\n";
        let text = of(&status);
        assert!(text.contains(expected), "no {expected:?} in\n{text}");
    }

    #[test]
    fn durations_have_the_two_largest_units() {
        for (seconds, expected) in
            [(-1, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (7260, "2 h 1 min"), (90_000, "1 d 1 h")]
        {
            assert_eq!(duration(seconds), expected);
        }
    }
}
