//! Event types and resources: which names there are, and what people say of them.

use super::{Engine, EngineError};
use crate::{
    domain::{
        ids::{OrganizationId, WorkspaceId},
        names::{Name, NameKind},
        workspace::Workspace,
    },
    store::{Change, Refusal},
};

/// A change to a name; what is `None` stays, `Some(None)` removes.
#[derive(Clone, Debug, Default)]
pub struct NamePatch {
    pub label: Option<String>,
    pub description: Option<Option<String>>,
    pub active: Option<bool>,
}

impl Engine {
    /// A workspace's names of a kind, oldest first. The default one is among them, written down or not.
    pub async fn names(
        &self,
        organization: OrganizationId,
        workspace: WorkspaceId,
        kind: NameKind,
    ) -> Result<Vec<Name>, EngineError> {
        let found = self.workspace(organization, workspace).await?;
        self.names_of(&found.ok_or(Refusal::NotFound("workspace"))?, kind).await
    }

    async fn names_of(&self, workspace: &Workspace, kind: NameKind) -> Result<Vec<Name>, EngineError> {
        let mut names = self.0.store.names(workspace.id, kind).await?;
        if !names.iter().any(|name| name.key == kind.default_key()) {
            names.push(Name::new(workspace.id, kind, kind.default_key(), workspace.created_at));
        }
        names.sort_by(|a, b| (a.created_at, &a.key).cmp(&(b.created_at, &b.key)));
        Ok(names)
    }

    /// Says something of a name, or of one that no event has had yet.
    pub async fn save_name(
        &self,
        organization: OrganizationId,
        workspace: WorkspaceId,
        (kind, key): (NameKind, &str),
        patch: NamePatch,
        by: &str,
    ) -> Result<Name, EngineError> {
        let (found, now) = (self.workspace(organization, workspace).await?, self.0.clock.now());
        let names = self.names_of(&found.ok_or(Refusal::NotFound("workspace"))?, kind).await?;
        let made = || Name { created_by: Some(by.to_owned()), ..Name::new(workspace, kind, key, now) };
        let mut name = names.into_iter().find(|name| name.key == key).unwrap_or_else(made);
        name.label = patch.label.unwrap_or(name.label);
        name.description = patch.description.unwrap_or(name.description);
        name.active = patch.active.unwrap_or(name.active);
        name.updated_at = now;
        self.configure(Change::SaveName(name.clone())).await?;
        Ok(name)
    }
}
