//! What the fields of a key prefix stand for on this machine.

use std::env;

use jiff::Timestamp;
use trace::key_prefix::{Fields, KeyPrefix};

/// The values of all fields but those of time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct FieldValues {
    node: String,
    pod: String,
    host: String,
}

impl FieldValues {
    /// `NODE_NAME` and `POD_NAME`, else the name of the host, which in a pod is the pod's.
    pub(crate) fn here() -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        Self::new(variable("NODE_NAME"), variable("POD_NAME"), &host)
    }

    fn new(node: Option<String>, pod: Option<String>, host: &str) -> Self {
        let name = |name: Option<String>| plain(name.as_deref().unwrap_or(host));
        Self { node: name(node), pod: name(pod), host: plain(host) }
    }

    /// The prefix of an object that is made here at `time`.
    pub(crate) fn fill(&self, prefix: &KeyPrefix, time: Timestamp) -> String {
        let Self { node, pod, host } = self;
        let date = time.strftime("%Y-%m-%d").to_string();
        let hour = time.strftime("%H").to_string();
        prefix.with(&Fields { date: &date, hour: &hour, node, pod, host })
    }
}

/// As a part of a key that every store and every file system takes.
fn plain(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '_' };
    let name: String = name.chars().map(plain).collect();
    // A part of dots alone would lead elsewhere.
    if name.trim_matches('.').is_empty() { "unknown".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_filled_in_with_the_time_and_this_machine() {
        let values =
            FieldValues::new(Some("gpu-1".to_owned()), Some("vllm-abc".to_owned()), "../host name");
        let prefix: KeyPrefix =
            "traces/date={date}/hour={hour}/node={node}/pod={pod}/{host}".parse().unwrap();
        let time: Timestamp = "2026-11-30T07:08:09Z".parse().unwrap();
        assert_eq!(
            values.fill(&prefix, time),
            "traces/date=2026-11-30/hour=07/node=gpu-1/pod=vllm-abc/.._host_name/"
        );
    }

    #[test]
    fn without_a_pod_the_host_stands_for_it() {
        assert_eq!(FieldValues::new(None, None, "box").pod, "box");
        assert_eq!(FieldValues::new(None, None, "..").node, "unknown");
    }
}
