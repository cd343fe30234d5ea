//! The prompts of a batch: built-in ones, those of a file, or random ones of a length.

use std::{fs, path::Path, sync::Arc};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::{lengths::Length, random::Random, replay::Trace};

/// Where the prompts of a run come from, and how long their answers are to be.
#[derive(Debug, Clone)]
pub struct Prompts {
    pub source: Source,
    /// Instead of the one length that all answers have.
    pub output: Option<Length>,
    /// What prompts begin with, as a system prompt.
    pub prefix: Option<Prefix>,
    pub seed: u64,
}

/// Prompts take the prefixes in turn, so that each is shared by some of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    pub tokens: u32,
    pub count: u32,
}

#[derive(Debug, Clone)]
pub enum Source {
    /// Used in turn, from the start again when there are more requests. Not empty.
    List(Arc<[Prompt]>),
    /// So many short words, each of which is about one token.
    Random(Length),
    /// Those of a recorded load.
    Trace(Arc<Trace>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    pub text: String,
    /// Most tokens of its answer, where it has its own.
    pub max_tokens: Option<u32>,
}

impl Prompts {
    pub fn list(prompts: impl IntoIterator<Item = impl Into<Prompt>>) -> Self {
        let list: Vec<Prompt> = prompts.into_iter().map(Into::into).collect();
        Self { source: Source::List(list.into()), output: None, prefix: None, seed: 0 }
    }

    /// That of the request with this number, the same in each run with the same seed.
    pub fn of(&self, index: u32) -> Prompt {
        let mut random =
            Random::new(self.seed ^ u64::from(index).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut prompt = match &self.source {
            Source::List(list) => list[(index.max(1) as usize - 1) % list.len()].clone(),
            Source::Random(length) => {
                let count = length.draw(&mut random);
                Prompt::from(words(random.next(), count))
            }
            Source::Trace(trace) => trace.prompt(index),
        };
        if let Some(Prefix { tokens, count }) = self.prefix {
            let number = index.max(1) % count.max(1);
            let prefix = words(self.seed ^ (u64::from(number) << 32 | 0x5eed), tokens);
            prompt.text = format!("{prefix} {}", prompt.text);
        }
        if let Some(length) = self.output {
            prompt.max_tokens = Some(length.draw(&mut random));
        }
        prompt
    }

    /// `None`: each one is another.
    pub fn distinct(&self) -> Option<usize> {
        match &self.source {
            Source::List(list) => Some(list.len()),
            Source::Random(_) | Source::Trace(_) => None,
        }
    }
}

impl<T: Into<String>> From<T> for Prompt {
    fn from(text: T) -> Self {
        Self { text: text.into(), max_tokens: None }
    }
}

/// So many words that the number decides.
pub(crate) fn words(number: u64, count: u32) -> String {
    let mut random = Random::new(number);
    let word = |_| WORDS[usize::try_from(random.below(WORDS.len() as u64)).unwrap_or_default()];
    (0..count).map(word).collect::<Vec<_>>().join(" ")
}

/// Frequent and short: each is one token, with the blank before it, in the vocabularies of most models.
const WORDS: [&str; 48] = [
    "the", "of", "and", "to", "in", "is", "that", "it", "was", "for", "on", "are", "as", "with",
    "his", "they", "at", "be", "this", "have", "from", "or", "one", "had", "by", "but", "not",
    "what", "all", "were", "we", "when", "your", "can", "said", "there", "use", "an", "each",
    "which", "she", "do", "how", "their", "if", "will", "up", "other",
];

/// What `single` sends unless told otherwise.
pub const SINGLE: &str = "Explain in two sentences why the sky is blue.";

/// Short on purpose, and none begins like another, so that a prefix cache gains nothing within one pass.
pub const BUILT_IN: [&str; 20] = [
    "Explain how a bicycle stays upright while it moves.",
    "Write a haiku about a lighthouse in winter.",
    "List five uses for an empty glass jar.",
    "What happens to water when it freezes?",
    "Translate 'good morning, neighbour' into French, Spanish and German.",
    "Give a recipe for pancakes that needs no eggs.",
    "Summarise the plot of Romeo and Juliet in three sentences.",
    "Why do cats purr?",
    "Describe a market street to somebody who has never seen one.",
    "Compare trains and aeroplanes for a journey of 800 kilometres.",
    "Tell a short story that begins with a lost umbrella.",
    "How does a refrigerator move heat?",
    "Name three inventions of the nineteenth century and what they changed.",
    "Can you write a Python function that reverses the words of a sentence?",
    "Suppose it rains on Mars: what would have to be different?",
    "In plain words, define what a prime number is.",
    "Draft a polite note asking for a meeting to be moved to Thursday.",
    "Is a tomato a fruit or a vegetable, and who decides?",
    "Sketch a plan for learning to swim as an adult.",
    "One farmer has 17 sheep and all but 9 run away; how many are left, and why?",
];

/// From lines of text; from `.jsonl`, an object with a `prompt` on each line; or from `.json`, a list of such objects or
/// of conversations as in ShareGPT.
pub fn from_file(path: &Path) -> Result<Vec<Prompt>> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read the prompts from {}", path.display()))?;
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let of_json = |text: &str| serde_json::from_str::<Value>(text);
    let (prompts, way): (Vec<Prompt>, _) = match path.extension().and_then(|end| end.to_str()) {
        Some("jsonl") => {
            let mut prompts = Vec::new();
            for (number, line) in (1..).zip(lines()) {
                let value = of_json(line)
                    .with_context(|| format!("line {number} of {} is not JSON", path.display()))?;
                let Some(prompt) = of_object(&value) else {
                    bail!("line {number} of {} has no `prompt`", path.display());
                };
                prompts.push(prompt);
            }
            (prompts, "write one object with a `prompt` per line")
        }
        Some("json") => {
            let value =
                of_json(&text).with_context(|| format!("{} is not JSON", path.display()))?;
            // Conversations that the user does not begin are passed over.
            let prompts = value.as_array().into_iter().flatten().filter_map(of_object).collect();
            (prompts, "write a list of objects with a `prompt` or with `conversations`")
        }
        _ => (lines().map(Prompt::from).collect(), "write one per line"),
    };
    ensure!(!prompts.is_empty(), "{} has no prompts: {way}", path.display());
    Ok(prompts)
}

fn of_object(value: &Value) -> Option<Prompt> {
    let first = &value["conversations"][0];
    let is_users = matches!(first["from"].as_str(), Some("human" | "user"));
    let of_conversation = || first["value"].as_str().filter(|_| is_users);
    let text =
        value["prompt"].as_str().or_else(of_conversation).filter(|text| !text.trim().is_empty())?;
    let limit =
        ["max_tokens", "output_tokens", "output_len"].iter().find_map(|&name| value[name].as_u64());
    let max_tokens = limit.and_then(|limit| u32::try_from(limit).ok()).filter(|&limit| limit > 0);
    Some(Prompt { text: text.to_owned(), max_tokens })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn built_in_prompts_share_no_first_word() {
        let first: HashSet<_> =
            BUILT_IN.iter().filter_map(|prompt| prompt.split_whitespace().next()).collect();
        assert_eq!(first.len(), BUILT_IN.len());
    }

    #[test]
    fn lines_of_a_file_are_prompts() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "one two\r\n\n  three  \n").unwrap();
        assert_eq!(from_file(file.path()).unwrap(), ["one two", "three"].map(Prompt::from));
    }

    fn file(end: &str, text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::Builder::new().suffix(end).tempfile().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn objects_and_conversations_are_prompts() {
        let two = [Prompt { text: "a".to_owned(), max_tokens: Some(7) }, Prompt::from("b")];
        let lines = file(".jsonl", "{\"prompt\":\"a\",\"max_tokens\":7}\n\n{\"prompt\":\"b\"}\n");
        assert_eq!(from_file(lines.path()).unwrap(), two);
        let talk = file(
            ".json",
            r#"[{"conversations":[{"from":"human","value":"a"},{"from":"gpt","value":"x"}]},
                {"conversations":[{"from":"gpt","value":"x"}]},{"conversations":[]},{"prompt":"b"}]"#,
        );
        assert_eq!(from_file(talk.path()).unwrap(), ["a", "b"].map(Prompt::from));
        for (end, text, part) in [
            (".jsonl", "{}", "line 1 of"),
            (".jsonl", "{", "is not JSON"),
            (".json", "{}", "has no prompts"),
        ] {
            let broken = file(end, text);
            let message = format!("{:#}", from_file(broken.path()).unwrap_err());
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn random_prompts_have_their_length_and_come_again() {
        let prompts = |seed| Prompts {
            source: Source::Random(Length::Uniform(5, 9)),
            output: Some(Length::Fixed(3)),
            prefix: None,
            seed,
        };
        for index in 1..50 {
            let prompt = prompts(1).of(index);
            assert!((5..=9).contains(&prompt.text.split(' ').count()), "{prompt:?}");
            assert_eq!((prompt.max_tokens, &prompt), (Some(3), &prompts(1).of(index)));
        }
        assert_ne!(prompts(1).of(1), prompts(1).of(2));
        assert_ne!(prompts(1).of(1), prompts(2).of(1));
    }

    #[test]
    fn prefixes_are_shared_in_turn() {
        let prompts = Prompts {
            source: Source::Random(Length::Fixed(5)),
            output: None,
            prefix: Some(Prefix { tokens: 30, count: 2 }),
            seed: 4,
        };
        let texts: Vec<String> = (1..=4).map(|index| prompts.of(index).text).collect();
        let begin = |text: &str| text.split(' ').take(30).collect::<Vec<_>>().join(" ");
        assert!(texts.iter().all(|text| text.split(' ').count() == 35));
        assert_eq!((begin(&texts[0]), begin(&texts[1])), (begin(&texts[2]), begin(&texts[3])));
        assert_ne!(begin(&texts[0]), begin(&texts[1]));
        assert_ne!(texts[0], texts[2]);
    }

    #[test]
    fn a_file_without_prompts_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "\n \n").unwrap();
        let message = from_file(file.path()).unwrap_err().to_string();
        assert!(message.ends_with("has no prompts: write one per line"), "{message}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let message = format!("{:#}", from_file(Path::new("no/such/prompts.txt")).unwrap_err());
        assert!(
            message.starts_with("cannot read the prompts from no/such/prompts.txt: No such file"),
            "{message}"
        );
    }
}
