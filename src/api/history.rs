//! What became of events: lists, deliveries, attempts, and changing one's mind about them.

use super::{
    App, Ids,
    error::ApiError,
    json::{respond, respond_with},
    page::{self, Envelope, HISTORY, List, Query},
    search::Search,
};
use crate::auth::Caller;
use actors::{
    domain::{
        delivery::{Attempt, Delivery, Outcome, ResponseDetails},
        event::{Event, Status},
        ids::{AttemptId, ConnectionId, DeliveryId, EventId, ReplayId, RuleId, WorkspaceId},
        routing::RuleVerdict,
        timestamp::Timestamp,
    },
    engine::{EventDetails, EventSummary, Page, Scope},
};
use axum::{extract::State, http::StatusCode, response::Response};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

#[derive(Serialize, JsonSchema)]
pub(super) struct EventJson {
    id: EventId,
    event: String,
    workspace: WorkspaceId,
    #[serde(rename = "type")]
    #[schemars(extend("const" = "event"))]
    kind: &'static str,
    resource: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_id: Option<String>,
    created_by: String,
    created_at: Timestamp,
    status: Status,
    /// Somebody tried whether it arrives.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    test: bool,
    total_rules: u32,
    completed_count: u32,
    failed_count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule_events: Option<Vec<RuleEventJson>>,
    /// Rules of the event's name that did not match, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    unmatched_rules: Option<Vec<UnmatchedJson>>,
}

impl From<EventSummary> for EventJson {
    fn from(EventSummary { event, status, tally, started_at, completed_at }: EventSummary) -> Self {
        Self {
            id: event.id,
            event: event.name,
            workspace: event.workspace_id,
            kind: "event",
            resource: event.resource,
            resource_id: event.resource_id,
            created_by: event.created_by,
            created_at: event.accepted_at,
            status,
            test: event.id.is_test(),
            total_rules: tally.total,
            completed_count: tally.completed,
            failed_count: tally.failed,
            started_at,
            completed_at,
            rule_events: None,
            unmatched_rules: None,
        }
    }
}

impl From<EventDetails> for EventJson {
    fn from(EventDetails { summary, deliveries, unmatched }: EventDetails) -> Self {
        let rule_events = deliveries.iter().map(|delivery| RuleEventJson::new(&summary.event, delivery));
        let rule_events = Some(rule_events.collect());
        let unmatched_rules = Some(unmatched.into_iter().map(UnmatchedJson::from).collect());
        Self { rule_events, unmatched_rules, ..summary.into() }
    }
}

/// An event with its payload.
#[derive(JsonSchema)]
#[schemars(rename = "EventWithPayload")]
#[expect(dead_code, reason = "described only: the payload is put in as it was sent")]
pub(super) struct EventPayloadJson {
    #[serde(flatten)]
    event: EventJson,
    payload: Map<String, Value>,
}

/// One event for one rule: a delivery.
#[derive(Serialize, JsonSchema)]
pub(super) struct RuleEventJson {
    id: DeliveryId,
    workspace: WorkspaceId,
    event_id: EventId,
    connection: ConnectionId,
    rule: RuleId,
    #[serde(rename = "type")]
    #[schemars(extend("const" = "rule"))]
    kind: &'static str,
    event: String,
    resource: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_id: Option<String>,
    integration_type: String,
    status: Status,
    attempt_count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    /// When it is tried next.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<Timestamp>,
    created_by: String,
    created_at: Timestamp,
    /// The first delivery of the event by the rule, if this is a later one, and what made it. Ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    replay_of: Option<DeliveryId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replay_id: Option<ReplayId>,
}

impl RuleEventJson {
    fn new(event: &Event, delivery: &Delivery) -> Self {
        let waits = matches!(delivery.status, Status::Pending | Status::Retrying);
        Self {
            id: delivery.id,
            workspace: delivery.workspace_id,
            event_id: delivery.event_id,
            connection: delivery.connection_id,
            rule: delivery.rule_id,
            kind: "rule",
            event: event.name.clone(),
            resource: event.resource.clone(),
            resource_id: event.resource_id.clone(),
            integration_type: delivery.destination.clone(),
            status: delivery.status,
            attempt_count: delivery.attempt_count,
            started_at: delivery.started_at,
            completed_at: delivery.completed_at,
            last_error: delivery.last_error.clone(),
            next_attempt_at: waits.then_some(delivery.due),
            created_by: delivery.created_by.clone(),
            created_at: delivery.created_at,
            replay_of: delivery.replay.map(|of| of.first),
            replay_id: delivery.replay.map(|of| of.replay),
        }
    }
}

/// A rule that did not match, and why.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "UnmatchedRule")]
pub(super) struct UnmatchedJson {
    rule: RuleId,
    connection: ConnectionId,
    reason: String,
}

impl From<RuleVerdict> for UnmatchedJson {
    fn from(verdict: RuleVerdict) -> Self {
        Self { rule: verdict.rule_id, connection: verdict.connection_id, reason: verdict.reason }
    }
}

#[derive(Serialize, JsonSchema)]
pub(super) struct AttemptJson {
    id: AttemptId,
    event_id: EventId,
    rule: RuleId,
    rule_event: DeliveryId,
    connection: ConnectionId,
    attempt_number: u32,
    started_at: Timestamp,
    completed_at: Timestamp,
    duration_ms: u64,
    outcome_code: Outcome,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    http_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_retry_at: Option<Timestamp>,
    created_at: Timestamp,
}

impl AttemptJson {
    fn new(delivery: &Delivery, id: AttemptId, attempt: Attempt) -> Self {
        let duration = attempt.finished_at.since(attempt.started_at);
        Self {
            id,
            event_id: delivery.event_id,
            rule: delivery.rule_id,
            rule_event: delivery.id,
            connection: delivery.connection_id,
            attempt_number: attempt.number,
            started_at: attempt.started_at,
            completed_at: attempt.finished_at,
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            outcome_code: attempt.outcome,
            message: attempt.message,
            http_status: attempt.http_status,
            next_retry_at: attempt.next_due,
            created_at: attempt.started_at,
        }
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ResponseDetails")]
pub(super) struct ResponseJson {
    status: u16,
    #[schemars(with = "std::collections::BTreeMap<String, String>")]
    headers: Map<String, Value>,
    body: String,
    /// It was longer than what is kept of it.
    truncated: bool,
}

impl From<ResponseDetails> for ResponseJson {
    /// A header that came more than once has its values joined by commas.
    fn from(details: ResponseDetails) -> Self {
        let mut headers = Map::<String, Value>::new();
        for (name, value) in details.headers {
            match headers.get_mut(&name) {
                Some(Value::String(all)) => {
                    all.push_str(", ");
                    all.push_str(&value);
                }
                _ => {
                    headers.insert(name, value.into());
                }
            }
        }
        Self { status: details.status, headers, body: details.body, truncated: details.truncated }
    }
}

pub(super) async fn list(state: State<App>, caller: Caller, query: Query) -> Result<Response, ApiError> {
    let scope = caller.scope();
    list_in(state, caller, scope, query).await
}

pub(super) async fn list_of_workspace(
    state: State<App>,
    caller: Caller,
    Ids([workspace]): Ids<1>,
    query: Query,
) -> Result<Response, ApiError> {
    let scope = caller.workspace(&state, WorkspaceId::from_uuid(workspace)).await?;
    list_in(state, caller, scope, query).await
}

async fn list_in(
    State(app): State<App>,
    caller: Caller,
    scope: Scope,
    query: Query,
) -> Result<Response, ApiError> {
    let place = page::place_of(scope);
    let (limit, after) = query.page(List::Events, &place, HISTORY, EventId::from_bytes)?;
    let Search { filter, tests } = Search::of(&query, &caller)?;
    let mut page = app.engine.search(scope, filter, tests, after, limit).await?;
    page.records.retain(|EventSummary { event, .. }| {
        sees(&caller, event) && query.asks_about(Some(&event.resource), event.resource_id.as_deref())
    });
    let envelope = Envelope::new(List::Events, &place, limit, page, |id| *id.as_bytes(), EventJson::from);
    Ok(respond(StatusCode::OK, &envelope))
}

pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    Ids([event]): Ids<1>,
) -> Result<Response, ApiError> {
    let found = details(&app, &caller, event).await?;
    Ok(respond(StatusCode::OK, &EventJson::from(found)))
}

/// The event with its payload, byte for byte as it was sent.
pub(super) async fn payload(
    State(app): State<App>,
    caller: Caller,
    Ids([event]): Ids<1>,
) -> Result<Response, ApiError> {
    let found = details(&app, &caller, event).await?;
    let payload = app.engine.payload(scope_of(&found), found.summary.event.id).await?;
    let payload = payload.ok_or_else(|| ApiError::not_found("payload"))?;
    let shown = serde_json::to_vec(&EventJson::from(found)).map_err(|err| {
        tracing::error!(%err, "an event does not serialize");
        ApiError::internal()
    })?;
    Ok(respond_with(StatusCode::OK, splice(shown, "payload", &payload).into()))
}

/// A JSON object with one more member, whose value is put in as it is.
fn splice(mut object: Vec<u8>, name: &str, value: &[u8]) -> Vec<u8> {
    debug_assert_eq!(object.last(), Some(&b'}'), "an object that is not empty");
    object.pop();
    object.reserve(name.len() + value.len() + 5);
    object.extend_from_slice(b",\"");
    object.extend_from_slice(name.as_bytes());
    object.extend_from_slice(b"\":");
    object.extend_from_slice(value);
    object.push(b'}');
    object
}

/// The event of this id, if the caller may know of it.
async fn details(app: &App, caller: &Caller, event: Uuid) -> Result<EventDetails, ApiError> {
    let found = app.engine.event(caller.scope(), EventId::from_uuid(event)).await?;
    let found = found.and_then(|found| shown_to(caller, found));
    found.ok_or_else(|| ApiError::not_found("event"))
}

/// What the caller may know of an event.
pub(super) fn shown_to(caller: &Caller, mut found: EventDetails) -> Option<EventDetails> {
    if !sees(caller, &found.summary.event) {
        return None;
    }
    if caller.pair().is_some() {
        // Rules about something else are not for who is about one resource.
        found.unmatched.clear();
    }
    Some(found)
}

fn sees(caller: &Caller, event: &Event) -> bool {
    caller.sees_about(event.workspace_id, Some(&event.resource), event.resource_id.as_deref())
}

const fn scope_of(found: &EventDetails) -> Scope {
    Scope::Workspace(found.summary.event.workspace_id)
}

/// The delivery that `rule` names, by the rule's id the one that stands for it, or any by its own.
fn delivery_of(details: &EventDetails, rule: Uuid) -> Result<&Delivery, ApiError> {
    let (rule, id) = (RuleId::from_uuid(rule), DeliveryId::from_bytes(*rule.as_bytes()));
    let found = details.deliveries.iter().find(|delivery| delivery.rule_id == rule || delivery.id == id);
    found.ok_or_else(|| ApiError::not_found("rule"))
}

/// A delivery by its own id, where the engine asks for its rule: that is one of several, where it was replayed.
const fn named(delivery: &Delivery) -> RuleId {
    RuleId::from_bytes(*delivery.id.as_bytes())
}

pub(super) async fn retry(
    State(app): State<App>,
    caller: Caller,
    Ids([event, rule]): Ids<2>,
) -> Result<Response, ApiError> {
    if let Some(seconds) = app.retry_rate.take(&caller.organization_id(), 1).retry_after_seconds {
        return Err(ApiError::too_many_requests("the organization asks for too many retries", seconds));
    }
    let found = details(&app, &caller, event).await?;
    let rule = named(delivery_of(&found, rule)?);
    let delivery = caller.engine(&app).retry(scope_of(&found), found.summary.event.id, rule).await?;
    Ok(respond(StatusCode::OK, &RuleEventJson::new(&found.summary.event, &delivery)))
}

pub(super) async fn cancel_rule(
    State(app): State<App>,
    caller: Caller,
    Ids([event, rule]): Ids<2>,
) -> Result<Response, ApiError> {
    let found = details(&app, &caller, event).await?;
    let only = named(delivery_of(&found, rule)?);
    let after = caller.engine(&app).cancel(scope_of(&found), found.summary.event.id, Some(only)).await?;
    let delivery = delivery_of(&after, Uuid::from_bytes(*only.as_bytes()))?;
    Ok(respond(StatusCode::OK, &RuleEventJson::new(&after.summary.event, delivery)))
}

pub(super) async fn cancel_event(
    State(app): State<App>,
    caller: Caller,
    Ids([event]): Ids<1>,
) -> Result<Response, ApiError> {
    let found = details(&app, &caller, event).await?;
    let mut after = caller.engine(&app).cancel(scope_of(&found), found.summary.event.id, None).await?;
    after.unmatched = found.unmatched;
    Ok(respond(StatusCode::OK, &EventJson::from(after)))
}

/// A delivery and its attempts, oldest first.
async fn attempts_of(
    app: &App,
    caller: &Caller,
    event: Uuid,
    rule: Uuid,
) -> Result<(Delivery, Vec<(AttemptId, Attempt)>), ApiError> {
    let found = details(app, caller, event).await?;
    let rule = named(delivery_of(&found, rule)?);
    let attempts = app.engine.attempts(scope_of(&found), found.summary.event.id, rule).await?;
    attempts.ok_or_else(|| ApiError::not_found("rule"))
}

pub(super) async fn attempts(
    State(app): State<App>,
    caller: Caller,
    Ids([event, rule]): Ids<2>,
    query: Query,
) -> Result<Response, ApiError> {
    let (delivery, attempts) = attempts_of(&app, &caller, event, rule).await?;
    let place = delivery.id.as_bytes();
    let (limit, after) = query.page(List::Attempts, place, HISTORY, AttemptId::from_bytes)?;
    let page = page_of_attempts(attempts, after, limit);
    let show = |(id, attempt)| AttemptJson::new(&delivery, id, attempt);
    let envelope = Envelope::new(List::Attempts, place, limit, page, |id| *id.as_bytes(), show);
    Ok(respond(StatusCode::OK, &envelope))
}

/// Attempts after `after`. One that is forgotten by now was older than all that are kept.
fn page_of_attempts<T>(
    attempts: Vec<(AttemptId, T)>,
    after: Option<AttemptId>,
    limit: usize,
) -> Page<(AttemptId, T), AttemptId> {
    let seen = after.and_then(|after| attempts.iter().position(|(id, _)| *id == after));
    let start = seen.map_or(0, |at| at + 1);
    let left = attempts.len() - start;
    let records: Vec<_> = attempts.into_iter().skip(start).take(limit).collect();
    let next = if left > limit { records.last().map(|(id, _)| *id) } else { None };
    Page { records, next }
}

pub(super) async fn attempt(
    State(app): State<App>,
    caller: Caller,
    Ids([event, rule, attempt]): Ids<3>,
) -> Result<Response, ApiError> {
    let (delivery, attempts) = attempts_of(&app, &caller, event, rule).await?;
    let wanted = AttemptId::from_uuid(attempt);
    let found = attempts.into_iter().find(|(id, _)| *id == wanted);
    let (id, attempt) = found.ok_or_else(|| ApiError::not_found("attempt"))?;
    Ok(respond(StatusCode::OK, &AttemptJson::new(&delivery, id, attempt)))
}

pub(super) async fn response_details(
    State(app): State<App>,
    caller: Caller,
    Ids([event, rule, attempt]): Ids<3>,
) -> Result<Response, ApiError> {
    let (delivery, attempts) = attempts_of(&app, &caller, event, rule).await?;
    let wanted = AttemptId::from_uuid(attempt);
    if !attempts.iter().any(|(id, _)| *id == wanted) {
        return Err(ApiError::not_found("attempt"));
    }
    let scope = Scope::Workspace(delivery.workspace_id);
    let kept = app.engine.response(scope, delivery.event_id, wanted).await?;
    let kept = kept.ok_or_else(|| ApiError::not_found("response of this attempt"))?;
    Ok(respond(StatusCode::OK, &ResponseJson::from(kept)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_put_in_as_it_is() {
        let exact = br#"{ "n": 1.0000000000000000000001, "s": "\u00e9" }"#;
        let spliced = splice(br#"{"id":"x"}"#.to_vec(), "payload", exact);
        assert!(serde_json::from_slice::<Value>(&spliced).is_ok());
        assert!(spliced.windows(exact.len()).any(|window| window == exact));
    }

    #[test]
    fn attempts_are_paged_without_gap_or_repetition() {
        let id = |n: u8| AttemptId::from_bytes([n; 16]);
        let all: Vec<_> = (1..=5).map(|n| (id(n), n)).collect();
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = page_of_attempts(all.clone(), after, 2);
            seen.extend(page.records.iter().map(|(_, n)| *n));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, [1, 2, 3, 4, 5]);
        assert_eq!(page_of_attempts(all, None, 5).next, None);
        assert!(page_of_attempts(Vec::<(AttemptId, u8)>::new(), None, 5).records.is_empty());
    }

    #[test]
    fn repeated_response_headers_are_joined() {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let details = ResponseDetails {
            status: 500,
            headers: vec![header("via", "a"), header("date", "today"), header("via", "b")],
            body: "no".into(),
            truncated: false,
        };
        let shown = serde_json::to_value(ResponseJson::from(details)).expect("JSON");
        assert_eq!(shown["headers"], serde_json::json!({"via": "a, b", "date": "today"}));
    }
}
