//! What the compiler makes for a class, a function or a variable: tables, thunks, guards.

use super::Parser;
use crate::tree::{Id, Node};

impl Parser<'_, '_> {
    pub(super) fn special_name(&mut self) -> Option<Id> {
        match (self.next()?, self.next()?) {
            (b'T', b'h') => {
                self.call_offset_of(b'h')?;
                self.special_encoding("non-virtual thunk to ")
            }
            (b'T', b'v') => {
                self.call_offset_of(b'v')?;
                self.special_encoding("virtual thunk to ")
            }
            (b'T', b'c') => {
                for _ in 0..2 {
                    let kind = self.next()?;
                    self.call_offset_of(kind)?;
                }
                self.special_encoding("covariant return thunk to ")
            }
            (b'T', b'C') => {
                let within = self.type_()?;
                if self.peek() == b'n' {
                    return None;
                }
                self.number()?;
                self.expect(b'_')?;
                let of = self.type_()?;
                self.add(Node::ConstructionVtable { of, within })
            }
            (b'T', b'A') => {
                let of = self.template_argument()?;
                self.add(Node::Special { what: "template parameter object for ", of })
            }
            (b'T', letter) => {
                let what = match letter {
                    b'V' => "vtable for ",
                    b'T' => "VTT for ",
                    b'I' => "typeinfo for ",
                    b'S' => "typeinfo name for ",
                    b'F' => "typeinfo fn for ",
                    b'J' => "java Class for ",
                    b'H' => return self.special_of_name("TLS init function for "),
                    b'W' => return self.special_of_name("TLS wrapper function for "),
                    _ => return None,
                };
                let of = self.type_()?;
                self.add(Node::Special { what, of })
            }
            (b'G', b'V') => self.special_of_name("guard variable for "),
            (b'G', b'R') => {
                let of = self.name()?;
                let number = self.number()?;
                self.add(Node::ReferenceTemporary { of, number })
            }
            (b'G', b'A') => self.special_encoding("hidden alias for "),
            (b'G', b'T') => {
                let is_unsafe = self.next()? == b'n';
                self.special_encoding(if is_unsafe {
                    "non-transaction clone for "
                } else {
                    "transaction clone for "
                })
            }
            _ => None,
        }
    }

    fn special_of_name(&mut self, what: &'static str) -> Option<Id> {
        let of = self.name()?;
        self.add(Node::Special { what, of })
    }

    fn special_encoding(&mut self, what: &'static str) -> Option<Id> {
        let of = self.encoding(false)?;
        self.add(Node::Special { what, of })
    }

    fn call_offset_of(&mut self, kind: u8) -> Option<()> {
        let numbers = match kind {
            b'h' => 1,
            b'v' => 2,
            _ => return None,
        };
        for _ in 0..numbers {
            self.accept(b'n');
            self.number()?;
            self.expect(b'_')?;
        }
        Some(())
    }
}
