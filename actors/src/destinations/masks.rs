//! Secrets are shown as a mask, and the mask sent back stands for the stored secret: for where that was given for.

use super::{
    FieldError,
    spec::{FieldKind, Spec},
};
use serde_json::{Map, Value};
use url::Url;

/// What a secret is shown as. Sent back, it stands for the stored one.
pub const MASK: &str = "••••••••";

/// The settings with every secret that there is masked.
pub(super) fn mask_fields(spec: &Spec, settings: &Map<String, Value>) -> Map<String, Value> {
    let mut shown = settings.clone();
    for field in spec.secret_fields() {
        if let Some(value) = shown.get_mut(field.key)
            && value.as_str() != Some("")
            && !value.is_null()
        {
            *value = Value::from(MASK);
        }
    }
    shown
}

/// What was sent, with the stored secrets for their masks.
pub(super) fn unmask_fields(
    spec: &Spec,
    sent: &Map<String, Value>,
    stored: &Map<String, Value>,
) -> Map<String, Value> {
    let mut merged = sent.clone();
    for field in spec.secret_fields() {
        if let Some(value) = merged.get_mut(field.key)
            && value.as_str() == Some(MASK)
            && let Some(kept) = stored.get(field.key)
        {
            *value = kept.clone();
        }
    }
    merged
}

/// Masks of secrets that would go to another host than the one they were given for: who may change an address
/// need not know them, and could have them sent to themselves. `merged` is what the settings are to be.
pub fn strayed(
    spec: &Spec,
    sent: &Map<String, Value>,
    stored: &Map<String, Value>,
    merged: &Map<String, Value>,
) -> Vec<FieldError> {
    let origin = |settings: &Map<String, Value>, key: &str| {
        let url = settings.get(key)?.as_str().and_then(|text| Url::parse(text).ok())?;
        Some(url.origin().ascii_serialization())
    };
    let urls = spec.fields.iter().filter(|field| field.kind == FieldKind::Url).map(|field| field.key);
    let moved = urls.map(|key| (key, origin(stored, key), origin(merged, key)));
    let Some((url, before, _)) = moved.into_iter().find(|(_, before, now)| now.is_some() && now != before)
    else {
        return Vec::new();
    };
    let given_for = before.map_or_else(String::new, |origin| format!(": the stored one is for {origin}"));
    let is_kept = |key: &str| sent.get(key).is_some_and(holds_mask) && stored.contains_key(key);
    let kept = spec.fields.iter().filter(|field| !field.signs && is_kept(field.key));
    kept.map(|field| {
        let msg = format!("must be sent again, because {url} leads to another host now{given_for}");
        FieldError::new(field.key, msg)
    })
    .collect()
}

fn holds_mask(value: &Value) -> bool {
    match value {
        Value::String(text) => text.starts_with(MASK),
        Value::Array(items) => items.iter().any(holds_mask),
        Value::Object(members) => members.values().any(holds_mask),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destinations::find;
    use serde_json::json;

    #[test]
    fn a_stored_secret_stays_with_the_host_it_was_given_for() {
        let basic =
            |url: &str, password: &str| json!({ "url": url, "username": "ada", "password": password });
        let header =
            |url: &str, value: &str| json!({ "url": url, "headers": [{ "name": "x", "value": value }] });
        let campaign = |url: &str, key: &str| json!({ "api_url": url, "api_key": key });
        let signed =
            |url: &str, hmac: &str| json!({ "url": url, "hmac_secret": hmac, "standard_secrets": [hmac] });
        #[rustfmt::skip]
        let cases = [
            // kind              stored                                      sent                                                   to be sent again
            ("webhook",          basic("https://a.example/x", "p"),          basic("https://a.example/y?z", MASK),                  None),
            ("webhook",          basic("https://a.example/x", "p"),          basic("https://b.example/x", MASK),                    Some("password")),
            ("webhook",          basic("https://a.example/x", "p"),          basic("https://b.example/x", "q"),                     None),
            ("webhook",          basic("https://a.example/x", "p"),          basic("https://a.example:444/x", MASK),                Some("password")),
            ("webhook",          basic("https://a.example/x", "p"),          basic("http://a.example/x", MASK),                     Some("password")),
            ("webhook",          basic("https://A.example", "p"),            basic("https://a.example:443/", MASK),                 None),
            ("webhook",          basic("https://a.example", "p"),            json!({ "url": "https://b.example" }),                 None),
            ("webhook",          json!({ "url": "https://a.example" }),      basic("https://b.example", MASK),                      None),
            ("webhook",          json!({ "url": "https://a.example", "username": "key" }), json!({ "url": "https://b.example", "username": MASK }), Some("username")),
            ("webhook",          header("https://a.example", "v"),           header("https://b.example", MASK),                     Some("headers")),
            ("webhook",          signed("https://a.example", "s"),           signed("https://b.example", MASK),                     None),
            ("activecampaign",   campaign("https://a.api-us1.com", "k"),     campaign("https://b.example", MASK),                   Some("api_key")),
            ("activecampaign",   campaign("https://a.api-us1.com", "k"),     campaign("https://a.api-us1.com/", MASK),              None),
            ("pipedrive",        json!({ "api_token": "t" }),                json!({ "api_domain": "https://b.example", "api_token": MASK }), Some("api_token")),
            ("pipedrive",        json!({ "api_domain": "https://a.pipedrive.com", "api_token": "t" }), json!({ "api_token": MASK }), None),
        ];
        for (kind, stored, sent, again) in cases {
            let destination = find(kind).expect("there is such a destination");
            let map = |value: &Value| value.as_object().expect("settings").clone();
            let (stored, asked) = (map(&stored), map(&sent));
            let merged = destination.merge(&asked, &stored);
            let found = strayed(destination.spec(), &asked, &stored, &merged);
            let params: Vec<&str> = found.iter().map(|error| error.param.as_str()).collect();
            assert_eq!(params, again.into_iter().collect::<Vec<_>>(), "{kind}: {sent}");
        }
    }
}
