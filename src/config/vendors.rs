//! The operator's apps at vendors, and where vendors are reached instead.

use super::{Config, ConfigError};
use actors::{
    domain::secret::Secret,
    engine::{App, Operator},
};
use serde::{Deserialize, Deserializer, de::Error as _};
use std::collections::BTreeMap;

/// What a vendor gave the operator for this server.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Registration {
    pub client_id: String,
    #[serde(deserialize_with = "secret")]
    pub client_secret: Option<Secret>,
    #[serde(deserialize_with = "secret")]
    pub bot_token: Option<Secret>,
}

impl Config {
    /// What connections to vendors are made with.
    pub fn operator(&self) -> Operator {
        let app = |(kind, app): (&String, &Registration)| {
            let Registration { client_id, client_secret, bot_token } = app.clone();
            let client_secret = client_secret.unwrap_or_else(|| Secret::new(""));
            (kind.clone(), App { client_id, client_secret, bot_token })
        };
        Operator { hosts: self.hosts.clone(), apps: self.oauth.iter().map(app).collect() }
    }

    /// Refuses half a registration, and what is no host.
    pub(super) fn check_vendors(&self) -> Result<(), ConfigError> {
        let refuse = |text: &str| Err(ConfigError(text.to_owned()));
        for (kind, app) in &self.oauth {
            let has_secret = app.client_secret.is_some();
            if app.client_id.is_empty() == has_secret {
                let other = if has_secret { "client_id" } else { "client_secret" };
                return refuse(&format!("oauth.{kind}.{other}: is missing beside the other"));
            }
        }
        if let Some((host, url)) = self.hosts.iter().find(|(host, url)| !is_host(host) || !is_base(url)) {
            return refuse(&format!("hosts.{host}: not a host and an http or https URL: {url}"));
        }
        Ok(())
    }
}

/// Empty text is nothing.
fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok((!text.is_empty()).then(|| Secret::new(text)))
}

/// A table, or text such as `api.example.com=http://127.0.0.1:9,…` as a variable has it.
pub(super) fn hosts<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Listed {
        Table(BTreeMap<String, String>),
        Text(String),
    }
    match Listed::deserialize(deserializer)? {
        Listed::Table(table) => Ok(table),
        Listed::Text(text) => {
            let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
            let pair = |pair: &str| {
                let found =
                    pair.split_once('=').map(|(host, url)| (host.trim().to_owned(), url.trim().to_owned()));
                found.ok_or_else(|| D::Error::custom(format!("not host=URL: {pair}")))
            };
            pairs.map(pair).collect()
        }
    }
}

fn is_host(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-:".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

fn is_base(text: &str) -> bool {
    let is_http = |url: &url::Url| ["http", "https"].contains(&url.scheme());
    url::Url::parse(text).is_ok_and(|url| is_http(&url) && url.query().is_none() && url.fragment().is_none())
}
