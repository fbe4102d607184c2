//! HubSpot: contacts, their lists and properties, deals, and custom events.
//!
//! CRM API v3: <https://developers.hubspot.com/docs/api-reference/overview>. A contact is known by its e-mail
//! address and upserted by it, in a batch of one: that call alone creates and updates. A batch may answer 2xx and
//! have failed, in `errors` or by saying nothing. All values of properties are texts.

use super::{
    SettingsError,
    limits::Pace,
    live::{Item, ItemOption},
    service::{Account, Answer, Api, Entry, Over, Service, Stop, Verdict, Work, tail_of, text_at, text_of},
    setup::Setup,
    spec::{ActionSpec, Auth, ClientAuth, Consent, Field, Input, Spec},
    template,
};
use crate::domain::{
    catalog::{CatalogField, CatalogFieldKind, Constraints, Format},
    connection::InactiveReason,
    payload::Json,
};
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use std::time::Duration;

pub struct HubSpot;

const API: &str = "https://api.hubapi.com";

const LIST: Input = Input::pick("lists", "List");
const PROPERTY: Input = Input::pick_option("properties", "Property");

const DEAL: &[Input] = &[
    Input::line("title", "Name of the deal", true, Some("{{first_name}} {{last_name}}")),
    Input::line("pipeline", "Pipeline", false, Some("default")),
    Input::line("stage", "Stage", false, Some("appointmentscheduled")),
    Input::line("amount", "Amount", false, Some("{{amount}}")),
];
const EVENT: &[Input] = &[
    Input::line("event_name", "Event", true, Some("pe62515_signup")),
    Input::line("event_properties", "Properties, from the payload", false, Some("source, plan.tier")),
];
const UPSERT_TWICE: &str = "The contact is found again by its e-mail address; nothing is doubled.";

#[rustfmt::skip] // one setting, one action a line
static SPEC: Spec = Spec {
    kind: "hubspot",
    name: "HubSpot",
    auth: Auth::OAuth(2),
    fields: &[
        Field { help: Some("Of a private app: Settings, Integrations, Private Apps (pat-…). Not needed when the account is connected in a browser."), ..Field::secret("access_token", "Private app token") },
        Field { help: Some("Filled in by HubSpot."), ..Field::text("hub_id", "Hub id") },
    ],
    actions: &[
        ActionSpec { key: "add_to_list",       label: "Add to list",       noun: "list",     description: "Creates or updates the contact and puts it on a list.",             inputs: &[LIST],     needs: &["email"], twice: UPSERT_TWICE },
        ActionSpec { key: "remove_from_list",  label: "Remove from list",  noun: "list",     description: "Takes the contact off a list; who is not there is on none.",                                     inputs: &[LIST],     needs: &["email"], twice: "It is off the list already." },
        ActionSpec { key: "update_property",   label: "Update property",   noun: "property", description: "Sets one property of the contact, which is created if it is not there.", inputs: &[PROPERTY], needs: &["email"], twice: UPSERT_TWICE },
        ActionSpec { key: "upsert_contact",    label: "Create or update contact", noun: "contact", description: "Creates or updates the contact.",                              inputs: &[],         needs: &["email"], twice: UPSERT_TWICE },
        ActionSpec { key: "create_deal",       label: "Create deal",       noun: "deal",     description: "Creates or updates the contact and a deal with it.",                inputs: DEAL,        needs: &["email"], twice: "The deal is there twice: HubSpot cannot tell a repetition." },
        ActionSpec { key: "send_custom_event", label: "Send custom event", noun: "event",    description: "Tells of a custom event of the contact's, which is defined in HubSpot.",                         inputs: EVENT,       needs: &["email"], twice: "HubSpot knows the event again for a year." },
    ],
    consent: Some(&Consent {
        authorize: "https://app.hubspot.com/oauth/authorize",
        token: "https://api.hubapi.com/oauth/2026-03/token",
        login: None,
        scopes: &["oauth", "crm.objects.contacts.read", "crm.objects.contacts.write", "crm.schemas.contacts.read", "crm.lists.read", "crm.lists.write"],
        separator: ' ',
        client: ClientAuth::Form,
        pkce: false,
        params: &[("optional_scope", "crm.objects.deals.write analytics.behavioral_events.send")],
    }),
};

/// Of an account, from one app: the least that any plan has, less a tenth.
const PACE: Pace = Pace::of(90, Duration::from_secs(10), 8);
/// Of an account, from all apps.
const SEARCH_PACE: Pace = Pace::of(4, Duration::from_secs(1), 4).even();
const REST: Duration = Duration::from_secs(10);
/// How long an account whose day is used up is left alone before it is asked again.
const DAY_REST: Duration = Duration::from_secs(3_600);
const LOCKED_REST: Duration = Duration::from_secs(2);
const PAGE: usize = 100;
/// Pages of a list that are read, at most.
const PAGES_MAX: usize = 100;
/// What a list of contacts is a list of.
const CONTACTS: &str = "0-1";
/// From a deal to its contact.
const DEAL_TO_CONTACT: u32 = 3;

#[async_trait]
impl Service for HubSpot {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn account(&self, setup: &Setup<'_>) -> Result<Account, SettingsError> {
        let token = setup.text("access_token").unwrap_or_default();
        let name = setup.text("hub_id").map_or_else(|| format!("token/{}", tail_of(token)), str::to_owned);
        let entry = Entry::bearer(setup, "access_token")?;
        Ok(Account { base: API.to_owned(), entry, headers: Vec::new(), name, pace: PACE, rest: REST })
    }

    fn read(&self, answer: &Answer) -> Verdict {
        let slower = |wait| Verdict::Slower { wait, over: Over::Account };
        let otherwise = |wait| if answer.header("retry-after").is_some() { None } else { Some(wait) };
        match answer.status {
            200..300 if !answer.list("/errors").is_empty() => Verdict::Refused,
            401 => Verdict::Expired,
            403 => Verdict::Locked(InactiveReason::OauthReauthorizationRequired),
            // Somebody else writes the same contact at this moment.
            409 => Verdict::Unwell,
            423 => slower(otherwise(LOCKED_REST)),
            429 if answer.text("/policyName").as_deref() == Some("DAILY") => slower(Some(DAY_REST)),
            429 => slower(otherwise(interval(answer).unwrap_or(REST))),
            // The account moves to another data centre.
            477 => slower(None),
            status => Verdict::of_status(status),
        }
    }

    async fn verify(&self, api: &Api<'_>) -> Result<(), Stop> {
        api.get("/account-info/v3/details").send().await.map(drop)
    }

    async fn act(&self, api: &Api<'_>, work: &Work<'_>) -> Result<(), Stop> {
        let email = work.required("email")?;
        match work.action {
            "add_to_list" => {
                let list = work.id("id")?;
                let contact = upsert(api, &email, mapped(work, &email)).await?;
                let path = format!("/crm/v3/lists/{list}/memberships/add");
                let answer = api.put(path).json(&json!([contact])).send().await?;
                match answer.list("/recordIdsMissing").is_empty() {
                    true => Ok(()),
                    false => Err(Stop::odd("hubspot did not find the contact it just wrote")),
                }
            }
            "remove_from_list" => {
                let list = work.id("id")?;
                let Some(contact) = find(api, &email).await? else { return Ok(()) };
                let path = format!("/crm/v3/lists/{list}/memberships/remove");
                api.put(path).json(&json!([contact])).send().await.map(drop)
            }
            "update_property" => {
                let one = (work.input("id")?.to_owned(), work.input("value")?.into());
                upsert(api, &email, Map::from_iter([one])).await.map(drop)
            }
            "create_deal" => {
                let mut deal = deal(work)?;
                let contact = upsert(api, &email, mapped(work, &email)).await?;
                deal["associations"][0]["to"]["id"] = contact.into();
                api.post("/crm/v3/objects/deals").json(&deal).once().send().await.map(drop)
            }
            "send_custom_event" => {
                let body = json!({
                    "eventName": work.input("event_name")?,
                    "email": email,
                    "occurredAt": work.out.event.accepted_at.to_string(),
                    "uuid": api.token(),
                    "properties": event_properties(work),
                });
                // A conflict: it is there already.
                api.post("/events/v3/send").json(&body).fine(&[409]).send().await.map(drop)
            }
            _ => upsert(api, &email, mapped(work, &email)).await.map(drop),
        }
    }

    async fn items(&self, api: &Api<'_>, key: &str) -> Result<Vec<Item>, Stop> {
        if key == "properties" {
            let answer = api.get("/crm/v3/properties/contacts").send().await?;
            return Ok(answer
                .list("/results")
                .iter()
                .filter(|p| is_writable(p))
                .filter_map(choice)
                .collect());
        }
        let (mut items, mut offset) = (Vec::new(), 0_u64);
        for _ in 0..PAGES_MAX {
            let body = json!({
                "query": "", "offset": offset, "count": PAGE,
                "processingTypes": ["MANUAL", "SNAPSHOT"], "additionalProperties": [],
            });
            let answer =
                api.post("/crm/v3/lists/search").json(&body).part("search", SEARCH_PACE).send().await?;
            let is_ours = |list: &&Value| text_at(list, "/objectTypeId").is_none_or(|kind| kind == CONTACTS);
            let item = |list: &Value| {
                Some(Item {
                    id: text_at(list, "/listId")?,
                    name: text_at(list, "/name")?,
                    options: Vec::new(),
                })
            };
            let lists = answer.list("/lists");
            items.extend(lists.iter().filter(is_ours).filter_map(item));
            let next = answer.json.pointer("/offset").and_then(Value::as_u64).unwrap_or_default();
            if answer.json.get("hasMore") != Some(&Value::Bool(true)) || lists.is_empty() {
                break;
            }
            offset = if next > offset { next } else { offset + lists.len() as u64 };
        }
        Ok(items)
    }

    fn standard_fields(&self) -> Vec<CatalogField> {
        let email =
            Constraints { format: Some(Format::Email), required: Some(true), ..Constraints::default() };
        let field = |(key, label): (&str, &str)| CatalogField {
            key: key.to_owned(),
            label: Some(label.to_owned()),
            kind: CatalogFieldKind::String,
            description: None,
            constraints: (key == "email").then(|| email.clone()),
        };
        let all = [
            ("email", "E-mail"),
            ("firstname", "First name"),
            ("lastname", "Last name"),
            ("phone", "Phone"),
            ("company", "Company"),
            ("website", "Website"),
            ("address", "Street"),
            ("city", "City"),
            ("state", "State"),
            ("zip", "Postal code"),
            ("country", "Country"),
        ];
        all.into_iter().map(field).collect()
    }

    /// The standard ones first, as the account has them.
    async fn fields(&self, api: &Api<'_>) -> Result<Vec<CatalogField>, Stop> {
        let answer = api.get("/crm/v3/properties/contacts").send().await?;
        let standard = self.standard_fields();
        let own = answer.list("/results").iter().filter(|property| is_writable(property)).filter_map(field);
        let own = own.filter(|field| standard.iter().all(|known| known.key != field.key));
        Ok(standard.iter().cloned().chain(own).collect())
    }

    fn told(&self, token_answer: &Value) -> Map<String, Value> {
        let hub = text_at(token_answer, "/hub_id");
        hub.map(|hub| ("hub_id".to_owned(), hub.into())).into_iter().collect()
    }

    async fn discover(&self, api: &Api<'_>) -> Result<Map<String, Value>, Stop> {
        if api.setting("hub_id").is_some() {
            return Ok(Map::new());
        }
        let answer = api.get("/account-info/v3/details").send().await?;
        let hub = answer.text("/portalId");
        Ok(hub.map(|hub| ("hub_id".to_owned(), hub.into())).into_iter().collect())
    }
}

/// The window of the limit that was met.
fn interval(answer: &Answer) -> Option<Duration> {
    let ms: u64 = answer.header("x-hubspot-ratelimit-interval-milliseconds")?.trim().parse().ok()?;
    Some(Duration::from_millis(ms).clamp(Duration::from_secs(1), DAY_REST))
}

/// Creates or updates the contact; its id.
async fn upsert(api: &Api<'_>, email: &str, properties: Map<String, Value>) -> Result<String, Stop> {
    let input = json!({
        "idProperty": "email", "id": email, "objectWriteTraceId": api.token(), "properties": properties,
    });
    let call = api.post("/crm/v3/objects/contacts/batch/upsert").json(&json!({ "inputs": [input] }));
    let answer = call.send().await?;
    answer.text("/results/0/id").ok_or_else(|| match answer.json.get("results") {
        Some(_) => Stop::refused("hubspot took nothing and did not say why: look at the mapped values"),
        None => Stop::odd("hubspot answered without the contact's id"),
    })
}

/// The contact's properties.
fn mapped(work: &Work<'_>, email: &str) -> Map<String, Value> {
    let texts = work.fields.iter().filter_map(|(field, value)| {
        let text = match value {
            Json::Array(items) => items.iter().filter_map(text_of).collect::<Vec<_>>().join(";"),
            value => text_of(value)?,
        };
        Some((field.to_owned(), text.into()))
    });
    let mut properties: Map<String, Value> = texts.collect();
    properties.insert("email".to_owned(), email.into());
    properties
}

/// The id of the contact with this address.
async fn find(api: &Api<'_>, email: &str) -> Result<Option<String>, Stop> {
    if !email.contains('@') {
        return Err(Stop::mapping("email is no e-mail address: correct the mapping"));
    }
    let escaped: String = url::form_urlencoded::byte_serialize(email.as_bytes()).collect();
    let path = format!("/crm/v3/objects/contacts/{}", escaped.replace('+', "%20"));
    let call = api.get(path).query("idProperty", "email").query("properties", "email").fine(&[404]);
    let answer = call.send().await?;
    match answer.text("/id") {
        Some(id) => Ok(Some(id)),
        None if answer.status == 404 => Ok(None),
        None => Err(Stop::odd("hubspot answered without the contact's id")),
    }
}

/// A deal that is not with anybody yet.
fn deal(work: &Work<'_>) -> Result<Value, Stop> {
    let filled =
        |key| work.input_if_any(key).map(|text| template::filled(text, work.payload, template::plain));
    let name = filled("title").map(|name| name.trim().to_owned()).unwrap_or_default();
    if name.is_empty() {
        return Err(Stop::mapping(
            "the deal's name is empty: its places are filled from the payload, edit the rule",
        ));
    }
    let mut properties = json!({
        "dealname": name,
        "pipeline": work.input_if_any("pipeline").unwrap_or("default"),
        "dealstage": work.input_if_any("stage").unwrap_or("appointmentscheduled"),
    });
    if let Some(amount) = filled("amount").filter(|amount| !amount.trim().is_empty()) {
        properties["amount"] = amount.trim().into();
    }
    let types = json!([{ "associationCategory": "HUBSPOT_DEFINED", "associationTypeId": DEAL_TO_CONTACT }]);
    Ok(json!({ "properties": properties, "associations": [{ "to": { "id": null }, "types": types }] }))
}

/// What the rule names of the payload, dots as underscores.
fn event_properties(work: &Work<'_>) -> Map<String, Value> {
    let named = work.input_if_any("event_properties").unwrap_or_default().split(',').map(str::trim);
    let found =
        named.filter_map(|path| Some((path.replace('.', "_"), text_of(work.payload.at_path(path)?)?.into())));
    found.collect()
}

fn is_writable(property: &Value) -> bool {
    let is = |place: &str| property.pointer(place) == Some(&Value::Bool(true));
    !is("/modificationMetadata/readOnlyValue") && !is("/calculated") && !is("/hidden")
}

fn options(property: &Value) -> Vec<ItemOption> {
    let options = property.get("options").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let option = |option: &Value| {
        Some(ItemOption { value: text_at(option, "/value")?, label: text_at(option, "/label") })
    };
    options.iter().filter_map(option).collect()
}

/// A property that has values to pick from.
fn choice(property: &Value) -> Option<Item> {
    let options = options(property);
    let name = text_at(property, "/label")?;
    (!options.is_empty()).then_some(Item { id: text_at(property, "/name")?, name, options })
}

fn field(property: &Value) -> Option<CatalogField> {
    let is_many = text_at(property, "/fieldType").as_deref() == Some("checkbox");
    let kind = match text_at(property, "/type").unwrap_or_default().as_str() {
        "number" => CatalogFieldKind::Number,
        "date" => CatalogFieldKind::Date,
        "datetime" => CatalogFieldKind::Datetime,
        "bool" => CatalogFieldKind::Boolean,
        "enumeration" if is_many => CatalogFieldKind::MultiEnum,
        "enumeration" => CatalogFieldKind::Enum,
        _ => CatalogFieldKind::String,
    };
    let values: Vec<String> = options(property).into_iter().map(|option| option.value).collect();
    let constraints = (!values.is_empty() && kind != CatalogFieldKind::Boolean)
        .then(|| Constraints { allowed_values: Some(values), ..Constraints::default() });
    let label = text_at(property, "/label");
    Some(CatalogField { key: text_at(property, "/name")?, label, kind, description: None, constraints })
}
