//! Claims for what must outlive a pod: models, and traces that wait for upload.

use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};
use settings::{
    deployment::{Config, Memory},
    names::{MODEL_CACHE, TRACES},
};

use crate::labels::metadata;

/// None where a directory of the node serves.
pub fn model_cache(config: &Config) -> Option<PersistentVolumeClaim> {
    let storage = &config.storage;
    storage
        .model_cache_host_path
        .is_none()
        .then(|| claim(config, MODEL_CACHE, &storage.model_cache_size))
}

pub fn traces(config: &Config) -> PersistentVolumeClaim {
    claim(config, TRACES, &config.storage.traces_size)
}

/// K3s's local path knows no access by several nodes, and one pod needs none.
fn claim(config: &Config, name: &str, size: &Memory) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: metadata(name),
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), Quantity(size.to_string()))].into()),
                ..VolumeResourceRequirements::default()
            }),
            storage_class_name: config.storage.storage_class.clone(),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}
