//! A store that counts what is asked of it, and can be held up or made to fail.

use actors::{
    domain::{
        audit::{Act, AuditEntry, AuditFilter},
        catalog::Catalog,
        connection::Connection,
        delivery::{Delivery, ResponseDetails},
        event::Event,
        grant::Grant,
        ids::{
            AttemptId, AuditId, ConnectionId, DeliveryId, EventId, InvitationId, OrganizationId, ReplayId,
            RuleId, SessionId, UserId, WorkspaceId,
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

/// Decides whether a call fails. It is told the method and how often it was called before.
type Script = Arc<dyn Fn(&str, usize) -> Option<StoreError> + Send + Sync>;

/// A store behind a counter, gates and scripted failures.
pub struct WatchedStore {
    inner: Arc<dyn Store>,
    counts: Mutex<HashMap<&'static str, usize>>,
    script: Mutex<Option<Script>>,
    held: watch::Sender<HashSet<&'static str>>,
    /// Deliveries taken up, whose attempt is not on record.
    in_hand: Mutex<HashMap<DeliveryId, ConnectionId>>,
    /// Those of them that an actor let go of as it started: they were in hand when an earlier one fell.
    lost: Mutex<HashSet<DeliveryId>>,
    /// Events whose deliveries cannot be taken up.
    damaged: Mutex<HashSet<EventId>>,
}

impl WatchedStore {
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self {
            inner,
            counts: Mutex::default(),
            script: Mutex::default(),
            held: watch::Sender::default(),
            in_hand: Mutex::default(),
            lost: Mutex::default(),
            damaged: Mutex::default(),
        }
    }

    /// How often a method was called.
    pub fn count(&self, method: &str) -> usize {
        self.counts.lock().get(method).copied().unwrap_or(0)
    }

    /// From here on calls of this method wait before they do anything.
    pub fn hold(&self, method: &'static str) {
        self.held.send_modify(|held| {
            held.insert(method);
        });
    }

    /// Lets those go that wait.
    pub fn let_go(&self, method: &'static str) {
        self.held.send_modify(|held| {
            held.remove(method);
        });
    }

    /// From here on calls fail as `script` says.
    pub fn fail(&self, script: impl Fn(&str, usize) -> Option<StoreError> + Send + Sync + 'static) {
        *self.script.lock() = Some(Arc::new(script));
    }

    /// From here on everything works.
    pub fn mend(&self) {
        *self.script.lock() = None;
    }

    /// Taking up a delivery of this event fails from here on, or works again.
    pub fn damage(&self, event: EventId, damaged: bool) {
        let mut events = self.damaged.lock();
        if damaged {
            events.insert(event)
        } else {
            events.remove(&event)
        };
    }

    /// Deliveries taken up, whose attempt is not on record.
    pub fn in_hand(&self) -> usize {
        self.in_hand.lock().len()
    }

    /// Deliveries that were in hand when their connection's actor ended.
    pub fn lost(&self) -> HashSet<DeliveryId> {
        self.lost.lock().clone()
    }

    fn lose(&self, connection: ConnectionId) {
        let mut in_hand = self.in_hand.lock();
        self.lost.lock().extend(in_hand.extract_if(|_, of| *of == connection).map(|(id, _)| id));
    }

    async fn pass(&self, method: &'static str) -> Result<(), StoreError> {
        let before = {
            let mut counts = self.counts.lock();
            let count = counts.entry(method).or_default();
            *count += 1;
            *count - 1
        };
        let open = self.held.subscribe().wait_for(|held| !held.contains(method)).await.map(drop);
        open.expect("the sender is here");
        let script = self.script.lock().clone();
        script.and_then(|script| script(method, before)).map_or(Ok(()), Err)
    }
}

/// The methods that only pass on; those with more to do stand above them.
macro_rules! watched {
    ({ $($own:tt)* } $($name:ident($($arg:ident: $kind:ty),*) -> $found:ty;)*) => {
        #[async_trait]
        impl Store for WatchedStore {
            $($own)*

            $(async fn $name(&self, $($arg: $kind),*) -> Result<$found, StoreError> {
                self.pass(stringify!($name)).await?;
                self.inner.$name($($arg),*).await
            })*
        }
    };
}

watched! {
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

        async fn append_events(
            &self,
            fence: Fence,
            events: Vec<NewEvent>,
        ) -> Vec<Result<Appended, StoreError>> {
            match self.pass("append_events").await {
                Ok(()) => self.inner.append_events(fence, events).await,
                Err(err) => vec![Err(err); events.len()],
            }
        }

        async fn begin(
            &self,
            fence: Fence,
            workspace: WorkspaceId,
            connection: ConnectionId,
            connection_version: u64,
            entry: DueEntry,
        ) -> Result<Begun, StoreError> {
            self.pass("begin").await?;
            if self.damaged.lock().contains(&entry.event_id) {
                return Err(StoreError::Damaged("as scripted".to_owned()));
            }
            let begun = self.inner.begin(fence, workspace, connection, connection_version, entry).await?;
            if let Begun::Work(work) = &begun {
                self.in_hand.lock().insert(work.delivery.id, connection);
            }
            Ok(begun)
        }

        async fn record_attempts(
            &self,
            fence: Fence,
            workspace: WorkspaceId,
            attempts: Vec<Attempted>,
        ) -> Result<(), StoreError> {
            self.pass("record_attempts").await?;
            let ids: Vec<DeliveryId> = attempts.iter().map(|attempted| attempted.delivery_id).collect();
            self.inner.record_attempts(fence, workspace, attempts).await?;
            self.in_hand.lock().retain(|id, _| !ids.contains(id));
            Ok(())
        }

        async fn release(&self, connection: ConnectionId) {
            self.lose(connection);
            self.inner.release(connection).await;
        }

        /// A store in memory would not open again: the next life finds it as it was.
        async fn close(&self) -> Result<(), StoreError> {
            self.pass("close").await
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
}
