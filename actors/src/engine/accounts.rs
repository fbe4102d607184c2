//! What is in a connection's account: its live items, its fields, and how a payload is mapped to them.
//!
//! Live items are asked for each time. Fields are kept, because rules and forms ask for them far more
//! often than they change; the first who asks has them read. An inactive connection is never spoken to.

use super::{Engine, EngineError, destination, internal};
use crate::{
    destinations::{
        self, Prepared,
        live::Item,
        spec::{ActionSpec, Spec},
    },
    domain::{
        catalog::{Catalog, CatalogField, schema_hash},
        connection::Connection,
        field::FieldError,
        ids::{ConnectionId, MappingId, WorkspaceId},
        mapping::{DefaultMapping, GENERATED_VERSION, Schema, generated},
        payload::Json,
    },
    store::{Change, Refusal, Scope},
};
use futures_util::future::try_join_all;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// How long an account may take to tell what is in it. Official clients wait for five seconds.
const ASK_TIMEOUT: Duration = Duration::from_secs(4);
/// A catalog as JSON, at most, so that it fits a record.
const CATALOG_BYTES_MAX: usize = 2 << 20;
/// A mapping as JSON, at most, so that it fits a record.
const SCHEMA_BYTES_MAX: usize = 1 << 20;
/// What a mapping is called until somebody says otherwise.
const MAPPING_NAME: &str = "Default mapping";
/// How often a save that says nothing of versions starts over because of another one.
const SAVES_MAX: usize = 20;

/// An action, and what there is to pick from by now.
#[derive(Debug)]
pub struct ActionView {
    pub action: &'static ActionSpec,
    /// By the key of the input that picks.
    pub items: BTreeMap<&'static str, Vec<Item>>,
}

/// A mapping, and whether anybody saved it.
#[derive(Clone, Debug)]
pub struct MappingView {
    pub mapping: DefaultMapping,
    pub is_stored: bool,
}

/// A mapping to be saved; what is `None` is not asked about, and stays.
#[derive(Clone, Debug)]
pub struct NewMapping {
    pub workspace_id: Option<WorkspaceId>,
    pub mapping_id: Option<MappingId>,
    /// The version it was made from.
    pub expected_version: Option<u64>,
    pub name: Option<String>,
    /// As JSON text.
    pub schema: String,
    pub saved_by: String,
}

impl Engine {
    /// What every destination there is declares of itself.
    pub fn integrations(&self) -> Vec<&'static Spec> {
        destinations::ALL.iter().map(|destination| destination.spec()).collect()
    }

    /// The actions of a connection, with what its account has to pick from at this moment.
    pub async fn actions(&self, scope: Scope, id: ConnectionId) -> Result<Vec<ActionView>, EngineError> {
        let connection = self.stored_connection(scope, id).await?;
        let account = self.account(&connection).await?;
        let actions = destination(&connection.kind)?.spec().actions;
        let inputs = actions.iter().flat_map(|action| action.inputs).filter(|input| input.is_live());
        let mut keys: Vec<&str> = inputs.map(|input| input.key).collect();
        keys.sort_unstable();
        keys.dedup();
        let asked = keys.into_iter().map(async |key| {
            let items = account.items(key, &self.0.http, ASK_TIMEOUT);
            Ok::<_, EngineError>((key, in_time(items).await?))
        });
        let items: BTreeMap<&str, Vec<Item>> = try_join_all(asked).await?.into_iter().collect();
        let view = |action: &'static ActionSpec| {
            let live = action.inputs.iter().filter(|input| input.is_live());
            let items = live.filter_map(|input| Some((input.key, items.get(input.key)?.clone()))).collect();
            ActionView { action, items }
        };
        Ok(actions.iter().map(view).collect())
    }

    /// The fields of a connection's account: those that were read last, or with `refresh` those of now.
    pub async fn catalog(
        &self,
        scope: Scope,
        id: ConnectionId,
        refresh: bool,
        asked_by: &str,
    ) -> Result<Catalog, EngineError> {
        let connection = self.stored_connection(scope, id).await?;
        let stored = self.0.store.catalog(scope, id).await?;
        match stored {
            Some(catalog) if !refresh => Ok(catalog),
            stored => self.read_catalog(scope, connection, stored, asked_by).await,
        }
    }

    async fn read_catalog(
        &self,
        scope: Scope,
        connection: Connection,
        stored: Option<Catalog>,
        asked_by: &str,
    ) -> Result<Catalog, EngineError> {
        let id = connection.id;
        let account = self.account(&connection).await?;
        let fields = in_time(account.fields(&self.0.http, ASK_TIMEOUT)).await?;
        check_size(&fields)?;
        let now = self.0.clock.now();
        let catalog = match stored {
            Some(stored) => stored.refreshed(fields, now),
            None => Catalog {
                connection_id: id,
                organization_id: connection.organization_id,
                workspace_id: connection.workspace_id,
                kind: connection.kind,
                hash: schema_hash(&fields),
                fields,
                refreshed_at: now,
                created_by: asked_by.to_owned(),
                created_at: now,
                updated_at: now,
                version: 1,
            },
        };
        match self.configure_connection(catalog.workspace_id, id, Change::SaveCatalog(catalog.clone())).await
        {
            Ok(()) => Ok(catalog),
            // Somebody else read it just now.
            Err(EngineError::Refused(Refusal::Stale(_))) => {
                Ok(self.0.store.catalog(scope, id).await?.ok_or(Refusal::NotFound("connection"))?)
            }
            Err(err) => Err(err),
        }
    }

    /// What is mapped for every rule of a connection: as it was saved, else as the catalog suggests.
    pub async fn default_mapping(
        &self,
        scope: Scope,
        id: ConnectionId,
        asked_by: &str,
    ) -> Result<MappingView, EngineError> {
        if let Some(mapping) = self.0.store.mapping(scope, id).await? {
            return Ok(MappingView { mapping, is_stored: true });
        }
        let catalog = self.catalog(scope, id, false, asked_by).await?;
        let schema = serde_json::to_string(&generated(&catalog.fields)).map_err(internal)?;
        let mapping = DefaultMapping {
            connection_id: id,
            organization_id: catalog.organization_id,
            workspace_id: catalog.workspace_id,
            kind: catalog.kind,
            name: MAPPING_NAME.to_owned(),
            schema,
            catalog_version: Some(catalog.hash),
            created_by: None,
            created_at: catalog.created_at,
            updated_at: catalog.updated_at,
            version: GENERATED_VERSION,
        };
        Ok(MappingView { mapping, is_stored: false })
    }

    /// Saves what is mapped for every rule of a connection. Of two changes made from one version one is
    /// refused; who names none has the last word. Fields that the catalog does not have may be mapped:
    /// the account may have them by the time an event comes.
    pub async fn save_default_mapping(
        &self,
        scope: Scope,
        id: ConnectionId,
        new: NewMapping,
    ) -> Result<MappingView, EngineError> {
        let connection = self.stored_connection(scope, id).await?;
        check_identity(&connection, &new)?;
        let schema = checked_schema(&new.schema)?;
        let catalog = self.0.store.catalog(scope, id).await?;
        for _ in 0..SAVES_MAX {
            let stored = self.0.store.mapping(scope, id).await?;
            let version = stored.as_ref().map_or(GENERATED_VERSION, |stored| stored.version);
            if new.expected_version.is_some_and(|expected| expected != version) {
                return Err(Refusal::Stale("mapping").into());
            }
            let now = self.0.clock.now();
            let (name, created_by, created_at) = match stored {
                Some(stored) => (stored.name, stored.created_by, stored.created_at),
                None => (MAPPING_NAME.to_owned(), Some(new.saved_by.clone()), now),
            };
            let mapping = DefaultMapping {
                connection_id: id,
                organization_id: connection.organization_id,
                workspace_id: connection.workspace_id,
                kind: connection.kind.clone(),
                name: new.name.clone().unwrap_or(name),
                schema: schema.clone(),
                catalog_version: catalog.as_ref().map(|catalog| catalog.hash.clone()),
                created_by,
                created_at,
                updated_at: now,
                version: version + 1,
            };
            let change = Change::SaveMapping(mapping.clone());
            match self.configure_connection(connection.workspace_id, id, change).await {
                Err(EngineError::Refused(Refusal::Stale(_))) => {}
                saved => return saved.map(|()| MappingView { mapping, is_stored: true }),
            }
        }
        Err(Refusal::Stale("mapping").into())
    }

    /// A connection's account, ready to be asked what is in it.
    async fn account(&self, connection: &Connection) -> Result<Arc<dyn Prepared>, EngineError> {
        if let Some(reason) = connection.inactive {
            return Err(EngineError::Inactive(reason));
        }
        self.ready(connection).await
    }

    /// A connection, ready to be spoken to, or to be asked what it would send.
    pub(super) async fn ready(&self, connection: &Connection) -> Result<Arc<dyn Prepared>, EngineError> {
        // What is amiss is something about its settings, its mapping or its tokens.
        let ready = self.0.preparer.prepare(connection).await;
        ready
            .map_err(|err| EngineError::ProbeFailed(format!("the connection cannot be used as it is: {err}")))
    }
}

/// What an account tells, unless it takes too long.
async fn in_time<T>(asked: impl Future<Output = Result<T, String>>) -> Result<T, EngineError> {
    match tokio::time::timeout(ASK_TIMEOUT, asked).await {
        Ok(told) => told.map_err(EngineError::ProbeFailed),
        Err(_) => Err(EngineError::ProbeFailed(format!(
            "the account did not tell what is in it within {ASK_TIMEOUT:?}; try again later"
        ))),
    }
}

fn check_size(fields: &[CatalogField]) -> Result<(), EngineError> {
    let catalog_bytes = serde_json::to_vec(fields).map_err(internal)?.len();
    if catalog_bytes <= CATALOG_BYTES_MAX {
        return Ok(());
    }
    let fields = fields.len();
    Err(EngineError::ProbeFailed(format!(
        "the account's {fields} fields take up more than {CATALOG_BYTES_MAX} bytes; remove some of them there"
    )))
}

/// Refuses what was meant for another connection.
fn check_identity(connection: &Connection, new: &NewMapping) -> Result<(), EngineError> {
    let mut errors = Vec::new();
    if new.workspace_id.is_some_and(|id| id != connection.workspace_id) {
        errors.push(FieldError::new("workspace_id", "must be the connection's own, or left out"));
    }
    if new.mapping_id.is_some_and(|id| id != MappingId::of(connection.id)) {
        errors.push(FieldError::new("mapping_id", "must be that of the connection's mapping, or left out"));
    }
    if errors.is_empty() { Ok(()) } else { Err(EngineError::Meaningless(errors)) }
}

/// The mapping as it is kept.
fn checked_schema(text: &str) -> Result<String, EngineError> {
    let one = |msg: String| EngineError::Meaningless(vec![FieldError::new("schema", msg)]);
    let read = Json::parse(text.as_bytes()).map_err(|err| one(format!("is {err}")))?;
    let schema = Schema::parse(&read).map_err(EngineError::Meaningless)?;
    let text = serde_json::to_string(&schema).map_err(internal)?;
    if text.len() > SCHEMA_BYTES_MAX {
        return Err(one(format!("must be at most {SCHEMA_BYTES_MAX} bytes of JSON")));
    }
    Ok(text)
}
