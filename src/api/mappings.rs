//! The default mapping of a connection: shown as it was saved or is suggested, and saved.
//!
//! A schema stays text from the request to the store and back, because its numbers keep their digits.
//! What is wrong with the fields of a body is 422 here, since the contract declares no 400.

use super::{
    App, Ids, connections,
    error::ApiError,
    form::{self, Fields},
    json::{Json, respond},
};
use crate::auth::Caller;
use actors::{
    domain::{
        ids::{ConnectionId, MappingId, MappingVersionId, WorkspaceId},
        mapping::{self, DefaultMapping},
        timestamp::Timestamp,
    },
    engine::{MappingView, NewMapping},
};
use axum::{extract::State, http::StatusCode, response::Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Number, value::RawValue};

// The contract says `workspace_id` and `connection_id` here, as in catalogs.
/// One version of a connection's mapping.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Mapping")]
pub(super) struct MappingJson {
    id: MappingVersionId,
    /// The same in all versions.
    mapping_id: MappingId,
    version: u64,
    workspace_id: WorkspaceId,
    connection_id: ConnectionId,
    integration_type: String,
    name: String,
    #[schemars(with = "mapping::Schema")]
    schema: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    catalog_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_by: Option<String>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DefaultMapping")]
pub(super) struct ViewJson {
    #[schemars(extend("enum" = ["stored", "generated"]))]
    status: &'static str,
    mapping: MappingJson,
}

fn shown(MappingView { mapping, is_stored }: MappingView) -> Result<Response, ApiError> {
    let (id, mapping_id) = (mapping.id(), mapping.mapping_id());
    let DefaultMapping { workspace_id, connection_id, kind, name, schema, .. } = mapping;
    let schema = RawValue::from_string(schema).map_err(|err| {
        tracing::error!(%connection_id, %err, "a stored mapping is not JSON");
        ApiError::internal()
    })?;
    let mapping = MappingJson {
        id,
        mapping_id,
        version: mapping.version,
        workspace_id,
        connection_id,
        integration_type: kind,
        name,
        schema,
        catalog_version: mapping.catalog_version,
        created_by: mapping.created_by,
        created_at: mapping.created_at,
        updated_at: mapping.updated_at,
    };
    let status = if is_stored { "stored" } else { "generated" };
    Ok(respond(StatusCode::OK, &ViewJson { status, mapping }))
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "MappingInput")]
#[schemars(extend("examples" = [{ "schema": { "schema_version": 1, "fields": [{ "dest": "email", "source": { "type": "path", "value": "email" } }] } }]))]
pub(super) struct SaveForm {
    #[schemars(with = "mapping::Schema")]
    schema: Box<RawValue>,
    /// The connection's, where it is said.
    #[schemars(with = "Option<uuid::Uuid>")]
    workspace_id: Option<String>,
    /// The mapping's, where it is said.
    #[schemars(with = "Option<uuid::Uuid>")]
    mapping_id: Option<String>,
    /// 409 unless this is the version that is stored.
    #[schemars(with = "Option<std::num::NonZeroU64>")]
    expected_version: Option<Number>,
    #[schemars(length(min = 1, max = 64))]
    name: Option<String>,
}

const MAPPING_NAME: &str = "must be 1 to 64 characters, none of them a control character";
fn is_mapping_name(text: &str) -> bool {
    (1..=64).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

const VERSION: &str = "must be a whole number, 1 or more";

impl SaveForm {
    fn check(self, saved_by: String) -> Result<NewMapping, ApiError> {
        let uuid = |text: &Option<String>| text.as_deref().and_then(form::uuid);
        let (workspace_id, mapping_id) = (uuid(&self.workspace_id), uuid(&self.mapping_id));
        let expected_version = self.expected_version.as_ref().and_then(Number::as_u64);
        let expected_version = expected_version.filter(|version| *version > 0);
        Fields::default()
            .require("workspace_id", workspace_id.is_some() || self.workspace_id.is_none(), "must be a UUID")
            .require("mapping_id", mapping_id.is_some() || self.mapping_id.is_none(), "must be a UUID")
            .require(
                "expected_version",
                expected_version.is_some() || self.expected_version.is_none(),
                VERSION,
            )
            .require("name", self.name.as_deref().is_none_or(is_mapping_name), MAPPING_NAME)
            .check()?;
        Ok(NewMapping {
            workspace_id: workspace_id.map(WorkspaceId::from_uuid),
            mapping_id: mapping_id.map(MappingId::from_uuid),
            expected_version,
            name: self.name,
            schema: self.schema.get().to_owned(),
            saved_by,
        })
    }
}

pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    Ids([id]): Ids<1>,
) -> Result<Response, ApiError> {
    let (scope, id) = connections::place(&app, &caller, id).await?;
    shown(app.engine.default_mapping(scope, id, &caller.name()).await?)
}

pub(super) async fn save(
    State(app): State<App>,
    caller: Caller,
    Ids([id]): Ids<1>,
    form: Result<Json<SaveForm>, ApiError>,
) -> Result<Response, ApiError> {
    let Json(form) = form.map_err(ApiError::of_meaning)?;
    let new = form.check(caller.name()).map_err(ApiError::of_meaning)?;
    let (scope, id) = connections::place(&app, &caller, id).await?;
    shown(caller.engine(&app).save_default_mapping(scope, id, new).await?)
}
