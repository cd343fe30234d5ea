//! The syntax tree of a mangled name: nodes that refer to each other by number, as a name refers back to its parts.

use std::num::NonZeroU32;

use super::operator::Operator;

/// The number of a node in its [`Tree`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id(NonZeroU32);

impl Id {
    pub(super) fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// A node refers to what was complete before it, and that of a list to the next one: there are no cycles but by what
/// template parameters stand for.
#[derive(Debug, Default)]
pub(super) struct Tree<'n> {
    nodes: Vec<Node<'n>>,
}

impl<'n> Tree<'n> {
    pub(super) fn with_capacity(nodes: usize) -> Self {
        Self { nodes: Vec::with_capacity(nodes) }
    }

    pub(super) fn add(&mut self, node: Node<'n>) -> Option<Id> {
        self.nodes.push(node);
        Some(Id(NonZeroU32::new(u32::try_from(self.nodes.len()).ok()?)?))
    }

    pub(super) fn get(&self, id: Id) -> Node<'n> {
        self.nodes[id.index()]
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Forgets the nodes since there were `len`.
    pub(super) fn truncate(&mut self, len: usize) {
        self.nodes.truncate(len);
    }

    /// The last node of a list is known only when the next is read.
    pub(super) fn link(&mut self, list: Id, next: Id) {
        if let Node::List { next: link, .. } = &mut self.nodes[list.index()] {
            *link = Some(next);
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Node<'n> {
    /// What the source calls something, or a fixed text in its place.
    Name(&'n str),
    /// `std::allocator` and others that have a letter.
    Abbreviation(&'static str),
    Builtin(&'static Builtin),
    /// `_Float16`, or `_Float32x`.
    ExtendedFloat {
        bits: u32,
        is_extended: bool,
    },
    Number(u32),

    Qualified {
        scope: Id,
        name: Id,
    },
    Local {
        function: Id,
        name: Id,
    },
    /// Of the lambda or class `name`, the place: in the default value of a parameter.
    DefaultArgument {
        number: u32,
        name: Id,
    },
    Tagged {
        name: Id,
        tag: Id,
    },
    Friend(Id),
    StructuredBinding(Id),
    Constructor(Id),
    Destructor(Id),
    Conversion(Id),
    /// A name with the type of its function.
    Typed {
        name: Id,
        function: Id,
    },
    Special {
        what: &'static str,
        of: Id,
    },
    ConstructionVtable {
        of: Id,
        within: Id,
    },
    ReferenceTemporary {
        of: Id,
        number: u32,
    },
    Clone {
        of: Id,
        suffix: &'n str,
    },
    UnnamedType(u32),
    Lambda {
        head: Option<Id>,
        parameters: Id,
        number: u32,
    },
    Constrained {
        what: Id,
        constraint: Id,
    },

    Template {
        name: Id,
        arguments: Id,
    },
    TemplateParameter(u32),
    /// What a lambda's template parameter is: one of a list.
    ParameterKind {
        kind: ParameterKind,
        of: Option<Id>,
    },
    /// Of parameters, arguments and operands. A pack without elements has no item.
    List {
        item: Option<Id>,
        next: Option<Id>,
    },
    PackExpansion(Id),

    Qualifier {
        qualifier: Qualifier,
        inner: Id,
    },
    Noexcept {
        condition: Option<Id>,
        inner: Id,
    },
    Throw {
        types: Id,
        inner: Id,
    },
    VendorQualifier {
        qualifier: Id,
        inner: Id,
    },
    VendorType(Id),
    Function {
        result: Option<Id>,
        parameters: Id,
    },
    Array {
        size: Option<Id>,
        element: Id,
    },
    Vector {
        size: Id,
        element: Id,
    },
    MemberPointer {
        class: Id,
        member: Id,
    },
    Decltype(Id),

    Operator(&'static Operator),
    VendorOperator {
        operands: u8,
        name: Id,
    },
    Cast(Id),
    Nullary(Id),
    Unary {
        operator: Id,
        operand: Id,
    },
    /// `operand++`
    Postfix {
        operator: Id,
        operand: Id,
    },
    Binary {
        operator: Id,
        left: Id,
        right: Id,
    },
    Ternary {
        operator: Id,
        first: Id,
        second: Id,
        third: Option<Id>,
    },
    VendorExpression {
        name: Id,
        arguments: Id,
    },
    InitializerList {
        of: Option<Id>,
        items: Id,
    },
    FunctionParameter(u32),
    Literal {
        of: Id,
        value: &'n str,
        is_negative: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Qualifier {
    Restrict,
    Volatile,
    Const,
    Pointer,
    Reference,
    RvalueReference,
    Complex,
    Imaginary,
    /// From here on, of a member function.
    RestrictThis,
    VolatileThis,
    ConstThis,
    ReferenceThis,
    RvalueReferenceThis,
    ExplicitThis,
    TransactionSafe,
}

impl Qualifier {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Restrict | Self::RestrictThis => " restrict",
            Self::Volatile | Self::VolatileThis => " volatile",
            Self::Const | Self::ConstThis => " const",
            Self::Pointer => "*",
            Self::Reference => "&",
            Self::RvalueReference => "&&",
            Self::ReferenceThis => " &",
            Self::RvalueReferenceThis => " &&",
            Self::Complex => " _Complex",
            Self::Imaginary => " _Imaginary",
            Self::ExplicitThis => "",
            Self::TransactionSafe => " transaction_safe",
        }
    }

    pub(super) fn is_cv(self) -> bool {
        matches!(self, Self::Restrict | Self::Volatile | Self::Const)
    }

    fn is_of_function(self) -> bool {
        matches!(
            self,
            Self::RestrictThis
                | Self::VolatileThis
                | Self::ConstThis
                | Self::ReferenceThis
                | Self::RvalueReferenceThis
                | Self::ExplicitThis
                | Self::TransactionSafe
        )
    }

    /// The same of a member function.
    pub(super) fn of_this(self) -> Self {
        match self {
            Self::Restrict => Self::RestrictThis,
            Self::Volatile => Self::VolatileThis,
            Self::Const => Self::ConstThis,
            other => other,
        }
    }
}

impl Node<'_> {
    /// What stands behind a function's parameters has this inside.
    pub(super) fn qualified_function(self) -> Option<Id> {
        match self {
            Self::Qualifier { qualifier, inner } if qualifier.is_of_function() => Some(inner),
            Self::Noexcept { inner, .. } | Self::Throw { inner, .. } => Some(inner),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ParameterKind {
    Type,
    NonType,
    Template,
    Pack,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Builtin {
    pub(super) name: &'static str,
    pub(super) literal: LiteralStyle,
}

/// How a value of this type is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LiteralStyle {
    /// `(char)65`
    Cast,
    /// `65ul`
    Suffix(&'static str),
    Bool,
    /// The bytes of a number: `(float)[3f800000]`.
    Bytes,
    /// Of `void` there is none.
    Void,
}
