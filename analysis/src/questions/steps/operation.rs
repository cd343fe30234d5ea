//! What a function of CUDA does, as far as steps are made of it.

/// By the function's name without version and suffix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::questions) enum Operation {
    Launch,
    GraphLaunch,
    /// Of any direction; the call says which.
    Copy,
    Set,
    EventCreate,
    EventDestroy,
    EventRecord,
    EventQuery,
    EventSynchronize,
    StreamWaitEvent,
    StreamQuery,
    StreamSynchronize,
    StreamDestroy,
    /// For everything of a device or a context.
    DeviceSynchronize,
    BeginCapture,
    EndCapture,
    Instantiate,
    ExecutableUpdate,
    ExecutableDestroy,
    GraphDestroy,
    Other,
}

impl Operation {
    pub(in crate::questions) fn of(canonical: &str) -> Self {
        let stem = canonical.trim_start_matches('_');
        let Some(stem) = stem.strip_prefix("cuda").or_else(|| stem.strip_prefix("cu")) else {
            return Self::Other;
        };
        match stem {
            "GraphLaunch" => Self::GraphLaunch,
            "EventCreate" | "EventCreateWithFlags" | "IpcOpenEventHandle" => Self::EventCreate,
            "EventDestroy" => Self::EventDestroy,
            "EventRecord" | "EventRecordWithFlags" => Self::EventRecord,
            "EventQuery" => Self::EventQuery,
            "EventSynchronize" => Self::EventSynchronize,
            "StreamWaitEvent" => Self::StreamWaitEvent,
            "StreamQuery" => Self::StreamQuery,
            "StreamSynchronize" => Self::StreamSynchronize,
            "StreamDestroy" => Self::StreamDestroy,
            "DeviceSynchronize" | "CtxSynchronize" => Self::DeviceSynchronize,
            "StreamEndCapture" => Self::EndCapture,
            "GraphExecUpdate" | "GraphExecKernelNodeSetParams" => Self::ExecutableUpdate,
            "GraphExecDestroy" => Self::ExecutableDestroy,
            "GraphDestroy" => Self::GraphDestroy,
            "LaunchHostFunc" => Self::Other,
            _ if stem.starts_with("StreamBeginCapture") => Self::BeginCapture,
            _ if stem.starts_with("GraphInstantiate") => Self::Instantiate,
            _ if stem.starts_with("Launch") => Self::Launch,
            _ if stem.starts_with("Memcpy") => Self::Copy,
            _ if stem.starts_with("Memset") => Self::Set,
            _ => Self::Other,
        }
    }

    /// Whatever it asks for, the stream does it in its turn.
    pub(in crate::questions) fn is_queued(self) -> bool {
        matches!(self, Self::Launch | Self::GraphLaunch | Self::Copy | Self::Set | Self::Other)
    }

    /// The thread may wait for the GPU in it.
    pub(in crate::questions) fn is_wait(self) -> bool {
        matches!(self, Self::EventSynchronize | Self::StreamSynchronize | Self::DeviceSynchronize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layers_have_the_same_operations() {
        for (name, operation) in [
            ("cudaLaunchKernelExC", Operation::Launch),
            ("cuLaunchKernelEx", Operation::Launch),
            ("cuLaunchHostFunc", Operation::Other),
            ("cudaMemcpyAsync", Operation::Copy),
            ("cuMemcpyDtoHAsync", Operation::Copy),
            ("cuMemsetD8Async", Operation::Set),
            ("cudaEventQuery", Operation::EventQuery),
            ("cuCtxSynchronize", Operation::DeviceSynchronize),
            ("cuGraphInstantiateWithFlags", Operation::Instantiate),
            ("__cudaRegisterFunction", Operation::Other),
            ("main", Operation::Other),
        ] {
            assert_eq!(Operation::of(name), operation, "{name}");
        }
    }
}
