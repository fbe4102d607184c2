//! Reading a mapping: every mistake is named, with its place and what to write instead.

use super::schema::{
    DEFAULT_CHARS_MAX, DEST_CHARS_MAX, FIELDS_MAX, LITERAL_CHARS_MAX, META_NAME_CHARS_MAX, MappedField, Meta,
    NOTES_CHARS_MAX, OnError, PATH_CHARS_MAX, Schema, Source, TIMEZONE_CHARS_MAX, TRANSFORMS_MAX, Transform,
    VERSION, Zone,
};
use crate::domain::{
    field::FieldError,
    payload::{Json, is_path},
};
use std::{borrow::Cow, collections::HashMap, num::NonZeroU64};

/// Mistakes that are named at once; who mends these may learn of more.
pub const ERRORS_MAX: usize = 50;

impl Schema {
    /// Understands `{"schema_version": 1, "fields": […], "meta": {…}}`. Members it does not know are
    /// ignored, and an optional one that is `null` is not there.
    ///
    /// # Errors
    /// All that is wrong, in the order of the text, at most [`ERRORS_MAX`]: `schema.fields[3].source.value`.
    pub fn parse(schema: &Json<'_>) -> Result<Self, Vec<FieldError>> {
        let mut reader = Reader::default();
        let parsed = reader.schema(schema);
        match parsed {
            Some(schema) if reader.errors.is_empty() => Ok(schema),
            _ => Err(reader.errors),
        }
    }
}

/// Collects what is wrong. Its methods say `None` for what is not there and for what they refused.
#[derive(Default)]
struct Reader {
    errors: Vec<FieldError>,
}

/// An object and where it stands.
struct Place<'a> {
    object: &'a Json<'a>,
    name: String,
}

impl<'a> Place<'a> {
    /// A member and where it stands; `null` says the same as nothing.
    fn optional(&self, key: &str) -> Option<&'a Json<'a>> {
        self.object.at_path(key).filter(|value| **value != Json::Null)
    }

    fn of(&self, key: &str) -> String {
        format!("{}.{key}", self.name)
    }
}

impl Reader {
    fn refuse(&mut self, place: impl Into<String>, msg: impl Into<String>) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(FieldError::new(place, msg));
        }
    }

    fn schema(&mut self, schema: &Json<'_>) -> Option<Schema> {
        let place = self.object(schema, "schema".to_owned())?;
        let version = Json::Number(Cow::Owned(VERSION.to_string()));
        if !place.optional("schema_version").is_some_and(|found| found.says(&version)) {
            self.refuse(place.of("schema_version"), format!("must be {VERSION}"));
        }
        let fields = self.fields(&place);
        let meta = place.optional("meta").and_then(|meta| self.meta(meta, place.of("meta")));
        Some(Schema { fields: fields?, meta })
    }

    fn fields(&mut self, schema: &Place<'_>) -> Option<Vec<MappedField>> {
        let Some(found) = schema.optional("fields") else {
            self.refuse(schema.of("fields"), "is required: a list, which may be empty");
            return None;
        };
        let items = self.list(found, schema.of("fields"), FIELDS_MAX)?;
        let mut fields = Vec::with_capacity(items.len());
        let mut mapped = HashMap::new();
        for (index, item) in items.iter().enumerate() {
            let name = format!("schema.fields[{index}]");
            let Some(field) = self.field(item, name, &mut mapped, index) else { continue };
            fields.push(field);
        }
        Some(fields)
    }

    /// `mapped` says which field already has a `dest`.
    fn field<'a>(
        &mut self,
        field: &'a Json<'a>,
        name: String,
        mapped: &mut HashMap<&'a str, usize>,
        index: usize,
    ) -> Option<MappedField> {
        let place = self.object(field, name)?;
        let dest = self.required_text(&place, "dest", DEST_CHARS_MAX);
        if let Some(dest) = dest {
            let first = *mapped.entry(dest).or_insert(index);
            if first != index {
                let msg = format!("is the dest of fields[{first}] already: map each field once");
                self.refuse(place.of("dest"), msg);
            }
        }
        let source = self.source(&place);
        let transforms = self.transforms(&place);
        let on_error = self.on_error(&place);
        let notes = self.optional_text(&place, "notes", NOTES_CHARS_MAX);
        Some(MappedField { dest: dest?.to_owned(), source: source?, transforms, on_error, notes })
    }

    fn source(&mut self, field: &Place<'_>) -> Option<Source> {
        let Some(source) = field.optional("source") else {
            self.refuse(field.of("source"), "is required: a path or a literal");
            return None;
        };
        let place = self.object(source, field.of("source"))?;
        match place.optional("type").and_then(Json::as_str) {
            Some("path") => self.path(&place).map(|value| Source::Path { value }),
            Some("literal") => self.scalar(&place, LITERAL_CHARS_MAX).map(|value| Source::Literal { value }),
            _ => {
                self.refuse(place.of("type"), "must be path or literal");
                None
            }
        }
    }

    fn path(&mut self, source: &Place<'_>) -> Option<String> {
        let path = self.required_text(source, "value", PATH_CHARS_MAX)?;
        if !is_path(path) {
            let msg = "must be a dotted path from the payload on, such as email or items.0.sku";
            self.refuse(source.of("value"), msg);
            return None;
        }
        Some(path.to_owned())
    }

    fn transforms(&mut self, field: &Place<'_>) -> Option<Vec<Transform>> {
        let name = field.of("transforms");
        let items = self.list(field.optional("transforms")?, name.clone(), TRANSFORMS_MAX)?;
        let transform = |(index, item)| self.transform(item, format!("{name}[{index}]"));
        Some(items.iter().enumerate().filter_map(transform).collect())
    }

    fn transform(&mut self, transform: &Json<'_>, name: String) -> Option<Transform> {
        let place = self.object(transform, name)?;
        match place.optional("type").and_then(Json::as_str) {
            Some("to_string") => Some(Transform::ToString),
            Some("to_number") => Some(Transform::ToNumber),
            Some("to_boolean") => Some(Transform::ToBoolean),
            Some("to_date") => Some(Transform::ToDate { timezone: self.timezone(&place) }),
            Some("to_datetime") => Some(Transform::ToDatetime { timezone: self.timezone(&place) }),
            Some("default") => {
                self.scalar(&place, DEFAULT_CHARS_MAX).map(|value| Transform::Default { value })
            }
            Some("trim") => Some(Transform::Trim),
            Some("lower") => Some(Transform::Lower),
            Some("upper") => Some(Transform::Upper),
            Some("substring") => self.substring(&place),
            _ => {
                self.refuse(place.of("type"), format!("must be one of {}", Transform::NAMES.join(", ")));
                None
            }
        }
    }

    fn timezone(&mut self, transform: &Place<'_>) -> Option<Zone> {
        let name = self.optional_text(transform, "timezone", TIMEZONE_CHARS_MAX)?;
        let zone = Zone::find(&name);
        if zone.is_none() {
            let msg = "must be a time zone of the IANA database, such as Europe/Prague or UTC";
            self.refuse(transform.of("timezone"), msg);
        }
        zone
    }

    fn substring(&mut self, transform: &Place<'_>) -> Option<Transform> {
        let whole = |value: &Json<'_>| match value {
            Json::Number(digits) => digits.parse::<u64>().ok(),
            _ => None,
        };
        let start = transform.optional("start").and_then(whole);
        if start.is_none() {
            self.refuse(transform.of("start"), "must be a whole number, 0 or more");
        }
        let length = transform.optional("length").map(|length| whole(length).and_then(NonZeroU64::new));
        if length == Some(None) {
            self.refuse(transform.of("length"), "must be a whole number, 1 or more, or left out");
        }
        Some(Transform::Substring { start: start?, length: length.flatten() })
    }

    fn on_error(&mut self, field: &Place<'_>) -> Option<OnError> {
        let found = field.optional("on_error")?;
        let known = OnError::NAMES.into_iter().find(|(name, _)| found.as_str() == Some(name));
        if known.is_none() {
            self.refuse(field.of("on_error"), "must be skip_field, warn_action or fail_action");
        }
        known.map(|(_, on_error)| on_error)
    }

    fn meta(&mut self, meta: &Json<'_>, name: String) -> Option<Meta> {
        let place = self.object(meta, name)?;
        let name = self.optional_text(&place, "name", META_NAME_CHARS_MAX);
        let notes = self.optional_text(&place, "notes", NOTES_CHARS_MAX);
        Some(Meta { name, notes })
    }

    fn object<'a>(&mut self, value: &'a Json<'a>, name: String) -> Option<Place<'a>> {
        if !matches!(value, Json::Object(_)) {
            self.refuse(name, "must be an object");
            return None;
        }
        Some(Place { object: value, name })
    }

    fn list<'a>(&mut self, value: &'a Json<'a>, name: String, items_max: usize) -> Option<&'a [Json<'a>]> {
        let Json::Array(items) = value else {
            self.refuse(name, "must be a list");
            return None;
        };
        if items.len() > items_max {
            self.refuse(name, format!("must have at most {items_max} items"));
            return None;
        }
        Some(items)
    }

    /// The value of a literal or a default: `null` is one, too.
    fn scalar(&mut self, holder: &Place<'_>, chars_max: usize) -> Option<Json<'static>> {
        let value = match holder.object.at_path("value") {
            Some(Json::Null) => Some(Json::Null),
            Some(Json::Bool(flag)) => Some(Json::Bool(*flag)),
            Some(Json::Number(digits)) if digits.len() <= chars_max => {
                Some(Json::Number(Cow::Owned(digits.to_string())))
            }
            Some(Json::Number(_)) => {
                self.refuse(
                    holder.of("value"),
                    format!("must be a number of at most {chars_max} characters"),
                );
                return None;
            }
            Some(Json::String(_)) => {
                let text = self.required_text(holder, "value", chars_max)?;
                Some(Json::String(Cow::Owned(text.to_owned())))
            }
            _ => None,
        };
        if value.is_none() {
            self.refuse(holder.of("value"), "must be a string, a number, a boolean or null");
        }
        value
    }

    fn required_text<'a>(&mut self, holder: &Place<'a>, key: &str, chars_max: usize) -> Option<&'a str> {
        let Some(value) = holder.optional(key) else {
            self.refuse(holder.of(key), "is required");
            return None;
        };
        let text = value.as_str().filter(|text| (1..=chars_max).contains(&text.chars().count()));
        if text.is_none() {
            self.refuse(holder.of(key), format!("must be a string of 1 to {chars_max} characters"));
        }
        text
    }

    fn optional_text(&mut self, holder: &Place<'_>, key: &str, chars_max: usize) -> Option<String> {
        holder.optional(key)?;
        self.required_text(holder, key, chars_max).map(str::to_owned)
    }
}
