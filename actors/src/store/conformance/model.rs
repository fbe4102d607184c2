//! What a store must remember, in plain maps: obviously right, and nothing like the real thing.
//!
//! Nothing is indexed and nothing is counted ahead of being asked. Each verb says in a few lines what
//! [`Store`] promises of it; [`answers`](super::answers) are looked up by going through everything.

use super::*;
use crate::domain::{
    delivery::{ATTEMPTS_KEPT, Attempt, Next, Outcome},
    routing::RuleVerdict,
    usage::Usage,
};
use std::time::Duration;
use uuid::Uuid;

/// When every history begins.
pub const DAWN: Timestamp = Timestamp(1_800_000_000_000);

/// Everything that a store remembers.
#[derive(Clone)]
pub struct Model {
    pub now: Timestamp,
    made: u64,
    pub latest: Timestamp,
    pub organizations: BTreeMap<OrganizationId, Organization>,
    pub machine_keys: BTreeMap<String, MachineKey>,
    pub workspaces: BTreeMap<WorkspaceId, Workspace>,
    pub publishable_keys: BTreeMap<WorkspaceId, PublishableKey>,
    pub sessions: BTreeMap<SessionId, Session>,
    pub connections: BTreeMap<ConnectionId, Connection>,
    pub catalogs: BTreeMap<ConnectionId, Catalog>,
    pub mappings: BTreeMap<ConnectionId, DefaultMapping>,
    pub grants: BTreeMap<ConnectionId, Grant>,
    pub rules: BTreeMap<RuleId, Rule>,
    pub names: BTreeMap<(WorkspaceId, NameKind, String), Name>,
    pub paces: BTreeMap<ConnectionId, Pace>,
    pub replays: BTreeMap<ReplayId, Replay>,
    pub usage: BTreeMap<(WorkspaceId, Day), Usage>,
    pub people: people::People,
    pub events: BTreeMap<EventId, Kept>,
    keys: BTreeMap<(WorkspaceId, String), (EventId, [u8; 32], Timestamp)>,
    /// What is being attempted: known to the process only.
    pub in_flight: BTreeMap<DeliveryId, (ConnectionId, EventId)>,
    /// How often a workspace's rules have changed.
    pub changes: BTreeMap<WorkspaceId, u64>,
    /// All that ever were, also those that are gone.
    pub ever: Ever,
}

/// Names of all that ever was.
#[derive(Clone, Default)]
pub struct Ever {
    pub sessions: Vec<SessionId>,
    /// Publishable keys.
    pub keys: Vec<String>,
    pub connections: Vec<ConnectionId>,
    pub rules: Vec<RuleId>,
    pub events: Vec<(OrganizationId, WorkspaceId, EventId)>,
}

/// An event, and all that became of it.
#[derive(Clone)]
pub struct Kept {
    pub new: NewEvent,
    pub fate: Fate,
    /// By rule, the first and then what was made of it by replays, in order.
    pub deliveries: BTreeMap<(RuleId, u32), Delivery>,
    pub responses: BTreeMap<(DeliveryId, u32), ResponseDetails>,
    /// The store's own number for its place among all that happened, once it was seen.
    pub sequence: Option<u64>,
    /// The rules when it was accepted, and how often they had changed by then.
    pub rules: Vec<Rule>,
    pub changes: u64,
    /// Whether the store must still know those rules.
    pub is_past_known: bool,
}

/// What was decided about an event.
#[derive(Clone, PartialEq)]
pub enum Fate {
    Unrouted,
    CalledOff(Timestamp),
    Routed { at: Timestamp, unmatched: Vec<RuleVerdict> },
}

impl Default for Model {
    fn default() -> Self {
        Self {
            now: DAWN,
            made: 0,
            latest: Timestamp(0),
            organizations: BTreeMap::new(),
            machine_keys: BTreeMap::new(),
            workspaces: BTreeMap::new(),
            publishable_keys: BTreeMap::new(),
            sessions: BTreeMap::new(),
            connections: BTreeMap::new(),
            catalogs: BTreeMap::new(),
            mappings: BTreeMap::new(),
            grants: BTreeMap::new(),
            rules: BTreeMap::new(),
            names: BTreeMap::new(),
            paces: BTreeMap::new(),
            replays: BTreeMap::new(),
            usage: BTreeMap::new(),
            people: people::People::default(),
            events: BTreeMap::new(),
            keys: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            changes: BTreeMap::new(),
            ever: Ever::default(),
        }
    }
}

impl Model {
    /// A new id, which sorts after all others.
    pub fn new_id(&mut self) -> Uuid {
        self.made += 1;
        let moment = u128::from(self.now.as_unsigned()) << 80;
        Uuid::from_u128(moment | 0x7000 << 64 | 0x8000 << 48 | u128::from(self.made))
    }

    /// See [`Store::configure`].
    pub fn configure(&mut self, change: Change) -> Result<(), Refusal> {
        match change {
            Change::CreateOrganization(row) => drop(self.organizations.insert(row.id, row)),
            Change::CreateMachineKey(row) => {
                self.organizations.get(&row.organization_id).ok_or(Refusal::NotFound("organization"))?;
                self.machine_keys.insert(row.access_key.clone(), row);
            }
            Change::CreateWorkspace(created) => {
                let (workspace, key) = *created;
                self.organizations
                    .get(&workspace.organization_id)
                    .ok_or(Refusal::NotFound("organization"))?;
                self.check_workspace_name(&workspace)?;
                self.ever.keys.push(key.public_key.clone());
                self.publishable_keys.insert(workspace.id, key);
                self.workspaces.insert(workspace.id, workspace);
            }
            Change::UpdateWorkspace(workspace) => {
                self.workspaces.get(&workspace.id).ok_or(Refusal::NotFound("workspace"))?;
                self.check_workspace_name(&workspace)?;
                self.workspaces.insert(workspace.id, workspace);
            }
            Change::CreateConnection(connection) => {
                self.workspaces.get(&connection.workspace_id).ok_or(Refusal::NotFound("workspace"))?;
                self.check_connection_name(&connection)?;
                self.ever.connections.push(connection.id);
                self.connections.insert(connection.id, connection);
            }
            Change::UpdateConnection(connection) => {
                let stored = self.connections.get(&connection.id).ok_or(Refusal::NotFound("connection"))?;
                if connection.version != stored.version + 1 {
                    return Err(Refusal::Stale("connection"));
                }
                self.check_connection_name(&connection)?;
                self.connections.insert(connection.id, connection);
            }
            Change::DeleteConnection { id, force } => {
                let stored = self.connections.get(&id).ok_or(Refusal::NotFound("connection"))?;
                let workspace = stored.workspace_id;
                let rules = self.rules.values().filter(|rule| rule.connection_id == id).count();
                if rules > 0 && !force {
                    return Err(Refusal::HasRules(rules));
                }
                self.rules.retain(|_, rule| rule.connection_id != id);
                self.rules_changed(workspace, rules > 0);
                self.connections.remove(&id);
                self.paces.remove(&id);
                self.catalogs.remove(&id);
                self.mappings.remove(&id);
                self.grants.remove(&id);
            }
            Change::SaveCatalog(catalog) => {
                self.check_connection(catalog.connection_id, catalog.workspace_id)?;
                let stored = self.catalogs.get(&catalog.connection_id).map_or(0, |stored| stored.version);
                if catalog.version != stored + 1 {
                    return Err(Refusal::Stale("catalog"));
                }
                self.catalogs.insert(catalog.connection_id, catalog);
            }
            Change::SaveMapping(mapping) => {
                self.check_connection(mapping.connection_id, mapping.workspace_id)?;
                let stored = self.mappings.get(&mapping.connection_id).map_or(1, |stored| stored.version);
                if mapping.version != stored + 1 {
                    return Err(Refusal::Stale("mapping"));
                }
                self.mappings.insert(mapping.connection_id, mapping);
            }
            Change::SaveGrant(grant) => {
                self.check_connection(grant.connection_id, grant.workspace_id)?;
                let stored = self.grants.get(&grant.connection_id).map_or(0, |stored| stored.version);
                if grant.version != stored + 1 {
                    return Err(Refusal::Stale("grant"));
                }
                self.grants.insert(grant.connection_id, grant);
            }
            Change::CreateRule(rule) => {
                self.check_connection(rule.connection_id, rule.workspace_id)?;
                self.check_likeness(&rule)?;
                self.ever.rules.push(rule.id);
                self.rules_changed(rule.workspace_id, true);
                self.rules.insert(rule.id, rule);
            }
            Change::UpdateRule(rule) => {
                let stored = self.rules.get(&rule.id).ok_or(Refusal::NotFound("rule"))?;
                if rule.version != stored.version + 1 {
                    return Err(Refusal::Stale("rule"));
                }
                self.check_likeness(&rule)?;
                self.rules_changed(rule.workspace_id, true);
                self.rules.insert(rule.id, rule);
            }
            Change::DeleteRule(id) => {
                let rule = self.rules.remove(&id).ok_or(Refusal::NotFound("rule"))?;
                self.rules_changed(rule.workspace_id, true);
            }
            Change::CreateSession(session) => {
                self.ever.sessions.push(session.id);
                self.sessions.insert(session.id, *session);
            }
            Change::UpdateSession(session) => {
                let stored = self.sessions.get(&session.id).ok_or(Refusal::NotFound("session"))?;
                if session.version != stored.version + 1 {
                    return Err(Refusal::Stale("session"));
                }
                self.sessions.insert(session.id, *session);
            }
            Change::ForgetSessions { .. } => unreachable!("the store forgets by itself"),
            Change::UpdateMachineKey(key) => {
                self.machine_keys.get(&key.access_key).ok_or(Refusal::NotFound("key"))?;
                self.machine_keys.insert(key.access_key.clone(), key);
            }
            Change::DeleteMachineKey(access_key) => {
                self.machine_keys.remove(&access_key).ok_or(Refusal::NotFound("key"))?;
            }
            Change::RotatePublishableKey(rotated) => {
                let (workspace, key) = *rotated;
                let stored = &self.publishable_keys[&workspace.id];
                if key.older.last().is_none_or(|older| older.public_key != stored.public_key) {
                    return Err(Refusal::Stale("publishable key"));
                }
                if key.older.len() > OLDER_KEYS_MAX {
                    let what = "older publishable keys at a time; wait until one has ended";
                    return Err(Refusal::TooMany(OLDER_KEYS_MAX, what));
                }
                self.ever.keys.push(key.public_key.clone());
                self.publishable_keys.insert(workspace.id, key);
            }
            Change::TestOne { workspace_id, rule_id, .. } => {
                let rule = self.rules.get(&rule_id).filter(|rule| rule.workspace_id == workspace_id);
                rule.ok_or(Refusal::NotFound("rule"))?;
            }
            Change::SaveReplay(replay) => self.save_replay(*replay)?,
            Change::DeleteReplay(id) => drop(self.replays.remove(&id)),
            Change::SaveName(name) => {
                self.workspaces.get(&name.workspace_id).ok_or(Refusal::NotFound("workspace"))?;
                self.names.insert((name.workspace_id, name.kind, name.key.clone()), name);
            }
            people => self.configure_people(people)?,
        }
        Ok(())
    }

    fn check_connection(&self, id: ConnectionId, workspace: WorkspaceId) -> Result<(), Refusal> {
        let found = self.connections.get(&id).filter(|found| found.workspace_id == workspace);
        found.map(drop).ok_or(Refusal::NotFound("connection"))
    }

    fn check_workspace_name(&self, new: &Workspace) -> Result<(), Refusal> {
        let is_taken = self.workspaces.values().any(|other| {
            (other.organization_id, &other.name) == (new.organization_id, &new.name) && other.id != new.id
        });
        if is_taken { Err(Refusal::NameTaken("workspace")) } else { Ok(()) }
    }

    fn check_connection_name(&self, new: &Connection) -> Result<(), Refusal> {
        let is_taken = self.connections.values().any(|other| {
            (other.workspace_id, &other.name) == (new.workspace_id, &new.name) && other.id != new.id
        });
        if is_taken { Err(Refusal::NameTaken("connection")) } else { Ok(()) }
    }

    fn check_likeness(&self, new: &Rule) -> Result<(), Refusal> {
        let does = |rule: &Rule| {
            let Rule { connection_id, event, resource, resource_id, metadata, conditions, .. } = rule.clone();
            (connection_id, event, resource, resource_id, metadata, conditions)
        };
        let is_alike = self.rules.values().any(|other| does(other) == does(new) && other.id != new.id);
        if is_alike { Err(Refusal::DuplicateRule) } else { Ok(()) }
    }

    fn rules_changed(&mut self, workspace: WorkspaceId, is_so: bool) {
        *self.changes.entry(workspace).or_default() += u64::from(is_so);
    }

    /// What a workspace used on the day of a moment.
    pub(super) fn used(&mut self, workspace: WorkspaceId, at: Timestamp) -> &mut Usage {
        self.usage.entry((workspace, Day::of(at))).or_default()
    }

    /// See [`Store::first_of`].
    pub fn first_of(&self, new: &NewEvent) -> Result<Option<Event>, StoreError> {
        let Some(Idempotency { key, fingerprint }) = &new.idempotency else { return Ok(None) };
        let known = self.keys.get(&(new.event.workspace_id, key.clone()));
        match known.filter(|(_, _, then)| new.event.accepted_at.since(*then) < IDEMPOTENCY_KEPT) {
            Some((_, other, _)) if other != fingerprint => Err(Refusal::IdempotencyMismatch.into()),
            Some((event, ..)) => Ok(self.events.get(event).map(|kept| kept.new.event.clone())),
            None => Ok(None),
        }
    }

    /// See [`Store::append_events`].
    pub fn append(&mut self, new: NewEvent) -> Result<Appended, StoreError> {
        let (id, workspace, at) = (new.event.id, new.event.workspace_id, new.event.accepted_at);
        if let Some(first) = self.first_of(&new)? {
            return Ok(Appended::Repeated(Box::new(first)));
        }
        if let Some(Idempotency { key, fingerprint }) = &new.idempotency {
            self.keys.insert((workspace, key.clone()), (id, *fingerprint, at));
        }
        self.used(workspace, at).events += 1;
        self.latest = self.latest.max(at);
        self.ever.events.push((new.event.organization_id, workspace, id));
        let kept = Kept {
            new,
            fate: Fate::Unrouted,
            deliveries: BTreeMap::new(),
            responses: BTreeMap::new(),
            sequence: None,
            rules: self.rules_of(workspace),
            changes: self.changes.get(&workspace).copied().unwrap_or(0),
            is_past_known: true,
        };
        self.events.insert(id, kept);
        Ok(Appended::New)
    }

    /// See [`Store::record_routing`].
    pub fn route(&mut self, routed: Routed) {
        let Routed { event_id, at, matched, unmatched } = routed;
        let Some(kept) = self.events.get_mut(&event_id).filter(|kept| kept.fate == Fate::Unrouted) else {
            return;
        };
        let event = &kept.new.event;
        for (kind, key) in [(NameKind::EventType, &event.name), (NameKind::Resource, &event.resource)] {
            if key != kind.default_key() {
                let name = Name::new(event.workspace_id, kind, key, event.accepted_at);
                let name = Name { created_by: Some(event.created_by.clone()), ..name };
                self.names.entry((event.workspace_id, kind, key.clone())).or_insert(name);
            }
        }
        let used = self.usage.entry((event.workspace_id, Day::of(at))).or_default();
        used.deliveries += matched.len() as u64;
        kept.fate = Fate::Routed { at, unmatched };
        for Matched { rule_id, connection_id, destination, action, created_by } in matched {
            let delivery = Delivery {
                id: DeliveryId::of(event_id, rule_id),
                event_id,
                workspace_id: kept.new.event.workspace_id,
                rule_id,
                connection_id,
                destination,
                action,
                created_by,
                created_at: at,
                status: Status::Pending,
                due: at,
                attempt_count: 0,
                tries_used: 0,
                started_at: None,
                completed_at: None,
                last_error: None,
                notes: None,
                attempts: Vec::new(),
                replay: None,
            };
            kept.deliveries.insert((rule_id, 0), delivery);
        }
    }

    /// See [`Store::begin`]; `None`: the connection has changed, or the delivery is not due.
    pub fn begin(
        &mut self,
        workspace: WorkspaceId,
        connection: ConnectionId,
        version: u64,
        entry: DueEntry,
    ) -> Result<Work, Begun> {
        let is_as_it_was = self.connections.get(&connection).is_some_and(|found| {
            found.workspace_id == workspace && found.version == version && found.takes_deliveries()
        });
        if !is_as_it_was {
            return Err(Begun::ConnectionChanged);
        }
        let kept = self.events.get(&entry.event_id).ok_or(Begun::NotDue)?;
        let delivery = kept.deliveries.values().find(|delivery| delivery.id == entry.delivery_id);
        let delivery = delivery.filter(|delivery| !delivery.status.is_final() && delivery.due == entry.due);
        let delivery = delivery.filter(|delivery| !self.in_flight.contains_key(&delivery.id));
        let delivery = delivery.ok_or(Begun::NotDue)?.clone();
        self.in_flight.insert(delivery.id, (connection, entry.event_id));
        Ok(Work { delivery, event: kept.new.event.clone(), payload: kept.new.payload.clone() })
    }

    /// See [`Store::release`].
    pub fn release(&mut self, connection: ConnectionId) {
        self.in_flight.retain(|_, (of, _)| *of != connection);
    }

    /// See [`Store::record_attempts`].
    pub fn record_attempt(&mut self, attempted: Attempted) {
        let Attempted { delivery_id, event_id, started_at, finished_at, outcome, next, .. } = attempted;
        let workspace = self.ever.events.iter().find(|(.., id)| *id == event_id).map(|found| found.1);
        let used = self.used(workspace.expect("it was there once"), finished_at);
        used.attempts += 1;
        used.delivered += u64::from(outcome == Outcome::Delivered);
        self.in_flight.remove(&delivery_id);
        self.latest = self.latest.max(finished_at);
        let Some(kept) = self.events.get_mut(&event_id) else { return };
        let Some(delivery) = kept.deliveries.values_mut().find(|delivery| delivery.id == delivery_id) else {
            return;
        };
        let is_called_off = delivery.status.is_final();
        let next_due = match next {
            Next::Due { at, .. } if !is_called_off => Some(at),
            _ => None,
        };
        delivery.attempt_count += 1;
        delivery.started_at = delivery.started_at.or(Some(started_at));
        delivery.attempts.push(Attempt {
            number: delivery.attempt_count,
            started_at,
            finished_at,
            outcome,
            http_status: attempted.http_status,
            message: attempted.message.clone(),
            next_due,
            response_at: attempted.response.is_some().then_some(0),
        });
        let forgotten = delivery.attempts.len().saturating_sub(ATTEMPTS_KEPT);
        delivery.attempts.drain(..forgotten);
        if let Some(response) = attempted.response {
            kept.responses.insert((delivery_id, delivery.attempt_count), response);
        }
        if is_called_off {
            return;
        }
        delivery.last_error = (outcome != Outcome::Delivered).then_some(attempted.message);
        delivery.notes = attempted.notes;
        match next {
            Next::Completed => delivery.status = Status::Completed,
            Next::Failed => delivery.status = Status::Failed,
            Next::Due { at, counts } => {
                (delivery.status, delivery.due) = (Status::Retrying, at);
                delivery.tries_used += u32::from(counts);
            }
        }
        delivery.completed_at = delivery.status.is_final().then_some(finished_at);
    }

    /// See [`Store::retry`].
    pub fn retry(
        &mut self,
        scope: Scope,
        event: EventId,
        rule: RuleId,
        now: Timestamp,
    ) -> Result<Delivery, Refusal> {
        self.kept(scope, event).ok_or(Refusal::NotFound("event"))?;
        let kept = &self.events[&event];
        let (key, found) = kept.named(rule).ok_or(Refusal::NotFound("delivery"))?;
        if matches!(found.status, Status::Completed | Status::Canceled) {
            return Err(Refusal::Final(found.status));
        }
        if !kept.standing().iter().any(|stands| stands.id == found.id) {
            return Err(Refusal::Replayed);
        }
        let connection = self.connections.get(&found.connection_id).ok_or(Refusal::ConnectionGone)?;
        if connection.inactive.is_some() {
            return Err(Refusal::ConnectionInactive);
        }
        let is_imminent = found.status != Status::Failed && found.due <= now.after(Duration::from_secs(1));
        if self.in_flight.contains_key(&found.id) || is_imminent && connection.takes_deliveries() {
            return Err(Refusal::InFlight);
        }
        let kept = self.events.get_mut(&event).expect("it was just found");
        let delivery = kept.deliveries.get_mut(&key).expect("it was just found");
        delivery.status = if delivery.attempt_count == 0 { Status::Pending } else { Status::Retrying };
        (delivery.due, delivery.tries_used, delivery.completed_at) = (now, 0, None);
        Ok(delivery.clone())
    }

    /// See [`Store::cancel`].
    pub fn cancel(
        &mut self,
        scope: Scope,
        event: EventId,
        rule: Option<RuleId>,
        now: Timestamp,
    ) -> Result<EventDetails, Refusal> {
        self.kept(scope, event).ok_or(Refusal::NotFound("event"))?;
        let kept = self.events.get_mut(&event).expect("it was just found");
        if let Some(rule) = rule {
            let (_, delivery) = kept.named(rule).ok_or(Refusal::NotFound("delivery"))?;
            if delivery.status.is_final() {
                return Err(Refusal::Final(delivery.status));
            }
        }
        if kept.fate == Fate::Unrouted {
            kept.fate = Fate::CalledOff(now);
        } else {
            let named = rule.and_then(|rule| kept.named(rule)).map(|(_, delivery)| delivery.id);
            let is_meant = |delivery: &Delivery| rule.is_none() || Some(delivery.id) == named;
            let mut open: Vec<_> =
                kept.deliveries.values_mut().filter(|delivery| is_meant(delivery)).collect();
            open.retain(|delivery| !delivery.status.is_final());
            if open.is_empty() {
                let first = kept.shown().first().map(|delivery| delivery.status);
                let status = first.unwrap_or_else(|| self.status(&self.events[&event]));
                return Err(Refusal::Final(status));
            }
            for delivery in open {
                call_off(delivery, now, None);
            }
        }
        Ok(self.details(scope, event).expect("it was just found"))
    }

    /// See [`Store::cancel_queued`].
    pub fn cancel_queued(
        &mut self,
        workspace: WorkspaceId,
        connection: ConnectionId,
        at: Timestamp,
        limit: usize,
    ) -> usize {
        let due = |replayed| self.due_in(replayed, workspace, connection, Timestamp(i64::MAX), limit).entries;
        let mut entries = [due(false), due(true)].concat();
        entries.truncate(limit);
        for entry in &entries {
            let kept = self.events.get_mut(&entry.event_id).expect("what is queued is there");
            let is_it = |delivery: &&mut Delivery| delivery.id == entry.delivery_id;
            let delivery = kept.deliveries.values_mut().find(is_it).expect("what is queued is there");
            call_off(delivery, at, Some("the connection was deleted"));
        }
        entries.len()
    }

    /// Calls off what waits still of events past their retention, but for what is in flight.
    fn call_off_waiting(&mut self, now: Timestamp, default_days: u32) {
        for (id, kept) in &mut self.events {
            let workspace = &self.workspaces[&kept.new.event.workspace_id];
            let days = workspace.retention_days.unwrap_or(default_days);
            if *id >= EventId::first_at(now.before(Duration::from_secs(u64::from(days) * 86_400))) {
                continue;
            }
            if kept.fate == Fate::Unrouted {
                kept.fate = Fate::CalledOff(now);
            }
            let unit = if days == 1 { "day" } else { "days" };
            let why = format!(
                "kept longer than the workspace's retention of {days} {unit} without being delivered"
            );
            let waits = |delivery: &&mut Delivery| {
                !delivery.status.is_final() && !self.in_flight.contains_key(&delivery.id)
            };
            for delivery in kept.deliveries.values_mut().filter(waits) {
                call_off(delivery, now, Some(&why));
            }
        }
    }

    /// See [`Store::retain`].
    pub fn retain(&mut self, now: Timestamp, default_days: u32) -> u64 {
        let mut gone = BTreeSet::new();
        for kept in self.events.values() {
            let cutoff = self.cutoff(kept.new.event.workspace_id, now, default_days);
            if self.completed_at(kept).is_some_and(|completed| completed < cutoff) {
                gone.insert(kept.new.event.id);
            }
        }
        self.events.retain(|id, _| !gone.contains(id));
        self.forget_replays(now, default_days);
        self.sessions.retain(|_, session| now.since(session.created_at) <= Duration::from_secs(48 * 3_600));
        self.call_off_waiting(now, default_days);
        for workspace in self.workspaces.keys() {
            let is_unrouted = |kept: &&Kept| kept.fate == Fate::Unrouted;
            let of_it = self.events.values().filter(|kept| kept.new.event.workspace_id == *workspace);
            let oldest = of_it.filter(is_unrouted).filter_map(|kept| kept.sequence).min();
            for kept in self.events.values_mut().filter(|kept| kept.new.event.workspace_id == *workspace) {
                kept.is_past_known &= oldest.is_some_and(|oldest| kept.sequence >= Some(oldest));
            }
        }
        gone.len() as u64
    }

    /// What ended before this is not kept by a workspace.
    pub fn cutoff(&self, workspace: WorkspaceId, now: Timestamp, default_days: u32) -> Timestamp {
        let days = self.workspaces[&workspace].retention_days.unwrap_or(default_days);
        now.before(Duration::from_secs(u64::from(days) * 86_400))
    }
}

pub fn call_off(delivery: &mut Delivery, at: Timestamp, why: Option<&str>) {
    (delivery.status, delivery.completed_at) = (Status::Canceled, Some(at));
    delivery.last_error = why.map(str::to_owned);
}
