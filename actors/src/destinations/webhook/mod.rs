//! Webhook: sends the event to a customer's own URL.
//!
//! Body and headers follow Meshes' wire contract; signatures are Meshes' HMAC or Standard
//! Webhooks (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).
//! The payload goes out byte for byte as it was accepted: it is never parsed and printed again.
//! Receivers recognise a repeated delivery by `X-Weft-Delivery-Id` (or `webhook-id`).

mod request;
mod settings;
mod signing;

use super::{
    Destination, FieldError, Prepared, SettingsError, answer,
    masks::{MASK, mask_fields, unmask_fields},
    outgoing::Outgoing,
    planned::{Planned, PlannedRequest},
    setup::Setup,
    spec::{ActionSpec, Auth, Choice, Field, FieldKind, Spec},
};
use crate::{
    domain::{
        delivery::{Outcome, Report},
        event::{Event, RESOURCE_DEFAULT},
        ids::{DeliveryId, EventId, IdSource, OrganizationId, RuleId, WorkspaceId},
        timestamp::Timestamp,
    },
    transport::{Http, Keep, Request, address::AddressPolicy},
};
use async_trait::async_trait;
use bytes::Bytes;
use request::Endpoint;
use serde_json::{Map, Value};
use settings::Settings;
use std::time::Duration;
use uuid::Uuid;

/// A customer's own URL.
pub struct Webhook;

/// The event name of the request that tries a URL out.
pub const TEST_EVENT: &str = "weft.test";

const TEST_PAYLOAD: &[u8] = br#"{"message":"A test from Weft: this URL is about to receive events."}"#;

const METHODS: [Choice; 3] = [
    Choice { label: "POST", value: "POST" },
    Choice { label: "PUT", value: "PUT" },
    Choice { label: "PATCH", value: "PATCH" },
];

const PAYLOAD_MODES: [Choice; 2] = [
    Choice { label: "Wrapped: the payload inside an envelope", value: "wrapped" },
    Choice { label: "Raw: the payload alone, the rest in headers", value: "raw" },
];

const AUTH_SCHEMES: [Choice; 4] = [
    Choice { label: "None", value: "none" },
    Choice { label: "Basic: user name and password", value: "basic" },
    Choice { label: "Bearer token", value: "bearer" },
    Choice { label: "Custom header", value: "header" },
];

const SIGNINGS: [Choice; 3] = [
    Choice { label: "None", value: "none" },
    Choice { label: "HMAC of the body", value: "hmac" },
    Choice { label: "Standard Webhooks", value: "standard" },
];

const ALGORITHMS: [Choice; 2] =
    [Choice { label: "SHA-256", value: "sha256" }, Choice { label: "SHA-512", value: "sha512" }];

#[rustfmt::skip] // one setting a line
static SPEC: Spec = Spec {
    kind: "webhook",
    name: "Webhook",
    auth: Auth::None,
    fields: &[
        Field { kind: FieldKind::Url, required: true, help: Some("Where events are sent. https only, a public address."), ..Field::text("url", "URL") },
        Field::select("http_method", "Method", &METHODS),
        Field::select("payload_mode", "Payload format", &PAYLOAD_MODES),
        Field::select("auth_scheme", "Authentication", &AUTH_SCHEMES),
        Field { required: true, depends_on: Some(("auth_scheme", &["basic"])), ..Field::text("username", "User name") },
        Field { depends_on: Some(("auth_scheme", &["basic"])), ..Field::secret("password", "Password") },
        Field { required: true, depends_on: Some(("auth_scheme", &["bearer"])), ..Field::secret("bearer_token", "Token") },
        Field { required: true, depends_on: Some(("auth_scheme", &["header"])), ..Field::text("auth_header_name", "Header name") },
        Field { required: true, depends_on: Some(("auth_scheme", &["header"])), ..Field::secret("auth_header_value", "Header value") },
        Field { help: Some("How receivers can tell that a request is ours."), ..Field::select("signing", "Signature", &SIGNINGS) },
        Field { kind: FieldKind::Toggle, default: Some("false"), help: Some("The same as the signature `hmac`."), ..Field::text("hmac_enabled", "Sign with HMAC") },
        Field { depends_on: Some(("signing", &["hmac"])), ..Field::select("hmac_algorithm", "Algorithm", &ALGORITHMS) },
        Field { signs: true, required: true, depends_on: Some(("signing", &["hmac"])), ..Field::secret("hmac_secret", "Signing secret") },
        Field { default: Some(settings::SIGNATURE_HEADER), depends_on: Some(("signing", &["hmac"])), ..Field::text("hmac_header", "Signature header") },
        Field { kind: FieldKind::Secrets, secret: true, signs: true, required: true, depends_on: Some(("signing", &["standard"])), help: Some("whsec_ and base64; several while they are rotated, the newest first."), ..Field::text("standard_secrets", "Signing secrets") },
        Field { kind: FieldKind::Headers, help: Some("Sent with every request; up to five."), ..Field::text("headers", "Headers") },
        Field { kind: FieldKind::Toggle, default: Some("false"), ..Field::text("skip_test", "Skip the URL test") },
    ],
    actions: &[ActionSpec {
        key: "send_webhook",
        label: "Send webhook",
        noun: "webhook",
        description: "Sends the event to the connection's URL.",
        inputs: &[],
        needs: &[],
        twice: "The endpoint is called twice, with the same `X-Weft-Delivery-Id`.",
    }],
    consent: None,
};

#[async_trait]
impl Destination for Webhook {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn check(
        &self,
        settings: &Map<String, Value>,
        policy: &AddressPolicy,
    ) -> Result<Map<String, Value>, Vec<FieldError>> {
        let (read, mut errors) = Settings::read(settings);
        if let Some(url) = settings.get("url").and_then(Value::as_str)
            && !url.is_empty()
            && let Err(err) = policy.check_url(url)
        {
            errors.retain(|err| err.param != "url");
            errors.push(FieldError::new("url", format!("is not usable: {err}")));
        }
        if errors.is_empty() { Ok(read.kept) } else { Err(errors) }
    }

    /// A header that a customer added is most often a credential, whatever it is called.
    fn masked(&self, settings: &Map<String, Value>) -> Map<String, Value> {
        let mut shown = mask_fields(&SPEC, settings);
        for (index, secret) in array_mut(&mut shown, "standard_secrets").iter_mut().enumerate() {
            *secret = Value::from(numbered_mask(index));
        }
        for header in array_mut(&mut shown, "headers") {
            if let Some(value) = header.get_mut("value").filter(|value| is_text(value)) {
                *value = Value::from(MASK);
            }
        }
        if is_name_alone(settings)
            && let Some(name) = shown.get_mut("username")
        {
            *name = Value::from(MASK);
        }
        shown
    }

    /// A list's masks are numbered, so that a secret may be added before them or one left out.
    /// Who changes one of `signing` and `hmac_enabled` means that one.
    fn merge(&self, sent: &Map<String, Value>, stored: &Map<String, Value>) -> Map<String, Value> {
        let mut merged = unmask_fields(&SPEC, sent, stored);
        let kept = array(stored, "standard_secrets");
        for secret in array_mut(&mut merged, "standard_secrets") {
            let meant = (0..kept.len()).find(|index| secret.as_str() == Some(&numbered_mask(*index)));
            if let Some(index) = meant {
                *secret = kept[index].clone();
            }
        }
        let kept = array(stored, "headers");
        for header in array_mut(&mut merged, "headers") {
            let stored = kept.iter().find(|stored| same_name(&stored["name"], &header["name"]));
            if header["value"].as_str() == Some(MASK)
                && let Some(stored) = stored
                && let Some(value) = header.get_mut("value")
            {
                *value = stored["value"].clone();
            }
        }
        if let Some(name) = merged.get_mut("username").filter(|name| name.as_str() == Some(MASK))
            && let Some(kept) = stored.get("username")
        {
            *name = kept.clone();
        }
        let (means, meant) = (signing_meant(sent), signing_meant(stored));
        match (means.0 != meant.0, means.1 != meant.1) {
            (false, true) => drop(merged.remove("signing")),
            (true, false) => drop(merged.remove("hmac_enabled")),
            _ => {}
        }
        merged
    }

    fn prepare(&'static self, setup: Setup<'_>) -> Result<Box<dyn Prepared>, SettingsError> {
        Ok(Box::new(Endpoint::new(setup.settings)?))
    }

    /// Sends a small request like any other, signed and with credentials, unless `skip_test` is set.
    async fn probe(
        &'static self,
        setup: Setup<'_>,
        http: &Http,
        now: Timestamp,
        timeout: Duration,
    ) -> Result<(), String> {
        let settings = setup.settings;
        if Settings::read(settings).0.skip_test {
            return Ok(());
        }
        let endpoint = Endpoint::new(settings).map_err(|err| err.to_string())?;
        let event = Event {
            id: EventId::from_uuid(IdSource::default().next(now)),
            organization_id: OrganizationId::from_uuid(Uuid::nil()),
            workspace_id: WorkspaceId::from_uuid(Uuid::nil()),
            name: TEST_EVENT.to_owned(),
            resource: RESOURCE_DEFAULT.to_owned(),
            resource_id: None,
            created_by: String::new(),
            accepted_at: now,
        };
        let out = Outgoing {
            event: &event,
            payload: &Bytes::from_static(TEST_PAYLOAD),
            delivery_id: DeliveryId::of(event.id, RuleId::from_uuid(Uuid::nil())),
            attempt: 1,
            sent_at: now,
            action: r#"{"action":"send_webhook"}"#,
            notes: None,
            timeout,
        };
        let report = endpoint.deliver(&out, http).await;
        if report.outcome == Outcome::Delivered {
            return Ok(());
        }
        Err(format!("the test request was not accepted: {}", report.message))
    }
}

#[async_trait]
impl Prepared for Endpoint {
    async fn deliver(&self, out: &Outgoing<'_>, http: &Http) -> Report {
        let (headers, body) = match self.message(out) {
            Ok(message) => message,
            Err(err) => return answer::failed(Outcome::InternalError, err.to_string()),
        };
        let request = Request {
            method: self.method.clone(),
            url: &self.url,
            headers,
            body,
            timeout: out.timeout,
            keep: Keep::Failures,
        };
        answer::report(http.send(request).await, &self.redactor, out.sent_at)
    }

    async fn plan(&self, out: &Outgoing<'_>) -> Result<Planned, Report> {
        let message = self.message(out);
        let (headers, body) =
            message.map_err(|err| answer::failed(Outcome::InternalError, err.to_string()))?;
        let request = PlannedRequest::new(&self.method, &self.url, &headers, &body, &self.redactor);
        Ok(Planned { fields: None, warnings: Vec::new(), request, is_whole: true })
    }
}

/// What `signing` and `hmac_enabled` say, however they are spelled: an empty text and null are as
/// good as absent, and what is absent follows from the other one.
fn signing_meant(settings: &Map<String, Value>) -> (Value, Value) {
    let said = |key: &str| match settings.get(key) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => match text.to_ascii_lowercase().as_str() {
            "" => None,
            "true" => Some(Value::from(true)),
            "false" => Some(Value::from(false)),
            text => Some(Value::from(text)),
        },
        Some(value) => Some(value.clone()),
    };
    let (signing, enabled) = (said("signing"), said("hmac_enabled"));
    let by_flag = if enabled == Some(Value::from(true)) { "hmac" } else { "none" };
    let by_name = signing.as_ref().is_some_and(|name| name == "hmac");
    (signing.unwrap_or_else(|| by_flag.into()), enabled.unwrap_or_else(|| by_name.into()))
}

fn is_text(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.is_empty())
}

/// A user name without a password: services that want only a token take it there.
fn is_name_alone(settings: &Map<String, Value>) -> bool {
    let has = |key: &str| settings.get(key).is_some_and(is_text);
    has("username") && !has("password")
}

fn numbered_mask(index: usize) -> String {
    match index {
        0 => MASK.to_owned(),
        index => format!("{MASK} {}", index + 1),
    }
}

fn same_name(one: &Value, other: &Value) -> bool {
    matches!((one.as_str(), other.as_str()), (Some(one), Some(other)) if one.eq_ignore_ascii_case(other))
}

fn array<'a>(map: &'a Map<String, Value>, key: &str) -> &'a [Value] {
    map.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn array_mut<'a>(map: &'a mut Map<String, Value>, key: &str) -> &'a mut [Value] {
    map.get_mut(key).and_then(Value::as_array_mut).map_or(&mut [], Vec::as_mut_slice)
}

#[cfg(test)]
mod tests;
