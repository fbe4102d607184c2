//! What a destination is handed for one attempt.

use crate::domain::{event::Event, ids::DeliveryId, timestamp::Timestamp};
use bytes::Bytes;
use serde_json::{Map, Value};
use std::time::Duration;

/// One attempt at one delivery.
#[derive(Clone, Copy)]
pub struct Outgoing<'a> {
    pub event: &'a Event,
    /// The payload, byte for byte as it was accepted: a JSON object.
    pub payload: &'a Bytes,
    /// The same for every attempt: what a receiver recognises a repetition by.
    pub delivery_id: DeliveryId,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// By the machine's clock, which the receiver compares with its own.
    pub sent_at: Timestamp,
    /// The rule's action and its inputs, as JSON text.
    pub action: &'a str,
    /// What an attempt before this left for it; see [`Report::notes`](crate::domain::delivery::Report).
    pub notes: Option<&'a str>,
    /// The time the whole attempt may take.
    pub timeout: Duration,
}

impl Outgoing<'_> {
    /// The rule's action and its inputs; empty if they are not a JSON object.
    pub fn metadata(&self) -> Map<String, Value> {
        serde_json::from_str(self.action).unwrap_or_default()
    }
}
