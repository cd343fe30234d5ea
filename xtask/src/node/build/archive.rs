//! An archive as `docker save` and `podman save` write it.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use tasks::command::Command;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
}

/// The digest of the configuration: what containerd calls the image's id. The id that the engine
/// tells is the same only for some of its stores.
pub(super) fn config_digest(archive: &Path) -> Result<String> {
    let extract = Command::new("tar -xOf").path(archive).words("manifest.json");
    let manifest = extract.read().with_context(|| format!("cannot read {}", archive.display()))?;
    digest_in(&manifest).with_context(|| format!("{} is no archive of an image", archive.display()))
}

fn digest_in(manifest: &str) -> Result<String> {
    let entries: Vec<Entry> =
        serde_json::from_str(manifest).context("its manifest.json cannot be read")?;
    let [Entry { config }] = &entries[..] else {
        anyhow::bail!("it holds {} images, not one", entries.len());
    };
    let file = config.rsplit('/').next().unwrap_or(config);
    let hash = file.strip_suffix(".json").unwrap_or(file);
    Ok(format!("sha256:{hash}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_of_the_configurations_name_are_known() {
        for config in ["abc.json", "blobs/sha256/abc", "sha256/abc.json"] {
            let manifest = format!(r#"[{{"Config":"{config}","RepoTags":["a:b"],"Layers":[]}}]"#);
            assert_eq!(digest_in(&manifest).unwrap(), "sha256:abc");
        }
        assert_eq!(digest_in("[]").unwrap_err().to_string(), "it holds 0 images, not one");
    }
}
