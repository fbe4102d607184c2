//! Event types and resources: what there is to choose from, and a good word for each.
//!
//! `PUT` is ours; the official clients only read. Lists are bare arrays, as the contract has them,
//! and so not paged: a workspace has so many names at most that they fit one answer.

use super::{
    App, Ids,
    error::ApiError,
    form::{self, Fields},
    json::{Json, present, respond},
};
use crate::auth::Caller;
use actors::{
    domain::{
        ids::{NameId, WorkspaceId},
        names::{Name, NameKind},
        timestamp::Timestamp,
    },
    engine::NamePatch,
};
use axum::{
    extract::{FromRequestParts, RawPathParams, State},
    http::{StatusCode, request::Parts},
    response::Response,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An event type or a resource.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Name")]
pub(super) struct NameJson {
    id: NameId,
    key: String,
    label: String,
    description: Option<String>,
    active: bool,
    created_by: Option<String>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<Name> for NameJson {
    fn from(name: Name) -> Self {
        let Name { id, key, label, description, active, created_by, created_at, updated_at, .. } = name;
        Self { id, key, label, description, active, created_by, created_at, updated_at }
    }
}

/// What is absent stays; a description of null goes.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "NameInput")]
pub(super) struct Form {
    #[schemars(length(min = 1, max = 255))]
    label: Option<String>,
    #[schemars(length(max = 1024))]
    #[serde(default, deserialize_with = "present")]
    description: Option<Option<String>>,
    active: Option<bool>,
}

impl Form {
    fn check(&self) -> Result<(), ApiError> {
        let description = self.description.iter().flatten().next();
        Fields::default()
            .require("label", self.label.as_deref().is_none_or(form::is_name), form::NAME)
            .require(
                "description",
                description.is_none_or(|text| form::is_description(text)),
                form::DESCRIPTION,
            )
            .check()
    }
}

/// The name at the end of a path, as text.
pub(super) struct Key(String);

impl<S: Send + Sync> FromRequestParts<S> for Key {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &S) -> Result<Self, ApiError> {
        let found = RawPathParams::from_request_parts(parts, app).await;
        let found = found.map_err(|_| ApiError::not_found("route"))?;
        let key = found.iter().find(|(name, _)| *name == "key").map(|(_, key)| key.to_owned());
        let key = key.ok_or_else(|| ApiError::not_found("route"))?;
        if form::is_name(&key) { Ok(Self(key)) } else { Err(ApiError::field("key", form::NAME)) }
    }
}

pub(super) async fn event_types(
    state: State<App>,
    caller: Caller,
    ids: Ids<1>,
) -> Result<Response, ApiError> {
    list(state, caller, ids, NameKind::EventType).await
}

pub(super) async fn resources(state: State<App>, caller: Caller, ids: Ids<1>) -> Result<Response, ApiError> {
    list(state, caller, ids, NameKind::Resource).await
}

async fn list(
    State(app): State<App>,
    caller: Caller,
    Ids([workspace]): Ids<1>,
    kind: NameKind,
) -> Result<Response, ApiError> {
    let workspace = WorkspaceId::from_uuid(workspace);
    caller.workspace(&app, workspace).await?;
    let names = app.engine.names(caller.organization_id(), workspace, kind).await?;
    Ok(respond(StatusCode::OK, &names.into_iter().map(NameJson::from).collect::<Vec<_>>()))
}

pub(super) async fn save_event_type(
    state: State<App>,
    caller: Caller,
    ids: Ids<1>,
    key: Key,
    form: Json<Form>,
) -> Result<Response, ApiError> {
    save(state, caller, ids, (NameKind::EventType, key), form).await
}

pub(super) async fn save_resource(
    state: State<App>,
    caller: Caller,
    ids: Ids<1>,
    key: Key,
    form: Json<Form>,
) -> Result<Response, ApiError> {
    save(state, caller, ids, (NameKind::Resource, key), form).await
}

async fn save(
    State(app): State<App>,
    caller: Caller,
    Ids([workspace]): Ids<1>,
    (kind, Key(key)): (NameKind, Key),
    Json(form): Json<Form>,
) -> Result<Response, ApiError> {
    form.check()?;
    let patch = NamePatch { label: form.label, description: form.description, active: form.active };
    let workspace = WorkspaceId::from_uuid(workspace);
    caller.workspace(&app, workspace).await?;
    let organization = caller.organization_id();
    let name =
        caller.engine(&app).save_name(organization, workspace, (kind, &key), patch, &caller.name()).await?;
    Ok(respond(StatusCode::OK, &NameJson::from(name)))
}
