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
    use std::{env, fs, path::PathBuf, process::Command};

    use anyhow::{Context as _, Result, ensure};
    use aya_build::{Package, Toolchain};
    use object::{
        build::elf::{Builder, SectionData},
        elf::SHT_STRTAB,
    };

    /// Must agree with `xtask/src/pins.rs`; a test there compares the two.
    const TOOLCHAIN: &str = "nightly";

    pub(super) fn build() -> Result<PathBuf> {
        let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?)
            .parent()
            .context("the sidecar lies one level below the workspace")?
            .to_owned();
        remap_paths(&root)?;
        let root_dir = root.join("sidecar-ebpf");
        let root_dir = root_dir.to_str().context("the workspace path is not UTF-8")?;
        aya_build::build_ebpf(
            [Package { name: "sidecar-ebpf", root_dir, ..Default::default() }],
            Toolchain::Custom(TOOLCHAIN),
        )?;
        let out = PathBuf::from(env::var("OUT_DIR")?);
        let stripped = out.join("cuda-probes.o");
        let object = fs::read(out.join("cuda-probes")).context("cannot read the built object")?;
        fs::write(&stripped, strip_dwarf(&object)?).context("cannot write the stripped object")?;
        Ok(stripped)
    }

    /// Source paths reach the object through BTF line information. The inner, nightly cargo reads
    /// these variables; without them two checkouts would build two different objects.
    fn remap_paths(root: &std::path::Path) -> Result<()> {
        let cargo_home = match env::var_os("CARGO_HOME") {
            Some(home) => PathBuf::from(home),
            None => PathBuf::from(env::var_os("HOME").context("HOME is not set")?).join(".cargo"),
        };
        let mut flags = vec![
            format!("--remap-path-prefix={}=.", root.display()),
            format!("--remap-path-prefix={}=/rust", sysroot()?),
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

    fn sysroot() -> Result<String> {
        let output = Command::new("rustup")
            .args(["run", TOOLCHAIN, "rustc", "--print", "sysroot"])
            .output()
            .context("cannot run rustup")?;
        ensure!(output.status.success(), "the toolchain `{TOOLCHAIN}` is not installed");
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// The kernel reads BTF, nobody reads the DWARF, and it is four fifths of the file.
    fn strip_dwarf(object: &[u8]) -> Result<Vec<u8>> {
        let mut builder = Builder::read(object).context("cannot parse the built object")?;
        for section in builder.sections.iter_mut() {
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
