//! Paths of the machine that builds, kept out of the program: it would be another one elsewhere.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};

use crate::ctx::{target_directory, workspace_root};

/// What stands before the name and version of a crate in the program, where a panic tells its place.
pub(super) const REGISTRY: &str = "/registry/";

/// Where something is here, and what the program has instead. Of several that fit the last counts.
fn prefixes() -> Vec<(PathBuf, &'static str)> {
    let registry = registry_of_cargo();
    let mut prefixes = vec![
        (workspace_root(), "/source"),
        (target_directory(), "/target"),
        (registry.clone(), "/registry"),
    ];
    // Each source has a directory, whose name is another with a mirror.
    let sources = fs::read_dir(registry).into_iter().flatten().flatten();
    prefixes.extend(sources.map(|source| (source.path(), "/registry")));
    // `RUSTFLAGS` is split at spaces, so the program keeps a path that has one.
    prefixes
        .retain(|(path, _)| path.to_str().is_some_and(|path| !path.contains(char::is_whitespace)));
    prefixes
}

/// As words of `RUSTFLAGS`, each with a space before it. They do not make cargo build anything anew.
pub(super) fn remapped() -> String {
    let flags = prefixes();
    let flags = flags
        .iter()
        .map(|(path, instead)| format!(" --remap-path-prefix={}={instead}", path.display()));
    flags.collect::<Vec<String>>().concat()
}

/// Fails if the program holds one of them all the same.
pub(super) fn check(program: &[u8]) -> Result<()> {
    for (path, _) in prefixes() {
        if let Some(found) = found(program, &path) {
            bail!(
                "the program holds the path {found:?} of this machine, so it is another one elsewhere; \
                 it was built before the paths were mapped (remove {}), or by a script of a dependency",
                super::context::static_directory().display()
            );
        }
    }
    Ok(())
}

/// The text around the first place where the program holds `path`.
fn found(program: &[u8], path: &Path) -> Option<String> {
    const MOST_BYTES: usize = 200;
    let path = path.as_os_str().as_encoded_bytes();
    let at = program.windows(path.len()).position(|window| window == path)?;
    let text = program[at..].iter().take(MOST_BYTES).take_while(|byte| byte.is_ascii_graphic());
    Some(text.map(|byte| char::from(*byte)).collect())
}

fn registry_of_cargo() -> PathBuf {
    let home = env::var_os("CARGO_HOME").map_or_else(
        || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cargo"),
        PathBuf::from,
    );
    home.join("registry/src")
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn the_checkout_and_the_registry_are_mapped() {
        let flags = remapped();
        let source = format!(" --remap-path-prefix={}=/source", workspace_root().display());
        assert!(flags.starts_with(&source), "{flags}");
        assert!(flags.contains("registry/src=/registry"), "{flags}");
    }
}
