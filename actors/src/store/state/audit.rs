//! The audit log: what each change is called, what of a row it changes, and how entries are kept.
//!
//! An entry is made whole while what was before is still there, and travels in the record of its change.
//! What nobody does is not in it: names that are learned from events, catalogs that are read, when a key was
//! last used, what retention forgets. Neither are events, which say themselves who sent them.

use super::{
    change::{ROWS_PER_PAGE_MAX, decode_json},
    *,
};
use crate::domain::audit::AuditSubject;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Fields that change with every change, or that nobody changes.
const SELF_EVIDENT: [&str; 4] = ["updated_at", "version", "created_at", "refusal"];

/// What was done, to what.
pub(super) struct Done {
    organization_id: OrganizationId,
    workspace_id: Option<WorkspaceId>,
    action: &'static str,
    subject: AuditSubject,
    changed: Vec<String>,
}

impl Done {
    fn to(
        of: (OrganizationId, Option<WorkspaceId>),
        action: &'static str,
        kind: &str,
        id: impl ToString,
        name: Option<&str>,
    ) -> Self {
        let (organization_id, workspace_id) = of;
        let name = name.map(str::to_owned);
        let subject = AuditSubject { kind: kind.to_owned(), id: id.to_string(), name };
        Self { organization_id, workspace_id, action, subject, changed: Vec::new() }
    }

    /// Something was done to an event.
    pub(super) fn to_event(event: &Event, action: &'static str) -> Self {
        let of = (event.organization_id, Some(event.workspace_id));
        Self::to(of, action, "event", event.id, Some(&event.name))
    }

    /// Something was done to a delivery of an event.
    pub(super) fn to_delivery(event: &Event, action: &'static str, id: DeliveryId) -> Self {
        let of = (event.organization_id, Some(event.workspace_id));
        Self::to(of, action, "delivery", id, Some(&event.name))
    }

    fn to_workspace(workspace: &Workspace, action: &'static str) -> Self {
        let of = (workspace.organization_id, Some(workspace.id));
        Self::to(of, action, "workspace", workspace.id, Some(&workspace.name))
    }

    fn to_connection(connection: &Connection, action: &'static str) -> Self {
        let of = (connection.organization_id, Some(connection.workspace_id));
        Self::to(of, action, "connection", connection.id, Some(&connection.name))
    }

    fn to_rule(rule: &Rule, action: &'static str) -> Self {
        Self::to((rule.organization_id, Some(rule.workspace_id)), action, "rule", rule.id, Some(&rule.event))
    }

    fn to_key(key: &MachineKey, action: &'static str) -> Self {
        Self::to((key.organization_id, None), action, "key", &key.access_key, key.name.as_deref())
    }

    fn to_session(session: &Session, action: &'static str) -> Self {
        let of = (session.organization_id, Some(session.workspace_id));
        let name = session.external_user_id.as_deref();
        Self::to(of, action, "session", format_args!("sess_{}", session.id), name)
    }

    fn to_organization(organization: &Organization, action: &'static str) -> Self {
        let name = Some(&organization.name[..]);
        Self::to((organization.id, None), action, "organization", organization.id, name)
    }

    fn to_invitation(invitation: &Invitation, action: &'static str) -> Self {
        let of = (invitation.organization_id, None);
        Self::to(of, action, "invitation", invitation.id, Some(&invitation.email))
    }

    fn to_user(user: &User, action: &'static str) -> Self {
        Self::to((user.organization_id, None), action, "user", user.id, Some(&user.email))
    }

    /// What it changes of a row; `None` if that is nothing.
    fn changing<T: Serialize>(self, old: Option<T>, new: &T) -> Option<Self> {
        let changed = changed(old, new);
        (!changed.is_empty()).then_some(Self { changed, ..self })
    }
}

/// Names of the fields that are not as they were, as the wire has them.
fn changed<T: Serialize>(old: Option<T>, new: &T) -> Vec<String> {
    let fields = |row: &T| match serde_json::to_value(row) {
        Ok(Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let old = old.as_ref().map(fields).unwrap_or_default();
    let is_other = |name: &str, value: &Value| !SELF_EVIDENT.contains(&name) && old.get(name) != Some(value);
    let changed = fields(new).into_iter().filter(|(name, value)| is_other(name, value));
    let named = changed.map(|(name, _)| match &name[..] {
        "settings" => "metadata".to_owned(),
        "kind" => "type".to_owned(),
        "connection_id" => "connection".to_owned(),
        _ => name,
    });
    named.collect()
}

impl<V: View> State<V> {
    /// Like [`Self::commit`], with an entry in the audit log if somebody did it.
    pub(super) fn commit_done(
        &mut self,
        record: Record,
        done: Option<(Act, Done)>,
    ) -> Result<u64, StoreError> {
        let Some((act, done)) = done else { return self.commit(record) };
        let Done { organization_id, workspace_id, action, subject, changed } = done;
        let Act { id, at, actor } = act;
        let action = action.to_owned();
        let entry = AuditEntry { id, at, organization_id, workspace_id, actor, action, subject, changed };
        let entry = serde_json::to_string(&entry).expect("an entry has string keys");
        self.commit(Record::Audited { entry, record: Box::new(record) })
    }

    /// What a change does, in the words of the audit log. `None`: it is not for the log.
    pub(super) fn described(&self, change: &Change) -> Result<Option<Done>, StoreError> {
        Ok(match change {
            Change::CreateOrganization(row) => Some(Done::to_organization(row, "organization.created")),
            Change::UpdateOrganization(row) => Done::to_organization(row, "organization.updated")
                .changing(self.row(&keys::organization(row.id))?, row),
            Change::CreateMachineKey(row) => Some(Done::to_key(row, "key.created")),
            Change::DeleteMachineKey(key) => {
                self.of_row(&keys::machine_key(key), |row| Done::to_key(row, "key.revoked"))?
            }
            Change::CreateWorkspace(created) => Some(Done::to_workspace(&created.0, "workspace.created")),
            Change::UpdateWorkspace(row) => Done::to_workspace(row, "workspace.updated")
                .changing(self.row(&keys::workspace(row.id))?, row),
            Change::RotatePublishableKey(rotated) => {
                Some(Done::to_workspace(&rotated.0, "publishable_key.rotated"))
            }
            Change::CreateConnection(row) => Some(Done::to_connection(row, "connection.created")),
            Change::UpdateConnection(row) => Done::to_connection(row, "connection.updated")
                .changing(self.row(&keys::connection(row.id))?, row),
            Change::DeleteConnection { id, .. } => {
                let done = |row: &Connection| Done::to_connection(row, "connection.deleted");
                self.of_row(&keys::connection(*id), done)?
            }
            Change::CreateRule(row) => Some(Done::to_rule(row, "rule.created")),
            Change::UpdateRule(row) => {
                Done::to_rule(row, "rule.updated").changing(self.row(&keys::rule(row.id))?, row)
            }
            Change::DeleteRule(id) => {
                self.of_row(&keys::rule(*id), |row| Done::to_rule(row, "rule.deleted"))?
            }
            Change::SaveMapping(row) => {
                let of = (row.organization_id, Some(row.workspace_id));
                let done = Done::to(of, "mapping.saved", "connection", row.connection_id, None);
                Some(Done { changed: vec!["schema".to_owned()], ..done })
            }
            // Told of consents alone: what renews a token is nobody.
            Change::SaveGrant(row) => {
                let of = (row.organization_id, Some(row.workspace_id));
                Some(Done::to(of, "connection.authorized", "connection", row.connection_id, None))
            }
            Change::SaveName(row) => {
                let workspace = self.row::<Workspace>(&keys::workspace(row.workspace_id))?;
                let (action, kind) = match row.kind {
                    NameKind::EventType => ("event_type.saved", "event_type"),
                    NameKind::Resource => ("resource.saved", "resource"),
                };
                let old = self.row::<Name>(&keys::name(row.workspace_id, row.kind, &row.key))?;
                workspace.and_then(|workspace| {
                    let of = (workspace.organization_id, Some(workspace.id));
                    Done::to(of, action, kind, &row.key, None).changing(old, row)
                })
            }
            Change::CreateSession(row) => Some(Done::to_session(row, "session.created")),
            Change::UpdateSession(row) if row.revoked_at.is_some() => {
                Some(Done::to_session(row, "session.revoked"))
            }
            Change::UpdateSession(row) => Some(Done::to_session(row, "session.refreshed")),
            Change::CreateInvitation(row) => Some(Done::to_invitation(row, "invitation.created")),
            Change::DeleteInvitation { organization_id, id } => {
                let done = |row: &Invitation| Done::to_invitation(row, "invitation.deleted");
                self.of_row(&keys::invitation(*organization_id, *id), done)?
            }
            Change::AcceptInvitation(accepted) => Some(Done::to_user(&accepted.1, "invitation.accepted")),
            Change::CreateUser(row) => Some(Done::to_user(row, "user.created")),
            Change::UpdateUser(row) => self.of_user(row)?,
            Change::DeleteUser { organization_id, id } => {
                let done = |row: &User| Done::to_user(row, "user.deleted");
                self.of_row(&keys::user(*organization_id, *id), done)?
            }
            Change::SaveReplay(row) => {
                let of = (row.organization_id, Some(row.workspace_id));
                match self.row::<crate::domain::replay::Replay>(&keys::replay(row.id))? {
                    None => Some(Done::to(of, "replay.created", "replay", row.id, None)),
                    old => Done::to(of, "replay.updated", "replay", row.id, None).changing(old, row),
                }
            }
            Change::DeleteReplay(_) => None,
            Change::UpdateMachineKey(_)
            | Change::SaveCatalog(_)
            | Change::TestOne { .. }
            | Change::ForgetSessions { .. }
            | Change::ForgetAudit { .. } => None,
        })
    }

    fn of_row<T: DeserializeOwned>(
        &self,
        key: &[u8],
        done: impl Fn(&T) -> Done,
    ) -> Result<Option<Done>, StoreError> {
        Ok(self.row::<T>(key)?.as_ref().map(done))
    }

    /// What of a user changes says what they did.
    fn of_user(&self, new: &User) -> Result<Option<Done>, StoreError> {
        let old = self.row::<User>(&keys::user(new.organization_id, new.id))?;
        let mut changed = changed(old, new);
        let has = |name: &str| changed.iter().any(|changed| changed == name);
        let action = match &changed[..] {
            [] => return Ok(None),
            [only] if only == "last_sign_in_at" => "user.signed_in",
            [only] if only == "generation" => "user.signed_out",
            [only] if only == "reset" && new.reset.is_some() => "user.reset_created",
            [only] if only == "reset" => "user.reset_deleted",
            _ if has("password") => "user.password_changed",
            _ => "user.updated",
        };
        changed.retain(|name| !["generation", "last_sign_in_at"].contains(&&name[..]));
        Ok(Some(Done { changed, ..Done::to_user(new, action) }))
    }

    pub(super) fn save_audit(&mut self, entry: &AuditEntry, at: u64) {
        self.save_row(keys::audit(entry.organization_id, entry.id), at, entry);
    }

    /// Whether the record `sequence` is the one that an entry is kept in.
    pub fn keeps_audit(&self, entry: &str, sequence: u64) -> Result<bool, StoreError> {
        let entry: AuditEntry = decode_json(entry.as_bytes())?;
        let key = keys::audit(entry.organization_id, entry.id);
        Ok(self.row_of::<AuditEntry>(&key, sequence)?.is_some())
    }

    /// See [`Store::audit`].
    pub fn audit(
        &self,
        organization: OrganizationId,
        filter: &AuditFilter,
        after: Option<AuditId>,
        limit: usize,
    ) -> Result<Page<AuditEntry, AuditId>, StoreError> {
        let list = keys::audit_of(organization);
        let bound = |moment| keys::audit(organization, AuditId::first_at(moment));
        let ends = [after.map(|id| keys::audit(organization, id)), filter.until.map(bound)];
        let end = ends.into_iter().flatten().min().unwrap_or_else(|| keys::end_of(&list));
        let start = filter.since.map_or(list, bound);
        let (mut page, mut last, mut looked_at) = (Page { records: Vec::new(), next: None }, None, 0);
        self.view.scan(&start, &end, Order::Descending, &mut |key, value| {
            if page.records.len() == limit || looked_at == ROWS_PER_PAGE_MAX {
                page.next = last;
                return Ok(false);
            }
            let row: Row<AuditEntry> = decode_json(value)?;
            page.records.extend(Some(row.row).filter(|entry| filter.shows(entry)));
            (last, looked_at) = (Some(AuditId::from_bytes(keys::id_at_end(key))), looked_at + 1);
            Ok(true)
        })?;
        Ok(page)
    }

    /// Forgets some of an organization's entries made before `cutoff`; `true` if there may be more.
    pub fn forget_audit(
        &mut self,
        organization: OrganizationId,
        cutoff: Timestamp,
        limit: usize,
    ) -> Result<bool, StoreError> {
        let ids = self.audit_through(organization, AuditId::first_at(cutoff), limit)?;
        if let Some(through) = ids.last() {
            let change = Change::ForgetAudit { organization_id: organization, through: *through };
            self.commit(Record::configured(&change, None))?;
        }
        Ok(ids.len() == limit)
    }

    /// The oldest entries up to this one, and with it.
    pub(super) fn audit_through(
        &self,
        organization: OrganizationId,
        through: AuditId,
        limit: usize,
    ) -> Result<Vec<AuditId>, StoreError> {
        let (list, end) = (keys::audit_of(organization), keys::end_of(&keys::audit(organization, through)));
        let mut ids = Vec::new();
        self.view.scan(&list, &end, Order::Ascending, &mut |key, _| {
            ids.push(AuditId::from_bytes(keys::id_at_end(key)));
            Ok(ids.len() < limit)
        })?;
        Ok(ids)
    }
}
