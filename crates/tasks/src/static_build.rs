//! Programs that run on any Linux machine: static, without a path of the machine that builds them.

use std::{env, fs, path::PathBuf};

use crate::{
    command::Command,
    ctx::{target_directory, workspace_root},
};

pub const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The sidecar.
pub const PROGRAM: &str = "ebpf-cuda-tracer";

/// `cargo build`, or `cargo run` with what a caller adds: the image's program runs here as well, and is
/// not compiled once more for that.
///
/// `--target` keeps build scripts and procedural macros dynamic, which they must be.
pub fn static_program(verb: &str) -> Command {
    statically(verb, &format!("--package sidecar --bin {PROGRAM}"))
}

/// The sidecar's program for what needs no image: the static one where it was built here before, else one
/// that is compiled in less time.
pub fn any_program() -> Command {
    if static_path().is_file() {
        return static_program("run").words("--");
    }
    Command::new("cargo run --locked --package sidecar --bin").words(PROGRAM).words("--")
}

/// `cargo build` of all programs of some packages, in the same way.
pub fn static_programs(packages: &[&str]) -> Command {
    let packages: Vec<String> =
        packages.iter().map(|package| format!("--package {package}")).collect();
    statically("build", &format!("{} --bins", packages.join(" ")))
}

fn statically(verb: &str, what: &str) -> Command {
    Command::new("cargo")
        .arg(verb)
        .words("--locked --release")
        .words(what)
        .words("--target")
        .arg(TARGET)
        .words("--target-dir")
        .path(&static_target())
        .variable("RUSTFLAGS", format!("-C target-feature=+crt-static{}", remapped()))
}

/// Where the sidecar is then; it runs outside of the image as well.
pub fn static_path() -> PathBuf {
    static_directory().join(PROGRAM)
}

/// Where all of them are.
pub fn static_directory() -> PathBuf {
    static_target().join(TARGET).join("release")
}

/// Apart from the others: other flags of rustc would build everything again by turns.
fn static_target() -> PathBuf {
    target_directory().join("static")
}

/// What stands before the name and version of a crate in the program, where a panic tells its place.
pub const REGISTRY: &str = "/registry/";

/// Where something is here, and what the program has instead. Of several that fit the last counts.
pub fn prefixes() -> Vec<(PathBuf, &'static str)> {
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
fn remapped() -> String {
    let flags = prefixes();
    let flags = flags
        .iter()
        .map(|(path, instead)| format!(" --remap-path-prefix={}={instead}", path.display()));
    flags.collect::<Vec<String>>().concat()
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
    fn the_checkout_and_the_registry_are_mapped() {
        let flags = remapped();
        let source = format!(" --remap-path-prefix={}=/source", workspace_root().display());
        assert!(flags.starts_with(&source), "{flags}");
        assert!(flags.contains("registry/src=/registry"), "{flags}");
    }
}
