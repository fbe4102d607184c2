//! Replays, in the same plain words: what a model remembers of them, what happens to them, and what there is
//! to see.

use super::{
    look::{scopes, walk},
    model::{Kept, Model, call_off},
    run::{Run, name, nth},
    steps::Nth,
    stores::Subject,
    *,
};
use crate::domain::{
    delivery::Outcome,
    replay::{AsOf, KEPT_MAX, ReplayOf, UNDER_WAY_MAX},
};
use std::collections::BTreeSet;

impl Kept {
    /// Of each rule the delivery that was made last and was not called off, or else the first.
    pub fn standing(&self) -> Vec<&Delivery> {
        let rules: BTreeSet<RuleId> = self.deliveries.keys().map(|(rule, _)| *rule).collect();
        let of_rule = |rule: &RuleId| {
            let replays = self.deliveries.range((*rule, 1)..=(*rule, u32::MAX)).rev();
            let mut replays = replays.map(|(_, delivery)| delivery);
            let newest = replays.find(|delivery| delivery.status != Status::Canceled);
            newest.unwrap_or(&self.deliveries[&(*rule, 0)])
        };
        rules.iter().map(of_rule).collect()
    }

    /// All deliveries: of each rule the one that stands, then newest first those that do not, and last those
    /// replays that were called off.
    pub fn shown(&self) -> Vec<Delivery> {
        let mut shown = Vec::new();
        for stands in self.standing() {
            let of_rule = self.deliveries.range((stands.rule_id, 0)..=(stands.rule_id, u32::MAX)).rev();
            let others = of_rule.map(|(_, delivery)| delivery).filter(|delivery| delivery.id != stands.id);
            let is_off = |it: &&Delivery| it.replay.is_some() && it.status == Status::Canceled;
            let (off, others): (Vec<_>, Vec<_>) = others.partition(is_off);
            shown.extend([stands].into_iter().chain(others).chain(off).cloned());
        }
        shown
    }

    /// What the deliveries go by: their rules, and their own ids.
    pub fn names(&self) -> Vec<RuleId> {
        let own = self.deliveries.values().map(|delivery| RuleId::from_bytes(*delivery.id.as_bytes()));
        self.deliveries.keys().map(|(rule, _)| *rule).chain(own).collect()
    }

    /// The delivery of a rule, or with that id.
    pub fn named(&self, rule: RuleId) -> Option<((RuleId, u32), Delivery)> {
        let stands = self.standing().into_iter().find(|it| it.rule_id == rule).map(|it| it.id);
        let id = stands.unwrap_or(DeliveryId::from_bytes(*rule.as_bytes()));
        let found = self.deliveries.iter().find(|(_, delivery)| delivery.id == id)?;
        Some((*found.0, found.1.clone()))
    }
}

impl Model {
    pub fn save_replay(&mut self, replay: Replay) -> Result<(), Refusal> {
        let version = self.replays.get(&replay.id).map_or(0, |stored| stored.version);
        if replay.version != version + 1 {
            return Err(Refusal::Stale("replay"));
        }
        if version == 0 {
            self.workspaces.get(&replay.workspace_id).ok_or(Refusal::NotFound("workspace"))?;
            let of_it = self.replays.values().filter(|other| other.workspace_id == replay.workspace_id);
            assert!(of_it.clone().count() < KEPT_MAX, "no case makes so many");
            if of_it.filter(|other| !other.state.is_over()).count() >= UNDER_WAY_MAX {
                let what = "replays at a time; let one finish, or cancel it";
                return Err(Refusal::TooMany(UNDER_WAY_MAX, what));
            }
        }
        self.replays.insert(replay.id, replay);
        Ok(())
    }

    /// Those that were over before their workspace's retention began.
    pub fn forget_replays(&mut self, now: Timestamp, default_days: u32) {
        let mut past = BTreeSet::new();
        for replay in self.replays.values().filter(|replay| replay.outcome.is_some()) {
            let cutoff = self.cutoff(replay.workspace_id, now, default_days);
            past.extend((replay.ended_at < Some(cutoff)).then_some(replay.id));
        }
        self.replays.retain(|id, _| !past.contains(id));
    }

    fn replay_view(&self, replay: &Replay) -> ReplayView {
        let of_it = |delivery: &&Delivery| delivery.replay.is_some_and(|of| of.replay == replay.id);
        let made: Vec<_> =
            self.events.values().flat_map(|kept| kept.deliveries.values()).filter(of_it).collect();
        let count = |status| made.iter().filter(|delivery| delivery.status == status).count() as u32;
        let tally = Tally {
            total: made.len() as u32,
            retrying: count(Status::Retrying),
            completed: count(Status::Completed),
            failed: count(Status::Failed),
            canceled: count(Status::Canceled),
        };
        ReplayView { replay: replay.clone(), tally: replay.outcome.unwrap_or(tally) }
    }

    /// See [`Store::replay_page`]: all there is from an event on.
    fn replay_found(
        &self,
        workspace: WorkspaceId,
        filter: &ReplayFilter,
        as_of: AsOf,
        from: Option<EventId>,
    ) -> Vec<ReplayFound> {
        let mut found = Vec::new();
        let of_it = self.events.values().filter(|kept| kept.new.event.workspace_id == workspace);
        for kept in of_it {
            let event = &kept.new.event;
            let is_in_time = filter.from.is_none_or(|from| event.accepted_at >= from)
                && filter.to.is_none_or(|to| event.accepted_at < to);
            let is_meant = filter.event_id.is_none_or(|id| id == event.id)
                && filter.event.as_ref().is_none_or(|name| *name == event.name);
            if !is_in_time || !is_meant || from.is_some_and(|from| event.id < from) {
                continue;
            }
            for delivery in kept.standing() {
                let last = delivery.attempts.last().map(|attempt| attempt.outcome);
                let passes = filter.connection.is_none_or(|id| id == delivery.connection_id)
                    && filter.rule.is_none_or(|id| id == delivery.rule_id)
                    && filter.status.is_none_or(|status| status == delivery.status)
                    && (filter.outcome.is_none() || filter.outcome == last);
                found.extend(passes.then(|| ReplayFound {
                    event: event.clone(),
                    delivery_id: delivery.id,
                    rule_id: delivery.rule_id,
                    connection_id: delivery.connection_id,
                    skip: self.why_not(delivery, as_of),
                }));
            }
        }
        found
    }

    fn why_not(&self, delivery: &Delivery, as_of: AsOf) -> Option<Skip> {
        if !delivery.status.is_final() {
            return Some(Skip::Unfinished);
        }
        let Some(connection) = self.connections.get(&delivery.connection_id) else {
            return Some(Skip::ConnectionDeleted);
        };
        match (self.rules.get(&delivery.rule_id), as_of) {
            _ if connection.inactive.is_some() => Some(Skip::ConnectionInactive),
            _ if connection.paused => Some(Skip::ConnectionPaused),
            (_, AsOf::Then) => None,
            (None, AsOf::Now) => Some(Skip::RuleDeleted),
            (Some(rule), AsOf::Now) => (!rule.active).then_some(Skip::RuleInactive),
        }
    }

    /// See [`Store::record_replayed`].
    fn record_replayed(&mut self, step: ReplayStep) -> Result<Replay, Refusal> {
        let ReplayStep { mut replay, again, at } = step;
        let stored = self.replays.get(&replay.id).ok_or(Refusal::NotFound("replay"))?;
        if replay.version != stored.version + 1 || stored.state != ReplayState::Running {
            return Err(Refusal::Stale("replay"));
        }
        for Again { event_id, delivery_id, matched } in again {
            let kept = self.events.get_mut(&event_id);
            let stands = kept.as_ref().and_then(|kept| {
                kept.standing().into_iter().find(|it| it.id == delivery_id && it.status.is_final()).cloned()
            });
            let (Some(kept), Some(stands)) = (kept, stands) else {
                replay.counts.skipped.add(Skip::Unfinished);
                continue;
            };
            let number = kept.deliveries.keys().filter(|(rule, _)| *rule == stands.rule_id).count() as u32;
            let first = kept.deliveries[&(stands.rule_id, 0)].id;
            let made = Delivery {
                id: first.again(replay.id),
                action: matched.map_or(stands.action, |matched| matched.action),
                created_at: at,
                status: Status::Pending,
                due: at,
                attempt_count: 0,
                tries_used: 0,
                started_at: None,
                completed_at: None,
                last_error: None,
                notes: None,
                attempts: Vec::new(),
                replay: Some(ReplayOf { first, replay: replay.id, number }),
                ..stands
            };
            kept.deliveries.insert((made.rule_id, number), made);
            replay.counts.queued += 1;
            if !event_id.is_test() {
                self.used(replay.workspace_id, at).deliveries += 1;
            }
        }
        self.replays.insert(replay.id, replay.clone());
        Ok(replay)
    }

    /// See [`Store::cancel_replayed`].
    fn cancel_replayed(&mut self, replay: ReplayId, at: Timestamp) {
        for delivery in self.events.values_mut().flat_map(|kept| kept.deliveries.values_mut()) {
            let is_of_it = delivery.replay.is_some_and(|of| of.replay == replay);
            let is_in_flight = self.in_flight.contains_key(&delivery.id);
            if is_of_it && !delivery.status.is_final() && !is_in_flight {
                call_off(delivery, at, Some("its replay was canceled"));
            }
        }
    }
}

/// All questions that a filter of replays can be.
fn replay_filters(model: &Model) -> Vec<ReplayFilter> {
    let any = ReplayFilter::default();
    let mut filters = vec![any.clone()];
    for status in [Status::Completed, Status::Failed, Status::Canceled] {
        let status = Some(status);
        filters.push(ReplayFilter { status, ..any.clone() });
        filters.push(ReplayFilter { status, event: Some(name(0)), ..any.clone() });
    }
    filters.push(ReplayFilter { event: Some(name(1)), ..any.clone() });
    filters.push(ReplayFilter { outcome: Some(Outcome::NetworkError), ..any.clone() });
    filters.push(ReplayFilter { rule: model.ever.rules.first().copied(), ..any.clone() });
    filters.push(ReplayFilter { connection: model.ever.connections.first().copied(), ..any.clone() });
    let times: Vec<_> = model.events.values().map(|kept| kept.new.event.accepted_at).collect();
    let middle = times.get(times.len() / 2).copied();
    filters.push(ReplayFilter { from: middle, ..any.clone() });
    filters.push(ReplayFilter { to: middle, status: Some(Status::Failed), ..any.clone() });
    let newest = model.ever.events.last().map(|(_, _, id)| *id);
    filters.push(ReplayFilter { event_id: newest, ..any });
    filters
}

impl<S: Subject> Run<S> {
    fn nth_replay(&self, number: Nth) -> Option<Replay> {
        nth(&self.model.replays.values().cloned().collect::<Vec<_>>(), number)
    }

    pub async fn create_replay(&mut self, workspace: Nth, filter: u8, is_now: bool) {
        let workspaces: Vec<_> = self.model.workspaces.values().cloned().collect();
        let Some(of) = nth(&workspaces, workspace) else { return };
        let filter = nth(&replay_filters(&self.model), filter.into()).expect("there are some");
        let (id, now) = (ReplayId::from_uuid(self.model.new_id()), self.model.now);
        let replay = Replay {
            id,
            organization_id: of.organization_id,
            workspace_id: of.id,
            filter,
            as_of: if is_now { AsOf::Now } else { AsOf::Then },
            rate_per_second: 0.5,
            state: ReplayState::Running,
            expected: None,
            cursor: None,
            is_queued: false,
            counts: Default::default(),
            outcome: None,
            created_by: "test".to_owned(),
            created_at: now,
            updated_at: now,
            ended_at: None,
            version: 1,
        };
        self.save_replay(replay).await;
    }

    pub async fn tell_replay(&mut self, replay: Nth, to: u8, is_stale: bool) {
        let Some(mut replay) = self.nth_replay(replay) else { return };
        use ReplayState::{Canceled, Counting, Finished, Paused, Running};
        replay.state = [Counting, Running, Paused, Canceled, Finished][usize::from(to) % 5];
        replay.ended_at = replay.state.is_over().then_some(self.model.now);
        replay.outcome = (replay.state == Finished).then_some(Tally { total: 9, ..Tally::default() });
        replay.version += u64::from(!is_stale);
        self.save_replay(replay).await;
    }

    async fn save_replay(&mut self, replay: Replay) {
        let change = Change::SaveReplay(Box::new(replay));
        let expected = self.model.configure(change.clone()).map_err(StoreError::from);
        assert_eq!(self.store().configure(self.fence(), change.clone(), None).await, expected, "{change:?}");
    }

    pub async fn step_replay(&mut self, replay: Nth, limit: usize, disturbed: Option<Nth>) {
        let found = self.nth_replay(replay).filter(|replay| !replay.is_queued);
        let Some(mut replay) = found else { return };
        let Replay { workspace_id: workspace, as_of, cursor, .. } = replay;
        let page = self.store().replay_page(workspace, replay.filter.clone(), as_of, cursor, limit).await;
        let page = page.unwrap();
        let expected = self.model.replay_found(workspace, &replay.filter, as_of, cursor);
        assert_eq!(page.found, expected[..page.found.len()], "from {cursor:?}");
        assert!(page.next.is_some() || page.found.len() == expected.len(), "and there is more");
        let now = self.model.now;
        let fit: Vec<_> = page.found.iter().filter(|found| found.skip.is_none()).cloned().collect();
        if let Some(one) = disturbed.and_then(|number| nth(&fit, number)) {
            let scope = Scope::Workspace(workspace);
            let answer = self.store().retry(self.fence(), scope, one.event.id, one.rule_id, now, None).await;
            let expected = self.model.retry(scope, one.event.id, one.rule_id, now);
            assert_eq!(answer.map(look::plain), expected.map_err(StoreError::from));
        }
        let again = page.found.iter().filter(|found| found.skip.is_none()).map(|found| Again {
            event_id: found.event.id,
            delivery_id: found.delivery_id,
            matched: (as_of == AsOf::Now).then(|| Matched {
                rule_id: found.rule_id,
                connection_id: found.connection_id,
                destination: "webhook".to_owned(),
                action: r#"{"action":"as it is now"}"#.to_owned(),
                created_by: "test".to_owned(),
            }),
        });
        let again = again.collect();
        replay.counts.matched += page.found.len() as u64;
        page.found.iter().filter_map(|found| found.skip).for_each(|why| replay.counts.skipped.add(why));
        (replay.cursor, replay.is_queued, replay.updated_at) = (page.next, page.next.is_none(), now);
        replay.version += 1;
        let step = ReplayStep { replay, again, at: now };
        let answer = self.store().record_replayed(self.fence(), step.clone()).await;
        assert_eq!(answer, self.model.record_replayed(step).map_err(StoreError::from));
    }

    pub async fn cancel_replayed(&mut self, replay: Nth) {
        let Some(Replay { id, workspace_id, .. }) = self.nth_replay(replay) else { return };
        let answer = self.store().cancel_replayed(self.fence(), workspace_id, id, self.model.now).await;
        assert_eq!(answer, Ok(()));
        self.model.cancel_replayed(id, self.model.now);
    }
}

/// Every replay, and what each could find.
pub async fn look_at_replays(store: &dyn Store, model: &Model, limit: usize) {
    let views: Vec<_> = model.replays.values().map(|replay| model.replay_view(replay)).collect();
    for scope in scopes(model) {
        for view in &views {
            let Replay { id, organization_id, workspace_id, .. } = view.replay;
            let expected = answers::is_in(scope, organization_id, workspace_id).then_some(view);
            assert_eq!(store.replay(scope, id).await.unwrap().as_ref(), expected, "{scope:?}");
        }
    }
    for workspace in model.workspaces.keys() {
        let mut expected = views.clone();
        expected.retain(|view| view.replay.workspace_id == *workspace);
        expected.reverse();
        assert_eq!(walk(limit, |after| store.replays(*workspace, after, limit)).await, expected);
        for (number, filter) in replay_filters(model).into_iter().enumerate() {
            let as_of = [AsOf::Then, AsOf::Now][number % 2];
            let (mut found, mut from) = (Vec::new(), None);
            loop {
                let page = store.replay_page(*workspace, filter.clone(), as_of, from, limit).await.unwrap();
                found.extend(page.found);
                assert!(page.next.is_none_or(|next| from.is_none_or(|from| from < next)), "it goes on");
                from = page.next;
                if from.is_none() {
                    break;
                }
            }
            assert_eq!(found, model.replay_found(*workspace, &filter, as_of, None), "{filter:?}");
        }
    }
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = store.replays_under_way(after, limit).await.unwrap();
        after = page.last().map(|last| last.replay.id);
        found.extend(page);
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, views.into_iter().filter(|view| view.replay.is_under_way()).collect::<Vec<_>>());
}
