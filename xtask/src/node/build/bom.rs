//! The bill of materials of the image: each crate that is linked into the program, as CycloneDX.
//!
//! Cargo says what is linked, and the program itself has the last word: the places of panics in it name crates, and
//! one that is not on the bill fails the build.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use tasks::static_build::{REGISTRY, TARGET};
use tasks::{command::Command, ctx::workspace_root};

/// A linked crate.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Crate {
    name: String,
    version: String,
    licence: String,
    is_ours: bool,
}

/// The bill of materials of the program, which was built from this checkout.
pub(super) fn of(program: &[u8]) -> Result<String> {
    let crates = crates(&tree().read()?)?;
    let unlisted = unlisted(program, &crates);
    ensure!(
        unlisted.is_empty(),
        "the program holds code of crates that `{}` does not list: {}",
        tree().shown(),
        unlisted.join(", ")
    );
    let lock = std::fs::read_to_string(workspace_root().join("Cargo.lock"))
        .context("cannot read Cargo.lock")?;
    Ok(format!("{:#}\n", bill(&crates, &checksums(&lock), &runtime())))
}

/// The sidecar and the eBPF program that it embeds. Procedural macros and build scripts run on the machine that builds.
fn tree() -> Command {
    Command::new("cargo tree --locked --package sidecar --package sidecar-ebpf")
        .words("--edges normal,no-proc-macro --target")
        .arg(TARGET)
        .words("--prefix none --format")
        .arg("{p}|{l}")
}

/// Of lines such as `anyhow v1.0.104|MIT OR Apache-2.0 (*)`.
fn crates(tree: &str) -> Result<BTreeSet<Crate>> {
    let parse = |line: &str| {
        let (package, licence) = line.split_once('|')?;
        let (name, rest) = package.split_once(" v")?;
        let (version, source) = rest.split_once(' ').unwrap_or((rest, ""));
        Some(Crate {
            name: name.to_owned(),
            version: version.to_owned(),
            // The first form is the older one of the same.
            licence: licence.trim_end_matches(" (*)").replace('/', " OR "),
            // Only what has no registry has a path.
            is_ours: source.starts_with("(/"),
        })
    };
    let lines = tree.lines().filter(|line| !line.is_empty());
    lines.map(|line| parse(line).with_context(|| format!("cannot read {line:?}"))).collect()
}

/// Crates that the program names and the list lacks.
fn unlisted(program: &[u8], crates: &BTreeSet<Crate>) -> Vec<String> {
    let listed: BTreeSet<String> =
        crates.iter().map(|Crate { name, version, .. }| format!("{name}-{version}")).collect();
    let mut named = BTreeSet::new();
    let marker = REGISTRY.as_bytes();
    for (at, _) in program.windows(marker.len()).enumerate().filter(|(_, bytes)| *bytes == marker) {
        named.extend(package_directory(&program[at + marker.len()..]));
    }
    named.difference(&listed).cloned().collect()
}

/// The `name-version` that `path` begins with, if it is the directory of a package. A package can have a directory
/// `registry` of its own, with files behind it.
fn package_directory(path: &[u8]) -> Option<String> {
    const MAX_LENGTH: usize = 128;
    let end = path.iter().take(MAX_LENGTH).position(|byte| *byte == b'/')?;
    let name = std::str::from_utf8(&path[..end]).ok()?;
    let has_version =
        name.split('-').skip(1).any(|part| part.starts_with(|c: char| c.is_ascii_digit()));
    let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c));
    (has_version && is_plain).then(|| name.to_owned())
}

/// SHA-256 by name and version, as the registry has them.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let field = |package: &str, name: &str| {
        let start = format!("{name} = \"");
        let line = package.lines().find_map(|line| line.strip_prefix(&start))?;
        Some(line.trim_end_matches('"').to_owned())
    };
    lock.split("[[package]]")
        .filter_map(|package| {
            let key = (field(package, "name")?, field(package, "version")?);
            Some((key, field(package, "checksum")?))
        })
        .collect()
}

/// What is linked beside crates: Rust's own library, and C's. Absent what does not say its version.
fn runtime() -> Vec<(&'static str, String)> {
    let version = |command: &str, prefix: &str| {
        let said = Command::new(command).read().ok()?;
        Some(said.trim().strip_prefix(prefix)?.to_owned())
    };
    let rust = version("rustc --version", "rustc ").map(|version| ("rust-std", version));
    let c = version("getconf GNU_LIBC_VERSION", "glibc ").map(|version| ("glibc", version));
    rust.into_iter().chain(c).collect()
}

/// Without a time and a serial number, which would be others each time.
fn bill(
    crates: &BTreeSet<Crate>,
    checksums: &BTreeMap<(String, String), String>,
    runtime: &[(&str, String)],
) -> Value {
    let linked = crates.iter().map(|Crate { name, version, licence, is_ours }| {
        let mut component = json!({ "type": "library", "name": name, "version": version });
        if !licence.is_empty() {
            component["licenses"] = json!([{ "expression": licence }]);
        }
        if !is_ours {
            component["purl"] = json!(format!("pkg:cargo/{name}@{}", version.replace('+', "%2B")));
        }
        if let Some(sum) = checksums.get(&(name.clone(), version.clone())) {
            component["hashes"] = json!([{ "alg": "SHA-256", "content": sum }]);
        }
        component
    });
    let runtime = runtime
        .iter()
        .map(|(name, version)| json!({ "type": "library", "name": name, "version": version }));
    let components: Vec<Value> = linked.chain(runtime).collect();
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "name": "ebpf-cuda-tracer",
                "version": env!("CARGO_PKG_VERSION"),
            },
        },
        "components": components,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "\
sidecar v0.1.0 (/checkout/sidecar)|MIT OR Apache-2.0
ring v0.17.14|Apache-2.0 AND ISC
zstd-sys v2.1.3+zstd.1.5.7|MIT/Apache-2.0
ring v0.17.14|Apache-2.0 AND ISC (*)
";

    #[test]
    fn each_linked_crate_is_listed_once_with_licence_and_checksum() {
        let lock = "[[package]]\nname = \"ring\"\nversion = \"0.17.14\"\nchecksum = \"ab12\"\n";
        let runtime = [("glibc", "2.36".to_owned())];
        let bill = bill(&crates(TREE).unwrap(), &checksums(lock), &runtime);
        let expected = json!([
            {
                "type": "library",
                "name": "ring",
                "version": "0.17.14",
                "licenses": [{ "expression": "Apache-2.0 AND ISC" }],
                "purl": "pkg:cargo/ring@0.17.14",
                "hashes": [{ "alg": "SHA-256", "content": "ab12" }],
            },
            {
                "type": "library",
                "name": "sidecar",
                "version": "0.1.0",
                "licenses": [{ "expression": "MIT OR Apache-2.0" }],
            },
            {
                "type": "library",
                "name": "zstd-sys",
                "version": "2.1.3+zstd.1.5.7",
                "licenses": [{ "expression": "MIT OR Apache-2.0" }],
                "purl": "pkg:cargo/zstd-sys@2.1.3%2Bzstd.1.5.7",
            },
            { "type": "library", "name": "glibc", "version": "2.36" },
        ]);
        assert_eq!(bill["components"], expected);
    }

    #[test]
    fn a_crate_that_is_in_the_program_and_not_on_the_list_is_named() {
        let crates = crates(TREE).unwrap();
        let program =
            b"\0/registry/ring-0.17.14/src/lib.rs\0/registry/openssl-0.10.1/src/lib.rs/registry/";
        assert_eq!(unlisted(program, &crates), ["openssl-0.10.1"]);
        assert_eq!(unlisted(b"/registry/zstd-sys-2.1.3+zstd.1.5.7/x", &crates), [""; 0]);
    }

    #[test]
    fn a_directory_of_a_package_that_is_called_registry_is_no_package() {
        let crates = crates(TREE).unwrap();
        let program = b"/registry/ring-0.17.14/src/registry/stack.rs\xff'\xff'Jan/Feb-1/registry/extensions.rs>err-2;/";
        assert_eq!(unlisted(program, &crates), [""; 0]);
    }

    /// The independent truth are the lines that cargo gives for the checkout of this test.
    #[test]
    fn this_checkout_lists_what_it_links_and_no_tool_that_builds_it() {
        let crates = crates(&tree().read().unwrap()).unwrap();
        let has = |name: &str| crates.iter().any(|found| found.name == name);
        for linked in
            ["sidecar", "trace", "aya", "aya-ebpf", "aws-sdk-s3", "ring", "zstd-sys", "tokio"]
        {
            assert!(has(linked), "{linked}");
        }
        for builds in ["cc", "syn", "serde_derive", "testbed", "xtask", "insta"] {
            assert!(!has(builds), "{builds}");
        }
        assert!(crates.iter().all(|found| !found.licence.is_empty()), "{crates:?}");
    }
}
