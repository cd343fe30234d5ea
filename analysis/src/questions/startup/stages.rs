//! The stages of one process before its first step, told by what it does in each.
//!
//! An engine asks how much memory is free before it takes the weights, after that, and again before it
//! takes the cache: these questions part the stages. What it took in each and still holds at its first
//! step tells which is which, so that what a profile run takes and gives back does not count.

use super::work::Work;

/// A span between two such questions that takes less than this part of what is held in the end is
/// neither that of the weights nor that of the cache.
const MIN_PART: u64 = 50;

/// An engine asks some dozen times.
const MAX_SPANS: usize = 4096;

/// Pauses that become longer and longer.
const MAX_PAUSES: usize = 64;

/// A moment, and what the process had done by then.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mark {
    pub at_ns: i64,
    pub work: Work,
}

/// From one question for free memory to the next.
#[derive(Debug, Default)]
struct Span {
    begin: Mark,
    first_capture: Option<Mark>,
    last_capture: Option<Mark>,
    /// Without a call since its latest landmark: where it began, and its length. Each is longer than
    /// those before it.
    pauses: Vec<(Mark, i64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    /// Seen, but without a call: the program starts, and imports.
    BeforeFirstCall,
    /// The driver, the context, libraries.
    Init,
    Load,
    /// A profile run; where the model is compiled, that too.
    Profile,
    Cache,
    Capture,
    WarmUp,
    /// Ready, as far as calls tell, and without a request.
    Waiting,
    /// Nothing tells what it was.
    Unknown,
}

impl Name {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::BeforeFirstCall => "before_first_call",
            Self::Init => "init",
            Self::Load => "load",
            Self::Profile => "profile",
            Self::Cache => "cache",
            Self::Capture => "capture",
            Self::WarmUp => "warm_up",
            Self::Waiting => "waiting",
            Self::Unknown => "unknown",
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Stage {
    pub name: Name,
    pub begin: Mark,
    pub end: Mark,
}

/// What parts the stages of a process.
#[derive(Debug, Default)]
pub(super) struct Landmarks {
    spans: Vec<Span>,
}

impl Landmarks {
    /// Not even the first call has come.
    pub(super) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The first call of the process, or a question for free memory.
    pub(super) fn asked(&mut self, now: Mark) {
        if self.spans.len() < MAX_SPANS {
            self.spans.push(Span { begin: now, ..Span::default() });
        }
    }

    pub(super) fn captured(&mut self, begin: Mark) {
        if let Some(span) = self.spans.last_mut() {
            span.first_capture.get_or_insert(begin);
        }
    }

    pub(super) fn capture_ended(&mut self, end: Mark) {
        if let Some(span) = self.spans.last_mut() {
            span.last_capture = Some(end);
            span.pauses.clear();
        }
    }

    pub(super) fn paused(&mut self, since: Mark, length_ns: i64) {
        let Some(span) = self.spans.last_mut() else { return };
        let is_longest = span.pauses.last().is_none_or(|(_, longest)| length_ns > *longest);
        if is_longest && span.pauses.len() < MAX_PAUSES {
            span.pauses.push((since, length_ns));
        }
    }

    /// The stages up to the first step. `held` is what the process still holds then: when each
    /// allocation was made, and its size.
    pub(super) fn stages(
        &self,
        seen_ns: Option<i64>,
        first_step: Mark,
        held: impl Iterator<Item = (i64, u64)>,
    ) -> Vec<Stage> {
        let before = self.spans.partition_point(|span| span.begin.at_ns < first_step.at_ns);
        let spans = &self.spans[..before];
        let Some(first) = spans.first().map(|span| span.begin) else { return Vec::new() };
        let mut cuts = vec![(Name::Init, first)];
        if let Some(seen_ns) = seen_ns.filter(|seen_ns| *seen_ns < first.at_ns) {
            let seen = Mark { at_ns: seen_ns, work: Work::default() };
            cuts.insert(0, (Name::BeforeFirstCall, seen));
        }
        let (weights, cache) = weights_and_cache(spans, held);
        let begin = |span: usize| spans.get(span).map(|span| span.begin);
        if let Some(weights) = weights {
            cuts.extend(begin(weights).map(|at| (Name::Load, at)));
            cuts.extend(begin(weights + 1).map(|at| (Name::Profile, at)));
        }
        if let Some(cache) = cache {
            cuts.extend(begin(cache).map(|at| (Name::Cache, at)));
            let later = &spans[cache..];
            let first_capture = later.iter().find_map(|span| span.first_capture);
            let last_capture = later.iter().rev().find_map(|span| span.last_capture);
            cuts.extend(first_capture.map(|at| (Name::Capture, at)));
            match last_capture.filter(|_| first_capture.is_some()) {
                Some(end) => cuts.push((Name::WarmUp, end)),
                None => cuts.extend(begin(cache + 1).map(|at| (Name::WarmUp, at))),
            }
        } else if weights.is_none() {
            cuts.push((Name::Unknown, first));
        }
        let pauses = spans.last().map(|span| span.pauses.as_slice()).unwrap_or_default();
        let mut before = pauses.iter().rev().map(|(since, _)| *since);
        if let Some(since) = before.find(|since| since.at_ns < first_step.at_ns) {
            cuts.push((Name::Waiting, since));
        }
        parts(&cuts, first_step)
    }
}

/// In which spans the process took what it holds: the first large part, and the largest behind it.
fn weights_and_cache(
    spans: &[Span],
    held: impl Iterator<Item = (i64, u64)>,
) -> (Option<usize>, Option<usize>) {
    let mut bytes = vec![0_u64; spans.len()];
    for (at_ns, size) in held {
        let span = spans.partition_point(|span| span.begin.at_ns <= at_ns);
        if let Some(span) = span.checked_sub(1) {
            bytes[span] = bytes[span].saturating_add(size);
        }
    }
    let all: u64 = bytes.iter().fold(0, |sum, bytes| sum.saturating_add(*bytes));
    let is_large = |bytes: u64| bytes > 0 && bytes >= all / MIN_PART;
    let weights = bytes.iter().position(|bytes| is_large(*bytes));
    let behind = weights.map_or(bytes.len(), |weights| weights + 1);
    // Of equals the first: it is a cache, then, that is taken in parts.
    let cache = (behind..bytes.len()).rev().max_by_key(|span| bytes[*span]);
    (weights, cache.filter(|span| is_large(bytes[*span])))
}

/// A part from each cut to the next; those of no length are left out.
fn parts(cuts: &[(Name, Mark)], end: Mark) -> Vec<Stage> {
    let mut stages = Vec::new();
    for (index, &(name, begin)) in cuts.iter().enumerate() {
        let end = cuts.get(index + 1).map_or(end, |(_, next)| *next);
        if end.at_ns > begin.at_ns {
            stages.push(Stage { name, begin, end });
        }
    }
    stages
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(at_ns: i64) -> Mark {
        Mark { at_ns, work: Work::default() }
    }

    fn names(stages: &[Stage]) -> Vec<(&'static str, i64, i64)> {
        stages
            .iter()
            .map(|stage| (stage.name.as_str(), stage.begin.at_ns, stage.end.at_ns))
            .collect()
    }

    /// As vLLM does it: graphs are captured for their size before the cache is taken, and again behind.
    fn engine() -> Landmarks {
        let mut landmarks = Landmarks::default();
        landmarks.asked(at(100));
        landmarks.asked(at(200));
        landmarks.paused(at(250), 40);
        landmarks.asked(at(300));
        landmarks.captured(at(350));
        landmarks.capture_ended(at(360));
        landmarks.asked(at(400));
        landmarks.captured(at(500));
        landmarks.captured(at(600));
        landmarks.capture_ended(at(700));
        landmarks.paused(at(720), 20);
        landmarks.paused(at(750), 100);
        landmarks.paused(at(900), 200);
        landmarks
    }

    #[test]
    fn what_is_held_in_the_end_tells_the_weights_from_the_cache() {
        let held = [(110, 1), (210, 500), (290, 200), (310, 2), (410, 2000), (650, 10)];
        let stages = engine().stages(Some(50), at(850), held.into_iter());
        let expected = [
            ("before_first_call", 50, 100),
            ("init", 100, 200),
            ("load", 200, 300),
            ("profile", 300, 400),
            ("cache", 400, 500),
            ("capture", 500, 700),
            ("warm_up", 700, 750),
            ("waiting", 750, 850),
        ];
        assert_eq!(names(&stages), expected);
    }

    #[test]
    fn weights_may_be_larger_than_the_cache() {
        let held = [(210, 5000), (310, 2), (410, 200)];
        let stages = engine().stages(None, at(740), held.into_iter());
        let expected = [
            ("init", 100, 200),
            ("load", 200, 300),
            ("profile", 300, 400),
            ("cache", 400, 500),
            ("capture", 500, 700),
            ("warm_up", 700, 720),
            ("waiting", 720, 740),
        ];
        assert_eq!(names(&stages), expected, "longer pauses come behind the first step");
    }

    #[test]
    fn what_tells_nothing_has_no_name() {
        let mut landmarks = Landmarks::default();
        assert!(landmarks.stages(Some(1), at(9), std::iter::empty()).is_empty());
        landmarks.asked(at(3));
        let stages = landmarks.stages(Some(1), at(9), std::iter::empty());
        assert_eq!(names(&stages), [("before_first_call", 1, 3), ("unknown", 3, 9)]);
    }

    #[test]
    fn questions_without_end_take_no_memory() {
        let mut landmarks = Landmarks::default();
        for number in 0..100_000 {
            landmarks.asked(at(number));
        }
        assert_eq!(landmarks.spans.len(), MAX_SPANS);
    }
}
