//! What can be connected, as a client that makes forms of it reads it.

use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

#[derive(Debug, Deserialize)]
pub struct Integration {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub authentication: Authentication,
    pub actions: BTreeMap<String, Action>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Authentication {
    ApiKey {
        fields: Option<Vec<Setting>>,
    },
    Basic {
        fields: Option<Vec<Setting>>,
    },
    None {
        fields: Option<Vec<Setting>>,
    },
    #[serde(rename = "oauth")]
    OAuth {
        oauth: OAuth,
        fields: Option<Vec<Setting>>,
    },
}

#[derive(Debug, Deserialize)]
pub struct OAuth {
    pub version: u8,
}

/// The contract spells these in camel case.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Setting {
    pub label: String,
    pub key: String,
    #[serde(rename = "type")]
    pub kind: SettingKind,
    pub help_text: Option<String>,
    pub required: Option<bool>,
    pub validate: Option<String>,
    pub default_value: Option<String>,
    pub options: Option<Vec<Choice>>,
    pub depends_on: Option<DependsOn>,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum SettingKind {
    Text,
    Password,
    Select,
}

#[derive(Debug, Deserialize)]
pub struct Choice {
    pub label: String,
    pub value: String,
}

#[derive(Debug, Deserialize)]
pub struct DependsOn {
    pub field: String,
    pub value: OneOrMany,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Deserialize)]
pub struct Action {
    pub key: String,
    pub label: String,
    pub noun: String,
    pub data: Option<Vec<Input>>,
    pub fields: Option<Vec<String>>,
    pub display: Option<Display>,
}

#[derive(Debug, Deserialize)]
pub struct Display {
    pub label: String,
    pub description: String,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Input {
    Simple {
        key: String,
        field: String,
        label: Option<String>,
        noun: Option<String>,
        required: Option<bool>,
    },
    Field {
        key: String,
        field: String,
        label: String,
        #[serde(rename = "type")]
        kind: InputKind,
        noun: Option<String>,
        description: Option<String>,
        placeholder: Option<String>,
        regex: Option<String>,
        #[serde(rename = "regexMessage")]
        regex_message: Option<String>,
        required: Option<bool>,
        options: Option<Vec<Choice>>,
        #[serde(rename = "defaultValue")]
        default_value: Option<String>,
    },
    Advanced {
        key: String,
        field: String,
        options: Nested,
        label: Option<String>,
        noun: Option<String>,
        required: Option<bool>,
    },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputKind {
    Text,
    Password,
    Textarea,
    Select,
}

/// What is picked below what was picked.
#[derive(Debug, Deserialize)]
pub struct Nested {
    pub key: String,
    pub field: String,
    pub length: Option<u32>,
    pub display: Map<String, Value>,
    #[serde(rename = "type")]
    pub kind: NestedKind,
    pub entity: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NestedKind {
    Array,
    Select,
}

impl Integration {
    /// Beyond what types say: keys are keys, choices are where there is to choose, and what a setting hangs on is there.
    pub fn assert_declared(&self) {
        let kind = &self.kind;
        let settings = match &self.authentication {
            Authentication::ApiKey { fields }
            | Authentication::Basic { fields }
            | Authentication::None { fields } => fields,
            Authentication::OAuth { oauth, fields } => {
                assert!([1, 2].contains(&oauth.version), "{kind}");
                fields
            }
        };
        let settings = settings.as_deref().unwrap_or_default();
        for setting in settings {
            let key = &setting.key;
            assert_eq!(settings.iter().filter(|other| &other.key == key).count(), 1, "{kind}: {key} once");
            assert!(!setting.label.is_empty() && !key.is_empty(), "{kind}: {key}");
            assert!(setting.validate.as_deref().is_none_or(|check| check == "url"), "{kind}: {key}");
            let choices = setting.options.as_deref().unwrap_or_default();
            assert_eq!(!choices.is_empty(), setting.kind == SettingKind::Select, "{kind}: {key}");
            if let Some(DependsOn { field, .. }) = &setting.depends_on {
                assert!(settings.iter().any(|other| &other.key == field), "{kind}: {key} hangs on {field}");
            }
        }
        assert!(!self.actions.is_empty(), "{kind} does something");
        for (key, action) in &self.actions {
            assert_eq!(key, &action.key, "{kind}");
            assert!(!action.label.is_empty(), "{kind}: {key}");
            let written = action.fields.as_deref().unwrap_or_default();
            for input in action.data.iter().flatten() {
                let (Input::Simple { field, .. }
                | Input::Field { field, .. }
                | Input::Advanced { field, .. }) = input;
                assert!(written.contains(field), "{kind}: {key} writes {field}, and says so");
            }
        }
    }
}
