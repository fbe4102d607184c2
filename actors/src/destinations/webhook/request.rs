//! One webhook request: what is the same each time is made once, the rest per attempt.

use super::{
    Outgoing, SettingsError,
    settings::{Auth, Settings, Signing},
    signing::{Signer, standard_key},
};
use crate::transport::{
    USER_AGENT,
    redact::{Redactor, is_secret_header},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use reqwest::{
    Method, Url,
    header::{
        AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT as USER_AGENT_HEADER,
    },
};
use serde_json::{Map, Value};
use std::io::Write as _;

/// Parts of a URL from this length on may be tokens, and are not shown in what an endpoint echoes;
/// those without a digit are taken for words up to the second length.
const TOKEN_BYTES_MIN: usize = 12;
const WORD_BYTES_MAX: usize = 24;

/// Values of added headers from this length on are taken for credentials, whatever the header is
/// called. Shorter ones, such as `1` or `eu`, are in every text.
const HEADER_SECRET_BYTES_MIN: usize = 4;

/// What the envelope around a payload takes at most, beside the event's own texts.
const ENVELOPE_BYTES: usize = 192;

/// A webhook connection, ready to deliver. No `Debug`: it holds secrets.
pub struct Endpoint {
    pub url: Url,
    pub method: Method,
    pub redactor: Redactor,
    raw: bool,
    /// The headers of every request.
    headers: HeaderMap,
    signer: Signer,
}

/// An event's texts cannot be put into a request; reachable by no event that was accepted.
#[derive(Debug, thiserror::Error)]
#[error("the request could not be built")]
pub struct BuildError;

impl Endpoint {
    /// Reads stored settings. The address is judged at each send, not here.
    pub fn new(map: &Map<String, Value>) -> Result<Self, SettingsError> {
        let (settings, errors) = Settings::read(map);
        if let Some(err) = errors.into_iter().next() {
            return Err(SettingsError { param: err.param, msg: err.msg });
        }
        let bad = |param: &str, msg: &str| SettingsError { param: param.to_owned(), msg: msg.to_owned() };
        let url = Url::parse(&settings.url).map_err(|_| bad("url", "is not a URL"))?;
        let secrets = secrets(&settings, &url);
        let redactor = Redactor::new(secrets.iter().map(String::as_str));
        let mut headers = HeaderMap::with_capacity(16);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT_HEADER, HeaderValue::from_static(USER_AGENT));
        for (name, value) in settings.headers {
            headers.insert(name, value);
        }
        let credentials = match settings.auth {
            Auth::None => None,
            Auth::Basic { username, password } => {
                Some((AUTHORIZATION, format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))))
            }
            Auth::Bearer(token) => Some((AUTHORIZATION, format!("Bearer {token}"))),
            Auth::Header(name, value) => Some((name, value)),
        };
        if let Some((name, text)) = credentials {
            let mut value = HeaderValue::try_from(text)
                .map_err(|_| bad("auth_scheme", "has credentials no header can carry"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let signer = match settings.signing {
            Signing::None => Signer::None,
            Signing::Hmac { algorithm, secret, header } => Signer::hmac(algorithm, &secret, header),
            Signing::Standard(secrets) => {
                let keys: Vec<_> = secrets.iter().filter_map(|secret| standard_key(secret)).collect();
                Signer::standard(keys.iter().map(Vec::as_slice))
            }
        };
        let (method, raw) = (settings.method, settings.raw);
        Ok(Self { url, method, redactor, raw, headers, signer })
    }

    /// Headers and body of one attempt.
    pub fn message(&self, out: &Outgoing<'_>) -> Result<(HeaderMap, Bytes), BuildError> {
        let mut headers = self.headers.clone();
        let id = HeaderValue::try_from(out.delivery_id.to_string()).map_err(|_| BuildError)?;
        headers.insert("x-weft-attempt", HeaderValue::from(out.attempt));
        let body = if self.raw {
            add_raw_headers(&mut headers, out)?;
            out.payload.clone()
        } else {
            wrapped(out)?
        };
        self.signer.sign(&mut headers, &id, out.sent_at.0.div_euclid(1_000), &body);
        headers.insert("x-weft-delivery-id", id);
        Ok((headers, body))
    }
}

/// The envelope, written around the payload's own bytes.
fn wrapped(out: &Outgoing<'_>) -> Result<Bytes, BuildError> {
    let event = out.event;
    let texts = event.name.len() + event.resource.len() + event.resource_id.as_ref().map_or(0, String::len);
    let mut body = Vec::with_capacity(out.payload.len() + ENVELOPE_BYTES + texts);
    write_envelope(&mut body, out).map_err(|_| BuildError)?;
    Ok(Bytes::from(body))
}

fn write_envelope(body: &mut Vec<u8>, out: &Outgoing<'_>) -> std::io::Result<()> {
    let event = out.event;
    write!(body, r#"{{"uuid":"{}","event":"#, event.id)?;
    serde_json::to_writer(&mut *body, &event.name)?;
    body.extend_from_slice(br#","resource":"#);
    serde_json::to_writer(&mut *body, &event.resource)?;
    body.extend_from_slice(br#","resource_id":"#);
    serde_json::to_writer(&mut *body, &event.resource_id)?;
    body.extend_from_slice(br#","payload":"#);
    body.extend_from_slice(out.payload);
    write!(body, r#","time_created":{},"time_sent":{}}}"#, event.accepted_at.0, out.sent_at.0)
}

fn add_raw_headers(headers: &mut HeaderMap, out: &Outgoing<'_>) -> Result<(), BuildError> {
    let event = out.event;
    let texts = [
        ("x-meshes-event-id", Some(event.id.to_string())),
        ("x-meshes-event", Some(header_text(&event.name))),
        ("x-meshes-resource", Some(header_text(&event.resource))),
        ("x-meshes-resource-id", event.resource_id.as_deref().map(header_text)),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            let value = HeaderValue::try_from(text).map_err(|_| BuildError)?;
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers.insert("x-meshes-time-created", HeaderValue::from(event.accepted_at.0));
    headers.insert("x-meshes-time-sent", HeaderValue::from(out.sent_at.0));
    Ok(())
}

/// The text as a header can carry it: what is not printable ASCII is percent-encoded, blanks at
/// the ends (receivers trim them) and `%` too, so that decoding gives the text back.
pub fn header_text(text: &str) -> String {
    let last = text.len().saturating_sub(1);
    let mut carried = String::with_capacity(text.len());
    for (index, byte) in text.bytes().enumerate() {
        let is_blank_inside = byte == b' ' && index != 0 && index != last;
        if is_blank_inside || (byte.is_ascii_graphic() && byte != b'%') {
            carried.push(char::from(byte));
        } else {
            carried.push_str(&format!("%{byte:02X}"));
        }
    }
    carried
}

/// All that an endpoint could echo and no one should read in a history. What is not in use now is
/// among it: an endpoint may remember what it was sent before.
fn secrets(settings: &Settings, url: &Url) -> Vec<String> {
    let kept = |key: &str| settings.kept.get(key).and_then(Value::as_str).map(str::to_owned);
    let mut secrets: Vec<String> = ["password", "bearer_token", "auth_header_value", "hmac_secret"]
        .into_iter()
        .filter_map(kept)
        .collect();
    match (kept("username"), kept("password")) {
        (Some(username), Some(password)) => {
            let pair = format!("{username}:{password}");
            secrets.extend([STANDARD.encode(&pair), pair]);
        }
        (Some(username), None) => secrets.push(username),
        (None, _) => {}
    }
    for signing in settings.kept.get("standard_secrets").and_then(Value::as_array).into_iter().flatten() {
        if let Some(secret) = signing.as_str() {
            secrets.extend([secret, secret.trim_start_matches("whsec_")].map(str::to_owned));
        }
    }
    let is_secret = |name: &HeaderName, value: &str| {
        value.len() >= HEADER_SECRET_BYTES_MIN || is_secret_header(name.as_str())
    };
    for (name, value) in &settings.headers {
        let value = value.to_str().unwrap_or_default();
        secrets.extend(is_secret(name, value).then(|| value.to_owned()));
    }
    let path_parts = url.path().split('/');
    let query_parts = url.query().into_iter().flat_map(|query| query.split(['&', '=']));
    secrets.extend(path_parts.chain(query_parts).filter(|part| is_token_like(part)).map(str::to_owned));
    secrets
}

fn is_token_like(part: &str) -> bool {
    let has_digit = part.bytes().any(|b| b.is_ascii_digit());
    part.len() > WORD_BYTES_MAX || (part.len() >= TOKEN_BYTES_MIN && has_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_url_that_may_be_tokens_are_taken_for_secrets() {
        #[rustfmt::skip]
        let cases = [
            ("hook", false), ("notifications", false), ("v2", false), ("B0123456789", false),
            ("T0123456789A", true), ("abcdefghijklmnopqrstuvwxyz", true), ("019d0b5c-1111-7000-8000-000000000001", true),
        ];
        for (part, expected) in cases {
            assert_eq!(is_token_like(part), expected, "{part}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_text_becomes_a_header_that_gives_it_back(text in "(\\PC|[\\x00-\\x20%])*") {
            let value = HeaderValue::try_from(header_text(&text)).expect("a header value");
            let carried = value.to_str().expect("ASCII");
            proptest::prop_assert_eq!(carried.trim(), carried);
            // A form decoder also turns + into a blank, so that is taken out of its reach.
            let form = format!("x={}", carried.replace('+', "%2B").replace('&', "%26"));
            let decoded = url::form_urlencoded::parse(form.as_bytes()).next().expect("a pair").1.into_owned();
            proptest::prop_assert_eq!(decoded, text);
        }
    }
}
