//! What a tool takes: each argument's form, as a JSON Schema for the client and as a check of what it sends.

use crate::api::form;
use serde_json::{Map, Value, json};
use url::Url;

/// One argument of a tool.
pub(super) struct Argument {
    pub name: &'static str,
    pub about: &'static str,
    pub form: Form,
    pub is_required: bool,
    pub to: To,
}

/// Where an argument goes in the request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    /// In place of `{name}` in the path.
    Path,
    Query,
    /// As `name=true`, and only when it is true.
    QueryIfTrue,
    /// A member of the body.
    Body,
    /// The same, and only when it is true.
    BodyIfTrue,
    /// A member of the body's `metadata`.
    Metadata,
    /// All its members are members of the body's `metadata`, over those that are there.
    MetadataMembers,
    /// It is the body.
    WholeBody,
}

/// The form of an argument. Lengths are in characters.
#[derive(Clone, Copy)]
pub(super) enum Form {
    Uuid,
    /// Text of so many characters.
    Text(usize, usize),
    /// The same, or null.
    TextOrNull(usize),
    /// An opaque id in a path.
    SessionId,
    Cursor,
    Integer(i64, i64),
    Boolean,
    OneOf(&'static [&'static str]),
    Object,
    /// An object whose members are all text.
    Texts,
    /// Up to so many URLs.
    Urls(usize),
    /// Up to so many of these words.
    Words(usize, &'static [&'static str]),
    /// 1 to 100 events.
    Events,
}

/// Events that one call may send.
const EVENTS_MAX: usize = actors::domain::payload::BULK_ITEMS_MAX;

const SHAPE_OF_UUID: &str = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$";
const BASE64URL: &str = "^[A-Za-z0-9_-]+$";

fn is_base64url(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

impl Form {
    /// The JSON Schema of it.
    pub fn schema(self) -> Value {
        match self {
            Self::Uuid => json!({ "type": "string", "format": "uuid", "pattern": SHAPE_OF_UUID }),
            Self::Text(least, most) if most == usize::MAX => json!({ "type": "string", "minLength": least }),
            Self::Text(least, most) => json!({ "type": "string", "minLength": least, "maxLength": most }),
            Self::TextOrNull(most) => json!({ "type": ["string", "null"], "maxLength": most }),
            Self::SessionId | Self::Cursor => json!({ "type": "string", "pattern": BASE64URL }),
            Self::Integer(least, i64::MAX) => json!({ "type": "integer", "minimum": least }),
            Self::Integer(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
            Self::Boolean => json!({ "type": "boolean" }),
            Self::OneOf(words) => json!({ "type": "string", "enum": words }),
            Self::Object => json!({ "type": "object", "additionalProperties": true }),
            Self::Texts => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
            Self::Urls(most) => {
                json!({ "type": "array", "maxItems": most, "items": { "type": "string", "format": "uri" } })
            }
            Self::Words(most, words) => {
                json!({ "type": "array", "maxItems": most, "items": { "type": "string", "enum": words } })
            }
            Self::Events => {
                json!({ "type": "array", "minItems": 1, "maxItems": EVENTS_MAX, "items": schema(EVENT) })
            }
        }
    }

    /// What is wrong with a value, if anything is: the argument's name comes before it. `Err` may begin
    /// with a place inside the argument.
    pub fn check(self, value: &Value) -> Result<(), String> {
        let must = |fits: bool, what: &str| if fits { Ok(()) } else { Err(format!(" must be {what}")) };
        let text = value.as_str();
        let length = text.map(|text| text.chars().count());
        match self {
            Self::Uuid => must(text.and_then(form::uuid).is_some(), "a UUID"),
            Self::Text(least, usize::MAX) => {
                must(length.is_some_and(|length| length >= least), "text, and not empty")
            }
            Self::Text(least, most) => {
                let fits = length.is_some_and(|length| (least..=most).contains(&length));
                must(fits, &format!("text of {least} to {most} characters"))
            }
            Self::TextOrNull(most) => {
                let fits = value.is_null() || length.is_some_and(|length| length <= most);
                must(fits, &format!("null or text of at most {most} characters"))
            }
            Self::SessionId => must(text.is_some_and(is_base64url), "the id of a session"),
            Self::Cursor => must(text.is_some_and(is_base64url), "the next_cursor of an earlier page"),
            Self::Integer(least, most) => {
                let fits = value.as_i64().is_some_and(|number| (least..=most).contains(&number));
                let upward = format!("a whole number, {least} or more");
                let range = format!("a whole number from {least} to {most}");
                must(fits, if most == i64::MAX { &upward } else { &range })
            }
            Self::Boolean => must(value.is_boolean(), "true or false"),
            Self::OneOf(words) => {
                must(text.is_some_and(|text| words.contains(&text)), &format!("one of {}", words.join(", ")))
            }
            Self::Object => must(value.is_object(), "an object"),
            Self::Texts => {
                let members = value.as_object();
                let wrong =
                    members.and_then(|members| members.iter().find(|(_, member)| !member.is_string()));
                match wrong {
                    Some((name, _)) => Err(format!(".{name} must be text")),
                    None => must(members.is_some(), "an object whose members are text"),
                }
            }
            Self::Urls(most) => {
                let is_url = |value: &Value| value.as_str().is_some_and(|text| Url::parse(text).is_ok());
                each(value, 0, most, "URLs", |value| must(is_url(value), "a URL"))
            }
            Self::Words(most, words) => {
                let what = format!("one of {}", words.join(", "));
                let is_one = |value: &Value| value.as_str().is_some_and(|text| words.contains(&text));
                each(value, 0, most, "values", |value| must(is_one(value), &what))
            }
            Self::Events => each(value, 1, EVENTS_MAX, "events", |value| match value.as_object() {
                Some(members) => check(EVENT, members).map_err(|why| format!(".{why}")),
                None => must(false, "an object"),
            }),
        }
    }
}

/// Checks a list and each item in it.
fn each(
    value: &Value,
    least: usize,
    most: usize,
    what: &str,
    item: impl Fn(&Value) -> Result<(), String>,
) -> Result<(), String> {
    let Some(items) = value.as_array().filter(|items| (least..=most).contains(&items.len())) else {
        return Err(format!(" must be a list of {least} to {most} {what}"));
    };
    for (index, value) in items.iter().enumerate() {
        item(value).map_err(|why| format!("[{index}]{why}"))?;
    }
    Ok(())
}

/// One event, as it is emitted alone and in bulk.
#[rustfmt::skip]
pub(super) const EVENT: &[Argument] = &[
    needs("workspace",    Form::Uuid,               To::Body, "The workspace the event belongs to"),
    needs("event",        Form::Text(1, usize::MAX), To::Body, "The event's name, such as contact.created"),
    needs("payload",      Form::Object,             To::Body, "What happened: any JSON object, often with email, first_name and the like"),
    takes("resource",     Form::Text(1, usize::MAX), To::Body, "The kind of thing the event is about; global where it is left out"),
    takes("resource_id",  Form::Text(1, 64),        To::Body, "Which one of these things it is about"),
];

/// An argument that must be there.
pub(super) const fn needs(name: &'static str, form: Form, to: To, about: &'static str) -> Argument {
    Argument { name, about, form, is_required: true, to }
}

/// An argument that may be left out.
pub(super) const fn takes(name: &'static str, form: Form, to: To, about: &'static str) -> Argument {
    Argument { name, about, form, is_required: false, to }
}

/// The JSON Schema of an object with these members and no others.
pub(super) fn schema(arguments: &[Argument]) -> Map<String, Value> {
    let mut properties = Map::new();
    for argument in arguments {
        let mut schema = argument.form.schema();
        schema["description"] = argument.about.into();
        properties.insert(argument.name.to_owned(), schema);
    }
    let required: Vec<_> = arguments.iter().filter(|one| one.is_required).map(|one| one.name).collect();
    let mut whole = Map::new();
    whole.insert("type".into(), "object".into());
    whole.insert("properties".into(), properties.into());
    whole.insert("required".into(), required.into());
    whole.insert("additionalProperties".into(), false.into());
    whole
}

/// `Err` names the first argument that is missing, unknown or not of its form, and what it must be.
pub(super) fn check(arguments: &[Argument], given: &Map<String, Value>) -> Result<(), String> {
    for argument in arguments {
        match given.get(argument.name) {
            Some(value) => argument.form.check(value).map_err(|why| format!("{}{why}", argument.name))?,
            None if argument.is_required => return Err(format!("{} is required", argument.name)),
            None => {}
        }
    }
    let known = |name: &str| arguments.iter().any(|argument| argument.name == name);
    match given.keys().find(|name| !known(name)) {
        Some(name) => Err(format!("{name} is not an argument here")),
        None => Ok(()),
    }
}
