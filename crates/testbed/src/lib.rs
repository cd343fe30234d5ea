//! What stands in for a GPU, for vLLM and for S3, in the demo and in tests.
//!
//! Nothing in the product knows that these are stand-ins: the libraries have the symbols, prologues and call chains of
//! NVIDIA's, the server has vLLM's processes and protocol, and the object store speaks S3.

pub mod contexts;
pub mod counts;
pub mod cuda;
pub mod hostile;
pub mod leaver;
pub mod libraries;
pub mod reference;
pub mod s3;
pub mod sequence;
pub mod signatures;
pub mod unusual;
pub mod vllm;
