//! The signs before figures that are not exact, and what they mean.

use super::{
    Unit, Value,
    units::{printable, shown},
};
use crate::grade::Grade;

/// Explanations that are told one by one.
const MAX_TOLD: usize = 8;

/// Remembers which signs were shown, because each must be explained.
#[derive(Default)]
pub(crate) struct Legend {
    bounds: bool,
    estimate: Option<f64>,
    within: Vec<String>,
    unknown: Vec<String>,
}

impl Legend {
    /// The value with the sign of its grade.
    pub(crate) fn graded(&mut self, value: &Value, unit: Unit, grade: &Grade) -> String {
        let text = shown(value, unit);
        if *value == Value::None && !matches!(grade, Grade::Unknown { .. } | Grade::Bounds { .. }) {
            return text;
        }
        match grade {
            Grade::Exact => text,
            Grade::ExactWithin { windows } => {
                remember(&mut self.within, windows);
                text
            }
            Grade::Estimate { error, windows } => {
                if let Some(windows) = windows {
                    remember(&mut self.within, windows);
                }
                self.estimate = Some(self.estimate.map_or(*error, |other| other.max(*error)));
                format!("~{text}")
            }
            Grade::Bounds { low, high } => {
                self.bounds = true;
                between(*low, *high, unit)
            }
            Grade::Unknown { reason } => {
                remember(&mut self.unknown, reason);
                if *value == Value::None { "?".to_owned() } else { format!("{text}?") }
            }
        }
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let Self { bounds, estimate, within, unknown } = self;
        let mut told = Vec::new();
        if let Some(error) = estimate {
            let error = shown(&Value::Float(*error), Unit::Ratio);
            told.push(format!("~   an estimate, off by {error} at most"));
        }
        if *bounds {
            told.push(">= <= ..  bounds between which the truth lies".to_owned());
        }
        told.extend(within.iter().map(|windows| format!("exact for {}", printable(windows))));
        told.extend(unknown.iter().map(|reason| format!("?   {}", printable(reason))));
        told
    }
}

/// How one figure is known, in words; nothing is said of an exact one.
pub(super) fn in_words(grade: &Grade, unit: Unit) -> Option<String> {
    let off_by =
        |error: f64| format!("off by {} at most", shown(&Value::Float(error), Unit::Ratio));
    match grade {
        Grade::Exact => None,
        Grade::ExactWithin { windows } => Some(format!("exact for {windows}")),
        Grade::Estimate { error, windows: None } => Some(format!("estimate, {}", off_by(*error))),
        Grade::Estimate { error, windows: Some(windows) } => {
            Some(format!("estimate, {}, for {windows}", off_by(*error)))
        }
        Grade::Bounds { low: None, high: None } => Some("nothing bounds it".to_owned()),
        Grade::Bounds { low, high } => {
            Some(format!("bounds: the truth is {}", between(*low, *high, unit)))
        }
        Grade::Unknown { reason } => Some(format!("not known: {reason}")),
    }
}

fn between(low: Option<f64>, high: Option<f64>, unit: Unit) -> String {
    let side = |side: f64| shown(&Value::Float(side), unit);
    match (low, high) {
        (Some(low), Some(high)) => format!("{}..{}", side(low), side(high)),
        (Some(low), None) => format!(">={}", side(low)),
        (None, Some(high)) => format!("<={}", side(high)),
        (None, None) => "?".to_owned(),
    }
}

fn remember(told: &mut Vec<String>, text: &str) {
    if !told.iter().any(|other| other == text) && told.len() < MAX_TOLD {
        told.push(text.to_owned());
    }
}
