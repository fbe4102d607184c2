//! Workspaces: create, list, read, rename.

use super::{
    App, Ids,
    error::ApiError,
    form::{self, Fields},
    json::{Json, present, respond},
    page::{self, CONFIGURED, Envelope, List, Query},
};
use crate::auth::Caller;
use actors::{
    domain::{ids::WorkspaceId, timestamp::Timestamp, workspace::Workspace},
    engine::Scope,
};
use axum::{extract::State, http::StatusCode, response::Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Serialize, JsonSchema)]
pub(super) struct WorkspaceJson {
    id: WorkspaceId,
    name: String,
    description: Option<String>,
    created_at: Timestamp,
    updated_at: Timestamp,
    /// Its events could not be routed by our own fault, again and again; they wait until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    routing_paused_until: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    /// Only where one workspace is read.
    publishable_key: Option<KeyJson>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "WorkspaceKey")]
pub(super) struct KeyJson {
    public_key: String,
    name: String,
}

impl WorkspaceJson {
    fn of(app: &App, workspace: Workspace) -> Self {
        let Workspace { id, name, description, created_at, updated_at, .. } = workspace;
        let routing_paused_until = app.engine.routing_paused_until(id);
        Self { id, name, description, created_at, updated_at, routing_paused_until, publishable_key: None }
    }
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "WorkspaceInput")]
#[schemars(extend("examples" = [{ "name": "My shop", "description": "Orders and customers" }]))]
pub(super) struct Form {
    #[schemars(length(min = 3, max = 50), regex(pattern = "^[a-zA-Z0-9 _-]+$"))]
    name: String,
    /// Null takes it away; absent, it stays.
    #[schemars(length(max = 1024))]
    #[serde(default, deserialize_with = "present")]
    description: Option<Option<String>>,
}

impl Form {
    fn check(&self) -> Result<(), ApiError> {
        let description = self.description.iter().flatten().next();
        Fields::default()
            .require("name", form::is_workspace_name(&self.name), form::WORKSPACE_NAME)
            .require(
                "description",
                description.is_none_or(|text| form::is_description(text)),
                form::DESCRIPTION,
            )
            .check()
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CreatedWorkspace")]
pub(super) struct Created {
    workspace: WorkspaceJson,
}

pub(super) async fn list(State(app): State<App>, caller: Caller, query: Query) -> Result<Response, ApiError> {
    let organization = caller.organization_id();
    let place = page::place_of(Scope::Organization(organization));
    let (limit, after) = query.page(List::Workspaces, &place, CONFIGURED, WorkspaceId::from_bytes)?;
    let mut page = app.engine.workspaces(organization, after, limit).await?;
    page.records.retain(|workspace| caller.sees(workspace.id));
    let shown = |workspace| WorkspaceJson::of(&app, workspace);
    let envelope = Envelope::new(List::Workspaces, &place, limit, page, |id| *id.as_bytes(), shown);
    Ok(respond(StatusCode::OK, &envelope))
}

pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Json(form): Json<Form>,
) -> Result<Response, ApiError> {
    form.check()?;
    let description = form.description.flatten();
    let (workspace, _) =
        caller.engine(&app).create_workspace(caller.organization_id(), form.name, description).await?;
    Ok(respond(StatusCode::CREATED, &Created { workspace: WorkspaceJson::of(&app, workspace) }))
}

pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    Ids([id]): Ids<1>,
) -> Result<Response, ApiError> {
    let id = WorkspaceId::from_uuid(id);
    let found = app.engine.workspace(caller.organization_id(), id).await?.filter(|_| caller.sees(id));
    let mut shown = WorkspaceJson::of(&app, found.ok_or_else(|| ApiError::not_found("workspace"))?);
    let key = app.engine.publishable_key_of(id).await?;
    shown.publishable_key = key.map(|key| KeyJson { public_key: key.public_key, name: key.name });
    Ok(respond(StatusCode::OK, &shown))
}

pub(super) async fn update(
    State(app): State<App>,
    caller: Caller,
    Ids([id]): Ids<1>,
    Json(form): Json<Form>,
) -> Result<Response, ApiError> {
    form.check()?;
    let id = WorkspaceId::from_uuid(id);
    caller.workspace(&app, id).await?;
    let updated = caller
        .engine(&app)
        .update_workspace(caller.organization_id(), id, form.name, form.description)
        .await?;
    Ok(respond(StatusCode::OK, &WorkspaceJson::of(&app, updated)))
}
