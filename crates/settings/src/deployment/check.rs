//! What no value alone can tell: settings that contradict each other.

use anyhow::{Result, bail};
use clap::{Args as _, Command};
use trace::segment_name::Format;

use super::{Config, PullPolicy, Sdk, values::absolute_path, vllm};
use crate::{AttachBy, names::AWS_SECRET_KEYS, variables};

/// What the tracer may need beside its ring buffer: 64 MiB resident and 32 MiB for the open calls
/// of threads, as "Memory" in `docs/operations.md` explains.
const MEMORY_BESIDE_BUFFER: u64 = 96 << 20;

/// What it needs more with TRACE_FORMAT=parquet, whatever the lines: a test of the sidecar measures it.
const MEMORY_OF_TABLES: u64 = 96 << 20;

impl Config {
    /// All contradictions at once. An error of the cluster, or a tracer that does not start and keeps
    /// vLLM from starting, would come later and say less.
    pub fn check(&self) -> Result<()> {
        let problems: Vec<String> = [
            self.upload_has_no_bucket(),
            self.settings.bucket_is_named_twice(),
            self.gpus_do_not_divide(),
            self.perf_events_without_right(),
            self.traces_outgrow_their_volume(),
            self.buffer_outgrows_memory(),
            self.limit_below_request(),
            self.traces_cannot_be_mounted(),
            self.mounts_meet(),
            self.variable_is_taken(),
            self.image_never_changes(),
        ]
        .into_iter()
        .flatten()
        .collect();
        match problems.as_slice() {
            [] => Ok(()),
            [problem] => bail!("{problem}"),
            problems => {
                bail!("{} settings are wrong:\n  {}", problems.len(), problems.join("\n  "))
            }
        }
    }

    /// A setting of the tracer that has a default, as it was typed.
    pub fn typed(&self, variable: &str) -> &str {
        self.variables
            .get(variable)
            .expect("with_variables was called, and the setting has a default")
    }

    fn upload_has_no_bucket(&self) -> Option<String> {
        (self.settings.upload_enabled && self.settings.s3_bucket.is_none()).then(|| {
            "S3_BUCKET is not set: set it to the bucket that traces go to, or UPLOAD_ENABLED=false \
             to keep them in the pod's volume"
                .to_owned()
        })
    }

    fn gpus_do_not_divide(&self) -> Option<String> {
        let (gpus, parallel) = (self.vllm.gpus, self.vllm.tensor_parallel());
        (!gpus.is_multiple_of(parallel)).then(|| {
            format!(
                "TENSOR_PARALLEL_SIZE is {parallel} and GPUS is {gpus}: the first must divide the \
                 second"
            )
        })
    }

    fn perf_events_without_right(&self) -> Option<String> {
        let asks = self.settings.attach_by == AttachBy::PerfEvents;
        (asks && !self.perf_events).then(|| {
            "ATTACH_BY is perf-events and PERF_EVENTS is false: perf events need the capability \
             that PERF_EVENTS=true gives"
                .to_owned()
        })
    }

    fn traces_outgrow_their_volume(&self) -> Option<String> {
        let (limit, segment) = (self.settings.trace_dir_limit, self.settings.trace_segment_size);
        let size = &self.storage.traces_size;
        // The open file comes on top of those that wait.
        (limit.saturating_add(segment) > size.bytes()).then(|| {
            let (limit, segment) =
                (self.typed("TRACE_DIR_LIMIT"), self.typed("TRACE_SEGMENT_SIZE"));
            format!(
                "TRACE_DIR_LIMIT is {limit} and TRACE_SEGMENT_SIZE {segment}, together more than \
                 TRACES_SIZE, {size}: raise the last or lower one of the others"
            )
        })
    }

    fn buffer_outgrows_memory(&self) -> Option<String> {
        let limit = &self.tracer.tracer_memory_limit;
        let makes_tables = self.settings.trace_format == Format::Parquet;
        let (tables, why) =
            if makes_tables { (MEMORY_OF_TABLES, " with TRACE_FORMAT=parquet") } else { (0, "") };
        let beside = MEMORY_BESIDE_BUFFER + tables;
        (u64::from(self.settings.ring_buffer_size) + beside > limit.bytes()).then(|| {
            let buffer = self.typed("RING_BUFFER_SIZE");
            format!(
                "RING_BUFFER_SIZE is {buffer} and TRACER_MEMORY_LIMIT {limit}: the buffer counts \
                 towards it, and {} Mi beside it{why}; raise the limit or lower the size",
                beside >> 20
            )
        })
    }

    fn limit_below_request(&self) -> Option<String> {
        let tracer = Some(&self.tracer.tracer_memory_limit);
        [
            ("TRACER_MEMORY", &self.tracer.tracer_memory, tracer),
            ("VLLM_MEMORY", &self.vllm.vllm_memory, self.vllm.vllm_memory_limit.as_ref()),
        ]
        .into_iter()
        .find_map(|(name, request, limit)| {
            let limit = limit.filter(|limit| limit.bytes() < request.bytes())?;
            Some(format!(
                "{name} is {request} and {name}_LIMIT {limit}: a limit is at least the request"
            ))
        })
    }

    /// The tracer alone takes more paths than a mount does.
    fn traces_cannot_be_mounted(&self) -> Option<String> {
        let path = self.typed("TRACE_DIR");
        let refusal = absolute_path(path).err()?;
        Some(format!("TRACE_DIR is {path:?}: {refusal}"))
    }

    fn mounts_meet(&self) -> Option<String> {
        let (traces, cache) = (self.typed("TRACE_DIR"), &self.vllm.model_cache_dir);
        let trimmed = |path: &str| path.trim_end_matches('/').to_owned();
        let mounts = [trimmed(traces), trimmed(cache), vllm::SHARED_MEMORY_PATH.to_owned()];
        let meet = |[a, b]: [usize; 2]| mounts[a] == mounts[b];
        [[0, 1], [0, 2], [1, 2]].into_iter().any(meet).then(|| {
            format!(
                "TRACE_DIR is {traces} and MODEL_CACHE_DIR is {cache}: they and {} must be three \
                 directories",
                vllm::SHARED_MEMORY_PATH
            )
        })
    }

    /// A variable given twice would win or lose in silence.
    fn variable_is_taken(&self) -> Option<String> {
        let tracer = &self.tracer.tracer_env.0;
        let mut own = variables::names();
        own.extend(variables::names_of(&Sdk::augment_args(Command::new("sdk"))));
        if let Some((name, _)) = tracer.iter().find(|(name, _)| own.contains(name)) {
            return Some(format!(
                "TRACER_ENV sets {name}: it has a setting of its own, see --help"
            ));
        }
        if let Some((name, _)) =
            tracer.iter().find(|(name, _)| AWS_SECRET_KEYS.contains(&name.as_str()))
        {
            return Some(format!(
                "TRACER_ENV sets {name}: the secret aws-credentials sets it already, and keeps it out \
                 of the deployment: `cargo xtask secrets --aws`"
            ));
        }
        let vllm = &self.vllm.vllm_env.0;
        vllm.iter().find(|(name, _)| vllm::VARIABLES.contains(&name.as_str())).map(|(name, _)| {
            format!("VLLM_ENV sets {name}: the secret and the cache directory set it already")
        })
    }

    /// With a tag that moves, a node keeps what it has.
    fn image_never_changes(&self) -> Option<String> {
        let image = &self.vllm.vllm_image;
        (image.ends_with(":latest") && self.vllm.vllm_pull_policy == PullPolicy::IfNotPresent).then(|| {
            format!(
                "VLLM_IMAGE is {image}: with VLLM_PULL_POLICY=IfNotPresent a node keeps the latest \
                 it has; name a version, or set the policy to Always or Never"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches as _;

    use super::*;
    use crate::deployment::with_defaults;

    fn config(flags: &[&str]) -> Config {
        let command = with_defaults(Config::augment_args(Command::new("test")));
        let command = command.mut_args(|arg| arg.env(clap::builder::Resettable::Reset));
        let matches = command.get_matches_from(["test"].iter().chain(flags));
        Config::from_arg_matches(&matches).unwrap().with_variables(&matches)
    }

    fn check(flags: &[&str]) -> String {
        let flags = [&["--s3-bucket=traces"], flags].concat();
        config(&flags).check().map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn contradictions_are_named_with_the_way_out() {
        assert_eq!(check(&[]), "");
        assert_eq!(check(&["--tracer-memory=64Mi", "--tracer-memory-limit=112Mi"]), "");
        for (flags, expected) in [
            (&["--gpus=4", "--tensor-parallel-size=3"][..], "must divide"),
            (&["--attach-by=perf-events", "--perf-events=false"], "PERF_EVENTS=true"),
            (&["--traces-size=8Gi"], "TRACES_SIZE"),
            (&["--ring-buffer-size=512Mi"], "TRACER_MEMORY_LIMIT"),
            (&["--tracer-memory=64Mi", "--tracer-memory-limit=111Mi"], "96 Mi beside it"),
            (
                &["--tracer-memory=64Mi", "--tracer-memory-limit=207Mi", "--trace-format=parquet"],
                "192 Mi beside it with TRACE_FORMAT=parquet",
            ),
            (&["--tracer-memory=1Gi"], "TRACER_MEMORY_LIMIT 512Mi"),
            (&["--vllm-memory-limit=8Gi"], "VLLM_MEMORY is 12Gi and VLLM_MEMORY_LIMIT 8Gi"),
            (&["--trace-dir=/root/.cache/"], "three directories"),
            (&["--trace-dir=/dev/shm"], "three directories"),
            (&["--tracer-env=HTTP_ADDRESS=127.0.0.1:1"], "TRACER_ENV sets HTTP_ADDRESS"),
            (&["--vllm-env=HF_TOKEN=x"], "VLLM_ENV sets HF_TOKEN"),
            (&["--tracer-env=AWS_SESSION_TOKEN=x"], "cargo xtask secrets --aws"),
            (&["--vllm-image=vllm/vllm-openai:latest"], "VLLM_PULL_POLICY"),
        ] {
            let message = check(flags);
            assert!(message.contains(expected), "{flags:?}: {message}");
        }
    }

    #[test]
    fn a_bucket_is_needed_only_to_upload() {
        let check = |flags: [&str; 1]| config(&flags).check();
        let message = check(["--upload-enabled=true"]).unwrap_err().to_string();
        assert!(message.contains("S3_BUCKET is not set"), "{message}");
        assert!(check(["--upload-enabled=false"]).is_ok());
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let message = check(&["--traces-size=1Gi", "--ring-buffer-size=1Gi"]);
        assert!(message.starts_with("2 settings are wrong:\n"), "{message}");
    }
}
