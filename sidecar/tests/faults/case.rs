//! A fault, and what became of it.

#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) run: fn(Size) -> Ended,
}

/// How much of it.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) is_short: bool,
    pub(crate) seed: u64,
}

impl Size {
    pub(crate) fn of(self, full: u64, short: u64) -> u64 {
        if self.is_short { short } else { full }
    }
}

pub(crate) enum Ended {
    Proved(Outcome),
    /// This machine cannot do it: the reason.
    Skipped(String),
    /// It came to no proof.
    Failed(String),
}

#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) injected: u64,
    /// So many of them the sidecar and its targets lived through.
    pub(crate) survived: u64,
    /// Closed segments that the store does not have as they were closed, and calls that are neither
    /// a line nor counted.
    pub(crate) lost: u64,
    /// Of the sidecar.
    pub(crate) peak_kib: u64,
    /// What else must not be.
    pub(crate) problems: Vec<String>,
    /// What is worth knowing.
    pub(crate) notes: Vec<String>,
}

impl Outcome {
    pub(crate) fn is_good(&self) -> bool {
        self.lost == 0 && self.problems.is_empty() && self.survived == self.injected
    }
}

/// Random numbers that are the same for the same seed (xorshift).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
