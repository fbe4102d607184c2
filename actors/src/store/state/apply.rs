//! What a record does to the view: the same for one of just now and for one read back years later.

use super::{change::decode_json, *};
use crate::domain::replay;

impl<V: View> State<V> {
    fn saw(&mut self, moment: Timestamp) {
        if moment > self.latest {
            self.latest = moment;
            self.save(keys::LATEST.to_vec(), &moment);
        }
    }

    pub(super) fn apply(&mut self, record: Record, place: Place) -> Result<(), StoreError> {
        let counted = usage::counts(&record);
        match record {
            Record::Opened { epoch } => {
                self.fence = Fence(epoch);
                self.save(keys::EPOCH.to_vec(), &epoch);
            }
            Record::Accepted(new) => self.apply_accepted(&new, place, place.sequence),
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
            Record::CarriedBeside(carried, beside) => {
                self.apply_carried(carried.with_beside(beside), place)?;
            }
            Record::AttemptedNoting { workspace_id, attempted, notes } => {
                let attempted = Attempted { notes: Some(notes), ..attempted };
                self.apply_attempted(workspace_id, attempted, place.sequence)?;
            }
            Record::Replayed { replay, again, at } => {
                self.apply_replayed(&replay, again, at, place.sequence)?;
            }
            Record::Void => {}
            Record::Audited { entry, record } => {
                self.apply(*record, place)?;
                self.save_audit(&decode_json(entry.as_bytes())?, place.sequence);
            }
            Record::Used(rows) => self.apply_usage(rows),
        }
        self.gather(counted);
        Ok(())
    }

    pub(super) fn apply_accepted(&mut self, new: &NewEvent, place: Place, sequence: u64) {
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
        self.no_longer_unrouted(&stored);
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
                notes: None,
                attempts: Vec::new(),
                replay: None,
            };
            self.enqueue(&delivery)?;
            self.save_new_delivery(&delivery);
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
            delivery.notes = attempted.notes;
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
        self.apply_accepted(&carried.new, place, carried.sequence);
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
        replay::put_in_order(&mut carried.deliveries);
        stored.tally = replay::tally(&carried.deliveries);
        for mut delivery in carried.deliveries {
            for attempt in &mut delivery.attempts {
                attempt.response_at = attempt.response_at.map(|_| place.sequence);
            }
            if !delivery.status.is_final() {
                self.enqueue(&delivery)?;
            }
            self.shift_replay(&delivery, None, Some(delivery.status))?;
            self.save_delivery(&delivery);
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
        let Some(mut delivery) = self.load_delivery(workspace, event, id)? else { return Ok(()) };
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
        self.save_delivery(&delivery);
        self.shift_replay(&delivery, Some(status), Some(delivery.status))?;
        if delivery.replay.is_some() && delivery.status == Status::Canceled {
            // What it was a replay of stands again.
            stored.tally = replay::tally(&self.deliveries(workspace, event)?);
        } else if status != delivery.status {
            // One that does not stand is final: its late answer changes nothing that the event counts.
            stored.tally.shift(status, delivery.status);
        }
        stored.started_at = stored.started_at.into_iter().chain(delivery.started_at).min();
        // An attempt at a delivery called off meanwhile does not set the end back.
        let is_final = stored.status().is_final();
        stored.completed_at = stored.completed_at.max(delivery.completed_at).filter(|_| is_final);
        self.save_event(&stored, event_status);
        Ok(())
    }

    /// Cancels an event that no rule has judged.
    fn call_off(&mut self, workspace: WorkspaceId, event: EventId, at: Timestamp) -> Result<(), StoreError> {
        let Some(mut stored) = self.stored_event(workspace, event)? else { return Ok(()) };
        if !stored.routed {
            let before = stored.status();
            self.no_longer_unrouted(&stored);
            (stored.routed, stored.called_off, stored.completed_at) = (true, true, Some(at));
            self.save_event(&stored, before);
        }
        Ok(())
    }

    fn no_longer_unrouted(&mut self, stored: &StoredEvent) {
        let (workspace, id) = (stored.event.workspace_id, stored.event.id);
        self.view.delete(keys::unrouted(workspace, stored.sequence));
        if id.is_test() {
            self.view.delete(keys::tested_rule(workspace, id));
        }
    }

    pub(super) fn enqueue(&mut self, delivery: &Delivery) -> Result<(), StoreError> {
        self.view.put_new(keys::waiting(delivery, delivery.due), delivery.event_id.as_bytes().to_vec());
        if delivery.due != delivery.created_at {
            self.view.put(Self::put_off(delivery), Vec::new());
        }
        self.add_depth(delivery.workspace_id, delivery.connection_id, 1)
    }

    /// Takes a delivery out of the queue, where it was until `due`.
    fn dequeue(&mut self, delivery: &Delivery, due: Timestamp) -> Result<(), StoreError> {
        let (workspace, connection) = (delivery.workspace_id, delivery.connection_id);
        self.view.delete(keys::waiting(delivery, due));
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

    pub(super) fn save_event(&mut self, stored: &StoredEvent, before: Status) {
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
            self.shift_replay(&delivery, Some(delivery.status), None)?;
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
}
