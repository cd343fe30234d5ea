//! The deployment as podman plays it.

use insta::assert_snapshot;
use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, PodSpec};

use manifests::{deployment::deployment, pod, yaml};

use crate::yaml11_reader::read;

use crate::config;

#[test]
fn what_podman_is_given_under_the_default_profile() {
    let text = yaml::join(&pod::render(&config(&[])).unwrap());
    insta::with_settings!({ omit_expression => true }, { assert_snapshot!("podman-default", text) });
}

#[test]
fn what_podman_is_given_under_the_privileged_profile() {
    let text = yaml::join(&pod::render(&config(&["--profile=privileged"])).unwrap());
    insta::with_settings!({ omit_expression => true }, { assert_snapshot!("podman-privileged", text) });
}

/// Only what podman cannot do may differ from what the cluster gets.
#[test]
fn what_is_tried_is_what_is_applied() {
    let config = config(&["--vllm-memory-limit=16Gi"]);
    let applied = serde_json::to_value(deployment(&config)).unwrap();
    let documents = pod::render(&config).unwrap();
    let played = read(documents.last().unwrap()).remove(0);
    let (applied, played) =
        (&applied["spec"]["template"]["spec"], &played["spec"]["template"]["spec"]);
    let pairs = [
        (&applied["initContainers"][0], &played["containers"][0]),
        (&applied["containers"][0], &played["containers"][1]),
    ];
    for (applied, played) in pairs {
        for field in
            ["name", "image", "command", "args", "envFrom", "securityContext", "volumeMounts"]
        {
            assert_eq!(applied[field], played[field]);
        }
        assert_eq!(
            applied["resources"]["limits"]["memory"],
            played["resources"]["limits"]["memory"]
        );
        for field in ["startupProbe", "readinessProbe", "livenessProbe", "restartPolicy"] {
            assert!(played[field].is_null(), "{field}");
        }
    }
    for field in ["volumes", "shareProcessNamespace", "hostPID", "terminationGracePeriodSeconds"] {
        assert_eq!(applied[field], played[field]);
    }
    for field in ["initContainers", "runtimeClassName", "tolerations"] {
        assert!(!applied[field].is_null() && played[field].is_null(), "{field}");
    }
    assert!(!documents.concat().contains("nvidia"));
}

#[test]
fn references_that_podman_refuses_become_values() {
    let reference = |path: &str| EnvVar {
        name: "WHERE".to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: path.to_owned(),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    };
    let replaced = |path: &str| {
        let config = config(&[]);
        let mut deployment = deployment(&config);
        let spec = deployment.spec.as_mut().unwrap();
        spec.template.spec = Some(PodSpec {
            containers: vec![Container {
                env: Some(vec![reference(path)]),
                ..Container::default()
            }],
            ..PodSpec::default()
        });
        let played = pod::for_podman(deployment, &config);
        played.spec.unwrap().template.spec.unwrap().containers[0].env.as_ref().unwrap()[0].clone()
    };
    for (path, value) in [
        ("spec.nodeName", "localhost"),
        ("status.podIP", "127.0.0.1"),
        ("status.hostIP", "127.0.0.1"),
        ("metadata.namespace", "vllm-tracing"),
    ] {
        let variable = replaced(path);
        assert_eq!((variable.value.as_deref(), variable.value_from), (Some(value), None), "{path}");
    }
    // Podman knows these.
    for path in ["metadata.name", "metadata.uid"] {
        assert_eq!(replaced(path), reference(path));
    }
}

/// A step that ends before the others start is no sidecar.
#[test]
fn an_ordinary_init_container_stays_one() {
    let config = config(&[]);
    let mut deployment = deployment(&config);
    let spec = deployment.spec.as_mut().unwrap().template.spec.as_mut().unwrap();
    let step = Container { name: "step".to_owned(), ..Container::default() };
    spec.init_containers.as_mut().unwrap().push(step.clone());
    let played = pod::for_podman(deployment, &config).spec.unwrap().template.spec.unwrap();
    assert_eq!(played.init_containers, Some(vec![step]));
    let names: Vec<&str> =
        played.containers.iter().map(|container| container.name.as_str()).collect();
    assert_eq!(names, ["ebpf-tracer", "vllm"]);
}

#[test]
fn what_the_kubelet_would_do_is_told_to_whoever_plays_the_pod() {
    let duties = serde_json::to_value(pod::duties(&config(&["--node-port=30900"]))).unwrap();
    let tracer = |path: &str, period: u8, timeout: u8, failures: u8| {
        serde_json::json!({
            "address": "127.0.0.1:9420", "path": path, "period_seconds": period,
            "timeout_seconds": timeout, "failures": failures,
        })
    };
    let [first, second] = &duties["containers"].as_array().unwrap()[..] else { panic!("two") };
    assert_eq!((&first["name"], &second["name"]), (&"ebpf-tracer".into(), &"vllm".into()));
    assert_eq!(first["startup"], tracer("/readyz", 1, 1, 60));
    assert_eq!(first["readiness"], serde_json::Value::Null);
    assert_eq!(first["liveness"], tracer("/healthz", 10, 5, 6));
    for probe in ["startup", "readiness", "liveness"] {
        assert_eq!(second[probe]["address"], "127.0.0.1:30900", "{probe}");
        assert_eq!(second[probe]["path"], "/health", "{probe}");
    }
    assert_eq!(duties["grace_period_seconds"], 100);
}

/// Each container that is played is watched, and by a port that it publishes.
#[test]
fn probes_are_sent_where_the_played_pod_listens() {
    let config = config(&[]);
    let played = pod::for_podman(deployment(&config), &config).spec.unwrap().template.spec.unwrap();
    let duties = pod::duties(&config).containers;
    assert_eq!(duties.len(), played.containers.len());
    for (watched, played) in duties.iter().zip(&played.containers) {
        assert_eq!(watched.name, played.name);
        let published: Vec<String> = played
            .ports
            .iter()
            .flatten()
            .map(|port| format!("{}:{}", port.host_ip.as_ref().unwrap(), port.host_port.unwrap()))
            .collect();
        let probes = [&watched.startup, &watched.readiness, &watched.liveness];
        for probe in probes.into_iter().flatten() {
            assert!(published.contains(&probe.address), "{}: {probe:?}", watched.name);
        }
    }
}
