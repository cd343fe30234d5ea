//! What the README says in numbers.

use std::{fs, path::Path};

use trace::function::{KNOWN, Selection};

#[test]
fn size_of_the_default_set_is_that_of_the_code() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let default = Selection::default();
    let size = KNOWN.iter().filter(|name| default.contains(name)).count();
    let sentence = format!("by default {size} names over all versions of CUDA");
    assert!(readme.contains(&sentence), "README.md does not say `{sentence}`");
}
