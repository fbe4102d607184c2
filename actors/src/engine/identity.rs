//! Organizations and their workspaces.

use super::{Engine, EngineError, keys::new_publishable_key};
use crate::{
    domain::{
        ids::{OrganizationId, WorkspaceId},
        key::PublishableKey,
        plan::Limit,
        timestamp::Timestamp,
        workspace::{Organization, Workspace},
    },
    store::{Change, Page, Refusal, Scope},
};

impl Engine {
    /// Makes an organization: who owns workspaces and machine keys.
    pub async fn create_organization(&self, name: &str) -> Result<Organization, EngineError> {
        let created_at = self.0.clock.now();
        let organization = Organization { id: OrganizationId::random(), name: name.to_owned(), created_at };
        self.configure(Change::CreateOrganization(organization.clone())).await?;
        Ok(organization)
    }

    /// Renames an organization.
    pub async fn rename_organization(
        &self,
        id: OrganizationId,
        name: String,
    ) -> Result<Organization, EngineError> {
        let found = self.0.store.organization(id).await?.ok_or(Refusal::NotFound("organization"))?;
        let organization = Organization { name, ..found };
        self.configure(Change::UpdateOrganization(organization.clone())).await?;
        Ok(organization)
    }

    /// An organization.
    pub async fn organization(&self, id: OrganizationId) -> Result<Option<Organization>, EngineError> {
        Ok(self.0.store.organization(id).await?)
    }

    /// All organizations, for the operator's commands only.
    pub async fn organizations(
        &self,
        after: Option<OrganizationId>,
        limit: usize,
    ) -> Result<Page<Organization, OrganizationId>, EngineError> {
        Ok(self.0.store.organizations(after, limit).await?)
    }

    /// Makes a workspace, with the publishable key it starts with.
    pub async fn create_workspace(
        &self,
        organization: OrganizationId,
        name: String,
        description: Option<String>,
    ) -> Result<(Workspace, PublishableKey), EngineError> {
        let (inner, now) = (&self.0, self.0.clock.now());
        let id = WorkspaceId::from_uuid(inner.ids.next(now));
        let workspace = Workspace {
            id,
            organization_id: organization,
            name,
            description,
            retention_days: None,
            data_key: inner.vault.new_data_key(id),
            created_at: now,
            updated_at: now,
        };
        let key = PublishableKey {
            public_key: new_publishable_key(),
            name: "Default".to_owned(),
            organization_id: organization,
            workspace_id: id,
            created_at: now,
            older: Vec::new(),
        };
        let change = Change::CreateWorkspace(Box::new((workspace.clone(), key.clone())));
        self.configure_within(organization, Limit::Workspaces, change).await?;
        Ok((workspace, key))
    }

    /// Changes a workspace. `description`: `None` keeps, `Some(None)` clears.
    pub async fn update_workspace(
        &self,
        organization: OrganizationId,
        id: WorkspaceId,
        name: String,
        description: Option<Option<String>>,
    ) -> Result<Workspace, EngineError> {
        let found = self.workspace(organization, id).await?;
        let mut workspace = found.ok_or(Refusal::NotFound("workspace"))?;
        workspace.name = name;
        workspace.description = description.unwrap_or(workspace.description);
        workspace.updated_at = self.0.clock.now();
        self.configure(Change::UpdateWorkspace(workspace.clone())).await?;
        Ok(workspace)
    }

    /// A workspace.
    pub async fn workspace(
        &self,
        organization: OrganizationId,
        id: WorkspaceId,
    ) -> Result<Option<Workspace>, EngineError> {
        Ok(self.0.store.workspace(Scope::Organization(organization), id).await?)
    }

    /// An organization's workspaces, oldest first.
    pub async fn workspaces(
        &self,
        organization: OrganizationId,
        after: Option<WorkspaceId>,
        limit: usize,
    ) -> Result<Page<Workspace, WorkspaceId>, EngineError> {
        Ok(self.0.store.workspaces(organization, after, limit).await?)
    }

    /// Until when a workspace's events stay unrouted, because routing them fell again and again by our own
    /// fault. They are kept, and routed then.
    pub fn routing_paused_until(&self, id: WorkspaceId) -> Option<Timestamp> {
        self.0.tree.as_ref().and_then(|tree| tree.routing_paused_until(id))
    }
}
