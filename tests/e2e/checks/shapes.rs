//! What the Go client reads each answer as. Reading one is the check: ids, times and integers must parse,
//! lists must not be null, and what the contract requires must be there. Fields of nobody are passed over.

#![allow(dead_code)]

mod integrations;

pub use integrations::Integration;

use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A UUID as the contract writes it: in lower case, with its dashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Id(pub String);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let id = uuid::Uuid::try_parse(&text).map_err(D::Error::custom)?;
        if id.to_string() == text {
            Ok(Self(text))
        } else {
            Err(D::Error::custom(format!("{text}: a UUID?")))
        }
    }
}

/// A moment in RFC 3339, such as `2026-03-15T12:00:00.000Z`.
#[derive(Debug)]
pub struct Time(pub String);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let shape: String = text.chars().take(19).map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        let fraction = text.get(19..).and_then(|rest| rest.strip_suffix('Z'));
        let fraction =
            fraction.is_some_and(|rest| rest.is_empty() || rest.strip_prefix('.').is_some_and(is_digits));
        let real = text.parse::<actors::domain::timestamp::Timestamp>().is_ok();
        if shape == "0000-00-00T00:00:00" && fraction && real {
            return Ok(Self(text));
        }
        Err(D::Error::custom(format!("{text}: RFC 3339 in UTC?")))
    }
}

/// Text that looks like an address.
#[derive(Debug)]
pub struct Email(pub String);

impl<'de> Deserialize<'de> for Email {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parts = text.split_once('@');
        let fine =
            parts.is_some_and(|(name, host)| !name.is_empty() && host.contains('.') && !host.contains('@'));
        if fine { Ok(Self(text)) } else { Err(D::Error::custom(format!("{text}: an address?"))) }
    }
}

/// Required, and null where there is none.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(deserializer)
}

#[derive(Debug, Deserialize)]
pub struct List<T> {
    pub count: u32,
    pub limit: u32,
    #[serde(deserialize_with = "nullable")]
    pub next_cursor: Option<String>,
    pub records: Vec<T>,
}

#[derive(Debug, Deserialize)]
pub struct Workspace {
    pub id: Id,
    pub name: String,
    #[serde(deserialize_with = "nullable")]
    pub description: Option<String>,
    pub created_at: Time,
    pub updated_at: Time,
}

#[derive(Debug, Deserialize)]
pub struct WorkspaceMade {
    pub workspace: Workspace,
}

#[derive(Debug, Deserialize)]
pub struct WorkspaceShown {
    #[serde(flatten)]
    pub workspace: Workspace,
    pub publishable_key: PublishableKey,
}

#[derive(Debug, Deserialize)]
pub struct PublishableKey {
    pub public_key: String,
    pub name: String,
}

/// An event type or a resource.
#[derive(Debug, Deserialize)]
pub struct CatalogEntry {
    pub id: Id,
    pub key: String,
    pub label: String,
    #[serde(deserialize_with = "nullable")]
    pub description: Option<String>,
    pub active: Option<bool>,
    #[serde(deserialize_with = "nullable")]
    pub created_by: Option<String>,
    pub created_at: Time,
    pub updated_at: Time,
}

#[derive(Debug, Deserialize)]
pub struct Connection {
    pub id: Id,
    pub workspace: Id,
    #[serde(rename = "type")]
    pub kind: String,
    pub name: String,
    pub metadata: Map<String, Value>,
    pub action_data: Option<Map<String, Value>>,
    pub active: Option<bool>,
    pub inactive_reason: Option<String>,
    pub hidden: Option<bool>,
    pub created_by: String,
    pub created_at: Time,
    pub updated_at: Time,
}

#[derive(Debug, Deserialize)]
pub struct ConnectionMade {
    pub connection: Connection,
}

#[derive(Debug, Deserialize)]
pub struct ConnectionDeleted {
    pub id: Id,
    #[serde(rename = "type")]
    pub kind: String,
}

/// The outer shape is untyped in the contract; this is the one it recommends, by keys of actions.
pub type LiveActions = BTreeMap<String, LiveAction>;

#[derive(Debug, Deserialize)]
pub struct LiveAction {
    pub key: String,
    pub label: String,
    pub noun: String,
    pub fields: Vec<String>,
    pub data: BTreeMap<String, Vec<LiveItem>>,
}

#[derive(Debug, Deserialize)]
pub struct LiveItem {
    pub id: String,
    pub name: Option<String>,
    pub options: Option<Vec<Map<String, Value>>>,
}

#[derive(Debug, Deserialize)]
pub struct FieldCatalog {
    pub id: Id,
    pub workspace_id: Id,
    pub connection_id: Id,
    pub integration_type: String,
    pub catalog_version: String,
    pub refreshed_at: Time,
    pub created_by: String,
    pub created_at: Time,
    pub updated_at: Time,
    pub fields: Vec<Field>,
}

#[derive(Debug, Deserialize)]
pub struct Field {
    pub key: String,
    pub label: Option<String>,
    #[serde(rename = "type")]
    pub kind: String,
    pub description: Option<String>,
    pub constraints: Option<Map<String, Value>>,
}

#[derive(Debug, Deserialize)]
pub struct DefaultMapping {
    pub status: MappingStatus,
    pub mapping: Mapping,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum MappingStatus {
    Stored,
    Generated,
}

#[derive(Debug, Deserialize)]
pub struct Mapping {
    pub id: Id,
    pub mapping_id: Id,
    pub version: i32,
    pub workspace_id: Id,
    pub connection_id: Id,
    pub integration_type: String,
    pub name: String,
    pub schema: Schema,
    pub catalog_version: Option<String>,
    pub created_by: Option<String>,
    pub created_at: Time,
    pub updated_at: Time,
}

#[derive(Debug, Deserialize)]
pub struct Schema {
    pub schema_version: f64,
    pub fields: Vec<MappedField>,
}

#[derive(Debug, Deserialize)]
pub struct MappedField {
    pub dest: String,
    pub source: Map<String, Value>,
    pub transforms: Option<Vec<Map<String, Value>>>,
}

#[derive(Debug, Deserialize)]
pub struct Rule {
    pub id: Id,
    pub connection: Id,
    pub workspace: Id,
    #[serde(rename = "type")]
    pub kind: String,
    pub event: String,
    pub resource: Option<String>,
    pub resource_id: Option<String>,
    pub metadata: RuleMetadata,
    pub active: Option<bool>,
    pub hidden: Option<bool>,
    pub created_by: String,
    pub created_at: Time,
    pub updated_at: Time,
}

#[derive(Debug, Deserialize)]
pub struct RuleMetadata {
    pub action: String,
    pub id: Option<String>,
    pub name: Option<String>,
    pub value: Option<String>,
    pub key: Option<String>,
    pub data: Option<String>,
    pub option: Option<String>,
    pub option_value: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct RuleMade {
    pub rule: Rule,
}

#[derive(Debug, Deserialize)]
pub struct RuleDeleted {
    pub id: Id,
    pub connection: Id,
    #[serde(rename = "type")]
    pub kind: String,
    pub event: String,
    pub resource: Option<String>,
    pub resource_id: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct Accepted {
    pub id: Id,
    pub event: String,
    pub workspace: Id,
    pub created_by: String,
    pub created_at: Time,
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub resource: Option<String>,
    pub resource_id: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct EventMade {
    pub event: Accepted,
}

#[derive(Debug, Deserialize)]
pub struct BulkMade {
    pub count: u32,
    pub error_count: Option<u32>,
    pub records: Vec<BulkRecord>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum BulkRecord {
    Accepted(Accepted),
    Refused { message: String },
}

#[derive(Debug, Deserialize)]
pub struct Event {
    pub id: Id,
    pub workspace: Id,
    pub event: String,
    pub created_by: String,
    pub created_at: Time,
    pub status: String,
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub resource: Option<String>,
    pub resource_id: Option<String>,
    pub total_rules: Option<i32>,
    pub completed_count: Option<i32>,
    pub failed_count: Option<i32>,
    pub started_at: Option<Time>,
    pub completed_at: Option<Time>,
    pub rule_events: Option<Vec<RuleEvent>>,
}

#[derive(Debug, Deserialize)]
pub struct EventWithPayload {
    #[serde(flatten)]
    pub event: Event,
    pub payload: Payload,
}

#[derive(Debug, Deserialize)]
pub struct Payload {
    pub email: Option<Email>,
    pub id: Option<String>,
    pub ip_address: Option<String>,
    pub name: Option<String>,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub phone: Option<String>,
    pub resource_url: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct RuleEvent {
    pub id: Id,
    pub workspace: Id,
    pub event_id: Id,
    pub connection: Id,
    pub rule: Id,
    #[serde(rename = "type")]
    pub kind: String,
    pub event: String,
    pub resource: Option<String>,
    pub resource_id: Option<String>,
    pub integration_type: String,
    pub status: String,
    pub attempt_count: i32,
    pub started_at: Option<Time>,
    pub completed_at: Option<Time>,
    pub last_error: Option<String>,
    pub created_by: String,
    pub created_at: Time,
}

#[derive(Debug, Deserialize)]
pub struct Attempt {
    pub id: Id,
    pub event_id: Id,
    pub rule: Id,
    pub rule_event: Id,
    pub connection: Id,
    pub attempt_number: i32,
    pub started_at: Time,
    pub completed_at: Time,
    pub duration_ms: i64,
    pub outcome_code: String,
    pub message: String,
    pub http_status: Option<i32>,
    pub next_retry_at: Option<Time>,
    pub created_at: Time,
}

#[derive(Debug, Deserialize)]
pub struct ResponseDetails {
    pub status: i32,
    pub headers: Value,
    pub body: String,
    pub truncated: bool,
}

#[derive(Debug, Deserialize)]
pub struct SessionMade {
    #[serde(flatten)]
    pub session: SessionRefreshed,
    pub launch_token: String,
    pub launch_expires_at: Time,
    pub launch_url: String,
}

#[derive(Debug, Deserialize)]
pub struct SessionRefreshed {
    /// No UUID: opaque.
    pub session_id: String,
    pub access_token: String,
    pub expires_in: f64,
    pub expires_at: Time,
    pub workspace_id: Id,
    pub role: String,
    pub session_type: String,
    pub resource: Option<String>,
    pub resource_id: Option<String>,
}

/// Times in a list are plain text to this client.
#[derive(Debug, Deserialize)]
pub struct SessionListed {
    pub session_id: String,
    pub workspace_id: Id,
    pub role: String,
    pub session_type: String,
    pub status: String,
    pub is_expired: bool,
    pub created_at: String,
    pub expires_at: String,
}

#[derive(Debug, Deserialize)]
pub struct SessionRevoked {
    pub revoked: bool,
}
