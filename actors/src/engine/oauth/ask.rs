//! Asks a vendor's token endpoint, and reads what it answers.
//!
//! All are asked with a form and answer JSON. Refusals are RFC 6749's where the vendor keeps to it; others say
//! no with 200, or in words of their own. What matters is told apart here: is the consent over, is it our own
//! registration that is refused, or may it work later.

use super::{Shared, app_keys};
use crate::{
    destinations::{
        service::text_at,
        setup::App,
        spec::{ClientAuth, Consent, Spec},
    },
    domain::{connection::InactiveReason, secret::Secret},
    transport::{Keep, Request, USER_AGENT, redact::Redactor},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use reqwest::{
    Method, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT as USER_AGENT_NAME},
};
use serde_json::{Map, Value};
use std::time::Duration;
use url::form_urlencoded::{Serializer, byte_serialize};

/// How long a token endpoint may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest of a vendor's own words that goes into a message, in characters.
pub(super) const WORDS_MAX: usize = 300;
/// The longest token that is taken, in bytes.
const TOKEN_BYTES_MAX: usize = 8_192;

/// What a token endpoint gave.
pub(super) struct Given {
    pub access: Secret,
    pub refresh: Option<Secret>,
    pub life_s: Option<u64>,
    pub scopes: Vec<String>,
    /// All of it.
    pub answer: Value,
}

/// Why it gave nothing. The texts are for people, and hold none of our secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// What was shown is worth nothing any more: a new consent is needed.
    Over(InactiveReason, String),
    /// It does not know the operator's app, or not with this secret.
    App(String),
    /// It does not take the request, and would not another time.
    No(String),
    /// It could not be asked, or is unwell.
    Later(String),
}

impl Refused {
    pub(super) fn words(&self) -> &str {
        match self {
            Self::Over(_, words) | Self::App(words) | Self::No(words) | Self::Later(words) => words,
        }
    }
}

/// Asks for tokens with these fields, where these settings have it. `secrets` of them are in no message.
pub(super) async fn ask(
    shared: &Shared,
    spec: &Spec,
    consent: &Consent,
    settings: &Map<String, Value>,
    app: &App,
    fields: &[(&str, &str)],
    secrets: &[&str],
) -> Result<Given, Refused> {
    let url = Url::parse(&shared.operator.at(&consent.at(consent.token, settings)))
        .map_err(|err| Refused::No(format!("{}'s token endpoint is not usable: {err}", spec.name)))?;
    let (headers, body) = form(consent, app, fields);
    let request =
        Request { method: Method::POST, url: &url, headers, body, timeout: ASK_TIMEOUT, keep: Keep::Every };
    let answer = shared.http.send(request).await.map_err(|err| {
        Refused::Later(format!("{} could not be asked for a token: {err}; it may work later", spec.name))
    })?;
    let json =
        if answer.truncated { Value::Null } else { serde_json::from_slice(&answer.body).unwrap_or_default() };
    let redactor = Redactor::new(secrets.iter().copied().chain([app.client_secret.expose()]));
    read(spec, answer.status.as_u16(), json, &redactor)
}

/// The fields as the vendor wants them, with what says who asks.
fn form(consent: &Consent, app: &App, fields: &[(&str, &str)]) -> (HeaderMap, Bytes) {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT_NAME, HeaderValue::from_static(USER_AGENT));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    let (client_id, client_secret) = (app.client_id.as_str(), app.client_secret.expose());
    let mut form = Serializer::new(String::new());
    form.extend_pairs(fields);
    match consent.client {
        ClientAuth::Basic => {
            // Each encoded as in a form before they are joined: RFC 6749, section 2.3.1.
            let part = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
            let pair = STANDARD.encode(format!("{}:{}", part(client_id), part(client_secret)));
            let value = HeaderValue::from_str(&format!("Basic {pair}"));
            let mut value = value.expect("base64 is a header value");
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        ClientAuth::Form => {
            form.extend_pairs([("client_id", client_id), ("client_secret", client_secret)]);
        }
    }
    (headers, form.finish().into())
}

/// Words of who does not know our app.
const APP_WORDS: [&str; 5] =
    ["invalid_client", "invalid client", "unauthorized_client", "bad_client", "client_id"];
/// Words of who does not take a code or a refresh token (any more).
const OVER_WORDS: [&str; 12] = [
    "invalid_grant",
    "invalid grant",
    "invalid_refresh_token",
    "bad_refresh_token",
    "invalid refresh token",
    "invalid_code",
    "code_already_used",
    "token_expired",
    "token_revoked",
    "account_inactive",
    "inactive_user",
    "invalid token",
];
/// Those of them that say that somebody took the consent back.
const REVOKED_WORDS: [&str; 4] = ["revoked", "uninstalled", "account_inactive", "deauthorized"];

fn read(spec: &Spec, status: u16, answer: Value, redactor: &Redactor) -> Result<Given, Refused> {
    let says_no = answer.get("ok") == Some(&Value::Bool(false))
        || answer.get("error").is_some_and(|error| !matches!(error, Value::Null | Value::Bool(false)));
    let is_success = (200..300).contains(&status);
    let token = |key: &str| text_at(&answer, key).filter(|text| !text.is_empty());
    if is_success
        && !says_no
        && let Some(access) = token("/access_token").or_else(|| token("/token"))
    {
        let refresh = token("/refresh_token");
        for text in [Some(&access), refresh.as_ref()].into_iter().flatten() {
            if text.len() > TOKEN_BYTES_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(Refused::Later(format!("{} gave a token that cannot be used", spec.name)));
            }
        }
        let (life_s, scopes) = (life_s(&answer), scopes(&answer));
        let (access, refresh) = (Secret::new(access), refresh.map(Secret::new));
        return Ok(Given { access, refresh, life_s, scopes, answer });
    }
    let words = redactor.scrub(words(&answer));
    let said = if words.is_empty() { String::new() } else { format!(": {words}") };
    let message = format!("{} answered {status} when it was asked for a token{said}", spec.name);
    let lower = words.to_ascii_lowercase();
    let says = |known: &[&str]| known.iter().any(|known| lower.contains(known));
    Err(match () {
        () if status == 429 || !(is_success || (400..500).contains(&status)) => Refused::Later(message),
        // Salesforce, of two that ask with one token at a time.
        () if lower.contains("already being processed") => Refused::Later(message),
        () if is_success && !says_no => Refused::Later(message),
        () if says(&APP_WORDS) => Refused::App(format!("{message}; check {}", app_keys(spec.kind))),
        () if says(&OVER_WORDS) => {
            let reason = match says(&REVOKED_WORDS) {
                true => InactiveReason::OauthAuthorizationRevoked,
                false => InactiveReason::OauthReauthorizationRequired,
            };
            Refused::Over(reason, message)
        }
        () => Refused::No(message),
    })
}

/// The vendor's own code and sentence, in one line.
fn words(answer: &Value) -> String {
    let first = |places: &[&str]| {
        places.iter().find_map(|place| text_at(answer, place).filter(|text| !text.is_empty()))
    };
    let code = first(&["/error", "/error/code", "/error/type", "/status", "/code"]);
    let sentence = first(&["/error_description", "/message", "/error/message", "/reason", "/detail"]);
    plain(&match (code, sentence) {
        (Some(code), Some(sentence)) if code != sentence => format!("{code}: {sentence}"),
        (Some(one), _) | (None, Some(one)) => one,
        (None, None) => String::new(),
    })
}

/// A vendor's words in one line, cut to size.
pub(super) fn plain(words: &str) -> String {
    words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WORDS_MAX).collect()
}

fn life_s(answer: &Value) -> Option<u64> {
    let found = answer.get("expires_in")?;
    let number = found.as_f64().or_else(|| found.as_str()?.trim().parse().ok())?;
    (number >= 1.0).then_some(number as u64)
}

fn scopes(answer: &Value) -> Vec<String> {
    let found = ["scope", "scopes"].into_iter().find_map(|key| answer.get(key).filter(|it| !it.is_null()));
    match found {
        Some(Value::String(text)) => {
            text.split([' ', ',']).filter(|scope| !scope.is_empty()).map(str::to_owned).collect()
        }
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destinations::spec::{Auth, Spec};
    use serde_json::json;

    static SPEC: Spec =
        Spec { kind: "acme", name: "Acme", auth: Auth::OAuth(2), fields: &[], actions: &[], consent: None };

    fn refused(status: u16, answer: Value) -> Refused {
        let redactor = Redactor::new(["hunter2hunter2"]);
        read(&SPEC, status, answer, &redactor).map(drop).expect_err("it gave nothing")
    }

    #[test]
    fn what_a_refusal_means_is_told_apart_however_it_is_worded() {
        use InactiveReason::{OauthAuthorizationRevoked as Revoked, OauthReauthorizationRequired as Again};
        #[rustfmt::skip]
        let cases = [
            // who                        status  answer                                                                        means
            ("RFC 6749",                  400,    json!({ "error": "invalid_grant" }),                                          Some(Again)),
            ("HubSpot",                   400,    json!({ "status": "BAD_REFRESH_TOKEN", "message": "missing or unknown" }),    Some(Again)),
            ("Pipedrive",                 400,    json!({ "message": "Invalid grant: refresh_token is invalid" }),              Some(Again)),
            ("Zoom",                      400,    json!({ "error": "invalid_request", "reason": "Invalid Token!" }),            Some(Again)),
            ("Slack, with 200",           200,    json!({ "ok": false, "error": "invalid_refresh_token" }),                     Some(Again)),
            ("Slack, revoked",            200,    json!({ "ok": false, "error": "token_revoked" }),                             Some(Revoked)),
            ("Mailchimp, with 200",       200,    json!({ "error": "invalid_grant", "error_description": "was revoked" }),      Some(Revoked)),
            ("Salesforce, asked twice",   400,    json!({ "error": "invalid_grant", "error_description": "token request is already being processed" }), None),
            ("unwell",                    503,    json!({ "error": "invalid_grant" }),                                          None),
            ("too fast",                  429,    json!({ "error": "invalid_grant" }),                                          None),
            ("nothing at all",            200,    Value::Null,                                                                  None),
            ("a redirect",                302,    Value::Null,                                                                  None),
        ];
        for (who, status, answer, expected) in cases {
            let found = match refused(status, answer) {
                Refused::Over(reason, _) => Some(reason),
                Refused::Later(_) => None,
                other => panic!("{who}: {other:?}"),
            };
            assert_eq!(found, expected, "{who}");
        }
        let app = refused(401, json!({ "error": "invalid_client" }));
        assert!(matches!(&app, Refused::App(words) if words.contains("oauth.acme.client_secret")), "{app:?}");
        let other = refused(400, json!({ "error": { "code": "E7", "message": "no\nhunter2hunter2" } }));
        let expected = "Acme answered 400 when it was asked for a token: E7: no [redacted]";
        assert_eq!(other, Refused::No(expected.to_owned()));
    }

    #[test]
    fn what_it_gives_is_read_however_it_is_spelled() {
        let given = |answer: Value| read(&SPEC, 200, answer, &Redactor::default()).ok();
        #[rustfmt::skip]
        let cases = [
            (json!({ "access_token": "a", "refresh_token": "r", "expires_in": 3599, "scope": "x y" }), Some(("a", Some("r"), Some(3_599), 2))),
            (json!({ "access_token": "a", "expires_in": "7200", "scope": "x,y,z" }),                   Some(("a", None, Some(7_200), 3))),
            (json!({ "token": "a", "token_type": "Bearer" }),                                          Some(("a", None, None, 0))),
            (json!({ "access_token": "a", "expires_in": 0, "scope": null, "scopes": ["x"] }),          Some(("a", None, None, 1))),
            (json!({ "access_token": "a", "expires_in": -5, "error": null, "ok": true }),              Some(("a", None, None, 0))),
            (json!({ "access_token": "" }),                                                            None),
            (json!({ "access_token": "a\r\nb" }),                                                      None),
            (json!({ "access_token": "a", "refresh_token": "x".repeat(9_000) }),                       None),
            (json!({ "access_token": "a", "ok": false }),                                              None),
        ];
        for (answer, expected) in cases {
            let why = answer.to_string();
            let found = given(answer);
            let found = found.as_ref().map(|given| {
                let refresh = given.refresh.as_ref().map(Secret::expose);
                (given.access.expose(), refresh, given.life_s, given.scopes.len())
            });
            assert_eq!(found, expected, "{why}");
        }
    }
}
