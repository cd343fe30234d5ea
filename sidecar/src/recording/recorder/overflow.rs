//! Counts what there was no room to remember, and says when it is time to log that again.

use std::time::{Duration, Instant};

const LOG_INTERVAL: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct Overflow {
    count: u64,
    logged: Option<Instant>,
}

impl Overflow {
    /// Counts one more. Gives the count if it is to be logged now: at first, and once a minute.
    pub(super) fn add(&mut self) -> Option<u64> {
        self.count += 1;
        let is_due = self.logged.is_none_or(|logged| logged.elapsed() >= LOG_INTERVAL);
        is_due.then(|| {
            self.logged = Some(Instant::now());
            self.count
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_logged_and_then_one_a_minute_with_the_count_of_all() {
        let mut overflow = Overflow::default();
        assert_eq!([overflow.add(), overflow.add(), overflow.add()], [Some(1), None, None]);
        overflow.logged = overflow.logged.and_then(|logged| logged.checked_sub(LOG_INTERVAL));
        assert_eq!([overflow.add(), overflow.add()], [Some(4), None]);
    }
}
