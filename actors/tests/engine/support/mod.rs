//! A small world for one test: a store that outlives its engines, destinations that answer as told,
//! and tenants who send events.

pub mod fake;
pub mod gauges;
pub mod store;

pub use actors::{
    clock::{Clock, ClockLever},
    domain::{
        connection::{InactiveReason, Policy},
        delivery::{Delivery, Outcome},
        event::Status,
        ids::{ConnectionId, DeliveryId, EventId, OrganizationId, RuleId, WorkspaceId},
        retry::RetryPolicy,
        timestamp::Timestamp,
    },
    engine::{
        ConnectionPatch, Engine, EngineError, EventDetails, Faults, IngestRequest, NewConnection, NewRule,
        Options, RulePatch, Scope,
    },
    store::memory::MemoryStore,
};
use bytes::Bytes;
pub use fake::{Answer, Call, Fake};
use serde_json::{Map, Value, json};
use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};
pub use store::WatchedStore;
use tokio::time::{Instant, sleep};

/// When the tests' time begins: 2026-03-15T12:00:00Z.
pub const START: Timestamp = Timestamp(1_773_576_000_000);

/// What several engines, one after the other, live in.
#[derive(Clone)]
pub struct World {
    pub store: Arc<WatchedStore>,
    pub fake: Fake,
    /// What the next engine is started with, but for its clock.
    pub options: Options,
}

impl World {
    /// An empty store in memory; destinations that answer 200 at once; a schedule without jitter; 32 in flight.
    pub fn new() -> Self {
        let (store, fake) = (Arc::new(WatchedStore::new(Arc::new(MemoryStore::new()))), Fake::default());
        let mut options = Options::new([7; 32]);
        // Nobody resolves a name here, and no machine need have a resolver configured.
        options.name_server = Some(SocketAddr::from(([127, 0, 0, 1], 9)));
        options.delivery.max_in_flight = 32;
        options.delivery.retry.jitter = 0.0;
        options.seams.store = Some(store.clone());
        // A real look-up takes real time, which paused time would run away from.
        options.seams.resolver = Some(Arc::new(actors::transport::resolve::Scripted::default()));
        options.seams.preparer = Some(Arc::new(fake.clone()));
        Self { store, fake, options }
    }

    /// The same, with a script of faults.
    pub fn with_faults(script: impl Fn(&str) + Send + Sync + 'static) -> Self {
        let mut world = Self::new();
        world.options.seams.faults = Faults::scripted(script);
        world
    }

    /// Starts an engine at [`START`], or at the latest time on record.
    pub async fn start(&self) -> Engine {
        self.start_at(START).await.0
    }

    /// Starts an engine whose machine's clock says `now`. The lever sets that clock.
    pub async fn start_at(&self, now: Timestamp) -> (Engine, ClockLever) {
        let (clock, lever) = Clock::tokio(now);
        let engine = Engine::start(Options { clock, ..self.options.clone() }).await.expect("it starts");
        (engine, lever)
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

    /// A connection that follows the server's policy.
    pub async fn connect(&self, name: &str) -> ConnectionId {
        self.connect_with(name, Policy::default()).await
    }

    /// A connection with a policy of its own.
    pub async fn connect_with(&self, name: &str, policy: Policy) -> ConnectionId {
        let new = NewConnection {
            workspace_id: self.workspace,
            kind: "webhook".to_owned(),
            name: name.to_owned(),
            metadata: object(json!({"url": "https://hooks.example.com/in", "skip_test": true})),
            policy: Some(policy),
            hidden: false,
            created_by: "test".to_owned(),
        };
        let made = self.engine.create_connection(self.scope(), new).await;
        made.expect("a connection").connection.id
    }

    /// A rule for an event name or pattern.
    pub async fn rule(&self, connection: ConnectionId, event: &str) -> RuleId {
        self.rule_with(connection, event, |_| {}).await
    }

    /// A rule, changed before it is made.
    pub async fn rule_with(
        &self,
        connection_id: ConnectionId,
        event: &str,
        change: impl FnOnce(&mut NewRule),
    ) -> RuleId {
        let mut new = NewRule {
            workspace_id: self.workspace,
            connection_id,
            event: event.to_owned(),
            resource: None,
            resource_id: None,
            metadata: object(json!({"action": "send_webhook"})),
            conditions: None,
            active: true,
            hidden: false,
            created_by: "test".to_owned(),
        };
        change(&mut new);
        self.engine.create_rule(self.scope(), new).await.expect("a rule").id
    }

    /// A connection and a rule that sends it events of this name.
    pub async fn route(&self, event: &str) -> ConnectionId {
        let connection = self.connect(&format!("to {event}")).await;
        self.rule(connection, event).await;
        connection
    }

    /// Changes a connection.
    pub async fn patch(&self, connection: ConnectionId, patch: ConnectionPatch) {
        self.engine.update_connection(self.scope(), connection, patch).await.expect("it is changed");
    }

    /// Pauses or resumes a connection.
    pub async fn pause(&self, connection: ConnectionId, paused: bool) {
        self.patch(connection, ConnectionPatch { paused: Some(paused), ..Default::default() }).await;
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
        self.emit_all(vec![self.request(name)]).await[0]
    }

    /// Sends events of one name.
    pub async fn emit_many(&self, name: &str, count: usize) -> Vec<EventId> {
        self.emit_all(vec![self.request(name); count]).await
    }

    /// Sends events, which must be accepted.
    pub async fn emit_all(&self, requests: Vec<IngestRequest>) -> Vec<EventId> {
        let answers = self.engine.ingest(requests).await;
        answers.into_iter().map(|answer| answer.expect("it is accepted").id).collect()
    }

    /// An event, with all that became of it.
    pub async fn event(&self, event: EventId) -> EventDetails {
        let found = self.engine.event(self.scope(), event).await;
        found.expect("it is readable").expect("it is kept")
    }

    /// The only delivery of an event, if it is routed.
    pub async fn delivery(&self, event: EventId) -> Option<Delivery> {
        let mut deliveries = self.event(event).await.deliveries;
        assert!(deliveries.len() <= 1, "one rule, one delivery");
        deliveries.pop()
    }

    /// The only delivery of an event, once it is final; at most ten days from now.
    pub async fn finished(&self, event: EventId) -> Delivery {
        until(days(10), "the delivery is final", async || {
            self.delivery(event).await.filter(|delivery| delivery.status.is_final())
        })
        .await
    }

    /// The only delivery of an event, once it has been tried so often.
    pub async fn tried(&self, event: EventId, attempts: u32) -> Delivery {
        until(days(10), "the delivery has been tried", async || {
            self.delivery(event).await.filter(|delivery| delivery.attempt_count >= attempts)
        })
        .await
    }

    /// Waits until all of these are completed, and no longer than `within`.
    pub async fn all_completed(&self, events: &[EventId], within: Duration) {
        let started = Instant::now();
        for event in events {
            let left = within.saturating_sub(started.elapsed());
            let status = until(left, "all events are final", async || {
                let status = self.event(*event).await.summary.status;
                status.is_final().then_some(status)
            });
            assert_eq!(status.await, Status::Completed);
        }
    }
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
    sleep(Duration::from_millis(20)).await;
}

/// How long from one moment to a later one.
pub fn span(from: Timestamp, to: Timestamp) -> Duration {
    assert!(from <= to, "{to} is before {from}");
    to.since(from)
}

pub fn object(value: Value) -> Map<String, Value> {
    value.as_object().cloned().expect("an object")
}

pub const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub const fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours * 3_600)
}

pub const fn days(days: u64) -> Duration {
    hours(days * 24)
}

/// Chance that is the same every time (xorshift64*).
pub struct Chance(pub u64);

impl Chance {
    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = (self.0 ^ 0x9E37_79B9_7F4A_7C15).wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }
}
