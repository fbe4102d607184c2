//! The form of JSON that is accepted from anyone: one document, no name twice, nothing deep.
//!
//! Stand-in for `actors::domain::payload` until that lands.

use super::error::ApiError;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use std::{borrow::Cow, collections::HashSet, fmt};

/// Objects and arrays inside each other.
const DEPTH_MAX: usize = 64;

/// An event as it was sent, its form checked.
pub struct EventBody<'b> {
    pub event: Cow<'b, str>,
    /// The payload object, byte for byte.
    pub payload: &'b [u8],
    pub resource: Option<Cow<'b, str>>,
    pub resource_id: Option<Cow<'b, str>>,
    pub workspace: Option<Cow<'b, str>>,
}

/// Events in one bulk request.
const BULK_EVENTS_MAX: usize = 100;

fn wrong(param: &str, msg: impl fmt::Display) -> ApiError {
    ApiError::field(param, msg.to_string())
}

/// Whether the bytes are one well-formed document.
pub fn check(bytes: &[u8]) -> Result<(), ApiError> {
    let text = std::str::from_utf8(bytes).map_err(|_| wrong("body", "must be UTF-8"))?;
    let mut document = serde_json::Deserializer::from_str(text);
    Depth(0).deserialize(&mut document).and_then(|()| document.end()).map_err(|err| {
        let text = err.to_string();
        wrong("body", text.split(" at line ").next().unwrap_or_default())
    })
}

/// The events of a bulk request, each byte for byte.
pub fn parse_bulk(bytes: &[u8]) -> Result<Vec<&[u8]>, ApiError> {
    let items: Vec<&RawValue> =
        serde_json::from_slice(bytes).map_err(|err| wrong("body", format!("must be an array: {err}")))?;
    if !(1..=BULK_EVENTS_MAX).contains(&items.len()) {
        return Err(wrong("body", "must hold 1 to 100 events"));
    }
    Ok(items.into_iter().map(|item| item.get().as_bytes()).collect())
}

/// One event.
pub fn parse_event(bytes: &[u8]) -> Result<EventBody<'_>, ApiError> {
    #[derive(Deserialize)]
    struct Form<'b> {
        event: String,
        #[serde(borrow)]
        payload: &'b RawValue,
        resource: Option<String>,
        resource_id: Option<String>,
        workspace: Option<String>,
        #[serde(rename = "type")]
        kind: Option<String>,
    }
    check(bytes)?;
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(wrong("body", "must be an object"));
    }
    let form: Form<'_> = serde_json::from_slice(bytes).map_err(|err| wrong("body", err))?;
    let fits =
        |text: &str| !text.is_empty() && text.chars().count() <= 255 && !text.chars().any(char::is_control);
    if !fits(&form.event) {
        return Err(wrong("event", "must be 1 to 255 characters, none of them a control character"));
    }
    for (param, value) in [("resource", &form.resource), ("resource_id", &form.resource_id)] {
        if value.as_ref().is_some_and(|value| !fits(value)) {
            return Err(wrong(param, "must be 1 to 255 characters, none of them a control character"));
        }
    }
    if form.kind.is_some_and(|kind| kind != "event") {
        return Err(wrong("type", "must be event"));
    }
    let payload = form.payload.get().as_bytes();
    if payload.first() != Some(&b'{') {
        return Err(wrong("payload", "must be an object"));
    }
    Ok(EventBody {
        event: form.event.into(),
        payload,
        resource: form.resource.map(Cow::from),
        resource_id: form.resource_id.map(Cow::from),
        workspace: form.workspace.map(Cow::from),
    })
}

struct Depth(usize);

impl<'de> DeserializeSeed<'de> for Depth {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.0 > DEPTH_MAX {
            return Err(D::Error::custom("nested deeper than 64"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Depth {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Depth(self.0 + 1))?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            members.next_value_seed(Depth(self.0 + 1))?;
            if !names.insert(name) {
                return Err(A::Error::custom("a name comes twice"));
            }
        }
        Ok(())
    }
}
