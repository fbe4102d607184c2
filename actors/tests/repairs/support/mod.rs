//! A small world for one test: a store that outlives its engines, destinations that answer as told,
//! and tenants who send events.

mod fake;
mod store;

pub use actors::{
    clock::Clock,
    domain::{
        connection::{InactiveReason, Policy},
        delivery::Delivery,
        event::Status,
        ids::{ConnectionId, EventId, OrganizationId, RuleId, WorkspaceId},
        timestamp::Timestamp,
    },
    engine::{ConnectionPatch, ConnectionView, Engine, Faults, IngestRequest, Options, Scope},
    store::StoreError,
};
use actors::{
    engine::{NewConnection, NewRule},
    store::memory::MemoryStore,
    transport::resolve::Scripted,
};
use bytes::Bytes;
pub use fake::{Answer, Fake};
use serde_json::{Map, Value, json};
use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};
pub use store::GatedStore;
use tokio::time::{Instant, sleep};

/// When the tests' time begins: 2026-03-15T12:00:00Z.
pub const START: Timestamp = Timestamp(1_773_576_000_000);

/// What several engines, one after the other, live in.
pub struct World {
    pub store: Arc<GatedStore>,
    pub fake: Fake,
    /// What the next engine is started with, but for its clock.
    pub options: Options,
}

impl World {
    /// An empty store in memory; destinations that answer 200 at once; a schedule without jitter; 32 in flight.
    pub fn new() -> Self {
        let (store, fake) = (Arc::new(GatedStore::new(Arc::new(MemoryStore::new()))), Fake::default());
        let mut options = Options::new([7; 32]);
        // Nobody resolves a name here, and no machine need have a resolver configured.
        options.name_server = Some(SocketAddr::from(([127, 0, 0, 1], 9)));
        options.delivery.max_in_flight = 32;
        options.delivery.retry.jitter = 0.0;
        options.seams.store = Some(store.clone());
        // A real look-up takes real time, which paused time would run away from.
        options.seams.resolver = Some(Arc::new(Scripted::default()));
        options.seams.preparer = Some(Arc::new(fake.clone()));
        Self { store, fake, options }
    }

    /// The same, where actors fall as `script` says: it is told each place, and how often it was reached before.
    pub fn with_falls(script: impl Fn(&str, usize) -> bool + Send + Sync + 'static) -> Self {
        let counts = parking_lot::Mutex::new(std::collections::HashMap::<String, usize>::new());
        let mut world = Self::new();
        world.options.seams.faults = Faults::scripted(move |place| {
            let mut counts = counts.lock();
            let count = counts.entry(place.to_owned()).or_default();
            *count += 1;
            let falls = script(place, *count - 1);
            drop(counts);
            assert!(!falls, "as scripted, at {place}");
        });
        world
    }

    /// Starts an engine at [`START`], or at the latest time on record.
    pub async fn start(&self) -> Engine {
        self.start_at(START).await
    }

    /// Starts an engine whose machine's clock says `now`.
    pub async fn start_at(&self, now: Timestamp) -> Engine {
        let (clock, _) = Clock::tokio(now);
        Engine::start(Options { clock, ..self.options.clone() }).await.expect("it starts")
    }
}

/// One life of a process: a runtime of its own, its time paused. When `work` returns, all that still
/// runs in it ends at once, as by a kill; what is in the world's store stays.
pub fn life<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build().expect("a runtime");
    runtime.block_on(work)
}

/// One workspace, as its owner sees it.
#[derive(Clone)]
pub struct Tenant {
    pub engine: Engine,
    pub organization: OrganizationId,
    pub workspace: WorkspaceId,
}

impl Tenant {
    /// A new organization with one workspace.
    pub async fn new(engine: &Engine) -> Self {
        let organization = engine.create_organization("Acme").await.expect("an organization").id;
        let made = engine.create_workspace(organization, "Production".to_owned(), None).await;
        Self { engine: engine.clone(), organization, workspace: made.expect("a workspace").0.id }
    }

    /// The same tenant, met again in a later life.
    pub fn on(&self, engine: &Engine) -> Self {
        Self { engine: engine.clone(), ..self.clone() }
    }

    /// How far it sees.
    pub fn scope(&self) -> Scope {
        Scope::Workspace(self.workspace)
    }

    /// A connection, and a rule that sends it events of this name.
    pub async fn route_with(&self, event: &str, policy: Policy) -> (ConnectionId, RuleId) {
        let new = NewConnection {
            workspace_id: self.workspace,
            kind: "webhook".to_owned(),
            name: format!("to {event} {:016x}", rand::random::<u64>()),
            metadata: settings("https://hooks.example.com/in"),
            policy: Some(policy),
            hidden: false,
            created_by: "test".to_owned(),
        };
        let made = self.engine.create_connection(self.scope(), new).await;
        let connection = made.expect("a connection").connection.id;
        (connection, self.rule(connection, event, None).await)
    }

    /// A rule that sends a connection events of this name for which the conditions hold.
    pub async fn rule(&self, connection: ConnectionId, event: &str, conditions: Option<Value>) -> RuleId {
        let new = NewRule {
            workspace_id: self.workspace,
            connection_id: connection,
            event: event.to_owned(),
            resource: None,
            resource_id: None,
            metadata: object(json!({"action": "send_webhook"})),
            conditions,
            active: true,
            hidden: false,
            created_by: "test".to_owned(),
        };
        self.engine.create_rule(self.scope(), new).await.expect("a rule").id
    }

    /// The same, where the connection follows the server's policy.
    pub async fn route(&self, event: &str) -> ConnectionId {
        self.route_with(event, Policy::default()).await.0
    }

    /// A connection as its owner sees it.
    pub async fn view(&self, connection: ConnectionId) -> ConnectionView {
        let found = self.engine.connection(self.scope(), connection).await;
        found.expect("readable").expect("there")
    }

    /// Changes a connection.
    pub async fn patch(&self, connection: ConnectionId, patch: ConnectionPatch) {
        self.engine.update_connection(self.scope(), connection, patch).await.expect("it is changed");
    }

    /// An event as it is sent.
    pub fn request(&self, name: &str) -> IngestRequest {
        IngestRequest {
            organization_id: self.organization,
            workspace_id: self.workspace,
            name: name.to_owned(),
            resource: None,
            resource_id: None,
            payload: Bytes::from_static(br#"{"plan":"pro"}"#),
            created_by: "test".to_owned(),
            idempotency: None,
        }
    }

    /// Sends one event.
    pub async fn emit(&self, name: &str) -> EventId {
        self.emit_many(name, 1).await[0]
    }

    /// Sends events of one name, which must be accepted.
    pub async fn emit_many(&self, name: &str, count: usize) -> Vec<EventId> {
        let answers = self.engine.ingest(vec![self.request(name); count]).await;
        answers.into_iter().map(|answer| answer.expect("it is accepted").id).collect()
    }

    /// The only delivery of an event, if it is routed.
    pub async fn delivery(&self, event: EventId) -> Option<Delivery> {
        let found = self.engine.event(self.scope(), event).await;
        found.expect("it is readable").expect("it is kept").deliveries.pop()
    }

    /// The only delivery of an event, once it is final.
    pub async fn finished(&self, event: EventId, within: Duration) -> Delivery {
        until(within, "the delivery is final", async || {
            self.delivery(event).await.filter(|delivery| delivery.status.is_final())
        })
        .await
    }

    /// Waits until all of these are completed, and no longer than `within`.
    pub async fn all_completed(&self, events: &[EventId], within: Duration) {
        let started = Instant::now();
        for event in events {
            let left = within.saturating_sub(started.elapsed());
            assert_eq!(self.finished(*event, left).await.status, Status::Completed);
        }
    }
}

/// Settings of a webhook that is not tried out when they are saved.
pub fn settings(url: &str) -> Map<String, Value> {
    object(json!({"url": url, "skip_test": true}))
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().cloned().expect("an object")
}

/// Looks again and again, ever more rarely, and fails the test when `within` is over.
pub async fn until<T>(within: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let (started, mut pause) = (Instant::now(), Duration::from_millis(1));
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < within, "not within {within:?}: {what}");
        sleep(pause).await;
        pause = (pause * 3 / 2).min(secs(60));
    }
}

/// Lets everything run that has something to do now.
pub async fn settle() {
    sleep(ms(20)).await;
}

pub const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}
