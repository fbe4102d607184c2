//! Connections: a customer's account at a destination. Secrets come in and never go out.

use super::{
    App, Ids,
    error::ApiError,
    form::{self, Fields},
    json::{Json, Object, OptionalJson, present, respond},
    page::{self, CONFIGURED, Envelope, List, Query},
};
use crate::auth::Caller;
use actors::{
    domain::{
        connection::{Connection, InactiveReason, Policy},
        ids::{ConnectionId, WorkspaceId},
        timestamp::Timestamp,
    },
    engine::{ConnectionPatch, ConnectionView, NewConnection, Scope},
};
use axum::{extract::State, http::StatusCode, response::Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

#[derive(Serialize, JsonSchema)]
pub(super) struct ConnectionJson {
    id: ConnectionId,
    workspace: WorkspaceId,
    #[serde(rename = "type")]
    kind: String,
    name: String,
    /// Its settings, as `GET /integrations` names them for its type. Secrets are masked.
    metadata: Map<String, Value>,
    active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    inactive_reason: Option<InactiveReason>,
    /// What its service answered, and what to do about it. Ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    inactive_message: Option<String>,
    hidden: bool,
    /// Its deliveries wait.
    paused: bool,
    /// It fell again and again by our own fault; its deliveries wait until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    quarantined_until: Option<Timestamp>,
    policy: Policy,
    created_by: String,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<ConnectionView> for ConnectionJson {
    fn from(ConnectionView { connection, metadata, quarantined_until }: ConnectionView) -> Self {
        let Connection { id, workspace_id, kind, name, policy, inactive, paused, hidden, .. } = connection;
        let by_service = inactive.filter(|reason| *reason != InactiveReason::ManuallyInactivated);
        Self {
            id,
            workspace: workspace_id,
            kind,
            name,
            metadata,
            active: inactive.is_none(),
            inactive_reason: inactive,
            inactive_message: by_service.and(connection.refusal),
            hidden,
            paused,
            quarantined_until,
            policy,
            created_by: connection.created_by,
            created_at: connection.created_at,
            updated_at: connection.updated_at,
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "NewConnection")]
#[schemars(extend("examples" = [{ "workspace": "018f3c5e-7b1a-7c3e-9d2b-0a1b2c3d4e5f", "type": "webhook", "name": "Their endpoint", "metadata": { "url": "https://example.com/hooks" } }]))]
pub(super) struct NewForm {
    #[schemars(with = "uuid::Uuid")]
    workspace: String,
    /// What it connects to, such as `webhook`; see `GET /integrations`.
    #[serde(rename = "type")]
    kind: String,
    #[schemars(length(min = 1, max = 128), regex(pattern = form::CONNECTION_NAME_PATTERN))]
    name: String,
    /// Its settings, as `GET /integrations` names them for its type.
    metadata: Map<String, Value>,
    policy: Option<Object<Policy>>,
    #[serde(default)]
    hidden: Option<bool>,
}

/// What a connection is from here on; what is absent and optional stays.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "ConnectionInput")]
pub(super) struct ReplaceForm {
    #[schemars(length(min = 1, max = 128), regex(pattern = form::CONNECTION_NAME_PATTERN))]
    name: String,
    /// All its settings. A masked secret, sent back as it was shown, stays.
    metadata: Map<String, Value>,
    policy: Option<Object<Policy>>,
    hidden: Option<bool>,
}

/// What is absent stays.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "ConnectionPatch")]
pub(super) struct PatchForm {
    #[schemars(length(min = 1, max = 128), regex(pattern = form::CONNECTION_NAME_PATTERN))]
    name: Option<String>,
    /// All its settings. A masked secret, sent back as it was shown, stays.
    metadata: Option<Map<String, Value>>,
    /// Null goes back to the server's settings.
    #[serde(default, deserialize_with = "present")]
    policy: Option<Option<Object<Policy>>>,
    hidden: Option<bool>,
    paused: Option<bool>,
    active: Option<bool>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[schemars(rename = "ConnectionDeletion")]
pub(super) struct DeleteForm {
    /// Its rules go with it; otherwise 409 where there are any.
    force_delete: Option<bool>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CreatedConnection")]
pub(super) struct Created {
    connection: ConnectionJson,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DeletedConnection")]
pub(super) struct Deleted {
    id: ConnectionId,
    #[serde(rename = "type")]
    kind: String,
}

fn check_name(name: &str) -> Result<(), ApiError> {
    Fields::default().require("name", form::is_connection_name(name), form::CONNECTION_NAME).check()
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
    let (limit, after) = query.page(List::Connections, &place, CONFIGURED, ConnectionId::from_bytes)?;
    let mut page = app.engine.connections(scope, after, limit).await?;
    page.records.retain(|view| caller.sees(view.connection.workspace_id));
    let envelope =
        Envelope::new(List::Connections, &place, limit, page, |id| *id.as_bytes(), ConnectionJson::from);
    Ok(respond(StatusCode::OK, &envelope))
}

pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Json(form): Json<NewForm>,
) -> Result<Response, ApiError> {
    check_name(&form.name)?;
    let workspace = WorkspaceId::from_uuid(form::uuid_field("workspace", &form.workspace)?);
    let new = NewConnection {
        workspace_id: workspace,
        kind: form.kind,
        name: form.name,
        metadata: form.metadata,
        policy: form.policy.map(|Object(policy)| policy),
        hidden: form.hidden.unwrap_or(false),
        created_by: caller.name(),
    };
    let scope = caller.workspace(&app, workspace).await?;
    let connection = caller.engine(&app).create_connection(scope, new).await?.into();
    Ok(respond(StatusCode::CREATED, &Created { connection }))
}

pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    Ids([id]): Ids<1>,
) -> Result<Response, ApiError> {
    let view = found(&app, &caller, id).await?;
    Ok(respond(StatusCode::OK, &ConnectionJson::from(view)))
}

/// The connection of this id, if the caller may know of it.
pub(super) async fn found(app: &App, caller: &Caller, id: Uuid) -> Result<ConnectionView, ApiError> {
    let found = app.engine.connection(caller.scope(), ConnectionId::from_uuid(id)).await?;
    let found = found.filter(|view| caller.sees(view.connection.workspace_id));
    found.ok_or_else(|| ApiError::not_found("connection"))
}

/// The same, as the engine asks for it.
pub(super) async fn place(app: &App, caller: &Caller, id: Uuid) -> Result<(Scope, ConnectionId), ApiError> {
    let Connection { id, workspace_id, .. } = found(app, caller, id).await?.connection;
    Ok((Scope::Workspace(workspace_id), id))
}

pub(super) async fn replace(
    state: State<App>,
    caller: Caller,
    ids: Ids<1>,
    Json(form): Json<ReplaceForm>,
) -> Result<Response, ApiError> {
    check_name(&form.name)?;
    let patch = ConnectionPatch {
        name: Some(form.name),
        metadata: Some(form.metadata),
        policy: form.policy.map(|Object(policy)| policy),
        hidden: form.hidden,
        ..Default::default()
    };
    change(state, caller, ids, patch).await
}

pub(super) async fn patch(
    state: State<App>,
    caller: Caller,
    ids: Ids<1>,
    Json(form): Json<PatchForm>,
) -> Result<Response, ApiError> {
    form.name.as_deref().map_or(Ok(()), check_name)?;
    let inactive = form.active.map(|active| (!active).then_some(InactiveReason::ManuallyInactivated));
    let patch = ConnectionPatch {
        name: form.name,
        metadata: form.metadata,
        policy: form.policy.map(|policy| policy.map_or_else(Policy::default, |Object(policy)| policy)),
        hidden: form.hidden,
        paused: form.paused,
        inactive,
    };
    change(state, caller, ids, patch).await
}

/// Deliveries wait from here on; those in flight come back.
pub(super) async fn pause(state: State<App>, caller: Caller, ids: Ids<1>) -> Result<Response, ApiError> {
    change(state, caller, ids, ConnectionPatch { paused: Some(true), ..Default::default() }).await
}

/// Deliveries flow again.
pub(super) async fn resume(state: State<App>, caller: Caller, ids: Ids<1>) -> Result<Response, ApiError> {
    change(state, caller, ids, ConnectionPatch { paused: Some(false), ..Default::default() }).await
}

async fn change(
    State(app): State<App>,
    caller: Caller,
    Ids([id]): Ids<1>,
    patch: ConnectionPatch,
) -> Result<Response, ApiError> {
    let (scope, id) = place(&app, &caller, id).await?;
    let changed = caller.engine(&app).update_connection(scope, id, patch).await?;
    Ok(respond(StatusCode::OK, &ConnectionJson::from(changed)))
}

pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Ids([id]): Ids<1>,
    OptionalJson(form): OptionalJson<DeleteForm>,
) -> Result<Response, ApiError> {
    let (scope, id) = place(&app, &caller, id).await?;
    let deleted =
        caller.engine(&app).delete_connection(scope, id, form.force_delete.unwrap_or(false)).await?;
    Ok(respond(StatusCode::OK, &Deleted { id: deleted.id, kind: deleted.kind }))
}

#[cfg(test)]
mod tests {
    use super::super::json::parse;
    use super::*;

    #[test]
    fn a_patch_tells_absent_from_null() {
        let policy = |body: &str| parse::<PatchForm>(body.as_bytes()).map(|form| form.policy).ok();
        assert_eq!(policy("{}"), Some(None));
        assert_eq!(policy(r#"{"policy":null}"#), Some(Some(None)));
        let set = Policy { max_in_flight: Some(3), ..Default::default() };
        assert_eq!(policy(r#"{"policy":{"max_in_flight":3}}"#), Some(Some(Some(Object(set)))));
        assert_eq!(policy(r#"{"policy":{"max_in_flight":"3"}}"#), None);
    }
}
