//! A rule: which events go to which connection, to do what.

use super::{
    ids::{ConnectionId, OrganizationId, RuleId, WorkspaceId},
    timestamp::Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Event name → connection and action, with optional conditions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    pub id: RuleId,
    pub organization_id: OrganizationId,
    pub workspace_id: WorkspaceId,
    pub connection_id: ConnectionId,
    /// The connection's kind.
    pub kind: String,
    /// A name, or a pattern such as `invoice.*`.
    pub event: String,
    pub resource: Option<String>,
    pub resource_id: Option<String>,
    /// The action and its inputs.
    pub metadata: Map<String, Value>,
    /// As it was sent; compiled where it is used.
    pub conditions: Option<Value>,
    pub active: bool,
    pub hidden: bool,
    pub created_by: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}
