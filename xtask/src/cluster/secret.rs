//! What a secret of the namespace holds: decoded by kubectl, into this process only.

use std::collections::BTreeMap;

use anyhow::Result;

use super::kubectl::{Kubectl, is_not_found};

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
