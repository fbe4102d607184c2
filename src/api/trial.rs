//! Trying rules out. Ours, all of it: the contract has no such routes.
//!
//! `POST /workspaces/{id}/rules/{rule}/test` sends a test to one rule, `POST /workspaces/{id}/events/test`
//! to all rules of its name. Both take `event` (the second needs it), `resource`, `resource_id` and `payload`;
//! what is left out is the rule's, or a sample. A test is accepted, routed and delivered as any event, so
//! the other end does receive it; what became of it, and where it stopped, is read where `look_at` says.

use super::{
    App, Ids, document,
    error::ApiError,
    events::{self, AcceptedJson, ENVELOPE_BYTES_MAX},
    form,
    json::{self, Json},
    openapi::schema::{Conditions, RuleMetadata},
    rules,
};
use crate::{auth::Caller, http::read_body};
use actors::{
    domain::{
        access::{Permission, Subject},
        delivery::{Outcome, Report},
        ids::{ConnectionId, EventId, WorkspaceId},
        rule::Rule,
        timestamp::Timestamp,
    },
    engine::{
        Draft, DraftAction, Example, IngestRequest, Planned, Preview, SAMPLE_PAYLOAD, Trial, sample_name,
    },
};
use axum::{
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Events a preview looks at where nothing is asked for, and at most.
const PREVIEW_EVENTS: usize = 1_000;
const PREVIEW_EVENTS_MAX: usize = 10_000;

/// What a test says; its members are looked at where an event's are.
#[derive(Default, Deserialize)]
struct Form<'b> {
    #[serde(borrow)]
    event: Option<&'b RawValue>,
    #[serde(borrow)]
    resource: Option<&'b RawValue>,
    #[serde(borrow)]
    resource_id: Option<&'b RawValue>,
    #[serde(borrow)]
    payload: Option<&'b RawValue>,
}

impl Form<'_> {
    fn parse(body: &[u8]) -> Result<Form<'_>, ApiError> {
        if body.trim_ascii().is_empty() {
            return Ok(Form::default());
        }
        document::check(body)?;
        let not_one = |_| ApiError::field("body", "must be a JSON object");
        match body.trim_ascii_start().first() {
            Some(b'{') => serde_json::from_slice(body).map_err(not_one),
            _ => Err(ApiError::field("body", "must be a JSON object")),
        }
    }

    /// The event as its sender would have written it, with what the rule says where the form says nothing.
    /// Of a caller who is about one resource, it is about that.
    fn event(&self, rule: Option<&Rule>, pair: Option<(&str, &str)>) -> Bytes {
        let text = |text: String| Value::from(text).to_string();
        let given = |member: Option<&RawValue>| member.map(|value| value.get().to_owned());
        let of_rule = |member: fn(&Rule) -> Option<String>| rule.and_then(member).map(text);
        let members = [
            ("event", given(self.event).or(of_rule(|rule| Some(sample_name(&rule.event))))),
            (
                "resource",
                given(self.resource)
                    .or(of_rule(|rule| rule.resource.clone()))
                    .or(pair.map(|(resource, _)| text(resource.to_owned()))),
            ),
            (
                "resource_id",
                given(self.resource_id)
                    .or(of_rule(|rule| rule.resource_id.clone()))
                    .or(pair.map(|(_, id)| text(id.to_owned()))),
            ),
            ("payload", given(self.payload).or_else(|| Some(SAMPLE_PAYLOAD.to_owned()))),
        ];
        let members = members.into_iter().filter_map(|(name, value)| Some(format!("\"{name}\":{}", value?)));
        format!("{{{}}}", members.collect::<Vec<_>>().join(",")).into()
    }
}

/// A test on its way.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SentTest")]
pub(super) struct Tested<'e> {
    event: AcceptedJson<'e>,
    /// Where to read what became of it.
    look_at: &'e str,
}

/// A test of one rule.
pub(super) async fn one_rule(
    State(app): State<App>,
    caller: Caller,
    Ids([workspace, rule]): Ids<2>,
    request: Request,
) -> Response {
    answer(&app, &caller, WorkspaceId::from_uuid(workspace), Some(rule), request).await
}

/// A test of all rules that are for its name.
pub(super) async fn all_rules(
    State(app): State<App>,
    caller: Caller,
    Ids([workspace]): Ids<1>,
    request: Request,
) -> Response {
    answer(&app, &caller, WorkspaceId::from_uuid(workspace), None, request).await
}

async fn answer(
    app: &App,
    caller: &Caller,
    workspace: WorkspaceId,
    rule: Option<Uuid>,
    request: Request,
) -> Response {
    let mut standing = None;
    let tested = async {
        caller.workspace(app, workspace).await?;
        let rule = match rule {
            Some(id) => Some(rule_in(app, caller, workspace, id).await?),
            None => None,
        };
        let (parts, body) = request.into_parts();
        let bytes_max = app.limits.payload_bytes_max + ENVELOPE_BYTES_MAX;
        let body = read_body(body, bytes_max, app.limits.body_timeout).await?;
        if !body.is_empty() {
            json::is_json(&parts.headers)?;
        }
        let written = Form::parse(&body)?.event(rule.as_ref(), caller.pair());
        let event = document::parse_event(&written)?;
        rules::check_pair(caller, event.resource.as_deref(), event.resource_id.as_deref())?;
        if event.payload.len() > app.limits.payload_bytes_max {
            let message = format!("the payload is larger than {} bytes", app.limits.payload_bytes_max);
            return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        events::take_rate(app, workspace, 1, &mut standing)?;
        let request = IngestRequest {
            organization_id: caller.organization_id(),
            workspace_id: workspace,
            payload: written.slice_ref(event.payload),
            name: event.event,
            resource: event.resource,
            resource_id: event.resource_id,
            created_by: caller.name(),
            idempotency: None,
        };
        let event = caller.engine(app).test(Trial { request, rule: rule.map(|rule| rule.id) }).await?;
        let look_at = format!("/api/v1/events/{}", event.id);
        let shown = Tested { event: (&event).into(), look_at: &look_at };
        let mut response = json::respond(StatusCode::CREATED, &shown);
        if let Ok(place) = HeaderValue::from_str(&look_at) {
            response.headers_mut().insert(header::LOCATION, place);
        }
        Ok(response)
    };
    let answer = tested.await;
    events::with_standing(answer.unwrap_or_else(ApiError::into_response), standing)
}

async fn rule_in(app: &App, caller: &Caller, workspace: WorkspaceId, id: Uuid) -> Result<Rule, ApiError> {
    let rule = rules::found(app, caller, id).await?;
    if rule.workspace_id == workspace { Ok(rule) } else { Err(ApiError::not_found("rule")) }
}

/// A rule that is not made yet. What else a rule has is ignored.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "RuleDraft")]
pub(super) struct DraftForm {
    #[schemars(length(min = 1, max = 255))]
    event: String,
    #[schemars(length(min = 1, max = 255))]
    resource: Option<String>,
    #[schemars(length(min = 1, max = 64), regex(pattern = super::form::RESOURCE_ID_PATTERN))]
    resource_id: Option<String>,
    #[schemars(with = "Option<Conditions>")]
    conditions: Option<Value>,
    /// Where it would send, if that is to be shown too.
    #[schemars(with = "Option<Uuid>")]
    connection: Option<String>,
    /// What it would do there; needed beside `connection`.
    #[schemars(with = "Option<RuleMetadata>")]
    metadata: Option<Map<String, Value>>,
    /// How many events to look at.
    #[schemars(range(min = 1, max = PREVIEW_EVENTS_MAX))]
    last: Option<u64>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Preview")]
pub(super) struct PreviewJson {
    looked_at: usize,
    matched: usize,
    unmatched: usize,
    /// Whether all that was asked for was looked at; otherwise it took too long.
    complete: bool,
    examples: ExamplesJson,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PreviewExamples")]
pub(super) struct ExamplesJson {
    matched: Vec<ExampleJson>,
    unmatched: Vec<ExampleJson>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PreviewExample")]
pub(super) struct ExampleJson {
    event_id: EventId,
    event: String,
    created_at: Timestamp,
    why: String,
    /// What would be sent; of a match, where the draft names a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    sends: Option<SendsJson>,
}

impl From<Example> for ExampleJson {
    fn from(Example { event, why, planned, .. }: Example) -> Self {
        let sends = planned.map(SendsJson::from);
        Self { event_id: event.id, event: event.name, created_at: event.accepted_at, why, sends }
    }
}

/// What a delivery would send, or how it would fail before it sends anything.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PreviewSends")]
#[serde(untagged)]
pub(super) enum SendsJson {
    Plan(Box<PlanJson>),
    Fails { outcome_code: Outcome, message: String },
}

/// The first request, and what it is made of.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PreviewPlan")]
pub(super) struct PlanJson {
    /// The account's fields, as the mapping fills them; null where nothing is mapped.
    fields: Option<Map<String, Value>>,
    /// What the mapping leaves out, and why.
    warnings: Vec<String>,
    request: RequestJson,
    /// Whether the request is all. Otherwise others may follow, by what the service answers.
    complete: bool,
}

/// A request; `[redacted]` stands for what is secret.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PreviewRequest")]
pub(super) struct RequestJson {
    method: String,
    url: String,
    headers: BTreeMap<String, String>,
    /// JSON as it is, anything else as text.
    body: Value,
}

impl From<Result<Planned, Report>> for SendsJson {
    fn from(planned: Result<Planned, Report>) -> Self {
        match planned {
            Ok(Planned { fields, warnings, request, is_whole }) => {
                let body = serde_json::from_str(&request.body).unwrap_or_else(|_| request.body.into());
                let headers = request.headers.into_iter().collect();
                let request = RequestJson { method: request.method, url: request.url, headers, body };
                Self::Plan(Box::new(PlanJson { fields, warnings, request, complete: is_whole }))
            }
            Err(Report { outcome, message, .. }) => Self::Fails { outcome_code: outcome, message },
        }
    }
}

/// `POST /workspaces/{id}/rules/preview`: what a draft would have made of the `last` events stored (1,000, at
/// most 10,000); of those of its name, where it has one and no pattern. With a `connection` and `metadata`, as
/// a rule has them, it tells what would be sent for those that match. Sends and stores nothing. It reads
/// every payload it looks at, for five seconds at most.
pub(super) async fn preview(
    State(app): State<App>,
    caller: Caller,
    Ids([workspace]): Ids<1>,
    Json(form): Json<DraftForm>,
) -> Result<Response, ApiError> {
    let DraftForm { event, resource, resource_id, conditions, connection, metadata, last } = form;
    rules::check(Some(&event), resource.as_deref(), resource_id.as_deref(), metadata.as_ref())?;
    let last = last.map_or(Some(PREVIEW_EVENTS), |last| usize::try_from(last).ok());
    let last = last
        .filter(|last| (1..=PREVIEW_EVENTS_MAX).contains(last))
        .ok_or_else(|| ApiError::field("last", format!("must be a number from 1 to {PREVIEW_EVENTS_MAX}")))?;
    let workspace = WorkspaceId::from_uuid(workspace);
    caller.workspace(&app, workspace).await?;
    if caller.pair().is_some() {
        // It looks at all that was sent, whatever it was about.
        return Err(ApiError::forbidden("a session about one resource has no preview"));
    }
    let action = match (connection, metadata) {
        (Some(connection), metadata) => {
            caller.ask(Permission::Read, Subject::Connections)?;
            let connection_id = ConnectionId::from_uuid(form::uuid_field("connection", &connection)?);
            Some(DraftAction { connection_id, metadata: metadata.unwrap_or_default() })
        }
        (None, _) => None,
    };
    let draft = Draft { event, resource, resource_id, conditions, action };
    let found = app.engine.preview(caller.organization_id(), workspace, draft, last).await?;
    let Preview { looked_at, matched, unmatched, is_cut, matches, misses } = found;
    let shown = |examples: Vec<Example>| examples.into_iter().map(ExampleJson::from).collect();
    let examples = ExamplesJson { matched: shown(matches), unmatched: shown(misses) };
    let complete = !is_cut;
    Ok(json::respond(StatusCode::OK, &PreviewJson { looked_at, matched, unmatched, complete, examples }))
}
