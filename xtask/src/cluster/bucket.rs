//! Where the traces of the deployment are: from this environment, else as it was deployed.

use std::{collections::BTreeMap, env, path::Path};

use anyhow::{Error, Result};
use clap::Args;
use serde::Deserialize;

use super::{kubectl::Kubectl, secret};
use settings::names::{AWS_SECRET, AWS_SECRET_KEYS, SETTINGS};
use tasks::{
    advice::explained,
    command::{Command, in_short},
    static_build::any_program,
};

use crate::cluster::aws_profile;

const VARIABLES: [&str; 4] = ["S3_BUCKET", "S3_PREFIX", "S3_ENDPOINT", "AWS_REGION"];

#[derive(Default, Deserialize)]
struct ConfigMap {
    #[serde(default)]
    data: BTreeMap<String, String>,
}

/// Variables for the sidecar's program on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// Those that this environment lacks.
    deployed: BTreeMap<String, String>,
    /// From the cluster's secret, if nothing here has any.
    credentials: BTreeMap<String, String>,
    /// For people and for a directory of its own: `bucket/prefix`.
    pub(crate) location: String,
}

/// Which traces; without any, all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub(crate) struct Runs {
    /// Only trace files of this run: HOST_START, as file names have it behind trace_
    #[arg(long, value_name = "RUN", conflicts_with_all = ["last", "since"])]
    pub(crate) run: Option<String>,

    /// Only trace files of the run that began last
    #[arg(long, conflicts_with = "since")]
    pub(crate) last: bool,

    /// Only trace files of runs that began then or later, in UTC: 2026-11-24 or 2026-11-24T04:28
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
}

impl Runs {
    fn arguments(&self) -> Vec<String> {
        let Self { run, last, since } = self;
        let with_value = |flag: &str, value: &Option<String>| {
            value.iter().map(|value| format!("{flag}={value}")).collect::<Vec<_>>()
        };
        let last = last.then(|| "--last".to_owned());
        with_value("--run", run)
            .into_iter()
            .chain(last)
            .chain(with_value("--since", since))
            .collect()
    }
}

impl Bucket {
    /// A bucket that is named here needs no cluster.
    pub(crate) fn find(kubectl: Result<&Kubectl, &Error>) -> Result<Self> {
        let data = match kubectl {
            Ok(kubectl) => of_cluster(kubectl).map_err(|error| in_short(&error)),
            Err(error) => Err(in_short(error)),
        };
        let kubectl = kubectl.ok().filter(|_| data.is_ok());
        Self::from(data, &is_set, || kubectl.map_or_else(|| Ok(BTreeMap::new()), keys))
    }

    /// From what is deployed, or why that is not known.
    fn from(
        data: Result<BTreeMap<String, String>, String>,
        is_set: &dyn Fn(&str) -> bool,
        secret: impl FnOnce() -> Result<BTreeMap<String, String>>,
    ) -> Result<Self> {
        let why = match &data {
            Ok(_) => "nothing is deployed that names a bucket".to_owned(),
            Err(error) => format!("the cluster cannot be asked: {error}"),
        };
        let data = data.unwrap_or_default();
        let deployed: BTreeMap<String, String> = data
            .into_iter()
            .filter(|(name, _)| VARIABLES.contains(&name.as_str()) && !is_set(name))
            .collect();
        if !is_set("S3_BUCKET") && !deployed.contains_key("S3_BUCKET") {
            return Err(explained(
                "nothing says where the traces are",
                format!("S3_BUCKET is not set, and {why}"),
                "put S3_BUCKET=... S3_PREFIX=... in front of the command, or `cargo xtask deploy` first",
            ));
        }
        let of_this_machine = is_set("AWS_ACCESS_KEY_ID")
            || is_set("AWS_PROFILE")
            || is_set("AWS_WEB_IDENTITY_TOKEN_FILE")
            || aws_profile::has_credentials("default");
        let credentials = if of_this_machine { BTreeMap::new() } else { secret()? };
        let value = |name: &str| {
            let own = env::var(name).ok().filter(|value| !value.is_empty());
            own.or_else(|| deployed.get(name).cloned())
        };
        let bucket = value("S3_BUCKET").unwrap_or_default();
        let prefix = value("S3_PREFIX").unwrap_or_else(|| "k3s-vllm/".to_owned());
        let location = format!("{bucket}/{}", prefix.trim_matches('/'));
        Ok(Self { deployed, credentials, location })
    }

    /// Downloads what is not in the directory yet; prints the path of each file.
    pub(crate) fn fetch(&self, directory: &Path, of: &Runs) -> Command {
        let mut fetch = any_program().words("fetch --out").path(directory).args(of.arguments());
        for (name, value) in &self.deployed {
            fetch = fetch.variable(name, value);
        }
        for (name, value) in &self.credentials {
            fetch = fetch.secret_variable(name, value);
        }
        fetch
    }
}

fn is_set(variable: &str) -> bool {
    env::var_os(variable).is_some_and(|value| !value.is_empty())
}

fn of_cluster(kubectl: &Kubectl) -> Result<BTreeMap<String, String>> {
    let get = kubectl.namespaced("get configmap").arg(SETTINGS);
    let map: Option<ConfigMap> = Kubectl::get(&get)?;
    Ok(map.unwrap_or_default().data)
}

fn keys(kubectl: &Kubectl) -> Result<BTreeMap<String, String>> {
    let mut secret = secret::read(kubectl, AWS_SECRET)?.unwrap_or_default();
    secret.retain(|name, value| AWS_SECRET_KEYS.contains(&&name[..]) && !value.is_empty());
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn what_was_deployed_fills_in_what_is_not_set_here() {
        let data = map(&[("S3_BUCKET", "traces"), ("S3_PREFIX", "a/b/"), ("TRACE_DIR", "/traces")]);
        let keys = map(&[("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "very-secret")]);
        let bucket = Bucket::from(Ok(data.clone()), &|_| false, || Ok(keys)).unwrap();
        let shown = bucket.fetch("out".as_ref(), &Runs::default()).shown();
        assert!(shown.contains("S3_BUCKET=traces S3_PREFIX=a/b/ "), "{shown}");
        assert!(!shown.contains("very-secret") && !shown.contains("TRACE_DIR"), "{shown}");
        let own = |name: &str| ["S3_BUCKET", "AWS_ACCESS_KEY_ID"].contains(&name);
        let bucket = Bucket::from(Ok(data), &own, || panic!("its own are used")).unwrap();
        assert_eq!(bucket.deployed, map(&[("S3_PREFIX", "a/b/")]));
    }

    #[test]
    fn without_a_bucket_the_way_out_is_said() {
        let from = |data| Bucket::from(data, &|_| false, || Ok(map(&[]))).unwrap_err().to_string();
        let error = from(Ok(map(&[])));
        assert!(
            error.contains("nothing is deployed") && error.contains("S3_BUCKET=..."),
            "{error}"
        );
        let error = from(Err("connection refused".to_owned()));
        assert!(error.contains("cannot be asked: connection refused"), "{error}");
    }
}
