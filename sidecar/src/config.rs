//! Settings: environment variables (or flags of the same name), checked before anything starts.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{
    CommandFactory as _, FromArgMatches as _, Parser, ValueEnum,
    error::{ContextKind, ContextValue, ErrorKind},
};
use trace::function::Selection;

/// Records every CUDA driver and runtime call of the processes beside it, without touching them.
///
/// Attaches kernel uprobes to libcuda and libcudart wherever a matching process maps them, writes
/// one JSON line per call to TRACE_DIR, uploads closed files to S3 and deletes them once the store
/// confirms. Needs root with CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_BPF and CAP_PERFMON.
///
/// Every setting is an environment variable; the flag of the same name overrides it.
#[derive(Debug, Clone, Parser)]
#[command(name = "ebpf-cuda-tracer", version, after_help = AFTER_HELP)]
pub struct Config {
    /// What to do; nothing: trace
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Traces processes whose executable, comm or command line contains this, and what they spawn
    #[arg(long, env = "TARGET_PROCESS", default_value = "python", value_name = "TEXT",
          value_parser = non_empty)]
    pub target_process: String,

    /// Bucket for uploads; required unless UPLOAD_ENABLED is false
    #[arg(long, env = "S3_BUCKET", value_name = "NAME", value_parser = bucket)]
    pub s3_bucket: Option<String>,

    /// Prefix of object keys
    #[arg(long, env = "S3_PREFIX", default_value = "k3s-vllm/", value_name = "PREFIX",
          value_parser = prefix)]
    pub s3_prefix: String,

    /// Endpoint of an S3-compatible store; absent: AWS, or AWS_ENDPOINT_URL_S3
    #[arg(long, env = "S3_ENDPOINT", value_name = "URL", value_parser = endpoint)]
    pub s3_endpoint: Option<String>,

    /// Seconds between rotations of the trace file
    #[arg(long, env = "TRACE_INTERVAL", default_value = "60", value_name = "SECONDS",
          value_parser = seconds)]
    pub trace_interval: Duration,

    /// Directory for trace files; one sidecar at a time
    #[arg(long, env = "TRACE_DIR", default_value = "/traces", value_name = "DIR")]
    pub trace_dir: PathBuf,

    /// Uploads closed files and deletes them once confirmed: true or false
    #[arg(long, env = "UPLOAD_ENABLED", default_value = "true", value_name = "BOOL",
          value_parser = boolean, num_args = 1)]
    pub upload_enabled: bool,

    /// Seconds between uploads of closed files
    #[arg(long, env = "UPLOAD_INTERVAL", default_value = "120", value_name = "SECONDS",
          value_parser = seconds)]
    pub upload_interval: Duration,

    /// Functions to trace: names, globs and sets, separated by commas; ! excludes
    ///
    /// Sets: default, all, and one per class (launch, memory, copy, graph, stream, event, sync...).
    /// `default` leaves out hot getters such as cudaGetDevice. Examples: `default,cudaGetDevice`,
    /// `launch,cuMem*`, `all,!cu*Get*`.
    #[arg(long, env = "TRACE_FUNCTIONS", default_value = "default", value_name = "LIST",
          value_parser = Selection::parse)]
    pub trace_functions: Selection,

    /// What is recorded of a call
    #[arg(long, env = "TRACE_DETAIL", default_value = "entry", value_name = "DETAIL")]
    pub trace_detail: Detail,

    /// A trace file is closed when it reaches this size; plain bytes, or Ki, Mi, Gi
    #[arg(long, env = "TRACE_SEGMENT_SIZE", default_value = "256Mi", value_name = "BYTES",
          value_parser = segment_size)]
    pub trace_segment_size: u64,

    /// Closed files that wait for upload may take this much; beyond it calls are dropped, and counted
    #[arg(long, env = "TRACE_DIR_LIMIT", default_value = "8Gi", value_name = "BYTES",
          value_parser = size)]
    pub trace_dir_limit: u64,

    /// Buffer between kernel and sidecar, a power of two; when it is full calls are dropped, and counted
    #[arg(long, env = "RING_BUFFER_SIZE", default_value = "16Mi", value_name = "BYTES",
          value_parser = ring_size)]
    pub ring_buffer_size: u32,

    /// More directories to look for CUDA libraries in, separated by colons
    #[arg(long, env = "CUDA_LIBRARY_DIRS", default_value = "", value_name = "DIRS",
          value_parser = directories, hide_default_value = true)]
    pub cuda_library_dirs: Directories,

    /// Seconds for closing, uploading and detaching after SIGTERM or SIGINT
    #[arg(long, env = "SHUTDOWN_TIMEOUT", default_value = "20", value_name = "SECONDS",
          value_parser = seconds)]
    pub shutdown_timeout: Duration,

    /// Form of the log on stderr; RUST_LOG sets what is logged
    #[arg(long, env = "LOG_FORMAT", default_value = "human", value_name = "FORMAT")]
    pub log_format: LogFormat,
}

#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Download every object under S3_PREFIX
    Fetch {
        /// Where files go
        #[arg(long, value_name = "DIR", default_value = "traces")]
        out: PathBuf,
    },
}

const AFTER_HELP: &str = "\
Credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws, a web identity, or the role of the \
instance, in the order of the AWS SDK. AWS_REGION sets the region (us-east-1 if nothing does).

Example:
  TARGET_PROCESS=vllm S3_BUCKET=my-traces TRACE_DIR=/var/tmp/traces ebpf-cuda-tracer";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Detail {
    /// One line when a call begins
    Entry,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Human,
    Json,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directories(pub Vec<PathBuf>);

impl Config {
    /// Reads arguments and environment. An error names the variable, the value and what is
    /// accepted; `--help` and `--version` are "errors" too, with exit code 0.
    pub fn parse_from(
        arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        let config = Self::command()
            .try_get_matches_from(arguments)
            .and_then(|matches| Self::from_arg_matches(&matches))
            .map_err(name_the_variable)?;
        if config.upload_enabled && config.s3_bucket.is_none() {
            return Err(Self::command().error(
                ErrorKind::MissingRequiredArgument,
                "S3_BUCKET is not set, and UPLOAD_ENABLED is true: set S3_BUCKET to the bucket that \
                 traces go to, or UPLOAD_ENABLED=false to keep them in TRACE_DIR",
            ));
        }
        Ok(config)
    }
}

/// clap names the flag; most people here set the variable.
fn name_the_variable(error: clap::Error) -> clap::Error {
    let (Some(ContextValue::String(flag)), Some(ContextValue::String(value))) =
        (error.get(ContextKind::InvalidArg), error.get(ContextKind::InvalidValue))
    else {
        return error;
    };
    let flag = flag.split([' ', '=']).next().unwrap_or(flag);
    let variable = flag.trim_start_matches('-').to_uppercase().replace('-', "_");
    let reason = match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(accepted)) => format!("accepted: {}", accepted.join(", ")),
        _ => std::error::Error::source(&error).map_or_else(String::new, ToString::to_string),
    };
    Config::command()
        .error(ErrorKind::ValueValidation, format!("{variable} (or {flag}) is {value:?}: {reason}"))
}

fn non_empty(value: &str) -> Result<String, String> {
    if value.trim().is_empty() {
        return Err("accepted: a part of a process's executable, comm or command line".to_owned());
    }
    Ok(value.to_owned())
}

/// The rules that all S3 stores share; the store has the last word.
fn bucket(value: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':' | '/');
    if value.starts_with("s3://") {
        return Err("accepted: the bucket's name alone, without s3://".to_owned());
    }
    if !(3..=255).contains(&value.len()) || !value.chars().all(allowed) {
        return Err("accepted: 3 to 63 letters, digits, - and ., or an access point ARN".to_owned());
    }
    Ok(value.to_owned())
}

fn prefix(value: &str) -> Result<String, String> {
    if value.starts_with('/') || value.chars().any(char::is_control) {
        return Err("accepted: a key prefix such as k3s-vllm/, without a leading /".to_owned());
    }
    Ok(value.to_owned())
}

fn endpoint(value: &str) -> Result<String, String> {
    if !value.starts_with("http://") && !value.starts_with("https://") {
        return Err("accepted: a URL such as http://minio:9000".to_owned());
    }
    Ok(value.to_owned())
}

fn seconds(value: &str) -> Result<Duration, String> {
    const ACCEPTED: &str = "accepted: seconds, 0.1 to 86400, such as 60 or 0.5";
    let number: f64 = value.parse().map_err(|_| ACCEPTED)?;
    if !(0.1..=86_400.0).contains(&number) {
        return Err(ACCEPTED.to_owned());
    }
    Ok(Duration::from_secs_f64(number))
}

fn boolean(value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("accepted: true, false".to_owned()),
    }
}

fn size(value: &str) -> Result<u64, String> {
    const ACCEPTED: &str = "accepted: bytes, such as 268435456, 64Ki, 256Mi or 8Gi";
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &value[digits.len()..] {
        "" => 0,
        "Ki" => 10,
        "Mi" => 20,
        "Gi" => 30,
        _ => return Err(ACCEPTED.to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| ACCEPTED)?;
    number.checked_mul(1 << shift).ok_or_else(|| ACCEPTED.to_owned())
}

/// S3 takes at most 5 GiB in one request.
fn segment_size(value: &str) -> Result<u64, String> {
    let bytes = size(value)?;
    if !((64 << 10)..=(4 << 30)).contains(&bytes) {
        return Err("accepted: 64Ki to 4Gi".to_owned());
    }
    Ok(bytes)
}

fn ring_size(value: &str) -> Result<u32, String> {
    let bytes = size(value)?;
    if !bytes.is_power_of_two() || !((256 << 10)..=(1 << 30)).contains(&bytes) {
        return Err("accepted: a power of two from 256Ki to 1Gi".to_owned());
    }
    u32::try_from(bytes).map_err(|error| error.to_string())
}

fn directories(value: &str) -> Result<Directories, String> {
    let directories: Vec<PathBuf> =
        value.split(':').filter(|directory| !directory.is_empty()).map(PathBuf::from).collect();
    match directories.iter().find(|directory| !directory.is_absolute()) {
        Some(relative) => Err(format!("{} is not an absolute path", relative.display())),
        None => Ok(Directories(directories)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Config, String> {
        let all = ["ebpf-cuda-tracer", "--s3-bucket=traces"].iter().chain(arguments);
        Config::parse_from(all).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_those_of_the_seed() {
        let config = parse(&[]).unwrap();
        assert_eq!(config.target_process, "python");
        assert_eq!(config.s3_prefix, "k3s-vllm/");
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

    #[test]
    fn sizes_have_binary_suffixes() {
        assert_eq!(size("64Ki"), Ok(65_536));
        assert_eq!(size("10"), Ok(10));
        assert!(size("10MB").is_err());
        assert!(size("99999999999Gi").is_err());
    }
}
