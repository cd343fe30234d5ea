//! Templates: their arguments, and the parameters that stand for them.

use super::Parser;
use crate::tree::{Id, Node};

impl Parser<'_, '_> {
    /// `name` with the arguments that come next.
    pub(super) fn template(&mut self, name: Id) -> Option<Id> {
        let arguments = self.template_arguments()?;
        self.add(Node::Template { name, arguments })
    }

    pub(super) fn template_parameter(&mut self) -> Option<Id> {
        self.expect(b'T')?;
        let number = self.index()?;
        self.add(Node::TemplateParameter(number))
    }

    pub(super) fn template_parameter_type(&mut self) -> Option<Id> {
        let parameter = self.template_parameter()?;
        if self.peek() != b'I' {
            return Some(parameter);
        }
        if !self.is_conversion {
            self.add_substitution(parameter);
            return self.template(parameter);
        }
        // `operator T` may be a template: only if there are further arguments, the first are T's.
        let (at, nodes, substitutions) = (self.at, self.tree.len(), self.substitutions.len());
        let arguments = self.template_arguments()?;
        if self.peek() == b'I' {
            self.add_substitution(parameter);
            return self.add(Node::Template { name: parameter, arguments });
        }
        self.at = at;
        self.tree.truncate(nodes);
        self.substitutions.truncate(substitutions);
        Some(parameter)
    }

    pub(super) fn template_arguments(&mut self) -> Option<Id> {
        if !matches!(self.next()?, b'I' | b'J') {
            return None;
        }
        self.template_arguments_within()
    }

    /// Up to `E`.
    pub(super) fn template_arguments_within(&mut self) -> Option<Id> {
        if self.accept(b'E') {
            return self.add(Node::List { item: None, next: None });
        }
        // A constructor is called as the template, not as one of its arguments.
        let last_name = self.last_name;
        let first = self.template_argument()?;
        let list = self.add(Node::List { item: Some(first), next: None })?;
        let mut last = list;
        while !self.accept(b'E') {
            let item = self.template_argument()?;
            last = self.append(last, item)?;
        }
        self.last_name = last_name;
        Some(list)
    }

    pub(super) fn template_argument(&mut self) -> Option<Id> {
        match self.peek() {
            b'X' => {
                self.at += 1;
                let expression = self.expression()?;
                self.expect(b'E')?;
                Some(expression)
            }
            b'L' => self.literal(),
            b'I' | b'J' => {
                self.enter()?;
                let pack = self.template_arguments();
                self.leave();
                pack
            }
            _ => self.type_(),
        }
    }
}
