//! Gives back the space of old segments: what is still needed is carried forward first.
//!
//! Segments go oldest first. By then every record in one either says something about an event whose
//! own record is in it too, or was carried forward with it, or is superseded. So what has to be
//! carried is: events that are still kept, with all that became of them, and rows of configuration
//! whose newest record lies here.

use super::{JournalLog, journal::SegmentInfo, view::IndexView};
use crate::{
    domain::ids::{ConnectionId, EventId, WorkspaceId},
    store::{
        Fence, PAYLOAD_BYTES_MAX, StoreError,
        ledger::Log,
        state::{
            Place, State,
            record::{Carried, MATCHES_BYTES_MAX, RECORD_BYTES_MAX, Record},
        },
    },
};
use std::collections::{BTreeSet, HashMap};

/// Of a segment's bytes, the share that may have to be carried for it to be worth while.
const LIVE_SHARE_MAX: f64 = 0.5;

/// Bytes of the responses carried with an event, so that it fits a record; what is beyond is forgotten.
const RESPONSES_BYTES_MAX: usize = 2 << 20;

const _: () = assert!(
    PAYLOAD_BYTES_MAX + MATCHES_BYTES_MAX + RESPONSES_BYTES_MAX + (1 << 20) <= RECORD_BYTES_MAX,
    "an event fits a record with its deliveries, their responses, and some room for attempts"
);

/// Looks at the state, and makes a record of what it sees.
type Look<'a> = &'a mut dyn FnMut(&State<IndexView>) -> Result<Option<Record>, StoreError>;

/// What lives in a segment.
#[derive(Default)]
struct Live {
    events: Vec<(WorkspaceId, EventId)>,
    /// Changes of configuration that still hold, and the records they are from.
    changes: Vec<(String, u64)>,
    paced: BTreeSet<ConnectionId>,
    /// The record that says who owns the store is here.
    opened: bool,
    /// An event that is not routed yet must meet the rules as they stand here.
    unrouted: bool,
    bytes: u64,
}

impl JournalLog {
    pub(super) async fn reclaim_segments(&self, fence: Fence) -> Result<(), StoreError> {
        loop {
            let segments = self.reader.segments();
            let [oldest, next, ..] = &segments[..] else { return Ok(()) };
            if next.first_sequence > self.trust.checkpointed() {
                return Ok(());
            }
            let live = self.live_in(fence, oldest, next.first_sequence)?;
            if live.unrouted || live.bytes as f64 > oldest.bytes as f64 * LIVE_SHARE_MAX {
                return Ok(());
            }
            let Some(mut last) = self.carry_configuration(fence, &live, oldest.first_sequence)? else {
                return Ok(());
            };
            for (workspace, event) in live.events {
                self.room().await?;
                last = self.carry(fence, workspace, event).await?.unwrap_or(0).max(last);
            }
            self.durable(last).await?;
            if !self.intake.remove(oldest.id).await {
                return Ok(());
            }
        }
    }

    /// Writes rows of configuration anew, as they are by now. `since`: their rules apply from there on.
    /// `None`: an event that is not routed yet came between.
    fn carry_configuration(&self, fence: Fence, live: &Live, since: u64) -> Result<Option<u64>, StoreError> {
        let (mut last, mut unrouted) = (0, false);
        let mut write = |record: Look<'_>| {
            let mut state = self.state.write();
            state.check(fence)?;
            if let Some(record) = record(&state)? {
                last = state.commit(record)?;
                self.committed(&mut state);
            }
            Ok::<_, StoreError>(())
        };
        for (change, sequence) in &live.changes {
            write(&mut |state| {
                let still = state.still_says(change, *sequence)?;
                unrouted |= still.is_none() && state.is_met_by_unrouted(change, self.intake.settled())?;
                Ok(still.map(|change| Record::configured(&change, Some(since))))
            })?;
        }
        for id in &live.paced {
            write(&mut |state| {
                let pace = state.pace(*id)?;
                let is_known = pace.paused_until.is_some();
                Ok(is_known.then_some(Record::Paced { connection_id: *id, pace }))
            })?;
        }
        if live.opened {
            write(&mut |_| Ok(Some(Record::Opened { epoch: fence.0 })))?;
        }
        Ok((!unrouted).then_some(last))
    }

    async fn record(&self, place: Place) -> Result<Record, StoreError> {
        Ok(self.read(vec![place]).await.pop().expect("one answer for each place")?)
    }

    fn live_in(&self, fence: Fence, segment: &SegmentInfo, end: u64) -> Result<Live, StoreError> {
        let mut live = Live::default();
        for found in self.reader.scan(segment.first_sequence) {
            // What cannot be read may be needed: its segment stays.
            let (_, record) = found.map_err(|err| StoreError::Damaged(err.to_string()))?;
            if record.sequence >= end {
                break;
            }
            let (sequence, bytes) = (record.sequence, record.body.len() as u64);
            let state = self.state.read();
            let event = match Record::decode(&record.body)? {
                Record::Accepted(new) => new.event,
                Record::Carried(carried) => carried.new.event,
                Record::Configured { change, .. } => {
                    if state.still_says(&change, sequence)?.is_some() {
                        live.changes.push((change, sequence));
                    } else {
                        live.unrouted |= state.is_met_by_unrouted(&change, self.intake.settled())?;
                    }
                    continue;
                }
                Record::Opened { epoch } => {
                    live.opened |= epoch == fence.0;
                    continue;
                }
                Record::Paced { connection_id, .. } => {
                    live.paced.insert(connection_id);
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
    pub(super) async fn carry(
        &self,
        fence: Fence,
        workspace: WorkspaceId,
        event: EventId,
    ) -> Result<Option<u64>, StoreError> {
        // Payload and responses never change: they are read before the state is locked.
        let Some((stored, deliveries)) = self.state.read().event_whole(workspace, event)? else {
            return Ok(None);
        };
        let new = match self.record(stored.place).await? {
            Record::Accepted(new) => new,
            Record::Carried(carried) => carried.new,
            _ => return Err(StoreError::Damaged(format!("event {event} is not where it should be"))),
        };
        let newest =
            deliveries.iter().flat_map(|delivery| &delivery.attempts).filter_map(|kept| kept.response_at);
        self.durable(newest.chain(stored.unmatched_at).max().unwrap_or(0)).await?;
        let unmatched = match stored.unmatched_at {
            None => Vec::new(),
            Some(sequence) => match self.record(Place::of(sequence)).await? {
                Record::Routed { routed, .. } => routed.unmatched,
                Record::Carried(carried) => carried.unmatched,
                _ => Vec::new(),
            },
        };
        let (mut responses, mut room) = (HashMap::new(), RESPONSES_BYTES_MAX);
        for delivery in &deliveries {
            for attempt in delivery.attempts.iter().rev() {
                let Some(sequence) = attempt.response_at else { continue };
                let response = match self.record(Place::of(sequence)).await? {
                    Record::Attempted { attempted, .. } => attempted.response,
                    Record::Carried(carried) => carried.response(delivery.id, attempt.number),
                    _ => None,
                };
                let Some(response) = response else { continue };
                let headers = response.headers.iter().map(|(name, value)| name.len() + value.len());
                let bytes = response.body.len() + headers.sum::<usize>() + 64;
                if let Some(left) = room.checked_sub(bytes) {
                    room = left;
                    responses.insert((delivery.id, attempt.number), response);
                }
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
