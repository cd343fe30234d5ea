//! Library files of other processes: where the dynamic loader finds them, which CUDA functions they export, and
//! where in each function a probe goes.
//!
//! The files are hostile: whoever wrote one may have chosen each byte of it, and may change it meanwhile.

pub mod library;
pub mod loader;
pub mod placement;
pub mod untrusted_file;
