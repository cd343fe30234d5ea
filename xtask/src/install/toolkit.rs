//! NVIDIA's container toolkit: four packages of one version.
//!
//! `nvidia-ctk runtime configure` is not called: it edits files that K3s does not read.

use std::path::Path;

use anyhow::Result;

use super::scratch;
use crate::{
    command::Command,
    ctx::{Ctx, State},
    pins::{TOOLKIT, TOOLKIT_REPOSITORY},
};

const PACKAGES: [&str; 4] = [
    "nvidia-container-toolkit",
    "nvidia-container-toolkit-base",
    "libnvidia-container-tools",
    "libnvidia-container1",
];

const KEYRING: &str = "/usr/share/keyrings/nvidia-container-toolkit-keyring.gpg";
const LIST: &str = "/etc/apt/sources.list.d/nvidia-container-toolkit.list";

/// The first that survives `systemctl daemon-reload`, which K3s's installer runs.
const OLDEST: (u32, u32) = (1, 18);

pub(super) fn install(ctx: &Ctx, airgap: Option<&Path>) -> Result<()> {
    let act = match airgap {
        Some(directory) => from_directory(directory),
        None => from_network(&scratch()),
    };
    ctx.converge("container toolkit", look, &act)
}

fn look() -> Result<State> {
    let query = Command::new("dpkg-query --show --showformat").arg(r"${Package} ${Version}\n");
    // It fails if one is not installed, and still tells of the others.
    Ok(judge(&query.args(PACKAGES).output()?.stdout))
}

fn judge(listed: &str) -> State {
    let versions: Vec<&str> = PACKAGES
        .iter()
        .filter_map(|package| {
            let mut lines = listed.lines().filter_map(|line| line.split_once(' '));
            lines.find(|(name, version)| name == package && !version.is_empty())
        })
        .map(|(_, version)| version)
        .collect();
    let Some(first) = versions.first() else {
        return State::Unmet("not installed".to_owned());
    };
    if versions.len() < PACKAGES.len() {
        return State::Unmet(format!("{} of its 4 packages are installed", versions.len()));
    }
    if versions.iter().any(|version| version != first) {
        return State::Unmet(format!("its packages differ: {}", versions.join(", ")));
    }
    let mut parts = first.split(['.', '-', '~']).map_while(|part| part.parse::<u32>().ok());
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if version < OLDEST {
        return State::Unmet(format!("{first} is older than 1.18: containers lose their GPUs"));
    }
    State::Met((*first).to_owned())
}

fn from_network(scratch: &Path) -> Vec<Command> {
    let key = scratch.join("nvidia.gpgkey");
    let list = scratch.join("nvidia-container-toolkit.list");
    let download = |to: &Path, path: &str| {
        Command::new("curl --fail --silent --show-error --location --create-dirs --output")
            .path(to)
            .arg(format!("{TOOLKIT_REPOSITORY}/{path}"))
    };
    let signed = format!("s#deb https://#deb [signed-by={KEYRING}] https://#");
    let versions = PACKAGES.map(|package| format!("{package}={TOOLKIT}-1"));
    vec![
        download(&key, "gpgkey"),
        Command::new("gpg --batch --yes --dearmor --output").arg(KEYRING).path(&key).with_root(),
        download(&list, "stable/deb/nvidia-container-toolkit.list"),
        Command::new("sed --in-place").arg(signed).path(&list),
        Command::new("install --mode=0644").path(&list).arg(LIST).with_root(),
        Command::new("apt-get update").with_root(),
        apt_install().args(versions),
    ]
}

/// Paths with a `/` are files to apt.
fn from_directory(directory: &Path) -> Vec<Command> {
    let files = PACKAGES.map(|package| {
        let file = format!("{package}_{TOOLKIT}-1_amd64.deb");
        std::path::absolute(directory.join(&file))
            .unwrap_or_else(|_| directory.join(&file))
            .display()
            .to_string()
    });
    vec![apt_install().args(files)]
}

fn apt_install() -> Command {
    Command::new("apt-get install --yes --no-install-recommends")
        .variable("DEBIAN_FRONTEND", "noninteractive")
        .with_root()
}

pub(super) fn remove(ctx: &Ctx) -> Result<()> {
    let look = || {
        let query = Command::new("dpkg-query --show --showformat").arg(r"${Package} ${Version}\n");
        let listed = query.args(PACKAGES).output()?.stdout;
        let there = listed.lines().filter(|line| line.trim().contains(' ')).count();
        Ok(if there == 0 {
            State::Met("not installed".to_owned())
        } else {
            State::Unmet(format!("{there} packages are installed"))
        })
    };
    ctx.converge("container toolkit", look, &removal())
}

fn removal() -> [Command; 2] {
    let purge = Command::new("apt-get purge --yes").variable("DEBIAN_FRONTEND", "noninteractive");
    [purge.args(PACKAGES).with_root(), Command::new("rm -f").args([LIST, KEYRING]).with_root()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(versions: [&str; 4]) -> String {
        let lines = PACKAGES.iter().zip(versions);
        lines
            .map(|(package, version)| format!("{package} {version}"))
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn four_packages_of_one_recent_version_are_enough() {
        assert_eq!(judge(&listed(["1.20.0-1"; 4])), State::Met("1.20.0-1".to_owned()));
        assert_eq!(judge(&listed(["1.18.0-1"; 4])), State::Met("1.18.0-1".to_owned()));
        let unmet = |listed: &str| match judge(listed) {
            State::Unmet(why) => why,
            State::Met(found) => panic!("{found}"),
        };
        assert_eq!(unmet(""), "not installed");
        assert!(unmet(&listed(["1.17.8-1"; 4])).contains("older than 1.18"));
        let mixed = listed(["1.20.0-1", "1.19.0-1", "1.20.0-1", "1.20.0-1"]);
        assert!(unmet(&mixed).contains("its packages differ"));
        assert_eq!(unmet("libnvidia-container1 1.20.0-1\n"), "1 of its 4 packages are installed");
    }

    #[test]
    fn all_four_get_the_pinned_version() {
        let shown = from_network(Path::new("scratch")).last().unwrap().shown();
        let shown = shown.replace("sudo env ", "");
        insta::assert_snapshot!(shown, @"DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends nvidia-container-toolkit=1.20.0-1 nvidia-container-toolkit-base=1.20.0-1 libnvidia-container-tools=1.20.0-1 libnvidia-container1=1.20.0-1");
    }
}
