//! The ten transforms; what each makes of what is the table above, in the module.

use super::{moment::Moment, schema::Transform};
use crate::domain::payload::Json;
use std::borrow::Cow;

/// A value on its way: shared with the payload or the mapping until something changes it.
pub(super) type Value<'a> = Cow<'a, Json<'a>>;

/// Why a transform has no use for a value, to be read after what it is.
type Why = &'static str;

const PICK_ONE: Why = "it needs a single value, so let the path lead to one";
const NOT_A_NUMBER: Why = "it must spell a number as JSON does, such as 42 or -1.50";
const NOT_A_BOOLEAN: Why = "it must be true, t, yes, y, on, 1, false, f, no, n, off or 0";
const NOT_A_TIME: Why = "it must be a day such as 2026-03-15, a time such as 2026-03-15T12:00:00Z, or seconds or \
                         milliseconds since 1970, in the years 0 to 9999";
const NOT_A_STRING: Why = "it needs a string, so put to_string before it";
const NOT_WRITABLE: Why = "it has no JSON text";

const TRUE: [&str; 6] = ["true", "t", "yes", "y", "on", "1"];
const FALSE: [&str; 6] = ["false", "f", "no", "n", "off", "0"];

impl Transform {
    /// What becomes of a value; `None` is a missing one.
    pub(super) fn apply<'a>(&'a self, value: Option<Value<'a>>) -> Result<Option<Value<'a>>, Why> {
        match (self, value) {
            (Self::Default { value }, None) => Ok(Some(Cow::Borrowed(value))),
            (Self::Default { value }, Some(found)) if *found == Json::Null => Ok(Some(Cow::Borrowed(value))),
            (Self::Default { .. }, found) => Ok(found),
            (_, Some(found)) if *found != Json::Null => self.change(found).map(Some),
            (_, nothing) => Ok(nothing),
        }
    }

    fn change<'a>(&self, value: Value<'a>) -> Result<Value<'a>, Why> {
        match self {
            Self::Default { .. } => Ok(value),
            Self::ToString => to_string(value),
            Self::ToNumber => to_number(value),
            Self::ToBoolean => to_boolean(&value).map(|flag| Cow::Owned(Json::Bool(flag))),
            Self::ToDate { timezone } => {
                let zone = timezone.as_ref().map(|zone| &zone.rules);
                time(&value, |moment| moment.to_date(zone))
            }
            Self::ToDatetime { timezone } => {
                let zone = timezone.as_ref().map(|zone| &zone.rules);
                time(&value, |moment| moment.to_datetime(zone))
            }
            Self::Trim => letters(value, |text| text.trim().to_owned()),
            Self::Lower => letters(value, str::to_lowercase),
            Self::Upper => letters(value, str::to_uppercase),
            Self::Substring { start, length } => match value.as_ref() {
                Json::String(text) => {
                    Ok(string(substring(text, *start, length.map_or(u64::MAX, |length| length.get()))))
                }
                Json::Array(_) | Json::Object(_) => Err(PICK_ONE),
                _ => Err(NOT_A_STRING),
            },
        }
    }
}

fn string<'a>(text: impl Into<String>) -> Value<'a> {
    Cow::Owned(Json::String(Cow::Owned(text.into())))
}

fn to_string(value: Value<'_>) -> Result<Value<'_>, Why> {
    match value.as_ref() {
        Json::String(_) => Ok(value),
        Json::Number(digits) => Ok(string(digits.as_ref())),
        other => serde_json::to_string(other).map(string).map_err(|_| NOT_WRITABLE),
    }
}

fn to_number(value: Value<'_>) -> Result<Value<'_>, Why> {
    let digits = match value.as_ref() {
        Json::Number(_) => return Ok(value),
        Json::Bool(flag) => if *flag { "1" } else { "0" }.to_owned(),
        Json::String(text) => spelled_number(text.trim()).ok_or(NOT_A_NUMBER)?.to_owned(),
        Json::Null | Json::Array(_) | Json::Object(_) => return Err(PICK_ONE),
    };
    Ok(Cow::Owned(Json::Number(Cow::Owned(digits))))
}

/// The text, if it is a number as JSON spells it.
pub(super) fn spelled_number(text: &str) -> Option<&str> {
    if !text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return None;
    }
    matches!(Json::parse(text.as_bytes()), Ok(Json::Number(_))).then_some(text)
}

fn to_boolean(value: &Json<'_>) -> Result<bool, Why> {
    let is_one_of = |words: [&str; 6], text: &str| words.iter().any(|word| word.eq_ignore_ascii_case(text));
    let says = |digit: &'static str| value.says(&Json::Number(digit.into()));
    match value {
        Json::Bool(flag) => Ok(*flag),
        Json::String(text) if is_one_of(TRUE, text.trim()) => Ok(true),
        Json::String(text) if is_one_of(FALSE, text.trim()) => Ok(false),
        Json::Number(_) if says("1") => Ok(true),
        Json::Number(_) if says("0") => Ok(false),
        Json::Array(_) | Json::Object(_) => Err(PICK_ONE),
        _ => Err(NOT_A_BOOLEAN),
    }
}

fn time<'a>(value: &Json<'_>, write: impl FnOnce(Moment) -> Option<String>) -> Result<Value<'a>, Why> {
    if let Json::Array(_) | Json::Object(_) = value {
        return Err(PICK_ONE);
    }
    Moment::read(value).and_then(write).map(string).ok_or(NOT_A_TIME)
}

/// Changes a string; numbers and booleans have no letters, so they stay as they are.
fn letters(value: Value<'_>, change: impl FnOnce(&str) -> String) -> Result<Value<'_>, Why> {
    match value.as_ref() {
        Json::String(text) => Ok(string(change(text))),
        Json::Array(_) | Json::Object(_) => Err(PICK_ONE),
        _ => Ok(value),
    }
}

fn substring(text: &str, start: u64, length: u64) -> &str {
    let (_, rest) = text.split_at(byte_of(text, start));
    let (kept, _) = rest.split_at(byte_of(rest, length));
    kept
}

/// Where a character starts, in bytes; the end if there are not so many.
fn byte_of(text: &str, character: u64) -> usize {
    let found = usize::try_from(character).ok().and_then(|character| text.char_indices().nth(character));
    found.map_or(text.len(), |(at, _)| at)
}
