//! `cargo xtask secrets`: the Hugging Face token, and AWS keys if pods need them.
//!
//! Values come from the environment, from files or from a prompt, never from the command line, and go
//! to the cluster over stdin. Server-side apply leaves no annotation that repeats them.

mod source;

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde_json::json;
use tasks::{
    command::Command,
    ctx::{Ctx, State},
};

use crate::cluster::{Cluster, deploy::namespace, kubectl::Kubectl, secret};
use settings::names::{AWS_SECRET, HF_SECRET, HF_SECRET_KEY, NAMESPACE};

/// Store the Hugging Face token, and AWS keys, in the cluster
///
/// The token is that of --hf-token-file, of HF_TOKEN, or is asked for. AWS keys are needed only
/// where pods cannot get them from the role of the instance. None of them shows in an argument, in a
/// dry run or in a log.
#[derive(Debug, Args)]
pub(crate) struct Secrets {
    /// File with the token; - is stdin
    #[arg(long, value_name = "FILE")]
    hf_token_file: Option<PathBuf>,

    /// Leave the token alone
    #[arg(long, conflicts_with = "hf_token_file")]
    no_hf_token: bool,

    /// Also store AWS keys: those of AWS_ACCESS_KEY_ID and so on, else those of a profile
    ///
    /// The profile is read where the AWS SDK reads it: in the files that AWS_SHARED_CREDENTIALS_FILE
    /// and AWS_CONFIG_FILE name, else in ~/.aws/credentials and ~/.aws/config. Only keys that stand
    /// there can be stored: of a profile that signs in, or asks a program, the way out is said.
    #[arg(long)]
    aws: bool,

    /// Another file of that form, in place of these
    #[arg(long, value_name = "FILE", requires = "aws")]
    aws_credentials_file: Option<PathBuf>,

    /// Which keys of the file
    #[arg(long, value_name = "NAME", env = "AWS_PROFILE", default_value = "default")]
    aws_profile: String,

    #[command(flatten)]
    cluster: Cluster,
}

pub(crate) fn run(ctx: &Ctx, task: &Secrets) -> Result<()> {
    let Secrets { hf_token_file, no_hf_token, aws, aws_credentials_file, aws_profile, cluster } =
        task;
    let kubectl = Kubectl::find(ctx, cluster)?;
    // All is read before anything is changed.
    let mut secrets = Vec::new();
    if !no_hf_token {
        let token =
            if ctx.dry_run { String::new() } else { source::token(hf_token_file.as_deref())? };
        secrets.push((HF_SECRET, BTreeMap::from([(HF_SECRET_KEY.to_owned(), token)])));
    }
    if *aws {
        let keys = if ctx.dry_run {
            BTreeMap::new()
        } else {
            source::aws_keys(aws_credentials_file.as_deref(), aws_profile)?
        };
        secrets.push((AWS_SECRET, keys));
    }
    ensure!(!secrets.is_empty(), "nothing to store: --no-hf-token without --aws");
    create_namespace(ctx, &kubectl)?;
    for (name, data) in &secrets {
        store(ctx, &kubectl, name, data)?;
    }
    if !ctx.dry_run {
        eprintln!("note    a pod that runs takes them by `cargo xtask deploy --restart`");
    }
    Ok(())
}

/// Only made if it is not there: `deploy` owns its labels.
fn create_namespace(ctx: &Ctx, kubectl: &Kubectl) -> Result<()> {
    let look = || {
        Ok(match namespace::get(kubectl)? {
            Some(_) => State::Met("there".to_owned()),
            None => State::Unmet("not there".to_owned()),
        })
    };
    ctx.converge(NAMESPACE, look, &[kubectl.command("create namespace").arg(NAMESPACE)])
}

fn store(ctx: &Ctx, kubectl: &Kubectl, name: &str, data: &BTreeMap<String, String>) -> Result<()> {
    let look = || {
        if ctx.dry_run {
            return Ok(State::Unmet("not compared in a dry run".to_owned()));
        }
        Ok(match secret::read(kubectl, name)? {
            None => State::Unmet("not there".to_owned()),
            Some(stored) if stored == *data => State::Met("there, with these values".to_owned()),
            Some(_) => State::Unmet("there, with other values".to_owned()),
        })
    };
    ctx.converge(&format!("secret {name}"), look, &[apply(kubectl, name, data)?])
}

/// As `data`: of what is applied as `stringData` the server would keep keys that are gone here.
fn apply(kubectl: &Kubectl, name: &str, data: &BTreeMap<String, String>) -> Result<Command> {
    let mut encoded = BTreeMap::new();
    for (key, value) in data {
        let encode = Command::new("base64 --wrap=0").secret(key, value, &[value]);
        encoded.insert(key, encode.read().context("cannot encode the secret")?);
    }
    let hidden: Vec<&str> = data.values().chain(encoded.values()).map(String::as_str).collect();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": { "name": name, "namespace": NAMESPACE, "labels": { "app": "vllm" } },
        "data": encoded,
    });
    Ok(kubectl.apply().secret(&format!("secret {name}"), secret.to_string(), &hidden))
}

/// Text of one line, without what an editor or `echo` has left around it.
fn single_line(text: &str, what: &str) -> Result<String> {
    let text = text.trim();
    ensure!(!text.is_empty(), "{what} is empty");
    ensure!(
        !text.contains(|c: char| c.is_whitespace() || c.is_control()),
        "{what} has white space inside: is it the right file?"
    );
    Ok(text.to_owned())
}
