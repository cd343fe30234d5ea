//! How the parts of a time are known.

use super::split::{Length, Part, Split};
use crate::{
    answer::{Cell, Value},
    grade::Grade,
};

/// How far estimates of the GPU's end are off: nine of ten are closer.
pub(super) const ESTIMATE_ERROR_NS: f64 = 25_000.0;

const JOIN_HOLDS: &str = "requests that get a token in each step from their first on, and a client \
                          whose clock is that of the trace";
const MOSTLY: &str = "nine of ten steps; where the waiting thread was held up, its delay is in it";
const MISSING: &str = "lines are missing that tell of the step, stand twice or in a wrong place";
const IN_TRACE: &str = "requests that lie in the trace as a whole";
const NO_STEP: &str = "no step can be told that computed these tokens";

/// Of what is exact if the tokens are in the right steps.
pub(super) fn joined() -> Grade {
    Grade::exact_within(JOIN_HOLDS)
}

pub(super) fn no_step() -> Cell {
    Cell::graded(Value::None, Grade::unknown(NO_STEP))
}

/// What is said of a step itself.
pub(super) fn of_step(is_unknown: bool, value: impl Into<Value>) -> Cell {
    Cell::unless(is_unknown.then_some(MISSING), value)
}

/// Of figures over all requests that are in the trace as a whole.
pub(super) fn of_requests(is_part: bool) -> Grade {
    if is_part { Grade::exact_within(IN_TRACE) } else { Grade::Exact }
}

/// Of what tokens waited for where the steps of some are not known.
pub(super) fn of_some(part: Part, low: f64) -> Grade {
    // A later token may have been on its way for less time than the one before.
    if part == Part::After { Grade::unknown(NO_STEP) } else { Grade::at_least(low) }
}

/// Of a length times `scale`; `error_ns` is that of an estimate, before it is scaled.
pub(super) fn grade(length: Length, part: Part, scale: f64, error_ns: f64) -> Option<Grade> {
    let scaled = |ns: i64| ns as f64 * scale;
    if !length.is_exact() {
        return Some(Grade::between(scaled(length.low), scaled(length.high)));
    }
    (matches!(part, Part::Gpu | Part::Wait) && length.ns > 0).then(|| Grade::Estimate {
        error: error_ns / length.ns as f64,
        windows: Some(MOSTLY.to_owned()),
    })
}

pub(super) fn part_cell(split: &Split, part: Part) -> Cell {
    let length = split.of(part);
    Cell { value: length.ns.into(), grade: grade(length, part, 1.0, ESTIMATE_ERROR_NS) }
}
