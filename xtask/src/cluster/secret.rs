//! What a secret of the namespace holds: decoded by kubectl, into this process only.

use std::{collections::BTreeMap, fmt::Write as _};

use anyhow::Result;

use super::kubectl::{Kubectl, is_not_found};
use settings::names::{AWS_SECRET, HF_SECRET};
use tasks::command::Command;

/// Of the digest: enough to tell two apart, and too few to tell what was digested.
const DIGITS: usize = 16;

/// A line for each key. Quoted, as a value may have a line break, which would be worth knowing.
const TEMPLATE: &str = r#"go-template={{range $key, $value := .data}}{{printf "%s=%q\n" $key (base64decode $value)}}{{end}}"#;

/// None if there is no such secret.
pub(crate) fn read(kubectl: &Kubectl, name: &str) -> Result<Option<BTreeMap<String, String>>> {
    match kubectl.namespaced("get secret").arg(name).words("-o").arg(TEMPLATE).read() {
        Ok(lines) => Ok(Some(parse(&lines))),
        Err(error) if is_not_found(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A text that changes when one of the secrets does that a pod takes when it starts. None where this user
/// may not read them.
pub(crate) fn digest(kubectl: &Kubectl) -> Option<String> {
    let mut lines = String::new();
    for name in [HF_SECRET, AWS_SECRET] {
        for (key, value) in read(kubectl, name).ok()?.unwrap_or_default() {
            let _: std::fmt::Result = writeln!(lines, "{name} {key}={value:?}");
        }
    }
    let digest = Command::new("sha256sum").secret("secrets", &lines, &[&lines]).read().ok()?;
    Some(digest.chars().take(DIGITS).collect())
}

fn parse(lines: &str) -> BTreeMap<String, String> {
    let pairs = lines.lines().filter_map(|line| line.split_once('='));
    // Go's quotes are those of JSON, but for bytes that no value that is used here may have.
    let unquoted = |value: &str| serde_json::from_str(value).unwrap_or_else(|_| value.to_owned());
    pairs.map(|(key, value)| (key.to_owned(), unquoted(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_told_apart_whatever_the_values_hold() {
        let secret = parse("AWS_SECRET_ACCESS_KEY=\"a=b/+\"\ntoken=\"hf_abc\\n\"\nraw=\"\\x00\"\n");
        let pairs: Vec<(&str, &str)> =
            secret.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(
            pairs,
            [("AWS_SECRET_ACCESS_KEY", "a=b/+"), ("raw", "\"\\x00\""), ("token", "hf_abc\n")]
        );
    }
}
