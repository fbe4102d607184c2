//! Rules: which events go to which connection, to do what.

use super::{
    App, Ids,
    error::ApiError,
    form::{self, Fields},
    json::{Json, present, respond},
    openapi::schema::{Conditions, RuleMetadata},
    page::{self, CONFIGURED, Envelope, List, Query},
};
use crate::auth::Caller;
use actors::{
    domain::{
        ids::{ConnectionId, RuleId, WorkspaceId},
        rule::Rule,
        timestamp::Timestamp,
    },
    engine::{NewRule, RuleFilter, RulePatch, Scope},
};
use axum::{extract::State, http::StatusCode, response::Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

/// Members of a rule's metadata that the contract knows; a client fails to read them if they are not text.
pub(super) const METADATA_TEXTS: [&str; 14] = [
    "action",
    "id",
    "name",
    "value",
    "key",
    "data",
    "option",
    "option_value",
    "template",
    "title",
    "subject",
    "from",
    "body",
    "event_name_override",
];

#[derive(Serialize, JsonSchema)]
pub(super) struct RuleJson {
    id: RuleId,
    connection: ConnectionId,
    workspace: WorkspaceId,
    #[serde(rename = "type")]
    kind: String,
    event: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_id: Option<String>,
    #[schemars(with = "RuleMetadata")]
    metadata: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Conditions>")]
    conditions: Option<Value>,
    active: bool,
    hidden: bool,
    created_by: String,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<Rule> for RuleJson {
    fn from(rule: Rule) -> Self {
        Self {
            id: rule.id,
            connection: rule.connection_id,
            workspace: rule.workspace_id,
            kind: rule.kind,
            event: rule.event,
            resource: rule.resource,
            resource_id: rule.resource_id,
            metadata: rule.metadata,
            conditions: rule.conditions,
            active: rule.active,
            hidden: rule.hidden,
            created_by: rule.created_by,
            created_at: rule.created_at,
            updated_at: rule.updated_at,
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "NewRule")]
#[schemars(extend("examples" = [{ "workspace": "018f3c5e-7b1a-7c3e-9d2b-0a1b2c3d4e5f", "connection": "018f3c5e-7b1a-7c3e-9d2b-0a1b2c3d4e60", "event": "order.*", "metadata": { "action": "send_webhook" }, "conditions": { "path": "total", "op": "gte", "value": 100 } }]))]
pub(super) struct NewForm {
    #[schemars(with = "Uuid")]
    workspace: String,
    #[schemars(with = "Uuid")]
    connection: String,
    /// An event's name, or a pattern such as `invoice.*`.
    #[schemars(length(min = 1, max = 255))]
    event: String,
    #[schemars(length(min = 1, max = 255))]
    resource: Option<String>,
    #[schemars(length(min = 1, max = 64), regex(pattern = form::RESOURCE_ID_PATTERN))]
    resource_id: Option<String>,
    #[schemars(with = "RuleMetadata")]
    metadata: Map<String, Value>,
    #[schemars(with = "Option<Conditions>")]
    conditions: Option<Value>,
    /// True where nothing is said.
    active: Option<bool>,
    hidden: Option<bool>,
}

/// What is absent stays, what is null goes.
#[derive(Default, Deserialize, JsonSchema)]
#[schemars(rename = "RulePatch")]
pub(super) struct PatchForm {
    #[schemars(length(min = 1, max = 255))]
    event: Option<String>,
    #[schemars(length(min = 1, max = 255))]
    #[serde(default, deserialize_with = "present")]
    resource: Option<Option<String>>,
    #[schemars(length(min = 1, max = 64), regex(pattern = form::RESOURCE_ID_PATTERN))]
    #[serde(default, deserialize_with = "present")]
    resource_id: Option<Option<String>>,
    #[schemars(with = "Option<RuleMetadata>")]
    metadata: Option<Map<String, Value>>,
    #[schemars(with = "Option<Conditions>")]
    #[serde(default, deserialize_with = "present")]
    conditions: Option<Option<Value>>,
    active: Option<bool>,
    hidden: Option<bool>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CreatedRule")]
pub(super) struct Created {
    rule: RuleJson,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DeletedRule")]
pub(super) struct Deleted {
    id: RuleId,
    connection: ConnectionId,
    #[serde(rename = "type")]
    kind: String,
    event: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_id: Option<String>,
}

/// What is there must be of its form; what is absent is not asked for.
pub(super) fn check(
    event: Option<&str>,
    resource: Option<&str>,
    resource_id: Option<&str>,
    metadata: Option<&Map<String, Value>>,
) -> Result<(), ApiError> {
    let mut fields = Fields::default();
    fields
        .require("event", event.is_none_or(form::is_name), form::NAME)
        .require("resource", resource.is_none_or(form::is_name), form::NAME)
        .require("resource_id", resource_id.is_none_or(form::is_resource_id), form::RESOURCE_ID);
    if let Some(metadata) = metadata {
        let action = metadata.get("action").and_then(Value::as_str);
        fields.require("metadata.action", action.is_some_and(|action| !action.is_empty()), "is required");
        for name in METADATA_TEXTS {
            let fits = metadata.get(name).is_none_or(Value::is_string);
            fields.require(&format!("metadata.{name}"), fits, "must be a string");
        }
    }
    fields.check()
}

pub(super) async fn list(state: State<App>, caller: Caller, query: Query) -> Result<Response, ApiError> {
    let scope = caller.scope();
    list_in(state, caller, scope, query).await
}

pub(super) async fn list_of_workspace(
    state: State<App>,
    caller: Caller,
    Ids([workspace]): Ids<1>,
    query: Query,
) -> Result<Response, ApiError> {
    let scope = caller.workspace(&state, WorkspaceId::from_uuid(workspace)).await?;
    list_in(state, caller, scope, query).await
}

async fn list_in(
    State(app): State<App>,
    caller: Caller,
    scope: Scope,
    query: Query,
) -> Result<Response, ApiError> {
    let place = page::place_of(scope);
    let (limit, after) = query.page(List::Rules, &place, CONFIGURED, RuleId::from_bytes)?;
    let (resource, resource_id) = query.about(&caller);
    let filter = RuleFilter { event: query.text("event"), resource, resource_id };
    let mut page = app.engine.rules(scope, filter, after, limit).await?;
    page.records.retain(|rule| {
        sees(&caller, rule) && query.asks_about(rule.resource.as_deref(), rule.resource_id.as_deref())
    });
    let envelope = Envelope::new(List::Rules, &place, limit, page, |id| *id.as_bytes(), RuleJson::from);
    Ok(respond(StatusCode::OK, &envelope))
}

pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Json(mut form): Json<NewForm>,
) -> Result<Response, ApiError> {
    if let Some((resource, resource_id)) = caller.pair() {
        check_pair(&caller, form.resource.as_deref(), form.resource_id.as_deref())?;
        form.resource = Some(resource.to_owned());
        form.resource_id = Some(resource_id.to_owned());
    }
    let (resource, resource_id) = (form.resource.as_deref(), form.resource_id.as_deref());
    check(Some(&form.event), resource, resource_id, Some(&form.metadata))?;
    let workspace = WorkspaceId::from_uuid(form::uuid_field("workspace", &form.workspace)?);
    let connection = ConnectionId::from_uuid(form::uuid_field("connection", &form.connection)?);
    let new = NewRule {
        workspace_id: workspace,
        connection_id: connection,
        event: form.event,
        resource: form.resource,
        resource_id: form.resource_id,
        metadata: form.metadata,
        conditions: form.conditions,
        active: form.active.unwrap_or(true),
        hidden: form.hidden.unwrap_or(false),
        created_by: caller.name(),
    };
    let scope = caller.workspace(&app, workspace).await?;
    let rule = caller.engine(&app).create_rule(scope, new).await?.into();
    Ok(respond(StatusCode::CREATED, &Created { rule }))
}

pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    Ids([id]): Ids<1>,
) -> Result<Response, ApiError> {
    let rule = found(&app, &caller, id).await?;
    Ok(respond(StatusCode::OK, &RuleJson::from(rule)))
}

/// The rule of this id, if the caller may know of it.
pub(super) async fn found(app: &App, caller: &Caller, id: Uuid) -> Result<Rule, ApiError> {
    let found = app.engine.rule(caller.scope(), RuleId::from_uuid(id)).await?;
    found.filter(|rule| sees(caller, rule)).ok_or_else(|| ApiError::not_found("rule"))
}

fn sees(caller: &Caller, rule: &Rule) -> bool {
    caller.sees_about(rule.workspace_id, rule.resource.as_deref(), rule.resource_id.as_deref())
}

/// Refuses a resource that is not the one the caller is about.
pub(super) fn check_pair(
    caller: &Caller,
    resource: Option<&str>,
    resource_id: Option<&str>,
) -> Result<(), ApiError> {
    let Some((ours, our_id)) = caller.pair() else { return Ok(()) };
    let msg = "is not the session's; leave it out";
    Fields::default()
        .require("resource", resource.is_none_or(|resource| resource == ours), msg)
        .require("resource_id", resource_id.is_none_or(|id| id == our_id), msg)
        .check()
}

pub(super) async fn patch(
    State(app): State<App>,
    caller: Caller,
    Ids([id]): Ids<1>,
    Json(form): Json<PatchForm>,
) -> Result<Response, ApiError> {
    let there = |field: &'_ Option<Option<String>>| field.clone().flatten();
    let (resource, resource_id) = (there(&form.resource), there(&form.resource_id));
    check(form.event.as_deref(), resource.as_deref(), resource_id.as_deref(), form.metadata.as_ref())?;
    check_pair(
        &caller,
        form.resource.as_ref().map(|it| it.as_deref().unwrap_or_default()),
        form.resource_id.as_ref().map(|it| it.as_deref().unwrap_or_default()),
    )?;
    let patch = RulePatch {
        event: form.event,
        resource: form.resource,
        resource_id: form.resource_id,
        metadata: form.metadata,
        conditions: form.conditions,
        active: form.active,
        hidden: form.hidden,
    };
    let Rule { id, workspace_id, .. } = found(&app, &caller, id).await?;
    let rule = caller.engine(&app).update_rule(Scope::Workspace(workspace_id), id, patch).await?;
    Ok(respond(StatusCode::OK, &RuleJson::from(rule)))
}

pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Ids([id]): Ids<1>,
) -> Result<Response, ApiError> {
    let Rule { id, workspace_id, .. } = found(&app, &caller, id).await?;
    let rule = caller.engine(&app).delete_rule(Scope::Workspace(workspace_id), id).await?;
    let Rule { id, connection_id, kind, event, resource, resource_id, .. } = rule;
    let deleted = Deleted { id, connection: connection_id, kind, event, resource, resource_id };
    Ok(respond(StatusCode::OK, &deleted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_rule_keeps_its_form() {
        let good = json!({"action": "send_webhook", "other": 7});
        #[rustfmt::skip]
        let cases = [
            ("a plain one",                "a.b",  None,        None,          good.clone(),                           None),
            ("with a resource",            "a.b",  Some("r"),   Some("id:1"),  good.clone(),                           None),
            ("no event",                   "",     None,        None,          good.clone(),                           Some("event")),
            ("no resource in it",          "a",    Some(""),    None,          good.clone(),                           Some("resource")),
            ("a resource id with a space", "a",    None,        Some("a b"),   good,                                   Some("resource_id")),
            ("no action",                  "a",    None,        None,          json!({}),                              Some("metadata.action")),
            ("an action of no name",       "a",    None,        None,          json!({"action": ""}),                  Some("metadata.action")),
            ("a number where text is read","a",    None,        None,          json!({"action": "x", "id": 5}),        Some("metadata.id")),
        ];
        for (why, event, resource, resource_id, metadata, expected) in cases {
            let metadata = metadata.as_object().expect("an object");
            let checked = check(Some(event), resource, resource_id, Some(metadata));
            match expected {
                None => assert!(checked.is_ok(), "{why}"),
                Some(param) => {
                    let message = checked.expect_err(why).message;
                    assert!(message.starts_with(&format!("{param} ")), "{why}: {message}");
                }
            }
        }
    }
}
