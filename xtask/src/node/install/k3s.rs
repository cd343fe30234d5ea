//! K3s itself: the pinned binary, checked before it is installed, its own installer for the unit, and
//! the start of its service.

use std::{path::Path, time::Duration};

use anyhow::Result;

use super::{
    airgap::{archives, destination},
    download,
    node::journal,
    scratch,
};
use tasks::{
    advice::{explained, of_output},
    command::{Command, is_on_path},
    ctx::{Ctx, State},
};

use crate::pins::{K3S, K3S_RELEASES, K3S_SOURCES};

const BINARY: &str = "/usr/local/bin/k3s";
/// The published checksums, also those of the images for machines without a network.
const CHECKSUMS: &str = "sha256sum-amd64.txt";
const INSTALLER: &str = "install.sh";
const INSTALLER_CHECKSUM: &str = "install.sh.sha256sum";
pub(super) const AIRGAP_IMAGES: &str = "k3s-airgap-images-amd64.tar.zst";

/// What a machine without a network needs of K3s.
pub(super) const FILES: [&str; 5] =
    ["k3s", CHECKSUMS, INSTALLER, INSTALLER_CHECKSUM, AIRGAP_IMAGES];

/// The first Kubernetes with native sidecars.
const OLDEST: (u32, u32) = (1, 29);

pub(super) fn install(ctx: &Ctx, airgap: Option<&Path>, limit: Duration) -> Result<()> {
    let act = airgap.map_or_else(from_network, from_directory);
    ctx.converge("K3s", installed, &act)?;
    // systemd itself would wait for ever: the unit has no time limit.
    let start = Command::new("systemctl start --no-block k3s").with_root();
    ctx.converge_within(limit, "service k3s", running, &[start]).map_err(|error| {
        let journal = journal().unwrap_or_default();
        let advice = of_output(&journal);
        explained(
            format!("{error:#}; its journal ends with\n{journal}"),
            advice.map_or("K3s does not start; its journal says why", |advice| advice.cause),
            advice.map_or("sudo journalctl -u k3s -n 100", |advice| advice.next),
        )
    })
}

fn installed() -> Result<State> {
    if !is_on_path("k3s") {
        return Ok(State::Unmet("not installed".to_owned()));
    }
    let said = Command::new("k3s --version").output()?.stdout;
    let Some(version) = version(&said) else {
        return Ok(State::Unmet("its program does not tell a version".to_owned()));
    };
    if minor(version) < OLDEST {
        return Err(explained(
            format!("K3s {version} is installed"),
            "native sidecars need Kubernetes 1.29 or later",
            "upgrade it; or `cargo xtask uninstall`, which deletes what is on it, and install again",
        ));
    }
    // The installer brings it last.
    if !Command::new("systemctl cat k3s").output()?.is_success() {
        return Ok(State::Unmet(format!("{version} is there, without its service")));
    }
    let other = if version == K3S { "" } else { ", not the pinned one, and left as it is" };
    Ok(State::Met(format!("{version}{other}")))
}

/// Its service counts as active when the API server answers.
pub(super) fn running() -> Result<State> {
    let state = Command::new("systemctl is-active k3s").output()?.stdout.trim().to_owned();
    Ok(match &state[..] {
        "active" => State::Met(state),
        "" => State::Unmet("not known to systemd".to_owned()),
        _ => State::Unmet(state),
    })
}

/// Takes `v1.36.2+k3s1` out of `k3s version v1.36.2+k3s1 (0123abcd)`.
fn version(said: &str) -> Option<&str> {
    said.strip_prefix("k3s version ")?.split_whitespace().next()
}

fn minor(version: &str) -> (u32, u32) {
    let mut parts =
        version.trim_start_matches('v').split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

fn from_network() -> Vec<Command> {
    // In URLs the `+` of a tag must be written so.
    let tag = K3S.replace('+', "%2B");
    let release = |file: &str| download(file, format!("{K3S_RELEASES}/{tag}/{file}"));
    let source = |file: &str| download(file, format!("{K3S_SOURCES}/{tag}/{file}"));
    let downloads = [
        release("k3s"),
        release(CHECKSUMS),
        source(INSTALLER),
        source(INSTALLER_CHECKSUM),
        check(&scratch(), "k3s", CHECKSUMS),
    ];
    downloads.into_iter().chain(install_from(&scratch())).collect()
}

fn from_directory(directory: &Path) -> Vec<Command> {
    let mut commands =
        vec![check(directory, "k3s", CHECKSUMS), check(directory, AIRGAP_IMAGES, CHECKSUMS)];
    for archive in archives(directory) {
        let to = destination(&archive);
        let partial = format!("{to}.partial");
        // A running K3s takes what appears there at once, so it must appear whole.
        let copy = Command::new("install -D --mode=0644").path(&archive).arg(&partial);
        commands.extend([copy.with_root(), Command::new("mv").args([&partial, &to]).with_root()]);
    }
    commands.extend(install_from(directory));
    commands
}

/// Fails unless the published list has exactly this sum for the file.
fn check(directory: &Path, file: &str, list: &str) -> Command {
    let script = format!(r#"cd "$1" && grep " {file}$" {list} | sha256sum --check --strict"#);
    Command::new("sh -c").arg(script).arg("sh").path(directory)
}

/// The installer makes and enables the unit, and leaves the start to us. Traefik and the load balancer
/// would take ports 80 and 443 for nothing.
fn install_from(directory: &Path) -> [Command; 3] {
    [
        check(directory, INSTALLER, INSTALLER_CHECKSUM),
        Command::new("install --mode=0755").path(&directory.join("k3s")).arg(BINARY).with_root(),
        Command::new("sh")
            .path(&directory.join(INSTALLER))
            .variable("INSTALL_K3S_SKIP_DOWNLOAD", "true")
            .variable("INSTALL_K3S_SKIP_START", "true")
            .variable("INSTALL_K3S_EXEC", "server --disable=traefik --disable=servicelb")
            .through_proxy()
            .with_root(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared() {
        let said = "k3s version v1.36.2+k3s1 (0123abcd)\ngo version go1.25.6";
        assert_eq!(version(said), Some(K3S));
        assert_eq!(version("command not found"), None);
        assert!(minor("v1.28.15+k3s1") < OLDEST && minor(K3S) >= OLDEST);
    }

    #[test]
    fn without_a_network_everything_comes_from_the_directory_and_is_checked() {
        let commands = from_directory(Path::new("/media/k3s"));
        let shown: Vec<String> = commands.iter().map(Command::shown).collect();
        let shown = shown.join("\n").replace("sudo env ", "").replace("sudo ", "");
        insta::assert_snapshot!(shown, @r#"
        sh -c 'cd "$1" && grep " k3s$" sha256sum-amd64.txt | sha256sum --check --strict' sh /media/k3s
        sh -c 'cd "$1" && grep " k3s-airgap-images-amd64.tar.zst$" sha256sum-amd64.txt | sha256sum --check --strict' sh /media/k3s
        install -D --mode=0644 /media/k3s/k3s-airgap-images-amd64.tar.zst /var/lib/rancher/k3s/agent/images/k3s-airgap-images-amd64.tar.zst.partial
        mv /var/lib/rancher/k3s/agent/images/k3s-airgap-images-amd64.tar.zst.partial /var/lib/rancher/k3s/agent/images/k3s-airgap-images-amd64.tar.zst
        sh -c 'cd "$1" && grep " install.sh$" install.sh.sha256sum | sha256sum --check --strict' sh /media/k3s
        install --mode=0755 /media/k3s/k3s /usr/local/bin/k3s
        INSTALL_K3S_SKIP_DOWNLOAD=true INSTALL_K3S_SKIP_START=true INSTALL_K3S_EXEC='server --disable=traefik --disable=servicelb' sh /media/k3s/install.sh
        "#);
    }
}
