//! Organizations and workspaces: who owns what, and the boundary between tenants.

use super::{
    ids::{OrganizationId, WorkspaceId},
    secret::WrappedKey,
    timestamp::Timestamp,
};
use serde::{Deserialize, Serialize};

/// Who owns workspaces and machine keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Organization {
    pub id: OrganizationId,
    pub name: String,
    pub created_at: Timestamp,
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workspace {
    pub id: WorkspaceId,
    pub organization_id: OrganizationId,
    pub name: String,
    pub description: Option<String>,
    /// Days that finished events are kept; the server's setting where absent.
    #[serde(default)]
    pub retention_days: Option<u32>,
    /// Seals what this workspace keeps secret.
    pub data_key: WrappedKey,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}
