//! Accounts that are connected in a browser: the ticket, the way to the vendor, and the page one comes back to.
//!
//! The two pages are for a window of their own, never for a frame. Who opens them is known by the ticket, and
//! who comes back by state and cookie; nothing else that the address says is believed, and nothing of it
//! is shown before both are right.

use super::{
    App, connections,
    error::ApiError,
    form::{self, Fields},
    json::{Json, respond},
};
use crate::auth::{Caller, Who};
use actors::{
    domain::{ids::WorkspaceId, timestamp::Timestamp},
    engine::{ConsentBack, ConsentEnd, ConsentFor, NewConsent, Scope, Starter, consent_cookie},
};
use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::Response,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::{borrow::Cow, fmt::Write as _};

/// A longer value in an address is not looked at, in bytes.
const VALUE_BYTES_MAX: usize = 4_096;

/// A new connection, of which `workspace`, `type` and `name` are told, or one that is there.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "NewConsent")]
#[schemars(extend("examples" = [{ "workspace": "018f3c5e-7b1a-7c3e-9d2b-0a1b2c3d4e5f", "type": "hubspot", "name": "Their HubSpot" }]))]
pub(super) struct Form {
    #[schemars(with = "Option<uuid::Uuid>")]
    workspace: Option<String>,
    /// What it connects to, such as `hubspot`; see `GET /integrations`.
    #[serde(rename = "type")]
    kind: Option<String>,
    #[schemars(length(min = 1, max = 128), regex(pattern = form::CONNECTION_NAME_PATTERN))]
    name: Option<String>,
    /// What the consent goes by, where the service has such a setting: of `salesforce`, its `login_url`.
    metadata: Option<Map<String, Value>>,
    /// One that is there, to be connected again.
    #[schemars(with = "Option<uuid::Uuid>")]
    connection: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ConsentTicket")]
pub(super) struct Ticket {
    /// To be opened in a window of its own, by whoever the account belongs to.
    url: String,
    expires_at: Timestamp,
}

/// Makes the address that a browser opens to connect an account. It is good once and for ten minutes.
pub(super) async fn begin(
    State(app): State<App>,
    caller: Caller,
    Json(form): Json<Form>,
) -> Result<Response, ApiError> {
    let (scope, of) = match &form.connection {
        Some(text) => {
            let mut fields = Fields::default();
            for (param, is_there) in [
                ("workspace", form.workspace.is_some()),
                ("type", form.kind.is_some()),
                ("name", form.name.is_some()),
            ] {
                fields.require(param, !is_there, "must be left out where a connection is connected again");
            }
            fields.check()?;
            let id = form::uuid_field("connection", text)?;
            let (scope, id) = connections::place(&app, &caller, id).await?;
            (scope, ConsentFor::Again(id))
        }
        None => new_connection(&app, &caller, &form).await?,
    };
    let by = match &caller.who {
        Who::Machine(machine) => Starter::Machine(machine.access_key.clone()),
        Who::Session(session) => Starter::Session(session.id),
        Who::User(user) => Starter::User(user.id),
    };
    let settings = form.metadata.unwrap_or_default();
    let new = NewConsent { of, settings, by, created_by: caller.name() };
    let (ticket, expires_at) = caller.engine(&app).begin_consent(scope, new).await?;
    let url = format!("{}/oauth/start?ticket={}", public_url(&app), ticket.expose());
    Ok(respond(StatusCode::CREATED, &Ticket { url, expires_at }))
}

async fn new_connection(app: &App, caller: &Caller, form: &Form) -> Result<(Scope, ConsentFor), ApiError> {
    const REQUIRED: &str = "is required";
    let name = form.name.as_deref();
    Fields::default()
        .require("workspace", form.workspace.is_some(), REQUIRED)
        .require("type", form.kind.is_some(), REQUIRED)
        .require("name", name.is_some(), REQUIRED)
        .require("name", name.is_none_or(form::is_connection_name), form::CONNECTION_NAME)
        .check()?;
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    let workspace_id = WorkspaceId::from_uuid(form::uuid_field("workspace", &text(&form.workspace))?);
    let scope = caller.workspace(app, workspace_id).await?;
    Ok((scope, ConsentFor::New { workspace_id, kind: text(&form.kind), name: text(&form.name) }))
}

fn public_url(app: &App) -> &str {
    app.public_url.get().map_or("", String::as_str)
}

/// Sends a browser to the vendor's page.
pub(super) async fn start(State(app): State<App>, uri: Uri) -> Response {
    let opened = value(&uri, "ticket").and_then(|ticket| app.engine.open_consent(&ticket, public_url(&app)));
    let Some(opened) = opened else { return page(&EXPIRED) };
    let (name, value, life) = (&opened.cookie_name, opened.cookie.expose(), opened.cookie_life.as_secs());
    let mut response = empty(StatusCode::FOUND);
    let headers = response.headers_mut();
    match HeaderValue::from_str(&opened.url) {
        Ok(location) => drop(headers.insert(header::LOCATION, location)),
        Err(_) => return page(&EXPIRED),
    }
    set_cookie(headers, &app, name, value, life);
    response
}

/// A browser comes back from the vendor.
pub(super) async fn callback(State(app): State<App>, uri: Uri, headers: HeaderMap) -> Response {
    let Some(state) = value(&uri, "state") else { return page(&EXPIRED) };
    let cookie_name = consent_cookie(&state);
    let back = ConsentBack {
        cookie: cookie(&headers, &cookie_name),
        state,
        code: value(&uri, "code"),
        error: value(&uri, "error").filter(|error| !error.is_empty()),
        error_description: value(&uri, "error_description"),
    };
    let end = app.engine.end_consent(back).await;
    let mut response = page(&Page::of(&end));
    if !matches!(end, ConsentEnd::Expired | ConsentEnd::OtherBrowser) {
        set_cookie(response.headers_mut(), &app, &cookie_name, "", 0);
    }
    response
}

/// A value in the address; none where it is there twice or too long.
fn value(uri: &Uri, name: &str) -> Option<String> {
    let query = uri.query().unwrap_or_default();
    let mut found = url::form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name);
    let value = found.next()?.1;
    (found.next().is_none() && value.len() <= VALUE_BYTES_MAX).then(|| value.into_owned())
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let texts = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
}

fn set_cookie(headers: &mut HeaderMap, app: &App, name: &str, value: &str, life_s: u64) {
    let secure = if public_url(app).starts_with("https:") { "; Secure" } else { "" };
    let text = format!("{name}={value}; Path=/oauth; Max-Age={life_s}; HttpOnly; SameSite=Lax{secure}");
    let mut text = HeaderValue::from_str(&text).expect("base64url is a header value");
    text.set_sensitive(true);
    headers.append(header::SET_COOKIE, text);
}

/// What a person reads.
struct Page<'p> {
    status: StatusCode,
    title: Cow<'p, str>,
    /// What happened, in our words.
    said: Cow<'p, str>,
    /// The vendor's words.
    words: &'p str,
    next: &'p str,
}

const EXPIRED: Page<'static> = Page {
    status: StatusCode::BAD_REQUEST,
    title: Cow::Borrowed("This link is over"),
    said: Cow::Borrowed(
        "It was used already, is older than ten minutes, or is not complete. Nothing was connected.",
    ),
    words: "",
    next: "Start again from where you came.",
};

impl<'p> Page<'p> {
    fn of(end: &'p ConsentEnd) -> Self {
        match end {
            ConsentEnd::Connected { service, name, is_new } => {
                let what = if *is_new { "is connected" } else { "is connected again" };
                Self {
                    status: StatusCode::OK,
                    title: "Connected".into(),
                    said: format!("{service}: \u{201c}{name}\u{201d} {what}.").into(),
                    words: "",
                    next: "You can close this window.",
                }
            }
            ConsentEnd::Denied { service, words } => Self {
                status: StatusCode::FORBIDDEN,
                title: "Not connected".into(),
                said: format!("{service} was not allowed to let us in. It said:").into(),
                words,
                next: "If that was a mistake, start again from where you came.",
            },
            ConsentEnd::Expired => EXPIRED,
            ConsentEnd::OtherBrowser => Self {
                status: StatusCode::BAD_REQUEST,
                title: "This is another browser".into(),
                said:
                    "It was started in another browser, or this one keeps no cookies. Nothing was connected."
                        .into(),
                words: "",
                next: "Start again, and stay in the window that opens.",
            },
            ConsentEnd::Failed { service, words, next } => Self {
                status: StatusCode::BAD_GATEWAY,
                title: "Not connected".into(),
                said: format!("{service} could not be connected:").into(),
                words,
                next,
            },
        }
    }
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:32rem;margin:15vh auto;padding:0 1rem;\
color-scheme:light dark}h1{font-size:1.4rem}blockquote{margin:1rem 0;padding:.5rem 1rem;border-left:3px solid;overflow-wrap:anywhere}";

fn page(page: &Page<'_>) -> Response {
    let Page { status, title, said, words, next } = page;
    let mut html = String::from("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">");
    let _ = write!(
        html,
        "<meta name=\"viewport\" content=\"width=device-width\"><title>{}</title>",
        escaped(title)
    );
    let _ = write!(
        html,
        "<style>{STYLE}</style></head><body><h1>{}</h1><p>{}</p>",
        escaped(title),
        escaped(said)
    );
    if !words.is_empty() {
        let _ = write!(html, "<blockquote>{}</blockquote>", escaped(words));
    }
    let _ = write!(html, "<p>{}</p></body></html>", escaped(next));
    let mut response = empty(*status);
    *response.body_mut() = Body::from(html);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

/// An answer for a window: kept by nobody, told to nobody, shown in no frame.
fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        STANDARD.encode(Sha256::digest(STYLE.as_bytes()))
    );
    let headers = response.headers_mut();
    let policy = HeaderValue::from_str(&policy).expect("base64 is a header value");
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Marks that turn the direction of writing could make a name read as another.
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_in_is_text_on_the_page() {
        assert_eq!(escaped("<b a='1'>\u{202e}&\"é"), "&lt;b a=&#39;1&#39;&gt;&amp;&quot;é");
    }

    #[test]
    fn a_value_is_there_once_or_not_at_all() {
        let long = format!("/c?state={}", "x".repeat(VALUE_BYTES_MAX + 1));
        #[rustfmt::skip]
        let cases = [
            ("/c?code=1&state=a%2Bb", Some("a+b")),
            ("/c?state=",             Some("")),
            ("/c?state=a&state=b",    None),
            ("/c?State=a",            None),
            ("/c",                    None),
            (&long[..],               None),
        ];
        for (target, expected) in cases {
            let found = value(&target.parse().expect("a target"), "state");
            assert_eq!(found.as_deref(), expected, "{target}");
        }
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=1; weft_consent_x=y=z ;b=2"));
        headers.append(header::COOKIE, HeaderValue::from_static("c=3"));
        let found = ["weft_consent_x", "b", "c", "d"].map(|name| cookie(&headers, name));
        assert_eq!(found.each_ref().map(Option::as_deref), [Some("y=z"), Some("2"), Some("3"), None]);
    }
}
