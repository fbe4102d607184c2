//! Users of an organization: listed, changed, deleted by its owners.

use super::{
    App, Ids,
    error::ApiError,
    form::{self, Fields},
    invitations::Deleted,
    json::{Json, respond},
    page::{self, CONFIGURED, Envelope, List, Query},
};
use crate::auth::Caller;
use actors::{
    domain::{ids::UserId, session::Role, timestamp::Timestamp, user::User},
    engine::{Scope, UserPatch},
};
use axum::{extract::State, http::StatusCode, response::Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) const ROLE: &str = "must be member, admin or owner";

/// The role of this name.
pub(super) fn role_named(name: &str) -> Option<Role> {
    Some(match name {
        "member" => Role::Member,
        "admin" => Role::Admin,
        "owner" => Role::Owner,
        _ => return None,
    })
}

#[derive(Serialize, JsonSchema)]
pub(super) struct UserJson {
    id: UserId,
    email: String,
    name: String,
    role: Role,
    /// Whether they may read payloads: admins and owners may anyway.
    payloads: bool,
    disabled: bool,
    last_sign_in_at: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<User> for UserJson {
    fn from(user: User) -> Self {
        Self {
            payloads: user.payloads || user.role >= Role::Admin,
            id: user.id,
            email: user.email,
            name: user.name,
            role: user.role,
            disabled: user.disabled,
            last_sign_in_at: user.last_sign_in_at,
            created_at: user.created_at,
            updated_at: user.updated_at,
        }
    }
}

pub(super) async fn list(State(app): State<App>, caller: Caller, query: Query) -> Result<Response, ApiError> {
    let organization = caller.organization_id();
    let place = page::place_of(Scope::Organization(organization));
    let (limit, after) = query.page(List::Users, &place, CONFIGURED, UserId::from_bytes)?;
    let page = app.engine.users(organization, after, limit).await?;
    let envelope = Envelope::new(List::Users, &place, limit, page, |id| *id.as_bytes(), UserJson::from);
    Ok(respond(StatusCode::OK, &envelope))
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "UserPatch")]
pub(super) struct PatchForm {
    #[schemars(length(min = 1, max = 255))]
    name: Option<String>,
    #[schemars(with = "Option<Role>")]
    role: Option<String>,
    payloads: Option<bool>,
    disabled: Option<bool>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ChangedUser")]
pub(super) struct Changed {
    user: UserJson,
}

pub(super) async fn patch(
    State(app): State<App>,
    caller: Caller,
    Ids([id]): Ids<1>,
    Json(form): Json<PatchForm>,
) -> Result<Response, ApiError> {
    let role = form.role.as_deref().and_then(role_named);
    Fields::default()
        .require("name", form.name.as_deref().is_none_or(form::is_name), form::NAME)
        .require("role", form.role.is_none() || role.is_some(), ROLE)
        .check()?;
    let user = known(&app, &caller, UserId::from_uuid(id)).await?;
    if let Some(role) = role {
        caller.covers(role)?;
    }
    let PatchForm { name, payloads, disabled, .. } = form;
    let patch = UserPatch { name, role, payloads, disabled };
    let user = caller.engine(&app).update_user(user.organization_id, user.id, patch).await?;
    Ok(respond(StatusCode::OK, &Changed { user: user.into() }))
}

pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Ids([id]): Ids<1>,
) -> Result<Response, ApiError> {
    let user = known(&app, &caller, UserId::from_uuid(id)).await?;
    caller.engine(&app).delete_user(user.organization_id, user.id).await?;
    Ok(respond(StatusCode::OK, &Deleted { deleted: true }))
}

/// A user of the caller's organization, if the caller may do as much as they.
pub(super) async fn known(app: &App, caller: &Caller, id: UserId) -> Result<User, ApiError> {
    let found = app.engine.user(caller.organization_id(), id).await?;
    let user = found.ok_or_else(|| ApiError::not_found("user"))?;
    caller.covers(user.role).map(|()| user)
}
