//! The audit log: who changed what, when, and from where.

use super::{
    App,
    error::ApiError,
    form,
    json::respond,
    page::{self, Envelope, HISTORY, List, Query},
    search::moment,
};
use crate::auth::Caller;
use actors::{
    domain::{
        access::{Permission, Subject},
        audit::{ActorKind, AuditEntry, AuditFilter},
        ids::{AuditId, WorkspaceId},
        timestamp::Timestamp,
    },
    engine::Scope,
};
use axum::{extract::State, http::StatusCode, response::Response};
use schemars::JsonSchema;
use serde::Serialize;
use std::net::IpAddr;

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuditEntry")]
pub(super) struct EntryJson {
    id: AuditId,
    created_at: Timestamp,
    /// What was done, such as `rule.updated`.
    action: String,
    actor: ActorJson,
    subject: SubjectJson,
    /// Null: it is about the organization.
    workspace: Option<WorkspaceId>,
    /// Names of what was changed, without values.
    changed: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuditActor")]
pub(super) struct ActorJson {
    r#type: ActorKind,
    id: String,
    name: Option<String>,
    ip_address: Option<IpAddr>,
    request_id: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuditSubject")]
pub(super) struct SubjectJson {
    r#type: String,
    id: String,
    name: Option<String>,
}

impl From<AuditEntry> for EntryJson {
    fn from(entry: AuditEntry) -> Self {
        let (actor, subject) = (entry.actor, entry.subject);
        Self {
            id: entry.id,
            created_at: entry.at,
            action: entry.action,
            actor: ActorJson {
                r#type: actor.kind,
                id: actor.id,
                name: actor.name,
                ip_address: actor.from,
                request_id: actor.request_id,
            },
            subject: SubjectJson { r#type: subject.kind, id: subject.id, name: subject.name },
            workspace: entry.workspace_id,
            changed: entry.changed,
        }
    }
}

/// A workspace's log for who may manage its keys; that of the organization for who may manage those.
pub(super) async fn list(State(app): State<App>, caller: Caller, query: Query) -> Result<Response, ApiError> {
    let workspace = query.get("workspace").map(|text| form::uuid_field("workspace", text)).transpose()?;
    let workspace = workspace.map(WorkspaceId::from_uuid);
    let scope = match workspace {
        Some(workspace) => caller.workspace(&app, workspace).await?,
        None => {
            caller.ask(Permission::Keys, Subject::Organization)?;
            Scope::Organization(caller.organization_id())
        }
    };
    let place = page::place_of(scope);
    let (limit, after) = query.page(List::Audit, &place, HISTORY, AuditId::from_bytes)?;
    let filter = AuditFilter {
        workspace,
        actor: query.text("actor"),
        action: query.text("action"),
        subject: query.text("subject"),
        since: moment(&query, "after")?,
        until: moment(&query, "before")?,
    };
    let page = app.engine.audit(caller.organization_id(), filter, after, limit).await?;
    let envelope = Envelope::new(List::Audit, &place, limit, page, |id| *id.as_bytes(), EntryJson::from);
    Ok(respond(StatusCode::OK, &envelope))
}
