//! Retention: what a workspace no longer keeps, and what waited for longer than it is kept.
//!
//! Nothing disappears unseen: a delivery that still waits when its event is past the retention is called
//! off with the reason on record, and its event kept for as long again as any other that has ended.

use super::*;

/// Some events that are past their retention.
#[derive(Debug, Default)]
pub struct PastRetention {
    /// Those that had ended before it: they may go.
    pub ended: Vec<EventId>,
    /// Those that wait still.
    pub waiting: Vec<EventId>,
    /// Where to go on, if there may be more.
    pub next: Option<EventId>,
}

/// How much was called off because it waited for too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CalledOff {
    pub deliveries: u64,
    /// Events that no rule ever judged.
    pub unrouted: u64,
}

impl<V: View> State<V> {
    /// Events older than `cutoff`, oldest first, from `from` on; with their deliveries about `limit` in all.
    pub fn past_retention(
        &self,
        workspace: WorkspaceId,
        from: Option<EventId>,
        cutoff: Timestamp,
        limit: usize,
    ) -> Result<PastRetention, StoreError> {
        let list = keys::events_of(workspace);
        let start = from.map_or_else(|| list.clone(), |id| keys::end_of(&keys::event(workspace, id)));
        let end = keys::event(workspace, EventId::first_at(cutoff));
        let (mut found, mut looked_at) = (PastRetention::default(), 0);
        self.view.scan(&start, &end, Order::Ascending, &mut |key, value| {
            let (id, stored) = (EventId::from_bytes(keys::id_at_end(key)), decode::<StoredEvent>(value)?);
            if stored.ended_before(cutoff) {
                found.ended.push(id);
            } else if !stored.status().is_final() {
                found.waiting.push(id);
            }
            looked_at += 1 + stored.tally.total as usize;
            found.next = (looked_at >= limit).then_some(id);
            Ok(found.next.is_none())
        })?;
        Ok(found)
    }

    /// Forgets these events, but for those that were taken up again since they were found. Returns how many.
    pub fn expire(
        &mut self,
        workspace: WorkspaceId,
        found: Vec<EventId>,
        cutoff: Timestamp,
    ) -> Result<u64, StoreError> {
        let mut events = Vec::with_capacity(found.len());
        for id in found {
            let stored = self.stored_event(workspace, id)?;
            events.extend(stored.is_some_and(|stored| stored.ended_before(cutoff)).then_some(id));
        }
        let count = events.len() as u64;
        if count > 0 {
            self.commit(Record::Expired { workspace_id: workspace, events })?;
        }
        Ok(count)
    }

    /// Calls off what still waits of an event that is past its retention of `days`. What is in flight is left
    /// alone until it is back.
    pub fn call_off_waiting(
        &mut self,
        workspace: WorkspaceId,
        event: EventId,
        at: Timestamp,
        days: u32,
    ) -> Result<CalledOff, StoreError> {
        let Some(stored) = self.stored_event(workspace, event)? else { return Ok(CalledOff::default()) };
        let mut deliveries = self.deliveries(workspace, event)?;
        deliveries.retain(|delivery| {
            !delivery.status.is_final() && !self.claims.deliveries.contains_key(&delivery.id)
        });
        if deliveries.is_empty() && stored.routed {
            return Ok(CalledOff::default());
        }
        let called_off =
            CalledOff { deliveries: deliveries.len() as u64, unrouted: u64::from(!stored.routed) };
        let unit = if days == 1 { "day" } else { "days" };
        self.commit(Record::Canceled {
            workspace_id: workspace,
            event_id: event,
            deliveries: deliveries.into_iter().map(|delivery| delivery.id).collect(),
            at,
            reason: format!(
                "kept longer than the workspace's retention of {days} {unit} without being delivered"
            ),
        })?;
        Ok(called_off)
    }

    /// An event whose record `sequence` is, if it is kept, and the bytes of its deliveries as they are by now.
    pub fn kept_at(&self, event: &Event, sequence: u64) -> Result<Option<(StoredEvent, u64)>, StoreError> {
        let stored = self.stored_event(event.workspace_id, event.id)?;
        let Some(stored) = stored.filter(|stored| stored.place.sequence == sequence) else { return Ok(None) };
        let (prefix, mut bytes) = (keys::deliveries_of(event.workspace_id, event.id), 0);
        self.view.scan(&prefix, &keys::end_of(&prefix), Order::Ascending, &mut |_, value| {
            bytes += value.len() as u64;
            Ok(true)
        })?;
        Ok(Some((stored, bytes)))
    }

    /// Whether the response of an attempt is kept, and in the record `sequence`.
    pub fn keeps_response(
        &self,
        workspace: WorkspaceId,
        attempted: &Attempted,
        sequence: u64,
    ) -> Result<bool, StoreError> {
        let delivery = self.load_delivery(workspace, attempted.event_id, attempted.delivery_id)?;
        let mut kept = delivery.iter().flat_map(|delivery| &delivery.attempts);
        Ok(kept.any(|attempt| attempt.response_at == Some(sequence)))
    }

    /// Whether the record `sequence` says why rules passed an event by.
    pub fn keeps_reasons(
        &self,
        workspace: WorkspaceId,
        event: EventId,
        sequence: u64,
    ) -> Result<bool, StoreError> {
        Ok(self.stored_event(workspace, event)?.is_some_and(|stored| stored.unmatched_at == Some(sequence)))
    }

    /// Workspaces after `after`, by id, with their retention.
    pub fn workspaces_after(
        &self,
        after: Option<WorkspaceId>,
        limit: usize,
    ) -> Result<Vec<Workspace>, StoreError> {
        let from = after.map_or_else(|| vec![b'w'], |id| keys::end_of(&keys::workspace(id)));
        let mut ids = Vec::new();
        self.view.scan(&from, b"x", Order::Ascending, &mut |key, _| {
            ids.push(WorkspaceId::from_bytes(keys::id_at_end(key)));
            Ok(ids.len() < limit)
        })?;
        let mut workspaces = Vec::with_capacity(ids.len());
        for id in ids {
            workspaces.extend(self.row::<Workspace>(&keys::workspace(id))?);
        }
        Ok(workspaces)
    }

    /// The sequence of the oldest unrouted event, or of the next record if there is none.
    pub fn oldest_unrouted(&self, workspace: WorkspaceId) -> Result<u64, StoreError> {
        let (events, _) = self.unrouted(workspace, 1)?;
        Ok(events.first().map_or(self.next_sequence, |stored| stored.sequence))
    }

    /// Forgets idempotency keys past their time, some at a time, from `from` on; and returns where to
    /// go on, if there may be more. They would not be honoured any more anyway, so no record is made.
    pub fn forget_idempotency(
        &mut self,
        now: Timestamp,
        from: &[u8],
        limit: usize,
    ) -> Result<Option<Key>, StoreError> {
        let mut ages = Vec::new();
        let start = if from.is_empty() { b"X" } else { from };
        let end = keys::idempotency_age(now.before(IDEMPOTENCY_KEPT), &[]);
        self.view.scan(start, &end, Order::Ascending, &mut |key, _| {
            ages.push(key.to_vec());
            Ok(ages.len() < limit)
        })?;
        let next = ages.last().filter(|_| ages.len() == limit).cloned();
        for age in ages {
            let entry = keys::idempotency_of_age(&age);
            let is_current = self
                .load::<Remembered>(&entry)?
                .is_some_and(|known| keys::idempotency_age(known.at, &entry) == age);
            if is_current {
                self.view.delete(entry);
            }
            self.view.delete(age);
        }
        Ok(next)
    }
}
