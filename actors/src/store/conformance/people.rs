//! Users, invitations and the audit log, in plain maps.

use super::{model::Model, run::Run, steps::Step, stores::Subject, *};
use crate::domain::{
    audit::{Actor, AuditSubject},
    session::Role,
    user::{INVITATION_LIFE, PasswordHash},
};

/// What of the model is about people and what they did.
#[derive(Clone, Default)]
pub struct People {
    pub users: BTreeMap<UserId, User>,
    pub invitations: BTreeMap<InvitationId, Invitation>,
    /// Which fields changed is learned when an entry is first seen: the store says so, and must not forget.
    pub audit: BTreeMap<AuditId, AuditEntry>,
    /// Of `audit`, those that were seen.
    seen: BTreeSet<AuditId>,
    pub ever_users: Vec<(OrganizationId, UserId)>,
    pub ever_invitations: Vec<(OrganizationId, InvitationId)>,
}

fn email(number: u16) -> String {
    format!("user{number}@example.com")
}

impl Model {
    /// Somebody does something, or now and then nobody.
    pub fn act(&mut self) -> Option<Act> {
        let id = self.new_id();
        let actor = Actor { name: Some("ada".to_owned()), ..Actor::operator("test") };
        (!id.as_u128().is_multiple_of(5)).then(|| Act { id: AuditId::from_uuid(id), at: self.now, actor })
    }

    /// What a step asks of people; `None` if there is nothing to ask it of.
    pub fn change_of_people(&mut self, step: &Step) -> Option<Change> {
        let now = self.now;
        let organizations: Vec<_> = self.organizations.values().cloned().collect();
        let nth_user = |model: &Self, user: u16| {
            let (_, id) = run::nth(&model.people.ever_users, user)?;
            model.people.users.get(&id).cloned()
        };
        Some(match *step {
            Step::RenameOrganization { organization, name } => {
                let found = run::nth(&organizations, organization)?;
                Change::UpdateOrganization(Organization { name: format!("organization {name}"), ..found })
            }
            Step::Invite { organization, email: number } => Change::CreateInvitation(Invitation {
                id: InvitationId::from_uuid(self.new_id()),
                organization_id: run::nth(&organizations, organization)?.id,
                email: email(number.into()),
                role: if number.is_multiple_of(2) { Role::Owner } else { Role::Member },
                hash: [7; 32],
                created_by: "test".to_owned(),
                created_at: now,
                expires_at: now.after(INVITATION_LIFE),
            }),
            Step::DeleteInvitation { invitation } => {
                let (organization_id, id) = run::nth(&self.people.ever_invitations, invitation)?;
                Change::DeleteInvitation { organization_id, id }
            }
            Step::AcceptInvitation { invitation } => {
                let (organization_id, invitation) = run::nth(&self.people.ever_invitations, invitation)?;
                let found = self.people.invitations.get(&invitation);
                let email = found.map_or_else(|| email(9), |found| found.email.clone());
                let role = found.map_or(Role::Member, |found| found.role);
                let id = UserId::from_uuid(self.new_id());
                let (created_at, updated_at) = (now, now);
                let user = crate::domain::user::tests::user(role);
                let user = User { id, organization_id, email, created_at, updated_at, ..user };
                Change::AcceptInvitation(Box::new((invitation, user)))
            }
            Step::UpdateUser { user, how, is_stale } => {
                let mut user = nth_user(self, user)?;
                match how {
                    0 => user.last_sign_in_at = Some(now),
                    1 => user.generation += 1,
                    2 => user.password = PasswordHash(format!("hash {now}")),
                    3 => user.role = Role::Owner,
                    4 => user.role = Role::Member,
                    5 => user.disabled = !user.disabled,
                    _ => {}
                }
                user.version += u64::from(!is_stale);
                Change::UpdateUser(Box::new(user))
            }
            Step::DeleteUser { user } => {
                let (organization_id, id) = run::nth(&self.people.ever_users, user)?;
                Change::DeleteUser { organization_id, id }
            }
            _ => return None,
        })
    }

    /// See [`Store::configure`].
    pub fn configure_people(&mut self, change: Change) -> Result<(), Refusal> {
        let people = &mut self.people;
        match change {
            Change::UpdateOrganization(row) => {
                self.organizations.get(&row.id).ok_or(Refusal::NotFound("organization"))?;
                self.organizations.insert(row.id, row);
            }
            Change::CreateInvitation(new) => {
                let is_taken =
                    |of: OrganizationId, email: &str| of == new.organization_id && email == new.email;
                if people.users.values().any(|user| is_taken(user.organization_id, &user.email)) {
                    return Err(Refusal::NameTaken("a user of this e-mail address"));
                }
                let mut good = people.invitations.values().filter(|it| it.is_good(new.created_at));
                if good.any(|it| is_taken(it.organization_id, &it.email)) {
                    return Err(Refusal::NameTaken("an invitation of this e-mail address"));
                }
                let of = new.organization_id;
                people.invitations.retain(|_, it| it.organization_id != of || it.is_good(new.created_at));
                people.ever_invitations.push((of, new.id));
                people.invitations.insert(new.id, new);
            }
            Change::DeleteInvitation { id, .. } => {
                people.invitations.remove(&id).ok_or(Refusal::NotFound("invitation"))?;
            }
            Change::AcceptInvitation(accepted) => {
                let (invitation, user) = *accepted;
                people.invitations.get(&invitation).ok_or(Refusal::NotFound("invitation"))?;
                if people.users.values().any(|other| other.email == user.email) {
                    return Err(Refusal::NameTaken("a user of this e-mail address"));
                }
                people.invitations.remove(&invitation);
                people.ever_users.push((user.organization_id, user.id));
                people.users.insert(user.id, user);
            }
            Change::UpdateUser(user) => {
                let stored = people.users.get(&user.id).ok_or(Refusal::NotFound("user"))?;
                if user.version != stored.version + 1 {
                    return Err(Refusal::Stale("user"));
                }
                let mut after = people.users.clone();
                after.insert(user.id, *user);
                people.users = people.owned(after)?;
            }
            Change::DeleteUser { id, .. } => {
                let mut after = people.users.clone();
                after.remove(&id).ok_or(Refusal::NotFound("user"))?;
                people.users = people.owned(after)?;
            }
            other => unreachable!("{other:?} is not asked for"),
        }
        Ok(())
    }

    /// What the log must say of a change that is about to be made, all but which fields changed.
    pub fn entry(&self, change: &Change, act: Act) -> Option<AuditEntry> {
        let in_workspace = |id: &WorkspaceId| (self.workspaces[id].organization_id, Some(*id));
        let (of, action, kind, id): (_, &str, &str, String) = match change {
            Change::CreateOrganization(row) => {
                ((row.id, None), "organization.created", "organization", row.id.to_string())
            }
            Change::UpdateOrganization(row) => {
                self.organizations.get(&row.id).filter(|old| *old != row)?;
                ((row.id, None), "organization.updated", "organization", row.id.to_string())
            }
            Change::CreateMachineKey(row) => {
                ((row.organization_id, None), "key.created", "key", row.access_key.clone())
            }
            Change::DeleteMachineKey(key) => {
                let of = self.machine_keys.get(key)?.organization_id;
                ((of, None), "key.revoked", "key", key.clone())
            }
            Change::CreateWorkspace(created) => {
                let row = &created.0;
                let of = (row.organization_id, Some(row.id));
                (of, "workspace.created", "workspace", row.id.to_string())
            }
            Change::UpdateWorkspace(row) => {
                let old = self.workspaces.get(&row.id)?;
                if (&old.name, old.retention_days) == (&row.name, row.retention_days) {
                    return None;
                }
                (in_workspace(&row.id), "workspace.updated", "workspace", row.id.to_string())
            }
            Change::RotatePublishableKey(rotated) => {
                let id = &rotated.0.id;
                (in_workspace(id), "publishable_key.rotated", "workspace", id.to_string())
            }
            Change::CreateConnection(row) => {
                let of = (row.organization_id, Some(row.workspace_id));
                (of, "connection.created", "connection", row.id.to_string())
            }
            Change::UpdateConnection(row) => {
                let old = self.connections.get(&row.id)?;
                let told = |row: &Connection| (row.name.clone(), row.inactive, row.paused);
                if told(old) == told(row) {
                    return None;
                }
                (in_workspace(&row.workspace_id), "connection.updated", "connection", row.id.to_string())
            }
            Change::DeleteConnection { id, .. } => {
                let of = in_workspace(&self.connections.get(id)?.workspace_id);
                (of, "connection.deleted", "connection", id.to_string())
            }
            Change::CreateRule(row) => {
                let of = (row.organization_id, Some(row.workspace_id));
                (of, "rule.created", "rule", row.id.to_string())
            }
            Change::UpdateRule(row) => {
                let old = self.rules.get(&row.id)?;
                if (&old.event, old.active) == (&row.event, row.active) {
                    return None;
                }
                (in_workspace(&row.workspace_id), "rule.updated", "rule", row.id.to_string())
            }
            Change::DeleteRule(id) => {
                (in_workspace(&self.rules.get(id)?.workspace_id), "rule.deleted", "rule", id.to_string())
            }
            Change::SaveMapping(row) => {
                let of = (row.organization_id, Some(row.workspace_id));
                (of, "mapping.saved", "connection", row.connection_id.to_string())
            }
            Change::SaveGrant(row) => {
                let of = (row.organization_id, Some(row.workspace_id));
                (of, "connection.authorized", "connection", row.connection_id.to_string())
            }
            Change::SaveName(row) => {
                let old = self.names.get(&(row.workspace_id, row.kind, row.key.clone()));
                old.is_none_or(|old| old.label != row.label).then_some(())?;
                let kind = if row.kind == NameKind::EventType { "event_type" } else { "resource" };
                let action =
                    if row.kind == NameKind::EventType { "event_type.saved" } else { "resource.saved" };
                (in_workspace(&row.workspace_id), action, kind, row.key.clone())
            }
            Change::CreateSession(row) | Change::UpdateSession(row) => {
                let action = match self.sessions.get(&row.id) {
                    None => "session.created",
                    Some(_) if row.revoked_at.is_some() => "session.revoked",
                    Some(_) => "session.refreshed",
                };
                (in_workspace(&row.workspace_id), action, "session", format!("sess_{}", row.id))
            }
            Change::CreateInvitation(row) => {
                ((row.organization_id, None), "invitation.created", "invitation", row.id.to_string())
            }
            Change::DeleteInvitation { organization_id, id } => {
                ((*organization_id, None), "invitation.deleted", "invitation", id.to_string())
            }
            Change::AcceptInvitation(accepted) => {
                let row = &accepted.1;
                ((row.organization_id, None), "invitation.accepted", "user", row.id.to_string())
            }
            Change::UpdateUser(row) => {
                let old = self.people.users.get(&row.id)?;
                let action = if old.last_sign_in_at != row.last_sign_in_at {
                    "user.signed_in"
                } else if old.generation != row.generation {
                    "user.signed_out"
                } else if old.password != row.password {
                    "user.password_changed"
                } else if (old.role, old.disabled) != (row.role, row.disabled) {
                    "user.updated"
                } else {
                    return None;
                };
                ((row.organization_id, None), action, "user", row.id.to_string())
            }
            Change::DeleteUser { organization_id, id } => {
                ((*organization_id, None), "user.deleted", "user", id.to_string())
            }
            _ => return None,
        };
        let (organization_id, workspace_id) = of;
        Some(blank(act, (organization_id, workspace_id), action, (kind, id)))
    }

    /// The log says this, too.
    pub fn log(&mut self, entry: Option<AuditEntry>) {
        self.people.audit.extend(entry.map(|entry| (entry.id, entry)));
    }

    /// The log says that somebody looked after an event.
    pub fn log_of_event(
        &mut self,
        act: Option<Act>,
        action: &str,
        event: &Event,
        (kind, id): (&str, String),
    ) {
        let of = (event.organization_id, Some(event.workspace_id));
        self.log(act.map(|act| blank(act, of, action, (kind, id))));
    }
}

fn blank(
    act: Act,
    (organization_id, workspace_id): (OrganizationId, Option<WorkspaceId>),
    action: &str,
    (kind, id): (&str, String),
) -> AuditEntry {
    AuditEntry {
        id: act.id,
        at: act.at,
        organization_id,
        workspace_id,
        actor: act.actor,
        action: action.to_owned(),
        subject: AuditSubject { kind: kind.to_owned(), id, name: None },
        changed: Vec::new(),
    }
}

impl People {
    /// These users, if every organization that had an owner has one still.
    fn owned(&self, after: BTreeMap<UserId, User>) -> Result<BTreeMap<UserId, User>, Refusal> {
        let owners = |users: &BTreeMap<UserId, User>| {
            let owners = users.values().filter(|user| user.role == Role::Owner && !user.disabled);
            owners.map(|user| user.organization_id).collect::<BTreeSet<_>>()
        };
        if owners(&after).is_superset(&owners(&self.users)) { Ok(after) } else { Err(Refusal::LastOwner) }
    }
}

impl<S: Subject> Run<S> {
    pub async fn forget_audit(&mut self, days: u16) {
        let before = self.model.now.before(std::time::Duration::from_secs(u64::from(days) * 86_400));
        let store = self.subject.store();
        store.forget_audit(store.fence(), before).await.unwrap();
        self.model.people.audit.retain(|_, entry| entry.at >= before);
    }

    /// Learns which fields the store says were changed, once.
    pub async fn learn_changes(&mut self) {
        for id in self.model.organizations.keys() {
            let page = self.subject.store().audit(*id, AuditFilter::default(), None, 10_000).await.unwrap();
            for entry in page.records {
                let people = &mut self.model.people;
                if let Some(expected) = people.audit.get_mut(&entry.id)
                    && people.seen.insert(entry.id)
                {
                    (expected.changed, expected.subject.name) = (entry.changed, entry.subject.name);
                }
            }
        }
    }
}

/// Compares what there is to see.
pub async fn look(store: &dyn Store, model: &Model, limit: usize) {
    let people = &model.people;
    for id in model.organizations.keys() {
        let mut users: Vec<_> = people.users.values().cloned().collect();
        users.retain(|user| user.organization_id == *id);
        assert_eq!(look::walk(limit, |after| store.users(*id, after, limit)).await, users);
        let mut invitations: Vec<_> = people.invitations.values().cloned().collect();
        invitations.retain(|invitation| invitation.organization_id == *id);
        assert_eq!(look::walk(limit, |after| store.invitations(*id, after, limit)).await, invitations);
        for filter in filters(model) {
            let shown = people.audit.values().rev();
            let shown = shown.filter(|entry| entry.organization_id == *id && filter.shows(entry));
            let found = look::walk(limit, |after| store.audit(*id, filter.clone(), after, limit)).await;
            assert_eq!(found, shown.cloned().collect::<Vec<_>>(), "{filter:?}");
        }
        for (_, user) in &people.ever_users {
            let expected = people.users.get(user).filter(|user| user.organization_id == *id);
            assert_eq!(store.user(*id, *user).await.unwrap().as_ref(), expected, "{user}");
        }
        for (_, invitation) in &people.ever_invitations {
            let expected = people.invitations.get(invitation).filter(|it| it.organization_id == *id);
            assert_eq!(store.invitation(*id, *invitation).await.unwrap().as_ref(), expected);
        }
    }
    for number in 0..10 {
        let expected = people.users.values().find(|user| user.email == email(number));
        assert_eq!(store.user_by_email(&email(number)).await.unwrap().as_ref(), expected, "{number}");
    }
}

fn filters(model: &Model) -> Vec<AuditFilter> {
    let any = AuditFilter::default();
    let times: Vec<_> = model.people.audit.values().map(|entry| entry.at).collect();
    let middle = times.get(times.len() / 2).copied();
    vec![
        AuditFilter { workspace: model.workspaces.keys().next().copied(), ..any.clone() },
        AuditFilter { action: Some("rule.*".to_owned()), ..any.clone() },
        AuditFilter { since: middle, ..any.clone() },
        AuditFilter { until: middle, ..any.clone() },
        any,
    ]
}
