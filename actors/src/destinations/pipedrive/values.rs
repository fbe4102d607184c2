//! What a person's fields hold, and values as they have to be.

use crate::{
    destinations::service::{Api, Stop, Work, text_at, text_of, value_of},
    domain::{
        catalog::{CatalogField, CatalogFieldKind, Constraints},
        payload::Json,
    },
};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// The fields beside those everybody knows that a person is written with: key, label, what it holds.
pub(super) const BUILT_IN: [(&str, &str, CatalogFieldKind); 4] = [
    ("owner_id", "Owner's id", CatalogFieldKind::Number),
    ("org_id", "Organization's id", CatalogFieldKind::Number),
    ("visible_to", "Visible to (1, 3, 5 or 7)", CatalogFieldKind::Number),
    ("marketing_status", "Marketing status", CatalogFieldKind::String),
];
/// What is spoken of in other words than as a field of that name.
const PARTS: [&str; 5] = ["email", "name", "first_name", "last_name", "phone"];
/// What is remembered under this: the fields.
pub(super) const CATALOG: &str = "person-fields";
const CATALOG_FOR: Duration = Duration::from_secs(5 * 60);
/// Pages of fields that are read, at most.
const PAGES_MAX: usize = 20;

/// A field of persons.
pub(super) struct PersonField {
    pub code: String,
    pub name: String,
    pub kind: String,
    pub options: Vec<(u64, String)>,
    pub is_custom: bool,
}

/// Where a field stands in a body.
pub(super) enum Place {
    Top,
    Custom,
}

/// What is mapped, beside names, addresses and numbers.
#[derive(Default)]
pub(super) struct Mapped {
    top: Map<String, Value>,
    custom: Map<String, Value>,
}

impl Mapped {
    pub fn body(self) -> Map<String, Value> {
        let mut body = self.top;
        if !self.custom.is_empty() {
            body.insert("custom_fields".to_owned(), self.custom.into());
        }
        body
    }
}

impl PersonField {
    fn read(found: &Value) -> Option<Self> {
        let code = text_at(found, "/field_code")?;
        let option = |option: &Value| {
            Some((text_at(option, "/id")?.parse().ok()?, text_at(option, "/label").unwrap_or_default()))
        };
        let options = found.get("options").and_then(Value::as_array).into_iter().flatten();
        let is_hash = code.len() == 40 && code.bytes().all(|b| b.is_ascii_hexdigit());
        Some(Self {
            name: text_at(found, "/field_name").unwrap_or_else(|| code.clone()),
            kind: text_at(found, "/field_type").unwrap_or_default(),
            options: options.filter_map(option).collect(),
            is_custom: found.get("is_custom_field").and_then(Value::as_bool).unwrap_or(is_hash),
            code,
        })
    }

    /// As it is mapped; nothing for kinds that cannot be written.
    pub fn shown(&self) -> Option<CatalogField> {
        let kind = match self.kind.as_str() {
            "varchar" | "varchar_auto" | "text" | "phone" | "address" | "time" => CatalogFieldKind::String,
            "double" | "int" | "user" | "org" | "people" => CatalogFieldKind::Number,
            "monetary" | "daterange" | "timerange" => CatalogFieldKind::Object,
            "enum" => CatalogFieldKind::Enum,
            "set" => CatalogFieldKind::MultiEnum,
            "date" => CatalogFieldKind::Date,
            _ => return None,
        };
        let labels: Vec<String> = self.options.iter().map(|(_, label)| label.clone()).collect();
        let constraints = (!labels.is_empty())
            .then(|| Constraints { allowed_values: Some(labels), ..Constraints::default() });
        let (key, label) = (self.code.clone(), Some(self.name.clone()));
        Some(CatalogField { key, label, kind, description: None, constraints })
    }

    fn wrong(&self, what: &str) -> Stop {
        Stop::mapping(format!("the field {} must be {what}: correct the mapping or the rule", self.name))
    }

    /// An option by its id or by its label.
    fn option(&self, text: &str) -> Result<Value, Stop> {
        let text = text.trim();
        let by_id = text.parse().ok().filter(|id| self.options.iter().any(|(known, _)| known == id));
        let by_label = || {
            let mut all = self.options.iter();
            all.find(|(_, label)| label.to_lowercase() == text.to_lowercase()).map(|(id, _)| *id)
        };
        by_id.or_else(by_label).map(Value::from).ok_or_else(|| self.wrong("one of its options"))
    }

    /// A value in the form of the field's kind.
    fn value(&self, value: &Json<'_>) -> Result<Value, Stop> {
        let text = || text_of(value).ok_or_else(|| self.wrong("a single value"));
        let object = |members: &str| match value {
            Json::Object(_) => Ok(value_of(value)),
            _ => Err(self.wrong(&format!("an object of {members}"))),
        };
        Ok(match (self.kind.as_str(), value) {
            (_, Json::Null) => Value::Null,
            ("varchar" | "varchar_auto" | "text" | "phone" | "date", _) => text()?.into(),
            ("double", _) => number(&text()?).ok_or_else(|| self.wrong("a number"))?,
            ("int" | "user" | "org" | "people", _) => {
                whole(&text()?).ok_or_else(|| self.wrong("a whole number"))?
            }
            ("enum", _) => self.option(&text()?)?,
            ("set", Json::Array(items)) => {
                let option =
                    |item| self.option(&text_of(item).ok_or_else(|| self.wrong("a list of its options"))?);
                items.iter().map(option).collect::<Result<Vec<_>, _>>()?.into()
            }
            ("set", _) => {
                text()?.split(',').map(|one| self.option(one)).collect::<Result<Vec<_>, _>>()?.into()
            }
            ("address" | "time", Json::Object(_)) => value_of(value),
            ("address" | "time", _) => json!({ "value": text()? }),
            ("monetary", _) => object("value and currency")?,
            ("daterange" | "timerange", _) => object("value and until")?,
            _ => value_of(value),
        })
    }
}

fn number(text: &str) -> Option<Value> {
    serde_json::from_str::<serde_json::Number>(text.trim()).ok().map(Value::from)
}

fn whole(text: &str) -> Option<Value> {
    text.trim().parse::<u64>().ok().map(Value::from)
}

/// A field of a known name, as it has to be.
fn built_in(key: &str, value: &Json<'_>) -> Option<Result<Value, Stop>> {
    let (_, label, kind) = BUILT_IN.iter().find(|(known, ..)| *known == key)?;
    let wrong = |what: &str| Stop::mapping(format!("{label}: must be {what}; correct the mapping"));
    Some(match (value, kind) {
        (Json::Null, _) => Ok(Value::Null),
        (value, CatalogFieldKind::Number) => {
            text_of(value).and_then(|text| whole(&text)).ok_or_else(|| wrong("a whole number"))
        }
        (value, _) => text_of(value).map(Value::from).ok_or_else(|| wrong("a text")),
    })
}

/// All fields of persons, page by page, as they are now.
pub(super) async fn read_catalog(api: &Api<'_>) -> Result<Vec<PersonField>, Stop> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    for _ in 0..PAGES_MAX {
        let call = api.get("/api/v2/personFields").query("limit", "500");
        let answer = match cursor.is_empty() {
            true => call.send().await?,
            false => call.query("cursor", cursor).send().await?,
        };
        found.extend_from_slice(answer.list("/data"));
        cursor = answer.text("/additional_data/next_cursor").unwrap_or_default();
        if cursor.is_empty() {
            break;
        }
    }
    let fields = found.iter().filter_map(PersonField::read).collect();
    api.remember(CATALOG, found, CATALOG_FOR);
    Ok(fields)
}

/// A field, by what is remembered of the fields; one that is not there may be new.
async fn field(api: &Api<'_>, code: &str) -> Result<PersonField, Stop> {
    let known = api.recall(CATALOG);
    let known = known.iter().filter_map(Value::as_array).flatten();
    if let Some(field) = known.filter_map(PersonField::read).find(|field| field.code == code) {
        return Ok(field);
    }
    let field = read_catalog(api).await?.into_iter().find(|field| field.code == code);
    field.ok_or_else(|| {
        Stop::mapping(format!("persons have no field {code}: correct the mapping or the rule"))
    })
}

/// What the rule picked: a field, and one of its options.
pub(super) async fn picked(api: &Api<'_>, code: &str, value: &str) -> Result<(Place, Value), Stop> {
    if let Some(value) = built_in(code, &Json::String(value.into())) {
        return Ok((Place::Top, value?));
    }
    let field = field(api, code).await?;
    let one = Json::String(value.into());
    // A set takes the one that was picked in place of those it has.
    let value = if field.kind == "set" { json!([field.option(value)?]) } else { field.value(&one)? };
    Ok((if field.is_custom { Place::Custom } else { Place::Top }, value))
}

/// The mapped fields, as they have to be.
pub(super) async fn mapped(api: &Api<'_>, work: &Work<'_>) -> Result<Mapped, Stop> {
    let mut mapped = Mapped::default();
    for (key, value) in work.fields.iter().filter(|(key, _)| !PARTS.contains(key)) {
        match built_in(key, value) {
            Some(value) => drop(mapped.top.insert(key.to_owned(), value?)),
            None => {
                let value = field(api, key).await?.value(value)?;
                mapped.custom.insert(key.to_owned(), value);
            }
        }
    }
    Ok(mapped)
}
