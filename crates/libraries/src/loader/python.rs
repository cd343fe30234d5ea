//! Where Python wheels keep the CUDA libraries they bring along.
//!
//! `import torch` loads these by path, so the dynamic loader never searches for them. Which
//! interpreter's packages a process uses is told by its environment, and by where it was started.

use std::{
    collections::HashSet,
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use super::{Process, budget::Budget, resolve_in, variable};

/// The directories in which a wheel's CUDA library may lie.
pub(super) fn library_directories(process: &Process<'_>, budget: &mut Budget<'_>) -> Vec<PathBuf> {
    let mut directories = Vec::new();
    for packages in package_directories(process, budget) {
        let names = budget.list(&packages);
        let has = |wanted: &str| names.iter().any(|name| name == wanted);
        if has("nvidia") {
            let nvidia = packages.join("nvidia");
            directories.extend(
                budget
                    .list(&nvidia)
                    .into_iter()
                    .filter(|name| name.to_str().is_some_and(is_toolkit_package))
                    .map(|name| nvidia.join(name).join("lib")),
            );
        }
        if has("torch") {
            directories.push(packages.join("torch/lib"));
        }
        // What `auditwheel` copies into a wheel lies beside the package.
        let bundled = names.iter().filter(|name| name.as_bytes().ends_with(b".libs"));
        directories.extend(bundled.map(|name| packages.join(name)));
    }
    directories
}

/// `nvidia/cuda_runtime` until CUDA 12, `nvidia/cu13` and so on since.
fn is_toolkit_package(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    name == "cuda_runtime" || name.strip_prefix("cu").is_some_and(is_number)
}

/// `site-packages` and the like, each once, nearest first.
fn package_directories(process: &Process<'_>, budget: &mut Budget<'_>) -> Vec<PathBuf> {
    let mut packages = Vec::new();
    let path = variable(process.environment, "PYTHONPATH").unwrap_or_default();
    for entry in path.as_bytes().split(|&byte| byte == b':').filter(|entry| !entry.is_empty()) {
        packages.push(process.working_directory.join(OsStr::from_bytes(entry)));
    }
    for prefix in prefixes(process, budget) {
        for library in ["lib", "lib64"].map(|name| prefix.join(name)) {
            let versions = budget.list(&library).into_iter();
            for version in versions.filter(|name| name.as_bytes().starts_with(b"python3")) {
                let version = library.join(version);
                packages.push(version.join("site-packages"));
                packages.push(version.join("dist-packages"));
            }
        }
    }
    let mut seen = HashSet::new();
    // A `lib64` that links to `lib` is the same place again; what is missing is no place.
    packages.retain(|directory| {
        budget.is_left()
            && resolve_in(process.root, directory).is_ok_and(|resolved| seen.insert(resolved))
    });
    packages
}

/// Directories with the `bin` and `lib` of an interpreter.
fn prefixes(process: &Process<'_>, budget: &mut Budget<'_>) -> Vec<PathBuf> {
    let named = ["VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONHOME", "PYTHONUSERBASE"]
        .into_iter()
        .filter_map(|name| variable(process.environment, name))
        .filter(|value| !value.is_empty())
        .map(|value| process.working_directory.join(value));
    // `/proc/PID/exe` of a virtual environment is the interpreter it was made from, so look at how
    // the process was started: `python` or a script from the environment's `bin`.
    let started = process
        .arguments
        .split(|&byte| byte == 0)
        .take(2)
        .filter_map(|argument| program(process, argument, budget))
        .chain([process.executable.to_owned()])
        .filter_map(|program| Some(program.parent()?.parent()?.to_owned()));
    let home = variable(process.environment, "HOME")
        .filter(|home| !home.is_empty())
        .map(|home| process.working_directory.join(home).join(".local"));
    let system = ["/usr/local", "/usr"].map(PathBuf::from);
    named.chain(started).chain(home).chain(system).collect()
}

/// The file that an argument names, found by `PATH` if it is a bare name.
fn program(process: &Process<'_>, argument: &[u8], budget: &mut Budget<'_>) -> Option<PathBuf> {
    if argument.is_empty() || argument.starts_with(b"-") {
        return None;
    }
    let name = Path::new(OsStr::from_bytes(argument));
    if argument.contains(&b'/') {
        return Some(process.working_directory.join(name));
    }
    variable(process.environment, "PATH")?
        .as_bytes()
        .split(|&byte| byte == b':')
        .map(|directory| process.working_directory.join(OsStr::from_bytes(directory)).join(name))
        .take_while(|_| budget.is_left())
        .find(|candidate| resolve_in(process.root, candidate).is_ok())
}
