//! What programs that run other programs share: commands that are shown, processes in the background, steps,
//! and advice on what commands complain about.

pub mod advice;
pub mod background;
pub mod command;
pub mod ctx;
pub mod fault_suite;
pub mod http;
pub mod static_build;
