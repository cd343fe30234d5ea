//! Whose calls are not all seen: counts, and the latest of those processes and libraries.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use trace::line::{Coverage as Line, CoverageCounts, CoverageKind};

/// Told one by one; the trace has all.
const MAX_GAPS: usize = 32;

#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    #[serde(flatten)]
    pub counts: CoverageCounts,
    /// Functions of libraries with probes that have none in a running process, all together.
    #[serde(default)]
    pub unprobed: u64,
    /// The latest, in the order in which they were found.
    pub gaps: VecDeque<Gap>,
}

/// A process whose calls into a library are not seen, or from a moment on only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    pub pid: u32,
    pub coverage: CoverageKind,
    pub path: String,
    /// Functions without a probe in it, although its library has probes.
    #[serde(default)]
    pub unprobed: u32,
    pub reason: Option<String>,
}

impl Coverage {
    pub(super) fn note(&mut self, pid: u32, line: Option<&Line>, counts: CoverageCounts) {
        self.counts = counts;
        let Some(line) = line.filter(|line| line.coverage != CoverageKind::Exact) else { return };
        self.gaps.retain(|gap| gap.pid != pid || gap.path != line.path);
        if self.gaps.len() >= MAX_GAPS {
            // What is seen in part matters less than what is not.
            let from = self.gaps.iter().position(|gap| gap.coverage == CoverageKind::From);
            self.gaps.remove(from.unwrap_or(0));
        }
        self.gaps.push_back(Gap {
            pid,
            coverage: line.coverage,
            path: line.path.clone(),
            unprobed: line.unprobed,
            reason: line.reason.clone(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: CoverageKind, inode: u64) -> Line {
        let path = format!("/lib/{inode}");
        Line { coverage: kind, path, device: 1, inode, unprobed: 0, reason: None }
    }

    #[test]
    fn the_latest_gaps_are_kept_and_the_unseen_longest() {
        let mut coverage = Coverage::default();
        let counts = CoverageCounts::default();
        coverage.note(1, Some(&line(CoverageKind::Exact, 0)), counts);
        coverage.note(1, Some(&line(CoverageKind::Unseen, 0)), counts);
        coverage.note(1, Some(&line(CoverageKind::From, 1)), counts);
        coverage.note(1, Some(&line(CoverageKind::From, 1)), counts);
        assert_eq!(coverage.gaps.len(), 2);
        for inode in 2..100 {
            coverage.note(1, Some(&line(CoverageKind::From, inode)), counts);
        }
        assert_eq!(coverage.gaps.len(), MAX_GAPS);
        assert_eq!(coverage.gaps[0].coverage, CoverageKind::Unseen);
    }
}
