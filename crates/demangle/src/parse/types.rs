//! Types.

use super::{Parser, Pending};
use crate::{
    builtin,
    tree::{Id, LiteralStyle, Node, Qualifier},
};

impl Parser<'_, '_> {
    pub(super) fn type_(&mut self) -> Option<Id> {
        self.enter()?;
        let read = self.type_within();
        self.leave();
        read
    }

    fn type_within(&mut self) -> Option<Id> {
        if self.has_qualifier() {
            return self.qualified_type();
        }
        let first = self.peek();
        if let Some(builtin) = builtin::of_letter(first) {
            self.at += 1;
            return self.add(Node::Builtin(builtin));
        }
        let read = match first {
            b'u' => {
                self.at += 1;
                let name = self.source_name()?;
                self.add(Node::VendorType(name))?
            }
            b'F' => self.function_type()?,
            b'A' => self.array_type()?,
            b'M' => self.member_pointer_type()?,
            b'T' => self.template_parameter_type()?,
            b'P' => self.pointing_type(Qualifier::Pointer)?,
            b'R' => self.pointing_type(Qualifier::Reference)?,
            b'O' => self.pointing_type(Qualifier::RvalueReference)?,
            b'C' => self.pointing_type(Qualifier::Complex)?,
            b'G' => self.pointing_type(Qualifier::Imaginary)?,
            b'U' if !matches!(self.peek_second(), b'l' | b't') => self.vendor_qualified_type()?,
            b'D' => return self.further_type(),
            b'S' if self.peek_second() != b't' => {
                let known = self.substitution()?;
                if self.peek() != b'I' {
                    return Some(known);
                }
                self.template(known)?
            }
            _ => self.name()?,
        };
        self.add_substitution(read);
        Some(read)
    }

    fn pointing_type(&mut self, qualifier: Qualifier) -> Option<Id> {
        self.at += 1;
        let inner = self.type_()?;
        self.add(Node::Qualifier { qualifier, inner })
    }

    fn has_qualifier(&self) -> bool {
        match self.peek() {
            b'r' | b'V' | b'K' => true,
            b'D' => matches!(self.peek_second(), b'x' | b'o' | b'O' | b'w'),
            _ => false,
        }
    }

    /// The qualifiers that come next wait for what they qualify.
    pub(super) fn read_qualifiers(&mut self) -> Option<()> {
        while self.has_qualifier() {
            self.step()?;
            let pending = match self.next()? {
                b'r' => Pending::Plain(Qualifier::Restrict),
                b'V' => Pending::Plain(Qualifier::Volatile),
                b'K' => Pending::Plain(Qualifier::Const),
                _ => match self.next()? {
                    b'x' => Pending::Plain(Qualifier::TransactionSafe),
                    b'o' => Pending::Noexcept(None),
                    b'O' => {
                        let condition = self.expression()?;
                        self.expect(b'E')?;
                        Pending::Noexcept(Some(condition))
                    }
                    _ => {
                        let types = self.parameters()?;
                        self.expect(b'E')?;
                        Pending::Throw(types)
                    }
                },
            };
            self.qualifiers.push(pending);
        }
        Some(())
    }

    /// `inner` with those that have waited since there were `pending`: the first is the outermost.
    pub(super) fn qualify(&mut self, pending: usize, inner: Id) -> Option<Id> {
        let mut inner = inner;
        while self.qualifiers.len() > pending {
            let node = match self.qualifiers.pop()? {
                Pending::Plain(qualifier) => Node::Qualifier { qualifier, inner },
                Pending::Noexcept(condition) => Node::Noexcept { condition, inner },
                Pending::Throw(types) => Node::Throw { types, inner },
            };
            inner = self.add(node)?;
        }
        Some(inner)
    }

    fn qualified_type(&mut self) -> Option<Id> {
        let pending = self.qualifiers.len();
        self.read_qualifiers()?;
        let inner = if self.peek() == b'F' {
            self.qualify_this(pending);
            self.function_type()?
        } else {
            self.type_()?
        };
        // It is printed behind the others.
        let (reference, inner) = match self.tree.get(inner) {
            Node::Qualifier {
                qualifier: qualifier @ (Qualifier::ReferenceThis | Qualifier::RvalueReferenceThis),
                inner,
            } => (Some(qualifier), inner),
            _ => (None, inner),
        };
        let mut read = self.qualify(pending, inner)?;
        if let Some(qualifier) = reference {
            read = self.add(Node::Qualifier { qualifier, inner: read })?;
        }
        self.add_substitution(read);
        Some(read)
    }

    /// Those that have waited since there were `pending` are of the object of a function.
    pub(super) fn qualify_this(&mut self, pending: usize) {
        for pending in &mut self.qualifiers[pending..] {
            if let Pending::Plain(qualifier) = pending {
                *qualifier = qualifier.of_this();
            }
        }
    }

    fn function_type(&mut self) -> Option<Id> {
        self.expect(b'F')?;
        // Of C; it is not printed.
        self.accept(b'Y');
        let inner = self.bare_function(true)?;
        let reference = self.reference_qualifier();
        self.expect(b'E')?;
        match reference {
            Some(qualifier) => self.add(Node::Qualifier { qualifier, inner }),
            None => Some(inner),
        }
    }

    pub(super) fn bare_function(&mut self, has_result: bool) -> Option<Id> {
        let has_result = self.accept(b'J') || has_result;
        let result = if has_result { Some(self.type_()?) } else { None };
        let parameters = self.parameters()?;
        self.add(Node::Function { result, parameters })
    }

    pub(super) fn parameters(&mut self) -> Option<Id> {
        let mut list = None;
        let mut last: Option<Id> = None;
        loop {
            match self.peek() {
                0 | b'E' | b'.' | b'Q' => break,
                b'R' | b'O' if self.peek_second() == b'E' => break,
                _ => {}
            }
            let item = self.type_()?;
            let node = match last {
                Some(last) => self.append(last, item)?,
                None => self.add(Node::List { item: Some(item), next: None })?,
            };
            list = list.or(Some(node));
            last = Some(node);
        }
        let list = list?;
        let is_void = |id: Id| matches!(self.tree.get(id), Node::Builtin(builtin) if builtin.literal == LiteralStyle::Void);
        match self.tree.get(list) {
            Node::List { item: Some(only), next: None } if is_void(only) => {
                self.add(Node::List { item: None, next: None })
            }
            _ => Some(list),
        }
    }

    fn array_type(&mut self) -> Option<Id> {
        self.expect(b'A')?;
        let size = match self.peek() {
            b'_' => None,
            b'0'..=b'9' => {
                let digits = self.digits()?;
                Some(self.add(Node::Name(digits))?)
            }
            _ => Some(self.expression()?),
        };
        self.expect(b'_')?;
        let element = self.type_()?;
        self.add(Node::Array { size, element })
    }

    fn member_pointer_type(&mut self) -> Option<Id> {
        self.expect(b'M')?;
        let class = self.type_()?;
        let member = self.type_()?;
        self.add(Node::MemberPointer { class, member })
    }

    fn vendor_qualified_type(&mut self) -> Option<Id> {
        self.expect(b'U')?;
        let mut qualifier = self.source_name()?;
        if self.peek() == b'I' {
            qualifier = self.template(qualifier)?;
        }
        let inner = self.type_()?;
        self.add(Node::VendorQualifier { qualifier, inner })
    }

    /// Behind `D`.
    fn further_type(&mut self) -> Option<Id> {
        self.expect(b'D')?;
        let read = match self.next()? {
            b'T' | b't' => {
                let expression = self.expression()?;
                self.expect(b'E')?;
                self.add(Node::Decltype(expression))?
            }
            b'p' => {
                let pattern = self.type_()?;
                self.add(Node::PackExpansion(pattern))?
            }
            b'v' => self.vector_type()?,
            b'a' => return self.add(Node::Name("auto")),
            b'c' => return self.add(Node::Name("decltype(auto)")),
            b'F' => return self.extended_float(),
            letter => return self.add(Node::Builtin(builtin::of_second_letter(letter)?)),
        };
        self.add_substitution(read);
        Some(read)
    }

    fn extended_float(&mut self) -> Option<Id> {
        let bits = self.number()?;
        match self.next()? {
            b'b' if bits == 16 => self.add(Node::Builtin(&builtin::BFLOAT16)),
            b'_' => self.add(Node::ExtendedFloat { bits, is_extended: false }),
            b'x' => self.add(Node::ExtendedFloat { bits, is_extended: true }),
            _ => None,
        }
    }

    fn vector_type(&mut self) -> Option<Id> {
        let size = if self.accept(b'_') {
            self.expression()?
        } else {
            let number = self.number()?;
            self.add(Node::Number(number))?
        };
        self.expect(b'_')?;
        let element = self.type_()?;
        self.add(Node::Vector { size, element })
    }
}
