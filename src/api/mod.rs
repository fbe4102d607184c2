//! The JSON API: the table of its routes, and what is true of every one of them.
//!
//! Every answer is JSON, but for the pages of a consent, and carries `X-Request-Id`; a panic is one 500. The two ingest routes are
//! for browsers too and so have CORS, which no other route and no other method has. There is no stack of layers:
//! [`answer`] wraps the router in one function, since six layers cost ingest 42 % of its rate.

mod accounts;
mod audit;
mod connections;
pub(crate) mod document;
pub(crate) mod error;
mod events;
pub(crate) mod form;
mod history;
mod integrations;
mod invitations;
pub(crate) mod json;
mod keys;
mod mappings;
mod names;
mod oauth;
pub mod openapi;
mod ops;
mod organization;
mod page;
mod replays;
mod resets;
mod rules;
mod search;
mod sessions;
mod sign_in;
mod trial;
mod usage;
mod users;
mod workspaces;

use self::error::ApiError;
pub(crate) use self::invitations::link as invitation_link;
use crate::{
    auth::Ask,
    config::Config,
    mcp,
    proxies::Proxies,
    rate::{AccountTries, AuthFailures, Rate},
};
use actors::{
    clock::Clock,
    domain::{
        access::{Permission, Subject},
        ids::{OrganizationId, WorkspaceId},
    },
    engine::Engine,
};
use axum::{
    Extension, Router,
    body::Body,
    extract::{FromRequestParts, RawPathParams},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::{MethodRouter, delete, get, patch, post, put},
};
use futures_util::FutureExt as _;
use std::{
    net::SocketAddr,
    ops::Deref,
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock, atomic::AtomicBool},
    time::Duration,
};
use tower::Service as _;
use uuid::Uuid;

/// A request line longer than this is answered 414, in bytes.
const TARGET_BYTES_MAX: usize = 8 * 1024;
/// The ingest routes.
const EVENTS: &str = "/api/v1/events";
const EVENTS_BULK: &str = "/api/v1/events/bulk";

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longer ids from callers are replaced, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// All routes, each method with what it asks of its caller. The ingest routes ask by themselves who
/// sends; those outside `/api/v1` ask nobody and tell nothing of tenants.
#[rustfmt::skip] // the columns are the point
fn routes() -> Router<App> {
    use {Permission::*, Subject::*};
    let v1 = Router::new()
        .route("/workspaces", each([
            ask(Read,     Workspaces,   get(workspaces::list)),
            ask(Write,    Organization, post(workspaces::create)),
        ]))
        .route("/workspaces/{workspace}", each([
            ask(Read,     Workspaces,   get(workspaces::get)),
            ask(Write,    Workspaces,   put(workspaces::update)),
        ]))
        .route("/workspaces/{workspace}/publishable-key/rotate", ask(Keys, Workspaces, post(keys::rotate)))
        .route("/workspaces/{workspace}/connections",            ask(Read, Connections, get(connections::list_of_workspace)))
        .route("/workspaces/{workspace}/rules",                  ask(Read, Rules, get(rules::list_of_workspace)))
        .route("/workspaces/{workspace}/events",                 ask(Read, Events, get(history::list_of_workspace)))
        .route("/workspaces/{workspace}/event-types",            ask(Read, Catalogue, get(names::event_types)))
        .route("/workspaces/{workspace}/event-types/{key}",      ask(Write, Workspaces, put(names::save_event_type)))
        .route("/workspaces/{workspace}/resources",              ask(Read, Catalogue, get(names::resources)))
        .route("/workspaces/{workspace}/resources/{key}",        ask(Write, Workspaces, put(names::save_resource)))
        .route("/workspaces/{workspace}/events/export",          ask(Read, Events, get(search::export)))
        .route("/workspaces/{workspace}/rules/preview",          ask(Payload, Events, post(trial::preview)))
        .route("/workspaces/{workspace}/events/test",            ask(Write, Rules, post(trial::all_rules)))
        .route("/workspaces/{workspace}/rules/{rule}/test",      ask(Write, Rules, post(trial::one_rule)))
        .route("/connections", each([
            ask(Read,     Workspaces,   get(connections::list)),
            ask(Write,    Connections,  post(connections::create)),
        ]))
        .route("/connections/oauth",               ask(Write, Connections, post(oauth::begin)))
        .route("/connections/{connection}", each([
            ask(Read,     Connections,  get(connections::get)),
            ask(Write,    Connections,  put(connections::replace).patch(connections::patch).delete(connections::delete)),
        ]))
        .route("/connections/{connection}/pause",  ask(Write, Connections, post(connections::pause)))
        .route("/connections/{connection}/resume", ask(Write, Connections, post(connections::resume)))
        .route("/connections/{connection}/actions", ask(Read, Connections, get(accounts::actions)))
        .route("/connections/{connection}/fields",  ask(Read, Connections, get(accounts::fields)))
        .route("/connections/{connection}/mappings/default", each([
            ask(Read,     Connections,  get(mappings::get)),
            ask(Write,    Connections,  put(mappings::save)),
        ]))
        .route("/integrations",                     ask(Read, Catalogue, get(integrations::list)))
        .route("/rules", each([
            ask(Read,     Workspaces,   get(rules::list)),
            ask(Write,    Rules,        post(rules::create)),
        ]))
        .route("/rules/{rule}", each([
            ask(Read,     Rules,        get(rules::get)),
            ask(Write,    Rules,        patch(rules::patch).delete(rules::delete)),
        ]))
        .route("/events", each([
            ask(Read,     Workspaces,   get(history::list)),
            post(events::create).options(preflight),
        ]))
        .route("/events/bulk", post(events::create_bulk).options(preflight))
        .route("/events/{event}",                                     ask(Read, Events, get(history::get)))
        .route("/events/{event}/payload",                             ask(Payload, Events, get(history::payload)))
        .route("/events/{event}/cancel",                              ask(Write, Events, post(history::cancel_event)))
        .route("/events/{event}/rules/{rule}/retry",                  ask(Write, Events, post(history::retry)))
        .route("/events/{event}/rules/{rule}/cancel",                 ask(Write, Events, post(history::cancel_rule)))
        .route("/events/{event}/rules/{rule}/attempts",               ask(Read, Events, get(history::attempts)))
        .route("/events/{event}/rules/{rule}/attempts/{attempt}",     ask(Read, Events, get(history::attempt)))
        .route(
            "/events/{event}/rules/{rule}/attempts/{attempt}/response-details",
            ask(Payload, Events, get(history::response_details)),
        )
        .route("/replays", each([
            ask(Read,     Workspaces,   get(replays::list)),
            ask(Write,    Workspaces,   post(replays::create)),
        ]))
        .route("/replays/{replay}", each([
            ask(Read,     Workspaces,   get(replays::get)),
            ask(Write,    Workspaces,   patch(replays::patch)),
        ]))
        .route("/usage",                      ask(Read, Workspaces, get(usage::list)))
        .route("/workspaces/{workspace}/usage", ask(Read, Workspaces, get(usage::list_of_workspace)))
        .route("/plan",                       ask(Read, Organization, get(usage::plan)))
        .route("/sessions",                   ask(Sessions, Workspaces, get(sessions::list).post(sessions::mint)))
        .route("/sessions/{session}",         ask(Sessions, Workspaces, delete(sessions::revoke)))
        .route("/sessions/{session}/refresh", ask(Sessions, Workspaces, post(sessions::refresh)))
        .route("/keys",                       ask(Keys, Organization, get(keys::list).post(keys::create)))
        .route("/keys/{access_key}",          ask(Keys, Organization, delete(keys::revoke)))
        .route("/organization", each([
            ask(Read,     Organization, get(organization::get)),
            ask(Keys,     Organization, put(organization::rename)),
        ]))
        .route("/users",                      ask(Keys, Organization, get(users::list)))
        .route("/users/{user}",               ask(Keys, Organization, patch(users::patch).delete(users::delete)))
        .route("/users/{user}/reset",         ask(Keys, Organization, post(resets::create).delete(resets::delete)))
        .route("/invitations",                ask(Keys, Organization, get(invitations::list).post(invitations::create)))
        .route("/invitations/{invitation}",   ask(Keys, Organization, delete(invitations::delete)))
        .route("/invitations/accept", post(invitations::accept))
        .route("/sign-in", post(sign_in::sign_in))
        .route("/sign-out",                   ask(Read, Organization, post(sign_in::sign_out)))
        .route("/password",                   ask(Read, Organization, post(sign_in::change_password)))
        .route("/password/reset", post(resets::reset))
        .route("/audit",                      ask(Keys, Workspaces, get(audit::list)));
    Router::new()
        .nest("/api/v1", v1)
        .route("/healthz", get(ops::healthz))
        .route("/readyz", get(ops::readyz))
        .route("/metrics", get(ops::metrics))
        .route("/oauth/start", get(oauth::start))
        .route("/oauth/callback", get(oauth::callback))
        .route("/openapi.json", get(openapi::serve))
        .route("/mcp", post(mcp::answer))
        .fallback(async || ApiError::not_found("route"))
        .method_not_allowed_fallback(async || method_not_allowed())
}

/// Methods of a route that ask this of their caller.
fn ask(permission: Permission, subject: Subject, methods: MethodRouter<App>) -> MethodRouter<App> {
    methods.route_layer(Extension(Ask(permission, subject)))
}

/// A route's methods.
fn each<const N: usize>(methods: [MethodRouter<App>; N]) -> MethodRouter<App> {
    methods.into_iter().fold(MethodRouter::new(), MethodRouter::merge)
}

fn method_not_allowed() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "this route does not have that method")
}

/// What every handler shares. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Shared>);

/// See [`App`].
pub struct Shared {
    pub engine: Engine,
    pub clock: Clock,
    pub limits: Limits,
    /// Events of each workspace.
    pub ingest_rate: Rate<WorkspaceId>,
    /// Retries by hand of each organization.
    pub retry_rate: Rate<OrganizationId>,
    pub auth_failures: AuthFailures,
    /// Who is believed about where a request came from.
    pub proxies: Proxies,
    /// Passwords that each address may try, right or wrong: each costs a hash.
    pub sign_ins: AuthFailures,
    pub account_sign_ins: AccountTries,
    /// What comes before the path in a URL for a browser, once it is known where the server listens.
    pub public_url: OnceLock<String>,
    /// Pages on this machine may embed over plain http.
    pub allow_http: bool,
    /// Set when the process is about to end.
    pub ending: AtomicBool,
}

/// What a request may bring.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub body_timeout: Duration,
    /// Of a request that is not an event, in bytes.
    pub body_bytes_max: usize,
    pub payload_bytes_max: usize,
    pub bulk_bytes_max: usize,
}

impl App {
    pub fn new(engine: Engine, clock: Clock, config: &Config) -> Self {
        let Config { http, ingest, retries, auth, allow_http, .. } = config;
        Self(Arc::new(Shared {
            engine,
            clock,
            limits: Limits {
                body_timeout: http.body_timeout,
                body_bytes_max: http.body_bytes_max,
                payload_bytes_max: ingest.payload_bytes_max,
                bulk_bytes_max: ingest.bulk_bytes_max,
            },
            ingest_rate: Rate::new(ingest.events_per_second, ingest.burst),
            retry_rate: Rate::new(retries.per_second, retries.burst),
            auth_failures: AuthFailures::new(auth.failures_per_minute, auth.failures_burst),
            proxies: Proxies(http.trusted_proxies.clone()),
            sign_ins: AuthFailures::new(auth.sign_ins_per_minute, auth.sign_ins_burst),
            account_sign_ins: AccountTries::new(auth.account_sign_ins_per_hour, auth.account_sign_ins_burst),
            public_url: OnceLock::new(),
            allow_http: *allow_http,
            ending: AtomicBool::new(false),
        }))
    }

    /// The routes over this app, for [`answer`].
    pub fn router(&self) -> Router {
        routes().with_state(self.clone())
    }
}

impl Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// Where a request came from.
#[derive(Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// What an answer bears as `X-Request-Id`.
#[derive(Clone)]
pub struct RequestId(pub HeaderValue);

/// Answers one request. Never panics, and whatever happens the answer is JSON with a request id.
pub async fn answer<B>(mut router: Router, request: axum::http::Request<B>, peer: SocketAddr) -> Response
where
    B: axum::body::HttpBody<Data = bytes::Bytes, Error: Into<axum::BoxError>> + Send + 'static,
{
    let request_id = request_id(request.headers());
    let is_ingest = matches!(request.uri().path(), EVENTS | EVENTS_BULK)
        && matches!(*request.method(), Method::POST | Method::OPTIONS);
    // Framing by chunks hides a Content-Length from us if there was one too: two readers of such a
    // connection could disagree about where the next request starts, so there is no next one.
    let is_chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
    let mut response = match unacceptable(&request) {
        Some(err) => err.into_response(),
        None => {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(Peer(peer));
            if request.uri().path() == mcp::PATH {
                request.extensions_mut().insert(mcp::Routes(router.clone()));
            }
            request.extensions_mut().insert(RequestId(request_id.clone()));
            match AssertUnwindSafe(router.call(request)).catch_unwind().await {
                Ok(Ok(response)) => response,
                Err(_) => {
                    tracing::error!(request_id = ?request_id, "a handler panicked");
                    ApiError::internal().into_response()
                }
            }
        }
    };
    if let Some(err) = response.extensions_mut().remove::<ApiError>() {
        *response.body_mut() = Body::from(err.body(request_id.to_str().unwrap_or_default()));
        // axum has announced the empty body that stood in for it.
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, request_id);
    if is_chunked {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if is_ingest {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        let exposed = HeaderValue::from_static(
            "ratelimit-limit, ratelimit-remaining, ratelimit-reset, retry-after, x-request-id",
        );
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    response
}

/// What is refused before any route is looked for.
fn unacceptable<B>(request: &axum::http::Request<B>) -> Option<ApiError> {
    use Method as M;
    let known = [M::GET, M::HEAD, M::POST, M::PUT, M::PATCH, M::DELETE, M::OPTIONS];
    if !known.contains(request.method()) {
        return Some(method_not_allowed().closing());
    }
    let uri = request.uri();
    // We are no proxy, and do not know our own names: a whole URL is for somebody else.
    if uri.authority().is_some() {
        return Some(ApiError::bad_request("the request target must be a path").closing());
    }
    if uri.path_and_query().is_some_and(|target| target.as_str().len() > TARGET_BYTES_MAX) {
        let message = "the request target is longer than 8192 bytes";
        return Some(ApiError::new(StatusCode::URI_TOO_LONG, message).closing());
    }
    // hyper asks only that chunked is the last: what lies under it would be taken for the body.
    let mut codings = request.headers().get_all(header::TRANSFER_ENCODING).iter();
    if codings.next().is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
        || codings.next().is_some()
    {
        return Some(ApiError::bad_request("the transfer coding must be chunked and no other").closing());
    }
    None
}

/// The caller's `X-Request-Id` if it is plain and short, else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
    let sane = |value: &&HeaderValue| {
        (1..=REQUEST_ID_BYTES_MAX).contains(&value.len()) && value.as_bytes().iter().all(plain)
    };
    headers.get(REQUEST_ID).filter(sane).cloned().unwrap_or_else(|| {
        let mut text = [0; uuid::fmt::Simple::LENGTH];
        let text = Uuid::new_v4().simple().encode_lower(&mut text);
        HeaderValue::from_str(text).expect("hex digits are a header value")
    })
}

/// Lets a browser send events from any page, without cookies.
async fn preflight() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(header::ALLOW, HeaderValue::from_static("POST, OPTIONS"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
    let allowed = HeaderValue::from_static(
        "content-type, accept, x-meshes-publishable-key, x-meshes-client, idempotency-key, x-request-id",
    );
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    response
}

/// The ids in a path, in its order. One that is no UUID names nothing: 404.
pub struct Ids<const N: usize>(pub [Uuid; N]);

impl<S: Send + Sync, const N: usize> FromRequestParts<S> for Ids<N> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &S) -> Result<Self, ApiError> {
        let found = RawPathParams::from_request_parts(parts, app).await;
        let found = found.map_err(|_| ApiError::not_found("route"))?;
        let mut ids = [Uuid::nil(); N];
        let mut params = found.iter();
        for id in &mut ids {
            let (name, text) = params.next().ok_or_else(|| ApiError::not_found("route"))?;
            *id = form::uuid(text).ok_or_else(|| ApiError::not_found(name))?;
        }
        Ok(Self(ids))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The engine answers in tests/e2e; here is what must be right before it is asked.

    fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> axum::http::Request<Body> {
        let mut request = axum::http::Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::empty()).expect("a request")
    }

    #[test]
    fn odd_requests_are_refused_before_routing() {
        let long = format!("/api/v1/events?{}", "x".repeat(TARGET_BYTES_MAX));
        #[rustfmt::skip]
        let cases = [
            ("a plain one",        "GET",     "/healthz",              None),
            ("at the limit",       "GET",     &long[..TARGET_BYTES_MAX], None),
            ("too long",           "GET",     &long,                   Some(414)),
            ("an unknown method",  "BREW",    "/healthz",              Some(405)),
            ("TRACE",              "TRACE",   "/healthz",              Some(405)),
            ("CONNECT",            "CONNECT", "example.com:443",       Some(405)),
            ("for another host",   "GET",     "http://example.com/healthz", Some(400)),
        ];
        for (why, method, target, expected) in cases {
            let status = unacceptable(&request(method, target, &[])).map(|err| err.status.as_u16());
            assert_eq!(status, expected, "{why}");
        }
        for (coding, accepted) in [
            ("chunked", true),
            ("Chunked", true),
            ("gzip, chunked", false),
            ("chunked, chunked", false),
            ("identity", false),
        ] {
            let request = request("POST", "/api/v1/events", &[("transfer-encoding", coding)]);
            assert_eq!(unacceptable(&request).is_none(), accepted, "{coding}");
        }
    }

    #[test]
    fn a_sane_request_id_is_kept_and_others_replaced() {
        let long = "x".repeat(REQUEST_ID_BYTES_MAX + 1);
        for (sent, kept) in
            [("req-1.a:b_c", true), ("", false), ("a b", false), ("<x>", false), (&long, false)]
        {
            let request = request("GET", "/", &[("x-request-id", sent)]);
            let id = request_id(request.headers());
            assert_eq!(id == sent, kept, "{sent}");
            assert!(!id.is_empty());
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn errors_become_json_with_the_request_id_and_panics_are_one_500() {
        async fn broken() -> Response {
            panic!("on purpose")
        }
        let router = Router::new()
            .route("/broken", get(broken))
            .route(
                EVENTS,
                post(async || ApiError::unauthorized())
                    .options(preflight)
                    .get(async || ApiError::unauthorized()),
            )
            .fallback(async || ApiError::not_found("route"))
            .method_not_allowed_fallback(async || method_not_allowed());
        #[rustfmt::skip]
        let cases = [
            // why             method     path                  status  allow                CORS
            ("unknown route",  "GET",     "/nowhere",           404,    None,                false),
            ("its slash",      "GET",     "/broken/",           404,    None,                false),
            ("dots",           "GET",     "/x/../broken",       404,    None,                false),
            ("wrong method",   "DELETE",  "/broken",            405,    Some("GET,HEAD"),    false),
            ("panic",          "GET",     "/broken",            500,    None,                false),
            ("ingest",         "POST",    EVENTS,               401,    None,                true),
            ("history",        "GET",     EVENTS,               401,    None,                false),
            ("ingest, wrong",  "PUT",     EVENTS,               405,    Some("POST,OPTIONS,GET,HEAD"), false),
            ("no preflight",   "OPTIONS", "/broken",            405,    Some("GET,HEAD"),    false),
        ];
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        for (why, method, path, status, allow, cors) in cases {
            let request = request(method, path, &[("x-request-id", "r1"), ("origin", "https://a.example")]);
            let response = answer(router.clone(), request, peer).await;
            assert_eq!(response.status().as_u16(), status, "{why}");
            let header = |name: &str| {
                response.headers().get(name).map(|value| value.to_str().expect("text").to_owned())
            };
            assert_eq!(header("allow").as_deref(), allow, "{why}");
            assert_eq!(header("access-control-allow-origin").is_some(), cors, "{why}");
            assert_eq!(header("access-control-allow-credentials"), None, "{why}");
            assert_eq!(header("x-request-id").as_deref(), Some("r1"), "{why}");
            assert_eq!(header("content-type").as_deref(), Some("application/json"), "{why}");
            assert_eq!(header("content-length"), None, "{why}: left to the listener");
            let body = axum::body::to_bytes(response.into_body(), 10_000).await.expect("a body");
            let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            assert!(body["message"].is_string() && body["request_id"] == "r1", "{why}: {body}");
        }
    }

    #[tokio::test]
    async fn what_is_no_id_names_nothing() {
        const ONE: &str = "018f3c5e-7b1a-7c3e-9d2b-0a1b2c3d4e5f";
        const TWO: &str = "018f3c5e-7b1a-7c3e-9d2b-0a1b2c3d4e60";
        async fn show(Ids([event, rule]): Ids<2>) -> String {
            format!("{event} {rule}")
        }
        let inner = Router::new().route("/{event}/rules/{rule}", get(show));
        let router = Router::new().nest("/events", inner).fallback(async || ApiError::not_found("route"));
        #[rustfmt::skip]
        let cases = [
            ("two ids",          format!("/events/{ONE}/rules/{TWO}"),       200, format!("{ONE} {TWO}")),
            ("in upper case",    format!("/events/{}/rules/{TWO}", ONE.to_uppercase()), 200, format!("{ONE} {TWO}")),
            ("a word",           format!("/events/{ONE}/rules/mine"),        404, "rule not found".to_owned()),
            ("dots",             format!("/events/%2e%2e/rules/{TWO}"),      404, "event not found".to_owned()),
            ("a hidden slash",   format!("/events/{ONE}%2f/rules/{TWO}"),    404, "event not found".to_owned()),
            ("NUL",              format!("/events/{ONE}%00/rules/{TWO}"),    404, "event not found".to_owned()),
            ("not UTF-8",        format!("/events/%ff%fe/rules/{TWO}"),      404, "not found".to_owned()),
            ("nothing",          format!("/events//rules/{TWO}"),            404, "event not found".to_owned()),
        ];
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        for (why, path, status, expected) in cases {
            let response = answer(router.clone(), request("GET", &path, &[]), peer).await;
            assert_eq!(response.status().as_u16(), status, "{why}");
            let body = axum::body::to_bytes(response.into_body(), 10_000).await.expect("a body");
            let body = String::from_utf8(body.to_vec()).expect("text");
            assert!(body.contains(&expected), "{why}: {body}");
        }
    }

    #[tokio::test]
    async fn a_browser_may_send_events_from_anywhere() {
        let router = Router::new().route(EVENTS, post(async || ()).options(preflight));
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let response =
            answer(router, request("OPTIONS", EVENTS, &[("origin", "https://a.example")]), peer).await;
        assert_eq!(response.status(), 204);
        let header = |name: &str| response.headers()[name].to_str().expect("text").to_owned();
        assert_eq!(header("access-control-allow-origin"), "*");
        assert_eq!(header("access-control-allow-methods"), "POST");
        for name in [
            "content-type",
            "accept",
            "x-meshes-publishable-key",
            "x-meshes-client",
            "idempotency-key",
            "x-request-id",
        ] {
            assert!(
                header("access-control-allow-headers").split(", ").any(|allowed| allowed == name),
                "{name}"
            );
        }
    }

    #[tokio::test]
    async fn a_chunked_request_is_its_connections_last() {
        let router = Router::new().route("/", get(async || "ok"));
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let chunked = request("GET", "/", &[("transfer-encoding", "chunked")]);
        let response = answer(router.clone(), chunked, peer).await;
        assert_eq!(response.headers().get("connection").map(HeaderValue::as_bytes), Some(&b"close"[..]));
        let response = answer(router, request("GET", "/", &[]), peer).await;
        assert_eq!(response.headers().get("connection"), None);
    }
}
