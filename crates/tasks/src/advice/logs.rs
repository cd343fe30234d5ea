//! What vLLM and the tracer say in their logs when something around them is wrong.

use super::{Advice, Rules};

pub const VLLM: Rules = &[
    (&["401 client error"], TOKEN),
    (&["403 client error"], LICENCE),
    (&["gated repo"], LICENCE),
    (&["invalid user token"], TOKEN),
    (&["illegal header value"], TOKEN),
    (
        &["is not a valid model identifier"],
        Advice {
            cause: "Hugging Face has no model of this name, or the token may not see it",
            next: "deploy again with another MODEL; or `cargo xtask secrets` with a token that may see \
                   it, then `cargo xtask deploy --restart`",
        },
    ),
    (
        &["keyboardinterrupt: terminated"],
        Advice {
            cause: "the startup probe gave up before the model was loaded",
            next: "deploy again with a longer STARTUP_TIMEOUT (seconds)",
        },
    ),
    (
        &["error 803"],
        Advice {
            cause: "the image loads its own, incompatible libcuda instead of the driver's",
            next: "deploy again with a VLLM_IMAGE of 2026-03 or later, or with \
                   VLLM_ENV=LD_LIBRARY_PATH=/usr/local/nvidia/lib64:/usr/lib/x86_64-linux-gnu",
        },
    ),
    (&["driver on your system is too old"], DRIVER),
    (&["cuda driver version is insufficient"], DRIVER),
    (&["unsatisfied condition: cuda"], DRIVER),
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
            next: "cargo xtask deploy --restart",
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
            next: "compare VLLM_ARGS with `vllm serve --help` of this image, and deploy again",
        },
    ),
];

pub const TRACER: Rules = &[
    (
        &["is missing, needed to"],
        Advice {
            cause: "the tracer lacks a capability",
            next: "cargo xtask deploy --profile privileged, if something on the node withholds it; \
                   else compare its securityContext with `cargo xtask manifests`",
        },
    ),
    (
        &["it names the bucket", "already"],
        Advice {
            cause: "S3_ENDPOINT has the bucket in it, which S3_BUCKET names",
            next: "deploy again with S3_ENDPOINT as the message gives it",
        },
    ),
    (
        &["set s3_addressing=host"],
        Advice {
            cause: "the store takes the bucket in the host name only",
            next: "deploy again with S3_ADDRESSING=host, and a name and no address in S3_ENDPOINT",
        },
    ),
    (
        &["set s3_checksums=never"],
        Advice {
            cause: "the store refuses the header of a checksum",
            next: "deploy again with S3_CHECKSUMS=never",
        },
    ),
    (
        &["is there already, with other content"],
        Advice {
            cause: "the store has something else under the name of a trace file, and keeps it",
            next: "remove the object, or deploy again with another S3_PREFIX",
        },
    ),
    (
        &["neither succeed nor fail"],
        Advice {
            cause: "the upload task hangs at the step that the message names",
            next: "`cargo xtask deploy --restart` takes uploads up again; the tracer's `check-s3` says what \
                   hangs",
        },
    ),
    (
        &["speaks no tls"],
        Advice {
            cause: "S3_ENDPOINT or HTTPS_PROXY begins with https://, and what is there speaks HTTP",
            next: "deploy again with http:// in it",
        },
    ),
    (
        &["has to begin with https://"],
        Advice {
            cause: "S3_ENDPOINT begins with http://, and what is there speaks TLS",
            next: "deploy again with https:// in it",
        },
    ),
    (
        &["through the proxy"],
        Advice {
            cause: "the way to the store leads through a proxy, which does not let it through",
            next: "deploy again with the host of the store in NO_PROXY, by TRACER_ENV; or correct the proxy",
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
    (&["temporaryredirect"], REGION),
    (&["authorizationheadermalformed"], REGION),
    (
        &["accessdenied"],
        Advice {
            cause: "the credentials may not write there",
            next: "grant s3:PutObject and s3:GetObject on the prefix; or `cargo xtask secrets --aws` \
                   with other keys, then `cargo xtask deploy --restart`",
        },
    ),
    (&["invalidaccesskeyid"], KEYS),
    (&["signaturedoesnotmatch"], KEYS),
    (
        &["expiredtoken"],
        Advice {
            cause: "the temporary AWS credentials have expired",
            next: "`cargo xtask secrets --aws` with fresh ones, then `cargo xtask deploy --restart`",
        },
    ),
    (
        &["no credentials for"],
        Advice {
            cause: "no AWS credentials reach the pod: no secret, and no role of the instance, whose \
                    service pods reach only with a hop limit of 2",
            next: "`cargo xtask secrets --aws`, then `cargo xtask deploy --restart`; or aws ec2 \
                   modify-instance-metadata-options --http-put-response-hop-limit 2",
        },
    ),
    (
        &["requesttimetooskewed"],
        Advice {
            cause: "the node's clock is wrong",
            next: "timedatectl status; sudo timedatectl set-ntp true",
        },
    ),
    (
        &["cannot reach"],
        Advice {
            cause: "the store cannot be reached from the pod",
            next: "deploy again with the right S3_ENDPOINT; or look at the node's way out: curl -v of it",
        },
    ),
];

const TOKEN: Advice = Advice {
    cause: "Hugging Face does not accept the token",
    next: "`cargo xtask secrets` with a valid token, then `cargo xtask deploy --restart`",
};

const LICENCE: Advice = Advice {
    cause: "the model is gated, and the account of the token has not been granted access",
    next: "accept the licence on the model's page, or `cargo xtask secrets` with the token of an \
           account that has; then `cargo xtask deploy --restart`",
};

const DRIVER: Advice = Advice {
    cause: "the image's CUDA needs a later NVIDIA driver",
    next: "nvidia-smi; CUDA 13 needs driver 580, CUDA 12 needs 525: upgrade it, or deploy again with \
           another VLLM_IMAGE",
};

const GPU_MEMORY: Advice = Advice {
    cause: "the GPU has too little free memory for the model and its cache",
    next: "nvidia-smi; deploy again with a smaller MAX_MODEL_LEN or MODEL, or free the GPU",
};

const REGION: Advice = Advice {
    cause: "the bucket is in another region",
    next: "deploy again with AWS_REGION set to the region of the bucket",
};

const KEYS: Advice = Advice {
    cause: "the AWS keys are not valid",
    next: "`cargo xtask secrets --aws` with valid ones, then `cargo xtask deploy --restart`",
};
