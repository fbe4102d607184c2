//! A document as rules look into it: numbers are the very digits that were sent.
//!
//! serde_json's `Value` would do but for its numbers: it refuses a document with `1e400` in it, and
//! a rule must neither match nor miss because of a number it does not ask about.

use super::scanner::{JsonError, Scanner};
use serde::{Serialize, Serializer, ser::Error as _};
use serde_json::{Value, value::RawValue};
use std::{borrow::Cow, cmp::Ordering};

/// One value, borrowed from the document where that is possible.
#[derive(Clone, Debug, PartialEq)]
pub enum Json<'a> {
    Null,
    Bool(bool),
    /// As it is spelled.
    Number(Cow<'a, str>),
    String(Cow<'a, str>),
    Array(Vec<Json<'a>>),
    /// By name.
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

impl<'a> Json<'a> {
    /// Reads a document as strictly as it was accepted.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, JsonError> {
        let mut scanner = Scanner::new(bytes)?;
        let document = Self::read(&mut scanner)?;
        scanner.end()?;
        Ok(document)
    }

    /// Goes no deeper than the scanner lets it.
    fn read(scanner: &mut Scanner<'a>) -> Result<Self, JsonError> {
        match scanner.peek() {
            Some(b'{') => {
                let mut members = Vec::new();
                scanner.open()?;
                while let Some(key) = scanner.next_key()? {
                    members.push((key.decode(), Self::read(scanner)?));
                }
                Ok(Self::object(members))
            }
            Some(b'[') => {
                let mut items = Vec::new();
                scanner.open()?;
                while scanner.next_item()? {
                    items.push(Self::read(scanner)?);
                }
                Ok(Self::Array(items))
            }
            Some(b'"') => Ok(Self::String(scanner.string()?.decode())),
            _ => Ok(match scanner.value()? {
                b"null" => Self::Null,
                b"true" => Self::Bool(true),
                b"false" => Self::Bool(false),
                number => Self::Number(String::from_utf8_lossy(number)),
            }),
        }
    }

    fn object(mut members: Vec<(Cow<'a, str>, Self)>) -> Self {
        members.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        Self::Object(members)
    }

    /// The value at a dotted path: members of objects, elements of arrays.
    pub fn at_path(&self, path: &str) -> Option<&Self> {
        path.split('.').try_fold(self, |value, part| match value {
            Self::Object(members) => {
                let found = members.binary_search_by(|(name, _)| name.as_ref().cmp(part)).ok()?;
                Some(&members[found].1)
            }
            Self::Array(items) => items.get(part.parse::<usize>().ok()?),
            _ => None,
        })
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// What it is, in words that may be shown when it may not.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Number(_) => "number",
            Self::String(_) => "string",
            Self::Array(_) => "list",
            Self::Object(_) => "object",
        }
    }

    /// Neither an array nor an object.
    pub const fn is_scalar(&self) -> bool {
        !matches!(self, Self::Array(_) | Self::Object(_))
    }

    /// How two numbers or two strings compare; nothing else does. Strings compare by code point.
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Number(one), Self::Number(other)) => Number::of(one).compare(Number::of(other)),
            (Self::String(one), Self::String(other)) => Some(one.cmp(other)),
            _ => None,
        }
    }

    /// Whether two scalars say the same: `1` is `1.0`.
    pub fn says(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Number(_), Self::Number(_)) => self.compare(other) == Some(Ordering::Equal),
            _ => self.is_scalar() && self == other,
        }
    }
}

/// A dotted path: a name first, then names and indexes. `^[a-zA-Z_][a-zA-Z0-9_]*(\.[a-zA-Z0-9_]+)*$`
pub fn is_path(text: &str) -> bool {
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    text.split('.').all(is_word) && !text.starts_with(|first: char| first.is_ascii_digit())
}

impl From<&Value> for Json<'static> {
    fn from(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(flag) => Self::Bool(*flag),
            Value::Number(number) => Self::Number(number.to_string().into()),
            Value::String(text) => Self::String(text.clone().into()),
            Value::Array(items) => Self::Array(items.iter().map(Self::from).collect()),
            Value::Object(members) => Self::object(
                members.iter().map(|(name, value)| (name.clone().into(), value.into())).collect(),
            ),
        }
    }
}

/// Written as JSON text, a number is spelled as it was. On the way through a `serde_json::Value` it
/// would become a float, so what is sent is made of these without one.
impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(flag) => serializer.serialize_bool(*flag),
            Self::Number(number) => {
                let spelled = RawValue::from_string(number.clone().into_owned()).map_err(S::Error::custom)?;
                spelled.serialize(serializer)
            }
            Self::String(text) => serializer.serialize_str(text),
            Self::Array(items) => serializer.collect_seq(items),
            Self::Object(members) => {
                serializer.collect_map(members.iter().map(|(name, value)| (name, value)))
            }
        }
    }
}

/// A number as it is compared: exactly as an integer while that is possible, else as a 64-bit float,
/// where what is beyond their range is greater, or less, than all of them.
#[derive(Clone, Copy)]
enum Number {
    Integer(i128),
    Float(f64),
}

impl Number {
    fn of(text: &str) -> Self {
        let float = || Self::Float(text.parse().unwrap_or(f64::NAN));
        text.parse().map_or_else(|_| float(), Self::Integer)
    }

    fn compare(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Integer(one), Self::Integer(other)) => Some(one.cmp(&other)),
            _ => self.float().partial_cmp(&other.float()),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a float is compared with, which is no more exact")]
    const fn float(self) -> f64 {
        match self {
            Self::Integer(integer) => integer as f64,
            Self::Float(float) => float,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cmp::Ordering::{Equal, Greater, Less};

    #[test]
    fn numbers_of_any_size_compare() {
        #[rustfmt::skip]
        let cases = [
            ("1",                    "1.0",                   Equal),
            ("-0",                   "0",                     Equal),
            ("1e2",                  "100",                   Equal),
            ("9007199254740993",     "9007199254740992",      Greater),
            ("18446744073709551616", "18446744073709551615",  Greater),
            ("1e400",                "1.7e308",               Greater),
            ("-1e400",               "-1.7e308",              Less),
            ("1e-400",               "0",                     Equal),
            ("0.1",                  "0.2",                   Less),
        ];
        for (one, other, expected) in cases {
            let number = |text| Json::parse(str::as_bytes(text)).expect("a number");
            assert_eq!(number(one).compare(&number(other)), Some(expected), "{one} and {other}");
            assert_eq!(number(other).compare(&number(one)), Some(expected.reverse()), "{other} and {one}");
        }
    }

    #[test]
    fn what_is_written_is_what_was_read() {
        let text = r#"{"a":[1e400,-0,0.10,123456789012345678901234567890,1E+2],"b":{"c":"\"é\n","d":null,"e":true}}"#;
        let read = Json::parse(text.as_bytes()).expect("JSON");
        assert_eq!(serde_json::to_string(&read).expect("JSON"), text);
    }

    #[test]
    fn what_was_not_accepted_is_not_read() {
        let deep = "[".repeat(70) + &"]".repeat(70);
        for text in ["", "nul", "01", "{\"a\":1,\"a\":2}", "[1,]", "1 2", &deep] {
            assert!(Json::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,6}".prop_map(Value::from),
        ];
        scalar.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec(("[a-c\"\u{e9}]{0,3}", inner), 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_document_reads_as_serde_reads_it(value in value()) {
            let text = value.to_string();
            let read = Json::parse(text.as_bytes()).expect("JSON");
            prop_assert_eq!(&read, &Json::from(&value));
            let written = serde_json::to_string(&read).expect("JSON");
            prop_assert_eq!(Json::parse(written.as_bytes()).expect("JSON"), read);
        }
    }
}
