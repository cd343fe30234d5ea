//! NVIDIA's device plugin, which tells the node how many GPUs it has.

use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetUpdateStrategy},
        core::v1::{
            Capabilities, Container, HostPathVolumeSource, PodSpec, PodTemplateSpec,
            SecurityContext, Volume, VolumeMount,
        },
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};
use settings::{deployment::Config, names::RUNTIME_CLASS};

use crate::{deployment::tolerations, labels};

/// Where the kubelet listens for plugins, in K3s too.
const PLUGINS: &str = "/var/lib/kubelet/device-plugins";
const VOLUME: &str = "device-plugins";

/// What NVIDIA publishes as static deployment, under the same names so that it replaces one, and with the runtime class:
/// in K3s the default runtime shows the plugin no driver, and it would crash in a loop.
pub fn device_plugin(config: &Config) -> DaemonSet {
    let selector = [("name".to_owned(), "nvidia-device-plugin-ds".to_owned())];
    DaemonSet {
        metadata: ObjectMeta {
            name: Some("nvidia-device-plugin-daemonset".to_owned()),
            namespace: Some("kube-system".to_owned()),
            labels: Some(labels::node_labels()),
            ..ObjectMeta::default()
        },
        spec: Some(DaemonSetSpec {
            selector: LabelSelector {
                match_labels: Some(selector.clone().into()),
                ..LabelSelector::default()
            },
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(selector.into()),
                    ..ObjectMeta::default()
                }),
                spec: Some(PodSpec {
                    containers: vec![container(config)],
                    priority_class_name: Some("system-node-critical".to_owned()),
                    runtime_class_name: Some(RUNTIME_CLASS.to_owned()),
                    tolerations: Some(tolerations()),
                    volumes: Some(vec![Volume {
                        name: VOLUME.to_owned(),
                        host_path: Some(HostPathVolumeSource {
                            path: PLUGINS.to_owned(),
                            type_: Some("Directory".to_owned()),
                        }),
                        ..Volume::default()
                    }]),
                    ..PodSpec::default()
                }),
            },
            update_strategy: Some(DaemonSetUpdateStrategy {
                type_: Some("RollingUpdate".to_owned()),
                ..DaemonSetUpdateStrategy::default()
            }),
            ..DaemonSetSpec::default()
        }),
        ..DaemonSet::default()
    }
}

fn container(config: &Config) -> Container {
    Container {
        name: "nvidia-device-plugin-ctr".to_owned(),
        image: Some(config.device_plugin_image.clone()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                ..Capabilities::default()
            }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(vec![VolumeMount {
            name: VOLUME.to_owned(),
            mount_path: PLUGINS.to_owned(),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    }
}
