//! Words in and words out: how a prompt is counted, and what is said in answer.

/// A token is a word.
pub(super) fn count_tokens(text: &str) -> usize {
    text.split_whitespace().count()
}

/// The answer to a prompt: always the same words, and always the same length.
#[derive(Debug, Clone, Copy)]
pub(super) struct Voice {
    seed: u64,
}

/// No answer ends by itself before so many tokens, so that short requests get what they ask for.
const MIN_ANSWER: u64 = 256;

#[rustfmt::skip]
const WORDS: [&str; 64] = [
    "a", "about", "after", "all", "and", "answer", "any", "are", "as", "at", "be", "because", "before", "between", "both",
    "but", "by", "can", "each", "every", "first", "for", "from", "has", "how", "if", "in", "into", "is", "it", "its", "large",
    "last", "less", "made", "many", "more", "most", "not", "of", "on", "one", "or", "other", "over", "same", "seen", "so",
    "some", "such", "than", "that", "the", "their", "then", "there", "these", "this", "to", "under", "when", "which", "with",
    "without",
];

impl Voice {
    /// `choice` tells several answers to one prompt apart.
    pub(super) fn new(prompt: &str, choice: usize) -> Self {
        // FNV-1a.
        let seed = prompt
            .bytes()
            .chain(choice.to_le_bytes())
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        Self { seed }
    }

    /// The token at a position, with the space before it.
    pub(super) fn token(self, position: usize) -> String {
        // SplitMix64.
        let mut mixed =
            self.seed.wrapping_add((position as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let word = WORDS[usize::try_from(mixed >> 58).expect("six bits")];
        format!(" {word}")
    }

    /// After how many tokens the answer ends by itself.
    pub(super) fn natural_length(self) -> usize {
        usize::try_from(MIN_ANSWER + self.seed % MIN_ANSWER).expect("a small number")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_the_same_each_time_and_differ_between_prompts() {
        let say = |prompt: &str, choice| {
            (0..32).map(|position| Voice::new(prompt, choice).token(position)).collect::<String>()
        };
        assert_eq!(say("hello", 0), say("hello", 0));
        assert_ne!(say("hello", 0), say("hello", 1));
        assert_ne!(say("hello", 0), say("hellp", 0));
        assert_eq!(count_tokens(&say("hello", 0)), 32);
    }

    #[test]
    fn no_answer_is_short() {
        assert!(
            (0..1000).all(|choice| (256..512).contains(&Voice::new("x", choice).natural_length()))
        );
    }
}
