//! Connections: settings are checked, tried out and sealed on their way in, and masked on their way out.

use super::{Engine, EngineError, destination, invalid, seen_through::SeenThrough};
use crate::{
    destinations::{Destination, SettingsError, masks, setup::Tokens, spec::FieldKind},
    domain::{
        connection::{Connection, InactiveReason, Policy},
        field::FieldError,
        ids::{ConnectionId, WorkspaceId},
        notice::Notice,
        plan::Limit,
        timestamp::Timestamp,
        workspace::Workspace,
    },
    store::{Change, Page, Refusal, Scope},
};
use serde_json::{Map, Value};
use std::{sync::Arc, time::Duration};
use url::Url;

/// How long a test request may take when a connection is saved.
pub(super) const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection as its owner may see it: secrets masked.
#[derive(Clone, Debug)]
pub struct ConnectionView {
    pub connection: Connection,
    pub metadata: Map<String, Value>,
    /// It fell again and again by our own fault, and is left alone until then.
    pub quarantined_until: Option<Timestamp>,
}

/// What makes a new connection.
#[derive(Clone, Debug)]
pub struct NewConnection {
    pub workspace_id: WorkspaceId,
    pub kind: String,
    pub name: String,
    pub metadata: Map<String, Value>,
    pub policy: Option<Policy>,
    pub hidden: bool,
    pub created_by: String,
}

/// A change to a connection; what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct ConnectionPatch {
    pub name: Option<String>,
    /// Replaces the metadata; masked secrets keep the stored ones.
    pub metadata: Option<Map<String, Value>>,
    pub policy: Option<Policy>,
    pub hidden: Option<bool>,
    pub paused: Option<bool>,
    /// `Some(None)` makes it active again.
    pub inactive: Option<Option<InactiveReason>>,
}

impl Engine {
    /// Changes a connection, or deletes it, and tells its actor: also when the change failed, for it may
    /// be on disk all the same.
    pub(super) async fn configure_connection(
        &self,
        workspace: WorkspaceId,
        id: ConnectionId,
        change: Change,
    ) -> Result<(), EngineError> {
        let engine = self.clone();
        let configured = SeenThrough::new(async move {
            let configured = engine.0.store.configure(engine.0.fence, change, Some(engine.act())).await;
            if let Some(tree) = &engine.0.tree {
                tree.connection_changed(workspace, id);
            }
            configured
        });
        Ok(configured.await?)
    }

    /// Makes a connection, after a test request where its destination has one and the settings do not skip it.
    pub async fn create_connection(
        &self,
        scope: Scope,
        new: NewConnection,
    ) -> Result<ConnectionView, EngineError> {
        let (inner, now) = (&self.0, self.0.clock.now());
        let destination = destination(&new.kind)?;
        let found = inner.store.workspace(scope, new.workspace_id).await?;
        let workspace = found.ok_or(Refusal::NotFound("workspace"))?;
        let policy = new.policy.unwrap_or_default();
        check_policy(&policy)?;
        let settings = self.check_settings(destination, &new.metadata, None).await?;
        let id = ConnectionId::from_uuid(inner.ids.next(now));
        let connection = Connection {
            id,
            organization_id: workspace.organization_id,
            workspace_id: workspace.id,
            kind: new.kind,
            name: new.name,
            settings: inner.vault.seal_settings(&workspace, id, &settings)?,
            policy,
            inactive: None,
            refusal: None,
            paused: false,
            hidden: new.hidden,
            created_by: new.created_by,
            created_at: now,
            updated_at: now,
            version: 1,
        };
        let change = Change::CreateConnection(connection.clone());
        self.configure_within(workspace.organization_id, Limit::Connections, change).await?;
        Ok(self.shown(connection, destination.masked(&settings)))
    }

    async fn check_settings(
        &self,
        destination: &'static dyn Destination,
        sent: &Map<String, Value>,
        tokens: Option<Arc<dyn Tokens>>,
    ) -> Result<Map<String, Value>, EngineError> {
        let settings =
            destination.check(sent, self.0.http.policy()).map_err(|errors| invalid("metadata", errors))?;
        self.check_urls(destination, &settings).await?;
        let (mut setup, now) = (self.0.vault.setup(&settings), self.0.clock.wall());
        setup.tokens = tokens;
        if destination.spec().consent.is_some() {
            let ready = destination.prepare(setup.clone());
            let starts = "POST /api/v1/connections/oauth starts that";
            ready.map_err(|SettingsError { param, msg }| {
                invalid("metadata", vec![FieldError::new(param, format!("{msg}; {starts}"))])
            })?;
        }
        let probed = destination.probe(setup, &self.0.http, now, PROBE_TIMEOUT).await;
        probed.map_err(EngineError::ProbeFailed)?;
        Ok(settings)
    }

    /// Refuses a URL whose name leads into a private network, whether it is tried out or not.
    pub(super) async fn check_urls(
        &self,
        destination: &'static dyn Destination,
        settings: &Map<String, Value>,
    ) -> Result<(), EngineError> {
        for field in destination.spec().fields.iter().filter(|field| field.kind == FieldKind::Url) {
            let text = settings.get(field.key).and_then(Value::as_str);
            let Some(url) = text.and_then(|text| Url::parse(text).ok()) else { continue };
            if let Err(err) = self.0.http.check_now(&url).await {
                let error = FieldError::new(field.key, format!("is not usable: {err}"));
                return Err(invalid("metadata", vec![error]));
            }
        }
        Ok(())
    }

    /// Changes a connection. When this returns, no new attempt uses what was before. One whose
    /// credentials were refused is active again once it is given settings that pass their check.
    pub async fn update_connection(
        &self,
        scope: Scope,
        id: ConnectionId,
        patch: ConnectionPatch,
    ) -> Result<ConnectionView, EngineError> {
        let inner = &self.0;
        let mut connection = self.stored_connection(scope, id).await?;
        let before = connection.clone();
        let destination = destination(&connection.kind)?;
        let workspace = self.workspace_of(&connection).await?;
        let mut settings = inner.vault.open_settings(&workspace, &connection)?;
        if let Some(sent) = patch.metadata {
            // What was refused may be accepted as it is now; what a person turned off stays off.
            connection.inactive =
                connection.inactive.filter(|reason| *reason == InactiveReason::ManuallyInactivated);
            let mut merged = destination.merge(&sent, &settings);
            let granted = inner.vault.tokens_of(&workspace, &connection).await?;
            if let Some((grant, _)) = &granted {
                // What the account told of itself nobody need send back, nor can change: it says whose it is.
                for key in &grant.told {
                    match settings.get(key) {
                        Some(kept) => drop(merged.insert(key.clone(), kept.clone())),
                        None => drop(merged.remove(key)),
                    }
                }
            }
            let strayed = masks::strayed(destination.spec(), &sent, &settings, &merged);
            if !strayed.is_empty() {
                return Err(invalid("metadata", strayed));
            }
            let tokens = granted.map(|(_, tokens)| tokens);
            settings = self.check_settings(destination, &merged, tokens).await?;
            connection.settings = inner.vault.seal_settings(&workspace, id, &settings)?;
        }
        if let Some(policy) = patch.policy {
            check_policy(&policy)?;
            connection.policy = policy;
        }
        connection.name = patch.name.unwrap_or(connection.name);
        connection.hidden = patch.hidden.unwrap_or(connection.hidden);
        connection.paused = patch.paused.unwrap_or(connection.paused);
        connection.inactive = patch.inactive.unwrap_or(connection.inactive);
        connection.updated_at = inner.clock.now();
        connection.version += 1;
        let change = Change::UpdateConnection(connection.clone());
        self.configure_connection(workspace.id, id, change).await?;
        Notice::of_change(&before, &connection).into_iter().for_each(|notice| self.notify(notice));
        Ok(self.shown(connection, destination.masked(&settings)))
    }

    /// Deletes a connection, with its rules if `force`; what waits for it is canceled. Returns what it was.
    pub async fn delete_connection(
        &self,
        scope: Scope,
        id: ConnectionId,
        force: bool,
    ) -> Result<Connection, EngineError> {
        let connection = self.stored_connection(scope, id).await?;
        let change = Change::DeleteConnection { id, force };
        self.configure_connection(connection.workspace_id, id, change).await?;
        Ok(connection)
    }

    pub(super) async fn stored_connection(
        &self,
        scope: Scope,
        id: ConnectionId,
    ) -> Result<Connection, EngineError> {
        Ok(self.0.store.connection(scope, id).await?.ok_or(Refusal::NotFound("connection"))?)
    }

    pub(super) async fn workspace_of(&self, connection: &Connection) -> Result<Workspace, EngineError> {
        self.0.vault.workspace_of(connection).await.map_err(EngineError::Internal)
    }

    async fn view(&self, connection: Connection) -> Result<ConnectionView, EngineError> {
        let workspace = self.workspace_of(&connection).await?;
        let settings = self.0.vault.open_settings(&workspace, &connection)?;
        let metadata = destination(&connection.kind)?.masked(&settings);
        Ok(self.shown(connection, metadata))
    }

    fn shown(&self, connection: Connection, metadata: Map<String, Value>) -> ConnectionView {
        let tree = self.0.tree.as_ref();
        let quarantined_until =
            tree.and_then(|tree| tree.quarantined_until(connection.workspace_id, connection.id));
        ConnectionView { connection, metadata, quarantined_until }
    }

    /// A connection.
    pub async fn connection(
        &self,
        scope: Scope,
        id: ConnectionId,
    ) -> Result<Option<ConnectionView>, EngineError> {
        match self.0.store.connection(scope, id).await? {
            Some(connection) => self.view(connection).await.map(Some),
            None => Ok(None),
        }
    }

    /// Connections, oldest first.
    pub async fn connections(
        &self,
        scope: Scope,
        after: Option<ConnectionId>,
        limit: usize,
    ) -> Result<Page<ConnectionView, ConnectionId>, EngineError> {
        let page = self.0.store.connections(scope, after, limit).await?;
        let mut records = Vec::with_capacity(page.records.len());
        for connection in page.records {
            records.push(self.view(connection).await?);
        }
        Ok(Page { records, next: page.next })
    }
}

fn check_policy(policy: &Policy) -> Result<(), EngineError> {
    policy.check().map_err(|err| EngineError::Invalid(vec![err.within("policy")]))
}
