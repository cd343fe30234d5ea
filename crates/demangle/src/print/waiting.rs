//! What waits on the list while its inside is printed.

use super::{Printed, Printer, scope::ScopeId};
use crate::tree::{Id, Node};

#[derive(Clone, Copy)]
pub(super) struct Waiting {
    pub(super) node: Id,
    pub(super) is_printed: bool,
    /// What template parameters in it mean.
    pub(super) scope: ScopeId,
    pub(super) next: Option<usize>,
}

impl Printer<'_, '_> {
    pub(super) fn wait(&mut self, node: Id) -> usize {
        let own = self.waiting.len();
        self.waiting.push(Waiting {
            node,
            is_printed: false,
            scope: self.scopes.current,
            next: self.innermost,
        });
        self.innermost = Some(own);
        own
    }

    pub(super) fn stop_waiting(&mut self, own: usize, outer: Option<usize>) {
        self.waiting.truncate(own);
        self.innermost = outer;
    }

    /// Prints what waits; what stands behind a function's parameters only if `is_behind`.
    pub(super) fn take_waiting(&mut self, waiting: Option<usize>, is_behind: bool) -> Printed {
        let scope = self.scopes.current;
        let mut next = waiting;
        while let Some(at) = next {
            self.step()?;
            let waiting = self.waiting[at];
            next = waiting.next;
            let node = self.tree.get(waiting.node);
            if waiting.is_printed || !is_behind && node.qualified_function().is_some() {
                continue;
            }
            self.waiting[at].is_printed = true;
            self.scopes.current = waiting.scope;
            match node {
                // They print the others where those belong.
                Node::Function { parameters, .. } => {
                    self.function_around(parameters, next)?;
                    next = None;
                }
                Node::Array { size, .. } => {
                    self.array_around(size, next)?;
                    next = None;
                }
                Node::Local { function, name } => {
                    self.local_name(function, name)?;
                    next = None;
                }
                _ => self.waiting_text(waiting.node)?,
            }
            self.scopes.current = scope;
        }
        Ok(())
    }

    /// Its qualifiers wait on their own.
    pub(super) fn local_name(&mut self, function: Id, name: Id) -> Printed {
        let innermost = self.innermost.take();
        self.node(function)?;
        self.innermost = innermost;
        self.push("::")?;
        let mut name = self.default_argument(name)?;
        while let Some(inner) = self.tree.get(name).qualified_function() {
            name = inner;
        }
        self.node(name)
    }

    /// What waited, alone.
    pub(super) fn waiting_text(&mut self, id: Id) -> Printed {
        match self.tree.get(id) {
            Node::Qualifier { qualifier, .. } => self.push(qualifier.text()),
            Node::Noexcept { condition, .. } => {
                self.push(" noexcept")?;
                condition.map_or(Ok(()), |condition| self.in_parentheses(condition))
            }
            Node::Throw { types, .. } => {
                self.push(" throw")?;
                self.in_parentheses(types)
            }
            Node::VendorQualifier { qualifier, .. } => {
                self.push(" ")?;
                self.node(qualifier)
            }
            Node::MemberPointer { class, .. } => {
                if self.last != b'(' {
                    self.push(" ")?;
                }
                self.node(class)?;
                self.push("::*")
            }
            Node::Vector { size, .. } => {
                self.push(" __vector")?;
                self.in_parentheses(size)
            }
            Node::Typed { name, .. } => self.node(name),
            _ => self.node(id),
        }
    }

    pub(super) fn in_parentheses(&mut self, id: Id) -> Printed {
        self.push("(")?;
        self.node(id)?;
        self.push(")")
    }
}
