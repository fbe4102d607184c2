//! What the services with an API have in common: a [`Service`] says what is special about one, the rest is here.
//!
//! A service is written as plain code: an action is a few calls that depend on each other, each awaited with
//! `?`. A call charges the account's budget, is authorised, may have its token renewed once, and is read by the
//! service's own [`Service::read`], which alone knows what its statuses and bodies mean. Whatever ends an action
//! early is a [`Stop`]: the attempt's report, in words for the person who looks after the connection.
//!
//! An attempt may end anywhere. The next one does it all again, which is right for calls that are safe to
//! repeat, and most are. Of one that is not, the result is kept ([`Api::keep`]) and found ([`Api::kept`]) by
//! the next attempt, so that it is not made twice.

mod answer;
mod api;
mod shared;

use self::api::{Rehearsal, Wire};
pub use self::{
    answer::{Answer, Over, Stop, Verdict, text_at},
    api::{Api, Call},
};
use super::{
    Destination, FieldError, Prepared, SettingsError, answer as reports,
    limits::{Limits, Pace},
    live::Item,
    outgoing::Outgoing,
    planned::Planned,
    setup::{Setup, Tokens},
    spec::{FieldKind, Spec},
};
use crate::{
    domain::{
        catalog::CatalogField,
        delivery::{Outcome, Report},
        mapping::{Applied, Fields, Schema, generated},
        payload::Json,
        secret::Secret,
        timestamp::Timestamp,
    },
    transport::{Http, address::AddressPolicy, redact::Redactor},
};
use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Map, Value};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// A service with an API.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    fn spec(&self) -> &'static Spec;

    /// Where the account is, and how we get in.
    fn account(&self, setup: &Setup<'_>) -> Result<Account, SettingsError>;

    /// What an answer means. Never sees what is fine by status alone where the call said so.
    fn read(&self, answer: &Answer) -> Verdict;

    /// One cheap call that only right settings pass.
    async fn verify(&self, api: &Api<'_>) -> Result<(), Stop>;

    /// What to do, with the rule's inputs and the mapped fields.
    async fn act(&self, api: &Api<'_>, work: &Work<'_>) -> Result<(), Stop>;

    /// What there is to pick from for the input of this key.
    async fn items(&self, _api: &Api<'_>, _key: &str) -> Result<Vec<Item>, Stop> {
        Ok(Vec::new())
    }

    /// The fields that every account has, in the service's order. Empty: nothing is mapped.
    fn standard_fields(&self) -> Vec<CatalogField> {
        Vec::new()
    }

    /// All fields of this account.
    async fn fields(&self, _api: &Api<'_>) -> Result<Vec<CatalogField>, Stop> {
        Ok(self.standard_fields())
    }

    /// What a token answer tells of the account, to be kept with the settings: hosts, ids. Asked after a
    /// consent, and after each renewal of the token.
    fn told(&self, _token_answer: &Value) -> Map<String, Value> {
        Map::new()
    }

    /// What has to be asked once after a consent, to be kept with the settings.
    async fn discover(&self, _api: &Api<'_>) -> Result<Map<String, Value>, Stop> {
        Ok(Map::new())
    }

    /// Judges a rule's inputs beyond what the declaration says, for a connection of these settings.
    fn check_inputs(
        &self,
        _settings: &Map<String, Value>,
        _metadata: &Map<String, Value>,
    ) -> Vec<FieldError> {
        Vec::new()
    }

    /// Judges settings beyond what the declaration says.
    fn check_settings(&self, _settings: &Map<String, Value>) -> Vec<FieldError> {
        Vec::new()
    }
}

/// Where an account is, and how we get in.
pub struct Account {
    /// What paths are put behind, without a slash at its end.
    pub base: String,
    pub entry: Entry,
    /// Sent with every call.
    pub headers: Vec<(&'static str, String)>,
    /// The account as the service knows it, the same for every connection to it: they share its budget.
    pub name: String,
    pub pace: Pace,
    /// How long the account is left alone when it asks us to slow down and not for how long.
    pub rest: Duration,
}

/// How a call is authorised.
#[derive(Clone)]
pub enum Entry {
    /// The URL says enough.
    Open,
    /// `Authorization`: this word, and the token.
    Token(&'static str, Secret),
    Header(&'static str, Secret),
    /// User name and password.
    Basic(String, Secret),
    /// `Authorization: Bearer`, with the token a consent gave.
    Consent(Arc<dyn Tokens>),
}

impl Entry {
    /// A pasted token, or the one a consent gave.
    pub fn bearer(setup: &Setup<'_>, key: &str) -> Result<Self, SettingsError> {
        match (setup.text(key).map(Secret::new), &setup.tokens) {
            (Some(token), _) => Ok(Self::Token("Bearer", token)),
            (None, Some(tokens)) => Ok(Self::Consent(tokens.clone())),
            (None, None) => {
                let msg = "is missing: paste one, or connect the account in a browser".to_owned();
                Err(SettingsError { param: key.to_owned(), msg })
            }
        }
    }
}

/// What is to be done for one delivery.
pub struct Work<'a> {
    pub action: &'a str,
    /// The rule's inputs, as its metadata has them.
    pub inputs: &'a Map<String, Value>,
    pub fields: &'a Fields<'a>,
    pub payload: &'a Json<'a>,
    pub out: &'a Outgoing<'a>,
}

impl<'a> Work<'a> {
    /// An input of the rule; empty is missing.
    pub fn input(&self, key: &str) -> Result<&'a str, Stop> {
        self.input_if_any(key)
            .ok_or_else(|| Stop::mapping(format!("the rule's {key} is missing: edit the rule")))
    }

    pub fn input_if_any(&self, key: &str) -> Option<&'a str> {
        self.inputs.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// An input that goes into a path: letters, digits, `-` and `_`.
    pub fn id(&self, key: &str) -> Result<&'a str, Stop> {
        let id = self.input(key)?;
        match id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
            true => Ok(id),
            false => Err(Stop::mapping(format!("the rule's {key} is no id of the service's: edit the rule"))),
        }
    }

    /// A mapped field as text; a number or a boolean as it is spelled.
    pub fn text(&self, field: &str) -> Option<String> {
        self.fields.get(field).and_then(text_of).filter(|text| !text.is_empty())
    }

    /// A mapped field that the action cannot do without.
    pub fn required(&self, field: &str) -> Result<String, Stop> {
        self.text(field).ok_or_else(|| {
            Stop::mapping(format!(
                "{field} is missing: map it from the payload in the connection's mapping, or send it"
            ))
        })
    }
}

/// A single value as text.
pub fn text_of(value: &Json<'_>) -> Option<String> {
    match value {
        Json::Bool(flag) => Some(flag.to_string()),
        Json::Number(text) | Json::String(text) => Some(text.clone().into_owned()),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

/// A value as it is sent. A number with more digits than others read goes as the text it is.
pub fn value_of(value: &Json<'_>) -> Value {
    /// What a 64-bit float keeps.
    const DIGITS_MAX: usize = 15;
    match value {
        Json::Null => Value::Null,
        Json::Bool(flag) => (*flag).into(),
        Json::Number(text) => match serde_json::from_str::<serde_json::Number>(text) {
            Ok(number)
                if !number.is_f64() || text.bytes().filter(u8::is_ascii_digit).count() <= DIGITS_MAX =>
            {
                number.into()
            }
            _ => text.as_ref().into(),
        },
        Json::String(text) => text.as_ref().into(),
        Json::Array(items) => items.iter().map(value_of).collect(),
        Json::Object(members) => {
            members.iter().map(|(name, value)| (name.clone().into_owned(), value_of(value))).collect()
        }
    }
}

/// The end of a key: tells keys apart where whose they are is not known.
pub(super) fn tail_of(key: &str) -> &str {
    key.char_indices().rev().nth(7).map_or(key, |(at, _)| &key[at..])
}

/// The one thing that calls ask of their service.
trait Reads: Sync {
    fn verdict(&self, answer: &Answer) -> Verdict;
}

impl<S: Service> Reads for S {
    fn verdict(&self, answer: &Answer) -> Verdict {
        self.read(answer)
    }
}

/// A service's own [`Prepared`].
struct Ready<S: 'static> {
    service: &'static S,
    account: Account,
    schema: Schema,
    redactor: Redactor,
    /// Without those that are secret.
    settings: Map<String, Value>,
    setup: Kept,
}

/// What of a [`Setup`] calls need.
#[derive(Clone)]
struct Kept {
    operator: Arc<super::setup::Operator>,
    limits: Limits,
}

#[async_trait]
impl<S: Service> Destination for S
where
    S: Sized,
{
    fn spec(&self) -> &'static Spec {
        Service::spec(self)
    }

    fn check(
        &self,
        settings: &Map<String, Value>,
        policy: &AddressPolicy,
    ) -> Result<Map<String, Value>, Vec<FieldError>> {
        let (kept, mut errors) = checked(Service::spec(self), settings, policy);
        if errors.is_empty() {
            errors = self.check_settings(&kept);
        }
        if errors.is_empty() { Ok(kept) } else { Err(errors) }
    }

    fn check_inputs(&self, settings: &Map<String, Value>, metadata: &Map<String, Value>) -> Vec<FieldError> {
        Service::check_inputs(self, settings, metadata)
    }

    fn prepare(&'static self, setup: Setup<'_>) -> Result<Box<dyn Prepared>, SettingsError> {
        ready(self, &setup).map(|ready| Box::new(ready) as Box<dyn Prepared>)
    }

    fn standard_fields(&self) -> Vec<CatalogField> {
        Service::standard_fields(self)
    }

    async fn probe(
        &'static self,
        setup: Setup<'_>,
        http: &Http,
        now: Timestamp,
        timeout: Duration,
    ) -> Result<(), String> {
        let ready = ready(self, &setup).map_err(|err| err.to_string())?;
        let api = ready.api(Wire::Live(http), None, now, timeout);
        self.verify(&api).await.map_err(|stop| stop.0.message)
    }

    fn told(&self, token_answer: &Value) -> Map<String, Value> {
        Service::told(self, token_answer)
    }

    async fn discover(
        &'static self,
        setup: Setup<'_>,
        http: &Http,
        now: Timestamp,
        timeout: Duration,
    ) -> Result<Map<String, Value>, String> {
        let ready = ready(self, &setup).map_err(|err| err.to_string())?;
        Service::discover(self, &ready.api(Wire::Live(http), None, now, timeout))
            .await
            .map_err(|stop| stop.0.message)
    }
}

fn ready<S: Service>(service: &'static S, setup: &Setup<'_>) -> Result<Ready<S>, SettingsError> {
    let account = service.account(setup)?;
    let secrets = Service::spec(service).secret_fields().filter_map(|field| setup.text(field.key));
    let redactor = Redactor::new(secrets.flat_map(|secret| [secret, path_of(secret)]));
    let schema = setup.mapping.clone().unwrap_or_else(|| generated(&Service::standard_fields(service)));
    let mut settings = setup.settings.clone();
    Service::spec(service).secret_fields().for_each(|field| drop(settings.remove(field.key)));
    let setup = Kept { operator: setup.operator.clone(), limits: setup.limits.clone() };
    Ok(Ready { service, account, schema, redactor, settings, setup })
}

/// Of a secret URL what a service knows it by; of anything else nothing.
fn path_of(secret: &str) -> &str {
    let path = secret.strip_prefix("https://").and_then(|rest| rest.split_once('/'));
    path.map_or("", |(_, path)| path)
}

impl<S: Service> Ready<S> {
    fn api<'r>(
        &'r self,
        wire: Wire<'r>,
        out: Option<&'r Outgoing<'r>>,
        now: Timestamp,
        timeout: Duration,
    ) -> Api<'r> {
        Api::new(self.args(wire, out, now, timeout))
    }

    fn args<'r>(
        &'r self,
        wire: Wire<'r>,
        out: Option<&'r Outgoing<'r>>,
        now: Timestamp,
        timeout: Duration,
    ) -> api::Args<'r> {
        api::Args {
            wire,
            account: &self.account,
            redactor: &self.redactor,
            settings: &self.settings,
            setup: &self.setup,
            service: self.service,
            kind: Service::spec(self.service).kind,
            out,
            now,
            until: Instant::now() + timeout,
        }
    }
}

/// The payload of a delivery.
fn read<'o>(out: &Outgoing<'o>) -> Result<Json<'o>, Stop> {
    Json::parse(out.payload).map_err(|err| {
        let message = format!("the payload cannot be read: {err}");
        Stop(Box::new(reports::failed(Outcome::InternalError, message)))
    })
}

/// The rule's own mapping, if it has one.
fn own_schema(inputs: &Map<String, Value>) -> Result<Option<Schema>, Stop> {
    let Some(mapping) = inputs.get("mapping").filter(|mapping| !mapping.is_null()) else { return Ok(None) };
    let wrong = |_| Stop::mapping("the rule's mapping is not usable: edit the rule");
    Schema::parse(&Json::from(mapping)).map(Some).map_err(wrong)
}

fn apply<'p>(schema: &'p Schema, payload: &'p Json<'p>) -> Result<Applied<'p>, Stop> {
    schema.apply(payload).map_err(|failure| Stop::mapping(failure.to_string()))
}

impl<S: Service> Ready<S> {
    /// All of an action; what the mapping left out and has to be said.
    async fn act(&self, api: &Api<'_>, out: &Outgoing<'_>) -> Result<Vec<String>, Stop> {
        let inputs = out.metadata();
        let action = inputs.get("action").and_then(Value::as_str).unwrap_or_default();
        let (payload, own) = (read(out)?, own_schema(&inputs)?);
        let Applied { fields, warnings, .. } = apply(own.as_ref().unwrap_or(&self.schema), &payload)?;
        let work = Work { action, inputs: &inputs, fields: &fields, payload: &payload, out };
        match Service::spec(self.service).action(action) {
            Some(_) => self.service.act(api, &work).await?,
            None => return Err(Stop::mapping(format!("there is no action {action} here: edit the rule"))),
        }
        Ok(warnings.iter().map(ToString::to_string).collect())
    }
}

#[async_trait]
impl<S: Service> Prepared for Ready<S> {
    async fn deliver(&self, out: &Outgoing<'_>, http: &Http) -> Report {
        let api = self.api(Wire::Live(http), Some(out), out.sent_at, out.timeout);
        let mut report = match self.act(&api, out).await {
            Ok(warnings) => api.delivered(warnings.join("; ")),
            Err(Stop(report)) => *report,
        };
        report.notes = api.notes();
        report
    }

    async fn plan(&self, out: &Outgoing<'_>) -> Result<Planned, Report> {
        let payload = read(out).map_err(|stop| *stop.0)?;
        let own = own_schema(&out.metadata()).map_err(|stop| *stop.0)?;
        let schema = own.as_ref().unwrap_or(&self.schema);
        let applied = apply(schema, &payload).map_err(|stop| *stop.0)?;
        let shown = |(field, value): (&str, &Json<'_>)| (field.to_owned(), value_of(value));
        let fields = (!schema.fields().is_empty()).then(|| applied.fields.iter().map(shown).collect());
        let warnings = applied.warnings.iter().chain(&applied.skipped).map(ToString::to_string).collect();
        // With budgets of its own: nobody waits for it, and nothing of it is remembered.
        let setup = Kept { limits: Limits::default(), ..self.setup.clone() };
        let rehearsal = Mutex::new(Rehearsal::default());
        let args = self.args(Wire::Rehearsed(&rehearsal), Some(out), out.sent_at, out.timeout);
        let ended = self.act(&Api::new(api::Args { setup: &setup, ..args }), out).await;
        let Rehearsal { first, goes_on } = std::mem::take(&mut *rehearsal.lock());
        match (first, ended) {
            (Some(request), ended) => {
                Ok(Planned { fields, warnings, request, is_whole: ended.is_ok() && !goes_on })
            }
            (None, Err(Stop(report))) => Err(*report),
            (None, Ok(_)) => Err(reports::failed(Outcome::Delivered, "nothing is sent".to_owned())),
        }
    }

    async fn items(&self, key: &str, http: &Http, timeout: Duration) -> Result<Vec<Item>, String> {
        let api = self.api(Wire::Live(http), None, Timestamp(0), timeout);
        self.service.items(&api, key).await.map_err(|stop| stop.0.message)
    }

    async fn fields(&self, http: &Http, timeout: Duration) -> Result<Vec<CatalogField>, String> {
        let api = self.api(Wire::Live(http), None, Timestamp(0), timeout);
        self.service.fields(&api).await.map_err(|stop| stop.0.message)
    }

    fn in_flight(&self) -> Option<u32> {
        Some(self.account.pace.in_flight)
    }
}

/// Settings as their declaration has them: what is not declared is refused, an empty text is left out.
fn checked(
    spec: &Spec,
    settings: &Map<String, Value>,
    policy: &AddressPolicy,
) -> (Map<String, Value>, Vec<FieldError>) {
    let (mut kept, mut errors) = (Map::new(), Vec::new());
    for key in settings.keys().filter(|key| spec.fields.iter().all(|field| field.key != key.as_str())) {
        errors.push(FieldError::new(key, format!("is no setting of {}", spec.name)));
    }
    for field in spec.fields {
        let value = match settings.get(field.key) {
            None | Some(Value::Null) => field.default.unwrap_or_default(),
            Some(Value::String(text)) => text.trim(),
            Some(_) => {
                errors.push(FieldError::new(field.key, "must be a text"));
                continue;
            }
        };
        let problem = match (value, field.kind) {
            ("", _) if field.required => Some("is required".to_owned()),
            ("", _) => continue,
            (text, _) if text.len() > SETTING_BYTES_MAX || text.chars().any(char::is_control) => {
                Some(format!("must be at most {SETTING_BYTES_MAX} bytes, none of them a control character"))
            }
            (text, FieldKind::Url) => policy.check_url(text).err().map(|err| format!("is not usable: {err}")),
            (text, FieldKind::Select(choices)) if choices.iter().all(|choice| choice.value != text) => {
                let known: Vec<_> = choices.iter().map(|choice| choice.value).collect();
                Some(format!("must be one of: {}", known.join(", ")))
            }
            _ => None,
        };
        match problem {
            Some(problem) => errors.push(FieldError::new(field.key, problem)),
            None => drop(kept.insert(field.key.to_owned(), value.into())),
        }
    }
    (kept, errors)
}

/// The longest setting. Tokens that carry claims are long.
const SETTING_BYTES_MAX: usize = 8_192;
