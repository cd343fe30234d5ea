//! Functions that run code of the program before they return: only their entry is traced.
//!
//! That code may throw an exception, end or cancel its thread, or jump out of the call. All of these
//! walk the stack, or rely on its return addresses, and a return probe has put another one there.
//!
//! Host functions and callbacks of streams, logs, core dumps and notifications are not here: CUDA
//! runs them in threads of its own.

use super::canonical;

/// Canonical names, each with what it runs.
pub const CALLS_BACK: [(&str, &str); 6] = [
    ("cuGraphReleaseUserObject", "destructor of the object"),
    ("cuOccupancyMaxPotentialBlockSize", "shared memory needed by a block of some size"),
    ("cuOccupancyMaxPotentialBlockSizeWithFlags", "shared memory needed by a block of some size"),
    ("cuUserObjectRelease", "destructor of the object"),
    ("cudaGraphReleaseUserObject", "destructor of the object"),
    ("cudaUserObjectRelease", "destructor of the object"),
];

/// What code of the program the function runs before it returns; `None` if it runs none.
pub fn calls_back(name: &str) -> Option<&'static str> {
    let name = canonical(name);
    CALLS_BACK.iter().find(|(function, _)| *function == name).map(|(_, what)| *what)
}

#[cfg(test)]
mod tests {
    use super::super::{KNOWN, Selection};
    use super::*;

    #[test]
    fn every_variant_of_a_function_that_calls_back_is_known_as_one() {
        for (name, what) in CALLS_BACK {
            assert!(KNOWN.binary_search(&name).is_ok(), "{name} is no function");
            assert_eq!(calls_back(&format!("{name}_v2_ptsz")), Some(what));
        }
        assert!(CALLS_BACK.is_sorted());
        assert_eq!(calls_back("cuLaunchKernel"), None);
    }

    #[test]
    fn the_default_set_has_none_of_them() {
        let selection = Selection::default();
        assert!(CALLS_BACK.iter().all(|(name, _)| !selection.contains(name)));
    }
}
