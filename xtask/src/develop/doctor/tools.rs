//! Tools that only some tasks need: what is absent is a note that says for which.

use super::{
    Finding,
    facts::{Checking, Deploying, Measuring, Tool},
};
use crate::develop::ebpf::toolchain::Piece;

pub(super) fn checking(found: &Checking) -> Vec<Finding> {
    let Checking { rustfmt, clippy, jq, pod } = found;
    vec![
        tool("rustfmt", rustfmt, "checks the format", "rustup component add rustfmt"),
        tool("clippy", clippy, "looks for mistakes", "rustup component add clippy"),
        tool("jq", jq, "runs the one-liners of the README", "apt-get install jq"),
        match pod {
            Ok(found) => Finding::ok("podman", found),
            Err(problem) => podman_is_missing(problem),
        },
    ]
}

/// Of the error of `cargo xtask demo --pod`, which ends with the way out where there is one.
fn podman_is_missing(problem: &str) -> Finding {
    let (found, remedy) = match problem.split_once("\nnext:") {
        Some((found, remedy)) => (found, Some(remedy.trim().to_owned())),
        None => (problem, None),
    };
    let found = found.lines().next().unwrap_or_default();
    Finding::note("podman", format!("{found}; `cargo xtask ci` leaves the pod out"), remedy)
}

pub(super) fn ebpf(pieces: &[Piece]) -> Vec<Finding> {
    pieces
        .iter()
        .map(|piece| match &piece.state {
            Ok(found) => Finding::ok(piece.name, found),
            Err(problem) => Finding::note(
                piece.name,
                format!("{problem}; it {}", piece.purpose),
                piece.remedy.clone(),
            ),
        })
        .collect()
}

pub(super) fn deploying(found: &Deploying) -> Vec<Finding> {
    let Deploying { podman, docker, buildah, kubectl, k3s, nvidia_driver } = found;
    // Any of them builds the image.
    let engine = [podman, docker, buildah].into_iter().flatten().next().cloned();
    vec![
        tool(
            "container engine",
            &engine,
            "builds the image of the sidecar",
            "apt-get install podman; or docker, or buildah",
        ),
        tool("kubectl", kubectl, "talks to the cluster", "K3s brings it, as `k3s kubectl`"),
        tool("k3s", k3s, "is the cluster", "needed on the node only"),
        tool("NVIDIA driver", nvidia_driver, "runs CUDA", "needed on the node only"),
    ]
}

pub(super) fn measuring(found: &Measuring) -> Vec<Finding> {
    let Measuring { bpftrace } = found;
    vec![tool("bpftrace", bpftrace, "is what we compare with", "apt-get install bpftrace")]
}

fn tool(topic: &'static str, found: &Tool, purpose: &str, remedy: &str) -> Finding {
    match found {
        Some(found) => Finding::ok(topic, found),
        None => Finding::note(topic, format!("not found; it {purpose}"), remedy.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::develop::doctor::Mark;

    #[test]
    fn any_container_engine_is_enough() {
        let mut found = Deploying {
            podman: None,
            docker: None,
            buildah: Some("buildah version 1.39.3".to_owned()),
            kubectl: None,
            k3s: None,
            nvidia_driver: None,
        };
        assert_eq!(deploying(&found)[0], Finding::ok("container engine", "buildah version 1.39.3"));
        found.buildah = None;
        assert_eq!(deploying(&found)[0].mark, Mark::Note);
    }

    #[test]
    fn without_podman_it_is_said_what_is_left_out() {
        let problem = "podman is not here (podman), and it plays the pod\n\
                       next:  sudo apt-get install podman";
        assert_eq!(
            podman_is_missing(problem).to_line(),
            "  note     podman                     podman is not here (podman), and it plays the \
             pod; `cargo xtask ci` leaves the pod out: sudo apt-get install podman\n"
        );
    }

    #[test]
    fn absent_tools_are_notes_with_a_purpose_and_a_remedy() {
        let found = measuring(&Measuring { bpftrace: None });
        assert_eq!(
            found[0].to_line(),
            "  note     bpftrace                   not found; it is what we compare with: apt-get \
             install bpftrace\n"
        );
    }
}
