//! Records of whole calls, and what the programs remember of a thread between entry and return.

use crate::CallEvent;

/// Words of stack arguments that are copied: no traced function has more that matter.
pub const STACK_WORDS: usize = 3;

/// Words of memory that a record has room for: the largest structure takes 25.
pub const MEMORY_WORDS: usize = 32;

/// Bytes of a name that are kept; C++ writes long ones.
pub const NAME_BYTES: usize = 2048;

/// Traced calls that a thread may have open at once; deeper ones are recorded by their entry. A
/// power of two.
pub const MAX_DEPTH: usize = 8;

/// Threads whose open calls are kept at once, each in a page of memory that is charged to the
/// sidecar: 32 MiB at most. Of a thread beyond, the entries of its calls are recorded.
pub const MAX_THREADS: u32 = 1 << 13;

/// `caller` of a call with no traced call around it.
pub const NO_CALLER: u16 = u16::MAX;

/// What could not be read of a call's memory: bits of [`CallHead::unread`].
pub mod unread {
    pub const STACK: u16 = 1;
    pub const WINDOW: u16 = 1 << 1;
    pub const SECOND: u16 = 1 << 2;
    pub const NAME: u16 = 1 << 3;
}

/// A call that has returned. A record ends where its function's plan ends: behind `unread`,
/// `registers`, `second`, or the window.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct CallRecord {
    pub head: CallHead,
    /// What lies behind the pointer of the window, after the call.
    pub window: [u64; MEMORY_WORDS],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct CallHead {
    pub event: CallEvent,
    pub duration_ns: u64,
    /// `rax`: of a 32-bit code only the lower half counts.
    pub result: u64,
    /// The number of the function around this one, or [`NO_CALLER`].
    pub caller: u16,
    /// Bits of [`unread`].
    pub unread: u16,
    pub reserved: u32,
    /// Integer arguments 0 to 5: `rdi`, `rsi`, `rdx`, `rcx`, `r8`, `r9`.
    pub registers: [u64; 6],
    /// What follows them, at `rsp + 8`.
    pub stack: [u64; STACK_WORDS],
    /// The word behind the second pointer, after the call.
    pub second: u64,
}

impl CallHead {
    /// Length of a record without arguments.
    pub const BARE: usize = 48;
    /// With registers.
    pub const WITH_REGISTERS: usize = Self::BARE + 6 * 8;
}

/// The text that a call was given.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct NameRecord {
    pub event: CallEvent,
    pub text: [u8; NAME_BYTES],
}

/// An open call.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Frame {
    /// `rsp` at entry: where the return address lies.
    pub stack_pointer: u64,
    /// The plan of its function.
    pub plan: u64,
    pub head: CallHead,
}

/// A thread, as the kernel knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Owner {
    /// Process and thread, in the kernel's own namespace.
    pub pid_tgid: u64,
    /// The address of its `task_struct`: numbers are given anew when their thread has ended.
    pub task: u64,
}

/// The value of the `THREADS` map: the open calls of a thread, and room to build its records.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Thread {
    pub owner: Owner,
    /// The same in the sidecar's namespace.
    pub tgid: u32,
    pub tid: u32,
    /// How many of `frames` are open.
    pub depth: u64,
    pub frames: [Frame; MAX_DEPTH],
    pub record: CallRecord,
    pub name: NameRecord,
}

// The layout is the protocol.
const _: () = {
    assert!(core::mem::offset_of!(CallHead, registers) == CallHead::BARE);
    assert!(core::mem::offset_of!(CallHead, stack) == CallHead::WITH_REGISTERS);
    assert!(size_of::<CallHead>() == 128);
    assert!(size_of::<CallRecord>() == 128 + 8 * MEMORY_WORDS);
    assert!(core::mem::offset_of!(NameRecord, text) == 24);
    // The kernel's allocator of map values takes no more than a page.
    assert!(size_of::<Thread>() < 4000);
};
