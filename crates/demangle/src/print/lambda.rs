//! Prints lambdas: they have no name, but parameters and a number.

use super::{ParameterStyle, Printed, Printer, Unprintable};
use crate::tree::{Id, Node, ParameterKind};

impl Printer<'_, '_> {
    pub(super) fn lambda(&mut self, head: Option<Id>, parameters: Id, number: u32) -> Printed {
        self.push("{lambda")?;
        let style = self.parameter_style;
        self.parameter_style = ParameterStyle::Lambda { head, declared: 0 };
        if let Some(head) = head {
            let declared = self.parameter_kinds(head, true)?;
            self.parameter_style = ParameterStyle::Lambda { head: Some(head), declared };
        }
        self.push("(")?;
        self.node(parameters)?;
        self.parameter_style = style;
        self.push(")#")?;
        self.push_number(number + 1)?;
        self.push("}")
    }

    pub(super) fn lambda_parameter(&mut self, head: Option<Id>, number: u32) -> Printed {
        let mut rest = head;
        let mut before = number;
        while let Some(list) = rest {
            self.step()?;
            let Node::List { item, next } = self.tree.get(list) else { return Err(Unprintable) };
            if before == 0 {
                return self.parameter_name(item.ok_or(Unprintable)?, number);
            }
            before -= 1;
            rest = next;
        }
        self.push("auto:")?;
        self.push_number(number + 1)
    }

    /// `<typename $T0, int $N1>`, or without names.
    fn parameter_kinds(&mut self, list: Id, has_names: bool) -> Result<u32, Unprintable> {
        self.push("<")?;
        let mut rest = Some(list);
        let mut number = 0;
        while let Some(list) = rest {
            self.step()?;
            let Node::List { item: Some(kind), next } = self.tree.get(list) else {
                return Err(Unprintable);
            };
            if number > 0 {
                self.push(", ")?;
            }
            self.parameter_kind(kind)?;
            if has_names {
                self.push(" ")?;
                self.parameter_name(kind, number)?;
            }
            number += 1;
            if has_names && let ParameterStyle::Lambda { declared, .. } = &mut self.parameter_style
            {
                *declared = number;
            }
            rest = next;
        }
        self.push(">")?;
        Ok(number)
    }

    fn parameter_kind(&mut self, id: Id) -> Printed {
        self.step()?;
        match self.tree.get(id) {
            Node::ParameterKind { kind: ParameterKind::Type, .. } => self.push("typename"),
            Node::ParameterKind { kind: ParameterKind::NonType, of: Some(of) } => self.node(of),
            Node::ParameterKind { kind: ParameterKind::Template, of: Some(of) } => {
                self.push("template")?;
                self.parameter_kinds(of, false)?;
                self.push(" class")
            }
            Node::ParameterKind { kind: ParameterKind::Pack, of: Some(of) } => {
                self.parameter_kind(of)?;
                self.push("...")
            }
            _ => Err(Unprintable),
        }
    }

    fn parameter_name(&mut self, id: Id, number: u32) -> Printed {
        let mut node = self.tree.get(id);
        while let Node::ParameterKind { kind: ParameterKind::Pack, of: Some(of) } = node {
            self.step()?;
            node = self.tree.get(of);
        }
        let Node::ParameterKind { kind, .. } = node else { return Err(Unprintable) };
        self.push(match kind {
            ParameterKind::NonType => "$N",
            ParameterKind::Template => "$TT",
            ParameterKind::Type | ParameterKind::Pack => "$T",
        })?;
        self.push_number(number)
    }
}
