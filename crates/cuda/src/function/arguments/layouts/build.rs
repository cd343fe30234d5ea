//! Short forms for the rows of the table.

use super::super::{Argument, Direction, Field, Part, Place, Value, Word};

/// A field that the caller gives.
pub(super) const fn given(field: Field, value: Value) -> Argument {
    Argument { field, value, is_result: false }
}

/// A field that the function gives.
pub(super) const fn made(field: Field, value: Value) -> Argument {
    Argument { field, value, is_result: true }
}

/// A field that is one word.
pub(super) const fn word(field: Field, word: Word) -> Argument {
    given(field, Value::Word(word))
}

/// A field that is all of register argument `number`.
pub(super) const fn register(field: Field, number: u8) -> Argument {
    word(field, Word::register(number))
}

/// A field that the function writes to where register argument `number` points.
pub(super) const fn result(field: Field, number: u8) -> Argument {
    made(field, Value::Word(Word::result(number)))
}

/// A direction that the function's name tells.
pub(super) const fn direction(direction: Direction) -> Argument {
    given(Field::Kind, Value::Direction(direction))
}

/// An `int`, `unsigned int` or enumeration: the upper half of the register means nothing.
pub(super) const fn low(number: u8) -> Word {
    Word { place: Place::Register(number), part: Part::Low }
}

/// The upper half of a register.
pub(super) const fn high(number: u8) -> Word {
    Word { place: Place::Register(number), part: Part::High }
}

/// 8 bytes of the arguments on the stack.
pub(super) const fn stack(word: u8) -> Word {
    Word { place: Place::Stack(word), part: Part::Whole }
}

/// An argument of 4 bytes on the stack.
pub(super) const fn stack_low(word: u8) -> Word {
    Word { place: Place::Stack(word), part: Part::Low }
}

/// The member of 8 bytes at byte `offset` of the structure that register argument `register`
/// points at.
pub(super) const fn member(register: u8, offset: u8) -> Word {
    assert!(offset.is_multiple_of(8), "8 bytes at an offset that they are not aligned to");
    Word { place: Place::Memory { register, word: offset / 8 }, part: Part::Whole }
}

/// The member of 4 bytes at byte `offset` of the structure that register argument `register`
/// points at.
pub(super) const fn member_4(register: u8, offset: u8) -> Word {
    assert!(offset.is_multiple_of(4), "4 bytes at an offset that they are not aligned to");
    let part = if offset.is_multiple_of(8) { Part::Low } else { Part::High };
    Word { place: Place::Memory { register, word: offset / 8 }, part }
}

pub(super) const fn constant(number: u32) -> Word {
    Word { place: Place::Constant(number), part: Part::Whole }
}

/// A field of 4 bytes that the function writes to where register argument `number` points.
pub(super) const fn low_result(field: Field, number: u8) -> Argument {
    made(field, Value::Word(member_4(number, 0)))
}
