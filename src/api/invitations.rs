//! Invitations: a link for somebody, good once and for a week, which makes them a user.

use super::{
    App, Ids,
    error::ApiError,
    form::{self, Fields},
    json::{Json, respond},
    page::{self, CONFIGURED, Envelope, List, Query},
    sign_in::{PASSWORD, is_password},
    users::{ROLE, UserJson, role_named},
};
use crate::auth::{Caller, Origin};
use actors::{
    domain::{
        ids::InvitationId,
        secret::Secret,
        session::Role,
        timestamp::Timestamp,
        user::{Invitation, email},
    },
    engine::{EngineError, Joining, NewInvitation, Scope},
};
use axum::{extract::State, http::StatusCode, response::Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) const EMAIL: &str = "must be an e-mail address of at most 254 characters, such as ada@example.com";

/// A longer token is not looked at, in bytes.
pub(super) const TOKEN_BYTES_MAX: usize = 255;

/// Where an invitation's token is shown to its owner.
pub(crate) fn link(public_url: &str, token: &Secret) -> String {
    format!("{public_url}/invitation?token={}", token.expose())
}

#[derive(Serialize, JsonSchema)]
pub(super) struct InvitationJson {
    id: InvitationId,
    email: String,
    role: Role,
    created_by: String,
    created_at: Timestamp,
    expires_at: Timestamp,
}

impl From<Invitation> for InvitationJson {
    fn from(invitation: Invitation) -> Self {
        let Invitation { id, email, role, created_by, created_at, expires_at, .. } = invitation;
        Self { id, email, role, created_by, created_at, expires_at }
    }
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "NewInvitation")]
pub(super) struct NewForm {
    #[schemars(length(min = 3, max = 254), regex(pattern = "^[^@\\s]+@[^@\\s]+$"))]
    email: String,
    #[schemars(with = "Role")]
    role: String,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CreatedInvitation")]
pub(super) struct Created {
    invitation: InvitationJson,
    /// Shown once.
    link: String,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AcceptedInvitation")]
pub(super) struct Accepted {
    user: UserJson,
}

/// It is gone.
#[derive(Serialize, JsonSchema)]
pub(super) struct Deleted {
    pub deleted: bool,
}

pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Json(form): Json<NewForm>,
) -> Result<Response, ApiError> {
    let role = role_named(&form.role);
    Fields::default()
        .require("email", email(&form.email).is_some(), EMAIL)
        .require("role", role.is_some(), ROLE)
        .check()?;
    let role = role.unwrap_or_default();
    caller.covers(role)?;
    let new = NewInvitation { email: form.email, role, created_by: caller.name() };
    let (invitation, token) = caller.engine(&app).invite(caller.organization_id(), new).await?;
    let link = link(app.public_url.get().map_or("", String::as_str), &token);
    Ok(respond(StatusCode::CREATED, &Created { invitation: invitation.into(), link }))
}

pub(super) async fn list(State(app): State<App>, caller: Caller, query: Query) -> Result<Response, ApiError> {
    let organization = caller.organization_id();
    let place = page::place_of(Scope::Organization(organization));
    let (limit, after) = query.page(List::Invitations, &place, CONFIGURED, InvitationId::from_bytes)?;
    let page = app.engine.invitations(organization, after, limit).await?;
    let shown = InvitationJson::from;
    let envelope = Envelope::new(List::Invitations, &place, limit, page, |id| *id.as_bytes(), shown);
    Ok(respond(StatusCode::OK, &envelope))
}

pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Ids([id]): Ids<1>,
) -> Result<Response, ApiError> {
    let (organization, id) = (caller.organization_id(), InvitationId::from_uuid(id));
    let found = app.engine.invitation(organization, id).await?;
    caller.covers(found.ok_or_else(|| ApiError::not_found("invitation"))?.role)?;
    caller.engine(&app).delete_invitation(organization, id).await?;
    Ok(respond(StatusCode::OK, &Deleted { deleted: true }))
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "InvitationAcceptance")]
pub(super) struct AcceptForm {
    /// The one in the invitation's link.
    #[schemars(length(min = 1, max = TOKEN_BYTES_MAX))]
    token: String,
    #[schemars(length(min = 1, max = 255))]
    name: String,
    #[schemars(length(min = 12, max = 256))]
    password: String,
}

/// Asks nobody who they are: the token says it.
pub(super) async fn accept(
    State(app): State<App>,
    origin: Origin,
    Json(form): Json<AcceptForm>,
) -> Result<Response, ApiError> {
    let AcceptForm { token, name, password } = form;
    let (token, password) = (Secret::new(token), Secret::new(password));
    let is_token = (1..=TOKEN_BYTES_MAX).contains(&token.expose().len());
    Fields::default()
        .require("token", is_token, "must be the token in the invitation's link")
        .require("name", form::is_name(&name), form::NAME)
        .require("password", is_password(&password), PASSWORD)
        .check()?;
    match origin.engine(&app).accept_invitation(Joining { token, name, password }).await {
        Ok(user) => Ok(respond(StatusCode::CREATED, &Accepted { user: user.into() })),
        Err(EngineError::NotProven) => {
            let message = "the invitation was used or deleted, or has expired; ask for a new one";
            let err = ApiError::new(StatusCode::UNAUTHORIZED, message);
            Err(origin.refused(&app, err))
        }
        Err(err) => Err(err.into()),
    }
}
