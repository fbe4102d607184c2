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
    /// `AuthFailed` waits like a transient outcome: the connection actor decides whether the
    /// connection has lost its credentials, and then the delivery is parked with it.
    pub fn after(&self, report: &Report, policy: &RetryPolicy, now: Timestamp, chance: f64) -> Next {
        let (used, asked) = (self.tries_used, report.retry_after);
        match report.outcome {
            Outcome::Delivered => Next::Completed,
            Outcome::AuthFailed => policy.next_unauthorized(used, asked, now, chance),
            outcome if outcome.is_transient() => policy.next(used, asked, now, chance),
            _ => Next::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const NOW: Timestamp = Timestamp(1_773_576_000_000);

    fn tried(tries_used: u32) -> Delivery {
        Delivery {
            id: DeliveryId::from_uuid(Uuid::nil()),
            event_id: EventId::from_uuid(Uuid::nil()),
            workspace_id: WorkspaceId::from_uuid(Uuid::nil()),
            rule_id: RuleId::from_uuid(Uuid::nil()),
            connection_id: ConnectionId::from_uuid(Uuid::nil()),
            destination: "webhook".to_owned(),
            action: String::new(),
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
    fn what_an_attempt_led_to_says_what_follows() {
        use Outcome::*;
        let policy = RetryPolicy { waits: [10, 60].map(Duration::from_secs).to_vec(), jitter: 0.2 };
        let due = |secs, counts| Next::Due { at: NOW.after(Duration::from_secs(secs)), counts };
        #[rustfmt::skip]
        let cases = [
            // why                                          outcome              asked     used  what follows
            ("success completes",                           Delivered,           None,     0,    Next::Completed),
            ("whatever was asked beside it",                Delivered,           Some(60), 9,    Next::Completed),
            ("a refusal is final",                          RejectedClientError, None,     0,    Next::Failed),
            ("whatever was asked beside it",                RejectedClientError, Some(60), 0,    Next::Failed),
            ("what cannot be mapped never can",             MappingError,        None,     0,    Next::Failed),
            ("a server's error may pass",                   RejectedServerError, None,     0,    due(10, true)),
            ("the second wait is the second",               Timeout,             None,     1,    due(60, true)),
            ("after the last there is none",                NetworkError,        None,     2,    Next::Failed),
            ("our own fault is no refusal",                 InternalError,       None,     0,    due(10, true)),
            ("Retry-After may lengthen a wait",             RateLimited,         Some(90), 0,    due(99, false)),
            ("but never shorten it",                        RateLimited,         Some(1),  0,    due(10, false)),
            ("and is kept when the schedule is used up",    RateLimited,         Some(90), 2,    due(99, false)),
            ("refused credentials may be mended",           AuthFailed,          None,     0,    due(10, true)),
            ("which is found out beyond the schedule, too", AuthFailed,          None,     4,    due(10, true)),
            ("but not for ever",                            AuthFailed,          None,     5,    Next::Failed),
        ];
        for (why, outcome, asked, used, expected) in cases {
            let retry_after = asked.map(Duration::from_secs);
            let message = "why".to_owned();
            let report = Report { outcome, http_status: None, message, retry_after, response: None };
            assert_eq!(tried(used).after(&report, &policy, NOW, 0.5), expected, "{why}");
        }
    }
}
