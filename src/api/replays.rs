//! Replays: past deliveries done again, one or many.
//!
//! `filter` refuses keys it does not know, although they are ignored elsewhere: a mistyped one would replay
//! more than was meant.

use super::{
    App, Ids,
    error::ApiError,
    form::{self, Fields},
    json::{Json, Object, respond},
    page::{self, Envelope, HISTORY, List, Query},
};
use crate::auth::Caller;
use actors::{
    domain::{
        delivery::Outcome,
        event::Status,
        ids::{ConnectionId, EventId, ReplayId, RuleId, WorkspaceId},
        replay::{AsOf, RATE_DEFAULT, Replay, ReplayFilter, ReplayState, Skipped},
        timestamp::Timestamp,
    },
    engine::{NewReplay, ReplayCount, ReplayPatch, ReplayView, Scope},
};
use axum::{extract::State, http::StatusCode, response::Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

const RATE: &str = "must be from 0.01 to 5000";
const MOMENT: &str = "must be an RFC 3339 time, such as 2026-03-15T12:00:00Z";
const STATUS: &str = "must be completed, failed or canceled: others are not over yet";
const OUTCOME: &str = "must be an outcome_code, such as rejected_client_error";

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "NewReplay")]
pub(super) struct Form {
    #[schemars(with = "Uuid")]
    workspace: String,
    filter: Object<FilterForm>,
    /// Whether rules and connections are those of then or of now.
    #[schemars(with = "Option<AsOf>")]
    as_of: Option<String>,
    #[schemars(range(min = 0.01, max = 5_000))]
    rate_per_second: Option<f64>,
    /// Only count what it would find.
    dry_run: Option<bool>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ReplayFilter")]
struct FilterForm {
    #[schemars(with = "Option<Timestamp>")]
    from: Option<String>,
    #[schemars(with = "Option<Timestamp>")]
    to: Option<String>,
    #[schemars(with = "Option<Uuid>")]
    event_id: Option<String>,
    #[schemars(length(min = 1, max = 255))]
    event: Option<String>,
    #[schemars(with = "Option<Uuid>")]
    connection: Option<String>,
    #[schemars(with = "Option<Uuid>")]
    rule: Option<String>,
    /// Only those that are over can be done again.
    #[schemars(extend("enum" = ["completed", "failed", "canceled", null]))]
    status: Option<String>,
    #[schemars(with = "Option<Outcome>")]
    outcome_code: Option<String>,
    include_tests: Option<bool>,
}

/// What is absent stays.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "ReplayPatch")]
pub(super) struct PatchForm {
    #[schemars(extend("enum" = ["running", "paused", "canceled", null]))]
    state: Option<String>,
    #[schemars(range(min = 0.01, max = 5_000))]
    rate_per_second: Option<f64>,
}

impl Form {
    fn into_new(self, created_by: String) -> Result<NewReplay, ApiError> {
        let mut fields = Fields::default();
        let workspace = id(&mut fields, "workspace", Some(&self.workspace));
        let Object(filter) = self.filter;
        let filter = filter.into_filter(&mut fields);
        let as_of = word::<AsOf>(&mut fields, "as_of", self.as_of.as_deref(), "must be then or now");
        let rate = self.rate_per_second;
        fields.require("rate_per_second", rate.is_none_or(is_rate), RATE);
        fields.check()?;
        Ok(NewReplay {
            workspace_id: WorkspaceId::from_uuid(workspace.unwrap_or_default()),
            filter,
            as_of: as_of.unwrap_or_default(),
            rate_per_second: rate.unwrap_or(RATE_DEFAULT),
            created_by,
        })
    }
}

impl FilterForm {
    fn into_filter(self, fields: &mut Fields) -> ReplayFilter {
        let mut moment = |param: &str, text: Option<&str>| {
            let found = text.map(str::parse::<Timestamp>);
            fields.require(param, !matches!(found, Some(Err(_))), MOMENT);
            // One before all events is their beginning.
            found.and_then(Result::ok).map(|at| at.max(Timestamp(0)))
        };
        let from = moment("filter.from", self.from.as_deref());
        let to = moment("filter.to", self.to.as_deref());
        let is_later = from.zip(to).is_none_or(|(from, to)| from < to);
        fields.require("filter.to", is_later, "must be later than from");
        fields.require("filter.event", self.event.as_deref().is_none_or(form::is_name), form::NAME);
        let status = word::<Status>(fields, "filter.status", self.status.as_deref(), STATUS);
        fields.require("filter.status", status.is_none_or(Status::is_final), STATUS);
        ReplayFilter {
            from,
            to,
            event_id: id(fields, "filter.event_id", self.event_id.as_deref()).map(EventId::from_uuid),
            event: self.event,
            connection: id(fields, "filter.connection", self.connection.as_deref())
                .map(ConnectionId::from_uuid),
            rule: id(fields, "filter.rule", self.rule.as_deref()).map(RuleId::from_uuid),
            status,
            outcome: word::<Outcome>(fields, "filter.outcome_code", self.outcome_code.as_deref(), OUTCOME),
            with_tests: self.include_tests.unwrap_or(false),
        }
    }
}

impl PatchForm {
    fn into_patch(self) -> Result<ReplayPatch, ApiError> {
        let mut fields = Fields::default();
        let msg = "must be running, paused or canceled";
        let state = word::<ReplayState>(&mut fields, "state", self.state.as_deref(), msg);
        let may_be_told =
            |state| matches!(state, ReplayState::Running | ReplayState::Paused | ReplayState::Canceled);
        fields.require("state", state.is_none_or(may_be_told), msg);
        fields.require("rate_per_second", self.rate_per_second.is_none_or(is_rate), RATE);
        fields.check()?;
        Ok(ReplayPatch { state, rate_per_second: self.rate_per_second })
    }
}

fn is_rate(rate: f64) -> bool {
    Replay::RATES.contains(&rate)
}

fn id(fields: &mut Fields, param: &str, text: Option<&str>) -> Option<Uuid> {
    let found = text.map(form::uuid);
    fields.require(param, found != Some(None), "must be a UUID");
    found.flatten()
}

/// One of the words that a type is spelled with.
fn word<T: DeserializeOwned>(fields: &mut Fields, param: &str, text: Option<&str>, msg: &str) -> Option<T> {
    let found = text.map(|text| serde_json::from_value(text.into()).ok());
    fields.require(param, !matches!(found, Some(None)), msg);
    found.flatten()
}

#[derive(Serialize, JsonSchema)]
pub(super) struct ReplayJson {
    id: ReplayId,
    workspace: WorkspaceId,
    state: ReplayState,
    filter: FilterJson,
    as_of: AsOf,
    rate_per_second: f64,
    /// Deliveries that passed the filter when they were counted; null while they are.
    expected: Option<u64>,
    /// Of those looked at so far: what passed, and so was queued or skipped.
    matched: u64,
    queued: u64,
    skipped: SkippedJson,
    /// Where the queued ones stand. The rest waits or is in flight.
    completed: u32,
    failed: u32,
    canceled: u32,
    retrying: u32,
    created_by: String,
    created_at: Timestamp,
    updated_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Timestamp>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ReplayedFilter")]
struct FilterJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<EventId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<ConnectionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<RuleId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome_code: Option<Outcome>,
    include_tests: bool,
}

impl From<ReplayFilter> for FilterJson {
    fn from(filter: ReplayFilter) -> Self {
        let ReplayFilter { from, to, event_id, event, connection, rule, status, outcome, with_tests } =
            filter;
        let (outcome_code, include_tests) = (outcome, with_tests);
        Self { from, to, event_id, event, connection, rule, status, outcome_code, include_tests }
    }
}

/// How many were skipped, and why.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SkippedDeliveries")]
pub(super) struct SkippedJson {
    total: u64,
    #[serde(flatten)]
    by_reason: Skipped,
}

impl SkippedJson {
    fn new(matched: u64, queued: u64, by_reason: Skipped) -> Self {
        Self { total: matched.saturating_sub(queued), by_reason }
    }
}

impl From<ReplayView> for ReplayJson {
    fn from(ReplayView { replay, tally }: ReplayView) -> Self {
        let counts = replay.counts;
        Self {
            id: replay.id,
            workspace: replay.workspace_id,
            state: replay.state,
            filter: replay.filter.into(),
            as_of: replay.as_of,
            rate_per_second: replay.rate_per_second,
            expected: replay.expected,
            matched: counts.matched,
            queued: counts.queued,
            skipped: SkippedJson::new(counts.matched, counts.queued, counts.skipped),
            completed: tally.completed,
            failed: tally.failed,
            canceled: tally.canceled,
            retrying: tally.retrying,
            created_by: replay.created_by,
            created_at: replay.created_at,
            updated_at: replay.updated_at,
            ended_at: replay.ended_at,
        }
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ReplayEnvelope")]
pub(super) struct Enveloped {
    replay: ReplayJson,
}

/// What a replay would find.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ReplayCount")]
pub(super) struct CountJson {
    dry_run: bool,
    /// What would be done again.
    count: u64,
    events: u64,
    matched: u64,
    skipped: SkippedJson,
    /// Otherwise there was no time to look at all, and it is at least so many.
    exact: bool,
}

fn shown(status: StatusCode, view: ReplayView) -> Response {
    respond(status, &Enveloped { replay: view.into() })
}

/// 201 with a replay that is under way; with `dry_run` 200 and what it would find.
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Json(form): Json<Form>,
) -> Result<Response, ApiError> {
    let is_dry = form.dry_run.unwrap_or(false);
    let new = form.into_new(caller.name())?;
    let scope = caller.workspace(&app, new.workspace_id).await?;
    if !is_dry {
        return Ok(shown(StatusCode::CREATED, caller.engine(&app).create_replay(scope, new).await?));
    }
    let ReplayCount { counts, events, is_cut } = app.engine.count_replay(scope, new).await?;
    let count = CountJson {
        dry_run: true,
        count: counts.queued,
        events,
        matched: counts.matched,
        skipped: SkippedJson::new(counts.matched, counts.queued, counts.skipped),
        exact: !is_cut,
    };
    Ok(respond(StatusCode::OK, &count))
}

pub(super) async fn list(State(app): State<App>, caller: Caller, query: Query) -> Result<Response, ApiError> {
    let workspace =
        query.get("workspace_id").ok_or_else(|| ApiError::field("workspace_id", "is required"))?;
    let workspace = WorkspaceId::from_uuid(form::uuid_field("workspace_id", workspace)?);
    let place = page::place_of(caller.workspace(&app, workspace).await?);
    let (limit, after) = query.page(List::Replays, &place, HISTORY, ReplayId::from_bytes)?;
    let page = app.engine.replays(workspace, after, limit).await?;
    let envelope = Envelope::new(List::Replays, &place, limit, page, |id| *id.as_bytes(), ReplayJson::from);
    Ok(respond(StatusCode::OK, &envelope))
}

/// The replay of this id, if the caller may know of it.
async fn found(app: &App, caller: &Caller, id: Uuid) -> Result<ReplayView, ApiError> {
    let found = app.engine.replay(caller.scope(), ReplayId::from_uuid(id)).await?;
    let found = found.filter(|view| caller.sees(view.replay.workspace_id));
    found.ok_or_else(|| ApiError::not_found("replay"))
}

pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    Ids([id]): Ids<1>,
) -> Result<Response, ApiError> {
    Ok(shown(StatusCode::OK, found(&app, &caller, id).await?))
}

pub(super) async fn patch(
    State(app): State<App>,
    caller: Caller,
    Ids([id]): Ids<1>,
    Json(form): Json<PatchForm>,
) -> Result<Response, ApiError> {
    let ReplayView { replay, .. } = found(&app, &caller, id).await?;
    let scope = Scope::Workspace(replay.workspace_id);
    let changed = caller.engine(&app).change_replay(scope, replay.id, form.into_patch()?).await?;
    Ok(shown(StatusCode::OK, changed))
}
