//! What an account has at this moment that an action can pick from.

use schemars::JsonSchema;
use serde::Serialize;

/// A list, a channel, a property, …
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "LiveItem")]
pub struct Item {
    /// What the rule keeps.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What can be picked of it in turn.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<ItemOption>,
}

/// One value that a property can have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "LiveItemOption")]
pub struct ItemOption {
    /// What the rule keeps.
    pub value: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}
