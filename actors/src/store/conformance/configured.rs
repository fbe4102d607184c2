//! What a step changes of the configuration.

use super::{
    run::{Run, name, nth, sealed},
    steps::{Step, Takes},
    stores::Subject,
    *,
};
use crate::domain::{
    connection::{InactiveReason, Policy},
    key::OlderKey,
    session::{Reach, Role},
};
use serde_json::json;

impl<S: Subject> Run<S> {
    /// What a step asks of the configuration; `None` if there is nothing to ask it of.
    pub(super) fn change(&mut self, step: Step) -> Option<Change> {
        let model = &mut self.model;
        let now = model.now;
        let organizations: Vec<_> = model.organizations.keys().copied().collect();
        let workspaces: Vec<_> = model.workspaces.values().cloned().collect();
        Some(match step {
            Step::CreateOrganization => {
                let id = OrganizationId::from_uuid(model.new_id());
                Change::CreateOrganization(Organization { id, name: format!("Org {id}"), created_at: now })
            }
            Step::CreateMachineKey { organization } => {
                let (access_key, secret) = (format!("mk_{}", model.new_id()), sealed());
                let organization_id = nth(&organizations, organization)?;
                Change::CreateMachineKey(MachineKey::new(access_key, organization_id, secret, now))
            }
            Step::CreateWorkspace { organization, name } => {
                let (id, organization_id) =
                    (WorkspaceId::from_uuid(model.new_id()), nth(&organizations, organization)?);
                let key = PublishableKey {
                    public_key: format!("mesh_pub_v1_{id}"),
                    name: "first".to_owned(),
                    organization_id,
                    workspace_id: id,
                    created_at: now,
                    older: Vec::new(),
                };
                let workspace = Workspace {
                    id,
                    organization_id,
                    name: format!("workspace {name}"),
                    description: None,
                    retention_days: None,
                    data_key: serde_json::from_value(json!("AAAA")).unwrap(),
                    created_at: now,
                    updated_at: now,
                };
                Change::CreateWorkspace(Box::new((workspace, key)))
            }
            Step::UseMachineKey { key } => {
                let keys: Vec<_> = model.machine_keys.values().cloned().collect();
                Change::UpdateMachineKey(MachineKey { last_used_at: Some(now), ..nth(&keys, key)? })
            }
            Step::DeleteMachineKey { key } => {
                let keys: Vec<_> = model.machine_keys.keys().cloned().collect();
                Change::DeleteMachineKey(nth(&keys, key)?)
            }
            Step::RotatePublishableKey { workspace, is_stale } => {
                let (of, made) = (nth(&workspaces, workspace)?, model.new_id());
                let stored = model.publishable_keys[&of.id].clone();
                let mut older = stored.older.clone();
                if !is_stale {
                    older.push(OlderKey { public_key: stored.public_key.clone(), expires_at: now });
                }
                let key = PublishableKey { public_key: format!("mesh_pub_v1_{made}"), older, ..stored };
                Change::RotatePublishableKey(Box::new((of, key)))
            }
            Step::CreateSession { workspace, is_about } => {
                let (id, of) = (SessionId::from_uuid(model.new_id()), nth(&workspaces, workspace)?);
                let about = Reach::Resource { resource: "user".to_owned(), resource_id: "1".to_owned() };
                let reach = if is_about { about } else { Reach::Workspace };
                let session = crate::domain::session::tests::session(Role::Admin, reach, &[]);
                let (organization_id, workspace_id) = (of.organization_id, of.id);
                let session = Session { id, organization_id, workspace_id, created_at: now, ..session };
                Change::CreateSession(Box::new(session))
            }
            Step::RefreshSession { session, is_stale } => {
                let found = model.sessions.get(&nth(&model.ever.sessions, session)?)?.clone();
                let version = found.version + u64::from(!is_stale);
                let generation = found.generation + 1;
                Change::UpdateSession(Box::new(Session { version, generation, updated_at: now, ..found }))
            }
            Step::RevokeSession { session } => {
                let found = model.sessions.get(&nth(&model.ever.sessions, session)?)?.clone();
                let version = found.version + 1;
                Change::UpdateSession(Box::new(Session { version, revoked_at: Some(now), ..found }))
            }
            Step::UpdateWorkspace { workspace, name, retention_days } => {
                let found = nth(&workspaces, workspace)?;
                let name = format!("workspace {name}");
                Change::UpdateWorkspace(Workspace { name, retention_days, updated_at: now, ..found })
            }
            Step::CreateConnection { workspace, name } => {
                let (id, of) = (ConnectionId::from_uuid(model.new_id()), nth(&workspaces, workspace)?);
                Change::CreateConnection(Connection {
                    id,
                    organization_id: of.organization_id,
                    workspace_id: of.id,
                    kind: "webhook".to_owned(),
                    name: format!("connection {name}"),
                    settings: sealed(),
                    policy: Policy::default(),
                    inactive: None,
                    refusal: None,
                    paused: false,
                    hidden: false,
                    created_by: "test".to_owned(),
                    created_at: now,
                    updated_at: now,
                    version: 1,
                })
            }
            Step::UpdateConnection { connection, name, takes, is_stale } => {
                let found = model.connections.get(&nth(&model.ever.connections, connection)?)?.clone();
                Change::UpdateConnection(Connection {
                    name: format!("connection {name}"),
                    inactive: matches!(takes, Takes::NoneWhileInactive)
                        .then_some(InactiveReason::AuthenticationInvalid),
                    paused: matches!(takes, Takes::NoneWhilePaused),
                    version: found.version + u64::from(!is_stale),
                    updated_at: now,
                    ..found
                })
            }
            Step::DeleteConnection { connection, force } => {
                Change::DeleteConnection { id: nth(&model.ever.connections, connection)?, force }
            }
            Step::SaveCatalog { connection, fields, is_stale } => {
                let of = model.connections.get(&nth(&model.ever.connections, connection)?)?.clone();
                let field = |number| json!({ "key": format!("field {number}"), "type": "string" });
                let fields = serde_json::from_value((0..fields).map(field).collect()).unwrap();
                let blank = Catalog {
                    connection_id: of.id,
                    organization_id: of.organization_id,
                    workspace_id: of.workspace_id,
                    kind: of.kind,
                    fields: Vec::new(),
                    hash: String::new(),
                    refreshed_at: now,
                    created_by: "test".to_owned(),
                    created_at: now,
                    updated_at: now,
                    version: 0,
                };
                let found = model.catalogs.get(&of.id).cloned().unwrap_or(blank);
                let read = found.refreshed(fields, now);
                Change::SaveCatalog(Catalog { version: read.version + u64::from(is_stale), ..read })
            }
            Step::SaveMapping { connection, is_elsewhere, is_stale } => {
                let of = model.connections.get(&nth(&model.ever.connections, connection)?)?.clone();
                let elsewhere = workspaces.iter().find(|other| other.id != of.workspace_id && is_elsewhere);
                let version = model.mappings.get(&of.id).map_or(1, |found| found.version);
                Change::SaveMapping(DefaultMapping {
                    connection_id: of.id,
                    organization_id: of.organization_id,
                    workspace_id: elsewhere.map_or(of.workspace_id, |other| other.id),
                    kind: of.kind,
                    name: "test".to_owned(),
                    schema: r#"{"schema_version":1,"fields":[],"n":1.10e400}"#.to_owned(),
                    catalog_version: None,
                    created_by: Some("test".to_owned()),
                    created_at: now,
                    updated_at: now,
                    version: version + u64::from(!is_stale),
                })
            }
            Step::SaveGrant { connection, is_elsewhere, is_stale } => {
                let of = model.connections.get(&nth(&model.ever.connections, connection)?)?.clone();
                let elsewhere = workspaces.iter().find(|other| other.id != of.workspace_id && is_elsewhere);
                let version = model.grants.get(&of.id).map_or(0, |found| found.version);
                Change::SaveGrant(Grant {
                    connection_id: of.id,
                    organization_id: of.organization_id,
                    workspace_id: elsewhere.map_or(of.workspace_id, |other| other.id),
                    tokens: of.settings,
                    scopes: vec!["read".to_owned()],
                    told: Vec::new(),
                    expires_at: (version.is_multiple_of(2)).then_some(now),
                    renew_at: None,
                    asked_at: (version.is_multiple_of(3)).then_some(now),
                    created_at: now,
                    updated_at: now,
                    version: version + u64::from(!is_stale),
                })
            }
            Step::CreateRule { connection, event, is_elsewhere } => {
                let of = model.connections.get(&nth(&model.ever.connections, connection)?)?.clone();
                let elsewhere = workspaces.iter().find(|other| other.id != of.workspace_id && is_elsewhere);
                Change::CreateRule(Rule {
                    id: RuleId::from_uuid(model.new_id()),
                    organization_id: of.organization_id,
                    workspace_id: elsewhere.map_or(of.workspace_id, |other| other.id),
                    connection_id: of.id,
                    kind: of.kind,
                    event: name(event),
                    resource: (event == 1).then(|| "user".to_owned()),
                    resource_id: (event == 1).then(|| "1".to_owned()),
                    metadata: serde_json::from_value(json!({ "action": "send" })).unwrap(),
                    conditions: None,
                    active: true,
                    hidden: false,
                    created_by: "test".to_owned(),
                    created_at: now,
                    updated_at: now,
                    version: 1,
                })
            }
            Step::UpdateRule { rule, event, is_active, is_stale } => {
                let found = model.rules.get(&nth(&model.ever.rules, rule)?)?.clone();
                let version = found.version + u64::from(!is_stale);
                let (event, active) = (name(event), is_active);
                Change::UpdateRule(Rule { event, active, updated_at: now, version, ..found })
            }
            Step::SaveName { workspace, name: key, label } => {
                let of = nth(&workspaces, workspace)?;
                let (kind, key) = match key {
                    3 => (NameKind::Resource, "user".to_owned()),
                    key => (NameKind::EventType, name(key)),
                };
                let found = model.names.get(&(of.id, kind, key.clone())).cloned();
                let found = found.unwrap_or_else(|| Name::new(of.id, kind, &key, now));
                Change::SaveName(Name { label: format!("label {label}"), updated_at: now, ..found })
            }
            Step::DeleteRule { rule } => Change::DeleteRule(nth(&model.ever.rules, rule)?),
            _ => return None,
        })
    }
}
