//! The headers that a user adds to each request. Their values may be secrets: none is ever shown.

use std::{fmt, fs, path::Path};

use anyhow::{Context as _, Result, bail, ensure};

/// What takes the place of a secret.
const HIDDEN: &str = "[hidden]";
/// What is shorter is a word like any other.
const SHORTEST_SECRET: usize = 6;
/// What the client sets itself, because what it measures depends on it.
const OWN: [&str; 7] = [
    "accept-encoding",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "transfer-encoding",
    "x-request-id",
];

/// A value of the command line that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(HIDDEN)
    }
}

/// Names and values, checked to be what a request can carry.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// From `Name: value` as typed, and the key of the server's API. An error never holds a value.
    pub fn new(typed: &[Secret], key: Option<&Secret>, key_file: Option<&Path>) -> Result<Self> {
        let mut headers = Self::default();
        for (number, Secret(text)) in (1..).zip(typed) {
            let Some((name, value)) = text.split_once(':') else {
                bail!("header {number} has no colon: give --header 'Name: value'");
            };
            let (name, value) = (name.trim(), value.trim());
            let is_name =
                |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            ensure!(
                !name.is_empty() && name.bytes().all(is_name),
                "header {number} has no name that HTTP allows: give --header 'Name: value'"
            );
            ensure!(
                is_value(value),
                "the header {name} holds a character that no HTTP header can carry"
            );
            ensure!(
                !OWN.contains(&name.to_ascii_lowercase().as_str()),
                "the header {name} is set by the client itself: leave it out"
            );
            ensure!(headers.get(name).is_none(), "the header {name} is given twice");
            headers.0.push((name.to_owned(), value.to_owned()));
        }
        let key = match key_file {
            Some(path) => Some(read_key(path)?),
            None => key.map(|Secret(key)| key.trim().to_owned()).filter(|key| !key.is_empty()),
        };
        if let Some(key) = key {
            let is_key = key.bytes().all(|byte| byte.is_ascii_graphic());
            ensure!(is_key, "the API key holds a character that no HTTP header can carry");
            // A header by that name is what the user typed last and on purpose.
            if headers.get("authorization").is_none() {
                headers.0.push(("Authorization".to_owned(), format!("Bearer {key}")));
            }
        }
        Ok(headers)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.0.iter().map(|(name, _)| name.clone()).collect()
    }

    /// `text` without what is secret: some servers repeat a wrong key in their answer.
    pub(crate) fn hide_in(&self, text: &str) -> String {
        let mut hidden = text.to_owned();
        for (name, value) in self.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("host")) {
            let is_scheme = name.eq_ignore_ascii_case("authorization");
            let bare = value.split_once(' ').filter(|_| is_scheme).map_or(value, |(_, bare)| bare);
            if bare.len() >= SHORTEST_SECRET {
                hidden = hidden.replace(bare, HIDDEN);
            }
        }
        hidden
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

fn is_value(value: &str) -> bool {
    value.bytes().all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f))
}

fn read_key(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read the API key from {}", path.display()))?;
    let key = text.trim();
    ensure!(!key.is_empty(), "{} holds no API key", path.display());
    Ok(key.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(typed: &[&str], key: Option<&str>) -> Result<Headers> {
        let secrets: Vec<Secret> = typed.iter().map(|&text| text.to_owned().into()).collect();
        let key = key.map(|key| Secret::from(key.to_owned()));
        Headers::new(&secrets, key.as_ref(), None)
    }

    #[test]
    fn headers_are_read_as_they_are_typed() {
        let headers = headers(&["X-Tenant: a:b", "accept:*/*"], Some(" key ")).unwrap();
        let expected = [("X-Tenant", "a:b"), ("accept", "*/*"), ("Authorization", "Bearer key")];
        assert_eq!(headers.iter().collect::<Vec<_>>(), expected);
        assert_eq!(headers.get("ACCEPT"), Some("*/*"));
    }

    #[test]
    fn an_own_authorization_takes_the_place_of_the_key() {
        let own = headers(&["authorization: Basic abc"], Some("key")).unwrap();
        assert_eq!(own.iter().collect::<Vec<_>>(), [("authorization", "Basic abc")]);
        assert_eq!(headers(&[], Some("  ")).unwrap(), Headers::default());
    }

    #[test]
    fn no_message_and_no_debug_output_holds_a_value() {
        for (typed, key) in [
            (vec!["topsecret"], None),
            (vec![": topsecret"], None),
            (vec!["a b: topsecret"], None),
            (vec!["a: topsecret\n"], Some("top\u{e9}secret")),
            (vec!["a: topsecret\u{7f}\u{1}x"], None),
            (vec!["Content-Length: topsecret"], None),
            (vec!["a: topsecret", "A: topsecret"], None),
        ] {
            let message = format!("{:#}", headers(&typed, key).unwrap_err());
            assert!(!message.contains("topsecret"), "{message}");
        }
        let headers = headers(&["X-Token: topsecret"], Some("othersecret")).unwrap();
        let shown = format!("{headers:?} {:?}", Secret::from("topsecret".to_owned()));
        assert_eq!(shown, r#"["X-Token", "Authorization"] [hidden]"#);
        let said = "no such key: othersecret (topsecret)";
        assert_eq!(headers.hide_in(said), "no such key: [hidden] ([hidden])");
    }

    #[test]
    fn a_key_may_come_from_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "filekey\n").unwrap();
        let environment = Secret::from("other".to_owned());
        let headers = Headers::new(&[], Some(&environment), Some(file.path())).unwrap();
        assert_eq!(headers.get("authorization"), Some("Bearer filekey"));
        fs::write(file.path(), "\n").unwrap();
        assert!(Headers::new(&[], None, Some(file.path())).is_err());
    }
}
