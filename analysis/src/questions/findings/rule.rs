//! The rules: what each one finds, what its cost is, and what to do about it.

/// In the order in which findings of the same cost are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Rule {
    Errors,
    SyncInStep,
    PageableCopy,
    SyncCopy,
    AllocationInStep,
    CaptureWhileServing,
    GraphReinstantiation,
    EagerDespiteGraph,
    QueueFull,
    HostHeldUp,
    ModuleLoad,
    StreamCreation,
    EventCreation,
    StepOutliers,
}

/// How sure it is that the calls mean what the finding says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Confidence {
    /// The calls show it.
    Proved,
    /// The calls show what took the time; that this is the reason is the usual one.
    Likely,
}

impl Confidence {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Proved => "proved",
            Self::Likely => "likely",
        }
    }
}

/// What is told of a rule.
pub(super) struct About {
    /// For programs.
    pub name: &'static str,
    /// Behind the name of a process.
    pub what: &'static str,
    /// What is counted.
    pub counted: &'static str,
    /// What the cost is the time of.
    pub cost: &'static str,
    pub advice: &'static str,
    pub confidence: Confidence,
}

impl Rule {
    pub(super) const ALL: [Self; 14] = [
        Self::Errors,
        Self::SyncInStep,
        Self::PageableCopy,
        Self::SyncCopy,
        Self::AllocationInStep,
        Self::CaptureWhileServing,
        Self::GraphReinstantiation,
        Self::EagerDespiteGraph,
        Self::QueueFull,
        Self::HostHeldUp,
        Self::ModuleLoad,
        Self::StreamCreation,
        Self::EventCreation,
        Self::StepOutliers,
    ];

    #[expect(clippy::too_many_lines, reason = "a table")]
    pub(super) fn about(self) -> About {
        use Confidence::{Likely, Proved};
        let about = |name, what, counted, cost, confidence, advice| About {
            name,
            what,
            counted,
            cost,
            advice,
            confidence,
        };
        match self {
            Self::Errors => about(
                "errors",
                "gets errors from CUDA while it serves",
                "failed calls",
                "failed calls",
                Proved,
                "Look the error up in the engine's log at that time. An error in a step is often \
                 swallowed, retried, or told by a later call.",
            ),
            Self::SyncInStep => about(
                "sync_in_step",
                "waits for the GPU in the middle of its steps",
                "waits",
                "these waits",
                Proved,
                "The thread that launches cannot queue more work meanwhile, so the GPU runs dry. Look \
                 for .item(), .cpu(), .tolist(), print of a tensor or torch.cuda.synchronize() in the \
                 model or sampler; CUDA_LAUNCH_BLOCKING does it too.",
            ),
            Self::PageableCopy => about(
                "pageable_copy",
                "copies asynchronously from or to host memory that is not pinned",
                "copies",
                "these calls",
                Proved,
                "CUDA stages such copies through a buffer of its own, and does not return before the \
                 host memory is read or written. Make the tensor with pin_memory=True, or keep a \
                 pinned buffer and copy into it.",
            ),
            Self::SyncCopy => about(
                "sync_copy",
                "copies or fills memory by calls that are not asynchronous, while it serves",
                "calls",
                "these calls",
                Proved,
                "Such a call waits for the work before it. Use the Async form on the engine's stream, \
                 in PyTorch non_blocking=True with pinned memory.",
            ),
            Self::AllocationInStep => about(
                "allocation_in_step",
                "allocates or frees memory in its steps",
                "allocations and frees",
                "these calls",
                Proved,
                "These calls are slow, and a free waits for the whole device. Let the caching allocator \
                 keep the memory: look for torch.cuda.empty_cache(), PYTORCH_NO_CUDA_MEMORY_CACHING, \
                 fragmentation (expandable_segments:True), or buffers that are made in each step.",
            ),
            Self::CaptureWhileServing => about(
                "capture_while_serving",
                "captures CUDA graphs while it serves",
                "captures",
                "captures and instantiations",
                Proved,
                "Requests wait meanwhile. Capture all sizes before serving: cudagraph_capture_sizes in \
                 vLLM's compilation config; a warm-up request for each shape.",
            ),
            Self::GraphReinstantiation => about(
                "graph_reinstantiation",
                "instantiates graphs again while it serves",
                "instantiations",
                "these calls",
                Proved,
                "Instantiate once and launch often; change parameters by cudaGraphExecUpdate.",
            ),
            Self::EagerDespiteGraph => about(
                "eager_despite_graph",
                "runs decode steps without a graph though it has one of that size",
                "steps",
                "calls beyond those of the median decode step with a graph",
                Proved,
                "Something turns graphs off for these steps: a feature of some requests (LoRA, \
                 logprobs, guided decoding, a long context) or a dispatch by another key than size. \
                 Compare with vLLM's --cudagraph-metrics.",
            ),
            Self::QueueFull => about(
                "queue_full",
                "launches faster than the GPU works, until launches block",
                "blocked launches",
                "these launches beyond their usual time",
                Likely,
                "The queue of launches holds about a thousand, and then each launch waits for a kernel to \
                 end. The GPU is the limit: fewer and larger kernels (fusing, graphs) or less work \
                 ahead help; the host's time does not matter there.",
            ),
            Self::HostHeldUp => about(
                "host_held_up",
                "makes no call for longer than a whole step takes, in the middle of steps",
                "pauses",
                "pauses of the launching thread",
                Likely,
                "The GPU gets no work meanwhile. The thread was not running or ran other code: too few \
                 processors or a cgroup limit (see cpu.stat, nr_throttled), other processes, Python's \
                 lock held by another thread, garbage collection, work of the scheduler in between.",
            ),
            Self::ModuleLoad => about(
                "module_load",
                "loads code to the GPU while it serves",
                "loads",
                "loads, at most with the pauses in front of them, in which code may be compiled",
                Proved,
                "Kernels are compiled or loaded when they are first used. Send warm-up requests of all \
                 shapes before real ones; keep Triton's and torch.compile's caches between starts; \
                 CUDA_MODULE_LOADING=EAGER loads at the start.",
            ),
            Self::StreamCreation => about(
                "stream_creation",
                "creates streams while it serves",
                "streams",
                "these calls",
                Proved,
                "Creating a stream is slow, and each one takes memory. Make streams once, and take them \
                 from a pool (torch.cuda.Stream objects that live on).",
            ),
            Self::EventCreation => about(
                "event_creation",
                "creates very many events in its steps",
                "events",
                "these calls",
                Proved,
                "Keep events and record them again; events without timing \
                 (cudaEventDisableTiming) are cheaper.",
            ),
            Self::StepOutliers => about(
                "step_outliers",
                "has steps that take over three times as long as others that launch the same",
                "steps",
                "what these steps took beyond the median",
                Likely,
                "The same work took longer, and no other finding tells why. Look at what else uses the \
                 GPU or the host at these times: other processes on the device, clocks and power \
                 (nvidia-smi -q -d PERFORMANCE), slow ranks, host threads.",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn rules_have_names_of_their_own() {
        let names: BTreeSet<&str> = Rule::ALL.map(|rule| rule.about().name).into();
        assert_eq!(names.len(), Rule::ALL.len());
    }
}
