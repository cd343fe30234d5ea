//! Where in a traced function its probe goes.
//!
//! A uprobe replaces an instruction by a breakpoint. What the instruction did is then either
//! emulated by the kernel, or done by single-stepping a copy of it, which costs a second trap and
//! about ten times the time on a virtual machine. The kernel's x86 code (`branch_setup_xol_ops` and
//! `push_setup_xol_ops` in `arch/x86/kernel/uprobes.c`) emulates the one-byte `nop`, relative
//! `jmp`, `call` and conditional jumps, and `push` of a 64-bit register. Since 6.16 it emulates
//! longer forms of `nop` too, but older kernels do not, and before 6.2 they refuse `66 90`, so
//! those do not count here. Branches with an operand-size prefix are refused, and so is any
//! instruction with a segment or `lock` prefix: here a branch with any prefix counts as not
//! emulated.
//!
//! From 6.18 on the kernel goes further with a five-byte `nop`: it replaces it by a call of code
//! that it maps into the process. A child after `fork` has that call, but not the code, and dies.
//! Later kernels do the same with ten bytes. So no probe is put on anything long that does nothing,
//! in whatever form.
//!
//! So a probe goes behind the first instructions of a function if the next one is emulated, as long
//! as a caller of the function could not tell the difference: arguments, stack and memory are as
//! they were at entry, and no jump leads past or back to the probe. `cmp $imm, off(%rip)` and `je`
//! at the beginning of nearly all functions of the driver libraries of the 550 series is such a
//! case.

use iced_x86::{
    Decoder, DecoderError, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory,
    Mnemonic, OpAccess, OpKind, Register,
};
use std::fmt;

/// How far behind the entry a probe may go.
const MAX_INSTRUCTIONS: usize = 4;
const MAX_BYTES: usize = 32;

/// The shortest instruction that the kernel replaces by a call.
const MIN_REPLACED_BYTES: usize = 5;

/// Where a probe goes, and what it meets there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// Bytes from the entry of the function.
    pub offset: usize,
    /// Whether the kernel emulates the instruction there: one trap a hit instead of two.
    pub emulated: bool,
    pub instruction: Probed,
}

/// The instruction that a probe replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Probed {
    Nop,
    Push,
    Jump,
    ConditionalJump,
    Call,
    /// Any other instruction: single-stepped.
    Other,
    /// No instruction: the bytes end too soon, or are no code.
    Unknown,
}

impl Probed {
    /// Whether every supported kernel emulates it.
    pub const fn is_emulated(self) -> bool {
        !matches!(self, Self::Other | Self::Unknown)
    }
}

impl fmt::Display for Probed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Nop => "nop",
            Self::Push => "push",
            Self::Jump => "jump",
            Self::ConditionalJump => "conditional jump",
            Self::Call => "call",
            Self::Other => "other instruction",
            Self::Unknown => "unknown instruction",
        })
    }
}

/// Finds the cheapest place for the probe of the function whose instructions are `code` and whose
/// entry is at `address`, or says why it must get none.
///
/// `code` should be the whole function, because a jump back to its beginning decides; what lies
/// behind the end of `code` cannot be looked at. What cannot be understood is probed at its entry.
pub fn place(code: &[u8], address: u64) -> Result<Placement, &'static str> {
    let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    let mut effects = InstructionInfoFactory::new();
    // The place to stay at if there is no cheaper one.
    let mut first = None;
    for _ in 0..MAX_INSTRUCTIONS {
        let offset = decoder.position();
        let instruction = decoder.decode();
        if offset > 0 && decoder.position() > MAX_BYTES {
            break;
        }
        let is_replaced = is_long_nop(&instruction);
        if !is_replaced {
            let probed = classify(&instruction, &code[offset..]);
            let placement =
                Placement { offset, emulated: probed.is_emulated(), instruction: probed };
            let is_better = placement.emulated || first.is_none();
            let is_reached = || probed != Probed::Unknown && !jumps_into(code, address, offset);
            if is_better && (offset == 0 || is_reached()) {
                first = Some(placement);
            }
            if placement.emulated {
                break;
            }
        }
        if !is_replaced && !is_harmless(&instruction, &mut effects) {
            break;
        }
    }
    first.ok_or(
        "it begins with a long nop, which the kernel would replace by a call that kills children \
         after fork (Linux 6.18), and a probe cannot go behind it",
    )
}

/// Whether the bytes can be the code of a function: from its entry on instructions that a program may
/// execute, up to one that leaves it. What a library decrypts or unpacks once it is loaded looks otherwise
/// in its file, and a probe there would damage what it becomes.
///
/// `is_whole` says that `code` ends where the function does.
pub fn is_code(code: &[u8], address: u64, is_whole: bool) -> bool {
    let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    let mut latest = FlowControl::Next;
    while decoder.can_decode() {
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            let is_cut = decoder.last_error() == DecoderError::NoMoreBytes;
            return is_cut && !is_whole;
        }
        if instruction.is_privileged() {
            return false;
        }
        latest = instruction.flow_control();
        match latest {
            FlowControl::Next
            | FlowControl::ConditionalBranch
            | FlowControl::Call
            | FlowControl::IndirectCall => {}
            _ => return true,
        }
    }
    // A call of what does not return.
    !is_whole || matches!(latest, FlowControl::Call | FlowControl::IndirectCall)
}

/// Whether the kernel may take the instruction for a `nop` that it can replace by a call: its own
/// test, `insn_is_nop`, knows moves of a register to itself and jumps to the next instruction too.
fn is_long_nop(instruction: &Instruction) -> bool {
    if instruction.is_invalid() || instruction.len() < MIN_REPLACED_BYTES {
        return false;
    }
    let is_to_itself = || instruction.op0_register() == instruction.op1_register();
    match instruction.mnemonic() {
        Mnemonic::Nop | Mnemonic::Reservednop | Mnemonic::Fnop => true,
        Mnemonic::Mov | Mnemonic::Xchg => {
            instruction.op1_kind() == OpKind::Register && is_to_itself()
        }
        Mnemonic::Lea => {
            instruction.memory_displacement64() == 0
                && instruction.memory_index() == Register::None
                && instruction.op0_register() == instruction.memory_base()
        }
        Mnemonic::Jmp => {
            instruction.is_jmp_near() && instruction.near_branch_target() == instruction.next_ip()
        }
        _ => false,
    }
}

/// What the kernel makes of the instruction that begins `bytes`.
fn classify(instruction: &Instruction, bytes: &[u8]) -> Probed {
    if instruction.is_invalid() {
        return Probed::Unknown;
    }
    // By bytes: prefixes decide, and a decoder hides those that change nothing.
    match *bytes {
        [0x90, ..] => Probed::Nop,
        [0x50..=0x57, ..] | [0x41, 0x50..=0x57, ..] => Probed::Push,
        [0xeb | 0xe9, ..] => Probed::Jump,
        [0xe8, ..] => Probed::Call,
        [0x70..=0x7f, ..] | [0x0f, 0x80..=0x8f, ..] => Probed::ConditionalJump,
        _ => Probed::Other,
    }
}

/// Whether a probe behind this instruction sees the same as one in front of it, and is reached
/// whenever the instruction is.
fn is_harmless(instruction: &Instruction, effects: &mut InstructionInfoFactory) -> bool {
    // The instructions that compilers put at the beginning of functions and whose effects are all
    // in the tables of the decoder. `endbr64` among them: it only marks a place that may be jumped
    // to.
    let is_plain = matches!(
        instruction.mnemonic(),
        Mnemonic::Endbr64
            | Mnemonic::Nop
            | Mnemonic::Cmp
            | Mnemonic::Test
            | Mnemonic::Bt
            | Mnemonic::Mov
            | Mnemonic::Movzx
            | Mnemonic::Movsx
            | Mnemonic::Movsxd
            | Mnemonic::Lea
            | Mnemonic::Xor
            | Mnemonic::And
            | Mnemonic::Or
            | Mnemonic::Add
            | Mnemonic::Sub
    );
    if !is_plain || instruction.flow_control() != FlowControl::Next {
        return false;
    }
    let info = effects.info(instruction);
    let writes_memory = info.used_memory().iter().any(|memory| is_write(memory.access()));
    let touches_caller = info.used_registers().iter().any(|used| {
        let register = used.register().full_register();
        register == Register::RSP || (is_write(used.access()) && !is_free(register))
    });
    !writes_memory && !touches_caller
}

const fn is_write(access: OpAccess) -> bool {
    matches!(
        access,
        OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
    )
}

/// Registers that carry no argument and no stack: a function may change them before the probe. All
/// others may not be changed, also `rax` (the number of vector arguments of a variadic call) and
/// `r10` (the static chain).
const fn is_free(register: Register) -> bool {
    matches!(
        register,
        Register::R11
            | Register::RBX
            | Register::RBP
            | Register::R12
            | Register::R13
            | Register::R14
            | Register::R15
    )
}

/// Whether a near branch in `code` leads past a probe at `offset`, or to it or back to the entry
/// for a hit that is no call.
fn jumps_into(code: &[u8], address: u64, offset: usize) -> bool {
    let skipped = address..=address.wrapping_add(offset as u64);
    let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    while decoder.can_decode() {
        let start = decoder.position();
        decoder.decode_out(&mut instruction);
        if instruction.is_invalid() {
            // Data between the code: take up again one byte on, so that the code behind it is seen
            // too.
            let next = start + 1;
            if decoder.set_position(next).is_err() {
                return false;
            }
            decoder.set_ip(address.wrapping_add(next as u64));
            continue;
        }
        let is_near_branch = matches!(
            instruction.op0_kind(),
            OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64
        );
        let target = instruction.near_branch_target();
        // A function that calls itself is called.
        let is_recursion = instruction.is_call_near() && target == address;
        if is_near_branch && !is_recursion && skipped.contains(&target) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests;
