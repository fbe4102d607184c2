//! Salesforce: contacts and leads, and contacts in campaigns.
//!
//! REST API: <https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/>, at the org's own host,
//! which a consent tells. Nothing makes an address a key: a contact is asked for and then changed or made, and
//! deliveries about one address take turns. A 403 may mean that the org's calls of the day are used up.

use super::{
    FieldError, SettingsError,
    limits::Pace,
    live::{Item, ItemOption},
    service::{Account, Answer, Api, Entry, Over, Service, Stop, Verdict, Work, text_at, text_of, value_of},
    setup::Setup,
    spec::{ActionSpec, Auth, ClientAuth, Consent, Field, FieldKind, Input, Spec},
};
use crate::domain::{
    catalog::{CatalogField, CatalogFieldKind, Constraints, Format},
    connection::InactiveReason,
    payload::Json,
};
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use std::time::Duration;
use url::Url;

pub struct Salesforce;

/// The version of the API, once and for all.
const DATA: &str = "/services/data/v60.0";

const CAMPAIGN: Input = Input::pick("campaigns", "Campaign");
const STATUS: Input = Input::line("status", "Status of the member", false, Some("Sent"));
const PROPERTY: Input = Input::pick_option("properties", "Field");
const EXTERNAL: Input = Input::line("id", "External id field", true, Some("External_Id__c"));

const TWICE: &str = "It is found again by its e-mail address; nothing is doubled.";

#[rustfmt::skip] // one setting, one action a line
static SPEC: Spec = Spec {
    kind: "salesforce",
    name: "Salesforce",
    auth: Auth::OAuth(2),
    fields: &[
        Field { help: Some("Lasts as long as a session. Not needed when the org is connected in a browser."), ..Field::secret("access_token", "Access token") },
        Field { kind: FieldKind::Url, help: Some("Such as https://acme.my.salesforce.com. Filled in by Salesforce after a consent."), ..Field::text("instance_url", "Org address") },
        Field { kind: FieldKind::Url, help: Some("Where the org is logged in to, if not at https://login.salesforce.com: https://test.salesforce.com for a sandbox, or the org's own domain, such as https://acme.my.salesforce.com."), ..Field::text("login_url", "Login address") },
        Field { help: Some("Filled in by Salesforce."), ..Field::text("org_id", "Org id") },
        Field { help: Some("Filled in by Salesforce."), ..Field::text("user_id", "User id") },
    ],
    actions: &[
        ActionSpec { key: "add_to_campaign",      label: "Add to campaign",          noun: "campaign", description: "Adds the contact, who is created if not there, to a campaign.",   inputs: &[CAMPAIGN, STATUS], needs: &["Email"], twice: TWICE },
        ActionSpec { key: "remove_from_campaign", label: "Remove from campaign",     noun: "campaign", description: "Takes the contact out of a campaign; who is not there is in none.",                            inputs: &[CAMPAIGN],         needs: &["Email"], twice: "It is out of the campaign already." },
        ActionSpec { key: "update_property",      label: "Update field",             noun: "field",    description: "Sets one field of the contact, who is created if not there.",     inputs: &[PROPERTY],         needs: &["Email"], twice: TWICE },
        ActionSpec { key: "upsert_contact",       label: "Create or update contact", noun: "contact",  description: "Creates or updates the contact.",                                 inputs: &[],                 needs: &["Email"], twice: TWICE },
        ActionSpec { key: "upsert_lead",          label: "Create or update lead",    noun: "lead",     description: "Creates or updates the lead; of a converted one the contact.",    inputs: &[],                 needs: &["Email", "Company"], twice: TWICE },
        ActionSpec { key: "upsert_by_external_id", label: "Create or update contact by external id", noun: "contact", description: "Creates or updates the contact whose external id is the one mapped.", inputs: &[EXTERNAL], needs: &[], twice: "It is found again by its external id; nothing is doubled." },
    ],
    consent: Some(&Consent {
        authorize: "https://login.salesforce.com/services/oauth2/authorize",
        token: "https://login.salesforce.com/services/oauth2/token",
        login: Some("login_url"),
        scopes: &["api", "refresh_token"],
        separator: ' ',
        client: ClientAuth::Form,
        pkce: true,
        params: &[],
    }),
};

/// Whether this is a host of Salesforce's, and that alone: the operator's app shows its secret there.
fn is_login(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    let is_theirs = url.host_str().is_some_and(|host| {
        let domain = host.strip_suffix(".my.salesforce.com");
        matches!(host, "login.salesforce.com" | "test.salesforce.com")
            || domain.is_some_and(|domain| !domain.is_empty())
    });
    let is_plain = url.scheme() == "https" && url.port().is_none();
    is_theirs && is_plain && url.origin().ascii_serialization() == text.trim_end_matches('/')
}

const PACE: Pace = Pace::of(10, Duration::from_secs(1), 5);
/// The calls of a rolling day are used up: some come free all the time.
const REST: Duration = Duration::from_secs(15 * 60);
/// Pages of a query that are read, at most.
const PAGES_MAX: usize = 20;

#[async_trait]
impl Service for Salesforce {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn check_settings(&self, settings: &Map<String, Value>) -> Vec<FieldError> {
        let lacks = settings.contains_key("access_token") && !settings.contains_key("instance_url");
        let address = lacks.then(|| FieldError::new("instance_url", "is required beside a pasted token"));
        let login = settings.get("login_url").and_then(Value::as_str).filter(|login| !is_login(login));
        let login = login.map(|_| {
            let msg = "must be https://login.salesforce.com, https://test.salesforce.com, or the org's own domain, \
                       https://….my.salesforce.com, and no more";
            FieldError::new("login_url", msg)
        });
        address.into_iter().chain(login).collect()
    }

    fn account(&self, setup: &Setup<'_>) -> Result<Account, SettingsError> {
        let entry = Entry::bearer(setup, "access_token")?;
        let base = setup.required("instance_url")?.trim_end_matches('/').to_owned();
        let name = setup.text("org_id").map_or_else(|| base.to_ascii_lowercase(), str::to_owned);
        Ok(Account { base, entry, headers: Vec::new(), name, pace: PACE, rest: REST })
    }

    fn read(&self, answer: &Answer) -> Verdict {
        let code = answer.text("/0/errorCode").unwrap_or_default();
        match (answer.status, code.as_str()) {
            (200..300, _) if answer.json.get("success") == Some(&Value::Bool(false)) => Verdict::Refused,
            // Several match.
            (300, _) => Verdict::Refused,
            (400, "DUPLICATE_VALUE") if answer.says("already a campaign member") => Verdict::Fine,
            (400, "UNABLE_TO_LOCK_ROW") => Verdict::Unwell,
            (400, "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY")
                if answer.says("unable_to_lock_row") || answer.says("too many soql queries") =>
            {
                Verdict::Unwell
            }
            (401, _) => Verdict::Expired,
            (403, "REQUEST_LIMIT_EXCEEDED") => Verdict::Slower { wait: Some(REST), over: Over::Account },
            (403, _) => Verdict::Locked(InactiveReason::AuthenticationInvalid),
            (status, _) => Verdict::of_status(status),
        }
    }

    /// Who may not see the limits is let in all the same.
    async fn verify(&self, api: &Api<'_>) -> Result<(), Stop> {
        let answer = api.get(format!("{DATA}/limits")).fine(&[403]).send().await?;
        if answer.status == 403 && !answer.says("insufficient_access") {
            let code = answer.text("/0/errorCode").unwrap_or_default();
            return Err(Stop::refused(format!(
                "salesforce answered 403 {code}: the org or its user may not use the API"
            )));
        }
        Ok(())
    }

    async fn act(&self, api: &Api<'_>, work: &Work<'_>) -> Result<(), Stop> {
        if work.action == "upsert_by_external_id" {
            return upsert_by_external_id(api, work).await;
        }
        let email = work.required("Email")?;
        match work.action {
            "add_to_campaign" => {
                let campaign = work.id("id")?;
                let contact = {
                    let _turn = turn(api, &email).await?;
                    match find(api, &email).await? {
                        Some(contact) => contact,
                        None => make(api, "Contact", body(work, "Contact"), &email).await?,
                    }
                };
                let status = work.input_if_any("status").unwrap_or("Sent");
                let member = json!({ "CampaignId": campaign, "ContactId": contact, "Status": status });
                api.post(format!("{DATA}/sobjects/CampaignMember")).json(&member).send().await.map(drop)
            }
            "remove_from_campaign" => {
                let campaign = work.id("id")?;
                let Some(contact) = find(api, &email).await? else { return Ok(()) };
                leave(api, campaign, &contact).await
            }
            "update_property" => {
                let (field, value) = (work.id("id")?, work.input("value")?);
                let _turn = turn(api, &email).await?;
                if let Some(contact) = find(api, &email).await? {
                    return change(api, "Contact", &contact, &json!({ field: value })).await;
                }
                let mut body = body(work, "Contact");
                body.insert(field.to_owned(), value.into());
                make(api, "Contact", body, &email).await.map(drop)
            }
            "upsert_lead" => {
                work.required("Company")?;
                let _turn = turn(api, &email).await?;
                upsert_lead(api, work, &email).await
            }
            _ => {
                let _turn = turn(api, &email).await?;
                let body = body(work, "Contact");
                match find(api, &email).await? {
                    Some(contact) => change(api, "Contact", &contact, &body.into()).await,
                    None => make(api, "Contact", body, &email).await.map(drop),
                }
            }
        }
    }

    async fn items(&self, api: &Api<'_>, key: &str) -> Result<Vec<Item>, Stop> {
        if key == "properties" {
            let answer = api.get(format!("{DATA}/sobjects/Contact/describe")).send().await?;
            return Ok(answer.list("/fields").iter().filter_map(choice).collect());
        }
        let soql = "SELECT Id, Name FROM Campaign WHERE IsActive = true ORDER BY Name LIMIT 2000";
        let item = |found: &Value| {
            Some(Item { id: text_at(found, "/Id")?, name: text_at(found, "/Name")?, options: Vec::new() })
        };
        Ok(query(api, soql).await?.iter().filter_map(item).collect())
    }

    fn standard_fields(&self) -> Vec<CatalogField> {
        let email =
            Constraints { format: Some(Format::Email), required: Some(true), ..Constraints::default() };
        let field = |(key, label): (&str, &str)| CatalogField {
            key: key.to_owned(),
            label: Some(label.to_owned()),
            kind: CatalogFieldKind::String,
            description: (key == "Company").then(|| "Of leads alone, which must have one.".to_owned()),
            constraints: (key == "Email").then(|| email.clone()),
        };
        let all = [
            ("Email", "E-mail"),
            ("FirstName", "First name"),
            ("LastName", "Last name"),
            ("Phone", "Phone"),
            ("Company", "Company"),
            ("Title", "Title"),
            ("LeadSource", "Lead source"),
            ("MailingStreet", "Street"),
            ("MailingCity", "City"),
            ("MailingState", "State"),
            ("MailingPostalCode", "Postal code"),
            ("MailingCountry", "Country"),
        ];
        all.into_iter().map(field).collect()
    }

    /// The standard ones first, then the org's own of contacts.
    async fn fields(&self, api: &Api<'_>) -> Result<Vec<CatalogField>, Stop> {
        let answer = api.get(format!("{DATA}/sobjects/Contact/describe")).send().await?;
        let standard = self.standard_fields();
        let own = answer.list("/fields").iter().filter(|field| is_writable(field)).filter_map(field);
        let own = own.filter(|field| standard.iter().all(|known| known.key != field.key));
        Ok(standard.iter().cloned().chain(own).collect())
    }

    /// The org's address can change: every token answer has the one of now, and in `id` whose it is.
    fn told(&self, token_answer: &Value) -> Map<String, Value> {
        let url = text_at(token_answer, "/instance_url").map(|url| url.trim_end_matches('/').to_owned());
        let id = text_at(token_answer, "/id").unwrap_or_default();
        let mut ids = id.rsplit('/').map(str::to_owned);
        let (user, org) = (ids.next(), ids.next());
        let told = [("instance_url", url), ("org_id", org), ("user_id", user)];
        let told = told.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        told.filter(|(_, value)| !value.is_empty()).map(|(key, value)| (key, value.into())).collect()
    }
}

/// Nobody else makes or changes who has this address.
async fn turn(api: &Api<'_>, email: &str) -> Result<tokio::sync::OwnedMutexGuard<()>, Stop> {
    api.alone(&format!("person/{}", email.to_lowercase())).await
}

/// A text in a query.
fn quoted(text: &str) -> Result<String, Stop> {
    if text.chars().any(char::is_control) {
        return Err(Stop::mapping("Email has a control character: correct the mapping"));
    }
    Ok(format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")))
}

/// All records, page by page.
async fn query(api: &Api<'_>, soql: &str) -> Result<Vec<Value>, Stop> {
    let mut answer = api.get(format!("{DATA}/query")).query("q", soql).send().await?;
    let mut found = Vec::new();
    for _ in 0..PAGES_MAX {
        if answer.json.get("records").is_none_or(|records| !records.is_array()) {
            return Err(Stop::odd("salesforce answered a query without records"));
        }
        found.extend_from_slice(answer.list("/records"));
        let next = answer.text("/nextRecordsUrl").filter(|next| next.starts_with("/services/"));
        match next {
            Some(next) if answer.json.get("done") == Some(&Value::Bool(false)) => {
                answer = api.get(next).send().await?;
            }
            _ => break,
        }
    }
    Ok(found)
}

/// The id of the oldest contact with this address.
async fn find(api: &Api<'_>, email: &str) -> Result<Option<String>, Stop> {
    if let Some(made) = api.kept("Contact").and_then(|id| text_at(&id, "")) {
        return Ok(Some(made));
    }
    let email = quoted(email)?;
    let soql = format!("SELECT Id FROM Contact WHERE Email = {email} ORDER BY CreatedDate ASC LIMIT 2");
    Ok(query(api, &soql).await?.first().and_then(|found| text_at(found, "/Id")))
}

/// A new record; its id.
async fn make(api: &Api<'_>, kind: &str, mut body: Map<String, Value>, email: &str) -> Result<String, Stop> {
    if body.get("LastName").and_then(Value::as_str).is_none_or(|name| name.trim().is_empty()) {
        let local = email.split('@').next().filter(|local| !local.is_empty()).unwrap_or("Unknown");
        body.insert("LastName".to_owned(), local.into());
    }
    let call = api.post(format!("{DATA}/sobjects/{kind}")).json(&Value::Object(body)).once();
    let id = call.send().await?.text("/id");
    let id = id.ok_or_else(|| Stop::odd("salesforce answered without the new record's id"))?;
    api.keep(kind, id.clone());
    Ok(id)
}

async fn change(api: &Api<'_>, kind: &str, id: &str, body: &Value) -> Result<(), Stop> {
    api.patch(format!("{DATA}/sobjects/{kind}/{id}")).json(body).send().await.map(drop)
}

/// The mapped fields, by the names they have in this kind of record.
fn body(work: &Work<'_>, kind: &str) -> Map<String, Value> {
    let is_lead = kind == "Lead";
    let fields = work.fields.iter().filter(|(field, _)| is_lead || *field != "Company");
    let named = fields.map(|(field, value)| {
        let field = if is_lead { field.strip_prefix("Mailing").unwrap_or(field) } else { field };
        let value = match value {
            // Of several values to pick from.
            Json::Array(items) => items.iter().filter_map(text_of).collect::<Vec<_>>().join(";").into(),
            value => value_of(value),
        };
        (field.to_owned(), value)
    });
    named.collect()
}

async fn leave(api: &Api<'_>, campaign: &str, contact: &str) -> Result<(), Stop> {
    let (campaign, contact) = (quoted(campaign)?, quoted(contact)?);
    let soql =
        format!("SELECT Id FROM CampaignMember WHERE CampaignId = {campaign} AND ContactId = {contact}");
    for member in query(api, &soql).await? {
        let Some(id) = text_at(&member, "/Id") else { continue };
        api.delete(format!("{DATA}/sobjects/CampaignMember/{id}")).fine(&[404]).send().await?;
    }
    Ok(())
}

/// A lead that was converted is a contact by now.
async fn upsert_lead(api: &Api<'_>, work: &Work<'_>, email: &str) -> Result<(), Stop> {
    if let Some(made) = api.kept("Lead").and_then(|id| text_at(&id, "")) {
        return change(api, "Lead", &made, &body(work, "Lead").into()).await;
    }
    let email_text = quoted(email)?;
    let soql = format!(
        "SELECT Id, IsConverted, ConvertedContactId FROM Lead WHERE Email = {email_text} ORDER BY IsConverted ASC, CreatedDate ASC LIMIT 2"
    );
    let found = query(api, &soql).await?;
    let Some(lead) = found.first() else {
        return make(api, "Lead", body(work, "Lead"), email).await.map(drop);
    };
    let contact = text_at(lead, "/ConvertedContactId").filter(|id| !id.is_empty());
    match (lead.get("IsConverted"), contact) {
        (Some(Value::Bool(true)), Some(contact)) => {
            change(api, "Contact", &contact, &body(work, "Contact").into()).await
        }
        (Some(Value::Bool(true)), None) => {
            Err(Stop::refused("the lead was converted, and its contact is not there any more"))
        }
        _ => {
            let id =
                text_at(lead, "/Id").ok_or_else(|| Stop::odd("salesforce answered a lead without an id"))?;
            change(api, "Lead", &id, &body(work, "Lead").into()).await
        }
    }
}

/// The field is in the path, and must not be in the body as well.
async fn upsert_by_external_id(api: &Api<'_>, work: &Work<'_>) -> Result<(), Stop> {
    let field = work.id("id")?;
    let value = work.required(field)?;
    if value.chars().all(|c| c == '.') {
        return Err(Stop::mapping(format!("{field} is no external id: correct the mapping")));
    }
    let mut body = body(work, "Contact");
    body.remove(field);
    let escaped: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
    let path = format!("{DATA}/sobjects/Contact/{field}/{}", escaped.replace('+', "%20"));
    api.patch(path).json(&Value::Object(body)).send().await.map(drop)
}

fn is(field: &Value, what: &str) -> bool {
    field.get(what) == Some(&Value::Bool(true))
}

fn is_writable(field: &Value) -> bool {
    is(field, "createable") || is(field, "updateable")
}

fn options(field: &Value) -> Vec<ItemOption> {
    let values = field.get("picklistValues").and_then(Value::as_array).into_iter().flatten();
    let active = values.filter(|value| value.get("active") != Some(&Value::Bool(false)));
    let option = |value: &Value| {
        Some(ItemOption { value: text_at(value, "/value")?, label: text_at(value, "/label") })
    };
    active.filter_map(option).collect()
}

/// A field that has values to pick from.
fn choice(field: &Value) -> Option<Item> {
    let options = options(field);
    let is_one = is(field, "updateable") && !options.is_empty();
    is_one.then_some(Item { id: text_at(field, "/name")?, name: text_at(field, "/label")?, options })
}

fn field(field: &Value) -> Option<CatalogField> {
    use CatalogFieldKind as Kind;
    let (kind, format) = match text_at(field, "/type").unwrap_or_default().as_str() {
        "address" | "location" | "base64" => return None,
        "boolean" => (Kind::Boolean, None),
        "int" | "long" | "double" | "currency" | "percent" => (Kind::Number, None),
        "date" => (Kind::Date, None),
        "datetime" => (Kind::Datetime, None),
        "picklist" => (Kind::Enum, None),
        "multipicklist" => (Kind::MultiEnum, None),
        "email" => (Kind::String, Some(Format::Email)),
        "phone" => (Kind::String, Some(Format::Phone)),
        "url" => (Kind::String, Some(Format::Url)),
        _ => (Kind::String, None),
    };
    let is_needed = is(field, "createable")
        && field.get("nillable") == Some(&Value::Bool(false))
        && field.get("defaultedOnCreate") == Some(&Value::Bool(false));
    let length = field.get("length").and_then(Value::as_u64).filter(|length| *length > 0);
    let values: Vec<String> = options(field).into_iter().map(|option| option.value).collect();
    let constraints = Constraints {
        format,
        required: is_needed.then_some(true),
        max_length: length.filter(|_| kind == Kind::String),
        allowed_values: (!values.is_empty()).then_some(values),
        ..Constraints::default()
    };
    let constraints = (constraints != Constraints::default()).then_some(constraints);
    let (key, label) = (text_at(field, "/name")?, text_at(field, "/label"));
    Some(CatalogField { key, label, kind, description: None, constraints })
}
