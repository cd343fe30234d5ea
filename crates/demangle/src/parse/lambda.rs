//! Lambdas, which have no name but their parameters.

use super::Parser;
use crate::tree::{Id, Node, ParameterKind};

impl Parser<'_, '_> {
    pub(super) fn lambda(&mut self) -> Option<Id> {
        self.at += 2;
        let has_head = self.next_parameter_kind().is_some();
        let head = if has_head { Some(self.parameter_kinds()?) } else { None };
        let parameters = self.parameters()?;
        self.expect(b'E')?;
        let number = self.index()?;
        self.add(Node::Lambda { head, parameters, number })
    }

    /// The template parameters of a lambda, or of a parameter that is a template: at least one.
    fn parameter_kinds(&mut self) -> Option<Id> {
        let first = self.next_parameter_kind()?;
        let item = self.parameter_kind(first)?;
        let list = self.add(Node::List { item: Some(item), next: None })?;
        let mut last = list;
        // What comes behind a pack is not printed.
        let mut has_pack = first == ParameterKind::Pack;
        while let Some(kind) = self.next_parameter_kind() {
            let item = self.parameter_kind(kind)?;
            if !has_pack {
                last = self.append(last, item)?;
            }
            has_pack |= kind == ParameterKind::Pack;
        }
        Some(list)
    }

    fn next_parameter_kind(&self) -> Option<ParameterKind> {
        match (self.peek(), self.peek_second()) {
            (b'T', b'y') => Some(ParameterKind::Type),
            (b'T', b'n') => Some(ParameterKind::NonType),
            (b'T', b't') => Some(ParameterKind::Template),
            (b'T', b'p') => Some(ParameterKind::Pack),
            _ => None,
        }
    }

    fn parameter_kind(&mut self, kind: ParameterKind) -> Option<Id> {
        self.enter()?;
        self.at += 2;
        let of = match kind {
            ParameterKind::Type => None,
            ParameterKind::NonType => Some(self.type_()?),
            ParameterKind::Template => {
                let kinds = self.parameter_kinds()?;
                self.expect(b'E')?;
                Some(kinds)
            }
            ParameterKind::Pack => {
                let kind = self.next_parameter_kind();
                let kind = kind.filter(|kind| *kind != ParameterKind::Pack)?;
                Some(self.parameter_kind(kind)?)
            }
        };
        self.leave();
        self.add(Node::ParameterKind { kind, of })
    }
}
