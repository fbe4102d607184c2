//! Schemas: what is done to all of them, and those that no type of ours says by itself.

use crate::api::rules::METADATA_TEXTS;
use actors::domain::{
    condition::{CONDITION_BYTES_MAX, LEAVES_MAX, PATH_BYTES_MAX},
    payload::{NAME_CHARS_MAX, PAYLOAD_TEXTS},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema, transform::transform_subschemas};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use uuid::Uuid;

/// Of what we answer: nothing is there that is not told, and what may be absent is never null.
pub fn of_answer(schema: &mut Schema) {
    transform_subschemas(&mut of_answer, schema);
    plain(schema);
    let Some(object) = schema.as_object_mut() else { return };
    let required: Vec<String> = object
        .get("required")
        .and_then(Value::as_array)
        .map(|all| all.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect())
        .unwrap_or_default();
    let Some(Value::Object(properties)) = object.get_mut("properties") else { return };
    for (name, property) in properties {
        if !required.contains(name) {
            never_null(property);
        }
    }
    let is_open = object.contains_key("additionalProperties") || object.contains_key("unevaluatedProperties");
    let branches = ["oneOf", "anyOf", "allOf"].into_iter().find(|name| object.contains_key(*name));
    match branches {
        _ if is_open => {}
        None => drop(object.insert("additionalProperties".into(), false.into())),
        Some(name) => {
            // Each branch knows but a part of the members.
            for branch in object.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten() {
                branch.as_object_mut().map(|branch| branch.remove("additionalProperties"));
            }
            object.insert("unevaluatedProperties".into(), false.into());
        }
    }
}

/// Of what we take. Members we do not know are ignored, so they are not forbidden.
pub fn of_request(schema: &mut Schema) {
    transform_subschemas(&mut of_request, schema);
    plain(schema);
}

/// Formats that only Rust knows go, and an enum with words to its values is one list.
fn plain(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    if object.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint")) {
        object.remove("format");
    }
    if object.get("default") == Some(&Value::Null) {
        object.remove("default");
    }
    let Some(branches) = object.get("oneOf").and_then(Value::as_array) else { return };
    let (mut values, mut words) = (Vec::new(), Vec::new());
    for branch in branches {
        let all = match (branch.get("const"), branch.get("enum")) {
            (Some(one), _) => vec![one.clone()],
            (None, Some(Value::Array(all))) => all.clone(),
            _ => return,
        };
        if let Some(description) = branch.get("description").and_then(Value::as_str) {
            words.push(format!("- `{}`: {description}", all[0].as_str().unwrap_or_default()));
        }
        values.extend(all);
    }
    object.remove("oneOf");
    let mut texts: Vec<String> = Vec::new();
    texts.extend(object.get("description").and_then(Value::as_str).map(str::to_owned));
    texts.extend((!words.is_empty()).then(|| words.join("\n")));
    object.insert("type".into(), "string".into());
    object.insert("enum".into(), values.into());
    if !texts.is_empty() {
        object.insert("description".into(), texts.join("\n\n").into());
    }
}

fn never_null(schema: &mut Value) {
    let is_null = |schema: &Value| schema.get("type").is_some_and(|kind| kind == "null");
    let Some(object) = schema.as_object_mut() else { return };
    if let Some(Value::Array(kinds)) = object.get_mut("type") {
        kinds.retain(|kind| kind != "null");
        if let [one] = kinds.as_slice() {
            let one = one.clone();
            object.insert("type".into(), one);
        }
    }
    if let Some(Value::Array(values)) = object.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    let Some(Value::Array(branches)) = object.get_mut("anyOf") else { return };
    branches.retain(|branch| !is_null(branch));
    if let [Value::Object(one)] = branches.as_slice() {
        let one = one.clone();
        object.remove("anyOf");
        object.extend(one);
    }
}

/// Any text.
pub fn text(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string" })
}

/// An RFC 3339 time.
pub fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time" })
}

/// What a rule does, with what its action needs.
pub struct RuleMetadata;

impl JsonSchema for RuleMetadata {
    fn schema_name() -> Cow<'static, str> {
        "RuleMetadata".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut properties: Map<String, Value> =
            METADATA_TEXTS.iter().map(|name| ((*name).to_owned(), json!({ "type": "string" }))).collect();
        properties["action"] = json!({ "type": "string", "minLength": 1, "description": "Such as `send_webhook`; see the connection's actions." });
        properties.insert("mapping".to_owned(), json!({ "description": "A mapping schema, or null. Mapped by the rule's own schema, and not by its connection's default mapping." }));
        json_schema!({
            "type": "object",
            "description": "What the rule does, with what its action needs.",
            "properties": properties,
            "required": ["action"],
            "additionalProperties": true,
        })
    }
}

/// Conditions on a payload, as deep as eight.
pub struct Conditions;

impl JsonSchema for Conditions {
    fn schema_name() -> Cow<'static, str> {
        "Conditions".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let inner = generator.subschema_for::<Self>();
        let list = json!({ "type": "array", "items": inner, "minItems": 1, "maxItems": LEAVES_MAX });
        let only = |name: &str, schema: Value| json!({ "type": "object", "properties": { name: schema }, "required": [name], "additionalProperties": false });
        json_schema!({
            "description": format!(
                "Which payloads a rule is for: all of, any of, not, or a comparison of the value at a path. At most 8 deep, {LEAVES_MAX} comparisons and {CONDITION_BYTES_MAX} bytes."
            ),
            "oneOf": [
                only("all", list.clone()),
                only("any", list),
                only("not", inner.to_value()),
                {
                    "type": "object",
                    "properties": {
                        "path": { "type": "string", "minLength": 1, "maxLength": PATH_BYTES_MAX, "pattern": "^[a-zA-Z_][a-zA-Z0-9_]*(\\.[a-zA-Z0-9_]+)*$" },
                        "op": { "enum": ["eq", "ne", "gt", "gte", "lt", "lte", "in", "not_in", "contains", "starts_with", "ends_with", "exists", "matches"] },
                        "value": { "description": "A scalar; a list of scalars with `in` and `not_in`; nothing or a boolean with `exists`." },
                    },
                    "required": ["path", "op"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}

/// What happened: a JSON object that says something.
struct Payload;

impl JsonSchema for Payload {
    fn schema_name() -> Cow<'static, str> {
        "Payload".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut properties: Map<String, Value> = PAYLOAD_TEXTS
            .iter()
            .map(|name| ((*name).to_owned(), json!({ "type": ["string", "null"] })))
            .collect();
        properties["email"] =
            json!({ "type": ["string", "null"], "pattern": "^[^@\\s]+@[^@\\s]+$", "maxLength": 320 });
        json_schema!({
            "type": "object",
            "description": "What happened. Kept and delivered byte for byte. At least one value must say something.",
            "properties": properties,
            "minProperties": 1,
            "additionalProperties": true,
        })
    }
}

/// An event to send, as it is read by hand.
#[derive(JsonSchema)]
#[schemars(rename = "NewEvent")]
#[schemars(extend("examples" = [{ "event": "order.paid", "payload": { "email": "ada@example.com", "total": 99.5 } }]))]
#[expect(dead_code, reason = "described only: events are read without being taken apart")]
pub struct EventForm {
    /// Such as `contact.created`.
    #[schemars(length(min = 1, max = NAME_CHARS_MAX))]
    event: String,
    payload: Payload,
    /// What it is about; `global` where nothing is said.
    #[schemars(length(min = 1, max = NAME_CHARS_MAX))]
    resource: Option<String>,
    #[schemars(length(min = 1, max = NAME_CHARS_MAX))]
    resource_id: Option<String>,
    #[schemars(extend("enum" = ["event", null]))]
    r#type: Option<String>,
    /// Required with a machine key, unless it is for one workspace only; with a publishable key it may be left out.
    workspace: Option<Uuid>,
}

/// A test to send.
#[derive(JsonSchema)]
#[schemars(rename = "NewTest")]
#[expect(dead_code, reason = "described only: tests are read like events")]
pub struct TestForm {
    /// The rule's, where one is tested and nothing is said.
    #[schemars(length(min = 1, max = NAME_CHARS_MAX))]
    event: Option<String>,
    /// A sample, where nothing is said.
    payload: Option<Payload>,
    #[schemars(length(min = 1, max = NAME_CHARS_MAX))]
    resource: Option<String>,
    #[schemars(length(min = 1, max = NAME_CHARS_MAX))]
    resource_id: Option<String>,
}

/// The events of a bulk request, each accepted or refused by itself.
pub fn bulk(generator: &mut SchemaGenerator) -> Schema {
    let event = generator.subschema_for::<EventForm>();
    json_schema!({ "type": "array", "items": event, "minItems": 1, "maxItems": actors::domain::payload::BULK_ITEMS_MAX })
}

/// `payload.user.email=ada@example.com`: any path.
pub fn payload_tests(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "propertyNames": { "pattern": "^payload\\.[a-zA-Z_][a-zA-Z0-9_]*(\\.[a-zA-Z0-9_]+)*$" },
        "additionalProperties": { "type": "string" },
        "maxProperties": actors::engine::PAYLOAD_TESTS_MAX,
    })
}

/// A line of an export, which is one event; or the last, which says why there are no more.
pub fn export_line(generator: &mut SchemaGenerator) -> Schema {
    let event = generator.subschema_for::<crate::api::history::EventJson>();
    let end = generator.subschema_for::<crate::api::search::Ended<'_>>();
    json_schema!({ "anyOf": [event, end] })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(mut schema: Schema) -> Value {
        of_answer(&mut schema);
        schema.to_value()
    }

    #[test]
    fn an_answer_has_no_members_but_those_it_tells() {
        let told = answer(json_schema!({
            "type": "object",
            "properties": { "a": { "type": ["string", "null"] }, "b": { "type": ["integer", "null"], "format": "uint32" }, "c": { "anyOf": [{ "$ref": "#/c" }, { "type": "null" }] } },
            "required": ["b"],
        }));
        let expected = json!({
            "type": "object",
            "properties": { "a": { "type": "string" }, "b": { "type": ["integer", "null"] }, "c": { "$ref": "#/c" } },
            "required": ["b"],
            "additionalProperties": false,
        });
        assert_eq!(told, expected);
    }

    #[test]
    fn branches_know_a_part_of_the_members() {
        let branch = |name: &str| json!({ "type": "object", "properties": { name: { "type": "string" } }, "required": [name] });
        let told = answer(
            json_schema!({ "type": "object", "properties": { "a": true }, "oneOf": [branch("b"), branch("c")] }),
        );
        assert_eq!(told["unevaluatedProperties"], false);
        assert_eq!(told["oneOf"], json!([branch("b"), branch("c")]));
        assert_eq!(told.get("additionalProperties"), None);
    }

    #[test]
    fn an_enum_with_words_is_one_list() {
        let told = answer(json_schema!({
            "description": "What.",
            "oneOf": [{ "type": "string", "enum": ["x", "y"] }, { "type": "string", "const": "z", "description": "Last." }],
        }));
        assert_eq!(
            told,
            json!({ "description": "What.\n\n- `z`: Last.", "type": "string", "enum": ["x", "y", "z"] })
        );
    }
}
