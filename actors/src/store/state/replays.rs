//! Replays: what they find in history, what they queue, and how far each is.
//!
//! A page is looked for without a lock that anybody waits for, and then written in one record: how far the
//! replay is, and what that queued. So neither can be on disk without the other. Between the two a delivery
//! may have changed; what does not stand and end any more is not queued.

use super::{change::decode_json, *};
use crate::{
    domain::{
        replay::{self, AsOf, KEPT_MAX, Replay, ReplayFilter, ReplayOf, ReplayState, Skip, UNDER_WAY_MAX},
        routing::MATCHES_MAX,
    },
    store::{Again, ReplayFound, ReplayPage, ReplayStep, ReplayView},
};
use std::collections::BTreeMap;

/// Look-ups one page takes at most: writers wait for no longer than that.
const STEPS_MAX: usize = 256;

/// Lists of events, all in one workspace: events are in each of `all`, and in one of `any` if there are some.
struct Lists {
    all: Vec<Key>,
    any: Vec<Key>,
}

impl<V: View> State<V> {
    pub(super) fn check_replay_saved(&self, replay: &Replay) -> Result<(), StoreError> {
        let stored = self.row::<Replay>(&keys::replay(replay.id))?;
        if replay.version != stored.as_ref().map_or(0, |stored| stored.version) + 1 {
            return Err(Refusal::Stale("replay").into());
        }
        if stored.is_some() {
            return Ok(());
        }
        let workspace = replay.workspace_id;
        self.row::<Workspace>(&keys::workspace(workspace))?.ok_or(Refusal::NotFound("workspace"))?;
        let list = keys::replays_of(workspace);
        self.check_count(&list, KEPT_MAX, "replays; those that are over go with its retention")?;
        let mut open = 0;
        self.view.scan(&list, &keys::end_of(&list), Order::Descending, &mut |key, _| {
            let found = self.row::<Replay>(&keys::replay(ReplayId::from_bytes(keys::id_at_end(key))))?;
            open += usize::from(found.is_some_and(|found| !found.state.is_over()));
            Ok(open < UNDER_WAY_MAX)
        })?;
        if open < UNDER_WAY_MAX {
            return Ok(());
        }
        Err(Refusal::TooMany(UNDER_WAY_MAX, "replays at a time; let one finish, or cancel it").into())
    }

    pub(super) fn apply_replay(&mut self, replay: &Replay, at: u64) {
        self.view.put(keys::replay_of(replay.workspace_id, replay.id), Vec::new());
        if replay.is_under_way() {
            self.view.put(keys::replay_under_way(replay.id), Vec::new());
        } else {
            self.view.delete(keys::replay_under_way(replay.id));
        }
        self.save_row(keys::replay(replay.id), at, replay);
    }

    pub(super) fn delete_replay(&mut self, id: ReplayId) -> Result<(), StoreError> {
        if let Some(replay) = self.row::<Replay>(&keys::replay(id))? {
            self.view.delete(keys::replay_of(replay.workspace_id, id));
        }
        self.view.delete(keys::replay_under_way(id));
        self.view.delete(keys::replay(id));
        Ok(())
    }

    /// See [`Store::replay`].
    pub fn replay_view(&self, id: ReplayId) -> Result<Option<ReplayView>, StoreError> {
        let Some(replay) = self.row::<Replay>(&keys::replay(id))? else { return Ok(None) };
        let tally = match replay.outcome {
            Some(outcome) => outcome,
            None => self.load(&keys::replay_tally(id))?.unwrap_or_default(),
        };
        Ok(Some(ReplayView { replay, tally }))
    }

    /// See [`Store::replays`].
    pub fn replays(
        &self,
        workspace: WorkspaceId,
        after: Option<ReplayId>,
        limit: usize,
    ) -> Result<Page<ReplayView, ReplayId>, StoreError> {
        let list = keys::replays_of(workspace);
        let end = after.map_or_else(|| keys::end_of(&list), |id| keys::replay_of(workspace, id));
        let mut page = Page { records: Vec::new(), next: None };
        self.view.scan(&list, &end, Order::Descending, &mut |key, _| {
            if page.records.len() == limit {
                page.next = page.records.last().map(|last: &ReplayView| last.replay.id);
                return Ok(false);
            }
            page.records.extend(self.replay_view(ReplayId::from_bytes(keys::id_at_end(key)))?);
            Ok(true)
        })?;
        Ok(page)
    }

    /// See [`Store::replays_under_way`].
    pub fn replays_under_way(
        &self,
        after: Option<ReplayId>,
        limit: usize,
    ) -> Result<Vec<ReplayView>, StoreError> {
        let from = after.map_or_else(|| vec![b'Y'], |id| keys::end_of(&keys::replay_under_way(id)));
        let mut found = Vec::new();
        self.view.scan(&from, b"Z", Order::Ascending, &mut |key, _| {
            found.extend(self.replay_view(ReplayId::from_bytes(keys::id_at_end(key)))?);
            Ok(found.len() < limit)
        })?;
        Ok(found)
    }

    /// See [`Store::replay_page`].
    pub fn replay_page(
        &self,
        workspace: WorkspaceId,
        filter: &ReplayFilter,
        as_of: AsOf,
        from: Option<EventId>,
        limit: usize,
    ) -> Result<ReplayPage, StoreError> {
        let (first, end) = filter.bounds();
        let (mut from, lists) = (Some(from.map_or(first, |from| from.max(first))), lists(workspace, filter));
        let (mut found, mut steps, mut takes) = (Vec::new(), 0, BTreeMap::new());
        while let Some(at) = from {
            if found.len() >= limit || steps >= STEPS_MAX {
                return Ok(ReplayPage { found, next: Some(at) });
            }
            let (id, is_in_all) = match self.oldest_in_all(&lists, at, end, &mut steps)? {
                Some(oldest) => oldest,
                None => break,
            };
            if !is_in_all {
                from = Some(id);
                continue;
            }
            from = id.next();
            let stored = match filter.leaves_out_tests() && id.is_test() {
                true => None,
                false => self.stored_event(workspace, id)?,
            };
            let is_named = |event: &Event| filter.event.as_ref().is_none_or(|name| *name == event.name);
            let Some(stored) = stored.filter(|stored| is_named(&stored.event)) else { continue };
            let deliveries = self.deliveries(workspace, id)?;
            steps += deliveries.len();
            for delivery in replay::standing(&deliveries).filter(|delivery| filter.passes(delivery)) {
                let skip = self.why_not(delivery, as_of, &mut takes)?;
                let Delivery { id, rule_id, connection_id, .. } = *delivery;
                let event = stored.event.clone();
                found.push(ReplayFound { event, delivery_id: id, rule_id, connection_id, skip });
            }
        }
        Ok(ReplayPage { found, next: None })
    }

    /// Why a delivery that passed is not to be done again, as far as its payload is not needed to say so.
    fn why_not(
        &self,
        delivery: &Delivery,
        as_of: AsOf,
        takes: &mut BTreeMap<ConnectionId, Option<Skip>>,
    ) -> Result<Option<Skip>, StoreError> {
        if !delivery.status.is_final() {
            return Ok(Some(Skip::Unfinished));
        }
        let id = delivery.connection_id;
        let skip = match takes.get(&id) {
            Some(known) => *known,
            None => {
                let skip = match self.row::<Connection>(&keys::connection(id))? {
                    None => Some(Skip::ConnectionDeleted),
                    Some(Connection { inactive: Some(_), .. }) => Some(Skip::ConnectionInactive),
                    Some(Connection { paused: true, .. }) => Some(Skip::ConnectionPaused),
                    Some(_) => None,
                };
                *takes.entry(id).or_insert(skip)
            }
        };
        if skip.is_some() || as_of == AsOf::Then {
            return Ok(skip);
        }
        Ok(match self.row::<Rule>(&keys::rule(delivery.rule_id))? {
            None => Some(Skip::RuleDeleted),
            Some(rule) => (!rule.active).then_some(Skip::RuleInactive),
        })
    }

    /// The oldest event from `from` on and before `end` that is in the lists; or one before which there is none.
    fn oldest_in_all(
        &self,
        lists: &Lists,
        from: EventId,
        end: Option<EventId>,
        steps: &mut usize,
    ) -> Result<Option<(EventId, bool)>, StoreError> {
        let (mut at, mut agreed) = (from, 0);
        let count = lists.all.len() + usize::from(!lists.any.is_empty());
        let mut next = 0;
        while agreed < count {
            if *steps >= STEPS_MAX {
                return Ok(Some((at, false)));
            }
            let found = match lists.all.get(next) {
                Some(list) => {
                    *steps += 1;
                    self.oldest_from(list, at, end)?
                }
                None => {
                    *steps += lists.any.len();
                    let mut oldest = None;
                    for list in &lists.any {
                        oldest = oldest.into_iter().chain(self.oldest_from(list, at, end)?).min();
                    }
                    oldest
                }
            };
            let Some(found) = found else { return Ok(None) };
            agreed = if found == at { agreed + 1 } else { 1 };
            at = found;
            next = (next + 1) % count;
        }
        Ok(Some((at, true)))
    }

    fn oldest_from(
        &self,
        list: &[u8],
        from: EventId,
        end: Option<EventId>,
    ) -> Result<Option<EventId>, StoreError> {
        let end = end.map_or_else(|| keys::end_of(list), |end| keys::under(list, end));
        let mut oldest = None;
        self.view.scan(&keys::under(list, from), &end, Order::Ascending, &mut |key, _| {
            oldest = Some(EventId::from_bytes(keys::id_at_end(key)));
            Ok(false)
        })?;
        Ok(oldest)
    }

    /// See [`Store::record_replayed`].
    pub fn record_replayed(&mut self, step: ReplayStep) -> Result<Replay, StoreError> {
        let ReplayStep { mut replay, again, at } = step;
        let stored = self.row::<Replay>(&keys::replay(replay.id))?.ok_or(Refusal::NotFound("replay"))?;
        if replay.version != stored.version + 1 || stored.state != ReplayState::Running {
            return Err(Refusal::Stale("replay").into());
        }
        let (mut kept, mut of_event) = (Vec::with_capacity(again.len()), None::<(EventId, usize, usize)>);
        for one in again {
            let deliveries = self.deliveries(replay.workspace_id, one.event_id)?;
            let Some(source) = replay::standing(&deliveries).find(|it| it.id == one.delivery_id) else {
                replay.counts.skipped.add(Skip::Unfinished);
                continue;
            };
            let bytes = one.matched.as_ref().unwrap_or(&matched_then(source)).bytes();
            let (count, whole) = match of_event {
                Some((event, count, whole)) if event == one.event_id => (count, whole),
                _ => (deliveries.len(), deliveries.iter().map(|it| matched_then(it).bytes()).sum()),
            };
            let is_full = count >= MATCHES_MAX || whole + bytes > MATCHES_BYTES_MAX;
            if is_full || !source.status.is_final() {
                of_event = Some((one.event_id, count, whole));
                replay.counts.skipped.add(if is_full { Skip::EventFull } else { Skip::Unfinished });
                continue;
            }
            of_event = Some((one.event_id, count + 1, whole + bytes));
            kept.push(one);
        }
        replay.counts.queued += kept.len() as u64;
        let text =
            serde_json::to_string(&replay).expect("a replay has string keys and no failing serializer");
        self.commit(Record::Replayed { replay: text, again: kept, at })?;
        Ok(replay)
    }

    pub(super) fn apply_replayed(
        &mut self,
        replay: &str,
        again: Vec<Again>,
        made_at: Timestamp,
        sequence: u64,
    ) -> Result<(), StoreError> {
        let replay: Replay = decode_json(replay.as_bytes())?;
        self.apply_replay(&replay, sequence);
        for Again { event_id, delivery_id, matched } in again {
            // Read back, the event may have been carried elsewhere, and these deliveries with it.
            let Some(mut stored) = self.stored_event(replay.workspace_id, event_id)? else { continue };
            let deliveries = self.deliveries(replay.workspace_id, event_id)?;
            let Some(source) = deliveries.iter().find(|it| it.id == delivery_id) else { continue };
            let first = source.replay.map_or(source.id, |it| it.first);
            let id = first.again(replay.id);
            if deliveries.iter().any(|it| it.id == id) {
                continue;
            }
            let of_rule = deliveries.iter().filter(|it| it.rule_id == source.rule_id);
            let number = 1 + of_rule.filter_map(|it| it.replay).map(|it| it.number).max().unwrap_or(0);
            let Matched { rule_id, connection_id, destination, action, created_by } =
                matched.unwrap_or_else(|| matched_then(source));
            let delivery = Delivery {
                id,
                event_id,
                workspace_id: replay.workspace_id,
                rule_id,
                connection_id,
                destination,
                action,
                created_by,
                created_at: made_at,
                status: Status::Pending,
                due: made_at,
                attempt_count: 0,
                tries_used: 0,
                started_at: None,
                completed_at: None,
                last_error: None,
                notes: None,
                attempts: Vec::new(),
                replay: Some(ReplayOf { first, replay: replay.id, number }),
            };
            let before = stored.status();
            let stands = replay::standing(&deliveries).find(|it| it.rule_id == rule_id);
            stored.tally.shift(stands.map_or(Status::Pending, |it| it.status), Status::Pending);
            stored.completed_at = None;
            self.enqueue(&delivery)?;
            self.save_new_delivery(&delivery);
            self.shift_replay(&delivery, None, Some(Status::Pending))?;
            self.save_event(&stored, before);
        }
        Ok(())
    }

    /// Keeps up what a delivery's replay counts, where it is one: it stood there, and stands here by now.
    pub(super) fn shift_replay(
        &mut self,
        delivery: &Delivery,
        from: Option<Status>,
        to: Option<Status>,
    ) -> Result<(), StoreError> {
        let Some(ReplayOf { replay, .. }) = delivery.replay else { return Ok(()) };
        let key = keys::replay_tally(replay);
        let mut tally = self.load::<Tally>(&key)?.unwrap_or_default();
        tally.shift(from.unwrap_or(Status::Pending), to.unwrap_or(Status::Pending));
        tally.total = match (from, to) {
            (None, Some(_)) => tally.total + 1,
            (Some(_), None) => tally.total.saturating_sub(1),
            _ => tally.total,
        };
        if tally.total == 0 {
            self.view.delete(key);
        } else {
            self.save(key, &tally);
        }
        Ok(())
    }

    /// See [`Store::cancel_replayed`].
    pub fn cancel_replayed(
        &mut self,
        workspace: WorkspaceId,
        replay: ReplayId,
        at: Timestamp,
        after: Option<Key>,
        limit: usize,
    ) -> Result<Option<Key>, StoreError> {
        let all = keys::lower_queues_of(workspace);
        let from = after.map_or_else(|| all.clone(), |key| [&key[..], &[0]].concat());
        let (mut found, mut last, mut looked_at) = (Vec::new(), None, 0);
        self.view.scan(&from, &keys::end_of(&all), Order::Ascending, &mut |key, value| {
            found.push(keys::due_entry(key, value));
            looked_at += 1;
            last = (looked_at >= limit).then(|| key.to_vec());
            Ok(last.is_none())
        })?;
        for entry in found {
            let delivery = self.load_delivery(workspace, entry.event_id, entry.delivery_id)?;
            let is_of_it = delivery.is_some_and(|it| it.replay.is_some_and(|of| of.replay == replay));
            if is_of_it && !self.claims.deliveries.contains_key(&entry.delivery_id) {
                self.commit(Record::Canceled {
                    workspace_id: workspace,
                    event_id: entry.event_id,
                    deliveries: vec![entry.delivery_id],
                    at,
                    reason: "its replay was canceled".to_owned(),
                })?;
            }
        }
        Ok(last)
    }

    /// The change that says today what a step made by the record `sequence` said of its replay: `None` if it is
    /// superseded.
    pub fn still_replays(&self, replay: &str, sequence: u64) -> Result<Option<String>, StoreError> {
        let change = Change::SaveReplay(Box::new(decode_json(replay.as_bytes())?));
        let text =
            serde_json::to_string(&change).expect("a change has string keys and no failing serializer");
        Ok(self.still_says(&text, sequence)?.map(|_| text))
    }

    /// Replays of a workspace that were over before `cutoff`.
    pub fn replays_past(
        &self,
        workspace: WorkspaceId,
        cutoff: Timestamp,
    ) -> Result<Vec<ReplayId>, StoreError> {
        let (list, mut past) = (keys::replays_of(workspace), Vec::new());
        self.view.scan(&list, &keys::end_of(&list), Order::Ascending, &mut |key, _| {
            let id = ReplayId::from_bytes(keys::id_at_end(key));
            let found = self.row::<Replay>(&keys::replay(id))?;
            let is_past = |replay: &Replay| {
                replay.outcome.is_some() && replay.ended_at.is_some_and(|ended_at| ended_at < cutoff)
            };
            past.extend(found.filter(is_past).map(|replay| replay.id));
            Ok(true)
        })?;
        Ok(past)
    }
}

/// The lists whose events may have a delivery that passes.
fn lists(workspace: WorkspaceId, filter: &ReplayFilter) -> Lists {
    let mut lists = Lists { all: Vec::new(), any: Vec::new() };
    lists.all.extend(filter.event.as_deref().map(|name| keys::filtered(workspace, Filter::Name(name))));
    // An event that waits elsewhere may have failed here; one that failed may have been called off here.
    let statuses: &[Status] = match filter.status {
        Some(Status::Failed) => &[Status::Failed, Status::Pending, Status::Retrying],
        Some(Status::Canceled) => &[Status::Canceled, Status::Failed, Status::Pending, Status::Retrying],
        _ => &[],
    };
    lists.any.extend(statuses.iter().map(|status| keys::filtered(workspace, Filter::Status(*status))));
    if lists.all.is_empty() && lists.any.is_empty() {
        lists.all.push(keys::events_of(workspace));
    }
    lists
}

/// What a delivery does, as it was made.
fn matched_then(delivery: &Delivery) -> Matched {
    let Delivery { rule_id, connection_id, destination, action, created_by, .. } = delivery;
    Matched {
        rule_id: *rule_id,
        connection_id: *connection_id,
        destination: destination.clone(),
        action: action.clone(),
        created_by: created_by.clone(),
    }
}
