//! MailerLite: subscribers and their groups.
//!
//! The API of the newer platform: <https://developers.mailerlite.com/docs/>. A subscriber is known by its e-mail
//! address, and one call creates or updates it and puts it into a group; what is not sent stays as it is. Ids are
//! texts of more digits than a float keeps.

use super::{
    FieldError, SettingsError,
    limits::Pace,
    live::Item,
    service::{
        Account, Answer, Api, Entry, Service, Stop, Verdict, Work, tail_of, text_at, text_of, value_of,
    },
    setup::Setup,
    spec::{ActionSpec, Auth, Field, Input, Spec},
};
use crate::domain::{
    catalog::{CatalogField, CatalogFieldKind, Constraints, Format},
    connection::InactiveReason,
    payload::Json,
    timestamp::Timestamp,
};
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use std::time::Duration;
use url::form_urlencoded::byte_serialize;

pub struct MailerLite;

const GROUP: Input = Input::pick("groups", "Group");
const UPSERT_TWICE: &str = "The subscriber is found again by its e-mail address; nothing is doubled.";

#[rustfmt::skip] // one setting, one action a line
static SPEC: Spec = Spec {
    kind: "mailerlite",
    name: "MailerLite",
    auth: Auth::ApiKey,
    fields: &[
        Field { required: true, help: Some("Integrations, API. It ends with the user who made it."), ..Field::secret("api_key", "API key") },
        Field { help: Some("A date such as 2026-01-01: the API stays as it was then. Empty: always the latest."), ..Field::text("api_version_date", "Version of the API") },
    ],
    actions: &[
        ActionSpec { key: "add_to_group",      label: "Add to group",      noun: "group",      description: "Creates or updates the subscriber and puts it into a group.", inputs: &[GROUP], needs: &["email"], twice: UPSERT_TWICE },
        ActionSpec { key: "remove_from_group", label: "Remove from group", noun: "group",      description: "Takes the subscriber out of a group; it stays subscribed.",    inputs: &[GROUP], needs: &["email"], twice: "It is out of the group already." },
        ActionSpec { key: "upsert_subscriber", label: "Sync subscriber",   noun: "subscriber", description: "Creates or updates the subscriber.",                          inputs: &[],      needs: &["email"], twice: UPSERT_TWICE },
        ActionSpec { key: "unsubscribe",       label: "Unsubscribe",       noun: "subscriber", description: "Unsubscribes the subscriber from everything.",                inputs: &[],      needs: &["email"], twice: "It is unsubscribed already." },
    ],
    consent: None,
};

/// The account's 120 a minute, less what others use: a burst and what follows it stay below.
const PACE: Pace = Pace { burst: 20, ..Pace::of(100, Duration::from_secs(60), 4) };
const REST: Duration = Duration::from_secs(60);
const API: &str = "https://connect.mailerlite.com/api";
const PAGE: &str = "100";
/// Pages of a list that are read, at most.
const PAGES_MAX: usize = 100;
/// What a subscriber has beside its fields.
const OWN: [&str; 7] =
    ["email", "status", "ip_address", "optin_ip", "subscribed_at", "opted_in_at", "unsubscribed_at"];
const STATUSES: [&str; 5] = ["active", "unsubscribed", "unconfirmed", "bounced", "junk"];

#[async_trait]
impl Service for MailerLite {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn check_settings(&self, settings: &Map<String, Value>) -> Vec<FieldError> {
        let date = settings.get("api_version_date").and_then(Value::as_str).unwrap_or_default();
        let is_date =
            date.is_empty() || date.parse::<jiff::civil::Date>().is_ok_and(|read| read.to_string() == date);
        let wrong =
            (!is_date).then(|| FieldError::new("api_version_date", "must be a date such as 2026-01-01"));
        wrong.into_iter().collect()
    }

    fn account(&self, setup: &Setup<'_>) -> Result<Account, SettingsError> {
        let key = setup.required_secret("api_key")?;
        let mut headers = vec![("content-type", "application/json".to_owned())];
        headers.extend(setup.text("api_version_date").map(|date| ("x-version", date.to_owned())));
        let name = tail_of(key.expose()).to_owned();
        let entry = Entry::Token("Bearer", key);
        Ok(Account { base: API.to_owned(), entry, headers, name, pace: PACE, rest: REST })
    }

    fn read(&self, answer: &Answer) -> Verdict {
        match answer.status {
            // 403: also what the account's plan does not have.
            401 | 403 => Verdict::Locked(InactiveReason::AuthenticationInvalid),
            status => Verdict::of_status(status),
        }
    }

    async fn verify(&self, api: &Api<'_>) -> Result<(), Stop> {
        api.get("/groups").query("limit", "1").send().await.map(drop)
    }

    async fn act(&self, api: &Api<'_>, work: &Work<'_>) -> Result<(), Stop> {
        let email = work.required("email")?;
        let mut body = subscriber(work, &email);
        match work.action {
            "add_to_group" => body["groups"] = json!([work.id("id")?]),
            "unsubscribe" => body["status"] = "unsubscribed".into(),
            "remove_from_group" => return leave(api, &email, work.id("id")?).await,
            _ => {}
        }
        api.post("/subscribers").json(&body).send().await.map(drop)
    }

    async fn items(&self, api: &Api<'_>, _: &str) -> Result<Vec<Item>, Stop> {
        let item = |group: &Value| {
            Some(Item { id: text_at(group, "/id")?, name: text_at(group, "/name")?, options: Vec::new() })
        };
        Ok(all(api, "/groups").await?.iter().filter_map(item).collect())
    }

    fn standard_fields(&self) -> Vec<CatalogField> {
        let email =
            Constraints { format: Some(Format::Email), required: Some(true), ..Constraints::default() };
        let statuses = STATUSES.map(ToOwned::to_owned).to_vec();
        let statuses = Constraints { allowed_values: Some(statuses), ..Constraints::default() };
        use CatalogFieldKind::{Datetime, Enum, String as Text};
        vec![
            field("email", "E-mail", Text, Some(email)),
            field("fields.name", "Name", Text, None),
            field("fields.last_name", "Last name", Text, None),
            field("fields.company", "Company", Text, None),
            field("fields.country", "Country", Text, None),
            field("fields.city", "City", Text, None),
            field("fields.phone", "Phone", Text, None),
            field("fields.state", "State", Text, None),
            field("fields.z_i_p", "ZIP", Text, None),
            field("status", "Status", Enum, Some(statuses)),
            field("ip_address", "IP address", Text, None),
            field("optin_ip", "IP address of the opt-in", Text, None),
            field("subscribed_at", "Subscribed at", Datetime, None),
            field("opted_in_at", "Opted in at", Datetime, None),
            field("unsubscribed_at", "Unsubscribed at", Datetime, None),
        ]
    }

    async fn fields(&self, api: &Api<'_>) -> Result<Vec<CatalogField>, Stop> {
        let mut fields = Service::standard_fields(self);
        for found in all(api, "/fields").await? {
            let Some(key) = text_at(&found, "/key").map(|key| format!("fields.{key}")) else { continue };
            let kind = match text_at(&found, "/type").unwrap_or_default().as_str() {
                "number" => CatalogFieldKind::Number,
                "date" => CatalogFieldKind::Date,
                _ => CatalogFieldKind::String,
            };
            if fields.iter().all(|known| known.key != key) {
                fields.push(field(&key, &text_at(&found, "/name").unwrap_or_default(), kind, None));
            }
        }
        Ok(fields)
    }
}

fn field(key: &str, label: &str, kind: CatalogFieldKind, constraints: Option<Constraints>) -> CatalogField {
    let label = (!label.is_empty()).then(|| label.to_owned());
    CatalogField { key: key.to_owned(), label, kind, description: None, constraints }
}

/// No status unless it is mapped: one would bring back who unsubscribed.
fn subscriber(work: &Work<'_>, email: &str) -> Value {
    let (mut body, mut fields) = (Map::new(), Map::new());
    body.insert("email".to_owned(), email.into());
    for (name, value) in work.fields.iter().filter(|(_, value)| **value != Json::Null) {
        match name {
            "email" => {}
            own if OWN.contains(&own) => {
                let text = text_of(value).unwrap_or_default();
                let text = if own.ends_with("_at") { moment(&text) } else { text };
                if !text.is_empty() {
                    body.insert(own.to_owned(), text.into());
                }
            }
            name => {
                drop(fields.insert(name.strip_prefix("fields.").unwrap_or(name).to_owned(), value_of(value)))
            }
        }
    }
    if !fields.is_empty() {
        body.insert("fields".to_owned(), fields.into());
    }
    body.into()
}

/// Such as `2026-01-20 21:14:16`; what is no moment stays as it is.
fn moment(text: &str) -> String {
    let Ok(at) = text.parse::<Timestamp>() else { return text.to_owned() };
    let written = at.to_string().replace('T', " ");
    written.split('.').next().unwrap_or(&written).to_owned()
}

/// Whoever is not there, or not in the group, is out of it.
async fn leave(api: &Api<'_>, email: &str, group: &str) -> Result<(), Stop> {
    if !email.contains('@') {
        return Err(Stop::mapping(format!(
            "email is no e-mail address: {email}; edit the connection's mapping"
        )));
    }
    let address: String = byte_serialize(email.as_bytes()).collect::<String>().replace('+', "%20");
    let answer = api.get(format!("/subscribers/{address}")).fine(&[404]).send().await?;
    if answer.status == 404 {
        return Ok(());
    }
    let id = answer.text("/data/id").filter(|id| id.bytes().all(|b| b.is_ascii_alphanumeric()));
    let id = id.ok_or_else(|| Stop::odd("mailerlite answered without the subscriber's id"))?;
    api.delete(format!("/subscribers/{id}/groups/{group}")).fine(&[404]).send().await.map(drop)
}

/// All of a list, page by page.
async fn all(api: &Api<'_>, path: &str) -> Result<Vec<Value>, Stop> {
    let mut found = Vec::new();
    for page in 1..=PAGES_MAX {
        let answer = api.get(path).query("limit", PAGE).query("page", page.to_string()).send().await?;
        let last = answer.json.pointer("/meta/last_page").and_then(Value::as_u64);
        let has_no_next = answer.json.pointer("/links/next") == Some(&Value::Null);
        found.extend_from_slice(answer.list("/data"));
        if answer.list("/data").is_empty() || has_no_next || last.is_some_and(|last| last <= page as u64) {
            break;
        }
    }
    Ok(found)
}
