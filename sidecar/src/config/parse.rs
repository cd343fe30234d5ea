//! From arguments and environment to settings, and what none of them alone can tell.

use std::{env, ffi::OsString};

use clap::{Arg, CommandFactory as _, FromArgMatches as _, builder::Resettable, error::ErrorKind};

use anyhow::Context as _;
use store::{Destination, names_the_bucket, settings::sdk_endpoint};

use super::{Command, Config, HTTP_ADDRESS, complaint::name_the_variable};

impl Config {
    /// Reads arguments and environment. An error names the variable, the value and what is
    /// accepted; `--help` and `--version` are "errors" too, with exit code 0.
    pub fn parse_from(
        arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
        let matches = match ignoring_empty(Self::command()).try_get_matches_from(&arguments) {
            // A variable shows in the help also when it is empty.
            Err(error) if error.kind() == ErrorKind::DisplayHelp => {
                return Err(Self::command().try_get_matches_from(arguments).err().unwrap_or(error));
            }
            matches => matches.map_err(name_the_variable)?,
        };
        let mut config = Self::from_arg_matches(&matches).map_err(name_the_variable)?;
        if config.s3_endpoint.is_none() {
            config.s3_endpoint = sdk_endpoint()
                .map_err(|message| Self::command().error(ErrorKind::ValueValidation, message))?;
        }
        if config.s3_bucket.is_none() {
            config.refuse_without_bucket()?;
        }
        config.refuse_bucket_in_endpoint()?;
        Ok(config)
    }

    /// Fails without a bucket.
    pub fn destination(&self) -> anyhow::Result<Destination> {
        Ok(Destination {
            bucket: self.s3_bucket.clone().context("S3_BUCKET is not set")?,
            prefix: self.s3_prefix.clone(),
            endpoint: self.s3_endpoint.clone(),
            addressing: self.s3_addressing,
            checksums: self.s3_checksums,
        })
    }

    /// Objects would go to `bucket/bucket/...`, be confirmed there, and be deleted here.
    fn refuse_bucket_in_endpoint(&self) -> Result<(), clap::Error> {
        let (Some(endpoint), Some(bucket)) = (&self.s3_endpoint, &self.s3_bucket) else {
            return Ok(());
        };
        match names_the_bucket(endpoint, bucket, self.s3_addressing) {
            None => Ok(()),
            Some(refusal) => Err(Self::command().error(
                ErrorKind::ValueValidation,
                format!("S3_ENDPOINT is {endpoint:?}: {refusal}"),
            )),
        }
    }

    fn refuse_without_bucket(&self) -> Result<(), clap::Error> {
        let way_out = match self.command {
            Some(Command::Fetch { .. }) => "set it to the bucket to download from",
            Some(Command::CheckS3) => "set it to the bucket to check",
            None if self.upload_enabled => {
                "set it to the bucket that traces go to, or UPLOAD_ENABLED=false to keep them in \
                 TRACE_DIR"
            }
            Some(Command::Status { .. }) | None => return Ok(()),
        };
        let message = format!("S3_BUCKET is not set: {way_out}");
        Err(Self::command().error(ErrorKind::MissingRequiredArgument, message))
    }
}

/// Kubernetes and shells set variables to nothing where nothing is meant; only for `HTTP_ADDRESS`
/// is that a value.
fn ignoring_empty(command: clap::Command) -> clap::Command {
    let is_empty = |arg: &Arg| {
        let variable = arg.get_env().filter(|&variable| variable != HTTP_ADDRESS);
        variable.and_then(env::var_os).is_some_and(|value| value.is_empty())
    };
    command.mut_args(|arg| if is_empty(&arg) { arg.env(Resettable::Reset) } else { arg })
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, time::Duration};

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Config, String> {
        let all = ["ebpf-cuda-tracer", "--s3-bucket=traces"].iter().chain(arguments);
        Config::parse_from(all).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_those_of_the_seed() {
        let config = parse(&[]).unwrap();
        assert_eq!(config.target_process, "python");
        assert_eq!(config.s3_prefix.fixed(), "k3s-vllm/");
        assert_eq!(config.trace_interval, Duration::from_secs(60));
        assert_eq!(config.trace_dir, PathBuf::from("/traces"));
        assert!(config.upload_enabled);
        assert_eq!(config.upload_interval, Duration::from_secs(120));
    }

    #[test]
    fn an_invalid_value_names_the_variable_the_value_and_what_is_accepted() {
        for (argument, expected) in [
            (
                "--trace-interval=soon",
                "TRACE_INTERVAL (or --trace-interval) is \"soon\": accepted: seconds",
            ),
            (
                "--upload-enabled=maybe",
                "UPLOAD_ENABLED (or --upload-enabled) is \"maybe\": accepted: true",
            ),
            (
                "--ring-buffer-size=3Mi",
                "RING_BUFFER_SIZE (or --ring-buffer-size) is \"3Mi\": accepted: a power",
            ),
            (
                "--trace-format=zst",
                "TRACE_FORMAT (or --trace-format) is \"zst\": accepted: jsonl, jsonl.zst",
            ),
            ("--log-format=xml", "LOG_FORMAT (or --log-format) is \"xml\": accepted: human, json"),
            (
                "--s3-bucket=s3://x",
                "S3_BUCKET (or --s3-bucket) is \"s3://x\": accepted: the bucket's name",
            ),
            (
                "--cuda-library-dirs=lib",
                "CUDA_LIBRARY_DIRS (or --cuda-library-dirs) is \"lib\": lib is not",
            ),
        ] {
            let message = Config::parse_from(["x", argument]).unwrap_err().to_string();
            assert!(message.contains(expected), "{argument}: {message}");
        }
    }

    #[test]
    fn a_bucket_is_needed_only_to_upload() {
        let message = Config::parse_from(["x"]).unwrap_err().to_string();
        assert!(message.contains("S3_BUCKET is not set"), "{message}");
        assert!(Config::parse_from(["x", "--upload-enabled=false"]).is_ok());
    }
}
