//! Reads a mangled name by the grammar of the Itanium C++ ABI, as far as `c++filt` knows it.
//!
//! What is read costs a step for each part, and lies only so deep: a name is refused when either is too much.

mod expression;
mod lambda;
mod name;
mod special;
mod substitution;
mod template;
mod types;

use super::{
    Steps,
    tree::{Id, Node, Qualifier, Tree},
};

/// How deep parts may lie in each other.
const MAX_DEPTH: u32 = 80;

pub(super) struct Parser<'n, 's> {
    text: &'n str,
    at: usize,
    tree: Tree<'n>,
    /// What `S_`, `S0_` and so on stand for.
    substitutions: Vec<Id>,
    /// What a constructor is called that comes next.
    last_name: Option<Id>,
    /// Qualifiers whose type is not read yet.
    qualifiers: Vec<Pending>,
    is_expression: bool,
    is_conversion: bool,
    scopes: ScopeSyntax,
    depth: u32,
    steps: &'s mut Steps,
}

/// `sr` once had a type behind it, and now has names that end with `E`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ScopeSyntax {
    New,
    /// New, and a name had it: if that cannot be read, it may be old.
    NewWasUsed,
    Old,
}

#[derive(Clone, Copy)]
enum Pending {
    Plain(Qualifier),
    Noexcept(Option<Id>),
    Throw(Id),
}

/// The tree of `name`, which is to begin with `_Z`, and its root.
pub(super) fn parse<'n>(name: &'n str, steps: &mut Steps) -> Option<(Tree<'n>, Id)> {
    let mut parser = Parser::new(name, ScopeSyntax::New, steps);
    if let Some(root) = parser.whole() {
        return Some((parser.tree, root));
    }
    if parser.scopes != ScopeSyntax::NewWasUsed {
        return None;
    }
    let mut parser = Parser::new(name, ScopeSyntax::Old, steps);
    let root = parser.whole()?;
    Some((parser.tree, root))
}

impl<'n, 's> Parser<'n, 's> {
    fn new(text: &'n str, scopes: ScopeSyntax, steps: &'s mut Steps) -> Self {
        Self {
            text,
            at: 0,
            tree: Tree::with_capacity(text.len() / 2),
            substitutions: Vec::with_capacity(text.len() / 8),
            last_name: None,
            qualifiers: Vec::new(),
            is_expression: false,
            is_conversion: false,
            scopes,
            depth: 0,
            steps,
        }
    }

    fn whole(&mut self) -> Option<Id> {
        self.expect(b'_')?;
        self.expect(b'Z')?;
        let mut name = self.encoding(true)?;
        while self.peek() == b'.' && matches!(self.peek_second(), b'a'..=b'z' | b'_' | b'0'..=b'9')
        {
            name = self.clone_suffix(name)?;
        }
        (self.at == self.text.len()).then_some(name)
    }

    /// What compilers append to the name of a function that they have split or specialised.
    fn clone_suffix(&mut self, of: Id) -> Option<Id> {
        let rest = &self.text.as_bytes()[self.at..];
        let is_word = |byte: &&u8| matches!(**byte, b'a'..=b'z' | b'_' | b'0'..=b'9');
        let mut len = 2 + rest[2..].iter().take_while(is_word).count();
        while let [b'.', b'0'..=b'9', after @ ..] = &rest[len..] {
            len += 2 + after.iter().take_while(|byte| byte.is_ascii_digit()).count();
        }
        let suffix = self.take(len)?;
        self.add(Node::Clone { of, suffix })
    }

    /// A name with the type of its function, or something that the compiler made.
    fn encoding(&mut self, is_outermost: bool) -> Option<Id> {
        self.enter()?;
        let encoding = self.encoding_within(is_outermost);
        self.leave();
        encoding
    }

    fn encoding_within(&mut self, is_outermost: bool) -> Option<Id> {
        if matches!(self.peek(), b'G' | b'T') {
            return self.special_name();
        }
        let name = self.name()?;
        if matches!(self.peek(), 0 | b'E') {
            return Some(name);
        }
        let has_result = self.has_result(name);
        let mut function = self.bare_function(has_result)?;
        if !is_outermost && matches!(self.tree.get(name), Node::Local { .. }) {
            function = self.without_result(function)?;
        }
        let typed = self.add(Node::Typed { name, function })?;
        self.constrained(typed)
    }

    /// Within another name the result of a function would be taken for the other's.
    fn without_result(&mut self, function: Id) -> Option<Id> {
        let Node::Function { parameters, .. } = self.tree.get(function) else { return None };
        self.add(Node::Function { result: None, parameters })
    }

    fn constrained(&mut self, what: Id) -> Option<Id> {
        if self.peek() != b'Q' {
            return Some(what);
        }
        self.at += 1;
        let constraint = self.expression()?;
        self.add(Node::Constrained { what, constraint })
    }

    /// Templates have the type of their result in their name, unless it is known.
    fn has_result(&self, name: Id) -> bool {
        let mut name = name;
        loop {
            let node = self.tree.get(name);
            name = match node {
                Node::Local { name, .. } | Node::Friend(name) => name,
                Node::Template { name, .. } => return !self.is_without_result(name),
                node => match node.qualified_function() {
                    Some(inner) => inner,
                    None => return false,
                },
            }
        }
    }

    fn is_without_result(&self, name: Id) -> bool {
        let mut name = name;
        loop {
            name = match self.tree.get(name) {
                Node::Local { name, .. } | Node::Qualified { name, .. } => name,
                Node::Constructor(_) | Node::Destructor(_) | Node::Conversion(_) => return true,
                _ => return false,
            }
        }
    }

    /// Counts a step; `None` when they are used up.
    fn step(&mut self) -> Option<()> {
        self.steps.take(1)
    }

    fn enter(&mut self) -> Option<()> {
        self.step()?;
        self.depth += 1;
        (self.depth <= MAX_DEPTH).then_some(())
    }

    fn leave(&mut self) {
        self.depth -= 1;
    }

    fn add(&mut self, node: Node<'n>) -> Option<Id> {
        self.tree.add(node)
    }

    /// To a list of which `last` is the last node; the new last one.
    fn append(&mut self, last: Id, item: Id) -> Option<Id> {
        let next = self.add(Node::List { item: Some(item), next: None })?;
        self.tree.link(last, next);
        Some(next)
    }

    fn add_substitution(&mut self, id: Id) {
        self.substitutions.push(id);
    }

    /// Zero at the end.
    fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    fn peek_second(&self) -> u8 {
        self.text.as_bytes().get(self.at + 1).copied().unwrap_or(0)
    }

    fn next_is(&self, code: [u8; 2]) -> bool {
        [self.peek(), self.peek_second()] == code
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.text.as_bytes().get(self.at).copied()?;
        self.at += 1;
        Some(byte)
    }

    fn accept(&mut self, byte: u8) -> bool {
        let is_next = self.text.as_bytes().get(self.at) == Some(&byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.accept(byte).then_some(())
    }

    fn take(&mut self, len: usize) -> Option<&'n str> {
        let taken = self.text.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(taken)
    }

    /// Digits, which may be none.
    fn digits(&mut self) -> Option<&'n str> {
        let rest = &self.text.as_bytes()[self.at..];
        self.take(rest.iter().take_while(|byte| byte.is_ascii_digit()).count())
    }

    /// Without digits it is zero.
    fn number(&mut self) -> Option<u32> {
        let mut number = 0_u32;
        for digit in self.digits()?.bytes() {
            number = number.checked_mul(10)?.checked_add(u32::from(digit - b'0'))?;
        }
        i32::try_from(number).is_ok().then_some(number)
    }

    /// `_` is the first, `0_` the second.
    fn index(&mut self) -> Option<u32> {
        if self.accept(b'_') {
            return Some(0);
        }
        if self.peek() == b'n' {
            return None;
        }
        let number = self.number()?;
        self.expect(b'_')?;
        Some(number + 1)
    }
}
