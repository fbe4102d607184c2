//! What the journal holds: everything that happened, enough to build the state again.
//!
//! Postcard's wire format is stable and positional: variants and fields are only ever added at
//! the end of [`Record`], never moved or removed, and a field whose shape must change means a new variant.

use crate::{
    domain::{
        delivery::{ATTEMPTS_KEPT, Beside, Delivery, NOTES_BYTES_MAX, ResponseDetails},
        ids::{ConnectionId, DeliveryId, EventId, WorkspaceId},
        routing::{MATCHES_MAX, RuleVerdict},
        timestamp::Timestamp,
        usage::UsageRow,
    },
    store::{Again, Attempted, Change, NewEvent, PAYLOAD_BYTES_MAX, Pace, Routed, StoreError},
};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};

/// The journal's kind byte of a record in this format.
pub const RECORD_KIND: u8 = 1;

/// Bytes of a record: one that a journal would not take must never be made, for nothing can follow it.
pub const RECORD_BYTES_MAX: usize = 8 << 20;
/// Bytes of a message, where an event would otherwise not fit a record.
const MESSAGE_BYTES_MIN: usize = 512;
/// Bytes of the deliveries one event may lead to, so that they fit a record with room for what becomes of them.
pub const MATCHES_BYTES_MAX: usize = 4 << 20;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Record {
    /// A process took the store over.
    Opened {
        epoch: u64,
    },
    Accepted(NewEvent),
    /// `change` is a [`Change`] as JSON; `since` its first sequence, if it was carried forward.
    Configured {
        change: String,
        since: Option<u64>,
    },
    Routed {
        workspace_id: WorkspaceId,
        routed: Routed,
    },
    Attempted {
        workspace_id: WorkspaceId,
        attempted: Attempted,
    },
    Retried {
        workspace_id: WorkspaceId,
        event_id: EventId,
        delivery_id: DeliveryId,
        at: Timestamp,
    },
    Canceled {
        workspace_id: WorkspaceId,
        event_id: EventId,
        deliveries: Vec<DeliveryId>,
        at: Timestamp,
        reason: String,
    },
    Paced {
        connection_id: ConnectionId,
        pace: Pace,
    },
    /// Events past their retention.
    Expired {
        workspace_id: WorkspaceId,
        events: Vec<EventId>,
    },
    /// An event that outlives the segment its records were in.
    Carried(Box<Carried>),
    /// Stands in for what is not there: an event that had a sequence and could not be written, or a record
    /// whose audit entry outlives it.
    Void,
    /// Something that somebody did. `entry` is an [`AuditEntry`](crate::domain::audit::AuditEntry) as JSON.
    Audited {
        entry: String,
        record: Box<Record>,
    },
    /// What workspaces used in a day by now, all told, whatever was counted before.
    Used(Vec<UsageRow>),
    /// How far a replay is, a [`Replay`](crate::domain::replay::Replay) as JSON, and what that queued.
    Replayed {
        replay: String,
        again: Vec<Again>,
        at: Timestamp,
    },
    /// [`Self::Carried`] as it is written of an event that was replayed: with what its deliveries are
    /// replays of. Read, it is one like others.
    CarriedBeside(Box<Carried>, Vec<(DeliveryId, Beside)>),
    /// [`Self::Attempted`] as it is written of one that leaves something for the next. Read, it is one like others.
    AttemptedNoting {
        workspace_id: WorkspaceId,
        attempted: Attempted,
        notes: String,
    },
}

/// An event with all that became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Carried {
    pub new: NewEvent,
    /// Its place in the order of all that was accepted or configured.
    pub sequence: u64,
    pub routed: bool,
    /// When it was canceled before any rule judged it.
    pub called_off: Option<Timestamp>,
    pub unmatched: Vec<RuleVerdict>,
    pub deliveries: Vec<Delivery>,
    /// Responses kept of failed attempts.
    pub responses: Vec<(DeliveryId, u32, ResponseDetails)>,
    pub started_at: Option<Timestamp>,
    pub completed_at: Option<Timestamp>,
}

impl Carried {
    /// The response kept of one attempt.
    pub fn response(self, delivery: DeliveryId, number: u32) -> Option<ResponseDetails> {
        let mut responses = self.responses.into_iter();
        responses.find(|(of, kept, _)| (*of, *kept) == (delivery, number)).map(|(_, _, response)| response)
    }

    /// What is beside its deliveries, of those that have any.
    fn beside(&self) -> Vec<(DeliveryId, Beside)> {
        self.deliveries.iter().filter_map(|delivery| Some((delivery.id, delivery.beside()?))).collect()
    }

    /// The same with what is beside its deliveries.
    pub fn with_beside(mut self, beside: Vec<(DeliveryId, Beside)>) -> Self {
        let mut beside: HashMap<_, _> = beside.into_iter().collect();
        for delivery in &mut self.deliveries {
            delivery.set_beside(beside.remove(&delivery.id).unwrap_or_default());
        }
        self
    }

    /// What a response takes up, at most.
    pub fn response_bytes(response: &ResponseDetails) -> usize {
        let headers = response.headers.iter().map(|(name, value)| name.len() + value.len() + 8);
        response.body.len() + headers.sum::<usize>() + 64
    }

    /// Leaves out old attempts, evenly of all deliveries and with their responses, until it takes up no more
    /// than `bytes_max`. The newest stay; if they must, cut short and without their responses.
    pub fn fit(&mut self, bytes_max: usize) {
        let mut kept = ATTEMPTS_KEPT;
        while self.bytes() > bytes_max && kept > 1 {
            kept /= 2;
            for delivery in &mut self.deliveries {
                let beyond = delivery.attempts.len().saturating_sub(kept);
                delivery.attempts.drain(..beyond);
            }
            let attempts = self
                .deliveries
                .iter()
                .flat_map(|delivery| delivery.attempts.iter().map(|attempt| (delivery.id, attempt.number)));
            let attempts: HashSet<_> = attempts.collect();
            self.responses.retain(|(delivery, number, _)| attempts.contains(&(*delivery, *number)));
        }
        if self.bytes() > bytes_max {
            for delivery in &mut self.deliveries {
                let messages = delivery.attempts.iter_mut().map(|attempt| &mut attempt.message);
                messages.chain(&mut delivery.last_error).for_each(cut);
            }
        }
        if self.bytes() > bytes_max {
            self.responses.clear();
        }
    }

    /// What it takes up, at most.
    fn bytes(&self) -> usize {
        let event = &self.new.event;
        let texts = [&event.name, &event.resource, &event.created_by];
        let texts = texts.into_iter().chain(&event.resource_id).map(String::len).sum::<usize>();
        let delivery = |delivery: &Delivery| {
            let Delivery { destination, action, created_by, last_error, notes, attempts, .. } = delivery;
            let attempts = attempts.iter().map(|attempt| attempt.message.len() + 72);
            let said = last_error.iter().chain(notes).map(String::len).sum::<usize>();
            destination.len() + action.len() + created_by.len() + said + attempts.sum::<usize>() + 256
        };
        let deliveries = self.deliveries.iter().map(delivery).sum::<usize>();
        let reasons = self.unmatched.iter().map(|verdict| verdict.reason.len() + 48).sum::<usize>();
        let responses =
            self.responses.iter().map(|(.., kept)| Self::response_bytes(kept) + 32).sum::<usize>();
        self.new.payload.len() + texts + deliveries + reasons + responses + 1_024
    }
}

fn cut(message: &mut String) {
    let end = (0..=MESSAGE_BYTES_MIN.min(message.len())).rev().find(|at| message.is_char_boundary(*at));
    message.truncate(end.unwrap_or(0));
}

const _: () = assert!(
    PAYLOAD_BYTES_MAX
        + MATCHES_BYTES_MAX
        + MATCHES_MAX * (2 * MESSAGE_BYTES_MIN + NOTES_BYTES_MAX + 328)
        + (1 << 20)
        <= RECORD_BYTES_MAX,
    "an event fits a record with its deliveries, their last attempts, and room for reasons"
);

impl Record {
    /// A change of configuration.
    pub fn configured(change: &Change, since: Option<u64>) -> Self {
        let change =
            serde_json::to_string(change).expect("a change has string keys and no failing serializer");
        Self::Configured { change, since }
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let beside = match self {
            Self::Carried(carried) => carried.beside(),
            _ => Vec::new(),
        };
        let encoded = match self {
            Self::Carried(carried) if !beside.is_empty() => {
                postcard::to_stdvec(&Self::CarriedBeside(carried.clone(), beside))
            }
            Self::Attempted { workspace_id, attempted } if attempted.notes.is_some() => {
                let (workspace_id, attempted) = (*workspace_id, attempted.clone());
                let notes = attempted.notes.clone().unwrap_or_default();
                postcard::to_stdvec(&Self::AttemptedNoting { workspace_id, attempted, notes })
            }
            _ => postcard::to_stdvec(self),
        };
        encoded.expect("writing to memory does not fail")
    }

    /// The record in these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let record = postcard::from_bytes(bytes)
            .map_err(|err| StoreError::Damaged(format!("unreadable journal record: {err}")))?;
        Ok(match record {
            Self::CarriedBeside(carried, beside) => Self::Carried(Box::new(carried.with_beside(beside))),
            Self::AttemptedNoting { workspace_id, attempted, notes } => {
                Self::Attempted { workspace_id, attempted: Attempted { notes: Some(notes), ..attempted } }
            }
            record => record,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        delivery::{Attempt, Outcome},
        event::{Event, Status},
        ids::{OrganizationId, RuleId},
        routing::VERDICTS_MAX,
    };
    use bytes::Bytes;
    use uuid::Uuid;

    const EVENT: EventId = EventId::from_uuid(Uuid::from_u128(1));
    const WORKSPACE: WorkspaceId = WorkspaceId::from_uuid(Uuid::from_u128(2));

    /// The largest event there may be, whose every delivery was tried so often, and how long messages are.
    fn largest(attempts: u32, message_bytes: usize, responses_of_each: u32) -> Carried {
        let event = Event {
            id: EVENT,
            organization_id: OrganizationId::from_uuid(Uuid::from_u128(3)),
            workspace_id: WORKSPACE,
            name: "n".repeat(255),
            resource: "r".repeat(255),
            resource_id: Some("i".repeat(255)),
            created_by: "k".repeat(64),
            accepted_at: Timestamp(i64::MAX),
        };
        let new = NewEvent { event, payload: Bytes::from(vec![b'x'; PAYLOAD_BYTES_MAX]), idempotency: None };
        let deliveries: Vec<_> =
            (0..MATCHES_MAX as u128).map(|n| delivery(n, attempts, message_bytes)).collect();
        let response = ResponseDetails {
            status: 500,
            headers: vec![("h".repeat(1_024), "v".repeat(15 << 10))],
            body: "b".repeat(16 << 10),
            truncated: true,
        };
        let newest = attempts - responses_of_each + 1..=attempts;
        let of_each =
            |delivery: &Delivery| newest.clone().map(|number| (delivery.id, number)).collect::<Vec<_>>();
        let responses = deliveries.iter().take(32).flat_map(of_each);
        let reason = RuleVerdict {
            rule_id: RuleId::from_uuid(Uuid::nil()),
            connection_id: ConnectionId::from_uuid(Uuid::nil()),
            reason: "w".repeat(800),
        };
        Carried {
            new,
            sequence: u64::MAX,
            routed: true,
            called_off: None,
            unmatched: vec![reason; VERDICTS_MAX],
            responses: responses.map(|(id, number)| (id, number, response.clone())).collect(),
            deliveries,
            started_at: Some(Timestamp(i64::MAX)),
            completed_at: Some(Timestamp(i64::MAX)),
        }
    }

    fn delivery(number: u128, attempts: u32, message_bytes: usize) -> Delivery {
        let rule_id = RuleId::from_uuid(Uuid::from_u128(number));
        let at = Timestamp(i64::MAX);
        let attempt = |number| Attempt {
            number,
            started_at: at,
            finished_at: at,
            outcome: Outcome::RejectedServerError,
            http_status: Some(500),
            message: "\u{e9}".repeat(message_bytes / 2),
            next_due: Some(at),
            response_at: Some(u64::MAX),
        };
        Delivery {
            id: DeliveryId::of(EVENT, rule_id),
            event_id: EVENT,
            workspace_id: WORKSPACE,
            rule_id,
            connection_id: ConnectionId::from_uuid(Uuid::from_u128(number)),
            destination: "webhook".to_owned(),
            action: "a".repeat(MATCHES_BYTES_MAX / MATCHES_MAX - 64 - 7 - 64),
            created_by: "k".repeat(64),
            created_at: at,
            status: Status::Retrying,
            due: at,
            attempt_count: u32::MAX,
            tries_used: u32::MAX,
            started_at: Some(at),
            completed_at: Some(at),
            last_error: Some("\u{e9}".repeat(message_bytes / 2)),
            notes: (attempts == 1).then(|| "n".repeat(NOTES_BYTES_MAX)),
            attempts: (1..=attempts).map(attempt).collect(),
            replay: None,
        }
    }

    #[test]
    fn the_largest_event_fits_a_record_with_its_newest_attempts() {
        #[rustfmt::skip]
        let cases = [
            // why                                 attempts  bytes of a message  responses  attempts left
            ("what fits stays as it is",           1,        100,                1,         1),
            ("the most attempts",                  50,       100,                1,         6),
            ("the most attempts and responses",    50,       100,                2,         3),
            ("the most attempts, long messages",   50,       300,                1,         3),
            ("messages that do not fit",           50,       4_000,              2,         1),
        ];
        for (why, attempts, message_bytes, responses, left) in cases {
            let mut carried = largest(attempts, message_bytes, responses);
            carried.fit(RECORD_BYTES_MAX);
            let is_newest = |delivery: &Delivery| {
                let numbers = delivery.attempts.iter().map(|attempt| attempt.number);
                numbers.eq(attempts + 1 - left..=attempts)
            };
            assert_eq!(carried.deliveries.len(), MATCHES_MAX, "{why}");
            assert!(
                carried.deliveries.iter().all(is_newest),
                "{why}: {}",
                carried.deliveries[0].attempts.len()
            );
            let whole = carried.bytes();
            let encoded = Record::Carried(Box::new(carried)).encode().len();
            assert!(encoded <= whole && whole <= RECORD_BYTES_MAX, "{why}: {encoded} of {whole} bytes");
        }
    }
}
