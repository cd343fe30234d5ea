//! Which functions a user asks for: the language of `TRACE_FUNCTIONS`.

use super::{Api, Class, KNOWN, canonical, class, default_set, glob};
use std::fmt;
use std::str::FromStr;

/// A set of functions, written as terms between commas: `default,cuMem*,!cudaGetDevice,launch`.
///
/// A term is a set (`default`, `all`, or a [`Class`] such as `launch`), a glob (`cuMem*`), a
/// canonical name, which means all variants of the function, or the name of one variant
/// (`cuMemAlloc_v2`), which means only that one. `!` in front takes functions out. Later terms win
/// over earlier ones, and a first term that takes out takes out of `default`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// As it was written.
    text: String,
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    includes: bool,
    matcher: Matcher,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Matcher {
    All,
    Default,
    Class(Class),
    Glob(String),
    /// All variants of a function.
    Function(String),
    /// One variant.
    Variant(String),
}

impl Selection {
    /// Reads the terms in `text`. Each must match some known function, and so must the whole.
    pub fn parse(text: &str) -> Result<Self, SelectionError> {
        if text.trim().is_empty() {
            return Err(SelectionError::Empty);
        }
        let mut terms = text.split(',').map(Term::parse).collect::<Result<Vec<_>, _>>()?;
        if terms.first().is_some_and(|first| !first.includes) {
            terms.insert(0, Term { includes: true, matcher: Matcher::Default });
        }
        let selection = Self { text: text.trim().to_owned(), terms };
        if selection.known().next().is_none() {
            return Err(SelectionError::SelectsNothing { text: text.trim().to_owned() });
        }
        Ok(selection)
    }

    /// Whether the function that a library exports as `name` is selected. Names outside the CUDA
    /// API never are; names that this program does not know yet are judged by the same sets and
    /// globs as the others.
    pub fn contains(&self, name: &str) -> bool {
        Api::of(name).is_some()
            && self
                .terms
                .iter()
                .rev()
                .find(|term| term.matcher.matches(name))
                .is_some_and(|term| term.includes)
    }

    /// The known functions that are selected, in alphabetical order.
    pub fn known(&self) -> impl Iterator<Item = &'static str> {
        KNOWN.iter().copied().filter(|name| self.contains(name))
    }
}

impl Default for Selection {
    fn default() -> Self {
        Self {
            text: "default".to_owned(),
            terms: vec![Term { includes: true, matcher: Matcher::Default }],
        }
    }
}

impl FromStr for Selection {
    type Err = SelectionError;

    fn from_str(text: &str) -> Result<Self, SelectionError> {
        Self::parse(text)
    }
}

impl Term {
    fn parse(text: &str) -> Result<Self, SelectionError> {
        let text = text.trim();
        let (includes, name) = match text.strip_prefix('!') {
            Some(rest) => (false, rest.trim_start()),
            None => (true, text),
        };
        if name.is_empty() {
            return Err(SelectionError::EmptyTerm);
        }
        let matcher = Matcher::parse(name).ok_or_else(|| SelectionError::UnknownTerm {
            term: text.to_owned(),
            nearest: nearest(name),
        })?;
        Ok(Self { includes, matcher })
    }
}

impl Matcher {
    fn parse(name: &str) -> Option<Self> {
        let matcher = match name {
            "all" => return Some(Self::All),
            "default" => return Some(Self::Default),
            _ if glob::is_glob(name) => Self::Glob(name.to_owned()),
            _ => match Class::named(name) {
                Some(class) => return Some(Self::Class(class)),
                None if canonical(name) == name => Self::Function(name.to_owned()),
                None => Self::Variant(name.to_owned()),
            },
        };
        KNOWN.iter().any(|known| matcher.matches(known)).then_some(matcher)
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Default => default_set::contains(name),
            Self::Class(wanted) => class(name) == *wanted,
            Self::Glob(pattern) => glob::matches(pattern, name),
            Self::Function(function) => canonical(name) == function,
            Self::Variant(variant) => name == variant,
        }
    }
}

/// To compare names takes time by the product of their lengths; the longest known has 54 bytes.
const MAX_MISSPELT: usize = 128;

/// The set or function whose name is most like `name`, unless none is like it.
fn nearest(name: &str) -> Option<&'static str> {
    if name.len() > MAX_MISSPELT {
        return None;
    }
    let wanted = name.replace(['*', '?'], "").to_lowercase();
    let sets = ["all", "default"].into_iter().chain(Class::ALL.map(Class::name));
    sets.chain(KNOWN.iter().flat_map(|known| [canonical(known), known]))
        .map(|candidate| {
            (strsim::normalized_damerau_levenshtein(&wanted, &candidate.to_lowercase()), candidate)
        })
        .filter(|(likeness, _)| *likeness >= 0.5)
        // Of equals the first: a set, or the canonical name.
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .map(|(_, candidate)| candidate)
}

/// Why a selection of functions cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SelectionError {
    /// No term at all.
    Empty,
    /// Nothing between two commas, or nothing after a `!`.
    EmptyTerm,
    /// A term that names no set and matches no known function.
    UnknownTerm { term: String, nearest: Option<&'static str> },
    /// Terms that cancel each other.
    SelectsNothing { text: String },
}

impl fmt::Display for Selection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl fmt::Display for SelectionError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => {
                formatter.write_str("the selection of functions is empty: use `default`, `all`, or names, globs and sets")
            }
            Self::EmptyTerm => {
                formatter.write_str("the selection of functions has an empty term: remove the surplus `,` or `!`")
            }
            Self::UnknownTerm { term, nearest: Some(nearest) } => {
                write!(formatter, "no CUDA function or set matches `{term}`: did you mean `{nearest}`?")
            }
            Self::UnknownTerm { term, nearest: None } => {
                let sets = Class::ALL.map(Class::name).join("`, `");
                write!(
                    formatter,
                    "no CUDA function or set matches `{term}`: the sets are `default`, `all`, `{sets}`, and names begin with `cu` or `cuda`"
                )
            }
            Self::SelectsNothing { text } => {
                write!(formatter, "`{text}` selects no CUDA function: a later `!` term takes out all that came before it")
            }
        }
    }
}

impl std::error::Error for SelectionError {}

#[cfg(test)]
mod tests;
