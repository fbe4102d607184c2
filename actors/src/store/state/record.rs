//! What the journal holds: everything that happened, enough to build the state again.
//!
//! Postcard's wire format is stable and positional: variants and fields are only ever added at
//! the end of [`Record`], never moved or removed, and a field whose shape must change means a new variant.

use crate::{
    domain::{
        delivery::{Delivery, ResponseDetails},
        ids::{ConnectionId, DeliveryId, EventId, WorkspaceId},
        routing::RuleVerdict,
        timestamp::Timestamp,
    },
    store::{Attempted, Change, NewEvent, Pace, Routed, StoreError},
};
use serde::{Deserialize, Serialize};

/// The journal's kind byte of a record in this format.
pub const RECORD_KIND: u8 = 1;

/// Bytes of a record: one that a journal would not take must never be made, for nothing can follow it.
pub const RECORD_BYTES_MAX: usize = 8 << 20;
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
    /// Stands in for an event that had a sequence and could not be written.
    Void,
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
}

impl Record {
    /// A change of configuration.
    pub fn configured(change: &Change, since: Option<u64>) -> Self {
        let change =
            serde_json::to_string(change).expect("a change has string keys and no failing serializer");
        Self::Configured { change, since }
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("writing to memory does not fail")
    }

    /// The record in these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        postcard::from_bytes(bytes)
            .map_err(|err| StoreError::Damaged(format!("unreadable journal record: {err}")))
    }
}
