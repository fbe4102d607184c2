//! The services we can speak to: what each declares, and what is asked of it.
//!
//! A [`Destination`] is code and has no state; a [`Prepared`] is one connection's settings made
//! ready, so that what can be done once is not done for each attempt. Destinations know nothing
//! of actors and stores: when to try again is decided elsewhere, from the [`Report`].

pub mod activecampaign;
pub mod answer;
pub mod aweber;
pub mod customer_io;
pub mod discord;
pub mod hubspot;
pub mod intercom;
pub mod limits;
pub mod live;
pub mod mailchimp;
pub mod mailerlite;
pub mod masks;
pub mod memory;
pub mod outgoing;
pub mod pipedrive;
pub mod planned;
pub mod resend;
pub mod salesforce;
pub mod sendgrid;
pub mod service;
pub mod setup;
pub mod slack;
pub mod spec;
pub mod template;
pub mod webhook;
pub mod zoom;

pub use crate::domain::field::FieldError;
use crate::{
    domain::{
        catalog::CatalogField,
        delivery::{Outcome, Report},
        timestamp::Timestamp,
    },
    transport::{Http, address::AddressPolicy},
};
use async_trait::async_trait;
use live::Item;
use masks::{mask_fields, unmask_fields};
use outgoing::Outgoing;
use planned::Planned;
use serde_json::{Map, Value};
use setup::Setup;
use spec::Spec;
use std::{sync::OnceLock, time::Duration};

/// All destinations, in the order of the catalogue.
#[rustfmt::skip] // one a line
pub static ALL: &[&dyn Destination] = &[
    &activecampaign::ActiveCampaign,
    &aweber::AWeber,
    &customer_io::CustomerIo,
    &discord::Discord,
    &hubspot::HubSpot,
    &intercom::Intercom,
    &mailchimp::Mailchimp,
    &mailerlite::MailerLite,
    &pipedrive::Pipedrive,
    &resend::Resend,
    &salesforce::Salesforce,
    &sendgrid::SendGrid,
    &slack::Slack,
    &webhook::Webhook,
    &zoom::Zoom,
];

/// More of them, which no catalogue shows: of tests that ask what is true of any.
static MORE: OnceLock<&[&dyn Destination]> = OnceLock::new();

/// Adds destinations of a test's own, once for the process.
pub fn also(more: &'static [&'static dyn Destination]) {
    let _ = MORE.set(more);
}

/// The destination of this kind, such as `webhook`.
pub fn find(kind: &str) -> Option<&'static dyn Destination> {
    let more = MORE.get().copied().unwrap_or_default();
    ALL.iter().chain(more).copied().find(|destination| destination.spec().kind == kind)
}

/// Stored settings that no longer make sense, such as those of a newer version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection's settings are not usable: {param} {msg}")]
pub struct SettingsError {
    pub param: String,
    pub msg: String,
}

/// A service we can speak to.
#[async_trait]
pub trait Destination: Send + Sync {
    /// What it is, what it needs, and what can be done there.
    fn spec(&self) -> &'static Spec;

    /// Judges settings as they were sent, after [`Self::merge`]. Answers them in the form they are
    /// kept in, or everything that is wrong with them.
    fn check(
        &self,
        settings: &Map<String, Value>,
        policy: &AddressPolicy,
    ) -> Result<Map<String, Value>, Vec<FieldError>>;

    /// The settings as they may be shown.
    fn masked(&self, settings: &Map<String, Value>) -> Map<String, Value> {
        mask_fields(self.spec(), settings)
    }

    /// What was sent, with the stored secrets wherever [`MASK`](masks::MASK) stands for them.
    fn merge(&self, sent: &Map<String, Value>, stored: &Map<String, Value>) -> Map<String, Value> {
        unmask_fields(self.spec(), sent, stored)
    }

    /// Judges a rule's action and its inputs.
    fn check_action(&self, metadata: &Map<String, Value>) -> Result<(), Vec<FieldError>> {
        self.spec().check_action(metadata)
    }

    /// The same beyond what is declared, for a connection of these settings; after [`Self::check_action`].
    fn check_inputs(
        &self,
        _settings: &Map<String, Value>,
        _metadata: &Map<String, Value>,
    ) -> Vec<FieldError> {
        Vec::new()
    }

    /// Makes one connection ready to deliver: once, not for each attempt.
    fn prepare(&'static self, setup: Setup<'_>) -> Result<Box<dyn Prepared>, SettingsError>;

    /// The fields that every account has, in the service's order: what is mapped until a catalog is read.
    fn standard_fields(&self) -> Vec<CatalogField> {
        Vec::new()
    }

    /// Tries the settings out when they are saved. The error is one sentence for a person.
    async fn probe(
        &'static self,
        _setup: Setup<'_>,
        _http: &Http,
        _now: Timestamp,
        _timeout: Duration,
    ) -> Result<(), String> {
        Ok(())
    }

    /// What a token answer tells of the account, to be kept with the settings.
    fn told(&self, _token_answer: &Value) -> Map<String, Value> {
        Map::new()
    }

    /// What has to be asked once after a consent, to be kept with the settings. The error is one sentence
    /// for a person.
    async fn discover(
        &'static self,
        _setup: Setup<'_>,
        _http: &Http,
        _now: Timestamp,
        _timeout: Duration,
    ) -> Result<Map<String, Value>, String> {
        Ok(Map::new())
    }
}

/// One connection, ready to deliver.
#[async_trait]
pub trait Prepared: Send + Sync {
    /// One attempt. Takes no longer than `out.timeout`, and never fails otherwise than by its report.
    async fn deliver(&self, out: &Outgoing<'_>, http: &Http) -> Report;

    /// What the attempt would send first, without sending it: no call is made, no limit is charged, no token
    /// asked for. The error is the report of an attempt that fails before it sends anything.
    async fn plan(&self, _out: &Outgoing<'_>) -> Result<Planned, Report> {
        Err(answer::failed(Outcome::InternalError, "what it would send is not known".to_owned()))
    }

    /// What there is to pick from by now: the lists, channels, … of the account. `key` is that of an
    /// [`Input`](spec::Input). The error is one sentence for a person.
    async fn items(&self, _key: &str, _http: &Http, _timeout: Duration) -> Result<Vec<Item>, String> {
        Ok(Vec::new())
    }

    /// The fields that a mapping can fill, in the service's order. Empty: it takes no mapped fields.
    /// The error is one sentence for a person.
    async fn fields(&self, _http: &Http, _timeout: Duration) -> Result<Vec<CatalogField>, String> {
        Ok(Vec::new())
    }

    /// Attempts that the account takes at a time, where it is known.
    fn in_flight(&self) -> Option<u32> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_destination_is_declared_consistently() {
        let mut kinds = HashSet::new();
        for destination in ALL {
            let spec = destination.spec();
            assert!(kinds.insert(spec.kind), "{} is declared twice", spec.kind);
            assert_eq!(find(spec.kind).map(|found| found.spec().kind), Some(spec.kind));
            let keys: HashSet<&str> = spec.fields.iter().map(|field| field.key).collect();
            assert_eq!(keys.len(), spec.fields.len(), "{}: a setting is declared twice", spec.kind);
            for field in spec.fields {
                let depends_on = field.depends_on.map(|(key, _)| key);
                assert!(depends_on.is_none_or(|key| keys.contains(key)), "{}.{}", spec.kind, field.key);
            }
            assert!(!spec.actions.is_empty(), "{} can do nothing", spec.kind);
            for action in spec.actions {
                assert_eq!(spec.action(action.key).map(|found| found.key), Some(action.key));
            }
            assert!(
                destination.check_action(&Map::new()).is_err(),
                "{}: a rule without an action",
                spec.kind
            );
            assert!(destination.masked(&Map::new()).is_empty());
        }
        assert!(find("no such thing").is_none());
    }
}
