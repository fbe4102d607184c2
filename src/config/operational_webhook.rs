//! `[operational_webhook]`: where operational events go.

use super::ConfigError;
use actors::{domain::secret::Secret, engine};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de::Error as _};

/// Where operational events go: nowhere while `url` is empty.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperationalWebhook {
    pub url: String,
    #[serde(deserialize_with = "text")]
    pub secret: Secret,
}

impl OperationalWebhook {
    /// What the engine is started with.
    pub fn told(&self) -> Option<engine::OperationalWebhook> {
        let Self { url, secret } = self.clone();
        (!url.is_empty()).then_some(engine::OperationalWebhook { url, secret })
    }

    /// Refuses what could not be delivered to.
    pub(super) fn check(&self, outbound_allow: &[IpNet], allow_http: bool) -> Result<(), ConfigError> {
        let checked = self.told().map_or(Ok(()), |told| told.check(outbound_allow, allow_http));
        checked.map_err(|err| ConfigError(format!("operational_webhook.{}: {}", err.param, err.msg)))
    }
}

/// What it was instead is not told: it may be a secret all the same.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    String::deserialize(deserializer).map(Secret::new).map_err(|_| D::Error::custom("must be text"))
}
