//! Integrations: what can be connected, as each destination declares it itself.
//!
//! The contract knows three kinds of settings: `text`, `password` and `select`. What we have beside them
//! is told as the one of these that a form can show, with `format` for who knows more: a switch is a
//! `select` of `true` and `false`, a list of secrets a `password` that takes one of them as plain text, and
//! a list of headers a `text`. Official clients pass over `format`.

use super::{
    App,
    error::ApiError,
    json::respond,
    page::{self, CONFIGURED, Envelope, List, Query},
};
use crate::auth::Caller;
use actors::engine::{
    Page, Scope,
    spec::{ActionSpec, Auth, Choice, Field, FieldKind, Input, InputKind, Spec},
};
use axum::{extract::State, http::StatusCode, response::Response};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use std::ops::Range;

/// Switches, as a form without any shows them.
const SWITCH: [Choice; 2] = [Choice { label: "No", value: "false" }, Choice { label: "Yes", value: "true" }];

pub(super) async fn list(State(app): State<App>, caller: Caller, query: Query) -> Result<Response, ApiError> {
    let place = page::place_of(Scope::Organization(caller.organization_id()));
    let (limit, after) = query.page(List::Integrations, &place, CONFIGURED, u128::from_be_bytes)?;
    let specs = app.engine.integrations();
    let range = range(specs.len(), after, limit);
    let next = (range.end < specs.len()).then(|| range.end as u128 - 1);
    let page = Page { records: specs[range].to_vec(), next };
    let envelope =
        Envelope::new(List::Integrations, &place, limit, page, |at| at.to_be_bytes(), IntegrationJson::from);
    Ok(respond(StatusCode::OK, &envelope))
}

/// Which of so many come on the page after the one at `after`. A cursor can be made up, so that may be any number.
fn range(count: usize, after: Option<u128>, limit: usize) -> Range<usize> {
    let first = after.map_or(0, |after| usize::try_from(after).unwrap_or(usize::MAX).saturating_add(1));
    let first = first.min(count);
    first..first.saturating_add(limit).min(count)
}

#[derive(Serialize, JsonSchema)]
pub(super) struct IntegrationJson {
    name: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    authentication: AuthenticationJson,
    /// By their keys.
    #[schemars(with = "std::collections::BTreeMap<String, ActionJson>")]
    actions: ActionsJson,
}

impl From<&'static Spec> for IntegrationJson {
    fn from(spec: &'static Spec) -> Self {
        let oauth = match spec.auth {
            Auth::OAuth(version) => Some(OAuthJson { version }),
            Auth::None | Auth::ApiKey | Auth::Basic => None,
        };
        let fields = spec.fields.iter().map(FieldJson::from).collect();
        let authentication = AuthenticationJson { kind: spec.auth.as_str(), oauth, fields };
        Self { name: spec.name, kind: spec.kind, authentication, actions: ActionsJson(spec.actions) }
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "IntegrationAuthentication")]
struct AuthenticationJson {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    oauth: Option<OAuthJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fields: Vec<FieldJson>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "IntegrationOAuth")]
struct OAuthJson {
    version: u8,
}

// The contract spells these members in camel case, and no others.
/// A setting.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "IntegrationField")]
struct FieldJson {
    label: &'static str,
    key: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    help_text: Option<&'static str>,
    #[serde(skip_serializing_if = "is_false")]
    required: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    validate: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_value: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    options: Vec<ChoiceJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    depends_on: Option<DependsOnJson>,
    /// What the value is, where it is more than a text: boolean, headers or secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<&'static str>,
}

impl From<&'static Field> for FieldJson {
    fn from(field: &'static Field) -> Self {
        #[rustfmt::skip] // the columns are the point
        let (kind, validate, format, options): (_, _, _, &[Choice]) = match field.kind {
            FieldKind::Text            => ("text",     None,        None,            &[]),
            FieldKind::Url             => ("text",     Some("url"), None,            &[]),
            FieldKind::Password        => ("password", None,        None,            &[]),
            FieldKind::Select(options) => ("select",   None,        None,            options),
            FieldKind::Toggle          => ("select",   None,        Some("boolean"), &SWITCH),
            FieldKind::Headers         => ("text",     None,        Some("headers"), &[]),
            FieldKind::Secrets         => ("password", None,        Some("secrets"), &[]),
        };
        Self {
            label: field.label,
            key: field.key,
            kind,
            help_text: field.help,
            required: field.required,
            validate,
            default_value: field.default,
            options: options
                .iter()
                .map(|choice| ChoiceJson { label: choice.label, value: choice.value })
                .collect(),
            depends_on: field
                .depends_on
                .map(|(field, values)| DependsOnJson { field, value: OneOrMany(values) }),
            format,
        }
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "IntegrationChoice")]
struct ChoiceJson {
    label: &'static str,
    value: &'static str,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "IntegrationCondition")]
struct DependsOnJson {
    field: &'static str,
    #[schemars(schema_with = "one_or_many")]
    value: OneOrMany,
}

fn one_or_many(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] })
}

/// One text as such, several as a list.
struct OneOrMany(&'static [&'static str]);

impl Serialize for OneOrMany {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            [one] => serializer.serialize_str(one),
            many => serializer.collect_seq(many),
        }
    }
}

/// Actions by their keys.
struct ActionsJson(&'static [ActionSpec]);

impl Serialize for ActionsJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|action| (action.key, ActionJson::from(action))))
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "IntegrationAction")]
struct ActionJson {
    key: &'static str,
    label: &'static str,
    noun: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    data: Vec<InputJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fields: Vec<&'static str>,
    display: DisplayJson,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "IntegrationDisplay")]
struct DisplayJson {
    label: &'static str,
    description: &'static str,
}

impl From<&'static ActionSpec> for ActionJson {
    fn from(action: &'static ActionSpec) -> Self {
        let ActionSpec { key, label, noun, description, inputs, .. } = action;
        Self {
            key,
            label,
            noun,
            data: inputs.iter().map(|input| InputJson::of(input, noun)).collect(),
            fields: fields_of(action),
            display: DisplayJson { label, description },
        }
    }
}

/// The members of a rule's metadata that an action uses, each once.
pub(super) fn fields_of(action: &'static ActionSpec) -> Vec<&'static str> {
    let mut fields = Vec::new();
    for field in action.inputs.iter().flat_map(Input::kept_in) {
        if !fields.contains(&field) {
            fields.push(field);
        }
    }
    fields
}

/// One thing that an action asks of who makes a rule.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ActionInput")]
struct InputJson {
    key: &'static str,
    field: &'static str,
    #[serde(flatten)]
    kind: InputKindJson,
    label: &'static str,
    #[serde(skip_serializing_if = "is_false")]
    required: bool,
}

#[derive(Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[schemars(rename = "ActionInputKind")]
enum InputKindJson {
    /// A live item is picked.
    Simple { noun: &'static str },
    /// A text is typed.
    Field {
        #[serde(rename = "type")]
        kind: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        placeholder: Option<&'static str>,
    },
    /// A live item is picked, then one of its options.
    Advanced { noun: &'static str, options: NestedJson },
}

/// Where the options of an item are, and how one is asked for.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ActionOptions")]
struct NestedJson {
    key: &'static str,
    field: &'static str,
    /// How many of them are picked.
    length: u8,
    display: NestedDisplayJson,
    #[serde(rename = "type")]
    kind: &'static str,
    entity: &'static str,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ActionOptionsDisplay")]
struct NestedDisplayJson {
    label: &'static str,
    button: &'static str,
    description: String,
}

impl InputJson {
    fn of(input: &'static Input, noun: &'static str) -> Self {
        let Input { key, field, label, required, kind } = *input;
        let kind = match kind {
            InputKind::Pick => InputKindJson::Simple { noun },
            InputKind::PickOption { field } => {
                let description = format!("One of the options of this {noun}.");
                let display = NestedDisplayJson { label: "Value", button: "Choose a value", description };
                let (kind, entity) = ("select", "option");
                InputKindJson::Advanced {
                    noun,
                    options: NestedJson { key: "options", field, length: 1, display, kind, entity },
                }
            }
            InputKind::Text { several_lines, placeholder } => {
                InputKindJson::Field { kind: if several_lines { "textarea" } else { "text" }, placeholder }
            }
        };
        Self { key, field, kind, label, required }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const CHOICES: [Choice; 2] = [Choice { label: "US", value: "us" }, Choice { label: "EU", value: "eu" }];

    /// One of everything that a destination can declare.
    static SPEC: Spec = Spec {
        kind: "acme",
        name: "Acme",
        auth: Auth::OAuth(2),
        fields: &[
            Field { required: true, help: Some("Help."), ..Field::text("account", "Account") },
            Field { kind: FieldKind::Url, ..Field::text("api_url", "API URL") },
            Field { depends_on: Some(("region", &["us"])), ..Field::secret("key", "Key") },
            Field::select("region", "Region", &CHOICES),
            Field { kind: FieldKind::Toggle, default: Some("false"), ..Field::text("quiet", "Quiet") },
            Field { kind: FieldKind::Headers, ..Field::text("headers", "Headers") },
            Field {
                kind: FieldKind::Secrets,
                secret: true,
                depends_on: Some(("region", &["us", "eu"])),
                ..Field::text("secrets", "Secrets")
            },
        ],
        actions: &[
            ActionSpec {
                key: "ping",
                label: "Ping",
                noun: "ping",
                description: "Pings.",
                inputs: &[],
                needs: &[],
                twice: "",
            },
            ActionSpec {
                key: "set",
                label: "Set",
                noun: "property",
                description: "Sets.",
                needs: &[],
                twice: "",
                inputs: &[
                    Input { key: "lists", field: "id", label: "List", required: true, kind: InputKind::Pick },
                    Input {
                        key: "properties",
                        field: "id",
                        label: "Property",
                        required: true,
                        kind: InputKind::PickOption { field: "value" },
                    },
                    Input {
                        key: "title",
                        field: "title",
                        label: "Title",
                        required: false,
                        kind: InputKind::Text { several_lines: false, placeholder: Some("Hi") },
                    },
                    Input {
                        key: "template",
                        field: "template",
                        label: "Template",
                        required: true,
                        kind: InputKind::Text { several_lines: true, placeholder: None },
                    },
                ],
            },
        ],
        consent: None,
    };

    #[test]
    fn whatever_a_destination_declares_is_told_as_the_contract_has_it() {
        let nested = json!({
            "key": "options", "field": "value", "length": 1, "type": "select", "entity": "option",
            "display": { "label": "Value", "button": "Choose a value", "description": "One of the options of this property." },
        });
        #[rustfmt::skip] // one member a line
        let expected = json!({
            "name": "Acme",
            "type": "acme",
            "authentication": { "type": "oauth", "oauth": { "version": 2 }, "fields": [
                { "key": "account", "label": "Account", "type": "text", "helpText": "Help.", "required": true },
                { "key": "api_url", "label": "API URL", "type": "text", "validate": "url" },
                { "key": "key", "label": "Key", "type": "password", "dependsOn": { "field": "region", "value": "us" } },
                { "key": "region", "label": "Region", "type": "select", "defaultValue": "us",
                  "options": [{ "label": "US", "value": "us" }, { "label": "EU", "value": "eu" }] },
                { "key": "quiet", "label": "Quiet", "type": "select", "defaultValue": "false", "format": "boolean",
                  "options": [{ "label": "No", "value": "false" }, { "label": "Yes", "value": "true" }] },
                { "key": "headers", "label": "Headers", "type": "text", "format": "headers" },
                { "key": "secrets", "label": "Secrets", "type": "password", "format": "secrets", "dependsOn": { "field": "region", "value": ["us", "eu"] } },
            ]},
            "actions": {
                "ping": { "key": "ping", "label": "Ping", "noun": "ping", "display": { "label": "Ping", "description": "Pings." } },
                "set": { "key": "set", "label": "Set", "noun": "property", "display": { "label": "Set", "description": "Sets." },
                    "fields": ["id", "value", "title", "template"],
                    "data": [
                        { "kind": "simple", "key": "lists", "field": "id", "label": "List", "noun": "property", "required": true },
                        { "kind": "advanced", "key": "properties", "field": "id", "label": "Property", "noun": "property", "required": true, "options": nested },
                        { "kind": "field", "key": "title", "field": "title", "label": "Title", "type": "text", "placeholder": "Hi" },
                        { "kind": "field", "key": "template", "field": "template", "label": "Template", "type": "textarea", "required": true },
                    ] },
            },
        });
        assert_eq!(serde_json::to_value(IntegrationJson::from(&SPEC)).expect("JSON"), expected);
    }

    #[test]
    fn a_page_goes_on_after_the_last_one() {
        #[rustfmt::skip]
        let cases = [
            (None,             10, 0..3),
            (None,             2,  0..2),
            (Some(1),          2,  2..3),
            (Some(2),          2,  3..3),
            (Some(u128::MAX),  2,  3..3),
            (Some(usize::MAX as u128), usize::MAX, 3..3),
        ];
        for (after, limit, expected) in cases {
            assert_eq!(range(3, after, limit), expected, "{limit} after {after:?}");
        }
    }

    #[test]
    fn a_destination_without_settings_tells_of_none() {
        for (auth, name) in [(Auth::None, "none"), (Auth::ApiKey, "api_key"), (Auth::Basic, "basic")] {
            let bare = Spec { kind: "bare", name: "Bare", auth, fields: &[], actions: &[], consent: None };
            let told =
                serde_json::to_value(IntegrationJson::from(&*Box::leak(Box::new(bare)))).expect("JSON");
            let expected: Value =
                json!({ "name": "Bare", "type": "bare", "authentication": { "type": name }, "actions": {} });
            assert_eq!(told, expected);
        }
    }
}
