//! From the records of a run to its figures.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use crate::{
    record::{FailureGroup, Goodput, RequestRecord, ServerFigures, Summary, Window},
    slo::Slo,
    statistics::{self, Distribution, rounded},
};

/// Figures of a run that took `wall`, from its first request to its last answer.
pub fn summarise(records: &[RequestRecord], wall: Duration) -> Summary {
    let counted: Vec<&RequestRecord> = records.iter().filter(|record| !record.warmup).collect();
    let succeeded: Vec<&RequestRecord> =
        counted.iter().copied().filter(|record| record.succeeded()).collect();
    let distribution = |value: fn(&RequestRecord) -> Option<f64>| {
        Distribution::of(succeeded.iter().filter_map(|&record| value(record)))
    };
    let input_tokens: Option<u64> = succeeded.iter().map(|record| record.input_tokens).sum();
    let output_tokens: Option<u64> = succeeded.iter().map(|record| record.output_tokens).sum();
    let per_second =
        |count: f64| if wall.is_zero() { 0.0 } else { rounded(count / wall.as_secs_f64()) };
    Summary {
        requests: counted.len(),
        succeeded: succeeded.len(),
        failed: counted.len() - succeeded.len(),
        wall_seconds: rounded(wall.as_secs_f64()),
        requests_per_second: per_second(succeeded.len() as f64),
        input_tokens,
        output_tokens,
        output_tokens_per_second: output_tokens.map(|tokens| per_second(tokens as f64)),
        responses_without_usage: succeeded
            .iter()
            .filter(|record| record.output_tokens.is_none())
            .count(),
        warmup_requests: records.len() - counted.len(),
        retried: counted.iter().filter(|record| record.retried).count(),
        queue_ms: distribution(|record| Some(record.queue_ms)),
        connect_ms: distribution(|record| record.connect_ms),
        streaming_ms: distribution(|record| record.streaming_ms),
        ttft_from_due_ms: distribution(|record| {
            record.schedule_lag_ms?;
            Some(rounded(record.ttft_ms? + record.queue_ms + record.connect_ms.unwrap_or_default()))
        }),
        ttft_ms: distribution(|record| record.ttft_ms),
        itl_ms: Distribution::of(succeeded.iter().flat_map(|record| record.gaps_ms())),
        tpot_ms: distribution(|record| record.tpot_ms),
        e2e_ms: distribution(|record| Some(record.e2e_ms)),
        request_output_tokens_per_second: distribution(|record| record.output_tokens_per_second),
        goodput: None,
        percentiles: BTreeMap::new(),
        windows: Vec::new(),
        servers: servers(&counted),
        failures: group_failures(&counted),
    }
}

/// A run of this length in so many parts.
pub(crate) fn windows(records: &[RequestRecord], length: Duration, parts: u32) -> Vec<Window> {
    let counted: Vec<&RequestRecord> = records.iter().filter(|record| !record.warmup).collect();
    let start = counted.iter().map(|record| record.start_unix_ns).min().unwrap_or(0);
    let width = length.as_secs_f64() / f64::from(parts);
    let window = |part: u32| {
        let (from, to) = (width * f64::from(part), width * f64::from(part + 1));
        let is_inside = |record: &&&RequestRecord| {
            let at = (record.start_unix_ns - start) as f64 / 1e9;
            at >= from && (at < to || part + 1 == parts)
        };
        let inside: Vec<&RequestRecord> = counted.iter().filter(is_inside).copied().collect();
        let distribution = |value: fn(&RequestRecord) -> Option<f64>| {
            let succeeded = inside.iter().filter(|record| record.succeeded());
            Distribution::of(succeeded.filter_map(|&record| value(record)))
        };
        Window {
            from_s: rounded(from),
            to_s: rounded(to),
            requests: inside.len(),
            failed: inside.iter().filter(|record| !record.succeeded()).count(),
            requests_per_second: rounded(inside.len() as f64 / width),
            ttft_ms: distribution(|record| record.ttft_ms),
            tpot_ms: distribution(|record| record.tpot_ms),
        }
    };
    (0..parts).map(window).collect()
}

fn servers(records: &[&RequestRecord]) -> Vec<ServerFigures> {
    let mut of_server: BTreeMap<&str, Vec<&RequestRecord>> = BTreeMap::new();
    for &record in records {
        if let Some(server) = &record.server {
            of_server.entry(server).or_default().push(record);
        }
    }
    let figures = |(server, records): (&str, Vec<&RequestRecord>)| {
        let distribution = |value: fn(&RequestRecord) -> Option<f64>| {
            let succeeded = records.iter().filter(|record| record.succeeded());
            Distribution::of(succeeded.filter_map(|&record| value(record)))
        };
        ServerFigures {
            server: server.to_owned(),
            requests: records.len(),
            failed: records.iter().filter(|record| !record.succeeded()).count(),
            ttft_ms: distribution(|record| record.ttft_ms),
            tpot_ms: distribution(|record| record.tpot_ms),
            e2e_ms: distribution(|record| Some(record.e2e_ms)),
        }
    };
    of_server.into_iter().map(figures).collect()
}

/// What of the run kept the service level.
pub(crate) fn goodput(slo: Slo, records: &[RequestRecord], wall: Duration) -> Goodput {
    let counted = || records.iter().filter(|record| !record.warmup);
    let good_requests = counted().filter(|record| slo.is_kept(record)).count();
    let over = |whole: f64| if whole > 0.0 { rounded(good_requests as f64 / whole) } else { 0.0 };
    Goodput {
        slo,
        good_requests,
        good_requests_per_second: over(wall.as_secs_f64()),
        good_share: over(counted().count() as f64),
    }
}

/// The wanted percentiles of each figure, by its name in the summary.
pub(crate) fn percentiles(
    records: &[RequestRecord],
    wanted: &[f64],
) -> BTreeMap<String, BTreeMap<String, f64>> {
    let succeeded = || records.iter().filter(|record| !record.warmup && record.succeeded());
    let of = |value: fn(&RequestRecord) -> Option<f64>| {
        statistics::percentiles(succeeded().filter_map(value), wanted)
    };
    [
        ("ttft_ms", of(|record| record.ttft_ms)),
        ("itl_ms", statistics::percentiles(succeeded().flat_map(RequestRecord::gaps_ms), wanted)),
        ("tpot_ms", of(|record| record.tpot_ms)),
        ("e2e_ms", of(|record| Some(record.e2e_ms))),
    ]
    .into_iter()
    .filter_map(|(name, found)| Some((name.to_owned(), found?)))
    .collect()
}

/// Both chunks were read at once, so the gap between them is none.
pub(crate) fn is_together(gap_ms: f64) -> bool {
    gap_ms <= 0.0
}

/// The most frequent reason first; reasons of equal weight in the order they appeared. A group has the words of its first.
fn group_failures(records: &[&RequestRecord]) -> Vec<FailureGroup> {
    let mut groups: Vec<FailureGroup> = Vec::new();
    let mut position: HashMap<_, usize> = HashMap::new();
    for &record in records {
        let Some(failure) = &record.failure else { continue };
        let cause = (&failure.kind, record.http_status, without_identifiers(&failure.message));
        let group = *position.entry(cause).or_insert(groups.len());
        if group == groups.len() {
            groups.push(FailureGroup { count: 0, failure: failure.clone(), requests: vec![] });
        }
        groups[group].count += 1;
        groups[group].requests.push(record.index);
    }
    groups.sort_by_key(|group| Reverse(group.count));
    groups
}

/// The words of a message, with one sign for each that holds a digit: request ids, counts and times differ from one
/// failure to the next of the same cause.
fn without_identifiers(message: &str) -> String {
    let is_word =
        |character: char| character.is_alphanumeric() || matches!(character, '-' | '_' | '.');
    let mut words = String::new();
    let mut rest = message;
    while !rest.is_empty() {
        let end = rest.find(|character| !is_word(character)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        words.push_str(if word.contains(|character: char| character.is_ascii_digit()) {
            "#"
        } else {
            word
        });
        let gap = after.find(is_word).unwrap_or(after.len());
        words.push_str(&after[..gap]);
        rest = &after[gap..];
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Failure;

    fn record(
        index: u32,
        e2e_ms: f64,
        output_tokens: Option<u64>,
        failure: Option<&str>,
    ) -> RequestRecord {
        RequestRecord {
            index,
            request_id: format!("r-{index}"),
            completion_id: None,
            prompt: String::new(),
            started_at: "2026-01-01T00:00:00Z".to_owned(),
            start_unix_ns: 0,
            queue_ms: 0.0,
            connect_ms: None,
            tls_ms: None,
            server: None,
            send_ms: None,
            schedule_lag_ms: None,
            retried: false,
            warmup: false,
            failure: failure.map(|message| Failure {
                kind: "http_status".to_owned(),
                message: message.to_owned(),
                detail: None,
                advice: None,
            }),
            http_status: None,
            streamed: true,
            headers_ms: None,
            ttft_ms: None,
            itl_ms: None,
            tpot_ms: None,
            streaming_ms: None,
            e2e_ms,
            output_tokens_per_second: None,
            input_tokens: output_tokens.map(|_| 2),
            output_tokens,
            finish_reason: None,
            chunk_offsets_ms: vec![],
            several_choices: false,
            output_text: String::new(),
            reasoning_text: String::new(),
        }
    }

    #[test]
    fn totals_and_rates_are_of_those_that_succeeded() {
        let records = [
            record(1, 10.0, Some(8), None),
            record(2, 30.0, Some(12), None),
            record(3, 999.0, None, Some("busy")),
        ];
        let summary = summarise(&records, Duration::from_secs(4));
        assert_eq!((summary.requests, summary.succeeded, summary.failed), (3, 2, 1));
        assert_eq!((summary.input_tokens, summary.output_tokens), (Some(4), Some(20)));
        assert_eq!(
            (summary.requests_per_second, summary.output_tokens_per_second),
            (0.5, Some(5.0))
        );
        assert_eq!(summary.e2e_ms.map(|e2e| e2e.max), Some(30.0));
    }

    #[test]
    fn a_warm_up_is_in_no_figure() {
        let mut records = [record(1, 99.0, Some(8), None), record(2, 30.0, Some(12), None)];
        records[0].warmup = true;
        let summary = summarise(&records, Duration::from_secs(1));
        assert_eq!((summary.requests, summary.warmup_requests), (1, 1));
        assert_eq!(
            (summary.output_tokens, summary.e2e_ms.map(|e2e| e2e.max)),
            (Some(12), Some(30.0))
        );
    }

    #[test]
    fn one_response_without_usage_leaves_no_total() {
        let records = [record(1, 10.0, Some(8), None), record(2, 30.0, None, None)];
        let summary = summarise(&records, Duration::from_secs(1));
        assert_eq!((summary.input_tokens, summary.output_tokens), (None, None));
        assert_eq!(summary.output_tokens_per_second, None);
        assert_eq!(summary.responses_without_usage, 1);
    }

    #[test]
    fn gaps_of_all_requests_are_pooled() {
        let mut long = record(1, 10.0, None, None);
        long.chunk_offsets_ms = vec![1.0, 2.0, 3.0, 4.0];
        let mut short = record(2, 10.0, None, None);
        short.chunk_offsets_ms = vec![1.0, 6.0];
        let itl = summarise(&[long, short], Duration::from_secs(1)).itl_ms.unwrap();
        assert_eq!((itl.count, itl.mean, itl.p50, itl.max), (4, 2.0, 1.0, 5.0));
    }

    #[test]
    fn failures_are_grouped_by_reason() {
        let records = [
            record(1, 1.0, None, Some("a")),
            record(2, 1.0, None, Some("b")),
            record(3, 1.0, None, None),
            record(4, 1.0, None, Some("b")),
        ];
        let groups = group_failures(&records.iter().collect::<Vec<_>>());
        let seen: Vec<_> = groups
            .iter()
            .map(|group| (group.failure.message.as_str(), &group.requests[..]))
            .collect();
        assert_eq!(seen, [("b", &[2, 4][..]), ("a", &[1][..])]);
    }

    #[test]
    fn identifiers_do_not_tell_failures_apart() {
        for (one, other, same) in [
            ("request cmpl-1f3a failed", "request cmpl-77 failed", true),
            ("prompt of 5123 tokens, at most 4096", "prompt of 999 tokens, at most 4096", true),
            ("device cuda:0 lost", "device cuda:1 lost", true),
            ("too long", "too late", false),
            ("größe 3", "größe 4", true),
        ] {
            assert_eq!(without_identifiers(one) == without_identifiers(other), same, "{one}");
        }
        let mut records = [record(1, 1.0, None, Some("a 1")), record(2, 1.0, None, Some("a 2"))];
        assert_eq!(group_failures(&records.iter().collect::<Vec<_>>()).len(), 1);
        records[1].http_status = Some(429);
        assert_eq!(group_failures(&records.iter().collect::<Vec<_>>()).len(), 2);
    }

    #[test]
    fn a_run_is_cut_into_windows_by_when_requests_left() {
        let mut records = [1, 2, 3, 4].map(|index| record(index, 5.0, Some(1), None));
        for (record, at) in records.iter_mut().zip([0, 900, 1000, 2500]) {
            record.start_unix_ns = 7_000_000_000 + at * 1_000_000;
            record.ttft_ms = Some(at as f64);
        }
        let windows = windows(&records, Duration::from_secs(2), 2);
        let seen: Vec<_> =
            windows.iter().map(|it| (it.requests, it.ttft_ms.unwrap().max, it.to_s)).collect();
        // What left late belongs to the last.
        assert_eq!(seen, [(2, 900.0, 1.0), (2, 2500.0, 2.0)]);
    }

    #[test]
    fn each_of_several_servers_has_its_figures() {
        let mut records = [
            record(1, 10.0, Some(8), None),
            record(2, 30.0, Some(8), None),
            record(3, 20.0, Some(8), None),
            record(4, 1.0, None, Some("busy")),
        ];
        for (record, server) in records.iter_mut().zip(["a", "b", "a", "b"]) {
            record.server = Some(server.to_owned());
        }
        let servers = summarise(&records, Duration::from_secs(1)).servers;
        let seen: Vec<_> = servers
            .iter()
            .map(|it| (it.server.as_str(), it.requests, it.failed, it.e2e_ms.unwrap().mean))
            .collect();
        assert_eq!(seen, [("a", 2, 0, 15.0), ("b", 2, 1, 30.0)]);
        assert!(summarise(&[], Duration::ZERO).servers.is_empty());
    }

    #[test]
    fn goodput_counts_what_kept_every_limit() {
        let mut records = [
            record(1, 90.0, Some(8), None),
            record(2, 200.0, Some(8), None),
            record(3, 10.0, None, Some("busy")),
            record(4, 90.0, Some(8), None),
        ];
        for record in &mut records {
            record.ttft_ms = Some(if record.index == 4 { 50.0 } else { 20.0 });
        }
        let slo = "ttft=30ms,e2e=100ms".parse().unwrap();
        let found = goodput(slo, &records, Duration::from_secs(2));
        assert_eq!(
            (found.good_requests, found.good_requests_per_second, found.good_share),
            (1, 0.5, 0.25)
        );
        // What is unknown keeps no limit.
        assert_eq!(goodput("tpot=9s".parse().unwrap(), &records, Duration::ZERO).good_requests, 0);
    }

    #[test]
    fn an_empty_run_has_no_rates() {
        let summary = summarise(&[], Duration::ZERO);
        assert_eq!((summary.requests, summary.requests_per_second), (0, 0.0));
        assert_eq!((summary.e2e_ms, summary.ttft_ms), (None, None));
    }
}
