//! What a delivery would send, told without sending anything.

use crate::transport::redact::{REDACTED, Redactor, is_secret_header};
use reqwest::{Method, Url, header::HeaderMap};
use serde_json::{Map, Value};

/// What one delivery would send, as far as that is known before anything is answered.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The account's fields, as the mapping fills them. `None`: nothing is mapped here.
    pub fields: Option<Map<String, Value>>,
    /// What the mapping left out, and why.
    pub warnings: Vec<String>,
    pub request: PlannedRequest,
    /// Whether that request is all. Otherwise others may follow, by what is answered.
    pub is_whole: bool,
}

/// A request without its secrets: [`REDACTED`] stands for them.
#[derive(Clone, Debug)]
pub struct PlannedRequest {
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl PlannedRequest {
    /// A header that is marked as sensitive is not shown, whatever it is called.
    pub fn new(method: &Method, url: &Url, headers: &HeaderMap, body: &[u8], redactor: &Redactor) -> Self {
        let shown = |text: &[u8]| redactor.scrub(String::from_utf8_lossy(text).into_owned());
        let header = |(name, value): (&reqwest::header::HeaderName, &reqwest::header::HeaderValue)| {
            let is_secret = value.is_sensitive() || is_secret_header(name.as_str());
            let value = if is_secret { REDACTED.to_owned() } else { shown(value.as_bytes()) };
            (name.as_str().to_owned(), value)
        };
        Self {
            method: method.to_string(),
            url: redactor.scrub(url.to_string()),
            headers: headers.iter().map(header).collect(),
            body: shown(body),
        }
    }
}
