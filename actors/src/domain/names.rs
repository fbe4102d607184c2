//! The names a workspace's events bear: its event types and its resources.
//!
//! They are for people and forms, never for routing: an event whose name nobody has heard of is
//! accepted, and its name is registered when it is routed for the first time.

use super::{
    event::RESOURCE_DEFAULT,
    ids::{NameId, WorkspaceId},
    timestamp::Timestamp,
};
use serde::{Deserialize, Serialize};

/// Names of one kind a workspace may have. Events with names beyond are accepted all the same.
pub const NAMES_MAX: usize = 1_000;

/// What is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NameKind {
    EventType,
    Resource,
}

impl NameKind {
    pub const ALL: [Self; 2] = [Self::EventType, Self::Resource];

    /// The name that every workspace has from its first day.
    pub const fn default_key(self) -> &'static str {
        match self {
            Self::EventType => "contact.created",
            Self::Resource => RESOURCE_DEFAULT,
        }
    }

    /// Several of them, in a sentence.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::EventType => "event types",
            Self::Resource => "resources",
        }
    }
}

/// A name and what people say of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    pub id: NameId,
    pub workspace_id: WorkspaceId,
    pub kind: NameKind,
    /// As events bear it.
    pub key: String,
    pub label: String,
    pub description: Option<String>,
    /// Whether it is offered to choose from. Events of that name are accepted either way.
    pub active: bool,
    /// The key that wrote it, or that sent its first event; nobody's where Weft brought it along.
    pub created_by: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Name {
    /// A name nothing is said of yet.
    pub fn new(workspace_id: WorkspaceId, kind: NameKind, key: &str, at: Timestamp) -> Self {
        Self {
            id: NameId::of(workspace_id, kind as u8, key),
            workspace_id,
            kind,
            key: key.to_owned(),
            label: key.to_owned(),
            description: None,
            active: true,
            created_by: None,
            created_at: at,
            updated_at: at,
        }
    }
}
