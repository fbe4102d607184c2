//! What a caller sends as an event: checked here once, kept as it came.
//!
//! The payload stays the very bytes that were sent, numbers of any size included, so what is
//! delivered and shown later is what the caller said. One pass over the bytes checks the JSON
//! and notes where the few members are that we look at.

mod json;
mod scanner;
#[cfg(test)]
mod tests;

pub use json::{Json, is_path};
pub use scanner::{JsonError, NESTING_MAX, check_document};

use super::field::FieldError;
use scanner::Scanner;
use std::borrow::Cow;

/// Events in one bulk request.
pub const BULK_ITEMS_MAX: usize = 100;

/// An event's name, resource or resource id, in characters.
pub const NAME_CHARS_MAX: usize = 255;

/// An e-mail address, in characters: 64 before the @ and 255 behind it.
pub const EMAIL_CHARS_MAX: usize = 320;

/// Payload members that are text wherever they appear: typed clients decode them so.
pub const PAYLOAD_TEXTS: [&str; 8] =
    ["email", "id", "ip_address", "name", "first_name", "last_name", "phone", "resource_url"];

/// What a caller said happened. Which workspace may say so is not decided here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventBody<'a> {
    /// Its name, as sent.
    pub event: String,
    /// A JSON object that says something: a slice of what was parsed.
    pub payload: &'a [u8],
    pub resource: Option<String>,
    pub resource_id: Option<String>,
    /// The workspace as the caller named it, in any form.
    pub workspace: Option<String>,
}

impl From<JsonError> for FieldError {
    fn from(err: JsonError) -> Self {
        Self::new("body", format!("is {err}"))
    }
}

/// Reads one event. Members it does not know are checked as JSON, then ignored.
///
/// # Errors
/// The first member that breaks a rule. What is wrong with the JSON comes before all of them.
pub fn parse_event(bytes: &[u8]) -> Result<EventBody<'_>, FieldError> {
    let mut scanner = Scanner::new(bytes)?;
    if scanner.peek() != Some(b'{') {
        scanner.value()?;
        scanner.end()?;
        return Err(FieldError::new("body", "must be a JSON object"));
    }
    let envelope = Envelope::scan(&mut scanner)?;
    scanner.end()?;
    envelope.check()
}

/// Cuts a bulk request into its items, to be read by [`parse_event`] one by one.
///
/// A wrong item fails by itself: also one that is no object or has equal keys. Only what makes
/// the list unreadable, nesting included, refuses the whole.
///
/// # Errors
/// Not JSON, not an array, or not 1 to [`BULK_ITEMS_MAX`] items.
pub fn parse_bulk(bytes: &[u8]) -> Result<Vec<&[u8]>, FieldError> {
    let mut scanner = Scanner::new(bytes)?.of_list();
    if scanner.peek() != Some(b'[') {
        scanner.value()?;
        scanner.end()?;
        return Err(FieldError::new("body", "must be a JSON array"));
    }
    scanner.open()?;
    let mut items = Vec::new();
    while scanner.next_item()? {
        if items.len() == BULK_ITEMS_MAX {
            return Err(FieldError::new("body", format!("must have at most {BULK_ITEMS_MAX} items")));
        }
        items.push(scanner.value()?);
    }
    scanner.end()?;
    if items.is_empty() {
        return Err(FieldError::new("body", "must have at least one item"));
    }
    Ok(items)
}

/// Where the members we look at are.
#[derive(Default)]
struct Envelope<'a> {
    event: Option<Value<'a>>,
    payload: Option<Value<'a>>,
    resource: Option<Value<'a>>,
    resource_id: Option<Value<'a>>,
    kind: Option<Value<'a>>,
    workspace: Option<Value<'a>>,
    payload_texts: [Option<Value<'a>>; PAYLOAD_TEXTS.len()],
    payload_says_something: bool,
}

impl<'a> Envelope<'a> {
    fn scan(scanner: &mut Scanner<'a>) -> Result<Self, JsonError> {
        let mut envelope = Self::default();
        scanner.open()?;
        while let Some(key) = scanner.next_key()? {
            let from = scanner.peek();
            let key = key.decode();
            if key == "payload" && from == Some(b'{') {
                envelope.payload = Some(envelope.scan_payload(scanner)?);
                continue;
            }
            let value = Some(Value(scanner.value()?));
            match key.as_ref() {
                "event" => envelope.event = value,
                "payload" => envelope.payload = value,
                "resource" => envelope.resource = value,
                "resource_id" => envelope.resource_id = value,
                "type" => envelope.kind = value,
                "workspace" => envelope.workspace = value,
                _ => {}
            }
        }
        Ok(envelope)
    }

    fn scan_payload(&mut self, scanner: &mut Scanner<'a>) -> Result<Value<'a>, JsonError> {
        let from = scanner.offset();
        scanner.open()?;
        while let Some(key) = scanner.next_key()? {
            let value = Value(scanner.value()?);
            self.payload_says_something = self.payload_says_something || !value.is_empty();
            let key = key.decode();
            if let Some(at) = PAYLOAD_TEXTS.iter().position(|text| *text == key) {
                self.payload_texts[at] = Some(value);
            }
        }
        Ok(Value(scanner.since(from)))
    }

    fn check(self) -> Result<EventBody<'a>, FieldError> {
        let event = name("event", self.event)?.ok_or_else(|| FieldError::new("event", "is required"))?;
        if event.trim().is_empty() {
            return Err(FieldError::new("event", "must not be blank"));
        }
        let payload = present(self.payload).ok_or_else(|| FieldError::new("payload", "is required"))?;
        if payload.0.first() != Some(&b'{') {
            return Err(FieldError::new("payload", "must be an object"));
        }
        if !self.payload_says_something {
            return Err(FieldError::new("payload", "must have a value that is not empty"));
        }
        for (key, value) in PAYLOAD_TEXTS.into_iter().zip(self.payload_texts) {
            let param = || format!("payload.{key}");
            let text = text(param, value)?;
            if key == "email" && text.is_some_and(|email| !is_email(&email)) {
                return Err(FieldError::new(param(), "must be an e-mail address"));
            }
        }
        let resource = name("resource", self.resource)?;
        let resource_id = name("resource_id", self.resource_id)?;
        if text(|| "type".into(), self.kind)?.is_some_and(|kind| kind != "event") {
            return Err(FieldError::new("type", "must be \"event\""));
        }
        let workspace = text(|| "workspace".into(), self.workspace)?.map(Cow::into_owned);
        Ok(EventBody { event, payload: payload.0, resource, resource_id, workspace })
    }
}

/// The bytes of one value, known to be well formed.
#[derive(Clone, Copy)]
struct Value<'a>(&'a [u8]);

impl<'a> Value<'a> {
    /// Its text, if it is a string.
    fn text(self) -> Option<Cow<'a, str>> {
        let mut scanner = Scanner::new(self.0).ok()?;
        if scanner.peek() != Some(b'"') {
            return None;
        }
        scanner.string().ok().map(scanner::Text::decode)
    }

    /// `null`, a blank string, `[]` or `{}`.
    fn is_empty(self) -> bool {
        match self.0 {
            b"null" => true,
            [b'"', ..] => self.text().is_some_and(|text| text.trim().is_empty()),
            [b'[' | b'{', inside @ .., _] => inside.trim_ascii().is_empty(),
            _ => false,
        }
    }
}

/// A member that is missing and one that is `null` say the same.
fn present(value: Option<Value<'_>>) -> Option<Value<'_>> {
    value.filter(|value| value.0 != b"null")
}

fn text<'a>(
    param: impl Fn() -> String,
    value: Option<Value<'a>>,
) -> Result<Option<Cow<'a, str>>, FieldError> {
    let Some(value) = present(value) else { return Ok(None) };
    value.text().map(Some).ok_or_else(|| FieldError::new(param(), "must be a string"))
}

/// Text that will be compared, listed and put in headers: short, printable, not empty.
fn name(param: &str, value: Option<Value<'_>>) -> Result<Option<String>, FieldError> {
    let Some(name) = text(|| param.into(), value)? else { return Ok(None) };
    if name.is_empty() {
        return Err(FieldError::new(param, "must not be empty"));
    }
    if name.chars().count() > NAME_CHARS_MAX {
        return Err(FieldError::new(param, format!("must have at most {NAME_CHARS_MAX} characters")));
    }
    if name.chars().any(char::is_control) {
        return Err(FieldError::new(param, "must not have control characters"));
    }
    Ok(Some(name.into_owned()))
}

/// Whether it could be an address. Only sending to it would tell for certain.
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    !local.is_empty()
        && !domain.is_empty()
        && !domain.contains('@')
        && !text.contains(|char: char| char.is_whitespace() || char.is_control())
        && text.chars().count() <= EMAIL_CHARS_MAX
}
