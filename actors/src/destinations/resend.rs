//! Resend: mail, contacts and segments.
//!
//! API as <https://resend.com/docs/api-reference> has it. What an answer means is in its `name`, because statuses
//! overlap. Mail goes with the delivery's id as `Idempotency-Key`, so that a repetition within a day sends nothing.

use super::{
    SettingsError,
    limits::Pace,
    live::Item,
    service::{Account, Answer, Api, Entry, Over, Service, Stop, Verdict, Work, text_at, text_of},
    setup::Setup,
    spec::{ActionSpec, Auth, Field, Input, InputKind, Spec},
    template,
};
use crate::domain::{
    catalog::{CatalogField, CatalogFieldKind, Constraints, Format},
    connection::InactiveReason,
    payload::Json,
};
use async_trait::async_trait;
use reqwest::Url;
use serde_json::{Map, Value, json};
use std::time::Duration;

pub struct Resend;

const API: &str = "https://api.resend.com";

const SEGMENT: Input = Input::pick("segments", "Segment");
const TEMPLATE: Input = Input::pick("templates", "Template");
const FROM: Input = Input::line("from", "From", false, Some("Acme <hi@acme.com>"));
const SUBJECT: Input = Input::line("subject", "Subject", false, Some("Welcome, {{first_name}}"));
const BODY: Input = Input {
    kind: InputKind::Text { several_lines: true, placeholder: Some("<p>Hello {{first_name}}</p>") },
    ..Input::line("body", "Body (HTML)", true, None)
};

const MAIL_TWICE: &str = "Resend recognises the delivery for 24 hours and sends nothing twice.";
const CONTACT_TWICE: &str = "The contact is found again by its e-mail address; nothing is doubled.";

#[rustfmt::skip] // one setting, one action a line
static SPEC: Spec = Spec {
    kind: "resend",
    name: "Resend",
    auth: Auth::ApiKey,
    fields: &[
        Field { required: true, help: Some("API Keys. Full access for contacts and segments; sending access is enough for mail."), ..Field::secret("api_key", "API key") },
        Field { help: Some("For rules that name no sender, of a verified domain: Acme <hi@acme.com>."), ..Field::text("default_from", "Default sender") },
    ],
    actions: &[
        ActionSpec { key: "add_to_segment",      label: "Add to segment",              noun: "segment",  description: "Creates or updates the contact and puts it into a segment.",               inputs: &[SEGMENT], needs: &["email"], twice: CONTACT_TWICE },
        ActionSpec { key: "remove_from_segment", label: "Remove from segment",         noun: "segment",  description: "Creates or updates the contact and takes it out of a segment.",            inputs: &[SEGMENT], needs: &["email"], twice: "It is out of the segment already." },
        ActionSpec { key: "send_email_template", label: "Send e-mail from a template", noun: "template", description: "Sends a published template to the mapped address, with the payload's texts and numbers as its variables.", inputs: &[TEMPLATE, SUBJECT, FROM], needs: &["email"], twice: MAIL_TWICE },
        ActionSpec { key: "send_email",          label: "Send e-mail",                 noun: "e-mail",   description: "Sends a text of the rule's to the mapped address.",                        inputs: &[Input::line("subject", "Subject", true, Some("Welcome, {{first_name}}")), FROM, BODY], needs: &["email"], twice: MAIL_TWICE },
        ActionSpec { key: "upsert_contact",      label: "Create or update contact",    noun: "contact",  description: "Creates or updates the contact.",                                          inputs: &[],        needs: &["email"], twice: CONTACT_TWICE },
    ],
    consent: None,
};

/// Of a team: five a second, less one for whoever else uses it.
const PACE: Pace = Pace::of(4, Duration::from_secs(1), 2);
/// How long a quota that is used up is left alone.
const QUOTA_REST: Duration = Duration::from_secs(3_600);
const SUBJECT_CHARS_MAX: usize = 998;
const BODY_CHARS_MAX: usize = 1_000_000;
/// Pages of a list that are read, at most.
const PAGES_MAX: usize = 50;
/// Variables that a template is given, at most.
const VARIABLES_MAX: usize = 50;

#[async_trait]
impl Service for Resend {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn account(&self, setup: &Setup<'_>) -> Result<Account, SettingsError> {
        let key = setup.required_secret("api_key")?;
        // Whose key it is cannot be told from it: its beginning tells keys apart.
        let name = key.expose().chars().take(10).collect();
        let entry = Entry::Token("Bearer", key);
        Ok(Account {
            base: API.to_owned(),
            entry,
            headers: Vec::new(),
            name,
            pace: PACE,
            rest: Duration::from_secs(1),
        })
    }

    fn read(&self, answer: &Answer) -> Verdict {
        match (&answer.text("/name").unwrap_or_default()[..], answer.status) {
            ("missing_api_key" | "restricted_api_key" | "invalid_api_key", _) => {
                Verdict::Locked(InactiveReason::AuthenticationInvalid)
            }
            ("daily_quota_exceeded" | "monthly_quota_exceeded", _) => {
                Verdict::Slower { wait: Some(QUOTA_REST), over: Over::Account }
            }
            ("rate_limit_exceeded", _) | (_, 429) => Verdict::Slower { wait: None, over: Over::Account },
            ("concurrent_idempotent_requests", _) => Verdict::Unwell,
            ("", 401 | 403) => Verdict::Locked(InactiveReason::AuthenticationInvalid),
            (name, 400..500) if !name.is_empty() => Verdict::Refused,
            (_, status) => Verdict::of_status(status),
        }
    }

    async fn verify(&self, api: &Api<'_>) -> Result<(), Stop> {
        // A key that may only send is refused here by name, and is good all the same.
        let answer = api.get("/domains").fine(&[401]).send().await?;
        if answer.status == 200 || answer.text("/name").as_deref() == Some("restricted_api_key") {
            return Ok(());
        }
        Err(Stop::refused("resend does not know the API key: check it"))
    }

    async fn act(&self, api: &Api<'_>, work: &Work<'_>) -> Result<(), Stop> {
        let email = work.required("email")?;
        match work.action {
            "add_to_segment" => {
                let segment = work.input("id")?;
                let contact = upsert(api, work, &email).await?;
                api.post(path(&["contacts", &contact, "segments", segment])).send().await.map(drop)
            }
            "remove_from_segment" => {
                let segment = work.input("id")?;
                let contact = upsert(api, work, &email).await?;
                let call = api.delete(path(&["contacts", &contact, "segments", segment]));
                call.fine(&[404]).send().await.map(drop)
            }
            "upsert_contact" => upsert(api, work, &email).await.map(drop),
            action => {
                let mail = mail(api, work, &email, action == "send_email_template")?;
                let call = api.post("/emails").json(&mail).header("idempotency-key", api.token());
                call.send().await.map(drop)
            }
        }
    }

    async fn items(&self, api: &Api<'_>, key: &str) -> Result<Vec<Item>, Stop> {
        let path = if key == "segments" { "/segments" } else { "/templates" };
        let (mut items, mut after) = (Vec::<Item>::new(), None::<String>);
        for _ in 0..PAGES_MAX {
            let mut call = api.get(path).query("limit", "100");
            if let Some(after) = after {
                call = call.query("after", after);
            }
            let answer = call.send().await?;
            let is_usable = |found: &&Value| found.get("status").is_none_or(|status| status == "published");
            let item = |found: &Value| {
                Some(Item { id: text_at(found, "/id")?, name: text_at(found, "/name")?, options: Vec::new() })
            };
            items.extend(answer.list("/data").iter().filter(is_usable).filter_map(item));
            after = answer.list("/data").last().and_then(|last| text_at(last, "/id"));
            if answer.json.pointer("/has_more") != Some(&Value::Bool(true)) || after.is_none() {
                break;
            }
        }
        Ok(items)
    }

    fn standard_fields(&self) -> Vec<CatalogField> {
        let field = |key: &str, label: &str, kind, constraints| CatalogField {
            key: key.to_owned(),
            label: Some(label.to_owned()),
            kind,
            description: None,
            constraints,
        };
        let email =
            Constraints { format: Some(Format::Email), required: Some(true), ..Constraints::default() };
        vec![
            field("email", "E-mail", CatalogFieldKind::String, Some(email)),
            field("first_name", "First name", CatalogFieldKind::String, None),
            field("last_name", "Last name", CatalogFieldKind::String, None),
            field("unsubscribed", "Unsubscribed", CatalogFieldKind::Boolean, None),
        ]
    }

    async fn fields(&self, api: &Api<'_>) -> Result<Vec<CatalogField>, Stop> {
        let mut fields = self.standard_fields();
        // A key that may only send may not look; then the standard ones are all it needs.
        let answer = api.get("/contact-properties").fine(&[401]).send().await?;
        let custom = |found: &Value| {
            let kind = match text_at(found, "/type").as_deref() {
                Some("number") => CatalogFieldKind::Number,
                _ => CatalogFieldKind::String,
            };
            let key = text_at(found, "/key")?;
            let label = Some(key.clone());
            Some(CatalogField {
                key: format!("properties.{key}"),
                label,
                kind,
                description: None,
                constraints: None,
            })
        };
        fields.extend(answer.list("/data").iter().filter_map(custom));
        Ok(fields)
    }
}

/// A path of these parts, each escaped.
fn path(parts: &[&str]) -> String {
    let mut url = Url::parse(API).expect("a constant that is one");
    url.path_segments_mut().expect("https has a path").extend(parts);
    url.path().to_owned()
}

/// Creates or updates the contact; what it is known by.
async fn upsert(api: &Api<'_>, work: &Work<'_>, email: &str) -> Result<String, Stop> {
    let (mut contact, mut properties) = (Map::new(), Map::new());
    for (field, value) in work.fields.iter() {
        let plain = match value {
            Json::Bool(_) | Json::Number(_) => serde_json::to_value(value).unwrap_or_default(),
            value => text_of(value).map(Value::from).unwrap_or_default(),
        };
        match field.strip_prefix("properties.") {
            _ if plain.is_null() => {}
            Some(property) => drop(properties.insert(property.to_owned(), plain)),
            None if field != "email" => drop(contact.insert(field.to_owned(), plain)),
            None => {}
        }
    }
    if !properties.is_empty() {
        contact.insert("properties".to_owned(), properties.into());
    }
    let known =
        api.patch(path(&["contacts", email])).json(&contact.clone().into()).fine(&[404]).send().await?;
    if known.status != 404 {
        return Ok(email.to_owned());
    }
    contact.insert("email".to_owned(), email.into());
    api.post("/contacts").json(&contact.into()).send().await?;
    Ok(email.to_owned())
}

fn mail(api: &Api<'_>, work: &Work<'_>, email: &str, by_template: bool) -> Result<Value, Stop> {
    let one_line = |text: &str| text.replace(['\r', '\n'], " ");
    let filled = |input: &str| template::filled(input, work.payload, one_line);
    let from = work.input_if_any("from").or_else(|| api.setting("default_from")).map(filled);
    let subject = work.input_if_any("subject").map(filled).filter(|subject| !subject.trim().is_empty());
    if let Some(subject) = &subject {
        template::fits("subject", subject, SUBJECT_CHARS_MAX).map_err(Stop::mapping)?;
    }
    // Names and values of tags are letters, digits, - and _.
    let name: String =
        work.out.event.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let tags = json!([{ "name": "event", "value": name.chars().take(256).collect::<String>() }]);
    let mut mail = json!({ "to": [email], "tags": tags });
    if by_template {
        mail["template"] = json!({ "id": work.input("id")?, "variables": variables(work.payload) });
    } else {
        let body = template::filled(work.input("body")?, work.payload, template::html);
        template::fits("body", &body, BODY_CHARS_MAX).map_err(Stop::mapping)?;
        mail["html"] = body.into();
    }
    match (from, by_template) {
        (Some(from), _) => mail["from"] = from.into(),
        (None, true) => {} // the template's own
        (None, false) => {
            return Err(Stop::mapping(
                "there is no sender: give the rule a from, or the connection a default_from",
            ));
        }
    }
    match (subject, by_template) {
        (Some(subject), _) => mail["subject"] = subject.into(),
        (None, true) => {}
        (None, false) => {
            return Err(Stop::mapping("the rule's subject is empty: its places are filled from the payload"));
        }
    }
    Ok(mail)
}

/// The payload's own texts and numbers.
fn variables(payload: &Json<'_>) -> Value {
    let Json::Object(members) = payload else { return json!({}) };
    let variable = |(name, value): &(std::borrow::Cow<'_, str>, Json<'_>)| match value {
        Json::String(text) => Some((name.to_string(), Value::from(text.to_string()))),
        Json::Number(_) => Some((name.to_string(), serde_json::to_value(value).ok()?)),
        Json::Bool(flag) => Some((name.to_string(), Value::from(flag.to_string()))),
        _ => None,
    };
    members.iter().filter_map(variable).take(VARIABLES_MAX).collect::<Map<_, _>>().into()
}
