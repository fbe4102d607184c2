//! What is looked for, and what is found.

use super::*;

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
