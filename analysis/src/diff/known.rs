//! What a graded figure says of the truth.

use serde_json::Value as Json;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Known {
    /// The truth lies between; the value is what is shown.
    Between {
        low: f64,
        high: f64,
        value: Option<f64>,
    },
    /// There is a value, but nothing says how far it is from the truth.
    Unproved(f64),
    None,
}

impl Known {
    /// `grade` is an object with the fields of a grade. What holds for a part of the time says nothing
    /// of another trace's.
    pub(super) fn of(value: &Json, grade: &Json) -> Self {
        let value = value.as_f64();
        match (grade["grade"].as_str(), value) {
            (Some("exact"), Some(value)) => {
                Self::Between { low: value, high: value, value: Some(value) }
            }
            (Some("estimate"), Some(value)) if grade["windows"].is_null() => {
                let error = grade["error"].as_f64().unwrap_or(f64::INFINITY) * value.abs();
                Self::Between { low: value - error, high: value + error, value: Some(value) }
            }
            (Some("bounds"), value) => {
                let low = grade["low"].as_f64().unwrap_or(f64::NEG_INFINITY);
                let high = grade["high"].as_f64().unwrap_or(f64::INFINITY);
                Self::Between { low, high, value }
            }
            (_, Some(value)) => Self::Unproved(value),
            (_, None) => Self::None,
        }
    }

    /// A cell has the grade of its column, unless it has one of its own.
    pub(super) fn of_cell(row: &Json, column: &str, columns: &Json) -> Self {
        let own = &row["grades"][column];
        Self::of(&row[column], if own.is_null() { &columns[column] } else { own })
    }

    pub(super) fn plus(self, other: Self) -> Self {
        match (self, other) {
            (
                Self::Between { low, high, value },
                Self::Between { low: more_low, high: more_high, value: more },
            ) => Self::Between {
                low: low + more_low,
                high: high + more_high,
                value: value.zip(more).map(|(value, more)| value + more),
            },
            (one, other) => match (one.value(), other.value()) {
                (Some(one), Some(other)) => Self::Unproved(one + other),
                _ => Self::None,
            },
        }
    }

    pub(super) fn value(&self) -> Option<f64> {
        match self {
            Self::Between { value, .. } => *value,
            Self::Unproved(value) => Some(*value),
            Self::None => None,
        }
    }

    /// Not more than the truth.
    pub(super) fn low(&self) -> f64 {
        match self {
            Self::Between { low, .. } => *low,
            Self::Unproved(_) | Self::None => f64::NEG_INFINITY,
        }
    }

    /// The smallest change, as a part of the old value, that both allow; 0 where they allow that
    /// nothing has changed.
    pub(super) fn least_change(&self, new: &Self) -> f64 {
        let (Self::Between { low, high, .. }, Self::Between { low: new_low, high: new_high, .. }) =
            (self, new)
        else {
            return 0.0;
        };
        let change = if new_low > high {
            (new_low - high) / high
        } else if new_high < low {
            (low - new_high) / low
        } else {
            0.0
        };
        // From nothing to something is beyond every threshold; what forged bounds give proves nothing.
        if change.is_nan() || change < 0.0 { 0.0 } else { change }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn known(value: Json, grade: Json) -> Known {
        Known::of(&value, &grade)
    }

    #[test]
    fn only_what_grades_prove_is_a_change() {
        let exact = |value: i64| known(json!(value), json!({ "grade": "exact" }));
        let estimate =
            |value: i64| known(json!(value), json!({ "grade": "estimate", "error": 0.1 }));
        let at_least =
            |low: i64| known(json!(low), json!({ "grade": "bounds", "low": low, "high": null }));
        let within = known(json!(900), json!({ "grade": "exact_within", "windows": "a part" }));
        let unknown = known(json!(900), json!({ "grade": "unknown", "reason": "why" }));
        for (old, new, least) in [
            (exact(100), exact(100), 0.0),
            (exact(100), exact(150), 0.5),
            (exact(100), exact(50), 0.5),
            (exact(0), exact(1), f64::INFINITY),
            (exact(0), exact(0), 0.0),
            (estimate(100), estimate(120), 0.0),
            (estimate(100), exact(121), 0.1),
            (at_least(100), exact(50), 0.5),
            (at_least(100), exact(500), 0.0),
            (exact(100), at_least(50), 0.0),
            (exact(100), at_least(200), 1.0),
            (exact(100), within, 0.0),
            (unknown, exact(100), 0.0),
            (exact(100), Known::None, 0.0),
        ] {
            let found = old.least_change(&new);
            let is_same = (found - least).abs() < 1e-9 || found.total_cmp(&least).is_eq();
            assert!(is_same, "{old:?} {new:?}: {found}, not {least}");
        }
    }

    #[test]
    fn forged_grades_prove_nothing() {
        let forged = known(json!(1), json!({ "grade": "bounds", "low": 5, "high": -5 }));
        let exact = known(json!(1), json!({ "grade": "exact" }));
        assert!(forged.least_change(&exact) >= 0.0);
        assert_eq!(known(json!("x"), json!({ "grade": "exact" })), Known::None);
        assert_eq!(known(json!(1), json!("exact")), Known::Unproved(1.0));
        let no_error = known(json!(1), json!({ "grade": "estimate" }));
        assert!(no_error.least_change(&exact) < 1e-9);
    }
}
