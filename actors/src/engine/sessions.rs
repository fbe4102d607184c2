//! Sessions: minted for embedded pages, refreshed, revoked, and looked up at every request.

use super::{Engine, EngineError};
use crate::{
    domain::{
        ids::{OrganizationId, SessionId, WorkspaceId},
        secret::Secret,
        session::{Launch, LaunchPage, Over, Reach, Role, Session, SessionScope},
        session_token::{Claims, new_launch_token},
        timestamp::Timestamp,
    },
    store::{Change, Page, Refusal, Scope, SessionFilter},
};
use std::time::Duration;

/// How often a change is tried again when another one came between.
const CHANGE_TRIES: usize = 16;

/// What makes a new session.
#[derive(Clone, Debug)]
pub struct NewSession {
    pub workspace_id: WorkspaceId,
    pub role: Role,
    pub reach: Reach,
    pub scopes: Vec<SessionScope>,
    pub external_user_id: Option<String>,
    pub allowed_origins: Vec<String>,
    pub launch_page: LaunchPage,
    pub ttl_seconds: u32,
    pub launch_ttl_seconds: u32,
    pub created_by: String,
}

/// A new session, with the tokens that are shown this once.
#[derive(Clone, Debug)]
pub struct Minted {
    pub session: Session,
    pub access_token: Secret,
    pub launch_token: Secret,
    pub launch_expires_at: Timestamp,
}

impl Engine {
    /// Makes a session in a workspace of the organization.
    pub async fn create_session(
        &self,
        organization: OrganizationId,
        new: NewSession,
    ) -> Result<Minted, EngineError> {
        let (inner, now) = (&self.0, self.0.clock.wall());
        let found = inner.store.workspace(Scope::Organization(organization), new.workspace_id).await?;
        let workspace = found.ok_or(Refusal::NotFound("workspace"))?;
        let id = SessionId::from_uuid(inner.ids.next(inner.clock.now()));
        let (launch_token, hash) = new_launch_token(id);
        let launch_expires_at = now.after(Duration::from_secs(new.launch_ttl_seconds.into()));
        let session = Session {
            id,
            organization_id: organization,
            workspace_id: workspace.id,
            role: new.role,
            reach: new.reach,
            scopes: new.scopes,
            external_user_id: new.external_user_id,
            allowed_origins: new.allowed_origins,
            launch_page: new.launch_page,
            launch: Some(Launch { hash, expires_at: launch_expires_at }),
            ttl_seconds: new.ttl_seconds,
            generation: 1,
            expires_at: now.after(Duration::from_secs(new.ttl_seconds.into())),
            revoked_at: None,
            created_by: new.created_by,
            created_at: now,
            updated_at: now,
            version: 1,
        };
        self.configure(Change::CreateSession(Box::new(session.clone()))).await?;
        let access_token = inner.vault.tokens.sign(&Claims::of(&session));
        Ok(Minted { session, access_token, launch_token, launch_expires_at })
    }

    /// Gives a session its next access token. The one before is worth nothing once this returns.
    pub async fn refresh_session(
        &self,
        scope: Scope,
        id: SessionId,
    ) -> Result<(Session, Secret), EngineError> {
        let refresh = |session: &Session, now| session.refreshed(now).map(Some);
        let session = self.change_session(scope, id, refresh).await?;
        let token = self.0.vault.tokens.sign(&Claims::of(&session));
        Ok((session, token))
    }

    /// Ends a session. Once this returns no token of it is good; again does no harm.
    pub async fn revoke_session(&self, scope: Scope, id: SessionId) -> Result<Session, EngineError> {
        self.change_session(scope, id, |session, now| Ok(session.revoked(now))).await
    }

    async fn change_session(
        &self,
        scope: Scope,
        id: SessionId,
        change: impl Fn(&Session, Timestamp) -> Result<Option<Session>, Over>,
    ) -> Result<Session, EngineError> {
        for _ in 0..CHANGE_TRIES {
            let session = self.session(scope, id).await?.ok_or(Refusal::NotFound("session"))?;
            let changed = change(&session, self.0.clock.wall()).map_err(Refusal::SessionOver)?;
            let Some(mut changed) = changed else { return Ok(session) };
            changed.version += 1;
            match self.configure(Change::UpdateSession(Box::new(changed.clone()))).await {
                Err(EngineError::Refused(Refusal::Stale(_))) => {}
                done => return done.map(|()| changed),
            }
        }
        Err(Refusal::Stale("session").into())
    }

    /// A session.
    pub async fn session(&self, scope: Scope, id: SessionId) -> Result<Option<Session>, EngineError> {
        Ok(self.0.store.session(scope, id).await?)
    }

    /// A workspace's sessions, newest first.
    pub async fn sessions(
        &self,
        workspace: WorkspaceId,
        filter: SessionFilter,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Page<Session, SessionId>, EngineError> {
        Ok(self.0.store.sessions(workspace, filter, after, limit).await?)
    }

    /// The session that an access token is for, if the token is good.
    pub async fn session_of_token(&self, token: &str) -> Result<Option<Session>, EngineError> {
        let Some(claims) = self.0.vault.tokens.read(token) else { return Ok(None) };
        let found = self.session(Scope::Workspace(claims.workspace_id), claims.session_id).await?;
        let now = self.0.clock.wall();
        Ok(found.filter(|session| session.accepts(claims.generation, now)))
    }
}
