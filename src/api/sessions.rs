//! Sessions for embedded pages: minted, refreshed, listed and revoked by machines.

use super::{
    App,
    error::ApiError,
    form::{self, Fields},
    json::{Json, respond},
    page::{self, Envelope, HISTORY, List, Query},
};
use crate::auth::{Caller, session_name};
use actors::{
    domain::{
        ids::{SessionId, WorkspaceId},
        session::{LaunchPage, Reach, Role, Session, SessionScope},
        timestamp::Timestamp,
    },
    engine::{Minted, NewSession, SessionFilter},
};
use axum::{
    extract::{FromRequestParts, RawPathParams, State},
    http::{StatusCode, request::Parts},
    response::Response,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::{net::IpAddr, ops::RangeInclusive};
use url::{Host, Url};

const TTL_SECONDS: RangeInclusive<i64> = 300..=3_600;
const LAUNCH_TTL_SECONDS: RangeInclusive<i64> = 15..=60;
const TTL_SECONDS_DEFAULT: u32 = 1_800;
const LAUNCH_TTL_SECONDS_DEFAULT: u32 = 30;
const ORIGINS_MAX: usize = 10;
const SCOPES_MAX: usize = 20;
/// A name in DNS is no longer; with scheme and port.
const ORIGIN_BYTES_MAX: usize = 253 + 16;

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "NewSession")]
#[schemars(extend("examples" = [{ "workspace_id": "018f3c5e-7b1a-7c3e-9d2b-0a1b2c3d4e5f", "role": "admin", "allowed_origins": ["https://app.example.com"] }]))]
pub(super) struct Form {
    #[schemars(with = "uuid::Uuid")]
    workspace_id: String,
    #[schemars(with = "Option<Role>")]
    role: Option<String>,
    /// `resource` needs `resource` and `resource_id`; the others must not have them.
    #[schemars(extend("enum" = ["workspace", "resource", "dashboard", null]))]
    session_type: Option<String>,
    /// Your own name for the user.
    #[schemars(length(min = 1, max = 255))]
    external_user_id: Option<String>,
    #[schemars(range(min = 300, max = 3_600))]
    ttl_seconds: Option<i64>,
    #[schemars(range(min = 15, max = 60))]
    launch_ttl_seconds: Option<i64>,
    #[schemars(with = "Option<LaunchPage>")]
    launch_page: Option<String>,
    /// What `launch_page` was before: `/workspace/` and the page.
    launch_path: Option<String>,
    #[schemars(length(min = 1, max = 255))]
    resource: Option<String>,
    #[schemars(length(min = 1, max = 255))]
    resource_id: Option<String>,
    /// Origins of the pages that may embed it; none: any.
    #[schemars(length(max = ORIGINS_MAX))]
    allowed_origins: Option<Vec<String>>,
    #[schemars(with = "Option<Vec<SessionScope>>", length(max = SCOPES_MAX))]
    scopes: Option<Vec<String>>,
}

impl Form {
    fn into_new(self, created_by: String, allow_http: bool) -> Result<NewSession, ApiError> {
        let workspace = form::uuid_field("workspace_id", &self.workspace_id)?;
        let mut fields = Fields::default();
        let role = one_of(&mut fields, "role", self.role.as_deref(), "member, admin or owner", |it| {
            Some(match it {
                "member" => Role::Member,
                "admin" => Role::Admin,
                "owner" => Role::Owner,
                _ => return None,
            })
        });
        let reach = self.reach(&mut fields);
        let launch_page = self.launch_page(&mut fields, &reach);
        let external = self.external_user_id.as_deref();
        fields.require("external_user_id", external.is_none_or(form::is_name), form::NAME);
        let ttl_seconds =
            within(&mut fields, "ttl_seconds", self.ttl_seconds, TTL_SECONDS, TTL_SECONDS_DEFAULT);
        let launch_ttl_seconds = within(
            &mut fields,
            "launch_ttl_seconds",
            self.launch_ttl_seconds,
            LAUNCH_TTL_SECONDS,
            LAUNCH_TTL_SECONDS_DEFAULT,
        );
        let allowed_origins = self.allowed_origins.unwrap_or_default();
        fields.require("allowed_origins", allowed_origins.len() <= ORIGINS_MAX, "must be at most 10 origins");
        for (index, origin) in allowed_origins.iter().take(ORIGINS_MAX).enumerate() {
            let msg = "must be an origin such as https://app.example.com, in lower case and without a path";
            fields.require(&format!("allowed_origins[{index}]"), is_origin(origin, allow_http), msg);
        }
        let asked = self.scopes.unwrap_or_default();
        fields.require("scopes", asked.len() <= SCOPES_MAX, "must be at most 20 scopes");
        let mut scopes = Vec::new();
        for (index, scope) in asked.iter().take(SCOPES_MAX).enumerate() {
            let is_known = scope == "events.payload:read";
            fields.require(&format!("scopes[{index}]"), is_known, "must be events.payload:read");
            if is_known && scopes.is_empty() {
                scopes.push(SessionScope::ReadPayloads);
            }
        }
        fields.check()?;
        Ok(NewSession {
            workspace_id: WorkspaceId::from_uuid(workspace),
            role,
            reach,
            scopes,
            external_user_id: self.external_user_id,
            allowed_origins,
            launch_page,
            ttl_seconds,
            launch_ttl_seconds,
            created_by,
        })
    }

    fn reach(&self, fields: &mut Fields) -> Reach {
        #[derive(Default, PartialEq)]
        enum Kind {
            #[default]
            Workspace,
            Resource,
            Dashboard,
        }
        let kinds = "workspace, resource or dashboard";
        let kind = one_of(fields, "session_type", self.session_type.as_deref(), kinds, |it| {
            Some(match it {
                "workspace" => Kind::Workspace,
                "resource" => Kind::Resource,
                "dashboard" => Kind::Dashboard,
                _ => return None,
            })
        });
        for (param, text) in [("resource", &self.resource), ("resource_id", &self.resource_id)] {
            let text = text.as_deref();
            if kind == Kind::Resource {
                fields.require(param, text.is_some(), "is required where session_type is resource");
                fields.require(param, text.is_none_or(form::is_name), form::NAME);
            } else {
                fields.require(param, text.is_none(), "is only for a session_type of resource");
            }
        }
        match kind {
            Kind::Workspace => Reach::Workspace,
            Kind::Dashboard => Reach::Dashboard,
            Kind::Resource => Reach::Resource {
                resource: self.resource.clone().unwrap_or_default(),
                resource_id: self.resource_id.clone().unwrap_or_default(),
            },
        }
    }

    fn launch_page(&self, fields: &mut Fields, reach: &Reach) -> LaunchPage {
        let pages = "dashboard, connections, rules or events";
        let (param, page) = match (&self.launch_page, &self.launch_path) {
            (None, Some(path)) => {
                let page = path.strip_prefix("/workspace/");
                let msg = format!("must be /workspace/ and {pages}");
                fields.require("launch_path", page.and_then(page_named).is_some(), &msg);
                ("launch_path", page.and_then(page_named).unwrap_or_default())
            }
            (page, _) => ("launch_page", one_of(fields, "launch_page", page.as_deref(), pages, page_named)),
        };
        let shows = match reach {
            Reach::Workspace => true,
            Reach::Resource { .. } => page != LaunchPage::Connections,
            Reach::Dashboard => page == LaunchPage::Dashboard,
        };
        fields.require(param, shows, "is a page that this session_type does not show");
        page
    }
}

fn page_named(name: &str) -> Option<LaunchPage> {
    let all = [LaunchPage::Dashboard, LaunchPage::Connections, LaunchPage::Rules, LaunchPage::Events];
    all.into_iter().find(|page| page_name(*page) == name)
}

const fn page_name(page: LaunchPage) -> &'static str {
    match page {
        LaunchPage::Dashboard => "dashboard",
        LaunchPage::Connections => "connections",
        LaunchPage::Rules => "rules",
        LaunchPage::Events => "events",
    }
}

/// What a text names; complains if it names nothing. The default where it is absent.
fn one_of<T: Default>(
    fields: &mut Fields,
    param: &str,
    text: Option<&str>,
    all: &str,
    named: impl FnOnce(&str) -> Option<T>,
) -> T {
    let Some(text) = text else { return T::default() };
    let found = named(text);
    fields.require(param, found.is_some(), &format!("must be {all}"));
    found.unwrap_or_default()
}

fn within(
    fields: &mut Fields,
    param: &str,
    number: Option<i64>,
    range: RangeInclusive<i64>,
    default: u32,
) -> u32 {
    let Some(number) = number else { return default };
    let msg = format!("must be from {} to {}", range.start(), range.end());
    fields.require(param, range.contains(&number), &msg);
    u32::try_from(number).unwrap_or(default)
}

/// An origin exactly as browsers write it: it goes into headers, and is compared with theirs. Only
/// https, and under the development switch plain http of this machine.
fn is_origin(text: &str, allow_http: bool) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.:[]".contains(&byte);
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    if text.len() > ORIGIN_BYTES_MAX || !rest.bytes().all(plain) {
        return false;
    }
    let Ok(url) = Url::parse(text) else { return false };
    let is_here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => IpAddr::from(ip).is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::from(ip).is_loopback(),
        None => false,
    };
    let is_safe = scheme == "https" || (scheme == "http" && allow_http && is_here);
    is_safe && url.origin().ascii_serialization() == text
}

/// What every answer about a session has.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SessionBase")]
pub(super) struct SessionJson {
    session_id: String,
    workspace_id: WorkspaceId,
    role: Role,
    #[schemars(extend("enum" = ["workspace", "resource", "dashboard"]))]
    session_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_id: Option<String>,
    expires_at: Timestamp,
}

impl From<&Session> for SessionJson {
    fn from(session: &Session) -> Self {
        let (resource, resource_id) = session.pair().unzip();
        Self {
            session_id: session_name(session.id),
            workspace_id: session.workspace_id,
            role: session.role,
            session_type: match session.reach {
                Reach::Workspace => "workspace",
                Reach::Resource { .. } => "resource",
                Reach::Dashboard => "dashboard",
            },
            resource: resource.map(str::to_owned),
            resource_id: resource_id.map(str::to_owned),
            expires_at: session.expires_at,
        }
    }
}

/// With a token: what minting and refreshing answer.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SessionToken")]
pub(super) struct TokenJson<'t> {
    access_token: &'t str,
    /// Seconds.
    expires_in: u64,
    #[serde(flatten)]
    session: SessionJson,
}

impl<'t> TokenJson<'t> {
    fn new(session: &Session, access_token: &'t str) -> Self {
        let expires_in = session.expires_at.since(session.updated_at).as_secs();
        Self { access_token, expires_in, session: session.into() }
    }
}

/// A session with its token and its first page.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "MintedSession")]
pub(super) struct MintedJson<'t> {
    #[serde(flatten)]
    token: TokenJson<'t>,
    launch_token: &'t str,
    launch_expires_at: Timestamp,
    /// Opens the first page, once.
    launch_url: String,
}

/// A session as it is listed.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Session")]
pub(super) struct ListedJson {
    #[serde(flatten)]
    session: SessionJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_user_id: Option<String>,
    #[schemars(extend("enum" = ["active", "revoked"]))]
    status: &'static str,
    created_at: Timestamp,
    /// Its token is too old; refreshing may make another.
    is_expired: bool,
}

/// What sessions are listed by.
pub(super) fn status(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["active", "revoked"] })
}

/// It is worth nothing from now on.
#[derive(Serialize, JsonSchema)]
pub(super) struct Revoked {
    pub revoked: bool,
}

pub(super) async fn mint(
    State(app): State<App>,
    caller: Caller,
    Json(form): Json<Form>,
) -> Result<Response, ApiError> {
    let new = form.into_new(caller.name(), app.allow_http)?;
    caller.workspace(&app, new.workspace_id).await?;
    let minted = caller.engine(&app).create_session(caller.organization_id(), new).await?;
    let Minted { session, access_token, launch_token, launch_expires_at } = minted;
    let (page, launch_token) = (page_name(session.launch_page), launch_token.expose());
    let public_url = app.public_url.get().map_or("", String::as_str);
    let shown = MintedJson {
        token: TokenJson::new(&session, access_token.expose()),
        launch_token,
        launch_expires_at,
        launch_url: format!("{public_url}/workspace/{page}?launch={launch_token}"),
    };
    Ok(respond(StatusCode::OK, &shown))
}

pub(super) async fn list(State(app): State<App>, caller: Caller, query: Query) -> Result<Response, ApiError> {
    let workspace =
        query.get("workspace_id").ok_or_else(|| ApiError::field("workspace_id", "is required"))?;
    let workspace = WorkspaceId::from_uuid(form::uuid_field("workspace_id", workspace)?);
    let place = page::place_of(caller.workspace(&app, workspace).await?);
    let (limit, after) = query.page(List::Sessions, &place, HISTORY, SessionId::from_bytes)?;
    let revoked = match query.get("status") {
        None => None,
        Some("active") => Some(false),
        Some("revoked") => Some(true),
        Some(_) => return Err(ApiError::field("status", "must be active or revoked")),
    };
    let filter =
        SessionFilter { revoked, resource: query.text("resource"), resource_id: query.text("resource_id") };
    let page = app.engine.sessions(workspace, filter, after, limit).await?;
    let now = app.clock.wall();
    let show = |session: Session| ListedJson {
        session: (&session).into(),
        status: if session.revoked_at.is_some() { "revoked" } else { "active" },
        created_at: session.created_at,
        is_expired: now >= session.expires_at,
        external_user_id: session.external_user_id,
    };
    let envelope = Envelope::new(List::Sessions, &place, limit, page, |id| *id.as_bytes(), show);
    Ok(respond(StatusCode::OK, &envelope))
}

pub(super) async fn refresh(
    State(app): State<App>,
    caller: Caller,
    Named(id): Named,
) -> Result<Response, ApiError> {
    let found = found(&app, &caller, id).await?;
    let scope = actors::engine::Scope::Workspace(found.workspace_id);
    let (session, token) = caller.engine(&app).refresh_session(scope, id).await?;
    Ok(respond(StatusCode::OK, &TokenJson::new(&session, token.expose())))
}

pub(super) async fn revoke(
    State(app): State<App>,
    caller: Caller,
    Named(id): Named,
) -> Result<Response, ApiError> {
    let found = found(&app, &caller, id).await?;
    let scope = actors::engine::Scope::Workspace(found.workspace_id);
    caller.engine(&app).revoke_session(scope, id).await?;
    Ok(respond(StatusCode::OK, &Revoked { revoked: true }))
}

/// The session of this id, if the caller may know of it.
async fn found(app: &App, caller: &Caller, id: SessionId) -> Result<Session, ApiError> {
    let found = app.engine.session(caller.scope(), id).await?;
    let found = found.filter(|session| caller.sees(session.workspace_id));
    found.ok_or_else(|| ApiError::not_found("session"))
}

/// The session that the path names. What is no id names nothing: 404.
pub(super) struct Named(SessionId);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &S) -> Result<Self, ApiError> {
        let params = RawPathParams::from_request_parts(parts, app).await;
        let params = params.map_err(|_| ApiError::not_found("route"))?;
        let id = params.iter().next().and_then(|(_, text)| text.strip_prefix("sess_")).and_then(form::uuid);
        id.map(|id| Self(SessionId::from_uuid(id))).ok_or_else(|| ApiError::not_found("session"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_written_as_browsers_write_it() {
        let long = format!("https://{}.example", "a".repeat(300));
        #[rustfmt::skip]
        let cases = [
            ("a host",                   "https://app.example.com",           true,  true),
            ("with a port",              "https://app.example.com:8443",      true,  true),
            ("an address",               "https://192.0.2.7",                 true,  true),
            ("an IPv6 address",          "https://[2001:db8::1]:444",         true,  true),
            ("this machine, plain",      "http://localhost:3000",             false, true),
            ("its address, plain",       "http://127.0.0.1:3000",             false, true),
            ("elsewhere, plain",         "http://app.example.com",            false, false),
            ("like this machine",        "http://localhost.example.com",      false, false),
            ("any",                      "*",                                 false, false),
            ("any below",                "https://*.example.com",             false, false),
            ("none",                     "null",                              false, false),
            ("empty",                    "",                                  false, false),
            ("a path",                   "https://app.example.com/page",      false, false),
            ("a slash",                  "https://app.example.com/",          false, false),
            ("a query",                  "https://app.example.com?x",         false, false),
            ("a fragment",               "https://app.example.com#x",         false, false),
            ("a user",                   "https://me@app.example.com",        false, false),
            ("its default port",         "https://app.example.com:443",       false, false),
            ("no port after its colon",  "https://app.example.com:",          false, false),
            ("in capitals",              "https://APP.example.com",           false, false),
            ("two of them",              "https://a.example https://b.example", false, false),
            ("a second directive",       "https://a.example; script-src *",   false, false),
            ("a semicolon",              "https://a.example;",                false, false),
            ("a quote",                  "https://a.example'self'",           false, false),
            ("a line",                   "https://a.example\r\nx: y",         false, false),
            ("a line break at its end",  "https://a.example\n",               false, false),
            ("a tab",                    "https://a.exa\tmple",               false, false),
            ("NUL",                      "https://a.example\0",               false, false),
            ("script",                   "javascript:alert(1)",               false, false),
            ("data",                     "data:text/html,x",                  false, false),
            ("a file",                   "file:///x",                         false, false),
            ("without a scheme",         "app.example.com",                   false, false),
            ("slashes alone",            "//app.example.com",                 false, false),
            ("beyond ASCII",             "https://bücher.example",            false, false),
            ("an address in short",      "https://127.1",                     false, false),
            ("very long",                &long,                               false, false),
        ];
        for (why, text, expected, in_development) in cases {
            assert_eq!(is_origin(text, false), expected, "{why}");
            assert_eq!(is_origin(text, true), in_development, "{why}, in development");
        }
    }
}
