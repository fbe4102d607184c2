//! SendGrid: mail, and contacts for marketing.
//!
//! API v3 (<https://www.twilio.com/docs/sendgrid/api-reference>). Mail is accepted (202) and sent later; so are
//! contacts. Mail has no way to recognise a repetition: each carries the delivery's id as `custom_args.delivery_id`.

use super::{
    SettingsError,
    limits::Pace,
    live::Item,
    service::{Account, Answer, Api, Entry, Over, Service, Stop, Verdict, Work, text_at, text_of},
    setup::Setup,
    spec::{ActionSpec, Auth, Choice, Field, Input, InputKind, Spec},
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

pub struct SendGrid;

const REGIONS: [Choice; 2] =
    [Choice { label: "Global", value: "global" }, Choice { label: "EU (mail alone)", value: "eu" }];
const GLOBAL: &str = "https://api.sendgrid.com";
const EU: &str = "https://api.eu.sendgrid.com";

const TEMPLATE: Input = Input::pick("templates", "Template");
const LIST: Input = Input::pick("lists", "List");
const FROM: Input = Input::line("from", "From", false, Some("Acme <hi@acme.com>"));
const SUBJECT: Input = Input::line("subject", "Subject", false, Some("Welcome, {{first_name}}"));
const BODY: Input = Input {
    kind: InputKind::Text { several_lines: true, placeholder: Some("<p>Hello {{first_name}}</p>") },
    ..Input::line("body", "Body (HTML)", true, None)
};

const MAIL_TWICE: &str = "The mail may arrive twice, both with the same custom_args.delivery_id.";
const CONTACT_TWICE: &str = "The contact is found again by its e-mail address; nothing is doubled.";

#[rustfmt::skip] // one setting, one action a line
static SPEC: Spec = Spec {
    kind: "sendgrid",
    name: "SendGrid",
    auth: Auth::ApiKey,
    fields: &[
        Field { required: true, help: Some("Settings, API Keys. Needs Mail Send; Template Engine to pick templates, Marketing for contacts."), ..Field::secret("api_key", "API key") },
        Field { help: Some("Where the account's data lives."), ..Field::select("region", "Region", &REGIONS) },
        Field { help: Some("A verified sender, for rules that name none: Acme <hi@acme.com>."), ..Field::text("default_from", "Default sender") },
    ],
    actions: &[
        ActionSpec { key: "send_email_template", label: "Send e-mail from a template", noun: "template", description: "Sends a dynamic template to the mapped address, with the payload as its data.", inputs: &[TEMPLATE, FROM, SUBJECT], needs: &["email"], twice: MAIL_TWICE },
        ActionSpec { key: "send_email",          label: "Send e-mail",                 noun: "e-mail",   description: "Sends a text of the rule's to the mapped address.",                        inputs: &[FROM, Input::line("subject", "Subject", true, Some("Welcome, {{first_name}}")), BODY], needs: &["email"], twice: MAIL_TWICE },
        ActionSpec { key: "upsert_contact",      label: "Create or update contact",    noun: "contact",  description: "Creates or updates a marketing contact.",                                  inputs: &[],     needs: &["email"], twice: CONTACT_TWICE },
        ActionSpec { key: "add_to_list",         label: "Add to list",                 noun: "list",     description: "Creates or updates the contact and puts it on a list.",                    inputs: &[LIST], needs: &["email"], twice: CONTACT_TWICE },
        ActionSpec { key: "remove_from_list",    label: "Remove from list",            noun: "list",     description: "Takes the contact off a list; who is not there stays so.",                                            inputs: &[LIST], needs: &["email"], twice: "It is off the list already." },
    ],
    consent: None,
};

/// Of an account: mail has more than the rest, and its own part.
const PACE: Pace = Pace::of(50, Duration::from_secs(1), 8);
const CONTACTS: (&str, Pace) = ("contacts", Pace::of(3, Duration::from_secs(3), 1));
const OTHER: (&str, Pace) = ("other", Pace::of(5, Duration::from_secs(1), 4));
const SUBJECT_CHARS_MAX: usize = 998;
const BODY_CHARS_MAX: usize = 1_000_000;
/// Pages of a list that are read, at most.
const PAGES_MAX: usize = 50;

#[async_trait]
impl Service for SendGrid {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn account(&self, setup: &Setup<'_>) -> Result<Account, SettingsError> {
        let key = setup.required_secret("api_key")?;
        // `SG.` and the key's own id: what it may is not in it.
        let name = key.expose().split('.').nth(1).unwrap_or_default().to_owned();
        let base = if setup.text("region") == Some("eu") { EU } else { GLOBAL };
        let entry = Entry::Token("Bearer", key);
        Ok(Account {
            base: base.to_owned(),
            entry,
            headers: Vec::new(),
            name,
            pace: PACE,
            rest: Duration::from_secs(5),
        })
    }

    fn read(&self, answer: &Answer) -> Verdict {
        match answer.status {
            401 => Verdict::Locked(InactiveReason::AuthenticationInvalid),
            403 if answer.says("verified sender identity") => Verdict::Refused,
            403 => Verdict::Locked(InactiveReason::AuthenticationInvalid),
            429 => Verdict::Slower { wait: None, over: Over::Part },
            status => Verdict::of_status(status),
        }
    }

    async fn verify(&self, api: &Api<'_>) -> Result<(), Stop> {
        let answer = api.get("/v3/scopes").send().await?;
        let may_send = answer.list("/scopes").iter().any(|scope| scope == "mail.send");
        let may_market = answer
            .list("/scopes")
            .iter()
            .any(|scope| scope.as_str().is_some_and(|scope| scope.starts_with("marketing")));
        if may_send || may_market {
            return Ok(());
        }
        Err(Stop::refused(
            "sendgrid: the API key may neither send mail nor change contacts: give it Mail Send or Marketing",
        ))
    }

    async fn act(&self, api: &Api<'_>, work: &Work<'_>) -> Result<(), Stop> {
        let email = work.required("email")?;
        match work.action {
            "send_email_template" => {
                let mut mail = mail(api, work, &email)?;
                mail["template_id"] = work.input("id")?.into();
                let data = serde_json::to_value(work.payload).unwrap_or_default();
                mail["personalizations"][0]["dynamic_template_data"] = data;
                if let Some(subject) = subject(work)? {
                    mail["personalizations"][0]["subject"] = subject.into();
                }
                send(api, &mail).await
            }
            "send_email" => {
                let mut mail = mail(api, work, &email)?;
                let body = template::filled(work.input("body")?, work.payload, template::html);
                template::fits("body", &body, BODY_CHARS_MAX).map_err(Stop::mapping)?;
                let none =
                    || Stop::mapping("the rule's subject is empty: its places are filled from the payload");
                mail["subject"] = subject(work)?.ok_or_else(none)?.into();
                mail["content"] = json!([{ "type": "text/html", "value": body }]);
                send(api, &mail).await
            }
            "remove_from_list" => {
                let list = work.input("id")?;
                let body = json!({ "emails": [email.to_lowercase()] });
                let call = api.post(marketing("/contacts/search/emails")).json(&body).question().fine(&[404]);
                let found = call.part(CONTACTS.0, CONTACTS.1).send().await?;
                let place = format!(
                    "/result/{}/contact/id",
                    email.to_lowercase().replace('~', "~0").replace('/', "~1")
                );
                let Some(id) = found.text(&place) else { return Ok(()) };
                let call = api.delete(marketing(&format!("/lists/{list}/contacts"))).query("contact_ids", id);
                call.fine(&[404]).part(CONTACTS.0, CONTACTS.1).send().await.map(drop)
            }
            action => {
                let mut body = json!({ "contacts": [contact(work, &email)] });
                if action == "add_to_list" {
                    body["list_ids"] = json!([work.input("id")?]);
                }
                let call = api.put(marketing("/contacts")).json(&body);
                call.part(CONTACTS.0, CONTACTS.1).send().await.map(drop)
            }
        }
    }

    async fn items(&self, api: &Api<'_>, key: &str) -> Result<Vec<Item>, Stop> {
        let (mut page, list) = match key {
            "lists" => (marketing("/lists?page_size=1000"), "/result"),
            _ => (format!("{}/v3/templates?generations=dynamic&page_size=200", api.base()), "/result"),
        };
        let mut items = Vec::new();
        for _ in 0..PAGES_MAX {
            let answer = api.get(&page).part(OTHER.0, OTHER.1).send().await?;
            // Templates are told under another name where they are not paged.
            let found =
                if answer.list(list).is_empty() { answer.list("/templates") } else { answer.list(list) };
            let item = |found: &Value| {
                Some(Item { id: text_at(found, "/id")?, name: text_at(found, "/name")?, options: Vec::new() })
            };
            items.extend(found.iter().filter_map(item));
            match answer
                .text("/_metadata/next")
                .filter(|next| next.starts_with(GLOBAL) || next.starts_with(EU))
            {
                Some(next) => page = next,
                None => break,
            }
        }
        Ok(items)
    }

    fn standard_fields(&self) -> Vec<CatalogField> {
        let field = |key: &str, label: &str, most: u64| CatalogField {
            key: key.to_owned(),
            label: Some(label.to_owned()),
            kind: CatalogFieldKind::String,
            description: None,
            constraints: Some(Constraints { max_length: Some(most), ..Constraints::default() }),
        };
        let mut fields = vec![
            field("email", "E-mail", 254),
            field("first_name", "First name", 50),
            field("last_name", "Last name", 50),
            field("phone_number_id", "Phone", 50),
            field("external_id", "External id", 254),
            field("city", "City", 60),
            field("state_province_region", "State, province or region", 50),
            field("postal_code", "Postal code", 50),
            field("country", "Country", 50),
        ];
        let constraints = fields[0].constraints.get_or_insert_default();
        (constraints.format, constraints.required) = (Some(Format::Email), Some(true));
        fields
    }

    async fn fields(&self, api: &Api<'_>) -> Result<Vec<CatalogField>, Stop> {
        let mut fields = self.standard_fields();
        // A key for mail alone may not look; then the standard ones are all it needs.
        let call = api.get(marketing("/field_definitions")).fine(&[403]);
        let answer = call.part(OTHER.0, OTHER.1).send().await?;
        let custom = |found: &Value| {
            let kind = match text_at(found, "/field_type").unwrap_or_default().as_str() {
                "Number" => CatalogFieldKind::Number,
                "Date" => CatalogFieldKind::Date,
                _ => CatalogFieldKind::String,
            };
            let (key, label) = (text_at(found, "/id")?, text_at(found, "/name"));
            Some(CatalogField { key, label, kind, description: None, constraints: None })
        };
        fields.extend(answer.list("/custom_fields").iter().filter_map(custom));
        Ok(fields)
    }
}

/// Contacts are on the global host alone.
fn marketing(path: &str) -> String {
    format!("{GLOBAL}/v3/marketing{path}")
}

/// Who it is from and for, and which delivery it is.
fn mail(api: &Api<'_>, work: &Work<'_>, email: &str) -> Result<Value, Stop> {
    let from = work.input_if_any("from").or_else(|| api.setting("default_from"));
    let from = from.ok_or_else(|| {
        Stop::mapping("there is no sender: give the rule a from, or the connection a default_from")
    })?;
    let from = address(&template::filled(from, work.payload, template::plain)).ok_or_else(|| {
        Stop::mapping("the sender is no e-mail address: write hi@acme.com or Acme <hi@acme.com>")
    })?;
    let mut to = json!({ "email": email });
    let names: Vec<String> = ["first_name", "last_name"].iter().filter_map(|name| work.text(name)).collect();
    if !names.is_empty() {
        to["name"] = names.join(" ").into();
    }
    let personalization = json!({ "to": [to], "custom_args": { "delivery_id": api.token() } });
    Ok(json!({ "personalizations": [personalization], "from": from }))
}

fn subject(work: &Work<'_>) -> Result<Option<String>, Stop> {
    let Some(subject) = work.input_if_any("subject") else { return Ok(None) };
    let subject = template::filled(subject, work.payload, |text| text.replace(['\r', '\n'], " "));
    template::fits("subject", &subject, SUBJECT_CHARS_MAX).map_err(Stop::mapping)?;
    Ok(Some(subject).filter(|subject| !subject.trim().is_empty()))
}

/// `hi@acme.com`, or `Acme <hi@acme.com>`.
fn address(text: &str) -> Option<Value> {
    let text = text.trim();
    let is_address = |text: &str| text.contains('@') && !text.contains([' ', '<', '>', '\r', '\n']);
    match text.strip_suffix('>').and_then(|rest| rest.rsplit_once('<')) {
        Some((name, email)) if is_address(email) => {
            Some(json!({ "email": email, "name": name.trim().trim_matches('"') }))
        }
        None if is_address(text) => Some(json!({ "email": text })),
        _ => None,
    }
}

async fn send(api: &Api<'_>, mail: &Value) -> Result<(), Stop> {
    api.post("/v3/mail/send").json(mail).part("mail", PACE).once().send().await.map(drop)
}

/// Custom fields go by their ids, such as `e1_T`; numbers as numbers.
fn contact(work: &Work<'_>, email: &str) -> Value {
    let standard: Vec<String> = SendGrid.standard_fields().into_iter().map(|field| field.key).collect();
    let (mut contact, mut custom) = (Map::new(), Map::new());
    for (field, value) in work.fields.iter() {
        let Some(text) = text_of(value) else { continue };
        if standard.iter().any(|key| key == field) {
            contact.insert(field.to_owned(), text.into());
            continue;
        }
        let value = match value {
            Json::Number(_) => serde_json::to_value(value).unwrap_or_default(),
            _ => text.into(),
        };
        custom.insert(field.to_owned(), value);
    }
    contact.insert("email".to_owned(), email.to_lowercase().into());
    if !custom.is_empty() {
        contact.insert("custom_fields".to_owned(), custom.into());
    }
    contact.into()
}
