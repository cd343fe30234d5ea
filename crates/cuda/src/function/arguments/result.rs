//! What a function returns.

/// What `rax` holds when a function has returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResultKind {
    /// `CUresult` or `cudaError_t`, in the lower 32 bits; the upper ones mean nothing.
    Code,
    /// Nothing that can be shown: the function is `void`, or returns a structure, or no header says
    /// what it returns.
    Nothing,
    Pointer,
    /// A number of 32 bits or less that is no error code: `char`, `unsigned int`.
    Number,
}

/// What the function returns.
pub fn result(name: &str) -> ResultKind {
    match name {
        // cuda_runtime_api.h: texts. crt/host_runtime.h: the handle of a fat binary.
        "cudaGetErrorName" | "cudaGetErrorString" | "__cudaRegisterFatBinary" => {
            ResultKind::Pointer
        }
        // crt/host_runtime.h: `char`; `unsigned`.
        "__cudaInitModule" | "__cudaPushCallConfiguration" => ResultKind::Number,
        // cuda_runtime_api.h: a structure. In no header.
        "cudaCreateChannelDesc" | "__cudaGetProcAddress" => ResultKind::Nothing,
        // crt/host_runtime.h: `void`.
        _ if name.starts_with("__cudaRegister") || name.starts_with("__cudaUnregister") => {
            ResultKind::Nothing
        }
        _ => ResultKind::Code,
    }
}

#[cfg(test)]
mod tests {
    use super::ResultKind::{Nothing, Number, Pointer};
    use super::*;
    use crate::function::KNOWN;

    #[test]
    fn most_functions_return_a_code() {
        let others: Vec<_> = KNOWN
            .iter()
            .map(|name| (*name, result(name)))
            .filter(|(_, kind)| *kind != ResultKind::Code)
            .collect();
        assert_eq!(
            others,
            [
                ("__cudaGetProcAddress", Nothing),
                ("__cudaInitModule", Number),
                ("__cudaPushCallConfiguration", Number),
                ("__cudaRegisterFatBinary", Pointer),
                ("__cudaRegisterFatBinaryEnd", Nothing),
                ("__cudaRegisterFunction", Nothing),
                ("__cudaRegisterHostVar", Nothing),
                ("__cudaRegisterManagedVar", Nothing),
                ("__cudaRegisterSurface", Nothing),
                ("__cudaRegisterTexture", Nothing),
                ("__cudaRegisterUnifiedTable", Nothing),
                ("__cudaRegisterVar", Nothing),
                ("__cudaUnregisterFatBinary", Nothing),
                ("cudaCreateChannelDesc", Nothing),
                ("cudaGetErrorName", Pointer),
                ("cudaGetErrorString", Pointer),
            ]
        );
    }
}
