//! vLLM's command line, as far as it matters here; the rest of it is accepted and left alone.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::misbehaviour::Misbehaviour;

pub const HELP: &str = "\
A stand-in for vLLM's OpenAI-compatible server.

usage: standin-vllm serve [MODEL] [OPTIONS]
       standin-vllm [-m vllm.entrypoints.openai.api_server] --model MODEL [OPTIONS]

  --model NAME                 [meta-llama/Llama-2-7b-hf]
  --served-model-name NAME...  names that requests may use instead
  --host HOST                  [127.0.0.1]
  --port PORT                  [8000]; 0 takes a free one
  --max-model-len TOKENS       [4096]
  --max-num-seqs COUNT         sequences in one step [256]
  --max-num-batched-tokens N   tokens in one step [8192]
  --gpu-memory-utilization F   [0.9]
  --dtype TYPE                 [auto]
  --enforce-eager              no CUDA graphs
  --tensor-parallel-size N     above 1, that many worker processes compute for the engine [1]

of the stand-in:
  --startup-delay MS           how long each process takes to import Python's modules [300]
  --step-ms MS                 how long a step takes on the device [5]
  --misbehave CAUSE            waste time on purpose, as `cuda-trace findings` would call it: errors, sync_in_step,
                               pageable_copy, sync_copy, allocation_in_step, capture_while_serving,
                               graph_reinstantiation, eager_despite_graph, queue_full, host_held_up, module_load,
                               stream_creation, event_creation, step_outliers
  --misbehave-seed N           in which steps, and how much [1]

Other options of vLLM are accepted and have no effect. The libraries libcudart.so.13 and libcuda.so.1 are loaded by
name: LD_LIBRARY_PATH must lead to them.";

/// What the command line asks for.
#[derive(Debug)]
pub enum Invocation {
    Help,
    Serve { options: Box<Options>, warnings: Vec<String> },
}

#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    pub model: String,
    /// The first of them is the one that answers carry.
    pub served_names: Vec<String>,
    pub host: String,
    pub port: u16,
    pub max_model_len: usize,
    pub max_num_seqs: usize,
    pub max_num_batched_tokens: usize,
    pub gpu_memory_utilization: f64,
    pub dtype: String,
    pub enforce_eager: bool,
    pub tensor_parallel_size: usize,
    pub startup_delay: Duration,
    pub step: Duration,
    pub misbehaviour: Option<Misbehaviour>,
}

/// Options of vLLM that people use and that change nothing here.
const WITHOUT_EFFECT: &[&str] = &[
    "allowed-origins",
    "api-server-count",
    "async-scheduling",
    "block-size",
    "chat-template",
    "compilation-config",
    "cpu-offload-gb",
    "data-parallel-size",
    "disable-log-requests",
    "disable-log-stats",
    "download-dir",
    "enable-auto-tool-choice",
    "enable-chunked-prefill",
    "enable-log-requests",
    "enable-prefix-caching",
    "generation-config",
    "hf-token",
    "kv-cache-dtype",
    "load-format",
    "max-logprobs",
    "max-seq-len-to-capture",
    "no-enable-chunked-prefill",
    "no-enable-log-requests",
    "no-enable-prefix-caching",
    "pipeline-parallel-size",
    "quantization",
    "revision",
    "root-path",
    "scheduling-policy",
    "seed",
    "swap-space",
    "task",
    "tokenizer",
    "tokenizer-mode",
    "tool-call-parser",
    "trust-remote-code",
    "uvicorn-log-level",
];

impl Options {
    pub fn parse(arguments: &[String]) -> Result<Invocation> {
        let mut rest = arguments;
        if let [flag, module, tail @ ..] = rest
            && flag == "-m"
        {
            ensure!(
                module.starts_with("vllm."),
                "cannot run the module {module}: only vllm.entrypoints.openai.api_server is here"
            );
            rest = tail;
        }
        let mut given = Given::default();
        if let [command, tail @ ..] = rest
            && command == "serve"
        {
            rest = tail;
            if let [model, tail @ ..] = rest
                && !is_option(model)
            {
                given.values.insert("model".to_owned(), vec![model.clone()]);
                rest = tail;
            }
        }
        given.read(rest)?;
        if given.values.contains_key("help") || given.values.contains_key("h") {
            return Ok(Invocation::Help);
        }
        let options = Self::take(&mut given)?;
        let warnings = given
            .values
            .into_keys()
            .filter(|name| !WITHOUT_EFFECT.contains(&name.as_str()))
            .map(|name| format!("ignoring --{name}: vLLM may know it, the stand-in does not"))
            .collect();
        Ok(Invocation::Serve { options: Box::new(options), warnings })
    }

    fn take(given: &mut Given) -> Result<Self> {
        let model = given.one("model")?.unwrap_or_else(|| "meta-llama/Llama-2-7b-hf".to_owned());
        let served_names = given.values.remove("served-model-name").unwrap_or_default();
        let options = Self {
            served_names: if served_names.is_empty() { vec![model.clone()] } else { served_names },
            model,
            host: given.one("host")?.unwrap_or_else(|| "127.0.0.1".to_owned()),
            port: given.number("port", 8000)?,
            max_model_len: given.number("max-model-len", 4096)?,
            max_num_seqs: given.number("max-num-seqs", 256)?,
            max_num_batched_tokens: given.number("max-num-batched-tokens", 8192)?,
            gpu_memory_utilization: given.number("gpu-memory-utilization", 0.9)?,
            dtype: given.one("dtype")?.unwrap_or_else(|| "auto".to_owned()),
            enforce_eager: given.values.remove("enforce-eager").is_some(),
            tensor_parallel_size: given.number("tensor-parallel-size", 1)?,
            startup_delay: Duration::from_millis(given.number("startup-delay", 300)?),
            step: Duration::try_from_secs_f64(given.number::<f64>("step-ms", 5.0)? / 1e3)
                .context("--step-ms is no time")?,
            misbehaviour: misbehaviour(given)?,
        };
        ensure!(
            options.gpu_memory_utilization > 0.0 && options.gpu_memory_utilization <= 1.0,
            "--gpu-memory-utilization is {}: it must be above 0 and at most 1",
            options.gpu_memory_utilization
        );
        for (name, value) in [
            ("max-model-len", options.max_model_len),
            ("max-num-seqs", options.max_num_seqs),
            ("max-num-batched-tokens", options.max_num_batched_tokens),
            ("tensor-parallel-size", options.tensor_parallel_size),
        ] {
            ensure!(value > 0, "--{name} is 0: it must be at least 1");
        }
        Ok(options)
    }
}

/// Options by their long names, with the values that followed.
#[derive(Debug, Default)]
struct Given {
    values: BTreeMap<String, Vec<String>>,
}

impl Given {
    fn read(&mut self, arguments: &[String]) -> Result<()> {
        let mut name = None;
        for argument in arguments {
            if is_option(argument) {
                let text = argument.trim_start_matches('-');
                let (key, value) =
                    text.split_once('=').map_or((text, None), |(key, value)| (key, Some(value)));
                let key = key.replace('_', "-");
                let values = self.values.entry(key.clone()).or_default();
                values.clear();
                values.extend(value.map(str::to_owned));
                name = Some(key);
            } else if let Some(values) = name.as_ref().and_then(|name| self.values.get_mut(name)) {
                values.push(argument.clone());
            } else {
                bail!(
                    "cannot understand {argument}: the model is given by `serve MODEL` or `--model MODEL`"
                );
            }
        }
        Ok(())
    }

    fn one(&mut self, name: &str) -> Result<Option<String>> {
        let Some(values) = self.values.remove(name) else { return Ok(None) };
        let [value] = values.as_slice() else {
            bail!("--{name} takes one value, not {}", values.len())
        };
        Ok(Some(value.clone()))
    }

    fn number<T: std::str::FromStr>(&mut self, name: &str, otherwise: T) -> Result<T> {
        let Some(text) = self.one(name)? else { return Ok(otherwise) };
        text.parse().ok().with_context(|| format!("--{name} is {text:?}: it must be a number"))
    }
}

fn misbehaviour(given: &mut Given) -> Result<Option<Misbehaviour>> {
    let seed = given.number("misbehave-seed", 1)?;
    let Some(cause) = given.one("misbehave")? else { return Ok(None) };
    Ok(Some(Misbehaviour { cause: cause.parse()?, seed }))
}

/// Negative numbers are values.
fn is_option(argument: &str) -> bool {
    argument.starts_with('-') && argument.trim_start_matches('-').starts_with(char::is_alphabetic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> (Options, Vec<String>) {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match Options::parse(&arguments).unwrap() {
            Invocation::Serve { options, warnings } => (*options, warnings),
            Invocation::Help => panic!("help"),
        }
    }

    fn error(line: &str) -> String {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        format!("{:#}", Options::parse(&arguments).unwrap_err())
    }

    #[test]
    fn both_forms_of_vllm_are_understood() {
        let (serve, warnings) =
            parse("serve a/model --port 1 --max_model_len=2048 --dtype float16 --seed -1");
        assert_eq!(
            (serve.model.as_str(), serve.port, serve.max_model_len, serve.dtype.as_str()),
            ("a/model", 1, 2048, "float16")
        );
        assert!(warnings.is_empty(), "{warnings:?}");
        let (module, _) = parse(
            "-m vllm.entrypoints.openai.api_server --model a/model --enforce-eager --served-model-name x y",
        );
        assert!(module.enforce_eager && !serve.enforce_eager);
        assert_eq!(module.served_names, ["x", "y"]);
        assert_eq!(serve.served_names, ["a/model"]);
    }

    #[test]
    fn unknown_options_are_warned_about() {
        let (_, warnings) = parse("serve --brand-new 7 --tensor-parallel-size 2 --other");
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].contains("--brand-new"));
    }

    #[test]
    fn bad_values_are_named() {
        assert!(error("serve --port many").contains("--port is \"many\""));
        assert!(error("serve --gpu-memory-utilization 1.5").contains("at most 1"));
        assert!(error("serve --max-model-len 0").contains("--max-model-len is 0"));
        assert!(error("serve --misbehave badly").contains("sync_in_step"));
        assert!(error("a/model").contains("serve MODEL"));
        assert!(error("-m http.server").contains("http.server"));
    }
}
