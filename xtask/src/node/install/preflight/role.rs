//! What this machine is to a cluster already: the installer would make a server of it, whatever it is.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tasks::command::Command;

use crate::node::install::preflight::{Finding, ok, refused};

const UNITS: &str = "/etc/systemd/system";

/// Other distributions of Kubernetes, by the units that they run as.
const OTHERS: [(&str, &str); 7] = [
    ("rke2-server", "an RKE2 server"),
    ("rke2-agent", "an RKE2 agent"),
    ("kubelet", "a Kubernetes node (kubelet.service)"),
    ("snap.microk8s.daemon-kubelite", "a MicroK8s node"),
    ("snap.microk8s.daemon-kubelet", "a MicroK8s node"),
    ("k0scontroller", "a k0s controller"),
    ("k0sworker", "a k0s worker"),
];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Role {
    /// Of no cluster.
    None,
    Server,
    /// Of the cluster at this address, if it is told.
    Agent {
        unit: String,
        url: Option<String>,
    },
    /// A server that has joined others.
    Member {
        url: String,
    },
    Other(&'static str),
}

impl Role {
    /// By the units of systemd, and the files beside them.
    pub(super) fn find() -> Self {
        for unit in units_of_k3s() {
            let Some(text) = unit_text(&unit) else { continue };
            let environment = read(&format!("{UNITS}/{unit}.service.env")).unwrap_or_default();
            let url = url(&text).or_else(|| url(&environment));
            match (subcommand(&text).as_deref(), url) {
                (Some("agent"), url) => return Self::Agent { unit, url },
                // As the installer makes it of a bare list of flags.
                (_, url) if unit == "k3s-agent" => return Self::Agent { unit, url },
                (_, Some(url)) => return Self::Member { url },
                (_, None) if unit == "k3s" => return Self::Server,
                (_, None) => {}
            }
        }
        let other = OTHERS.iter().find(|(unit, _)| unit_text(unit).is_some());
        other.map_or(Self::None, |(_, what)| Self::Other(what))
    }
}

pub(super) fn judge(role: &Role) -> Finding {
    match role {
        Role::None => ok("role", "of no cluster yet"),
        Role::Server => ok("role", "a K3s server"),
        Role::Agent { unit, url } => {
            let of = url.as_ref().map(|url| format!(" of {url}")).unwrap_or_default();
            refused(
                "role",
                &format!(
                    "a K3s agent{of} ({unit}.service): a server in its place would leave that cluster"
                ),
                "run `cargo xtask install` on the server, and give this node there \
                 NVIDIA's runtime; or take it out first: kubectl delete node, then sudo \
                 k3s-agent-uninstall.sh",
            )
        }
        Role::Member { url } => refused(
            "role",
            &format!("a K3s server that has joined {url}: installing here changes that cluster"),
            "apply with `cargo xtask deploy --kubeconfig FILE` from anywhere; the toolkit and the \
             device plugin are for whoever runs the cluster",
        ),
        Role::Other(what) => refused(
            "role",
            &format!("{what}: K3s beside it would take its ports, its network and its containers"),
            "deploy to it with `cargo xtask deploy --kubeconfig FILE`, or use another machine",
        ),
    }
}

/// K3s's own installer names a unit as its user wants: `k3s`, `k3s-agent`, `k3s-NAME`.
fn units_of_k3s() -> Vec<String> {
    let mut units = vec!["k3s-agent".to_owned(), "k3s".to_owned()];
    for entry in fs::read_dir(UNITS).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(unit) = name.strip_suffix(".service").filter(|unit| unit.starts_with("k3s-"))
            && !units.iter().any(|known| known == unit)
        {
            units.push(unit.to_owned());
        }
    }
    units
}

/// None: systemd knows no such unit.
pub(super) fn unit_text(unit: &str) -> Option<String> {
    let output = Command::new("systemctl cat").arg(unit).output().ok()?;
    (output.is_success() && output.stdout.contains('[')).then_some(output.stdout)
}

/// Root's alone are those that may hold a token; of it nothing is shown.
pub(super) fn read(path: &str) -> Option<String> {
    match fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(_) if Path::new(path).exists() => Command::new("cat").arg(path).with_root().read().ok(),
        Err(_) => None,
    }
}

/// The address that follows, also as a flag; secrets stand elsewhere.
fn url(text: &str) -> Option<String> {
    let mut words = text.split(|c: char| c.is_whitespace() || "\"'\\".contains(c));
    let mut words = words.by_ref().filter(|word| !word.is_empty()).peekable();
    while let Some(word) = words.next() {
        // Behind `Environment=` too.
        let of_variable = word.split_once("K3S_URL=").map(|(_, value)| value);
        let value = of_variable.or_else(|| word.strip_prefix("--server="));
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            return Some(value.to_owned());
        }
        if (word.ends_with("K3S_URL=") || ["--server", "-s"].contains(&word))
            && let Some(next) = words.peek().filter(|next| next.starts_with("http"))
        {
            return Some((*next).to_owned());
        }
    }
    None
}

/// `server` or `agent`, behind the program that the unit starts.
fn subcommand(unit: &str) -> Option<String> {
    let start = unit.split("ExecStart=").nth(1)?;
    let mut words = start
        .split(|c: char| c.is_whitespace() || "\"'\\".contains(c))
        .filter(|word| !word.is_empty());
    words.next()?;
    words.next().map(str::to_owned)
}

/// Where K3s, which runs as `unit`, keeps its state, if that is another place than usual.
pub(super) fn other_data_dir(root: &Path, unit: &str) -> Option<String> {
    let settings = root.join("etc/rancher/k3s");
    let files = fs::read_dir(settings.join("config.yaml.d")).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = files.map(|file| file.path()).collect();
    // The last of them decides, and each of them before the file beside them.
    paths.sort_by(|one, other| other.cmp(one));
    paths.push(settings.join("config.yaml"));
    paths.push(root.join(UNITS.trim_start_matches('/')).join("k3s.service.env"));
    let texts = paths.iter().filter_map(|path| read(&path.display().to_string()));
    // An argument of the command line goes before them all.
    [unit.to_owned()].into_iter().chain(texts).find_map(|text| data_dir(&text))
}

fn data_dir(text: &str) -> Option<String> {
    let is_usual = |path: &str| path.trim_end_matches('/') == "/var/lib/rancher/k3s";
    let mut words = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(|line| line.split(|c: char| c.is_whitespace() || "=\"'\\".contains(c)))
        .filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        if ["data-dir:", "--data-dir", "-d", "K3S_DATA_DIR"].contains(&word) {
            return words
                .next()
                .filter(|path| path.starts_with('/') && !is_usual(path))
                .map(str::to_owned);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the installer writes it.
    const AGENT: &str = "[Service]\nType=notify\nExecStart=/usr/local/bin/k3s \\\n    agent \\\n\t'--server' \\\n\t'https://a:6443' \\\n";

    #[test]
    fn what_a_unit_starts_is_read() {
        assert_eq!(subcommand(AGENT).as_deref(), Some("agent"));
        assert_eq!(
            subcommand("ExecStart=/usr/local/bin/k3s server --x\n").as_deref(),
            Some("server")
        );
        assert_eq!(url(AGENT).as_deref(), Some("https://a:6443"));
        assert_eq!(
            url("K3S_TOKEN='secret'\nK3S_URL='https://b:6443'\n").as_deref(),
            Some("https://b:6443")
        );
        assert_eq!(url("Environment=\"K3S_URL=https://c\"\n").as_deref(), Some("https://c"));
        assert_eq!(url("ExecStart=/usr/local/bin/k3s server\n"), None);
    }

    #[test]
    fn another_directory_for_state_is_found() {
        for text in [
            "data-dir: /srv/k3s\n",
            "# data-dir: /x\ndata-dir: \"/srv/k3s\"\n",
            "ExecStart=/usr/local/bin/k3s server '--data-dir=/srv/k3s'",
            "K3S_DATA_DIR=/srv/k3s",
        ] {
            assert_eq!(data_dir(text).as_deref(), Some("/srv/k3s"), "{text}");
        }
        assert_eq!(data_dir("data-dir: /var/lib/rancher/k3s/\n"), None);
        assert_eq!(data_dir("# data-dir: /x\n"), None);
    }

    #[test]
    fn another_directory_for_state_is_found_in_each_place_where_k3s_reads_it() {
        let root = tempfile::tempdir().unwrap();
        let find = |unit: &str| other_data_dir(root.path(), unit);
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(find(""), None);
        assert_eq!(
            find("ExecStart=/usr/local/bin/k3s server '--data-dir' '/a'"),
            Some("/a".into())
        );
        write("etc/systemd/system/k3s.service.env", "K3S_DATA_DIR=/b\n");
        assert_eq!(find(""), Some("/b".into()));
        write("etc/rancher/k3s/config.yaml", "write-kubeconfig-mode: \"0644\"\ndata-dir: /c\n");
        assert_eq!(find(""), Some("/c".into()));
        write("etc/rancher/k3s/config.yaml.d/10-disk.yaml", "data-dir: /d\n");
        write("etc/rancher/k3s/config.yaml.d/20-disk.yaml", "data-dir: '/e'\n");
        write("etc/rancher/k3s/config.yaml.d/30-names.yaml", "node-name: a\n");
        assert_eq!(find(""), Some("/e".into()));
    }
}
