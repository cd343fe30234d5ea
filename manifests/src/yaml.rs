//! The one place where objects become text.
//!
//! kubectl reads YAML 1.1, where a bare `on` is a boolean, `1_000` and `12:30` are numbers and `2026-01-01` is a time.
//! `serde_yaml` writes for YAML 1.2 and leaves such strings bare. So each of them is written as a mark, which the quoted
//! string then replaces; and a text that does not read back as the object it came from is an error.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::Resource;
use serde::{Serialize, de::DeserializeOwned};
use serde_yaml::Value;

/// Renders an object exactly as `kubectl apply` will read it, by YAML 1.1 as by 1.2.
pub fn to_yaml<T: Resource + Serialize + DeserializeOwned + PartialEq>(
    object: &T,
) -> Result<String> {
    let text = write(object).with_context(|| format!("cannot render the {}", T::KIND))?;
    let read_back: T = serde_yaml::from_str(&text)
        .with_context(|| format!("cannot read back the {} as rendered", T::KIND))?;
    ensure!(read_back == *object, "cannot render the {}: it reads back as another object", T::KIND);
    Ok(text)
}

/// One text with all documents, for `kubectl apply -f -`.
pub fn join(documents: &[String]) -> String {
    documents.iter().flat_map(|document| ["---\n", document]).collect()
}

fn write(object: &impl Serialize) -> Result<String> {
    let mut value = serde_yaml::to_value(object)?;
    let mut quoted = Quoted { mark: unused_mark(&value), strings: Vec::new() };
    quoted.take_from(&mut value);
    let mut text = serde_yaml::to_string(&value)?;
    for (number, string) in quoted.strings.iter().enumerate() {
        text = text.replace(&quoted.mark(number), &format!("\"{string}\""));
    }
    Ok(text)
}

struct Quoted {
    mark: String,
    /// Each without anything that double quotes would change.
    strings: Vec<String>,
}

impl Quoted {
    /// Replaces every string that YAML 1.1 would read as another type, keys included.
    fn take_from(&mut self, value: &mut Value) {
        match value {
            Value::String(string) if is_ambiguous(string) => {
                let mark = self.mark(self.strings.len());
                self.strings.push(std::mem::replace(string, mark));
            }
            Value::Sequence(items) => items.iter_mut().for_each(|item| self.take_from(item)),
            Value::Mapping(entries) => {
                for (mut key, mut value) in std::mem::take(entries) {
                    self.take_from(&mut key);
                    self.take_from(&mut value);
                    entries.insert(key, value);
                }
            }
            Value::Tagged(tagged) => self.take_from(&mut tagged.value),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (),
        }
    }

    /// A word that is written bare; its end keeps 1 apart from 10.
    fn mark(&self, number: usize) -> String {
        format!("{}{number}q", self.mark)
    }
}

/// A beginning that no string of the object contains.
fn unused_mark(value: &Value) -> String {
    let mut mark = "quoted".to_owned();
    while contains(value, &mark) {
        mark.push('x');
    }
    mark
}

fn contains(value: &Value, mark: &str) -> bool {
    match value {
        Value::String(string) => string.contains(mark),
        Value::Sequence(items) => items.iter().any(|item| contains(item, mark)),
        Value::Mapping(entries) => {
            entries.iter().any(|(key, value)| contains(key, mark) || contains(value, mark))
        }
        Value::Tagged(tagged) => contains(&tagged.value, mark),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Whether YAML 1.1 might read the bare word as anything but a string. Says so of more words than it must, never of
/// fewer: those of the types at <https://yaml.org/type/>, and what Go's number parser takes besides (`0o17`).
fn is_ambiguous(string: &str) -> bool {
    const WORDS: [&str; 18] = [
        "", "~", "null", "y", "n", "yes", "no", "on", "off", "true", "false", ".inf", "+.inf",
        "-.inf", ".nan", "<<", "=", ".",
    ];
    let is_number_like = || {
        string.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
            && string.chars().all(|c| c.is_ascii_hexdigit() || "+-._:oOxXtTzZ \t".contains(c))
    };
    WORDS.contains(&string.to_ascii_lowercase().as_str()) || is_number_like()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn settings(value: &str) -> ConfigMap {
        let data = [("key".to_owned(), value.to_owned())].into();
        ConfigMap { data: Some(data), ..ConfigMap::default() }
    }

    #[test]
    fn only_strings_that_need_quotes_get_them() {
        let line = |value| {
            let text = to_yaml(&settings(value)).unwrap();
            text.lines().find_map(|line| line.strip_prefix("  key: ").map(str::to_owned)).unwrap()
        };
        for bare in ["512Mi", "500m", "cuda", "v0.20.0", "docker.io/a:b", "quoted0q", "--port=1"] {
            assert_eq!(line(bare), bare);
        }
        for word in
            ["on", "y", "No", "1_000", "12:30", "2026-01-01", "017", "0o17", "1e3", "true", "60"]
        {
            assert_eq!(line(word), format!("\"{word}\""));
        }
    }

    #[test]
    fn a_mark_is_no_part_of_any_string() {
        let data = [("quoted0q", "on"), ("on", "quotedx0q")];
        let data = data.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let settings = ConfigMap { data: Some(data), ..ConfigMap::default() };
        let text = to_yaml(&settings).unwrap();
        assert!(text.contains("  quoted0q: \"on\"\n"), "{text}");
        assert!(text.contains("  \"on\": quotedx0q\n"), "{text}");
    }

    /// Loses its only field when it is read.
    #[derive(PartialEq, Serialize, serde::Deserialize)]
    struct Lossy {
        #[serde(default, skip_deserializing)]
        field: u8,
    }

    impl Resource for Lossy {
        const API_VERSION: &'static str = "v1";
        const GROUP: &'static str = "";
        const KIND: &'static str = "Lossy";
        const VERSION: &'static str = "v1";
        const URL_PATH_SEGMENT: &'static str = "lossies";
        type Scope = k8s_openapi::ClusterResourceScope;
    }

    #[test]
    fn an_object_that_reads_back_as_another_is_refused() {
        assert_eq!(to_yaml(&Lossy { field: 0 }).unwrap(), "field: 0\n");
        let error = to_yaml(&Lossy { field: 1 }).unwrap_err().to_string();
        assert_eq!(error, "cannot render the Lossy: it reads back as another object");
    }
}
