//! Gives back the space of old segments: what is still needed is carried forward first.
//!
//! Segments go oldest first. By then every record in one either says something about an event whose
//! own record is in it too, or was carried forward with it, or is superseded. So what has to be
//! carried is: events that are still kept, with all that became of them, and rows of configuration
//! whose newest record lies here.

use super::{JournalLog, journal::SegmentInfo};
use crate::{
    domain::ids::{EventId, WorkspaceId},
    store::{
        Fence, StoreError,
        ledger::Log,
        state::{
            Place,
            record::{Carried, Record},
        },
    },
};
use std::collections::HashMap;

/// Of a segment's bytes, the share that may have to be carried for it to be worth while.
const LIVE_SHARE_MAX: f64 = 0.5;

/// What lives in a segment.
#[derive(Default)]
struct Live {
    events: Vec<(WorkspaceId, EventId)>,
    records: Vec<Record>,
    /// Some are not routed yet, and must meet the rules as they were.
    unrouted: bool,
    bytes: u64,
}

impl JournalLog {
    pub(super) async fn reclaim_segments(&self, fence: Fence) -> Result<(), StoreError> {
        loop {
            let segments = self.reader.segments();
            let [oldest, next, ..] = &segments[..] else { return Ok(()) };
            if next.first_sequence > self.intake.checkpointed() {
                return Ok(());
            }
            let live = self.live_in(fence, oldest, next.first_sequence)?;
            if live.unrouted || live.bytes as f64 > oldest.bytes as f64 * LIVE_SHARE_MAX {
                return Ok(());
            }
            let mut last = 0;
            for record in live.records {
                last = self.commit(fence, record)?.max(last);
            }
            for (workspace, event) in live.events {
                self.room().await?;
                last = self.carry(fence, workspace, event)?.unwrap_or(0).max(last);
            }
            self.durable(last).await?;
            self.intake.remove(oldest.id);
            // It is gone before the next round looks, or the round ends there.
            let mut durable = self.durable.clone();
            while self.reader.segments().first().is_some_and(|first| first.id == oldest.id) {
                if tokio::time::timeout(std::time::Duration::from_secs(1), durable.changed()).await.is_err() {
                    return Ok(());
                }
            }
        }
    }

    fn commit(&self, fence: Fence, record: Record) -> Result<u64, StoreError> {
        let mut state = self.state.write();
        state.check(fence)?;
        let sequence = state.commit(record)?;
        self.committed(&mut state);
        Ok(sequence)
    }

    fn live_in(&self, fence: Fence, segment: &SegmentInfo, end: u64) -> Result<Live, StoreError> {
        let mut live = Live::default();
        for found in self.reader.scan(segment.first_sequence) {
            let Ok((_, record)) = found else { continue };
            if record.sequence >= end {
                break;
            }
            let (sequence, bytes) = (record.sequence, record.body.len() as u64);
            let state = self.state.read();
            let event = match Record::decode(&record.body)? {
                Record::Accepted(new) => new.event,
                Record::Carried(carried) => carried.new.event,
                Record::Configured { change, .. } => {
                    let change = state.still_says(&change, sequence)?;
                    live.records.extend(
                        change.map(|change| Record::configured(&change, Some(segment.first_sequence))),
                    );
                    continue;
                }
                Record::Opened { epoch } if epoch == fence.0 => {
                    live.records.push(Record::Opened { epoch });
                    continue;
                }
                Record::Paced { connection_id, .. } => {
                    let pace = state.pace(connection_id)?;
                    let is_known = pace.paused_until.is_some();
                    live.records.extend(is_known.then_some(Record::Paced { connection_id, pace }));
                    continue;
                }
                _ => continue,
            };
            let stored = state.stored_event(event.workspace_id, event.id)?;
            if let Some(stored) = stored.filter(|stored| stored.place.sequence == sequence) {
                live.events.push((event.workspace_id, event.id));
                live.unrouted |= !stored.routed;
                live.bytes += bytes;
            }
        }
        Ok(live)
    }

    /// Writes an event with all that became of it anew. `None` if it is gone meanwhile.
    fn carry(&self, fence: Fence, workspace: WorkspaceId, event: EventId) -> Result<Option<u64>, StoreError> {
        // Payload and responses never change: they are read before the state is locked.
        let Some((stored, deliveries)) = self.state.read().event_whole(workspace, event)? else {
            return Ok(None);
        };
        let new = match self.record(stored.place)? {
            Record::Accepted(new) => new,
            Record::Carried(carried) => carried.new,
            _ => return Err(StoreError::Damaged(format!("event {event} is not where it should be"))),
        };
        let unmatched =
            match stored.unmatched_at.map(|sequence| self.record(Place::of(sequence))).transpose()? {
                Some(Record::Routed { routed, .. }) => routed.unmatched,
                Some(Record::Carried(carried)) => carried.unmatched,
                _ => Vec::new(),
            };
        let mut responses = HashMap::new();
        for delivery in &deliveries {
            for attempt in &delivery.attempts {
                let Some(sequence) = attempt.response_at else { continue };
                let response = match self.record(Place::of(sequence))? {
                    Record::Attempted { attempted, .. } => attempted.response,
                    Record::Carried(carried) => carried
                        .responses
                        .into_iter()
                        .find(|(id, number, _)| *id == delivery.id && *number == attempt.number)
                        .map(|(_, _, response)| response),
                    _ => None,
                };
                responses.extend(response.map(|response| ((delivery.id, attempt.number), response)));
            }
        }
        let mut state = self.state.write();
        state.check(fence)?;
        let Some((stored, mut deliveries)) = state.event_whole(workspace, event)? else { return Ok(None) };
        for delivery in &mut deliveries {
            for attempt in &mut delivery.attempts {
                // One that came in this very moment loses its response, not its outcome.
                attempt.response_at =
                    attempt.response_at.filter(|_| responses.contains_key(&(delivery.id, attempt.number)));
            }
        }
        let carried = Carried {
            new,
            sequence: stored.sequence,
            routed: stored.routed,
            called_off: stored.called_off.then_some(stored.completed_at).flatten(),
            unmatched,
            deliveries,
            responses: responses.into_iter().map(|((id, number), response)| (id, number, response)).collect(),
            started_at: stored.started_at,
            completed_at: stored.completed_at,
        };
        let sequence = state.commit(Record::Carried(Box::new(carried)))?;
        self.committed(&mut state);
        Ok(Some(sequence))
    }
}
