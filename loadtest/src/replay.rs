//! A recorded load: when requests came, how long they were, and which of them began alike. In Mooncake's form.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use crate::prompts::{Prompt, words};

/// Tokens that one of the hashes stands for, as Mooncake's traces have it.
const BLOCK: u32 = 512;
const MAX_REQUESTS: usize = 5_000_000;
const MAX_LINE: u64 = 1 << 20;
/// Longer than any model takes.
const MAX_TOKENS: u32 = 10_000_000;

/// The requests of a trace, in the order of their times, which begin at zero.
#[derive(Debug)]
pub struct Trace(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    at: Duration,
    input: Input,
    output_tokens: Option<u32>,
}

#[derive(Debug)]
enum Input {
    Text(String),
    /// So many tokens, and which blocks they are made of. Requests that share blocks at their beginning share text.
    Blocks {
        tokens: u32,
        hashes: Box<[u64]>,
    },
}

/// A line; what else it has is passed over.
#[derive(Deserialize)]
struct Line {
    /// Milliseconds.
    timestamp: f64,
    input_length: Option<u32>,
    output_length: Option<u32>,
    #[serde(default)]
    hash_ids: Vec<u64>,
    prompt: Option<String>,
}

impl Trace {
    pub fn read(path: &Path) -> Result<Self> {
        let cannot = || format!("cannot read the trace from {}", path.display());
        let mut reader = BufReader::new(File::open(path).with_context(cannot)?);
        let mut entries = Vec::new();
        let mut text = String::new();
        for number in 1_u64.. {
            text.clear();
            if reader.by_ref().take(MAX_LINE).read_line(&mut text).with_context(cannot)? == 0 {
                break;
            }
            if text.trim().is_empty() {
                continue;
            }
            ensure!(entries.len() < MAX_REQUESTS, "{} has too many requests", path.display());
            let entry = entry(&text)
                .with_context(|| format!("line {number} of {} is no request", path.display()))?;
            entries.push(entry);
        }
        let first = entries.iter().map(|entry| entry.at).min();
        let Some(first) = first else { bail!("{} has no requests", path.display()) };
        for entry in &mut entries {
            entry.at -= first;
        }
        entries.sort_by_key(|entry| entry.at);
        Ok(Self(entries))
    }

    /// When each is due, at so many times the speed at which they came.
    pub fn times(&self, speed: f64) -> Arc<[Duration]> {
        self.0.iter().map(|entry| entry.at.div_f64(speed)).collect()
    }

    /// The prompt of the request with this number, from 1.
    pub(crate) fn prompt(&self, index: u32) -> Prompt {
        let entry = &self.0[(index.max(1) as usize - 1) % self.0.len()];
        let text = match &entry.input {
            Input::Text(text) => text.clone(),
            Input::Blocks { tokens, hashes } => {
                let blocks = (0_u64..).zip((0..*tokens).step_by(BLOCK as usize));
                let texts = blocks.map(|(number, start)| {
                    let count = BLOCK.min(tokens - start);
                    // Without a hash of its own a block is like no other.
                    let own = || (u64::from(index) << 24 | number) ^ u64::MAX;
                    let hash = usize::try_from(number).ok().and_then(|at| hashes.get(at).copied());
                    words(hash.unwrap_or_else(own), count)
                });
                texts.collect::<Vec<_>>().join(" ")
            }
        };
        Prompt { text, max_tokens: entry.output_tokens }
    }
}

fn entry(text: &str) -> Result<Entry> {
    let Line { timestamp, input_length, output_length, hash_ids, prompt } =
        serde_json::from_str(text)?;
    let at = Duration::try_from_secs_f64(timestamp / 1e3).context("its timestamp is no time")?;
    let input = match (prompt, input_length) {
        (Some(text), _) => Input::Text(text),
        (None, Some(tokens)) => {
            ensure!((1..=MAX_TOKENS).contains(&tokens), "its input_length is no length");
            Input::Blocks { tokens, hashes: hash_ids.into() }
        }
        (None, None) => bail!("it has neither a prompt nor an input_length"),
    };
    Ok(Entry { at, input, output_tokens: output_length.filter(|&tokens| tokens > 0) })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn trace(text: &str) -> Result<Trace> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        Trace::read(file.path())
    }

    #[test]
    fn requests_that_share_hashes_share_text() {
        let trace = trace(
            "{\"timestamp\": 3000, \"input_length\": 1100, \"output_length\": 7, \"hash_ids\": [46, 47, 49]}\n\
             {\"timestamp\": 1000, \"input_length\": 1030, \"output_length\": 0, \"hash_ids\": [46, 47, 48]}\n\n\
             {\"timestamp\": 3500, \"prompt\": \"said\", \"chat\": 1}\n\
             {\"timestamp\": 3500, \"input_length\": 3}\n{\"timestamp\": 3500, \"input_length\": 3}\n",
        )
        .unwrap();
        assert_eq!(trace.times(2.0)[..3], [0, 1000, 1250].map(Duration::from_millis));
        let prompts: Vec<Prompt> = (1..=5).map(|index| trace.prompt(index)).collect();
        let words: Vec<Vec<&str>> =
            prompts.iter().map(|prompt| prompt.text.split(' ').collect()).collect();
        assert_eq!(words.iter().map(Vec::len).collect::<Vec<_>>(), [1030, 1100, 1, 3, 3]);
        assert_eq!(words[0][..1024], words[1][..1024]);
        assert_ne!(words[0][1024..], words[1][1024..1030]);
        assert_ne!(words[3], words[4]);
        assert_eq!((prompts[0].max_tokens, prompts[1].max_tokens), (None, Some(7)));
    }

    #[test]
    fn what_is_no_trace_is_refused() {
        for (text, part) in [
            ("", "has no requests"),
            ("{\"timestamp\": 0, \"input_length\": 3}\nx\n", "line 2 of"),
            ("{\"timestamp\": -1, \"input_length\": 3}", "no time"),
            ("{\"timestamp\": 1e999, \"input_length\": 3}", "line 1 of"),
            ("{\"timestamp\": 0, \"input_length\": 0}", "no length"),
            ("{\"timestamp\": 0}", "neither"),
        ] {
            let message = format!("{:#}", trace(text).unwrap_err());
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
