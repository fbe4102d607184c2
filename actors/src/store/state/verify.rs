//! The proof that the ledger adds up: every accepted event × matched rule is final or scheduled.

use super::*;

impl<V: View> State<V> {
    /// See [`Store::verify`]. Walks everything.
    pub fn verify(&self) -> Result<Verification, StoreError> {
        let mut found = Verification::default();
        let fault = |faults: &mut Vec<String>, text: String| {
            if faults.len() < VERIFY_FAULTS_MAX {
                faults.push(text);
            }
        };
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
                fault(&mut found.faults, format!("event {id} {what}"));
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
                    (true, true) => fault(
                        &mut found.faults,
                        format!("delivery {} is final and still queued", delivery.id),
                    ),
                    (false, false) => {
                        fault(
                            &mut found.faults,
                            format!("delivery {} of event {id} is neither final nor scheduled", delivery.id),
                        );
                    }
                }
            }
            if stored.routed && tally != stored.tally {
                fault(
                    &mut found.faults,
                    format!("event {id} counts {:?}, its deliveries {tally:?}", stored.tally),
                );
            }
            Ok(true)
        })?;
        self.view.scan(b"q", b"r", Order::Ascending, &mut |key, value| {
            let (entry, workspace) =
                (keys::due_entry(key, value), WorkspaceId::from_bytes(keys::part_at(key, 1)));
            let known = self.view.get(&keys::delivery(workspace, entry.event_id, entry.delivery_id))?;
            if known.is_none() {
                fault(
                    &mut found.faults,
                    format!("a queue names delivery {}, which is not there", entry.delivery_id),
                );
            }
            Ok(true)
        })?;
        Ok(found)
    }
}
