//! Users: invited, signed in and out, changed, deleted.

use super::{Engine, EngineError};
use crate::{
    domain::{
        audit::{Actor, ActorKind},
        field::FieldError,
        ids::{InvitationId, OrganizationId, UserId},
        plan::Limit,
        secret::Secret,
        session::Role,
        timestamp::Timestamp,
        user::{
            INVITATION_LIFE, Invitation, PasswordHash, PasswordReset, RESET_LIFE, SIGN_IN_LIFE, User, email,
            invitation_of, new_invitation_token, new_reset_token, reset_of,
        },
        user_token::UserClaims,
    },
    store::{Change, Page, Refusal},
};

/// How often a change is tried again when another one came between.
const CHANGE_TRIES: usize = 16;

/// What makes an invitation.
#[derive(Clone, Debug)]
pub struct NewInvitation {
    /// In any spelling.
    pub email: String,
    pub role: Role,
    pub created_by: String,
}

/// What somebody brings who accepts an invitation.
#[derive(Clone, Debug)]
pub struct Joining {
    pub token: Secret,
    pub name: String,
    pub password: Secret,
}

/// A change to a user; what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct UserPatch {
    pub name: Option<String>,
    pub role: Option<Role>,
    /// Whether a member may read payloads.
    pub payloads: Option<bool>,
    /// `true` ends all their sign-ins.
    pub disabled: Option<bool>,
}

/// Somebody who has just signed in.
#[derive(Clone, Debug)]
pub struct SignedIn {
    pub user: User,
    pub token: Secret,
    pub expires_at: Timestamp,
}

impl Engine {
    /// Invites somebody. The token in the invitation's link is shown this once.
    pub async fn invite(
        &self,
        organization: OrganizationId,
        new: NewInvitation,
    ) -> Result<(Invitation, Secret), EngineError> {
        let email = email(&new.email).ok_or_else(|| invalid("email", "must be an e-mail address"))?;
        self.check_members(organization).await?;
        let (inner, now) = (&self.0, self.0.clock.wall());
        let id = InvitationId::from_uuid(inner.ids.next(inner.clock.now()));
        let (token, hash) = new_invitation_token(organization, id);
        let invitation = Invitation {
            id,
            organization_id: organization,
            email,
            role: new.role,
            hash,
            created_by: new.created_by,
            created_at: now,
            expires_at: now.after(INVITATION_LIFE),
        };
        self.configure(Change::CreateInvitation(invitation.clone())).await?;
        Ok((invitation, token))
    }

    /// Whether the organization's plan has room for one user more.
    async fn check_members(&self, organization: OrganizationId) -> Result<(), EngineError> {
        let plan = self.plan(organization);
        if plan.limit(Limit::Members).is_some() {
            plan.check(Limit::Members, self.0.store.held(organization).await?.members)?;
        }
        Ok(())
    }

    /// An organization's invitations that are good still, oldest first.
    pub async fn invitations(
        &self,
        organization: OrganizationId,
        after: Option<InvitationId>,
        limit: usize,
    ) -> Result<Page<Invitation, InvitationId>, EngineError> {
        let mut page = self.0.store.invitations(organization, after, limit).await?;
        let now = self.0.clock.wall();
        page.records.retain(|invitation| invitation.is_good(now));
        Ok(page)
    }

    /// An invitation that is good still.
    pub async fn invitation(
        &self,
        organization: OrganizationId,
        id: InvitationId,
    ) -> Result<Option<Invitation>, EngineError> {
        let found = self.0.store.invitation(organization, id).await?;
        Ok(found.filter(|invitation| invitation.is_good(self.0.clock.wall())))
    }

    /// Takes an invitation back: its link is worth nothing once this returns.
    pub async fn delete_invitation(
        &self,
        organization: OrganizationId,
        id: InvitationId,
    ) -> Result<(), EngineError> {
        self.configure(Change::DeleteInvitation { organization_id: organization, id }).await
    }

    /// The invitation that this is a token of, if it is good.
    pub async fn invitation_of_token(&self, token: &Secret) -> Result<Option<Invitation>, EngineError> {
        let Some((organization, id)) = invitation_of(token.expose()) else { return Ok(None) };
        let found = self.invitation(organization, id).await?;
        Ok(found.filter(|invitation| invitation.accepts(token.expose())))
    }

    /// Makes a user of who was invited. An invitation is good once.
    pub async fn accept_invitation(&self, joining: Joining) -> Result<User, EngineError> {
        let found = self.invitation_of_token(&joining.token).await?;
        let invitation = found.ok_or(EngineError::NotProven)?;
        self.check_members(invitation.organization_id).await?;
        let password = self.0.passwords.hash(joining.password).await?;
        let now = self.0.clock.now();
        let user = User {
            id: UserId::from_uuid(self.0.ids.next(now)),
            organization_id: invitation.organization_id,
            email: invitation.email,
            name: joining.name,
            role: invitation.role,
            payloads: false,
            password,
            generation: 1,
            disabled: false,
            last_sign_in_at: None,
            reset: None,
            created_at: now,
            updated_at: now,
            version: 1,
        };
        let accepted = Change::AcceptInvitation(Box::new((invitation.id, user.clone())));
        let organization = user.organization_id;
        match self.by_user(&user).configure_within(organization, Limit::Members, accepted).await {
            // Somebody was quicker.
            Err(EngineError::Refused(Refusal::NotFound("invitation"))) => Err(EngineError::NotProven),
            done => done.map(|()| user),
        }
    }

    /// An organization's users, oldest first.
    pub async fn users(
        &self,
        organization: OrganizationId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Page<User, UserId>, EngineError> {
        Ok(self.0.store.users(organization, after, limit).await?)
    }

    /// A user of the organization.
    pub async fn user(&self, organization: OrganizationId, id: UserId) -> Result<Option<User>, EngineError> {
        Ok(self.0.store.user(organization, id).await?)
    }

    /// Who signs in with this e-mail address, in any spelling.
    pub async fn user_by_email(&self, text: &str) -> Result<Option<User>, EngineError> {
        match email(text) {
            Some(email) => Ok(self.0.store.user_by_email(&email).await?),
            None => Ok(None),
        }
    }

    /// Changes a user.
    pub async fn update_user(
        &self,
        organization: OrganizationId,
        id: UserId,
        patch: UserPatch,
    ) -> Result<User, EngineError> {
        let change = |user: &mut User| {
            let UserPatch { name, role, payloads, disabled } = patch.clone();
            user.name = name.unwrap_or_else(|| user.name.clone());
            user.role = role.unwrap_or(user.role);
            user.payloads = payloads.unwrap_or(user.payloads);
            if disabled == Some(true) && !user.disabled {
                user.generation += 1;
            }
            user.disabled = disabled.unwrap_or(user.disabled);
        };
        self.change_user(organization, id, change).await
    }

    /// Deletes a user: no token of theirs is good once this returns.
    pub async fn delete_user(&self, organization: OrganizationId, id: UserId) -> Result<(), EngineError> {
        self.configure(Change::DeleteUser { organization_id: organization, id }).await
    }

    /// Signs somebody in. The same work is done whether there is such a user or not.
    pub async fn sign_in(&self, email: &str, password: Secret) -> Result<SignedIn, EngineError> {
        let found = self.user_by_email(email).await?;
        let hash = found.as_ref().map(|user| user.password.clone());
        let is_right = self.0.passwords.check(password, hash.clone()).await?;
        let user = found.filter(|user| is_right && !user.disabled).ok_or(EngineError::NotProven)?;
        let now = self.0.clock.wall();
        let user = self
            .by_user(&user)
            .change_user(user.organization_id, user.id, |user| user.last_sign_in_at = Some(now))
            .await?;
        // What was proven may have been changed, or forbidden, in this very moment.
        if user.disabled || Some(&user.password) != hash.as_ref() {
            return Err(EngineError::NotProven);
        }
        Ok(self.signed_in(user))
    }

    fn signed_in(&self, user: User) -> SignedIn {
        let (organization_id, user_id, generation) = (user.organization_id, user.id, user.generation);
        let expires_at = self.0.clock.wall().after(SIGN_IN_LIFE);
        let claims = UserClaims { organization_id, user_id, generation, expires_at };
        let token = self.0.vault.user_tokens.sign(&claims);
        SignedIn { user, token, expires_at }
    }

    /// Ends all sign-ins of a user: no token of theirs is good once this returns.
    pub async fn sign_out(&self, organization: OrganizationId, id: UserId) -> Result<(), EngineError> {
        self.change_user(organization, id, |user| user.generation += 1).await.map(drop)
    }

    /// Gives a user another password, if they know the one they have, and ends all their sign-ins but for a
    /// new one.
    pub async fn change_password(
        &self,
        organization: OrganizationId,
        id: UserId,
        current: Secret,
        new: Secret,
    ) -> Result<SignedIn, EngineError> {
        let user = self.user(organization, id).await?.ok_or(Refusal::NotFound("user"))?;
        if !self.0.passwords.check(current, Some(user.password.clone())).await? {
            return Err(EngineError::NotProven);
        }
        let (before, after) = (user.password, self.0.passwords.hash(new).await?);
        // Another one may have come between: then what was proven is not the password any more.
        let changed = self.change_user(organization, id, |user| {
            if user.password == before {
                set_password(user, &after);
            }
        });
        let changed = changed.await?;
        if changed.password == after {
            Ok(self.signed_in(changed))
        } else {
            Err(Refusal::Stale("user").into())
        }
    }

    /// Makes a link by which a user gets another password. Its token is shown this once; an earlier link is
    /// worth nothing from here on.
    pub async fn create_reset(
        &self,
        organization: OrganizationId,
        id: UserId,
    ) -> Result<(PasswordReset, Secret), EngineError> {
        let (token, hash) = new_reset_token(organization, id);
        let reset = PasswordReset { hash, expires_at: self.0.clock.wall().after(RESET_LIFE) };
        self.change_user(organization, id, |user| user.reset = Some(reset.clone())).await?;
        Ok((reset, token))
    }

    /// Takes the link back, if there is one.
    pub async fn delete_reset(&self, organization: OrganizationId, id: UserId) -> Result<(), EngineError> {
        self.change_user(organization, id, |user| user.reset = None).await.map(drop)
    }

    /// Gives a user another password by the token of their link, and ends all their sign-ins. It is good once.
    pub async fn reset_password(&self, token: Secret, new: Secret) -> Result<(), EngineError> {
        let now = self.0.clock.wall();
        let (organization, id) = reset_of(token.expose()).ok_or(EngineError::NotProven)?;
        let found = self.user(organization, id).await?;
        let found = found.filter(|user| user.may_reset_by(token.expose(), now));
        let user = found.ok_or(EngineError::NotProven)?;
        let after = self.0.passwords.hash(new).await?;
        // The link may have been used, or taken back, meanwhile.
        let set = |user: &mut User| {
            if user.may_reset_by(token.expose(), now) {
                set_password(user, &after);
            }
        };
        match self.by_user(&user).change_user(organization, id, set).await {
            Ok(user) if user.password == after => Ok(()),
            // Somebody was quicker, or the user was deleted.
            Ok(_) | Err(EngineError::Refused(Refusal::NotFound(_))) => Err(EngineError::NotProven),
            Err(err) => Err(err),
        }
    }

    /// The user that a token is for, if the token is good.
    pub async fn user_of_token(&self, token: &str) -> Result<Option<User>, EngineError> {
        let Some(claims) = self.0.vault.user_tokens.read(token) else { return Ok(None) };
        if claims.expires_at <= self.0.clock.wall() {
            return Ok(None);
        }
        let found = self.user(claims.organization_id, claims.user_id).await?;
        Ok(found.filter(|user| user.accepts(claims.generation)))
    }

    /// In the name of this user, from where the request came.
    fn by_user(&self, user: &User) -> Self {
        let (id, name) = (user.id.to_string(), Some(user.email.clone()));
        self.by(Actor { kind: ActorKind::User, id, name, ..(*self.1).clone() })
    }

    /// How many passwords were checked, of users and of nobody: as many as were tried.
    pub fn passwords_checked(&self) -> u64 {
        self.0.passwords.checked()
    }

    async fn change_user(
        &self,
        organization: OrganizationId,
        id: UserId,
        change: impl Fn(&mut User),
    ) -> Result<User, EngineError> {
        for _ in 0..CHANGE_TRIES {
            let found = self.user(organization, id).await?.ok_or(Refusal::NotFound("user"))?;
            let mut user = found.clone();
            change(&mut user);
            if user == found {
                return Ok(user);
            }
            (user.version, user.updated_at) = (found.version + 1, self.0.clock.now());
            match self.configure(Change::UpdateUser(Box::new(user.clone()))).await {
                Err(EngineError::Refused(Refusal::Stale(_))) => {}
                done => return done.map(|()| user),
            }
        }
        Err(Refusal::Stale("user").into())
    }
}

/// Another password ends all sign-ins, and whatever link there was to another one.
fn set_password(user: &mut User, password: &PasswordHash) {
    user.password = password.clone();
    user.generation += 1;
    user.reset = None;
}

fn invalid(param: &str, msg: &str) -> EngineError {
    EngineError::Invalid(vec![FieldError::new(param, msg)])
}
