//! Names: of functions, variables and types, in their scopes.

use super::Parser;
use crate::{
    operator::Operator,
    tree::{Id, Node, Qualifier},
};

const ANONYMOUS_NAMESPACE: &str = "(anonymous namespace)";

impl Parser<'_, '_> {
    pub(super) fn name(&mut self) -> Option<Id> {
        let mut is_substitution = false;
        let name = match self.peek() {
            b'N' => return self.nested_name(),
            b'Z' => return self.local_name(),
            b'U' => return self.unqualified_name(),
            b'S' if self.peek_second() == b't' => {
                self.at += 2;
                let scope = self.add(Node::Name("std"))?;
                let name = self.unqualified_name()?;
                self.add(Node::Qualified { scope, name })?
            }
            b'S' => {
                is_substitution = true;
                self.substitution()?
            }
            _ => self.unqualified_name()?,
        };
        if self.peek() != b'I' {
            return Some(name);
        }
        if !is_substitution {
            self.add_substitution(name);
        }
        self.template(name)
    }

    fn nested_name(&mut self) -> Option<Id> {
        self.expect(b'N')?;
        let pending = self.qualifiers.len();
        let outermost = if self.accept(b'H') {
            Some(Qualifier::ExplicitThis)
        } else {
            self.read_qualifiers()?;
            self.qualify_this(pending);
            self.reference_qualifier()
        };
        let name = self.prefix(true)?;
        self.expect(b'E')?;
        let name = self.qualify(pending, name)?;
        match outermost {
            Some(qualifier) => self.add(Node::Qualifier { qualifier, inner: name }),
            None => Some(name),
        }
    }

    /// Of a member function, which can be called for such an object only.
    pub(super) fn reference_qualifier(&mut self) -> Option<Qualifier> {
        let qualifier = match self.peek() {
            b'R' => Qualifier::ReferenceThis,
            b'O' => Qualifier::RvalueReferenceThis,
            _ => return None,
        };
        self.at += 1;
        Some(qualifier)
    }

    /// Up to `E`.
    pub(super) fn prefix(&mut self, is_substitutable: bool) -> Option<Id> {
        let mut scope: Option<Id> = None;
        loop {
            self.step()?;
            let first = self.peek();
            let found = match first {
                b'E' => return scope,
                b'D' if matches!(self.peek_second(), b'T' | b't') => {
                    if scope.is_some() {
                        return None;
                    }
                    self.type_()?
                }
                b'I' => self.template(scope?)?,
                b'T' => {
                    if scope.is_some() {
                        return None;
                    }
                    self.template_parameter()?
                }
                b'M' => {
                    // The variable that a lambda is the value of has been added already.
                    self.at += 1;
                    if self.peek() == b'E' {
                        return None;
                    }
                    continue;
                }
                b'S' => {
                    if scope.is_some() {
                        return None;
                    }
                    let known = self.substitution()?;
                    if self.peek() == b'E' {
                        return None;
                    }
                    known
                }
                _ => {
                    let name = self.unqualified_name()?;
                    match scope {
                        Some(scope) => self.add(Node::Qualified { scope, name })?,
                        None => name,
                    }
                }
            };
            if first != b'S' && is_substitutable && self.peek() != b'E' {
                self.add_substitution(found);
            }
            scope = Some(found);
        }
    }

    pub(super) fn unqualified_name(&mut self) -> Option<Id> {
        self.step()?;
        let is_friend = self.accept(b'F');
        let mut name = match self.peek() {
            b'0'..=b'9' => self.source_name()?,
            b'a'..=b'z' => self.operator_as_name()?,
            b'D' if self.peek_second() == b'C' => self.structured_binding()?,
            b'C' | b'D' => self.constructor_or_destructor()?,
            b'L' => {
                self.at += 1;
                let name = self.source_name()?;
                self.discriminator()?;
                name
            }
            b'U' => match self.peek_second() {
                b'l' => self.lambda()?,
                b't' => self.unnamed_type()?,
                _ => return None,
            },
            _ => return None,
        };
        name = self.tagged(name)?;
        if is_friend { self.add(Node::Friend(name)) } else { Some(name) }
    }

    pub(super) fn tagged(&mut self, name: Id) -> Option<Id> {
        let mut name = name;
        let last_name = self.last_name;
        while self.accept(b'B') {
            let tag = self.source_name()?;
            name = self.add(Node::Tagged { name, tag })?;
        }
        self.last_name = last_name;
        Some(name)
    }

    pub(super) fn source_name(&mut self) -> Option<Id> {
        let len = usize::try_from(self.number()?).ok().filter(|len| *len > 0)?;
        let name = self.take(len)?;
        let is_anonymous = matches!(
            name.as_bytes(),
            [b'_', b'G', b'L', b'O', b'B', b'A', b'L', b'_', b'_' | b'.' | b'$', b'N', ..]
        );
        let name = self.add(Node::Name(if is_anonymous { ANONYMOUS_NAMESPACE } else { name }))?;
        self.last_name = Some(name);
        Some(name)
    }

    fn operator_as_name(&mut self) -> Option<Id> {
        let was_expression = self.is_expression;
        if self.next_is(*b"on") {
            self.at += 2;
            self.is_expression = false;
        }
        let name = self.operator();
        self.is_expression = was_expression;
        let name = name?;
        match self.tree.get(name) {
            Node::Operator(operator) if operator.is(*b"li") => {
                let operand = self.source_name()?;
                self.add(Node::Unary { operator: name, operand })
            }
            _ => Some(name),
        }
    }

    pub(super) fn operator(&mut self) -> Option<Id> {
        let code = [self.next()?, self.next()?];
        match code {
            [b'v', digit @ b'0'..=b'9'] => {
                let name = self.source_name()?;
                self.add(Node::VendorOperator { operands: digit - b'0', name })
            }
            [b'c', b'v'] => {
                let was_conversion = self.is_conversion;
                self.is_conversion = !self.is_expression;
                let to = self.type_();
                let node = if self.is_conversion { Node::Conversion(to?) } else { Node::Cast(to?) };
                self.is_conversion = was_conversion;
                self.add(node)
            }
            code => self.add(Node::Operator(Operator::of_code(code)?)),
        }
    }

    fn structured_binding(&mut self) -> Option<Id> {
        self.at += 2;
        let first = self.source_name()?;
        let list = self.add(Node::List { item: Some(first), next: None })?;
        let mut last = list;
        while self.peek() != b'E' {
            let item = self.source_name()?;
            last = self.append(last, item)?;
        }
        self.at += 1;
        self.add(Node::StructuredBinding(list))
    }

    fn constructor_or_destructor(&mut self) -> Option<Id> {
        if self.next()? == b'C' {
            let is_inherited = self.accept(b'I');
            if !matches!(self.next()?, b'1'..=b'5') {
                return None;
            }
            if is_inherited {
                self.type_()?;
            }
            self.add(Node::Constructor(self.last_name?))
        } else {
            if !matches!(self.next()?, b'0' | b'1' | b'2' | b'4' | b'5') {
                return None;
            }
            self.add(Node::Destructor(self.last_name?))
        }
    }

    fn unnamed_type(&mut self) -> Option<Id> {
        self.at += 2;
        let number = self.index()?;
        let name = self.add(Node::UnnamedType(number))?;
        self.add_substitution(name);
        Some(name)
    }

    /// Of what is local to a function, something in it.
    fn local_name(&mut self) -> Option<Id> {
        self.expect(b'Z')?;
        let function = self.encoding(false)?;
        self.expect(b'E')?;
        let name = if self.accept(b's') {
            self.discriminator()?;
            self.add(Node::Name("string literal"))?
        } else {
            let argument = if self.accept(b'd') { Some(self.index()?) } else { None };
            let name = self.name()?;
            if !matches!(self.tree.get(name), Node::Lambda { .. } | Node::UnnamedType(_)) {
                self.discriminator()?;
            }
            match argument {
                Some(number) => self.add(Node::DefaultArgument { number, name })?,
                None => name,
            }
        };
        let function = match self.tree.get(function) {
            Node::Typed { name, function } => {
                let function = self.without_result(function)?;
                self.add(Node::Typed { name, function })?
            }
            _ => function,
        };
        self.add(Node::Local { function, name })
    }

    /// What tells things of the same name in a function apart; it is not printed.
    fn discriminator(&mut self) -> Option<()> {
        if !self.accept(b'_') {
            return Some(());
        }
        let is_long = self.accept(b'_');
        let is_negative = self.accept(b'n');
        let number = self.number()?;
        if is_negative && number > 0 {
            return None;
        }
        if is_long && number >= 10 { self.expect(b'_') } else { Some(()) }
    }
}
