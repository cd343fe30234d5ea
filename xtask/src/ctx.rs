//! What every task shares: the shell at the workspace root, and steps with headings and times.

use std::{
    env,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use xshell::{Cmd, Shell};

pub(crate) struct Ctx {
    /// Stands at the workspace root.
    pub(crate) sh: Shell,
    started: Instant,
    /// GitHub folds what stands between its own markers.
    github: bool,
}

impl Ctx {
    pub(crate) fn new() -> Result<Self> {
        let sh = Shell::new().context("cannot read the current directory")?;
        sh.change_dir(workspace_root());
        Ok(Self { sh, started: Instant::now(), github: env::var_os("GITHUB_ACTIONS").is_some() })
    }

    /// Runs one part of a task under a heading, says how long it took, and names it in its error.
    pub(crate) fn step<T>(&self, name: &str, action: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.github {
            eprintln!("::group::{name}");
        } else {
            eprintln!("\n== {name}");
        }
        let started = Instant::now();
        let result = action();
        let outcome = if result.is_ok() { "done" } else { "failed" };
        eprintln!("== {name}: {outcome} in {}", seconds(started.elapsed()));
        if self.github {
            eprintln!("::endgroup::");
        }
        result.with_context(|| format!("step `{name}` failed"))
    }

    /// Time since the task began, for its closing line.
    pub(crate) fn elapsed(&self) -> String {
        seconds(self.started.elapsed())
    }
}

/// The directory that holds the workspace's `Cargo.toml`.
///
/// `cargo xtask` compiles this crate where it lies, so the path of that moment is the right one.
pub(crate) fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies one level below the workspace root")
        .to_owned()
}

/// Where cargo puts programs of a profile: `debug` or `release`.
pub(crate) fn program_directory(profile: &str) -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    workspace_root().join(target).join(profile)
}

/// Lets cargo run as if typed into a shell.
///
/// `cargo run` describes the package `xtask` to it in variables. A few build scripts look at the
/// same variables (`ring` does), so cargo would build these and all above them anew whenever it
/// is called by turns from a shell and from here.
pub(crate) fn as_from_shell(mut cargo: Cmd<'_>) -> Cmd<'_> {
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_")
            || ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_PRIMARY_PACKAGE"]
                .contains(&text.as_ref())
        {
            cargo = cargo.env_remove(name);
        }
    }
    cargo
}

fn seconds(elapsed: Duration) -> String {
    format!("{:.1} s", elapsed.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use xshell::cmd;

    use super::*;

    #[test]
    fn root_holds_the_lock_file() {
        assert!(workspace_root().join("Cargo.lock").is_file());
    }

    #[test]
    fn error_names_the_step() {
        let ctx = Ctx::new().unwrap();
        let error = ctx.step("format", || Result::<()>::Err(anyhow::anyhow!("ugly"))).unwrap_err();
        assert_eq!(format!("{error:#}"), "step `format` failed: ugly");
    }

    #[test]
    fn cargo_does_not_see_who_calls() {
        // cargo sets it for tests as it does for `cargo run`.
        assert_eq!(env::var("CARGO_PKG_NAME").unwrap(), "xtask");
        let ctx = Ctx::new().unwrap();
        let sh = &ctx.sh;
        let seen = as_from_shell(cmd!(sh, "env")).read().unwrap();
        assert!(!seen.contains("CARGO_PKG_"), "{seen}");
        assert!(seen.contains("PATH="), "{seen}");
    }
}
