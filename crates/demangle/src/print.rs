//! Prints a tree as `c++filt` does, to the byte.
//!
//! A type in C++ stands around what it is of: `int (*f)(char)`. So qualifiers, and what has an inside, wait on a
//! list while their inside is printed, and whoever knows their place takes them from there.

mod declarator;
mod expression;
mod lambda;
mod name;
mod scope;
mod waiting;

use scope::Scopes;
use waiting::Waiting;

use super::{
    Steps,
    tree::{Id, Node, Tree},
};

/// How deep nodes may lie in each other: what a template parameter stands for is within it.
const MAX_DEPTH: usize = 160;

/// How often a node may lie in itself: a template parameter can stand for what it is in.
const MAX_ENTERED: u8 = 2;

/// What has no text: there is too much of it, it lies too deep, or it refers to what is not there.
pub(super) struct Unprintable;

type Printed = Result<(), Unprintable>;

/// The text, if it has no more than `max_bytes`.
pub(super) fn print(
    tree: &Tree<'_>,
    root: Id,
    max_bytes: usize,
    steps: &mut Steps,
) -> Result<String, Unprintable> {
    let mut printer = Printer {
        tree,
        text: String::with_capacity(256),
        max_bytes,
        last: 0,
        waiting: Vec::new(),
        innermost: None,
        scopes: Scopes::default(),
        template: None,
        element: Element::Number(0),
        parameter_style: ParameterStyle::Argument,
        path: Vec::new(),
        entered: vec![0; tree.len()],
        steps,
    };
    printer.node(root)?;
    Ok(printer.text)
}

struct Printer<'n, 't> {
    tree: &'t Tree<'n>,
    text: String,
    max_bytes: usize,
    /// The byte that was written last, even if it was taken back.
    last: u8,
    /// What waits for its place.
    waiting: Vec<Waiting>,
    /// The first to look at, by its index.
    innermost: Option<usize>,
    scopes: Scopes,
    /// The template whose name is printed: a conversion's type may depend on it.
    template: Option<Id>,
    element: Element,
    parameter_style: ParameterStyle,
    /// The nodes from the root to what is printed.
    path: Vec<Id>,
    /// How often each node is on that path.
    entered: Vec<u8>,
    steps: &'t mut Steps,
}

/// Of a pack.
#[derive(Clone, Copy)]
enum Element {
    Number(usize),
    All,
}

/// How a template parameter is printed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ParameterStyle {
    /// As the argument that it stands for.
    Argument,
    /// In the parameters of a lambda: by its number, or by the name that the list before them gave it.
    Lambda { head: Option<Id>, declared: u32 },
}

impl Printer<'_, '_> {
    fn node(&mut self, id: Id) -> Printed {
        self.step()?;
        let entered = self.entered.get_mut(id.index()).ok_or(Unprintable)?;
        if *entered >= MAX_ENTERED || self.path.len() >= MAX_DEPTH {
            return Err(Unprintable);
        }
        *entered += 1;
        self.path.push(id);
        let printed = self.node_within(id);
        self.path.pop();
        self.entered[id.index()] -= 1;
        printed
    }

    fn node_within(&mut self, id: Id) -> Printed {
        match self.tree.get(id) {
            Node::Name(text) | Node::Abbreviation(text) => self.push(text),
            Node::Builtin(builtin) => self.push(builtin.name),
            Node::Template { name, arguments } => self.template(id, name, arguments),
            Node::TemplateParameter(number) => self.template_parameter(number),
            Node::List { .. } => self.list(id),
            Node::Qualified { scope, name } => {
                self.node(scope)?;
                self.push("::")?;
                self.node(name)
            }
            Node::Qualifier { qualifier, inner } => self.qualified(id, qualifier, inner),
            Node::Noexcept { inner, .. }
            | Node::Throw { inner, .. }
            | Node::VendorQualifier { inner, .. } => self.wrapped(id, inner),
            Node::Typed { name, function } => self.typed(name, function),
            Node::Function { result, parameters } => self.function(id, result, parameters),
            Node::Array { size, element } => self.array(id, size, element),
            Node::Vector { element: inner, .. } | Node::MemberPointer { member: inner, .. } => {
                self.wrapped(id, inner)
            }
            Node::Literal { of, value, is_negative } => self.literal(of, value, is_negative),
            Node::Lambda { head, parameters, number } => self.lambda(head, parameters, number),
            Node::PackExpansion(pattern) => self.pack_expansion(pattern),
            Node::Nullary(operator) => self.operator(operator),
            Node::Unary { operator, operand } => self.unary(operator, operand),
            Node::Postfix { operator, operand } => {
                self.operand(operand)?;
                self.operator(operator)
            }
            Node::Binary { operator, left, right } => self.binary(operator, left, right),
            Node::Ternary { operator, first, second, third } => {
                self.ternary(operator, first, second, third)
            }
            node => self.rarer(node),
        }
    }

    /// A separator stands behind each item, even an empty one, but not behind the last that has text.
    fn list(&mut self, list: Id) -> Printed {
        let mut kept = self.text.len();
        let mut rest = Some(list);
        let mut is_first = true;
        while let Some(list) = rest {
            self.step()?;
            let Node::List { item, next } = self.tree.get(list) else { return Err(Unprintable) };
            if !is_first {
                self.push(", ")?;
            }
            let begin = self.text.len();
            if let Some(item) = item {
                self.node(item)?;
            }
            if is_first || self.text.len() > begin {
                kept = self.text.len();
            }
            is_first = false;
            rest = next;
        }
        self.text.truncate(kept);
        Ok(())
    }

    fn template(&mut self, id: Id, name: Id, arguments: Id) -> Printed {
        let outer = self.template.replace(id);
        // What waits is of the whole, not of an argument.
        let innermost = self.innermost.take();
        self.node(name)?;
        if self.last == b'<' {
            self.push(" ")?;
        }
        self.push("<")?;
        self.node(arguments)?;
        if self.last == b'>' {
            self.push(" ")?;
        }
        self.push(">")?;
        self.innermost = innermost;
        self.template = outer;
        Ok(())
    }

    fn template_parameter(&mut self, number: u32) -> Printed {
        if let ParameterStyle::Lambda { head, declared } = self.parameter_style {
            let head = head.filter(|_| number < declared);
            return self.lambda_parameter(head, number);
        }
        let argument = self.argument(number)?;
        // The argument is of the scope around the template.
        let scope = self.scopes.current;
        self.scopes.leave();
        self.node(argument)?;
        self.scopes.current = scope;
        Ok(())
    }

    fn step(&mut self) -> Printed {
        self.steps.take(1).ok_or(Unprintable)
    }

    fn push(&mut self, text: &str) -> Printed {
        if self.text.len() + text.len() > self.max_bytes {
            return Err(Unprintable);
        }
        self.text.push_str(text);
        self.last = text.as_bytes().last().copied().unwrap_or(self.last);
        Ok(())
    }

    fn push_number(&mut self, number: u32) -> Printed {
        self.push(&number.to_string())
    }
}
