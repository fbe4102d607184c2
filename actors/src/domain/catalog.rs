//! What a connection's account can be told about a person or thing: its fields, as its service lists them.

use serde::{Deserialize, Serialize};
use serde_json::Number;

/// One field of a connection's account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogField {
    /// What the service calls it; a mapping's `dest`.
    pub key: String,
    /// What people call it there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    #[serde(rename = "type")]
    pub kind: CatalogFieldKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraints: Option<Constraints>,
}

impl CatalogField {
    /// Whether the service sets it, and nobody else may.
    pub fn is_read_only(&self) -> bool {
        self.constraints.as_ref().and_then(|constraints| constraints.read_only).unwrap_or(false)
    }
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatalogFieldKind {
    String,
    Number,
    Boolean,
    Date,
    Datetime,
    Enum,
    MultiEnum,
    Json,
    Object,
    Array,
    /// Also what a later version knows and this one does not.
    #[serde(other)]
    Unknown,
}

/// What the service says a value must be. We show it; the service holds to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraints {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
    /// In characters, as the service counts them; so is `min_length`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_length: Option<u64>,
    /// A regular expression in the service's own dialect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Number>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Number>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_values: Option<Vec<String>>,
}

/// What a string is made like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    Email,
    Phone,
    Url,
    Uuid,
    Date,
    Datetime,
    #[serde(other)]
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_field_is_written_as_it_was_read() {
        let cases = [
            json!({"key": "email", "type": "string"}),
            json!({"key": "FNAME", "label": "First name", "type": "string", "description": "Given name",
                   "constraints": {"required": true, "max_length": 50}}),
            json!({"key": "tier", "type": "multi_enum", "constraints": {"allowed_values": ["pro", "free"]}}),
            json!({"key": "age", "type": "number", "constraints": {"min": 0, "max": 0.5, "read_only": true}}),
            json!({"key": "site", "type": "unknown", "constraints": {"format": "url", "pattern": "^h"}}),
        ];
        for field in cases {
            let read: CatalogField = serde_json::from_value(field.clone()).expect("a field");
            assert_eq!(serde_json::to_value(&read).expect("JSON"), field);
        }
    }

    #[test]
    fn what_is_not_known_yet_is_unknown() {
        let field: Value =
            json!({"key": "geo", "type": "point", "constraints": {"format": "wkt"}, "provider_meta": {}});
        let read: CatalogField = serde_json::from_value(field).expect("a field");
        assert_eq!(read.kind, CatalogFieldKind::Unknown);
        assert_eq!(read.constraints.and_then(|constraints| constraints.format), Some(Format::Unknown));
    }
}
