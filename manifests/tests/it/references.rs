//! Objects find each other by name only; a name that is off shows in the cluster alone.

use manifests::{access, config_map, deployment::deployment, runtime_class, service, storage};
use serde::Serialize;
use serde_json::{Value, json};
use settings::names;

use crate::config;

fn name_of(object: impl Serialize) -> Value {
    serde_json::to_value(object).unwrap()["metadata"]["name"].clone()
}

fn applied() -> Value {
    serde_json::to_value(deployment(&config(&[]))).unwrap()
}

#[test]
fn the_pod_names_objects_that_are_applied_with_it() {
    let config = &config(&[]);
    let applied = applied();
    assert_eq!(applied["metadata"]["namespace"], json!(names::NAMESPACE));
    let pod = &applied["spec"]["template"]["spec"];
    assert_eq!(pod["runtimeClassName"], name_of(runtime_class::runtime_class(config)));
    assert_eq!(pod["serviceAccountName"], name_of(access::service_account(config)));
    let claims: Vec<&Value> = pod["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|volume| &volume["persistentVolumeClaim"]["claimName"])
        .filter(|claim| !claim.is_null())
        .collect();
    let cache = name_of(storage::model_cache(config).unwrap());
    assert_eq!(claims, [&cache, &name_of(storage::traces(config))]);
    let map = &pod["initContainers"][0]["envFrom"][0]["configMapRef"]["name"];
    assert_eq!(*map, name_of(config_map::config_map(config)));
}

#[test]
fn the_binding_joins_the_account_and_the_role() {
    let config = &config(&[]);
    let binding = serde_json::to_value(access::role_binding(config)).unwrap();
    assert_eq!(binding["roleRef"]["name"], name_of(access::role(config)));
    assert_eq!(binding["subjects"][0]["name"], name_of(access::service_account(config)));
}

#[test]
fn the_service_and_the_deployment_select_the_pod() {
    let service = serde_json::to_value(service::service(&config(&[]))).unwrap();
    let applied = applied();
    let template = &applied["spec"]["template"];
    for selector in [&service["spec"]["selector"], &applied["spec"]["selector"]["matchLabels"]] {
        for (key, value) in selector.as_object().unwrap() {
            assert_eq!(template["metadata"]["labels"][key], *value);
        }
    }
    // Or a tracer that restarts would take vLLM out of service.
    assert_eq!(service["spec"]["publishNotReadyAddresses"], true);
    let port = &template["spec"]["containers"][0]["ports"][0];
    assert_eq!(service["spec"]["ports"][0]["targetPort"], port["name"]);
}

#[test]
fn probes_and_mounts_name_what_the_pod_has() {
    let applied = applied();
    let pod = &applied["spec"]["template"]["spec"];
    let volumes = pod["volumes"].as_array().unwrap();
    for container in [&pod["initContainers"][0], &pod["containers"][0]] {
        for probe in ["startupProbe", "livenessProbe"] {
            assert_eq!(container[probe]["httpGet"]["port"], container["ports"][0]["name"]);
        }
        for mount in container["volumeMounts"].as_array().unwrap() {
            assert!(volumes.iter().any(|volume| volume["name"] == mount["name"]), "{mount}");
        }
    }
}
