//! What is in a connection's account: its actions with what there is to pick from, and its fields.

use super::{App, Ids, connections, error::ApiError, integrations::fields_of, json::respond, page::Query};
use crate::auth::Caller;
use actors::{
    domain::{
        catalog::{Catalog, CatalogField},
        ids::{CatalogId, ConnectionId, WorkspaceId},
        timestamp::Timestamp,
    },
    engine::{ActionView, Item},
};
use axum::{extract::State, http::StatusCode, response::Response};
use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

/// Actions by their keys.
pub(super) struct ActionsJson(Vec<ActionView>);

impl Serialize for ActionsJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|view| (view.action.key, ActionJson::from(view))))
    }
}

/// An action of a connection, with what its account has.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LiveAction")]
pub(super) struct ActionJson<'v> {
    key: &'static str,
    label: &'static str,
    noun: &'static str,
    fields: Vec<&'static str>,
    /// What there is to pick from, by the input that picks.
    data: &'v BTreeMap<&'static str, Vec<Item>>,
}

impl<'v> From<&'v ActionView> for ActionJson<'v> {
    fn from(ActionView { action, items }: &'v ActionView) -> Self {
        let (key, label, noun) = (action.key, action.label, action.noun);
        Self { key, label, noun, fields: fields_of(action), data: items }
    }
}

pub(super) async fn actions(
    State(app): State<App>,
    caller: Caller,
    Ids([id]): Ids<1>,
) -> Result<Response, ApiError> {
    let (scope, id) = connections::place(&app, &caller, id).await?;
    let actions = app.engine.actions(scope, id).await?;
    Ok(respond(StatusCode::OK, &ActionsJson(actions)))
}

// The contract says `workspace_id` and `connection_id` here, and nowhere else.
/// The fields of a connection's account.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "FieldCatalog")]
pub(super) struct CatalogJson {
    id: CatalogId,
    workspace_id: WorkspaceId,
    connection_id: ConnectionId,
    integration_type: String,
    /// Another one as soon as anything about a field is different.
    catalog_version: String,
    /// When the service was asked last.
    refreshed_at: Timestamp,
    created_by: String,
    created_at: Timestamp,
    updated_at: Timestamp,
    fields: Vec<CatalogField>,
}

impl From<Catalog> for CatalogJson {
    fn from(catalog: Catalog) -> Self {
        Self {
            id: catalog.id(),
            workspace_id: catalog.workspace_id,
            connection_id: catalog.connection_id,
            integration_type: catalog.kind,
            catalog_version: catalog.hash,
            refreshed_at: catalog.refreshed_at,
            created_by: catalog.created_by,
            created_at: catalog.created_at,
            updated_at: catalog.updated_at,
            fields: catalog.fields,
        }
    }
}

pub(super) async fn fields(
    State(app): State<App>,
    caller: Caller,
    Ids([id]): Ids<1>,
    query: Query,
) -> Result<Response, ApiError> {
    let refresh = match query.get("refresh") {
        None | Some("" | "false") => false,
        Some("true") => true,
        Some(_) => return Err(ApiError::field("refresh", "must be true or false").of_meaning()),
    };
    let (scope, id) = connections::place(&app, &caller, id).await?;
    let catalog = app.engine.catalog(scope, id, refresh, &caller.name()).await?;
    Ok(respond(StatusCode::OK, &CatalogJson::from(catalog)))
}
