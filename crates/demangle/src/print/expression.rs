//! Prints expressions: with parentheses around every operand that is not a name.

use super::{Element, Printed, Printer, Unprintable};
use crate::{
    operator::Operator,
    tree::{Id, LiteralStyle, Node},
};

impl Printer<'_, '_> {
    pub(super) fn operand(&mut self, id: Id) -> Printed {
        let is_simple = matches!(
            self.tree.get(id),
            Node::Name(_)
                | Node::Qualified { .. }
                | Node::InitializerList { .. }
                | Node::FunctionParameter(_)
        );
        if is_simple {
            return self.node(id);
        }
        self.push("(")?;
        self.node(id)?;
        self.push(")")
    }

    pub(super) fn rarer_expression(&mut self, node: Node<'_>) -> Printed {
        match node {
            Node::Operator(operator) => {
                self.push("operator")?;
                if operator.text.starts_with(|letter: char| letter.is_ascii_lowercase()) {
                    self.push(" ")?;
                }
                self.push(operator.text.trim_end())
            }
            Node::VendorOperator { name, .. } => {
                self.push("operator ")?;
                self.node(name)
            }
            Node::VendorExpression { name, arguments } => {
                self.node(name)?;
                self.push("(")?;
                self.node(arguments)?;
                self.push(")")
            }
            Node::InitializerList { of, items } => {
                if let Some(of) = of {
                    self.node(of)?;
                }
                self.push("{")?;
                self.node(items)?;
                self.push("}")
            }
            Node::FunctionParameter(0) => self.push("this"),
            Node::FunctionParameter(number) => {
                self.push("{parm#")?;
                self.push_number(number)?;
                self.push("}")
            }
            _ => Err(Unprintable),
        }
    }

    /// As it stands between operands, without the word.
    pub(super) fn operator(&mut self, id: Id) -> Printed {
        match self.tree.get(id) {
            Node::Operator(operator) => self.push(operator.text),
            _ => self.node(id),
        }
    }

    pub(super) fn unary(&mut self, id: Id, operand: Id) -> Printed {
        let operator = match self.tree.get(id) {
            Node::Operator(operator) => operator,
            Node::Cast(to) => {
                self.push("(")?;
                self.node(to)?;
                self.push(")")?;
                return self.operand(operand);
            }
            _ => {
                self.node(id)?;
                return self.operand(operand);
            }
        };
        match &operator.code {
            b"sZ" => {
                let pack = self.pack(Some(operand))?;
                let len = pack.map_or(Ok(0), |pack| self.pack_len(pack))?;
                self.push(&len.to_string())
            }
            b"sP" => {
                let len = self.arguments_len(operand)?;
                self.push(&len.to_string())
            }
            b"gs" => {
                self.push(operator.text)?;
                self.node(operand)
            }
            b"st" | b"nx" => {
                self.push(operator.text)?;
                self.push("(")?;
                self.node(operand)?;
                self.push(")")
            }
            _ => {
                self.push(operator.text)?;
                self.operand(self.addressed(operator, operand))
            }
        }
    }

    /// The address of a member function is that of its name.
    fn addressed(&self, operator: &Operator, operand: Id) -> Id {
        match self.tree.get(operand) {
            Node::Typed { name, .. }
                if operator.is(*b"ad") && matches!(self.tree.get(name), Node::Qualified { .. }) =>
            {
                name
            }
            _ => operand,
        }
    }

    /// How many arguments a list has when its packs are expanded.
    fn arguments_len(&mut self, list: Id) -> Result<usize, Unprintable> {
        let mut len = 0;
        let mut rest = Some(list);
        while let Some(list) = rest {
            self.step()?;
            let Node::List { item: Some(item), next } = self.tree.get(list) else { break };
            len += match self.tree.get(item) {
                Node::PackExpansion(pattern) => {
                    let pack = self.pack(Some(pattern))?;
                    pack.map_or(Ok(0), |pack| self.pack_len(pack))?
                }
                _ => 1,
            };
            rest = next;
        }
        Ok(len)
    }

    pub(super) fn binary(&mut self, id: Id, left: Id, right: Id) -> Printed {
        let Node::Operator(operator) = self.tree.get(id) else { return Err(Unprintable) };
        if operator.is_named_cast() {
            self.push(operator.text)?;
            self.push("<")?;
            self.node(left)?;
            self.push(">(")?;
            self.node(right)?;
            return self.push(")");
        }
        if operator.is_fold() {
            return self.fold(operator, left, right, None);
        }
        match &operator.code {
            b"di" => {
                self.push(".")?;
                self.node(left)?;
                return self.designated(right);
            }
            b"dx" => {
                self.push("[")?;
                self.node(left)?;
                self.push("]")?;
                return self.designated(right);
            }
            _ => {}
        }
        // A `>` would be taken for the end of the template's arguments.
        let is_greater = operator.text == ">";
        if is_greater {
            self.push("(")?;
        }
        match self.tree.get(left) {
            Node::Typed { name, .. } if operator.is(*b"cl") => self.operand(name)?,
            _ => self.operand(left)?,
        }
        match &operator.code {
            b"ix" => {
                self.push("[")?;
                self.node(right)?;
                self.push("]")?;
            }
            b"cl" => self.operand(right)?,
            _ => {
                self.push(operator.text)?;
                self.operand(right)?;
            }
        }
        if is_greater { self.push(")") } else { Ok(()) }
    }

    /// The value of a part of an initializer: it may be of a part of that part.
    fn designated(&mut self, value: Id) -> Printed {
        let is_designated = match self.tree.get(value) {
            Node::Binary { operator, .. } | Node::Ternary { operator, .. } => {
                matches!(self.tree.get(operator), Node::Operator(operator)
                    if matches!(&operator.code, b"di" | b"dx" | b"dX"))
            }
            _ => false,
        };
        if is_designated {
            return self.node(value);
        }
        self.push("=")?;
        self.operand(value)
    }

    pub(super) fn ternary(&mut self, id: Id, first: Id, second: Id, third: Option<Id>) -> Printed {
        let Node::Operator(operator) = self.tree.get(id) else { return Err(Unprintable) };
        if operator.is_fold() {
            return self.fold(operator, first, second, third);
        }
        match &operator.code {
            b"dX" => {
                self.push("[")?;
                self.node(first)?;
                self.push(" ... ")?;
                self.node(second)?;
                self.push("]")?;
                self.designated(third.ok_or(Unprintable)?)
            }
            b"qu" => {
                self.operand(first)?;
                self.push(operator.text)?;
                self.operand(second)?;
                self.push(" : ")?;
                self.operand(third.ok_or(Unprintable)?)
            }
            _ => {
                self.push("new ")?;
                if matches!(self.tree.get(first), Node::List { item: Some(_), .. }) {
                    self.operand(first)?;
                    self.push(" ")?;
                }
                self.node(second)?;
                third.map_or(Ok(()), |third| self.operand(third))
            }
        }
    }

    /// The packs in a fold are printed whole.
    fn fold(&mut self, operator: &Operator, by: Id, first: Id, second: Option<Id>) -> Printed {
        let element = self.element;
        self.element = Element::All;
        self.push("(")?;
        match &operator.code {
            b"fl" => {
                self.push("...")?;
                self.operator(by)?;
                self.operand(first)?;
            }
            b"fr" => {
                self.operand(first)?;
                self.operator(by)?;
                self.push("...")?;
            }
            _ => {
                self.operand(first)?;
                self.operator(by)?;
                self.push("...")?;
                self.operator(by)?;
                self.operand(second.ok_or(Unprintable)?)?;
            }
        }
        self.push(")")?;
        self.element = element;
        Ok(())
    }

    pub(super) fn literal(&mut self, of: Id, value: &str, is_negative: bool) -> Printed {
        let sign = if is_negative { "-" } else { "" };
        let style = match self.tree.get(of) {
            Node::Builtin(builtin) => builtin.literal,
            _ => LiteralStyle::Cast,
        };
        match (style, value) {
            (LiteralStyle::Suffix(suffix), _) => {
                self.push(sign)?;
                self.push(value)?;
                return self.push(suffix);
            }
            (LiteralStyle::Bool, "0") if !is_negative => return self.push("false"),
            (LiteralStyle::Bool, "1") if !is_negative => return self.push("true"),
            _ => {}
        }
        self.push("(")?;
        self.node(of)?;
        self.push(")")?;
        self.push(sign)?;
        if style == LiteralStyle::Bytes {
            self.push("[")?;
            self.push(value)?;
            return self.push("]");
        }
        self.push(value)
    }
}
