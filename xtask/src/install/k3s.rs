//! K3s itself: the pinned binary, checked before it is installed, and its own installer for the unit.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};

use super::{node::journal, scratch};
use crate::{
    command::Command,
    ctx::{Ctx, State},
    pins::{K3S, K3S_RELEASES, K3S_SOURCES},
};

const BINARY: &str = "/usr/local/bin/k3s";
const IMAGES: &str = "/var/lib/rancher/k3s/agent/images";
const CONTAINERD: &str = "/var/lib/rancher/k3s/agent/etc/containerd/config.toml";
/// The published checksums, also those of the images for machines without a network.
const CHECKSUMS: &str = "sha256sum-amd64.txt";
const AIRGAP_IMAGES: &str = "k3s-airgap-images-amd64.tar.zst";

/// The first Kubernetes with native sidecars.
const OLDEST: (u32, u32) = (1, 29);

pub(super) fn install(ctx: &Ctx, airgap: Option<&Path>, limit: Duration) -> Result<()> {
    let scratch = scratch();
    let act = match airgap {
        Some(directory) => from_directory(directory, limit),
        None => from_network(&scratch, limit),
    };
    ctx.converge("K3s", look, &act).map_err(|error| match journal() {
        Some(end) => error.context(format!("K3s is not installed; its journal ends with\n{end}")),
        None => error,
    })
}

fn look() -> Result<State> {
    if !crate::command::is_on_path("k3s") {
        return Ok(State::Unmet("not installed".to_owned()));
    }
    let said = Command::new("k3s --version").read()?;
    let version = version(&said).with_context(|| format!("cannot find a version in {said:?}"))?;
    if minor(version) < OLDEST {
        bail!(
            "K3s {version} is installed, and native sidecars need 1.29 or later\n\
             next:  upgrade it, or `cargo xtask uninstall` (deletes what is on it) and install again"
        );
    }
    let active = Command::new("systemctl is-active k3s").output()?;
    if active.stdout.trim() != "active" {
        return Ok(State::Unmet(format!("{version} is installed, and {}", active.stdout.trim())));
    }
    let other = if version == K3S { "" } else { ", not the pinned one, and left as it is" };
    Ok(State::Met(format!("{version}{other}")))
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

fn from_network(scratch: &Path, limit: Duration) -> Vec<Command> {
    // In URLs the `+` of a tag must be written so.
    let tag = K3S.replace('+', "%2B");
    let download = |name: &str, url: String| {
        Command::new("curl --fail --silent --show-error --location --create-dirs --output")
            .path(&scratch.join(name))
            .arg(url)
    };
    let mut commands = vec![
        download("k3s", format!("{K3S_RELEASES}/{tag}/k3s")),
        download(CHECKSUMS, format!("{K3S_RELEASES}/{tag}/{CHECKSUMS}")),
        download("install.sh", format!("{K3S_SOURCES}/{tag}/install.sh")),
        check(scratch, "k3s"),
    ];
    commands.extend(install_from(scratch, limit));
    commands
}

fn from_directory(directory: &Path, limit: Duration) -> Vec<Command> {
    let partial = format!("{IMAGES}/{AIRGAP_IMAGES}.partial");
    let mut commands = vec![
        check(directory, "k3s"),
        check(directory, AIRGAP_IMAGES),
        // A running K3s takes what appears there at once, so it must appear whole.
        Command::new("install -D --mode=0644")
            .path(&directory.join(AIRGAP_IMAGES))
            .arg(&partial)
            .with_root(),
        Command::new("mv").args([&partial, &format!("{IMAGES}/{AIRGAP_IMAGES}")]).with_root(),
    ];
    commands.extend(install_from(directory, limit));
    commands
}

/// Fails unless the published list has exactly this sum for the file.
fn check(directory: &Path, file: &str) -> Command {
    let script = format!(r#"cd "$1" && grep " {file}$" {CHECKSUMS} | sha256sum --check --strict"#);
    Command::new("sh -c").arg(script).arg("sh").path(directory)
}

/// The unit of the installer has no time limit of its own, so the installer gets one. Traefik and
/// the load balancer would take ports 80 and 443 for nothing.
fn install_from(directory: &Path, limit: Duration) -> [Command; 2] {
    [
        Command::new("install --mode=0755").path(&directory.join("k3s")).arg(BINARY).with_root(),
        Command::new("timeout")
            .arg(limit.as_secs().to_string())
            .arg("sh")
            .path(&directory.join("install.sh"))
            .variable("INSTALL_K3S_SKIP_DOWNLOAD", "true")
            .variable("INSTALL_K3S_EXEC", "server --disable=traefik --disable=servicelb")
            .with_root(),
    ]
}

/// K3s writes containerd's configuration when it starts, with NVIDIA's runtime if that is there.
pub(super) fn detect_runtime(ctx: &Ctx) -> Result<()> {
    let look = || {
        let grep = Command::new("grep --quiet nvidia").arg(CONTAINERD).with_root().output()?;
        Ok(match grep.code {
            Some(0) => State::Met("configured".to_owned()),
            _ => State::Unmet("not in containerd's configuration".to_owned()),
        })
    };
    let restart = Command::new("systemctl restart k3s").limit(Duration::from_secs(300)).with_root();
    ctx.converge("NVIDIA's runtime", look, &[restart]).context(
        "K3s does not find nvidia-container-runtime: is it in /usr/bin? A left-over \
         /usr/local/nvidia/toolkit of a GPU operator would be preferred to it",
    )
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
        let commands = from_directory(Path::new("/media/k3s"), Duration::from_secs(300));
        let shown: Vec<String> = commands.iter().map(Command::shown).collect();
        let shown = shown.join("\n").replace("sudo env ", "").replace("sudo ", "");
        insta::assert_snapshot!(shown, @r#"
        sh -c 'cd "$1" && grep " k3s$" sha256sum-amd64.txt | sha256sum --check --strict' sh /media/k3s
        sh -c 'cd "$1" && grep " k3s-airgap-images-amd64.tar.zst$" sha256sum-amd64.txt | sha256sum --check --strict' sh /media/k3s
        install -D --mode=0644 /media/k3s/k3s-airgap-images-amd64.tar.zst /var/lib/rancher/k3s/agent/images/k3s-airgap-images-amd64.tar.zst.partial
        mv /var/lib/rancher/k3s/agent/images/k3s-airgap-images-amd64.tar.zst.partial /var/lib/rancher/k3s/agent/images/k3s-airgap-images-amd64.tar.zst
        install --mode=0755 /media/k3s/k3s /usr/local/bin/k3s
        INSTALL_K3S_SKIP_DOWNLOAD=true INSTALL_K3S_EXEC='server --disable=traefik --disable=servicelb' timeout 300 sh /media/k3s/install.sh
        "#);
    }
}
