//! A notice: what the operator is told, as an event of its own in a workspace of its own.
//!
//! It names what it is about by ids and says what happened in our words: no secret and no text of a
//! tenant or a destination can be in it. The same change of state has the same identity however often
//! it is noticed.

use super::{
    connection::{Connection, InactiveReason},
    delivery::Outcome,
    ids::{ConnectionId, DeliveryId, EventId, OrganizationId, RuleId, WorkspaceId},
    timestamp::Timestamp,
};
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Who is told: the operator's own organization, workspace, connection and rule, the same in every
/// installation.
pub const ORGANIZATION: OrganizationId =
    OrganizationId::from_uuid(Uuid::from_u128(0x00000000_0000_4000_8000_000000000001));
/// See [`ORGANIZATION`].
pub const WORKSPACE: WorkspaceId =
    WorkspaceId::from_uuid(Uuid::from_u128(0x00000000_0000_7000_8000_000000000002));
/// See [`ORGANIZATION`].
pub const CONNECTION: ConnectionId =
    ConnectionId::from_uuid(Uuid::from_u128(0x00000000_0000_7000_8000_000000000003));
/// See [`ORGANIZATION`].
pub const RULE: RuleId = RuleId::from_uuid(Uuid::from_u128(0x00000000_0000_7000_8000_000000000004));

/// A breaker stopped attempts at a destination that is down.
pub const BREAKER_OPENED: &str = "weft.connection.breaker_opened";
/// The destination is back.
pub const BREAKER_CLOSED: &str = "weft.connection.breaker_closed";

/// A change of state that an operator wants to know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A connection takes no deliveries any more. `version`: the first one that does not.
    ConnectionInactive {
        organization: OrganizationId,
        workspace: WorkspaceId,
        connection: ConnectionId,
        version: u64,
        reason: InactiveReason,
    },
    BreakerOpened {
        organization: OrganizationId,
        workspace: WorkspaceId,
        connection: ConnectionId,
    },
    BreakerClosed {
        organization: OrganizationId,
        workspace: WorkspaceId,
        connection: ConnectionId,
    },
    DeliveryFailed(Failure),
    /// A month's use of a limit comes near it. `workspace`: whose, if not the whole organization's.
    /// `month` as in `2026-11`.
    LimitNear {
        organization: OrganizationId,
        workspace: Option<WorkspaceId>,
        limit: String,
        used: u64,
        of: u64,
        month: String,
    },
    /// It is used up. See [`Self::LimitNear`].
    LimitReached {
        organization: OrganizationId,
        workspace: Option<WorkspaceId>,
        limit: String,
        used: u64,
        of: u64,
        month: String,
    },
    /// `counts`: how many of what, such as `{"replayed": 120}`.
    ReplayFinished {
        replay: String,
        organization: OrganizationId,
        workspace: WorkspaceId,
        counts: BTreeMap<String, u64>,
    },
}

/// Deliveries of one connection that failed for good: one, or several summed up, and then the last of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub organization: OrganizationId,
    pub workspace: WorkspaceId,
    pub connection: ConnectionId,
    pub rule: RuleId,
    pub event: EventId,
    pub delivery: DeliveryId,
    /// Attempts that were made.
    pub attempts: u32,
    /// What the last one told.
    pub outcome: Outcome,
    pub http_status: Option<u16>,
    /// How many failed.
    pub count: u64,
    /// When the first of them did.
    pub since: Timestamp,
}

impl Failure {
    /// Sums it up with one that failed later.
    pub fn and(self, later: Self) -> Self {
        Self { count: self.count + later.count, since: self.since, ..later }
    }
}

impl Notice {
    /// What a change of a connection is to be told as, if it is.
    pub fn of_change(before: &Connection, after: &Connection) -> Option<Self> {
        let reason = after.inactive.filter(|_| before.inactive.is_none())?;
        Some(Self::ConnectionInactive {
            organization: after.organization_id,
            workspace: after.workspace_id,
            connection: after.id,
            version: after.version,
            reason,
        })
    }

    /// What a turn of a connection's breaker is told as.
    pub const fn of_breaker(connection: &Connection, is_open: bool) -> Self {
        let (organization, workspace) = (connection.organization_id, connection.workspace_id);
        let connection = connection.id;
        match is_open {
            true => Self::BreakerOpened { organization, workspace, connection },
            false => Self::BreakerClosed { organization, workspace, connection },
        }
    }

    /// The name of its event.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::ConnectionInactive { .. } => "weft.connection.inactive",
            Self::BreakerOpened { .. } => BREAKER_OPENED,
            Self::BreakerClosed { .. } => BREAKER_CLOSED,
            Self::DeliveryFailed(_) => "weft.delivery.failed",
            Self::LimitNear { .. } => "weft.limit.near",
            Self::LimitReached { .. } => "weft.limit.reached",
            Self::ReplayFinished { .. } => "weft.replay.finished",
        }
    }

    /// Whether it is about the operator's own workspace. Nobody is told of that: it would never end.
    pub fn is_of_our_own(&self) -> bool {
        match self {
            Self::ConnectionInactive { workspace, .. }
            | Self::BreakerOpened { workspace, .. }
            | Self::BreakerClosed { workspace, .. }
            | Self::DeliveryFailed(Failure { workspace, .. })
            | Self::ReplayFinished { workspace, .. } => *workspace == WORKSPACE,
            Self::LimitNear { organization, workspace, .. }
            | Self::LimitReached { organization, workspace, .. } => {
                workspace.map_or(*organization == ORGANIZATION, |workspace| workspace == WORKSPACE)
            }
        }
    }

    /// What it is about: the resource and resource id of its event.
    pub fn subject(&self) -> (&'static str, String) {
        match self {
            Self::ConnectionInactive { connection, .. }
            | Self::BreakerOpened { connection, .. }
            | Self::BreakerClosed { connection, .. } => ("connection", connection.to_string()),
            Self::DeliveryFailed(failure) => ("delivery", failure.delivery.to_string()),
            Self::LimitNear { organization, workspace, limit, month, .. }
            | Self::LimitReached { organization, workspace, limit, month, .. } => {
                let whose = workspace.map_or(organization.to_string(), |workspace| workspace.to_string());
                ("limit", format!("{whose}/{limit}/{month}"))
            }
            Self::ReplayFinished { replay, .. } => ("replay", replay.clone()),
        }
    }

    /// The same whenever the same change of state is noticed, which was at `at`.
    pub fn identity(&self, at: Timestamp) -> String {
        let (name, (_, subject)) = (self.name(), self.subject());
        match self {
            Self::ConnectionInactive { version, .. } => format!("{name}/{subject}/{version}"),
            Self::BreakerOpened { .. } | Self::BreakerClosed { .. } => format!("{name}/{subject}/{}", at.0),
            Self::DeliveryFailed(failure) => format!("{name}/{subject}/{}", failure.attempts),
            Self::LimitNear { .. } | Self::LimitReached { .. } | Self::ReplayFinished { .. } => {
                format!("{name}/{subject}")
            }
        }
    }

    /// The payload of its event: a JSON object. `at`: when it was noticed.
    pub fn payload(&self, at: Timestamp) -> Bytes {
        let payload = match self {
            Self::ConnectionInactive { organization, workspace, connection, reason, .. } => json!({
                "organization": organization, "workspace": workspace, "connection": connection,
                "reason": reason, "message": inactive_in_words(*reason), "at": at,
            }),
            Self::BreakerOpened { organization, workspace, connection } => json!({
                "organization": organization, "workspace": workspace, "connection": connection,
                "message": "the destination is down: attempts stop, and one asks now and then", "at": at,
            }),
            Self::BreakerClosed { organization, workspace, connection } => json!({
                "organization": organization, "workspace": workspace, "connection": connection,
                "message": "the destination is back: what waited flows again", "at": at,
            }),
            Self::DeliveryFailed(failure) => failure.payload(at),
            Self::LimitNear { organization, workspace, limit, used, of, month }
            | Self::LimitReached { organization, workspace, limit, used, of, month } => json!({
                "organization": organization, "workspace": workspace, "limit": limit, "used": used, "of": of,
                "month": month, "message": format!("{used} of {of} are used in {month}"), "at": at,
            }),
            Self::ReplayFinished { replay, organization, workspace, counts } => json!({
                "organization": organization, "workspace": workspace, "replay": replay, "counts": counts,
                "message": "the replay is finished", "at": at,
            }),
        };
        Bytes::from(payload.to_string())
    }
}

impl Failure {
    fn payload(&self, at: Timestamp) -> Value {
        let why = outcome_in_words(self.outcome);
        let message = match self.count {
            1 => format!("a delivery failed for good: {why}"),
            count => format!("{count} deliveries failed for good, the last because {why}"),
        };
        json!({
            "organization": self.organization, "workspace": self.workspace, "connection": self.connection,
            "rule": self.rule, "event": self.event, "delivery": self.delivery, "attempts": self.attempts,
            "outcome": self.outcome, "http_status": self.http_status, "count": self.count, "since": self.since,
            "message": message, "at": at,
        })
    }
}

const fn inactive_in_words(reason: InactiveReason) -> &'static str {
    match reason {
        InactiveReason::AuthenticationInvalid => {
            "the destination refuses its credentials; its deliveries wait for settings that work"
        }
        InactiveReason::OauthAuthorizationRevoked => {
            "its authorization was withdrawn; its deliveries wait until its account is connected anew"
        }
        InactiveReason::OauthReauthorizationRequired => {
            "its authorization ran out; its deliveries wait until its account is connected anew"
        }
        InactiveReason::ManuallyInactivated => "somebody turned it off; its deliveries wait",
    }
}

const fn outcome_in_words(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Delivered => "it was delivered",
        Outcome::RejectedClientError => "the destination refused it",
        Outcome::RejectedServerError => "the destination failed",
        Outcome::RateLimited => "the destination kept asking for more time",
        Outcome::AuthFailed => "the destination refused the credentials for it, but not for others",
        Outcome::Timeout => "the destination did not answer in time",
        Outcome::NetworkError => "the destination could not be reached",
        Outcome::MappingError => "the payload did not fit its mapping",
        Outcome::InternalError => "Weft's own code failed; see the server's log",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{connection::Policy, secret::SealingKey};

    const AT: Timestamp = Timestamp(1_773_576_000_000);

    fn failure() -> Failure {
        let id = Uuid::from_u128(7);
        let event = EventId::from_uuid(id);
        Failure {
            organization: OrganizationId::from_uuid(id),
            workspace: WorkspaceId::from_uuid(id),
            connection: ConnectionId::from_uuid(id),
            rule: RuleId::from_uuid(id),
            event,
            delivery: DeliveryId::of(event, RuleId::from_uuid(id)),
            attempts: 8,
            outcome: Outcome::Timeout,
            http_status: None,
            count: 1,
            since: AT,
        }
    }

    fn one_of_each() -> Vec<Notice> {
        let Failure { organization, workspace, connection, .. } = failure();
        let (limit, month) = ("events".to_owned(), "2026-11".to_owned());
        vec![
            Notice::ConnectionInactive {
                organization,
                workspace,
                connection,
                version: 3,
                reason: InactiveReason::AuthenticationInvalid,
            },
            Notice::BreakerOpened { organization, workspace, connection },
            Notice::BreakerClosed { organization, workspace, connection },
            Notice::DeliveryFailed(failure()),
            Notice::LimitNear {
                organization,
                workspace: None,
                limit: limit.clone(),
                used: 80,
                of: 100,
                month: month.clone(),
            },
            Notice::LimitReached {
                organization,
                workspace: Some(workspace),
                limit,
                used: 100,
                of: 100,
                month,
            },
            Notice::ReplayFinished {
                replay: "r-1".to_owned(),
                organization,
                workspace,
                counts: BTreeMap::from([("replayed".to_owned(), 12)]),
            },
        ]
    }

    #[test]
    fn each_has_a_name_an_identity_and_says_what_and_when() {
        #[rustfmt::skip]
        let expected = [
            ("weft.connection.inactive",       "/00000000-0000-0000-0000-000000000007/3",             "refuses its credentials"),
            ("weft.connection.breaker_opened", "/00000000-0000-0000-0000-000000000007/1773576000000", "is down"),
            ("weft.connection.breaker_closed", "/00000000-0000-0000-0000-000000000007/1773576000000", "is back"),
            ("weft.delivery.failed",           "/8",                                                  "did not answer in time"),
            ("weft.limit.near",                "/00000000-0000-0000-0000-000000000007/events/2026-11", "80 of 100 are used"),
            ("weft.limit.reached",             "/00000000-0000-0000-0000-000000000007/events/2026-11", "100 of 100 are used"),
            ("weft.replay.finished",           "/r-1",                                                "is finished"),
        ];
        for (notice, (name, identity, says)) in one_of_each().into_iter().zip(expected) {
            assert_eq!(notice.name(), name);
            let own = notice.identity(AT);
            assert!(own.starts_with(name) && own.ends_with(identity), "{own}");
            let payload: Value = serde_json::from_slice(&notice.payload(AT)).expect("JSON");
            assert_eq!(payload["at"], "2026-03-15T12:00:00.000Z", "{name}");
            assert_eq!(payload["organization"], "00000000-0000-0000-0000-000000000007", "{name}");
            assert!(payload["message"].as_str().is_some_and(|message| message.contains(says)), "{payload}");
            assert!(!notice.is_of_our_own(), "{name}");
        }
    }

    #[test]
    fn nobody_is_told_of_the_operators_own_workspace() {
        let Failure { organization, workspace, connection, .. } = failure();
        let limit = |organization, workspace| Notice::LimitReached {
            organization,
            workspace,
            limit: "events".to_owned(),
            used: 1,
            of: 1,
            month: "2026-11".to_owned(),
        };
        #[rustfmt::skip]
        let cases = [
            ("its deliveries",           Notice::DeliveryFailed(Failure { workspace: WORKSPACE, ..failure() }),                          true),
            ("its breaker",              Notice::BreakerOpened { organization: ORGANIZATION, workspace: WORKSPACE, connection: CONNECTION }, true),
            ("its organization's limit", limit(ORGANIZATION, None),                                                                     true),
            ("its own limit",            limit(ORGANIZATION, Some(WORKSPACE)),                                                          true),
            ("others beside it",         Notice::BreakerOpened { organization: ORGANIZATION, workspace, connection },                   false),
            ("others",                   limit(organization, None),                                                                     false),
        ];
        for (why, notice, expected) in cases {
            assert_eq!(notice.is_of_our_own(), expected, "{why}");
        }
    }

    #[test]
    fn failures_that_are_summed_up_name_the_last() {
        let later =
            Failure { attempts: 2, outcome: Outcome::RejectedClientError, since: Timestamp(5), ..failure() };
        let sum = failure().and(later.clone()).and(Failure { http_status: Some(422), ..later });
        assert_eq!((sum.count, sum.since, sum.attempts, sum.http_status), (3, AT, 2, Some(422)));
        let message = sum.payload(AT)["message"].clone();
        assert_eq!(message, "3 deliveries failed for good, the last because the destination refused it");
    }

    #[test]
    fn only_becoming_inactive_is_told() {
        let id = Uuid::from_u128(7);
        let active = Connection {
            id: ConnectionId::from_uuid(id),
            organization_id: OrganizationId::from_uuid(id),
            workspace_id: WorkspaceId::from_uuid(id),
            kind: "webhook".to_owned(),
            name: "x".to_owned(),
            settings: SealingKey::from_bytes(&[1; 32]).seal(b"{}", "x"),
            policy: Policy::default(),
            inactive: None,
            refusal: None,
            paused: false,
            hidden: false,
            created_by: "test".to_owned(),
            created_at: AT,
            updated_at: AT,
            version: 4,
        };
        let inactive = |reason| Connection { inactive: Some(reason), version: 5, ..active.clone() };
        let (off, lost) =
            (inactive(InactiveReason::ManuallyInactivated), inactive(InactiveReason::AuthenticationInvalid));
        #[rustfmt::skip]
        let cases = [
            ("it stays active",      &active, &active, None),
            ("it is turned off",     &active, &off,    Some("weft.connection.inactive")),
            ("it is refused",        &active, &lost,   Some("weft.connection.inactive")),
            ("for another reason",   &lost,   &off,    None),
            ("it is active again",   &off,    &active, None),
        ];
        for (why, before, after, expected) in cases {
            assert_eq!(Notice::of_change(before, after).map(|notice| notice.name()), expected, "{why}");
        }
    }
}
