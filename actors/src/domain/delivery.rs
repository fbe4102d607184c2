//! A delivery: one event × one rule, and what its attempts told us.

use super::{
    connection::InactiveReason,
    event::Status,
    ids::{ConnectionId, DeliveryId, EventId, RuleId, WorkspaceId},
    replay::ReplayOf,
    retry::RetryPolicy,
    timestamp::Timestamp,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Attempts a delivery remembers, newest kept. `Delivery::attempt_count` counts all.
pub const ATTEMPTS_KEPT: usize = 50;

/// What a delivery's next attempt may have to know, in bytes.
pub const NOTES_BYTES_MAX: usize = 512;

/// Attempts after which, and the time from the first try after which, a destination that asks for more
/// time is no longer given it for nothing: from there on its schedule is used up as by any failure.
pub const PATIENCE_ATTEMPTS: u32 = 100;
pub const PATIENCE: Duration = Duration::from_secs(7 * 24 * 3_600);

/// What one try told us, in the contract's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
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
    /// Why nothing works any more, where that is known for certain.
    pub inactive: Option<InactiveReason>,
    /// Whether a wait is one for all that the connection delivers, or for this delivery alone.
    pub pauses: bool,
    /// What the next attempt has to know, as JSON text: results of calls that must not be made twice.
    pub notes: Option<String>,
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

/// One event × one rule, or that done again.
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
    /// Where it comes from, if it is not the first.
    #[serde(skip)] // see `Beside`
    pub replay: Option<ReplayOf>,
    /// What its next attempt has to know; see [`Report::notes`].
    #[serde(skip)]
    pub notes: Option<String>,
}

/// What few deliveries have. It is kept beside the rest, so that others take up no room for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beside {
    pub replay: Option<ReplayOf>,
    pub notes: Option<String>,
}

impl Delivery {
    /// What it has of that, if anything.
    pub fn beside(&self) -> Option<Beside> {
        let beside = Beside { replay: self.replay, notes: self.notes.clone() };
        (beside != Beside::default()).then_some(beside)
    }

    pub fn set_beside(&mut self, Beside { replay, notes }: Beside) {
        (self.replay, self.notes) = (replay, notes);
    }
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
    /// What follows from a report. `chance` in 0..1 spreads the retries; `worked_at`: when the
    /// connection's credentials last worked, if they are known to.
    ///
    /// Being asked to slow down is no failure and uses up no try, for a while. Nor do refused
    /// credentials that may be lost, so that the delivery is parked with its connection once they are
    /// known to be, and not failed.
    pub fn after(
        &self,
        report: &Report,
        policy: &RetryPolicy,
        worked_at: Option<Timestamp>,
        now: Timestamp,
        chance: f64,
    ) -> Next {
        let counts = match report.outcome {
            Outcome::Delivered => return Next::Completed,
            Outcome::AuthFailed if !self.is_to_blame(worked_at) => return policy.confirm(now, chance),
            Outcome::AuthFailed => true,
            outcome if outcome.is_transient() => report.retry_after.is_none() || self.is_patience_over(now),
            _ => return Next::Failed,
        };
        policy.next(self.tries_used, counts, report.retry_after, now, chance)
    }

    /// Whether credentials that were refused to it have worked for others since: then it is this
    /// delivery that is refused, and not they.
    pub fn is_to_blame(&self, worked_at: Option<Timestamp>) -> bool {
        let refused = self.attempts.iter().rev().take_while(|attempt| attempt.outcome == Outcome::AuthFailed);
        refused.last().is_some_and(|first| worked_at.is_some_and(|at| at >= first.finished_at))
    }

    fn is_patience_over(&self, now: Timestamp) -> bool {
        let tried_for = self.started_at.map_or(Duration::ZERO, |first| now.since(first));
        self.attempt_count + 1 >= PATIENCE_ATTEMPTS || tried_for >= PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const NOW: Timestamp = Timestamp(1_773_576_000_000);

    /// A delivery with these outcomes behind it, a minute apart, the last a minute ago.
    fn tried(outcomes: &[Outcome]) -> Delivery {
        let id = Uuid::nil();
        let attempts = outcomes.iter().rev().zip(1..).map(|(outcome, minutes_ago)| {
            let at = NOW.before(Duration::from_secs(60 * minutes_ago));
            let (message, number) = (String::new(), 0);
            Attempt {
                number,
                started_at: at,
                finished_at: at,
                outcome: *outcome,
                http_status: None,
                message,
                next_due: None,
                response_at: None,
            }
        });
        let mut attempts: Vec<_> = attempts.collect();
        attempts.reverse();
        Delivery {
            id: DeliveryId::from_uuid(id),
            event_id: EventId::from_uuid(id),
            workspace_id: WorkspaceId::from_uuid(id),
            rule_id: RuleId::from_uuid(id),
            connection_id: ConnectionId::from_uuid(id),
            destination: "webhook".to_owned(),
            action: "{}".to_owned(),
            created_by: "test".to_owned(),
            created_at: NOW.before(PATIENCE * 10),
            status: Status::Retrying,
            due: NOW,
            attempt_count: attempts.len() as u32,
            tries_used: 0,
            started_at: attempts.first().map(|attempt| attempt.started_at),
            completed_at: None,
            last_error: None,
            notes: None,
            attempts,
            replay: None,
        }
    }

    fn report(outcome: Outcome, retry_after_s: Option<u64>) -> Report {
        let retry_after = retry_after_s.map(Duration::from_secs);
        Report {
            outcome,
            http_status: None,
            message: String::new(),
            retry_after,
            response: None,
            inactive: None,
            pauses: true,
            notes: None,
        }
    }

    fn due(s: u64, counts: bool) -> Next {
        Next::Due { at: NOW.after(Duration::from_secs(s)), counts }
    }

    /// I2, I20: no destination keeps a delivery for ever by asking for more time.
    #[test]
    fn patience_with_a_destination_that_asks_for_time_ends() {
        let policy = RetryPolicy { waits: vec![Duration::from_secs(10)], jitter: 0.0 };
        let waited_for = |span| Delivery { started_at: Some(NOW.before(span)), ..tried(&[]) };
        let tried_often = |count| Delivery { attempt_count: count, started_at: Some(NOW), ..tried(&[]) };
        let minute = Duration::from_secs(60);
        #[rustfmt::skip]
        let cases = [
            // why                                       the delivery                        expected
            ("a first wait is no failure",               tried(&[]),                         due(60, false)),
            ("also of one that was parked for weeks",    tried(&[]),                         due(60, false)),
            ("nor is the 99th",                          tried_often(PATIENCE_ATTEMPTS - 2), due(60, false)),
            ("the hundredth is",                         tried_often(PATIENCE_ATTEMPTS - 1), due(60, true)),
            ("nor is one after days",                    waited_for(PATIENCE - minute),      due(60, false)),
            ("one after a week is",                      waited_for(PATIENCE),               due(60, true)),
            ("and the schedule runs out",
             Delivery { tries_used: 1, ..waited_for(PATIENCE) },                             Next::Failed),
        ];
        for (why, delivery, expected) in cases {
            for outcome in [Outcome::RateLimited, Outcome::RejectedServerError] {
                assert_eq!(
                    delivery.after(&report(outcome, Some(60)), &policy, None, NOW, 0.5),
                    expected,
                    "{why}"
                );
            }
        }
    }

    /// I2: refused credentials use up no try until it is known whether they are lost.
    #[test]
    fn refused_credentials_cost_a_try_only_where_the_delivery_is_to_blame() {
        use Outcome::{AuthFailed, Timeout};
        let minutes_ago = |minutes: u64| Some(NOW.before(Duration::from_secs(60 * minutes)));
        #[rustfmt::skip]
        let cases = [
            // why                                            tried before              worked        expected
            ("they may be lost",                              vec![],                   None,            due(10, false)),
            ("they worked before it was first refused",       vec![],                   minutes_ago(0),  due(10, false)),
            ("nothing is known of them",                      vec![AuthFailed; 3],      None,            due(10, false)),
            ("they worked before it was refused",             vec![AuthFailed; 3],      minutes_ago(4),  due(10, false)),
            ("they worked for others since",                  vec![AuthFailed; 3],      minutes_ago(2),  due(30, true)),
            ("an older refusal was another matter",           vec![AuthFailed, Timeout], minutes_ago(2), due(10, false)),
        ];
        let policy = RetryPolicy { waits: vec![Duration::from_secs(30)], jitter: 0.0 };
        for (why, before, worked_at, expected) in cases {
            let delivery = tried(&before);
            assert_eq!(
                delivery.after(&report(AuthFailed, None), &policy, worked_at, NOW, 0.5),
                expected,
                "{why}"
            );
            let (used_up, spent) = (RetryPolicy { waits: vec![], jitter: 0.0 }, expected == due(30, true));
            let next = delivery.after(&report(AuthFailed, None), &used_up, worked_at, NOW, 0.5);
            assert_eq!(next == Next::Failed, spent, "{why}: with no tries left");
        }
    }
}
