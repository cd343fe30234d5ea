//! Names: of images, models, paths and objects.

/// A tag or a digest is a must: without, the image is whatever `latest` is on the node.
pub(in crate::deployment) fn image(value: &str) -> Result<String, String> {
    let (tagged, digest) = match value.split_once('@') {
        Some((tagged, digest)) => (tagged, Some(digest)),
        None => (value, None),
    };
    let (path, last) =
        tagged.rsplit_once('/').map_or((None, tagged), |(path, last)| (Some(path), last));
    let (name, tag) = match last.split_once(':') {
        Some((name, tag)) => (name, Some(tag)),
        None => (last, None),
    };
    let consists_of = |text: &str, others: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
    };
    let is_accepted = consists_of(name, "._-")
        && !name.contains(|c: char| c.is_ascii_uppercase())
        // The first part may be a host with a port.
        && path.is_none_or(|path| path.split('/').all(|part| consists_of(part, "._-:")))
        && (tag.is_some() || digest.is_some())
        && tag.is_none_or(|tag| consists_of(tag, "._-") && !tag.starts_with(['.', '-']))
        && digest.is_none_or(|digest| {
            digest.strip_prefix("sha256:").is_some_and(|hash| {
                hash.len() == 64 && hash.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
            })
        });
    if is_accepted {
        Ok(value.to_owned())
    } else {
        Err("accepted: an image with a tag or a digest, such as registry/name:v1".to_owned())
    }
}

pub(in crate::deployment) fn digest(value: &str) -> Result<String, String> {
    let is_plain =
        (1..=64).contains(&value.len()) && value.chars().all(|c| c.is_ascii_alphanumeric());
    if is_plain {
        Ok(value.to_owned())
    } else {
        Err("accepted: letters and digits, 64 at most".to_owned())
    }
}

pub(in crate::deployment) fn model(value: &str) -> Result<String, String> {
    if value.is_empty() || value.starts_with('-') || value.contains(char::is_whitespace) {
        return Err("accepted: a name such as meta-llama/Llama-2-7b-hf, or a directory".to_owned());
    }
    Ok(value.to_owned())
}

/// Kubernetes takes no colon in the path of a mount.
pub(in crate::deployment) fn absolute_path(value: &str) -> Result<String, String> {
    let is_plain = value.len() > 1
        && value.starts_with('/')
        && !value.contains(|c: char| c.is_control() || c == ':')
        && !value.split('/').any(|name| name == "..");
    if is_plain {
        Ok(value.to_owned())
    } else {
        Err("accepted: an absolute path below /, without .. and colons".to_owned())
    }
}

pub(in crate::deployment) fn dns_name(value: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
    let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_accepted = value.len() <= 253
        && value.chars().all(allowed)
        && value.starts_with(ends)
        && value.ends_with(ends);
    if is_accepted {
        Ok(value.to_owned())
    } else {
        Err("accepted: small letters, digits, - and ., such as local-path".to_owned())
    }
}

pub(in crate::deployment) fn region(value: &str) -> Result<String, String> {
    dns_name(value).map_err(|_| "accepted: a region such as eu-central-1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_a_tag_or_a_digest() {
        let digest = format!("vllm/vllm-openai@sha256:{}", "0a".repeat(32));
        for good in
            ["a:1", "localhost:5000/x/y:v1.2-3_4", "docker.io/vllm/vllm-openai:v0.20.2", &digest]
        {
            assert_eq!(image(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "a",
            "localhost:5000/a",
            "a:",
            ":1",
            "A:1",
            "a b:1",
            "a:1:2",
            "a//b:1",
            "a@sha256:12",
            "a:-1",
        ] {
            assert!(image(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_path_is_absolute() {
        assert!(absolute_path("/root/.cache").is_ok());
        for bad in ["", "/", "cache", "/a/../b", "/a:/b", "/a\n"] {
            assert!(absolute_path(bad).is_err(), "{bad:?}");
        }
    }
}
