//! How a figure is known.

use serde::Serialize;

/// From best to worst. Whoever shows a figure shows this with it.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(tag = "grade", rename_all = "snake_case")]
pub enum Grade {
    /// Counted, and proved to be whole.
    #[default]
    Exact,
    /// Exact for a part of the time or of the processes; nothing is known of the rest.
    ExactWithin { windows: String },
    /// The truth lies between; a side that is `None` is open.
    Bounds { low: Option<f64>, high: Option<f64> },
    /// The truth differs by no more than `error`, as a part of the figure.
    Estimate {
        error: f64,
        /// Nothing is known of the rest.
        #[serde(skip_serializing_if = "Option::is_none")]
        windows: Option<String>,
    },
    /// API calls do not tell it.
    Unknown { reason: String },
}

impl Grade {
    pub fn exact_within(windows: impl Into<String>) -> Self {
        Self::ExactWithin { windows: windows.into() }
    }

    /// Of what would be exact, or exact within windows, if it were not rounded.
    #[must_use]
    pub fn rounded(self, error: f64) -> Self {
        match self {
            Self::Exact => Self::Estimate { error, windows: None },
            Self::ExactWithin { windows } => Self::Estimate { error, windows: Some(windows) },
            other => other,
        }
    }

    pub fn unknown(reason: impl Into<String>) -> Self {
        Self::Unknown { reason: reason.into() }
    }

    /// The figure may be larger, by nobody knows how much.
    pub fn at_least(low: f64) -> Self {
        Self::Bounds { low: Some(low), high: None }
    }

    pub fn between(low: f64, high: f64) -> Self {
        Self::Bounds { low: Some(low), high: Some(high) }
    }

    pub fn is_exact(&self) -> bool {
        *self == Self::Exact
    }
}
