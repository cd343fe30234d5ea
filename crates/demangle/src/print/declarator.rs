//! Prints types around what they are of, as C++ declares it.

use super::{Printed, Printer, Unprintable, waiting::Waiting};
use crate::tree::{Id, Node, Qualifier};

/// As many qualifiers a function or an array has at most, itself included.
const MAX_QUALIFIERS: usize = 4;

impl Printer<'_, '_> {
    /// `inner` is printed while this waits for its place; if nothing there takes it, it comes behind.
    pub(super) fn wrapped(&mut self, id: Id, inner: Id) -> Printed {
        let outer = self.innermost;
        let own = self.wait(id);
        self.node(inner)?;
        if !self.waiting[own].is_printed {
            self.waiting_text(id)?;
        }
        self.stop_waiting(own, outer);
        Ok(())
    }

    pub(super) fn qualified(&mut self, id: Id, qualifier: Qualifier, inner: Id) -> Printed {
        match qualifier {
            _ if qualifier.is_cv() => {
                if self.waits_already(qualifier)? {
                    return self.node(inner);
                }
                self.wrapped(id, inner)
            }
            Qualifier::Reference | Qualifier::RvalueReference => {
                self.reference(id, qualifier, inner)
            }
            _ => self.wrapped(id, inner),
        }
    }

    /// The elements of an array have its qualifiers, and may have the same themselves.
    pub(super) fn waits_already(&mut self, qualifier: Qualifier) -> Result<bool, Unprintable> {
        let mut next = self.innermost;
        while let Some(waiting) = next.map(|next| self.waiting[next]) {
            self.step()?;
            if !waiting.is_printed {
                match self.tree.get(waiting.node) {
                    Node::Qualifier { qualifier: other, .. } if other.is_cv() => {
                        if other == qualifier {
                            return Ok(true);
                        }
                    }
                    _ => return Ok(false),
                }
            }
            next = waiting.next;
        }
        Ok(false)
    }

    /// A reference to a reference is one reference, and `&&` only if both are.
    pub(super) fn reference(&mut self, id: Id, qualifier: Qualifier, inner: Id) -> Printed {
        let scope = self.scopes.current;
        let mut referred = inner;
        if let Node::TemplateParameter(number) = self.tree.get(inner)
            && self.parameter_style == super::ParameterStyle::Argument
        {
            self.enter_remembered_scope(id, inner)?;
            referred = self.argument(number)?;
        }
        let (id, inner) = match self.tree.get(referred) {
            Node::Qualifier { qualifier: other, inner }
                if other == Qualifier::Reference || other == qualifier =>
            {
                (referred, inner)
            }
            Node::Qualifier { qualifier: Qualifier::RvalueReference, inner: within } => {
                (id, within)
            }
            _ => (id, inner),
        };
        self.wrapped(id, inner)?;
        self.scopes.current = scope;
        Ok(())
    }

    /// A parameter that a substitution brings to another place means what it meant at the first.
    pub(super) fn enter_remembered_scope(&mut self, reference: Id, parameter: Id) -> Printed {
        self.steps.take(self.scopes.remembered_len()).ok_or(Unprintable)?;
        let Some(scope) = self.scopes.remembered(parameter) else {
            self.scopes.remember(parameter);
            return Ok(());
        };
        self.steps.take(self.path.len()).ok_or(Unprintable)?;
        let (_, above) = self.path.split_last().ok_or(Unprintable)?;
        if !above.contains(&parameter) && !above.contains(&reference) {
            self.scopes.current = scope;
        }
        Ok(())
    }

    /// The name waits for its place in the type of its function.
    pub(super) fn typed(&mut self, name: Id, function: Id) -> Printed {
        let outer = self.innermost.take();
        let own = self.waiting.len();
        let scope = self.scopes.current;
        let mut named = name;
        let mut qualifiers = 0;
        loop {
            qualifiers += 1;
            if qualifiers > MAX_QUALIFIERS {
                return Err(Unprintable);
            }
            self.wait(named);
            match self.tree.get(named).qualified_function() {
                Some(inner) => named = inner,
                None => break,
            }
        }
        if let Node::Local { name, .. } = self.tree.get(named) {
            named = match self.tree.get(name) {
                Node::DefaultArgument { name, .. } => name,
                _ => name,
            };
            // Qualifiers of what is local come before it on the list.
            while let Some(inner) = self.tree.get(named).qualified_function() {
                qualifiers += 1;
                if qualifiers > MAX_QUALIFIERS {
                    return Err(Unprintable);
                }
                let last = self.waiting.len() - 1;
                let local = self.waiting[last].node;
                self.waiting[last].node = named;
                self.wait(local);
                named = inner;
            }
        }
        if matches!(self.tree.get(named), Node::Template { .. }) {
            self.scopes.enter(named);
        }
        self.node(function)?;
        self.scopes.current = scope;
        for at in (own..self.waiting.len()).rev() {
            let Waiting { node, is_printed, .. } = self.waiting[at];
            if !is_printed {
                self.push(" ")?;
                self.waiting_text(node)?;
            }
        }
        self.stop_waiting(own, outer);
        Ok(())
    }

    pub(super) fn function(&mut self, id: Id, result: Option<Id>, parameters: Id) -> Printed {
        if let Some(result) = result {
            let outer = self.innermost;
            let own = self.wait(id);
            self.node(result)?;
            let is_printed = self.waiting[own].is_printed;
            self.stop_waiting(own, outer);
            if is_printed {
                return Ok(());
            }
            self.push(" ")?;
        }
        self.function_around(parameters, self.innermost)
    }

    /// The parameters of a function, behind what waits for it.
    pub(super) fn function_around(&mut self, parameters: Id, waiting: Option<usize>) -> Printed {
        let mut needs_parentheses = false;
        let mut needs_space = false;
        let mut has_explicit_this = false;
        let mut next = waiting;
        while let Some(waiting) = next.map(|next| self.waiting[next]) {
            self.step()?;
            if waiting.is_printed {
                break;
            }
            match self.tree.get(waiting.node) {
                Node::Qualifier { qualifier: Qualifier::ExplicitThis, .. } => {
                    has_explicit_this = true;
                }
                node if node.qualified_function().is_some() => {}
                Node::Qualifier {
                    qualifier:
                        Qualifier::Pointer | Qualifier::Reference | Qualifier::RvalueReference,
                    ..
                } => needs_parentheses = true,
                Node::Qualifier { .. }
                | Node::VendorQualifier { .. }
                | Node::MemberPointer { .. } => {
                    needs_parentheses = true;
                    needs_space = true;
                }
                _ => {}
            }
            if needs_parentheses {
                break;
            }
            next = waiting.next;
        }
        if needs_parentheses {
            if !matches!(self.last, b'(' | b'*') {
                needs_space = true;
            }
            if needs_space && self.last != b' ' {
                self.push(" ")?;
            }
            self.push("(")?;
        }
        let innermost = self.innermost.take();
        self.take_waiting(waiting, false)?;
        if needs_parentheses {
            self.push(")")?;
        }
        self.push("(")?;
        if has_explicit_this {
            self.push("this ")?;
        }
        self.node(parameters)?;
        self.push(")")?;
        self.take_waiting(waiting, true)?;
        self.innermost = innermost;
        Ok(())
    }

    pub(super) fn array(&mut self, id: Id, size: Option<Id>, element: Id) -> Printed {
        let outer = self.innermost;
        let own = self.wait(id);
        // The array's qualifiers are its elements'.
        let mut next = outer;
        while let Some(at) = next {
            self.step()?;
            let waiting = self.waiting[at];
            let Node::Qualifier { qualifier, .. } = self.tree.get(waiting.node) else { break };
            if !qualifier.is_cv() {
                break;
            }
            if !waiting.is_printed {
                if self.waiting.len() - own >= MAX_QUALIFIERS {
                    return Err(Unprintable);
                }
                self.waiting.push(Waiting { next: self.innermost, ..waiting });
                self.innermost = Some(self.waiting.len() - 1);
                self.waiting[at].is_printed = true;
            }
            next = waiting.next;
        }
        self.node(element)?;
        self.innermost = outer;
        if !self.waiting[own].is_printed {
            for at in (own + 1..self.waiting.len()).rev() {
                self.waiting_text(self.waiting[at].node)?;
            }
            self.array_around(size, outer)?;
        }
        self.stop_waiting(own, outer);
        Ok(())
    }

    /// The size of an array, behind what waits for it.
    pub(super) fn array_around(&mut self, size: Option<Id>, waiting: Option<usize>) -> Printed {
        let mut next = waiting;
        let mut first = None;
        while let Some(waiting) = next.map(|next| self.waiting[next]) {
            self.step()?;
            if !waiting.is_printed {
                first = Some(self.tree.get(waiting.node));
                break;
            }
            next = waiting.next;
        }
        let is_array = matches!(first, Some(Node::Array { .. }));
        let needs_parentheses = first.is_some() && !is_array;
        if needs_parentheses {
            self.push(" (")?;
        }
        self.take_waiting(waiting, false)?;
        if needs_parentheses {
            self.push(")")?;
        }
        self.push(if is_array { "[" } else { " [" })?;
        if let Some(size) = size {
            self.node(size)?;
        }
        self.push("]")
    }
}
