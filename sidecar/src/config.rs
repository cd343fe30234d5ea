//! The command line of the sidecar: settings, and what to do.

use std::{ffi::OsString, path::PathBuf};

use anyhow::Context as _;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, error::ErrorKind};
use settings::{Local, Settings, name_the_variable, without_empty};
use store::{Destination, settings::sdk_endpoint};

use crate::commands::fetch_selection::Selection;

/// Records the CUDA driver and runtime calls of the processes beside it, without touching them.
///
/// Attaches kernel uprobes to libcuda and libcudart wherever a matching process maps them, writes
/// one JSON line per call to TRACE_DIR, uploads closed files to S3 and deletes them once the store
/// confirms. Needs root, or CAP_SYS_PTRACE, CAP_BPF and CAP_PERFMON, and CAP_SYS_ADMIN
/// before Linux 6.6 or where kernel.perf_event_paranoid is above 2.
///
/// Every setting is an environment variable; the flag of the same name overrides it. An empty
/// variable counts as unset, save HTTP_ADDRESS.
#[derive(Debug, Clone, Parser)]
#[command(name = "ebpf-cuda-tracer", version, after_help = AFTER_HELP)]
pub struct Config {
    /// What to do; nothing: trace
    #[command(subcommand)]
    pub command: Option<Command>,

    #[command(flatten)]
    pub settings: Settings,

    #[command(flatten)]
    pub local: Local,
}

#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Download every object under S3_PREFIX, or the trace files of some runs
    ///
    /// Files lie below DIR as keys lie below the prefix. What is there already is not downloaded
    /// again. Prints the path of each file on stdout, and progress on stderr.
    Fetch {
        /// Where files go
        #[arg(long, value_name = "DIR", default_value = "traces")]
        out: PathBuf,

        #[command(flatten)]
        selection: Selection,
    },

    /// Ask the running sidecar what it sees and does
    ///
    /// Processes and why they are traced or not, libraries, calls, segments, uploads. Asks the
    /// sidecar that HTTP_ADDRESS leads to; fails if none answers there.
    Status {
        /// All of it as JSON
        #[arg(long)]
        json: bool,
    },

    /// Check that uploads will work: credentials, bucket, and an object written, read back and removed
    ///
    /// Prints a line for each step, and fails if one failed that uploads need.
    CheckS3,
}

const AFTER_HELP: &str = "\
Credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws, a web identity, or the role of the \
instance, in the order of the AWS SDK. AWS_REGION sets the region (us-east-1 if nothing does).
A store with a private certificate: AWS_CA_BUNDLE or SSL_CERT_FILE names the file of its authority.
HTTPS_PROXY, HTTP_PROXY and NO_PROXY hold for S3 as for other programs.

Example:
  TARGET_PROCESS=vllm S3_BUCKET=my-traces TRACE_DIR=/var/tmp/traces ebpf-cuda-tracer";

impl Config {
    /// Reads arguments and environment. An error names the variable, the value and what is
    /// accepted; `--help` and `--version` are "errors" too, with exit code 0.
    pub fn parse_from(
        arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
        let complain = |error| name_the_variable(Self::command(), error, &[]);
        let matches = match without_empty(Self::command()).try_get_matches_from(&arguments) {
            // A variable shows in the help also when it is empty.
            Err(error) if error.kind() == ErrorKind::DisplayHelp => {
                return Err(Self::command().try_get_matches_from(arguments).err().unwrap_or(error));
            }
            matches => matches.map_err(complain)?,
        };
        let mut config = Self::from_arg_matches(&matches).map_err(complain)?;
        let refuse = |message| Self::command().error(ErrorKind::ValueValidation, message);
        let settings = &mut config.settings;
        if settings.s3_endpoint.is_none() {
            settings.s3_endpoint = sdk_endpoint().map_err(refuse)?;
        }
        if let Some(contradiction) = settings.bucket_is_named_twice() {
            return Err(refuse(contradiction));
        }
        if settings.s3_bucket.is_none() {
            config.refuse_without_bucket()?;
        }
        Ok(config)
    }

    /// Fails without a bucket.
    pub fn destination(&self) -> anyhow::Result<Destination> {
        self.settings.destination().context("S3_BUCKET is not set")
    }

    fn refuse_without_bucket(&self) -> Result<(), clap::Error> {
        let way_out = match self.command {
            Some(Command::Fetch { .. }) => "set it to the bucket to download from",
            Some(Command::CheckS3) => "set it to the bucket to check",
            None if self.settings.upload_enabled => {
                "set it to the bucket that traces go to, or UPLOAD_ENABLED=false to keep them in \
                 TRACE_DIR"
            }
            Some(Command::Status { .. }) | None => return Ok(()),
        };
        let message = format!("S3_BUCKET is not set: {way_out}");
        Err(Self::command().error(ErrorKind::MissingRequiredArgument, message))
    }
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
        assert_eq!(config.settings.target_process, "python");
        assert_eq!(config.settings.s3_prefix.fixed(), "k3s-vllm/");
        assert_eq!(config.settings.trace_interval, Duration::from_secs(60));
        assert_eq!(config.settings.trace_dir, PathBuf::from("/traces"));
        assert!(config.settings.upload_enabled);
        assert_eq!(config.settings.upload_interval, Duration::from_secs(120));
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
                "TRACE_FORMAT (or --trace-format) is \"zst\": accepted: jsonl, jsonl.zst, parquet",
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
