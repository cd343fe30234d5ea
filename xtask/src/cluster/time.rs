//! Times as Kubernetes writes them: RFC 3339, in UTC, with or without parts of a second.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

/// Microseconds since 1970; what cannot be read is before everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(from = "Option<String>")]
pub(crate) struct Time(i64);

impl From<Option<String>> for Time {
    fn from(text: Option<String>) -> Self {
        text.as_deref().and_then(parse).unwrap_or_default()
    }
}

impl Time {
    pub(crate) fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    /// From another time to this; nothing if that is later.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    pub(crate) fn minus(self, seconds: u64) -> Self {
        let micros = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        Self(self.0.saturating_sub(micros))
    }
}

fn parse(text: &str) -> Option<Time> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let numbers = |text: &str, separator| -> Option<[i64; 3]> {
        let numbers: Vec<i64> =
            text.split(separator).map(str::parse).collect::<Result<_, _>>().ok()?;
        numbers.try_into().ok()
    };
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    let ([year, month, day], [hours, minutes, seconds]) =
        (numbers(date, '-')?, numbers(time, ':')?);
    let is_date =
        (1..=12).contains(&month) && (1..=31).contains(&day) && (0..=9999).contains(&year);
    let is_time =
        (0..24).contains(&hours) && (0..60).contains(&minutes) && (0..61).contains(&seconds);
    if !is_date || !is_time {
        return None;
    }
    let micros: i64 = format!("{fraction:0<6.6}").parse().ok()?;
    // The year begins in March, so that the leap day is its last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days = year * 365 + leap_days + (month * 153 + 2) / 5 + day - 719_469;
    let seconds = ((days * 24 + hours) * 60 + minutes) * 60 + seconds;
    Some(Time(seconds * 1_000_000 + micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_date() {
        // By `date --utc --date TEXT +%s`.
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("2026-11-24T04:28:00Z", 1_795_494_480),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
        ] {
            assert_eq!(parse(text), Some(Time(seconds * 1_000_000)), "{text}");
        }
        assert_eq!(parse("1970-01-01T00:00:01.5Z"), Some(Time(1_500_000)));
        assert_eq!(parse("1970-01-01T00:00:01.123456789Z"), Some(Time(1_123_456)));
    }

    #[test]
    fn what_is_no_time_is_before_everything() {
        for text in [
            "",
            "Z",
            "T",
            "2026-13-01T00:00:00Z",
            "2026-01-01",
            "x-1-1T0:0:0Z",
            "99999999999999-01-01T00:00:00Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        let read = |json: &str| serde_json::from_str::<Time>(json).unwrap();
        assert_eq!((read("null"), read("\"odd\"")), (Time(0), Time(0)));
    }

    #[test]
    fn a_time_to_come_is_no_time_ago() {
        let now = Time::now();
        assert_eq!(now.minus(30).since(now), Duration::ZERO);
        assert_eq!(now.since(now.minus(30)), Duration::from_secs(30));
    }
}
