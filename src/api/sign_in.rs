//! Signing in and out, and passwords.
//!
//! A wrong e-mail address and a wrong password read the same and cost the same. What a network address may try,
//! and what strangers may try for one e-mail address, is bounded before anything is hashed, for a hash is dear.

use super::{
    App,
    error::ApiError,
    form::Fields,
    json::{Json, respond},
    users::UserJson,
};
use crate::auth::{Caller, Origin};
use actors::{
    domain::{
        secret::Secret,
        timestamp::Timestamp,
        user::{PASSWORD_CHARACTERS, User},
    },
    engine::{EngineError, SignedIn},
};
use axum::{extract::State, http::StatusCode, response::Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) const PASSWORD: &str = "must be 12 to 256 characters";

/// Whether a new password is one: long enough to resist guessing, not so long that hashing it is a burden.
pub(super) fn is_password(password: &Secret) -> bool {
    PASSWORD_CHARACTERS.contains(&password.expose().chars().count())
}

/// Bytes that a password may have at most, or an e-mail address.
const TRIED_BYTES_MAX: usize = 4 * 256;

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "SignIn")]
pub(super) struct Form {
    #[schemars(length(min = 1, max = TRIED_BYTES_MAX))]
    email: String,
    #[schemars(length(min = 1, max = TRIED_BYTES_MAX))]
    password: String,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SignedIn")]
pub(super) struct SignedInJson<'t> {
    access_token: &'t str,
    expires_at: Timestamp,
    user: UserJson,
}

/// All sign-ins of the user are over.
#[derive(Serialize, JsonSchema)]
pub(super) struct SignedOut {
    signed_out: bool,
}

pub(super) async fn sign_in(
    State(app): State<App>,
    origin: Origin,
    Json(form): Json<Form>,
) -> Result<Response, ApiError> {
    let (email, password) = (form.email, Secret::new(form.password));
    let fits = |text: &str| (1..=TRIED_BYTES_MAX).contains(&text.len());
    let msg = "must be 1 to 1024 bytes";
    Fields::default()
        .require("email", fits(&email), msg)
        .require("password", fits(password.expose()), msg)
        .check()?;
    may_try(&app, &origin, &email)?;
    match origin.engine(&app).sign_in(&email, password).await {
        Ok(signed_in) => {
            origin.from.inspect(|from| app.account_sign_ins.signed_in(&email, *from));
            Ok(shown(signed_in))
        }
        Err(EngineError::NotProven) => {
            let message = "the e-mail address or the password is wrong";
            Err(origin.refused(&app, ApiError::new(StatusCode::UNAUTHORIZED, message)))
        }
        Err(err) => Err(err.into()),
    }
}

fn shown(SignedIn { user, token, expires_at }: SignedIn) -> Response {
    respond(StatusCode::OK, &SignedInJson { access_token: token.expose(), expires_at, user: user.into() })
}

/// Ends all sign-ins of the user.
pub(super) async fn sign_out(State(app): State<App>, caller: Caller) -> Result<Response, ApiError> {
    let User { organization_id, id, .. } = caller.user()?;
    caller.engine(&app).sign_out(*organization_id, *id).await?;
    Ok(respond(StatusCode::OK, &SignedOut { signed_out: true }))
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "PasswordChange")]
pub(super) struct PasswordForm {
    #[schemars(length(min = 1, max = TRIED_BYTES_MAX))]
    current_password: String,
    #[schemars(length(min = 12, max = 256))]
    password: String,
}

/// Ends all sign-ins of the user but for the one that its answer goes on with.
pub(super) async fn change_password(
    State(app): State<App>,
    caller: Caller,
    Json(form): Json<PasswordForm>,
) -> Result<Response, ApiError> {
    let User { organization_id, id, email, .. } = caller.user()?;
    let (current, new) = (Secret::new(form.current_password), Secret::new(form.password));
    let is_current = (1..=TRIED_BYTES_MAX).contains(&current.expose().len());
    Fields::default()
        .require("current_password", is_current, "must be 1 to 1024 bytes")
        .require("password", is_password(&new), PASSWORD)
        .check()?;
    may_try(&app, &caller.origin, email)?;
    match caller.engine(&app).change_password(*organization_id, *id, current, new).await {
        Ok(signed_in) => Ok(shown(signed_in)),
        Err(EngineError::NotProven) => {
            let err = ApiError::field("current_password", "is not the password you have");
            Err(caller.origin.refused(&app, err))
        }
        Err(err) => Err(err.into()),
    }
}

fn may_try(app: &App, origin: &Origin, email: &str) -> Result<(), ApiError> {
    let Some(from) = origin.from else { return Ok(()) };
    let refused = |why: &str, seconds| ApiError::too_many_requests(why, seconds);
    app.sign_ins
        .count(from)
        .map_err(|seconds| refused("too many passwords were tried from this address", seconds))?;
    let why = "too many passwords were tried for this e-mail address, by whoever it was; sign in from where you did before, or wait";
    app.account_sign_ins.count(email, from).map_err(|seconds| refused(why, seconds))
}
