//! The CUDA libraries as a program sees them: loaded by name or path, called by symbol.

use std::ffi::{CString, OsStr};

use anyhow::{Context, Result};
use libloading::os::unix;

/// Words enough for every function of both libraries: six in registers, a 64-byte handle on the stack.
pub const WORDS: usize = 14;

/// Any function of either library. All take machine words, floats only behind pointers, and the caller cleans the
/// stack, so words beyond what a function takes are never looked at.
#[rustfmt::skip]
pub type Function = unsafe extern "C" fn(
    usize, usize, usize, usize, usize, usize, usize, usize, usize, usize, usize, usize, usize, usize,
) -> usize;

/// A loaded library. It stays loaded until the process ends, so that its count of calls covers all of it.
#[derive(Debug)]
pub struct Library {
    name: String,
    handle: unix::Library,
}

impl Library {
    /// Loads a library by path, or by plain soname through the loader's own search (`LD_LIBRARY_PATH` and the rest).
    pub fn open(name: impl AsRef<OsStr>) -> Result<Self> {
        let name = name.as_ref();
        // SAFETY: the constructors of CUDA libraries, real or stand-in, are safe to run at any time.
        let handle = unsafe {
            unix::Library::open(
                Some(name),
                libc::RTLD_NOW | libc::RTLD_GLOBAL | libc::RTLD_NODELETE,
            )
        };
        let name = name.display().to_string();
        let handle = handle.with_context(|| {
            format!("cannot load {name}: give its path, or put its folder into LD_LIBRARY_PATH")
        })?;
        Ok(Self { name, handle })
    }

    pub fn function(&self, symbol: &str) -> Result<Function> {
        let text = CString::new(symbol)
            .with_context(|| format!("cannot look for {symbol:?}: it has a NUL"))?;
        // SAFETY: the symbol is one of a CUDA library, whose functions are callable as `Function`.
        let found = unsafe { self.handle.get::<Function>(text) };
        Ok(*found.with_context(|| format!("{} has no function {symbol}", self.name))?)
    }
}

/// The code in a result: 32 bits; the upper half of the register is undefined.
pub fn code(result: usize) -> i32 {
    #[expect(clippy::cast_possible_truncation, reason = "the upper half is no part of the code")]
    let code = result as u32;
    code.cast_signed()
}

/// Calls a function with the given words and zeros after them.
///
/// # Safety
/// The words must be valid arguments of the function.
pub unsafe fn call<const COUNT: usize>(function: Function, arguments: [usize; COUNT]) -> usize {
    const { assert!(COUNT <= WORDS, "more words than any function takes") };
    let mut w = [0; WORDS];
    w[..COUNT].copy_from_slice(&arguments);
    // SAFETY: as the caller promises.
    unsafe {
        function(
            w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7], w[8], w[9], w[10], w[11], w[12], w[13],
        )
    }
}
