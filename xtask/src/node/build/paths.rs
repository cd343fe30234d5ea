//! Paths of the machine that builds, kept out of the program: it would be another one elsewhere.

use std::path::Path;

use anyhow::{Result, bail};
use tasks::static_build::{prefixes, static_directory};

/// Fails if the program holds one of them all the same.
pub(super) fn check(program: &[u8]) -> Result<()> {
    for (path, _) in prefixes() {
        if let Some(found) = found(program, &path) {
            bail!(
                "the program holds the path {found:?} of this machine, so it is another one elsewhere; \
                 it was built before the paths were mapped (remove {}), or by a script of a dependency",
                static_directory().display()
            );
        }
    }
    Ok(())
}

/// The text around the first place where the program holds `path`.
fn found(program: &[u8], path: &Path) -> Option<String> {
    const MAX_BYTES: usize = 200;
    let path = path.as_os_str().as_encoded_bytes();
    let at = program.windows(path.len()).position(|window| window == path)?;
    let text = program[at..].iter().take(MAX_BYTES).take_while(|byte| byte.is_ascii_graphic());
    Some(text.map(|byte| char::from(*byte)).collect())
}

#[cfg(test)]
mod tests {
    use tasks::ctx::workspace_root;

    use super::*;

    #[test]
    fn a_path_of_this_machine_is_found_in_the_program() {
        let root = workspace_root();
        let program = format!("\0one\0{}/sidecar/src/main.rs\0two", root.display());
        let expected = root.join("sidecar/src/main.rs").display().to_string();
        assert_eq!(found(program.as_bytes(), &root), Some(expected));
        assert!(check(program.as_bytes()).is_err());
        check(b"/source/sidecar/src/main.rs\0/registry/ring-0.17.14/src/lib.rs").unwrap();
    }
}
