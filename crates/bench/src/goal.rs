//! What a figure should be, and whether it is.

use serde::Serialize;

/// A figure against its goal.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Goal {
    /// What was measured, where.
    what: String,
    measured: f64,
    wanted: Wanted,
    met: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Wanted {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    pub(super) fn new(what: String, measured: f64, wanted: Wanted) -> Self {
        let met = match wanted {
            Wanted::AtMost(limit) => measured <= limit,
            Wanted::AtLeast(limit) => measured >= limit,
        };
        Self { what, measured, wanted, met }
    }
}

/// A line each.
pub(super) fn text(goals: &[Goal]) -> String {
    let line = |Goal { what, measured, wanted, met }: &Goal| {
        let mark = if *met { "met   " } else { "MISSED" };
        let wanted = match wanted {
            Wanted::AtMost(limit) => format!("at most {limit}"),
            Wanted::AtLeast(limit) => format!("at least {limit}"),
        };
        format!("{mark}  {what}: {}, goal {wanted}\n", rounded(*measured))
    };
    goals.iter().map(line).collect()
}

/// To three decimals, without those that say nothing.
fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_met_at_their_limit_and_a_figure_that_is_missing_meets_none() {
        let goal = |measured, wanted| Goal::new("x".to_owned(), measured, wanted).met;
        assert!(goal(1.5, Wanted::AtMost(1.5)) && !goal(1.501, Wanted::AtMost(1.5)));
        assert!(goal(8.0, Wanted::AtLeast(8.0)) && !goal(7.99, Wanted::AtLeast(8.0)));
        assert!(!goal(f64::NAN, Wanted::AtMost(1.5)) && !goal(f64::NAN, Wanted::AtLeast(8.0)));
    }

    #[test]
    fn each_goal_is_a_line() {
        let goals = [
            Goal::new("call / two empty".to_owned(), 1.4567, Wanted::AtMost(1.5)),
            Goal::new("call / two empty".to_owned(), 1.50449, Wanted::AtMost(1.5)),
            Goal::new("drops".to_owned(), 3.0, Wanted::AtMost(0.0)),
        ];
        insta::assert_snapshot!(text(&goals), @"
        met     call / two empty: 1.457, goal at most 1.5
        MISSED  call / two empty: 1.504, goal at most 1.5
        MISSED  drops: 3, goal at most 0
        ");
    }
}
