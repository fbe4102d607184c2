//! A mapping as it is written: what it is made of, and how it is written back.

use crate::domain::payload::Json;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use schemars::{JsonSchema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer, ser::SerializeStruct};
use std::{borrow::Cow, num::NonZeroU64};

/// Fields in one mapping.
pub const FIELDS_MAX: usize = 250;
/// Transforms of one field.
pub const TRANSFORMS_MAX: usize = 10;
/// Characters of a `dest`.
pub const DEST_CHARS_MAX: usize = 128;
/// Characters of a path.
pub const PATH_CHARS_MAX: usize = 128;
/// Characters of a literal that is a string.
pub const LITERAL_CHARS_MAX: usize = 256;
/// Characters of a `default` that is a string.
pub const DEFAULT_CHARS_MAX: usize = 128;
/// Characters of a time zone's name.
pub const TIMEZONE_CHARS_MAX: usize = 64;
/// Characters of notes.
pub const NOTES_CHARS_MAX: usize = 1_024;
/// Characters of a mapping's own name.
pub const META_NAME_CHARS_MAX: usize = 64;

/// The only version of schemas there is.
pub(super) const VERSION: u8 = 1;

/// A mapping that is known to be well formed.
///
/// Written as JSON text it is what it was read from, but for members it does not know and optional
/// ones that were `null`: those are left out. Literals keep their digits, so keep it as text.
#[derive(Clone, Debug, PartialEq)]
pub struct Schema {
    pub(super) fields: Vec<MappedField>,
    pub(super) meta: Option<Meta>,
}

impl Schema {
    /// In the order they are applied, each with a `dest` of its own.
    pub fn fields(&self) -> &[MappedField] {
        &self.fields
    }

    pub const fn meta(&self) -> Option<&Meta> {
        self.meta.as_ref()
    }
}

impl Serialize for Schema {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut schema = serializer.serialize_struct("Schema", 3)?;
        schema.serialize_field("schema_version", &VERSION)?;
        schema.serialize_field("fields", &self.fields)?;
        match &self.meta {
            Some(meta) => schema.serialize_field("meta", meta)?,
            None => schema.skip_field("meta")?,
        }
        schema.end()
    }
}

impl JsonSchema for Schema {
    fn schema_name() -> Cow<'static, str> {
        "MappingSchema".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> schemars::Schema {
        let (fields, meta) =
            (generator.subschema_for::<Vec<MappedField>>(), generator.subschema_for::<Option<Meta>>());
        let mut schema = json_schema!({
            "type": "object",
            "description": "Which value of a payload becomes which field at the destination.",
            "properties": { "schema_version": { "const": VERSION }, "fields": fields, "meta": meta },
            "required": ["schema_version", "fields"],
        });
        if let Some(fields) = schema.pointer_mut("/properties/fields") {
            fields["maxItems"] = FIELDS_MAX.into();
        }
        schema
    }
}

/// Of a value that a mapping itself has.
fn literal(_: &mut SchemaGenerator) -> schemars::Schema {
    json_schema!({ "type": ["string", "number", "boolean", "null"], "maxLength": LITERAL_CHARS_MAX })
}

/// What one field of the destination gets.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct MappedField {
    /// The field's key in the catalog. Dots in it mean something to the destination alone.
    #[schemars(length(min = 1, max = DEST_CHARS_MAX))]
    pub dest: String,
    pub source: Source,
    /// Applied in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = TRANSFORMS_MAX))]
    pub transforms: Option<Vec<Transform>>,
    /// `skip_field` if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_error: Option<OnError>,
    /// For whoever reads the mapping.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = NOTES_CHARS_MAX))]
    pub notes: Option<String>,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schemars(rename = "MappingSource")]
pub enum Source {
    /// The mapping itself: a string, number, boolean or `null`.
    Literal {
        #[schemars(schema_with = "literal")]
        value: Json<'static>,
    },
    /// The payload, at a dotted path.
    Path {
        #[schemars(length(min = 1, max = PATH_CHARS_MAX), regex(pattern = "^[a-zA-Z_][a-zA-Z0-9_]*(\\.[a-zA-Z0-9_]+)*$"))]
        value: String,
    },
}

/// What is done to a value; the table is above, in the module.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schemars(rename = "MappingTransform")]
pub enum Transform {
    ToString,
    ToNumber,
    ToBoolean,
    ToDate {
        #[serde(skip_serializing_if = "Option::is_none")]
        timezone: Option<Zone>,
    },
    ToDatetime {
        #[serde(skip_serializing_if = "Option::is_none")]
        timezone: Option<Zone>,
    },
    /// A string, number, boolean or `null`.
    Default {
        #[schemars(schema_with = "literal")]
        value: Json<'static>,
    },
    Trim,
    Lower,
    Upper,
    /// In Unicode scalar values.
    Substring {
        start: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        length: Option<NonZeroU64>,
    },
}

impl Transform {
    /// All of them, as they are written.
    pub(super) const NAMES: [&str; 10] = [
        "to_string",
        "to_number",
        "to_boolean",
        "to_date",
        "to_datetime",
        "default",
        "trim",
        "lower",
        "upper",
        "substring",
    ];

    /// As it is written.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::ToString => "to_string",
            Self::ToNumber => "to_number",
            Self::ToBoolean => "to_boolean",
            Self::ToDate { .. } => "to_date",
            Self::ToDatetime { .. } => "to_datetime",
            Self::Default { .. } => "default",
            Self::Trim => "trim",
            Self::Lower => "lower",
            Self::Upper => "upper",
            Self::Substring { .. } => "substring",
        }
    }
}

/// What becomes of a field that a transform has no use for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// It is left out.
    #[default]
    SkipField,
    /// It is left out, and the attempt says so.
    WarnAction,
    /// The delivery fails.
    FailAction,
}

impl OnError {
    /// All of them, as they are written.
    pub(super) const NAMES: [(&str, Self); 3] = [
        ("skip_field", Self::SkipField),
        ("warn_action", Self::WarnAction),
        ("fail_action", Self::FailAction),
    ];
}

/// For whoever reads the mapping.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct Meta {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = META_NAME_CHARS_MAX))]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = NOTES_CHARS_MAX))]
    pub notes: Option<String>,
}

/// A time zone by its [IANA](https://www.iana.org/time-zones) name, ready to be asked.
#[derive(Clone, Debug)]
pub struct Zone {
    name: String,
    pub(super) rules: TimeZone,
}

impl Zone {
    /// Finds a zone in the database that comes with us, in capitals or not.
    pub fn find(name: &str) -> Option<Self> {
        let rules = TimeZoneDatabase::bundled().get(name).ok().filter(|rules| !rules.is_unknown())?;
        Some(Self { name: name.to_owned(), rules })
    }

    /// As it was written.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl JsonSchema for Zone {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Zone".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> schemars::Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": TIMEZONE_CHARS_MAX })
    }
}

impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}
