//! Sessions: what an embedded page may see and do, for a while, in one workspace.
//!
//! A session has one access token at a time: refreshing makes the next, and the one before is worth
//! nothing from then on. Its times are the wall's, for they are told to hosts and browsers that judge
//! them by their own clocks.

use super::{
    access::{Permission, Subject},
    ids::{OrganizationId, SessionId, WorkspaceId},
    timestamp::Timestamp,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long after it was made a session may still be refreshed; no token of it is good beyond.
pub const LIFE_MAX: Duration = Duration::from_secs(24 * 3_600);

/// How much a session's user may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "SessionRole")]
pub enum Role {
    /// Looks.
    #[default]
    Member,
    /// Changes, too.
    Admin,
    /// The same today; what is reserved for owners later is theirs.
    Owner,
}

/// How much of its workspace a session shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    #[default]
    Workspace,
    /// What is about one resource, and no connections.
    Resource { resource: String, resource_id: String },
    /// What the dashboard shows, to look at only.
    Dashboard,
}

/// What a role alone does not bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SessionScope {
    #[serde(rename = "events.payload:read")]
    ReadPayloads,
}

/// The page an embedded session starts on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LaunchPage {
    #[default]
    Dashboard,
    Connections,
    Rules,
    Events,
}

/// Opens the first page, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// Of the launch token, which is not kept.
    pub hash: [u8; 32],
    pub expires_at: Timestamp,
}

/// See the module's text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    pub id: SessionId,
    pub organization_id: OrganizationId,
    pub workspace_id: WorkspaceId,
    pub role: Role,
    pub reach: Reach,
    pub scopes: Vec<SessionScope>,
    /// The host's own name for its user.
    pub external_user_id: Option<String>,
    /// Origins of pages that may embed it; none: any.
    pub allowed_origins: Vec<String>,
    pub launch_page: LaunchPage,
    /// `None` once it was used.
    pub launch: Option<Launch>,
    /// The life of an access token.
    pub ttl_seconds: u32,
    /// Which access token is the good one: the nth.
    pub generation: u32,
    /// When that one ends.
    pub expires_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
    pub created_by: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub version: u64,
}

/// Why a session gets no more tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Over {
    #[error("the session was revoked; make a new one")]
    Revoked,
    #[error("the session is older than 24 hours; make a new one")]
    TooOld,
}

impl Session {
    /// Whether its user may do this.
    pub fn may(&self, permission: Permission, subject: Subject) -> bool {
        let is_shown = match (&self.reach, subject) {
            (_, Subject::Organization | Subject::Workspaces) => false,
            (Reach::Workspace, _) => true,
            (Reach::Resource { .. }, subject) => subject != Subject::Connections,
            (Reach::Dashboard, subject) => subject == Subject::Catalogue && permission == Permission::Read,
        };
        let is_trusted = self.role >= Role::Admin;
        is_shown
            && match permission {
                Permission::Read => true,
                Permission::Write => is_trusted,
                Permission::Payload => is_trusted && self.scopes.contains(&SessionScope::ReadPayloads),
                Permission::Send | Permission::Sessions | Permission::Keys => false,
            }
    }

    /// The resource it is about, if it is about one.
    pub fn pair(&self) -> Option<(&str, &str)> {
        match &self.reach {
            Reach::Resource { resource, resource_id } => Some((resource, resource_id)),
            Reach::Workspace | Reach::Dashboard => None,
        }
    }

    /// Whether its access token number `generation` is good.
    pub fn accepts(&self, generation: u32, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.generation == generation && now < self.expires_at
    }

    /// The session with its next token, which lives no longer than a session may.
    pub fn refreshed(&self, now: Timestamp) -> Result<Self, Over> {
        let end = self.created_at.after(LIFE_MAX);
        if self.revoked_at.is_some() {
            return Err(Over::Revoked);
        }
        if now >= end {
            return Err(Over::TooOld);
        }
        let expires_at = now.after(Duration::from_secs(self.ttl_seconds.into())).min(end);
        let generation = self.generation.saturating_add(1);
        Ok(Self { generation, expires_at, updated_at: now, ..self.clone() })
    }

    /// The session without any token; `None` if it is so already.
    pub fn revoked(&self, now: Timestamp) -> Option<Self> {
        let revoked = Self { revoked_at: Some(now), launch: None, updated_at: now, ..self.clone() };
        self.revoked_at.is_none().then_some(revoked)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp(1_773_576_000_000);

    pub(crate) fn session(role: Role, reach: Reach, scopes: &[SessionScope]) -> Session {
        Session {
            id: SessionId::from_bytes([1; 16]),
            organization_id: OrganizationId::from_bytes([2; 16]),
            workspace_id: WorkspaceId::from_bytes([3; 16]),
            role,
            reach,
            scopes: scopes.to_vec(),
            external_user_id: None,
            allowed_origins: Vec::new(),
            launch_page: LaunchPage::Dashboard,
            launch: Some(Launch { hash: [4; 32], expires_at: NOON.after(Duration::from_secs(30)) }),
            ttl_seconds: 1_800,
            generation: 1,
            expires_at: NOON.after(Duration::from_secs(1_800)),
            revoked_at: None,
            created_by: "mk_test".to_owned(),
            created_at: NOON,
            updated_at: NOON,
            version: 1,
        }
    }

    /// Every role, reach, subject and permission there is.
    #[test]
    fn a_session_may_what_its_role_and_reach_allow() {
        use {Permission::*, Subject::*};
        let about = || Reach::Resource { resource: "user".to_owned(), resource_id: "7".to_owned() };
        #[rustfmt::skip]
        let reaches: [(Reach, &[Subject]); 3] = [
            // reach             shows
            (Reach::Workspace,   &[Connections, Rules, Events, Catalogue]),
            (about(),            &[Rules, Events, Catalogue]),
            (Reach::Dashboard,   &[Catalogue]),
        ];
        #[rustfmt::skip]
        let roles: [(Role, &[SessionScope], &[Permission]); 6] = [
            // role          scopes                         may
            (Role::Member,   &[],                           &[Read]),
            (Role::Member,   &[SessionScope::ReadPayloads], &[Read]),
            (Role::Admin,    &[],                           &[Read, Write]),
            (Role::Admin,    &[SessionScope::ReadPayloads], &[Read, Write, Payload]),
            (Role::Owner,    &[],                           &[Read, Write]),
            (Role::Owner,    &[SessionScope::ReadPayloads], &[Read, Write, Payload]),
        ];
        for (reach, shows) in &reaches {
            for (role, scopes, may) in roles {
                let session = session(role, reach.clone(), scopes);
                for subject in [Organization, Workspaces, Connections, Rules, Events, Catalogue] {
                    for permission in Permission::ALL {
                        let looks_only = *reach == Reach::Dashboard;
                        let expected = shows.contains(&subject)
                            && may.contains(&permission)
                            && (!looks_only || permission == Read);
                        let why =
                            format!("{role:?} of {reach:?} with {scopes:?}: {permission:?} {subject:?}");
                        assert_eq!(session.may(permission, subject), expected, "{why}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_token_is_good_until_it_ends_or_the_next_is_made() {
        let minted = session(Role::Member, Reach::Workspace, &[]);
        let second = Duration::from_secs(1);
        assert!(minted.accepts(1, NOON) && !minted.accepts(0, NOON) && !minted.accepts(2, NOON));
        assert!(minted.accepts(1, minted.expires_at.before(second)) && !minted.accepts(1, minted.expires_at));

        let refreshed = minted.refreshed(NOON.after(second)).expect("it is young");
        assert!(refreshed.accepts(2, minted.expires_at) && !refreshed.accepts(1, NOON.after(second)));
        assert_eq!((refreshed.id, refreshed.created_at), (minted.id, minted.created_at));

        let revoked = refreshed.revoked(NOON).expect("it was not");
        assert!(!revoked.accepts(2, NOON) && revoked.launch.is_none());
        assert_eq!((revoked.refreshed(NOON), revoked.revoked(NOON)), (Err(Over::Revoked), None));
    }

    #[test]
    fn no_token_outlives_a_day() {
        let minted = session(Role::Member, Reach::Workspace, &[]);
        let end = NOON.after(LIFE_MAX);
        let late = minted.refreshed(end.before(Duration::from_secs(60))).expect("there is a minute left");
        assert_eq!(late.expires_at, end, "also after its own token has expired");
        assert_eq!(minted.refreshed(end), Err(Over::TooOld));
    }
}
