//! What the programs copy of a call: decided by the sidecar, for each function, when it attaches.

/// A function's number and what to copy of its calls, packed into the 64 bits of a probe's cookie.
///
/// Bits from the lowest: 32 of the number; registers; stack; a window of memory (flag, register in
/// 3 bits, words in 5); a second word of memory (flag, register in 3 bits); a name (flag, register
/// in 3 bits, and whether it may lie in memory that nobody has touched).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Plan(pub u64);

const REGISTERS: u64 = 1 << 32;
const STACK: u64 = 1 << 33;
const WINDOW: u64 = 1 << 34;
const WINDOW_REGISTER: u32 = 35;
const WINDOW_WORDS: u32 = 38;
const SECOND: u64 = 1 << 43;
const SECOND_REGISTER: u32 = 44;
const NAME: u64 = 1 << 47;
const NAME_REGISTER: u32 = 48;
const NAME_UNTOUCHED: u64 = 1 << 51;

/// There are six, so three bits.
const REGISTER_MASK: u64 = 7;
const WORDS_MASK: u64 = 31;

impl Plan {
    /// Nothing but that the call took place.
    pub const fn bare(function: u32) -> Self {
        Self(function as u64)
    }

    /// The six argument registers.
    #[must_use]
    pub const fn with_registers(self) -> Self {
        Self(self.0 | REGISTERS)
    }

    /// The first words of the arguments on the stack.
    #[must_use]
    pub const fn with_stack(self) -> Self {
        Self(self.0 | REGISTERS | STACK)
    }

    /// Up to 31 words behind the pointer in a register, when the call has returned.
    #[must_use]
    pub const fn with_window(self, register: u8, words: u8) -> Self {
        let place = (register as u64 & REGISTER_MASK) << WINDOW_REGISTER;
        let words = (words as u64 & WORDS_MASK) << WINDOW_WORDS;
        Self(self.0 | REGISTERS | WINDOW | place | words)
    }

    /// One word behind the pointer in another register, when the call has returned.
    #[must_use]
    pub const fn with_second(self, register: u8) -> Self {
        let place = (register as u64 & REGISTER_MASK) << SECOND_REGISTER;
        Self(self.0 | REGISTERS | SECOND | place)
    }

    /// The text behind the pointer in a register.
    #[must_use]
    pub const fn with_name(self, register: u8) -> Self {
        let place = (register as u64 & REGISTER_MASK) << NAME_REGISTER;
        Self(self.0 | REGISTERS | NAME | place)
    }

    /// The function itself does not read the text: it may have to be brought into memory.
    #[must_use]
    pub const fn with_untouched_name(self, register: u8) -> Self {
        Self(self.with_name(register).0 | NAME_UNTOUCHED)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the number is the lower half")]
    pub const fn function(self) -> u32 {
        self.0 as u32
    }

    pub const fn has_registers(self) -> bool {
        self.0 & REGISTERS != 0
    }

    pub const fn has_stack(self) -> bool {
        self.0 & STACK != 0
    }

    /// Register and number of words.
    pub const fn window(self) -> Option<(usize, usize)> {
        if self.0 & WINDOW == 0 {
            return None;
        }
        let register = (self.0 >> WINDOW_REGISTER & REGISTER_MASK) as usize;
        Some((register, (self.0 >> WINDOW_WORDS & WORDS_MASK) as usize))
    }

    pub const fn second(self) -> Option<usize> {
        if self.0 & SECOND == 0 {
            return None;
        }
        Some((self.0 >> SECOND_REGISTER & REGISTER_MASK) as usize)
    }

    pub const fn name(self) -> Option<usize> {
        if self.0 & NAME == 0 {
            return None;
        }
        Some((self.0 >> NAME_REGISTER & REGISTER_MASK) as usize)
    }

    pub const fn has_untouched_name(self) -> bool {
        self.0 & NAME_UNTOUCHED != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_can_be_unpacked() {
        let plan = Plan::bare(4095).with_stack().with_window(5, 25).with_second(1).with_name(3);
        assert_eq!(plan.function(), 4095);
        assert!(plan.has_registers() && plan.has_stack());
        assert_eq!((plan.window(), plan.second(), plan.name()), (Some((5, 25)), Some(1), Some(3)));
        let bare = Plan::bare(7);
        assert!(!bare.has_registers() && !bare.has_stack());
        assert_eq!((bare.window(), bare.second(), bare.name()), (None, None, None));
        assert!(Plan::bare(7).with_name(0).has_registers(), "the pointer is in a register");
        assert!(!plan.has_untouched_name());
        let untouched = Plan::bare(7).with_untouched_name(5);
        assert_eq!((untouched.name(), untouched.has_untouched_name()), (Some(5), true));
    }
}
