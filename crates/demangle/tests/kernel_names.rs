//! Kernel names against those who print them too: CUPTI, and `c++filt` of binutils.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::{Read as _, Write as _},
    path::Path,
    process::{Command, Stdio},
    thread,
};

use demangle::{MAX_DEMANGLED_BYTES, demangle};
use object::{Object as _, ObjectSymbol as _, read::elf::ElfFile64};
use serde_json::Value;

const TRACE: &str = "../../analysis/tests/it/data/vllm-h200.jsonl";
const CUPTI: &str = "../../analysis/tests/it/data/cupti-h200.json";

/// Where distributions have it.
const CXX_LIBRARIES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
    "/usr/lib64/libstdc++.so.6",
    "/usr/lib/libstdc++.so.6",
    "/lib64/libstdc++.so.6",
];

#[test]
fn kernels_are_called_as_cupti_calls_them() {
    let cupti: Value = serde_json::from_str(&fs::read_to_string(CUPTI).unwrap()).unwrap();
    let cupti: BTreeSet<&str> =
        cupti["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let mut kernels = 0;
    for name in names_of_trace() {
        let text = demangle(&name).expect(&name);
        assert!(cupti.contains(&*text), "{text}");
        kernels += 1;
    }
    assert_eq!(kernels, 20);
}

fn names_of_trace() -> BTreeSet<String> {
    let trace = fs::read_to_string(TRACE).unwrap();
    let line = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    trace
        .lines()
        .map(line)
        .filter(|line| line["func"] == "kernel")
        .filter_map(|line| line["name"].as_str().map(str::to_owned))
        .filter(|name| name.starts_with("_Z"))
        .collect()
}

/// Whatever this machine's C++ library exports: thousands of names, of which few look like kernels.
#[test]
fn names_are_as_this_machines_cxxfilt_prints_them() {
    let names = names_of_this_machine();
    let Some(expected) = cxxfilt(&names) else {
        assert!(env::var_os("REQUIRE_CXXFILT").is_none(), "no c++filt of binutils 2.40 or later");
        eprintln!("left out: no c++filt of binutils 2.40 or later");
        return;
    };
    let mut differing = BTreeMap::new();
    for (name, expected) in names.iter().zip(&expected) {
        let text = demangle(name).unwrap_or_else(|| name.clone());
        if text != *expected && expected.len() <= MAX_DEMANGLED_BYTES {
            differing.insert(name, (expected, text));
        }
    }
    eprintln!("{} names", names.len());
    assert!(differing.is_empty(), "{differing:#?}");
}

fn names_of_this_machine() -> Vec<String> {
    let mut names = names_of_trace();
    match CXX_LIBRARIES.iter().find(|library| Path::new(library).exists()) {
        Some(library) => names.extend(exported(Path::new(library))),
        None => eprintln!("left out: no libstdc++"),
    }
    names.into_iter().collect()
}

/// The mangled names of `library`, without those that Rust has mangled.
fn exported(library: &Path) -> Vec<String> {
    let library = fs::read(library).unwrap();
    let library: ElfFile64 = ElfFile64::parse(&*library).unwrap();
    let names = library.dynamic_symbols().filter_map(|symbol| symbol.name().ok());
    names.filter(|name| name.starts_with("_Z")).map(str::to_owned).collect()
}

/// What it prints for each; `None` if it is not there, or too old.
fn cxxfilt(names: &[String]) -> Option<Vec<String>> {
    let version = Command::new("c++filt").arg("--version").output().ok()?.stdout;
    if !is_new_enough(&String::from_utf8_lossy(&version)) {
        return None;
    }
    let mut child = Command::new("c++filt")
        // Without, it refuses names of more than 1024 bytes.
        .arg("--no-recurse-limit")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let text = names.join("\n") + "\n";
    let writer = thread::spawn(move || input.write_all(text.as_bytes()).unwrap());
    let mut output = String::new();
    child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    writer.join().unwrap();
    assert!(child.wait().unwrap().success());
    let lines: Vec<String> = output.lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), names.len());
    Some(lines)
}

/// `GNU c++filt (GNU Binutils for Debian) 2.40`
fn is_new_enough(version: &str) -> bool {
    let first = version.lines().next().unwrap_or("");
    let mut numbers = first.rsplit(' ').next().unwrap_or("").split('.').map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else { return false };
    first.starts_with("GNU c++filt") && (major, minor) >= (2, 40)
}
