//! What vLLM says of memory in its log.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
};

use anyhow::{Context as _, Result};

/// One line that speaks of memory.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Statement {
    pub(super) about: About,
    pub(super) bytes: f64,
    /// In whose name.
    pub(super) pid: Option<u32>,
    pub(super) when: Option<When>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    Weights,
    KvCache,
    Graphs,
}

/// As it stands in the log: to the second, without year and zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct When {
    month: i8,
    day: i8,
    seconds: i64,
}

impl About {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Weights => "weights",
            Self::KvCache => "kv_cache",
            Self::Graphs => "graphs",
        }
    }
}

const PATTERNS: [(About, &str); 3] = [
    (About::Weights, "Model loading took "),
    (About::KvCache, "Available KV cache memory: "),
    (About::Graphs, "CUDA graph pool memory: "),
];

pub(super) fn read(path: &Path) -> Result<Vec<Statement>> {
    let cannot = || format!("cannot read {}", path.display());
    let mut statements = Vec::new();
    let file = BufReader::new(File::open(path).with_context(cannot)?);
    for line in file.split(b'\n') {
        let line = line.with_context(cannot)?;
        statements.extend(statement(&String::from_utf8_lossy(&line)));
    }
    Ok(statements)
}

fn statement(line: &str) -> Option<Statement> {
    let (about, rest) = PATTERNS.iter().find_map(|(about, text)| {
        let (_, rest) = line.split_once(text)?;
        Some((*about, rest))
    })?;
    let (number, rest) = rest.split_once(' ')?;
    let unit = match rest.get(..3)? {
        "GiB" => 1 << 30,
        "MiB" => 1 << 20,
        _ => return None,
    };
    let bytes = number.parse::<f64>().ok()? * f64::from(unit);
    let pid = line
        .split_once("pid=")
        .and_then(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
    let when = line.split_ascii_whitespace().collect::<Vec<_>>().windows(2).find_map(when);
    Some(Statement { about, bytes, pid, when })
}

/// `11-30 00:39:38`.
fn when(words: &[&str]) -> Option<When> {
    let [date, time] = words else { return None };
    let (month, day) = date.split_once('-')?;
    let mut parts = time.splitn(3, ':').map(|part| part.parse::<i64>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    if !(0..24).contains(&hours) || !(0..60).contains(&minutes) || !(0..61).contains(&seconds) {
        return None;
    }
    Some(When {
        month: month.parse().ok()?,
        day: day.parse().ok()?,
        seconds: (hours * 60 + minutes) * 60 + seconds,
    })
}

impl When {
    /// The time in UTC of the year nearest to a moment, in nanoseconds since 1970.
    pub(super) fn unix_ns(self, near_ns: i64) -> Option<i64> {
        let near = jiff::Timestamp::from_nanosecond(near_ns.into()).ok()?;
        let year = near.to_zoned(jiff::tz::TimeZone::UTC).year();
        (year - 1..=year + 1)
            .filter_map(|year| {
                let date = jiff::civil::Date::new(year, self.month, self.day).ok()?;
                let midnight = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
                midnight.as_second().checked_add(self.seconds)?.checked_mul(1_000_000_000)
            })
            .min_by_key(|unix_ns| unix_ns.abs_diff(near_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_vllm_are_understood() {
        let line = "(EngineCore pid=10894) INFO 11-30 00:39:38 [gpu_model_runner.py:4879] Model loading \
                    took 12.5 GiB memory and 0.562283 seconds";
        let found = statement(line).unwrap();
        assert_eq!((found.about, found.pid), (About::Weights, Some(10894)));
        assert_eq!(found.bytes.to_bits(), (12.5 * f64::from(1 << 30)).to_bits());
        let near = 1_795_999_119_632_924_853;
        assert_eq!(found.when.unwrap().unix_ns(near), Some(1_795_999_178_000_000_000));
        let line = "INFO 11-30 00:40:07 Available KV cache memory: 97.78 GiB";
        assert_eq!(statement(line).unwrap().about, About::KvCache);
        for line in ["", "Model loading took long", "Model loading took 1 \u{fc}\u{fc}"] {
            assert_eq!(statement(line), None, "{line}");
        }
    }
}
