//! All an edge may ask: no edge ever meets an actor or a store.
//!
//! The engine checks what is asked against what is there, seals secrets on their way in,
//! makes it durable, and wakes the tree.

mod seen_through;

pub use crate::domain::field::FieldError;
pub use crate::store::{
    Appended, EventDetails, EventFilter, EventSummary, Idempotency, PAYLOAD_BYTES_MAX, Page, Refusal,
    RuleFilter, Scope, StoreError, Unavailable, Verification,
};
pub use crate::tree::{Faults, Preparer};
use crate::{
    clock::Clock,
    destinations::{self, Destination, Prepared, spec::FieldKind},
    domain::{
        connection::{Connection, InactiveReason, Policy},
        delivery::{Attempt, Delivery, ResponseDetails},
        event::{Event, RESOURCE_DEFAULT},
        ids::{AttemptId, ConnectionId, EventId, IdSource, OrganizationId, RuleId, WorkspaceId},
        key::{MachineKey, PublishableKey, publishable_key_hash},
        retry::RetryPolicy,
        rule::{CompiledRule, Rule},
        secret::{Sealed, SealingKey, Secret},
        timestamp::Timestamp,
        workspace::{Organization, Workspace},
    },
    store::{
        Change, Fence, NewEvent, Store,
        embedded::{self, EmbeddedStore},
        memory::MemoryStore,
    },
    transport::{
        Http, HttpArgs,
        address::AddressPolicy,
        resolve::{Dns, Resolver},
    },
    tree::{Context, Settings, Tree},
};
use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use seen_through::SeenThrough;
use serde_json::{Map, Value};
use std::{path::PathBuf, sync::Arc, time::Duration};
use url::Url;

/// How long a test request may take when a connection is saved.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// Queues looked at in one go for the gauges of what waits: nobody else gets at the store meanwhile.
const QUEUE_REPORTS_PAGE: usize = 100;
/// Organizations whose workspaces the master key is tried on.
const ORGANIZATIONS_TRIED: usize = 100;
/// How long a store may take to close.
const CLOSE_MAX: Duration = Duration::from_secs(60);
/// A rule's action and inputs, as JSON text, at most.
const ACTION_BYTES_MAX: usize = 64 * 1_024;

/// Why the engine did not do it.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Fields of the request are wrong; each with what to change.
    #[error("{}", .0.first().map_or_else(|| "the request is invalid".to_owned(), ToString::to_string))]
    Invalid(Vec<FieldError>),
    /// It does not fit what is there.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nothing can be accepted at the moment.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The destination did not answer a test as it should.
    #[error("{0}")]
    ProbeFailed(String),
    /// What the data was sealed with is not what it is to be opened with.
    #[error(
        "the master key is not the one this data was sealed with; give the right one, in its file or as WEFT_MASTER_KEY"
    )]
    WrongMasterKey,
    /// A fault of ours. The text is for the log, not for the caller.
    #[error("{0}")]
    Internal(String),
}

/// An event as a caller sends it, its form already checked.
#[derive(Clone, Debug)]
pub struct IngestRequest {
    pub organization_id: OrganizationId,
    pub workspace_id: WorkspaceId,
    pub name: String,
    /// `global` where absent.
    pub resource: Option<String>,
    pub resource_id: Option<String>,
    pub payload: Bytes,
    pub created_by: String,
    pub idempotency: Option<Idempotency>,
}

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

/// What makes a new rule.
#[derive(Clone, Debug)]
pub struct NewRule {
    pub workspace_id: WorkspaceId,
    pub connection_id: ConnectionId,
    pub event: String,
    pub resource: Option<String>,
    pub resource_id: Option<String>,
    pub metadata: Map<String, Value>,
    pub conditions: Option<Value>,
    pub active: bool,
    pub hidden: bool,
    pub created_by: String,
}

/// A change to a rule; what is `None` stays, `Some(None)` removes.
#[derive(Clone, Debug, Default)]
pub struct RulePatch {
    pub event: Option<String>,
    pub resource: Option<Option<String>>,
    pub resource_id: Option<Option<String>>,
    pub metadata: Option<Map<String, Value>>,
    pub conditions: Option<Option<Value>>,
    pub active: Option<bool>,
    pub hidden: Option<bool>,
}

/// A machine key as it is shown once, and as tokens are checked with.
#[derive(Clone, Debug)]
pub struct MachineKeyClear {
    pub access_key: String,
    pub organization_id: OrganizationId,
    pub secret: Secret,
}

/// What an engine is started with.
#[derive(Clone)]
pub struct Options {
    /// Where the embedded store lives; `None` keeps everything in memory.
    pub data: Option<PathBuf>,
    /// The key-encryption key.
    pub master_key: [u8; 32],
    /// Size of a journal segment. Two more are kept in reserve.
    pub segment_bytes: u64,
    /// Memory for the index's cache.
    pub cache_bytes: u64,
    /// Start although acknowledged records are damaged, leaving those out.
    pub accept_damage: bool,
    pub delivery: DeliveryDefaults,
    /// Days that finished events are kept where a workspace says nothing.
    pub retention_days: u32,
    /// Private addresses that may be reached.
    pub outbound_allow: Vec<ipnet::IpNet>,
    /// Plain-http destinations too.
    pub allow_http: bool,
    /// A name server to ask instead of the system's.
    pub name_server: Option<std::net::SocketAddr>,
    /// More root certificates, in PEM.
    pub extra_root_pem: Option<PathBuf>,
    pub clock: Clock,
    /// How long an actor without work stays.
    pub idle_after: Duration,
    /// How often what is past its retention is dropped.
    pub retention_every: Duration,
    /// Told what happens while a store is opened, such as a rebuild and how far it is.
    pub progress: Arc<dyn Fn(&str) + Send + Sync>,
    pub seams: Seams,
}

impl Options {
    /// The usual settings, in memory, with this master key.
    pub fn new(master_key: [u8; 32]) -> Self {
        Self {
            data: None,
            master_key,
            segment_bytes: 64 << 20,
            cache_bytes: 64 << 20,
            accept_damage: false,
            delivery: DeliveryDefaults {
                retry: RetryPolicy::default(),
                timeout: Duration::from_secs(15),
                max_in_flight: 64,
            },
            retention_days: 30,
            outbound_allow: Vec::new(),
            allow_http: false,
            name_server: None,
            extra_root_pem: None,
            clock: Clock::system(),
            idle_after: Duration::from_secs(30),
            retention_every: Duration::from_secs(300),
            progress: Arc::new(|_| {}),
            seams: Seams::default(),
        }
    }
}

/// Where a test puts something else in place. A server leaves them alone.
#[derive(Clone, Default)]
pub struct Seams {
    pub store: Option<Arc<dyn Store>>,
    pub disk: Option<Arc<dyn embedded::journal::Disk>>,
    pub resolver: Option<Arc<dyn Resolver>>,
    pub preparer: Option<Arc<dyn Preparer>>,
    pub faults: Faults,
}

/// How destinations are spoken to where a connection's policy says nothing.
#[derive(Clone, Debug)]
pub struct DeliveryDefaults {
    pub retry: RetryPolicy,
    pub timeout: Duration,
    pub max_in_flight: u32,
}

/// The engine. Cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    fence: Fence,
    /// Its line goes on from what is on record.
    clock: Clock,
    ids: IdSource,
    http: Http,
    vault: Vault,
    tree: Option<Tree>,
}

impl Engine {
    /// Opens the store, recovers, and starts the tree.
    pub async fn start(options: Options) -> Result<Self, EngineError> {
        Self::open(options, true).await
    }

    /// Opens the store without starting the tree, for commands such as `init` and `verify`.
    pub async fn offline(options: Options) -> Result<Self, EngineError> {
        Self::open(options, false).await
    }

    async fn open(options: Options, with_tree: bool) -> Result<Self, EngineError> {
        let http = http(&options)?;
        let store = open_store(&options).await?;
        let clock = options.clock.steady(store.latest());
        let vault =
            Vault { store: store.clone(), master: Arc::new(SealingKey::from_bytes(&options.master_key)) };
        vault.check().await?;
        let fence = store.fence();
        let mut tree = None;
        if with_tree {
            let settings = Settings {
                retry: options.delivery.retry,
                timeout: options.delivery.timeout,
                max_in_flight: options.delivery.max_in_flight,
                idle_after: options.idle_after,
                retention_days: options.retention_days,
                retention_every: options.retention_every,
            };
            let preparer = options.seams.preparer.unwrap_or_else(|| Arc::new(vault.clone()));
            let (store, clock, faults) = (store.clone(), clock.clone(), options.seams.faults);
            let ctx = Context::new(store, clock, http.clone(), preparer, faults, settings);
            tree = Some(Tree::start(ctx).await.map_err(internal)?);
        }
        let ids = IdSource::starting_after(store.latest());
        Ok(Self(Arc::new(Inner { store, fence, clock, ids, http, vault, tree })))
    }

    /// Puts events on disk, in order, and wakes who routes them. The answer is the event as accepted
    /// (of the first request, when an idempotency key repeats).
    pub async fn ingest(&self, requests: Vec<IngestRequest>) -> Vec<Result<Event, EngineError>> {
        let inner = &self.0;
        let now = inner.clock.now();
        let mut events = Vec::with_capacity(requests.len());
        let mut news = Vec::with_capacity(requests.len());
        for request in requests {
            let event = Event {
                id: EventId::from_uuid(inner.ids.next(now)),
                organization_id: request.organization_id,
                workspace_id: request.workspace_id,
                name: request.name,
                resource: request.resource.unwrap_or_else(|| RESOURCE_DEFAULT.to_owned()),
                resource_id: request.resource_id,
                created_by: request.created_by,
                accepted_at: now,
            };
            events.push(event.clone());
            news.push(NewEvent { event, payload: request.payload, idempotency: request.idempotency });
        }
        let engine = self.clone();
        let appended = SeenThrough::new(async move {
            let inner = &engine.0;
            let workspaces: Vec<_> = news.iter().map(|new| new.event.workspace_id).collect();
            let appended = inner.store.append_events(inner.fence, news).await;
            let accepted = appended.iter().filter(|appended| matches!(appended, Ok(Appended::New))).count();
            metrics::counter!("weft_events_accepted_total").increment(accepted as u64);
            engine.wake_for(&workspaces, &appended);
            appended
        });
        let answers = events.into_iter().zip(appended.await).map(|(event, appended)| match appended {
            Ok(Appended::New) => Ok(event),
            Ok(Appended::Repeated(first)) => Ok(*first),
            Err(err) => Err(err.into()),
        });
        answers.collect()
    }

    /// Wakes who routes what was accepted. What failed may be on disk all the same; only what was
    /// refused is not.
    fn wake_for(&self, workspaces: &[WorkspaceId], appended: &[Result<Appended, StoreError>]) {
        let Some(tree) = &self.0.tree else { return };
        let mut woken = None;
        for (workspace, appended) in workspaces.iter().zip(appended) {
            if woken != Some(*workspace) && !matches!(appended, Err(StoreError::Refused(_))) {
                woken = Some(*workspace);
                tree.wake(*workspace);
            }
        }
    }

    /// Changes a connection, or deletes it, and tells its actor: also when the change failed, for it may
    /// be on disk all the same.
    async fn configure_connection(
        &self,
        workspace: WorkspaceId,
        id: ConnectionId,
        change: Change,
    ) -> Result<(), EngineError> {
        let engine = self.clone();
        let configured = SeenThrough::new(async move {
            let configured = engine.0.store.configure(engine.0.fence, change).await;
            if let Some(tree) = &engine.0.tree {
                tree.connection_changed(workspace, id);
            }
            configured
        });
        Ok(configured.await?)
    }

    async fn configure(&self, change: Change) -> Result<(), EngineError> {
        Ok(self.0.store.configure(self.0.fence, change).await?)
    }

    /// Makes an organization: who owns workspaces and machine keys.
    pub async fn create_organization(&self, name: &str) -> Result<Organization, EngineError> {
        let created_at = self.0.clock.now();
        let organization = Organization { id: OrganizationId::random(), name: name.to_owned(), created_at };
        self.configure(Change::CreateOrganization(organization.clone())).await?;
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

    /// Makes a machine key. Its secret is shown this once.
    pub async fn create_machine_key(
        &self,
        organization: OrganizationId,
    ) -> Result<MachineKeyClear, EngineError> {
        let access_key = format!("mk_{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>()));
        let secret = Secret::new(URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()));
        let sealed = self.0.vault.seal_machine_secret(&access_key, &secret);
        let key = MachineKey {
            access_key: access_key.clone(),
            organization_id: organization,
            secret: sealed,
            created_at: self.0.clock.now(),
        };
        self.configure(Change::CreateMachineKey(key)).await?;
        Ok(MachineKeyClear { access_key, organization_id: organization, secret })
    }

    /// What a token signed with this access key is checked with.
    pub async fn machine_key(&self, access_key: &str) -> Result<Option<MachineKeyClear>, EngineError> {
        let Some(key) = self.0.store.machine_key(access_key).await? else { return Ok(None) };
        let secret = self.0.vault.open_machine_secret(&key)?;
        Ok(Some(MachineKeyClear { access_key: key.access_key, organization_id: key.organization_id, secret }))
    }

    /// A publishable key, by its text.
    pub async fn publishable_key(&self, public_key: &str) -> Result<Option<PublishableKey>, EngineError> {
        Ok(self.0.store.publishable_key(publishable_key_hash(public_key)).await?)
    }

    /// A workspace's publishable key.
    pub async fn publishable_key_of(
        &self,
        workspace: WorkspaceId,
    ) -> Result<Option<PublishableKey>, EngineError> {
        Ok(self.0.store.publishable_key_of(workspace).await?)
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
        let (_, data_key) = inner.vault.master.new_data_key(&id.to_string());
        let workspace = Workspace {
            id,
            organization_id: organization,
            name,
            description,
            retention_days: None,
            data_key,
            created_at: now,
            updated_at: now,
        };
        let key = PublishableKey {
            public_key: new_publishable_key(),
            name: "Default".to_owned(),
            organization_id: organization,
            workspace_id: id,
            created_at: now,
        };
        self.configure(Change::CreateWorkspace(Box::new((workspace.clone(), key.clone())))).await?;
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
        let settings = self.check_settings(destination, &new.metadata).await?;
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
            paused: false,
            hidden: new.hidden,
            created_by: new.created_by,
            created_at: now,
            updated_at: now,
            version: 1,
        };
        self.configure(Change::CreateConnection(connection.clone())).await?;
        Ok(self.shown(connection, destination.masked(&settings)))
    }

    async fn check_settings(
        &self,
        destination: &dyn Destination,
        sent: &Map<String, Value>,
    ) -> Result<Map<String, Value>, EngineError> {
        let settings =
            destination.check(sent, self.0.http.policy()).map_err(|errors| invalid("metadata", errors))?;
        self.check_urls(destination, &settings).await?;
        let probed = destination.probe(&settings, &self.0.http, self.0.clock.wall(), PROBE_TIMEOUT).await;
        probed.map_err(EngineError::ProbeFailed)?;
        Ok(settings)
    }

    /// Refuses a URL whose name leads into a private network, whether it is tried out or not.
    async fn check_urls(
        &self,
        destination: &dyn Destination,
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
        let destination = destination(&connection.kind)?;
        let workspace = self.workspace_of(&connection).await?;
        let mut settings = inner.vault.open_settings(&workspace, &connection)?;
        if let Some(sent) = patch.metadata {
            // What was refused may be accepted as it is now; what a person turned off stays off.
            if connection.inactive == Some(InactiveReason::AuthenticationInvalid) {
                connection.inactive = None;
            }
            settings = self.check_settings(destination, &destination.merge(&sent, &settings)).await?;
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

    async fn stored_connection(&self, scope: Scope, id: ConnectionId) -> Result<Connection, EngineError> {
        Ok(self.0.store.connection(scope, id).await?.ok_or(Refusal::NotFound("connection"))?)
    }

    async fn workspace_of(&self, connection: &Connection) -> Result<Workspace, EngineError> {
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

    /// Makes a rule. Events acknowledged from here on meet it.
    pub async fn create_rule(&self, scope: Scope, new: NewRule) -> Result<Rule, EngineError> {
        let (inner, now) = (&self.0, self.0.clock.now());
        let found = inner.store.workspace(scope, new.workspace_id).await?;
        let workspace = found.ok_or(Refusal::NotFound("workspace"))?;
        let connection = self.stored_connection(Scope::Workspace(workspace.id), new.connection_id).await?;
        let rule = Rule {
            id: RuleId::from_uuid(inner.ids.next(now)),
            organization_id: workspace.organization_id,
            workspace_id: workspace.id,
            connection_id: connection.id,
            kind: connection.kind,
            event: new.event,
            resource: new.resource,
            resource_id: new.resource_id,
            metadata: new.metadata,
            conditions: new.conditions,
            active: new.active,
            hidden: new.hidden,
            created_by: new.created_by,
            created_at: now,
            updated_at: now,
        };
        check_rule(&rule)?;
        self.configure(Change::CreateRule(rule.clone())).await.map_err(of_conditions)?;
        Ok(rule)
    }

    /// Changes a rule. Events acknowledged from here on meet it as it is now.
    pub async fn update_rule(&self, scope: Scope, id: RuleId, patch: RulePatch) -> Result<Rule, EngineError> {
        let mut rule = self.0.store.rule(scope, id).await?.ok_or(Refusal::NotFound("rule"))?;
        rule.event = patch.event.unwrap_or(rule.event);
        rule.resource = patch.resource.unwrap_or(rule.resource);
        rule.resource_id = patch.resource_id.unwrap_or(rule.resource_id);
        rule.metadata = patch.metadata.unwrap_or(rule.metadata);
        rule.conditions = patch.conditions.unwrap_or(rule.conditions);
        rule.active = patch.active.unwrap_or(rule.active);
        rule.hidden = patch.hidden.unwrap_or(rule.hidden);
        rule.updated_at = self.0.clock.now();
        check_rule(&rule)?;
        self.configure(Change::UpdateRule(rule.clone())).await.map_err(of_conditions)?;
        Ok(rule)
    }

    /// Deletes a rule. Deliveries it made go on.
    pub async fn delete_rule(&self, scope: Scope, id: RuleId) -> Result<Rule, EngineError> {
        let rule = self.0.store.rule(scope, id).await?.ok_or(Refusal::NotFound("rule"))?;
        self.configure(Change::DeleteRule(id)).await?;
        Ok(rule)
    }

    /// A rule.
    pub async fn rule(&self, scope: Scope, id: RuleId) -> Result<Option<Rule>, EngineError> {
        Ok(self.0.store.rule(scope, id).await?)
    }

    /// Rules, oldest first.
    pub async fn rules(
        &self,
        scope: Scope,
        filter: RuleFilter,
        after: Option<RuleId>,
        limit: usize,
    ) -> Result<Page<Rule, RuleId>, EngineError> {
        Ok(self.0.store.rules(scope, filter, after, limit).await?)
    }

    /// Events, newest first.
    pub async fn events(
        &self,
        scope: Scope,
        filter: EventFilter,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<Page<EventSummary, EventId>, EngineError> {
        Ok(self.0.store.events(scope, filter, after, limit).await?)
    }

    /// An event with all that became of it.
    pub async fn event(&self, scope: Scope, id: EventId) -> Result<Option<EventDetails>, EngineError> {
        Ok(self.0.store.event(scope, id).await?)
    }

    /// An event's payload, byte for byte.
    pub async fn payload(&self, scope: Scope, id: EventId) -> Result<Option<Bytes>, EngineError> {
        Ok(self.0.store.payload(scope, id).await?)
    }

    /// Makes a delivery due now. `rule` may also be the delivery's own id. Refused where nothing would
    /// be sent: its connection is inactive or was deleted. A paused one keeps it until it is resumed.
    pub async fn retry(&self, scope: Scope, event: EventId, rule: RuleId) -> Result<Delivery, EngineError> {
        let engine = self.clone();
        let retried = SeenThrough::new(async move {
            let Inner { store, fence, clock, tree, .. } = &*engine.0;
            let retried = store.retry(*fence, scope, event, rule, clock.now()).await;
            let queued = match &retried {
                Ok(delivery) => Some(delivery.clone()),
                // It may be due all the same.
                Err(StoreError::Unavailable(_)) => engine.delivery(scope, event, rule).await.ok().flatten(),
                Err(_) => None,
            };
            if let (Some(tree), Some(delivery)) = (tree, queued) {
                tree.queued(delivery.workspace_id, delivery.connection_id);
            }
            retried
        });
        Ok(retried.await?)
    }

    /// Calls off one rule's delivery, or all that are not final. An attempt in flight ends naturally.
    pub async fn cancel(
        &self,
        scope: Scope,
        event: EventId,
        rule: Option<RuleId>,
    ) -> Result<EventDetails, EngineError> {
        let inner = &self.0;
        Ok(inner.store.cancel(inner.fence, scope, event, rule, inner.clock.now()).await?)
    }

    /// The attempts kept of a delivery, oldest first, each with its id.
    pub async fn attempts(
        &self,
        scope: Scope,
        event: EventId,
        rule: RuleId,
    ) -> Result<Option<(Delivery, Vec<(AttemptId, Attempt)>)>, EngineError> {
        Ok(self.delivery(scope, event, rule).await?.map(|delivery| {
            let with_id = |attempt: &Attempt| (AttemptId::of(delivery.id, attempt.number), attempt.clone());
            let attempts = delivery.attempts.iter().map(with_id).collect();
            (delivery, attempts)
        }))
    }

    /// One rule's delivery of an event.
    async fn delivery(
        &self,
        scope: Scope,
        event: EventId,
        rule: RuleId,
    ) -> Result<Option<Delivery>, StoreError> {
        let Some(details) = self.0.store.event(scope, event).await? else { return Ok(None) };
        let is_it =
            |delivery: &Delivery| delivery.rule_id == rule || delivery.id.as_bytes() == rule.as_bytes();
        Ok(details.deliveries.into_iter().find(is_it))
    }

    /// The response kept of a failed attempt.
    pub async fn response(
        &self,
        scope: Scope,
        event: EventId,
        attempt: AttemptId,
    ) -> Result<Option<ResponseDetails>, EngineError> {
        Ok(self.0.store.response(scope, event, attempt).await?)
    }

    /// Whether new events are accepted, and why not.
    pub fn availability(&self) -> Result<(), Unavailable> {
        self.0.store.availability()
    }

    /// Sets the gauges of what waits (`weft_queue_depth`, `weft_queue_oldest_age_seconds`, by connection state).
    pub async fn observe(&self) {
        const STATES: [&str; 3] = ["active", "paused", "inactive"];
        let (now, mut waiting, mut after) = (self.0.clock.now(), [(0, Duration::ZERO); 3], None);
        loop {
            let Ok(page) = self.0.store.queue_reports(after, QUEUE_REPORTS_PAGE).await else { return };
            for report in page.records {
                let state = connection_state(&report.connection);
                let of_state = STATES.iter().zip(&mut waiting).find(|(name, _)| **name == state);
                let Some((_, (depth, age))) = of_state else { continue };
                *depth += report.waiting;
                *age = now.since(report.oldest).max(*age);
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        for (state, (depth, age)) in STATES.into_iter().zip(waiting) {
            metrics::gauge!("weft_queue_depth", "state" => state).set(depth as f64);
            metrics::gauge!("weft_queue_oldest_age_seconds", "state" => state).set(age.as_secs_f64());
        }
    }

    /// Proves the ledger: every accepted event × matched rule is final or scheduled.
    pub async fn verify(&self) -> Result<Verification, EngineError> {
        Ok(self.0.store.verify().await?)
    }

    /// Returns when the tree has fallen for good: the process should end, and be started anew.
    pub async fn failed(&self) {
        match &self.0.tree {
            Some(tree) => tree.ended().await,
            None => std::future::pending().await,
        }
    }

    /// Whether the tree has fallen, or was drained: nothing is delivered any more.
    pub fn has_ended(&self) -> bool {
        self.0.tree.as_ref().is_some_and(Tree::has_ended)
    }

    /// Starts no more attempts, and finishes or gives up those in flight within `patience`. Events are
    /// still accepted: they are delivered after the next start.
    pub async fn land(&self, patience: Duration) {
        if let Some(tree) = &self.0.tree {
            tree.drain(patience).await;
        }
    }

    /// Closes the store. The caller has stopped sending events.
    pub async fn close(&self) -> Result<(), EngineError> {
        match tokio::time::timeout(CLOSE_MAX, self.0.store.close()).await {
            Ok(closed) => Ok(closed?),
            Err(_) => Err(EngineError::Internal(format!(
                "the store is not closed after {CLOSE_MAX:?}; what is not on disk is done again after the next start"
            ))),
        }
    }

    /// [`Self::land`], then [`Self::close`].
    pub async fn drain(&self, patience: Duration) -> Result<(), EngineError> {
        self.land(patience).await;
        self.close().await
    }
}

/// What seals and opens secrets: the master key, and each workspace's own key wrapped with it.
#[derive(Clone)]
struct Vault {
    store: Arc<dyn Store>,
    master: Arc<SealingKey>,
}

impl Vault {
    /// Refuses a key that is not the one the data was sealed with, before anything is sealed with another.
    async fn check(&self) -> Result<(), EngineError> {
        for organization in self.store.organizations(None, ORGANIZATIONS_TRIED).await?.records {
            let workspaces = self.store.workspaces(organization.id, None, 1).await?.records;
            if let Some(workspace) = workspaces.first() {
                return self.data_key(workspace).map(drop).map_err(|_| EngineError::WrongMasterKey);
            }
        }
        Ok(())
    }

    fn seal_machine_secret(&self, access_key: &str, secret: &Secret) -> Sealed {
        self.master.seal(secret.expose().as_bytes(), &machine_secret_place(access_key))
    }

    fn open_machine_secret(&self, key: &MachineKey) -> Result<Secret, EngineError> {
        let bytes =
            self.master.open(&key.secret, &machine_secret_place(&key.access_key)).map_err(internal)?;
        Ok(Secret::new(std::str::from_utf8(&bytes).map_err(internal)?))
    }

    fn data_key(&self, workspace: &Workspace) -> Result<SealingKey, EngineError> {
        self.master.open_data_key(&workspace.data_key, &workspace.id.to_string()).map_err(internal)
    }

    fn seal_settings(
        &self,
        workspace: &Workspace,
        id: ConnectionId,
        settings: &Map<String, Value>,
    ) -> Result<Sealed, EngineError> {
        let text = zeroize::Zeroizing::new(serde_json::to_vec(settings).map_err(internal)?);
        Ok(self.data_key(workspace)?.seal(&text, &settings_place(workspace.id, id)))
    }

    fn open_settings(
        &self,
        workspace: &Workspace,
        connection: &Connection,
    ) -> Result<Map<String, Value>, EngineError> {
        let place = settings_place(workspace.id, connection.id);
        let text = self.data_key(workspace)?.open(&connection.settings, &place).map_err(internal)?;
        serde_json::from_slice(&text).map_err(internal)
    }

    async fn workspace_of(&self, connection: &Connection) -> Result<Workspace, String> {
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

/// `mesh_pub_v1_<id>_<random>`: the id tells keys apart in logs, the rest is 128 random bits.
fn new_publishable_key() -> String {
    format!("mesh_pub_v1_{:08x}_{:032x}", rand::random::<u32>(), rand::random::<u128>())
}

fn http(options: &Options) -> Result<Http, EngineError> {
    let resolver: Arc<dyn Resolver> = match (&options.seams.resolver, options.name_server) {
        (Some(resolver), _) => resolver.clone(),
        (None, Some(server)) => Arc::new(Dns::by_server(server).map_err(internal)?),
        (None, None) => Arc::new(Dns::system().map_err(internal)?),
    };
    let extra_roots_pem = match &options.extra_root_pem {
        Some(path) => Some(std::fs::read(path).map_err(|err| {
            EngineError::Internal(format!("cannot read the root certificates in {}: {err}", path.display()))
        })?),
        None => None,
    };
    let policy = AddressPolicy { allow: options.outbound_allow.clone(), allow_http: options.allow_http };
    Http::new(HttpArgs { policy, resolver, extra_roots_pem }).map_err(internal)
}

async fn open_store(options: &Options) -> Result<Arc<dyn Store>, EngineError> {
    if let Some(store) = &options.seams.store {
        return Ok(store.clone());
    }
    let Some(directory) = options.data.clone() else { return Ok(Arc::new(MemoryStore::new())) };
    let disk = options.seams.disk.clone().unwrap_or_else(|| Arc::new(embedded::journal::RealDisk));
    let options = embedded::Options {
        directory,
        segment_bytes: options.segment_bytes,
        cache_bytes: options.cache_bytes,
        accept_damage: options.accept_damage,
        disk,
        say: options.progress.clone(),
    };
    let opened = tokio::task::spawn_blocking(move || EmbeddedStore::open(options)).await;
    Ok(Arc::new(opened.map_err(internal)?.map_err(internal)?))
}

fn destination(kind: &str) -> Result<&'static dyn Destination, EngineError> {
    destinations::find(kind).ok_or_else(|| {
        let known: Vec<_> = destinations::ALL.iter().map(|destination| destination.spec().kind).collect();
        let msg = format!("must be one of: {}", known.join(", "));
        EngineError::Invalid(vec![FieldError::new("type", msg)])
    })
}

fn invalid(within: &str, errors: Vec<FieldError>) -> EngineError {
    EngineError::Invalid(errors.into_iter().map(|error| error.within(within)).collect())
}

fn check_policy(policy: &Policy) -> Result<(), EngineError> {
    policy.check().map_err(|err| EngineError::Invalid(vec![err.within("policy")]))
}

fn check_rule(rule: &Rule) -> Result<(), EngineError> {
    let action = destination(&rule.kind)?.check_action(&rule.metadata);
    action.map_err(|errors| invalid("metadata", errors))?;
    let action_bytes = serde_json::to_vec(&rule.metadata).map_err(internal)?.len();
    if action_bytes > ACTION_BYTES_MAX {
        let msg = format!("must be at most {ACTION_BYTES_MAX} bytes of JSON");
        return Err(EngineError::Invalid(vec![FieldError::new("metadata", msg)]));
    }
    CompiledRule::compile(rule).map(|_| ()).map_err(|err| EngineError::Invalid(vec![err]))
}

/// Names the field that a refusal of a rule is about.
fn of_conditions(err: EngineError) -> EngineError {
    match err {
        EngineError::Refused(Refusal::TooManyMatches(max)) => EngineError::Invalid(vec![FieldError::new(
            "conditions",
            format!("would bring the workspace beyond its {max} regular expressions (matches)"),
        )]),
        err => err,
    }
}

const fn connection_state(connection: &Connection) -> &'static str {
    match connection {
        Connection { inactive: Some(_), .. } => "inactive",
        Connection { paused: true, .. } => "paused",
        _ => "active",
    }
}

fn internal(err: impl std::error::Error) -> EngineError {
    let mut text = err.to_string();
    let mut source = err.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    EngineError::Internal(text)
}

impl From<StoreError> for EngineError {
    fn from(err: StoreError) -> Self {
        match err {
            StoreError::Refused(refusal) => Self::Refused(refusal),
            StoreError::Unavailable(why) => Self::Unavailable(why),
            StoreError::Fenced | StoreError::Damaged(_) => Self::Internal(err.to_string()),
        }
    }
}
