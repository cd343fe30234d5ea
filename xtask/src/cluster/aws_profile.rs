//! A profile of the AWS SDK's files, `credentials` and `config`, read as the SDK reads them: keys
//! that stand there, or why there are none to copy.

use std::{
    collections::BTreeMap,
    env, fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use settings::names::AWS_SECRET_KEYS;
use tasks::advice::explained;

/// What a profile has of these it does not have as keys: the SDK asks somebody for them each time.
const NOT_COPIED: [(&str, &str); 8] = [
    ("role_arn", "assumes a role"),
    ("source_profile", "takes the keys of another profile"),
    ("credential_source", "takes the keys of the instance or of the container"),
    ("web_identity_token_file", "is a web identity"),
    ("sso_session", "signs in by IAM Identity Center (SSO)"),
    ("sso_start_url", "signs in by IAM Identity Center (SSO)"),
    ("login_session", "signs in by the console"),
    ("credential_process", "asks a program"),
];

/// Properties by their names in lower case.
type Properties = BTreeMap<String, String>;

/// The two files, wherever variables say that they are.
struct Files {
    credentials: PathBuf,
    config: PathBuf,
}

/// The keys of a profile by the names of their variables: of this file, or of those of the SDK.
pub(crate) fn keys(file: Option<&Path>, profile: &str) -> Result<BTreeMap<String, String>> {
    let (properties, looked) = if let Some(file) = file {
        let text = fs::read_to_string(file)
            .with_context(|| format!("cannot read {} for AWS keys", file.display()))?;
        let found = section(&text, &[profile, &format!("profile {profile}")]);
        (found, file.display().to_string())
    } else {
        let files = Files::of_sdk()?;
        (files.properties(profile)?, files.named())
    };
    let Some(properties) = properties else {
        return Err(explained(
            "there are no AWS keys",
            format!("AWS_ACCESS_KEY_ID is not set, and no profile {profile:?} is in {looked}"),
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name another profile with \
             --aws-profile, or a file with --aws-credentials-file; where the instance has a role, \
             pods need no keys",
        ));
    };
    let how = NOT_COPIED.iter().find(|(name, _)| properties.contains_key(*name));
    let keys = of_properties(&properties);
    // A role comes before the keys by which it is assumed; all else comes after keys.
    let is_role = how.is_some_and(|(name, _)| *name == "role_arn");
    match how {
        Some((name, how)) if is_role || keys.is_empty() => Err(explained(
            format!("the profile {profile:?} has no keys that could be stored"),
            format!("it {how} ({name}, in {looked}), and its keys last for hours only"),
            format!(
                "store lasting keys of another profile; for a short run `eval \"$(aws configure \
                 export-credentials --profile {profile} --format env)\"`, and repeat"
            ),
        )),
        _ => {
            for name in &AWS_SECRET_KEYS[..2] {
                if !keys.contains_key(*name) {
                    return Err(explained(
                        format!("{name} is missing in the profile {profile:?}"),
                        format!("{looked} has no {} in it", name.to_lowercase()),
                        "write it there, or name another profile with --aws-profile",
                    ));
                }
            }
            Ok(keys)
        }
    }
}

/// Whether the SDK would find credentials of this user's, of whatever kind, in its files.
pub(crate) fn has_credentials(profile: &str) -> bool {
    let properties = Files::of_sdk().and_then(|files| files.properties(profile));
    properties.ok().flatten().is_some_and(|properties| {
        !of_properties(&properties).is_empty()
            || NOT_COPIED.iter().any(|(name, _)| properties.contains_key(*name))
    })
}

fn of_properties(properties: &Properties) -> BTreeMap<String, String> {
    let value = |name: &str| properties.get(name).filter(|value| !value.is_empty()).cloned();
    let keys = AWS_SECRET_KEYS.into_iter();
    keys.filter_map(|name| Some((name.to_owned(), value(&name.to_lowercase())?))).collect()
}

impl Files {
    fn of_sdk() -> Result<Self> {
        let home = env::home_dir();
        let file = |variable: &str, default: &str| {
            let named = env::var_os(variable).filter(|file| !file.is_empty()).map(PathBuf::from);
            let in_home = |below: &Path| home.as_ref().map(|home| home.join(below));
            match named {
                // As the SDK does, for whoever has quoted it.
                Some(file) => match file.strip_prefix("~") {
                    Ok(below) => in_home(below),
                    Err(_) => Some(file),
                },
                None => in_home(Path::new(default)),
            }
            .context("there is no home directory")
        };
        Ok(Self {
            credentials: file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials")?,
            config: file("AWS_CONFIG_FILE", ".aws/config")?,
        })
    }

    fn named(&self) -> String {
        format!("{} or {}", self.credentials.display(), self.config.display())
    }

    /// Of both files; where both have a property, `credentials` is right. None: no such profile.
    fn properties(&self, profile: &str) -> Result<Option<Properties>> {
        let of_config = format!("profile {profile}");
        let headings: &[&str] =
            if profile == "default" { &[&of_config, profile] } else { &[&of_config] };
        let config = read(&self.config)?.and_then(|text| section(&text, headings));
        let credentials = read(&self.credentials)?.and_then(|text| section(&text, &[profile]));
        Ok(match (config, credentials) {
            (None, None) => None,
            (config, credentials) => {
                let mut properties = config.unwrap_or_default();
                properties.extend(credentials.unwrap_or_default());
                Some(properties)
            }
        })
    }
}

/// None: there is no such file, which is nothing unusual.
fn read(file: &Path) -> Result<Option<String>> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(error).with_context(|| format!("cannot read {} for AWS keys", file.display()))
        }
    }
}

/// What stands below the first of these headings that is there; more than one section of it is one.
fn section(text: &str, headings: &[&str]) -> Option<Properties> {
    headings.iter().find_map(|heading| {
        let mut found: Option<Properties> = None;
        let mut is_inside = false;
        for line in text.trim_start_matches('\u{feff}').lines() {
            // What is indented belongs to the property above, such as those of `s3 =`.
            let is_nested = line.starts_with([' ', '\t']);
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(rest) = line.strip_prefix('[') {
                let name = rest.split(']').next().unwrap_or_default();
                let words: Vec<&str> = name.split_whitespace().collect();
                is_inside = words.join(" ").replace(['"', '\''], "") == *heading;
                if is_inside {
                    found.get_or_insert_default();
                }
            } else if let Some((name, value)) = line.split_once('=').filter(|_| !is_nested)
                && is_inside
                && let Some(properties) = &mut found
            {
                let value = without_comment(value.trim());
                properties.insert(name.trim().to_lowercase(), value.to_owned());
            }
        }
        found
    })
}

/// A comment behind a value has white space before it: a key may hold these characters.
fn without_comment(value: &str) -> &str {
    let begins = |(at, _): &(usize, &str)| value[..*at].ends_with(char::is_whitespace);
    let comment = value.match_indices(['#', ';']).find(begins);
    comment.map_or(value, |(at, _)| value[..at].trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(properties: &Properties) -> Vec<(&str, &str)> {
        properties.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    #[test]
    fn a_section_is_read_as_people_write_it() {
        for text in [
            "[default]\na = 1\nb=2",
            "\u{feff}[default]\r\na = 1\r\nb=2\r\n",
            "[ default ] # mine\nA = 1 # first\nb=2 ; second\n",
            "[other]\na = 3\n[default]\n#a = 0\na = 1\n[third]\nc=1\n[default]\nb = 2",
            "[default]\na = 1\ns3 =\n  b = 9\nb = 2\n",
        ] {
            let mut found = section(text, &["default"]).unwrap();
            found.remove("s3");
            assert_eq!(pairs(&found), [("a", "1"), ("b", "2")], "{text}");
        }
        let odd = section("[x]\na = b#c;d=e\n", &["x"]).unwrap();
        assert_eq!(pairs(&odd), [("a", "b#c;d=e")]);
        assert_eq!(section("[x]\n", &["default"]), None);
        assert!(section("[profile \"my lab\"]\n", &["profile my lab"]).is_some());
    }

    #[test]
    fn of_two_headings_the_first_is_right() {
        let text = "[default]\na = 1\n[profile default]\na = 2\n";
        let found = section(text, &["profile default", "default"]).unwrap();
        assert_eq!(pairs(&found), [("a", "2")]);
    }
}
