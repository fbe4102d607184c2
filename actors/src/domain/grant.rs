//! What a consent gave: the tokens of a connection that was connected in a browser.

use super::{
    ids::{ConnectionId, OrganizationId, WorkspaceId},
    secret::Sealed,
    timestamp::Timestamp,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long before its end a token is replaced, at most.
const AHEAD_MAX: Duration = Duration::from_secs(300);
/// A token is replaced no earlier than when this part of its life is left.
const AHEAD_PART: u32 = 4;
/// Longer lives are taken to be this long.
const LIFE_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

/// One connection's grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub connection_id: ConnectionId,
    pub organization_id: OrganizationId,
    pub workspace_id: WorkspaceId,
    /// The access token, and what another one is asked for with, as JSON; sealed with the workspace's key.
    pub tokens: Sealed,
    /// What the service says that it allows; empty where it does not say.
    pub scopes: Vec<String>,
    /// Settings of the connection that the account told of itself: nobody changes them by hand.
    pub told: Vec<String>,
    /// When the access token ends; `None`: the service does not tell ahead.
    pub expires_at: Option<Timestamp>,
    /// From when on another one is asked for.
    pub renew_at: Option<Timestamp>,
    /// Another one was asked for then, and no answer is on record: the service may have given it to nobody.
    pub asked_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Grows with every change; a change names the version it was made from.
    pub version: u64,
}

impl Grant {
    /// When a token that lives so long from now ends, and from when on it is replaced. A life of 0 s is
    /// how services say that it has no end.
    pub fn ends(life_s: Option<u64>, now: Timestamp) -> (Option<Timestamp>, Option<Timestamp>) {
        let Some(life_s) = life_s.filter(|life_s| *life_s > 0) else { return (None, None) };
        let life = Duration::from_secs(life_s).min(LIFE_MAX);
        let ahead = AHEAD_MAX.min(life / AHEAD_PART);
        (Some(now.after(life)), Some(now.after(life - ahead)))
    }

    /// Whether the access token has a while to live.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        self.renew_at.is_none_or(|at| now < at)
    }

    /// Whether the access token has ended.
    pub fn has_ended(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| now >= at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_replaced_some_minutes_before_its_end() {
        const NOW: Timestamp = Timestamp(1_773_576_000_000);
        #[rustfmt::skip]
        let cases = [
            // why                         life, s             ends, s               replaced from, s
            ("not told",                   None,               None,                 None),
            ("no end",                     Some(0),            None,                 None),
            ("an hour",                    Some(3_600),        Some(3_600),          Some(3_300)),
            ("half an hour",               Some(1_800),        Some(1_800),          Some(1_500)),
            ("eight seconds",              Some(8),            Some(8),              Some(6)),
            ("beyond all measure",         Some(u64::MAX),     Some(315_360_000),    Some(315_359_700)),
        ];
        for (why, life_s, ends, renewed) in cases {
            let after = |seconds: Option<i64>| seconds.map(|seconds| Timestamp(NOW.0 + seconds * 1_000));
            assert_eq!(Grant::ends(life_s, NOW), (after(ends), after(renewed)), "{why}");
        }
    }
}
