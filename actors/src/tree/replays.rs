//! Replays: queues past deliveries once more, a page at a time, each replay at its own rate.
//!
//! Where a replay is stands in its row, which is written with what it queues: killed at any line, this goes on
//! where it was, and neither repeats nor leaves out. A row also counts where the deliveries it made stand, so
//! that few of them wait at a time, however many there are to make.
//!
//! Here nothing is attempted: what is queued goes to the connections, below what is live.

use super::{Context, Faults, named, root, workspace};
use crate::{
    domain::{
        event::Event,
        ids::{ConnectionId, EventId, ReplayId, RuleId},
        notice::Notice,
        replay::{AsOf, Credit, Replay, ReplayState, Skip},
        routing::RuleSet,
    },
    store::{Again, Change, Matched, Refusal, ReplayFound, ReplayStep, ReplayView, Scope, StoreError},
};
use bytes::Bytes;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::{
    collections::{BTreeSet, HashMap, HashSet, hash_map::Entry},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::Instant,
};
use tracing::{error, info, warn};

/// Replays read from the store at a time.
const REPLAYS_A_PAGE: usize = 100;
/// Deliveries queued in one transaction, about: writers wait for no longer than that.
const PAGE: usize = 32;
/// Bytes of actions in one record beyond which no further event is taken up.
const ACTIONS_BYTES_MAX: usize = 1 << 20;
/// Deliveries queued at a time where the rate is what holds it up, about: what is live waits for few of them.
const BATCH: f64 = 8.0;
/// The longest time that such a batch is waited for, unless one delivery takes longer.
const BATCH_WAIT: Duration = Duration::from_millis(50);
/// The longest time between two looks.
const LOOK_MAX: Duration = Duration::from_secs(2);
/// The wait before another try when the store cannot take more.
const STORE_WAIT: Duration = Duration::from_millis(500);
/// A timer never spins.
const WAIT_MIN: Duration = Duration::from_millis(1);

pub struct ReplaysActor;

/// What its parent passes to start it.
pub struct Args {
    pub parent: ActorRef<root::Msg>,
    pub ctx: Context,
}

/// What it keeps between messages.
pub struct State {
    args: Args,
    works: HashMap<ReplayId, Work>,
    timer: Option<JoinHandle<()>>,
}

/// What is known of a replay under way that need not be on record.
struct Work {
    credit: Credit,
    earned_at: Instant,
    /// How many pass so far, while they are counted.
    counted: u64,
    /// Up to where nothing was found since its row was written, and the version of that.
    ahead: Option<(u64, EventId)>,
    /// How long it was waited for its end the last time.
    look: Duration,
}

pub enum Msg {
    /// A replay was made, or told to do something else.
    Wake,
    /// It is time to go on.
    Tick,
}

impl Actor for ReplaysActor {
    type Arguments = Args;
    type State = State;
    type Msg = Msg;

    async fn pre_start(&self, myself: ActorRef<Msg>, args: Args) -> Result<State, ActorProcessingErr> {
        myself.cast(Msg::Wake)?;
        Ok(State { args, works: HashMap::new(), timer: None })
    }

    async fn handle(
        &self,
        myself: ActorRef<Msg>,
        msg: Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            Msg::Wake => state.works.values_mut().for_each(|work| work.look = WAIT_MIN),
            Msg::Tick => state.timer = None,
        }
        let wait = state.go_on().await?;
        state.arm(myself, wait);
        Ok(())
    }
}

impl State {
    /// One step of every replay under way. Returns when to take the next one, if there is any.
    async fn go_on(&mut self) -> Result<Option<Duration>, StoreError> {
        let (mut after, mut wait, mut seen) = (None, None::<Duration>, HashSet::new());
        if self.args.ctx.is_draining() {
            return Ok(None);
        }
        loop {
            let page = self.args.ctx.store.replays_under_way(after, REPLAYS_A_PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.replay.id);
            for view in page {
                seen.insert(view.replay.id);
                let next = self.turn(view).await?.max(WAIT_MIN);
                wait = Some(wait.map_or(next, |wait| wait.min(next)));
            }
        }
        self.works.retain(|id, _| seen.contains(id));
        Ok(wait)
    }

    /// One step of a replay. Returns how long until the next.
    async fn turn(&mut self, view: ReplayView) -> Result<Duration, StoreError> {
        let ctx = self.args.ctx.clone();
        ctx.faults.at("replays.turn");
        let (id, workspace) = (view.replay.id, view.replay.workspace_id);
        if !self.works.contains_key(&id) {
            // An earlier life may have told nobody of what it queued last.
            let queues = ctx.store.queues(workspace).await?;
            self.tell(&view.replay, queues.into_iter().map(|(connection, _)| connection));
            self.works.insert(id, Work::new());
        }
        let taken = match view.replay.state {
            ReplayState::Counting => self.count(view.replay).await,
            ReplayState::Running if !view.replay.is_queued => self.queue(view).await,
            ReplayState::Running | ReplayState::Canceled => self.finish(view).await,
            ReplayState::Paused | ReplayState::Finished => Ok(LOOK_MAX),
        };
        match taken {
            Ok(wait) => Ok(wait),
            // Somebody told it otherwise meanwhile: its row says what.
            Err(StoreError::Refused(_)) => Ok(WAIT_MIN),
            Err(StoreError::Unavailable(why)) => {
                warn!(workspace_id = named(workspace), replay_id = %id, %why, "a replay waits for the store");
                Ok(STORE_WAIT)
            }
            Err(err) => Err(err),
        }
    }

    fn work(&mut self, id: ReplayId) -> &mut Work {
        self.works.entry(id).or_insert_with(Work::new)
    }

    /// Counts one more page.
    async fn count(&mut self, replay: Replay) -> Result<Duration, StoreError> {
        let (ctx, started) = (self.args.ctx.clone(), Instant::now());
        let work = self.work(replay.id);
        let from = work.ahead.filter(|(version, _)| *version == replay.version).map(|(_, from)| from);
        if from.is_none() {
            work.counted = 0;
        }
        let (filter, workspace) = (replay.filter.clone(), replay.workspace_id);
        let page = ctx.store.replay_page(workspace, filter, replay.as_of, from, usize::MAX).await?;
        work.counted += page.found.len() as u64;
        work.ahead = page.next.map(|next| (replay.version, next));
        if page.next.is_some() {
            return Ok(started.elapsed());
        }
        let counted = Replay {
            state: ReplayState::Running,
            expected: Some(work.counted),
            updated_at: ctx.clock.now(),
            version: replay.version + 1,
            ..replay
        };
        // What its rate allows now is one, not what was saved up while it was counted.
        *work = Work::new();
        ctx.store.configure(ctx.fence, Change::SaveReplay(Box::new(counted)), None).await?;
        Ok(WAIT_MIN)
    }

    /// Queues one more page, as far as its rate allows and not too much waits.
    async fn queue(&mut self, view: ReplayView) -> Result<Duration, StoreError> {
        let (ctx, ReplayView { replay, tally }) = (self.args.ctx.clone(), view);
        let (started, rate) = (Instant::now(), replay.rate_per_second);
        let tried = tally.retrying + tally.completed + tally.failed + tally.canceled;
        let untried = tally.total.saturating_sub(tried);
        let room = replay.waiting_max().saturating_sub(untried.into());
        let work = self.work(replay.id);
        work.credit.earn(rate, started - work.earned_at);
        work.earned_at = started;
        let limit = work.credit.whole().min(PAGE).min(usize::try_from(room).unwrap_or(PAGE));
        if limit == 0 {
            return Ok(work.batch_wait(rate).max(BATCH_WAIT));
        }
        let ahead = work.ahead.filter(|(version, _)| *version == replay.version).map(|(_, from)| from);
        let from = ahead.or(replay.cursor);
        let (filter, workspace) = (replay.filter.clone(), replay.workspace_id);
        let page = ctx.store.replay_page(workspace, filter, replay.as_of, from, limit).await?;
        if let (true, Some(next)) = (page.found.is_empty(), page.next) {
            work.ahead = Some((replay.version, next));
            return Ok(started.elapsed());
        }
        let judged = judge(&ctx, &replay, page.found).await?;
        let next = judged.left_at.or(page.next);
        let mut step = Replay {
            cursor: next,
            is_queued: next.is_none(),
            updated_at: ctx.clock.now(),
            version: replay.version + 1,
            ..replay
        };
        step.counts.matched += judged.matched;
        judged.skipped.into_iter().for_each(|why| step.counts.skipped.add(why));
        let (count, touched) = (judged.again.len(), judged.touched);
        let step = ReplayStep { replay: step, again: judged.again, at: ctx.clock.now() };
        ctx.faults.at("replays.record");
        let replay = ctx.store.record_replayed(ctx.fence, step).await?;
        ctx.faults.at("replays.recorded");
        metrics::counter!("weft_deliveries_replayed_total").increment(count as u64);
        self.tell(&replay, touched);
        let work = self.work(replay.id);
        work.credit.spend(count);
        (work.ahead, work.look) = (None, WAIT_MIN);
        let wait = if replay.is_queued { WAIT_MIN } else { work.batch_wait(rate) };
        Ok(wait.max(started.elapsed()))
    }

    /// Wakes connections for which something was queued.
    fn tell(&self, replay: &Replay, connections: impl IntoIterator<Item = ConnectionId>) {
        let connections: Vec<_> = connections.into_iter().collect();
        if !connections.is_empty() {
            let msg = workspace::Msg::Replayed(connections);
            // A root that is gone ends the process; what is in the store waits for the next one.
            let _ = self.args.parent.cast(root::Msg::Pass(replay.workspace_id, msg));
        }
    }

    /// Nothing more is queued: waits for what was, and says what it came to.
    async fn finish(&mut self, view: ReplayView) -> Result<Duration, StoreError> {
        let (ctx, mut view) = (self.args.ctx.clone(), view);
        let now = ctx.clock.now();
        if view.replay.state == ReplayState::Canceled {
            let Replay { id, workspace_id, .. } = view.replay;
            ctx.store.cancel_replayed(ctx.fence, workspace_id, id, now).await?;
            let found = ctx.store.replay(Scope::Workspace(workspace_id), id).await?;
            view = found.ok_or(Refusal::NotFound("replay"))?;
        }
        let ReplayView { replay, tally } = view;
        if tally.completed + tally.failed + tally.canceled < tally.total {
            let work = self.work(replay.id);
            work.look = (work.look * 3 / 2).clamp(2 * WAIT_MIN, LOOK_MAX);
            return Ok(work.look);
        }
        let is_canceled = replay.state == ReplayState::Canceled;
        let ended = Replay {
            state: if is_canceled { ReplayState::Canceled } else { ReplayState::Finished },
            outcome: Some(tally),
            updated_at: now,
            ended_at: replay.ended_at.or(Some(now)),
            version: replay.version + 1,
            ..replay
        };
        ctx.store.configure(ctx.fence, Change::SaveReplay(Box::new(ended.clone())), None).await?;
        notify(&ctx, &ended);
        Ok(WAIT_MIN)
    }

    /// Goes on after this wait, and not before unless woken; `None`: not until woken.
    fn arm(&mut self, myself: ActorRef<Msg>, wait: Option<Duration>) {
        if let Some(timer) = self.timer.take() {
            timer.abort();
        }
        self.timer = wait.map(|wait| {
            tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                let _ = myself.cast(Msg::Tick);
            })
        });
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            timer.abort();
        }
    }
}

impl Work {
    fn new() -> Self {
        Self { credit: Credit::one(), earned_at: Instant::now(), counted: 0, ahead: None, look: WAIT_MIN }
    }

    /// How long until its rate allows a batch.
    fn batch_wait(&self, rate_per_second: f64) -> Duration {
        let count = (rate_per_second * BATCH_WAIT.as_secs_f64()).clamp(1.0, BATCH);
        self.credit.wait(count, rate_per_second).clamp(WAIT_MIN, LOOK_MAX)
    }
}

/// A replay is over, and what it made is, too.
fn notify(ctx: &Context, replay: &Replay) {
    let Replay { id, organization_id, workspace_id, counts, .. } = replay;
    let outcome = replay.outcome.unwrap_or_default();
    if replay.state == ReplayState::Finished && !ctx.notices.are_of(*workspace_id) {
        let skipped = counts.matched.saturating_sub(counts.queued);
        let [completed, failed, canceled] =
            [outcome.completed, outcome.failed, outcome.canceled].map(u64::from);
        let counts = [
            ("matched", counts.matched),
            ("replayed", counts.queued),
            ("skipped", skipped),
            ("completed", completed),
            ("failed", failed),
            ("canceled", canceled),
        ];
        let notice = Notice::ReplayFinished {
            replay: id.to_string(),
            organization: *organization_id,
            workspace: *workspace_id,
            counts: counts.map(|(what, count)| (what.to_owned(), count)).into(),
        };
        ctx.notices.notify(notice, ctx.clock.now());
    }
    info!(workspace_id = named(*workspace_id), replay_id = %id, state = replay.state.as_str(), matched = counts.matched, queued = counts.queued, completed = outcome.completed, failed = outcome.failed, canceled = outcome.canceled, "a replay is over");
}

/// What is to become of a page.
#[derive(Default)]
struct Judged {
    matched: u64,
    again: Vec<Again>,
    skipped: Vec<Skip>,
    touched: BTreeSet<ConnectionId>,
    /// The event from which on it is left for the next page.
    left_at: Option<EventId>,
}

/// Decides of each delivery of a page whether it is done again, and how: as it was, or by its rule as it is now.
async fn judge(ctx: &Context, replay: &Replay, found: Vec<ReplayFound>) -> Result<Judged, StoreError> {
    let scope = Scope::Workspace(replay.workspace_id);
    let (mut judged, mut bytes) = (Judged::default(), 0);
    let (mut rules, mut last) = (HashMap::<RuleId, Option<Arc<RuleSet>>>::new(), None::<EventId>);
    for one in found {
        if bytes > ACTIONS_BYTES_MAX && last != Some(one.event.id) {
            judged.left_at = Some(one.event.id);
            break;
        }
        (last, judged.matched) = (Some(one.event.id), judged.matched + 1);
        if let Some(skip) = one.skip {
            judged.skipped.push(skip);
            continue;
        }
        let mut matched = None;
        if replay.as_of == AsOf::Now {
            let rule = match rules.entry(one.rule_id) {
                Entry::Occupied(known) => known.get().clone(),
                Entry::Vacant(unknown) => {
                    let rule = ctx.store.rule(scope, one.rule_id).await?;
                    unknown.insert(rule.map(|rule| Arc::new(RuleSet::compile(vec![rule])))).clone()
                }
            };
            match as_it_is_now(ctx, scope, rule, &one.event).await? {
                Ok(now) => {
                    bytes += now.bytes();
                    matched = Some(now);
                }
                Err(skip) => {
                    judged.skipped.push(skip);
                    continue;
                }
            }
        }
        judged.touched.insert(one.connection_id);
        judged.again.push(Again { event_id: one.event.id, delivery_id: one.delivery_id, matched });
    }
    Ok(judged)
}

/// What a rule of today makes of an event.
async fn as_it_is_now(
    ctx: &Context,
    scope: Scope,
    rule: Option<Arc<RuleSet>>,
    event: &Event,
) -> Result<Result<Matched, Skip>, StoreError> {
    let Some(rule) = rule else { return Ok(Err(Skip::RuleDeleted)) };
    let payload = match rule.has_conditions() {
        false => Bytes::new(),
        true => match ctx.store.payload(scope, event.id).await {
            Ok(Some(payload)) => payload,
            Ok(None) | Err(StoreError::Refused(Refusal::PayloadLost)) => return Ok(Err(Skip::PayloadLost)),
            Err(err) => return Err(err),
        },
    };
    let (faults, event) = (ctx.faults.clone(), event.clone());
    // Tenants write conditions, and some take their time.
    let takes_time = rule.has_matches();
    let look = move || matched_by(&rule, &event, &payload, &faults);
    let matched = if takes_time { spawn_blocking(look).await.unwrap_or(None) } else { look() };
    Ok(matched.ok_or(Skip::RulePasses))
}

fn matched_by(rule: &RuleSet, event: &Event, payload: &[u8], faults: &Faults) -> Option<Matched> {
    let route = || {
        faults.at("replays.judge");
        rule.route(event, payload)
    };
    let routing = std::panic::catch_unwind(AssertUnwindSafe(route)).unwrap_or_else(|_| {
        error!(workspace_id = named(event.workspace_id), event_id = %event.id, "judging a rule panicked");
        rule.faulted(event)
    });
    routing.matched.first().map(|compiled| Matched::by(&compiled.rule))
}
