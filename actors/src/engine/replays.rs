//! Replays: past deliveries done again, one or many, and what a person does about them.

use super::{Engine, EngineError, seen_through::SeenThrough};
use crate::{
    domain::{
        ids::{EventId, ReplayId, WorkspaceId},
        replay::{AsOf, Replay, ReplayCounts, ReplayFilter, ReplayState},
    },
    store::{Change, Page, Refusal, ReplayView, Scope},
};
use std::time::{Duration, Instant};

/// How long a count may take.
const COUNT_TIME: Duration = Duration::from_secs(2);
/// How often a wish is repeated that met a replay in the middle of a step.
const TRIES_MAX: usize = 20;

/// What makes a replay.
#[derive(Clone, Debug)]
pub struct NewReplay {
    pub workspace_id: WorkspaceId,
    pub filter: ReplayFilter,
    pub as_of: AsOf,
    /// Deliveries a second, 0.01 to 5,000.
    pub rate_per_second: f64,
    pub created_by: String,
}

/// A change to a replay; what is `None` stays.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReplayPatch {
    /// Paused, running or canceled.
    pub state: Option<ReplayState>,
    pub rate_per_second: Option<f64>,
}

/// What a replay would find.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayCount {
    /// `queued`: what would be done again. By today's rules it may be less, for conditions are not asked.
    pub counts: ReplayCounts,
    /// Events they are of.
    pub events: u64,
    /// Not all was looked at: there may be more.
    pub is_cut: bool,
}

impl Engine {
    /// Begins to do past deliveries again: those of events accepted until now.
    pub async fn create_replay(&self, scope: Scope, new: NewReplay) -> Result<ReplayView, EngineError> {
        let replay = self.new_replay(scope, new).await?;
        let engine = self.clone();
        let made = SeenThrough::new(async move {
            let (inner, change) = (&engine.0, Change::SaveReplay(Box::new(replay.clone())));
            let made = inner.store.configure(inner.fence, change, Some(engine.act())).await;
            engine.wake_replays();
            made.map(|()| ReplayView { replay, tally: Default::default() })
        });
        Ok(made.await?)
    }

    /// What such a replay would find, looking for two seconds at most.
    pub async fn count_replay(&self, scope: Scope, new: NewReplay) -> Result<ReplayCount, EngineError> {
        let Replay { workspace_id, filter, as_of, .. } = self.new_replay(scope, new).await?;
        let (mut count, mut from, until) = (ReplayCount::default(), None, Instant::now() + COUNT_TIME);
        let mut last = None::<EventId>;
        loop {
            let page = {
                let _turn = self.0.scans.acquire().await.map_err(super::internal)?;
                self.0.store.replay_page(workspace_id, filter.clone(), as_of, from, usize::MAX).await?
            };
            for found in page.found {
                count.events += u64::from(last.replace(found.event.id) != Some(found.event.id));
                count.counts.matched += 1;
                match found.skip {
                    Some(why) => count.counts.skipped.add(why),
                    None => count.counts.queued += 1,
                }
            }
            from = page.next;
            count.is_cut = from.is_some();
            if from.is_none() || Instant::now() >= until {
                return Ok(count);
            }
        }
    }

    async fn new_replay(&self, scope: Scope, new: NewReplay) -> Result<Replay, EngineError> {
        let (inner, now) = (&self.0, self.0.clock.now());
        let found = inner.store.workspace(scope, new.workspace_id).await?;
        let workspace = found.ok_or(Refusal::NotFound("workspace"))?;
        let mut replay = Replay {
            id: ReplayId::from_uuid(inner.ids.next(now)),
            organization_id: workspace.organization_id,
            workspace_id: workspace.id,
            filter: new.filter,
            as_of: new.as_of,
            rate_per_second: new.rate_per_second,
            state: ReplayState::Counting,
            expected: None,
            cursor: None,
            is_queued: false,
            counts: ReplayCounts::default(),
            outcome: None,
            created_by: new.created_by,
            created_at: now,
            updated_at: now,
            ended_at: None,
            version: 1,
        };
        replay.check().map_err(|err| EngineError::Invalid(vec![err]))?;
        // What comes later is not past: a replay ends.
        let soon = now.after(Duration::from_millis(1));
        replay.filter.to = Some(replay.filter.to.map_or(soon, |to| to.min(soon)));
        Ok(replay)
    }

    /// A replay, and where the deliveries it made stand.
    pub async fn replay(&self, scope: Scope, id: ReplayId) -> Result<Option<ReplayView>, EngineError> {
        Ok(self.0.store.replay(scope, id).await?)
    }

    /// A workspace's replays, newest first.
    pub async fn replays(
        &self,
        workspace: WorkspaceId,
        after: Option<ReplayId>,
        limit: usize,
    ) -> Result<Page<ReplayView, ReplayId>, EngineError> {
        Ok(self.0.store.replays(workspace, after, limit).await?)
    }

    /// Pauses, resumes or cancels a replay, or changes its rate. Paused, it queues nothing more; canceled, what
    /// it queued and what waits still is called off. Refused with [`Refusal::ReplayIs`] where it is over.
    pub async fn change_replay(
        &self,
        scope: Scope,
        id: ReplayId,
        patch: ReplayPatch,
    ) -> Result<ReplayView, EngineError> {
        let engine = self.clone();
        let changed = SeenThrough::new(async move {
            let mut tries = 0;
            loop {
                tries += 1;
                let changed = engine.try_to_change(scope, id, patch).await;
                if tries == TRIES_MAX || !matches!(changed, Err(EngineError::Refused(Refusal::Stale(_)))) {
                    engine.wake_replays();
                    return changed;
                }
            }
        });
        changed.await
    }

    async fn try_to_change(
        &self,
        scope: Scope,
        id: ReplayId,
        patch: ReplayPatch,
    ) -> Result<ReplayView, EngineError> {
        let (inner, now) = (&self.0, self.0.clock.now());
        let ReplayView { replay, tally } =
            inner.store.replay(scope, id).await?.ok_or(Refusal::NotFound("replay"))?;
        let before = replay.clone();
        let mut told = match patch.state {
            Some(wanted) => replay.told(wanted, now).map_err(|state| Refusal::ReplayIs(state, wanted))?,
            None => replay,
        };
        if let Some(rate) = patch.rate_per_second.filter(|rate| *rate != told.rate_per_second) {
            told.rate_per_second = rate;
            told.check().map_err(|err| EngineError::Invalid(vec![err]))?;
            if told.state.is_over() {
                return Err(Refusal::ReplayIs(told.state, ReplayState::Running).into());
            }
        }
        if told != before {
            (told.version, told.updated_at) = (told.version + 1, now);
            self.configure(Change::SaveReplay(Box::new(told.clone()))).await?;
        }
        Ok(ReplayView { replay: told, tally })
    }

    fn wake_replays(&self) {
        if let Some(tree) = &self.0.tree {
            tree.replays_changed();
        }
    }
}
