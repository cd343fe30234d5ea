//! Which parts of a call must be copied for its fields and names.

use super::{Naming, Place, arguments, naming};

/// What the eBPF programs copy of a call of one function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capture {
    /// The six registers, at entry.
    pub registers: bool,
    /// [`super::STACK_WORDS`] words of the stack, at entry.
    pub stack: bool,
    /// A register, and how many words from where it points, at return.
    pub memory: Option<(u8, u8)>,
    /// One word behind another register, at return.
    pub second: Option<u8>,
}

impl Capture {
    /// Whether any part is copied.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Which parts of a call of the function are needed for [`arguments`] and [`naming`]. A string
/// that [`Naming::Named`] tells of is not among them.
pub fn capture(name: &str) -> Capture {
    let naming = naming(name);
    let mut capture = Capture::default();
    // Behind which registers, and how many words.
    let mut windows = [0_u8; super::REGISTERS as usize];
    let words = arguments(name).iter().flat_map(|argument| argument.value.words());
    for word in words.chain(naming.iter().flat_map(Naming::words)) {
        match word.place {
            Place::Register(_) => capture.registers = true,
            Place::Stack(_) => capture.stack = true,
            Place::Memory { register, word } => {
                // What is found behind a register is found by its value.
                capture.registers = true;
                let window = &mut windows[usize::from(register)];
                *window = (*window).max(word + 1);
            }
            Place::Constant(_) => {}
        }
    }
    capture.registers |= matches!(naming, Some(Naming::Named { .. }));
    let mut windows: Vec<_> = (0..).zip(windows).filter(|(_, words)| *words > 0).collect();
    // The largest first; of equals the first argument.
    windows.sort_by_key(|(register, words)| (std::cmp::Reverse(*words), *register));
    capture.memory = windows.first().copied();
    capture.second = windows.get(1).map(|&(register, _)| register);
    capture
}
