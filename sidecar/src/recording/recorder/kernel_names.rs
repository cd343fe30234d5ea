//! What a call means for later ones: names of kernels, and what graphs hold.

use cuda::function::arguments::{Field, Naming, Place, ResultKind, naming, result};
use sidecar_common::CallEvent;
use trace::writer::{CallText, field_word};

use super::{
    graphs::{Graphs, Handles, Step, push_graph},
    kernels::Kernels,
};
use crate::recording::event::Call;

#[derive(Default)]
pub(super) struct KernelNames {
    functions: Vec<Role>,
    kernels: Kernels,
    graphs: Graphs,
}

struct Role {
    naming: Option<Naming>,
    step: Option<Step>,
    has_code: bool,
}

/// What a line refers to, so that it must be said before it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reference {
    pub(super) kernel: Option<u32>,
    graph_exec: Option<u64>,
}

impl KernelNames {
    /// Numbers come in order, each once.
    pub(super) fn add_function(&mut self, name: &str) {
        let has_code = result(name) == ResultKind::Code;
        self.functions.push(Role { naming: naming(name), step: Step::of(name), has_code });
    }

    /// Keeps a text for the call that was given it.
    pub(super) fn give(&mut self, event: &CallEvent, text: &[u8]) {
        self.kernels.give(event.tid, event.start_ns, text);
    }

    /// Learns from a call, and finds what its line refers to.
    pub(super) fn learn(
        &mut self,
        call: &Call<'_>,
        text: &CallText,
        word: impl Fn(Place) -> Option<u64>,
    ) -> Reference {
        let Some(role) = self.functions.get(call.event.function as usize) else {
            return Reference::default();
        };
        let CallEvent { tgid: pid, start_ns, .. } = call.event;
        #[expect(clippy::cast_possible_truncation, reason = "a code has 32 bits")]
        let has_failed = role.has_code && call.result as u32 != 0;
        let part = |of: cuda::function::arguments::Word| Some(of.part.of(word(of.place)?));
        if self.kernels.are_many() {
            self.kernels.forget_unused(self.graphs.kernels());
        }
        match role.naming {
            Some(Naming::Named { handle, .. }) => {
                let name = self.kernels.take_given(call.event.tid, call.event.start_ns);
                if !has_failed && let Some(handle) = part(handle) {
                    match name {
                        Some(name) => self.kernels.named(pid, start_ns, handle, name),
                        None => self.kernels.named_unread(pid, start_ns, handle),
                    }
                }
            }
            Some(Naming::Alias { handle, of }) if !has_failed => {
                if let Some((handle, of)) = part(handle).zip(part(of)) {
                    self.kernels.alias(pid, start_ns, handle, of);
                }
            }
            _ => {}
        }
        let field = |field| field_word(text, call.result, field, &word);
        let kernel =
            field(Field::Function).and_then(|handle| self.kernels.id(pid, start_ns, handle));
        if let Some(step) = role.step {
            let handles = Handles {
                start_ns,
                stream: field(Field::Stream),
                event: field(Field::Event),
                graph: field(Field::Graph),
                original: step.original().and_then(part),
                graph_exec: field(Field::GraphExec),
                kernel,
            };
            if has_failed {
                self.graphs.failed(pid, step, handles);
            } else {
                self.graphs.follow(pid, step, handles);
            }
        }
        let graph_exec =
            if role.step == Some(Step::Launch) { field(Field::GraphExec) } else { None };
        Reference { kernel, graph_exec }
    }

    /// Writes the lines that a line refers to, unless this segment has them.
    pub(super) fn announce(
        &mut self,
        out: &mut Vec<u8>,
        since_start: u64,
        pid: u32,
        reference: Reference,
    ) {
        if let Some(kernel) = reference.kernel {
            self.kernels.announce(out, since_start, kernel);
        }
        if let Some(executable) = reference.graph_exec
            && let Some(kernels) = self.graphs.due(pid, executable)
        {
            for kernel in kernels.iter() {
                self.kernels.announce(out, since_start, *kernel);
            }
            push_graph(out, since_start, pid, executable, &kernels);
        }
    }

    pub(super) fn begin_segment(&mut self) {
        self.kernels.begin_segment();
        self.graphs.begin_segment();
    }

    pub(super) fn attached_late(&mut self) {
        self.kernels.attached_late();
    }

    pub(super) fn forked(&mut self, pid: u32, parent: u32, at_ns: u64) {
        self.kernels.forked(pid, parent, at_ns);
    }

    /// The process ended, or ran another program from then on.
    pub(super) fn forget(&mut self, pid: u32, at_ns: u64) {
        self.kernels.forget(pid, at_ns);
        self.graphs.forget(pid, at_ns);
    }
}
