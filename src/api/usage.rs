//! What was used, by workspace and day, and what the plan allows. Ours, as far as the contract goes.

use super::{
    App, Ids,
    error::ApiError,
    form,
    json::respond,
    page::{self, Envelope, List, Query, Sizes},
};
use crate::auth::Caller;
use actors::{
    domain::{
        ids::WorkspaceId,
        plan::{Limit, OnEventsExceeded},
        timestamp::Timestamp,
        usage::{Day, UsageRow},
    },
    engine::{PlanView, Scope},
};
use axum::{extract::State, http::StatusCode, response::Response};
use schemars::JsonSchema;
use serde::Serialize;
use std::ops::RangeInclusive;

/// A month of thirty workspaces is one page.
pub(super) const ROWS: Sizes = Sizes { default: 1_000, max: 1_000 };

/// A date, as a parameter has it.
const DATE: &str = "must be a date such as 2026-03-15";

/// What a workspace used on a day (UTC).
#[derive(Serialize, JsonSchema)]
pub(super) struct UsageJson {
    workspace: WorkspaceId,
    day: Day,
    events: u64,
    deliveries: u64,
    attempts: u64,
    delivered: u64,
}

impl From<UsageRow> for UsageJson {
    fn from(row: UsageRow) -> Self {
        let UsageRow { workspace_id, day, usage } = row;
        Self {
            workspace: workspace_id,
            day,
            events: usage.events,
            deliveries: usage.deliveries,
            attempts: usage.attempts,
            delivered: usage.delivered,
        }
    }
}

/// The days asked for: this month's so far, where nothing is.
fn days(app: &App, query: &Query) -> Result<RangeInclusive<Day>, ApiError> {
    let date = |name| {
        let parse = |text: &str| text.parse::<Day>().map_err(|_| ApiError::field(name, DATE));
        query.get(name).map(parse).transpose()
    };
    let to = date("to")?.unwrap_or_else(|| app.engine.today());
    let from = date("from")?.unwrap_or_else(|| to.first_of_month());
    if from > to {
        return Err(ApiError::field("to", "must not be before from"));
    }
    Ok(from..=to)
}

pub(super) async fn list(State(app): State<App>, caller: Caller, query: Query) -> Result<Response, ApiError> {
    let scope = match query.get("workspace") {
        None => caller.scope(),
        Some(text) => {
            let id = WorkspaceId::from_uuid(form::uuid_field("workspace", text)?);
            caller.workspace(&app, id).await?
        }
    };
    rows(&app, &caller, scope, &query).await
}

pub(super) async fn list_of_workspace(
    State(app): State<App>,
    caller: Caller,
    Ids([id]): Ids<1>,
    query: Query,
) -> Result<Response, ApiError> {
    let scope = caller.workspace(&app, WorkspaceId::from_uuid(id)).await?;
    rows(&app, &caller, scope, &query).await
}

async fn rows(app: &App, caller: &Caller, scope: Scope, query: &Query) -> Result<Response, ApiError> {
    let (place, days) = (page::place_of(scope), days(app, query)?);
    let (limit, after) = query.page(List::Usage, &place, ROWS, row_of)?;
    let mut page = app.engine.usage(scope, days, after, limit).await?;
    page.records.retain(|row| caller.sees(row.workspace_id));
    let envelope = Envelope::new(List::Usage, &place, limit, page, bytes_of, UsageJson::from);
    Ok(respond(StatusCode::OK, &envelope))
}

/// A row's place in a cursor.
fn bytes_of((workspace, day): &(WorkspaceId, Day)) -> [u8; 20] {
    let mut bytes = [0; 20];
    bytes[..16].copy_from_slice(workspace.as_bytes());
    bytes[16..].copy_from_slice(&day.0.to_be_bytes());
    bytes
}

fn row_of(bytes: [u8; 20]) -> (WorkspaceId, Day) {
    let (mut workspace, mut day) = ([0; 16], [0; 4]);
    workspace.copy_from_slice(&bytes[..16]);
    day.copy_from_slice(&bytes[16..]);
    (WorkspaceId::from_bytes(workspace), Day(u32::from_be_bytes(day)))
}

#[derive(Serialize, JsonSchema)]
pub(super) struct PlanJson {
    /// Null: there is no plan, and no limit.
    name: Option<String>,
    limits: Limits,
    /// `accept` or `refuse`.
    #[schemars(extend("enum" = ["accept", "refuse"]))]
    on_events_exceeded: &'static str,
    /// Days that finished events are kept at most; null: as long as the server keeps them.
    retention_days: Option<u32>,
    /// The first day of the month that events are counted in, UTC.
    month: Day,
    /// When the next one begins.
    month_ends_at: Timestamp,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PlanLimits")]
pub(super) struct Limits {
    events_per_month: LimitJson,
    workspaces: LimitJson,
    connections: LimitJson,
    rules: LimitJson,
    members: LimitJson,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PlanLimit")]
pub(super) struct LimitJson {
    /// Null: none.
    limit: Option<u64>,
    used: u64,
    /// There is more than the limit says.
    exceeded: bool,
}

impl From<PlanView> for PlanJson {
    fn from(view: PlanView) -> Self {
        let of = |limit, used: u64| {
            let limit = view.plan.limit(limit);
            let exceeded = limit.is_some_and(|limit| used > limit);
            LimitJson { limit, used, exceeded }
        };
        Self {
            limits: Limits {
                events_per_month: of(Limit::EventsPerMonth, view.events),
                workspaces: of(Limit::Workspaces, view.held.workspaces),
                connections: of(Limit::Connections, view.held.connections),
                rules: of(Limit::Rules, view.held.rules),
                members: of(Limit::Members, view.held.members),
            },
            on_events_exceeded: match view.plan.on_events_exceeded {
                OnEventsExceeded::Accept => "accept",
                OnEventsExceeded::Refuse => "refuse",
            },
            retention_days: view.plan.retention_days,
            month: view.month,
            month_ends_at: view.turns_at,
            name: view.name,
        }
    }
}

pub(super) async fn plan(State(app): State<App>, caller: Caller) -> Result<Response, ApiError> {
    let view = app.engine.plan_view(caller.organization_id()).await?;
    Ok(respond(StatusCode::OK, &PlanJson::from(view)))
}
