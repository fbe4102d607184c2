//! The store: the one place that remembers.
//!
//! A trait of product verbs, each method one transaction. Above it nobody knows a log
//! position, a key layout or an engine. Every write carries the owner's [`Fence`], so that an
//! owner who was replaced changes nothing.

#[cfg(test)]
mod conformance;
pub mod embedded;
mod ledger;
pub mod memory;
mod state;

use crate::domain::{
    audit::{Act, AuditEntry, AuditFilter},
    catalog::Catalog,
    connection::Connection,
    delivery::{Delivery, Next, Outcome, ResponseDetails},
    event::{Event, Status, Tally},
    grant::Grant,
    ids::{
        AttemptId, AuditId, ConnectionId, DeliveryId, EventId, InvitationId, OrganizationId, ReplayId,
        RuleId, SessionId, UserId, WorkspaceId,
    },
    key::{MachineKey, PublishableKey},
    mapping::DefaultMapping,
    names::{Name, NameKind},
    plan::Retention,
    replay::{AsOf, Replay, ReplayFilter, ReplayState, Skip},
    routing::RuleVerdict,
    rule::Rule,
    session::{Over, Session},
    timestamp::Timestamp,
    usage::{Day, UsageRow},
    user::{Invitation, User},
    workspace::{Organization, Workspace},
};
use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// Rules a workspace may have.
pub const RULES_PER_WORKSPACE_MAX: usize = 10_000;
/// Connections a workspace may have.
pub const CONNECTIONS_PER_WORKSPACE_MAX: usize = 10_000;
/// Sessions a workspace may have that are not forgotten yet.
pub const SESSIONS_PER_WORKSPACE_MAX: usize = 50_000;
/// Machine keys an organization may have.
pub const MACHINE_KEYS_MAX: usize = 1_000;
/// Users an organization may have, and invitations beside them.
pub const USERS_MAX: usize = 1_000;
/// Older publishable keys a workspace may have beside its own.
pub const OLDER_KEYS_MAX: usize = 10;
/// The largest payload, in bytes, that fits a record together with all that may become of its event.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// How long an idempotency key is remembered.
pub const IDEMPOTENCY_KEPT: std::time::Duration = std::time::Duration::from_secs(24 * 3_600);

/// The epoch of the process that owns the store: a write under an older one is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fence(pub u64);

/// Why the store did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process owns the store now.
    #[error("this process no longer owns the store")]
    Fenced,
    /// No room, or the disk fails: nothing was accepted. Reads and deliveries go on.
    #[error("{0}")]
    Unavailable(Unavailable),
    /// The change does not fit what is there.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The data cannot be read. The text is for the operator's log, not for callers.
    #[error("the store is damaged: {0}")]
    Damaged(String),
}

/// Why nothing can be accepted at the moment. Each ends by itself once the cause is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    #[error("the disk is full: nothing was accepted; try again once there is room")]
    DiskFull,
    #[error("the disk fails to write: nothing was accepted; try again later")]
    DiskFails,
    #[error("too much is waiting to be written: nothing was accepted; try again in a moment")]
    Busy,
    #[error("the server is shutting down: nothing was accepted; try again in a moment")]
    Closing,
}

/// Why a change does not fit what is there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{0} not found")]
    NotFound(&'static str),
    /// A workspace or connection of that name is there already.
    #[error("{0} already exists")]
    NameTaken(&'static str),
    #[error("a rule with the same connection, event, resource and action already exists")]
    DuplicateRule,
    #[error("the connection has {0} rules; delete them first, or send force_delete")]
    HasRules(usize),
    #[error("{0} was changed meanwhile; read it again and repeat the change")]
    Stale(&'static str),
    #[error("a workspace has at most {0} {1}")]
    TooMany(usize, &'static str),
    /// The rules of a workspace have so many regular expressions at most.
    #[error("the rules of a workspace have at most {0} regular expressions together")]
    TooManyMatches(usize),
    #[error("the idempotency key was used for another event")]
    IdempotencyMismatch,
    #[error("the delivery is {}", .0.as_str())]
    Final(Status),
    /// Another one stands for its rule by now.
    #[error("the delivery was replayed; retry the delivery that its latest replay made")]
    Replayed,
    /// A replay cannot be told that.
    #[error("the replay is {}, so it cannot be {}", .0.as_str(), .1.as_str())]
    ReplayIs(ReplayState, ReplayState),
    #[error("an attempt is in flight or about to start")]
    InFlight,
    /// Nothing could come of a retry: the connection is gone.
    #[error("the delivery's connection was deleted")]
    ConnectionGone,
    #[error("the delivery's connection is inactive; mend it first, and what waits for it flows again")]
    ConnectionInactive,
    #[error("{0}")]
    SessionOver(Over),
    #[error("an organization has at most {0} machine keys")]
    TooManyKeys(usize),
    #[error("an organization has at most {0} {1}")]
    TooManyUsers(usize, &'static str),
    /// An organization that has owners keeps one.
    #[error("this is the organization's last owner; make somebody else an owner first")]
    LastOwner,
    #[error("the event's payload was damaged on disk and cannot be read any more; send the event again")]
    PayloadLost,
}

/// An event on its way in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewEvent {
    pub event: Event,
    /// As it was sent.
    pub payload: Bytes,
    pub idempotency: Option<Idempotency>,
}

/// What makes a repeated request the same request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idempotency {
    /// 1 to 255 visible ASCII characters.
    pub key: String,
    /// Hash of the request body.
    pub fingerprint: [u8; 32],
}

/// What became of an event handed to [`Store::append_events`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is on disk.
    New,
    /// The same request came before; this is the event it made.
    Repeated(Box<Event>),
}

/// Where rows are looked for: never beyond one organization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Organization(OrganizationId),
    Workspace(WorkspaceId),
}

/// A change of configuration: what is asked for, and once it passed, what the journal keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    CreateOrganization(Organization),
    CreateMachineKey(MachineKey),
    /// With the publishable key it starts with.
    CreateWorkspace(Box<(Workspace, PublishableKey)>),
    UpdateWorkspace(Workspace),
    CreateConnection(Connection),
    /// `version` must be one more than the stored one.
    UpdateConnection(Connection),
    DeleteConnection {
        id: ConnectionId,
        force: bool,
    },
    CreateRule(Rule),
    /// `version` must be one more than the stored one.
    UpdateRule(Rule),
    DeleteRule(RuleId),
    CreateSession(Box<Session>),
    /// `version` must be one more than the stored one.
    UpdateSession(Box<Session>),
    /// The workspace's sessions up to this one.
    ForgetSessions {
        workspace_id: WorkspaceId,
        through: SessionId,
    },
    /// The key signed a token, lately.
    UpdateMachineKey(MachineKey),
    DeleteMachineKey(String),
    /// A workspace as it is stored, and the publishable key that takes the place of its own; that is among the older ones.
    RotatePublishableKey(Box<(Workspace, PublishableKey)>),
    /// `version` must be one more than the stored one, which is 0 where there is none.
    SaveCatalog(Catalog),
    /// `version` must be one more than the stored one, or than that of a generated one where there is none.
    SaveMapping(DefaultMapping),
    /// `version` must be one more than the stored one, which is 0 where there is none.
    SaveGrant(Grant),
    /// Says something of a name, or of one that was not there.
    SaveName(Name),
    /// `version` must be one more than the stored one, which is 0 where there is none.
    SaveReplay(Box<Replay>),
    DeleteReplay(ReplayId),
    /// The test event of this id, which comes next, is to meet this rule alone.
    TestOne {
        workspace_id: WorkspaceId,
        event_id: EventId,
        rule_id: RuleId,
    },
    UpdateOrganization(Organization),
    CreateInvitation(Invitation),
    DeleteInvitation {
        organization_id: OrganizationId,
        id: InvitationId,
    },
    /// The invitation is used up, and makes a user.
    AcceptInvitation(Box<(InvitationId, User)>),
    /// A user as they are, said again.
    CreateUser(Box<User>),
    /// `version` must be one more than the stored one.
    UpdateUser(Box<User>),
    DeleteUser {
        organization_id: OrganizationId,
        id: UserId,
    },
    /// The organization's audit log up to this entry.
    ForgetAudit {
        organization_id: OrganizationId,
        through: AuditId,
    },
}

/// An accepted event that no rule has judged yet.
#[derive(Clone, Debug)]
pub struct Unrouted {
    /// Its place in the order of all that was accepted or configured.
    pub sequence: u64,
    pub event: Event,
    pub payload: Bytes,
}

/// A workspace's rules as they stood at one sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct RulesAsOf {
    /// In creation order.
    pub rules: Vec<Rule>,
    /// The sequence at which they changed next, if they did.
    pub until: Option<u64>,
}

/// An accepted event that no rule has judged yet, and whose payload cannot be read any more.
#[derive(Clone, Debug)]
pub struct Unreadable {
    /// Its place in the order of all that was accepted or configured.
    pub sequence: u64,
    pub event: Event,
}

/// What is to be routed, oldest first.
#[derive(Clone, Debug, Default)]
pub struct UnroutedPage {
    pub events: Vec<Unrouted>,
    /// Of the same page: they are routed, too, to fail where they may have had to go.
    pub unreadable: Vec<Unreadable>,
    /// The sequence of the last change to the workspace's rules: events after it meet today's rules.
    pub rules_changed_at: u64,
}

/// The outcome of routing one event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routed {
    pub event_id: EventId,
    pub at: Timestamp,
    pub matched: Vec<Matched>,
    /// Rules of the event's name that did not match, and why.
    pub unmatched: Vec<RuleVerdict>,
}

/// One rule that matched, as it stood when the event was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matched {
    pub rule_id: RuleId,
    pub connection_id: ConnectionId,
    pub destination: String,
    /// The rule's metadata as JSON text.
    pub action: String,
    pub created_by: String,
}

impl Matched {
    /// What a rule says is to be done.
    pub fn by(rule: &Rule) -> Self {
        Self {
            rule_id: rule.id,
            connection_id: rule.connection_id,
            destination: rule.kind.clone(),
            action: serde_json::to_string(&rule.metadata).expect("a JSON object is JSON"),
            created_by: rule.created_by.clone(),
        }
    }

    /// What it takes up in a record, at most.
    pub(crate) fn bytes(&self) -> usize {
        self.action.len() + self.destination.len() + self.created_by.len() + 64
    }
}

/// A delivery in a connection's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DueEntry {
    pub due: Timestamp,
    pub delivery_id: DeliveryId,
    pub event_id: EventId,
}

/// The head of a connection's queue.
#[derive(Clone, Debug, Default)]
pub struct DuePage {
    /// Due by the time asked for, earliest first.
    pub entries: Vec<DueEntry>,
    /// When the next one after these is due.
    pub next: Option<Timestamp>,
}

/// What came of taking a delivery up.
#[derive(Clone, Debug)]
pub enum Begun {
    /// It is yours.
    Work(Box<Work>),
    /// It is yours, to be failed: its payload, here empty, cannot be read any more.
    Unreadable(Box<Work>),
    /// It is not due any more: canceled, or taken up already.
    NotDue,
    /// The connection is not as it was: read it again first.
    ConnectionChanged,
}

/// Everything an attempt needs.
#[derive(Clone, Debug)]
pub struct Work {
    pub delivery: Delivery,
    pub event: Event,
    pub payload: Bytes,
}

/// A replay, and where the deliveries it made stand.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplayView {
    pub replay: Replay,
    pub tally: Tally,
}

/// What a replay finds in history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayPage {
    /// Deliveries that pass, oldest event first.
    pub found: Vec<ReplayFound>,
    /// The event to go on at, if there may be more.
    pub next: Option<EventId>,
}

/// A delivery that passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayFound {
    pub event: Event,
    pub delivery_id: DeliveryId,
    pub rule_id: RuleId,
    pub connection_id: ConnectionId,
    /// Why it is not to be done again, as far as its payload is not needed to say so.
    pub skip: Option<Skip>,
}

/// A delivery to be done again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Again {
    pub event_id: EventId,
    /// The one that stands for its rule.
    pub delivery_id: DeliveryId,
    /// What it is to do, if that is not what it did.
    pub matched: Option<Matched>,
}

/// One step of a replay.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplayStep {
    /// As it is to be, but for what is counted as queued; `version` must be one more than the stored one.
    pub replay: Replay,
    pub again: Vec<Again>,
    pub at: Timestamp,
}

/// An attempt that came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempted {
    pub delivery_id: DeliveryId,
    pub event_id: EventId,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    pub outcome: Outcome,
    pub http_status: Option<u16>,
    pub message: String,
    pub response: Option<ResponseDetails>,
    pub next: Next,
    /// What the next attempt has to know.
    #[serde(skip)] // see `Record::AttemptedNoting`
    pub notes: Option<String>,
}

/// How a connection must be spoken to after what happened, kept across restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// No attempt before this time.
    pub paused_until: Option<Timestamp>,
}

/// What waits for a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueDepth {
    pub waiting: u64,
}

/// What has become of an event so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventSummary {
    pub event: Event,
    pub status: Status,
    pub tally: Tally,
    pub started_at: Option<Timestamp>,
    pub completed_at: Option<Timestamp>,
}

/// An event with all that became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventDetails {
    pub summary: EventSummary,
    /// In rule order. A delivery in flight shows as `Processing`.
    pub deliveries: Vec<Delivery>,
    /// Rules of its name that did not match, and why.
    pub unmatched: Vec<RuleVerdict>,
}

/// Which events a page shows; absent means any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    pub event: Option<String>,
    pub resource: Option<String>,
    pub resource_id: Option<String>,
    pub status: Option<Status>,
    pub id: Option<EventId>,
    /// Accepted then or later, as the id tells.
    pub since: Option<Timestamp>,
    /// Accepted before, as the id tells.
    pub until: Option<Timestamp>,
    /// There is one delivery for which all of these hold.
    pub delivery: DeliveryFilter,
}

/// Of which deliveries one must stand for a rule of an event; absent means any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    pub rule: Option<RuleId>,
    pub connection: Option<ConnectionId>,
    /// What its last attempt led to.
    pub outcome: Option<Outcome>,
}

impl DeliveryFilter {
    /// Whether it asks for nothing.
    pub fn is_any(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a delivery is one of those.
    pub fn passes(&self, delivery: &Delivery) -> bool {
        let last = delivery.attempts.last().map(|attempt| attempt.outcome);
        self.rule.is_none_or(|rule| rule == delivery.rule_id)
            && self.connection.is_none_or(|connection| connection == delivery.connection_id)
            && self.outcome.is_none_or(|outcome| Some(outcome) == last)
    }
}

impl EventFilter {
    /// Whether an event passes, leaving aside its status and deliveries.
    pub fn passes(&self, event: &Event) -> bool {
        let Self { event: name, resource, resource_id, id, .. } = self;
        name.as_ref().is_none_or(|name| *name == event.name)
            && resource.as_ref().is_none_or(|resource| *resource == event.resource)
            && resource_id.as_ref().is_none_or(|id| Some(id) == event.resource_id.as_ref())
            && id.is_none_or(|id| id == event.id)
            && self.oldest().is_none_or(|oldest| event.id >= oldest)
            && self.newest_before().is_none_or(|before| event.id < before)
    }

    /// No event before this one passes.
    pub fn oldest(&self) -> Option<EventId> {
        self.since.map(EventId::first_at).max(self.id)
    }

    /// No event from this one on passes.
    pub fn newest_before(&self) -> Option<EventId> {
        let ids = [self.until.map(EventId::first_at), self.id.and_then(EventId::next)];
        ids.into_iter().flatten().min()
    }
}

/// A page of a list, and where the next one starts if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T, Id> {
    pub records: Vec<T>,
    pub next: Option<Id>,
}

/// Which rules a list shows; absent means any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleFilter {
    pub event: Option<String>,
    pub resource: Option<String>,
    pub resource_id: Option<String>,
}

/// Which sessions a list shows; absent means any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionFilter {
    pub revoked: Option<bool>,
    pub resource: Option<String>,
    pub resource_id: Option<String>,
}

impl SessionFilter {
    /// Whether the list shows this one.
    pub fn shows(&self, session: &Session) -> bool {
        let (resource, resource_id) = session.pair().unzip();
        self.revoked.is_none_or(|wanted| wanted == session.revoked_at.is_some())
            && self.resource.as_deref().is_none_or(|wanted| Some(wanted) == resource)
            && self.resource_id.as_deref().is_none_or(|wanted| Some(wanted) == resource_id)
    }
}

/// A workspace that has something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnfinishedWorkspace {
    pub id: WorkspaceId,
    /// When: now if events are unrouted, else when its earliest delivery is due.
    pub due: Timestamp,
}

/// One kind of connection in the count of what waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueReport {
    pub connection: Connection,
    pub waiting: u64,
    /// When the oldest of them was made.
    pub oldest: Timestamp,
}

/// How much an organization has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub workspaces: u64,
    pub connections: u64,
    pub rules: u64,
    pub members: u64,
}

/// What [`Store::verify`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    pub events: u64,
    pub deliveries: u64,
    pub finished: u64,
    pub scheduled: u64,
    pub unrouted: u64,
    /// What does not add up, a sentence each; at most [`VERIFY_FAULTS_MAX`].
    pub faults: Vec<String>,
}

/// Faults a verification lists before it only counts.
pub const VERIFY_FAULTS_MAX: usize = 1_000;

/// The store. See the module's text; errors are [`StoreError`] throughout.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// This owner's fence.
    fn fence(&self) -> Fence;

    /// The latest time on record: a clock that is earlier was set back.
    fn latest(&self) -> Timestamp;

    /// Puts events on disk. When it returns `New` for one, that one survives anything.
    /// Answers in the order given, one each. Events with an idempotency key are accepted once.
    async fn append_events(&self, fence: Fence, events: Vec<NewEvent>) -> Vec<Result<Appended, StoreError>>;

    /// The event that this one would repeat, by its idempotency key; refused if the key was used for another.
    async fn first_of(&self, new: &NewEvent) -> Result<Option<Event>, StoreError>;

    /// Changes the configuration. On disk when it returns `Ok`, and with it the entry in the audit log
    /// that `act` makes of it; `None`: it is nobody's business who did it.
    async fn configure(&self, fence: Fence, change: Change, act: Option<Act>) -> Result<(), StoreError>;

    /// Workspaces with unrouted events or queued deliveries, after `after`, by id.
    async fn unfinished(
        &self,
        after: Option<WorkspaceId>,
        limit: usize,
    ) -> Result<Vec<UnfinishedWorkspace>, StoreError>;

    /// When the workspace next has something to do, if ever.
    async fn next_due(&self, workspace: WorkspaceId) -> Result<Option<Timestamp>, StoreError>;

    /// Connections of a workspace with queued deliveries, and when their heads are due.
    async fn queues(&self, workspace: WorkspaceId) -> Result<Vec<(ConnectionId, Timestamp)>, StoreError>;

    /// Events to route, oldest first.
    async fn unrouted(&self, workspace: WorkspaceId, limit: usize) -> Result<UnroutedPage, StoreError>;

    /// The only rule that an unrouted test event is to meet, if it was made for one.
    async fn tested_rule(&self, workspace: WorkspaceId, event: EventId)
    -> Result<Option<RuleId>, StoreError>;

    /// The workspace's rules as they stood when `sequence` was given out.
    async fn rules_as_of(&self, workspace: WorkspaceId, sequence: u64) -> Result<RulesAsOf, StoreError>;

    /// Remembers what was routed and queues the deliveries, all or nothing per event. An event
    /// that is routed already is left as it is. Names not known yet are registered with it.
    async fn record_routing(
        &self,
        fence: Fence,
        workspace: WorkspaceId,
        routed: Vec<Routed>,
    ) -> Result<(), StoreError>;

    /// What is due by `until`, earliest first, leaving out what is in flight, and what is replayed.
    async fn due(
        &self,
        workspace: WorkspaceId,
        connection: ConnectionId,
        until: Timestamp,
        limit: usize,
    ) -> Result<DuePage, StoreError>;

    /// The same of what is replayed.
    async fn due_replayed(
        &self,
        workspace: WorkspaceId,
        connection: ConnectionId,
        until: Timestamp,
        limit: usize,
    ) -> Result<DuePage, StoreError>;

    /// Takes a due delivery up: it shows as processing until [`Self::record_attempts`] or
    /// [`Self::release`]. `connection_version` is the one the caller's credentials are from.
    async fn begin(
        &self,
        fence: Fence,
        workspace: WorkspaceId,
        connection: ConnectionId,
        connection_version: u64,
        entry: DueEntry,
    ) -> Result<Begun, StoreError>;

    /// Lets go of all that the connection has in flight: its actor starts anew.
    async fn release(&self, connection: ConnectionId);

    /// Remembers what attempts led to. It is visible at once and on disk within 250 ms; nobody
    /// waits for that, because losing it repeats an attempt and loses nothing.
    async fn record_attempts(
        &self,
        fence: Fence,
        workspace: WorkspaceId,
        attempts: Vec<Attempted>,
    ) -> Result<(), StoreError>;

    /// Calls off what is queued for a connection that is gone, a page at a time. Returns how many;
    /// fewer than `limit` means none are left.
    async fn cancel_queued(
        &self,
        fence: Fence,
        workspace: WorkspaceId,
        connection: ConnectionId,
        at: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError>;

    /// How the connection must be spoken to.
    async fn pace(&self, connection: ConnectionId) -> Result<Pace, StoreError>;

    /// Remembers how the connection must be spoken to.
    async fn record_pace(&self, fence: Fence, connection: ConnectionId, pace: Pace)
    -> Result<(), StoreError>;

    /// Makes a delivery due now, with a fresh retry schedule. Refused with
    /// [`Refusal::InFlight`] while processing or due within a second, [`Refusal::Final`] when
    /// completed or canceled, [`Refusal::Replayed`] when another stands for its rule, [`Refusal::ConnectionGone`] or [`Refusal::ConnectionInactive`] when
    /// it would not be attempted; a paused connection keeps it for later. On disk when it returns.
    async fn retry(
        &self,
        fence: Fence,
        scope: Scope,
        event: EventId,
        rule: RuleId,
        now: Timestamp,
        act: Option<Act>,
    ) -> Result<Delivery, StoreError>;

    /// Calls off one rule's delivery, or with `rule: None` all that are not final. Refused with
    /// [`Refusal::Final`] when there is nothing left to call off. On disk when it returns.
    async fn cancel(
        &self,
        fence: Fence,
        scope: Scope,
        event: EventId,
        rule: Option<RuleId>,
        now: Timestamp,
        act: Option<Act>,
    ) -> Result<EventDetails, StoreError>;

    /// An event with all that became of it.
    async fn event(&self, scope: Scope, id: EventId) -> Result<Option<EventDetails>, StoreError>;

    /// An event's payload, byte for byte.
    async fn payload(&self, scope: Scope, id: EventId) -> Result<Option<Bytes>, StoreError>;

    /// The response kept of a failed attempt.
    async fn response(
        &self,
        scope: Scope,
        event: EventId,
        attempt: AttemptId,
    ) -> Result<Option<ResponseDetails>, StoreError>;

    /// Events, newest first, after (that is, older than) `after`. A page may hold fewer than `limit`
    /// and still have a next one, when a rare filter would mean looking at too many.
    async fn events(
        &self,
        scope: Scope,
        filter: EventFilter,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<Page<EventSummary, EventId>, StoreError>;

    /// The same with their payloads; of one that cannot be read any more, none.
    async fn events_with_payloads(
        &self,
        scope: Scope,
        filter: EventFilter,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<Page<(EventSummary, Option<Bytes>), EventId>, StoreError>;

    /// An organization.
    async fn organization(&self, id: OrganizationId) -> Result<Option<Organization>, StoreError>;

    /// All organizations, by id.
    async fn organizations(
        &self,
        after: Option<OrganizationId>,
        limit: usize,
    ) -> Result<Page<Organization, OrganizationId>, StoreError>;

    /// A machine key by its access key.
    async fn machine_key(&self, access_key: &str) -> Result<Option<MachineKey>, StoreError>;

    /// An organization's machine keys, oldest first.
    async fn machine_keys(
        &self,
        organization: OrganizationId,
        after: Option<[u8; 16]>,
        limit: usize,
    ) -> Result<Page<MachineKey, [u8; 16]>, StoreError>;

    /// A user of an organization.
    async fn user(&self, organization: OrganizationId, id: UserId) -> Result<Option<User>, StoreError>;

    /// The user with this e-mail address.
    async fn user_by_email(&self, email: &str) -> Result<Option<User>, StoreError>;

    /// An organization's users, oldest first.
    async fn users(
        &self,
        organization: OrganizationId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Page<User, UserId>, StoreError>;

    /// An invitation that was neither used nor deleted.
    async fn invitation(
        &self,
        organization: OrganizationId,
        id: InvitationId,
    ) -> Result<Option<Invitation>, StoreError>;

    /// An organization's invitations, oldest first.
    async fn invitations(
        &self,
        organization: OrganizationId,
        after: Option<InvitationId>,
        limit: usize,
    ) -> Result<Page<Invitation, InvitationId>, StoreError>;

    /// An organization's audit log, newest first, after (that is, older than) `after`. A page may hold fewer
    /// than `limit` and still have a next one, when a rare filter would mean looking at too many.
    async fn audit(
        &self,
        organization: OrganizationId,
        filter: AuditFilter,
        after: Option<AuditId>,
        limit: usize,
    ) -> Result<Page<AuditEntry, AuditId>, StoreError>;

    /// Forgets what the audit log says of before this moment.
    async fn forget_audit(&self, fence: Fence, before: Timestamp) -> Result<(), StoreError>;

    /// A session.
    async fn session(&self, scope: Scope, id: SessionId) -> Result<Option<Session>, StoreError>;

    /// A workspace's sessions, newest first.
    async fn sessions(
        &self,
        workspace: WorkspaceId,
        filter: SessionFilter,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Page<Session, SessionId>, StoreError>;

    /// A publishable key by its hash, or the one that took its place and names it still.
    async fn publishable_key(&self, hash: [u8; 32]) -> Result<Option<PublishableKey>, StoreError>;

    /// The publishable key of a workspace.
    async fn publishable_key_of(&self, workspace: WorkspaceId) -> Result<Option<PublishableKey>, StoreError>;

    /// A workspace.
    async fn workspace(&self, scope: Scope, id: WorkspaceId) -> Result<Option<Workspace>, StoreError>;

    /// An organization's workspaces, oldest first.
    async fn workspaces(
        &self,
        organization: OrganizationId,
        after: Option<WorkspaceId>,
        limit: usize,
    ) -> Result<Page<Workspace, WorkspaceId>, StoreError>;

    /// A connection.
    async fn connection(&self, scope: Scope, id: ConnectionId) -> Result<Option<Connection>, StoreError>;

    /// Connections, oldest first.
    async fn connections(
        &self,
        scope: Scope,
        after: Option<ConnectionId>,
        limit: usize,
    ) -> Result<Page<Connection, ConnectionId>, StoreError>;

    /// The catalog of a connection, if it was ever read.
    async fn catalog(&self, scope: Scope, connection: ConnectionId) -> Result<Option<Catalog>, StoreError>;

    /// The default mapping of a connection, if one was saved.
    async fn mapping(
        &self,
        scope: Scope,
        connection: ConnectionId,
    ) -> Result<Option<DefaultMapping>, StoreError>;

    /// What a consent gave a connection, if it was connected so.
    async fn grant(&self, scope: Scope, connection: ConnectionId) -> Result<Option<Grant>, StoreError>;

    /// A rule.
    async fn rule(&self, scope: Scope, id: RuleId) -> Result<Option<Rule>, StoreError>;

    /// Rules, oldest first.
    async fn rules(
        &self,
        scope: Scope,
        filter: RuleFilter,
        after: Option<RuleId>,
        limit: usize,
    ) -> Result<Page<Rule, RuleId>, StoreError>;

    /// The names of a kind that a workspace has written down, in no order.
    async fn names(&self, workspace: WorkspaceId, kind: NameKind) -> Result<Vec<Name>, StoreError>;

    /// A replay.
    async fn replay(&self, scope: Scope, id: ReplayId) -> Result<Option<ReplayView>, StoreError>;

    /// A workspace's replays, newest first.
    async fn replays(
        &self,
        workspace: WorkspaceId,
        after: Option<ReplayId>,
        limit: usize,
    ) -> Result<Page<ReplayView, ReplayId>, StoreError>;

    /// Replays of all workspaces about which there is something to be done, after `after`, by id.
    async fn replays_under_way(
        &self,
        after: Option<ReplayId>,
        limit: usize,
    ) -> Result<Vec<ReplayView>, StoreError>;

    /// Past deliveries that pass, of events from `from` on, oldest first. A page ends with a whole event: it may
    /// hold more than `limit`, and fewer, even none, while there are more to look at.
    async fn replay_page(
        &self,
        workspace: WorkspaceId,
        filter: ReplayFilter,
        as_of: AsOf,
        from: Option<EventId>,
        limit: usize,
    ) -> Result<ReplayPage, StoreError>;

    /// Remembers how far a running replay is and queues the deliveries of that step, all or nothing. What does
    /// not stand any more, or is not final, is skipped. Refused with [`Refusal::Stale`] when the replay was
    /// changed meanwhile. Nobody waits for it to be on disk: losing it repeats the step under the same ids.
    async fn record_replayed(&self, fence: Fence, step: ReplayStep) -> Result<Replay, StoreError>;

    /// Calls off what a replay made and what waits still, but for what is in flight.
    async fn cancel_replayed(
        &self,
        fence: Fence,
        workspace: WorkspaceId,
        replay: ReplayId,
        at: Timestamp,
    ) -> Result<(), StoreError>;

    /// Connections that have deliveries waiting, after `after`.
    async fn queue_reports(
        &self,
        after: Option<(WorkspaceId, ConnectionId)>,
        limit: usize,
    ) -> Result<Page<QueueReport, (WorkspaceId, ConnectionId)>, StoreError>;

    /// What was used on these days, by workspace and day. A page may hold fewer than `limit` and still have a
    /// next one, where many workspaces used nothing.
    async fn usage(
        &self,
        scope: Scope,
        days: RangeInclusive<Day>,
        after: Option<(WorkspaceId, Day)>,
        limit: usize,
    ) -> Result<Page<UsageRow, (WorkspaceId, Day)>, StoreError>;

    /// How much an organization has, counted one by one.
    async fn held(&self, organization: OrganizationId) -> Result<Held, StoreError>;

    /// Forgets what workspaces no longer keep: sessions of two days ago, events that ended before their retention
    /// began, and usage after [`USAGE_DAYS_KEPT`](crate::domain::usage::USAGE_DAYS_KEPT) days. What waits still of
    /// an event that was accepted before its retention is called off, with the reason on record,
    /// and kept for as long again. Returns how many events went.
    async fn retain(&self, fence: Fence, now: Timestamp, keep: &Retention) -> Result<u64, StoreError>;

    /// Proves the ledger: every accepted event × matched rule is final or scheduled.
    async fn verify(&self) -> Result<Verification, StoreError>;

    /// Whether new events are accepted, and why not.
    fn availability(&self) -> Result<(), Unavailable>;

    /// Writes what is still in memory and closes. Later writes are refused.
    async fn close(&self) -> Result<(), StoreError>;
}
