//! Settings: environment variables (or flags of the same name), checked before anything starts.

mod complaint;
mod parse;
mod values;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};
use store::{
    Addressing, Checksums,
    settings::{bucket, endpoint},
};
use trace::{function::Selection, key_prefix::KeyPrefix, segment_name::Format};

use values::{
    boolean, directories, directory, format, http_address, log_filter, ring_size, seconds,
    segment_size, size, target,
};

/// Records the CUDA driver and runtime calls of the processes beside it, without touching them.
///
/// Attaches kernel uprobes to libcuda and libcudart wherever a matching process maps them, writes
/// one JSON line per call to TRACE_DIR, uploads closed files to S3 and deletes them once the store
/// confirms. Needs root, or CAP_SYS_PTRACE, CAP_BPF and CAP_PERFMON, and CAP_SYS_ADMIN before
/// Linux 6.6.
///
/// Every setting is an environment variable; the flag of the same name overrides it. An empty
/// variable counts as unset, save HTTP_ADDRESS.
#[derive(Debug, Clone, Parser)]
#[command(name = "ebpf-cuda-tracer", version, after_help = AFTER_HELP)]
pub struct Config {
    /// What to do; nothing: trace
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Traces processes whose executable, comm or command line contains this, and what they spawn
    #[arg(long, env = "TARGET_PROCESS", default_value = "python", value_name = "TEXT",
          value_parser = target)]
    pub target_process: String,

    /// Bucket of the traces; required unless UPLOAD_ENABLED is false
    #[arg(long, env = "S3_BUCKET", value_name = "NAME", value_parser = bucket, global = true)]
    pub s3_bucket: Option<String>,

    /// Prefix of object keys; ends in / even where that is left out, and / alone means none
    ///
    /// Fields make the bucket a partitioned table: {date} and {hour} (UTC) of when a segment was closed,
    /// {node} and {pod} (NODE_NAME, POD_NAME, else the host), {host}; as in date={date}/node={node}/.
    #[arg(
        long,
        env = "S3_PREFIX",
        default_value = "k3s-vllm/",
        value_name = "PREFIX",
        global = true
    )]
    pub s3_prefix: KeyPrefix,

    /// Endpoint of an S3-compatible store; absent: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, or AWS
    #[arg(long, env = "S3_ENDPOINT", value_name = "URL", value_parser = endpoint, global = true)]
    pub s3_endpoint: Option<String>,

    /// Where the bucket is named: auto finds out, path and host say so
    ///
    /// With an endpoint `auto` begins with the path, and takes the host name where the store knows the
    /// bucket only so; at AWS it is the host name.
    #[arg(long, env = "S3_ADDRESSING", default_value = "auto", value_name = "WAY", global = true)]
    pub s3_addressing: Addressing,

    /// Whether x-amz-checksum-sha256 travels with an upload; Content-MD5 always does
    ///
    /// `auto` leaves it out for a store that refuses it.
    #[arg(long, env = "S3_CHECKSUMS", default_value = "auto", value_name = "WHEN", global = true)]
    pub s3_checksums: Checksums,

    /// Seconds between rotations of the trace file
    #[arg(long, env = "TRACE_INTERVAL", default_value = "60", value_name = "SECONDS",
          value_parser = seconds)]
    pub trace_interval: Duration,

    /// Directory for trace files; one sidecar at a time
    #[arg(long, env = "TRACE_DIR", default_value = "/traces", value_name = "DIR",
          value_parser = directory)]
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
    ///
    /// Where the kernel cannot be trusted with return probes (Linux 6.11, 6.12 before 6.12.14, 6.13
    /// before 6.13.3) `call` falls back to `entry`.
    #[arg(long, env = "TRACE_DETAIL", default_value = "call", value_name = "DETAIL")]
    pub trace_detail: Detail,

    /// Most calls of one function that are recorded in a second; the rest is counted. 0: no limit
    #[arg(long, env = "TRACE_RATE_LIMIT", default_value = "0", value_name = "CALLS")]
    pub trace_rate_limit: u64,

    /// How probes are attached
    #[arg(long, env = "ATTACH_BY", default_value = "auto", value_name = "WAY")]
    pub attach_by: AttachBy,

    /// Form of trace files: lines as they are, or compressed in zstd frames
    #[arg(long, env = "TRACE_FORMAT", default_value = "jsonl", value_name = "FORMAT",
          value_parser = format)]
    pub trace_format: Format,

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

    /// Where /healthz, /readyz, /metrics and /status are; port 0 takes a free one, and empty turns it off
    #[arg(long, env = HTTP_ADDRESS, default_value = "127.0.0.1:9420", value_name = "ADDRESS",
          value_parser = http_address, global = true)]
    pub http_address: HttpAddress,

    /// Form of the log on stderr
    #[arg(long, env = "LOG_FORMAT", default_value = "human", value_name = "FORMAT", global = true)]
    pub log_format: LogFormat,

    /// What is logged: off, error, warn, info, debug or trace, for all or by module
    #[arg(long, env = "RUST_LOG", default_value = "info,aws_config=error", value_name = "FILTER",
          value_parser = log_filter, global = true)]
    pub rust_log: String,
}

#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Download every object under S3_PREFIX
    ///
    /// Files lie below DIR as keys lie below the prefix. What is there already is not downloaded
    /// again. Prints the path of each file on stdout, and progress on stderr.
    Fetch {
        /// Where files go
        #[arg(long, value_name = "DIR", default_value = "traces")]
        out: PathBuf,
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

const HTTP_ADDRESS: &str = "HTTP_ADDRESS";

const AFTER_HELP: &str = "\
Credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws, a web identity, or the role of the \
instance, in the order of the AWS SDK. AWS_REGION sets the region (us-east-1 if nothing does).
A store with a private certificate: AWS_CA_BUNDLE or SSL_CERT_FILE names the file of its authority.
HTTPS_PROXY, HTTP_PROXY and NO_PROXY hold for S3 as for other programs.

Example:
  TARGET_PROCESS=vllm S3_BUCKET=my-traces TRACE_DIR=/var/tmp/traces ebpf-cuda-tracer";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AttachBy {
    /// One link per library where the kernel has them (Linux 6.6), else perf events
    Auto,
    /// One perf event per function: slower to start and to stop, and needs CAP_SYS_ADMIN
    PerfEvents,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Detail {
    /// One line when a call returns: duration, return code, nesting, arguments
    Call,
    /// One line when a call begins: cheaper, and nothing else is known
    Entry,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Human,
    Json,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directories(pub Vec<PathBuf>);

/// `None`: nothing listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpAddress(pub Option<SocketAddr>);
