//! What a connection's account can be told about a person or thing: its fields, as its service lists them.

use super::{
    ids::{CatalogId, ConnectionId, OrganizationId, WorkspaceId},
    timestamp::Timestamp,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Number;
use sha2::{Digest, Sha256};

/// The fields of a connection's account, as its service listed them when it was asked last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalog {
    pub connection_id: ConnectionId,
    pub organization_id: OrganizationId,
    pub workspace_id: WorkspaceId,
    /// The destination's kind, such as `webhook`.
    pub kind: String,
    /// In the service's order.
    pub fields: Vec<CatalogField>,
    /// See [`schema_hash`].
    pub hash: String,
    /// When the service was asked last, whether anything was new or not.
    pub refreshed_at: Timestamp,
    /// Who had it read first.
    pub created_by: String,
    pub created_at: Timestamp,
    /// When its fields changed last.
    pub updated_at: Timestamp,
    /// Grows each time it is read; a change names the version it was made from.
    pub version: u64,
}

impl Catalog {
    pub fn id(&self) -> CatalogId {
        CatalogId::of(self.connection_id)
    }

    /// What it is once the service was asked again. Fields that say the same stay as they are.
    pub fn refreshed(self, fields: Vec<CatalogField>, now: Timestamp) -> Self {
        let hash = schema_hash(&fields);
        let next = Self { refreshed_at: now, version: self.version + 1, ..self };
        if hash == next.hash { next } else { Self { fields, hash, updated_at: now, ..next } }
    }
}

/// Names what the fields are: the same for the same fields in another order, and another one as soon as
/// anything about one of them is different. Lower-case hex.
pub fn schema_hash(fields: &[CatalogField]) -> String {
    const HASH_BYTES: usize = 16;
    let mut fields = fields.to_vec();
    fields.sort_by(|one, other| one.key.cmp(&other.key));
    for constraints in fields.iter_mut().filter_map(|field| field.constraints.as_mut()) {
        constraints.allowed_values.iter_mut().for_each(|values| values.sort_unstable());
    }
    let text = serde_json::to_vec(&fields).expect("fields have string keys and no failing serializer");
    Sha256::digest(text).iter().take(HASH_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

/// One field of a connection's account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CatalogFieldConstraints")]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "CatalogFieldFormat")]
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

    fn fields(listed: Value) -> Vec<CatalogField> {
        serde_json::from_value(listed).expect("fields")
    }

    #[test]
    fn a_hash_is_that_of_what_is_said() {
        let name = json!({"key": "name", "type": "string"});
        let tier = |values: [&str; 2]| json!({"key": "tier", "type": "enum", "constraints": {"allowed_values": values}});
        let one = schema_hash(&fields(json!([name, tier(["pro", "free"])])));
        assert_eq!(one.len(), 32);
        #[rustfmt::skip]
        let cases = [
            ("in another order",    json!([tier(["free", "pro"]), name]),                                   true),
            ("a field less",        json!([name]),                                                          false),
            ("another value",       json!([name, tier(["pro", "none"])]),                                   false),
            ("another type",        json!([{"key": "name", "type": "number"}, tier(["pro", "free"])]),      false),
            ("a label",             json!([{"key": "name", "label": "Name", "type": "string"}, tier(["pro", "free"])]), false),
            ("nothing",             json!([]),                                                              false),
        ];
        for (why, listed, is_same) in cases {
            assert_eq!(schema_hash(&fields(listed)) == one, is_same, "{why}");
        }
    }

    #[test]
    fn a_refresh_moves_what_it_changed() {
        let (one, two) = (json!({"key": "a", "type": "string"}), json!({"key": "b", "type": "string"}));
        let listed = fields(json!([one, two]));
        let catalog = Catalog {
            connection_id: ConnectionId::from_bytes([1; 16]),
            organization_id: OrganizationId::from_bytes([2; 16]),
            workspace_id: WorkspaceId::from_bytes([3; 16]),
            kind: "webhook".to_owned(),
            hash: schema_hash(&listed),
            fields: listed.clone(),
            refreshed_at: Timestamp(1),
            created_by: "test".to_owned(),
            created_at: Timestamp(1),
            updated_at: Timestamp(1),
            version: 1,
        };
        let same = catalog.clone().refreshed(fields(json!([two, one])), Timestamp(2));
        assert_eq!(same, Catalog { refreshed_at: Timestamp(2), version: 2, ..catalog.clone() });
        let other = same.refreshed(fields(json!([two])), Timestamp(3));
        assert_eq!((other.version, other.updated_at, other.created_at), (3, Timestamp(3), Timestamp(1)));
        assert_eq!((other.id(), other.fields.len()), (catalog.id(), 1));
        assert_ne!(other.hash, catalog.hash);
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
