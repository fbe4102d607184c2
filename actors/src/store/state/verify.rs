//! The proof that the ledger adds up: every accepted event × matched rule is final or scheduled,
//! and every event on record is there.
//!
//! A few at a time, so that nobody waits long for the state: what is proved of an event or a queue's entry
//! needs nothing else to stand still.

use super::*;
use crate::{domain::replay, store::ledger::Records};
use parking_lot::RwLock;
use std::{collections::BTreeMap, ops::RangeInclusive};

fn fault(found: &mut Verification, text: String) {
    if found.faults.len() < VERIFY_FAULTS_MAX {
        found.faults.push(text);
    }
}

impl<V: View> State<V> {
    /// See [`Store::verify`]. Looks at about `limit` rows after `after`, and says where to go on.
    pub fn verify(
        &self,
        after: Option<Key>,
        limit: usize,
        found: &mut Verification,
    ) -> Result<Option<Key>, StoreError> {
        let is_event = after.as_ref().is_none_or(|key| key.starts_with(b"e"));
        let is_lower = after.as_ref().is_some_and(|key| key.starts_with(b"z"));
        let from = after.map_or_else(|| vec![b'e'], |key| [&key[..], &[0]].concat());
        let (mut last, mut looked_at) = (None, 0);
        if is_event {
            self.view.scan(&from, b"f", Order::Ascending, &mut |key, value| {
                looked_at += 1 + self.verify_event(&decode(value)?, found)?;
                last = (looked_at >= limit).then(|| key.to_vec());
                Ok(last.is_none())
            })?;
            return Ok(last.or_else(|| Some(vec![b'q'])));
        }
        let end = if is_lower { b"{" } else { b"r" };
        self.view.scan(&from, end, Order::Ascending, &mut |key, value| {
            self.verify_queued(key, value, found)?;
            looked_at += 1;
            last = (looked_at >= limit).then(|| key.to_vec());
            Ok(last.is_none())
        })?;
        Ok(last.or_else(|| (!is_lower).then(|| vec![b'z'])))
    }

    /// Returns how many deliveries it has.
    fn verify_event(&self, stored: &StoredEvent, found: &mut Verification) -> Result<usize, StoreError> {
        found.events += 1;
        let (workspace, id) = (stored.event.workspace_id, stored.event.id);
        let is_waiting = self.view.get(&keys::unrouted(workspace, stored.sequence))?.is_some();
        found.unrouted += u64::from(!stored.routed);
        if is_waiting == stored.routed {
            let what = if is_waiting {
                "is routed and still waits for it"
            } else {
                "was never routed and waits for nothing"
            };
            fault(found, format!("event {id} {what}"));
        }
        let deliveries = self.deliveries(workspace, id)?;
        let (count, tally) = (deliveries.len(), replay::tally(&deliveries));
        for delivery in &deliveries {
            found.deliveries += 1;
            let is_queued = self.view.get(&keys::waiting(delivery, delivery.due))?.is_some();
            if delivery.replay.is_some_and(|of| !deliveries.iter().any(|first| first.id == of.first)) {
                fault(found, format!("delivery {} is a replay of one that is not there", delivery.id));
            }
            match (delivery.status.is_final(), is_queued) {
                (true, false) => found.finished += 1,
                (false, true) => found.scheduled += 1,
                (true, true) => fault(found, format!("delivery {} is final and still queued", delivery.id)),
                (false, false) => {
                    fault(
                        found,
                        format!("delivery {} of event {id} is neither final nor scheduled", delivery.id),
                    );
                }
            }
        }
        if stored.routed && tally != stored.tally {
            fault(found, format!("event {id} counts {:?}, its deliveries {tally:?}", stored.tally));
        }
        Ok(count)
    }

    fn verify_queued(&self, key: &[u8], value: &[u8], found: &mut Verification) -> Result<(), StoreError> {
        let (entry, workspace) =
            (keys::due_entry(key, value), WorkspaceId::from_bytes(keys::part_at(key, 1)));
        let known = self.view.get(&keys::delivery(workspace, entry.event_id, entry.delivery_id))?;
        if known.is_none() {
            fault(found, format!("a queue names delivery {}, which is not there", entry.delivery_id));
        }
        Ok(())
    }
}

/// Looks whether the state knows every event of a log, and whether the log is whole up to `last`.
pub struct LogCheck {
    records: Records,
    expected: u64,
    last: u64,
    /// An event that has expired is gone rightly; its record may still be there.
    missing: BTreeMap<EventId, u64>,
    is_cut_short: bool,
}

impl LogCheck {
    pub fn new(range: RangeInclusive<u64>, records: Records) -> Self {
        let (expected, last) = range.into_inner();
        Self { records, expected, last, missing: BTreeMap::new(), is_cut_short: false }
    }

    /// Whether events were missed, so that it had better go on once the latest records are there.
    pub fn misses(&self) -> bool {
        !self.missing.is_empty()
    }

    /// Goes on to the last record there is.
    pub fn go_on<V: View>(
        &mut self,
        state: &RwLock<State<V>>,
        found: &mut Verification,
    ) -> Result<(), StoreError> {
        while !self.is_cut_short
            && let Some(record) = self.records.next()
        {
            let (sequence, record) = match record {
                Ok(record) => record,
                Err(err) => {
                    fault(found, format!("{err}; what comes after it was not looked at"));
                    self.is_cut_short = true;
                    break;
                }
            };
            if sequence <= self.last {
                gap(self.expected, sequence, found);
                self.expected = sequence + 1;
            }
            match record {
                Record::Accepted(NewEvent { event, .. })
                    if sequence <= self.last
                        && state.read().stored_event(event.workspace_id, event.id)?.is_none() =>
                {
                    self.missing.insert(event.id, sequence);
                }
                Record::Expired { events, .. } => {
                    for id in events {
                        self.missing.remove(&id);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Says what is missing.
    pub fn finish(self, found: &mut Verification) {
        if !self.is_cut_short {
            gap(self.expected, self.last + 1, found);
            for (id, sequence) in self.missing {
                fault(found, format!("event {id} is on record ({sequence}), but not in the state"));
            }
        }
    }
}

/// Records from `expected` up to `sequence` are not there.
fn gap(expected: u64, sequence: u64, found: &mut Verification) {
    if sequence > expected {
        let what = if sequence - expected == 1 {
            format!("journal record {expected} was")
        } else {
            format!("journal records {expected} to {} were", sequence - 1)
        };
        fault(found, format!("{what} damaged and set aside; what stood there is lost"));
    }
}
