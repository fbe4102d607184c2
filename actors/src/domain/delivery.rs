//! A delivery: one event × one rule, and what its attempts told us.

use super::{
    event::Status,
    ids::{ConnectionId, DeliveryId, EventId, RuleId, WorkspaceId},
    retry::RetryPolicy,
    timestamp::Timestamp,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Attempts a delivery remembers, newest kept. `Delivery::attempt_count` counts all.
pub const ATTEMPTS_KEPT: usize = 50;

/// Tries a delivery has at least while its credentials are refused, however short its schedule: so
/// many that its connection is found to have lost them, also after being mended in vain.
pub const AUTH_TRIES_MIN: u32 = 20;

/// The wait before such a try, where the schedule has none any more.
const AUTH_WAIT: Duration = Duration::from_secs(10);

/// What one try told us, in the contract's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Delivered,
    RejectedClientError,
    RejectedServerError,
    RateLimited,
    AuthFailed,
    Timeout,
    NetworkError,
    MappingError,
    InternalError,
}

impl Outcome {
    /// Its name on the wire and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::RejectedClientError => "rejected_client_error",
            Self::RejectedServerError => "rejected_server_error",
            Self::RateLimited => "rate_limited",
            Self::AuthFailed => "auth_failed",
            Self::Timeout => "timeout",
            Self::NetworkError => "network_error",
            Self::MappingError => "mapping_error",
            Self::InternalError => "internal_error",
        }
    }

    /// Trying again may help.
    pub const fn is_transient(self) -> bool {
        use Outcome::*;
        matches!(self, RejectedServerError | RateLimited | Timeout | NetworkError | InternalError)
    }

    /// The destination itself seems unwell, as opposed to refusing this delivery.
    pub const fn is_destination_down(self) -> bool {
        matches!(self, Self::RejectedServerError | Self::Timeout | Self::NetworkError)
    }
}

/// What came back from one try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub outcome: Outcome,
    pub http_status: Option<u16>,
    /// One sentence for a person, without secrets and internal addresses.
    pub message: String,
    /// How long the destination asked us to wait.
    pub retry_after: Option<Duration>,
    /// The response to a failed attempt.
    pub response: Option<ResponseDetails>,
}

/// What a destination answered to a failed attempt: hostile text, cut to size, own secrets removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseDetails {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// At most 16 KiB; bytes that are not UTF-8 are replaced.
    pub body: String,
    /// There was more.
    pub truncated: bool,
}

/// One try, as remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    pub outcome: Outcome,
    pub http_status: Option<u16>,
    pub message: String,
    /// When it was to be tried again.
    pub next_due: Option<Timestamp>,
    /// The journal record that holds the response, if it was kept.
    pub response_at: Option<u64>,
}

/// One event × one rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    pub id: DeliveryId,
    pub event_id: EventId,
    pub workspace_id: WorkspaceId,
    pub rule_id: RuleId,
    pub connection_id: ConnectionId,
    /// The connection's type, such as `webhook`.
    pub destination: String,
    /// What to do there, and with what: the rule's metadata as JSON text, as it stood when the event was accepted.
    pub action: String,
    pub created_by: String,
    pub created_at: Timestamp,
    /// Never `Processing`: who is in flight is not worth a disk write, the engine knows.
    pub status: Status,
    /// When it is due; meaningful while the status is not final.
    pub due: Timestamp,
    /// All attempts ever made.
    pub attempt_count: u32,
    /// Those that used up a step of the retry schedule since it last started over.
    pub tries_used: u32,
    pub started_at: Option<Timestamp>,
    pub completed_at: Option<Timestamp>,
    pub last_error: Option<String>,
    /// The newest [`ATTEMPTS_KEPT`], oldest first.
    pub attempts: Vec<Attempt>,
}

/// What an attempt leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Next {
    /// Done.
    Completed,
    /// Given up.
    Failed,
    /// Again, at this time. `counts`: a step of the schedule was used up.
    Due { at: Timestamp, counts: bool },
}

impl Delivery {
    /// What follows from a report. `chance` in 0..1 spreads the retries.
    ///
    /// `AuthFailed` waits like a transient outcome, and longer than a short schedule: the connection
    /// actor decides whether the connection has lost its credentials, and then the delivery is
    /// parked with it.
    pub fn after(&self, report: &Report, policy: &RetryPolicy, now: Timestamp, chance: f64) -> Next {
        let next = || policy.next(self.tries_used, report.retry_after, now, chance);
        match report.outcome {
            Outcome::Delivered => Next::Completed,
            Outcome::AuthFailed => match next() {
                Next::Failed if self.tries_used < AUTH_TRIES_MIN => {
                    Next::Due { at: now.after(AUTH_WAIT), counts: true }
                }
                next => next,
            },
            outcome if outcome.is_transient() => next(),
            _ => Next::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::retry::RETRY_AFTER_MAX;
    use uuid::Uuid;

    const NOW: Timestamp = Timestamp(1_000);

    fn delivery(tries_used: u32) -> Delivery {
        let (event, rule) = (EventId::from_uuid(Uuid::nil()), RuleId::from_uuid(Uuid::nil()));
        Delivery {
            id: DeliveryId::of(event, rule),
            event_id: event,
            workspace_id: WorkspaceId::from_uuid(Uuid::nil()),
            rule_id: rule,
            connection_id: ConnectionId::from_uuid(Uuid::nil()),
            destination: "webhook".to_owned(),
            action: "{}".to_owned(),
            created_by: String::new(),
            created_at: NOW,
            status: Status::Pending,
            due: NOW,
            attempt_count: tries_used,
            tries_used,
            started_at: None,
            completed_at: None,
            last_error: None,
            attempts: Vec::new(),
        }
    }

    #[test]
    fn refused_credentials_outlast_a_short_schedule_but_not_for_ever() {
        use Outcome::*;
        let due = |ms| Next::Due { at: Timestamp(NOW.0 + ms), counts: true };
        #[rustfmt::skip]
        let cases = [
            // waits        tries used           outcome               next
            (&[][..],       0,                   AuthFailed,           due(10_000)),
            (&[],           0,                   RejectedServerError,  Next::Failed),
            (&[],           0,                   RejectedClientError,  Next::Failed),
            (&[],           0,                   Delivered,            Next::Completed),
            (&[500],        0,                   AuthFailed,           due(500)),
            (&[500],        1,                   AuthFailed,           due(10_000)),
            (&[500],        1,                   RejectedServerError,  Next::Failed),
            (&[500],        AUTH_TRIES_MIN - 1,  AuthFailed,           due(10_000)),
            (&[500],        AUTH_TRIES_MIN,      AuthFailed,           Next::Failed),
        ];
        for (waits, tries_used, outcome, expected) in cases {
            let waits = waits.iter().map(|ms| Duration::from_millis(*ms)).collect();
            let policy = RetryPolicy { waits, jitter: 0.0 };
            let message = String::new();
            let report = Report { outcome, http_status: None, message, retry_after: None, response: None };
            let next = delivery(tries_used).after(&report, &policy, NOW, 0.5);
            assert_eq!(next, expected, "{outcome:?} after {tries_used} of {:?}", policy.waits);
        }
    }

    #[test]
    fn nobody_is_made_to_wait_longer_than_a_day() {
        for chance in [0.0, 0.5, 1.0] {
            let asked = RETRY_AFTER_MAX.mul_f64(1.5);
            let policy = RetryPolicy { waits: vec![Duration::from_secs(1)], jitter: 1.0 };
            let next = policy.next(0, Some(asked), NOW, chance);
            assert!(matches!(next, Next::Due { at, .. } if at == NOW.after(RETRY_AFTER_MAX)), "{next:?}");
        }
    }
}
