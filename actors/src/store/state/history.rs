//! History: which events there are, and what became of each.
//!
//! A filtered page walks the lists of all its filters at once, leaping from the newest event of
//! one to the newest not newer in the next, so that it costs what the rarest filter costs. Steps are
//! bounded: a page that would take more comes back short, with where to go on.

use super::*;
use crate::domain::replay;

/// Look-ups a page may take before it comes back short.
const STEPS_MAX: usize = 4_000;

impl<V: View> State<V> {
    /// An event, if it is in scope.
    pub fn event_in(&self, scope: Scope, id: EventId) -> Result<Option<StoredEvent>, StoreError> {
        let workspace = match scope {
            Scope::Workspace(workspace) => Some(workspace),
            Scope::Organization(organization) => self
                .view
                .get(&keys::event_of_organization(organization, id))?
                .map(|workspace| WorkspaceId::from_bytes(keys::part_at(&workspace, 0))),
        };
        workspace.map_or(Ok(None), |workspace| self.stored_event(workspace, id))
    }

    /// What has become of an event, counting what is in flight.
    pub fn summary(&self, stored: StoredEvent) -> EventSummary {
        let status = match stored.status() {
            status if status.is_final() => status,
            _ if self.claims.events.contains_key(&stored.event.id) => Status::Processing,
            status => status,
        };
        let StoredEvent { event, tally, started_at, completed_at, .. } = stored;
        EventSummary { event, status, tally, started_at, completed_at }
    }

    /// An event's deliveries; those in flight show as processing.
    pub fn deliveries_shown(&self, event: &Event) -> Result<Vec<Delivery>, StoreError> {
        let mut deliveries = self.deliveries(event.workspace_id, event.id)?;
        for delivery in &mut deliveries {
            if !delivery.status.is_final() && self.claims.deliveries.contains_key(&delivery.id) {
                delivery.status = Status::Processing;
            }
        }
        Ok(deliveries)
    }

    /// See [`Store::events`].
    pub fn events(
        &self,
        scope: Scope,
        filter: &EventFilter,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<Page<EventSummary, EventId>, StoreError> {
        if filter.status == Some(Status::Processing) {
            return self.events_in_flight(scope, filter, after, limit);
        }
        let lists = self.lists_to_walk(scope, filter);
        let mut page = Page { records: Vec::new(), next: None };
        // Both ends of the range are keys: what lies outside is never looked at.
        let oldest = filter.oldest().map(|id| *id.as_bytes());
        let (mut before, mut steps) = (earlier(after, filter.newest_before()), 0);
        loop {
            if page.records.len() == limit || steps >= STEPS_MAX {
                page.next = before;
                // A full page says there is more only if there is.
                if page.records.len() == limit
                    && self.newest_in_all(&lists, oldest, before, &mut steps)?.is_none()
                {
                    page.next = None;
                }
                return Ok(page);
            }
            let Some(found) = self.newest_in_all(&lists, oldest, before, &mut steps)? else {
                return Ok(page);
            };
            before = Some(found.id);
            let stored = if found.is_in_all { self.event_in(scope, found.id)? } else { None };
            if let Some(stored) = stored.filter(|stored| filter.passes(&stored.event)) {
                let has_delivery = self.has_delivery(&stored, &filter.delivery, &mut steps)?;
                let summary = self.summary(stored);
                let passes = has_delivery && filter.status.is_none_or(|wanted| wanted == summary.status);
                page.records.extend(passes.then_some(summary));
            }
        }
    }

    /// Events in flight: a few, and only in memory.
    fn events_in_flight(
        &self,
        scope: Scope,
        filter: &EventFilter,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<Page<EventSummary, EventId>, StoreError> {
        let in_scope =
            |(_, (workspace, organization, _)): &(&EventId, &(WorkspaceId, OrganizationId, u32))| match scope
            {
                Scope::Workspace(id) => *workspace == id,
                Scope::Organization(id) => *organization == id,
            };
        let mut ids: Vec<EventId> = self.claims.events.iter().filter(in_scope).map(|(id, _)| *id).collect();
        let after = earlier(after, filter.newest_before());
        ids.retain(|id| after.is_none_or(|after| *id < after));
        ids.sort_unstable_by(|a, b| b.cmp(a));
        let mut page = Page { records: Vec::new(), next: None };
        for id in ids {
            if page.records.len() == limit {
                page.next = page.records.last().map(|last: &EventSummary| last.event.id);
                break;
            }
            let stored = self.event_in(scope, id)?.filter(|stored| filter.passes(&stored.event));
            let Some(stored) = stored else { continue };
            let has_delivery = self.has_delivery(&stored, &filter.delivery, &mut 0)?;
            let summary = self.summary(stored);
            let passes = has_delivery && summary.status == Status::Processing;
            page.records.extend(passes.then_some(summary));
        }
        Ok(page)
    }

    /// Whether a delivery that passes stands for one of an event's rules. Of a rule that did not take the event
    /// one look says so; others are gone through.
    fn has_delivery(
        &self,
        stored: &StoredEvent,
        filter: &DeliveryFilter,
        steps: &mut usize,
    ) -> Result<bool, StoreError> {
        if filter.is_any() {
            return Ok(true);
        }
        let Event { workspace_id, id, .. } = stored.event;
        if let Some(rule) = filter.rule {
            *steps += 1;
            if self.load_delivery(workspace_id, id, DeliveryId::of(id, rule))?.is_none() {
                return Ok(false);
            }
        }
        *steps += 1 + stored.tally.total as usize;
        let deliveries = self.deliveries(workspace_id, id)?;
        Ok(replay::standing(&deliveries).any(|delivery| filter.passes(delivery)))
    }

    /// The lists whose common events make a page. In an organization filters are looked at event by event.
    fn lists_to_walk(&self, scope: Scope, filter: &EventFilter) -> Vec<Key> {
        let workspace = match scope {
            Scope::Organization(organization) => return vec![keys::events_of_organization(organization)],
            Scope::Workspace(workspace) => workspace,
        };
        let resource =
            filter.resource.as_deref().filter(|name| *name != crate::domain::event::RESOURCE_DEFAULT);
        let mut lists: Vec<Key> = [
            filter.resource_id.as_deref().map(Filter::ResourceId),
            resource.map(Filter::Resource),
            filter.event.as_deref().map(Filter::Name),
            filter.status.map(Filter::Status),
        ]
        .into_iter()
        .flatten()
        .map(|filter| keys::filtered(workspace, filter))
        .collect();
        if lists.is_empty() {
            lists.push(keys::events_of(workspace));
        }
        lists
    }

    /// The newest event older than `before` and not older than `oldest` that may be in all lists, one round of
    /// leaps further.
    fn newest_in_all(
        &self,
        lists: &[Key],
        oldest: Option<[u8; 16]>,
        before: Option<EventId>,
        steps: &mut usize,
    ) -> Result<Option<Found>, StoreError> {
        let mut bound = before.map(|id| *id.as_bytes());
        loop {
            let Some(first) = self.newest_before(&lists[0], oldest.as_ref(), bound.as_ref())? else {
                return Ok(None);
            };
            *steps += 1;
            let mut candidate = first;
            for list in &lists[1..] {
                *steps += 1;
                let from_candidate = next_id(&candidate);
                let Some(found) = self.newest_before(list, oldest.as_ref(), from_candidate.as_ref())? else {
                    return Ok(None);
                };
                candidate = found;
            }
            if candidate == first {
                return Ok(Some(Found { id: EventId::from_bytes(first), is_in_all: true }));
            }
            bound = next_id(&candidate);
            if *steps >= STEPS_MAX {
                // Nothing newer than the candidate is in all; itself it may be: go on right above it.
                let id = bound.unwrap_or([u8::MAX; 16]);
                return Ok(Some(Found { id: EventId::from_bytes(id), is_in_all: false }));
            }
        }
    }

    fn newest_before(
        &self,
        list: &[u8],
        oldest: Option<&[u8; 16]>,
        before: Option<&[u8; 16]>,
    ) -> Result<Option<[u8; 16]>, StoreError> {
        let start = oldest.map_or_else(|| list.to_vec(), |id| [list, &id[..]].concat());
        let end = before.map_or_else(|| keys::end_of(list), |id| [list, &id[..]].concat());
        let mut newest = None;
        if start >= end {
            return Ok(None);
        }
        self.view.scan(&start, &end, Order::Descending, &mut |key, _| {
            newest = Some(keys::id_at_end(key));
            Ok(false)
        })?;
        Ok(newest)
    }

    /// See [`Store::queue_reports`].
    pub fn queue_reports(
        &self,
        after: Option<(WorkspaceId, ConnectionId)>,
        limit: usize,
    ) -> Result<Page<QueueReport, (WorkspaceId, ConnectionId)>, StoreError> {
        let from = after
            .map_or_else(|| vec![b'Q'], |(workspace, id)| keys::end_of(&keys::queue_depth(workspace, id)));
        let mut depths = Vec::new();
        self.view.scan(&from, b"R", Order::Ascending, &mut |key, value| {
            let workspace = WorkspaceId::from_bytes(keys::part_at(key, 1));
            depths.push((
                workspace,
                ConnectionId::from_bytes(keys::id_at_end(key)),
                decode::<QueueDepth>(value)?,
            ));
            Ok(depths.len() < limit)
        })?;
        let next =
            depths.last().filter(|_| depths.len() == limit).map(|(workspace, id, _)| (*workspace, *id));
        let mut records = Vec::new();
        for (workspace, id, depth) in depths {
            let Some(connection) = self.row::<Connection>(&keys::connection(id))? else { continue };
            // What was not put off is due since it was made, so the head of the queue is the oldest of
            // those, unless it was put off itself; and then the oldest of these is older.
            let queues = [keys::queue(workspace, id), keys::lower_queue(workspace, id)];
            let put_off = self.first_time(&keys::put_off_of(workspace, id))?;
            let times = [self.first_time(&queues[0])?, self.first_time(&queues[1])?, put_off];
            let oldest = times.into_iter().flatten().min().unwrap_or_default();
            records.push(QueueReport { connection, waiting: depth.waiting, oldest });
        }
        Ok(Page { records, next })
    }

    /// The time in the first key under a queue's prefix.
    fn first_time(&self, prefix: &[u8]) -> Result<Option<Timestamp>, StoreError> {
        let mut first = None;
        self.view.scan(prefix, &keys::end_of(prefix), Order::Ascending, &mut |key, _| {
            first = Some(keys::time_of(key));
            Ok(false)
        })?;
        Ok(first)
    }
}

struct Found {
    id: EventId,
    is_in_all: bool,
}

/// Where a list begins that is to begin after both.
fn earlier(after: Option<EventId>, before: Option<EventId>) -> Option<EventId> {
    after.into_iter().chain(before).min()
}

/// The id right after this one; `None` after the last.
fn next_id(id: &[u8; 16]) -> Option<[u8; 16]> {
    u128::from_be_bytes(*id).checked_add(1).map(u128::to_be_bytes)
}
