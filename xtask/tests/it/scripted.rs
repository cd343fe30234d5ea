//! A machine of scripts: `k3s`, `podman`, `cargo` and the rest on PATH answer as the real ones do,
//! from files that a test lays out, and note how they were called.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::json;
use tempfile::TempDir;

use crate::objects::{gpu_node, namespace, objects, ready_pod, status};

/// What scripts use, and xtask where it says so in [`PASSED_ON`]. xtask finds nothing else of the machine that
/// runs the tests: no `rm`, no `install`, no `apt-get`, unless a script stands in for it.
const REAL: [&str; 13] = [
    "base64",
    "cat",
    "chmod",
    "cp",
    "cut",
    "env",
    "grep",
    "mkdir",
    "rm",
    "sed",
    "sha256sum",
    "tar",
    "touch",
];

/// These only read, and answer as they are.
const PASSED_ON: [&str; 4] = ["base64", "grep", "sha256sum", "tar"];

pub(crate) struct Machine {
    directory: TempDir,
}

impl Machine {
    /// Without any tool but those that every machine has.
    pub(crate) fn bare() -> Self {
        let machine = Self { directory: tempfile::tempdir().unwrap() };
        for part in ["bin", "real", "state", "home", "target", "work"] {
            fs::create_dir(machine.path(part)).unwrap();
        }
        let path = std::env::var("PATH").unwrap();
        for name in REAL {
            let found = std::env::split_paths(&path).map(|part| part.join(name));
            let real = found.into_iter().find(|file| file.is_file()).expect("the tool is there");
            symlink(real, machine.path("real").join(name)).unwrap();
        }
        for name in PASSED_ON {
            machine.tool(name, &format!("exec {name} \"$@\""));
        }
        // What they run is found where xtask finds it.
        let bin = machine.path("bin");
        machine.tool("sh", &format!("PATH={} exec /bin/sh \"$@\"", bin.display()));
        machine.tool("env", &format!("exec env PATH={} \"$@\"", bin.display()));
        machine.tool("sudo", &format!("PATH={}; exec \"$@\"", bin.display()));
        machine.forget_calls();
        machine
    }

    /// A K3s node with a driver, podman and the sources, where nothing is deployed yet.
    pub(crate) fn node() -> Self {
        let machine = Self::bare();
        machine.tool("k3s", include_str!("scripted/k3s.sh"));
        machine.tool("cargo", include_str!("scripted/cargo.sh"));
        machine.tool("podman", include_str!("scripted/podman.sh"));
        machine.state("nodes.json", &json!({ "items": [gpu_node("1")] }).to_string());
        machine.state("objects.json", r#"{"items":[]}"#);
        machine.state("events.json", r#"{"items":[]}"#);
        machine.state("status.json", &status().to_string());
        machine.image("abc123");
        machine
    }

    /// The same, with everything deployed and at work.
    pub(crate) fn deployed() -> Self {
        let machine = Self::node();
        machine.state("namespace.json", &namespace("Active").to_string());
        machine.state("deployment", "");
        machine.state("service", "");
        machine.state("stored-hf-token", "token=\"hf_earlier\"\n");
        machine.state("objects.json", &objects(&ready_pod(), true).to_string());
        machine.state(
            "configmap.json",
            r#"{"data":{"S3_BUCKET":"traces","S3_PREFIX":"k3s-vllm/","TRACE_DIR":"/traces"}}"#,
        );
        machine
    }

    pub(crate) fn path(&self, part: &str) -> PathBuf {
        self.directory.path().join(part)
    }

    /// `body` sees the arguments as `$*`, what the test has laid out in `$STATE`, the other tools in `$BIN`,
    /// and on its own PATH the real ones.
    pub(crate) fn tool(&self, name: &str, body: &str) {
        let [state, bin, real] = ["state", "bin", "real"].map(|part| self.path(part));
        let text = format!(
            "#!/bin/sh\nSTATE={} BIN={} PATH={}\nprintf '%s\\n' \"{name} $*\" >>\"$STATE/calls\"\n{body}\n",
            state.display(),
            bin.display(),
            real.display()
        );
        let file = bin.join(name);
        // Written by a process of its own: while this one had the file open, a process that another test
        // starts would hold it open too, and the kernel executes no file that is open for writing.
        let mut writer = Command::new("/bin/sh")
            .args(["-c", "cat >\"$0\" && chmod 755 \"$0\""])
            .arg(&file)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        writer.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(writer.wait().unwrap().success());
    }

    /// What xtask runs is a script of this machine, and not something that a link leads to.
    #[track_caller]
    fn assert_sealed(&self) {
        for entry in fs::read_dir(self.path("bin")).unwrap() {
            let entry = entry.unwrap();
            assert!(
                entry.file_type().unwrap().is_file(),
                "{} is no script",
                entry.path().display()
            );
        }
    }

    pub(crate) fn remove_tool(&self, name: &str) {
        fs::remove_file(self.path("bin").join(name)).unwrap();
    }

    pub(crate) fn state(&self, name: &str, content: &str) {
        fs::write(self.path("state").join(name), content).unwrap();
    }

    /// What `podman save` writes: an archive with nothing but what is read of it.
    fn image(&self, config: &str) {
        let manifest =
            json!([{ "Config": format!("{config}.json"), "RepoTags": [], "Layers": [] }]);
        self.state("manifest.json", &manifest.to_string());
        let state = self.path("state");
        let status = Command::new("tar")
            .arg("-C")
            .arg(&state)
            .arg("-cf")
            .arg(state.join("image.tar"))
            .arg("manifest.json")
            .status();
        assert!(status.unwrap().success());
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        self.run_with(arguments, &[])
    }

    pub(crate) fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        self.run_command(command.args(arguments), variables)
    }

    /// On this machine and with its variables only.
    pub(crate) fn run_command(&self, command: &mut Command, variables: &[(&str, &str)]) -> Run {
        self.assert_sealed();
        let output = command
            .current_dir(self.path("work"))
            .env_clear()
            .env("PATH", self.path("bin"))
            .env("HOME", self.path("home"))
            // No cluster of this machine.
            .env("KUBECONFIG", self.path("home").join("kubeconfig"))
            .env("CARGO_TARGET_DIR", self.path("target"))
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        Run::new(output, self.directory.path())
    }

    /// In order; of `sudo` and `env` only what they ran.
    pub(crate) fn calls(&self) -> Vec<String> {
        let calls = self.read("calls");
        let is_wrapper = |call: &&str| call.starts_with("sudo ") || call.starts_with("env ");
        calls.lines().filter(|call| !is_wrapper(call)).map(str::to_owned).collect()
    }

    pub(crate) fn has_called(&self, part: &str) -> bool {
        self.calls().iter().any(|call| call.contains(part))
    }

    pub(crate) fn read(&self, state: &str) -> String {
        fs::read_to_string(self.path("state").join(state)).unwrap_or_default()
    }

    pub(crate) fn forget_calls(&self) {
        self.state("calls", "");
    }

    /// Every file with its content, but for what scripts note of their calls: to compare before and after.
    pub(crate) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let notes = ["calls", "complaint"].map(|name| self.path("state").join(name));
        let mut files = Vec::new();
        let mut directories = vec![self.directory.path().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else if !notes.contains(&path) {
                    let content = fs::read(&path).unwrap();
                    files.push((path, content));
                }
            }
        }
        files.sort();
        files
    }
}

/// What a task has printed, with what differs from run to run replaced.
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    fn new(output: Output, directory: &Path) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let text = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes)
                .replace(&directory.display().to_string(), "[MACHINE]")
                .replace(&root.display().to_string(), "[ROOT]")
                // As an ordinary user.
                .replace("sudo env ", "")
                .replace("sudo ", "")
        };
        Self {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    #[track_caller]
    pub(crate) fn fails_with(&self, parts: &[&str]) {
        assert_eq!(self.code, Some(1), "{}", self.stderr);
        let (_, error) =
            self.stderr.split_at(self.stderr.rfind("\nerror: ").map_or(0, |start| start + 1));
        assert!(error.starts_with("error: "), "{}", self.stderr);
        for part in parts {
            assert!(error.contains(part), "no {part:?} in:\n{}", self.stderr);
        }
    }

    #[track_caller]
    pub(crate) fn succeeds(&self) {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
    }
}
