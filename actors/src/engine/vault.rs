//! What seals and opens secrets.

use super::{EngineError, destination, internal};
use crate::{
    destinations::Prepared,
    domain::{
        connection::Connection,
        ids::{ConnectionId, WorkspaceId},
        key::MachineKey,
        secret::{Sealed, SealingKey, Secret, WrappedKey},
        session_token::TokenKey,
        user_token::UserTokenKey,
        workspace::Workspace,
    },
    store::{Scope, Store},
    tree::Preparer,
};
use async_trait::async_trait;
use serde_json::{Map, Value};
use std::sync::Arc;

/// Organizations whose workspaces the master key is tried on.
const ORGANIZATIONS_TRIED: usize = 100;

/// What seals and opens secrets: the master key, and each workspace's own key wrapped with it.
#[derive(Clone)]
pub(super) struct Vault {
    store: Arc<dyn Store>,
    master: Arc<SealingKey>,
    /// Signs sessions' access tokens.
    pub(super) tokens: TokenKey,
    /// Signs users'.
    pub(super) user_tokens: UserTokenKey,
}

impl Vault {
    pub(super) fn new(store: Arc<dyn Store>, master_key: &[u8; 32]) -> Self {
        let master = Arc::new(SealingKey::from_bytes(master_key));
        let (tokens, user_tokens) =
            (TokenKey::derived_from(master_key), UserTokenKey::derived_from(master_key));
        Self { store, master, tokens, user_tokens }
    }

    /// A workspace's new key, wrapped.
    pub(super) fn new_data_key(&self, workspace: WorkspaceId) -> WrappedKey {
        self.master.new_data_key(&workspace.to_string()).1
    }

    /// Refuses a key that is not the one the data was sealed with, before anything is sealed with another.
    pub(super) async fn check(&self) -> Result<(), EngineError> {
        for organization in self.store.organizations(None, ORGANIZATIONS_TRIED).await?.records {
            let workspaces = self.store.workspaces(organization.id, None, 1).await?.records;
            if let Some(workspace) = workspaces.first() {
                return self.data_key(workspace).map(drop).map_err(|_| EngineError::WrongMasterKey);
            }
        }
        Ok(())
    }

    pub(super) fn seal_machine_secret(&self, access_key: &str, secret: &Secret) -> Sealed {
        self.master.seal(secret.expose().as_bytes(), &machine_secret_place(access_key))
    }

    pub(super) fn open_machine_secret(&self, key: &MachineKey) -> Result<Secret, EngineError> {
        let bytes =
            self.master.open(&key.secret, &machine_secret_place(&key.access_key)).map_err(internal)?;
        Ok(Secret::new(std::str::from_utf8(&bytes).map_err(internal)?))
    }

    pub(super) fn data_key(&self, workspace: &Workspace) -> Result<SealingKey, EngineError> {
        self.master.open_data_key(&workspace.data_key, &workspace.id.to_string()).map_err(internal)
    }

    pub(super) fn seal_settings(
        &self,
        workspace: &Workspace,
        id: ConnectionId,
        settings: &Map<String, Value>,
    ) -> Result<Sealed, EngineError> {
        let text = zeroize::Zeroizing::new(serde_json::to_vec(settings).map_err(internal)?);
        Ok(self.data_key(workspace)?.seal(&text, &settings_place(workspace.id, id)))
    }

    pub(super) fn open_settings(
        &self,
        workspace: &Workspace,
        connection: &Connection,
    ) -> Result<Map<String, Value>, EngineError> {
        let place = settings_place(workspace.id, connection.id);
        let text = self.data_key(workspace)?.open(&connection.settings, &place).map_err(internal)?;
        serde_json::from_slice(&text).map_err(internal)
    }

    pub(super) async fn workspace_of(&self, connection: &Connection) -> Result<Workspace, String> {
        let scope = Scope::Organization(connection.organization_id);
        let found = self.store.workspace(scope, connection.workspace_id).await;
        found.map_err(|err| err.to_string())?.ok_or_else(|| "its workspace is gone".to_owned())
    }
}

#[async_trait]
impl Preparer for Vault {
    async fn prepare(&self, connection: &Connection) -> Result<Arc<dyn Prepared>, String> {
        let workspace = self.workspace_of(connection).await?;
        let settings = self.open_settings(&workspace, connection).map_err(|err| err.to_string())?;
        let destination = destination(&connection.kind).map_err(|err| err.to_string())?;
        destination.prepare(&settings).map(Arc::from).map_err(|err| err.to_string())
    }
}

fn machine_secret_place(access_key: &str) -> String {
    format!("machine-key/{access_key}/secret")
}

fn settings_place(workspace: WorkspaceId, connection: ConnectionId) -> String {
    format!("workspace/{workspace}/connection/{connection}/settings")
}
