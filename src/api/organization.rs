//! The caller's organization.

use super::{
    App,
    error::ApiError,
    form::{self, Fields},
    json::{Json, respond},
};
use crate::auth::Caller;
use actors::domain::{ids::OrganizationId, timestamp::Timestamp, workspace::Organization};
use axum::{extract::State, http::StatusCode, response::Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Serialize, JsonSchema)]
pub(super) struct OrganizationJson {
    id: OrganizationId,
    name: String,
    created_at: Timestamp,
}

impl From<Organization> for OrganizationJson {
    fn from(organization: Organization) -> Self {
        let Organization { id, name, created_at } = organization;
        Self { id, name, created_at }
    }
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "OrganizationInput")]
pub(super) struct Form {
    #[schemars(length(min = 1, max = 128), regex(pattern = form::CONNECTION_NAME_PATTERN))]
    name: String,
}

pub(super) async fn get(State(app): State<App>, caller: Caller) -> Result<Response, ApiError> {
    let found = app.engine.organization(caller.organization_id()).await?;
    let organization = found.ok_or_else(|| ApiError::not_found("organization"))?;
    Ok(respond(StatusCode::OK, &OrganizationJson::from(organization)))
}

pub(super) async fn rename(
    State(app): State<App>,
    caller: Caller,
    Json(form): Json<Form>,
) -> Result<Response, ApiError> {
    let is_name = form::is_connection_name(&form.name);
    Fields::default().require("name", is_name, form::CONNECTION_NAME).check()?;
    let engine = caller.engine(&app);
    let organization = engine.rename_organization(caller.organization_id(), form.name).await?;
    Ok(respond(StatusCode::OK, &OrganizationJson::from(organization)))
}
