//! What an attempt shares with the others at its account.

use super::{Api, Stop};
use crate::{
    destinations::answer as reports,
    domain::delivery::{Outcome, Report},
};
use serde_json::Value;
use std::time::Duration;
use tokio::sync::OwnedMutexGuard;

/// How long a delivery makes room that did not get its turn.
const TURN_AFTER: Duration = Duration::from_secs(2);

impl Api<'_> {
    fn shared(&self, what: &str) -> String {
        format!("{}/{what}", self.account_budget())
    }

    /// What another attempt at this account found out.
    pub fn recall(&self, what: &str) -> Option<Value> {
        self.args.setup.limits.memory().recall(&self.shared(what))
    }

    /// For the other attempts at this account, for some time.
    pub fn remember(&self, what: &str, fact: impl Into<Value>, time: Duration) {
        self.args.setup.limits.memory().remember(&self.shared(what), fact.into(), time);
    }

    /// It proved to be wrong.
    pub fn forget(&self, what: &str) {
        self.args.setup.limits.memory().forget(&self.shared(what));
    }

    /// No other attempt at this account has this in hand while the guard lives.
    pub async fn alone(&self, what: &str) -> Result<OwnedMutexGuard<()>, Stop> {
        let key = self.shared(what);
        tokio::time::timeout(self.left(), self.args.setup.limits.memory().alone(&key)).await.map_err(|_| {
            let message = "held back: another delivery is about the same person; it goes on by itself";
            let report = reports::failed(Outcome::RateLimited, message.to_owned());
            Stop(Box::new(Report { retry_after: Some(TURN_AFTER), pauses: false, ..report }))
        })
    }
}
