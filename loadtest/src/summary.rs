//! From the records of a run to its figures.

use std::time::Duration;

use crate::{
    record::{Failure, FailureGroup, RequestRecord, Summary},
    statistics::{Distribution, rounded},
};

/// Figures of a run that took `wall`, from its first request to its last answer.
pub fn summarise(records: &[RequestRecord], wall: Duration) -> Summary {
    let succeeded: Vec<&RequestRecord> =
        records.iter().filter(|record| record.succeeded()).collect();
    let distribution = |value: fn(&RequestRecord) -> Option<f64>| {
        Distribution::of(succeeded.iter().filter_map(|&record| value(record)))
    };
    let input_tokens: Option<u64> = succeeded.iter().map(|record| record.input_tokens).sum();
    let output_tokens: Option<u64> = succeeded.iter().map(|record| record.output_tokens).sum();
    let per_second =
        |count: f64| if wall.is_zero() { 0.0 } else { rounded(count / wall.as_secs_f64()) };
    Summary {
        requests: records.len(),
        succeeded: succeeded.len(),
        failed: records.len() - succeeded.len(),
        wall_seconds: rounded(wall.as_secs_f64()),
        requests_per_second: per_second(succeeded.len() as f64),
        input_tokens,
        output_tokens,
        output_tokens_per_second: output_tokens.map(|tokens| per_second(tokens as f64)),
        responses_without_usage: succeeded
            .iter()
            .filter(|record| record.output_tokens.is_none())
            .count(),
        ttft_ms: distribution(|record| record.ttft_ms),
        itl_ms: Distribution::of(succeeded.iter().flat_map(|record| record.gaps_ms())),
        tpot_ms: distribution(|record| record.tpot_ms),
        e2e_ms: distribution(|record| Some(record.e2e_ms)),
        request_output_tokens_per_second: distribution(|record| record.output_tokens_per_second),
        failures: group_failures(records),
    }
}

/// The most frequent reason first; reasons of equal weight in the order they appeared.
fn group_failures(records: &[RequestRecord]) -> Vec<FailureGroup> {
    let same = |a: &Failure, b: &Failure| (&a.kind, &a.message) == (&b.kind, &b.message);
    let mut groups: Vec<FailureGroup> = Vec::new();
    for record in records {
        let Some(failure) = &record.failure else { continue };
        if let Some(group) = groups.iter_mut().find(|group| same(&group.failure, failure)) {
            group.count += 1;
            group.requests.push(record.index);
        } else {
            groups.push(FailureGroup {
                count: 1,
                failure: failure.clone(),
                requests: vec![record.index],
            });
        }
    }
    groups.sort_by_key(|group| std::cmp::Reverse(group.count));
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

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
            failure: failure.map(|message| Failure {
                kind: "http_status".to_owned(),
                message: message.to_owned(),
                detail: None,
                advice: None,
            }),
            http_status: None,
            headers_ms: None,
            ttft_ms: None,
            itl_ms: None,
            tpot_ms: None,
            e2e_ms,
            output_tokens_per_second: None,
            input_tokens: output_tokens.map(|_| 2),
            output_tokens,
            finish_reason: None,
            chunk_offsets_ms: vec![],
            output_text: String::new(),
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
        let groups = group_failures(&records);
        let seen: Vec<_> = groups
            .iter()
            .map(|group| (group.failure.message.as_str(), &group.requests[..]))
            .collect();
        assert_eq!(seen, [("b", &[2, 4][..]), ("a", &[1][..])]);
    }

    #[test]
    fn an_empty_run_has_no_rates() {
        let summary = summarise(&[], Duration::ZERO);
        assert_eq!((summary.requests, summary.requests_per_second), (0, 0.0));
        assert_eq!((summary.e2e_ms, summary.ttft_ms), (None, None));
    }
}
