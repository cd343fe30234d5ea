//! The catalogue of CUDA API functions: their names, variants and classes, and which of them a user
//! selects.
//!
//! The names in `function/known.txt` are those exported by, or declared for,
//!
//! * the CUDA runtime: `libcudart.so` of the PyPI packages `nvidia-cuda-runtime-cu11` 11.7.99 and
//!   11.8.89, `nvidia-cuda-runtime-cu12` 12.0.146, 12.1.105, 12.4.127, 12.6.77, 12.8.90 and
//!   12.9.79, and `nvidia-cuda-runtime` 13.0.96 and 13.5.37;
//! * the CUDA driver: `libcuda.so.1` of the Debian packages `libcuda1` 470.256.02, 535.261.03 and
//!   550.163.01, and the functions declared in `cuda.h` of the packages above, in every version and
//!   per-thread-stream variant that its macros spell. For 12.4 those are the exports of driver 550
//!   but for OpenGL, EGL, VDPAU and the profiler, which have headers of their own, and
//!   `cuMemGetAttribute`, which has none; so they stand for the drivers of CUDA 12.6 to 13.5. The
//!   per-thread-stream `cuGetProcAddress` is spelled by the macros, exported by no driver, and left
//!   out.

pub mod arguments;
mod calls_back;
mod class;
mod default_set;
mod glob;
mod selection;

pub use calls_back::{CALLS_BACK, calls_back};
pub use class::{Class, class};
pub use selection::{Selection, SelectionError};

use std::sync::LazyLock;

/// Every known exported name, sorted.
pub static KNOWN: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| include_str!("function/known.txt").lines().collect());

/// The canonical names of the driver's functions that launch one kernel. The runtime's call them.
pub const DRIVER_LAUNCHES: [&str; 3] =
    ["cuLaunchKernel", "cuLaunchKernelEx", "cuLaunchCooperativeKernel"];

/// Which of the two CUDA programming interfaces a function belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Api {
    /// `libcuda`: `cuLaunchKernel`.
    Driver,
    /// `libcudart`: `cudaLaunchKernel`.
    Runtime,
}

impl Api {
    /// The interface of a function, by its name; `None` for what is not a CUDA API function, such
    /// as `cudbgMain` or `cublasCreate_v2`.
    pub fn of(name: &str) -> Option<Self> {
        split(name).map(|(api, _)| api)
    }

    /// The `type` of a trace line about a call of this interface.
    pub const fn type_name(self) -> &'static str {
        match self {
            Self::Driver => "cuda_api",
            Self::Runtime => "cuda_runtime",
        }
    }
}

/// The name without the suffixes that tell variants apart: `cuMemcpyHtoDAsync` for
/// `cuMemcpyHtoDAsync_v2_ptsz`.
pub fn canonical(name: &str) -> &str {
    let name = without_stream_suffix(name);
    match name.rsplit_once("_v") {
        Some((base, version))
            if !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            base
        }
        _ => name,
    }
}

/// Whether the variant works on the default stream of the calling thread, not of the process
/// (`_ptsz`, `_ptds`).
pub fn is_per_thread(name: &str) -> bool {
    without_stream_suffix(name).len() != name.len()
}

/// When to attach a probe to the function, lower first: what a process calls first, and only once,
/// must not be missed.
///
/// 0: initialisation and the registration of kernels; 1: devices, contexts and code; 2: the rest.
pub fn attach_rank(name: &str) -> u8 {
    match class(name) {
        Class::Init => 0,
        // Static constructors call these when a library is loaded, before the first call of the
        // program itself.
        Class::Module if name.starts_with("__cuda") => 0,
        Class::Device | Class::Context | Class::Module => 1,
        _ => 2,
    }
}

fn without_stream_suffix(name: &str) -> &str {
    name.strip_suffix("_ptsz").or_else(|| name.strip_suffix("_ptds")).unwrap_or(name)
}

/// The canonical name without the prefix of its interface, so that one pattern speaks of both:
/// `Memcpy` for `cudaMemcpy_ptds`.
fn stem(name: &str) -> &str {
    let name = canonical(name);
    split(name).map_or(name, |(_, stem)| stem)
}

fn split(name: &str) -> Option<(Api, &str)> {
    let (api, stem) =
        if let Some(stem) = name.strip_prefix("__cuda").or_else(|| name.strip_prefix("cuda")) {
            (Api::Runtime, stem)
        } else {
            (Api::Driver, name.strip_prefix("cu")?)
        };
    stem.starts_with(|first: char| first.is_ascii_uppercase()).then_some((api, stem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interface_is_told_by_the_name() {
        for name in ["cuInit", "cuLaunchKernel_ptsz", "cuMemAlloc_v2"] {
            assert_eq!(Api::of(name), Some(Api::Driver), "{name}");
        }
        for name in ["cudaMalloc", "__cudaRegisterFunction", "cudaMemcpy_ptds"] {
            assert_eq!(Api::of(name), Some(Api::Runtime), "{name}");
        }
        for name in [
            "",
            "cu",
            "cuda",
            "cudbgMain",
            "cublasCreate_v2",
            "__cuda",
            "__cuInit",
            "_init",
            "cuda_start",
            "Init",
            "cuß",
        ] {
            assert_eq!(Api::of(name), None, "{name}");
        }
        assert_eq!(Api::Driver.type_name(), "cuda_api");
        assert_eq!(Api::Runtime.type_name(), "cuda_runtime");
    }

    #[test]
    fn variants_have_one_canonical_name() {
        for (name, expected) in [
            ("cuInit", "cuInit"),
            ("cuMemAlloc_v2", "cuMemAlloc"),
            ("cuMemcpyHtoDAsync_v2_ptsz", "cuMemcpyHtoDAsync"),
            ("cudaMemcpy_ptds", "cudaMemcpy"),
            ("__cudaLaunchKernel_ptsz", "__cudaLaunchKernel"),
            ("cuCtxCreate_v4", "cuCtxCreate"),
            ("cudaGraphInstantiate_v12000", "cudaGraphInstantiate"),
            ("cuOdd_v", "cuOdd_v"),
            ("cuOdd_vx2", "cuOdd_vx2"),
            ("cuMemcpy2D", "cuMemcpy2D"),
        ] {
            assert_eq!(canonical(name), expected);
        }
        assert!(is_per_thread("cuLaunchKernel_ptsz") && is_per_thread("cuMemcpy_ptds"));
        assert!(!is_per_thread("cuMemAlloc_v2"));
    }

    #[test]
    fn launches_are_known_by_their_canonical_names() {
        for name in DRIVER_LAUNCHES {
            assert!(KNOWN.binary_search(&name).is_ok(), "{name} is missing");
            assert_eq!((canonical(name), class(name)), (name, Class::Launch));
        }
    }

    #[test]
    fn the_catalogue_is_sorted_and_clean() {
        assert!(KNOWN.len() > 1000);
        assert!(
            KNOWN.windows(2).all(|pair| pair[0] < pair[1]),
            "known.txt is not sorted or holds a name twice"
        );
        for name in KNOWN.iter() {
            assert!(Api::of(name).is_some(), "{name} is no API function");
            assert!(
                name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'),
                "{name:?}"
            );
        }
        // One name of each source.
        for name in [
            "cuLaunchKernel",
            "cuCtxCreate_v4",
            "cuGLInit",
            "cudaBindTexture",
            "__cudaGetKernel",
            "cudaMemcpy_ptds",
        ] {
            assert!(KNOWN.binary_search(&name).is_ok(), "{name} is missing");
        }
    }

    #[test]
    fn what_is_called_first_is_attached_first() {
        let mut names = [
            "cuLaunchKernel",
            "cuModuleLoadData",
            "cuInit",
            "cuDevicePrimaryCtxRetain",
            "__cudaRegisterFunction",
        ];
        names.sort_by_key(|name| attach_rank(name));
        assert_eq!(
            names,
            [
                "cuInit",
                "__cudaRegisterFunction",
                "cuModuleLoadData",
                "cuDevicePrimaryCtxRetain",
                "cuLaunchKernel"
            ]
        );
    }
}
