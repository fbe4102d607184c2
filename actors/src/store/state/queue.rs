//! What waits: events to be routed, deliveries to be attempted, and what is decided about them.

use super::{audit::Done, *};
use std::collections::BTreeMap;

impl<V: View> State<V> {
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
            let stored = self.stored_event(workspace, routed.event_id)?;
            if let Some(stored) = stored.filter(|stored| !stored.routed) {
                self.register_names(&stored.event)?;
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
        self.due_in(&keys::queue(workspace, connection), until, limit)
    }

    /// See [`Store::due_replayed`].
    pub fn due_replayed(
        &self,
        workspace: WorkspaceId,
        connection: ConnectionId,
        until: Timestamp,
        limit: usize,
    ) -> Result<DuePage, StoreError> {
        self.due_in(&keys::lower_queue(workspace, connection), until, limit)
    }

    fn due_in(&self, prefix: &[u8], until: Timestamp, limit: usize) -> Result<DuePage, StoreError> {
        let mut page = DuePage::default();
        self.view.scan(prefix, &keys::end_of(prefix), Order::Ascending, &mut |key, value| {
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
        if self.claims.deliveries.contains_key(&entry.delivery_id) {
            return Ok(Err(Begun::NotDue));
        }
        let delivery = self.load_delivery(workspace, entry.event_id, entry.delivery_id)?;
        // Called off, retried by a person, or forgotten since the queue was read.
        if delivery.as_ref().is_none_or(|delivery| delivery.status.is_final() || delivery.due != entry.due) {
            return Ok(Err(Begun::NotDue));
        }
        let stored = self.stored_event(workspace, entry.event_id)?;
        let (Some(delivery), Some(stored)) = (delivery, stored) else {
            let why = format!("a queue names a delivery that is not there: {entry:?}");
            self.view.distrust(&why);
            return Err(StoreError::Damaged(why));
        };
        self.claims.take(&stored.event, connection, delivery.id);
        Ok(Ok((delivery, stored)))
    }

    /// A delivery that was taken up turned out to be gone.
    pub fn let_go(&mut self, delivery: DeliveryId) {
        self.claims.release(delivery);
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
        let mut entries = self.due(workspace, connection, Timestamp(i64::MAX), limit)?.entries;
        let left = limit - entries.len();
        if left > 0 {
            entries.extend(self.due_replayed(workspace, connection, Timestamp(i64::MAX), left)?.entries);
        }
        for entry in &entries {
            self.commit(Record::Canceled {
                workspace_id: workspace,
                event_id: entry.event_id,
                deliveries: vec![entry.delivery_id],
                at,
                reason: "the connection was deleted".to_owned(),
            })?;
        }
        Ok(entries.len())
    }

    /// See [`Store::retry`]. Returns the sequence to wait for, too.
    pub fn retry(
        &mut self,
        scope: Scope,
        event: EventId,
        rule: RuleId,
        now: Timestamp,
        act: Option<Act>,
    ) -> Result<(Delivery, u64), StoreError> {
        let stored = self.event_in(scope, event)?.ok_or(Refusal::NotFound("event"))?;
        let workspace = stored.event.workspace_id;
        let delivery = self.delivery_of_rule(workspace, event, rule)?.ok_or(Refusal::NotFound("delivery"))?;
        if matches!(delivery.status, Status::Completed | Status::Canceled) {
            return Err(Refusal::Final(delivery.status).into());
        }
        let stands = self.delivery_of_rule(workspace, event, delivery.rule_id)?;
        if stands.is_some_and(|stands| stands.id != delivery.id) {
            return Err(Refusal::Replayed.into());
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
        let done = act.map(|act| (act, Done::to_delivery(&stored.event, "delivery.retried", id)));
        let sequence = self.commit_done(record, done)?;
        let delivery = self.load_delivery(workspace, event, id)?.unwrap_or(delivery);
        Ok((delivery, sequence))
    }

    /// See [`Store::cancel`]. Returns the sequence to wait for.
    pub fn cancel(
        &mut self,
        scope: Scope,
        event: EventId,
        rule: Option<RuleId>,
        now: Timestamp,
        act: Option<Act>,
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
        let done = act.map(|act| match (rule, &open[..]) {
            (Some(_), [delivery]) => (act, Done::to_delivery(&stored.event, "delivery.canceled", *delivery)),
            _ => (act, Done::to_event(&stored.event, "event.canceled")),
        });
        let record = Record::Canceled {
            workspace_id: workspace,
            event_id: event,
            deliveries: open,
            at: now,
            reason: String::new(),
        };
        self.commit_done(record, done)
    }

    /// See [`Store::pace`].
    pub fn pace(&self, connection: ConnectionId) -> Result<Pace, StoreError> {
        Ok(self.load(&keys::pace(connection))?.unwrap_or_default())
    }

    /// See [`Store::queues`]. Queues of connections that take nothing are left out; those of
    /// connections that are gone are due at once, to be called off.
    pub fn queues(&self, workspace: WorkspaceId) -> Result<Vec<(ConnectionId, Timestamp)>, StoreError> {
        let mut heads = self.heads(keys::queues_of(workspace))?;
        for (connection, due) in self.heads(keys::lower_queues_of(workspace))? {
            let head = heads.entry(connection).or_insert(due);
            *head = due.min(*head);
        }
        let mut queues = Vec::with_capacity(heads.len());
        for (connection, due) in heads {
            match self.load::<(u64, bool)>(&keys::connection_of(workspace, connection))? {
                Some((_, true)) => queues.push((connection, due)),
                Some((_, false)) => {}
                None => queues.push((connection, Timestamp(0))),
            }
        }
        Ok(queues)
    }

    /// Who has a queue under a prefix, and when its first is due.
    fn heads(&self, prefix: Key) -> Result<BTreeMap<ConnectionId, Timestamp>, StoreError> {
        let (end, mut from, mut heads) = (keys::end_of(&prefix), prefix, BTreeMap::new());
        loop {
            let mut head = None;
            self.view.scan(&from, &end, Order::Ascending, &mut |key, value| {
                let connection = ConnectionId::from_bytes(keys::part_at(key, 17));
                head = Some((connection, keys::due_entry(key, value).due, keys::end_of(&key[..33])));
                Ok(false)
            })?;
            let Some((connection, due, next)) = head else { return Ok(heads) };
            heads.insert(connection, due);
            from = next;
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
            let next = [next_under(b'u')?, next_under(b'q')?, next_under(b'z')?];
            let Some(id) = next.into_iter().flatten().min() else { break };
            if let Some(due) = self.next_due(id)? {
                found.push(UnfinishedWorkspace { id, due });
            }
            after = Some(id);
        }
        Ok(found)
    }

    fn has_any(&self, prefix: &[u8]) -> Result<bool, StoreError> {
        let mut any = false;
        self.view.scan(prefix, &keys::end_of(prefix), Order::Ascending, &mut |_, _| {
            any = true;
            Ok(false)
        })?;
        Ok(any)
    }
}

/// Leaves out the last matches of an event where all of them are over `bytes_max`, and says so of each.
fn pass_by_beyond(routed: &mut Routed, bytes_max: usize) {
    let mut bytes = 0;
    let fits = |matched: &&Matched| {
        bytes += matched.bytes();
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
