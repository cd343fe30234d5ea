//! Functions without a probe: by name as long as they are few, then by their number.

use std::collections::BTreeMap;

use trace::line::{more_functions, name_of_more_functions};

/// A library line repeats them in each segment, and there may be hundreds of libraries: 16 KiB for each
/// at most.
const MAX_NAMED: usize = 64;

/// Function names, which may be hostile, and the reasons why they have no probe.
#[derive(Debug, Default)]
pub struct Refusals {
    named: BTreeMap<String, String>,
    more: u64,
    reason: String,
}

impl Refusals {
    pub fn add(&mut self, name: &str, reason: &str) {
        if self.named.len() < MAX_NAMED {
            // Printed in logs too.
            self.named.insert(name.escape_default().to_string(), reason.to_owned());
        } else {
            self.more += 1;
            reason.clone_into(&mut self.reason);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    /// The same of what is a list already, but may be too long.
    pub fn of(refused: BTreeMap<String, String>) -> BTreeMap<String, String> {
        if refused.len() <= MAX_NAMED {
            return refused;
        }
        let mut refusals = Self::default();
        for (name, reason) in &refused {
            match more_functions(name) {
                Some(more) => {
                    refusals.more += more;
                    refusals.reason.clone_from(reason);
                }
                None => refusals.add(name, reason),
            }
        }
        refusals.finish()
    }

    /// One entry stands for all that are not told by name.
    pub fn finish(mut self) -> BTreeMap<String, String> {
        if self.more > 0 {
            self.named.insert(name_of_more_functions(self.more), self.reason);
        }
        self.named
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_functions_are_refused_the_list_stays_short_and_all_are_counted() {
        let mut refusals = Refusals::default();
        for number in 0..MAX_NAMED + 70_000 {
            refusals.add(&format!("cuF{number}"), "a reason");
        }
        let refused = refusals.finish();
        assert_eq!(refused.len(), MAX_NAMED + 1);
        assert_eq!(refused["(70000 more functions)"], "a reason");
    }

    #[test]
    fn a_list_that_is_cut_already_has_one_entry_for_the_rest() {
        let mut refusals = Refusals::default();
        for number in 0..MAX_NAMED + 840 {
            refusals.add(&format!("cuF{number}"), "a reason");
        }
        let mut refused = refusals.finish();
        refused.insert("cuAttach".to_owned(), "another".to_owned());
        let again = Refusals::of(refused);
        assert_eq!(again.len(), MAX_NAMED + 1);
        assert_eq!(again["(841 more functions)"], "a reason");
    }

    #[test]
    fn names_are_printable() {
        let mut refusals = Refusals::default();
        refusals.add("cuA\n\"\u{1b}[2J", "a reason");
        assert!(refusals.finish().contains_key("cuA\\n\\\"\\u{1b}[2J"));
    }
}
