//! Which bucket of which store, and how the store wants to be asked.

use std::env;

use clap::ValueEnum;
use trace::{key_prefix::KeyPrefix, secrets::mask};

/// Where objects go or come from, and how the store wants to be asked.
#[derive(Debug, Clone, Default)]
pub struct Destination {
    pub bucket: String,
    pub prefix: KeyPrefix,
    pub endpoint: Option<String>,
    pub addressing: Addressing,
    pub checksums: Checksums,
    /// That of the bucket or the store, where it is not named.
    pub storage_class: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Addressing {
    /// Whichever the store accepts
    #[default]
    Auto,
    /// `http://store/bucket/key`
    Path,
    /// `http://bucket.store/key`
    Host,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Checksums {
    /// Unless the store refuses them
    #[default]
    Auto,
    /// On every upload
    Always,
    /// On no upload
    Never,
}

/// The name of a bucket, by the rules that all S3 stores share; the store has the last word. An error
/// says what is accepted.
pub fn bucket(value: &str) -> Result<String, String> {
    if value.starts_with("s3://") {
        return Err("accepted: the bucket's name alone, without s3://".to_owned());
    }
    let is_arn = value.starts_with("arn:");
    if value.contains('/') && !is_arn {
        return Err("accepted: the bucket's name alone; what follows it goes into S3_PREFIX".into());
    }
    let allowed = |c: char| {
        c.is_ascii_alphanumeric()
            || matches!(c, '-' | '.' | '_')
            || is_arn && matches!(c, ':' | '/')
    };
    let lengths = if is_arn { 3..=255 } else { 3..=63 };
    if !lengths.contains(&value.len()) || !value.chars().all(allowed) {
        return Err("accepted: 3 to 63 letters, digits, - and ., or an access point ARN".to_owned());
    }
    Ok(value.to_owned())
}

/// A storage class, by the form of their names: each store has its own. An error says what is accepted.
pub fn storage_class(value: &str) -> Result<String, String> {
    const ACCEPTED: &str = "accepted: a storage class such as STANDARD_IA or INTELLIGENT_TIERING";
    let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    if !(1..=64).contains(&value.len()) || !value.chars().all(is_name) {
        return Err(ACCEPTED.to_owned());
    }
    if ["GLACIER", "DEEP_ARCHIVE"].contains(&value) {
        return Err(format!(
            "objects of this class cannot be read back to confirm an upload: move them there later, by a \
             lifecycle rule of the bucket; {ACCEPTED}"
        ));
    }
    Ok(value.to_owned())
}

/// The URL of a store. An error says what is accepted.
pub fn endpoint(value: &str) -> Result<String, String> {
    let is_host = |host: &str| {
        !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._[]:".contains(c))
    };
    let rest = value.strip_prefix("http://").or_else(|| value.strip_prefix("https://"));
    let accepted = rest.is_some_and(|rest| {
        let authority = rest.split('/').next().unwrap_or(rest);
        // The colons of an IPv6 address stand in brackets.
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        is_host(host)
            && port.is_none_or(|port| port.parse::<u16>().is_ok())
            && !rest.contains(|c: char| c.is_whitespace() || matches!(c, '?' | '#'))
    });
    if accepted {
        Ok(value.to_owned())
    } else {
        Err("accepted: a URL such as http://minio:9000".to_owned())
    }
}

/// The endpoint that variables of the SDK name: it reads them too, but would check them only when it
/// sends something. An error names the variable, its value and what is accepted.
pub fn sdk_endpoint() -> Result<Option<String>, String> {
    for variable in ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"] {
        let Some(value) = env::var_os(variable).filter(|value| !value.is_empty()) else { continue };
        let value = value.to_string_lossy();
        return endpoint(&value)
            .map(Some)
            .map_err(|accepted| format!("{variable} is {:?}: {accepted}", mask(&value)));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_a_name_or_an_arn() {
        for good in ["my-traces.1", "arn:aws:s3:us-east-1:123456789012:accesspoint/traces"] {
            assert_eq!(bucket(good), Ok(good.to_owned()));
        }
        assert!(bucket("traces/k3s").unwrap_err().contains("S3_PREFIX"));
        for bad in ["ab", "a b c", "traces:1", &"a".repeat(64)] {
            assert!(bucket(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_storage_class_is_a_name_in_capitals_whose_objects_can_be_read() {
        for good in ["STANDARD", "ONEZONE_IA", "GLACIER_IR", "REDUCED_REDUNDANCY"] {
            assert_eq!(storage_class(good), Ok(good.to_owned()));
        }
        for bad in ["standard", "A B", "A\nB", "", &"A".repeat(65)] {
            assert!(storage_class(bad).unwrap_err().starts_with("accepted: "), "{bad:?}");
        }
        for archive in ["GLACIER", "DEEP_ARCHIVE"] {
            assert!(storage_class(archive).unwrap_err().contains("lifecycle rule"), "{archive}");
        }
    }

    #[test]
    fn an_endpoint_is_a_url_with_a_host() {
        for good in [
            "http://minio:9000",
            "https://s3.example.com/base",
            "http://[::1]:9000",
            "http://[::1]",
        ] {
            assert_eq!(endpoint(good), Ok(good.to_owned()));
        }
        for bad in ["minio:9000", "http://", "http://:9000", "http://a:x", "http://a b", "ftp://a"]
        {
            assert!(endpoint(bad).is_err(), "{bad:?}");
        }
    }
}
