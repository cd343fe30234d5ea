//! The runtime class under which containers see GPUs.

use k8s_openapi::{api::node::v1::RuntimeClass, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use settings::{deployment::Config, names::RUNTIME_CLASS};

/// The same as K3s brings since December 2023, so that applying it there changes nothing: no labels of ours, or the two
/// would take turns.
pub fn runtime_class(_: &Config) -> RuntimeClass {
    RuntimeClass {
        handler: RUNTIME_CLASS.to_owned(),
        metadata: ObjectMeta { name: Some(RUNTIME_CLASS.to_owned()), ..ObjectMeta::default() },
        ..RuntimeClass::default()
    }
}
