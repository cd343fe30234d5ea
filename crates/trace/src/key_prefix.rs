//! `S3_PREFIX`: where objects lie in the bucket. Fields in it make the bucket a partitioned table.

use std::{fmt, str::FromStr};

/// A prefix of keys that is empty or ends in `/`, with fields such as `{date}`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyPrefix(String);

/// What the fields stand for. `date` and `hour` (UTC) are of when an object is made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fields<'a> {
    pub date: &'a str,
    pub hour: &'a str,
    pub node: &'a str,
    pub pod: &'a str,
    pub host: &'a str,
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

    /// With its fields filled in.
    pub fn with(&self, fields: &Fields<'_>) -> String {
        let Fields { date, hour, node, pod, host } = fields;
        self.0
            .replace("{date}", date)
            .replace("{hour}", hour)
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
        let sample = Self(folder.to_owned()).with(&Fields::default());
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

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: Fields<'_> =
        Fields { date: "2026-11-30", hour: "07", node: "gpu-1", pod: "vllm-abc", host: "box" };

    #[test]
    fn fields_are_filled_in_and_the_rest_stays() {
        for (written, fixed, filled) in [
            (
                "traces/date={date}/hour={hour}/node={node}/pod={pod}/{host}",
                "traces/",
                "traces/date=2026-11-30/hour=07/node=gpu-1/pod=vllm-abc/box/",
            ),
            ("k3s-vllm", "k3s-vllm/", "k3s-vllm/"),
            ("/", "", ""),
            ("{node}", "", "gpu-1/"),
        ] {
            let prefix: KeyPrefix = written.parse().unwrap();
            assert_eq!((prefix.fixed(), &*prefix.with(&FIELDS)), (fixed, filled), "{written}");
        }
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
