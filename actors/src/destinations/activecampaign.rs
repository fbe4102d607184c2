//! ActiveCampaign: contacts, their lists and tags.
//!
//! API v3, as its vendor publishes it: <https://developers.activecampaign.com/reference/overview>. A contact is
//! known by its e-mail address, and synced before it is put anywhere; lists and tags go by numeric ids, as texts.

use super::{
    SettingsError,
    limits::Pace,
    live::Item,
    service::{Account, Answer, Api, Entry, Service, Stop, Verdict, Work, text_at, text_of},
    setup::Setup,
    spec::{ActionSpec, Auth, Field, FieldKind, Input, Spec},
};
use crate::domain::{
    catalog::{CatalogField, CatalogFieldKind, Constraints, Format},
    connection::InactiveReason,
    payload::Json,
};
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use std::time::Duration;

pub struct ActiveCampaign;

const LIST: Input = Input::pick("lists", "List");
const TAG: Input = Input::pick("tags", "Tag");
const SYNC_TWICE: &str = "The contact is found again by its e-mail address; nothing is doubled.";

#[rustfmt::skip] // one setting, one action a line
static SPEC: Spec = Spec {
    kind: "activecampaign",
    name: "ActiveCampaign",
    auth: Auth::ApiKey,
    fields: &[
        Field { kind: FieldKind::Url, required: true, help: Some("As Settings, Developer shows it, such as https://acme.api-us1.com."), ..Field::text("api_url", "API URL") },
        Field { required: true, help: Some("Settings, Developer. It may what its user may."), ..Field::secret("api_key", "API key") },
    ],
    actions: &[
        ActionSpec { key: "add_to_list",      label: "Add to list",      noun: "list",    description: "Creates or updates the contact and subscribes it to a list.", inputs: &[LIST], needs: &["email"], twice: SYNC_TWICE },
        ActionSpec { key: "remove_from_list", label: "Remove from list", noun: "list",    description: "Unsubscribes the contact from a list; who is not there is not made.",                       inputs: &[LIST], needs: &["email"], twice: "It is unsubscribed already." },
        ActionSpec { key: "add_tag",          label: "Add tag",          noun: "tag",     description: "Creates or updates the contact and tags it.",                 inputs: &[TAG],  needs: &["email"], twice: SYNC_TWICE },
        ActionSpec { key: "remove_tag",       label: "Remove tag",       noun: "tag",     description: "Takes a tag off the contact.",                                inputs: &[TAG],  needs: &["email"], twice: "The tag is off already." },
        ActionSpec { key: "sync_contact",     label: "Sync contact",     noun: "contact", description: "Creates or updates the contact.",                             inputs: &[],     needs: &["email"], twice: SYNC_TWICE },
    ],
    consent: None,
};

/// The account's five a second, less one for whoever else uses the key.
const PACE: Pace = Pace::of(4, Duration::from_secs(1), 2);
const PAGE: usize = 100;
/// Pages of a list that are read, at most.
const PAGES_MAX: usize = 100;

#[async_trait]
impl Service for ActiveCampaign {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn account(&self, setup: &Setup<'_>) -> Result<Account, SettingsError> {
        let url = setup.required("api_url")?.trim_end_matches('/');
        Ok(Account {
            base: format!("{url}/api/3"),
            entry: Entry::Header("api-token", setup.required_secret("api_key")?),
            headers: Vec::new(),
            name: url.to_ascii_lowercase(),
            pace: PACE,
            rest: Duration::from_secs(5),
        })
    }

    fn read(&self, answer: &Answer) -> Verdict {
        match answer.status {
            // Also an account that was suspended, or was not paid for.
            401..=403 => Verdict::Locked(InactiveReason::AuthenticationInvalid),
            409 => Verdict::Unwell,
            status => Verdict::of_status(status),
        }
    }

    async fn verify(&self, api: &Api<'_>) -> Result<(), Stop> {
        api.get("/users/me").send().await.map(drop)
    }

    async fn act(&self, api: &Api<'_>, work: &Work<'_>) -> Result<(), Stop> {
        let email = work.required("email")?;
        match work.action {
            "add_to_list" => {
                let list = work.input("id")?;
                let contact = sync(api, work, &email).await?;
                subscribe(api, list, &contact, "1").await
            }
            "remove_from_list" => match find(api, &email).await? {
                Some(contact) => subscribe(api, work.input("id")?, &contact, "2").await,
                None => Ok(()),
            },
            "add_tag" => {
                let tag = work.input("id")?;
                let contact = sync(api, work, &email).await?;
                let body = json!({ "contactTag": { "contact": contact, "tag": tag } });
                api.post("/contactTags").json(&body).send().await.map(drop)
            }
            "remove_tag" => match find(api, &email).await? {
                Some(contact) => untag(api, &contact, work.input("id")?).await,
                None => Ok(()),
            },
            _ => sync(api, work, &email).await.map(drop),
        }
    }

    async fn items(&self, api: &Api<'_>, key: &str) -> Result<Vec<Item>, Stop> {
        let (path, list, name) = match key {
            "lists" => ("/lists", "/lists", "/name"),
            _ => ("/tags", "/tags", "/tag"),
        };
        let item = |found: &Value| {
            Some(Item { id: text_at(found, "/id")?, name: text_at(found, name)?, options: Vec::new() })
        };
        Ok(all(api, path, list).await?.iter().filter_map(item).collect())
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
            field("email", "E-mail", Some(email)),
            field("firstName", "First name", None),
            field("lastName", "Last name", None),
            field("phone", "Phone", None),
        ]
    }

    async fn fields(&self, api: &Api<'_>) -> Result<Vec<CatalogField>, Stop> {
        let mut fields = self.standard_fields();
        fields.extend(all(api, "/fields", "/fields").await?.iter().filter_map(custom_field));
        Ok(fields)
    }
}

/// A custom field, called by its number.
fn custom_field(found: &Value) -> Option<CatalogField> {
    let kind = match text_at(found, "/type").unwrap_or_default().as_str() {
        "date" => CatalogFieldKind::Date,
        "datetime" => CatalogFieldKind::Datetime,
        "dropdown" | "radio" => CatalogFieldKind::Enum,
        "listbox" | "checkbox" => CatalogFieldKind::MultiEnum,
        _ => CatalogFieldKind::String,
    };
    let required = text_at(found, "/isrequired").is_some_and(|flag| flag == "1");
    Some(CatalogField {
        key: text_at(found, "/id")?,
        label: text_at(found, "/title"),
        kind,
        description: None,
        constraints: required.then(|| Constraints { required: Some(true), ..Constraints::default() }),
    })
}

/// Creates or updates the contact; its id.
async fn sync(api: &Api<'_>, work: &Work<'_>, email: &str) -> Result<String, Stop> {
    let (mut contact, mut custom) = (Map::new(), Vec::new());
    for (field, value) in work.fields.iter() {
        let Some(text) = many_or_one(value) else { continue };
        match field.bytes().all(|b| b.is_ascii_digit()) {
            true => custom.push(json!({ "field": field, "value": text })),
            false => drop(contact.insert(field.to_owned(), text.into())),
        }
    }
    contact.insert("email".to_owned(), email.into());
    if !custom.is_empty() {
        contact.insert("fieldValues".to_owned(), custom.into());
    }
    let answer = api.post("/contact/sync").json(&json!({ "contact": contact })).send().await?;
    answer.text("/contact/id").ok_or_else(|| Stop::odd("activecampaign answered without the contact's id"))
}

/// Several values go as one text.
fn many_or_one(value: &Json<'_>) -> Option<String> {
    match value {
        Json::Array(items) => Some(items.iter().filter_map(text_of).collect::<Vec<_>>().join("||")),
        value => text_of(value),
    }
}

/// The id of the contact with this address.
async fn find(api: &Api<'_>, email: &str) -> Result<Option<String>, Stop> {
    let answer = api.get("/contacts").query("email", email).send().await?;
    Ok(answer.text("/contacts/0/id"))
}

/// Status 1 subscribes, 2 unsubscribes.
async fn subscribe(api: &Api<'_>, list: &str, contact: &str, status: &str) -> Result<(), Stop> {
    let body = json!({ "contactList": { "list": list, "contact": contact, "status": status } });
    api.post("/contactLists").json(&body).send().await.map(drop)
}

async fn untag(api: &Api<'_>, contact: &str, tag: &str) -> Result<(), Stop> {
    let tags = api.get(format!("/contacts/{contact}/contactTags")).send().await?;
    let mut found = tags.list("/contactTags").iter();
    let found = found.find(|found| text_at(found, "/tag").as_deref() == Some(tag));
    let Some(id) = found.and_then(|found| text_at(found, "/id")) else { return Ok(()) };
    api.delete(format!("/contactTags/{id}")).fine(&[404]).send().await.map(drop)
}

/// All of a list, page by page.
async fn all(api: &Api<'_>, path: &str, list: &str) -> Result<Vec<Value>, Stop> {
    let mut found = Vec::new();
    for page in 0..PAGES_MAX {
        let call = api.get(path).query("limit", PAGE.to_string()).query("offset", (page * PAGE).to_string());
        let answer = call.send().await?;
        found.extend_from_slice(answer.list(list));
        let total = answer.text("/meta/total").and_then(|total| total.parse().ok()).unwrap_or(0);
        if answer.list(list).is_empty() || found.len() >= total {
            break;
        }
    }
    Ok(found)
}
