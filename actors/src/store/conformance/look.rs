//! Walks everything there is to see of a store, and compares it with the model.

use super::{
    answers::is_in,
    model::{Kept, Model},
    run::{event_filters, rule_filters},
    *,
};
use crate::domain::{key::publishable_key_hash, usage::USAGE_DAYS_KEPT};
use std::future::Future;

/// Pages that a list of this suite's may take.
const PAGES_MAX: usize = 2_000;

/// All of it; lists are walked in pages of `limit` rows.
pub async fn look(store: &dyn Store, model: &Model, limit: usize) {
    look_at_configuration(store, model, limit).await;
    look_at_work(store, model, limit).await;
    super::replays::look_at_replays(store, model, limit).await;
    people::look(store, model, limit).await;
    for scope in scopes(model) {
        for filter in event_filters(model) {
            let page = |after| store.events(scope, filter.clone(), after, limit);
            assert_eq!(walk(limit, page).await, model.events(scope, &filter), "{scope:?} {filter:?}");
        }
        let page = |after| store.events_with_payloads(scope, EventFilter::default(), after, limit);
        let with_payload = |summary: EventSummary| {
            let payload = model.events[&summary.event.id].new.payload.clone();
            (summary, Some(payload))
        };
        let events = model.events(scope, &EventFilter::default()).into_iter();
        assert_eq!(walk(limit, page).await, events.map(with_payload).collect::<Vec<_>>(), "{scope:?}");
    }
    look_at_usage(store, model, limit).await;
    for (organization, workspace, id) in &model.ever.events {
        look_at_event(store, model, (*organization, *workspace), *id).await;
    }
    for kept in model.events.values() {
        look_at_past(store, model, kept).await;
    }
    assert_eq!(store.verify().await, Ok(model.verification()));
    assert_eq!(store.availability(), Ok(()));
}

/// I9: every place that rows may be looked for in.
pub fn scopes(model: &Model) -> Vec<Scope> {
    let organizations = model.organizations.keys().map(|id| Scope::Organization(*id));
    organizations.chain(model.workspaces.keys().map(|id| Scope::Workspace(*id))).collect()
}

async fn look_at_configuration(store: &dyn Store, model: &Model, limit: usize) {
    for (workspace, kind) in model.workspaces.keys().flat_map(|id| NameKind::ALL.map(|kind| (*id, kind))) {
        let mut names = store.names(workspace, kind).await.unwrap();
        names.sort_by(|a, b| a.key.cmp(&b.key));
        let expected = model.names.values().filter(|it| (it.workspace_id, it.kind) == (workspace, kind));
        assert_eq!(names, expected.cloned().collect::<Vec<_>>(), "{kind:?} of {workspace}");
    }
    let organizations = walk(limit, |after| store.organizations(after, limit)).await;
    assert_eq!(organizations, values(&model.organizations));
    for id in model.organizations.keys() {
        assert_eq!(store.organization(*id).await.unwrap().as_ref(), model.organizations.get(id));
        let mut owned = values(&model.workspaces);
        owned.retain(|workspace| workspace.organization_id == *id);
        assert_eq!(walk(limit, |after| store.workspaces(*id, after, limit)).await, owned);
    }
    for (access_key, key) in &model.machine_keys {
        assert_eq!(store.machine_key(access_key).await.unwrap().as_ref(), Some(key));
    }
    assert_eq!(store.machine_key("mk_unknown").await, Ok(None));
    for id in model.organizations.keys() {
        let mut owned = values(&model.machine_keys);
        owned.retain(|key| key.organization_id == *id);
        let mut found = walk(limit, |after| store.machine_keys(*id, after, limit)).await;
        assert!(found.is_sorted_by_key(|key| key.created_at), "oldest first");
        found.sort_by(|one, other| one.access_key.cmp(&other.access_key));
        assert_eq!(found, owned);
    }
    for (workspace, key) in &model.publishable_keys {
        assert_eq!(store.publishable_key_of(*workspace).await.unwrap().as_ref(), Some(key));
    }
    for text in &model.ever.keys {
        let names = |key: &&PublishableKey| {
            key.public_key == *text || key.older.iter().any(|older| older.public_key == *text)
        };
        let expected = model.publishable_keys.values().find(names);
        let found = store.publishable_key(publishable_key_hash(text)).await.unwrap();
        assert_eq!(found.as_ref(), expected, "{text}");
    }
    for workspace in model.workspaces.keys() {
        for filter in session_filters() {
            let mut sessions = values(&model.sessions);
            sessions.retain(|session| session.workspace_id == *workspace && filter.shows(session));
            sessions.reverse();
            let page = |after| store.sessions(*workspace, filter.clone(), after, limit);
            assert_eq!(walk(limit, page).await, sessions, "{filter:?}");
        }
    }
    for scope in scopes(model) {
        for (id, found) in &model.workspaces {
            let expected = is_in(scope, found.organization_id, *id).then_some(found);
            assert_eq!(store.workspace(scope, *id).await.unwrap().as_ref(), expected, "{scope:?}");
        }
        for id in &model.ever.sessions {
            let found = model.sessions.get(id);
            let expected = found.filter(|it| is_in(scope, it.organization_id, it.workspace_id));
            assert_eq!(store.session(scope, *id).await.unwrap().as_ref(), expected, "{scope:?}");
        }
        for id in &model.ever.connections {
            let found = model.connections.get(id);
            let expected = found.filter(|it| is_in(scope, it.organization_id, it.workspace_id));
            assert_eq!(store.connection(scope, *id).await.unwrap().as_ref(), expected, "{scope:?}");
            let catalog = expected.and_then(|_| model.catalogs.get(id));
            assert_eq!(store.catalog(scope, *id).await.unwrap().as_ref(), catalog, "{scope:?}");
            let mapping = expected.and_then(|_| model.mappings.get(id));
            assert_eq!(store.mapping(scope, *id).await.unwrap().as_ref(), mapping, "{scope:?}");
            let grant = expected.and_then(|_| model.grants.get(id));
            assert_eq!(store.grant(scope, *id).await.unwrap().as_ref(), grant, "{scope:?}");
        }
        for id in &model.ever.rules {
            let found = model.rules.get(id);
            let expected = found.filter(|it| is_in(scope, it.organization_id, it.workspace_id));
            assert_eq!(store.rule(scope, *id).await.unwrap().as_ref(), expected, "{scope:?}");
        }
        let mut connections = values(&model.connections);
        connections.retain(|it| is_in(scope, it.organization_id, it.workspace_id));
        assert_eq!(walk(limit, |after| store.connections(scope, after, limit)).await, connections);
        for filter in rule_filters() {
            let mut rules = values(&model.rules);
            rules.retain(|rule| {
                is_in(scope, rule.organization_id, rule.workspace_id)
                    && filter.event.as_ref().is_none_or(|it| *it == rule.event)
                    && (filter.resource.is_none() || filter.resource == rule.resource)
                    && (filter.resource_id.is_none() || filter.resource_id == rule.resource_id)
            });
            let page = |after| store.rules(scope, filter.clone(), after, limit);
            assert_eq!(walk(limit, page).await, rules, "{scope:?} {filter:?}");
        }
    }
}

/// What was used on the days that are kept, and on some of them.
async fn look_at_usage(store: &dyn Store, model: &Model, limit: usize) {
    let today = Day::of(model.now);
    for days in [today.before(USAGE_DAYS_KEPT)..=today, today.before(9)..=today.before(1), today..=Day(0)] {
        for scope in scopes(model) {
            let page = |after| store.usage(scope, days.clone(), after, limit);
            assert_eq!(walk(limit, page).await, model.usage(scope, &days), "{scope:?} {days:?}");
        }
    }
    for id in model.organizations.keys() {
        assert_eq!(store.held(*id).await, Ok(model.held(*id)), "{id}");
    }
}

fn session_filters() -> [SessionFilter; 4] {
    let any = SessionFilter::default();
    [
        SessionFilter { revoked: Some(true), ..any.clone() },
        SessionFilter { revoked: Some(false), resource: Some("user".to_owned()), ..any.clone() },
        SessionFilter { resource_id: Some("2".to_owned()), ..any.clone() },
        any,
    ]
}

/// What waits, and for whom.
async fn look_at_work(store: &dyn Store, model: &Model, limit: usize) {
    assert_eq!(store.latest(), model.latest, "the latest time on record");
    let mut unfinished: Vec<UnfinishedWorkspace> = Vec::new();
    loop {
        let page = store.unfinished(unfinished.last().map(|last| last.id), limit).await.unwrap();
        assert!(page.len() <= limit);
        let is_last = page.len() < limit;
        unfinished.extend(page);
        if is_last {
            break;
        }
    }
    assert_eq!(unfinished, model.unfinished());
    assert_eq!(walk(limit, |after| store.queue_reports(after, limit)).await, model.queue_reports());
    for workspace in model.workspaces.keys() {
        assert_eq!(store.next_due(*workspace).await, Ok(model.next_due(*workspace)), "{workspace}");
        assert_eq!(store.queues(*workspace).await, Ok(model.queues(*workspace)), "{workspace}");
        let today = store.rules_as_of(*workspace, u64::MAX).await.unwrap();
        assert_eq!((today.rules, today.until), (model.rules_of(*workspace), None), "{workspace}");
        for connection in &model.ever.connections {
            for (until, limit) in [(model.now, limit), (Timestamp(i64::MAX), 10_000)] {
                let page = store.due(*workspace, *connection, until, limit).await.unwrap();
                let expected = model.due(*workspace, *connection, until, limit);
                assert_eq!((page.entries, page.next), (expected.entries, expected.next), "{connection}");
                let page = store.due_replayed(*workspace, *connection, until, limit).await.unwrap();
                let expected = model.due_in(true, *workspace, *connection, until, limit);
                assert_eq!((page.entries, page.next), (expected.entries, expected.next), "{connection}");
            }
        }
    }
    for connection in &model.ever.connections {
        let pace = model.paces.get(connection).copied().unwrap_or_default();
        assert_eq!(store.pace(*connection).await, Ok(pace), "{connection}");
    }
}

/// An event that is or was there, asked for by its owners and by everybody else.
async fn look_at_event(
    store: &dyn Store,
    model: &Model,
    (organization, workspace): (OrganizationId, WorkspaceId),
    id: EventId,
) {
    for scope in scopes(model) {
        let details = store.event(scope, id).await.unwrap().map(plain_details);
        assert_eq!(details, model.details(scope, id), "{scope:?} {id}");
        let payload = model.kept(scope, id).map(|kept| kept.new.payload.clone());
        assert_eq!(store.payload(scope, id).await, Ok(payload), "{scope:?} {id}");
    }
    let Some(kept) = model.events.get(&id) else { return };
    let foreign = scopes(model).into_iter().find(|scope| !is_in(*scope, organization, workspace));
    for delivery in kept.deliveries.values() {
        for number in 1..=delivery.attempt_count + 1 {
            let attempt = AttemptId::of(delivery.id, number);
            let is_kept = delivery.attempts.iter().any(|kept| kept.number == number);
            let response = kept.responses.get(&(delivery.id, number)).filter(|_| is_kept).cloned();
            let own = store.response(Scope::Workspace(workspace), id, attempt).await;
            assert_eq!(own, Ok(response), "attempt {number} of {}", delivery.id);
            if let Some(foreign) = foreign {
                assert_eq!(store.response(foreign, id, attempt).await, Ok(None), "{foreign:?} {id}");
            }
        }
    }
}

/// I7: the rules that stood when an event was accepted, and that they held until they next changed.
async fn look_at_past(store: &dyn Store, model: &Model, kept: &Kept) {
    let Some(sequence) = kept.sequence.filter(|_| kept.is_past_known) else { return };
    let workspace = kept.new.event.workspace_id;
    let past = store.rules_as_of(workspace, sequence).await.unwrap();
    assert_eq!(past.rules, kept.rules, "rules as of {sequence}");
    let changes = model.changes.get(&workspace).copied().unwrap_or(0);
    assert_eq!(past.until.is_some(), changes > kept.changes, "whether they changed after {sequence}");
    let of_workspace = model.events.values().filter(|other| other.new.event.workspace_id == workspace);
    for other in of_workspace.filter(|other| other.sequence >= Some(sequence)) {
        let is_over = past.until.is_some_and(|until| Some(until) <= other.sequence);
        assert_eq!(is_over, other.changes > kept.changes, "rules from {sequence} on: {:?}", past.until);
    }
}

/// All pages of a list as one.
pub async fn walk<T, Id: Copy, Answer>(limit: usize, mut page: impl FnMut(Option<Id>) -> Answer) -> Vec<T>
where
    Answer: Future<Output = Result<Page<T, Id>, StoreError>>,
{
    let (mut all, mut after) = (Vec::new(), None);
    for _ in 0..PAGES_MAX {
        let Page { records, next } = page(after).await.unwrap();
        assert!(records.len() <= limit, "a page is no longer than was asked for");
        all.extend(records);
        after = next;
        if after.is_none() {
            return all;
        }
    }
    panic!("a list without end");
}

fn values<Id, T: Clone>(rows: &std::collections::BTreeMap<Id, T>) -> Vec<T> {
    rows.values().cloned().collect()
}

/// Where the journal keeps a response is nobody's business; whether it does, is.
pub fn plain(mut delivery: Delivery) -> Delivery {
    for attempt in &mut delivery.attempts {
        attempt.response_at = attempt.response_at.map(|_| 0);
    }
    delivery
}

/// The same for all deliveries of an event.
pub fn plain_details(details: EventDetails) -> EventDetails {
    EventDetails { deliveries: details.deliveries.into_iter().map(plain).collect(), ..details }
}
