//! Why nothing can be said of a run: it is no trace, or no call of it is in the window.

use std::{fs::File, io::Read as _, path::Path};

use crate::{
    answer::{
        Unit, Value,
        units::{printable, shown},
    },
    context::Context,
    input::RunFiles,
    pass::{Moment, Window},
    questions::tokens::load::Load,
};

/// What a file is stands in its beginning.
const BEGINNING_BYTES: u64 = 4096;

/// In words, what is wrong and what to type; `None` if there is something to say of the run.
pub fn nothing(run: &RunFiles, window: &Window, context: &Context) -> Option<String> {
    if context.calls > 0 {
        return None;
    }
    if let Some((first, last)) = context.span_of_run {
        let place = |ns: i64| moment(Moment::Run(ns), context);
        return Some(format!(
            "run {}: no call {}; the calls of the run are from {} to {}",
            printable(&run.name),
            asked(window, context),
            place(first),
            place(last)
        ));
    }
    // What is a segment by its name is a damaged one.
    let [file] = &run.files[..] else { return None };
    if file.sequence.is_some() || file.exported.is_some() || !context.meta_lines.is_empty() {
        return None;
    }
    let name = printable(&file.path().display().to_string());
    if let Some(told) = looks_like(file.path()).filter(|_| !file.location.is_stdin()) {
        return Some(format!("{name} is no trace: it looks like {told}"));
    }
    let reason = context.gaps.first().map_or_else(|| "it is empty".to_owned(), ToString::to_string);
    Some(format!("{name} is no trace: {}", printable(&reason)))
}

fn asked(Window { from, to }: &Window, context: &Context) -> String {
    let told = |at: &Option<Moment>| at.map(|at| moment(at, context));
    match (told(from), told(to)) {
        (Some(from), Some(to)) => format!("between {from} and {to}"),
        (Some(from), None) => format!("from {from} on"),
        (None, Some(to)) => format!("before {to}"),
        (None, None) => "is in it".to_owned(),
    }
}

/// As the window was asked for, and by the time of day where that is known.
fn moment(at: Moment, context: &Context) -> String {
    let time = |ns: i64, unit: Unit| shown(&Value::from(ns), unit);
    match at {
        Moment::Unix(unix_ns) => time(unix_ns, Unit::UnixNanoseconds),
        Moment::Run(ns) => {
            let since = format!("{} after its start", time(ns, Unit::Nanoseconds));
            match context.time.unix_ns(ns) {
                Some(unix_ns) => format!("{} ({since})", time(unix_ns, Unit::UnixNanoseconds)),
                None => since,
            }
        }
    }
}

/// What else this program reads or writes, or a newcomer may have at hand.
fn looks_like(path: &Path) -> Option<String> {
    let mut beginning = Vec::new();
    File::open(path).ok()?.take(BEGINNING_BYTES).read_to_end(&mut beginning).ok()?;
    let text = String::from_utf8_lossy(&beginning);
    let text = text.trim_start();
    let has = |part: &str| text.contains(part);
    let begins =
        |part: &str| text.get(..part.len()).is_some_and(|start| start.eq_ignore_ascii_case(part));
    if begins("<!doctype html") || begins("<html") {
        return Some("a HTML page: give the trace that it was made of".to_owned());
    }
    if begins("timestamp,") && has("memory.used") {
        return Some("the output of nvidia-smi: put --nvml before it, for memory".to_owned());
    }
    if !begins("{") {
        return None;
    }
    if has("\"program_version\"") && has("\"question\"") {
        return Some("answers of --json: `cuda-trace diff` compares them".to_owned());
    }
    if let Some(program) = Load::read(path).ok().and_then(|load| load.program()) {
        return Some(format!("the result of a load test ({program}): put --load before it"));
    }
    if has("\"traceEvents\"") || has("\"deviceProperties\"") {
        return Some("a profile of torch.profiler: put --merge before it, for timeline".to_owned());
    }
    None
}
