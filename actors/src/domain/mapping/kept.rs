//! A connection's own mapping, as it is kept.

use crate::domain::{
    ids::{ConnectionId, MappingId, MappingVersionId, OrganizationId, WorkspaceId},
    timestamp::Timestamp,
};
use serde::{Deserialize, Serialize};

/// The version of a mapping that nobody has saved yet; the first that is saved has the next one.
pub const GENERATED_VERSION: u64 = 1;

/// What is mapped for every rule of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultMapping {
    pub connection_id: ConnectionId,
    pub organization_id: OrganizationId,
    pub workspace_id: WorkspaceId,
    /// The destination's kind, such as `webhook`.
    pub kind: String,
    pub name: String,
    /// A [`Schema`](super::Schema) as JSON text, because its numbers keep their digits.
    pub schema: String,
    /// The catalog it was made from, if there was one.
    pub catalog_version: Option<String>,
    /// Who made it; `None` where it is generated.
    pub created_by: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Grows with every change; a change names the version it was made from.
    pub version: u64,
}

impl DefaultMapping {
    /// Names the mapping through all its versions.
    pub fn mapping_id(&self) -> MappingId {
        MappingId::of(self.connection_id)
    }

    /// Names this version of it.
    pub fn id(&self) -> MappingVersionId {
        MappingVersionId::of(self.mapping_id(), self.version)
    }
}
