//! Prints what names are made of, and what the compiler has made for them.

use super::{Printed, Printer, Unprintable};
use crate::tree::{Id, Node};

impl Printer<'_, '_> {
    pub(super) fn rarer(&mut self, node: Node<'_>) -> Printed {
        match node {
            Node::ExtendedFloat { bits, is_extended } => {
                self.push("_Float")?;
                self.push_number(bits)?;
                self.push(if is_extended { "x" } else { "" })
            }
            Node::Number(number) => self.push_number(number),
            Node::Local { function, name } => {
                self.node(function)?;
                self.push("::")?;
                let name = self.default_argument(name)?;
                self.node(name)
            }
            Node::Tagged { name, tag } => {
                self.node(name)?;
                self.push("[abi:")?;
                self.node(tag)?;
                self.push("]")
            }
            Node::Friend(name) => {
                self.node(name)?;
                self.push("[friend]")
            }
            Node::StructuredBinding(names) => {
                self.push("[")?;
                self.node(names)?;
                self.push("]")
            }
            Node::Constructor(name) | Node::VendorType(name) => self.node(name),
            Node::Destructor(name) => {
                self.push("~")?;
                self.node(name)
            }
            Node::Conversion(to) => self.conversion(to),
            Node::Special { what, of } => {
                self.push(what)?;
                self.node(of)
            }
            Node::ConstructionVtable { of, within } => {
                self.push("construction vtable for ")?;
                self.node(of)?;
                self.push("-in-")?;
                self.node(within)
            }
            Node::ReferenceTemporary { of, number } => {
                self.push("reference temporary #")?;
                self.push_number(number)?;
                self.push(" for ")?;
                self.node(of)
            }
            Node::Clone { of, suffix } => {
                self.node(of)?;
                self.push(" [clone ")?;
                self.push(suffix)?;
                self.push("]")
            }
            Node::Constrained { what, constraint } => {
                self.node(what)?;
                self.push(" requires ")?;
                self.node(constraint)
            }
            Node::UnnamedType(number) => {
                self.push("{unnamed type#")?;
                self.push_number(number + 1)?;
                self.push("}")
            }
            Node::Decltype(expression) => {
                self.push("decltype (")?;
                self.node(expression)?;
                self.push(")")
            }
            node => self.rarer_expression(node),
        }
    }

    /// What is local to the default value of a parameter is so, without it.
    pub(super) fn default_argument(&mut self, name: Id) -> Result<Id, Unprintable> {
        let Node::DefaultArgument { number, name } = self.tree.get(name) else { return Ok(name) };
        self.push("{default arg#")?;
        self.push_number(number + 1)?;
        self.push("}::")?;
        Ok(name)
    }

    fn conversion(&mut self, to: Id) -> Printed {
        self.push("operator ")?;
        let scope = self.scopes.current;
        if let Some(template) = self.template {
            self.scopes.enter(template);
        }
        self.node(to)?;
        self.scopes.current = scope;
        Ok(())
    }
}
