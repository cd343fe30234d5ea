//! Tasks on the sources, for who changes them.

pub(crate) mod ci;
pub(crate) mod doctor;
pub(crate) mod ebpf;
pub(crate) mod test_diagnosis;
pub(crate) mod test_faults;
pub(crate) mod test_kernels;
