//! The prompts of a batch: built-in ones, or one per line of a file.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};

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

/// Each non-empty line of the file is a prompt.
pub fn from_file(path: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read the prompts from {}", path.display()))?;
    let prompts: Vec<String> =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    ensure!(!prompts.is_empty(), "{} has no prompts: write one per line", path.display());
    Ok(prompts)
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
        assert_eq!(from_file(file.path()).unwrap(), ["one two", "three"]);
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
