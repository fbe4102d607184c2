//! A connection: a customer's account at a destination, and how fast to speak to it.

use super::{
    field::FieldError,
    ids::{ConnectionId, OrganizationId, WorkspaceId},
    secret::Sealed,
    timestamp::Timestamp,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A configured destination. Its settings, secrets among them, are sealed as one value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    pub id: ConnectionId,
    pub organization_id: OrganizationId,
    pub workspace_id: WorkspaceId,
    /// The destination's kind, such as `webhook`. Never changes.
    pub kind: String,
    pub name: String,
    /// The metadata object as JSON, sealed with the workspace's key.
    pub settings: Sealed,
    #[serde(default)]
    pub policy: Policy,
    /// Why it takes no deliveries, if it does not.
    pub inactive: Option<InactiveReason>,
    /// What the destination answered when it made it inactive last, and what to do about it.
    #[serde(default)]
    pub refusal: Option<String>,
    /// A person stopped it for a while; deliveries wait.
    pub paused: bool,
    pub hidden: bool,
    pub created_by: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Grows with every change; a change names the version it was made from.
    pub version: u64,
}

impl Connection {
    /// Whether deliveries may be attempted.
    pub const fn takes_deliveries(&self) -> bool {
        self.inactive.is_none() && !self.paused
    }
}

/// Why a connection is inactive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InactiveReason {
    AuthenticationInvalid,
    OauthAuthorizationRevoked,
    OauthReauthorizationRequired,
    ManuallyInactivated,
}

/// How a connection is spoken to. What is absent follows the server's configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Policy {
    /// Attempts a second, 0.01 to 10,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.01, max = 10_000))]
    pub rate_per_second: Option<f64>,
    /// Attempts at once before the rate holds, 1 to 10,000. Needs `rate_per_second`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub burst: Option<u32>,
    /// Attempts in flight at a time, 1 to 256.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub max_in_flight: Option<u32>,
    /// The whole time an attempt may take, 100 to 60,000 ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 100, max = 60_000))]
    pub timeout_ms: Option<u64>,
    /// The waits before each further try, in ms; at most 50, each at most a week.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 50))]
    pub retry: Option<Vec<u64>>,
    /// Only `none` so far: deliveries of one connection may overtake each other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ordering: Option<Ordering>,
}

/// Which deliveries of a connection keep their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Ordering {
    None,
}

impl Eq for Policy {}

impl Policy {
    /// Refuses what is out of range, naming the field and the range.
    pub fn check(&self) -> Result<(), FieldError> {
        let refuse = |field, why| Err(FieldError::new(field, why));
        if self.rate_per_second.is_some_and(|rate| !(0.01..=10_000.0).contains(&rate)) {
            return refuse("rate_per_second", "must be from 0.01 to 10000");
        }
        if self.burst.is_some_and(|burst| !(1..=10_000).contains(&burst)) {
            return refuse("burst", "must be from 1 to 10000");
        }
        if self.burst.is_some() && self.rate_per_second.is_none() {
            return refuse("burst", "needs rate_per_second beside it");
        }
        if self.max_in_flight.is_some_and(|count| !(1..=256).contains(&count)) {
            return refuse("max_in_flight", "must be from 1 to 256");
        }
        if self.timeout_ms.is_some_and(|ms| !(100..=60_000).contains(&ms)) {
            return refuse("timeout_ms", "must be from 100 to 60000");
        }
        const WEEK_MS: u64 = 7 * 24 * 3_600_000;
        if self.retry.as_ref().is_some_and(|waits| waits.len() > 50 || waits.iter().any(|ms| *ms > WEEK_MS)) {
            return refuse("retry", "must be at most 50 waits in milliseconds, none over a week");
        }
        Ok(())
    }

    /// The whole time an attempt may take.
    pub fn timeout(&self, default: Duration) -> Duration {
        self.timeout_ms.map_or(default, Duration::from_millis)
    }
}
