//! Mailchimp: members of audiences, their tags, and what they did.
//!
//! Marketing API 3.0: <https://mailchimp.com/developer/marketing/api/>. A member goes by the MD5 of the lower-cased
//! address, which every path takes and which keeps addresses out of them. Which data centre an account is in is
//! the end of its API key; after a consent it is asked for.

use super::{
    FieldError, SettingsError, answer as reports,
    limits::Pace,
    live::Item,
    service::{
        Account, Answer, Api, Entry, Over, Service, Stop, Verdict, Work, tail_of, text_at, text_of, value_of,
    },
    setup::Setup,
    spec::{ActionSpec, Auth, ClientAuth, Consent, Field, Input, InputKind, Spec},
};
use crate::domain::{
    catalog::{CatalogField, CatalogFieldKind, Constraints, Format},
    connection::InactiveReason,
    delivery::{Outcome, Report},
    payload::Json,
    timestamp::Timestamp,
};
use async_trait::async_trait;
use md5::{Digest, Md5};
use serde_json::{Map, Value, json};
use std::time::Duration;

pub struct Mailchimp;

/// Where accounts are asked for that nobody knows the data centre of.
const LOGIN: &str = "https://login.mailchimp.com";

const AUDIENCE: Input = Input::pick("lists", "Audience");
const TAG: Input = Input {
    key: "tag",
    field: "tag",
    label: "Tag",
    required: true,
    kind: InputKind::Text { several_lines: false, placeholder: Some("pro") },
};
const EVENT: Input = Input {
    key: "event_name_override",
    field: "event_name_override",
    label: "Name of the event",
    required: false,
    kind: InputKind::Text { several_lines: false, placeholder: Some("contact_created") },
};
const PUT_TWICE: &str = "The member is found again by its e-mail address; nothing is doubled.";

#[rustfmt::skip] // one setting, one action a line
static SPEC: Spec = Spec {
    kind: "mailchimp",
    name: "Mailchimp",
    auth: Auth::ApiKey,
    fields: &[
        Field { help: Some("The end of the API key, such as us19. Filled in from the key, or by Mailchimp."), ..Field::text("data_center", "Data center") },
        Field { help: Some("Profile, Extras, API keys. Not needed when the account is connected in a browser."), ..Field::secret("api_key", "API key") },
        Field { help: Some("Filled in by Mailchimp."), ..Field::text("account_id", "Account id") },
    ],
    actions: &[
        ActionSpec { key: "add_to_list",      label: "Add to audience",      noun: "list",  description: "Creates or updates the member of an audience. Who unsubscribed stays so.", inputs: &[AUDIENCE],        needs: &["email_address"], twice: PUT_TWICE },
        ActionSpec { key: "remove_from_list", label: "Remove from audience", noun: "list",  description: "Unsubscribes the member of an audience; who is not there stays so.",                                  inputs: &[AUDIENCE],        needs: &["email_address"], twice: "It is unsubscribed already." },
        ActionSpec { key: "add_tag",          label: "Add tag",              noun: "tag",   description: "Creates or updates the member and tags it; a new tag is made.",            inputs: &[AUDIENCE, TAG],   needs: &["email_address"], twice: PUT_TWICE },
        ActionSpec { key: "remove_tag",       label: "Remove tag",           noun: "tag",   description: "Takes a tag off the member.",                                              inputs: &[AUDIENCE, TAG],   needs: &["email_address"], twice: "The tag is off already." },
        ActionSpec { key: "track_event",      label: "Track event",          noun: "event", description: "Creates or updates the member and adds an event with the payload's single values.",                   inputs: &[AUDIENCE, EVENT], needs: &["email_address"], twice: "The event is there twice: Mailchimp cannot tell a repetition." },
    ],
    consent: Some(&Consent {
        authorize: "https://login.mailchimp.com/oauth2/authorize",
        token: "https://login.mailchimp.com/oauth2/token",
        login: None,
        scopes: &[],
        separator: ' ',
        client: ClientAuth::Form,
        pkce: false,
        params: &[],
    }),
};

/// Ten at once are allowed, for all apps of a user; there is no quota in time.
const PACE: Pace = Pace::of(20, Duration::from_secs(1), 5);
const REST: Duration = Duration::from_secs(2);
const PAGE: usize = 1_000;
/// Pages of a list that are read, at most.
const PAGES_MAX: usize = 20;
/// Audiences whose merge fields are read, at most.
const AUDIENCES_READ_MAX: usize = 20;
const EVENT_NAME_CHARS_MIN: usize = 2;
const EVENT_NAME_CHARS_MAX: usize = 30;
const DATA_CENTER_BYTES_MAX: usize = 12;

#[async_trait]
impl Service for Mailchimp {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn check_settings(&self, settings: &Map<String, Value>) -> Vec<FieldError> {
        let text = |key: &str| settings.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let (named, key) = (text("data_center"), text("api_key"));
        let msg = match (named, key.map(data_center_of)) {
            (Some(named), _) if !is_data_center(named) => "must be like us19".to_owned(),
            (Some(named), Some(Some(of_key))) if named != of_key => {
                format!("must be {of_key}, as the API key ends, or be left out")
            }
            (None, Some(None)) => "is required: the API key does not end in one, such as -us19".to_owned(),
            _ => return Vec::new(),
        };
        vec![FieldError::new("data_center", msg)]
    }

    fn account(&self, setup: &Setup<'_>) -> Result<Account, SettingsError> {
        let entry = Entry::bearer(setup, "api_key")?;
        let key = setup.text("api_key").unwrap_or_default();
        let named = setup.text("data_center").filter(|named| is_data_center(named));
        let (base, place) = match named.or_else(|| data_center_of(key)) {
            Some(found) => (format!("https://{found}.api.mailchimp.com/3.0"), found),
            None => (LOGIN.to_owned(), "login"),
        };
        let whose = setup.text("account_id").unwrap_or_else(|| tail_of(key.split('-').next().unwrap_or(key)));
        Ok(Account {
            base,
            entry,
            headers: Vec::new(),
            name: format!("{place}/{whose}"),
            pace: PACE,
            rest: REST,
        })
    }

    fn read(&self, answer: &Answer) -> Verdict {
        match answer.status {
            // What a data centre is asked for with answers 200, whatever the token.
            200 if answer.json.get("error").is_some_and(Value::is_string) => {
                Verdict::Locked(InactiveReason::AuthenticationInvalid)
            }
            403 if answer.json.is_object() => Verdict::Locked(InactiveReason::AuthenticationInvalid),
            // Without a body that says why it is what stands before the API, and means too many.
            403 => Verdict::Slower { wait: None, over: Over::Account },
            status => Verdict::of_status(status),
        }
    }

    async fn verify(&self, api: &Api<'_>) -> Result<(), Stop> {
        reached(api)?;
        api.get("/ping").send().await.map(drop)
    }

    async fn act(&self, api: &Api<'_>, work: &Work<'_>) -> Result<(), Stop> {
        reached(api)?;
        let (email, list) = (work.required("email_address")?, work.id("id")?);
        let member = format!("/lists/{list}/members/{}", hash_of(&email));
        match work.action {
            "add_to_list" => upsert(api, work, &member, &email).await,
            "remove_from_list" => {
                let call = api.patch(&member).json(&json!({ "status": "unsubscribed" }));
                call.fine(&[404]).send().await.map(drop)
            }
            "add_tag" => {
                let tag = work.input("tag")?;
                upsert(api, work, &member, &email).await?;
                api.post(format!("{member}/tags")).json(&tagged(tag, "active")).send().await.map(drop)
            }
            "remove_tag" => {
                let body = tagged(work.input("tag")?, "inactive");
                api.post(format!("{member}/tags")).json(&body).fine(&[404]).send().await.map(drop)
            }
            _ => {
                let body = event(work)?;
                upsert(api, work, &member, &email).await?;
                api.post(format!("{member}/events")).json(&body).once().send().await.map(drop)
            }
        }
    }

    async fn items(&self, api: &Api<'_>, _: &str) -> Result<Vec<Item>, Stop> {
        reached(api)?;
        let mut items = Vec::new();
        for page in 0..PAGES_MAX {
            let call = api.get("/lists").query("count", PAGE.to_string());
            let call = call.query("offset", (page * PAGE).to_string());
            let answer = call.query("fields", "lists.id,lists.name").send().await?;
            let item = |list: &Value| {
                Some(Item { id: text_at(list, "/id")?, name: text_at(list, "/name")?, options: Vec::new() })
            };
            items.extend(answer.list("/lists").iter().filter_map(item));
            if answer.list("/lists").len() < PAGE {
                break;
            }
        }
        Ok(items)
    }

    fn standard_fields(&self) -> Vec<CatalogField> {
        let field = |key: &str, label: &str, constraints| CatalogField {
            key: key.to_owned(),
            label: Some(label.to_owned()),
            kind: CatalogFieldKind::String,
            description: None,
            constraints,
        };
        let email =
            Constraints { format: Some(Format::Email), required: Some(true), ..Constraints::default() };
        vec![
            field("email_address", "E-mail", Some(email)),
            field("ip_signup", "IP address of the sign-up", None),
            field("FNAME", "First name", None),
            field("LNAME", "Last name", None),
            field("PHONE", "Phone", None),
            field("COMPANY", "Company", None),
        ]
    }

    /// Of all audiences: a merge field that two of them have is told once.
    async fn fields(&self, api: &Api<'_>) -> Result<Vec<CatalogField>, Stop> {
        let mut fields = Service::standard_fields(self);
        fields.truncate(2);
        for list in self.items(api, "lists").await?.iter().take(AUDIENCES_READ_MAX) {
            let call = api.get(format!("/lists/{}/merge-fields", list.id)).query("count", PAGE.to_string());
            for found in call.send().await?.list("/merge_fields").iter().filter_map(merge_field) {
                if fields.iter().all(|field| field.key != found.key) {
                    fields.push(found);
                }
            }
        }
        Ok(fields)
    }

    async fn discover(&self, api: &Api<'_>) -> Result<Map<String, Value>, Stop> {
        let answer = api.get(format!("{LOGIN}/oauth2/metadata")).word("OAuth").send().await?;
        let of_endpoint = || {
            let endpoint = answer.text("/api_endpoint")?;
            let host = endpoint.strip_prefix("https://")?.strip_suffix(".api.mailchimp.com")?;
            Some(host.to_owned())
        };
        let found = answer.text("/dc").or_else(of_endpoint).filter(|found| is_data_center(found));
        let found = found.ok_or_else(|| Stop::odd("mailchimp did not tell the account's data center"))?;
        let mut told = Map::new();
        told.insert("data_center".to_owned(), found.into());
        if let Some(id) = answer.text("/user_id") {
            told.insert("account_id".to_owned(), id.into());
        }
        Ok(told)
    }
}

/// It goes into a host's name.
fn is_data_center(text: &str) -> bool {
    (1..=DATA_CENTER_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

fn data_center_of(key: &str) -> Option<&str> {
    key.rsplit_once('-').map(|(_, end)| end).filter(|end| is_data_center(end))
}

/// Whether it is known where the account is.
fn reached(api: &Api<'_>) -> Result<(), Stop> {
    if api.base() != LOGIN {
        return Ok(());
    }
    let message = "the account's data center is not known: connect the account again";
    let inactive = Some(InactiveReason::OauthReauthorizationRequired);
    let report = reports::failed(Outcome::AuthFailed, message.to_owned());
    Err(Stop(Box::new(Report { inactive, ..report })))
}

fn hash_of(email: &str) -> String {
    Md5::digest(email.to_lowercase()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `status` is not said: it would bring back who unsubscribed. Merge fields that the audience requires and
/// nobody mapped do not keep anybody out.
async fn upsert(api: &Api<'_>, work: &Work<'_>, member: &str, email: &str) -> Result<(), Stop> {
    let mut body = json!({ "email_address": email, "status_if_new": "subscribed" });
    let mut merged = Map::new();
    for (field, value) in work.fields.iter().filter(|(_, value)| **value != Json::Null) {
        match field {
            "email_address" => {}
            "ip_signup" => body["ip_signup"] = value_of(value),
            tag => drop(merged.insert(tag.to_owned(), value_of(value))),
        }
    }
    if !merged.is_empty() {
        body["merge_fields"] = merged.into();
    }
    let call = api.put(member).query("skip_merge_validation", "true");
    call.json(&body).send().await.map(drop)
}

fn tagged(tag: &str, status: &str) -> Value {
    json!({ "tags": [{ "name": tag, "status": status }] })
}

/// What happened: the payload's single values, as texts.
fn event(work: &Work<'_>) -> Result<Value, Stop> {
    let happened = &work.out.event;
    let name = work.input_if_any("event_name_override").unwrap_or(&happened.name).replace('.', "_");
    if !(EVENT_NAME_CHARS_MIN..=EVENT_NAME_CHARS_MAX).contains(&name.chars().count()) {
        return Err(Stop::mapping(format!(
            "the event's name {name} must have {EVENT_NAME_CHARS_MIN} to {EVENT_NAME_CHARS_MAX} characters: give it another in the rule"
        )));
    }
    let mut properties = Map::new();
    if let Json::Object(members) = work.payload {
        let texts = members.iter().filter_map(|(key, value)| Some((key, text_of(value)?)));
        properties.extend(texts.map(|(key, text)| (key.clone().into_owned(), text.into())));
    }
    Ok(json!({ "name": name, "properties": properties, "occurred_at": moment(happened.accepted_at) }))
}

/// Such as `2026-01-20T21:14:16+00:00`.
fn moment(at: Timestamp) -> String {
    let text = at.to_string();
    format!("{}+00:00", text.split('.').next().unwrap_or(&text))
}

fn merge_field(found: &Value) -> Option<CatalogField> {
    let choices: Vec<String> =
        found.pointer("/options/choices").and_then(Value::as_array).map_or_else(Vec::new, |choices| {
            choices.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect()
        });
    let (kind, format) = match text_at(found, "/type").unwrap_or_default().as_str() {
        "number" => (CatalogFieldKind::Number, None),
        "address" => (CatalogFieldKind::Object, None),
        "date" => (CatalogFieldKind::Date, None),
        "radio" | "dropdown" => (CatalogFieldKind::Enum, None),
        "phone" => (CatalogFieldKind::String, Some(Format::Phone)),
        "url" | "imageurl" => (CatalogFieldKind::String, Some(Format::Url)),
        _ => (CatalogFieldKind::String, None),
    };
    let constraints = Constraints {
        format,
        required: found.pointer("/required").and_then(Value::as_bool).filter(|required| *required),
        max_length: found.pointer("/options/size").and_then(Value::as_u64),
        allowed_values: (!choices.is_empty()).then_some(choices),
        ..Constraints::default()
    };
    Some(CatalogField {
        key: text_at(found, "/tag")?,
        label: text_at(found, "/name"),
        kind,
        description: None,
        constraints: (constraints != Constraints::default()).then_some(constraints),
    })
}
