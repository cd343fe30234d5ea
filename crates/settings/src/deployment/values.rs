//! What each value may be. An error says what is accepted.

mod amounts;
mod names;
mod scheduling;
mod words;

pub use amounts::Memory;
pub use scheduling::{ObjectNames, Selectors, Taint, Taints};
pub use words::{Variables, Words};

pub(super) use amounts::{cpu, memory, node_port, share};
pub(super) use names::{absolute_path, digest, dns_name, image, model, region};
pub(super) use scheduling::{object_names, selectors, taints};
pub(super) use words::{variables, vllm_arguments};
