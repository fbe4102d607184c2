//! The mapping a connection has before anybody made one: fields that payloads commonly have, by name.

use super::schema::{DEST_CHARS_MAX, FIELDS_MAX, MappedField, Schema, Source, Transform};
use crate::domain::{
    catalog::{CatalogField, CatalogFieldKind},
    payload::PAYLOAD_TEXTS,
};
use std::collections::HashSet;

/// Paths, and the names that services have for them: lower case, letters and digits alone.
///
/// Left out on purpose: what belongs to something else, such as a mobile phone, and what only looks alike,
/// such as the address of a page.
const KNOWN: [(&str, &[&str]); 17] = [
    ("email", &["email", "emailaddress", "emails"]),
    ("first_name", &["firstname", "fname", "givenname"]),
    ("last_name", &["lastname", "lname", "surname", "familyname"]),
    ("name", &["name", "fullname"]),
    ("phone", &["phone", "phonenumber", "phones", "phonenumberid"]),
    ("id", &["id", "userid", "externalid"]),
    ("ip_address", &["ipaddress", "ip", "ipsignup"]),
    ("resource_url", &["resourceurl"]),
    ("company", &["company", "companyname", "org", "organization"]),
    ("job_title", &["jobtitle"]),
    ("title", &["title"]),
    ("website", &["website"]),
    ("address", &["address", "mailingstreet"]),
    ("city", &["city", "mailingcity"]),
    ("state", &["state", "stateprovinceregion", "mailingstate"]),
    ("zip", &["zip", "zipcode", "postalcode", "mailingpostalcode"]),
    ("country", &["country", "mailingcountry"]),
];

/// Guesses a mapping from the fields of an account.
///
/// Every field with a known name gets the path of that name. Names are compared without case and
/// punctuation, and from the last dot on: `FNAME`, `firstName` and `traits.first_name` are all
/// `first_name`. Where a catalog has a last name and no first name, its `name` is the first name.
/// A field that is no string gets what its kind needs (`to_number`, `to_date`, …). Read-only fields,
/// unknown names and what a mapping has no room for are left out.
pub fn generated(catalog: &[CatalogField]) -> Schema {
    let writable = || catalog.iter().filter(|field| !field.is_read_only());
    let has = |path| writable().any(|field| path_of(&field.key) == Some(path));
    let name_is_first = has("last_name") && !has("first_name");
    let mut mapped = HashSet::new();
    let field = |field: &CatalogField| {
        let path = match path_of(&field.key)? {
            "name" if name_is_first => "first_name",
            path => path,
        };
        Some(MappedField {
            dest: field.key.clone(),
            source: Source::Path { value: path.to_owned() },
            transforms: conversion(path, field.kind).map(|transform| vec![transform]),
            on_error: None,
            notes: None,
        })
    };
    let fits = |field: &MappedField| field.dest.chars().count() <= DEST_CHARS_MAX;
    let is_first = |field: &MappedField| mapped.insert(field.dest.clone());
    let fields = writable().filter_map(field).filter(fits).filter(is_first).take(FIELDS_MAX).collect();
    Schema { fields, meta: None }
}

/// Where a payload commonly has what a field of this name holds.
fn path_of(key: &str) -> Option<&'static str> {
    let (_, name) = key.rsplit_once('.').unwrap_or(("", key));
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let name = name.to_ascii_lowercase();
    KNOWN.into_iter().find(|(_, names)| names.contains(&name.as_str())).map(|(path, _)| path)
}

/// What makes a value fit the field, if it may need something.
fn conversion(path: &str, kind: CatalogFieldKind) -> Option<Transform> {
    match kind {
        CatalogFieldKind::String if !PAYLOAD_TEXTS.contains(&path) => Some(Transform::ToString),
        CatalogFieldKind::Number => Some(Transform::ToNumber),
        CatalogFieldKind::Boolean => Some(Transform::ToBoolean),
        CatalogFieldKind::Date => Some(Transform::ToDate { timezone: None }),
        CatalogFieldKind::Datetime => Some(Transform::ToDatetime { timezone: None }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{catalog::Constraints, mapping::tests::parse};

    fn catalog(keys: &[&str]) -> Vec<CatalogField> {
        keys.iter().map(|key| catalog_field(key, CatalogFieldKind::String)).collect()
    }

    fn catalog_field(key: &str, kind: CatalogFieldKind) -> CatalogField {
        CatalogField { key: key.to_owned(), label: None, kind, description: None, constraints: None }
    }

    /// `dest←path`, and `|transform` where there is one.
    fn told(schema: &Schema) -> String {
        let field = |field: &MappedField| {
            let Source::Path { value } = &field.source else { panic!("a path") };
            let transforms =
                field.transforms.iter().flatten().map(|transform| format!("|{}", transform.name()));
            format!("{}←{value}{}", field.dest, transforms.collect::<String>())
        };
        schema.fields().iter().map(field).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_mapping_is_guessed_from_known_names() {
        #[rustfmt::skip]
        let cases: [(&str, &[&str], &str); 8] = [
            ("ActiveCampaign", &["email", "firstName", "lastName", "phone", "favourite_color"],
                "email←email firstName←first_name lastName←last_name phone←phone"),
            ("Mailchimp",      &["email_address", "ip_signup", "FNAME", "LNAME", "PHONE", "BIRTHDAY"],
                "email_address←email ip_signup←ip_address FNAME←first_name LNAME←last_name PHONE←phone"),
            ("MailerLite",     &["email", "fields.name", "fields.last_name", "fields.z_i_p"],
                "email←email fields.name←first_name fields.last_name←last_name fields.z_i_p←zip|to_string"),
            ("Intercom",       &["email", "external_id", "name", "phone", "role"],
                "email←email external_id←id name←name phone←phone"),
            ("Customer.io",    &["userId", "traits.email", "traits.first_name"],
                "userId←id traits.email←email traits.first_name←first_name"),
            ("HubSpot",        &["email", "firstname", "lastname", "name", "mobilephone", "company"],
                "email←email firstname←first_name lastname←last_name name←name company←company|to_string"),
            ("Salesforce",     &["Email", "LastName", "MailingCity", "Level__c"],
                "Email←email LastName←last_name MailingCity←city|to_string"),
            ("a key twice",    &["email", "email", "", "x.", "Email"], "email←email Email←email"),
        ];
        for (service, keys, expected) in cases {
            assert_eq!(told(&generated(&catalog(keys))), expected, "{service}");
        }
    }

    #[test]
    fn a_guess_minds_kinds_and_limits() {
        use CatalogFieldKind::{Array, Boolean, Date, Datetime, Enum, Number, Unknown};
        let kinds = [
            ("id", Number),
            ("state", Boolean),
            ("title", Date),
            ("name", Datetime),
            ("city", Array),
            ("zip", Enum),
            ("phone", Unknown),
        ];
        let mut fields: Vec<_> = kinds.into_iter().map(|(key, kind)| catalog_field(key, kind)).collect();
        let read_only = Constraints { read_only: Some(true), ..Constraints::default() };
        fields.push(CatalogField { constraints: Some(read_only), ..catalog_field("email", Unknown) });
        fields.push(catalog_field(&format!("{}.email", "x".repeat(DEST_CHARS_MAX)), Unknown));
        let expected = "id←id|to_number state←state|to_boolean title←title|to_date name←name|to_datetime city←city zip←zip phone←phone";
        assert_eq!(told(&generated(&fields)), expected);

        let many: Vec<_> = (0..300).map(|n| catalog_field(&format!("list{n}.email"), Unknown)).collect();
        let schema = generated(&many);
        assert_eq!(schema.fields().len(), FIELDS_MAX);
        assert_eq!(parse(&serde_json::to_value(&schema).expect("JSON")), schema);
        assert!(generated(&[]).fields().is_empty());
    }
}
