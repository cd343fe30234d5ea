//! The objects of the deployment as types, and as the YAML that is applied.
//!
//! One function per object, from the settings to the typed object; `component::render` puts the text of
//! those asked for in the order of application.

#![forbid(unsafe_code)]

pub mod access;
pub mod cli;
pub mod component;
pub mod config_map;
pub mod deployment;
pub mod device_plugin;
pub mod labels;
pub mod namespace;
pub mod pod;
mod probe;
pub mod runtime_class;
pub mod service;
pub mod storage;
mod tracer;
mod vllm;
pub mod yaml;
