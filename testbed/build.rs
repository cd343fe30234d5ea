//! Compiles the stand-in CUDA libraries; `src/libraries.rs` embeds them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=native");
    if env::var("CARGO_CFG_TARGET_ARCH").as_deref() != Ok("x86_64")
        || env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux")
    {
        println!(
            "cargo::error=the stand-in CUDA libraries are x86-64 Linux code: build for x86_64-unknown-linux-gnu"
        );
        return;
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let driver = Library {
        soname: "libcuda.so.1",
        functions: "driver.def",
        sources: "driver",
        version_script: None,
    };
    driver.build(Some("PROLOGUE_R550"), &out.join("libcuda.r550.so"));
    driver.build(Some("PROLOGUE_R580"), &out.join("libcuda.r580.so"));
    let runtime = Library {
        soname: "libcudart.so.13",
        functions: "runtime.def",
        sources: "runtime",
        version_script: Some("runtime.map"),
    };
    runtime.build(None, &out.join("libcudart.so"));
}

struct Library {
    soname: &'static str,
    functions: &'static str,
    sources: &'static str,
    version_script: Option<&'static str>,
}

impl Library {
    fn build(&self, prologue: Option<&str>, output: &Path) {
        let native = Path::new("native");
        let mut compiler = compiler();
        compiler
            .args(["-shared", "-fPIC", "-O2", "-std=gnu11", "-Wall", "-Wextra"])
            .args(["-fvisibility=hidden", "-fno-omit-frame-pointer", "-fcf-protection=none"])
            // One load per use of a thread-local: the libraries are measured.
            .arg("-ftls-model=initial-exec")
            .arg("-Inative")
            .arg(format!("-DFUNCTIONS=\"{}\"", self.functions))
            .arg(format!("-DSONAME=\"{}\"", self.soname))
            .arg(format!("-Wl,-soname,{}", self.soname))
            // `nodelete`: counts outlive a `dlclose`, so that the report at exit is whole.
            .args(["-Wl,-Bsymbolic", "-Wl,-z,nodelete", "-Wl,-z,noexecstack", "-s"]);
        if let Some(prologue) = prologue {
            compiler.arg(format!("-D{prologue}"));
        }
        if let Some(script) = self.version_script {
            compiler.arg(format!("-Wl,--version-script={}", native.join(script).display()));
        }
        compiler.args(["stubs.S", "counts.c", "functions.c"].map(|name| native.join(name)));
        compiler.args(sources(&native.join(self.sources)));
        compiler.arg("-o").arg(output).args(["-lpthread", "-ldl"]);
        match compiler.status() {
            Ok(status) if status.success() => {}
            Ok(status) => println!(
                "cargo::error=cannot compile {}: {compiler:?} ended with {status}",
                self.soname
            ),
            Err(error) => println!(
                "cargo::error=cannot run the C compiler {}: {error}; install gcc or clang, or set CC",
                compiler.get_program().display()
            ),
        }
    }
}

/// The compiler that `CC` and the target ask for. Only its name comes from `cc`: it builds archives, not shared libraries.
fn compiler() -> Command {
    Command::new(cc::Build::new().cargo_metadata(false).get_compiler().path())
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut sources: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the sources are beside this file")
        .map(|entry| entry.expect("a folder of sources can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "c"))
        .collect();
    sources.sort();
    sources
}
