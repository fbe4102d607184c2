//! Pipedrive: persons, their fields and labels.
//!
//! API v2: <https://developers.pipedrive.com/docs/api/v1>, and of v1 only who is asking. Nothing makes an e-mail
//! address a key and there is no upsert: a person is searched, read and then changed, or made. So deliveries
//! about one person take turns and remember whom they found, which also spares the company's daily tokens: a
//! search costs twenty, a read one. v2 coerces nothing: what a field holds is looked up ([`values`]).

mod person;
mod values;

use self::values::{BUILT_IN, PersonField};
use super::{
    SettingsError,
    limits::Pace,
    live::{Item, ItemOption},
    service::{Account, Answer, Api, Entry, Over, Service, Stop, Verdict, Work, tail_of, text_at},
    setup::Setup,
    spec::{ActionSpec, Auth, ClientAuth, Consent, Field, FieldKind, Input, Spec},
};
use crate::domain::{
    catalog::{CatalogField, CatalogFieldKind, Constraints, Format},
    connection::InactiveReason,
};
use async_trait::async_trait;
use serde_json::{Map, Value};
use std::time::Duration;

pub struct Pipedrive;

/// Where an account is that nobody told the domain of.
const API: &str = "https://api.pipedrive.com";

const LABEL: Input = Input::pick("labels", "Label");
const PROPERTY: Input = Input::pick_option("properties", "Field");
const TWICE: &str = "The person is found again by its e-mail address. One who was made while an answer got lost, and is not found yet, may be there twice.";

#[rustfmt::skip] // one setting, one action a line
static SPEC: Spec = Spec {
    kind: "pipedrive",
    name: "Pipedrive",
    auth: Auth::OAuth(2),
    fields: &[
        Field { help: Some("Personal preferences, API. Not needed when the account is connected in a browser."), ..Field::secret("api_token", "API token") },
        Field { kind: FieldKind::Url, help: Some("Such as https://acme.pipedrive.com. Filled in by Pipedrive after a consent."), ..Field::text("api_domain", "Company address") },
        Field { help: Some("Filled in by Pipedrive."), ..Field::text("company_id", "Company id") },
        Field { help: Some("Filled in by Pipedrive."), ..Field::text("user_id", "User id") },
    ],
    actions: &[
        ActionSpec { key: "sync_person",              label: "Sync person",              noun: "person", description: "Creates or updates the person.",                                       inputs: &[],         needs: &["email"], twice: TWICE },
        ActionSpec { key: "update_person_field",      label: "Update person field",      noun: "field",  description: "Sets one field of the person, who is created if not there.",           inputs: &[PROPERTY], needs: &["email"], twice: TWICE },
        ActionSpec { key: "add_label_to_person",      label: "Add label to person",      noun: "label",  description: "Puts a label on the person, who is created if not there.",             inputs: &[LABEL],    needs: &["email"], twice: TWICE },
        ActionSpec { key: "remove_label_from_person", label: "Remove label from person", noun: "label",  description: "Takes a label off the person.",                                        inputs: &[LABEL],    needs: &["email"], twice: "The label is off already." },
    ],
    consent: Some(&Consent {
        authorize: "https://oauth.pipedrive.com/oauth/authorize",
        token: "https://oauth.pipedrive.com/oauth/token",
        login: None,
        scopes: &[], // the app's own settings have them
        separator: ',',
        client: ClientAuth::Basic,
        pkce: false,
        params: &[],
    }),
};

/// Of an OAuth app's token, on the smallest plan: eighty in two seconds, less than half of it.
const PACE: Pace = Pace::of(20, Duration::from_secs(1), 4);
/// Of a personal token, on the smallest plan: twenty in two seconds.
const TOKEN_PACE: Pace = Pace::of(8, Duration::from_secs(1), 4);
/// Of either, on every plan: ten in two seconds.
const SEARCH_PACE: Pace = Pace::of(4, Duration::from_secs(1), 4).even();
const REST: Duration = Duration::from_secs(2);
/// How long a company is left alone whose day is used up, or that blocks us for calling on.
const LONG_REST: Duration = Duration::from_secs(15 * 60);

#[async_trait]
impl Service for Pipedrive {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn account(&self, setup: &Setup<'_>) -> Result<Account, SettingsError> {
        let base = setup.text("api_domain").unwrap_or(API).trim_end_matches('/').to_owned();
        let token = setup.text("api_token");
        let (entry, pace) = match token {
            Some(_) => (Entry::Header("x-api-token", setup.required_secret("api_token")?), TOKEN_PACE),
            None => (Entry::bearer(setup, "api_token")?, PACE),
        };
        let name = match (setup.text("company_id"), setup.text("api_domain")) {
            (Some(company), _) => company.to_owned(),
            (None, Some(_)) => base.to_ascii_lowercase(),
            (None, None) => format!("token/{}", tail_of(token.unwrap_or_default())),
        };
        Ok(Account { base, entry, headers: Vec::new(), name, pace, rest: REST })
    }

    fn read(&self, answer: &Answer) -> Verdict {
        let slower = |wait| Verdict::Slower { wait, over: Over::Account };
        match (answer.status, answer.json.get("success")) {
            (200..300, Some(Value::Bool(true))) => Verdict::Fine,
            (200..300, Some(Value::Bool(false))) => Verdict::Refused,
            (200..300, _) => Verdict::Unwell,
            (401, _) => Verdict::Expired,
            // The company's account is closed, or was not paid for.
            (402, _) => Verdict::Locked(InactiveReason::AuthenticationInvalid),
            (403, _) if !answer.json.is_object() => slower(Some(LONG_REST)),
            (403, _) if answer.says("scope and url mismatch") => {
                Verdict::Locked(InactiveReason::OauthReauthorizationRequired)
            }
            (403 | 501, _) => Verdict::Refused,
            (429, _) if answer.header("x-daily-ratelimit-token-remaining") == Some("0") => {
                slower(Some(LONG_REST))
            }
            (status, _) => Verdict::of_status(status),
        }
    }

    async fn verify(&self, api: &Api<'_>) -> Result<(), Stop> {
        api.get("/api/v1/users/me").send().await.map(drop)
    }

    async fn act(&self, api: &Api<'_>, work: &Work<'_>) -> Result<(), Stop> {
        let done = person::act(api, work).await;
        if matches!(&done, Err(stop) if stop.status() == Some(400)) {
            // Perhaps for a field that is no more.
            api.forget(values::CATALOG);
        }
        done
    }

    async fn items(&self, api: &Api<'_>, key: &str) -> Result<Vec<Item>, Stop> {
        let fields = values::read_catalog(api).await?;
        if key == "labels" {
            let of = |code| fields.iter().find(|field| field.code == code);
            let labels = of("label_ids").or_else(|| of("label")).map_or(&[][..], |field| &field.options);
            let item = |(id, label): &(u64, String)| Item {
                id: id.to_string(),
                name: label.clone(),
                options: Vec::new(),
            };
            return Ok(labels.iter().map(item).collect());
        }
        let item = |field: &PersonField| {
            let option = |(id, label): &(u64, String)| ItemOption {
                value: id.to_string(),
                label: Some(label.clone()),
            };
            let options = field.options.iter().map(option).collect();
            Item { id: field.code.clone(), name: field.name.clone(), options }
        };
        let has_options = |field: &&PersonField| field.is_custom && !field.options.is_empty();
        Ok(fields.iter().filter(has_options).map(item).collect())
    }

    fn standard_fields(&self) -> Vec<CatalogField> {
        let field = |(key, label, format, note): (&str, &str, Option<Format>, &str)| CatalogField {
            key: key.to_owned(),
            label: Some(label.to_owned()),
            kind: CatalogFieldKind::String,
            description: (!note.is_empty()).then(|| note.to_owned()),
            constraints: format.map(|format| Constraints {
                format: Some(format),
                required: (format == Format::Email).then_some(true),
                ..Constraints::default()
            }),
        };
        let together = "With the other one the name, where no name is mapped.";
        let known = [
            ("email", "E-mail", Some(Format::Email), ""),
            ("name", "Name", None, ""),
            ("first_name", "First name", None, together),
            ("last_name", "Last name", None, together),
            ("phone", "Phone", Some(Format::Phone), ""),
        ];
        known.into_iter().map(field).collect()
    }

    async fn fields(&self, api: &Api<'_>) -> Result<Vec<CatalogField>, Stop> {
        let own = values::read_catalog(api).await?;
        let built_in = BUILT_IN.iter().map(|(key, label, kind)| CatalogField {
            key: (*key).to_owned(),
            label: Some((*label).to_owned()),
            kind: *kind,
            description: None,
            constraints: None,
        });
        let own = own.iter().filter(|field| field.is_custom).filter_map(PersonField::shown);
        Ok(self.standard_fields().into_iter().chain(built_in).chain(own).collect())
    }

    /// The company's address can change: every token answer has the one of now.
    fn told(&self, token_answer: &Value) -> Map<String, Value> {
        let domain = text_at(token_answer, "/api_domain").filter(|domain| !domain.is_empty());
        let domain = domain.map(|domain| domain.trim_end_matches('/').to_owned());
        domain.map(|domain| ("api_domain".to_owned(), domain.into())).into_iter().collect()
    }

    async fn discover(&self, api: &Api<'_>) -> Result<Map<String, Value>, Stop> {
        let answer = api.get("/api/v1/users/me").send().await?;
        let places = [("company_id", "/data/company_id"), ("user_id", "/data/id")];
        Ok(places.iter().filter_map(|(key, at)| Some(((*key).to_owned(), answer.text(at)?.into()))).collect())
    }
}
