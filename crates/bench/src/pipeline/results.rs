//! The rounds and their goals, as a table and as JSON.

use serde::Serialize;

use super::{Calling, Detail, Pipeline, RING_BUFFER_BYTES, Round};
use crate::{
    goal::{self, Goal, Wanted},
    table::{grouped, markdown},
};

/// Of the sidecar, for each line.
const MAX_CPU_US: f64 = 0.7;
/// Of the sidecar, beside the ring buffer.
const MAX_RESIDENT_MIB: f64 = 64.0;

#[derive(Debug, Serialize)]
pub(super) struct Results {
    detail: Detail,
    calls: Calling,
    ring_mib: f64,
    rounds: Vec<Round>,
    goals: Vec<Goal>,
}

impl Results {
    pub(super) fn new(task: &Pipeline, rounds: Vec<Round>) -> Self {
        let &Pipeline { detail, calls, .. } = task;
        let ring_mib = f64::from(RING_BUFFER_BYTES) / f64::from(1 << 20);
        let goals = rounds.iter().flat_map(|round| goals(round, ring_mib)).collect();
        Self { detail, calls, ring_mib, rounds, goals }
    }

    pub(super) fn text(&self) -> String {
        let heads = [
            "threads",
            "seconds",
            "events",
            "events per second",
            "dropped",
            "sidecar CPU, us per line",
            "resident, MiB",
            "bytes per line",
        ];
        let cells = |round: &Round| {
            vec![
                round.threads.to_string(),
                format!("{:.0}", round.seconds),
                grouped(round.events as f64),
                grouped(round.events_per_second),
                grouped(round.dropped as f64),
                format!("{:.3}", round.cpu_us_per_line),
                format!("{:.1}", round.resident_mib),
                format!("{:.0}", round.bytes_per_line),
            ]
        };
        let rows: Vec<_> = self.rounds.iter().map(cells).collect();
        format!(
            "TRACE_DETAIL={}, calls: {}, ring buffer of {} MiB\n\n{}\n\
             Each trace is whole: for every function, calls counted by the library = hits = lines \
             + dropped + ignored.\n{}",
            self.detail.name(),
            match self.calls {
                Calling::Mix => "a mix of launches, copies and synchronisations",
                Calling::Bare => "the cheapest one alone",
            },
            self.ring_mib,
            markdown(0, &heads, &rows),
            goal::text(&self.goals)
        )
    }
}

fn goals(round: &Round, ring_mib: f64) -> Vec<Goal> {
    let &Round { threads, dropped, cpu_us_per_line, resident_mib, .. } = round;
    let plural = if threads == 1 { "" } else { "s" };
    let goal = |what: &str, measured, limit| {
        Goal::new(format!("{threads} thread{plural}, {what}"), measured, Wanted::AtMost(limit))
    };
    let mut goals = vec![
        goal("sidecar CPU, us per line", cpu_us_per_line, MAX_CPU_US),
        goal("resident, MiB", resident_mib, MAX_RESIDENT_MIB + ring_mib),
    ];
    // More threads may be more than one recorder can take.
    if threads == 1 {
        goals.insert(0, goal("dropped", dropped as f64, 0.0));
    }
    goals
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        task: Pipeline,
    }

    fn task(arguments: &[&str]) -> Result<Pipeline, clap::Error> {
        Cli::try_parse_from(["bench"].iter().chain(arguments)).map(|cli| cli.task)
    }

    #[test]
    fn by_default_one_two_and_four_threads_call_a_mix_for_a_minute() {
        let Pipeline { seconds, threads, calls, detail, json } = task(&[]).unwrap();
        assert_eq!((seconds, threads, json), (60, vec![1, 2, 4], false));
        assert_eq!((calls, detail), (Calling::Mix, Detail::Call));
        let Pipeline { threads, detail, .. } =
            task(&["--threads", "3,8", "--detail", "entry"]).unwrap();
        assert_eq!((threads, detail), (vec![3, 8], Detail::Entry));
        for wrong in ["--threads=0", "--seconds=0", "--detail=all", "--calls=none"] {
            assert!(task(&[wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rounds_are_rows_and_drops_matter_with_one_thread_only() {
        let round = |threads, dropped, cpu_us_per_line| Round {
            threads,
            seconds: 60.01,
            events: 62_400_000,
            dropped,
            events_per_second: 1_040_000.0,
            cpu_us_per_line,
            resident_mib: 43.14,
            bytes_per_line: 181.2,
        };
        let rounds = vec![round(1, 0, 0.45), round(4, 1_200_000, 0.71)];
        insta::assert_snapshot!(Results::new(&task(&[]).unwrap(), rounds).text(), @"
        TRACE_DETAIL=call, calls: a mix of launches, copies and synchronisations, ring buffer of 16 MiB

        | threads | seconds |     events | events per second |   dropped | sidecar CPU, us per line | resident, MiB | bytes per line |
        | ------: | ------: | ---------: | ----------------: | --------: | -----------------------: | ------------: | -------------: |
        |       1 |      60 | 62 400 000 |         1 040 000 |         0 |                    0.450 |          43.1 |            181 |
        |       4 |      60 | 62 400 000 |         1 040 000 | 1 200 000 |                    0.710 |          43.1 |            181 |

        Each trace is whole: for every function, calls counted by the library = hits = lines + dropped + ignored.
        met     1 thread, dropped: 0, goal at most 0
        met     1 thread, sidecar CPU, us per line: 0.45, goal at most 0.7
        met     1 thread, resident, MiB: 43.14, goal at most 80
        MISSED  4 threads, sidecar CPU, us per line: 0.71, goal at most 0.7
        met     4 threads, resident, MiB: 43.14, goal at most 80
        ");
    }
}
