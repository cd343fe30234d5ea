//! The service: vLLM's API on a port of every node.

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};
use settings::{
    deployment::Config,
    names::{SERVICE, VLLM_PORT, VLLM_PORT_NAME},
};

use crate::labels::{self, metadata};

pub fn service(config: &Config) -> Service {
    Service {
        metadata: metadata(SERVICE),
        spec: Some(ServiceSpec {
            ports: Some(vec![ServicePort {
                name: Some(VLLM_PORT_NAME.to_owned()),
                node_port: Some(config.node_port),
                port: VLLM_PORT,
                protocol: Some("TCP".to_owned()),
                target_port: Some(IntOrString::String(VLLM_PORT_NAME.to_owned())),
                ..ServicePort::default()
            }]),
            // The pod counts as not ready while the tracer restarts, and vLLM answers all the same. There
            // is one pod: where it does not answer, nothing else would.
            publish_not_ready_addresses: Some(true),
            selector: Some(labels::selector()),
            type_: Some("NodePort".to_owned()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}
