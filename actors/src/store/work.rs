//! What is to be done, and what came of it: as the actors take it up and hand it back.

use super::*;

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
