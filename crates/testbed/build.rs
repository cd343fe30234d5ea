//! Compiles the stand-in CUDA libraries and the C programs that call them; `src/libraries.rs`,
//! `src/signatures.rs`, `src/leaver.rs`, `src/contexts.rs` and `src/hostile.rs` embed them.

#[path = "build/signatures.rs"]
mod signatures;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=native");
    println!("cargo::rerun-if-changed=build");
    if env::var("CARGO_CFG_TARGET_ARCH").as_deref() != Ok("x86_64")
        || env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux")
    {
        println!(
            "cargo::error=the stand-in CUDA libraries are x86-64 Linux code: build for x86_64-unknown-linux-gnu"
        );
        return;
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let native = Path::new("native");
    let driver = Library {
        soname: "libcuda.so.1",
        functions: native.join("driver.def"),
        sources: sources(&native.join("driver")),
        version_script: None,
    };
    driver.build(Some("PROLOGUE_R550"), &out.join("libcuda.r550.so"));
    driver.build(Some("PROLOGUE_R580"), &out.join("libcuda.r580.so"));
    let runtime = Library {
        soname: "libcudart.so.13",
        functions: native.join("runtime.def"),
        sources: sources(&native.join("runtime")),
        version_script: Some("runtime.map"),
    };
    runtime.build(None, &out.join("libcudart.so"));
    build_signatures(&driver, &runtime, &out.join("signatures"));
    build_caller(&out, "leaver", "the program that leaves calls");
    build_caller(&out, "contexts", "the program that calls from odd contexts");
    build_caller(&out, "hostile", "the program that fills memory");
}

fn build_caller(out: &Path, name: &str, what: &str) {
    let mut compiler = compiler();
    // Frames are as the source says: no call takes the place of its caller's.
    compiler
        .args(["-O1", "-std=gnu11", "-Wall", "-Wextra", "-fno-optimize-sibling-calls", "-o"])
        .args([out.join(format!("standin-{name}")), format!("native/{name}.c").into()])
        .args([&out.join("libcuda.r550.so"), Path::new("-lpthread")]);
    run(compiler, what);
}

/// The same libraries with all functions of the default set, and the program that calls them.
fn build_signatures(driver: &Library, runtime: &Library, out: &Path) {
    let write = |name: &str, text: String| {
        let path = out.join(name);
        fs::write(&path, text).expect("the folder for outputs can be written");
        path
    };
    fs::create_dir_all(out).expect("the folder for outputs can be written");
    let native = Path::new("native/signatures");
    let parse = |name: &str| {
        let table = fs::read_to_string(native.join(name)).expect("the tables are beside this file");
        signatures::parse(&table)
    };
    let library = |like: &Library, name: &str, functions: &[signatures::Function]| Library {
        functions: write(&format!("{name}.def"), signatures::stubs(functions)),
        sources: vec![
            native.join("called.c"),
            write(&format!("{name}.c"), signatures::definitions(functions)),
        ],
        ..*like
    };
    let (of_driver, of_runtime) = (parse("driver.table"), parse("runtime.table"));
    let libraries = [out.join("libcuda.r550.so"), out.join("libcudart.so")];
    let driver = library(driver, "driver", &of_driver);
    driver.build(Some("PROLOGUE_R550"), &libraries[0]);
    driver.build(Some("PROLOGUE_R580"), &out.join("libcuda.r580.so"));
    library(runtime, "runtime", &of_runtime).build(None, &libraries[1]);

    let mut compiler = compiler();
    compiler
        .args(["-O1", "-std=gnu11", "-Wall", "-Wextra", "-Inative/signatures", "-o"])
        .args([out.join("standin-signatures"), native.join("caller.c")])
        .arg(write("calls.c", signatures::calls(&[&of_driver, &of_runtime])))
        .args(libraries);
    run(compiler, "the calls of the stand-in CUDA libraries");
}

struct Library {
    soname: &'static str,
    functions: PathBuf,
    sources: Vec<PathBuf>,
    version_script: Option<&'static str>,
}

impl Library {
    fn build(&self, prologue: Option<&str>, output: &Path) {
        let native = Path::new("native");
        let mut compiler = compiler();
        compiler
            .args(["-shared", "-fPIC", "-O2", "-std=gnu11", "-Wall", "-Wextra"])
            .args(["-Wno-unused-parameter", "-fvisibility=hidden", "-fno-omit-frame-pointer"])
            // One load per use of a thread-local: the libraries are measured.
            .args(["-fcf-protection=none", "-ftls-model=initial-exec"])
            .args(["-Inative", "-Inative/signatures", "-I."])
            .arg(format!("-DFUNCTIONS=\"{}\"", self.functions.display()))
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
        compiler.args(&self.sources);
        compiler.arg("-o").arg(output).args(["-lpthread", "-ldl"]);
        run(compiler, self.soname);
    }
}

fn run(mut compiler: Command, what: &str) {
    match compiler.status() {
        Ok(status) if status.success() => {}
        Ok(status) => {
            println!("cargo::error=cannot compile {what}: {compiler:?} ended with {status}");
        }
        Err(error) => println!(
            "cargo::error=cannot run the C compiler {}: {error}; install gcc or clang, or set CC",
            compiler.get_program().display()
        ),
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
