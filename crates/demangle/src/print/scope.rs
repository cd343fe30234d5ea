//! What template parameters stand for: the arguments of the templates that a part of a name lies in.

use super::{Element, Printed, Printer, Unprintable};
use crate::tree::{Id, Node};

/// Each scope knows the one around it. Scopes stay when they are left: a reference may remember its own.
#[derive(Default)]
pub(super) struct Scopes {
    pub(super) current: ScopeId,
    all: Vec<Scope>,
    remembered: Vec<(Id, ScopeId)>,
}

/// The place in [`Scopes::all`], from 1; 0 is outside of all templates.
#[derive(Clone, Copy, Default)]
pub(super) struct ScopeId(usize);

#[derive(Clone, Copy)]
struct Scope {
    template: Id,
    outer: ScopeId,
}

impl Scopes {
    /// Steps bound the number of scopes.
    pub(super) fn enter(&mut self, template: Id) {
        self.all.push(Scope { template, outer: self.current });
        self.current = ScopeId(self.all.len());
    }

    pub(super) fn leave(&mut self) {
        self.current = self.get().map_or_else(ScopeId::default, |scope| scope.outer);
    }

    fn get(&self) -> Option<Scope> {
        self.all.get(self.current.0.checked_sub(1)?).copied()
    }

    pub(super) fn remembered_len(&self) -> usize {
        self.remembered.len()
    }

    /// The scope in which `parameter` was first printed, if it has been.
    pub(super) fn remembered(&self, parameter: Id) -> Option<ScopeId> {
        self.remembered.iter().find(|(id, _)| *id == parameter).map(|(_, scope)| *scope)
    }

    pub(super) fn remember(&mut self, parameter: Id) {
        self.remembered.push((parameter, self.current));
    }
}

impl Printer<'_, '_> {
    /// What a template parameter stands for; of a pack, the element that is printed.
    pub(super) fn argument(&mut self, number: u32) -> Result<Id, Unprintable> {
        let argument = self.whole_argument(number)?.ok_or(Unprintable)?;
        if !matches!(self.tree.get(argument), Node::List { .. }) {
            return Ok(argument);
        }
        match self.element {
            Element::All => Ok(argument),
            Element::Number(number) => self.item(argument, number)?.ok_or(Unprintable),
        }
    }

    fn whole_argument(&mut self, number: u32) -> Result<Option<Id>, Unprintable> {
        let template = self.scopes.get().ok_or(Unprintable)?.template;
        let Node::Template { arguments, .. } = self.tree.get(template) else {
            return Err(Unprintable);
        };
        self.item(arguments, number as usize)
    }

    fn item(&mut self, list: Id, number: usize) -> Result<Option<Id>, Unprintable> {
        let mut rest = list;
        for _ in 0..number {
            self.step()?;
            let Node::List { next: Some(next), .. } = self.tree.get(rest) else { return Ok(None) };
            rest = next;
        }
        let Node::List { item, .. } = self.tree.get(rest) else { return Ok(None) };
        Ok(item)
    }

    pub(super) fn pack_expansion(&mut self, pattern: Id) -> Printed {
        let is_argument = self.parameter_style == super::ParameterStyle::Argument;
        let pack = if is_argument { self.pack(Some(pattern))? } else { None };
        let Some(pack) = pack else {
            self.operand(pattern)?;
            return self.push("...");
        };
        for number in 0..self.pack_len(pack)? {
            if number > 0 {
                self.push(", ")?;
            }
            self.element = Element::Number(number);
            self.node(pattern)?;
        }
        Ok(())
    }

    pub(super) fn pack_len(&mut self, pack: Id) -> Result<usize, Unprintable> {
        let mut len = 0;
        let mut rest = Some(pack);
        while let Some(list) = rest {
            self.step()?;
            let Node::List { item: Some(_), next } = self.tree.get(list) else { break };
            len += 1;
            rest = next;
        }
        Ok(len)
    }

    /// The first pack that a pattern has in it.
    pub(super) fn pack(&mut self, pattern: Option<Id>) -> Result<Option<Id>, Unprintable> {
        let Some(pattern) = pattern else { return Ok(None) };
        self.step()?;
        if self.path.len() >= super::MAX_DEPTH {
            return Err(Unprintable);
        }
        self.path.push(pattern);
        let pack = self.pack_within(pattern);
        self.path.pop();
        pack
    }

    fn pack_within(&mut self, pattern: Id) -> Result<Option<Id>, Unprintable> {
        let (first, second, third) = match self.tree.get(pattern) {
            Node::TemplateParameter(number) => {
                let argument = self.whole_argument(number)?;
                let is_pack = |id: &Id| matches!(self.tree.get(*id), Node::List { .. });
                return Ok(argument.filter(is_pack));
            }
            Node::List { .. } => return self.pack_in_list(pattern),
            Node::Qualified { scope: a, name: b }
            | Node::Local { function: a, name: b }
            | Node::Typed { name: a, function: b }
            | Node::ConstructionVtable { of: a, within: b }
            | Node::Constrained { what: a, constraint: b }
            | Node::Template { name: a, arguments: b }
            | Node::Throw { types: b, inner: a }
            | Node::VendorQualifier { qualifier: b, inner: a }
            | Node::Vector { size: a, element: b }
            | Node::MemberPointer { class: a, member: b }
            | Node::Unary { operator: a, operand: b }
            | Node::Postfix { operator: a, operand: b }
            | Node::VendorExpression { name: a, arguments: b } => (Some(a), Some(b), None),
            Node::Noexcept { condition, inner } => (Some(inner), condition, None),
            Node::Function { result, parameters } => (result, Some(parameters), None),
            Node::Array { size, element } => (size, Some(element), None),
            Node::InitializerList { of, items } => (of, Some(items), None),
            Node::Binary { operator: _, left, right } => (Some(left), Some(right), None),
            Node::Ternary { operator: _, first, second, third } => {
                (Some(first), Some(second), third)
            }
            Node::Friend(of)
            | Node::StructuredBinding(of)
            | Node::Constructor(of)
            | Node::Destructor(of)
            | Node::Conversion(of)
            | Node::Special { of, .. }
            | Node::ReferenceTemporary { of, .. }
            | Node::Clone { of, .. }
            | Node::Qualifier { inner: of, .. }
            | Node::VendorType(of)
            | Node::Decltype(of)
            | Node::VendorOperator { name: of, .. }
            | Node::Cast(of)
            | Node::Nullary(of)
            | Node::Literal { of, .. } => (Some(of), None, None),
            Node::ParameterKind { of, .. } => (of, None, None),
            Node::Name(_)
            | Node::Abbreviation(_)
            | Node::Builtin(_)
            | Node::ExtendedFloat { .. }
            | Node::Number(_)
            | Node::DefaultArgument { .. }
            | Node::Tagged { .. }
            | Node::UnnamedType(_)
            | Node::Lambda { .. }
            | Node::PackExpansion(_)
            | Node::Operator(_)
            | Node::FunctionParameter(_) => return Ok(None),
        };
        if let Some(pack) = self.pack(first)? {
            return Ok(Some(pack));
        }
        if let Some(pack) = self.pack(second)? {
            return Ok(Some(pack));
        }
        self.pack(third)
    }

    fn pack_in_list(&mut self, list: Id) -> Result<Option<Id>, Unprintable> {
        let mut rest = Some(list);
        while let Some(list) = rest {
            self.step()?;
            let Node::List { item, next } = self.tree.get(list) else { break };
            if let Some(pack) = self.pack(item)? {
                return Ok(Some(pack));
            }
            rest = next;
        }
        Ok(None)
    }
}
