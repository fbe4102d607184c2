//! Keys a caller shows: machine keys, which may do what they are not limited from, and publishable
//! keys, which may only send events.

use super::{
    access::KeyLimits,
    ids::{OrganizationId, WorkspaceId},
    secret::Sealed,
    timestamp::Timestamp,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// An access key with the secret that signs machine tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineKey {
    /// `mk_` and 22 base64url characters; public.
    pub access_key: String,
    pub organization_id: OrganizationId,
    /// 43 base64url characters; signs by its UTF-8 bytes.
    pub secret: Sealed,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub limits: KeyLimits,
    /// The key that made it; `None`: the operator did.
    #[serde(default)]
    pub created_by: Option<String>,
    /// To the hour or so.
    #[serde(default)]
    pub last_used_at: Option<Timestamp>,
    pub created_at: Timestamp,
}

impl MachineKey {
    /// A key without limits.
    pub fn new(
        access_key: String,
        organization_id: OrganizationId,
        secret: Sealed,
        created_at: Timestamp,
    ) -> Self {
        Self {
            access_key,
            organization_id,
            secret,
            name: None,
            limits: KeyLimits::default(),
            created_by: None,
            last_used_at: None,
            created_at,
        }
    }
}

/// A key that may be public: it can only send events, into one workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishableKey {
    /// `mesh_pub_v1_<id>_<random>`.
    pub public_key: String,
    pub name: String,
    pub organization_id: OrganizationId,
    pub workspace_id: WorkspaceId,
    pub created_at: Timestamp,
    /// Those it took the place of, which are good for a while longer.
    #[serde(default)]
    pub older: Vec<OlderKey>,
}

/// A publishable key on its way out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OlderKey {
    pub public_key: String,
    pub expires_at: Timestamp,
}

/// What a publishable key is looked up by.
pub fn publishable_key_hash(public_key: &str) -> [u8; 32] {
    Sha256::digest(public_key.as_bytes()).into()
}
