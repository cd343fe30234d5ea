//! A machine of scripts: `k3s`, `podman`, `cargo` and the rest on PATH answer as the real ones do,
//! from files that a test lays out, and note how they were called.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::{Value, json};
use tempfile::TempDir;

/// What the scripts themselves need.
const REAL: [&str; 13] = [
    "sh",
    "cat",
    "cp",
    "mkdir",
    "rm",
    "grep",
    "sed",
    "tar",
    "sha256sum",
    "diff",
    "timeout",
    "touch",
    "env",
];

pub(crate) struct Machine {
    directory: TempDir,
}

impl Machine {
    /// Without any tool but those that every machine has.
    pub(crate) fn bare() -> Self {
        let machine = Self { directory: tempfile::tempdir().unwrap() };
        for part in ["bin", "state", "home", "target", "work"] {
            fs::create_dir(machine.path(part)).unwrap();
        }
        let path = std::env::var("PATH").unwrap();
        for name in REAL {
            let found = std::env::split_paths(&path).map(|part| part.join(name));
            let real = found.into_iter().find(|file| file.is_file()).expect("the tool is there");
            symlink(real, machine.path("bin").join(name)).unwrap();
        }
        machine.tool("sudo", "exec \"$@\"");
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
        machine.image("abc123");
        machine
    }

    /// The same, with everything deployed and at work.
    pub(crate) fn deployed() -> Self {
        let machine = Self::node();
        machine.state("namespace.json", &namespace("Active").to_string());
        machine.state("secret-hf-token.json", r#"{"kind":"Secret"}"#);
        machine.state("objects.json", &objects(&ready_pod(), true).to_string());
        machine.state("status.json", &status().to_string());
        machine.state(
            "configmap.json",
            r#"{"data":{"S3_BUCKET":"traces","S3_PREFIX":"k3s-vllm/","TRACE_DIR":"/traces"}}"#,
        );
        machine
    }

    pub(crate) fn path(&self, part: &str) -> PathBuf {
        self.directory.path().join(part)
    }

    /// `body` sees the arguments as `$*`, and what the test has laid out in `$STATE`.
    pub(crate) fn tool(&self, name: &str, body: &str) {
        let text = format!(
            "#!/bin/sh\nSTATE={}\necho \"{name} $*\" >>\"$STATE/calls\"\n{body}\n",
            self.path("state").display()
        );
        let file = self.path("bin").join(name);
        // It may stand in for a link to the real one, which a write would go through.
        if file.exists() {
            fs::remove_file(&file).unwrap();
        }
        fs::write(&file, text).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
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

    /// In order; of `sudo` only what it ran.
    pub(crate) fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.path("state").join("calls")).unwrap_or_default();
        calls.lines().filter(|call| !call.starts_with("sudo ")).map(str::to_owned).collect()
    }

    pub(crate) fn forget_calls(&self) {
        self.state("calls", "");
    }

    /// Everything but how the scripts were called, to compare before and after.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        let mut directories = vec![self.directory.path().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else if !path.ends_with("calls") {
                    files.push(path.display().to_string());
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

pub(crate) fn namespace(phase: &str) -> Value {
    json!({ "kind": "Namespace", "status": { "phase": phase } })
}

pub(crate) fn gpu_node(gpus: &str) -> Value {
    json!({
        "metadata": { "name": "gpu-node" },
        "status": {
            "conditions": [{ "type": "Ready", "status": "True" }],
            "capacity": { "nvidia.com/gpu": gpus }, "allocatable": { "nvidia.com/gpu": gpus },
            "nodeInfo": { "kubeletVersion": "v1.36.2+k3s1" },
        },
    })
}

pub(crate) fn ready_pod() -> Value {
    json!({
        "kind": "Pod", "metadata": { "name": "vllm-7d4b9c-xk2lp" },
        "status": {
            "phase": "Running",
            "conditions": [{ "type": "Ready", "status": "True" }],
            "initContainerStatuses":
                [{ "name": "ebpf-tracer", "ready": true, "state": { "running": {} } }],
            "containerStatuses": [{ "name": "vllm", "ready": true, "state": { "running": {} } }],
        },
    })
}

/// A pod with the tracer ready and vLLM as given.
pub(crate) fn pod_with_vllm(mut vllm: Value) -> Value {
    let mut pod = ready_pod();
    vllm["name"] = json!("vllm");
    pod["status"]["phase"] = json!("Pending");
    pod["status"]["conditions"] = json!([{ "type": "Ready", "status": "False" }]);
    pod["status"]["containerStatuses"] = json!([vllm]);
    pod
}

/// What the namespace holds.
pub(crate) fn objects(pod: &Value, is_ready: bool) -> Value {
    let ready = u32::from(is_ready);
    json!({ "items": [
        {
            "kind": "Deployment", "metadata": { "name": "vllm", "generation": 1 },
            "spec": { "replicas": 1, "template": { "spec": {
                "containers": [{ "name": "vllm", "image": "docker.io/vllm/vllm-openai:v0.20.2" }],
                "initContainers": [{ "name": "ebpf-tracer", "image": "docker.io/littleboy/ebpf-cuda-tracer:1" }],
            }}},
            "status": { "observedGeneration": 1, "updatedReplicas": 1, "readyReplicas": ready },
        },
        pod,
        { "kind": "Service", "metadata": { "name": "vllm-api" },
          "spec": { "ports": [{ "port": 8000, "nodePort": 30800 }] } },
    ]})
}

/// Of a sidecar that has traced vLLM and uploaded.
pub(crate) fn status() -> Value {
    json!({
        "phase": "recording", "run": "node_20261124T042800.642Z", "target_process": "python",
        "visible_processes": 4,
        "processes": [{
            "pid": 23, "command": "VLLM::EngineCore", "comm": "VLLM::EngineCor",
            "matched_by": "ancestor", "has_called": true, "is_running": true,
            "reason": "a target started it",
        }],
        "calls": { "recorded": 2, "dropped_at_ring": 0, "dropped_at_disk": 0 },
        "segments": { "closed": 1, "written_bytes": 900, "waiting": 0 },
        "uploads": { "destination": "s3://traces/k3s-vllm/", "stored": 1, "failing": null },
    })
}
