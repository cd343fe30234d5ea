//! Executable graphs by their handle: which kernels one replay launches.

use std::{collections::HashMap, sync::Arc};

use trace::line::{self, Address};

use super::function::Hasher;

/// Of all processes; what lies beyond is not known.
pub(crate) const MAX_GRAPHS: usize = 1 << 20;

#[derive(Default)]
pub struct Graphs(HashMap<(u32, u64), Arc<[u32]>, Hasher>);

impl Graphs {
    pub(crate) fn define(&mut self, pid: u32, graph: &line::Graph) {
        if self.0.len() < MAX_GRAPHS {
            self.0.insert((pid, graph.graph_exec.0), graph.kernels.as_slice().into());
        }
    }

    /// A handle that is given back, given out anew, or changed, is another graph; its line follows.
    pub(crate) fn call(&mut self, pid: u32, graph_exec: Address, canonical: &str) {
        let stem = canonical.trim_start_matches("cuda").trim_start_matches("cu");
        if matches!(stem, "GraphExecDestroy" | "GraphExecUpdate")
            || stem.starts_with("GraphInstantiate")
        {
            self.0.remove(&(pid, graph_exec.0));
        }
    }

    /// Numbers of kernels in the order of the capture; `None` if no line has told them.
    pub fn kernels(&self, pid: u32, graph_exec: Address) -> Option<&Arc<[u32]>> {
        self.0.get(&(pid, graph_exec.0))
    }
}
