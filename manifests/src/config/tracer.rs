//! What varies of the tracer. Its own settings have the names that the tracer gives them; where one
//! is absent here, the tracer's default holds.

use clap::{ArgAction, Args};

use super::{
    PullPolicy,
    values::{
        Memory, Variables, absolute_path, boolean, bucket, cpu, directories, endpoint, functions,
        image, memory, prefix, region, ring_size, seconds, segment_size, text, tracer_size,
        variables,
    },
};

#[derive(Debug, Clone, PartialEq, Args)]
pub struct Tracer {
    /// Image of the tracer; `cargo xtask build` prints the one that it imported
    #[arg(long, env = "TRACER_IMAGE", value_name = "IMAGE", value_parser = image,
          default_value = concat!("docker.io/littleboy/ebpf-cuda-tracer:", env!("CARGO_PKG_VERSION")))]
    pub tracer_image: String,

    /// When the tracer's image is pulled; it is imported, so a pull would only hide that it is missing
    #[arg(long, env = "TRACER_PULL_POLICY", default_value = "Never", value_name = "POLICY")]
    pub tracer_pull_policy: PullPolicy,

    /// Processor time requested for the tracer, in cores
    #[arg(long, env = "TRACER_CPU", default_value = "500m", value_name = "CORES",
          value_parser = cpu)]
    pub tracer_cpu: String,

    /// Memory requested for the tracer
    #[arg(long, env = "TRACER_MEMORY", default_value = "512Mi", value_name = "SIZE",
          value_parser = memory)]
    pub tracer_memory: Memory,

    /// Memory at which the tracer is killed; its ring buffer counts
    #[arg(long, env = "TRACER_MEMORY_LIMIT", default_value = "512Mi", value_name = "SIZE",
          value_parser = memory)]
    pub tracer_memory_limit: Memory,

    /// More variables of the tracer's container: NAME=VALUE, as a shell would split them
    #[arg(long, env = "TRACER_ENV", hide_env_values = true, default_value = "", value_name = "VARIABLES",
          hide_default_value = true, value_parser = variables)]
    pub tracer_env: Variables,

    /// What the tracer logs: off, error, warn, info, debug or trace, for all or by module
    #[arg(long, env = "TRACER_LOG", value_name = "FILTER", value_parser = text)]
    pub tracer_log: Option<String>,

    /// Form of the tracer's log
    #[arg(long, env = "LOG_FORMAT", value_name = "FORMAT", value_parser = ["human", "json"])]
    pub log_format: Option<String>,

    /// Traces processes whose executable, comm or command line contains this, and what they spawn
    #[arg(long, env = "TARGET_PROCESS", default_value = "python", value_name = "TEXT",
          value_parser = text)]
    pub target_process: String,

    /// Seconds between rotations of the trace file
    #[arg(long, env = "TRACE_INTERVAL", default_value = "60", value_name = "SECONDS",
          value_parser = seconds)]
    pub trace_interval: String,

    /// Where the volume for traces is mounted, in both containers
    #[arg(long, env = "TRACE_DIR", default_value = "/traces", value_name = "DIR",
          value_parser = absolute_path)]
    pub trace_dir: String,

    /// Functions to trace: names, globs and sets, separated by commas
    #[arg(long, env = "TRACE_FUNCTIONS", value_name = "LIST", value_parser = functions)]
    pub trace_functions: Option<String>,

    /// What is recorded of a call
    #[arg(long, env = "TRACE_DETAIL", value_name = "DETAIL", value_parser = ["call", "entry"])]
    pub trace_detail: Option<String>,

    /// Records at most this many calls a second of each function, and counts the others; 0: all
    #[arg(long, env = "TRACE_RATE_LIMIT", value_name = "CALLS")]
    pub trace_rate_limit: Option<u64>,

    /// How probes are attached
    #[arg(long, env = "ATTACH_BY", value_name = "WAY", value_parser = ["auto", "perf-events"])]
    pub attach_by: Option<String>,

    /// Form of trace files: lines as they are, or compressed in zstd frames
    #[arg(long, env = "TRACE_FORMAT", value_name = "FORMAT", value_parser = ["jsonl", "jsonl.zst"])]
    pub trace_format: Option<String>,

    /// A trace file is closed when it reaches this size
    #[arg(long, env = "TRACE_SEGMENT_SIZE", default_value = "256Mi", value_name = "BYTES",
          value_parser = segment_size)]
    pub trace_segment_size: Memory,

    /// Closed files that wait for upload may take this much
    #[arg(long, env = "TRACE_DIR_LIMIT", default_value = "8Gi", value_name = "BYTES",
          value_parser = tracer_size)]
    pub trace_dir_limit: Memory,

    /// Buffer between kernel and tracer, a power of two
    #[arg(long, env = "RING_BUFFER_SIZE", default_value = "16Mi", value_name = "BYTES",
          value_parser = ring_size)]
    pub ring_buffer_size: Memory,

    /// More directories to look for CUDA libraries in, separated by colons
    #[arg(long, env = "CUDA_LIBRARY_DIRS", value_name = "DIRS", value_parser = directories)]
    pub cuda_library_dirs: Option<String>,

    /// Seconds that the tracer may take for closing and uploading when the pod is stopped
    #[arg(long, env = "SHUTDOWN_TIMEOUT", default_value = "60", value_name = "SECONDS",
          value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub shutdown_timeout: u32,
}

#[derive(Debug, Clone, PartialEq, Args)]
pub struct S3 {
    /// Uploads closed files and deletes them once confirmed
    #[arg(long, env = "UPLOAD_ENABLED", default_value = "true", value_name = "BOOL",
          value_parser = boolean, action = ArgAction::Set)]
    pub upload_enabled: bool,

    /// Bucket of the traces; required unless UPLOAD_ENABLED is false
    #[arg(long, env = "S3_BUCKET", value_name = "NAME", value_parser = bucket)]
    pub s3_bucket: Option<String>,

    /// Prefix of object keys; {date}, {hour}, {node}, {pod} and {host} are filled in
    #[arg(long, env = "S3_PREFIX", default_value = "k3s-vllm/", value_name = "PREFIX",
          value_parser = prefix)]
    pub s3_prefix: String,

    /// Endpoint of an S3-compatible store; absent: AWS
    #[arg(long, env = "S3_ENDPOINT", hide_env_values = true, value_name = "URL", value_parser = endpoint)]
    pub s3_endpoint: Option<String>,

    /// Where the bucket is named: in the path or in the host; auto finds out what the store takes
    #[arg(long, env = "S3_ADDRESSING", value_name = "WAY", value_parser = ["auto", "path", "host"])]
    pub s3_addressing: Option<String>,

    /// Whether SHA-256 travels with an upload, as MD5 does; auto leaves it out where the store refuses it
    #[arg(long, env = "S3_CHECKSUMS", value_name = "WHEN", value_parser = ["auto", "always", "never"])]
    pub s3_checksums: Option<String>,

    /// Seconds between uploads of closed files
    #[arg(long, env = "UPLOAD_INTERVAL", default_value = "120", value_name = "SECONDS",
          value_parser = seconds)]
    pub upload_interval: String,

    /// Region of the bucket; absent: of the instance, or us-east-1
    #[arg(long, env = "AWS_REGION", value_name = "REGION", value_parser = region)]
    pub aws_region: Option<String>,

    /// Never asks for the role of the instance: fails sooner where there is none
    #[arg(long, env = "AWS_EC2_METADATA_DISABLED", default_value = "false", value_name = "BOOL",
          value_parser = boolean, action = ArgAction::Set)]
    pub aws_ec2_metadata_disabled: bool,
}
