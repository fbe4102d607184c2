//! Accounts that are connected in a browser: OAuth 2, as RFC 6749 has it and vendors understand it.
//!
//! A consent goes: a ticket is made for who may write connections ([`connect`]), opened in a window of a
//! browser's own, and answered by the vendor with a code for that browser alone ([`consents`]). The code is
//! exchanged for tokens ([`ask`]), and the account asked what else has to be known.
//!
//! From there on the grant on disk is the only copy ([`tokens`]). Whoever needs a token reads it there: an
//! attempt, a question for what is in the account, a test of its settings. One that is about to end, or that was
//! refused, is replaced by one asker for all of them, and is on disk before anybody uses it.

mod ask;
mod connect;
mod consents;
mod tokens;

pub use connect::{ConsentBack, ConsentEnd, ConsentFor, NewConsent, OpenedConsent, Starter, consent_cookie};
pub(super) use consents::Consents;

use super::{EngineError, internal};
use crate::{
    clock::Clock,
    destinations::{
        self, Destination,
        setup::{App, Operator, Tokens},
        spec::Consent,
    },
    domain::{
        connection::Connection,
        ids::{ConnectionId, WorkspaceId},
        secret::{Sealed, SealingKey, Secret},
    },
    store::{Fence, Store},
    transport::Http,
    tree::Faults,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, sync::Arc};
use tokens::{Flight, OfConnection};
use tracing::warn;
use zeroize::Zeroizing;

/// Connections that are remembered to have asked for a token; beyond that those that nobody uses are forgotten.
const FLIGHTS_MAX: usize = 10_000;

/// All grants of the process. Cheap to clone.
#[derive(Clone)]
pub(super) struct Grants(Arc<Shared>);

pub(super) struct Shared {
    store: Arc<dyn Store>,
    fence: Fence,
    http: Http,
    clock: Clock,
    operator: Arc<Operator>,
    faults: Faults,
    /// Who asks for each connection's next token.
    flights: Mutex<HashMap<ConnectionId, Arc<Flight>>>,
}

impl std::ops::Deref for Grants {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Grants {
    pub(super) fn new(
        store: Arc<dyn Store>,
        http: Http,
        clock: Clock,
        operator: Arc<Operator>,
        faults: Faults,
    ) -> Self {
        for kind in operator.apps.keys() {
            if destinations::find(kind).is_none_or(|destination| destination.spec().consent.is_none()) {
                warn!(kind, "an app is configured for a kind that is not connected in a browser");
            }
        }
        let (fence, flights) = (store.fence(), Mutex::default());
        Self(Arc::new(Shared { store, fence, http, clock, operator, faults, flights }))
    }

    /// The tokens of a connection that has a grant, for all who ask. `key` is its workspace's.
    pub(super) fn tokens(
        &self,
        connection: &Connection,
        destination: &'static dyn Destination,
        consent: &'static Consent,
        key: SealingKey,
    ) -> Arc<dyn Tokens> {
        let (shared, flight) = (self.0.clone(), self.0.flight(connection.id));
        Arc::new(OfConnection::new(shared, connection, destination, consent, key, flight))
    }
}

impl Shared {
    fn flight(&self, connection: ConnectionId) -> Arc<Flight> {
        let mut flights = self.flights.lock();
        if flights.len() >= FLIGHTS_MAX && !flights.contains_key(&connection) {
            flights.retain(|_, flight| Arc::strong_count(flight) > 1 || flight.holds_something());
        }
        flights.entry(connection).or_default().clone()
    }
}

/// What the grant's row keeps sealed.
#[derive(Serialize, Deserialize)]
struct Clear {
    access_token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
}

/// The tokens of a grant, for the one place that needs them.
pub(super) struct Pair {
    access: Secret,
    /// What the next pair is asked for with, where the service has such.
    refresh: Option<Secret>,
}

impl Pair {
    fn seal(&self, key: &SealingKey, workspace: WorkspaceId, connection: ConnectionId) -> Sealed {
        let clear = Clear {
            access_token: self.access.expose().to_owned(),
            refresh_token: self.refresh.as_ref().map(|token| token.expose().to_owned()),
        };
        let text = Zeroizing::new(serde_json::to_vec(&clear).expect("texts serialize"));
        let sealed = key.seal(&text, &grant_place(workspace, connection));
        drop(Self::from(clear));
        sealed
    }

    fn open(
        sealed: &Sealed,
        key: &SealingKey,
        workspace: WorkspaceId,
        connection: ConnectionId,
    ) -> Result<Self, EngineError> {
        let text = key.open(sealed, &grant_place(workspace, connection)).map_err(internal)?;
        serde_json::from_slice::<Clear>(&text).map(Self::from).map_err(internal)
    }
}

impl From<Clear> for Pair {
    fn from(Clear { access_token, refresh_token }: Clear) -> Self {
        Self { access: Secret::new(access_token), refresh: refresh_token.map(Secret::new) }
    }
}

fn grant_place(workspace: WorkspaceId, connection: ConnectionId) -> String {
    format!("workspace/{workspace}/connection/{connection}/grant")
}

/// The operator's registration at this vendor, if there is one.
fn app<'o>(operator: &'o Operator, kind: &str) -> Option<&'o App> {
    operator.apps.get(kind).filter(|app| !app.client_id.is_empty())
}

/// What the operator has to set, in words.
fn app_keys(kind: &str) -> String {
    format!("oauth.{kind}.client_id and oauth.{kind}.client_secret in the server's configuration")
}
