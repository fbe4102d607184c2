//! Customer.io: people, what they did, and the groups they belong to.
//!
//! Pipelines API: <https://docs.customer.io/integrations/api/cdp/>. Without `X-Strict-Mode` it answers 200 to
//! everything, wrong keys too, and it drops what is too large without a word: so the first is always sent, and
//! sizes are looked at here. Calls carry ids of the delivery's, by which a repetition is recognised.

use super::{
    SettingsError,
    limits::Pace,
    service::{Account, Answer, Api, Entry, Over, Service, Stop, Verdict, Work, tail_of, value_of},
    setup::Setup,
    spec::{ActionSpec, Auth, Choice, Field, Input, InputKind, Spec},
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

pub struct CustomerIo;

const REGIONS: [Choice; 2] =
    [Choice { label: "United States", value: "us" }, Choice { label: "Europe", value: "eu" }];
const EVENT: Input = Input {
    key: "event_name_override",
    field: "event_name_override",
    label: "Name of the event",
    required: false,
    kind: InputKind::Text { several_lines: false, placeholder: Some("contact.created") },
};
const GROUP: Input = Input {
    key: "id",
    field: "id",
    label: "Group id",
    required: true,
    kind: InputKind::Text { several_lines: false, placeholder: Some("acme") },
};
const TWICE: &str = "Customer.io recognises the repetition by its message id.";

#[rustfmt::skip] // one setting, one action a line
static SPEC: Spec = Spec {
    kind: "customer_io",
    name: "Customer.io",
    auth: Auth::ApiKey,
    fields: &[
        Field { help: Some("Where the workspace is: Settings, Workspace settings, Region."), ..Field::select("region", "Region", &REGIONS) },
        Field { required: true, help: Some("Of a source of the kind HTTP: Integrations, Connections, Sources."), ..Field::secret("cdpApiKey", "CDP API key") },
    ],
    actions: &[
        ActionSpec { key: "track_event",     label: "Track event",     noun: "event",  description: "Creates or updates the person and adds an event to it.", inputs: &[EVENT], needs: &[], twice: TWICE },
        ActionSpec { key: "identify_person", label: "Identify person", noun: "person", description: "Creates or updates the person.",                         inputs: &[],      needs: &[], twice: TWICE },
        ActionSpec { key: "group",           label: "Add to group",    noun: "group",  description: "Puts the person into a group, such as its company.",     inputs: &[GROUP], needs: &[], twice: TWICE },
    ],
    consent: None,
};

/// The API takes ten times as many.
const PACE: Pace = Pace::of(100, Duration::from_secs(1), 16);
const REST: Duration = Duration::from_secs(1);
/// Of a call's body.
const BODY_BYTES_MAX: usize = 32 * 1_024;
const EVENT_NAME_BYTES_MAX: usize = 100;
const TRAITS_MAX: usize = 300;
const TRAIT_NAME_BYTES_MAX: usize = 150;
const TRAIT_BYTES_MAX: usize = 1_000;
/// What of a payload says who it is about, and is no property of what happened.
const PERSONAL: [&str; 6] = ["id", "email", "first_name", "last_name", "phone", "company"];

#[async_trait]
impl Service for CustomerIo {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn account(&self, setup: &Setup<'_>) -> Result<Account, SettingsError> {
        let key = setup.required("cdpApiKey")?;
        let (base, region) = match setup.text("region") {
            Some("eu") => ("https://cdp-eu.customer.io/v1", "eu"),
            _ => ("https://cdp.customer.io/v1", "us"),
        };
        Ok(Account {
            base: base.to_owned(),
            // The key is the user's name, and the password is empty.
            entry: Entry::Basic(key.to_owned(), crate::domain::secret::Secret::new("")),
            headers: vec![("x-strict-mode", "1".to_owned())],
            name: format!("{region}/{}", tail_of(key)),
            pace: PACE,
            rest: REST,
        })
    }

    fn read(&self, answer: &Answer) -> Verdict {
        let says_no = !answer.list("/errors").is_empty() || answer.text("/meta/error").is_some();
        match answer.status {
            200 if says_no => Verdict::Refused,
            200 if answer.json.is_object() || answer.body.is_empty() => Verdict::Fine,
            200 => Verdict::Unwell,
            401 => Verdict::Locked(InactiveReason::AuthenticationInvalid),
            429 => Verdict::Slower { wait: None, over: Over::Account },
            status => Verdict::of_status(status),
        }
    }

    /// There is nothing to read with this key: somebody who is nobody is identified.
    async fn verify(&self, api: &Api<'_>) -> Result<(), Stop> {
        let nobody = json!({ "userId": "weft-connection-test", "traits": {} });
        api.post("/identify").json(&nobody).send().await.map(drop)
    }

    async fn act(&self, api: &Api<'_>, work: &Work<'_>) -> Result<(), Stop> {
        let who = Who::of(work)?;
        match work.action {
            "identify_person" => send(api, "/identify", &who.identified(api, work)?).await,
            "group" => {
                let mut group = who.call(api, work, "group");
                (group["groupId"], group["traits"]) = (work.input("id")?.into(), json!({}));
                send(api, "/group", &fitting(group, "group")?).await
            }
            _ => {
                let (person, tracked) = (who.identified(api, work)?, who.tracked(api, work)?);
                send(api, "/identify", &person).await?;
                send(api, "/track", &tracked).await
            }
        }
    }

    fn standard_fields(&self) -> Vec<CatalogField> {
        let field = |key: &str, label: &str, kind, description: Option<&str>| CatalogField {
            key: key.to_owned(),
            label: Some(label.to_owned()),
            kind,
            description: description.map(ToOwned::to_owned),
            constraints: None,
        };
        let text = |key: &str, label: &str| field(key, label, CatalogFieldKind::String, None);
        let email = Constraints { format: Some(Format::Email), ..Constraints::default() };
        let who = Some("Who it is. The e-mail address where there is none.");
        vec![
            field("userId", "Person's id", CatalogFieldKind::String, who),
            text("anonymousId", "Id of an unknown person"),
            CatalogField { constraints: Some(email), ..text("traits.email", "E-mail") },
            text("traits.first_name", "First name"),
            text("traits.last_name", "Last name"),
            text("traits.phone", "Phone"),
            text("traits.company", "Company"),
            field(
                "traits.created_at",
                "Created at",
                CatalogFieldKind::Datetime,
                Some("Sent as seconds since 1970."),
            ),
        ]
    }
}

/// Whom a call is about.
struct Who {
    user: Option<String>,
    anonymous: Option<String>,
    traits: Map<String, Value>,
}

impl Who {
    fn of(work: &Work<'_>) -> Result<Self, Stop> {
        let traits = below("traits.", work).collect::<Map<_, _>>();
        let anonymous = work.text("anonymousId");
        let address = || work.text("traits.email").filter(|_| anonymous.is_none());
        let user = work.text("userId").or_else(address);
        if user.is_none() && anonymous.is_none() {
            return Err(Stop::mapping(
                "userId, anonymousId or traits.email must be there: map one from the payload in the connection's mapping, or send it",
            ));
        }
        Ok(Self { user, anonymous, traits })
    }

    /// What every call says. `step` tells the calls of a delivery apart.
    fn call(&self, api: &Api<'_>, work: &Work<'_>, step: &str) -> Value {
        let mut call = json!({
            "timestamp": work.out.event.accepted_at.to_string(),
            "messageId": format!("{}:{step}", api.token()),
        });
        if let Some(id) = &self.user {
            call["userId"] = id.as_str().into();
        }
        if let Some(id) = &self.anonymous {
            call["anonymousId"] = id.as_str().into();
        }
        call
    }

    fn identified(&self, api: &Api<'_>, work: &Work<'_>) -> Result<Value, Stop> {
        if self.traits.len() > TRAITS_MAX {
            return Err(too_much(&format!("the traits must be at most {TRAITS_MAX}")));
        }
        for (name, value) in &self.traits {
            let value_bytes = value.as_str().map_or_else(|| value.to_string().len(), str::len);
            if name.len() > TRAIT_NAME_BYTES_MAX || value_bytes > TRAIT_BYTES_MAX {
                return Err(too_much(&format!(
                    "traits.{name} must have at most {TRAIT_BYTES_MAX} bytes, and its name {TRAIT_NAME_BYTES_MAX}"
                )));
            }
        }
        let mut call = self.call(api, work, "identify");
        call["traits"] = self.traits.clone().into();
        fitting(call, "person")
    }

    fn tracked(&self, api: &Api<'_>, work: &Work<'_>) -> Result<Value, Stop> {
        let name = work.input_if_any("event_name_override").unwrap_or(&work.out.event.name);
        if name.len() > EVENT_NAME_BYTES_MAX {
            return Err(Stop::mapping(format!(
                "the event's name must have at most {EVENT_NAME_BYTES_MAX} bytes: give it another in the rule"
            )));
        }
        let mut properties = Map::new();
        if let Json::Object(members) = work.payload {
            let others = members.iter().filter(|(key, _)| !PERSONAL.contains(&key.as_ref()));
            properties.extend(others.map(|(key, value)| (key.clone().into_owned(), value_of(value))));
        }
        properties.extend(below("properties.", work));
        let mut call = self.call(api, work, "track");
        (call["type"], call["event"]) = ("track".into(), name.into());
        call["properties"] = properties.into();
        fitting(call, "event")
    }
}

/// Mapped fields whose names begin so, called by the rest of it.
fn below<'w>(prefix: &'static str, work: &'w Work<'_>) -> impl Iterator<Item = (String, Value)> + 'w {
    work.fields.iter().filter(|(_, value)| **value != Json::Null).filter_map(move |(field, value)| {
        let name = field.strip_prefix(prefix)?;
        let value = match (name, value) {
            ("created_at", Json::String(text)) => {
                text.parse().map_or_else(|_| value_of(value), |Timestamp(ms)| (ms / 1_000).into())
            }
            (_, value) => value_of(value),
        };
        Some((name.to_owned(), value))
    })
}

fn too_much(what: &str) -> Stop {
    Stop::mapping(format!("{what}: Customer.io would drop it; edit the connection's mapping"))
}

/// Looked at here: what is too large would be answered 200, and lost.
fn fitting(call: Value, what: &str) -> Result<Value, Stop> {
    match call.to_string().len() <= BODY_BYTES_MAX {
        true => Ok(call),
        false => Err(too_much(&format!("the {what} must have at most {BODY_BYTES_MAX} bytes as JSON"))),
    }
}

async fn send(api: &Api<'_>, path: &str, call: &Value) -> Result<(), Stop> {
    api.post(path).json(call).send().await.map(drop)
}
