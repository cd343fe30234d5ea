//! What can be asked for by name, in the order in which it is applied.

use anyhow::Result;
use settings::deployment::Config;

use crate::{
    access::{role, role_binding, service_account},
    config_map::config_map,
    deployment::deployment,
    device_plugin::device_plugin,
    namespace::namespace,
    runtime_class::runtime_class,
    service::service,
    storage::{model_cache, traces},
    yaml::to_yaml,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    Namespace,
    RuntimeClass,
    DevicePlugin,
    ServiceAccount,
    Role,
    RoleBinding,
    ConfigMap,
    ModelCache,
    Traces,
    Service,
    Deployment,
}

impl Component {
    /// In the order of application: what an object needs stands before it.
    pub const ALL: [Self; 11] = [
        Self::Namespace,
        Self::RuntimeClass,
        Self::DevicePlugin,
        Self::ServiceAccount,
        Self::Role,
        Self::RoleBinding,
        Self::ConfigMap,
        Self::ModelCache,
        Self::Traces,
        Self::Service,
        Self::Deployment,
    ];

    /// What belongs to the node: applied by `install`, and left alone by `destroy`.
    pub const NODE: [Self; 2] = [Self::RuntimeClass, Self::DevicePlugin];

    pub fn name(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::RuntimeClass => "runtime-class",
            Self::DevicePlugin => "device-plugin",
            Self::ServiceAccount => "service-account",
            Self::Role => "role",
            Self::RoleBinding => "role-binding",
            Self::ConfigMap => "config-map",
            Self::ModelCache => "model-cache",
            Self::Traces => "traces",
            Self::Service => "service",
            Self::Deployment => "deployment",
        }
    }

    /// The text that is applied. None for a model cache that needs no claim.
    pub fn render(self, config: &Config) -> Result<Option<String>> {
        let text = match self {
            Self::Namespace => to_yaml(&namespace(config)),
            Self::RuntimeClass => to_yaml(&runtime_class(config)),
            Self::DevicePlugin => to_yaml(&device_plugin(config)),
            Self::ServiceAccount => to_yaml(&service_account(config)),
            Self::Role => to_yaml(&role(config)),
            Self::RoleBinding => to_yaml(&role_binding(config)),
            Self::ConfigMap => to_yaml(&config_map(config)),
            Self::ModelCache => match model_cache(config) {
                Some(claim) => to_yaml(&claim),
                None => return Ok(None),
            },
            Self::Traces => to_yaml(&traces(config)),
            Self::Service => to_yaml(&service(config)),
            Self::Deployment => to_yaml(&deployment(config)),
        };
        text.map(Some)
    }

    /// Whether the settings that contradict each other could be in it.
    fn depends_on_settings(self) -> bool {
        !Self::NODE.contains(&self) && self != Self::Namespace
    }
}

/// The documents of the components asked for, in the order of application. Settings are checked where they matter: the
/// objects of the node need no bucket.
pub fn render(config: &Config, asked: &[Component]) -> Result<Vec<String>> {
    if asked.iter().any(|component| component.depends_on_settings()) {
        config.check()?;
    }
    let mut documents = Vec::new();
    for component in Component::ALL.into_iter().filter(|component| asked.contains(component)) {
        documents.extend(component.render(config)?);
    }
    Ok(documents)
}

/// What one word of `--only` names: a component, or a group of them.
pub(crate) fn named(word: &str) -> Result<Vec<Component>, String> {
    let all = Component::ALL.into_iter();
    let chosen: Vec<Component> = match word {
        "node" => Component::NODE.into(),
        "app" => all.filter(|component| !Component::NODE.contains(component)).collect(),
        _ => all.filter(|component| component.name() == word).collect(),
    };
    if chosen.is_empty() {
        let names = Component::ALL.map(Component::name).join(", ");
        return Err(format!(
            "accepted: {names}; node for runtime-class and device-plugin, app for the others"
        ));
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;

    #[test]
    fn all_components_are_there_in_order_and_have_names_of_their_own() {
        assert!(Component::ALL.is_sorted());
        for component in Component::ALL {
            assert_eq!(named(component.name()), Ok(vec![component]));
        }
        assert_eq!([named("node").unwrap(), named("app").unwrap()].concat().len(), 11);
        assert!(named("pod").unwrap_err().contains("device-plugin"));
    }

    #[test]
    fn what_belongs_to_the_node_needs_no_bucket() {
        let config = Cli::from_flags(["--gpus=1"]).unwrap().config;
        assert_eq!(render(&config, &Component::NODE).unwrap().len(), 2);
        assert!(render(&config, &[Component::ConfigMap]).is_err());
    }

    #[test]
    fn a_directory_of_the_node_replaces_the_claim_for_models() {
        let flags = ["--s3-bucket=traces", "--model-cache-host-path=/models"];
        let config = Cli::from_flags(flags).unwrap().config;
        let documents = render(&config, &Component::ALL).unwrap();
        assert_eq!(documents.len(), 10);
        assert!(documents.last().unwrap().contains("hostPath:\n          path: /models\n"));
        assert!(!documents.concat().contains("vllm-model-cache"));
    }
}
