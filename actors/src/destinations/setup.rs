//! What a connection is made ready with, beside its own settings.

use super::{SettingsError, limits::Limits};
use crate::domain::{connection::InactiveReason, mapping::Schema, secret::Secret};
use async_trait::async_trait;
use serde_json::{Map, Value};
use std::{collections::BTreeMap, sync::Arc};

/// Everything a connection is made ready from.
#[derive(Clone)]
pub struct Setup<'a> {
    pub settings: &'a Map<String, Value>,
    /// How payloads become the account's fields; `None` where nobody saved a mapping and no catalog was
    /// read: then the destination's own standard fields are mapped by their names.
    pub mapping: Option<Schema>,
    /// The tokens a consent gave, where the account was connected in a browser.
    pub tokens: Option<Arc<dyn Tokens>>,
    pub operator: Arc<Operator>,
    pub limits: Limits,
}

impl<'a> Setup<'a> {
    /// Settings alone: for destinations that need no more.
    pub fn of(settings: &'a Map<String, Value>) -> Self {
        let (operator, limits) = (Arc::default(), Limits::default());
        Self { settings, mapping: None, tokens: None, operator, limits }
    }

    /// A setting that is a text, and not empty.
    pub fn text(&self, key: &str) -> Option<&'a str> {
        self.settings.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// A setting that nothing works without.
    pub fn required(&self, key: &str) -> Result<&'a str, SettingsError> {
        let missing = || SettingsError { param: key.to_owned(), msg: "is missing".to_owned() };
        self.text(key).ok_or_else(missing)
    }

    /// The same of one that is secret.
    pub fn required_secret(&self, key: &str) -> Result<Secret, SettingsError> {
        self.required(key).map(Secret::new)
    }
}

/// What whoever runs the server has set up for all connections.
#[derive(Clone, Default)]
pub struct Operator {
    /// Where a vendor's host is reached instead, by host: for tests, and for gateways.
    pub hosts: BTreeMap<String, String>,
    /// The operator's registrations at the vendors, by the destination's kind.
    pub apps: BTreeMap<String, App>,
}

/// A registration at a vendor: what consents are asked for with.
#[derive(Clone)]
pub struct App {
    pub client_id: String,
    pub client_secret: Secret,
    /// The one token that all connections of a bot share, where the vendor has such.
    pub bot_token: Option<Secret>,
}

impl Operator {
    /// The URL, at its host or wherever that host is reached instead.
    pub fn at(&self, url: &str) -> String {
        let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
        let host_bytes = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (host, path) = rest.split_at(host_bytes);
        match self.hosts.get(host) {
            Some(instead) => format!("{}{path}", instead.trim_end_matches('/')),
            None => format!("{scheme}://{host}{path}"),
        }
    }
}

/// A token, and what replaces it. One connection's, whoever asks.
#[async_trait]
pub trait Tokens: Send + Sync {
    /// The access token of now: a new one if the old is about to end.
    async fn access(&self) -> Result<Secret, TokenError>;

    /// Another one in place of `refused`, which the service did not take. Of many who ask at once one
    /// asks the service. A new one is stored before anybody gets it.
    async fn instead_of(&self, refused: &Secret) -> Result<Secret, TokenError>;
}

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// A person has to connect the account again.
    #[error("{message}")]
    Lost { reason: InactiveReason, message: String },
    /// The service could not be asked, or did not answer as it should: it may later.
    #[error("{0}")]
    Later(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_reached_where_the_operator_says() {
        let hosts = [("api.hubapi.com".to_owned(), "http://127.0.0.1:9/hub/".to_owned())];
        let operator = Operator { hosts: hosts.into(), ..Operator::default() };
        for (url, expected) in [
            ("https://api.hubapi.com/crm/v3?x=1", "http://127.0.0.1:9/hub/crm/v3?x=1"),
            ("https://api.hubapi.com", "http://127.0.0.1:9/hub"),
            ("https://api.hubapi.com?x", "http://127.0.0.1:9/hub?x"),
            ("https://api.hubapi.com.evil.example/crm", "https://api.hubapi.com.evil.example/crm"),
            ("https://api.hubapi.com:444/crm", "https://api.hubapi.com:444/crm"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(operator.at(url), expected);
        }
    }
}
