//! What a mapping makes of a payload.

use super::{
    schema::{MappedField, OnError, Schema, Source, Transform},
    transform::Value,
};
use crate::domain::payload::Json;
use serde::{Serialize, Serializer};
use std::{borrow::Cow, fmt};

/// What applying one mapping may handle, in bytes of text and digits and one more for each value: each
/// time a transform reads a value, and once as it is sent. Some sixteen times the largest payload.
pub const WORK_BYTES_MAX: usize = 4 * 1_024 * 1_024;

impl Schema {
    /// Makes a payload into fields for a destination.
    ///
    /// # Errors
    /// A field that says `fail_action` has an error, or there is more to do than [`WORK_BYTES_MAX`]. The
    /// delivery's outcome is then `mapping_error`: another try would end the same.
    pub fn apply<'a>(&'a self, payload: &'a Json<'a>) -> Result<Applied<'a>, Failure> {
        let mut applied = Applied::default();
        let mut work = Work { bytes_left: WORK_BYTES_MAX };
        for field in &self.fields {
            match field.value(payload, &mut work) {
                Ok(Some(value)) => applied.fields.0.push((&field.dest, value)),
                Ok(None) => {}
                Err(Trouble::TooMuch) => return Err(Failure::TooMuch),
                Err(Trouble::Field(warning)) => match field.on_error.unwrap_or_default() {
                    OnError::SkipField => applied.skipped.push(*warning),
                    OnError::WarnAction => applied.warnings.push(*warning),
                    OnError::FailAction => return Err(Failure::Field(warning)),
                },
            }
        }
        Ok(applied)
    }
}

/// What a mapping made of a payload; its values are shared with both.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied<'a> {
    pub fields: Fields<'a>,
    /// Left out, and the attempt has to say so.
    pub warnings: Vec<Warning>,
    /// Left out without a word: for a preview to show.
    pub skipped: Vec<Warning>,
}

/// Values by the field they are for, in the order of the mapping.
///
/// Written as a JSON object, numbers keep their digits; a `serde_json::Value` in between would lose them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fields<'a>(Vec<(&'a str, Value<'a>)>);

impl Fields<'_> {
    /// What a field gets; it may be `null`.
    pub fn get(&self, dest: &str) -> Option<&Json<'_>> {
        self.iter().find(|(found, _)| *found == dest).map(|(_, value)| value)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Json<'_>)> {
        self.0.iter().map(|(dest, value)| (*dest, value.as_ref()))
    }

    pub const fn len(&self) -> usize {
        self.0.len()
    }

    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

/// Why a field was left out. Names places and kinds, never what the payload says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    pub dest: String,
    /// Where its value came from; `None` for a literal.
    pub path: Option<String>,
    /// What had no use for it.
    pub transform: &'static str,
    /// The kind of value that came to the transform.
    pub found: &'static str,
    /// What would help.
    pub why: &'static str,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dest, path, transform, found, why } = self;
        match path {
            Some(path) => write!(f, "{dest}: {transform} cannot use the {found} from {path}: {why}"),
            None => write!(f, "{dest}: {transform} cannot use the {found} of the literal: {why}"),
        }
    }
}

/// Why there is nothing to deliver.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// A field that must not be left out has an error.
    #[error("{0}")]
    Field(Box<Warning>),
    /// It would take too long, or be too large.
    #[error("the mapped values are too large: map fewer of the long ones, or transform them less")]
    TooMuch,
}

enum Trouble {
    Field(Box<Warning>),
    TooMuch,
}

impl MappedField {
    fn value<'a>(&'a self, payload: &'a Json<'a>, work: &mut Work) -> Result<Option<Value<'a>>, Trouble> {
        let mut value = self.source.find(payload).map(Cow::Borrowed);
        for transform in self.transforms.iter().flatten() {
            work.handle(value.as_deref())?;
            let found = value.as_deref().map_or("nothing", Json::kind);
            value = transform.apply(value).map_err(|why| self.trouble(transform, found, why))?;
        }
        work.handle(value.as_deref())?;
        Ok(value)
    }

    fn trouble(&self, transform: &Transform, found: &'static str, why: &'static str) -> Trouble {
        let path = match &self.source {
            Source::Path { value } => Some(value.clone()),
            Source::Literal { .. } => None,
        };
        let (dest, transform) = (self.dest.clone(), transform.name());
        Trouble::Field(Box::new(Warning { dest, path, transform, found, why }))
    }
}

impl Source {
    /// `null` in a payload says as much as nothing; in a literal it is meant.
    fn find<'a>(&'a self, payload: &'a Json<'a>) -> Option<&'a Json<'a>> {
        match self {
            Self::Literal { value } => Some(value),
            Self::Path { value } => payload.at_path(value).filter(|found| **found != Json::Null),
        }
    }
}

/// How much may still be handled.
struct Work {
    bytes_left: usize,
}

impl Work {
    /// Stops as soon as it is too much, so counting is bounded by the same.
    fn handle(&mut self, value: Option<&Json<'_>>) -> Result<(), Trouble> {
        let Some(value) = value else { return Ok(()) };
        match value {
            Json::Null | Json::Bool(_) => {}
            Json::Number(text) | Json::String(text) => self.spend(text.len())?,
            Json::Array(items) => items.iter().try_for_each(|item| self.handle(Some(item)))?,
            Json::Object(members) => members.iter().try_for_each(|(name, value)| {
                self.spend(name.len())?;
                self.handle(Some(value))
            })?,
        }
        self.spend(1)
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Trouble> {
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or(Trouble::TooMuch)?;
        Ok(())
    }
}
