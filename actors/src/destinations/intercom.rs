//! Intercom: contacts with their tags, companies and notes, and what they did.
//!
//! API 2.14 (<https://developers.intercom.com/docs/references/2.14/rest-api/api.intercom.io>), at the host of the
//! workspace's region. There is no upsert: a contact is looked up, then made or changed. The search lags behind, so
//! making one may say that it is there (409), and names it. Events are known by contact, name and second: they carry
//! the time they were accepted at, and may be sent again.

use super::{
    SettingsError,
    limits::Pace,
    live::Item,
    service::{
        Account, Answer, Api, Entry, Over, Service, Stop, Verdict, Work, tail_of, text_at, text_of, value_of,
    },
    setup::Setup,
    spec::{ActionSpec, Auth, Choice, ClientAuth, Consent, Field, Input, InputKind, Spec},
    template,
};
use crate::domain::{
    catalog::{CatalogField, CatalogFieldKind, Constraints, Format},
    connection::InactiveReason,
    payload::{Json, PAYLOAD_TEXTS},
    timestamp::Timestamp,
};
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use std::time::Duration;

pub struct Intercom;

/// What our requests and answers are written in; without it the app's own version answers.
const VERSION: &str = "2.14";
const REGIONS: [Choice; 3] = [
    Choice { label: "US", value: "us" },
    Choice { label: "Europe", value: "eu" },
    Choice { label: "Australia", value: "au" },
];

const TAG: Input = Input::pick("tags", "Tag");
const EVENT: Input = Input::line("event_name_override", "Event name, if not the event's own", false, None);
const NOTE: Input = Input {
    kind: InputKind::Text { several_lines: true, placeholder: Some("Signed up by {{source}}") },
    ..Input::line("template", "Note", true, None)
};
const COMPANY: [Input; 3] = [
    Input::line("company_id", "Company id", true, Some("{{company_id}}")),
    Input::line("company_name", "Company name", false, Some("{{company}}")),
    Input::line("plan", "Plan", false, Some("{{tier}}")),
];

const UPSERT_TWICE: &str = "The contact is found again; nothing is doubled.";

#[rustfmt::skip] // one setting, one action a line
static SPEC: Spec = Spec {
    kind: "intercom",
    name: "Intercom",
    auth: Auth::OAuth(2),
    fields: &[
        Field { help: Some("Of an app of your own: Developer Hub, the app, Authentication. Not needed when the workspace is connected in a browser."), ..Field::secret("access_token", "Access token") },
        Field { help: Some("Where the workspace's data lives."), ..Field::select("region", "Region", &REGIONS) },
        Field { help: Some("Filled in by Intercom."), ..Field::text("app_id", "Workspace id") },
        Field { help: Some("Whose name notes are written in. Filled in by Intercom."), ..Field::text("admin_id", "Teammate id") },
    ],
    actions: &[
        ActionSpec { key: "add_tag",        label: "Add tag",        noun: "tag",     description: "Creates or updates the contact and tags it.",                 inputs: &[TAG],    needs: &["email"], twice: UPSERT_TWICE },
        ActionSpec { key: "remove_tag",     label: "Remove tag",     noun: "tag",     description: "Takes a tag off the contact; who is not there is not made.",                                inputs: &[TAG],    needs: &["email"], twice: "The tag is off already." },
        ActionSpec { key: "upsert_contact", label: "Upsert contact", noun: "contact", description: "Creates or updates the contact.",                             inputs: &[],       needs: &["email"], twice: UPSERT_TWICE },
        ActionSpec { key: "track_event",    label: "Track event",    noun: "event",   description: "Tells that the contact did something; creates it if need be.", inputs: &[EVENT],  needs: &["email"], twice: "Intercom knows the event again by contact, name and second." },
        ActionSpec { key: "add_note",       label: "Add note",       noun: "note",    description: "Creates or updates the contact and adds a note, in the name of who connected.",             inputs: &[NOTE],   needs: &["email"], twice: "The note is there twice: Intercom cannot tell a repetition." },
        ActionSpec { key: "upsert_company", label: "Upsert company", noun: "company", description: "Creates or updates a company and the contact, who belongs to it.", inputs: &COMPANY, needs: &["email"], twice: "Both are found again; nothing is doubled." },
    ],
    consent: Some(&Consent {
        authorize: "https://app.intercom.com/oauth",
        token: "https://api.intercom.io/auth/eagle/token",
        login: None,
        scopes: &[],
        separator: ' ',
        client: ClientAuth::Form,
        pkce: false,
        params: &[],
    }),
};

/// Of a workspace, which takes four times as much from all apps together.
const PACE: Pace = Pace::of(400, Duration::from_secs(10), 8);
const REST: Duration = Duration::from_secs(10);
/// Contacts with one address that are looked at: leads may share it.
const MATCHES_MAX: u32 = 5;
const METADATA_KEYS_MAX: usize = 10;
/// Before the name of a custom attribute.
const CUSTOM: &str = "custom_attributes.";
/// What every contact has; all else is a custom attribute.
const STANDARD: [(&str, &str, CatalogFieldKind); 9] = [
    ("email", "E-mail", CatalogFieldKind::String),
    ("name", "Name", CatalogFieldKind::String),
    ("phone", "Phone", CatalogFieldKind::String),
    ("external_id", "External id", CatalogFieldKind::String),
    ("avatar", "Picture", CatalogFieldKind::String),
    ("signed_up_at", "Signed up at", CatalogFieldKind::Datetime),
    ("last_seen_at", "Last seen at", CatalogFieldKind::Datetime),
    ("owner_id", "Owner's teammate id", CatalogFieldKind::Number),
    ("unsubscribed_from_emails", "Unsubscribed from e-mails", CatalogFieldKind::Boolean),
];

#[async_trait]
impl Service for Intercom {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn account(&self, setup: &Setup<'_>) -> Result<Account, SettingsError> {
        let entry = Entry::bearer(setup, "access_token")?;
        let name = match setup.text("app_id") {
            Some(id) => id.to_owned(),
            None => format!("token/{}", tail_of(setup.text("access_token").unwrap_or_default())),
        };
        let headers =
            vec![("content-type", "application/json".to_owned()), ("intercom-version", VERSION.to_owned())];
        let base = host(setup.text("region").unwrap_or("us")).to_owned();
        Ok(Account { base, entry, headers, name, pace: PACE, rest: REST })
    }

    fn read(&self, answer: &Answer) -> Verdict {
        let code = answer.text("/errors/0/code").unwrap_or_default();
        match answer.status {
            // There is nothing to renew a token with.
            401 if code.contains("revoked") => Verdict::Locked(InactiveReason::OauthAuthorizationRevoked),
            401 => Verdict::Locked(InactiveReason::AuthenticationInvalid),
            403 if code == "api_plan_restricted" => Verdict::Locked(InactiveReason::AuthenticationInvalid),
            403 => Verdict::Locked(InactiveReason::OauthReauthorizationRequired),
            409 => Verdict::Unwell,
            429 => Verdict::Slower { wait: None, over: Over::Account },
            status => Verdict::of_status(status),
        }
    }

    async fn verify(&self, api: &Api<'_>) -> Result<(), Stop> {
        let me = api.get("/me").send().await?;
        match region_of(&me).filter(|region| host(region) != api.base()) {
            Some(region) => {
                Err(Stop::refused(format!("the workspace lives in region {region}: choose that")))
            }
            None => Ok(()),
        }
    }

    async fn act(&self, api: &Api<'_>, work: &Work<'_>) -> Result<(), Stop> {
        let who = Who::of(work)?;
        match work.action {
            "add_tag" => {
                let body = json!({ "id": work.input("id")? });
                let contact = upsert(api, work, &who).await?;
                api.post(format!("/contacts/{contact}/tags")).json(&body).send().await.map(drop)
            }
            "remove_tag" => {
                let tag = work.id("id")?;
                let Some(contact) = find(api, &who).await? else { return Ok(()) };
                let call = api.delete(format!("/contacts/{contact}/tags/{tag}")).fine(&[404]);
                call.send().await.map(drop)
            }
            "track_event" => track(api, work, &who).await,
            "add_note" => note(api, work, &who).await,
            "upsert_company" => company(api, work, &who).await,
            _ => upsert(api, work, &who).await.map(drop),
        }
    }

    async fn items(&self, api: &Api<'_>, _: &str) -> Result<Vec<Item>, Stop> {
        let answer = api.get("/tags").send().await?;
        let item = |found: &Value| {
            Some(Item { id: text_at(found, "/id")?, name: text_at(found, "/name")?, options: Vec::new() })
        };
        Ok(answer.list("/data").iter().filter_map(item).collect())
    }

    fn standard_fields(&self) -> Vec<CatalogField> {
        let field = |(key, label, kind): &(&str, &str, CatalogFieldKind)| CatalogField {
            key: (*key).to_owned(),
            label: Some((*label).to_owned()),
            kind: *kind,
            description: None,
            constraints: match *key {
                "email" => Some(Constraints { format: Some(Format::Email), ..Constraints::default() }),
                "avatar" => Some(Constraints { format: Some(Format::Url), ..Constraints::default() }),
                _ => None,
            },
        };
        STANDARD.iter().map(field).collect()
    }

    async fn fields(&self, api: &Api<'_>) -> Result<Vec<CatalogField>, Stop> {
        let answer = api.get("/data_attributes").query("model", "contact").send().await?;
        let mut fields = self.standard_fields();
        fields.extend(answer.list("/data").iter().filter_map(custom_field));
        Ok(fields)
    }

    /// The token does not say which region's it is: it is one's that takes it.
    async fn discover(&self, api: &Api<'_>) -> Result<Map<String, Value>, Stop> {
        let others = REGIONS.iter().map(|region| host(region.value)).filter(|other| *other != api.base());
        let mut me = None;
        for base in std::iter::once(api.base()).chain(others) {
            let answer = api.get(format!("{base}/me")).fine(&[401]).send().await?;
            if answer.is_success() {
                me = Some((base, answer));
                break;
            }
        }
        let Some((base, me)) = me else {
            return Err(Stop::refused("intercom takes the token in no region: connect the workspace again"));
        };
        let here = REGIONS.iter().map(|region| region.value).find(|region| host(region) == base);
        let region = region_of(&me).or(here).unwrap_or("us");
        let mut found = Map::from_iter([("region".to_owned(), region.into())]);
        for (key, place) in [("app_id", "/app/id_code"), ("admin_id", "/id")] {
            found.extend(me.text(place).map(|id| (key.to_owned(), id.into())));
        }
        Ok(found)
    }
}

fn host(region: &str) -> &'static str {
    match region {
        "eu" => "https://api.eu.intercom.io",
        "au" => "https://api.au.intercom.io",
        _ => "https://api.intercom.io",
    }
}

/// Where the workspace is, if that is a place we know.
fn region_of(me: &Answer) -> Option<&'static str> {
    let told = me.text("/app/region")?;
    REGIONS.iter().map(|region| region.value).find(|region| told.eq_ignore_ascii_case(region))
}

/// What a contact is known by: at least one of both.
struct Who {
    email: Option<String>,
    external_id: Option<String>,
}

impl Who {
    fn of(work: &Work<'_>) -> Result<Self, Stop> {
        let external_id = work.text("external_id");
        let email = match external_id {
            Some(_) => work.text("email"),
            None => Some(work.required("email")?),
        };
        Ok(Self { email, external_id })
    }
}

/// Creates or updates the contact; its id.
async fn upsert(api: &Api<'_>, work: &Work<'_>, who: &Who) -> Result<String, Stop> {
    // Made by an earlier attempt; the search may not have it yet.
    if let Some(Value::String(id)) = api.kept("contact") {
        return Ok(id);
    }
    let body = contact(work, who);
    if let Some(id) = find(api, who).await?
        && update(api, &id, &body).await?
    {
        return Ok(id);
    }
    let made = api.post("/contacts").json(&body).fine(&[409]).send().await?;
    let id = match made.status {
        409 => {
            let id = existing(&made)
                .ok_or_else(|| Stop::odd("intercom has the contact, and does not find it yet"))?;
            match update(api, &id, &body).await? {
                true => id,
                false => return Err(Stop::odd("intercom names a contact that it does not have")),
            }
        }
        _ => made.text("/id").ok_or_else(|| Stop::odd("intercom answered without the contact's id"))?,
    };
    api.keep("contact", &id[..]);
    Ok(id)
}

/// False: it is not there any more.
async fn update(api: &Api<'_>, id: &str, body: &Value) -> Result<bool, Stop> {
    let answer = api.put(format!("/contacts/{id}")).json(body).fine(&[404]).send().await?;
    Ok(answer.status != 404)
}

/// `A contact matching those details already exists with id=…`
fn existing(answer: &Answer) -> Option<String> {
    let message = answer.text("/errors/0/message")?;
    let (_, rest) = message.split_once("id=")?;
    let id: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
    (!id.is_empty()).then_some(id)
}

/// The contact's id: by our own id, else by address.
async fn find(api: &Api<'_>, who: &Who) -> Result<Option<String>, Stop> {
    if let Some(segment) = who.external_id.as_deref().and_then(segment) {
        let call = api.get(format!("/contacts/find_by_external_id/{segment}")).fine(&[404]);
        let answer = call.send().await?;
        if answer.status != 404 {
            return answer
                .text("/id")
                .map(Some)
                .ok_or_else(|| Stop::odd("intercom answered without the contact's id"));
        }
    }
    let Some(email) = &who.email else { return Ok(None) };
    let query = json!({ "field": "email", "operator": "=", "value": email });
    let body = json!({ "query": query, "pagination": { "per_page": MATCHES_MAX } });
    let found = api.post("/contacts/search").json(&body).question().send().await?;
    // Whoever has another id of ours is somebody else.
    let is_who = |contact: &&Value| match (&who.external_id, text_at(contact, "/external_id")) {
        (Some(ours), Some(theirs)) => theirs.is_empty() || theirs == *ours,
        _ => true,
    };
    let rank = |contact: &&Value| (contact["role"] == "user", contact["updated_at"].as_i64());
    let best = found.list("/data").iter().filter(is_who).max_by_key(rank);
    Ok(best.and_then(|contact| text_at(contact, "/id")))
}

/// For a path; `None` where no path can hold it.
fn segment(id: &str) -> Option<String> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
    let encoded =
        id.bytes().map(|b| if is_plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") });
    (!matches!(id, "." | "..")).then(|| encoded.collect())
}

/// The contact as it is sent: what is no standard field is a custom attribute.
fn contact(work: &Work<'_>, who: &Who) -> Value {
    let (mut body, mut custom) = (json!({ "role": "user" }), Map::new());
    for (field, value) in work.fields.iter() {
        let Some(value) = sent(field, value) else { continue };
        match STANDARD.iter().any(|(key, ..)| *key == field) {
            true => body[field] = value,
            false => {
                custom.insert(field.strip_prefix(CUSTOM).unwrap_or(field).to_owned(), value);
            }
        }
    }
    if body.get("name").is_none() {
        let part = |path| work.payload.at_path(path).and_then(text_of).filter(|part| !part.is_empty());
        let parts: Vec<String> = ["first_name", "last_name"].into_iter().filter_map(part).collect();
        if !parts.is_empty() {
            body["name"] = parts.join(" ").into();
        }
    }
    for (key, id) in [("email", &who.email), ("external_id", &who.external_id)] {
        if let Some(id) = id {
            body[key] = id[..].into();
        }
    }
    if !custom.is_empty() {
        body["custom_attributes"] = custom.into();
    }
    body
}

/// A value as Intercom reads it: single, and a moment in seconds.
fn sent(field: &str, value: &Json<'_>) -> Option<Value> {
    match value {
        Json::Null | Json::Object(_) => None,
        Json::Array(items) => Some(items.iter().filter_map(text_of).collect::<Vec<_>>().join(", ").into()),
        Json::String(text) if text.is_empty() => None,
        Json::String(text) if field.ends_with("_at") => {
            Some(seconds(text).map_or(text.as_ref().into(), Value::from))
        }
        Json::String(text) if field == "owner_id" => {
            Some(text.parse::<u64>().map_or(text.as_ref().into(), Value::from))
        }
        value => Some(value_of(value)),
    }
}

fn seconds(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(|moment| moment.0.div_euclid(1_000))
}

async fn track(api: &Api<'_>, work: &Work<'_>, who: &Who) -> Result<(), Stop> {
    let name = work.input_if_any("event_name_override").unwrap_or(&work.out.event.name);
    let at = work.out.event.accepted_at.0.div_euclid(1_000);
    // Intercom has no points and dollar signs in names.
    let mut body = json!({ "event_name": name.replace(['.', '$'], "-"), "created_at": at });
    for (key, id) in [("email", &who.email), ("user_id", &who.external_id)] {
        if let Some(id) = id {
            body[key] = id[..].into();
        }
    }
    let metadata = metadata(work.payload);
    if !metadata.is_empty() {
        body["metadata"] = metadata.into();
    }
    if api.post("/events").json(&body).fine(&[404]).send().await?.status != 404 {
        return Ok(());
    }
    // Nobody there yet, or a lead, who is known by Intercom's own id alone.
    let contact = upsert(api, work, who).await?;
    if let Some(event) = body.as_object_mut() {
        event.remove("email");
        event.remove("user_id");
        event.insert("id".to_owned(), contact.into());
    }
    api.post("/events").json(&body).send().await.map(drop)
}

/// The payload's first single values, beside those that say who it is: texts, and moments in seconds.
fn metadata(payload: &Json<'_>) -> Map<String, Value> {
    let Json::Object(members) = payload else { return Map::new() };
    let is_told = |name: &str| !PAYLOAD_TEXTS.contains(&name) && !name.contains(['.', '$']);
    let single = |(name, value): &(std::borrow::Cow<'_, str>, Json<'_>)| {
        let text = text_of(value).filter(|text| !text.is_empty() && is_told(name))?;
        let value: Value = match name.ends_with("_date") {
            true => text.parse().ok().or_else(|| seconds(&text))?.into(),
            false => text.into(),
        };
        Some((name.clone().into_owned(), value))
    };
    members.iter().filter_map(single).take(METADATA_KEYS_MAX).collect()
}

async fn note(api: &Api<'_>, work: &Work<'_>, who: &Who) -> Result<(), Stop> {
    let text = template::filled(work.input("template")?, work.payload, template::html);
    if text.trim().is_empty() {
        return Err(Stop::mapping(
            "the note is empty: its places are filled from the payload, edit the rule",
        ));
    }
    let contact = upsert(api, work, who).await?;
    let admin = match api.setting("admin_id") {
        Some(id) => id.to_owned(),
        None => {
            let me = api.get("/me").send().await?;
            me.text("/id").ok_or_else(|| Stop::odd("intercom answered without the teammate's id"))?
        }
    };
    let body = json!({ "body": text, "admin_id": admin });
    api.post(format!("/contacts/{contact}/notes")).json(&body).once().send().await.map(drop)
}

async fn company(api: &Api<'_>, work: &Work<'_>, who: &Who) -> Result<(), Stop> {
    let mut body = Map::new();
    for (input, key) in [("company_id", "company_id"), ("company_name", "name"), ("plan", "plan")] {
        let filled =
            work.input_if_any(input).map(|text| template::filled(text, work.payload, template::plain));
        let filled = filled.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        body.extend(filled.map(|text| (key.to_owned(), text.into())));
    }
    if !body.contains_key("company_id") {
        return Err(Stop::mapping("the company's id is empty: it is filled from the payload, edit the rule"));
    }
    let contact = upsert(api, work, who).await?;
    let company = api.post("/companies").json(&body.into()).send().await?;
    let id = company.text("/id").ok_or_else(|| Stop::odd("intercom answered without the company's id"))?;
    api.post(format!("/contacts/{contact}/companies")).json(&json!({ "id": id })).send().await.map(drop)
}

/// A custom attribute that may be written.
fn custom_field(found: &Value) -> Option<CatalogField> {
    let is = |key: &str| found.get(key).and_then(Value::as_bool).unwrap_or(false);
    if !is("custom") || !is("api_writable") || is("archived") {
        return None;
    }
    let name = text_at(found, "/name")?;
    let options = found.get("options").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let option = |option: &Value| text_at(option, "").or_else(|| text_at(option, "/value"));
    let allowed: Vec<String> = options.iter().filter_map(option).collect();
    let kind = match text_at(found, "/data_type").as_deref() {
        _ if !allowed.is_empty() => CatalogFieldKind::Enum,
        Some("integer" | "float") => CatalogFieldKind::Number,
        Some("boolean") => CatalogFieldKind::Boolean,
        Some("date") => CatalogFieldKind::Datetime,
        _ => CatalogFieldKind::String,
    };
    let constraints = (!allowed.is_empty())
        .then(|| Constraints { allowed_values: Some(allowed), ..Constraints::default() });
    Some(CatalogField {
        key: format!("{CUSTOM}{name}"),
        label: text_at(found, "/label").filter(|label| !label.is_empty()).or(Some(name)),
        kind,
        description: text_at(found, "/description").filter(|text| !text.is_empty()),
        constraints,
    })
}
