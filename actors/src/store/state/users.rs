//! Users and invitations, as they are kept.

use super::*;

impl<V: View> State<V> {
    /// Checks a change of an organization, its users or its invitations.
    pub(super) fn check_user(&self, change: &Change) -> Result<(), StoreError> {
        match change {
            Change::UpdateOrganization(organization) => self.check_organization(organization.id)?,
            Change::CreateInvitation(invitation) => {
                self.check_organization(invitation.organization_id)?;
                let user = self.user_by_email(&invitation.email)?;
                if user.is_some_and(|user| user.organization_id == invitation.organization_id) {
                    return Err(Refusal::NameTaken("a user of this e-mail address").into());
                }
                let mut others = self.all_invitations(invitation.organization_id)?;
                others.retain(|other| other.is_good(invitation.created_at));
                if others.iter().any(|other| other.email == invitation.email) {
                    return Err(Refusal::NameTaken("an invitation of this e-mail address").into());
                }
                if others.len() >= USERS_MAX {
                    return Err(Refusal::TooManyUsers(USERS_MAX, "invitations").into());
                }
            }
            Change::DeleteInvitation { organization_id, id } => {
                self.invitation(*organization_id, *id)?.ok_or(Refusal::NotFound("invitation"))?;
            }
            Change::AcceptInvitation(accepted) => {
                let (invitation, user) = &**accepted;
                self.invitation(user.organization_id, *invitation)?.ok_or(Refusal::NotFound("invitation"))?;
                self.check_name(&keys::email(&user.email), None, "a user of this e-mail address")?;
                if self.all_users(user.organization_id)?.len() >= USERS_MAX {
                    return Err(Refusal::TooManyUsers(USERS_MAX, "users").into());
                }
            }
            Change::UpdateUser(user) => {
                let stored = self.user(user.organization_id, user.id)?.ok_or(Refusal::NotFound("user"))?;
                if user.version != stored.version + 1 {
                    return Err(Refusal::Stale("user").into());
                }
                if !user.owns() {
                    self.check_owners(&stored)?;
                }
            }
            Change::DeleteUser { organization_id, id } => {
                let stored = self.user(*organization_id, *id)?.ok_or(Refusal::NotFound("user"))?;
                self.check_owners(&stored)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn check_organization(&self, id: OrganizationId) -> Result<(), StoreError> {
        self.row::<Organization>(&keys::organization(id))?.ok_or(Refusal::NotFound("organization"))?;
        Ok(())
    }

    /// Refuses to do without the only user who owns the organization.
    fn check_owners(&self, without: &User) -> Result<(), StoreError> {
        if !without.owns() {
            return Ok(());
        }
        let users = self.all_users(without.organization_id)?;
        let has_other = users.iter().any(|user| user.owns() && user.id != without.id);
        if has_other { Ok(()) } else { Err(Refusal::LastOwner.into()) }
    }

    /// Makes a change of users or invitations, or forgets some of the audit log.
    pub(super) fn apply_user(&mut self, change: Change, at: u64) -> Result<(), StoreError> {
        match change {
            Change::CreateInvitation(invitation) => {
                for other in self.all_invitations(invitation.organization_id)? {
                    if !other.is_good(invitation.created_at) {
                        self.view.delete(keys::invitation(other.organization_id, other.id));
                    }
                }
                self.save_row(keys::invitation(invitation.organization_id, invitation.id), at, &invitation);
            }
            Change::DeleteInvitation { organization_id, id } => {
                self.view.delete(keys::invitation(organization_id, id));
            }
            Change::AcceptInvitation(accepted) => {
                let (invitation, user) = *accepted;
                self.view.delete(keys::invitation(user.organization_id, invitation));
                self.save_user(&user, at);
            }
            Change::CreateUser(user) | Change::UpdateUser(user) => self.save_user(&user, at),
            Change::DeleteUser { organization_id, id } => {
                let Some(user) = self.user(organization_id, id)? else { return Ok(()) };
                self.view.delete(keys::email(&user.email));
                self.view.delete(keys::user(organization_id, id));
            }
            Change::ForgetAudit { organization_id, through } => {
                for id in self.audit_through(organization_id, through, usize::MAX)? {
                    self.view.delete(keys::audit(organization_id, id));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn save_user(&mut self, user: &User, at: u64) {
        let place = [*user.organization_id.as_bytes(), *user.id.as_bytes()].concat();
        self.view.put(keys::email(&user.email), place);
        self.save_row(keys::user(user.organization_id, user.id), at, user);
    }

    /// The user of this row, if it is still from the record `sequence`.
    pub(super) fn user_of(&self, row: &User, sequence: u64) -> Result<Option<Change>, StoreError> {
        let found = self.row_of(&keys::user(row.organization_id, row.id), sequence)?;
        Ok(found.map(Change::CreateUser))
    }

    /// See [`Store::user`].
    pub fn user(&self, organization: OrganizationId, id: UserId) -> Result<Option<User>, StoreError> {
        self.row(&keys::user(organization, id))
    }

    /// See [`Store::user_by_email`].
    pub fn user_by_email(&self, email: &str) -> Result<Option<User>, StoreError> {
        let Some(place) = self.view.get(&keys::email(email))? else { return Ok(None) };
        let organization = OrganizationId::from_bytes(keys::part_at(&place, 0));
        let found = self.user(organization, UserId::from_bytes(keys::part_at(&place, 16)))?;
        Ok(found.filter(|user| user.email == email))
    }

    /// See [`Store::users`].
    pub fn users(
        &self,
        organization: OrganizationId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Page<User, UserId>, StoreError> {
        let row_key = |id| keys::user(organization, UserId::from_bytes(id));
        let after = after.map(|id| *id.as_bytes());
        let page = self.list(&keys::users_of(organization), row_key, after.as_ref(), limit, |_| true)?;
        Ok(Page { records: page.records, next: page.next.map(UserId::from_bytes) })
    }

    fn all_users(&self, organization: OrganizationId) -> Result<Vec<User>, StoreError> {
        Ok(self.users(organization, None, USERS_MAX)?.records)
    }

    /// See [`Store::invitation`].
    pub fn invitation(
        &self,
        organization: OrganizationId,
        id: InvitationId,
    ) -> Result<Option<Invitation>, StoreError> {
        self.row(&keys::invitation(organization, id))
    }

    /// See [`Store::invitations`].
    pub fn invitations(
        &self,
        organization: OrganizationId,
        after: Option<InvitationId>,
        limit: usize,
    ) -> Result<Page<Invitation, InvitationId>, StoreError> {
        let row_key = |id| keys::invitation(organization, InvitationId::from_bytes(id));
        let after = after.map(|id| *id.as_bytes());
        let list = keys::invitations_of(organization);
        let page = self.list(&list, row_key, after.as_ref(), limit, |_| true)?;
        Ok(Page { records: page.records, next: page.next.map(InvitationId::from_bytes) })
    }

    fn all_invitations(&self, organization: OrganizationId) -> Result<Vec<Invitation>, StoreError> {
        Ok(self.invitations(organization, None, usize::MAX)?.records)
    }
}
