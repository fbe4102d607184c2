//! A store with gates: calls can be held up before or after they do something, or made to fail.

use actors::{
    domain::{
        audit::{Act, AuditEntry, AuditFilter},
        catalog::Catalog,
        connection::Connection,
        delivery::{Delivery, ResponseDetails},
        event::Event,
        grant::Grant,
        ids::{
            AttemptId, AuditId, ConnectionId, EventId, InvitationId, OrganizationId, ReplayId, RuleId,
            SessionId, UserId, WorkspaceId,
        },
        key::{MachineKey, PublishableKey},
        mapping::DefaultMapping,
        names::{Name, NameKind},
        plan::Retention,
        replay::{AsOf, Replay, ReplayFilter},
        rule::Rule,
        session::Session,
        timestamp::Timestamp,
        usage::{Day, UsageRow},
        user::{Invitation, User},
        workspace::{Organization, Workspace},
    },
    store::{
        Appended, Attempted, Begun, Change, DueEntry, DuePage, EventDetails, EventFilter, EventSummary,
        Fence, Held, NewEvent, Pace, Page, QueueReport, ReplayPage, ReplayStep, ReplayView, Routed,
        RuleFilter, RulesAsOf, Scope, SessionFilter, Store, StoreError, Unavailable, UnfinishedWorkspace,
        UnroutedPage, Verification,
    },
};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use std::{
    collections::{HashMap, HashSet},
    ops::RangeInclusive,
    sync::Arc,
};
use tokio::sync::watch;

/// Decides whether a call fails: told the gate, and how often it was passed before.
type Script = Arc<dyn Fn(&str, usize) -> Option<StoreError> + Send + Sync>;

/// A store behind gates: `method` before a call, and `method, done` after it.
pub struct GatedStore {
    inner: Arc<dyn Store>,
    counts: Mutex<HashMap<&'static str, usize>>,
    script: Mutex<Option<Script>>,
    held: watch::Sender<HashSet<&'static str>>,
}

impl GatedStore {
    pub fn new(inner: Arc<dyn Store>) -> Self {
        let (held, _) = watch::channel(HashSet::new());
        Self { inner, counts: Mutex::default(), script: Mutex::default(), held }
    }

    /// How often a gate was reached.
    pub fn count(&self, gate: &str) -> usize {
        self.counts.lock().get(gate).copied().unwrap_or(0)
    }

    /// From here on nobody passes this gate.
    pub fn hold(&self, gate: &'static str) {
        self.held.send_modify(|held| {
            held.insert(gate);
        });
    }

    /// Lets those go that wait.
    pub fn let_go(&self, gate: &'static str) {
        self.held.send_modify(|held| {
            held.remove(gate);
        });
    }

    /// From here on calls fail as `script` says.
    pub fn fail(&self, script: impl Fn(&str, usize) -> Option<StoreError> + Send + Sync + 'static) {
        *self.script.lock() = Some(Arc::new(script));
    }

    async fn pass(&self, gate: &'static str) -> Result<(), StoreError> {
        let before = {
            let mut counts = self.counts.lock();
            let count = counts.entry(gate).or_default();
            *count += 1;
            *count - 1
        };
        let open = self.held.subscribe().wait_for(|held| !held.contains(gate)).await.map(drop);
        open.expect("the sender is here");
        let script = self.script.lock().clone();
        script.and_then(|script| script(gate, before)).map_or(Ok(()), Err)
    }
}

/// The methods that only pass on; those with another shape stand above them.
macro_rules! gated {
    ({ $($own:tt)* } $($name:ident($($arg:ident: $kind:ty),*) -> $found:ty;)*) => {
        #[async_trait]
        impl Store for GatedStore {
            $($own)*

            $(async fn $name(&self, $($arg: $kind),*) -> Result<$found, StoreError> {
                self.pass(stringify!($name)).await?;
                let found = self.inner.$name($($arg),*).await?;
                self.pass(concat!(stringify!($name), ", done")).await?;
                Ok(found)
            })*
        }
    };
}

gated! {
    {
        fn fence(&self) -> Fence {
            self.inner.fence()
        }

        fn latest(&self) -> Timestamp {
            self.inner.latest()
        }

        fn availability(&self) -> Result<(), Unavailable> {
            self.inner.availability()
        }

        async fn append_events(&self, fence: Fence, events: Vec<NewEvent>) -> Vec<Result<Appended, StoreError>> {
            let count = events.len();
            let appended = self.inner.append_events(fence, events).await;
            match self.pass("append_events, done").await {
                Ok(()) => appended,
                Err(err) => vec![Err(err); count],
            }
        }

        async fn release(&self, connection: ConnectionId) {
            self.inner.release(connection).await;
        }
    }
    configure(fence: Fence, change: Change, act: Option<Act>) -> ();
    first_of(new: &NewEvent) -> Option<Event>;
    unfinished(after: Option<WorkspaceId>, limit: usize) -> Vec<UnfinishedWorkspace>;
    next_due(workspace: WorkspaceId) -> Option<Timestamp>;
    queues(workspace: WorkspaceId) -> Vec<(ConnectionId, Timestamp)>;
    unrouted(workspace: WorkspaceId, limit: usize) -> UnroutedPage;
    tested_rule(workspace: WorkspaceId, event: EventId) -> Option<RuleId>;
    rules_as_of(workspace: WorkspaceId, sequence: u64) -> RulesAsOf;
    record_routing(fence: Fence, workspace: WorkspaceId, routed: Vec<Routed>) -> ();
    due(workspace: WorkspaceId, connection: ConnectionId, until: Timestamp, limit: usize) -> DuePage;
    due_replayed(workspace: WorkspaceId, connection: ConnectionId, until: Timestamp, limit: usize) -> DuePage;
    begin(fence: Fence, workspace: WorkspaceId, connection: ConnectionId, version: u64, entry: DueEntry) -> Begun;
    record_attempts(fence: Fence, workspace: WorkspaceId, attempts: Vec<Attempted>) -> ();
    cancel_queued(fence: Fence, workspace: WorkspaceId, connection: ConnectionId, at: Timestamp, limit: usize) -> usize;
    pace(connection: ConnectionId) -> Pace;
    record_pace(fence: Fence, connection: ConnectionId, pace: Pace) -> ();
    retry(fence: Fence, scope: Scope, event: EventId, rule: RuleId, now: Timestamp, act: Option<Act>) -> Delivery;
    cancel(fence: Fence, scope: Scope, event: EventId, rule: Option<RuleId>, now: Timestamp, act: Option<Act>) -> EventDetails;
    event(scope: Scope, id: EventId) -> Option<EventDetails>;
    payload(scope: Scope, id: EventId) -> Option<Bytes>;
    response(scope: Scope, event: EventId, attempt: AttemptId) -> Option<ResponseDetails>;
    events(scope: Scope, filter: EventFilter, after: Option<EventId>, limit: usize) -> Page<EventSummary, EventId>;
    events_with_payloads(scope: Scope, filter: EventFilter, after: Option<EventId>, limit: usize) -> Page<(EventSummary, Option<Bytes>), EventId>;
    organization(id: OrganizationId) -> Option<Organization>;
    organizations(after: Option<OrganizationId>, limit: usize) -> Page<Organization, OrganizationId>;
    machine_key(access_key: &str) -> Option<MachineKey>;
    machine_keys(organization: OrganizationId, after: Option<[u8; 16]>, limit: usize) -> Page<MachineKey, [u8; 16]>;
    user(organization: OrganizationId, id: UserId) -> Option<User>;
    user_by_email(email: &str) -> Option<User>;
    users(organization: OrganizationId, after: Option<UserId>, limit: usize) -> Page<User, UserId>;
    invitation(organization: OrganizationId, id: InvitationId) -> Option<Invitation>;
    invitations(organization: OrganizationId, after: Option<InvitationId>, limit: usize) -> Page<Invitation, InvitationId>;
    audit(organization: OrganizationId, filter: AuditFilter, after: Option<AuditId>, limit: usize) -> Page<AuditEntry, AuditId>;
    forget_audit(fence: Fence, before: Timestamp) -> ();
    session(scope: Scope, id: SessionId) -> Option<Session>;
    sessions(workspace: WorkspaceId, filter: SessionFilter, after: Option<SessionId>, limit: usize) -> Page<Session, SessionId>;
    publishable_key(hash: [u8; 32]) -> Option<PublishableKey>;
    publishable_key_of(workspace: WorkspaceId) -> Option<PublishableKey>;
    workspace(scope: Scope, id: WorkspaceId) -> Option<Workspace>;
    workspaces(organization: OrganizationId, after: Option<WorkspaceId>, limit: usize) -> Page<Workspace, WorkspaceId>;
    connection(scope: Scope, id: ConnectionId) -> Option<Connection>;
    connections(scope: Scope, after: Option<ConnectionId>, limit: usize) -> Page<Connection, ConnectionId>;
    catalog(scope: Scope, connection: ConnectionId) -> Option<Catalog>;
    mapping(scope: Scope, connection: ConnectionId) -> Option<DefaultMapping>;
    grant(scope: Scope, connection: ConnectionId) -> Option<Grant>;
    rule(scope: Scope, id: RuleId) -> Option<Rule>;
    rules(scope: Scope, filter: RuleFilter, after: Option<RuleId>, limit: usize) -> Page<Rule, RuleId>;
    names(workspace: WorkspaceId, kind: NameKind) -> Vec<Name>;
    replay(scope: Scope, id: ReplayId) -> Option<ReplayView>;
    replays(workspace: WorkspaceId, after: Option<ReplayId>, limit: usize) -> Page<ReplayView, ReplayId>;
    replays_under_way(after: Option<ReplayId>, limit: usize) -> Vec<ReplayView>;
    replay_page(workspace: WorkspaceId, filter: ReplayFilter, as_of: AsOf, from: Option<EventId>, limit: usize) -> ReplayPage;
    record_replayed(fence: Fence, step: ReplayStep) -> Replay;
    cancel_replayed(fence: Fence, workspace: WorkspaceId, replay: ReplayId, at: Timestamp) -> ();
    queue_reports(after: Option<(WorkspaceId, ConnectionId)>, limit: usize) -> Page<QueueReport, (WorkspaceId, ConnectionId)>;
    usage(scope: Scope, days: RangeInclusive<Day>, after: Option<(WorkspaceId, Day)>, limit: usize) -> Page<UsageRow, (WorkspaceId, Day)>;
    held(organization: OrganizationId) -> Held;
    retain(fence: Fence, now: Timestamp, keep: &Retention) -> u64;
    verify() -> Verification;
    close() -> ();
}
