//! NVIDIA's container toolkit: four packages of one version.
//!
//! `nvidia-ctk runtime configure` is not called: it edits files that K3s does not read.

use std::path::Path;

use anyhow::Result;

use super::{download, scratch};
use tasks::{
    command::Command,
    ctx::{Ctx, State},
};

use crate::pins::{TOOLKIT, TOOLKIT_REPOSITORY};

pub(super) const PACKAGES: [&str; 4] = [
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
    let act = airgap.map_or_else(from_network, from_directory);
    ctx.converge("container toolkit", || Ok(judge(&listed()?)), &act)
}

/// Nothing of it would have to change.
pub(super) fn is_met() -> bool {
    listed().is_ok_and(|listed| matches!(judge(&listed), State::Met(_)))
}

/// Packages that were removed are listed for as long as their configuration is there.
fn listed() -> Result<Vec<(String, String)>> {
    let format = r"${db:Status-Status} ${Package} ${Version}\n";
    let query = Command::new("dpkg-query --show --showformat").arg(format).args(PACKAGES);
    // It fails if one is not known, and still tells of the others.
    Ok(installed(&query.output()?.stdout))
}

/// Names and versions.
fn installed(listed: &str) -> Vec<(String, String)> {
    let lines = listed.lines().filter_map(|line| line.strip_prefix("installed "));
    let pairs = lines.filter_map(|line| line.split_once(' '));
    pairs.map(|(name, version)| (name.to_owned(), version.to_owned())).collect()
}

fn judge(installed: &[(String, String)]) -> State {
    let versions: Vec<&str> = installed.iter().map(|(_, version)| &version[..]).collect();
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

fn from_network() -> Vec<Command> {
    let (key, list) = ("nvidia.gpgkey", "nvidia-container-toolkit.list");
    let signed = format!("s#deb https://#deb [signed-by={KEYRING}] https://#");
    let versions = PACKAGES.map(|package| format!("{package}={TOOLKIT}-1"));
    vec![
        download(key, format!("{TOOLKIT_REPOSITORY}/gpgkey")),
        Command::new("gpg --batch --yes --dearmor --output")
            .arg(KEYRING)
            .path(&scratch().join(key))
            .with_root(),
        download(list, format!("{TOOLKIT_REPOSITORY}/stable/deb/{list}")),
        Command::new("sed --in-place").arg(signed).path(&scratch().join(list)),
        Command::new("install --mode=0644").path(&scratch().join(list)).arg(LIST).with_root(),
        Command::new("apt-get update").through_proxy().with_root(),
        apt_install().args(versions),
    ]
}

/// What a machine without a network needs of the toolkit.
pub(super) fn files() -> [String; 4] {
    PACKAGES.map(|package| format!("{package}_{TOOLKIT}-1_amd64.deb"))
}

/// Only what begins with `/` or `./` is a file to apt.
fn from_directory(directory: &Path) -> Vec<Command> {
    let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    vec![apt_install().args(files().map(|file| directory.join(file).display().to_string()))]
}

/// Packages of several versions may have to go back to the pinned one.
fn apt_install() -> Command {
    Command::new("apt-get install --yes --no-install-recommends --allow-downgrades")
        .variable("DEBIAN_FRONTEND", "noninteractive")
        .through_proxy()
        .with_root()
}

/// The other way round, with the list of packages and its key.
pub(crate) fn remove(ctx: &Ctx) -> Result<()> {
    let look = || {
        Ok(match listed()?.len() {
            0 => State::Met("not installed".to_owned()),
            count => State::Unmet(format!("{count} packages are installed")),
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

    fn judged(listed: &str) -> State {
        judge(&installed(listed))
    }

    /// What dpkg-query prints.
    fn all(versions: [&str; 4]) -> String {
        let lines = PACKAGES.iter().zip(versions);
        let lines = lines.map(|(package, version)| format!("installed {package} {version}\n"));
        lines.collect::<Vec<_>>().concat()
    }

    #[test]
    fn four_packages_of_one_recent_version_are_enough() {
        assert_eq!(judged(&all(["1.20.0-1"; 4])), State::Met("1.20.0-1".to_owned()));
        assert_eq!(judged(&all(["1.18.0-1"; 4])), State::Met("1.18.0-1".to_owned()));
        let unmet = |listed: &str| match judged(listed) {
            State::Unmet(why) => why,
            State::Met(found) => panic!("{found}"),
        };
        assert_eq!(unmet(""), "not installed");
        assert!(unmet(&all(["1.17.8-1"; 4])).contains("older than 1.18"));
        let mixed = all(["1.20.0-1", "1.19.0-1", "1.20.0-1", "1.20.0-1"]);
        assert!(unmet(&mixed).contains("its packages differ"));
        let removed = all(["1.20.0-1"; 4]).replacen("installed", "config-files", 3);
        assert_eq!(unmet(&removed), "1 of its 4 packages are installed");
    }

    #[test]
    fn all_four_get_the_pinned_version() {
        let shown = from_network().last().unwrap().shown();
        let shown = shown.replace("sudo env ", "");
        insta::assert_snapshot!(shown, @"DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends --allow-downgrades nvidia-container-toolkit=1.20.0-1 nvidia-container-toolkit-base=1.20.0-1 libnvidia-container-tools=1.20.0-1 libnvidia-container1=1.20.0-1");
    }
}
