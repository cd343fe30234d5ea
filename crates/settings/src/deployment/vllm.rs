//! What varies of vLLM: model, options, image, resources.

use crate::boolean;
use clap::{ArgAction, Args, ValueEnum};

use super::{
    PullPolicy,
    values::{
        Memory, Variables, Words, absolute_path, cpu, image, memory, model, share, variables,
        vllm_arguments,
    },
};

pub const SHARED_MEMORY_PATH: &str = "/dev/shm";

/// What this file sets, so that VLLM_ENV cannot.
pub const VARIABLES: [&str; 3] = ["HF_TOKEN", "HF_HOME", "HF_HUB_OFFLINE"];

#[derive(Debug, Clone, PartialEq, Args)]
pub struct Vllm {
    /// Model to serve, as Hugging Face names it, or its directory in the container
    #[arg(long, env = "MODEL", default_value = "meta-llama/Llama-2-7b-hf", value_name = "NAME",
          value_parser = model)]
    pub model: String,

    /// Share of the GPU's memory for weights and cache
    #[arg(long, env = "GPU_MEMORY_UTILIZATION", default_value = "0.9", value_name = "SHARE",
          value_parser = share)]
    pub gpu_memory_utilization: String,

    /// Longest sequence, in tokens
    #[arg(long, env = "MAX_MODEL_LEN", default_value = "2048", value_name = "TOKENS",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub max_model_len: u32,

    /// Type of weights and activations
    #[arg(long, env = "DTYPE", default_value = "float16", value_name = "TYPE")]
    pub dtype: Dtype,

    /// GPUs of the pod
    #[arg(long, env = "GPUS", default_value = "1", value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=64))]
    pub gpus: u32,

    /// GPUs that one copy of the model is spread over; absent: all of the pod
    #[arg(long, env = "TENSOR_PARALLEL_SIZE", value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=64))]
    pub tensor_parallel_size: Option<u32>,

    /// No CUDA graphs: starts sooner, is slower, and every kernel launch is a call of its own
    #[arg(long, env = "ENFORCE_EAGER", default_value = "false", value_name = "BOOL",
          value_parser = boolean, action = ArgAction::Set)]
    pub enforce_eager: bool,

    /// More arguments of `vllm serve`, as a shell would split them
    #[arg(long, env = "VLLM_ARGS", hide_env_values = true, default_value = "", value_name = "ARGS", hide_default_value = true,
          allow_hyphen_values = true, value_parser = vllm_arguments)]
    pub vllm_args: Words,

    /// More variables of vLLM's container: NAME=VALUE, as a shell would split them
    #[arg(long, env = "VLLM_ENV", hide_env_values = true, default_value = "", value_name = "VARIABLES",
          hide_default_value = true, value_parser = variables)]
    pub vllm_env: Variables,

    /// Image of vLLM; CUDA 13 in it needs driver 580 or later
    #[arg(long, env = "VLLM_IMAGE", default_value = "docker.io/vllm/vllm-openai:v0.20.2",
          value_name = "IMAGE", value_parser = image)]
    pub vllm_image: String,

    /// When vLLM's image is pulled
    #[arg(long, env = "VLLM_PULL_POLICY", default_value = "IfNotPresent", value_name = "POLICY")]
    pub vllm_pull_policy: PullPolicy,

    /// Processor time requested for vLLM, in cores
    #[arg(long, env = "VLLM_CPU", default_value = "4", value_name = "CORES", value_parser = cpu)]
    pub vllm_cpu: String,

    /// Memory requested for vLLM
    #[arg(long, env = "VLLM_MEMORY", default_value = "12Gi", value_name = "SIZE",
          value_parser = memory)]
    pub vllm_memory: Memory,

    /// Memory at which vLLM is killed; absent: none, as the need grows with model and GPUs
    #[arg(long, env = "VLLM_MEMORY_LIMIT", value_name = "SIZE", value_parser = memory)]
    pub vllm_memory_limit: Option<Memory>,

    /// Size of /dev/shm, which lies in memory; processes of several GPUs exchange data there
    #[arg(long, env = "SHM_SIZE", default_value = "2Gi", value_name = "SIZE",
          value_parser = memory)]
    pub shm_size: Memory,

    /// Seconds that vLLM may take to download, load and compile its model
    #[arg(long, env = "STARTUP_TIMEOUT", default_value = "3600", value_name = "SECONDS",
          value_parser = clap::value_parser!(u32).range(60..=86_400))]
    pub startup_timeout: u32,

    /// Seconds that vLLM may take to finish requests when it is stopped; 0 aborts them
    ///
    /// Above 0, `vllm serve` gets --shutdown-timeout, which releases before March 2026 do not know.
    #[arg(long, env = "DRAIN_TIMEOUT", default_value = "0", value_name = "SECONDS",
          value_parser = clap::value_parser!(u32).range(0..=3600))]
    pub drain_timeout: u32,

    /// Starts also without the secret hf-token: for models that need no licence
    #[arg(long, env = "HF_TOKEN_OPTIONAL", default_value = "false", value_name = "BOOL",
          value_parser = boolean, action = ArgAction::Set)]
    pub hf_token_optional: bool,

    /// Never asks Hugging Face: the model is in the cache already
    #[arg(long, env = "HF_OFFLINE", default_value = "false", value_name = "BOOL",
          value_parser = boolean, action = ArgAction::Set)]
    pub hf_offline: bool,

    /// Where the cache is mounted: ~/.cache of the image's user
    #[arg(long, env = "MODEL_CACHE_DIR", default_value = "/root/.cache", value_name = "DIR",
          value_parser = absolute_path)]
    pub model_cache_dir: String,
}

impl Vllm {
    pub fn tensor_parallel(&self) -> u32 {
        self.tensor_parallel_size.unwrap_or(self.gpus)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    Auto,
    Half,
    Float16,
    Bfloat16,
    Float,
    Float32,
}

impl Dtype {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Half => "half",
            Self::Float16 => "float16",
            Self::Bfloat16 => "bfloat16",
            Self::Float => "float",
            Self::Float32 => "float32",
        }
    }
}
