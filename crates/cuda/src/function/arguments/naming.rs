//! Which functions tie a handle to the name of a kernel.

use super::{Word, without_stream_suffix};

/// What a call that succeeded says about a kernel's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// `handle` is the kernel whose name is the C string behind register argument `name`, which is
    /// readable at entry. `is_read`: the function reads it before it returns, so that it is in
    /// memory then.
    Named { handle: Word, name: u8, is_read: bool },
    /// `handle` is another handle of the kernel that `of` is.
    Alias { handle: Word, of: Word },
}

/// How the function names a kernel, if it does.
pub fn naming(name: &str) -> Option<Naming> {
    Some(match without_stream_suffix(name) {
        // cuda.h: (out, module or library, name); cuda_runtime_api.h: (out, library, name).
        "cuModuleGetFunction" | "cuLibraryGetKernel" | "cudaLibraryGetKernel" => {
            Naming::Named { handle: Word::result(0), name: 2, is_read: true }
        }
        // crt/host_runtime.h: (fat binary, function of the host, its name, name on the device, ..).
        // The runtime only keeps the pointer: it asks the driver by that name at the first launch.
        "__cudaRegisterFunction" => {
            Naming::Named { handle: Word::register(1), name: 3, is_read: false }
        }
        // cuda.h: (out, kernel); cuda_runtime_api.h: (out, symbol).
        "cuKernelGetFunction" | "cudaGetFuncBySymbol" | "cudaGetKernel" | "__cudaGetKernel" => {
            Naming::Alias { handle: Word::result(0), of: Word::register(1) }
        }
        _ => return None,
    })
}

impl Naming {
    /// The words that the naming is made from, besides the string.
    pub fn words(&self) -> Vec<Word> {
        match *self {
            Self::Named { handle, .. } => vec![handle],
            Self::Alias { handle, of } => vec![handle, of],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::arguments;
    use super::*;
    use crate::function::KNOWN;

    #[test]
    fn who_names_a_kernel_gives_it_as_the_function_too() {
        let naming: Vec<_> =
            KNOWN.iter().filter_map(|name| naming(name).map(|naming| (name, naming))).collect();
        assert_eq!(naming.len(), 8);
        for (name, naming) in naming {
            let (Naming::Named { handle, .. } | Naming::Alias { handle, .. }) = naming;
            let function = arguments(name).iter().find(|argument| {
                argument.field == super::super::Field::Function
                    && argument.value.words() == [handle]
            });
            assert!(function.is_some(), "{name}");
        }
    }
}
