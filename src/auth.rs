//! Who is asking, and what they may do: a machine or a user of an organization, a session in one workspace,
//! or a publishable key, which may only send events.
//!
//! The table of routes says what each asks for ([`Ask`]); a handler that wants to know its [`Caller`]
//! gets one only if they may do that. Where their rows are looked for, and which of those are there
//! for them, is asked of the caller too, so no handler decides any of it.

mod machine_token;

pub use machine_token::{AUDIENCE, TOKEN_SECONDS_MAX, Token, is_access_key, sign};

use crate::api::{App, Peer, RequestId, error::ApiError};
use actors::{
    domain::{
        access::{KeyLimits, Permission, Subject},
        audit::{Actor, ActorKind},
        ids::{OrganizationId, SessionId, WorkspaceId},
        key::PublishableKey,
        session::{Role, Session},
        session_token::is_access_token,
        user::{User, limits_of},
        user_token::is_user_token,
    },
    engine::{Engine, Scope},
};
use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, header::AUTHORIZATION, request::Parts},
};
use std::{convert::Infallible, net::IpAddr};

/// A longer publishable key is not looked up, in bytes.
const PUBLISHABLE_KEY_BYTES_MAX: usize = 255;

const PUBLISHABLE_KEY: HeaderName = HeaderName::from_static("x-meshes-publishable-key");

/// What a route asks of its caller, as the table of routes says.
#[derive(Clone, Copy, Debug)]
pub struct Ask(pub Permission, pub Subject);

impl Ask {
    /// What a route asks for that says nothing: more than any session and most limited keys may.
    const UNSAID: Self = Self(Permission::Keys, Subject::Organization);
}

/// A machine key that signed the request's token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    pub organization_id: OrganizationId,
    pub access_key: String,
    pub limits: KeyLimits,
}

/// Who asks, and may.
#[derive(Clone, Debug)]
pub struct Caller {
    pub who: Who,
    pub origin: Origin,
}

/// See [`Caller`].
#[derive(Clone, Debug)]
pub enum Who {
    Machine(Machine),
    Session(Box<Session>),
    User(Box<User>),
}

/// Where a request came from, as the audit log has it.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    pub from: Option<IpAddr>,
    request_id: Option<String>,
}

impl Origin {
    fn of(parts: &Parts, app: &App) -> Self {
        let peer = parts.extensions.get::<Peer>();
        let from = peer.map(|peer| app.proxies.client(peer.0.ip(), &parts.headers));
        let request_id = parts.extensions.get::<RequestId>().and_then(|id| id.0.to_str().ok());
        Self { from, request_id: request_id.map(str::to_owned) }
    }

    /// The engine, for somebody who has still to prove who they are.
    pub fn engine(&self, app: &App) -> Engine {
        let Self { from, request_id } = self.clone();
        app.engine.by(Actor { from, request_id, ..Actor::system() })
    }
}

impl FromRequestParts<App> for Origin {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        Ok(Self::of(parts, app))
    }
}

/// A caller who may send events.
#[derive(Clone, Debug)]
pub enum Sender {
    /// Into any workspace of the key's; the event names it.
    Machine(Machine),
    /// Into the key's workspace.
    Publishable(PublishableKey),
}

/// The credentials are missing or wrong. What was wrong about them is nobody's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unauthorized;

impl FromRequestParts<App> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let found = match bearer(&parts.headers) {
            Ok(Some(token)) => caller(app, token).await?,
            _ => Err(Unauthorized),
        };
        let origin = Origin::of(parts, app);
        let who = found.map_err(|Unauthorized| origin.refused(app, ApiError::unauthorized()))?;
        let caller = Self { who, origin };
        let ask = parts.extensions.get::<Ask>().copied().unwrap_or(Ask::UNSAID);
        caller.ask(ask.0, ask.1).map(|()| caller)
    }
}

impl Caller {
    /// Refuses what the caller may not do beside what its route asks for.
    pub fn ask(&self, permission: Permission, subject: Subject) -> Result<(), ApiError> {
        let ask = Ask(permission, subject);
        if self.may(ask) { Ok(()) } else { Err(forbidden(ask)) }
    }

    fn may(&self, Ask(permission, subject): Ask) -> bool {
        match &self.who {
            Who::Machine(machine) => machine.limits.may(permission, subject),
            Who::Session(session) => session.may(permission, subject),
            Who::User(user) => user.may(permission, subject),
        }
    }

    /// The engine, doing what it is asked in the caller's name.
    pub fn engine(&self, app: &App) -> Engine {
        let (kind, id, name) = match &self.who {
            Who::Machine(machine) => (ActorKind::Key, machine.access_key.clone(), None),
            Who::Session(session) => {
                (ActorKind::Session, session_name(session.id), session.external_user_id.clone())
            }
            Who::User(user) => (ActorKind::User, user.id.to_string(), Some(user.email.clone())),
        };
        let Origin { from, request_id } = self.origin.clone();
        app.engine.by(Actor { kind, id, name, from, request_id })
    }

    /// Refuses to give or take a role that may do more than the caller.
    pub fn covers(&self, role: Role) -> Result<(), ApiError> {
        let limits = match &self.who {
            Who::Machine(machine) => machine.limits.clone(),
            Who::User(user) => limits_of(user.role),
            Who::Session(_) => return Err(forbidden(Ask::UNSAID)),
        };
        if limits.covers(&limits_of(role)) {
            return Ok(());
        }
        Err(ApiError::forbidden("nobody gives or takes a role that may do more than they may themselves"))
    }

    /// The user who asks, if it is one.
    pub fn user(&self) -> Result<&User, ApiError> {
        match &self.who {
            Who::User(user) => Ok(user),
            _ => Err(ApiError::forbidden("these credentials may not do this: it is for users who signed in")),
        }
    }

    pub fn organization_id(&self) -> OrganizationId {
        match &self.who {
            Who::Machine(machine) => machine.organization_id,
            Who::Session(session) => session.organization_id,
            Who::User(user) => user.organization_id,
        }
    }

    /// Where the caller's rows are looked for. Not all that is there need be theirs: see [`Self::sees`].
    pub fn scope(&self) -> Scope {
        match &self.who {
            Who::Machine(machine) => match machine.limits.only_workspace() {
                Some(workspace) => Scope::Workspace(workspace),
                None => Scope::Organization(machine.organization_id),
            },
            Who::Session(session) => Scope::Workspace(session.workspace_id),
            Who::User(user) => Scope::Organization(user.organization_id),
        }
    }

    /// Whether the caller knows of this workspace, once it is known to be the organization's.
    pub fn sees(&self, workspace: WorkspaceId) -> bool {
        match &self.who {
            Who::Machine(machine) => machine.limits.includes(workspace),
            Who::Session(session) => session.workspace_id == workspace,
            Who::User(_) => true,
        }
    }

    /// The same of what is about a resource, in that workspace.
    pub fn sees_about(
        &self,
        workspace: WorkspaceId,
        resource: Option<&str>,
        resource_id: Option<&str>,
    ) -> bool {
        self.sees(workspace)
            && self.pair().is_none_or(|(ours, our_id)| (resource, resource_id) == (Some(ours), Some(our_id)))
    }

    /// The one resource that the caller is about, if they are about one.
    pub fn pair(&self) -> Option<(&str, &str)> {
        match &self.who {
            Who::Machine(_) | Who::User(_) => None,
            Who::Session(session) => session.pair(),
        }
    }

    /// A workspace that a path names: its scope, if the caller may know of it.
    pub async fn workspace(&self, app: &App, workspace: WorkspaceId) -> Result<Scope, ApiError> {
        let found = app.engine.workspace(self.organization_id(), workspace).await?;
        let found = found.filter(|_| self.sees(workspace));
        found.map(|_| Scope::Workspace(workspace)).ok_or_else(|| ApiError::not_found("workspace"))
    }

    /// What is written down as the maker of what the caller makes.
    pub fn name(&self) -> String {
        match &self.who {
            Who::Machine(machine) => machine.access_key.clone(),
            Who::Session(session) => {
                session.external_user_id.clone().unwrap_or_else(|| session_name(session.id))
            }
            Who::User(user) => user.id.to_string(),
        }
    }
}

/// A session's id on the wire.
pub fn session_name(id: SessionId) -> String {
    format!("sess_{id}")
}

fn forbidden(Ask(permission, _): Ask) -> ApiError {
    ApiError::forbidden(match permission {
        Permission::Payload => "these credentials may not read payloads",
        Permission::Read => "these credentials may not read this",
        Permission::Write => "these credentials may not change this",
        Permission::Send => "these credentials may not send events",
        Permission::Sessions => "these credentials may not manage sessions",
        Permission::Keys => "these credentials may not manage keys, users or what else is the owner's",
    })
}

/// Which machine asks. Whether it may is judged where what it asks for is done.
pub async fn machine(app: &App, parts: &Parts) -> Result<Machine, ApiError> {
    let found = match bearer(&parts.headers) {
        Ok(Some(token)) => caller(app, token).await?,
        _ => Err(Unauthorized),
    };
    let refused = |Unauthorized| Origin::of(parts, app).refused(app, ApiError::unauthorized());
    match found.map_err(refused)? {
        Who::Machine(machine) => Ok(machine),
        Who::Session(_) | Who::User(_) => Err(ApiError::forbidden("these credentials may not be used here")),
    }
}

/// Who sends events.
pub async fn sender(app: &App, parts: &Parts) -> Result<Sender, ApiError> {
    let found = match claim(&parts.headers) {
        Ok(Claim::Token(token)) => match caller(app, token).await? {
            Ok(Who::Machine(machine)) if machine.limits.may(Permission::Send, Subject::Events) => {
                Ok(Sender::Machine(machine))
            }
            Ok(_) => return Err(forbidden(Ask(Permission::Send, Subject::Events))),
            Err(err) => Err(err),
        },
        Ok(Claim::Key(key)) => {
            app.engine.publishable_key(key).await?.map(Sender::Publishable).ok_or(Unauthorized)
        }
        Err(err) => Err(err),
    };
    found.map_err(|Unauthorized| Origin::of(parts, app).refused(app, ApiError::unauthorized()))
}

/// What a sender claims to be.
#[derive(Debug, PartialEq, Eq)]
enum Claim<'h> {
    Token(&'h str),
    Key(&'h str),
}

/// A bearer token goes before a publishable key, unless it has not even the form of one.
fn claim(headers: &HeaderMap) -> Result<Claim<'_>, Unauthorized> {
    let is_token = |text: &str| is_access_token(text) || is_user_token(text) || Token::parse(text).is_ok();
    match bearer(headers)? {
        Some(token) if !headers.contains_key(PUBLISHABLE_KEY) || is_token(token) => Ok(Claim::Token(token)),
        _ => publishable_key(headers).map(Claim::Key),
    }
}

/// `Ok(Err)` is the caller's fault, `Err` is ours.
async fn caller(app: &App, token: &str) -> Result<Result<Who, Unauthorized>, ApiError> {
    if is_access_token(token) {
        let session = app.engine.session_of_token(token).await?;
        return Ok(session.map(|session| Who::Session(Box::new(session))).ok_or(Unauthorized));
    }
    if is_user_token(token) {
        let user = app.engine.user_of_token(token).await?;
        return Ok(user.map(|user| Who::User(Box::new(user))).ok_or(Unauthorized));
    }
    let Ok(token) = Token::parse(token) else { return Ok(Err(Unauthorized)) };
    let Some(key) = app.engine.machine_key(&token.access_key).await? else { return Ok(Err(Unauthorized)) };
    if token.verify(&key.secret, key.organization_id, app.clock.now()).is_err() {
        return Ok(Err(Unauthorized));
    }
    app.engine.machine_key_used(&key);
    let (organization_id, access_key, limits) = (key.organization_id, key.access_key, key.limits);
    Ok(Ok(Who::Machine(Machine { organization_id, access_key, limits })))
}

impl Origin {
    /// This error, or 429 to an address that was wrong too often. It is counted after looking, not before:
    /// keys here are 128 bits and more, so guessing is hopeless, and an attacker behind a shared
    /// address must not lock its other users out.
    pub fn refused(&self, app: &App, err: ApiError) -> ApiError {
        match self.from.map_or(Ok(()), |from| app.auth_failures.count(from)) {
            Ok(()) => err,
            Err(seconds) => {
                ApiError::too_many_requests("too many wrong credentials from this address", seconds)
            }
        }
    }
}

/// The bearer token: `None` where there is no `Authorization`, or one of another scheme.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Unauthorized> {
    let Some(value) = only(headers, &AUTHORIZATION)? else { return Ok(None) };
    let Some((scheme, token)) = value.split_once(' ') else { return Ok(None) };
    Ok(scheme.eq_ignore_ascii_case("bearer").then_some(token))
}

fn publishable_key(headers: &HeaderMap) -> Result<&str, Unauthorized> {
    let key = only(headers, &PUBLISHABLE_KEY)?.ok_or(Unauthorized)?;
    if key.is_empty() || key.len() > PUBLISHABLE_KEY_BYTES_MAX { Err(Unauthorized) } else { Ok(key) }
}

/// A header's text. Two of them are two claims, so neither counts.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Unauthorized> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| Unauthorized),
        _ => Err(Unauthorized),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actors::domain::{ids::OrganizationId, secret::Secret, timestamp::Timestamp};

    #[test]
    fn credentials_are_read_from_one_header_each() {
        let headers = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, value.parse().expect("a header value"));
            }
            headers
        };
        type Case<'c> = (&'c str, &'c [(&'c str, &'c str)], Result<Option<&'c str>, Unauthorized>);
        #[rustfmt::skip]
        let cases: [Case<'_>; 6] = [
            ("a token",                   &[("authorization", "Bearer t")],                                    Ok(Some("t"))),
            ("the scheme in any case",    &[("authorization", "bEARER t")],                                    Ok(Some("t"))),
            ("none",                      &[("cookie", "authorization=Bearer t")],                             Ok(None)),
            ("another scheme",            &[("authorization", "Basic dTpw")],                                  Ok(None)),
            ("two",                       &[("authorization", "Bearer t"), ("authorization", "Bearer t")],     Err(Unauthorized)),
            ("without scheme",            &[("authorization", "t")],                                           Ok(None)),
        ];
        for (why, pairs, expected) in cases {
            assert_eq!(bearer(&headers(pairs)), expected, "{why}");
        }
        let key = [("x-meshes-publishable-key", "mesh_pub_v1_a_b")];
        assert_eq!(publishable_key(&headers(&key)), Ok("mesh_pub_v1_a_b"));
        assert_eq!(publishable_key(&headers(&[key[0], key[0]])), Err(Unauthorized));
        assert_eq!(publishable_key(&headers(&[("x-meshes-publishable-key", "")])), Err(Unauthorized));
        assert_eq!(publishable_key(&headers(&[])), Err(Unauthorized));
    }

    #[test]
    fn a_token_goes_before_a_key_unless_it_is_none() {
        let (secret, now) = (Secret::new("of somebody else"), Timestamp(1_773_576_000_000));
        let token = sign("mk_0123456789abcdefABCDEF", &secret, OrganizationId::from_bytes([1; 16]), now, 30);
        let (token, key) = (format!("Bearer {token}"), "mesh_pub_v1_a_b");
        let session = "Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e30.c2ln";
        #[rustfmt::skip]
        let cases = [
            // why                        authorization            key         claim
            ("a key alone",               None,                    Some(key),  Ok(Claim::Key(key))),
            ("a token alone",             Some(&token[..]),        None,       Ok(Claim::Token(&token[7..]))),
            ("both",                      Some(&token),            Some(key),  Ok(Claim::Token(&token[7..]))),
            ("a session's beside a key",  Some(session),           Some(key),  Ok(Claim::Token(&session[7..]))),
            ("nonsense beside a key",     Some("Bearer nonsense"),  Some(key),  Ok(Claim::Key(key))),
            ("nonsense alone",            Some("Bearer nonsense"),  None,       Ok(Claim::Token("nonsense"))),
            ("another scheme and a key",  Some("Basic dTpw"),      Some(key),  Ok(Claim::Key(key))),
            ("neither",                   None,                    None,       Err(Unauthorized)),
        ];
        for (why, authorization, key, expected) in cases {
            let mut headers = HeaderMap::new();
            for (name, value) in [("authorization", authorization), ("x-meshes-publishable-key", key)] {
                if let Some(value) = value {
                    headers.insert(name, value.parse().expect("a header value"));
                }
            }
            assert_eq!(claim(&headers), expected, "{why}");
        }
    }
}
