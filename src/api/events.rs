//! Events on their way in: the hot path, and the only routes a browser may call.
//!
//! The payload is a slice of the body as it came, from here to the journal: never parsed into a
//! value, never written anew.

use super::{
    App,
    document::{self, EventBody},
    error::{ApiError, Detail},
    form, json,
};
use crate::{
    auth::{self, Machine, Sender},
    http::read_body,
    rate::Standing,
};
use actors::{
    domain::{
        event::Event,
        ids::{EventId, WorkspaceId},
        timestamp::Timestamp,
    },
    engine::{EngineError, Idempotency, IngestRequest},
};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, StatusCode},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use tokio::task::yield_now;

/// What an event may have beside its payload, in bytes: three names of 255 characters, were every
/// one of them a surrogate pair of two escapes (12 bytes), and the rest of the envelope.
pub(super) const ENVELOPE_BYTES_MAX: usize = 12 * 1024;

/// Events of a bulk request that are read before others have their turn.
const ITEMS_A_TURN: usize = 4;
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const RATE_REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RATE_RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// An accepted event: it is on disk, nothing more is known.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AcceptedEvent")]
pub(super) struct AcceptedJson<'e> {
    id: EventId,
    event: &'e str,
    workspace: WorkspaceId,
    #[serde(rename = "type")]
    #[schemars(extend("const" = "event"))]
    kind: &'static str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    test: bool,
    resource: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_id: Option<&'e str>,
    created_by: &'e str,
    created_at: Timestamp,
}

impl<'e> From<&'e Event> for AcceptedJson<'e> {
    fn from(event: &'e Event) -> Self {
        Self {
            id: event.id,
            event: &event.name,
            workspace: event.workspace_id,
            kind: "event",
            test: event.id.is_test(),
            resource: &event.resource,
            resource_id: event.resource_id.as_deref(),
            created_by: &event.created_by,
            created_at: event.accepted_at,
        }
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CreatedEvent")]
pub(super) struct Created<'e> {
    event: AcceptedJson<'e>,
}

/// What became of one event of a bulk request.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "BulkRecord")]
enum Record<'r> {
    Accepted(AcceptedJson<'r>),
    Refused { message: &'r str, error: Detail<'r> },
}

/// In the order of the request.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AcceptedBulk")]
pub(super) struct Bulk<'r> {
    count: usize,
    /// Absent where all were accepted.
    #[serde(skip_serializing_if = "is_zero")]
    error_count: usize,
    records: Vec<Record<'r>>,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// `POST /events`: one event.
pub(super) async fn create(State(app): State<App>, request: Request) -> Response {
    let mut standing = None;
    let answer = accept(&app, request, &mut standing).await;
    with_standing(answer.unwrap_or_else(ApiError::into_response), standing)
}

async fn accept(app: &App, request: Request, standing: &mut Option<Standing>) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let sender = auth::sender(app, &parts).await?;
    json::is_json(&parts.headers)?;
    let key = idempotency_key(&parts.headers)?;
    let bytes_max = app.limits.payload_bytes_max + ENVELOPE_BYTES_MAX;
    let body = read_body(body, bytes_max, app.limits.body_timeout).await?;

    let event = document::parse_event(&body)?;
    let place = place(app, &sender, event.workspace.as_deref()).await?;
    let idempotency =
        key.map(|key| Idempotency { key: key.to_owned(), fingerprint: Sha256::digest(&body).into() });
    let request = ingest_request(app, &sender, place, event, &body, idempotency)?;
    take_rate(app, place, 1, standing)?;

    let accepted = app.engine.ingest(vec![request]).await.pop();
    let accepted = accepted.unwrap_or_else(|| Err(EngineError::Internal("no answer to an event".into())))?;
    Ok(json::respond(StatusCode::CREATED, &Created { event: (&accepted).into() }))
}

/// `POST /events/bulk`: up to 100 events, each accepted or refused by itself.
pub(super) async fn create_bulk(State(app): State<App>, request: Request) -> Response {
    let mut standing = None;
    let answer = accept_bulk(&app, request, &mut standing).await;
    with_standing(answer.unwrap_or_else(ApiError::into_response), standing)
}

async fn accept_bulk(
    app: &App,
    request: Request,
    standing: &mut Option<Standing>,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let sender = auth::sender(app, &parts).await?;
    json::is_json(&parts.headers)?;
    let key = idempotency_key(&parts.headers)?;
    let body = read_body(body, app.limits.bulk_bytes_max, app.limits.body_timeout).await?;
    let items = document::parse_bulk(&body)?;

    let mut places = Places::default();
    let mut refused: Vec<Option<ApiError>> = Vec::with_capacity(items.len());
    let mut requests = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let idempotency = key.map(|key| idempotency_of_item(key, index, item));
        match item_request(app, &sender, &mut places, item, &body, idempotency).await {
            Ok(request) => {
                requests.push(request);
                refused.push(None);
            }
            Err(err) => refused.push(Some(err)),
        }
        if index % ITEMS_A_TURN == ITEMS_A_TURN - 1 {
            yield_now().await;
        }
    }
    // All or nothing for each workspace: a flood is not let in by halves, and whoever floods takes
    // nothing from the others in the same request.
    let mut counts = BTreeMap::<WorkspaceId, u32>::new();
    for request in &requests {
        *counts.entry(request.workspace_id).or_default() += 1;
    }
    let mut flooding = BTreeMap::new();
    for (workspace, events) in &counts {
        if let Err(err) = take_rate(app, *workspace, *events, standing) {
            flooding.insert(*workspace, err);
        }
    }
    if flooding.len() == counts.len()
        && let Some((_, err)) = flooding.pop_first()
    {
        return Err(err);
    }
    let mut open = refused.iter_mut().filter(|refused| refused.is_none());
    requests.retain(|request| {
        let (over, place) = (flooding.get(&request.workspace_id).cloned(), open.next());
        let passes = over.is_none();
        if let Some(place) = place {
            *place = over;
        }
        passes
    });

    let outcomes = app.engine.ingest(requests).await;
    let unavailable = outcomes.iter().find_map(|outcome| match outcome {
        Err(EngineError::Unavailable(reason)) => Some(*reason),
        _ => None,
    });
    if let Some(reason) = unavailable.filter(|_| outcomes.iter().all(Result::is_err)) {
        return Err(reason.into());
    }
    let is_exceeded = |outcome: &Result<_, _>| matches!(outcome, Err(EngineError::Exceeded(_)));
    if !outcomes.is_empty() && outcomes.iter().all(is_exceeded) {
        let first = outcomes.into_iter().find_map(Result::err);
        return Err(first.map_or_else(ApiError::internal, ApiError::from));
    }
    let outcomes = outcomes.into_iter().map(|outcome| outcome.map_err(ApiError::from));
    Ok(bulk_response(refused, outcomes))
}

/// The records in the order of the request: events where accepted, errors where not.
fn bulk_response(
    refused: Vec<Option<ApiError>>,
    mut outcomes: impl Iterator<Item = Result<Event, ApiError>>,
) -> Response {
    let lost = || ApiError::from(EngineError::Internal("no answer to an event".into()));
    let results: Vec<Result<Event, ApiError>> = refused
        .into_iter()
        .map(|refused| match refused {
            Some(err) => Err(err),
            None => outcomes.next().unwrap_or_else(|| Err(lost())),
        })
        .collect();
    fn record(result: &Result<Event, ApiError>) -> Record<'_> {
        match result {
            Ok(event) => Record::Accepted(event.into()),
            Err(err) => Record::Refused { message: &err.message, error: err.detail() },
        }
    }
    let error_count = results.iter().filter(|result| result.is_err()).count();
    let records: Vec<_> = results.iter().map(record).collect();
    let status = if error_count == 0 { StatusCode::CREATED } else { StatusCode::MULTI_STATUS };
    json::respond(status, &Bulk { count: records.len(), error_count, records })
}

async fn item_request(
    app: &App,
    sender: &Sender,
    places: &mut Places,
    item: &[u8],
    body: &Bytes,
    idempotency: Option<Idempotency>,
) -> Result<IngestRequest, ApiError> {
    let event = document::parse_event(item)?;
    let place = places.find(app, sender, event.workspace.as_deref()).await?;
    ingest_request(app, sender, place, event, body, idempotency)
}

/// What the engine is asked, the payload still a slice of the body.
fn ingest_request(
    app: &App,
    sender: &Sender,
    place: WorkspaceId,
    event: EventBody<'_>,
    body: &Bytes,
    idempotency: Option<Idempotency>,
) -> Result<IngestRequest, ApiError> {
    if event.payload.len() > app.limits.payload_bytes_max {
        let message = format!("the payload is larger than {} bytes", app.limits.payload_bytes_max);
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    let (organization_id, created_by) = match sender {
        Sender::Machine(machine) => (machine.organization_id, machine.access_key.clone()),
        Sender::Publishable(key) => (key.organization_id, key.public_key.clone()),
    };
    Ok(IngestRequest {
        organization_id,
        workspace_id: place,
        payload: body.slice_ref(event.payload),
        name: event.event,
        resource: event.resource,
        resource_id: event.resource_id,
        created_by,
        idempotency,
    })
}

/// The workspace an event goes to: the key's, or the one it names.
async fn place(app: &App, sender: &Sender, named: Option<&str>) -> Result<WorkspaceId, ApiError> {
    let named =
        named.map(|text| form::uuid_field("workspace", text).map(WorkspaceId::from_uuid)).transpose()?;
    match (sender, named) {
        (Sender::Publishable(key), Some(named)) if named != key.workspace_id => {
            Err(ApiError::field("workspace", "is not the publishable key's workspace; leave it out"))
        }
        (Sender::Publishable(key), _) => Ok(key.workspace_id),
        (Sender::Machine(Machine { organization_id, limits, .. }), named) => {
            let named = named.or_else(|| limits.only_workspace());
            let required = || ApiError::field("workspace", "is required with a machine token");
            let named = named.ok_or_else(required)?;
            let found = app.engine.workspace(*organization_id, named).await?;
            let found = found.filter(|_| limits.includes(named));
            found.map(|workspace| workspace.id).ok_or_else(|| ApiError::not_found("workspace"))
        }
    }
}

/// The last workspace found: in a bulk it is mostly the same one.
#[derive(Default)]
struct Places {
    last: Option<(String, WorkspaceId)>,
}

impl Places {
    async fn find(
        &mut self,
        app: &App,
        sender: &Sender,
        named: Option<&str>,
    ) -> Result<WorkspaceId, ApiError> {
        if let (Some((text, place)), Some(named)) = (&self.last, named)
            && text == named
        {
            return Ok(*place);
        }
        let place = place(app, sender, named).await?;
        self.last = named.map(|named| (named.to_owned(), place));
        Ok(place)
    }
}

/// The header, if it is there: 1 to 255 visible ASCII characters.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let visible = value.as_bytes().iter().all(u8::is_ascii_graphic);
    match value.to_str() {
        Ok(key)
            if visible && (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()) && values.next().is_none() =>
        {
            Ok(Some(key))
        }
        _ => Err(ApiError::bad_request("Idempotency-Key must be 1 to 255 visible ASCII characters")),
    }
}

/// Each event of a bulk is the same again when the header, its place and its bytes are.
fn idempotency_of_item(key: &str, index: usize, item: &[u8]) -> Idempotency {
    let hash =
        Sha256::new().chain_update(key).chain_update(b"\0").chain_update(index.to_be_bytes()).finalize();
    let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    Idempotency { key: format!("bulk:{digits}"), fingerprint: Sha256::digest(item).into() }
}

pub(super) fn take_rate(
    app: &App,
    workspace: WorkspaceId,
    events: u32,
    standing: &mut Option<Standing>,
) -> Result<(), ApiError> {
    let taken = app.ingest_rate.take(&workspace, events);
    *standing = Some(taken);
    match taken.retry_after_seconds {
        None => Ok(()),
        Some(seconds) => Err(ApiError::too_many_requests("the workspace sends too many events", seconds)),
    }
}

pub(super) fn with_standing(mut response: Response, standing: Option<Standing>) -> Response {
    if let Some(standing) = standing {
        let headers = response.headers_mut();
        headers.insert(RATE_LIMIT, standing.limit.into());
        headers.insert(RATE_REMAINING, standing.remaining.into());
        headers.insert(RATE_RESET, standing.reset_seconds.into());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use actors::domain::ids::OrganizationId;

    fn event(n: u8) -> Event {
        Event {
            id: EventId::from_bytes([n; 16]),
            organization_id: OrganizationId::from_bytes([9; 16]),
            workspace_id: WorkspaceId::from_bytes([8; 16]),
            name: "contact.created".into(),
            resource: "global".into(),
            resource_id: None,
            created_by: "mesh_pub_v1_a_b".into(),
            accepted_at: Timestamp(1_773_576_000_123),
        }
    }

    async fn shown(response: Response) -> serde_json::Value {
        let body = axum::body::to_bytes(response.into_body(), 100_000).await.expect("a body");
        serde_json::from_slice(&body).expect("JSON")
    }

    #[test]
    fn an_accepted_event_is_told_without_payload_and_status() {
        let told = serde_json::to_value(AcceptedJson::from(&event(1))).expect("JSON");
        let expected = serde_json::json!({
            "id": "01010101-0101-0101-0101-010101010101",
            "event": "contact.created",
            "workspace": "08080808-0808-0808-0808-080808080808",
            "type": "event",
            "resource": "global",
            "created_by": "mesh_pub_v1_a_b",
            "created_at": "2026-03-15T12:00:00.123Z",
        });
        assert_eq!(told, expected);
    }

    #[tokio::test]
    async fn a_bulk_answers_in_the_order_of_the_request() {
        let bad = || Some(ApiError::field("event", "is required"));
        let response =
            bulk_response(vec![bad(), None, bad(), None], [Ok(event(1)), Ok(event(2))].into_iter());
        assert_eq!(response.status(), 207);
        let body = shown(response).await;
        assert_eq!((&body["count"], &body["error_count"]), (&4.into(), &2.into()));
        assert_eq!(body["records"][0]["message"], "event is required");
        assert_eq!(body["records"][0]["error"]["data"][0]["param"], "event");
        assert_eq!(body["records"][1]["id"], "01010101-0101-0101-0101-010101010101");
        assert_eq!(body["records"][3]["id"], "02020202-0202-0202-0202-020202020202");

        let response = bulk_response(vec![None], [Ok(event(1))].into_iter());
        assert_eq!(response.status(), 201);
        assert_eq!(shown(response).await.get("error_count"), None);

        let response = bulk_response(vec![bad(), bad()], [].into_iter());
        assert_eq!(response.status(), 207, "also when every one failed");
    }

    #[test]
    fn an_idempotency_key_is_short_and_visible() {
        type Case<'c> = (&'c [&'c str], Result<Option<&'c str>, ()>);
        let long = "k".repeat(256);
        #[rustfmt::skip]
        let cases: [Case<'_>; 8] = [
            (&[],              Ok(None)),
            (&["a-1"],         Ok(Some("a-1"))),
            (&[&long[..255]],  Ok(Some(&long[..255]))),
            (&[&long],         Err(())),
            (&[""],            Err(())),
            (&["a b"],         Err(())),
            (&["a\tb"],        Err(())),
            (&["a", "a"],      Err(())),
        ];
        for (values, expected) in cases {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(IDEMPOTENCY_KEY, value.parse().expect("a header value"));
            }
            assert_eq!(idempotency_key(&headers).map_err(|_| ()), expected, "{values:?}");
        }
    }

    #[test]
    fn a_bulks_events_have_keys_of_their_own() {
        let one = idempotency_of_item("key", 0, b"{}");
        assert_eq!(one, idempotency_of_item("key", 0, b"{}"));
        assert_ne!(one.key, idempotency_of_item("key", 1, b"{}").key);
        assert_ne!(one.key, idempotency_of_item("kex", 0, b"{}").key);
        assert_ne!(one.fingerprint, idempotency_of_item("key", 0, b"{ }").fingerprint);
        assert!(one.key.len() <= IDEMPOTENCY_KEY_BYTES_MAX);
    }
}
