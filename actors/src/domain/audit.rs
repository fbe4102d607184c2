//! The audit log: who changed what, when, and from where.
//!
//! An entry is made together with the change it is about and stays when that is gone. It names what was
//! changed and never holds it: no settings, no payloads, nothing sealed or hashed.

use super::{
    ids::{AuditId, IdSource, OrganizationId, WorkspaceId},
    timestamp::Timestamp,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The kind of who does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "AuditActorType")]
pub enum ActorKind {
    /// A machine, by its access key.
    Key,
    User,
    /// An embedded page, by its session.
    Session,
    /// Whoever runs commands where the server's data is.
    Operator,
    /// The server itself.
    System,
}

/// Who does something, and from where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    pub kind: ActorKind,
    /// An access key, a user's id, `sess_` and a session's, a command such as `weft init`, or `weft`.
    pub id: String,
    /// For people to read: a user's e-mail address, or what the host calls a session's user.
    pub name: Option<String>,
    /// The address at the other end of the connection.
    pub from: Option<IpAddr>,
    pub request_id: Option<String>,
}

impl Actor {
    fn new(kind: ActorKind, id: &str) -> Self {
        Self { kind, id: id.to_owned(), name: None, from: None, request_id: None }
    }

    /// The server itself.
    pub fn system() -> Self {
        Self::new(ActorKind::System, "weft")
    }

    /// Whoever runs this command.
    pub fn operator(command: &str) -> Self {
        Self::new(ActorKind::Operator, command)
    }
}

/// Something is done by somebody, just now: what makes an entry of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    pub id: AuditId,
    pub at: Timestamp,
    pub actor: Actor,
}

impl Act {
    /// The server does something by itself.
    pub fn of_system(at: Timestamp) -> Self {
        Self { id: AuditId::from_uuid(IdSource::default().next(at)), at, actor: Actor::system() }
    }
}

/// What was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditSubject {
    /// `connection`, `rule`, `user` and the like.
    pub kind: String,
    pub id: String,
    /// What it was called then.
    pub name: Option<String>,
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    pub id: AuditId,
    pub at: Timestamp,
    pub organization_id: OrganizationId,
    /// Where it is about one.
    pub workspace_id: Option<WorkspaceId>,
    pub actor: Actor,
    /// What was done: the kind of thing and a participle, such as `connection.updated`.
    pub action: String,
    pub subject: AuditSubject,
    /// Names of the fields that are not as they were, in no order.
    pub changed: Vec<String>,
}

/// Which entries a list shows; absent means any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    pub workspace: Option<WorkspaceId>,
    /// An actor's id or name.
    pub actor: Option<String>,
    /// An action, or all of a kind: `connection.*`.
    pub action: Option<String>,
    /// A subject's id.
    pub subject: Option<String>,
    /// Done then or later.
    pub since: Option<Timestamp>,
    /// Done before.
    pub until: Option<Timestamp>,
}

impl AuditFilter {
    /// Whether the list shows this one.
    pub fn shows(&self, entry: &AuditEntry) -> bool {
        let Self { workspace, actor, action, subject, since, until } = self;
        let is_action = |wanted: &String| match wanted.strip_suffix('*') {
            Some(kind) => kind.ends_with('.') && entry.action.starts_with(kind),
            None => entry.action == *wanted,
        };
        workspace.is_none_or(|wanted| entry.workspace_id == Some(wanted))
            && actor.as_ref().is_none_or(|it| entry.actor.id == *it || entry.actor.name.as_ref() == Some(it))
            && action.as_ref().is_none_or(is_action)
            && subject.as_ref().is_none_or(|wanted| entry.subject.id == *wanted)
            && since.is_none_or(|since| entry.at >= since)
            && until.is_none_or(|until| entry.at < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_shows_what_is_asked_for() {
        let workspace = WorkspaceId::from_bytes([1; 16]);
        let entry = AuditEntry {
            id: AuditId::from_bytes([1; 16]),
            at: Timestamp(5_000),
            organization_id: OrganizationId::from_bytes([2; 16]),
            workspace_id: Some(workspace),
            actor: Actor { name: Some("ada".to_owned()), ..Actor::operator("weft init") },
            action: "connection.updated".to_owned(),
            subject: AuditSubject { kind: "connection".to_owned(), id: "c1".to_owned(), name: None },
            changed: vec!["paused".to_owned()],
        };
        let any = AuditFilter::default();
        let of = |text: &str| Some(text.to_owned());
        #[rustfmt::skip]
        let cases = [
            // why                      asked for                                                    shown?
            ("anything",                any.clone(),                                                 true),
            ("its workspace",           AuditFilter { workspace: Some(workspace), ..any.clone() },   true),
            ("another",                 AuditFilter { workspace: Some(WorkspaceId::from_bytes([9; 16])), ..any.clone() }, false),
            ("its actor",               AuditFilter { actor: of("weft init"), ..any.clone() },       true),
            ("the actor by name",       AuditFilter { actor: of("ada"), ..any.clone() },             true),
            ("another actor",           AuditFilter { actor: of("weft"), ..any.clone() },            false),
            ("its action",              AuditFilter { action: of("connection.updated"), ..any.clone() }, true),
            ("its kind of action",      AuditFilter { action: of("connection.*"), ..any.clone() },   true),
            ("a kind that begins so",   AuditFilter { action: of("conn*"), ..any.clone() },          false),
            ("another action",          AuditFilter { action: of("connection.created"), ..any.clone() }, false),
            ("its subject",             AuditFilter { subject: of("c1"), ..any.clone() },            true),
            ("another subject",         AuditFilter { subject: of("c2"), ..any.clone() },            false),
            ("from its moment on",      AuditFilter { since: Some(Timestamp(5_000)), ..any.clone() }, true),
            ("from later on",           AuditFilter { since: Some(Timestamp(5_001)), ..any.clone() }, false),
            ("until later",             AuditFilter { until: Some(Timestamp(5_001)), ..any.clone() }, true),
            ("until its moment",        AuditFilter { until: Some(Timestamp(5_000)), ..any },        false),
        ];
        for (why, filter, expected) in cases {
            assert_eq!(filter.shows(&entry), expected, "{why}");
        }
    }
}
