//! `/metrics`: a status in Prometheus' text format, with its conventions for names and units.

use std::fmt::{Display, Write as _};

use trace::line::{CoverageCounts, Library};

use crate::{
    recording::accounting::Calls,
    reporting::{
        state::Phase,
        status::{Segments, Status, Upload},
    },
};

/// The version of the text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub fn text(status: &Status) -> String {
    let mut text = Text::default();
    text.family("build_info", Kind::Gauge, "The version of the sidecar; always 1");
    let format = status.trace_format.to_string();
    text.sample(&[("version", &status.version), ("trace_format", &format)], 1);
    text.gauge(
        "ready",
        "Whether all libraries that can be found are attached, and calls are recorded",
        u8::from(status.phase == Phase::Recording),
    );
    calls(&mut text, status);
    attached(&mut text, status);
    segments(&mut text, &status.segments);
    if let Some(upload) = &status.uploads {
        uploads(&mut text, upload, &status.segments);
    }
    text.process_start(status.started.as_millisecond());
    text.out
}

fn calls(text: &mut Text, status: &Status) {
    let Calls { recorded, ignored, dropped_at_ring, dropped_at_disk, suppressed, .. } =
        status.calls;
    text.family("hits_total", Kind::Counter, "Calls of traced functions, counted in the kernel");
    for (function, hits) in &status.functions {
        text.sample(&[("function", function)], hits);
    }
    text.family(
        "events_total",
        Kind::Counter,
        "Calls without loss: recorded as a line, ignored because the process is no target, or \
         suppressed by TRACE_RATE_LIMIT",
    );
    text.sample(&[("outcome", "recorded")], recorded);
    text.sample(&[("outcome", "ignored")], ignored);
    text.sample(&[("outcome", "suppressed")], suppressed);
    text.family(
        "drops_total",
        Kind::Counter,
        "Calls that are lost, by what was full: hits are events and drops, and what is on its way",
    );
    text.sample(&[("full", "ring_buffer")], dropped_at_ring);
    text.sample(&[("full", "disk")], dropped_at_disk);
}

fn attached(text: &mut Text, status: &Status) {
    text.family(
        "processes",
        Kind::Gauge,
        "Running processes that have mapped a CUDA library or called one, by whether they are traced",
    );
    text.sample(&[("traced", "true")], status.running(true));
    text.sample(&[("traced", "false")], status.running(false));
    text.gauge("attached_libraries", "CUDA libraries with probes", status.libraries.len());
    text.gauge("attached_probes", "Functions with a probe, over all libraries", status.probes());
    let refused: u64 = status.libraries.iter().map(Library::refused).sum();
    text.gauge("refused_probes", "Functions that refused a probe: they are not traced", refused);
    let CoverageCounts { exact, from, unseen, events_lost, unexamined } = status.coverage.counts;
    text.family(
        "mapped_libraries_total",
        Kind::Counter,
        "CUDA libraries in targets, by how their calls are covered: from the first on, from a later \
         moment on, or not at all",
    );
    text.sample(&[("coverage", "exact")], exact);
    text.sample(&[("coverage", "from")], from);
    text.sample(&[("coverage", "unseen")], unseen);
    text.gauge(
        "unprobed_functions",
        "Functions that have no probe in a target although their library has: changed or moved code",
        status.coverage.unprobed,
    );
    text.counter(
        "process_events_lost_total",
        "How often the kernel lost process events: processes of that time may be unseen",
        events_lost,
    );
    text.gauge(
        "unexamined_files",
        "Files mapped by targets that could not be looked into: they may be CUDA libraries",
        unexamined,
    );
    text.gauge(
        "discovery_longest_turn_seconds",
        "The longest that one process has kept the discovery of libraries from others, since the start",
        Seconds(status.discovery.milliseconds),
    );
}

fn segments(text: &mut Text, segments: &Segments) {
    let Segments { closed, written_bytes, waiting, waiting_bytes, limit_bytes, .. } = segments;
    text.counter("written_bytes_total", "Bytes written to trace files", written_bytes);
    text.counter("closed_segments_total", "Trace files that are complete", closed);
    text.gauge("waiting_segments", "Complete trace files in TRACE_DIR", waiting);
    text.gauge("waiting_bytes", "Bytes in complete trace files in TRACE_DIR", waiting_bytes);
    text.gauge("waiting_limit_bytes", "TRACE_DIR_LIMIT: beyond it calls are dropped", limit_bytes);
}

fn uploads(text: &mut Text, Upload { uploads, .. }: &Upload, segments: &Segments) {
    text.family(
        "uploads_total",
        Kind::Counter,
        "Attempts to upload a trace file: stored and confirmed, or failed by the store or the file",
    );
    text.sample(&[("outcome", "stored")], uploads.stored);
    text.sample(&[("outcome", "store_failed")], uploads.store_failures);
    text.sample(&[("outcome", "file_failed")], uploads.file_failures);
    text.counter("uploaded_bytes_total", "Bytes stored and confirmed", uploads.stored_bytes);
    text.gauge(
        "upload_lag_seconds",
        "How long the oldest complete trace file has waited; up to UPLOAD_INTERVAL is normal",
        Seconds(segments.oldest_waiting_ms.unwrap_or(0)),
    );
    text.gauge(
        "upload_failing",
        "Whether the store failed when it was last asked",
        u8::from(uploads.failing.is_some()),
    );
    text.gauge(
        "upload_stalled",
        "Whether uploads neither succeed nor fail, although one of the two is due",
        u8::from(uploads.stalled.is_some()),
    );
    text.gauge(
        "upload_blocked_segments",
        "Trace files that are not stored while others are; /status has the reason of each",
        uploads.blocked_segments,
    );
    text.counter(
        "upload_restarts_total",
        "How often the upload task ended by itself and was started again",
        uploads.restarts,
    );
    if let Some(time) = uploads.last_stored {
        text.gauge(
            "last_upload_timestamp_seconds",
            "When a trace file was last stored and confirmed, in Unix time",
            Seconds(u64::try_from(time.as_millisecond()).unwrap_or(0)),
        );
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

/// The text, and the family that samples belong to.
#[derive(Default)]
struct Text {
    out: String,
    name: String,
}

impl Text {
    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, Kind::Counter, help);
        self.sample(&[], value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, Kind::Gauge, help);
        self.sample(&[], value);
    }

    fn family(&mut self, name: &str, kind: Kind, help: &str) {
        self.begin(format!("ebpf_cuda_tracer_{name}"), kind, help);
    }

    /// The one name that all exporters share.
    fn process_start(&mut self, milliseconds: i64) {
        let help = "When the sidecar started, in Unix time";
        self.begin("process_start_time_seconds".to_owned(), Kind::Gauge, help);
        self.sample(&[], Seconds(u64::try_from(milliseconds).unwrap_or(0)));
    }

    fn begin(&mut self, name: String, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        self.push(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        self.name = name;
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.out.push_str(&self.name);
        for (index, (label, value)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            self.push(format_args!("{before}{label}=\"{}\"", escape(value)));
        }
        let end = if labels.is_empty() { "" } else { "}" };
        self.push(format_args!("{end} {value}\n"));
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        self.out.write_fmt(text).expect("memory takes everything");
    }
}

/// Milliseconds, shown as seconds without the rounding of floating point.
struct Seconds(u64);

impl Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

/// Names of functions come from files, and may hold anything.
fn escape(value: &str) -> String {
    let escaped = |part| crate::escape::escape(part).replace('\\', "\\\\").replace('"', "\\\"");
    value.split('\n').map(escaped).collect::<Vec<_>>().join("\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reporting::status::tests::{busy, reporter};

    fn value<'a>(text: &'a str, sample: &str) -> &'a str {
        let is_sample =
            |line: &&str| line.strip_prefix(sample).is_some_and(|rest| rest.starts_with(' '));
        let line =
            text.lines().find(is_sample).unwrap_or_else(|| panic!("{sample} is not in {text}"));
        line.rsplit(' ').next().unwrap()
    }

    #[test]
    fn samples_have_the_values_of_the_status() {
        let (_directory, reporter) = busy();
        let text = text(&reporter.status());
        for (sample, expected) in [
            ("build_info{version=\"0.1.0\",trace_format=\"3\"}", "1"),
            ("ready", "1"),
            ("hits_total{function=\"cuMemAlloc_v2\"}", "10"),
            ("events_total{outcome=\"recorded\"}", "6"),
            ("events_total{outcome=\"ignored\"}", "2"),
            ("drops_total{full=\"ring_buffer\"}", "3"),
            ("drops_total{full=\"disk\"}", "1"),
            ("processes{traced=\"true\"}", "1"),
            ("processes{traced=\"false\"}", "1"),
            ("attached_libraries", "1"),
            ("attached_probes", "400"),
            ("refused_probes", "1"),
            ("mapped_libraries_total{coverage=\"exact\"}", "5"),
            ("mapped_libraries_total{coverage=\"from\"}", "4"),
            ("mapped_libraries_total{coverage=\"unseen\"}", "3"),
            ("process_events_lost_total", "2"),
            ("unexamined_files", "1"),
            ("unprobed_functions", "6"),
            ("discovery_longest_turn_seconds", "1.250"),
            ("written_bytes_total", "4096"),
            ("closed_segments_total", "2"),
            ("waiting_segments", "1"),
            ("waiting_bytes", "3"),
            ("waiting_limit_bytes", "1073741824"),
            ("uploads_total{outcome=\"stored\"}", "1"),
            ("uploads_total{outcome=\"store_failed\"}", "5"),
            ("uploads_total{outcome=\"file_failed\"}", "0"),
            ("uploaded_bytes_total", "2048"),
            ("upload_failing", "1"),
            ("upload_stalled", "0"),
            ("upload_blocked_segments", "0"),
            ("upload_restarts_total", "0"),
        ] {
            assert_eq!(value(&text, &format!("ebpf_cuda_tracer_{sample}")), expected, "{sample}");
        }
        assert_eq!(value(&text, "process_start_time_seconds"), "1795490465.500");
        let lag: f64 = value(&text, "ebpf_cuda_tracer_upload_lag_seconds").parse().unwrap();
        assert!((0.0..60.0).contains(&lag), "{lag}");
    }

    #[test]
    fn uploads_that_hang_have_a_sample_of_their_own() {
        let (_directory, reporter) = busy();
        reporter.state().uploads().begin("finding credentials", std::time::Duration::ZERO);
        let text = text(&reporter.status());
        assert_eq!(value(&text, "ebpf_cuda_tracer_upload_stalled"), "1");
    }

    /// The rules of the text format: each family once, its samples behind its two comments.
    #[test]
    fn every_sample_stands_below_the_type_of_its_family() {
        let (_directory, reporter) = busy();
        let text = text(&reporter.status());
        let (mut families, mut current) = (std::collections::HashSet::new(), String::new());
        for line in text.lines() {
            if let Some(comment) = line.strip_prefix("# HELP ") {
                current = comment.split(' ').next().unwrap().to_owned();
                assert!(families.insert(current.clone()), "{current} comes twice");
            } else if let Some(comment) = line.strip_prefix("# TYPE ") {
                let (name, kind) = comment.split_once(' ').unwrap();
                assert_eq!(name, current);
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            } else {
                assert_eq!(line.split(['{', ' ']).next().unwrap(), current, "{line}");
                line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
            }
        }
        assert!(text.ends_with('\n') && families.len() > 15);
    }

    #[test]
    fn without_uploads_there_are_no_samples_of_them() {
        let (_directory, reporter) = reporter(None);
        let text = text(&reporter.status());
        assert!(!text.contains("upload"), "{text}");
        assert_eq!(value(&text, "ebpf_cuda_tracer_ready"), "0");
    }

    #[test]
    fn label_values_are_escaped() {
        assert_eq!(escape("a\\b\"c\nd"), r#"a\\b\"c\nd"#);
        assert_eq!(escape("\u{1b}[2J\\u\u{9b}"), r"\\u001b[2J\\u\\u009b");
    }
}
