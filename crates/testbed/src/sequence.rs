//! A tour that calls every exported function of both libraries with known arguments, so that a test can compare what a
//! tracer decoded with what was passed.

mod driver;
mod prepared;
mod runtime;

use std::ffi::c_void;
use std::ptr;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::cuda::{self, Library, WORDS};
pub use prepared::Prepared;

/// The launches of the tour.
pub const GRID: [u32; 3] = [2, 3, 4];
pub const BLOCK: [u32; 3] = [5, 6, 7];
pub const SHARED_MEMORY: u32 = 1024;
/// The kernel of driver launches, and the one that the runtime registers.
pub const DRIVER_KERNEL: &str = "standin_driver_kernel";
pub const RUNTIME_KERNEL: &str = "standin_runtime_kernel";
/// Each allocation of the tour, in bytes; pitched ones have [`PITCHED`] and virtual ones [`VIRTUAL`].
pub const ALLOCATION: usize = 12_288;
/// Width in bytes and height.
pub const PITCHED: (usize, usize) = (300, 20);
pub const VIRTUAL: usize = 2 << 20;
/// Each copy and fill of the tour, in bytes; two-dimensional ones have [`PLANE`].
pub const COPY: usize = 272;
/// Width in bytes and height.
pub const PLANE: (usize, usize) = (16, 17);
/// What no device can give, and the code that both libraries answer.
pub const IMPOSSIBLE_ALLOCATION: usize = 1 << 50;
pub const OUT_OF_MEMORY: i32 = 2;
/// The code for freeing what was never allocated.
pub const INVALID_VALUE: i32 = 1;

/// Handles and addresses that the tour's calls carry.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handles {
    /// The stream of every asynchronous call of the driver's tour, and of the runtime's.
    pub stream: usize,
    pub runtime_stream: usize,
    /// What the tour's driver launches launch: [`DRIVER_KERNEL`].
    pub driver_kernel: usize,
    /// The host symbol registered for [`RUNTIME_KERNEL`].
    pub runtime_symbol: usize,
    /// The target of device copies and fills in the driver's tour, and in the runtime's.
    pub device_memory: usize,
    pub runtime_device_memory: usize,
}

/// Calls every function of `libcuda.so.1`, and of `libcudart.so.13` if it is given.
/// Fails if a call does not answer as it should.
pub fn run(driver: &Library, runtime: Option<&Library>) -> Result<Handles> {
    let mut tour =
        Tour { library: driver, handles: Handles::default(), calls: 0, wrong: Vec::new() };
    driver::tour(&mut tour)?;
    if let Some(runtime) = runtime {
        tour.library = runtime;
        runtime::tour(&mut tour)?;
    }
    ensure!(tour.wrong.is_empty(), "unexpected answers: {}", tour.wrong.join(", "));
    Ok(tour.handles)
}

struct Tour<'library> {
    library: &'library Library,
    handles: Handles,
    calls: u64,
    wrong: Vec<String>,
}

impl Tour<'_> {
    /// Calls a function whose result is no code.
    fn call<const COUNT: usize>(&mut self, name: &str, arguments: [usize; COUNT]) -> Result<usize> {
        let function = self.library.function(name)?;
        self.calls += 1;
        // SAFETY: the tour passes each function what it documents, from storage that outlives the call.
        Ok(unsafe { cuda::call(function, arguments) })
    }

    /// Calls a function and notes a code other than the expected one.
    fn expect<const COUNT: usize>(
        &mut self,
        code: i32,
        name: &str,
        arguments: [usize; COUNT],
    ) -> Result<()> {
        let answer = cuda::code(self.call(name, arguments)?);
        if answer != code {
            self.wrong.push(format!("{name} gave {answer}, not {code}"));
        }
        Ok(())
    }

    fn ok<const COUNT: usize>(&mut self, name: &str, arguments: [usize; COUNT]) -> Result<()> {
        self.expect(0, name, arguments)
    }

    /// Calls a function and its twin for the per-thread default stream.
    fn twins<const COUNT: usize>(
        &mut self,
        name: &str,
        suffix: &str,
        arguments: [usize; COUNT],
    ) -> Result<()> {
        self.ok(name, arguments)?;
        self.ok(&format!("{name}{suffix}"), arguments)
    }
}

/// The address of a variable, as an argument.
fn to<T: ?Sized>(value: &mut T) -> usize {
    ptr::from_mut(value).cast::<c_void>().addr()
}

/// Arguments followed by more arguments, zeros after both.
fn join<const ROOM: usize>(first: &[usize], second: &[usize]) -> [usize; ROOM] {
    let mut joined = [0; ROOM];
    joined[..first.len()].copy_from_slice(first);
    joined[first.len()..first.len() + second.len()].copy_from_slice(second);
    joined
}

/// The arguments of a function that takes a 64-byte handle by value: it lies on the stack, after six registers.
fn by_value(out: usize, flags: usize, handle: [usize; 8]) -> [usize; WORDS] {
    join(&[out, flags, 0, 0, 0, 0], &handle)
}

/// The address of text, as an argument.
fn text(value: &'static std::ffi::CStr) -> usize {
    value.as_ptr().addr()
}

extern "C" fn host_function(_data: *mut c_void) {}

extern "C" fn stream_callback(_stream: *mut c_void, _code: i32, _data: *mut c_void) {}

fn host_function_address() -> usize {
    host_function as *const () as usize
}

fn stream_callback_address() -> usize {
    stream_callback as *const () as usize
}
