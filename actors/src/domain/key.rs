//! Keys a caller shows: machine keys, which may do everything, and publishable keys, which may only send events.

use super::{
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
    pub created_at: Timestamp,
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
}

/// What a publishable key is looked up by.
pub fn publishable_key_hash(public_key: &str) -> [u8; 32] {
    Sha256::digest(public_key.as_bytes()).into()
}
