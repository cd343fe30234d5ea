//! Every setting, in one place: variable, default, what is accepted, help.
//!
//! The sidecar reads those of the tracer, `manifests` those of a [`deployment`], and the table of
//! `docs/operations.md` is made of them.

mod clap_errors;
pub mod deployment;
pub mod names;
pub mod rights;
mod values;
mod variables;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use cuda::function::Selection;
use store::{
    Addressing, Checksums, Destination, names_the_bucket,
    settings::{bucket, endpoint, storage_class},
};
use trace::{key_prefix::KeyPrefix, segment_name::Format};

pub use clap_errors::name_the_variable;
pub(crate) use values::{boolean, log_filter};
pub use variables::without_empty;

use values::{
    directories, directory, format, http_address, ring_size, seconds, segment_size, size, target,
};

/// What is the same for a sidecar alone and for a deployment.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Settings {
    /// Trace processes whose executable, comm or command line contains this text, and their children
    #[arg(long, env = "TARGET_PROCESS", default_value = "python", value_name = "TEXT",
          value_parser = target)]
    pub target_process: String,

    /// S3 bucket for the traces; required unless UPLOAD_ENABLED is false
    #[arg(long, env = "S3_BUCKET", value_name = "NAME", value_parser = bucket, global = true)]
    pub s3_bucket: Option<String>,

    /// Prefix of object keys; may contain {date}, {hour}, {node}, {pod} and {host}
    ///
    /// A missing / at the end is added; / alone means no prefix. {date} and {hour} are the UTC time at
    /// which the segment was closed. {node} and {pod} are NODE_NAME and POD_NAME, or the host name if
    /// these are not set. date={date}/node={node}/ makes the bucket a partitioned table.
    #[arg(
        long,
        env = "S3_PREFIX",
        default_value = "k3s-vllm/",
        value_name = "PREFIX",
        global = true
    )]
    pub s3_prefix: KeyPrefix,

    /// URL of an S3-compatible store; default: AWS_ENDPOINT_URL_S3, else AWS_ENDPOINT_URL, else AWS itself
    #[arg(long, env = "S3_ENDPOINT", hide_env_values = true, value_name = "URL", value_parser = endpoint, global = true)]
    pub s3_endpoint: Option<String>,

    /// Where requests name the bucket: in the path or in the host name
    ///
    /// `auto` uses the host name at AWS. With S3_ENDPOINT it tries the path first, then the host name.
    #[arg(long, env = "S3_ADDRESSING", default_value = "auto", value_name = "WAY", global = true)]
    pub s3_addressing: Addressing,

    /// Whether uploads carry x-amz-checksum-sha256 beside Content-MD5
    ///
    /// `auto` omits it if the store refuses it.
    #[arg(long, env = "S3_CHECKSUMS", default_value = "auto", value_name = "WHEN", global = true)]
    pub s3_checksums: Checksums,

    /// Storage class of uploaded objects, such as STANDARD_IA; default: that of the bucket
    #[arg(long, env = "S3_STORAGE_CLASS", value_name = "CLASS", value_parser = storage_class,
          global = true)]
    pub s3_storage_class: Option<String>,

    /// Seconds after which a trace file that holds a call is closed, and the next one begins
    #[arg(long, env = "TRACE_INTERVAL", default_value = "60", value_name = "SECONDS",
          value_parser = seconds)]
    pub trace_interval: Duration,

    /// Directory for trace files; only one sidecar at a time may use it
    #[arg(long, env = "TRACE_DIR", default_value = "/traces", value_name = "DIR",
          value_parser = directory)]
    pub trace_dir: PathBuf,

    /// Upload closed trace files, and delete each once the store has confirmed it
    #[arg(long, env = "UPLOAD_ENABLED", default_value = "true", value_name = "BOOL",
          value_parser = boolean, num_args = 1)]
    pub upload_enabled: bool,

    /// Seconds between uploads of closed trace files
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
    ///
    /// On Linux 6.11, 6.12 before 6.12.14 and 6.13 before 6.13.3 the sidecar uses `entry` instead of
    /// `call`: return probes of these kernels kill processes that have a seccomp filter.
    #[arg(long, env = "TRACE_DETAIL", default_value = "call", value_name = "DETAIL")]
    pub trace_detail: Detail,

    /// Most calls recorded per function and second; calls over the limit are counted as suppressed; 0: no limit
    #[arg(long, env = "TRACE_RATE_LIMIT", default_value = "0", value_name = "CALLS")]
    pub trace_rate_limit: u64,

    /// How the kernel attaches probes
    #[arg(long, env = "ATTACH_BY", default_value = "auto", value_name = "WAY")]
    pub attach_by: AttachBy,

    /// Format of trace files: JSON lines, JSON lines compressed with zstd, or Parquet tables
    #[arg(long, env = "TRACE_FORMAT", default_value = "jsonl", value_name = "FORMAT",
          value_parser = format())]
    pub trace_format: Format,

    /// Size at which a trace file is closed, in bytes or with the suffix Ki, Mi or Gi
    #[arg(long, env = "TRACE_SEGMENT_SIZE", default_value = "256Mi", value_name = "BYTES",
          value_parser = segment_size)]
    pub trace_segment_size: u64,

    /// Most bytes of closed trace files that wait for upload; at the limit calls are dropped and counted
    #[arg(long, env = "TRACE_DIR_LIMIT", default_value = "8Gi", value_name = "BYTES",
          value_parser = size)]
    pub trace_dir_limit: u64,

    /// Size of the ring buffer between kernel and sidecar, a power of two; when it is full, calls are dropped and counted
    #[arg(long, env = "RING_BUFFER_SIZE", default_value = "16Mi", value_name = "BYTES",
          value_parser = ring_size)]
    pub ring_buffer_size: u32,

    /// Additional directories to search for CUDA libraries, separated by colons
    #[arg(long, env = "CUDA_LIBRARY_DIRS", default_value = "", value_name = "DIRS",
          value_parser = directories, hide_default_value = true)]
    pub cuda_library_dirs: Directories,

    /// Seconds after SIGTERM or SIGINT to close the trace, upload it and detach the probes
    #[arg(long, env = "SHUTDOWN_TIMEOUT", default_value = "20", value_name = "SECONDS",
          value_parser = seconds)]
    pub shutdown_timeout: Duration,

    /// Format of the log on stderr
    #[arg(long, env = "LOG_FORMAT", default_value = "human", value_name = "FORMAT", global = true)]
    pub log_format: LogFormat,
}

impl Settings {
    /// Where uploads go; none without a bucket.
    pub fn destination(&self) -> Option<Destination> {
        Some(Destination {
            bucket: self.s3_bucket.clone()?,
            prefix: self.s3_prefix.clone(),
            endpoint: self.s3_endpoint.clone(),
            addressing: self.s3_addressing,
            checksums: self.s3_checksums,
            storage_class: self.s3_storage_class.clone(),
        })
    }

    /// Objects would go to `bucket/bucket/...`, be confirmed there, and be deleted here.
    pub fn bucket_is_named_twice(&self) -> Option<String> {
        let (endpoint, bucket) = (self.s3_endpoint.as_ref()?, self.s3_bucket.as_ref()?);
        let refusal = names_the_bucket(endpoint, bucket, self.s3_addressing)?;
        Some(format!("S3_ENDPOINT is {endpoint:?}: {refusal}"))
    }
}

/// What a deployment sets by itself.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct Local {
    /// Address that serves /healthz, /readyz, /metrics and /status; port 0: any free port; empty: no server
    #[arg(long, env = HTTP_ADDRESS, default_value = "127.0.0.1:9420", value_name = "ADDRESS",
          value_parser = http_address, global = true)]
    pub http_address: HttpAddress,

    /// Log level (off, error, warn, info, debug or trace), one for all or by module
    #[arg(long, env = "RUST_LOG", default_value = "info,aws_config=error", value_name = "FILTER",
          value_parser = log_filter, global = true)]
    pub rust_log: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AttachBy {
    /// One uprobe_multi link per library on Linux 6.6 or later, perf events on older kernels
    Auto,
    /// One perf event per probe: starts and stops slower, and needs CAP_SYS_ADMIN
    PerfEvents,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Detail {
    /// One line when a call returns: duration, return code, nesting, arguments
    Call,
    /// One line when a call begins: cheaper, but only time, thread and function
    Entry,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Human,
    Json,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directories(pub Vec<PathBuf>);

/// Empty, it turns the server off.
pub const HTTP_ADDRESS: &str = "HTTP_ADDRESS";

/// `None`: nothing listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpAddress(pub Option<SocketAddr>);
