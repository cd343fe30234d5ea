//! What the pod may ask of the cluster: nothing.

use k8s_openapi::api::{
    core::v1::ServiceAccount,
    rbac::v1::{Role, RoleBinding, RoleRef, Subject},
};
use settings::{
    deployment::Config,
    names::{ACCOUNT, NAMESPACE},
};

use crate::labels::metadata;

/// Neither container talks to the API server, so no token is mounted.
pub fn service_account(_: &Config) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata(ACCOUNT),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// No rules: the least that the pod needs. A rule that it should need one day goes here.
pub fn role(_: &Config) -> Role {
    Role { metadata: metadata(ACCOUNT), rules: Some(Vec::new()) }
}

pub fn role_binding(_: &Config) -> RoleBinding {
    RoleBinding {
        metadata: metadata(ACCOUNT),
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: "Role".to_owned(),
            name: ACCOUNT.to_owned(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: ACCOUNT.to_owned(),
            namespace: Some(NAMESPACE.to_owned()),
            ..Subject::default()
        }]),
    }
}
