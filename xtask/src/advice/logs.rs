//! What vLLM and the tracer say in their logs when something around them is wrong.

use super::{Advice, Rules};

pub(super) const VLLM: Rules = &[
    (&["401 client error"], TOKEN),
    (&["403 client error"], LICENCE),
    (&["gated repo"], LICENCE),
    (&["invalid user token"], TOKEN),
    (&["illegal header value"], TOKEN),
    (
        &["is not a valid model identifier"],
        Advice {
            cause: "Hugging Face has no model of this name, or the token may not see it",
            next: "correct the model of the deployment, or `cargo xtask secrets`",
        },
    ),
    (
        &["keyboardinterrupt: terminated"],
        Advice {
            cause: "the startup probe gave up before the model was loaded",
            next: "give vLLM more time to start, and deploy again",
        },
    ),
    (
        &["error 803"],
        Advice {
            cause: "the image loads its own, incompatible libcuda instead of the driver's",
            next: "use a vLLM image of 2026-03 or later",
        },
    ),
    (
        &["driver on your system is too old"],
        Advice {
            cause: "the image's CUDA needs a later NVIDIA driver",
            next: "nvidia-smi; CUDA 13 needs driver 580, CUDA 12 needs 525",
        },
    ),
    (
        &["cuda driver version is insufficient"],
        Advice {
            cause: "the image's CUDA needs a later NVIDIA driver",
            next: "nvidia-smi; CUDA 13 needs driver 580, CUDA 12 needs 525",
        },
    ),
    (
        &["appears to be a uri"],
        Advice {
            cause: "a service named `vllm` sets VLLM_PORT in this namespace",
            next: "kubectl delete service vllm -n vllm-tracing",
        },
    ),
    (&["no available memory for the cache blocks"], GPU_MEMORY),
    (&["max seq len is larger"], GPU_MEMORY),
    (&["cuda out of memory"], GPU_MEMORY),
    (&["free memory on device", "less than desired"], GPU_MEMORY),
    (
        &["failed to initialize nvml"],
        Advice {
            cause: "the container has lost its GPU: `systemctl daemon-reload` does that with container \
                    toolkits before 1.18",
            next: "kubectl rollout restart deployment -n vllm-tracing -l app=vllm",
        },
    ),
    (
        &["no space left on device"],
        Advice { cause: "the volume or the node's disk is full", next: "df -h /var/lib/rancher" },
    ),
    (
        &["temporary failure in name resolution"],
        Advice {
            cause: "names are not resolved in the pod",
            next: "kubectl get pods -n kube-system -l k8s-app=kube-dns",
        },
    ),
    (
        &["unrecognized arguments"],
        Advice {
            cause: "this vLLM does not know one of its arguments",
            next: "compare the arguments with `vllm serve --help` of this image",
        },
    ),
];

pub(super) const TRACER: Rules = &[
    (
        &["is missing, needed to"],
        Advice {
            cause: "a capability is missing",
            next: "compare the tracer's securityContext with `cargo xtask manifests`; the profile \
                   `privileged` has all",
        },
    ),
    (
        &["nosuchbucket"],
        Advice {
            cause: "the bucket does not exist at this store",
            next: "correct S3_BUCKET or S3_ENDPOINT, and deploy again",
        },
    ),
    (
        &["set aws_region to"],
        Advice {
            cause: "the bucket is in another region",
            next: "deploy again with AWS_REGION set to the one in the message",
        },
    ),
    (&["permanentredirect"], REGION),
    (&["authorizationheadermalformed"], REGION),
    (
        &["accessdenied"],
        Advice {
            cause: "the credentials may not write there",
            next: "grant s3:PutObject and s3:GetObject on the prefix; or other keys: `cargo xtask \
                   secrets --aws`",
        },
    ),
    (&["invalidaccesskeyid"], KEYS),
    (&["signaturedoesnotmatch"], KEYS),
    (
        &["expiredtoken"],
        Advice {
            cause: "the temporary AWS credentials have expired",
            next: "`cargo xtask secrets --aws` with fresh ones, and deploy again",
        },
    ),
    (
        &["no credentials for"],
        Advice {
            cause: "no AWS credentials reach the pod: no secret, and no role of the instance, whose \
                    service pods reach only with a hop limit of 2",
            next: "`cargo xtask secrets --aws`, or aws ec2 modify-instance-metadata-options \
                   --http-put-response-hop-limit 2",
        },
    ),
    (
        &["requesttimetooskewed"],
        Advice { cause: "the node's clock is wrong", next: "timedatectl status" },
    ),
    (
        &["cannot reach"],
        Advice {
            cause: "the store cannot be reached from the pod",
            next: "check S3_ENDPOINT, and the node's way out",
        },
    ),
];

const TOKEN: Advice = Advice {
    cause: "Hugging Face does not accept the token",
    next: "`cargo xtask secrets` with a valid token, then `cargo xtask deploy`",
};

const LICENCE: Advice = Advice {
    cause: "the model is gated, and the account of the token has not been granted access",
    next: "accept the licence on the model's page, or `cargo xtask secrets` with the token of an \
           account that has",
};

const GPU_MEMORY: Advice = Advice {
    cause: "the GPU has too little free memory for the model and its cache",
    next: "nvidia-smi; a smaller --max-model-len or model, or a GPU of its own",
};

const REGION: Advice = Advice {
    cause: "the bucket is in another region",
    next: "deploy again with AWS_REGION set to the region of the bucket",
};

const KEYS: Advice = Advice {
    cause: "the AWS keys are not valid",
    next: "`cargo xtask secrets --aws` with valid ones, and deploy again",
};
