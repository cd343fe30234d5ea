//! Which sequences take part in a step: continuous batching, prompts and decodes together.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// One sequence on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sequence {
    id: u64,
    prompt_tokens: usize,
    /// Of the prompt, those already computed.
    prefilled: usize,
    generated: usize,
    wanted: usize,
}

#[derive(Debug)]
pub(super) struct Scheduler {
    running: Vec<Sequence>,
    waiting: VecDeque<Sequence>,
    max_sequences: usize,
    max_tokens: usize,
}

/// What a step computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Step {
    /// Of prompts, and one of each sequence that goes on.
    pub(super) tokens: usize,
    /// Tokens of prompts; zero for a pure decode step.
    pub(super) prefill_tokens: usize,
    /// Sequences that take part, in the order that they run.
    pub(super) sequences: usize,
}

/// Sequences by id, after a step.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) advanced: Vec<u64>,
    pub(super) finished: Vec<u64>,
}

impl Scheduler {
    pub(super) fn new(max_sequences: usize, max_tokens: usize) -> Self {
        Self { running: Vec::new(), waiting: VecDeque::new(), max_sequences, max_tokens }
    }

    pub(super) fn add(&mut self, id: u64, prompt_tokens: usize, wanted: usize) {
        // A prompt has at least one token, its start.
        let prompt_tokens = prompt_tokens.max(1);
        self.waiting.push_back(Sequence { id, prompt_tokens, prefilled: 0, generated: 0, wanted });
    }

    pub(super) fn abort(&mut self, id: u64) {
        self.running.retain(|sequence| sequence.id != id);
        self.waiting.retain(|sequence| sequence.id != id);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Tokens whose keys and values are kept.
    pub(super) fn kept_tokens(&self) -> usize {
        self.running.iter().map(|sequence| sequence.prefilled + sequence.generated).sum()
    }

    /// Takes in what fits, and says what the next step computes. Long prompts go in chunks.
    pub(super) fn plan(&mut self) -> Step {
        let mut room = self.max_tokens;
        let mut prefill_tokens = 0;
        for sequence in &mut self.running {
            room -= advance_prompt(sequence, room, &mut prefill_tokens);
        }
        while room > 0 && self.running.len() < self.max_sequences {
            let Some(mut sequence) = self.waiting.pop_front() else { break };
            room -= advance_prompt(&mut sequence, room, &mut prefill_tokens);
            self.running.push(sequence);
        }
        Step { tokens: self.max_tokens - room, prefill_tokens, sequences: self.running.len() }
    }

    /// Gives each sequence whose prompt is complete its token.
    pub(super) fn complete(&mut self) -> Progress {
        let mut progress = Progress::default();
        self.running.retain_mut(|sequence| {
            if sequence.prefilled < sequence.prompt_tokens {
                return true;
            }
            sequence.generated += 1;
            progress.advanced.push(sequence.id);
            let done = sequence.generated >= sequence.wanted;
            if done {
                progress.finished.push(sequence.id);
            }
            !done
        });
        progress
    }
}

/// The tokens that a sequence takes of a step: some of its prompt, or one to decode.
fn advance_prompt(sequence: &mut Sequence, room: usize, prefill_tokens: &mut usize) -> usize {
    let left = sequence.prompt_tokens - sequence.prefilled;
    if left == 0 {
        return room.min(1);
    }
    let taken = left.min(room);
    sequence.prefilled += taken;
    *prefill_tokens += taken;
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_join_while_others_decode() {
        let mut scheduler = Scheduler::new(8, 100);
        scheduler.add(1, 10, 3);
        assert_eq!(scheduler.plan(), Step { tokens: 10, prefill_tokens: 10, sequences: 1 });
        assert_eq!(scheduler.complete().advanced, [1]);
        scheduler.add(2, 5, 1);
        assert_eq!(scheduler.plan(), Step { tokens: 6, prefill_tokens: 5, sequences: 2 });
        assert_eq!(scheduler.complete(), Progress { advanced: vec![1, 2], finished: vec![2] });
        assert_eq!(scheduler.plan(), Step { tokens: 1, prefill_tokens: 0, sequences: 1 });
        assert_eq!(scheduler.complete(), Progress { advanced: vec![1], finished: vec![1] });
        assert!(scheduler.is_idle());
    }

    #[test]
    fn long_prompts_go_in_chunks_and_wait_for_room() {
        let mut scheduler = Scheduler::new(8, 100);
        scheduler.add(1, 150, 1);
        scheduler.add(2, 10, 1);
        assert_eq!(scheduler.plan(), Step { tokens: 100, prefill_tokens: 100, sequences: 1 });
        assert_eq!(scheduler.complete(), Progress::default());
        assert_eq!(scheduler.waiting(), 1);
        assert_eq!(scheduler.plan(), Step { tokens: 60, prefill_tokens: 60, sequences: 2 });
        assert_eq!(scheduler.kept_tokens(), 160);
        assert_eq!(scheduler.complete().finished, [1, 2]);
    }

    #[test]
    fn no_more_sequences_run_than_allowed() {
        let mut scheduler = Scheduler::new(2, 100);
        (0..3).for_each(|id| scheduler.add(id, 1, 9));
        assert_eq!(scheduler.plan().sequences, 2);
        scheduler.abort(0);
        scheduler.complete();
        assert_eq!(scheduler.plan().sequences, 2);
        assert_eq!((scheduler.running(), scheduler.waiting()), (2, 0));
    }
}
