//! The store: the one place that remembers.
//!
//! A trait of product verbs, each method one transaction. Above it nobody knows a log
//! position, a key layout or an engine. Every write carries the owner's [`Fence`], so that an
//! owner who was replaced changes nothing.

#[cfg(test)]
mod conformance;
pub mod embedded;
mod error;
mod found;
mod ledger;
pub mod memory;
mod state;
mod work;

pub use self::{error::*, found::*, work::*};

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
