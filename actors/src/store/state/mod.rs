//! The state: what the records add up to, and the checks a change must pass first.
//!
//! One logic for every store that keeps ordered keys: [`State::apply`] is the only place that
//! writes the view, and it is the same for a record of just now and for one read back from the
//! journal years later. A transaction checks, makes a record, applies it and puts it in the
//! outbox; whoever owns the state takes the outbox to its log, in order.

mod change;
mod history;
pub mod keys;
pub mod record;
mod verify;

use super::*;
use crate::domain::{
    delivery::{ATTEMPTS_KEPT, Attempt},
    routing::VERDICTS_MAX,
};
use keys::{Filter, Key};
use record::{Carried, MATCHES_BYTES_MAX, RECORD_BYTES_MAX, Record};
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

/// What is in flight: known only while this process lives.
#[derive(Default)]
struct Claims {
    deliveries: HashMap<DeliveryId, (ConnectionId, EventId)>,
    /// In flight of each event, with the event's place in lists.
    events: HashMap<EventId, (WorkspaceId, OrganizationId, u32)>,
    connections: HashMap<ConnectionId, HashSet<DeliveryId>>,
}

impl Claims {
    fn take(&mut self, event: &Event, connection: ConnectionId, delivery: DeliveryId) {
        self.deliveries.insert(delivery, (connection, event.id));
        self.connections.entry(connection).or_default().insert(delivery);
        self.events.entry(event.id).or_insert((event.workspace_id, event.organization_id, 0)).2 += 1;
    }

    fn release(&mut self, delivery: DeliveryId) {
        let Some((connection, event)) = self.deliveries.remove(&delivery) else { return };
        if let Some(claimed) = self.connections.get_mut(&connection) {
            claimed.remove(&delivery);
            if claimed.is_empty() {
                self.connections.remove(&connection);
            }
        }
        if let Some((_, _, count)) = self.events.get_mut(&event) {
            *count -= 1;
            if *count == 0 {
                self.events.remove(&event);
            }
        }
    }
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
        if let Some(idempotency) = &new.idempotency {
            let key = keys::idempotency(new.event.workspace_id, &idempotency.key);
            let known = self.load::<Remembered>(&key)?;
            let fresh = known.filter(|known| new.event.accepted_at.since(known.at) < IDEMPOTENCY_KEPT);
            if let Some(known) = fresh {
                if known.fingerprint != idempotency.fingerprint {
                    return Err(Refusal::IdempotencyMismatch.into());
                }
                if let Some(stored) = self.stored_event(new.event.workspace_id, known.event_id)? {
                    return Ok(Admission::Repeated(Box::new(stored.event)));
                }
            }
        }
        self.next_sequence += 1;
        Ok(Admission::New(self.next_sequence - 1))
    }

    /// Lets an event in that is on disk.
    pub fn admit(&mut self, new: &NewEvent, place: Place) -> Result<(), StoreError> {
        self.apply_accepted(new, place, place.sequence)
    }

    fn saw(&mut self, moment: Timestamp) {
        if moment > self.latest {
            self.latest = moment;
            self.save(keys::LATEST.to_vec(), &moment);
        }
    }

    fn apply(&mut self, record: Record, place: Place) -> Result<(), StoreError> {
        match record {
            Record::Opened { epoch } => {
                self.fence = Fence(epoch);
                self.save(keys::EPOCH.to_vec(), &epoch);
            }
            Record::Accepted(new) => self.apply_accepted(&new, place, place.sequence)?,
            Record::Configured { change, since } => {
                let change = serde_json::from_str(&change)
                    .map_err(|err| StoreError::Damaged(format!("unreadable change: {err}")))?;
                self.apply_change(change, place.sequence, since.unwrap_or(place.sequence))?;
            }
            Record::Routed { workspace_id, routed } => {
                self.apply_routed(workspace_id, routed, place.sequence)?
            }
            Record::Attempted { workspace_id, attempted } => {
                self.apply_attempted(workspace_id, attempted, place.sequence)?;
            }
            Record::Retried { workspace_id, event_id, delivery_id, at } => {
                self.change_delivery(workspace_id, event_id, delivery_id, |delivery| {
                    delivery.status =
                        if delivery.attempt_count == 0 { Status::Pending } else { Status::Retrying };
                    (delivery.due, delivery.tries_used, delivery.completed_at) = (at, 0, None);
                })?;
            }
            Record::Canceled { workspace_id, event_id, deliveries, at, reason } => {
                if deliveries.is_empty() {
                    self.call_off(workspace_id, event_id, at)?;
                }
                for id in deliveries {
                    self.change_delivery(workspace_id, event_id, id, |delivery| {
                        if !delivery.status.is_final() {
                            delivery.status = Status::Canceled;
                            delivery.completed_at = Some(at);
                            delivery.last_error = (!reason.is_empty()).then(|| reason.clone());
                        }
                    })?;
                }
            }
            Record::Paced { connection_id, pace } => self.save(keys::pace(connection_id), &pace),
            Record::Expired { workspace_id, events } => {
                for id in events {
                    self.forget_event(workspace_id, id)?;
                }
            }
            Record::Carried(carried) => self.apply_carried(*carried, place)?,
            Record::Void => {}
        }
        Ok(())
    }

    fn apply_accepted(&mut self, new: &NewEvent, place: Place, sequence: u64) -> Result<(), StoreError> {
        let event = &new.event;
        self.saw(event.accepted_at);
        if let Some(idempotency) = &new.idempotency {
            let remembered = Remembered {
                event_id: event.id,
                fingerprint: idempotency.fingerprint,
                at: event.accepted_at,
            };
            let key = keys::idempotency(event.workspace_id, &idempotency.key);
            self.view.put(keys::idempotency_age(event.accepted_at, &key), Vec::new());
            self.save(key, &remembered);
        }
        let stored = StoredEvent {
            event: event.clone(),
            place,
            sequence,
            routed: false,
            called_off: false,
            unmatched_at: None,
            tally: Tally::default(),
            started_at: None,
            completed_at: None,
        };
        self.view.put_new(keys::unrouted(event.workspace_id, sequence), event.id.as_bytes().to_vec());
        self.list_event(&stored);
        self.save_new(keys::event(event.workspace_id, event.id), &stored);
        Ok(())
    }

    fn apply_routed(
        &mut self,
        workspace: WorkspaceId,
        routed: Routed,
        sequence: u64,
    ) -> Result<(), StoreError> {
        let Some(mut stored) = self.stored_event(workspace, routed.event_id)? else { return Ok(()) };
        if stored.routed {
            return Ok(());
        }
        let before = stored.status();
        self.view.delete(keys::unrouted(workspace, stored.sequence));
        stored.routed = true;
        stored.unmatched_at = (!routed.unmatched.is_empty()).then_some(sequence);
        stored.tally.total = u32::try_from(routed.matched.len()).unwrap_or(u32::MAX);
        for matched in routed.matched {
            let delivery = Delivery {
                id: DeliveryId::of(routed.event_id, matched.rule_id),
                event_id: routed.event_id,
                workspace_id: workspace,
                rule_id: matched.rule_id,
                connection_id: matched.connection_id,
                destination: matched.destination,
                action: matched.action,
                created_by: matched.created_by,
                created_at: routed.at,
                status: Status::Pending,
                due: routed.at,
                attempt_count: 0,
                tries_used: 0,
                started_at: None,
                completed_at: None,
                last_error: None,
                attempts: Vec::new(),
            };
            self.enqueue(&delivery)?;
            self.save_new(keys::delivery(workspace, delivery.event_id, delivery.id), &delivery);
        }
        if stored.tally.total == 0 {
            stored.completed_at = Some(routed.at);
        }
        self.save_event(&stored, before);
        Ok(())
    }

    fn apply_attempted(
        &mut self,
        workspace: WorkspaceId,
        attempted: Attempted,
        sequence: u64,
    ) -> Result<(), StoreError> {
        let Attempted { delivery_id, event_id, started_at, finished_at, outcome, .. } = attempted;
        self.saw(finished_at);
        self.change_delivery(workspace, event_id, delivery_id, |delivery| {
            delivery.attempt_count += 1;
            delivery.started_at.get_or_insert(started_at);
            let next_due = match attempted.next {
                Next::Due { at, .. } if !delivery.status.is_final() => Some(at),
                _ => None,
            };
            if delivery.attempts.len() >= ATTEMPTS_KEPT {
                delivery.attempts.remove(0);
            }
            delivery.attempts.push(Attempt {
                number: delivery.attempt_count,
                started_at,
                finished_at,
                outcome,
                http_status: attempted.http_status,
                message: attempted.message.clone(),
                next_due,
                response_at: attempted.response.is_some().then_some(sequence),
            });
            if delivery.status.is_final() {
                return; // called off while it was in flight
            }
            delivery.last_error = (outcome != Outcome::Delivered).then_some(attempted.message);
            match attempted.next {
                Next::Completed => {
                    (delivery.status, delivery.completed_at) = (Status::Completed, Some(finished_at))
                }
                Next::Failed => {
                    (delivery.status, delivery.completed_at) = (Status::Failed, Some(finished_at))
                }
                Next::Due { at, counts } => {
                    (delivery.status, delivery.due) = (Status::Retrying, at);
                    delivery.tries_used += u32::from(counts);
                }
            }
        })
    }

    fn apply_carried(&mut self, mut carried: Carried, place: Place) -> Result<(), StoreError> {
        if self.is_key_anothers(&carried.new)? {
            carried.new.idempotency = None;
        }
        let event = &carried.new.event;
        self.forget_event(event.workspace_id, event.id)?;
        self.apply_accepted(&carried.new, place, carried.sequence)?;
        let (workspace, id) = (event.workspace_id, event.id);
        if let Some(at) = carried.called_off {
            return self.call_off(workspace, id, at);
        }
        if !carried.routed {
            return Ok(());
        }
        let Some(mut stored) = self.stored_event(workspace, id)? else { return Ok(()) };
        let before = stored.status();
        self.view.delete(keys::unrouted(workspace, carried.sequence));
        stored.routed = true;
        stored.unmatched_at = (!carried.unmatched.is_empty()).then_some(place.sequence);
        stored.tally.total = u32::try_from(carried.deliveries.len()).unwrap_or(u32::MAX);
        for mut delivery in carried.deliveries {
            for attempt in &mut delivery.attempts {
                attempt.response_at = attempt.response_at.map(|_| place.sequence);
            }
            stored.tally.shift(Status::Pending, delivery.status);
            if !delivery.status.is_final() {
                self.enqueue(&delivery)?;
            }
            self.save(keys::delivery(workspace, id, delivery.id), &delivery);
        }
        (stored.started_at, stored.completed_at) = (carried.started_at, carried.completed_at);
        self.save_event(&stored, before);
        Ok(())
    }

    /// Whether an event's idempotency key, being past its time, was used again by a later event.
    fn is_key_anothers(&self, new: &NewEvent) -> Result<bool, StoreError> {
        let Some(idempotency) = &new.idempotency else { return Ok(false) };
        let key = keys::idempotency(new.event.workspace_id, &idempotency.key);
        let known = self.load::<Remembered>(&key)?;
        Ok(known.is_some_and(|known| known.event_id != new.event.id && known.at >= new.event.accepted_at))
    }

    /// Changes one delivery, and with it its queue and its event. Does nothing if it is gone.
    fn change_delivery(
        &mut self,
        workspace: WorkspaceId,
        event: EventId,
        id: DeliveryId,
        change: impl FnOnce(&mut Delivery),
    ) -> Result<(), StoreError> {
        let key = keys::delivery(workspace, event, id);
        let Some(mut delivery) = self.load::<Delivery>(&key)? else { return Ok(()) };
        let Some(mut stored) = self.stored_event(workspace, event)? else { return Ok(()) };
        let (status, due, event_status) = (delivery.status, delivery.due, stored.status());
        change(&mut delivery);
        let (was_queued, is_queued) = (!status.is_final(), !delivery.status.is_final());
        if self.is_live && was_queued && !is_queued {
            metrics::counter!("weft_deliveries_total", "status" => delivery.status.as_str()).increment(1);
        }
        if was_queued && (!is_queued || due != delivery.due) {
            self.dequeue(&delivery, due)?;
        }
        if is_queued && (!was_queued || due != delivery.due) {
            self.enqueue(&delivery)?;
        }
        stored.tally.shift(status, delivery.status);
        stored.started_at = stored.started_at.into_iter().chain(delivery.started_at).min();
        // An attempt at a delivery called off meanwhile does not set the end back.
        let is_final = stored.status().is_final();
        stored.completed_at = stored.completed_at.max(delivery.completed_at).filter(|_| is_final);
        self.save(key, &delivery);
        self.save_event(&stored, event_status);
        Ok(())
    }

    /// Cancels an event that no rule has judged.
    fn call_off(&mut self, workspace: WorkspaceId, event: EventId, at: Timestamp) -> Result<(), StoreError> {
        let Some(mut stored) = self.stored_event(workspace, event)? else { return Ok(()) };
        if !stored.routed {
            let before = stored.status();
            self.view.delete(keys::unrouted(workspace, stored.sequence));
            (stored.routed, stored.called_off, stored.completed_at) = (true, true, Some(at));
            self.save_event(&stored, before);
        }
        Ok(())
    }

    fn enqueue(&mut self, delivery: &Delivery) -> Result<(), StoreError> {
        let key = keys::queued(delivery.workspace_id, delivery.connection_id, delivery.due, delivery.id);
        self.view.put_new(key, delivery.event_id.as_bytes().to_vec());
        if delivery.due != delivery.created_at {
            self.view.put(Self::put_off(delivery), Vec::new());
        }
        self.add_depth(delivery.workspace_id, delivery.connection_id, 1)
    }

    /// Takes a delivery out of the queue, where it was until `due`.
    fn dequeue(&mut self, delivery: &Delivery, due: Timestamp) -> Result<(), StoreError> {
        let (workspace, connection) = (delivery.workspace_id, delivery.connection_id);
        self.view.delete(keys::queued(workspace, connection, due, delivery.id));
        if due != delivery.created_at {
            self.view.delete(Self::put_off(delivery));
        }
        self.add_depth(workspace, connection, -1)
    }

    fn put_off(delivery: &Delivery) -> Key {
        let Delivery { workspace_id, connection_id, created_at, id, .. } = *delivery;
        keys::put_off(workspace_id, connection_id, created_at, id)
    }

    fn add_depth(
        &mut self,
        workspace: WorkspaceId,
        connection: ConnectionId,
        by: i64,
    ) -> Result<(), StoreError> {
        let key = keys::queue_depth(workspace, connection);
        let depth = self.load::<QueueDepth>(&key)?.unwrap_or_default();
        match depth.waiting.saturating_add_signed(by) {
            0 => self.view.delete(key),
            waiting => self.save(key, &QueueDepth { waiting }),
        }
        Ok(())
    }

    /// The lists an event is in for good.
    fn lists(event: &Event) -> impl Iterator<Item = Key> {
        let resource = (event.resource != crate::domain::event::RESOURCE_DEFAULT).then_some(&event.resource);
        let filters = [
            Some(Filter::Name(&event.name)),
            resource.map(|resource| Filter::Resource(resource)),
            event.resource_id.as_deref().map(Filter::ResourceId),
        ];
        let filters = filters.map(|filter| filter.map(|filter| keys::filtered(event.workspace_id, filter)));
        let id = event.id;
        filters.into_iter().flatten().map(move |prefix| keys::under(&prefix, id))
    }

    fn list_event(&mut self, stored: &StoredEvent) {
        let event = &stored.event;
        for key in Self::lists(event) {
            self.view.put_new(key, Vec::new());
        }
        let status = keys::filtered(event.workspace_id, Filter::Status(stored.status()));
        self.view.put_new(keys::under(&status, event.id), Vec::new());
        let workspace = event.workspace_id.as_bytes().to_vec();
        self.view.put_new(keys::event_of_organization(event.organization_id, event.id), workspace);
    }

    fn save_event(&mut self, stored: &StoredEvent, before: Status) {
        let (workspace, id) = (stored.event.workspace_id, stored.event.id);
        let after = stored.status();
        if before != after {
            let prefix = |status| keys::filtered(workspace, Filter::Status(status));
            self.view.delete(keys::under(&prefix(before), id));
            self.view.put_new(keys::under(&prefix(after), id), Vec::new());
        }
        self.save(keys::event(workspace, id), stored);
    }

    fn forget_event(&mut self, workspace: WorkspaceId, id: EventId) -> Result<(), StoreError> {
        let Some(stored) = self.stored_event(workspace, id)? else { return Ok(()) };
        for delivery in self.deliveries(workspace, id)? {
            if !delivery.status.is_final() {
                self.dequeue(&delivery, delivery.due)?;
            }
            self.view.delete(keys::delivery(workspace, id, delivery.id));
        }
        for key in Self::lists(&stored.event) {
            self.view.delete(key);
        }
        let status = keys::filtered(workspace, Filter::Status(stored.status()));
        self.view.delete(keys::under(&status, id));
        self.view.delete(keys::event_of_organization(stored.event.organization_id, id));
        self.view.delete(keys::unrouted(workspace, stored.sequence));
        self.view.delete(keys::event(workspace, id));
        Ok(())
    }

    /// See [`Store::unrouted`]; where the events' payloads lie.
    pub fn unrouted(
        &self,
        workspace: WorkspaceId,
        limit: usize,
    ) -> Result<(Vec<StoredEvent>, u64), StoreError> {
        let mut ids = Vec::new();
        let prefix = keys::unrouted_of(workspace);
        self.view.scan(&prefix, &keys::end_of(&prefix), Order::Ascending, &mut |_, value| {
            ids.push(EventId::from_bytes(keys::part_at(value, 0)));
            Ok(ids.len() < limit)
        })?;
        let mut events = Vec::with_capacity(ids.len());
        for id in ids {
            events.extend(self.stored_event(workspace, id)?);
        }
        Ok((events, self.load::<u64>(&keys::rules_changed(workspace))?.unwrap_or(0)))
    }

    /// See [`Store::record_routing`].
    pub fn record_routing(&mut self, workspace: WorkspaceId, routed: Vec<Routed>) -> Result<(), StoreError> {
        for mut routed in routed {
            pass_by_beyond(&mut routed, MATCHES_BYTES_MAX);
            let open = self.stored_event(workspace, routed.event_id)?.is_some_and(|stored| !stored.routed);
            if open {
                self.commit(Record::Routed { workspace_id: workspace, routed })?;
            }
        }
        Ok(())
    }

    /// See [`Store::due`].
    pub fn due(
        &self,
        workspace: WorkspaceId,
        connection: ConnectionId,
        until: Timestamp,
        limit: usize,
    ) -> Result<DuePage, StoreError> {
        let mut page = DuePage::default();
        let prefix = keys::queue(workspace, connection);
        self.view.scan(&prefix, &keys::end_of(&prefix), Order::Ascending, &mut |key, value| {
            let entry = keys::due_entry(key, value);
            if self.claims.deliveries.contains_key(&entry.delivery_id) {
                return Ok(true);
            }
            if entry.due > until || page.entries.len() >= limit {
                page.next = Some(entry.due);
                return Ok(false);
            }
            page.entries.push(entry);
            Ok(true)
        })?;
        Ok(page)
    }

    /// See [`Store::begin`]; with where the payload lies.
    pub fn begin(
        &mut self,
        workspace: WorkspaceId,
        connection: ConnectionId,
        connection_version: u64,
        entry: DueEntry,
    ) -> Result<Result<(Delivery, StoredEvent), Begun>, StoreError> {
        let known = self.load::<(u64, bool)>(&keys::connection_of(workspace, connection))?;
        if known != Some((connection_version, true)) {
            return Ok(Err(Begun::ConnectionChanged));
        }
        let queued = keys::queued(workspace, connection, entry.due, entry.delivery_id);
        if self.claims.deliveries.contains_key(&entry.delivery_id) || self.view.get(&queued)?.is_none() {
            return Ok(Err(Begun::NotDue));
        }
        let delivery =
            self.load::<Delivery>(&keys::delivery(workspace, entry.event_id, entry.delivery_id))?;
        let stored = self.stored_event(workspace, entry.event_id)?;
        let (Some(delivery), Some(stored)) = (delivery, stored) else {
            return Err(StoreError::Damaged(format!(
                "a queue names a delivery that is not there: {entry:?}"
            )));
        };
        self.claims.take(&stored.event, connection, delivery.id);
        Ok(Ok((delivery, stored)))
    }

    /// See [`Store::release`].
    pub fn release(&mut self, connection: ConnectionId) {
        for delivery in self.claims.connections.get(&connection).cloned().unwrap_or_default() {
            self.claims.release(delivery);
        }
    }

    /// See [`Store::record_attempts`].
    pub fn record_attempts(
        &mut self,
        workspace: WorkspaceId,
        attempts: Vec<Attempted>,
    ) -> Result<(), StoreError> {
        for attempted in attempts {
            self.claims.release(attempted.delivery_id);
            self.commit(Record::Attempted { workspace_id: workspace, attempted })?;
        }
        Ok(())
    }

    /// See [`Store::cancel_queued`].
    pub fn cancel_queued(
        &mut self,
        workspace: WorkspaceId,
        connection: ConnectionId,
        at: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let page = self.due(workspace, connection, Timestamp(i64::MAX), limit)?;
        for entry in &page.entries {
            self.commit(Record::Canceled {
                workspace_id: workspace,
                event_id: entry.event_id,
                deliveries: vec![entry.delivery_id],
                at,
                reason: "the connection was deleted".to_owned(),
            })?;
        }
        Ok(page.entries.len())
    }

    /// See [`Store::retry`]. Returns the sequence to wait for, too.
    pub fn retry(
        &mut self,
        scope: Scope,
        event: EventId,
        rule: RuleId,
        now: Timestamp,
    ) -> Result<(Delivery, u64), StoreError> {
        let stored = self.event_in(scope, event)?.ok_or(Refusal::NotFound("event"))?;
        let workspace = stored.event.workspace_id;
        let delivery = self.delivery_of_rule(workspace, event, rule)?.ok_or(Refusal::NotFound("delivery"))?;
        if matches!(delivery.status, Status::Completed | Status::Canceled) {
            return Err(Refusal::Final(delivery.status).into());
        }
        let connection = self.row::<Connection>(&keys::connection(delivery.connection_id))?;
        let connection = connection.ok_or(Refusal::ConnectionGone)?;
        if connection.inactive.is_some() {
            return Err(Refusal::ConnectionInactive.into());
        }
        let imminent =
            !delivery.status.is_final() && delivery.due <= now.after(std::time::Duration::from_secs(1));
        let is_attempted = imminent && connection.takes_deliveries();
        if self.claims.deliveries.contains_key(&delivery.id) || is_attempted {
            return Err(Refusal::InFlight.into());
        }
        let (id, record_event) = (delivery.id, event);
        let record =
            Record::Retried { workspace_id: workspace, event_id: record_event, delivery_id: id, at: now };
        let sequence = self.commit(record)?;
        let delivery = self.load(&keys::delivery(workspace, event, id))?.unwrap_or(delivery);
        Ok((delivery, sequence))
    }

    /// See [`Store::cancel`]. Returns the sequence to wait for.
    pub fn cancel(
        &mut self,
        scope: Scope,
        event: EventId,
        rule: Option<RuleId>,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let stored = self.event_in(scope, event)?.ok_or(Refusal::NotFound("event"))?;
        let workspace = stored.event.workspace_id;
        let deliveries = match rule {
            None => self.deliveries(workspace, event)?,
            Some(rule) => {
                vec![self.delivery_of_rule(workspace, event, rule)?.ok_or(Refusal::NotFound("delivery"))?]
            }
        };
        let open: Vec<_> = deliveries
            .iter()
            .filter(|delivery| !delivery.status.is_final())
            .map(|delivery| delivery.id)
            .collect();
        if open.is_empty() && stored.routed {
            let status = deliveries.first().map_or_else(|| stored.status(), |delivery| delivery.status);
            return Err(Refusal::Final(status).into());
        }
        self.commit(Record::Canceled {
            workspace_id: workspace,
            event_id: event,
            deliveries: open,
            at: now,
            reason: String::new(),
        })
    }

    /// See [`Store::pace`].
    pub fn pace(&self, connection: ConnectionId) -> Result<Pace, StoreError> {
        Ok(self.load(&keys::pace(connection))?.unwrap_or_default())
    }

    /// See [`Store::queues`]. Queues of connections that take nothing are left out; those of
    /// connections that are gone are due at once, to be called off.
    pub fn queues(&self, workspace: WorkspaceId) -> Result<Vec<(ConnectionId, Timestamp)>, StoreError> {
        let prefix = keys::queues_of(workspace);
        let (mut from, end, mut queues) = (prefix.clone(), keys::end_of(&prefix), Vec::new());
        loop {
            let mut head = None;
            self.view.scan(&from, &end, Order::Ascending, &mut |key, value| {
                head =
                    Some((ConnectionId::from_bytes(keys::part_at(key, 17)), keys::due_entry(key, value).due));
                Ok(false)
            })?;
            let Some((connection, due)) = head else { return Ok(queues) };
            match self.load::<(u64, bool)>(&keys::connection_of(workspace, connection))? {
                Some((_, true)) => queues.push((connection, due)),
                Some((_, false)) => {}
                None => queues.push((connection, Timestamp(0))),
            }
            from = keys::end_of(&keys::queue(workspace, connection));
        }
    }

    /// See [`Store::next_due`].
    pub fn next_due(&self, workspace: WorkspaceId) -> Result<Option<Timestamp>, StoreError> {
        if self.has_any(&keys::unrouted_of(workspace))? {
            return Ok(Some(Timestamp(0)));
        }
        Ok(self.queues(workspace)?.into_iter().map(|(_, due)| due).min())
    }

    /// See [`Store::unfinished`].
    pub fn unfinished(
        &self,
        after: Option<WorkspaceId>,
        limit: usize,
    ) -> Result<Vec<UnfinishedWorkspace>, StoreError> {
        let mut found = Vec::new();
        let mut after = after;
        while found.len() < limit {
            let next_under = |prefix: u8| {
                let from =
                    after.map_or(vec![prefix], |id| keys::end_of(&[&[prefix][..], id.as_bytes()].concat()));
                let mut next = None;
                self.view.scan(&from, &[prefix + 1], Order::Ascending, &mut |key, _| {
                    next = Some(WorkspaceId::from_bytes(keys::part_at(key, 1)));
                    Ok(false)
                })?;
                Ok::<_, StoreError>(next)
            };
            let Some(id) = next_under(b'u')?.into_iter().chain(next_under(b'q')?).min() else { break };
            if let Some(due) = self.next_due(id)? {
                found.push(UnfinishedWorkspace { id, due });
            }
            after = Some(id);
        }
        Ok(found)
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

    fn has_any(&self, prefix: &[u8]) -> Result<bool, StoreError> {
        let mut any = false;
        self.view.scan(prefix, &keys::end_of(prefix), Order::Ascending, &mut |_, _| {
            any = true;
            Ok(false)
        })?;
        Ok(any)
    }

    pub(super) fn stored_event(
        &self,
        workspace: WorkspaceId,
        id: EventId,
    ) -> Result<Option<StoredEvent>, StoreError> {
        self.load(&keys::event(workspace, id))
    }

    /// All deliveries of an event, in rule order.
    pub(super) fn deliveries(
        &self,
        workspace: WorkspaceId,
        event: EventId,
    ) -> Result<Vec<Delivery>, StoreError> {
        let mut deliveries: Vec<Delivery> = Vec::new();
        let prefix = keys::deliveries_of(workspace, event);
        self.view.scan(&prefix, &keys::end_of(&prefix), Order::Ascending, &mut |_, value| {
            deliveries.push(decode(value)?);
            Ok(true)
        })?;
        deliveries.sort_by_key(|delivery| delivery.rule_id);
        Ok(deliveries)
    }

    /// The delivery of a rule; `rule` may also be the delivery's own id.
    fn delivery_of_rule(
        &self,
        workspace: WorkspaceId,
        event: EventId,
        rule: RuleId,
    ) -> Result<Option<Delivery>, StoreError> {
        let is_it =
            |delivery: &Delivery| delivery.rule_id == rule || delivery.id.as_bytes() == rule.as_bytes();
        Ok(self.deliveries(workspace, event)?.into_iter().find(is_it))
    }

    fn load<T: serde::de::DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        self.view.get(key)?.map(|bytes| decode(&bytes)).transpose()
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

/// Leaves out the last matches of an event where all of them are over `bytes_max`, and says so of each.
fn pass_by_beyond(routed: &mut Routed, bytes_max: usize) {
    let mut bytes = 0;
    let fits = |matched: &&Matched| {
        bytes += matched.action.len() + matched.destination.len() + matched.created_by.len() + 64;
        bytes <= bytes_max
    };
    let fitting = routed.matched.iter().take_while(fits).count();
    for Matched { rule_id, connection_id, .. } in routed.matched.split_off(fitting) {
        if routed.unmatched.len() < VERDICTS_MAX {
            let reason = format!("the actions of one event take at most {bytes_max} bytes");
            routed.unmatched.push(RuleVerdict { rule_id, connection_id, reason });
        }
    }
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    postcard::from_bytes(bytes).map_err(|err| StoreError::Damaged(format!("unreadable row: {err}")))
}
