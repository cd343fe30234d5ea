//! What every task shares: the shell at the workspace root, steps with headings and times, and the
//! loop of those that change a machine or a cluster: look, act, look again.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use xshell::{Cmd, Shell};

use crate::command::{Command, in_short};

/// Between two looks at what takes its time.
const PAUSE: Duration = Duration::from_secs(2);

pub struct Ctx {
    /// Stands at the workspace root.
    pub sh: Shell,
    /// Commands that change something are shown, not run.
    pub dry_run: bool,
    started: Instant,
    /// GitHub folds what stands between its own markers.
    github: bool,
}

/// What a look has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Nothing to do; the text says what is there.
    Met(String),
    /// Something to do; the text says why.
    Unmet(String),
}

impl Ctx {
    pub fn new(dry_run: bool) -> Result<Self> {
        let sh = Shell::new().context("cannot read the current directory")?;
        sh.change_dir(workspace_root());
        let github = env::var_os("GITHUB_ACTIONS").is_some();
        Ok(Self { sh, dry_run, started: Instant::now(), github })
    }

    /// Runs one part of a task under a heading, says how long it took, and names it in its error.
    pub fn step<T>(&self, name: &str, action: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.github {
            eprintln!("::group::{name}");
        } else {
            eprintln!("\n== {name}");
        }
        let started = Instant::now();
        let result = action();
        let outcome = if result.is_ok() { "done" } else { "failed" };
        if !self.dry_run {
            eprintln!("== {name}: {outcome} in {}", seconds(started.elapsed()));
        }
        if self.github {
            eprintln!("::endgroup::");
        }
        result.with_context(|| format!("step `{name}` failed"))
    }

    /// Looks, acts if that is needed, and looks again to be sure that it helped.
    ///
    /// A dry run shows what would be done also where a look fails: on a bare machine most do.
    pub fn converge(
        &self,
        name: &str,
        look: impl Fn() -> Result<State>,
        act: &[Command],
    ) -> Result<()> {
        self.converge_within(Duration::ZERO, name, look, act)
    }

    /// The same for what takes its time: after acting, looks until it has helped or the time is up.
    pub fn converge_within(
        &self,
        limit: Duration,
        name: &str,
        look: impl Fn() -> Result<State>,
        act: &[Command],
    ) -> Result<()> {
        let look = || look().with_context(|| format!("cannot look at {name}"));
        let found = match look() {
            Err(error) if self.dry_run => State::Unmet(format!("not known: {}", in_short(&error))),
            found => found?,
        };
        match found {
            State::Met(found) => {
                eprintln!("ok      {name}: {found}");
                return Ok(());
            }
            State::Unmet(why) => eprintln!("change  {name}: {why}"),
        }
        for command in act {
            self.change(command)?;
        }
        if self.dry_run {
            return Ok(());
        }
        let acted = Instant::now();
        loop {
            match look()? {
                State::Met(found) => {
                    eprintln!("done    {name}: {found}");
                    return Ok(());
                }
                State::Unmet(why) if acted.elapsed() >= limit => {
                    bail!("{name}: still {why}, {} s after the change", acted.elapsed().as_secs())
                }
                State::Unmet(_) => thread::sleep(PAUSE.min(limit)),
            }
        }
    }

    /// Runs a command that changes something; in a dry run it is only shown.
    pub fn change(&self, command: &Command) -> Result<()> {
        if self.dry_run {
            eprintln!("would run: {}", command.shown());
            return Ok(());
        }
        command.run()
    }

    /// Time since the task began, for its closing line.
    pub fn elapsed(&self) -> String {
        seconds(self.started.elapsed())
    }
}

/// The directory that holds the workspace's `Cargo.toml`.
///
/// `cargo xtask` compiles this crate where it lies, so the path of that moment is the right one.
pub fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("crates/tasks lies two levels below the workspace root")
        .to_owned()
}

/// Where cargo puts programs of a profile: `debug` or `release`.
pub fn program_directory(profile: &str) -> PathBuf {
    target_directory().join(profile)
}

/// Everything that is built lies below.
pub fn target_directory() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    workspace_root().join(target)
}

/// Lets cargo run as if typed into a shell.
///
/// `cargo run` describes the package that it runs to it in variables. A few build scripts look at the
/// same variables (`ring` does), so cargo would build these and all above them anew whenever it
/// is called by turns from a shell and from here.
pub fn as_from_shell(cargo: Cmd<'_>) -> Cmd<'_> {
    variables_of_cargo().into_iter().fold(cargo, Cmd::env_remove)
}

/// The variables by which `cargo run` describes this package to it.
pub(crate) fn variables_of_cargo() -> Vec<OsString> {
    let is_of_cargo = |name: &OsString| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_")
            || ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_PRIMARY_PACKAGE"]
                .contains(&name.as_ref())
    };
    env::vars_os().map(|(name, _)| name).filter(is_of_cargo).collect()
}

fn seconds(elapsed: Duration) -> String {
    format!("{:.1} s", elapsed.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use xshell::cmd;

    use super::*;

    #[test]
    fn root_holds_the_lock_file() {
        assert!(workspace_root().join("Cargo.lock").is_file());
    }

    #[test]
    fn error_names_the_step() {
        let ctx = Ctx::new(false).unwrap();
        let error = ctx.step("format", || Result::<()>::Err(anyhow::anyhow!("ugly"))).unwrap_err();
        assert_eq!(format!("{error:#}"), "step `format` failed: ugly");
    }

    #[test]
    fn what_is_there_is_left_alone_and_what_did_not_help_is_an_error() {
        let ctx = Ctx::new(false).unwrap();
        let failing = [Command::new("false")];
        ctx.converge("thing", || Ok(State::Met("there".to_owned())), &failing).unwrap();
        let unmet = || Ok(State::Unmet("absent".to_owned()));
        let error = ctx.converge("thing", unmet, &[Command::new("true")]).unwrap_err();
        assert_eq!(error.to_string(), "thing: still absent, 0 s after the change");
        assert!(ctx.converge("thing", unmet, &failing).is_err());
        Ctx::new(true).unwrap().converge("thing", unmet, &failing).unwrap();
    }

    #[test]
    fn what_takes_its_time_is_looked_at_until_it_has_helped() {
        let ctx = Ctx::new(false).unwrap();
        let looks = Cell::new(0);
        let look = || {
            looks.set(looks.get() + 1);
            Ok(match looks.get() {
                1 | 2 => State::Unmet("starting".to_owned()),
                _ => State::Met("there".to_owned()),
            })
        };
        let act = [Command::new("true")];
        ctx.converge_within(Duration::from_secs(60), "thing", look, &act).unwrap();
        assert_eq!(looks.get(), 3);
    }

    #[test]
    fn cargo_does_not_see_who_calls() {
        // cargo sets it for tests as it does for `cargo run`.
        assert_eq!(env::var("CARGO_PKG_NAME").unwrap(), "tasks");
        let ctx = Ctx::new(false).unwrap();
        let sh = &ctx.sh;
        let seen = as_from_shell(cmd!(sh, "env")).read().unwrap();
        assert!(!seen.contains("CARGO_PKG_"), "{seen}");
        assert!(seen.contains("PATH="), "{seen}");
    }
}
