//! Expressions: the arguments of templates that are values, and what `decltype` stands around.

use super::{Parser, ScopeSyntax};
use crate::{
    builtin::NULLPTR,
    operator::Operator,
    tree::{Id, Node},
};

impl Parser<'_, '_> {
    pub(super) fn expression(&mut self) -> Option<Id> {
        let was_expression = self.is_expression;
        self.is_expression = true;
        let read = self.operand();
        self.is_expression = was_expression;
        read
    }

    fn operand(&mut self) -> Option<Id> {
        self.enter()?;
        let read = self.operand_within();
        self.leave();
        read
    }

    fn operand_within(&mut self) -> Option<Id> {
        match (self.peek(), self.peek_second()) {
            (b'L', _) => self.literal(),
            (b'T', _) => self.template_parameter(),
            (b's', b'r') => self.scoped_name(),
            (b's', b'p') => {
                self.at += 2;
                let pattern = self.operand()?;
                self.add(Node::PackExpansion(pattern))
            }
            (b'f', b'p') => self.function_parameter(),
            (b'0'..=b'9', _) => self.name_as_operand(),
            (b'o', b'n') => {
                self.at += 2;
                self.name_as_operand()
            }
            (b'i', b'l') => {
                self.at += 2;
                self.initializer_list(None)
            }
            (b't', b'l') => {
                self.at += 2;
                let of = self.type_()?;
                self.initializer_list(Some(of))
            }
            (b'u', _) => {
                self.at += 1;
                let name = self.source_name()?;
                let arguments = self.template_arguments_within()?;
                self.add(Node::VendorExpression { name, arguments })
            }
            _ => self.operation(),
        }
    }

    fn name_as_operand(&mut self) -> Option<Id> {
        let name = self.unqualified_name()?;
        if self.peek() == b'I' { self.template(name) } else { Some(name) }
    }

    /// `sr`: a name in a type that depends on a template's parameters.
    fn scoped_name(&mut self) -> Option<Id> {
        self.at += 2;
        let begins_with_name =
            matches!(self.peek(), b'0'..=b'9' | b'a'..=b'z' | b'C' | b'U' | b'L');
        let scope = if self.scopes != ScopeSyntax::Old && begins_with_name {
            self.scopes = ScopeSyntax::NewWasUsed;
            let scope = self.prefix(false)?;
            self.accept(b'E');
            scope
        } else {
            self.type_()?
        };
        let name = self.unqualified_name()?;
        let name = self.add(Node::Qualified { scope, name })?;
        if self.peek() == b'I' { self.template(name) } else { Some(name) }
    }

    fn function_parameter(&mut self) -> Option<Id> {
        self.at += 2;
        let number = if self.accept(b'T') { 0 } else { self.index()?.checked_add(1)? };
        self.add(Node::FunctionParameter(number))
    }

    fn initializer_list(&mut self, of: Option<Id>) -> Option<Id> {
        let items = self.operands_up_to(b'E')?;
        self.add(Node::InitializerList { of, items })
    }

    fn operands_up_to(&mut self, end: u8) -> Option<Id> {
        if self.accept(end) {
            return self.add(Node::List { item: None, next: None });
        }
        let first = self.operand()?;
        let list = self.add(Node::List { item: Some(first), next: None })?;
        let mut last = list;
        while !self.accept(end) {
            let item = self.operand()?;
            last = self.append(last, item)?;
        }
        Some(list)
    }

    fn operation(&mut self) -> Option<Id> {
        let id = self.operator()?;
        match self.tree.get(id) {
            Node::Operator(operator) => match operator.operands {
                0 => self.add(Node::Nullary(id)),
                1 => self.unary(id, operator),
                2 => self.binary(id, operator),
                _ => self.ternary(id, operator),
            },
            Node::VendorOperator { operands: 0, .. } => self.add(Node::Nullary(id)),
            Node::VendorOperator { operands: 1, .. } => {
                let operand = self.operand()?;
                self.add(Node::Unary { operator: id, operand })
            }
            Node::Cast(_) => {
                let operand =
                    if self.accept(b'_') { self.operands_up_to(b'E')? } else { self.operand()? };
                self.add(Node::Unary { operator: id, operand })
            }
            _ => None,
        }
    }

    fn unary(&mut self, id: Id, operator: &Operator) -> Option<Id> {
        let operand = match &operator.code {
            b"st" => self.type_()?,
            b"sP" => self.template_arguments_within()?,
            b"pp" | b"mm" if !self.accept(b'_') => {
                let operand = self.operand()?;
                return self.add(Node::Postfix { operator: id, operand });
            }
            _ => self.operand()?,
        };
        self.add(Node::Unary { operator: id, operand })
    }

    fn binary(&mut self, id: Id, operator: &Operator) -> Option<Id> {
        let left = match &operator.code {
            _ if operator.is_named_cast() => self.type_()?,
            b"fl" | b"fr" => self.operator()?,
            b"di" => self.unqualified_name()?,
            _ => self.operand()?,
        };
        let right = match &operator.code {
            b"cl" => self.operands_up_to(b'E')?,
            b"dt" | b"pt" if !self.next_is(*b"gs") && !self.next_is(*b"sr") => {
                self.name_as_operand()?
            }
            _ => self.operand()?,
        };
        self.add(Node::Binary { operator: id, left, right })
    }

    fn ternary(&mut self, id: Id, operator: &Operator) -> Option<Id> {
        let (first, second, third) = match &operator.code {
            b"nw" | b"na" => {
                let first = self.operands_up_to(b'_')?;
                let second = self.type_()?;
                let third = if self.accept(b'E') {
                    None
                } else if self.next_is(*b"pi") {
                    self.at += 2;
                    Some(self.operands_up_to(b'E')?)
                } else if self.next_is(*b"il") {
                    Some(self.operand()?)
                } else {
                    return None;
                };
                (first, second, third)
            }
            b"fL" | b"fR" => (self.operator()?, self.operand()?, Some(self.operand()?)),
            _ => (self.operand()?, self.operand()?, Some(self.operand()?)),
        };
        self.add(Node::Ternary { operator: id, first, second, third })
    }

    pub(super) fn literal(&mut self) -> Option<Id> {
        self.expect(b'L')?;
        if matches!(self.peek(), b'_' | b'Z') {
            self.accept(b'_');
            self.expect(b'Z')?;
            let name = self.encoding(false)?;
            self.expect(b'E')?;
            return Some(name);
        }
        let of = self.type_()?;
        if matches!(self.tree.get(of), Node::Builtin(builtin) if *builtin == NULLPTR)
            && self.accept(b'E')
        {
            return Some(of);
        }
        let is_negative = self.accept(b'n');
        let rest = &self.text.as_bytes()[self.at..];
        let len = rest.iter().position(|byte| *byte == b'E').filter(|len| *len > 0)?;
        let value = self.take(len)?;
        self.at += 1;
        self.add(Node::Literal { of, value, is_negative })
    }
}
