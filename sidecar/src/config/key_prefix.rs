//! `S3_PREFIX`: where objects lie in the bucket. Fields in it make the bucket a partitioned table.

use std::{env, fmt, str::FromStr};

use jiff::Timestamp;

/// A prefix of keys that is empty or ends in `/`, with fields such as `{date}`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyPrefix(String);

/// What fields stand for, beside the time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldValues {
    node: String,
    pod: String,
    host: String,
}

const ACCEPTED: &str = "accepted: a key prefix such as k3s-vllm/, without a leading / and without empty, . \
                        or .. parts; or / alone for none";

const FIELDS: &str = "fields are {date}, {hour}, {node}, {pod} and {host}";

impl KeyPrefix {
    /// What all keys begin with, whenever and wherever they are made: empty, or ends in `/`.
    pub fn fixed(&self) -> &str {
        let end = self.0.find('{').unwrap_or(self.0.len());
        let end = self.0[..end].rfind('/').map_or(0, |slash| slash + 1);
        &self.0[..end]
    }

    /// Of an object that is made here at `time`.
    pub fn at(&self, time: Timestamp, values: &FieldValues) -> String {
        let FieldValues { node, pod, host } = values;
        if !self.0.contains('{') {
            return self.0.clone();
        }
        self.0
            .replace("{date}", &time.strftime("%Y-%m-%d").to_string())
            .replace("{hour}", &time.strftime("%H").to_string())
            .replace("{node}", node)
            .replace("{pod}", pod)
            .replace("{host}", host)
    }
}

impl FromStr for KeyPrefix {
    type Err = String;

    fn from_str(value: &str) -> Result<Self, String> {
        if value == "/" {
            return Ok(Self::default());
        }
        let folder = value.strip_suffix('/').unwrap_or(value);
        let is_odd =
            |part: &str| matches!(part, "" | "." | "..") || part.contains(char::is_control);
        if folder.split('/').any(is_odd) {
            return Err(ACCEPTED.to_owned());
        }
        let sample = Self(folder.to_owned()).at(Timestamp::UNIX_EPOCH, &FieldValues::default());
        if sample.contains(['{', '}']) {
            return Err(FIELDS.to_owned());
        }
        Ok(Self(format!("{folder}/")))
    }
}

impl fmt::Display for KeyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FieldValues {
    /// `NODE_NAME` and `POD_NAME`, else the name of the host, which in a pod is the pod's.
    pub fn here() -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        Self::new(variable("NODE_NAME"), variable("POD_NAME"), &host)
    }

    fn new(node: Option<String>, pod: Option<String>, host: &str) -> Self {
        let name = |name: Option<String>| plain(name.as_deref().unwrap_or(host));
        Self { node: name(node), pod: name(pod), host: plain(host) }
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

    fn values() -> FieldValues {
        FieldValues::new(Some("gpu-1".to_owned()), Some("vllm-abc".to_owned()), "../host name")
    }

    #[test]
    fn fields_are_filled_in_and_the_rest_stays() {
        let prefix: KeyPrefix =
            "traces/date={date}/hour={hour}/node={node}/pod={pod}/{host}".parse().unwrap();
        assert_eq!(prefix.fixed(), "traces/");
        let time: Timestamp = "2026-11-30T07:08:09Z".parse().unwrap();
        assert_eq!(
            prefix.at(time, &values()),
            "traces/date=2026-11-30/hour=07/node=gpu-1/pod=vllm-abc/.._host_name/"
        );
        let plain: KeyPrefix = "k3s-vllm".parse().unwrap();
        assert_eq!(
            (plain.fixed(), plain.at(time, &values())),
            ("k3s-vllm/", "k3s-vllm/".to_owned())
        );
        let none: KeyPrefix = "/".parse().unwrap();
        assert_eq!((none.fixed(), none.at(time, &values())), ("", String::new()));
        let all: KeyPrefix = "{node}".parse().unwrap();
        assert_eq!((all.fixed(), all.at(time, &values())), ("", "gpu-1/".to_owned()));
    }

    #[test]
    fn without_a_pod_the_host_stands_for_it() {
        assert_eq!(FieldValues::new(None, None, "box").pod, "box");
        assert_eq!(FieldValues::new(None, None, "..").node, "unknown");
    }

    #[test]
    fn what_is_no_field_is_refused_with_those_that_are() {
        for value in ["a/{day}", "a/{date", "date}/a", "{}", "{Date}"] {
            let error = value.parse::<KeyPrefix>().unwrap_err();
            assert!(error.contains("{date}"), "{value}: {error}");
        }
        for value in ["", "/a", "a//b", "a/../b", "..", "//", "a/\n"] {
            assert!(value.parse::<KeyPrefix>().unwrap_err().contains("k3s-vllm/"), "{value}");
        }
    }
}
