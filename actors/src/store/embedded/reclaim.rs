//! Gives back the space of old segments: what is still needed is carried forward first.
//!
//! Segments go oldest first. By then every record in one either says something about an event whose
//! own record is in it too, or was carried forward with it, or is superseded. So what has to be
//! carried is: events that are still kept, with all that became of them, rows of configuration
//! whose newest record lies here, what the audit log says of it, and what was counted here.
//!
//! A segment that is needed whole must not keep all that come after it. So it is not the oldest that
//! decides but the oldest few together: as soon as half of what they hold is needed at most, they go.
//! That costs no more than it gives back, and keeps the journal within about twice of what is needed.

use super::{
    JournalLog,
    committer::Intake,
    journal::{Reader, SegmentInfo},
    view::IndexView,
};
use crate::{
    domain::{
        delivery::{Delivery, ResponseDetails},
        ids::{ConnectionId, DeliveryId, EventId, WorkspaceId},
    },
    store::{
        Fence, StoreError, Unavailable,
        ledger::Log,
        state::{
            Place, State,
            record::{Carried, RECORD_BYTES_MAX, Record},
            usage::{self, UsageKey},
        },
    },
};
use parking_lot::RwLock;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// Of the bytes of the oldest segments, the share that may have to be carried for it to be worth while.
const LIVE_SHARE_MAX: f64 = 0.5;

/// Bytes of segments that one pass looks through; of others it goes by what an earlier one found.
const LOOK_BYTES_MAX: u64 = 1 << 30;

/// Bytes that one pass carries, about.
const CARRY_BYTES_MAX: u64 = 256 << 20;

/// Bytes of the responses carried with an event; the oldest beyond are forgotten.
const RESPONSES_BYTES_MAX: usize = 2 << 20;

/// Rows of usage in one record.
const USED_PER_RECORD_MAX: usize = 1_024;

/// Looks at the state, and makes a record of what it sees.
type Look<'a> = &'a mut dyn FnMut(&State<IndexView>) -> Result<Option<Record>, StoreError>;

/// What lives in a segment.
#[derive(Default)]
struct Live {
    events: Vec<(WorkspaceId, EventId)>,
    /// Changes of configuration that still hold, and the records they are from.
    changes: Vec<(String, u64)>,
    /// Entries of the audit log.
    audit: Vec<(String, u64)>,
    paced: BTreeSet<ConnectionId>,
    /// Rows of usage that a record here counts for, or tells: too small to weigh anything.
    used: BTreeSet<UsageKey>,
    /// The record that says who owns the store is here.
    opened: bool,
    /// An event that is not routed yet must meet the rules as they stand here.
    unrouted: bool,
    /// What carrying it writes, about.
    bytes: u64,
}

/// How much was found to live in segments. By now it is hardly more, and may be less.
#[derive(Default)]
pub struct Survey {
    passes: u64,
    known: BTreeMap<u64, Known>,
}

#[derive(Clone, Copy)]
struct Known {
    live_bytes: u64,
    /// The pass that looked.
    pass: u64,
}

/// A segment whose every record is in the index, and the sequence it ends before.
#[derive(Clone, Copy)]
struct Sealed {
    segment: SegmentInfo,
    end: u64,
}

impl JournalLog {
    pub(super) async fn reclaim_segments(&self, fence: Fence) -> Result<(), StoreError> {
        let mut survey = self.survey.lock().await;
        survey.passes += 1;
        let (mut to_look, mut to_carry) = (LOOK_BYTES_MAX, CARRY_BYTES_MAX);
        while self.is_worth_while(fence, &mut survey, &mut to_look).await? {
            let Some(oldest) = self.sealed().first().copied() else { return Ok(()) };
            let live = self.live_in(fence, oldest).await?;
            if live.unrouted {
                return Ok(());
            }
            let Some(mut last) = self.carry_configuration(fence, &live, oldest.segment.first_sequence)?
            else {
                return Ok(());
            };
            for (workspace, event) in live.events {
                self.room().await?;
                last = self.carry(fence, workspace, event).await?.unwrap_or(0).max(last);
            }
            last = self.carry_usage(fence, live.used).await?.max(last);
            self.durable(last).await?;
            if !self.intake.remove(oldest.segment.id).await {
                return Ok(());
            }
            survey.known.remove(&oldest.segment.id);
            let Some(left) = to_carry.checked_sub(live.bytes) else { return Ok(()) };
            to_carry = left;
        }
        Ok(())
    }

    /// Segments that could go, oldest first.
    fn sealed(&self) -> Vec<Sealed> {
        let (segments, checkpointed) = (self.reader.segments(), self.trust.checkpointed());
        let pairs = segments.windows(2).map(|pair| Sealed { segment: pair[0], end: pair[1].first_sequence });
        pairs.take_while(|sealed| sealed.end <= checkpointed).collect()
    }

    /// Whether the oldest segments hold so little that is needed that they had better go.
    async fn is_worth_while(
        &self,
        fence: Fence,
        survey: &mut Survey,
        to_look: &mut u64,
    ) -> Result<bool, StoreError> {
        let sealed = self.sealed();
        loop {
            let (mut live, mut all) = (0, 0);
            let mut next = None;
            for one in &sealed {
                let Some(known) = survey.known.get(&one.segment.id) else {
                    next = Some(*one);
                    break;
                };
                (live, all) = (live + known.live_bytes, all + one.segment.bytes);
                if live as f64 <= all as f64 * LIVE_SHARE_MAX {
                    return Ok(true);
                }
            }
            // All are known, but perhaps from long ago: the one looked at longest ago may have changed most.
            let pass_of = |one: &Sealed| survey.known.get(&one.segment.id).map_or(0, |known| known.pass);
            let stale = sealed.iter().copied().filter(|one| pass_of(one) < survey.passes);
            let Some(next) = next.or_else(|| stale.min_by_key(pass_of)) else { return Ok(false) };
            let Some(left) = to_look.checked_sub(next.segment.bytes) else { return Ok(false) };
            *to_look = left;
            let live_bytes = self.live_in(fence, next).await?.bytes;
            survey.known.insert(next.segment.id, Known { live_bytes, pass: survey.passes });
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
        for (entry, sequence) in &live.audit {
            write(&mut |state| {
                let record = Record::Audited { entry: entry.clone(), record: Box::new(Record::Void) };
                Ok(state.keeps_audit(entry, *sequence)?.then_some(record))
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

    /// Tells anew what was used.
    async fn carry_usage(&self, fence: Fence, used: BTreeSet<UsageKey>) -> Result<u64, StoreError> {
        let (used, mut last) = (Vec::from_iter(used), 0);
        for few in used.chunks(USED_PER_RECORD_MAX) {
            let few = few.to_vec();
            // An event that has its sequence and is not counted yet would be counted by neither.
            let told = self.intake.between(move |state| {
                state.check(fence)?;
                state.tell_usage(&few)
            });
            last = told.await.ok_or(StoreError::Unavailable(Unavailable::Closing))??.unwrap_or(0).max(last);
        }
        Ok(last)
    }

    async fn live_in(&self, fence: Fence, sealed: Sealed) -> Result<Live, StoreError> {
        let (state, reader, intake) = (self.state.clone(), self.reader.clone(), self.intake.clone());
        tokio::task::spawn_blocking(move || live_in(&state, &reader, &intake, fence, sealed))
            .await
            .unwrap_or_else(|err| Err(StoreError::Damaged(format!("reading the journal failed: {err}"))))
    }

    async fn record(&self, place: Place) -> Result<Record, StoreError> {
        Ok(self.read(vec![place]).await.pop().expect("one answer for each place")?)
    }

    /// The responses kept of an event's attempts, the newest of them where all are too large.
    async fn responses(&self, deliveries: &[Delivery]) -> Result<Responses, StoreError> {
        // One record may hold many of them.
        let mut wanted = BTreeMap::<u64, Vec<(DeliveryId, u32)>>::new();
        for delivery in deliveries {
            for attempt in &delivery.attempts {
                if let Some(sequence) = attempt.response_at {
                    wanted.entry(sequence).or_default().push((delivery.id, attempt.number));
                }
            }
        }
        let (mut kept, mut room) = (Responses::new(), RESPONSES_BYTES_MAX);
        for (sequence, mut wanted) in wanted.into_iter().rev() {
            let mut found: Responses = match self.record(Place::of(sequence)).await? {
                Record::Attempted { attempted, .. } => {
                    wanted.iter().copied().zip(attempted.response).collect()
                }
                Record::Carried(carried) => {
                    carried.responses.into_iter().map(|(id, number, kept)| ((id, number), kept)).collect()
                }
                _ => Responses::new(),
            };
            wanted.sort_unstable_by_key(|(_, number)| Reverse(*number));
            for one in wanted {
                let Some(response) = found.remove(&one) else { continue };
                let Some(left) = room.checked_sub(Carried::response_bytes(&response)) else {
                    return Ok(kept);
                };
                room = left;
                kept.insert(one, response);
            }
        }
        Ok(kept)
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
        let responses = self.responses(&deliveries).await?;
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
        let mut carried = Carried {
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
        carried.fit(RECORD_BYTES_MAX);
        let sequence = state.commit(Record::Carried(Box::new(carried)))?;
        self.committed(&mut state);
        Ok(Some(sequence))
    }
}

/// Responses by delivery and number of the attempt.
type Responses = HashMap<(DeliveryId, u32), ResponseDetails>;

/// Looks through a segment for what is still needed.
fn live_in(
    state: &Arc<RwLock<State<IndexView>>>,
    reader: &Reader,
    intake: &Intake,
    fence: Fence,
    sealed: Sealed,
) -> Result<Live, StoreError> {
    let mut live = Live::default();
    for found in reader.scan(sealed.segment.first_sequence) {
        // What cannot be read may be needed: its segment stays.
        let (_, record) = found.map_err(|err| StoreError::Damaged(err.to_string()))?;
        if record.sequence >= sealed.end {
            break;
        }
        let (sequence, mut bytes) = (record.sequence, record.body.len() as u64);
        let state = state.read();
        let mut record = Record::decode(&record.body)?;
        if let Record::Audited { entry, record: done } = record {
            bytes = bytes.saturating_sub(entry.len() as u64);
            if state.keeps_audit(&entry, sequence)? {
                live.bytes += entry.len() as u64;
                live.audit.push((entry, sequence));
            }
            record = *done;
        }
        live.used.extend(usage::counts(&record).map(|(key, _)| key));
        let event = match record {
            Record::Accepted(new) => new.event,
            Record::Carried(carried) => carried.new.event,
            Record::Configured { change, .. } => {
                if state.still_says(&change, sequence)?.is_some() {
                    live.changes.push((change, sequence));
                    live.bytes += bytes;
                } else {
                    live.unrouted |= state.is_met_by_unrouted(&change, intake.settled())?;
                }
                continue;
            }
            Record::Replayed { replay, .. } => {
                if let Some(change) = state.still_replays(&replay, sequence)? {
                    live.bytes += change.len() as u64;
                    live.changes.push((change, sequence));
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
            Record::Used(rows) => {
                live.used.extend(rows.iter().map(|row| (row.workspace_id, row.day)));
                continue;
            }
            // Their responses and reasons are carried with their event.
            Record::Attempted { workspace_id, attempted } if attempted.response.is_some() => {
                live.bytes +=
                    if state.keeps_response(workspace_id, &attempted, sequence)? { bytes } else { 0 };
                continue;
            }
            Record::Routed { workspace_id, routed } if !routed.unmatched.is_empty() => {
                let is_kept = state.keeps_reasons(workspace_id, routed.event_id, sequence)?;
                live.bytes += if is_kept { bytes } else { 0 };
                continue;
            }
            _ => continue,
        };
        if let Some((stored, rows_bytes)) = state.kept_at(&event, sequence)? {
            live.events.push((event.workspace_id, event.id));
            live.unrouted |= !stored.routed;
            live.bytes += bytes + rows_bytes;
        }
    }
    Ok(live)
}
