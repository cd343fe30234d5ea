//! How long what is wrong may stay so before waiting on makes no sense.

use std::{collections::BTreeMap, time::Instant};

use super::Finding;

/// Since when something is wrong, by cause: what Kubernetes says of it may contain changing numbers.
#[derive(Default)]
pub(crate) struct GracePeriods(BTreeMap<String, Instant>);

impl GracePeriods {
    /// Returns the finding that waiting will not heal; `new` gets what is wrong since now.
    pub(crate) fn over(
        &mut self,
        findings: &[Finding],
        mut new: impl FnMut(&Finding),
    ) -> Option<Finding> {
        let now = Instant::now();
        self.0.retain(|cause, _| findings.iter().any(|finding| finding.cause == *cause));
        for finding in findings {
            let since = *self.0.entry(finding.cause.clone()).or_insert(now);
            if finding.grace.is_some_and(|grace| now - since >= grace) {
                return Some(finding.clone());
            }
            if since == now {
                new(finding);
            }
        }
        None
    }
}
