//! What a GPU node needs before anything is installed on it: found out first, and said all at once.

mod driver;
mod facts;
mod role;

use std::path::Path;

use anyhow::Result;
use facts::Facts;
use settings::rights::OLDEST_KERNEL;
use tasks::{advice::explained, ctx::Ctx};

/// Images of vLLM, K3s and a model of 7 billion parameters.
const MIN_DISK_GB: u64 = 60;
const MIN_MEMORY_GB: u64 = 16;

/// One thing looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    mark: Mark,
    topic: &'static str,
    found: String,
    /// What helps.
    next: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Ok,
    /// It will not work so.
    Missing,
    /// It may not work so, or not well.
    Note,
    /// It would harm what this machine does already: nothing lets it through.
    Refused,
}

pub(super) fn run(
    ctx: &Ctx,
    airgap: Option<&Path>,
    minimum_driver: Option<u32>,
    force: bool,
) -> Result<()> {
    let findings = judge(&Facts::gather(airgap), minimum_driver);
    for Finding { mark, topic, found, next } in &findings {
        let mark = match mark {
            Mark::Ok => "ok",
            Mark::Note => "note",
            Mark::Missing => "missing",
            Mark::Refused => "refused",
        };
        eprintln!("{mark:<7} {topic}: {found}");
        if !next.is_empty() {
            eprintln!("        next:  {next}");
        }
    }
    if let Some(Finding { topic, found, next, .. }) =
        findings.iter().find(|finding| finding.mark == Mark::Refused)
    {
        return Err(explained(
            format!("nothing was changed on this machine, by its {topic}"),
            found,
            next,
        ));
    }
    let missing = findings.iter().filter(|finding| finding.mark == Mark::Missing);
    let missing: Vec<&str> = missing.map(|finding| finding.topic).collect();
    if missing.is_empty() || force || ctx.dry_run {
        return Ok(());
    }
    Err(explained(
        "this machine lacks what a GPU node needs",
        format!("missing: {}", missing.join(", ")),
        "what stands beside each above; --force goes on without",
    ))
}

fn judge(facts: &Facts, minimum_driver: Option<u32>) -> Vec<Finding> {
    let mut findings = vec![role::judge(&facts.role), system(facts), tools(facts), kernel(facts)];
    findings.extend(driver::judge(facts, minimum_driver));
    findings.push(ports(facts));
    findings.push(route(facts));
    findings.extend([disk(facts), memory(facts)].into_iter().flatten());
    findings.extend(files(facts));
    findings.extend(
        [data_dir(facts), packages(facts), apparmor(facts), iptables(facts)].into_iter().flatten(),
    );
    if let Some(firewall) = facts.firewall {
        findings.push(note("firewall", &format!("{firewall} is active"), way_through(firewall)));
    }
    if facts.old_toolkit {
        findings.push(note(
            "old toolkit",
            "/usr/local/nvidia/toolkit is there, and K3s prefers it",
            "remove it if a GPU operator has left it behind",
        ));
    }
    findings
}

fn way_through(firewall: &str) -> &'static str {
    match firewall {
        "ufw" => {
            "sudo ufw allow 6443/tcp; sudo ufw allow from 10.42.0.0/16; sudo ufw allow from 10.43.0.0/16"
        }
        "firewalld" => {
            "sudo firewall-cmd --permanent --add-port=6443/tcp; sudo firewall-cmd --permanent \
             --zone=trusted --add-source=10.42.0.0/16 --add-source=10.43.0.0/16; sudo firewall-cmd --reload"
        }
        _ => {
            "let 6443/tcp, 10.42.0.0/16 and 10.43.0.0/16 through in /etc/nftables.conf: it flushes \
              what K3s adds, so restart k3s after a change of it"
        }
    }
}

/// What is written and looked at lies in the usual place.
fn data_dir(Facts { data_dir, .. }: &Facts) -> Option<Finding> {
    let directory = data_dir.as_ref()?;
    Some(missing(
        "data-dir",
        &format!("K3s keeps its state in {directory}, and install knows /var/lib/rancher/k3s only"),
        "install the toolkit by hand, restart k3s, and `cargo xtask manifests --only node | kubectl \
         apply --server-side -f -`",
    ))
}

/// apt does not change them, and K3s's step would come after the failure.
fn packages(Facts { held_packages, .. }: &Facts) -> Option<Finding> {
    (!held_packages.is_empty()).then(|| {
        let packages = held_packages.join(" ");
        missing(
            "packages",
            &format!("apt holds {packages}, of which another version is needed"),
            &format!("sudo apt-mark unhold {packages}"),
        )
    })
}

fn apparmor(Facts { lacks_apparmor_parser, .. }: &Facts) -> Option<Finding> {
    lacks_apparmor_parser.then(|| {
        missing(
            "AppArmor",
            "the kernel has it enabled, and apparmor_parser is missing: no container would start",
            "sudo apt-get install apparmor",
        )
    })
}

/// Of 1.8.0 to 1.8.4 the nf_tables mode adds each rule again and again.
fn iptables(Facts { iptables, .. }: &Facts) -> Option<Finding> {
    let version = iptables.as_ref()?;
    let number = version.split_whitespace().find_map(|word| word.strip_prefix('v'));
    let is_faulty = version.contains("nf_tables")
        && number
            .is_some_and(|number| ["1.8.0", "1.8.1", "1.8.2", "1.8.3", "1.8.4"].contains(&number));
    Some(if is_faulty {
        let next = "sudo update-alternatives --set iptables /usr/sbin/iptables-legacy, or a later iptables";
        missing("iptables", &format!("{version}: rules of K3s pile up with it"), next)
    } else {
        ok("iptables", version)
    })
}

fn system(Facts { machine, os, systemd, .. }: &Facts) -> Finding {
    let found = format!("{os}, {machine}");
    if machine != "x86_64" {
        return missing("machine", machine, "images and checksums here are for x86_64");
    }
    if !systemd {
        let found = format!("{found}, systemd does not run");
        return missing(
            "system",
            &found,
            "use a machine with systemd: K3s is installed as its service",
        );
    }
    ok("system", &found)
}

fn tools(Facts { missing_tools, .. }: &Facts) -> Finding {
    if missing_tools.is_empty() {
        return ok("tools", "all are there");
    }
    missing(
        "tools",
        &format!("{} not on PATH", missing_tools.join(", ")),
        "use Ubuntu 22.04 or later, or Debian 12; sudo apt-get install curl gpg",
    )
}

fn kernel(Facts { kernel, btf, .. }: &Facts) -> Finding {
    let mut parts = kernel.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse().ok());
    let version: (u32, u32) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if version < OLDEST_KERNEL {
        return missing("kernel", kernel, "upgrade it: the sidecar needs 5.15 or later");
    }
    if !btf {
        let found = format!("{kernel}, without BTF");
        return note("kernel", &found, "use a kernel with CONFIG_DEBUG_INFO_BTF=y");
    }
    ok("kernel", kernel)
}

fn ports(Facts { ports, ports_in_use, k3s_runs, .. }: &Facts) -> Finding {
    let list = |ports: &[u16]| ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
    if *k3s_runs {
        return ok("ports", "K3s has them");
    }
    if ports_in_use.is_empty() {
        return ok("ports", &format!("{} are free", list(ports)));
    }
    let in_use = list(ports_in_use);
    missing(
        "ports",
        &format!("{in_use} in use: by another Kubernetes, or by what one has left behind"),
        "sudo ss -ltnp, and stop what holds them",
    )
}

fn files(Facts { missing_files, .. }: &Facts) -> Option<Finding> {
    (!missing_files.is_empty()).then(|| {
        let next = "copy them there; `cargo xtask install --dry-run` shows where they come from";
        missing("--airgap", &format!("DIR lacks {}", missing_files.join(", ")), next)
    })
}

fn route(Facts { default_route, .. }: &Facts) -> Finding {
    if *default_route {
        return ok("network", "there is a default route");
    }
    missing(
        "network",
        "no default route, by which K3s finds the node's address",
        "sudo ip route add default via ADDRESS; without a network, to a dummy interface",
    )
}

fn disk(Facts { free_disk_gb, .. }: &Facts) -> Option<Finding> {
    let free = (*free_disk_gb)?;
    let found = format!("{free} GB free for /var/lib/rancher");
    Some(if free < MIN_DISK_GB {
        let next = format!("make room: {MIN_DISK_GB} GB are needed, or kubelet evicts pods");
        missing("disk", &found, &next)
    } else {
        ok("disk", &found)
    })
}

fn memory(Facts { memory_gb, .. }: &Facts) -> Option<Finding> {
    let total = (*memory_gb)?;
    let found = format!("{total} GB");
    Some(if total + 1 < MIN_MEMORY_GB {
        note("memory", &found, "vLLM requests 12 GiB, so 16 GB are recommended")
    } else {
        ok("memory", &found)
    })
}

fn ok(topic: &'static str, found: &str) -> Finding {
    Finding { mark: Mark::Ok, topic, found: found.to_owned(), next: String::new() }
}

fn missing(topic: &'static str, found: &str, next: &str) -> Finding {
    Finding { mark: Mark::Missing, topic, found: found.to_owned(), next: next.to_owned() }
}

fn refused(topic: &'static str, found: &str, next: &str) -> Finding {
    Finding { mark: Mark::Refused, topic, found: found.to_owned(), next: next.to_owned() }
}

fn note(topic: &'static str, found: &str, next: &str) -> Finding {
    Finding { mark: Mark::Note, topic, found: found.to_owned(), next: next.to_owned() }
}

#[cfg(test)]
mod tests;
