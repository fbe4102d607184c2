//! Finding events: what a list may be filtered by, and all that passes as one stream.
//!
//! | parameter | passes | costs |
//! | --- | --- | --- |
//! | `event`, `resource`, `resource_id`, `status` | what is equal | an index: what the rarest of them costs |
//! | `id` | that event | one look-up |
//! | `after`, `before` | accepted then or later; accepted before. RFC 3339 | nothing: ids sort by time, so it is a range of keys |
//! | `rule` | has a delivery of that rule | one look-up for each event that passes the rest |
//! | `connection`, `outcome` | has a delivery there; one whose last attempt ended so | all deliveries of each such event |
//! | `payload.PATH` | says so there, as text, number or boolean | reading and parsing each such event's payload |
//!
//! All but the first row are ours. `rule`, `connection` and `outcome` must hold for one delivery, of those that stand for a rule: what
//! was replayed since does not. A page stops at
//! some thousand look-ups, or 10,000 payloads, or two seconds, whatever is met first: it may hold fewer than
//! `limit`, even none, and still have a `next_cursor`. In the list of an organization no index but time helps.

use super::{
    App, Ids,
    error::ApiError,
    form,
    history::{self, EventJson},
    page::Query,
};
use crate::auth::Caller;
use actors::{
    domain::{
        access::{Permission, Subject},
        delivery::Outcome,
        event::Status,
        ids::{ConnectionId, EventId, RuleId, WorkspaceId},
        timestamp::Timestamp,
    },
    engine::{DeliveryFilter, EventFilter, PAYLOAD_TESTS_MAX, PayloadTest, Scope},
};
use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, header},
    response::Response,
};
use bytes::Bytes;
use futures_util::stream;
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use std::{convert::Infallible, sync::atomic::Ordering};
use uuid::Uuid;

/// Events of one piece of an export.
const PIECE_EVENTS: usize = 20;
/// What a parameter about the payload begins with.
const PAYLOAD: &str = "payload.";

/// What is looked for.
#[derive(Clone)]
pub(super) struct Search {
    pub filter: EventFilter,
    pub tests: Vec<PayloadTest>,
}

impl Search {
    /// What is asked for, of what the caller may know.
    pub(super) fn of(query: &Query, caller: &Caller) -> Result<Self, ApiError> {
        let delivery = DeliveryFilter {
            rule: id(query, "rule")?.map(RuleId::from_uuid),
            connection: id(query, "connection")?.map(ConnectionId::from_uuid),
            outcome: word::<Outcome>(query, "outcome", "must be an outcome_code, such as delivered")?,
        };
        let (resource, resource_id) = query.about(caller);
        let filter = EventFilter {
            event: query.text("event"),
            resource,
            resource_id,
            status: word::<Status>(
                query,
                "status",
                "must be pending, processing, retrying, completed, failed or canceled",
            )?,
            id: id(query, "id")?.map(EventId::from_uuid),
            since: moment(query, "after")?,
            until: moment(query, "before")?,
            delivery,
        };
        let mut tests = Vec::new();
        for (name, text) in query.beginning_with(PAYLOAD) {
            let no_path = || ApiError::field(name, "must be payload. and a path, such as payload.user.email");
            tests.push(PayloadTest::new(&name[PAYLOAD.len()..], text).ok_or_else(no_path)?);
        }
        if tests.len() > PAYLOAD_TESTS_MAX {
            let msg = format!("must be asked for at most {PAYLOAD_TESTS_MAX} paths");
            return Err(ApiError::field("payload", msg));
        }
        if !tests.is_empty() {
            // Who may ask what a payload says, often enough, has read it.
            caller.ask(Permission::Payload, Subject::Events)?;
        }
        Ok(Self { filter, tests })
    }
}

fn id(query: &Query, name: &str) -> Result<Option<Uuid>, ApiError> {
    query.get(name).map(|text| form::uuid_field(name, text)).transpose()
}

/// One of the words that a type is spelled with.
fn word<T: DeserializeOwned>(query: &Query, name: &str, msg: &str) -> Result<Option<T>, ApiError> {
    let read = |text: &str| serde_json::from_value(text.into()).map_err(|_| ApiError::field(name, msg));
    query.get(name).map(read).transpose()
}

/// A time; one before all events is their beginning.
pub(super) fn moment(query: &Query, name: &str) -> Result<Option<Timestamp>, ApiError> {
    let no_time = |_| ApiError::field(name, "must be an RFC 3339 time, such as 2026-03-15T12:00:00Z");
    let read = |text: &str| text.parse::<Timestamp>().map(|at| at.max(Timestamp(0))).map_err(no_time);
    query.get(name).map(read).transpose()
}

/// Where an export is.
struct Export {
    app: App,
    caller: Caller,
    scope: Scope,
    search: Search,
    after: Option<EventId>,
    is_over: bool,
}

/// `GET /workspaces/{id}/events/export`: all events that pass the list's filters, newest first, each a line of
/// JSON with its deliveries. Read as the client reads, a few events at a time; it stops when the client leaves.
/// What goes wrong on the way is the last line, `{"message": …}`.
pub(super) async fn export(
    State(app): State<App>,
    caller: Caller,
    Ids([workspace]): Ids<1>,
    query: Query,
) -> Result<Response, ApiError> {
    let scope = caller.workspace(&app, WorkspaceId::from_uuid(workspace)).await?;
    let search = Search::of(&query, &caller)?;
    let export = Export { app, caller, scope, search, after: None, is_over: false };
    let pieces = stream::unfold(export, async |mut export| {
        let piece = export.next().await?;
        Some((Ok::<_, Infallible>(piece), export))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(response)
}

impl Export {
    /// The next few lines, if there are any.
    async fn next(&mut self) -> Option<Bytes> {
        while !self.is_over {
            let mut lines = Vec::new();
            if let Err(err) = self.write(&mut lines).await {
                self.is_over = true;
                line(&mut lines, &Ended { message: &err.message });
            }
            if !lines.is_empty() {
                return Some(lines.into());
            }
        }
        None
    }

    async fn write(&mut self, lines: &mut Vec<u8>) -> Result<(), ApiError> {
        if self.app.ending.load(Ordering::Relaxed) {
            return Err(actors::engine::Unavailable::Closing.into());
        }
        let (engine, Search { filter, tests }) = (&self.app.engine, self.search.clone());
        let page = engine.search(self.scope, filter, tests, self.after, PIECE_EVENTS).await?;
        for summary in page.records {
            // It may be gone meanwhile.
            let details = engine.event(self.scope, summary.event.id).await?;
            if let Some(details) = details.and_then(|details| history::shown_to(&self.caller, details)) {
                line(lines, &EventJson::from(details));
            }
        }
        (self.after, self.is_over) = (page.next, page.next.is_none());
        Ok(())
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ExportEnd")]
pub(super) struct Ended<'e> {
    message: &'e str,
}

fn line(lines: &mut Vec<u8>, value: &impl Serialize) {
    match serde_json::to_writer(&mut *lines, value) {
        Ok(()) => lines.push(b'\n'),
        Err(err) => tracing::error!(%err, "a line of an export does not serialize"),
    }
}
