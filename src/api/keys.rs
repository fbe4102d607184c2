//! Machine keys, and the publishable keys of workspaces. Ours, as far as the contract goes.

use super::{
    App, Ids,
    error::ApiError,
    form::{self, Fields},
    json::{Json, OptionalJson, respond},
    page::{self, CONFIGURED, Envelope, List, Query},
    sessions::Revoked,
};
use crate::auth::{Caller, Who};
use actors::{
    domain::{
        access::{KeyLimits, Permission},
        ids::WorkspaceId,
        key::{MachineKey, PublishableKey},
        timestamp::Timestamp,
    },
    engine::{NewMachineKey, Scope},
};
use axum::{
    extract::{FromRequestParts, RawPathParams, State},
    http::{StatusCode, request::Parts},
    response::Response,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Workspaces one key may be limited to.
const WORKSPACES_MAX: usize = 100;
/// How long a publishable key outlives the next one, where nobody says, in seconds.
const OVERLAP_SECONDS_DEFAULT: i64 = 24 * 3_600;
/// And at most.
const OVERLAP_SECONDS_MAX: i64 = 30 * 24 * 3_600;

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "MachineKey")]
pub(super) struct KeyJson {
    access_key: String,
    /// Shown once, when it is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_key: Option<String>,
    name: Option<String>,
    /// Null: all.
    workspaces: Option<Vec<WorkspaceId>>,
    /// Null: all.
    permissions: Option<Vec<Permission>>,
    created_by: Option<String>,
    /// To the hour.
    last_used_at: Option<Timestamp>,
    created_at: Timestamp,
}

impl From<MachineKey> for KeyJson {
    fn from(key: MachineKey) -> Self {
        Self {
            access_key: key.access_key,
            secret_key: None,
            name: key.name,
            workspaces: key.limits.workspaces,
            permissions: key.limits.permissions,
            created_by: key.created_by,
            last_used_at: key.last_used_at,
            created_at: key.created_at,
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "NewMachineKey")]
#[schemars(extend("examples" = [{ "name": "Reports", "permissions": ["read"] }]))]
pub(super) struct NewForm {
    #[schemars(length(min = 1, max = 128), regex(pattern = form::CONNECTION_NAME_PATTERN))]
    name: String,
    /// The only workspaces it is for; absent: all there are and will be.
    #[schemars(with = "Option<Vec<uuid::Uuid>>", length(min = 1, max = WORKSPACES_MAX))]
    workspaces: Option<Vec<String>>,
    /// All that it may do; absent: everything.
    #[schemars(with = "Option<Vec<Permission>>", length(min = 1))]
    permissions: Option<Vec<String>>,
}

impl NewForm {
    fn limits(&self) -> Result<KeyLimits, ApiError> {
        let mut fields = Fields::default();
        fields.require("name", form::is_connection_name(&self.name), form::CONNECTION_NAME);
        let workspaces = self.workspaces.as_deref();
        let count = workspaces.map_or(1, <[_]>::len);
        fields.require(
            "workspaces",
            (1..=WORKSPACES_MAX).contains(&count),
            "must be 1 to 100; leave it out for all",
        );
        let mut ids = Vec::new();
        for (index, text) in workspaces.iter().copied().flatten().take(WORKSPACES_MAX).enumerate() {
            let id = form::uuid(text);
            fields.require(&format!("workspaces[{index}]"), id.is_some(), "must be a UUID");
            ids.extend(
                id.map(WorkspaceId::from_uuid).filter(|id| !ids.contains(id)).into_iter().collect::<Vec<_>>(),
            );
        }
        let permissions = self.permissions.as_deref();
        fields.require(
            "permissions",
            permissions.is_none_or(|all| !all.is_empty()),
            "must name some; leave it out for all",
        );
        let mut named = Vec::new();
        for (index, text) in permissions.iter().copied().flatten().enumerate().take(WORKSPACES_MAX) {
            let permission = Permission::named(text);
            let msg = "must be read, write, payload, send, sessions or keys";
            fields.require(&format!("permissions[{index}]"), permission.is_some(), msg);
            named.extend(permission);
        }
        named.sort_unstable();
        named.dedup();
        fields.check()?;
        Ok(KeyLimits { workspaces: workspaces.map(|_| ids), permissions: permissions.map(|_| named) })
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CreatedMachineKey")]
pub(super) struct Created {
    key: KeyJson,
}

/// A publishable key that the next one has replaced.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "OlderKey")]
pub(super) struct OlderJson {
    public_key: String,
    /// It is good until then.
    expires_at: Timestamp,
}

/// A workspace's publishable key from here on.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "RotatedKey")]
pub(super) struct Rotated {
    public_key: String,
    name: String,
    created_at: Timestamp,
    older: Vec<OlderJson>,
}

pub(super) async fn list(State(app): State<App>, caller: Caller, query: Query) -> Result<Response, ApiError> {
    let organization = caller.organization_id();
    let place = page::place_of(Scope::Organization(organization));
    let (limit, after) = query.page(List::Keys, &place, CONFIGURED, |id| id)?;
    let page = app.engine.machine_keys(organization, after, limit).await?;
    let envelope = Envelope::new(List::Keys, &place, limit, page, |id| *id, KeyJson::from);
    Ok(respond(StatusCode::OK, &envelope))
}

/// A key may make no other that may more than itself.
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Json(form): Json<NewForm>,
) -> Result<Response, ApiError> {
    let limits = form.limits()?;
    if let Who::Machine(machine) = &caller.who
        && !machine.limits.covers(&limits)
    {
        return Err(ApiError::forbidden("a key may make no other that may do more than itself"));
    }
    let new = NewMachineKey { name: Some(form.name), limits, created_by: Some(caller.name()) };
    let (key, clear) = caller.engine(&app).create_limited_machine_key(caller.organization_id(), new).await?;
    let key = KeyJson { secret_key: Some(clear.secret.expose().to_owned()), ..key.into() };
    Ok(respond(StatusCode::CREATED, &Created { key }))
}

/// A key may not revoke itself: so an organization always keeps one that can make others.
pub(super) async fn revoke(
    State(app): State<App>,
    caller: Caller,
    Named(access_key): Named,
) -> Result<Response, ApiError> {
    if matches!(&caller.who, Who::Machine(machine) if machine.access_key == access_key) {
        let message = "a key cannot revoke itself; make another and revoke this one with it";
        return Err(ApiError::new(StatusCode::CONFLICT, message));
    }
    caller.engine(&app).delete_machine_key(caller.organization_id(), &access_key).await?;
    Ok(respond(StatusCode::OK, &Revoked { revoked: true }))
}

#[derive(Default, Deserialize, JsonSchema)]
#[schemars(rename = "KeyRotation")]
pub(super) struct RotateForm {
    /// How long the key it replaces is good for; a day where nothing is said.
    #[schemars(range(min = 0, max = OVERLAP_SECONDS_MAX))]
    overlap_seconds: Option<i64>,
}

/// Gives a workspace a new publishable key; the one it had is good for a while longer.
pub(super) async fn rotate(
    State(app): State<App>,
    caller: Caller,
    Ids([workspace]): Ids<1>,
    OptionalJson(form): OptionalJson<RotateForm>,
) -> Result<Response, ApiError> {
    let overlap = form.overlap_seconds.unwrap_or(OVERLAP_SECONDS_DEFAULT);
    let msg = format!("must be from 0 to {OVERLAP_SECONDS_MAX}");
    let fits = (0..=OVERLAP_SECONDS_MAX).contains(&overlap);
    Fields::default().require("overlap_seconds", fits, &msg).check()?;
    let overlap = Duration::from_secs(overlap.unsigned_abs());
    let workspace = WorkspaceId::from_uuid(workspace);
    let scope = caller.workspace(&app, workspace).await?;
    let key = caller.engine(&app).rotate_publishable_key(scope, workspace, overlap).await?;
    let PublishableKey { public_key, name, created_at, older, .. } = key;
    let older =
        older.into_iter().map(|old| OlderJson { public_key: old.public_key, expires_at: old.expires_at });
    let rotated = Rotated { public_key, name, created_at, older: older.collect() };
    Ok(respond(StatusCode::OK, &rotated))
}

/// The access key that the path names. One that has not the form of one names nothing: 404.
pub(super) struct Named(String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &S) -> Result<Self, ApiError> {
        let params = RawPathParams::from_request_parts(parts, app).await;
        let params = params.map_err(|_| ApiError::not_found("route"))?;
        let key = params.iter().next().map(|(_, text)| text).filter(|text| crate::auth::is_access_key(text));
        key.map(|key| Self(key.to_owned())).ok_or_else(|| ApiError::not_found("key"))
    }
}
