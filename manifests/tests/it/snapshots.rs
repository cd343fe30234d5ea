//! The exact text that is applied, one snapshot per object and profile.
//!
//! `INSTA_UPDATE=always cargo test -p manifests --no-fail-fast` rewrites them; `git diff` shows what changed for
//! the cluster.

use insta::assert_snapshot;
use manifests::component::Component;

use crate::config;

fn snapshot(name: &str, component: Component, flags: &[&str]) {
    let text = component.render(&config(flags)).unwrap().unwrap();
    insta::with_settings!({ omit_expression => true }, { assert_snapshot!(name, text) });
}

#[test]
fn objects_of_every_profile() {
    for component in Component::ALL {
        if component != Component::Deployment {
            snapshot(component.name(), component, &[]);
        }
    }
}

#[test]
fn deployment_of_the_default_profile() {
    snapshot("deployment-default", Component::Deployment, &["--profile=default"]);
}

/// As `cargo xtask deploy` asks for it where all nodes have Linux 6.6 or later.
#[test]
fn deployment_of_the_default_profile_without_perf_events() {
    let flags = ["--profile=default", "--perf-events=false"];
    snapshot("deployment-default-without-perf-events", Component::Deployment, &flags);
    let with = Component::Deployment.render(&config(&["--profile=default"])).unwrap().unwrap();
    let without = Component::Deployment.render(&config(&flags)).unwrap().unwrap();
    assert_eq!(with.replacen("            - SYS_ADMIN\n", "", 1), without);
}

#[test]
fn deployment_of_the_privileged_profile() {
    snapshot("deployment-privileged", Component::Deployment, &["--profile=privileged"]);
}

/// So that the snapshots of the other objects hold for both.
#[test]
fn profiles_differ_in_the_deployment_alone() {
    let differ: Vec<Component> = Component::ALL
        .into_iter()
        .filter(|component| {
            let render = |flags: &[&str]| component.render(&config(flags)).unwrap();
            render(&["--profile=default"]) != render(&["--profile=privileged"])
        })
        .collect();
    assert_eq!(differ, [Component::Deployment]);
}

#[test]
fn deployment_with_everything_set() {
    let flags = [
        "--perf-events=false",
        "--model=/models/llama",
        "--gpus=4",
        "--tensor-parallel-size=2",
        "--enforce-eager=true",
        "--dtype=bfloat16",
        "--vllm-args=--seed=1 --served-model-name 'my model'",
        "--vllm-env=NCCL_DEBUG=INFO",
        "--vllm-cpu=0.5",
        "--vllm-memory-limit=64Gi",
        "--drain-timeout=120",
        "--startup-timeout=601",
        "--shutdown-timeout=90",
        "--hf-token-optional=true",
        "--hf-offline=true",
        "--model-cache-host-path=/srv/models",
        "--tracer-env=SSL_CERT_FILE=/traces/ca.pem",
        "--trace-functions=all,!cu*Get*",
        "--trace-dir=/var/traces",
        "--node-selector=pool=gpu",
        "--tolerations=dedicated=llm:NoSchedule,spot",
        "--image-pull-secrets=registry",
        "--priority-class=serving",
        "--secrets-digest=0123456789abcdef",
    ];
    snapshot("deployment-with-everything-set", Component::Deployment, &flags);
    snapshot(
        "config-map-with-everything-set",
        Component::ConfigMap,
        &[
            "--s3-endpoint=http://minio.storage.svc:9000",
            "--aws-region=eu-central-1",
            "--aws-ec2-metadata-disabled=yes",
            "--trace-functions=all,!cu*Get*",
            "--trace-detail=entry",
            "--trace-rate-limit=1000",
            "--attach-by=auto",
            "--cuda-library-dirs=/opt/cuda/lib64:/opt/lib",
            "--log-format=json",
            "--tracer-log=off",
            "--upload-enabled=off",
        ],
    );
}
