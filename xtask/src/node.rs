//! Tasks that change this machine: K3s, the GPU toolkit and the image of the sidecar.

pub(crate) mod build;
pub(crate) mod install;
pub(crate) mod uninstall;
