//! What a store must answer, found by going through everything that the model remembers.

use super::{
    model::{Fate, Kept, Model},
    *,
};
use crate::domain::usage::Usage;

impl Model {
    /// An event, if it is in scope.
    pub fn kept(&self, scope: Scope, id: EventId) -> Option<&Kept> {
        let event = |kept: &&Kept| is_in(scope, kept.new.event.organization_id, kept.new.event.workspace_id);
        self.events.get(&id).filter(event)
    }

    /// A workspace's rules, oldest first.
    pub fn rules_of(&self, workspace: WorkspaceId) -> Vec<Rule> {
        self.rules.values().filter(|rule| rule.workspace_id == workspace).cloned().collect()
    }

    /// What has become of an event.
    pub fn status(&self, kept: &Kept) -> Status {
        let any = |status| kept.standing().iter().any(|delivery| delivery.status == status);
        let is_open = kept.deliveries.values().any(|delivery| !delivery.status.is_final());
        let is_in_flight = self.in_flight.values().any(|(_, event)| *event == kept.new.event.id);
        match kept.fate {
            Fate::CalledOff(_) => Status::Canceled,
            Fate::Unrouted => Status::Pending,
            Fate::Routed { .. } if is_open && is_in_flight => Status::Processing,
            Fate::Routed { .. } if is_open && any(Status::Retrying) => Status::Retrying,
            Fate::Routed { .. } if is_open => Status::Pending,
            Fate::Routed { .. } if any(Status::Failed) => Status::Failed,
            Fate::Routed { .. } if any(Status::Canceled) => Status::Canceled,
            Fate::Routed { .. } => Status::Completed,
        }
    }

    /// When an event was over, if it is.
    pub fn completed_at(&self, kept: &Kept) -> Option<Timestamp> {
        match kept.fate {
            Fate::CalledOff(at) => Some(at),
            Fate::Routed { at, .. } if kept.deliveries.is_empty() => Some(at),
            _ if !self.status(kept).is_final() => None,
            _ => kept.deliveries.values().filter_map(|delivery| delivery.completed_at).max(),
        }
    }

    fn summary(&self, kept: &Kept) -> EventSummary {
        let count =
            |status| kept.standing().iter().filter(|delivery| delivery.status == status).count() as u32;
        let tally = Tally {
            total: kept.standing().len() as u32,
            retrying: count(Status::Retrying),
            completed: count(Status::Completed),
            failed: count(Status::Failed),
            canceled: count(Status::Canceled),
        };
        EventSummary {
            event: kept.new.event.clone(),
            status: self.status(kept),
            tally,
            started_at: kept.deliveries.values().filter_map(|delivery| delivery.started_at).min(),
            completed_at: self.completed_at(kept),
        }
    }

    /// See [`Store::events`]: all pages as one.
    pub fn events(&self, scope: Scope, filter: &EventFilter) -> Vec<EventSummary> {
        let EventFilter { event: name, resource, resource_id, status, id, since, until, delivery } = filter;
        let passes = |found: &EventSummary| {
            let event = &found.event;
            is_in(scope, event.organization_id, event.workspace_id)
                && name.as_ref().is_none_or(|wanted| *wanted == event.name)
                && resource.as_ref().is_none_or(|wanted| *wanted == event.resource)
                && resource_id.as_ref().is_none_or(|wanted| Some(wanted) == event.resource_id.as_ref())
                && status.is_none_or(|wanted| wanted == found.status)
                && id.is_none_or(|wanted| wanted == event.id)
                && since.is_none_or(|since| event.accepted_at >= since)
                && until.is_none_or(|until| event.accepted_at < until)
                && (delivery.is_any()
                    || self.events[&event.id].standing().iter().any(|found| {
                        let last = found.attempts.last().map(|attempt| attempt.outcome);
                        delivery.rule.is_none_or(|rule| rule == found.rule_id)
                            && delivery.connection.is_none_or(|connection| connection == found.connection_id)
                            && (delivery.outcome.is_none() || delivery.outcome == last)
                    }))
        };
        self.events.values().rev().map(|kept| self.summary(kept)).filter(passes).collect()
    }

    /// See [`Store::event`].
    pub fn details(&self, scope: Scope, id: EventId) -> Option<EventDetails> {
        let kept = self.kept(scope, id)?;
        let mut deliveries = kept.shown();
        for delivery in &mut deliveries {
            if !delivery.status.is_final() && self.in_flight.contains_key(&delivery.id) {
                delivery.status = Status::Processing;
            }
        }
        let unmatched = match &kept.fate {
            Fate::Routed { unmatched, .. } => unmatched.clone(),
            _ => Vec::new(),
        };
        Some(EventDetails { summary: self.summary(kept), deliveries, unmatched })
    }

    /// Deliveries that wait, in flight or not.
    pub fn waiting(&self) -> impl Iterator<Item = &Delivery> {
        let all = self.events.values().flat_map(|kept| kept.deliveries.values());
        all.filter(|delivery| !delivery.status.is_final())
    }

    /// What waits for a connection, or of what is replayed to it.
    fn queue(&self, workspace: WorkspaceId, connection: ConnectionId, replayed: bool) -> Vec<DueEntry> {
        let of_it = self
            .waiting()
            .filter(|delivery| (delivery.workspace_id, delivery.connection_id) == (workspace, connection))
            .filter(|delivery| delivery.replay.is_some() == replayed);
        let entry = |delivery: &Delivery| DueEntry {
            due: delivery.due,
            delivery_id: delivery.id,
            event_id: delivery.event_id,
        };
        let mut queue: Vec<_> = of_it.map(entry).collect();
        queue.sort();
        queue
    }

    /// See [`Store::due`], and [`Store::due_replayed`].
    pub fn due_in(
        &self,
        replayed: bool,
        workspace: WorkspaceId,
        connection: ConnectionId,
        until: Timestamp,
        limit: usize,
    ) -> DuePage {
        let mut queue = self.queue(workspace, connection, replayed);
        queue.retain(|entry| !self.in_flight.contains_key(&entry.delivery_id));
        let count = queue.iter().filter(|entry| entry.due <= until).count().min(limit);
        DuePage { next: queue.get(count).map(|entry| entry.due), entries: queue[..count].to_vec() }
    }

    /// See [`Store::due`].
    pub fn due(
        &self,
        workspace: WorkspaceId,
        connection: ConnectionId,
        until: Timestamp,
        limit: usize,
    ) -> DuePage {
        self.due_in(false, workspace, connection, until, limit)
    }

    /// See [`Store::queues`].
    pub fn queues(&self, workspace: WorkspaceId) -> Vec<(ConnectionId, Timestamp)> {
        let mut connections = self.ever.connections.clone();
        connections.sort();
        let head = |id: ConnectionId| {
            let both = [false, true].map(|replayed| self.queue(workspace, id, replayed));
            let first = *both.iter().flatten().min()?;
            match self.connections.get(&id) {
                Some(connection) => connection.takes_deliveries().then_some((id, first.due)),
                None => Some((id, Timestamp(0))),
            }
        };
        connections.into_iter().filter_map(head).collect()
    }

    /// A workspace's unrouted events, oldest first.
    pub fn unrouted(&self, workspace: WorkspaceId) -> Vec<&Kept> {
        let of_it = self.events.values().filter(|kept| kept.new.event.workspace_id == workspace);
        of_it.filter(|kept| kept.fate == Fate::Unrouted).collect()
    }

    /// See [`Store::next_due`].
    pub fn next_due(&self, workspace: WorkspaceId) -> Option<Timestamp> {
        if !self.unrouted(workspace).is_empty() {
            return Some(Timestamp(0));
        }
        self.queues(workspace).into_iter().map(|(_, due)| due).min()
    }

    /// See [`Store::unfinished`]: all pages as one.
    pub fn unfinished(&self) -> Vec<UnfinishedWorkspace> {
        let has = |id: &WorkspaceId| self.next_due(*id).map(|due| UnfinishedWorkspace { id: *id, due });
        self.workspaces.keys().filter_map(has).collect()
    }

    /// See [`Store::queue_reports`]: all pages as one.
    pub fn queue_reports(&self) -> Vec<QueueReport> {
        let mut connections: Vec<_> = self.connections.values().collect();
        connections.sort_by_key(|connection| (connection.workspace_id, connection.id));
        let report = |connection: &Connection| {
            let of_it = || self.waiting().filter(|delivery| delivery.connection_id == connection.id);
            let oldest = of_it().map(|delivery| delivery.created_at).min()?;
            Some(QueueReport { connection: connection.clone(), waiting: of_it().count() as u64, oldest })
        };
        connections.into_iter().filter_map(report).collect()
    }

    /// See [`Store::usage`]: all pages as one.
    pub fn usage(&self, scope: Scope, days: &RangeInclusive<Day>) -> Vec<UsageRow> {
        let rows = self.usage.iter().filter(|((id, day), usage)| {
            let organization = self.workspaces[id].organization_id;
            is_in(scope, organization, *id) && days.contains(day) && **usage != Usage::default()
        });
        rows.map(|((id, day), usage)| UsageRow { workspace_id: *id, day: *day, usage: *usage }).collect()
    }

    /// See [`Store::held`].
    pub fn held(&self, organization: OrganizationId) -> Held {
        let count =
            |of: &mut dyn Iterator<Item = OrganizationId>| of.filter(|id| *id == organization).count() as u64;
        Held {
            workspaces: count(&mut self.workspaces.values().map(|it| it.organization_id)),
            connections: count(&mut self.connections.values().map(|it| it.organization_id)),
            rules: count(&mut self.rules.values().map(|it| it.organization_id)),
            members: count(&mut self.people.users.values().map(|it| it.organization_id)),
        }
    }

    /// See [`Store::verify`]: nothing is wrong with it.
    pub fn verification(&self) -> Verification {
        let deliveries = self.events.values().map(|kept| kept.deliveries.len() as u64).sum();
        let scheduled = self.waiting().count() as u64;
        Verification {
            events: self.events.len() as u64,
            deliveries,
            finished: deliveries - scheduled,
            scheduled,
            unrouted: self.events.values().filter(|kept| kept.fate == Fate::Unrouted).count() as u64,
            faults: Vec::new(),
        }
    }
}

/// Whether what belongs to these is in scope.
pub fn is_in(scope: Scope, organization: OrganizationId, workspace: WorkspaceId) -> bool {
    scope == Scope::Organization(organization) || scope == Scope::Workspace(workspace)
}
