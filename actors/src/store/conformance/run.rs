//! Makes each step happen to a store and to the model, and compares what they answer.

use super::{
    look::{self, plain},
    model::Kept,
    steps::{Came, How, Nth, Sent, Step},
    stores::Subject,
    *,
};
use crate::domain::{
    delivery::{Next, Outcome},
    routing::RuleVerdict,
};
use serde_json::json;
use std::time::Duration;

/// Rows asked for where all are meant.
const ALL: usize = 10_000;
const NAMES: [&str; 3] = ["contact.created", "contact.changed", "invoice.paid"];
/// Resources and their ids; the first is that of an event that names none.
const RESOURCES: [(&str, Option<&str>); 6] = [
    ("global", None),
    ("global", Some("1")),
    ("user", None),
    ("user", Some("1")),
    ("user", Some("2")),
    ("account", Some("1")),
];

/// A store and its model on their way.
pub struct Run<S> {
    pub subject: S,
    pub model: Model,
    /// What was taken up lately, and with which version of its connection.
    taken: Vec<(WorkspaceId, ConnectionId, u64, DueEntry)>,
    /// Something may have been forgotten.
    is_retained: bool,
}

impl<S: Subject> Run<S> {
    pub fn new(subject: S) -> Self {
        Self { subject, model: Model::default(), taken: Vec::new(), is_retained: false }
    }

    pub fn store(&self) -> &dyn Store {
        self.subject.store()
    }

    pub fn fence(&self) -> Fence {
        self.store().fence()
    }

    /// Two organizations, three workspaces, and something to deliver to in each.
    pub async fn furnish(&mut self) {
        for step in [
            Step::CreateOrganization,
            Step::CreateOrganization,
            Step::CreateMachineKey { organization: 0 },
            Step::CreateMachineKey { organization: 0 },
            Step::CreateWorkspace { organization: 0, name: 0 },
            Step::CreateWorkspace { organization: 0, name: 1 },
            Step::CreateWorkspace { organization: 1, name: 0 },
            Step::Invite { organization: 0, email: 0 },
            Step::Invite { organization: 0, email: 1 },
            Step::AcceptInvitation { invitation: 0 },
            Step::CreateSession { workspace: 0, is_about: true },
            Step::CreateSession { workspace: 0, is_about: false },
            Step::CreateConnection { workspace: 0, name: 0 },
            Step::CreateConnection { workspace: 0, name: 1 },
            Step::CreateConnection { workspace: 2, name: 0 },
            Step::CreateRule { connection: 0, event: 0, is_elsewhere: false },
            Step::CreateRule { connection: 0, event: 1, is_elsewhere: false },
            Step::CreateRule { connection: 1, event: 0, is_elsewhere: false },
            Step::CreateRule { connection: 2, event: 0, is_elsewhere: false },
            Step::CreateRule { connection: 2, event: 1, is_elsewhere: false },
        ] {
            self.take(step).await;
        }
    }

    /// Takes one step.
    pub async fn take(&mut self, step: Step) {
        match step {
            Step::CreateReplay { workspace, filter, is_now } => {
                self.create_replay(workspace, filter, is_now).await;
            }
            Step::TellReplay { replay, to, is_stale } => self.tell_replay(replay, to, is_stale).await,
            Step::ReplayPage { replay, limit, disturbed } => {
                self.step_replay(replay, limit, disturbed).await;
            }
            Step::CancelReplayed { replay } => self.cancel_replayed(replay).await,
            Step::Append(sent) => self.append(sent).await,
            Step::Route { workspace, limit } => self.route(workspace, limit).await,
            Step::RouteAgain { event } => self.route_again(event).await,
            Step::Begin { connection, in_ms, limit, is_stale } => {
                self.begin(connection, in_ms, limit, is_stale).await;
            }
            Step::BeginAgain => self.begin_again().await,
            Step::Record { first, count, next, has_response } => {
                self.record(first, count, next, has_response).await;
            }
            Step::TryOften { connection, times } => self.try_often(connection, times).await,
            Step::Release { connection } => {
                let Some(id) = nth(&self.model.ever.connections, connection) else { return };
                self.store().release(id).await;
                self.model.release(id);
            }
            Step::Retry { event, delivery, is_foreign } => self.retry(event, delivery, is_foreign).await,
            Step::Cancel { event, delivery, is_foreign } => self.cancel(event, delivery, is_foreign).await,
            Step::CancelQueued { connection, limit } => self.cancel_queued(connection, limit).await,
            Step::Pace { connection, paused_ms } => self.pace(connection, paused_ms).await,
            Step::Pass { ms } => self.model.now = later(self.model.now, ms),
            Step::Retain { default_days } => self.retain(default_days).await,
            Step::Usurp { ahead } => self.usurp(ahead).await,
            Step::Look { limit } => self.look(limit).await,
            Step::Reopen(how) => self.reopen(how).await,
            Step::ForgetAudit { days } => self.forget_audit(days).await,
            change => {
                let change = self.model.change_of_people(&change).or_else(|| self.change(change));
                let Some(change) = change else { return };
                let act = self.model.act();
                let entry = act.clone().and_then(|act| self.model.entry(&change, act));
                let expected = self.model.configure(change.clone()).map_err(StoreError::from);
                self.model.log(entry.filter(|_| expected.is_ok()));
                let answer = self.store().configure(self.fence(), change.clone(), act).await;
                assert_eq!(answer, expected, "{change:?}");
            }
        }
    }

    /// Compares everything there is to see.
    pub async fn look(&mut self, limit: usize) {
        self.learn_sequences().await;
        self.learn_changes().await;
        look::look(self.store(), &self.model, limit).await;
    }

    async fn append(&mut self, sent: Vec<Sent>) {
        let workspaces: Vec<_> = self.model.workspaces.values().cloned().collect();
        let mut events = Vec::new();
        for Sent { workspace, name: named, resource, key, body, body_bytes } in sent {
            let Some(workspace) = nth(&workspaces, workspace) else { return };
            let (resource, resource_id) = RESOURCES[usize::from(resource)];
            let event = Event {
                id: EventId::from_uuid(self.model.new_id()),
                organization_id: workspace.organization_id,
                workspace_id: workspace.id,
                name: name(named),
                resource: resource.to_owned(),
                resource_id: resource_id.map(str::to_owned),
                created_by: "test".to_owned(),
                accepted_at: self.model.now,
            };
            let idempotency =
                key.map(|key| Idempotency { key: format!("key {key}"), fingerprint: [body; 32] });
            events.push(NewEvent { event, payload: vec![body; body_bytes].into(), idempotency });
        }
        for new in &events {
            let first = self.store().first_of(new).await;
            assert_eq!(first, self.model.first_of(new), "what {:?} repeats", new.idempotency);
        }
        let answers = self.store().append_events(self.fence(), events.clone()).await;
        let expected: Vec<_> = events.into_iter().map(|new| self.model.append(new)).collect();
        assert_eq!(answers, expected);
        self.learn_sequences().await;
    }

    /// Reads all that is unrouted, and notes which sequences the store gave out.
    async fn learn_sequences(&mut self) {
        let workspaces: Vec<_> = self.model.workspaces.keys().copied().collect();
        for workspace in workspaces {
            let page = self.store().unrouted(workspace, ALL).await.unwrap();
            for found in &page.events {
                let kept = self.model.events.get_mut(&found.event.id);
                let kept = kept.unwrap_or_else(|| panic!("{} is not to be routed", found.event.id));
                let known = *kept.sequence.get_or_insert(found.sequence);
                assert_eq!(known, found.sequence, "the sequence of {}", found.event.id);
            }
            let expected: Vec<_> = self.model.unrouted(workspace).iter().map(|kept| &kept.new).collect();
            let found: Vec<_> = page.events.iter().map(|found| (&found.event, &found.payload)).collect();
            let plain: Vec<_> = expected.iter().map(|new| (&new.event, &new.payload)).collect();
            assert_eq!(found, plain, "unrouted in {workspace}");
            for found in &page.events {
                let kept = &self.model.events[&found.event.id];
                let changes = self.model.changes.get(&workspace).copied().unwrap_or(0);
                let meets_todays = found.sequence > page.rules_changed_at;
                assert_eq!(meets_todays, kept.changes == changes, "rules for {}", found.event.id);
            }
        }
    }

    async fn route(&mut self, workspace: Nth, limit: usize) {
        let mut workspaces: Vec<_> = self.model.workspaces.keys().copied().collect();
        workspaces.retain(|id| !self.model.unrouted(*id).is_empty());
        let Some(workspace) = nth(&workspaces, workspace) else { return };
        let page = self.store().unrouted(workspace, limit).await.unwrap();
        let ids = |kept: &&model::Kept| kept.new.event.id;
        let expected: Vec<_> = self.model.unrouted(workspace).iter().take(limit).map(ids).collect();
        assert_eq!(page.events.iter().map(|found| found.event.id).collect::<Vec<_>>(), expected);
        let mut routed = Vec::new();
        for found in page.events {
            let met = self.store().rules_as_of(workspace, found.sequence).await.unwrap().rules;
            assert_eq!(met, self.model.events[&found.event.id].rules, "rules of {}", found.event.id);
            routed.push(judge(&found.event, met, self.model.now));
        }
        self.store().record_routing(self.fence(), workspace, routed.clone()).await.unwrap();
        routed.into_iter().for_each(|routed| self.model.route(routed));
    }

    async fn route_again(&mut self, event: Nth) {
        let Some((_, workspace, id)) = nth(&self.model.ever.events, event) else { return };
        if self.model.events.get(&id).is_some_and(|kept| kept.fate == model::Fate::Unrouted) {
            return;
        }
        let routed = Routed { event_id: id, at: self.model.now, matched: Vec::new(), unmatched: Vec::new() };
        self.store().record_routing(self.fence(), workspace, vec![routed.clone()]).await.unwrap();
        self.model.route(routed);
    }

    async fn begin(&mut self, connection: Nth, in_ms: i64, limit: usize, is_stale: bool) {
        let Some((workspace, id, version)) = self.connection(connection) else { return };
        let until = later(self.model.now, in_ms);
        let page = self.store().due(workspace, id, until, limit).await.unwrap();
        let expected = self.model.due(workspace, id, until, limit);
        assert_eq!((page.entries, page.next), (expected.entries.clone(), expected.next), "due for {id}");
        for entry in expected.entries {
            let taken = (workspace, id, version + u64::from(is_stale), entry);
            self.taken.push(taken);
            self.begin_one(taken).await;
        }
    }

    async fn begin_again(&mut self) {
        for taken in self.taken.clone() {
            self.begin_one(taken).await;
        }
        self.taken.drain(..self.taken.len().saturating_sub(5));
    }

    async fn begin_one(&mut self, taken: (WorkspaceId, ConnectionId, u64, DueEntry)) -> bool {
        let (workspace, connection, version, entry) = taken;
        let begun = self.store().begin(self.fence(), workspace, connection, version, entry).await.unwrap();
        match (begun, self.model.begin(workspace, connection, version, entry)) {
            (Begun::Work(found), Ok(expected)) => {
                assert_eq!(plain(found.delivery), expected.delivery);
                assert_eq!((found.event, found.payload), (expected.event, expected.payload));
                true
            }
            (Begun::NotDue, Err(Begun::NotDue))
            | (Begun::ConnectionChanged, Err(Begun::ConnectionChanged)) => false,
            (found, expected) => panic!("began {found:?}, not {expected:?}"),
        }
    }

    async fn record(&mut self, first: Nth, count: usize, next: Came, has_response: bool) {
        let in_flight: Vec<_> = self.model.in_flight.iter().map(|(id, (_, event))| (*id, *event)).collect();
        let mut attempts = Vec::new();
        for offset in 0..count.min(in_flight.len()) {
            let (delivery, event) = in_flight[(usize::from(first) + offset) % in_flight.len()];
            attempts.push((event, attempted(delivery, event, self.model.now, next, has_response)));
        }
        for (event, attempted) in attempts {
            let found = self.model.ever.events.iter().find(|(_, _, id)| *id == event);
            let (_, workspace, _) = *found.expect("what is in flight was there once");
            let answer = self.store().record_attempts(self.fence(), workspace, vec![attempted.clone()]).await;
            answer.unwrap();
            self.model.record_attempt(attempted);
        }
    }

    /// A delivery is begun and put off, over and over.
    async fn try_often(&mut self, connection: Nth, times: u32) {
        let Some((workspace, id, version)) = self.connection(connection) else { return };
        for number in 0..times {
            let page = self.model.due(workspace, id, Timestamp(i64::MAX), 1);
            let Some(entry) = page.entries.first().copied() else { return };
            if !self.begin_one((workspace, id, version, entry)).await {
                return;
            }
            let next = Came::Again { in_ms: -1, counts: number % 2 == 0 };
            let attempted = attempted(entry.delivery_id, entry.event_id, self.model.now, next, number == 0);
            let answer = self.store().record_attempts(self.fence(), workspace, vec![attempted.clone()]).await;
            answer.unwrap();
            self.model.record_attempt(attempted);
        }
    }

    /// An event, one of its deliveries' rules, and where it is looked for: mostly one with deliveries, and now
    /// and then one without, or one that is gone.
    fn event(&self, event: Nth, delivery: Nth, is_foreign: bool) -> Option<(EventId, RuleId, Scope)> {
        let mut events = self.model.ever.events.clone();
        if !event.is_multiple_of(5) {
            events.retain(|(_, _, id)| {
                self.model.events.get(id).is_some_and(|kept| !kept.deliveries.is_empty())
            });
        }
        let (organization, workspace, id) = nth(&events, event)?;
        let kept = self.model.events.get(&id);
        let rules: Vec<_> = kept.into_iter().flat_map(Kept::names).collect();
        let rule = nth(&rules, delivery).or(nth(&self.model.ever.rules, delivery))?;
        let mut scopes = vec![Scope::Organization(organization), Scope::Workspace(workspace)];
        if is_foreign {
            scopes = self.model.workspaces.keys().map(|id| Scope::Workspace(*id)).collect();
            scopes.extend(self.model.organizations.keys().map(|id| Scope::Organization(*id)));
            scopes.retain(|scope| !answers::is_in(*scope, organization, workspace));
        }
        Some((id, rule, nth(&scopes, delivery)?))
    }

    async fn retry(&mut self, event: Nth, delivery: Nth, is_foreign: bool) {
        let Some((id, rule, scope)) = self.event(event, delivery, is_foreign) else { return };
        let act = self.model.act();
        let answer = self.store().retry(self.fence(), scope, id, rule, self.model.now, act.clone()).await;
        let expected = self.model.retry(scope, id, rule, self.model.now);
        if let Ok(delivery) = &expected {
            let event = self.model.events[&id].new.event.clone();
            let subject = ("delivery", delivery.id.to_string());
            self.model.log_of_event(act, "delivery.retried", &event, subject);
        }
        assert_eq!(answer.map(plain), expected.map_err(StoreError::from), "retry of {id} by {rule}");
    }

    async fn cancel(&mut self, event: Nth, delivery: Option<Nth>, is_foreign: bool) {
        let found = self.event(event, delivery.unwrap_or(0), is_foreign);
        let Some((id, rule, scope)) = found else { return };
        let rule = delivery.map(|_| rule);
        let act = self.model.act();
        let answer = self.store().cancel(self.fence(), scope, id, rule, self.model.now, act.clone()).await;
        // Once it is called off it may not be the one that stands for its rule.
        let kept = self.model.events.get(&id);
        let of_rule = rule.and_then(|rule| kept?.named(rule)).map(|(_, delivery)| delivery.id.to_string());
        let expected = self.model.cancel(scope, id, rule, self.model.now);
        if expected.is_ok() {
            let event = self.model.events[&id].new.event.clone();
            match of_rule {
                Some(one) => self.model.log_of_event(act, "delivery.canceled", &event, ("delivery", one)),
                None => self.model.log_of_event(act, "event.canceled", &event, ("event", id.to_string())),
            }
        }
        let answer = answer.map(look::plain_details);
        assert_eq!(answer, expected.map_err(StoreError::from), "cancel of {id} by {rule:?}");
    }

    async fn cancel_queued(&mut self, connection: Nth, limit: usize) {
        let Some((workspace, id, _)) = self.connection(connection) else { return };
        let answer = self.store().cancel_queued(self.fence(), workspace, id, self.model.now, limit).await;
        let expected = self.model.cancel_queued(workspace, id, self.model.now, limit);
        assert_eq!(answer, Ok(expected), "calling off what waits for {id}");
    }

    async fn pace(&mut self, connection: Nth, paused_ms: Option<i64>) {
        let Some((_, id, _)) = self.connection(connection) else { return };
        let pace = Pace { paused_until: paused_ms.map(|ms| later(self.model.now, ms)) };
        self.store().record_pace(self.fence(), id, pace).await.unwrap();
        self.model.paces.insert(id, pace);
    }

    async fn retain(&mut self, default_days: u32) {
        let answer =
            self.store().retain(self.fence(), self.model.now, &Retention::of_days(default_days)).await;
        assert_eq!(answer, Ok(self.model.retain(self.model.now, default_days)));
        self.is_retained = true;
    }

    /// I18: a write under another fence is refused and changes nothing, as the next look shows.
    async fn usurp(&mut self, ahead: bool) {
        let Fence(own) = self.fence();
        let fence = Fence(if ahead { own + 1 } else { own - 1 });
        let (store, now) = (self.subject.store(), self.model.now);
        let mut answers = Vec::new();
        if let Some(workspace) = self.model.workspaces.values().next() {
            let renamed = Workspace { name: "usurped".to_owned(), ..workspace.clone() };
            answers.push(store.configure(fence, Change::UpdateWorkspace(renamed), None).await);
        }
        for kept in self.model.events.values() {
            let Event { id, workspace_id: workspace, .. } = kept.new.event;
            let new_id = EventId::from_uuid(uuid::Uuid::from_u128(1));
            let event = Event { id: new_id, ..kept.new.event.clone() };
            let new = NewEvent { event, idempotency: None, ..kept.new.clone() };
            answers.extend(store.append_events(fence, vec![new]).await.into_iter().map(|it| it.map(drop)));
            let routed = judge(&kept.new.event, Vec::new(), now);
            answers.push(store.record_routing(fence, workspace, vec![routed]).await);
            let scope = Scope::Workspace(workspace);
            answers.push(store.cancel(fence, scope, id, None, now, None).await.map(drop));
            for delivery in kept.deliveries.values() {
                let Delivery { id: delivery, connection_id: connection, rule_id, due, .. } = *delivery;
                let entry = DueEntry { due, delivery_id: delivery, event_id: id };
                let attempted = attempted(delivery, id, now, Came::Delivered, false);
                let pace = Pace { paused_until: Some(now) };
                answers.push(store.retry(fence, scope, id, rule_id, now, None).await.map(drop));
                answers.push(store.begin(fence, workspace, connection, 1, entry).await.map(drop));
                answers.push(store.record_attempts(fence, workspace, vec![attempted]).await);
                answers.push(store.cancel_queued(fence, workspace, connection, now, 9).await.map(drop));
                answers.push(store.record_pace(fence, connection, pace).await);
            }
        }
        for replay in self.model.replays.values() {
            let step = ReplayStep { replay: replay.clone(), again: Vec::new(), at: now };
            answers.push(store.record_replayed(fence, step).await.map(drop));
            answers.push(store.cancel_replayed(fence, replay.workspace_id, replay.id, now).await);
        }
        answers.push(store.forget_audit(fence, later(now, i64::from(u32::MAX))).await);
        answers.push(
            store.retain(fence, later(now, i64::from(u32::MAX)), &Retention::of_days(1)).await.map(drop),
        );
        for answer in answers {
            assert_eq!(answer, Err(StoreError::Fenced));
        }
    }

    /// I1, I2, I14: whatever there is of the index, all that was recorded is there again; who owned the
    /// store before owns it no more.
    async fn reopen(&mut self, how: How) {
        let before = self.fence();
        if self.subject.reopen(how).await {
            assert!(self.fence() > before, "{before:?} is over");
            self.model.in_flight.clear();
            if self.is_retained {
                // The latest time on record may have been that of something forgotten.
                let kept = self.model.events.values().map(|kept| kept.new.event.accepted_at);
                let range = kept.max().unwrap_or_default()..=self.model.latest;
                let latest = self.store().latest();
                assert!(range.contains(&latest), "{latest} is the latest, not in {range:?}");
                self.model.latest = latest;
            }
            self.look(2).await;
        }
    }

    /// A connection that is or was there, its workspace, and its version: mostly one that something waits for.
    fn connection(&self, connection: Nth) -> Option<(WorkspaceId, ConnectionId, u64)> {
        let mut connections = self.model.ever.connections.clone();
        if !connection.is_multiple_of(5) {
            connections.retain(|id| self.model.waiting().any(|delivery| delivery.connection_id == *id));
        }
        let id = nth(&connections, connection)?;
        if let Some(found) = self.model.connections.get(&id) {
            return Some((found.workspace_id, id, found.version));
        }
        let workspace = self.model.waiting().find(|delivery| delivery.connection_id == id)?.workspace_id;
        Some((workspace, id, 1))
    }
}

/// What becomes of an event at these rules: it goes where an active rule of its name says.
fn judge(event: &Event, rules: Vec<Rule>, at: Timestamp) -> Routed {
    let mut routed = Routed { event_id: event.id, at, matched: Vec::new(), unmatched: Vec::new() };
    for rule in rules.into_iter().filter(|rule| rule.event == event.name) {
        let (rule_id, connection_id) = (rule.id, rule.connection_id);
        if rule.active {
            let action = serde_json::to_string(&rule.metadata).unwrap();
            let (destination, created_by) = (rule.kind, rule.created_by);
            routed.matched.push(Matched { rule_id, connection_id, destination, action, created_by });
        } else {
            let reason = "the rule is not active".to_owned();
            routed.unmatched.push(RuleVerdict { rule_id, connection_id, reason });
        }
    }
    routed
}

fn attempted(
    delivery_id: DeliveryId,
    event_id: EventId,
    now: Timestamp,
    came: Came,
    has_response: bool,
) -> Attempted {
    let (outcome, http_status, next) = match came {
        Came::Delivered => (Outcome::Delivered, Some(200), Next::Completed),
        Came::Again { in_ms, counts } => {
            let next = Next::Due { at: later(now, in_ms + 1), counts };
            (Outcome::RejectedServerError, Some(503), next)
        }
        Came::GivenUp => (Outcome::NetworkError, None, Next::Failed),
    };
    let response = ResponseDetails {
        status: 503,
        headers: vec![("retry-after".to_owned(), "1".to_owned())],
        body: format!("try again after {now}"),
        truncated: false,
    };
    Attempted {
        delivery_id,
        event_id,
        started_at: now.before(Duration::from_millis(3)),
        finished_at: now,
        outcome,
        http_status,
        message: format!("{outcome:?}"),
        response: has_response.then_some(response),
        next,
        notes: has_response.then(|| format!("{{\"made\":\"{delivery_id}\"}}")),
    }
}

/// One of however many there are.
pub fn nth<T: Clone>(all: &[T], number: Nth) -> Option<T> {
    all.get(usize::from(number).checked_rem(all.len())?).cloned()
}

pub fn name(number: u8) -> String {
    NAMES[usize::from(number) % NAMES.len()].to_owned()
}

fn later(moment: Timestamp, ms: i64) -> Timestamp {
    Timestamp(moment.0.saturating_add(ms))
}

pub fn sealed<T: serde::de::DeserializeOwned>() -> T {
    serde_json::from_value(json!("c2VhbGVk")).unwrap()
}

/// All questions that a filter of events can be.
pub fn event_filters(model: &Model) -> Vec<EventFilter> {
    let any = EventFilter::default();
    let of = |name: &str| Some(name.to_owned());
    let mut filters = vec![any.clone()];
    filters.extend(NAMES.map(|name| EventFilter { event: of(name), ..any.clone() }));
    filters.extend(["global", "user", "none"].map(|it| EventFilter { resource: of(it), ..any.clone() }));
    filters.extend(["1", "2"].map(|it| EventFilter { resource_id: of(it), ..any.clone() }));
    for status in Status::ALL {
        let status = Some(status);
        filters.push(EventFilter { status, ..any.clone() });
        filters.push(EventFilter { status, event: of(NAMES[0]), ..any.clone() });
    }
    let (event, resource, resource_id) = (of(NAMES[0]), of("user"), of("1"));
    filters.push(EventFilter { event, resource, resource_id, ..any.clone() });
    let times: Vec<_> = model.events.values().map(|kept| kept.new.event.accepted_at).collect();
    let middle = times.get(times.len() / 2).copied();
    for (since, until) in [(middle, None), (None, middle), (times.first().copied(), middle)] {
        filters.push(EventFilter { since, until, ..any.clone() });
        filters.push(EventFilter {
            since,
            until,
            event: of(NAMES[0]),
            status: Some(Status::Pending),
            ..any.clone()
        });
    }
    filters.extend(
        model.ever.events.iter().rev().take(2).map(|(.., id)| EventFilter { id: Some(*id), ..any.clone() }),
    );
    let rules =
        model.ever.rules.iter().take(2).map(|id| DeliveryFilter { rule: Some(*id), ..Default::default() });
    let connections = model.ever.connections.iter().take(2);
    let connections = connections.map(|id| DeliveryFilter { connection: Some(*id), ..Default::default() });
    let outcome = DeliveryFilter { outcome: Some(Outcome::Delivered), ..Default::default() };
    let deliveries = rules.chain(connections).chain([outcome]);
    filters.extend(deliveries.map(|delivery| EventFilter { delivery, ..any.clone() }));
    filters
}

/// All questions that a filter of rules can be.
pub fn rule_filters() -> Vec<RuleFilter> {
    let any = RuleFilter::default();
    let mut filters = vec![any.clone()];
    filters.extend(NAMES.map(|name| RuleFilter { event: Some(name.to_owned()), ..any.clone() }));
    filters.push(RuleFilter { resource: Some("user".to_owned()), ..any.clone() });
    filters.push(RuleFilter { resource_id: Some("2".to_owned()), ..any });
    filters
}
