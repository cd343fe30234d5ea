//! What the numbers that CUDA functions return are called.

mod driver;
mod runtime;

use crate::function::Api;

/// The name of a `CUresult` or `cudaError_t`, as in the headers: `CUDA_ERROR_OUT_OF_MEMORY`,
/// `cudaErrorMemoryAllocation`. `None` for a number that the headers of CUDA 11.8 to 13.5 do not
/// have.
pub fn error_name(api: Api, code: u32) -> Option<&'static str> {
    let names = match api {
        Api::Driver => driver::NAMES,
        Api::Runtime => runtime::NAMES,
    };
    let position = names.binary_search_by_key(&code, |&(code, _)| code).ok()?;
    Some(names[position].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_names_of_the_headers() {
        for (code, driver, runtime) in [
            (0, Some("CUDA_SUCCESS"), Some("cudaSuccess")),
            (1, Some("CUDA_ERROR_INVALID_VALUE"), Some("cudaErrorInvalidValue")),
            (2, Some("CUDA_ERROR_OUT_OF_MEMORY"), Some("cudaErrorMemoryAllocation")),
            (9, None, Some("cudaErrorInvalidConfiguration")),
            (
                36,
                Some("CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER"),
                Some("cudaErrorCallRequiresNewerDriver"),
            ),
            (600, Some("CUDA_ERROR_NOT_READY"), Some("cudaErrorNotReady")),
            (700, Some("CUDA_ERROR_ILLEGAL_ADDRESS"), Some("cudaErrorIllegalAddress")),
            (999, Some("CUDA_ERROR_UNKNOWN"), Some("cudaErrorUnknown")),
            (10000, None, Some("cudaErrorApiFailureBase")),
            (u32::MAX, None, None),
        ] {
            assert_eq!(error_name(Api::Driver, code), driver, "{code}");
            assert_eq!(error_name(Api::Runtime, code), runtime, "{code}");
        }
    }

    #[test]
    fn every_name_is_found_by_its_number() {
        for (api, names, count) in
            [(Api::Driver, driver::NAMES, 106), (Api::Runtime, runtime::NAMES, 139)]
        {
            assert_eq!(names.len(), count);
            for (code, name) in names {
                assert_eq!(error_name(api, *code), Some(*name));
            }
        }
    }
}
