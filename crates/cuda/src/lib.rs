//! The catalogue of CUDA: which functions there are, their classes and sets, where their arguments lie, and
//! the names of their errors.

#![forbid(unsafe_code)]

pub mod error_name;
pub mod function;
