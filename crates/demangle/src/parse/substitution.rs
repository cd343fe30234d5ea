//! What stands for a part that the name has had already, or for a name of the standard library.

use super::Parser;
use crate::{
    builtin::standard_name,
    tree::{Id, Node},
};

impl Parser<'_, '_> {
    pub(super) fn substitution(&mut self) -> Option<Id> {
        self.step()?;
        self.expect(b'S')?;
        let letter = self.peek();
        if matches!(letter, b'_' | b'0'..=b'9' | b'A'..=b'Z') {
            let index = self.substitution_index()?;
            return self.substitutions.get(index).copied();
        }
        self.at += 1;
        let (text, constructor) = standard_name(letter)?;
        if let Some(constructor) = constructor {
            self.last_name = Some(self.add(Node::Abbreviation(constructor))?);
        }
        let name = self.add(Node::Abbreviation(text))?;
        if self.peek() != b'B' {
            return Some(name);
        }
        let name = self.tagged(name)?;
        self.add_substitution(name);
        Some(name)
    }

    fn substitution_index(&mut self) -> Option<usize> {
        if self.accept(b'_') {
            return Some(0);
        }
        let mut index = 0_usize;
        loop {
            let digit = match self.next()? {
                b'_' => return index.checked_add(1),
                digit @ b'0'..=b'9' => digit - b'0',
                digit @ b'A'..=b'Z' => digit - b'A' + 10,
                _ => return None,
            };
            index = index.checked_mul(36)?.checked_add(usize::from(digit))?;
        }
    }
}
