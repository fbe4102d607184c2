//! What seals and opens secrets.

use super::{
    EngineError, destination, internal,
    oauth::{Grants, Shared},
};
use crate::{
    destinations::{
        Prepared,
        limits::Limits,
        setup::{Operator, Setup, Tokens},
    },
    domain::{
        catalog::Catalog,
        connection::Connection,
        field::FieldError,
        grant::Grant,
        ids::{ConnectionId, WorkspaceId},
        key::MachineKey,
        mapping::{Schema, generated},
        payload::Json,
        secret::{Sealed, SealingKey, Secret, WrappedKey},
        session_token::TokenKey,
        user_token::UserTokenKey,
        workspace::Workspace,
    },
    store::{Scope, Store, StoreError},
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
    operator: Arc<Operator>,
    limits: Limits,
    grants: Grants,
    /// Signs users'.
    pub(super) user_tokens: UserTokenKey,
}

impl Vault {
    pub(super) fn new(
        store: Arc<dyn Store>,
        master_key: &[u8; 32],
        operator: Arc<Operator>,
        grants: Grants,
    ) -> Self {
        let master = Arc::new(SealingKey::from_bytes(master_key));
        let (tokens, user_tokens) =
            (TokenKey::derived_from(master_key), UserTokenKey::derived_from(master_key));
        Self { store, master, tokens, user_tokens, operator, limits: Limits::default(), grants }
    }

    pub(super) fn operator(&self) -> &Operator {
        &self.operator
    }

    pub(super) fn grants(&self) -> &Shared {
        &self.grants
    }

    /// What a connection was given that was connected in a browser, and its tokens.
    pub(super) async fn tokens_of(
        &self,
        workspace: &Workspace,
        connection: &Connection,
    ) -> Result<Option<(Grant, Arc<dyn Tokens>)>, EngineError> {
        let destination = destination(&connection.kind)?;
        let Some(consent) = destination.spec().consent else { return Ok(None) };
        let found = self.store.grant(Scope::Workspace(workspace.id), connection.id).await?;
        let Some(grant) = found else { return Ok(None) };
        let key = self.data_key(workspace)?;
        Ok(Some((grant, self.grants.tokens(connection, destination, consent, key))))
    }

    /// What a connection with these settings is made ready with, as far as the server is concerned.
    pub(super) fn setup<'s>(&self, settings: &'s Map<String, Value>) -> Setup<'s> {
        let (operator, limits) = (self.operator.clone(), self.limits.clone());
        Setup { settings, mapping: None, tokens: None, operator, limits }
    }

    /// How a connection's payloads become its account's fields: as somebody saved it, else as the catalog
    /// suggests that was read last.
    async fn mapping(&self, connection: &Connection) -> Result<Option<Schema>, String> {
        let (scope, id) = (Scope::Workspace(connection.workspace_id), connection.id);
        let failed = |err: StoreError| err.to_string();
        if let Some(stored) = self.store.mapping(scope, id).await.map_err(failed)? {
            let text =
                Json::parse(stored.schema.as_bytes()).map_err(|err| format!("its mapping is {err}"))?;
            let wrong = |errors: Vec<FieldError>| format!("its mapping is not usable: {}", join(&errors));
            return Schema::parse(&text).map(Some).map_err(wrong);
        }
        let catalog: Option<Catalog> = self.store.catalog(scope, id).await.map_err(failed)?;
        Ok(catalog.map(|catalog| generated(&catalog.fields)))
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
        settings_of(connection, &self.data_key(workspace)?).map_err(EngineError::Internal)
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
        let mut setup = self.setup(&settings);
        let granted = self.tokens_of(&workspace, connection).await.map_err(|err| err.to_string())?;
        setup.tokens = granted.map(|(_, tokens)| tokens);
        if !destination.standard_fields().is_empty() {
            setup.mapping = self.mapping(connection).await?;
        }
        destination.prepare(setup).map(Arc::from).map_err(|err| err.to_string())
    }
}

fn join(errors: &[FieldError]) -> String {
    errors.iter().map(|err| format!("{} {}", err.param, err.msg)).collect::<Vec<_>>().join("; ")
}

fn machine_secret_place(access_key: &str) -> String {
    format!("machine-key/{access_key}/secret")
}

/// A connection's settings, opened with the data key of its workspace.
pub(super) fn settings_of(connection: &Connection, key: &SealingKey) -> Result<Map<String, Value>, String> {
    let place = settings_place(connection.workspace_id, connection.id);
    let text = key.open(&connection.settings, &place).map_err(|err| err.to_string())?;
    serde_json::from_slice(&text).map_err(|err| err.to_string())
}

pub(super) fn settings_place(workspace: WorkspaceId, connection: ConnectionId) -> String {
    format!("workspace/{workspace}/connection/{connection}/settings")
}
