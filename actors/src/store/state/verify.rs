//! The proof that the ledger adds up: every accepted event × matched rule is final or scheduled,
//! and every event on record is there.

use super::*;
use crate::store::ledger::Records;
use std::{collections::BTreeMap, ops::RangeInclusive};

fn fault(found: &mut Verification, text: String) {
    if found.faults.len() < VERIFY_FAULTS_MAX {
        found.faults.push(text);
    }
}

impl<V: View> State<V> {
    /// See [`Store::verify`]. Walks everything.
    pub fn verify(&self) -> Result<Verification, StoreError> {
        let mut found = Verification::default();
        self.view.scan(b"e", b"f", Order::Ascending, &mut |_, value| {
            let stored: StoredEvent = decode(value)?;
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
                fault(&mut found, format!("event {id} {what}"));
            }
            let deliveries = self.deliveries(workspace, id)?;
            let mut tally =
                Tally { total: u32::try_from(deliveries.len()).unwrap_or(u32::MAX), ..Tally::default() };
            for delivery in deliveries {
                found.deliveries += 1;
                tally.shift(Status::Pending, delivery.status);
                let key = keys::queued(workspace, delivery.connection_id, delivery.due, delivery.id);
                let is_queued = self.view.get(&key)?.is_some();
                match (delivery.status.is_final(), is_queued) {
                    (true, false) => found.finished += 1,
                    (false, true) => found.scheduled += 1,
                    (true, true) => {
                        fault(&mut found, format!("delivery {} is final and still queued", delivery.id))
                    }
                    (false, false) => {
                        fault(
                            &mut found,
                            format!("delivery {} of event {id} is neither final nor scheduled", delivery.id),
                        );
                    }
                }
            }
            if stored.routed && tally != stored.tally {
                fault(&mut found, format!("event {id} counts {:?}, its deliveries {tally:?}", stored.tally));
            }
            Ok(true)
        })?;
        self.view.scan(b"q", b"r", Order::Ascending, &mut |key, value| {
            let (entry, workspace) =
                (keys::due_entry(key, value), WorkspaceId::from_bytes(keys::part_at(key, 1)));
            let known = self.view.get(&keys::delivery(workspace, entry.event_id, entry.delivery_id))?;
            if known.is_none() {
                fault(
                    &mut found,
                    format!("a queue names delivery {}, which is not there", entry.delivery_id),
                );
            }
            Ok(true)
        })?;
        Ok(found)
    }

    /// Looks whether the state knows every event of a log, and whether the log is whole in `range`.
    pub fn verify_log(
        &self,
        range: RangeInclusive<u64>,
        records: Records,
        found: &mut Verification,
    ) -> Result<(), StoreError> {
        let (mut expected, last) = range.into_inner();
        // An event that has expired is gone rightly; its record may still be there.
        let mut missing = BTreeMap::new();
        for record in records {
            let (sequence, record) = match record {
                Ok(found) => found,
                Err(err) => {
                    fault(found, format!("{err}; what comes after it was not looked at"));
                    return Ok(());
                }
            };
            if sequence > last {
                break; // younger than what was looked at
            }
            gap(expected, sequence, found);
            expected = sequence + 1;
            match record {
                Record::Accepted(NewEvent { event, .. })
                    if self.stored_event(event.workspace_id, event.id)?.is_none() =>
                {
                    missing.insert(event.id, sequence);
                }
                Record::Expired { events, .. } => {
                    for id in events {
                        missing.remove(&id);
                    }
                }
                _ => {}
            }
        }
        gap(expected, last + 1, found);
        for (id, sequence) in missing {
            fault(found, format!("event {id} is on record ({sequence}), but not in the state"));
        }
        Ok(())
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
