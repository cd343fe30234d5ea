//! What the API server and the tracer tell: the fields that tasks look at, as they spell them.

use serde_json::{Value, json};

pub(crate) fn namespace(phase: &str) -> Value {
    json!({ "kind": "Namespace", "status": { "phase": phase } })
}

pub(crate) fn gpu_node(gpus: &str) -> Value {
    json!({
        "metadata": { "name": "gpu-node" },
        "status": {
            "conditions": [{ "type": "Ready", "status": "True" }],
            "capacity": { "nvidia.com/gpu": gpus }, "allocatable": { "nvidia.com/gpu": gpus },
            "nodeInfo": { "kubeletVersion": "v1.36.2+k3s1" },
        },
    })
}

pub(crate) fn ready_pod() -> Value {
    json!({
        "kind": "Pod", "metadata": { "name": "vllm-7d4b9c-xk2lp" },
        "status": {
            "phase": "Running",
            "conditions": [{ "type": "Ready", "status": "True" }],
            "initContainerStatuses":
                [{ "name": "ebpf-tracer", "ready": true, "state": { "running": {} } }],
            "containerStatuses": [{ "name": "vllm", "ready": true, "state": { "running": {} } }],
        },
    })
}

/// A pod with the tracer ready and vLLM as given.
pub(crate) fn pod_with_vllm(mut vllm: Value) -> Value {
    let mut pod = ready_pod();
    vllm["name"] = json!("vllm");
    pod["status"]["phase"] = json!("Pending");
    pod["status"]["conditions"] = json!([{ "type": "Ready", "status": "False" }]);
    pod["status"]["containerStatuses"] = json!([vllm]);
    pod
}

/// What the namespace holds.
pub(crate) fn objects(pod: &Value, is_ready: bool) -> Value {
    let ready = u32::from(is_ready);
    json!({ "items": [
        {
            "kind": "Deployment", "metadata": { "name": "vllm", "generation": 1 },
            "spec": { "replicas": 1, "template": { "spec": {
                "containers": [{ "name": "vllm", "image": "docker.io/vllm/vllm-openai:v0.20.2" }],
                "initContainers": [{ "name": "ebpf-tracer", "image": "docker.io/littleboy/ebpf-cuda-tracer:1" }],
            }}},
            "status": { "observedGeneration": 1, "updatedReplicas": 1, "readyReplicas": ready },
        },
        pod,
        { "kind": "Service", "metadata": { "name": "vllm-api" },
          "spec": { "ports": [{ "port": 8000, "nodePort": 30800 }] } },
    ]})
}

/// Of a sidecar that has traced vLLM and uploaded.
pub(crate) fn status() -> Value {
    json!({
        "phase": "recording", "run": "node_20261124T042800.642Z", "target_process": "python",
        "visible_processes": 4,
        "processes": [{
            "pid": 23, "command": "VLLM::EngineCore", "comm": "VLLM::EngineCor",
            "matched_by": "ancestor", "has_called": true, "is_running": true,
            "reason": "a target started it",
        }],
        "calls": { "recorded": 2, "dropped_at_ring": 0, "dropped_at_disk": 0 },
        "segments": { "closed": 1, "written_bytes": 900, "waiting": 0 },
        "uploads": { "destination": "s3://traces/k3s-vllm/", "stored": 1, "failing": null },
    })
}
