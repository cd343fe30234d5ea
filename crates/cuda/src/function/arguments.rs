//! What the arguments of a function mean, and where in a call they are found: the one table that
//! the eBPF programs' capture, the trace lines and the documentation are made from.

mod capture;
mod field;
mod layouts;
mod naming;
mod result;
mod value;

pub use capture::{Capture, capture};
pub use field::{Direction, Field, Form};
pub use naming::{Naming, naming};
pub use result::{ResultKind, result};
pub use value::{Evaluated, Value};

use super::without_stream_suffix;

/// The fields in the line of a call, in their order there. Empty for a function that has nothing
/// to decode, and for one that the table does not know.
///
/// `name` is an exported name. The variant on the per-thread stream (`_ptsz`, `_ptds`) takes the
/// same arguments; a version (`_v2`) has an entry of its own, so that one that is not known yet
/// is not misread.
pub fn arguments(name: &str) -> &'static [Argument] {
    layouts::of(without_stream_suffix(name)).unwrap_or_default()
}

/// One field of a call line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argument {
    pub field: Field,
    pub value: Value,
    /// The function writes at least one of the words: the field of a call that failed is `null`.
    pub is_result: bool,
}

/// A number in a call, where the System V calling convention for x86-64 puts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    pub place: Place,
    pub part: Part,
}

impl Word {
    /// All of register argument `number`: a pointer, a handle, a `size_t`.
    pub const fn register(number: u8) -> Self {
        Self { place: Place::Register(number), part: Part::Whole }
    }

    /// What the function writes to where register argument `number` points.
    pub const fn result(number: u8) -> Self {
        Self { place: Place::Memory { register: number, word: 0 }, part: Part::Whole }
    }

    /// The number, where `read` gives what is in a place of the call.
    pub fn read(self, read: impl Fn(Place) -> Option<u64>) -> Option<u64> {
        let word = match self.place {
            Place::Constant(number) => u64::from(number),
            place => read(place)?,
        };
        Some(self.part.of(word))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Integer argument 0 to 5, at entry: `rdi`, `rsi`, `rdx`, `rcx`, `r8`, `r9`.
    Register(u8),
    /// Word of the arguments on the stack, at entry: 0 at `rsp + 8`, below [`STACK_WORDS`].
    Stack(u8),
    /// Word (8 bytes) `word` of what register argument `register` points at, read when the
    /// function has returned: results, and structures. Not there if the register is null.
    Memory { register: u8, word: u8 },
    /// No part of the call: the size of an element, a grid's third dimension.
    Constant(u32),
}

/// Integer arguments in registers.
pub const REGISTERS: u8 = 6;
/// Words of the stack that are captured.
pub const STACK_WORDS: u8 = 3;
/// Words that are captured behind one register: `CUDA_MEMCPY3D` has so many.
pub const MEMORY_WORDS: u8 = 25;

/// Which bytes of the word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Whole,
    /// The lower, upper four bytes.
    Low,
    High,
}

impl Part {
    /// The part of a word.
    pub const fn of(self, word: u64) -> u64 {
        match self {
            Self::Whole => word,
            Self::Low => word & 0xffff_ffff,
            Self::High => word >> 32,
        }
    }
}
