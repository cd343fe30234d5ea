//! Trees like those of real images, and what is found in them.

use std::os::unix::fs::symlink;

use super::{cache::tests::cache_of, run_path::tests::executable, *};

const X86_64: u32 = 0x0303;

/// A file system below a temporary directory.
struct Tree(tempfile::TempDir);

impl Tree {
    fn of(files: &[&str]) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for file in files {
            tree.write(file, file.as_bytes());
        }
        tree
    }

    fn write(&self, path: &str, content: &[u8]) {
        let path = in_root(self.0.path(), Path::new(path));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn link(&self, path: &str, target: &str) {
        let path = in_root(self.0.path(), Path::new(path));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    fn find(&self, executable: &str, arguments: &str, environment: &str) -> Vec<(String, Reason)> {
        let [arguments, environment] = [arguments, environment].map(|text| text.replace(' ', "\0"));
        let process = Process {
            root: self.0.path(),
            executable: Path::new(executable),
            working_directory: Path::new("/srv"),
            arguments: arguments.as_bytes(),
            environment: environment.as_bytes(),
        };
        find(&process)
            .into_iter()
            .map(|found| (found.path.to_str().unwrap().to_owned(), found.reason))
            .collect()
    }
}

fn assert_found(found: &[(String, Reason)], expected: &[(&str, Reason)]) {
    let found: Vec<_> = found.iter().map(|(path, reason)| (path.as_str(), *reason)).collect();
    assert_eq!(found, expected);
}

#[test]
fn names_of_cuda_libraries() {
    for name in [
        "libcuda.so",
        "libcuda.so.1",
        "libcuda.so.580.65.06",
        "libcuda.so.550.163.01",
        "libcudart.so",
        "libcudart.so.11.0",
        "libcudart.so.12",
        "libcudart.so.13",
        "libcudart.so.12.8.90",
        "libcudart-9335f6a2.so.12",
        "libcudart-d0da41ae.so.11.0",
        "libcudart.faf08d9a.so.13",
    ] {
        assert!(is_cuda_library(name), "{name}");
    }
    for name in [
        "",
        "libcuda",
        "libcudadebugger.so.1",
        "libcudart_static.a",
        "libcudart.so.12.debug",
        "libcudart.so.",
        "libcuda.so.1.",
        "libcuda.so1",
        "libcuda.sources",
        "libcuda-.so.1",
        "libcudart-hello!.so.12",
        "libcudnn.so.9",
        "mylibcuda.so.1",
        "libcuda.so.1 (deleted)",
    ] {
        assert!(!is_cuda_library(name), "{name}");
    }
}

#[test]
fn variables_of_an_environment() {
    let environment = b"A=1\0LD_LIBRARY_PATH_OLD=/no\0LD_LIBRARY_PATH=/a:/b=c\0EMPTY=\0LAST=x";
    assert_eq!(variable(environment, "LD_LIBRARY_PATH").unwrap(), "/a:/b=c");
    assert_eq!(variable(environment, "EMPTY").unwrap(), "");
    assert_eq!(variable(environment, "LAST").unwrap(), "x");
    assert_eq!(variable(environment, "LD_LIBRARY"), None);
    assert_eq!(variable(b"", "A"), None);
}

#[test]
fn the_image_of_vllm() {
    // System Python, the driver mounted by the container toolkit, one wheel of each kind.
    let packages = "/usr/local/lib/python3.12/dist-packages";
    let runtime = format!("{packages}/nvidia/cu13/lib/libcudart.so.13");
    let older = format!("{packages}/nvidia/cuda_runtime/lib/libcudart.so.12");
    let bundled = format!("{packages}/torchvision.libs/libcudart.faf08d9a.so.13");
    let torch = format!("{packages}/torch/lib/libcudart-9335f6a2.so.12");
    let tree = Tree::of(&[
        "/usr/bin/python3.12",
        "/usr/lib/x86_64-linux-gnu/libcuda.so.580.65.06",
        "/usr/lib/x86_64-linux-gnu/libc.so.6",
        &runtime,
        &older,
        &bundled,
        &torch,
        &format!("{packages}/nvidia/cublas/lib/libcudart.so.13"),
        &format!("{packages}/torch/lib/libtorch_cuda.so"),
        &format!("{packages}/torch/lib/libcudart_static.a"),
    ]);
    tree.link("/usr/lib/x86_64-linux-gnu/libcuda.so.1", "libcuda.so.580.65.06");
    tree.link("/usr/lib/x86_64-linux-gnu/libcuda.so", "libcuda.so.1");
    tree.link("/lib", "usr/lib");
    tree.write(
        "/etc/ld.so.cache",
        &cache_of(&[(X86_64, "libcuda.so.1", "/lib/x86_64-linux-gnu/libcuda.so.1")]),
    );
    let found = tree.find("/usr/bin/python3.12", "python3 -m vllm", "PATH=/usr/bin HOME=/root");
    assert_found(
        &found,
        &[
            ("/usr/lib/x86_64-linux-gnu/libcuda.so.580.65.06", Reason::Cache),
            (&runtime, Reason::Wheel),
            (&older, Reason::Wheel),
            (&torch, Reason::Wheel),
            (&bundled, Reason::Wheel),
        ],
    );
}

#[test]
fn the_order_is_that_of_the_loader() {
    let tree = Tree::of(&[
        "/opt/app/lib/libcudart.so.12",
        "/opt/environment/libcuda.so.1",
        "/opt/cached/libcuda.so.1",
        "/usr/local/nvidia/lib64/libcuda.so.550.1",
        "/usr/local/cuda/compat/libcuda.so.1",
    ]);
    tree.write(
        "/etc/ld.so.cache",
        &cache_of(&[(X86_64, "libcuda.so.1", "/opt/cached/libcuda.so.1")]),
    );
    let environment = "LD_LIBRARY_PATH=/opt/environment";
    let rest = [
        ("/opt/cached/libcuda.so.1", Reason::Cache),
        ("/usr/local/nvidia/lib64/libcuda.so.550.1", Reason::DefaultDirectory),
        ("/usr/local/cuda/compat/libcuda.so.1", Reason::DefaultDirectory),
    ];
    let by_environment = ("/opt/environment/libcuda.so.1", Reason::LdLibraryPath);
    let by_executable = ("/opt/app/lib/libcudart.so.12", Reason::RunPath);

    let runpath = executable("/lib64/ld.so", None, Some("$ORIGIN/../lib"));
    tree.write("/opt/app/bin/program", &runpath);
    let found = tree.find("/opt/app/bin/program", "program", environment);
    assert_found(&found, &[&[by_environment, by_executable], &rest[..]].concat());

    let rpath = executable("/lib64/ld.so", Some("${ORIGIN}/../lib"), None);
    tree.write("/opt/app/bin/program", &rpath);
    let found = tree.find("/opt/app/bin/program", "program", environment);
    assert_found(&found, &[&[by_executable, by_environment], &rest[..]].concat());

    // The older kind is void beside the newer.
    let both = executable("/lib64/ld.so", Some("$ORIGIN/../lib"), Some("/none"));
    tree.write("/opt/app/bin/program", &both);
    let found = tree.find("/opt/app/bin/program", "program", environment);
    assert_found(&found, &[&[by_environment], &rest[..]].concat());
}

#[test]
fn lists_of_directories() {
    let process = Process {
        root: Path::new("/"),
        executable: Path::new("/opt/bin/program"),
        working_directory: Path::new("/srv"),
        arguments: b"",
        environment: b"",
    };
    let expanded =
        |list: &str| directories(OsStr::new(list), Some(Path::new("/opt/bin")), &process);
    for (list, expected) in [
        ("", vec![]),
        ("/a:/b;/c", vec!["/a", "/b", "/c"]),
        ("/a:", vec!["/a", "/srv"]),
        ("here:./there", vec!["/srv/here", "/srv/./there"]),
        ("$ORIGIN/../lib", vec!["/opt/bin/../lib"]),
        ("${ORIGIN}:/x/$PLATFORM", vec!["/opt/bin", "/x/x86_64"]),
        ("/usr/$LIB", vec!["/usr/lib64", "/usr/lib/x86_64-linux-gnu"]),
        ("/$OTHER/$", vec!["/$OTHER/$"]),
    ] {
        let expected: Vec<_> = expected.into_iter().map(PathBuf::from).collect();
        assert_eq!(expanded(list), expected, "{list}");
    }
}

#[test]
fn the_loader_s_own_directory_and_the_toolkit_are_searched() {
    let tree = Tree::of(&[
        "/nix/store/glibc/lib/ld-linux-x86-64.so.2",
        "/nix/store/glibc/lib/libcuda.so.1",
        "/opt/cuda-13/lib64/libcudart.so.13",
    ]);
    tree.link("/loader", "/nix/store/glibc/lib/ld-linux-x86-64.so.2");
    tree.write("/bin/program", &executable("/loader", None, None));
    assert_found(
        &tree.find("/bin/program", "program", "CUDA_HOME=/opt/cuda-13"),
        &[
            ("/nix/store/glibc/lib/libcuda.so.1", Reason::DefaultDirectory),
            ("/opt/cuda-13/lib64/libcudart.so.13", Reason::DefaultDirectory),
        ],
    );
}

#[test]
fn virtual_environments_are_found_however_they_were_started() {
    let library = "/opt/venv/lib/python3.12/site-packages/nvidia/cu13/lib/libcudart.so.13";
    let tree = Tree::of(&["/usr/bin/python3.12", "/opt/venv/bin/vllm", "/srv/model", library]);
    tree.link("/opt/venv/bin/python3", "/usr/bin/python3.12");
    tree.link("/opt/venv/lib64", "lib");
    let expected = [(library, Reason::Wheel)];
    for (arguments, environment) in [
        ("python3 -m vllm", "VIRTUAL_ENV=/opt/venv"),
        ("python3 -m vllm", "PATH=/usr/bin:/opt/venv/bin"),
        ("/opt/venv/bin/python3 /opt/venv/bin/vllm serve", ""),
        ("../opt/venv/bin/python3 -m vllm", ""),
        ("python3 /opt/venv/bin/vllm serve", ""),
        ("python3", "PYTHONPATH=/none:/opt/venv/lib/python3.12/site-packages"),
        ("python3", "CONDA_PREFIX=/opt/venv"),
    ] {
        let found = tree.find("/usr/bin/python3.12", arguments, environment);
        assert_found(&found, &expected);
    }
    // Nothing points to the environment.
    assert_found(&tree.find("/usr/bin/python3.12", "python3", "PATH=/usr/bin"), &[]);
}

#[test]
fn packages_of_the_user_are_found() {
    let library =
        "/root/.local/lib/python3.11/site-packages/nvidia/cuda_runtime/lib/libcudart.so.12";
    let tree = Tree::of(&["/usr/bin/python3.11", library]);
    let found = tree.find("/usr/bin/python3.11", "python3", "HOME=/root");
    assert_found(&found, &[(library, Reason::Wheel)]);
}

#[test]
fn a_file_is_named_once_and_other_things_never() {
    let tree = Tree::of(&["/usr/lib64/libcuda.so.550.1", "/host/libcuda.so.1"]);
    tree.link("/lib64", "/usr/lib64");
    tree.link("/usr/lib64/libcuda.so.1", "libcuda.so.550.1");
    // Dangling, a circle, a directory, and a link that would lead out.
    tree.link("/usr/lib64/libcudart.so.11.0", "libcudart.so.11.8");
    tree.link("/usr/lib64/libcudart.so.12", "libcudart.so.12");
    fs::create_dir(tree.0.path().join("usr/lib64/libcudart.so.13")).unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("libcuda.so.9"), "").unwrap();
    tree.link("/usr/lib64/libcuda.so.9", outside.path().join("libcuda.so.9").to_str().unwrap());
    // A second name of the same file.
    fs::hard_link(
        tree.0.path().join("usr/lib64/libcuda.so.550.1"),
        tree.0.path().join("usr/lib64/libcuda.so"),
    )
    .unwrap();
    let found = tree.find("/bin/program", "program", "LD_LIBRARY_PATH=/lib64:/usr/lib64");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].1, Reason::LdLibraryPath);
}

#[test]
fn an_empty_or_missing_root_holds_nothing() {
    assert_found(&Tree::of(&[]).find("/usr/bin/python3", "python3", "LD_LIBRARY_PATH=/a:"), &[]);
    let process = Process {
        root: Path::new("/proc/0/root"),
        executable: Path::new(""),
        working_directory: Path::new(""),
        arguments: b"\0\0",
        environment: b"PATH\0=\0HOME=",
    };
    assert_eq!(find(&process), []);
}

/// What would block whoever opens it, for as long as nobody writes.
fn make_fifo(tree: &Tree, path: &str) {
    let path = in_root(tree.0.path(), Path::new(path));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RUSR).unwrap();
}

#[test]
fn a_fifo_in_the_place_of_any_file_blocks_nobody() {
    let tree = Tree::of(&["/opt/lib/libcudart.so.12"]);
    for path in [
        "/etc/ld.so.cache",
        "/app/server",
        "/opt/lib/libcuda.so.1",
        "/usr/lib/libcuda.so.1",
        "/usr/lib/python3.12/site-packages/torch/lib/libcudart.so.13",
        "/usr/lib/python3.11/site-packages",
        "/venv/pyvenv.cfg",
        "/venv/lib",
    ] {
        make_fifo(&tree, path);
    }
    // Links lead to it as well, and a device or nothing at all is no better.
    tree.link("/usr/lib64/libcuda.so.1", "/opt/lib/libcuda.so.1");
    tree.link("/usr/lib64/libcudart.so.12", "/nowhere");
    let environment = "LD_LIBRARY_PATH=/opt/lib:/opt/lib/libcuda.so.1 VIRTUAL_ENV=/venv";
    let found = tree.find("/app/server", "/app/server", environment);
    assert_found(&found, &[("/opt/lib/libcudart.so.12", Reason::LdLibraryPath)]);
}

#[test]
fn a_directory_that_is_named_six_thousand_times_is_listed_once() {
    let tree = Tree::of(&["/data/libcuda.so.1", "/opt/lib/libcudart.so.12"]);
    for file in 0..20_000 {
        tree.write(&format!("/data/{file}"), b"");
    }
    // Each a name of its own, in all the room that an environment variable has.
    let names: Vec<String> = (1..6000)
        .map(|slashes| format!("/data{}", "/.".repeat(slashes % 4)))
        .chain((0..3000).map(|_| "/data/../data".to_owned()))
        .collect();
    let environment = format!("LD_LIBRARY_PATH={}:/opt/lib", names.join(":"));
    let found = tree.find("/app/server", "", &environment);
    let expected = ["/data/libcuda.so.1", "/opt/lib/libcudart.so.12"];
    assert_found(&found, &expected.map(|path| (path, Reason::LdLibraryPath)));
}

#[test]
fn no_more_libraries_are_found_than_anyone_has() {
    let tree = Tree::of(&[]);
    for version in 0..2000 {
        tree.write(&format!("/data/libcuda.so.{version}"), b"");
    }
    let found = tree.find("/app/server", "", "LD_LIBRARY_PATH=/data").len();
    assert!((100..1000).contains(&found), "{found}");
}
