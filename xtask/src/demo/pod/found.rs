//! Which podman plays the pod, and whether it can.

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use tasks::command::is_on_path;

use crate::{node::build::engine::Engine, pins::OLDEST_PODMAN};

/// The podman of this machine that plays the pod, in words; the error says what is missing.
pub(crate) fn can_run(wanted: Option<&str>) -> Result<String> {
    let (engine, info) = look(wanted)?;
    Ok(format!("podman {} ({})", info.version.version, engine.program()))
}

/// The podman that is named, or that on PATH.
pub(super) fn find(wanted: Option<&str>) -> Result<Engine> {
    look(wanted).map(|(engine, _)| engine)
}

fn look(wanted: Option<&str>) -> Result<(Engine, Info)> {
    // Workflows set variables to nothing where nothing is meant.
    let program = wanted.filter(|program| !program.is_empty()).unwrap_or("podman");
    let engine = Engine::named(program)?;
    ensure!(
        engine.is_podman(),
        "{program} cannot play a pod, only podman can: leave CONTAINER_ENGINE unset, or name podman"
    );
    if !is_on_path(program) {
        bail!(
            "podman is not here ({program}), and it plays the pod\n\
             next:  sudo apt-get install podman, of Debian 13, Ubuntu 24.04 or later; or name one \
             with --engine"
        );
    }
    let info = engine.command("info --format json").read();
    let info = info.with_context(|| format!("{program} does not work here"))?;
    let info: Info = serde_json::from_str(&info).context("cannot understand what podman says")?;
    info.suffices().with_context(|| format!("{program} cannot play the pod"))?;
    Ok((engine, info))
}

/// What `podman info` tells.
#[derive(Deserialize)]
struct Info {
    host: Host,
    version: Version,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Host {
    security: Security,
    /// Early releases do not tell.
    network_backend_info: Option<Backend>,
}

#[derive(Deserialize)]
struct Security {
    rootless: bool,
}

#[derive(Deserialize)]
struct Backend {
    #[serde(default)]
    dns: Dns,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Dns {
    path: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    version: String,
}

impl Info {
    fn suffices(&self) -> Result<()> {
        let Self { host, version: Version { version } } = self;
        ensure!(
            number(version) >= number(OLDEST_PODMAN),
            "it is podman {version}, and {OLDEST_PODMAN} is the first that heeds hostPID\n\
             next:  install that of Debian 13, Ubuntu 24.04 or later, or name another with --engine"
        );
        ensure!(
            !host.security.rootless,
            "it runs without root, whose probes do not reach its pods"
        );
        let resolves = host.network_backend_info.as_ref().is_none_or(|it| !it.dns.path.is_empty());
        ensure!(
            resolves,
            "its containers cannot resolve names\nnext:  sudo apt-get install netavark aardvark-dns"
        );
        Ok(())
    }
}

fn number(version: &str) -> (u32, u32) {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As far as it is read, of podman 5.4.2.
    fn said(version: &str, rootless: bool, dns: &str) -> String {
        let info = serde_json::json!({
            "host": {
                "security": { "rootless": rootless },
                "networkBackendInfo": { "backend": "netavark", "dns": { "path": dns } },
            },
            "version": { "Version": version },
        });
        let info: Info = serde_json::from_value(info).unwrap();
        info.suffices().err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_podman_lacks_is_said_with_the_way_out() {
        let dns = "/usr/lib/podman/aardvark-dns";
        assert_eq!(said("5.4.2", false, dns), "");
        assert_eq!(said("4.9.3-rc1", false, dns), "");
        assert_eq!(
            said("4.3.1", false, dns),
            "it is podman 4.3.1, and 4.5 is the first that heeds hostPID\n\
             next:  install that of Debian 13, Ubuntu 24.04 or later, or name another with --engine"
        );
        assert!(said("5.4.2", true, dns).contains("without root"));
        assert!(said("5.4.2", false, "").contains("apt-get install netavark aardvark-dns"));
    }

    #[test]
    fn another_engine_and_none_are_told_apart() {
        let error = |wanted| find(Some(wanted)).unwrap_err().to_string();
        assert!(error("docker").contains("only podman can"));
        let error = error("/nowhere/podman");
        assert!(error.contains("not here (/nowhere/podman)"), "{error}");
        assert!(error.contains("sudo apt-get install podman"), "{error}");
    }
}
