//! Finds the eBPF object to embed: the committed one, or with the feature `ebpf-from-source` a
//! fresh one that is byte for byte the same wherever it is built.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

fn main() -> Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    let object = object()?;
    let object = object
        .canonicalize()
        .with_context(|| format!("cannot find the eBPF object {}", object.display()))?;
    println!("cargo:rerun-if-changed={}", object.display());
    println!("cargo:rustc-env=CUDA_PROBES_OBJECT={}", object.display());
    Ok(())
}

#[cfg(not(feature = "ebpf-from-source"))]
fn object() -> Result<PathBuf> {
    let root = std::env::var("CARGO_MANIFEST_DIR").context("cargo sets CARGO_MANIFEST_DIR")?;
    Ok(PathBuf::from(root).join("../sidecar-ebpf/prebuilt/cuda-probes.o"))
}

#[cfg(feature = "ebpf-from-source")]
fn object() -> Result<PathBuf> {
    from_source::build()
}

#[cfg(feature = "ebpf-from-source")]
mod from_source {
    use std::{
        env, fs,
        path::{Path, PathBuf},
        process::Command,
    };

    use anyhow::{Context as _, Result, ensure};
    use aya_build::{Package, Toolchain};
    use object::{
        build::elf::{Builder, SectionData},
        elf::SHT_STRTAB,
    };

    /// Must agree with `xtask/src/pins.rs`; a test there compares the two.
    const NIGHTLY: &str = "nightly-2026-05-20";

    /// Names another toolchain, for a machine that has the same compiler under another name.
    const TOOLCHAIN_VARIABLE: &str = "EBPF_TOOLCHAIN";

    pub(super) fn build() -> Result<PathBuf> {
        println!("cargo:rerun-if-env-changed={TOOLCHAIN_VARIABLE}");
        let toolchain = env::var(TOOLCHAIN_VARIABLE)
            .ok()
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| NIGHTLY.to_owned());
        let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?)
            .parent()
            .context("the sidecar lies one level below the workspace")?
            .to_owned();
        remap_paths(&root, &toolchain)?;
        let root_dir = root.join("sidecar-ebpf");
        let root_dir = root_dir.to_str().context("the workspace path is not UTF-8")?;
        aya_build::build_ebpf(
            [Package { name: "sidecar-ebpf", root_dir, ..Default::default() }],
            Toolchain::Custom(&toolchain),
        )?;
        let out = PathBuf::from(env::var("OUT_DIR")?);
        let stripped = out.join("cuda-probes.o");
        let object = fs::read(out.join("cuda-probes")).context("cannot read the built object")?;
        fs::write(&stripped, strip_dwarf(&object)?).context("cannot write the stripped object")?;
        Ok(stripped)
    }

    /// Source paths reach the object through BTF line information. The inner, nightly cargo reads
    /// these variables; without them two checkouts would build two different objects.
    fn remap_paths(root: &Path, toolchain: &str) -> Result<()> {
        let cargo_home = match env::var_os("CARGO_HOME") {
            Some(home) => PathBuf::from(home),
            None => PathBuf::from(env::var_os("HOME").context("HOME is not set")?).join(".cargo"),
        };
        let mut flags = vec![
            format!("--remap-path-prefix={}=.", root.display()),
            format!("--remap-path-prefix={}=/rust", sysroot(toolchain)?),
        ];
        let registry = cargo_home.join("registry/src");
        for source in fs::read_dir(&registry)
            .with_context(|| format!("cannot list {}", registry.display()))?
        {
            flags.push(format!("--remap-path-prefix={}=/registry", source?.path().display()));
        }
        // SAFETY: this build script has one thread here.
        unsafe {
            env::set_var("CARGO_UNSTABLE_PROFILE_RUSTFLAGS", "true");
            env::set_var("CARGO_PROFILE_RELEASE_RUSTFLAGS", flags.join(" "));
        }
        Ok(())
    }

    fn sysroot(toolchain: &str) -> Result<String> {
        let output = Command::new("rustup")
            .args(["run", toolchain, "rustc", "--print", "sysroot"])
            .output()
            .context("cannot run rustup")?;
        ensure!(
            output.status.success(),
            "the toolchain `{toolchain}` is not installed: `cargo xtask ebpf build` chooses one and \
             says what is missing"
        );
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// The kernel reads BTF, nobody reads the DWARF, and it is four fifths of the file.
    fn strip_dwarf(object: &[u8]) -> Result<Vec<u8>> {
        let mut builder = Builder::read(object).context("cannot parse the built object")?;
        for section in &mut builder.sections {
            let name = section.name.to_string();
            section.delete = name.starts_with(".debug_") || name.starts_with(".rel.debug_");
        }
        // LLVM keeps section names in the symbols' string table; this writer wants two tables.
        let names = builder.sections.add();
        names.name = ".shstrtab".into();
        names.sh_type = SHT_STRTAB;
        names.data = SectionData::SectionString;
        let mut stripped = Vec::new();
        builder.write(&mut stripped).context("cannot write the stripped object")?;
        Ok(stripped)
    }
}
