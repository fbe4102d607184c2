//! The state: what the records add up to, and the checks a change must pass first.
//!
//! One logic for every store that keeps ordered keys: [`State::apply`] is the only place that
//! writes the view, and it is the same for a record of just now and for one read back from the
//! journal years later. A transaction checks, makes a record, applies it and puts it in the
//! outbox; whoever owns the state takes the outbox to its log, in order.

mod access;
mod apply;
mod audit;
mod change;
mod claims;
mod deliveries;
mod history;
pub mod keys;
mod names;
mod queue;
pub mod record;
mod replays;
mod retention;
pub mod usage;
mod users;
pub mod verify;

use super::*;
use crate::domain::{
    delivery::{ATTEMPTS_KEPT, Attempt},
    routing::VERDICTS_MAX,
};
pub use access::SESSION_KEPT;
use claims::Claims;
use keys::{Filter, Key};
use names::Registered;
use record::{Carried, MATCHES_BYTES_MAX, RECORD_BYTES_MAX, Record};
pub use retention::CalledOff;
use std::collections::{HashMap, HashSet};

/// Ordered keys and values: what a state is kept in.
pub trait View {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;
    /// Sets the value of a key.
    fn put(&mut self, key: Key, value: Vec<u8>);
    /// Sets the value of a key that is known not to be there, which may save work when it goes again.
    fn put_new(&mut self, key: Key, value: Vec<u8>) {
        self.put(key, value);
    }
    /// Removes a key, if it is there.
    fn delete(&mut self, key: Key);
    /// What was read does not make sense: the view is not to be relied on.
    fn distrust(&self, _why: &str) {}
    /// Shows the pairs with `from` ≤ key < `to`, in order, until `visit` answers `false`.
    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visit<'_>) -> Result<(), StoreError>;
}

/// Is shown pairs; `false` ends the scan.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<bool, StoreError>;

/// The order of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Ascending,
    Descending,
}

/// Where a record lies. `segment` 0: only its sequence is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub sequence: u64,
    pub segment: u64,
    pub offset: u32,
}

impl Place {
    /// The place of a record of which only the sequence is known.
    pub const fn of(sequence: u64) -> Self {
        Self { sequence, segment: 0, offset: 0 }
    }
}

/// An event and what became of it, as the view keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredEvent {
    pub event: Event,
    /// The record with its payload.
    pub place: Place,
    /// Its place in the order of all that was accepted or configured.
    pub sequence: u64,
    pub routed: bool,
    /// Canceled before any rule judged it.
    pub called_off: bool,
    /// The record that says which rules of its name did not match.
    pub unmatched_at: Option<u64>,
    pub tally: Tally,
    pub started_at: Option<Timestamp>,
    pub completed_at: Option<Timestamp>,
}

impl StoredEvent {
    /// What the deliveries add up to, leaving aside what is in flight.
    pub fn status(&self) -> Status {
        match self {
            Self { called_off: true, .. } => Status::Canceled,
            Self { routed: true, tally, .. } => tally.status(),
            _ => Status::Pending,
        }
    }

    /// Whether it was over before `cutoff`.
    pub fn ended_before(&self, cutoff: Timestamp) -> bool {
        self.status().is_final() && self.completed_at.unwrap_or(self.event.accepted_at) < cutoff
    }
}

/// A row of configuration, and the record it is from.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Row<T> {
    at: u64,
    row: T,
}

/// What an idempotency key stands for.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Remembered {
    event_id: EventId,
    fingerprint: [u8; 32],
    at: Timestamp,
}

/// The state over a view.
pub struct State<V> {
    pub view: V,
    next_sequence: u64,
    fence: Fence,
    is_closed: bool,
    /// What happens is news, not read back from a log.
    is_live: bool,
    latest: Timestamp,
    claims: Claims,
    registered: Registered,
    gathered: usage::Gathered,
    /// Encoded records that are applied and not yet on their way to the log.
    outbox: Vec<Vec<u8>>,
    outbox_bytes: usize,
}

/// What is to be decided about an event that wants in.
pub enum Admission {
    /// It has this sequence now; apply it once it is durable.
    New(u64),
    Repeated(Box<Event>),
}

impl<V: View> State<V> {
    /// A state over a view that holds everything before `next_sequence`.
    pub fn new(view: V, next_sequence: u64) -> Self {
        Self {
            view,
            next_sequence,
            fence: Fence(0),
            is_closed: false,
            is_live: false,
            latest: Timestamp(0),
            claims: Claims::default(),
            registered: Registered::default(),
            gathered: usage::Gathered::new(),
            outbox: Vec::new(),
            outbox_bytes: 0,
        }
    }

    /// The sequence the next record gets.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Bytes waiting in the outbox.
    pub fn outbox_bytes(&self) -> usize {
        self.outbox_bytes
    }

    /// Takes what is waiting to be logged, in order.
    pub fn take_outbox(&mut self) -> Vec<Vec<u8>> {
        self.outbox_bytes = 0;
        std::mem::take(&mut self.outbox)
    }

    /// The latest time on record.
    pub fn latest(&self) -> Timestamp {
        self.latest
    }

    /// Takes the store over: writes under an older fence are refused from here on.
    pub fn open(&mut self) -> Result<Fence, StoreError> {
        let last = self.load::<u64>(keys::EPOCH)?.unwrap_or(0);
        self.latest = self.load(keys::LATEST)?.unwrap_or_default();
        self.commit(Record::Opened { epoch: last + 1 })?;
        self.is_live = true;
        Ok(self.fence)
    }

    /// Takes no more writes, but for what is on its way to the log already.
    pub fn close(&mut self) {
        self.is_closed = true;
    }

    /// Refuses who may not write: after the end nobody may.
    pub fn check(&self, fence: Fence) -> Result<(), StoreError> {
        if self.is_closed {
            return Err(StoreError::Unavailable(Unavailable::Closing));
        }
        self.check_owner(fence)
    }

    /// Refuses who no longer owns the store.
    pub fn check_owner(&self, fence: Fence) -> Result<(), StoreError> {
        if fence == self.fence { Ok(()) } else { Err(StoreError::Fenced) }
    }

    /// Gives a record the next sequence, applies it, and puts it in the outbox.
    pub(super) fn commit(&mut self, record: Record) -> Result<u64, StoreError> {
        let sequence = self.next_sequence;
        let bytes = record.encode();
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(StoreError::Damaged(format!("a record of {} bytes cannot be written", bytes.len())));
        }
        self.apply(record, Place::of(sequence))?;
        self.next_sequence += 1;
        self.outbox_bytes += bytes.len();
        self.outbox.push(bytes);
        Ok(sequence)
    }

    /// Reads a record back: what it did happens again, on the same view or on an empty one.
    pub fn replay(&mut self, record: Record, place: Place) -> Result<(), StoreError> {
        self.apply(record, place)?;
        self.next_sequence = place.sequence + 1;
        Ok(())
    }

    /// Goes on at this sequence: what was before it is lost.
    pub fn skip_to(&mut self, sequence: u64) {
        self.next_sequence = self.next_sequence.max(sequence);
    }

    /// Gives an event its sequence, unless its idempotency key was used before. It exists only
    /// once [`Self::admit`] is called, after its record is on disk.
    pub fn announce(&mut self, new: &NewEvent) -> Result<Admission, StoreError> {
        if let Some(first) = self.first_of(new)? {
            return Ok(Admission::Repeated(Box::new(first)));
        }
        self.next_sequence += 1;
        Ok(Admission::New(self.next_sequence - 1))
    }

    /// The event that this one repeats, by its idempotency key.
    pub fn first_of(&self, new: &NewEvent) -> Result<Option<Event>, StoreError> {
        let Some(idempotency) = &new.idempotency else { return Ok(None) };
        let known = self.load::<Remembered>(&keys::idempotency(new.event.workspace_id, &idempotency.key))?;
        let fresh = known.filter(|known| new.event.accepted_at.since(known.at) < IDEMPOTENCY_KEPT);
        let Some(known) = fresh else { return Ok(None) };
        if known.fingerprint != idempotency.fingerprint {
            return Err(Refusal::IdempotencyMismatch.into());
        }
        Ok(self.stored_event(new.event.workspace_id, known.event_id)?.map(|stored| stored.event))
    }

    /// Lets an event in that is on disk.
    pub fn admit(&mut self, new: &NewEvent, place: Place) {
        self.count_event(&new.event);
        self.apply_accepted(new, place, place.sequence);
    }

    /// An event with its deliveries as they are kept.
    pub fn event_whole(
        &self,
        workspace: WorkspaceId,
        id: EventId,
    ) -> Result<Option<(StoredEvent, Vec<Delivery>)>, StoreError> {
        let Some(stored) = self.stored_event(workspace, id)? else { return Ok(None) };
        Ok(Some((stored, self.deliveries(workspace, id)?)))
    }

    pub(super) fn stored_event(
        &self,
        workspace: WorkspaceId,
        id: EventId,
    ) -> Result<Option<StoredEvent>, StoreError> {
        self.load(&keys::event(workspace, id))
    }

    fn load<T: serde::de::DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        let decoded = self.view.get(key)?.map(|bytes| decode(&bytes)).transpose();
        decoded.inspect_err(|err| self.view.distrust(&err.to_string()))
    }

    fn save_new<T: Serialize>(&mut self, key: Key, value: &T) {
        let value = postcard::to_stdvec(value).expect("writing to memory does not fail");
        self.view.put_new(key, value);
    }

    fn save<T: Serialize>(&mut self, key: Key, value: &T) {
        let value = postcard::to_stdvec(value).expect("writing to memory does not fail");
        self.view.put(key, value);
    }
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    postcard::from_bytes(bytes).map_err(|err| StoreError::Damaged(format!("unreadable row: {err}")))
}
