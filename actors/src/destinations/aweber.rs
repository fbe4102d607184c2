//! AWeber: subscribers of lists, and their tags.
//!
//! API 1.0: <https://api.aweber.com/>. Everything is below the account's id, which is asked for once. A subscriber
//! is added with `update_existing`, so that it may be added again. Too many calls are answered 403, and a change
//! is answered 209.

use super::{
    FieldError, SettingsError,
    limits::Pace,
    live::Item,
    service::{Account, Answer, Api, Entry, Over, Service, Stop, Verdict, Work, tail_of, text_at, text_of},
    setup::Setup,
    spec::{ActionSpec, Auth, ClientAuth, Consent, Field, Input, InputKind, Spec},
};
use crate::{
    domain::{
        catalog::{CatalogField, CatalogFieldKind, Constraints, Format},
        connection::InactiveReason,
        payload::Json,
    },
    transport::address::AddressPolicy,
};
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use std::{net::Ipv4Addr, time::Duration};

pub struct AWeber;

const API: &str = "https://api.aweber.com/1.0";

const LIST: Input = Input::pick("lists", "List");
const TAG: Input = Input {
    key: "tag",
    field: "tag",
    label: "Tag",
    required: true,
    kind: InputKind::Text { several_lines: false, placeholder: Some("pro") },
};
const ADD_TWICE: &str = "The subscriber is found again by its e-mail address; nothing is doubled.";

#[rustfmt::skip] // one setting, one action a line
static SPEC: Spec = Spec {
    kind: "aweber",
    name: "AWeber",
    auth: Auth::OAuth(2),
    fields: &[
        Field { help: Some("Of an app of your own; it ends after two hours. Not needed when the account is connected in a browser."), ..Field::secret("access_token", "Access token") },
        Field { help: Some("Filled in by AWeber."), ..Field::text("account_id", "Account id") },
    ],
    actions: &[
        ActionSpec { key: "add_to_list",      label: "Add to list",      noun: "list", description: "Adds the subscriber to a list, or updates it there; tags are added to those it has.", inputs: &[LIST],      needs: &["email"], twice: ADD_TWICE },
        ActionSpec { key: "remove_from_list", label: "Remove from list", noun: "list", description: "Unsubscribes the subscriber from a list and keeps its history.",            inputs: &[LIST],      needs: &["email"], twice: "It is unsubscribed already." },
        ActionSpec { key: "add_tag",          label: "Add tag",          noun: "tag",  description: "Tags the subscriber of a list; adds it if need be.",   inputs: &[LIST, TAG], needs: &["email"], twice: ADD_TWICE },
        ActionSpec { key: "remove_tag",       label: "Remove tag",       noun: "tag",  description: "Takes a tag off the subscriber of a list.",           inputs: &[LIST, TAG], needs: &["email"], twice: "The tag is off already." },
    ],
    consent: Some(&Consent {
        authorize: "https://auth.aweber.com/oauth2/authorize",
        token: "https://auth.aweber.com/oauth2/token",
        login: None,
        scopes: &["account.read", "list.read", "subscriber.read", "subscriber.write", "subscriber.read-extended"],
        separator: ' ',
        client: ClientAuth::Basic,
        // Forbidden to apps that have a secret.
        pkce: false,
        params: &[],
    }),
};

/// The account's 120 a minute, less what others use: a burst and what follows it stay below.
const PACE: Pace = Pace { burst: 20, ..Pace::of(100, Duration::from_secs(60), 2) };
const REST: Duration = Duration::from_secs(60);
const PAGE: usize = 100;
/// Pages of a list that are read, at most.
const PAGES_MAX: usize = 100;
/// Lists whose custom fields are read, at most.
const LISTS_READ_MAX: usize = 20;
const EMAIL_CHARS_MAX: usize = 50;
const NAME_CHARS_MAX: usize = 60;
/// The texts a subscriber has beside its custom fields, and their longest in characters.
const TEXTS: [(&str, usize); 3] = [("name", NAME_CHARS_MAX), ("misc_notes", 60), ("ad_tracking", 20)];

#[async_trait]
impl Service for AWeber {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn check_settings(&self, settings: &Map<String, Value>) -> Vec<FieldError> {
        let id = settings.get("account_id").and_then(Value::as_str).unwrap_or_default();
        let wrong = (!is_id(id)).then(|| FieldError::new("account_id", "must be digits alone"));
        wrong.into_iter().collect()
    }

    fn account(&self, setup: &Setup<'_>) -> Result<Account, SettingsError> {
        let entry = Entry::bearer(setup, "access_token")?;
        let token = setup.text("access_token").unwrap_or_default();
        let name = match setup.text("account_id") {
            Some(id) => id.to_owned(),
            None => format!("token/{}", tail_of(token)),
        };
        Ok(Account { base: API.to_owned(), entry, headers: Vec::new(), name, pace: PACE, rest: REST })
    }

    fn read(&self, answer: &Answer) -> Verdict {
        let kind = answer.text("/error/type").unwrap_or_default();
        let message = answer.text("/error/message").unwrap_or_default().to_ascii_lowercase();
        let says = |words: &str| message.contains(words);
        match answer.status {
            400 if kind == "WebServiceError" && says("already subscribed") => Verdict::Fine,
            401 if says("invalid account") => Verdict::Locked(InactiveReason::AuthenticationInvalid),
            403 if says("rate limit") => Verdict::Slower { wait: None, over: Over::Account },
            403 if says("cannot be accepted") => Verdict::Refused,
            403 if says("not authorized") => Verdict::Locked(InactiveReason::OauthReauthorizationRequired),
            // Suspended, on hold, or full: nothing goes before somebody mends the account.
            403 => Verdict::Locked(InactiveReason::AuthenticationInvalid),
            409 => Verdict::Unwell,
            status => Verdict::of_status(status),
        }
    }

    async fn verify(&self, api: &Api<'_>) -> Result<(), Stop> {
        let answer = api.get("/accounts").send().await?;
        let Some(id) = api.setting("account_id") else { return Ok(()) };
        let mut ids = answer.list("/entries").iter().filter_map(|account| text_at(account, "/id"));
        match ids.any(|found| found == id) {
            true => Ok(()),
            false => {
                Err(Stop::refused(format!("the token is not of account {id}: correct it, or leave it out")))
            }
        }
    }

    async fn act(&self, api: &Api<'_>, work: &Work<'_>) -> Result<(), Stop> {
        let (email, list) = (work.required("email")?, work.id("id")?);
        fits("email", &email, EMAIL_CHARS_MAX)?;
        let tag = match work.action {
            "add_tag" | "remove_tag" => Some(work.input("tag")?),
            _ => None,
        };
        let mut body = subscriber(work, &email)?;
        let path = format!("/accounts/{}/lists/{list}/subscribers", account_id(api).await?);
        match (work.action, tag) {
            ("add_tag", Some(tag)) => {
                let change = json!({ "tags": { "add": [tag] } });
                if update(api, &path, &email, &change).await?.status != 404 {
                    return Ok(());
                }
                tags_of(&mut body).push(tag.into());
            }
            ("remove_tag", Some(tag)) => {
                return update(api, &path, &email, &json!({ "tags": { "remove": [tag] } })).await.map(drop);
            }
            ("remove_from_list", _) => {
                return update(api, &path, &email, &json!({ "status": "unsubscribed" })).await.map(drop);
            }
            _ => {}
        }
        api.post(&path).json(&body).send().await.map(drop)
    }

    async fn items(&self, api: &Api<'_>, _: &str) -> Result<Vec<Item>, Stop> {
        let path = format!("/accounts/{}/lists", account_id(api).await?);
        let item = |list: &Value| {
            Some(Item { id: text_at(list, "/id")?, name: text_at(list, "/name")?, options: Vec::new() })
        };
        Ok(all(api, &path).await?.iter().filter_map(item).collect())
    }

    fn standard_fields(&self) -> Vec<CatalogField> {
        let field = |key: &str, label: &str, kind, constraints| CatalogField {
            key: key.to_owned(),
            label: Some(label.to_owned()),
            kind,
            description: None,
            constraints: Some(constraints),
        };
        let at_most = |chars: usize| Constraints { max_length: Some(chars as u64), ..Constraints::default() };
        let email =
            Constraints { format: Some(Format::Email), required: Some(true), ..at_most(EMAIL_CHARS_MAX) };
        let text = CatalogFieldKind::String;
        let mut fields = vec![field("email", "E-mail", text, email)];
        let labels = ["Name", "Notes", "Ad tracking"];
        fields.extend(
            TEXTS.iter().zip(labels).map(|((key, chars), label)| field(key, label, text, at_most(*chars))),
        );
        fields.push(field("ip_address", "IP address", text, Constraints::default()));
        fields.push(field("tags", "Tags", CatalogFieldKind::Array, Constraints::default()));
        fields.iter_mut().for_each(|field| {
            field.constraints = field.constraints.take().filter(|found| *found != Constraints::default());
        });
        fields
    }

    /// Of all lists: a custom field that two of them have is told once.
    async fn fields(&self, api: &Api<'_>) -> Result<Vec<CatalogField>, Stop> {
        let account = account_id(api).await?;
        let mut fields = Service::standard_fields(self);
        let lists = all(api, &format!("/accounts/{account}/lists")).await?;
        for list in lists.iter().filter_map(|list| text_at(list, "/id")).take(LISTS_READ_MAX) {
            for found in all(api, &format!("/accounts/{account}/lists/{list}/custom_fields")).await? {
                let Some(name) = text_at(&found, "/name") else { continue };
                let key = format!("custom_fields.{name}");
                if fields.iter().all(|known| known.key != key) {
                    let (label, kind) = (Some(name), CatalogFieldKind::String);
                    fields.push(CatalogField { key, label, kind, description: None, constraints: None });
                }
            }
        }
        Ok(fields)
    }

    async fn discover(&self, api: &Api<'_>) -> Result<Map<String, Value>, Stop> {
        let id = asked_account_id(api).await?;
        Ok([("account_id".to_owned(), id.into())].into_iter().collect())
    }
}

/// Digits; also none.
fn is_id(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

/// As it is known since the consent, or asked for.
async fn account_id(api: &Api<'_>) -> Result<String, Stop> {
    match api.setting("account_id") {
        Some(id) => Ok(id.to_owned()),
        None => asked_account_id(api).await,
    }
}

async fn asked_account_id(api: &Api<'_>) -> Result<String, Stop> {
    let answer = api.get("/accounts").send().await?;
    let id = answer.text("/entries/0/id").filter(|id| !id.is_empty() && is_id(id));
    id.ok_or_else(|| Stop::odd("aweber answered without the account's id"))
}

fn fits(field: &str, text: &str, chars_max: usize) -> Result<(), Stop> {
    let chars = text.chars().count();
    if chars <= chars_max {
        return Ok(());
    }
    Err(Stop::mapping(format!(
        "{field} has {chars} characters of at most {chars_max}: shorten it in the connection's mapping"
    )))
}

/// What is there once it is added. Flags are texts.
fn subscriber(work: &Work<'_>, email: &str) -> Result<Value, Stop> {
    let mut body = json!({ "email": email, "update_existing": "true", "strict_custom_fields": "false" });
    for (key, chars_max) in TEXTS {
        if let Some(text) = work.text(key) {
            fits(key, &text, chars_max)?;
            body[key] = text.into();
        }
    }
    if let Some(name) = whole_name(work).filter(|_| body.get("name").is_none()) {
        body["name"] = name.into();
    }
    // The service refuses all others.
    let ip = work.text("ip_address").and_then(|text| text.parse::<Ipv4Addr>().ok());
    if let Some(ip) = ip.filter(|ip| AddressPolicy::default().allows((*ip).into())) {
        body["ip_address"] = ip.to_string().into();
    }
    let mut custom = Map::new();
    for (field, value) in work.fields.iter() {
        let is_own =
            ["email", "ip_address", "tags"].contains(&field) || TEXTS.iter().any(|(key, _)| *key == field);
        if let (false, Some(text)) = (is_own, text_of(value)) {
            custom.insert(field.strip_prefix("custom_fields.").unwrap_or(field).to_owned(), text.into());
        }
    }
    if !custom.is_empty() {
        body["custom_fields"] = custom.into();
    }
    let tags: Vec<String> = match work.fields.get("tags") {
        Some(Json::Array(tags)) => tags.iter().filter_map(text_of).collect(),
        Some(Json::String(text)) => text.split(',').map(|tag| tag.trim().to_owned()).collect(),
        _ => Vec::new(),
    };
    tags_of(&mut body).extend(tags.into_iter().filter(|tag| !tag.is_empty()).map(Value::from));
    if tags_of(&mut body).is_empty() {
        drop(body.as_object_mut().and_then(|body| body.remove("tags")));
    }
    Ok(body)
}

fn tags_of(body: &mut Value) -> &mut Vec<Value> {
    if !body["tags"].is_array() {
        body["tags"] = json!([]);
    }
    body["tags"].as_array_mut().expect("it is a list, as of above")
}

/// Where no name is mapped: the first and the last one, as far as there is room.
fn whole_name(work: &Work<'_>) -> Option<String> {
    let part = |key: &str| work.payload.at_path(key).and_then(text_of).filter(|text| !text.is_empty());
    let parts: Vec<String> = ["first_name", "last_name"].into_iter().filter_map(part).collect();
    (!parts.is_empty()).then(|| parts.join(" ").chars().take(NAME_CHARS_MAX).collect())
}

/// Answered 209, or 404 where there is no such subscriber.
async fn update(api: &Api<'_>, path: &str, email: &str, change: &Value) -> Result<Answer, Stop> {
    api.patch(path).query("subscriber_email", email).json(change).fine(&[404]).send().await
}

/// All of a list, page by page. The link to the next page only says that there is one.
async fn all(api: &Api<'_>, path: &str) -> Result<Vec<Value>, Stop> {
    let mut found = Vec::new();
    for _ in 0..PAGES_MAX {
        let call =
            api.get(path).query("ws.start", found.len().to_string()).query("ws.size", PAGE.to_string());
        let answer = call.send().await?;
        found.extend_from_slice(answer.list("/entries"));
        if answer.list("/entries").is_empty() || answer.text("/next_collection_link").is_none() {
            break;
        }
    }
    Ok(found)
}
