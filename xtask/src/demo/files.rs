//! Where the demo keeps what: everything lies in one directory.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::pod;
use tasks::ctx::{program_directory, workspace_root};

/// The mark of a demo's directory, and how to reach what runs.
const STATE: &str = "demo.json";

/// Where a demo goes if nothing else is said.
pub(super) const USUAL: &str = "target/demo";

/// The directory of one demo.
pub(super) struct Files {
    root: PathBuf,
    programs: PathBuf,
    tracer: PathBuf,
}

/// What `verify --demo` needs to know of a demo.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct State {
    /// The `cargo xtask demo` that owns the directory.
    pub(super) demo: u32,
    /// Of S3.
    pub(super) endpoint: String,
    /// Of vLLM.
    pub(super) address: String,
    pub(super) sidecar: u32,
    /// Where the sidecar answers HTTP.
    pub(super) sidecar_http: String,
    pub(super) vllm: u32,
}

impl Files {
    /// Claims the directory, and makes what a demo needs in it.
    pub(super) fn create(root: PathBuf) -> Result<Self> {
        claim(&root)?;
        let files = Self::open(root);
        for directory in [files.traces(), files.s3(), files.counts(), files.logs(), files.results()]
        {
            fs::create_dir_all(&directory)
                .with_context(|| format!("cannot create {}", directory.display()))?;
        }
        Ok(files)
    }

    /// A directory that a demo has made.
    pub(super) fn open(root: PathBuf) -> Self {
        let programs = program_directory("debug");
        Self { root, tracer: programs.join("ebpf-cuda-tracer"), programs }
    }

    /// Of the sidecar, another program than usual.
    pub(super) fn with_tracer(self, tracer: PathBuf) -> Self {
        Self { tracer, ..self }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    pub(super) fn tracer(&self) -> PathBuf {
        self.tracer.clone()
    }

    /// The stand-in vLLM under the name of the interpreter that runs the real one.
    pub(super) fn link_python(&self) -> Result<PathBuf> {
        let link = self.python();
        symlink(self.program("standin-vllm"), &link)
            .with_context(|| format!("cannot create {}", link.display()))?;
        Ok(link)
    }

    pub(super) fn python(&self) -> PathBuf {
        self.root.join("python3")
    }

    pub(super) fn libraries(&self) -> PathBuf {
        self.root.join("lib")
    }

    pub(super) fn traces(&self) -> PathBuf {
        self.root.join("traces")
    }

    pub(super) fn s3(&self) -> PathBuf {
        self.root.join("s3")
    }

    pub(super) fn counts(&self) -> PathBuf {
        self.root.join("counts")
    }

    pub(super) fn results(&self) -> PathBuf {
        self.root.join("loadtest")
    }

    pub(super) fn downloaded(&self) -> PathBuf {
        self.root.join("downloaded")
    }

    pub(super) fn comparison(&self) -> PathBuf {
        self.root.join("comparison.json")
    }

    pub(super) fn html_report(&self) -> PathBuf {
        self.root.join("report.html")
    }

    pub(super) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.logs().join(format!("{name}.log"))
    }
}

/// An empty directory for a demo: an earlier one in it is removed, anything else is left alone.
pub(super) fn claim(root: &Path) -> Result<()> {
    let shown = root.display();
    let is_empty = fs::read_dir(root).map_or(true, |mut entries| entries.next().is_none());
    if !is_empty {
        let Ok(State { demo, .. }) = State::read(root) else {
            bail!("{shown} is not empty and holds no demo: choose another --out");
        };
        // `ci` runs one demo after the other in one process.
        if demo != std::process::id() && process_runs(demo, "xtask") {
            bail!("a demo is running in {shown} (pid {demo}): choose another --out");
        }
        pod::remove_leftovers(root)?;
        fs::remove_dir_all(root)
            .with_context(|| format!("cannot remove the earlier demo in {shown}"))?;
    }
    fs::create_dir_all(root).with_context(|| format!("cannot create {shown}"))?;
    State { demo: std::process::id(), ..State::default() }.write(root)
}

/// `out` as the caller's directory sees it, or `usual` in the workspace.
pub(super) fn directory(out: Option<&Path>, usual: &str) -> Result<PathBuf> {
    Ok(match out {
        Some(out) => {
            std::env::current_dir().context("cannot tell the current directory")?.join(out)
        }
        None => workspace_root().join(usual),
    })
}

impl State {
    pub(super) fn write(&self, root: &Path) -> Result<()> {
        fs::write(root.join(STATE), serde_json::to_string_pretty(self)?)
            .context("cannot write the state of the demo")
    }

    pub(super) fn read(root: &Path) -> Result<Self> {
        let path = root.join(STATE);
        let text = fs::read_to_string(&path).with_context(|| {
            format!("cannot read {}: run `cargo xtask demo` first", path.display())
        })?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} tells of no demo that started", path.display()))
    }
}

/// Whether a process of this name runs; one that has ended but was not reaped does not.
pub(super) fn process_runs(pid: u32, name: &str) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let Some((before, after)) = stat.rsplit_once(')') else { return false };
    // The kernel cuts names to 15 bytes.
    let is_named = before.split_once('(').is_some_and(|(_, comm)| name.starts_with(comm));
    is_named && !after.trim_start().starts_with(['Z', 'X'])
}
