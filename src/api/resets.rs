//! Links to another password, for somebody who lost theirs: made by whoever manages users, good once and for a day.

use super::{
    App, Ids,
    error::ApiError,
    form::Fields,
    invitations::{Deleted, TOKEN_BYTES_MAX},
    json::{Json, respond},
    sign_in::{PASSWORD, is_password},
    users,
};
use crate::auth::{Caller, Origin};
use actors::{
    domain::{ids::UserId, secret::Secret, timestamp::Timestamp},
    engine::EngineError,
};
use axum::{extract::State, http::StatusCode, response::Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PasswordReset")]
pub(super) struct Created {
    /// Shown once. A link that was made before is worth nothing any more.
    link: String,
    expires_at: Timestamp,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ChangedPassword")]
pub(super) struct Changed {
    changed: bool,
}

pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Ids([id]): Ids<1>,
) -> Result<Response, ApiError> {
    let user = users::known(&app, &caller, UserId::from_uuid(id)).await?;
    if user.disabled {
        let message = "the user is disabled: enable them first";
        return Err(ApiError::new(StatusCode::CONFLICT, message));
    }
    let (reset, token) = caller.engine(&app).create_reset(user.organization_id, user.id).await?;
    let public_url = app.public_url.get().map_or("", String::as_str);
    let link = format!("{public_url}/reset?token={}", token.expose());
    Ok(respond(StatusCode::CREATED, &Created { link, expires_at: reset.expires_at }))
}

pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Ids([id]): Ids<1>,
) -> Result<Response, ApiError> {
    let user = users::known(&app, &caller, UserId::from_uuid(id)).await?;
    if user.reset.is_none() {
        return Err(ApiError::not_found("reset"));
    }
    caller.engine(&app).delete_reset(user.organization_id, user.id).await?;
    Ok(respond(StatusCode::OK, &Deleted { deleted: true }))
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "PasswordResetUse")]
pub(super) struct Form {
    /// The one in the link.
    #[schemars(length(min = 1, max = TOKEN_BYTES_MAX))]
    token: String,
    #[schemars(length(min = 12, max = 256))]
    password: String,
}

/// Asks nobody who they are: the token says it. Ends all sign-ins of the user.
pub(super) async fn reset(
    State(app): State<App>,
    origin: Origin,
    Json(form): Json<Form>,
) -> Result<Response, ApiError> {
    let (token, password) = (Secret::new(form.token), Secret::new(form.password));
    let is_token = (1..=TOKEN_BYTES_MAX).contains(&token.expose().len());
    Fields::default()
        .require("token", is_token, "must be the token in the link")
        .require("password", is_password(&password), PASSWORD)
        .check()?;
    match origin.engine(&app).reset_password(token, password).await {
        Ok(()) => Ok(respond(StatusCode::OK, &Changed { changed: true })),
        Err(EngineError::NotProven) => {
            let message = "the link was used or taken back, or has expired; ask for a new one";
            Err(origin.refused(&app, ApiError::new(StatusCode::UNAUTHORIZED, message)))
        }
        Err(err) => Err(err.into()),
    }
}
