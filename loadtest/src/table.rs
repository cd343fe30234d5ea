//! A run's figures as text for people.

use crate::{
    record::{
        Bounds, ClientFigures, Failure, FailureGroup, FigureBounds, RequestRecord, RunResult,
        ServerFigures, Summary, Window,
    },
    server_metrics::{Sample, ServerMetrics},
    statistics::Distribution,
};

/// The whole report, each line ended.
pub(crate) fn render(result: &RunResult) -> String {
    let RunResult { settings, summary, notes, requests, client, .. } = result;
    let how = if settings.stream { "streamed" } else { "not streamed" };
    let place = match &settings.base_urls[..] {
        [] => format!("{} port {}", settings.host, settings.port),
        [url] => url.clone(),
        urls => format!("{} servers", urls.len()),
    };
    let mut lines = vec![format!("{} at {place}, {}, {how}", settings.model, settings.endpoint)];
    if let ("single", [request]) = (settings.test.as_str(), &requests[..]) {
        lines.extend(conversation(request));
    }
    let rate = match (&settings.replay, &settings.ramp, settings.rate) {
        (Some(_), ..) => Some("as recorded".to_owned()),
        (_, Some(ramp), _) => Some(format!("{ramp} a second")),
        (.., rate) => rate.map(|rate| format!("{rate} a second")),
    };
    let at_once = match (rate, settings.workers) {
        (Some(rate), 0) => rate,
        (Some(rate), most) => format!("{rate}, at most {most} at once"),
        (None, 1) => "one at a time".to_owned(),
        (None, workers) => format!("{workers} at once"),
    };
    if summary.warmup_requests > 0 {
        lines.push(format!("warm-up     {} requests, left out below", summary.warmup_requests));
    }
    lines.push(format!(
        "requests    {} of {} succeeded, {at_once}, {:.2} s",
        summary.succeeded, settings.count, summary.wall_seconds
    ));
    lines.push(format!(
        "tokens      {} in, {} out",
        or_dash(summary.input_tokens),
        or_dash(summary.output_tokens)
    ));
    lines.push(format!(
        "throughput  {} output tokens/s, {:.2} requests/s",
        summary
            .output_tokens_per_second
            .map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}")),
        summary.requests_per_second
    ));
    if let Some(goodput) = &summary.goodput {
        lines.push(format!(
            "goodput     {:.2} requests/s, {} of {} requests kept the limits",
            goodput.good_requests_per_second, goodput.good_requests, summary.requests
        ));
    }
    if summary.succeeded > 0 {
        lines.push(String::new());
        lines.extend(distributions(summary));
        for (name, percentiles) in &summary.percentiles {
            let values = percentiles.iter().map(|(name, value)| format!("{name} {value:.2}"));
            lines.push(format!("{name:<15} {}", values.collect::<Vec<_>>().join("  ")));
        }
        lines.extend(window_lines(&summary.windows));
        lines.extend(summary.servers.iter().flat_map(server_lines));
        lines.extend(client.as_ref().map(|client| client_line(client, summary.connect_ms)));
        lines.extend(client.as_ref().and_then(|client| bounds_line(&client.bounds)));
        lines.extend(result.server_metrics.iter().flat_map(|it| metrics_lines(it, summary)));
    }
    for group in &summary.failures {
        lines.push(String::new());
        lines.push(failure(group));
    }
    let marks = client.as_ref().map(|client| &client.marks[..]).unwrap_or_default();
    if !marks.is_empty() {
        lines.push(String::new());
        lines.extend(marks.iter().map(|mark| format!("MARKED: {mark}")));
    }
    if !notes.is_empty() {
        lines.push(String::new());
        lines.extend(notes.iter().map(|note| format!("note: {note}")));
    }
    lines.iter().flat_map(|line| [line, "\n"]).collect()
}

/// A failure, then the text at fault and the way out, on lines of their own.
pub(crate) fn explain(failure: &Failure) -> String {
    let Failure { kind: _, message, detail, advice } = failure;
    let extra = |label: &str, text: &Option<String>| {
        text.as_ref().map(|text| format!("\n  {label}: {text}"))
    };
    [Some(message.clone()), extra("received", detail), extra("try", advice)]
        .into_iter()
        .flatten()
        .collect()
}

fn conversation(request: &RequestRecord) -> impl Iterator<Item = String> {
    let reasoning = Some(request.reasoning_text.trim()).filter(|text| !text.is_empty());
    [
        Some(format!("prompt      {}", request.prompt)),
        reasoning.map(|text| format!("reasoning   {text}")),
        Some(format!("answer      {}", request.output_text.trim())),
        Some(format!("finish      {}", request.finish_reason.as_deref().unwrap_or("-"))),
        Some(format!("request id  {}", request.request_id)),
    ]
    .into_iter()
    .flatten()
}

/// How wrong the figures can be.
fn bounds_line(bounds: &FigureBounds) -> Option<String> {
    let between = |name: &str, bounds: Option<Bounds>, decimals: usize| {
        bounds.map(|Bounds { low, high }| format!("{name} {low:.decimals$} to {high:.decimals$}"))
    };
    let parts = [
        between("TTFT mean", bounds.ttft_mean_ms, 3),
        between("TPOT mean", bounds.tpot_mean_ms, 3),
        between("tokens/s", bounds.output_tokens_per_second, 1),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| format!("error bars      {}", parts.join(", ")))
}

/// What of the figures may be the client's, in one line.
fn client_line(client: &ClientFigures, connect: Option<Distribution>) -> String {
    let p99 = |name: &str, distribution: Option<Distribution>| {
        distribution.map(|it| format!("{name} p99 {:.2} max {:.2} ms", it.p99, it.max))
    };
    let parts = [
        Some(format!("{:.0} % CPU", client.cpu_share * 100.0)),
        p99("late by", client.schedule_lag_ms),
        p99("connect", connect),
        p99("send", client.send_ms),
        p99("read lag", client.receive_lag_ms),
    ];
    format!("this client     {}", parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

/// What a server says of itself, and its times beside those that were measured here.
fn metrics_lines(metrics: &ServerMetrics, summary: &Summary) -> Vec<String> {
    let level = |name: &str, of: fn(&Sample) -> Option<f64>| {
        let (mean, max) = metrics.mean_and_max(of)?;
        Some(format!("{name} {mean:.1}, at most {max:.0}"))
    };
    let usage = metrics
        .mean_and_max(|it| it.kv_cache_usage)
        .map(|(mean, max)| format!("KV cache {:.0} %, at most {:.0} %", mean * 100.0, max * 100.0));
    let now = [
        level("running", |it| it.running),
        level("waiting", |it| it.waiting),
        usage,
        metrics.preemptions.map(|count| format!("{count:.0} preemptions")),
        metrics.prefix_hit_share.map(|share| format!("prefix hits {:.0} %", share * 100.0)),
        metrics
            .iterations
            .zip(metrics.tokens_per_iteration)
            .map(|(count, tokens)| format!("{count:.0} iterations of {tokens:.1} tokens")),
    ];
    let beside = |name: &str, own: Option<f64>, here: Option<Distribution>| {
        let here = here.map_or_else(String::new, |here| format!(" (here {:.2})", here.mean));
        own.map(|own| format!("{name} {own:.2}{here}"))
    };
    let times = [
        beside("TTFT", metrics.ttft_mean_ms, summary.ttft_ms),
        beside("TPOT", metrics.tpot_mean_ms, summary.tpot_ms),
        beside("queue", metrics.queue_mean_ms, None),
        beside("prefill", metrics.prefill_mean_ms, None),
        beside("decode", metrics.decode_mean_ms, None),
    ];
    let line = |name: &str, parts: Vec<String>| {
        (!parts.is_empty()).then(|| format!("{name:<15} {}", parts.join(", ")))
    };
    [
        line("the server", now.into_iter().flatten().collect()),
        line("its means, ms", times.into_iter().flatten().collect()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A ramp's parts.
fn window_lines(windows: &[Window]) -> Vec<String> {
    let mut lines = Vec::new();
    if !windows.is_empty() {
        lines.push(String::new());
        let heads = ["seconds", "requests/s", "failed", "TTFT p50", "TTFT p99", "TPOT p50"];
        lines.push(heads.map(|head| format!("{head:>12}")).concat());
    }
    for window in windows {
        let of = |value: Option<f64>| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"))
        };
        let cells = [
            format!("{:.0}..{:.0}", window.from_s, window.to_s),
            format!("{:.2}", window.requests_per_second),
            window.failed.to_string(),
            of(window.ttft_ms.map(|it| it.p50)),
            of(window.ttft_ms.map(|it| it.p99)),
            of(window.tpot_ms.map(|it| it.p50)),
        ];
        lines.push(cells.map(|cell| format!("{cell:>12}")).concat());
    }
    lines
}

/// One of several servers.
fn server_lines(figures: &ServerFigures) -> Vec<String> {
    let ServerFigures { server, requests, failed, ttft_ms, tpot_ms, e2e_ms } = figures;
    let mut lines = vec![
        String::new(),
        format!("server      {server}: {} of {requests} succeeded", requests - failed),
    ];
    let rows = [("TTFT ms", ttft_ms), ("TPOT ms", tpot_ms), ("end to end ms", e2e_ms)];
    lines.extend(rows.map(|(name, distribution)| row(name, cells(*distribution))));
    lines
}

fn distributions(summary: &Summary) -> Vec<String> {
    let from_due = summary.ttft_from_due_ms.map(|it| ("TTFT from due", Some(it)));
    let rows = [
        ("TTFT ms", summary.ttft_ms),
        ("ITL ms", summary.itl_ms),
        ("TPOT ms", summary.tpot_ms),
        ("end to end ms", summary.e2e_ms),
        ("output tokens/s", summary.request_output_tokens_per_second),
    ];
    let header = row("", ["mean", "p50", "p90", "p99", "max"].map(str::to_owned));
    let rows =
        from_due.into_iter().chain(rows).map(|(name, distribution)| row(name, cells(distribution)));
    std::iter::once(header).chain(rows).collect()
}

fn row(name: &str, [mean, p50, p90, p99, max]: [String; 5]) -> String {
    format!("{name:<15} {mean:>10} {p50:>10} {p90:>10} {p99:>10} {max:>10}")
}

fn cells(distribution: Option<Distribution>) -> [String; 5] {
    match distribution {
        Some(Distribution { count: _, mean, p50, p90, p99, max }) => {
            [mean, p50, p90, p99, max].map(|value| format!("{value:.2}"))
        }
        None => std::array::from_fn(|_| "-".to_owned()),
    }
}

fn failure(group: &FailureGroup) -> String {
    const SHOWN: usize = 10;
    let FailureGroup { count, failure, requests } = group;
    let listed = requests.iter().take(SHOWN).map(u32::to_string).collect::<Vec<_>>().join(", ");
    let rest = if requests.len() > SHOWN { ", ..." } else { "" };
    let who = if *count == 1 {
        format!("request {listed}")
    } else {
        format!("{count} requests ({listed}{rest})")
    };
    format!("{who} failed: {}", explain(failure))
}

fn or_dash(value: Option<u64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_value_is_a_dash() {
        assert_eq!(
            row("ITL ms", cells(None)).split_whitespace().collect::<Vec<_>>()[2..],
            ["-"; 5]
        );
        assert_eq!(or_dash(None), "-");
    }

    #[test]
    fn columns_stand_below_their_headers() {
        let header = row("", ["mean", "p50", "p90", "p99", "max"].map(str::to_owned));
        let line = row("end to end ms", cells(Distribution::of([1.0, 12345.678])));
        assert_eq!(header.len(), line.len());
        assert_eq!(line, "end to end ms      6173.34       1.00   12345.68   12345.68   12345.68");
    }

    #[test]
    fn a_group_names_its_first_requests_and_the_way_out() {
        let group = FailureGroup {
            count: 12,
            failure: Failure {
                kind: "timeout".to_owned(),
                message: "timed out".to_owned(),
                detail: None,
                advice: Some("raise --timeout".to_owned()),
            },
            requests: (1..=12).collect(),
        };
        let expected = "12 requests (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ...) failed: timed out\n  try: raise --timeout";
        assert_eq!(failure(&group), expected);
    }
}
