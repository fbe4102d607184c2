//! One connection: delivers what is due, a few at a time, and decides when to try again.
//!
//! Sole owner of its pace and credentials, so two attempts never refresh one token. Holds a bounded
//! window of what is due and one timer for what is due next: a backlog of millions costs disk, not memory.
//! Holds no work: killed at any line, it starts again from the store.

use super::{
    Context, WINDOW,
    children::Bell,
    named,
    pace::{Breaker, Limiter, Turn},
    workspace,
};
use crate::{
    destinations::{Prepared, outgoing::Outgoing},
    domain::{
        connection::{Connection, InactiveReason},
        delivery::{Next, Outcome, Report},
        ids::{ConnectionId, DeliveryId, WorkspaceId},
        retry::{AUTH_FAILURES_MAX, RETRY_AFTER_MAX, RetryPolicy, WAIT_MAX},
        timestamp::Timestamp,
    },
    store::{Attempted, Begun, Change, DueEntry, Pace, Scope, StoreError, Work},
};
use futures_util::FutureExt;
use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{JoinHandle, JoinSet},
    time::{Instant, timeout},
};
use tracing::{debug, error, info, warn};

/// Deliveries called off at a time once their connection is gone.
const CANCEL_BATCH: usize = 256;
/// The pause of a connection that was told to slow down without being told for how long.
const RATE_LIMITED_WAIT: Duration = Duration::from_secs(1);
/// How far a destination's code may overrun the time of an attempt before it is stopped.
const OVERRUN_MAX: Duration = Duration::from_secs(5);
/// The wait before another look when a connection cannot be made ready.
const UNREADY_WAIT: Duration = Duration::from_secs(30);

pub struct ConnectionActor;

/// What is in flight, where the parent can see it when the actor is gone.
pub type Hand = Arc<Mutex<HashMap<DeliveryId, DueEntry>>>;

/// What its parent passes to start it.
pub struct Args {
    pub id: ConnectionId,
    pub workspace_id: WorkspaceId,
    pub parent: ActorRef<workspace::Msg>,
    pub bell: Bell,
    /// The workspace's share of attempts.
    pub share: Arc<Semaphore>,
    pub hand: Hand,
    /// One of these may be poison: until all have come back take them one by one, so that it is found.
    pub suspects: HashSet<DeliveryId>,
    pub ctx: Context,
}

/// What it keeps between messages. Dropping it aborts its attempts.
pub struct State {
    args: Args,
    line: Option<Line>,
    /// Outlives the line: a change must not hand out another burst.
    limiter: Option<Limiter>,
    window: VecDeque<DueEntry>,
    /// When what is not in the window is due.
    next_due: Option<Timestamp>,
    /// The window may be refilled: something is due that was not read.
    may_be_due: bool,
    breaker: Breaker,
    paused_until: Option<Timestamp>,
    /// Refusals in a row of the credentials of this version.
    auth_failures: (u64, u32),
    attempts: JoinSet<()>,
    timer: Option<(Instant, JoinHandle<()>)>,
    idle_since: Instant,
    wakes: u64,
}

/// The connection, made ready to deliver.
struct Line {
    connection: Connection,
    prepared: Arc<dyn Prepared>,
    retry: RetryPolicy,
    timeout: Duration,
    max_in_flight: usize,
}

pub enum Msg {
    /// Something may be due: look in the store.
    Wake,
    /// The connection was changed, or is gone: read it again.
    Changed,
    /// The timer is up.
    Tick,
    /// An attempt came back.
    AttemptFinished(Box<Finished>),
}

/// An attempt that came back.
pub struct Finished {
    entry: DueEntry,
    result: Landed,
    /// Given back once the result is on record: a drain waits for that.
    _slots: Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
}

enum Landed {
    Reported {
        work: Box<Work>,
        /// The connection's, as it was used.
        version: u64,
        started_at: Timestamp,
        report: Report,
    },
    /// It was not due any more, or the server is going down.
    Withdrawn,
    /// The connection is not as it was.
    ConnectionChanged,
    StoreFailed(StoreError),
    /// Our own code around it panicked.
    Panicked,
}

impl Actor for ConnectionActor {
    type Arguments = Args;
    type State = State;
    type Msg = Msg;

    async fn pre_start(&self, myself: ActorRef<Msg>, args: Args) -> Result<State, ActorProcessingErr> {
        myself.cast(Msg::Wake)?;
        args.ctx.faults.at("connection.start");
        args.ctx.store.release(args.id).await;
        args.hand.lock().clear();
        Ok(State {
            args,
            line: None,
            limiter: None,
            window: VecDeque::new(),
            next_due: None,
            may_be_due: true,
            breaker: Breaker::default(),
            paused_until: None,
            auth_failures: (0, 0),
            attempts: JoinSet::new(),
            timer: None,
            idle_since: Instant::now(),
            wakes: 0,
        })
    }

    /// `Err` means "start me again from the store". A delivery that fails is a report, not an error.
    async fn handle(
        &self,
        myself: ActorRef<Msg>,
        msg: Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            Msg::Wake => {
                state.args.bell.hear();
                (state.wakes, state.may_be_due) = (state.wakes + 1, true);
            }
            Msg::Changed => {
                (state.wakes, state.may_be_due, state.line) = (state.wakes + 1, true, None);
                state.window.clear();
            }
            Msg::Tick => (state.timer, state.may_be_due) = (None, true),
            Msg::AttemptFinished(finished) => {
                let recorded = state.attempt_finished(*finished).await;
                state.blame_nobody_for(recorded)?;
            }
        }
        let went_on = state.go_on(&myself).await;
        state.blame_nobody_for(went_on)
    }
}

impl State {
    /// A fall because the store takes nothing for now is no delivery's fault, whatever is in hand.
    fn blame_nobody_for(&self, result: Result<(), ActorProcessingErr>) -> Result<(), ActorProcessingErr> {
        let store_failed = result.as_ref().err().and_then(|err| err.downcast_ref::<StoreError>());
        if matches!(store_failed, Some(StoreError::Unavailable(_) | StoreError::Fenced)) {
            self.args.hand.lock().clear();
        }
        result
    }

    /// Starts what may be started now, and arms the timer for the rest.
    async fn go_on(&mut self, myself: &ActorRef<Msg>) -> Result<(), ActorProcessingErr> {
        if self.args.ctx.is_draining() {
            return Ok(());
        }
        if self.line.is_none() && !self.load().await? {
            self.leave_if_idle(myself, true);
            return Ok(());
        }
        loop {
            match self.allowed() {
                Err(wait) => {
                    self.arm(myself, Instant::now() + wait);
                    self.leave_until_unpaused(myself, wait);
                    return Ok(());
                }
                Ok(0) => return Ok(()), // an attempt that comes back goes on
                Ok(_) => {}
            }
            let Some(entry) = self.next_entry().await? else { break };
            if let Some(Err(wait)) = self.limiter.as_ref().map(Limiter::take) {
                self.window.push_front(entry);
                self.arm(myself, Instant::now() + wait);
                return Ok(());
            }
            self.start(myself, entry);
        }
        if self.args.hand.lock().is_empty() {
            self.args.suspects.clear(); // those that did not come back are not due any more
        }
        if let Some(due) = self.next_due {
            let wait = self.args.ctx.until(due).min(self.args.ctx.settings.idle_after);
            self.arm(myself, Instant::now() + wait);
        }
        self.leave_if_idle(myself, false);
        Ok(())
    }

    /// Reads the connection and makes it ready. `false`: it takes no deliveries now.
    async fn load(&mut self) -> Result<bool, ActorProcessingErr> {
        let Args { id, workspace_id, ctx, .. } = &self.args;
        let (id, workspace_id) = (*id, *workspace_id);
        ctx.faults.at("connection.load");
        let Some(connection) = ctx.store.connection(Scope::Workspace(workspace_id), id).await? else {
            self.call_off().await?;
            return Ok(false);
        };
        self.next_due = None;
        if !connection.takes_deliveries() {
            return Ok(false);
        }
        let prepared = match ctx.preparer.prepare(&connection).await {
            Ok(prepared) => prepared,
            Err(reason) => {
                error!(workspace_id = named(workspace_id), connection_id = %id, %reason, "connection is not usable; its deliveries wait");
                self.next_due = Some(ctx.clock.now().after(UNREADY_WAIT));
                return Ok(false);
            }
        };
        self.paused_until = ctx.store.pace(id).await?.paused_until;
        let (policy, settings) = (&connection.policy, &ctx.settings);
        let rate = policy.rate_per_second.map(|rate| (rate, policy.burst.unwrap_or(1)));
        if self.limiter.as_ref().map(Limiter::rate) != rate {
            self.limiter = rate.map(|(rate_per_second, burst)| Limiter::new(rate_per_second, burst));
        }
        let waits =
            policy.retry.as_ref().map(|waits| waits.iter().map(|ms| Duration::from_millis(*ms)).collect());
        let retry =
            RetryPolicy { waits: waits.unwrap_or_else(|| settings.retry.waits.clone()), ..settings.retry };
        let max_in_flight = policy.max_in_flight.unwrap_or(settings.max_in_flight).max(1) as usize;
        let timeout = policy.timeout(settings.timeout);
        self.line = Some(Line { connection, prepared, retry, timeout, max_in_flight });
        Ok(true)
    }

    /// The connection is gone: calls off what waits for it.
    async fn call_off(&mut self) -> Result<(), StoreError> {
        let Args { id, workspace_id, ctx, .. } = &self.args;
        loop {
            let now = ctx.clock.now();
            if ctx.store.cancel_queued(ctx.fence, *workspace_id, *id, now, CANCEL_BATCH).await? < CANCEL_BATCH
            {
                self.next_due = None;
                return Ok(());
            }
        }
    }

    /// How many more attempts may start now, or how long to wait.
    fn allowed(&mut self) -> Result<usize, Duration> {
        let now = self.args.ctx.clock.now();
        self.paused_until = self.paused_until.filter(|until| *until > now);
        if let Some(until) = self.paused_until {
            return Err(self.args.ctx.until(until));
        }
        let max = self.line.as_ref().map_or(0, |line| line.max_in_flight);
        let max = if self.args.suspects.is_empty() { max } else { max.min(1) };
        let allowed = self.breaker.allows(max).map_err(|until| until - Instant::now())?;
        Ok(allowed.saturating_sub(self.args.hand.lock().len()))
    }

    async fn next_entry(&mut self) -> Result<Option<DueEntry>, StoreError> {
        let Args { id, workspace_id, ctx, .. } = &self.args;
        if self.window.is_empty() && self.may_be_due {
            let now = ctx.clock.now();
            // Those in hand that are not taken up yet are in the queue still.
            let limit = WINDOW + self.args.hand.lock().len();
            let mut page = ctx.store.due(*workspace_id, *id, now, limit).await?;
            if page.next.is_some_and(|next| next > now.after(WAIT_MAX)) && page.entries.is_empty() {
                // Later than any wait there is: from a clock that was wrong. Now, then.
                page = ctx.store.due(*workspace_id, *id, Timestamp(i64::MAX), limit).await?;
            }
            self.may_be_due = page.next.is_some_and(|next| next <= now);
            self.next_due = page.next.filter(|next| *next > now);
            let hand = self.args.hand.lock();
            self.window
                .extend(page.entries.into_iter().filter(|entry| !hand.contains_key(&entry.delivery_id)));
        }
        Ok(self.window.pop_front())
    }

    fn start(&mut self, myself: &ActorRef<Msg>, entry: DueEntry) {
        let Some(line) = &self.line else { return };
        self.breaker.started();
        self.args.hand.lock().insert(entry.delivery_id, entry);
        let attempt = AttemptTask {
            id: self.args.id,
            workspace_id: self.args.workspace_id,
            share: self.args.share.clone(),
            ctx: self.args.ctx.clone(),
            version: line.connection.version,
            prepared: line.prepared.clone(),
            timeout: line.timeout,
        };
        let myself = myself.clone();
        self.attempts.spawn(async move {
            let finished = AssertUnwindSafe(attempt.run(entry)).catch_unwind().await;
            let panicked = Finished { entry, result: Landed::Panicked, _slots: None };
            let finished = finished.unwrap_or(panicked);
            // Nobody is left to tell only when the actor is gone, and then this task with it.
            let _ = myself.cast(Msg::AttemptFinished(Box::new(finished)));
        });
    }

    async fn attempt_finished(&mut self, finished: Finished) -> Result<(), ActorProcessingErr> {
        while self.attempts.try_join_next().is_some() {}
        self.idle_since = Instant::now();
        self.args.ctx.faults.at("connection.attempt_finished");
        match finished.result {
            Landed::Reported { work, version, started_at, report } => {
                self.record(&work, version, started_at, report).await?;
            }
            Landed::Withdrawn => self.breaker.withdrawn(),
            Landed::ConnectionChanged => {
                self.breaker.withdrawn();
                (self.line, self.may_be_due) = (None, true);
                self.window.clear();
            }
            Landed::StoreFailed(err) => return Err(err.into()),
            Landed::Panicked => return Err("the code around an attempt panicked".into()),
        }
        self.args.hand.lock().remove(&finished.entry.delivery_id);
        self.args.suspects.remove(&finished.entry.delivery_id);
        Ok(())
    }

    async fn record(
        &mut self,
        work: &Work,
        version: u64,
        started_at: Timestamp,
        report: Report,
    ) -> Result<(), ActorProcessingErr> {
        let Args { id, workspace_id, ctx, .. } = &self.args;
        let (now, delivery) = (ctx.clock.now(), &work.delivery);
        let retry = self.line.as_ref().map_or(&ctx.settings.retry, |line| &line.retry);
        let next = delivery.after(&report, retry, now, rand::random());
        let (outcome, number, elapsed) = (report.outcome, delivery.attempt_count + 1, now.since(started_at));
        let elapsed_ms = elapsed.as_millis();
        metrics::counter!("weft_attempts_total", "outcome" => outcome.as_str(), "destination" => delivery.destination.clone()).increment(1);
        metrics::histogram!("weft_attempt_seconds").record(elapsed.as_secs_f64());
        if outcome == Outcome::Delivered {
            debug!(workspace_id = named(*workspace_id), connection_id = %id, event_id = %work.event.id, delivery_id = %delivery.id, attempt = number, elapsed_ms, "delivered");
        } else {
            warn!(workspace_id = named(*workspace_id), connection_id = %id, event_id = %work.event.id, delivery_id = %delivery.id, attempt = number, outcome = outcome.as_str(), elapsed_ms, ?next, "attempt failed");
        }
        let attempted = Attempted {
            delivery_id: delivery.id,
            event_id: work.event.id,
            started_at,
            finished_at: now,
            outcome,
            http_status: report.http_status,
            message: if outcome == Outcome::Delivered { String::new() } else { report.message },
            response: report.response,
            next,
        };
        ctx.store.record_attempts(ctx.fence, *workspace_id, vec![attempted]).await?;
        ctx.faults.at("connection.recorded");
        if let Next::Due { at, .. } = next {
            self.next_due = Some(self.next_due.map_or(at, |next| next.min(at)));
        }
        self.learn(outcome, version, report.retry_after, now).await?;
        Ok(())
    }

    /// What an outcome says about the destination as a whole.
    async fn learn(
        &mut self,
        outcome: Outcome,
        version: u64,
        retry_after: Option<Duration>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let max = self.line.as_ref().map_or(1, |line| line.max_in_flight);
        let turn = if outcome.is_destination_down() {
            self.breaker.failed(rand::random())
        } else if outcome == Outcome::InternalError || outcome == Outcome::MappingError {
            self.breaker.withdrawn(); // says nothing about the destination
            None
        } else {
            self.breaker.answered(max)
        };
        let Args { id, workspace_id, ctx, .. } = &self.args;
        match turn {
            Some(Turn::Opened) => {
                warn!(workspace_id = named(*workspace_id), connection_id = %id, "destination is down: attempts stop, and one asks now and then")
            }
            Some(Turn::Closed) => {
                info!(workspace_id = named(*workspace_id), connection_id = %id, "destination is back")
            }
            None => {}
        }
        match outcome {
            Outcome::RateLimited => {
                let until = now.after(retry_after.unwrap_or(RATE_LIMITED_WAIT).min(RETRY_AFTER_MAX));
                if self.paused_until.is_none_or(|paused| paused < until) {
                    self.paused_until = Some(until);
                    ctx.store.record_pace(ctx.fence, *id, Pace { paused_until: Some(until) }).await?;
                }
            }
            Outcome::AuthFailed => {
                // A refusal of others than those in force says nothing about these.
                if self.line.as_ref().is_some_and(|line| line.connection.version == version) {
                    let (of, failures) = self.auth_failures;
                    self.auth_failures = (version, if of == version { failures + 1 } else { 1 });
                }
                if self.auth_failures.1 >= AUTH_FAILURES_MAX {
                    self.inactivate(now).await?;
                }
            }
            Outcome::Delivered => self.auth_failures.1 = 0,
            _ => {}
        }
        Ok(())
    }

    /// The destination refuses our credentials: nothing more is sent until a person mends that.
    async fn inactivate(&mut self, now: Timestamp) -> Result<(), StoreError> {
        self.auth_failures.1 = 0;
        let Some(line) = self.line.take() else { return Ok(()) };
        self.window.clear();
        let Args { id, workspace_id, ctx, .. } = &self.args;
        warn!(workspace_id = named(*workspace_id), connection_id = %id, "credentials are refused: the connection is inactive, its deliveries wait");
        let change = Change::UpdateConnection(Connection {
            inactive: Some(InactiveReason::AuthenticationInvalid),
            version: line.connection.version + 1,
            updated_at: now,
            ..line.connection
        });
        match ctx.store.configure(ctx.fence, change).await {
            // Somebody changed it meanwhile, perhaps its credentials: they get their chance.
            Ok(()) | Err(StoreError::Refused(_)) => Ok(()),
            Err(err) => Err(err),
        }
    }

    /// Makes sure there is a tick at `at` or earlier.
    fn arm(&mut self, myself: &ActorRef<Msg>, at: Instant) {
        if self.timer.as_ref().is_some_and(|(armed, _)| *armed <= at) {
            return;
        }
        if let Some((_, timer)) = self.timer.take() {
            timer.abort();
        }
        let myself = myself.clone();
        let timer = tokio::spawn(async move {
            tokio::time::sleep_until(at).await;
            let _ = myself.cast(Msg::Tick);
        });
        self.timer = Some((at, timer));
    }

    /// A long pause need not be sat out: it is on record.
    fn leave_until_unpaused(&mut self, myself: &ActorRef<Msg>, wait: Duration) {
        if self.paused_until.is_some() && wait > self.args.ctx.settings.idle_after {
            self.window.clear();
            self.next_due = self.paused_until;
            self.leave_if_idle(myself, true);
        }
    }

    /// Asks the parent to be put away, if there is nothing to do for a while. A connection that
    /// takes no deliveries need not wait for that.
    fn leave_if_idle(&mut self, myself: &ActorRef<Msg>, at_once: bool) {
        let idle_after = self.args.ctx.settings.idle_after;
        if !self.args.hand.lock().is_empty() || !self.window.is_empty() {
            return;
        }
        let soon = self.args.ctx.clock.now().after(idle_after);
        if !at_once && self.next_due.is_some_and(|due| due <= soon) {
            return;
        }
        if at_once || self.idle_since.elapsed() >= idle_after {
            let (id, handled, next_due) = (self.args.id, self.wakes, self.next_due);
            let _ = self.args.parent.cast(workspace::Msg::ConnectionIdle { id, handled, next_due });
        }
        self.arm(myself, Instant::now() + idle_after);
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if let Some((_, timer)) = self.timer.take() {
            timer.abort();
        }
    }
}

/// What one attempt needs of its actor.
struct AttemptTask {
    id: ConnectionId,
    workspace_id: WorkspaceId,
    share: Arc<Semaphore>,
    ctx: Context,
    version: u64,
    prepared: Arc<dyn Prepared>,
    timeout: Duration,
}

impl AttemptTask {
    async fn run(&self, entry: DueEntry) -> Finished {
        let Some(slots) = self.slots().await else {
            return Finished { entry, result: Landed::Withdrawn, _slots: None };
        };
        Finished { entry, result: self.attempt(entry).await, _slots: Some(slots) }
    }

    /// First the workspace's share, then one of all: a workspace waits for itself before it makes others wait.
    async fn slots(&self) -> Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        let own = self.share.clone().acquire_owned().await.ok()?;
        Some((own, self.ctx.slot().await?))
    }

    async fn attempt(&self, entry: DueEntry) -> Landed {
        let ctx = &self.ctx;
        if ctx.is_draining() {
            return Landed::Withdrawn;
        }
        ctx.faults.at("connection.begin");
        let begun = ctx.store.begin(ctx.fence, self.workspace_id, self.id, self.version, entry).await;
        let work = match begun {
            Ok(Begun::Work(work)) => work,
            Ok(Begun::NotDue) => return Landed::Withdrawn,
            Ok(Begun::ConnectionChanged) => return Landed::ConnectionChanged,
            Err(err) => return Landed::StoreFailed(err),
        };
        let started_at = ctx.clock.now();
        let out = Outgoing {
            event: &work.event,
            payload: &work.payload,
            delivery_id: work.delivery.id,
            attempt: work.delivery.attempt_count + 1,
            sent_at: started_at,
            action: &work.delivery.action,
            timeout: self.timeout,
        };
        let deliver = AssertUnwindSafe(self.prepared.deliver(&out, &ctx.http)).catch_unwind();
        let report = match timeout(self.timeout + OVERRUN_MAX, deliver).await {
            Ok(Ok(report)) => report,
            Ok(Err(_)) => {
                error!(workspace_id = named(self.workspace_id), connection_id = %self.id, delivery_id = %work.delivery.id, "the destination's code panicked");
                failed(
                    Outcome::InternalError,
                    "an error in Weft's own code; it was reported to the server's log",
                )
            }
            Err(_) => {
                error!(workspace_id = named(self.workspace_id), connection_id = %self.id, delivery_id = %work.delivery.id, "the destination's code overran its time");
                failed(Outcome::Timeout, "no answer in time")
            }
        };
        Landed::Reported { work, version: self.version, started_at, report }
    }
}

/// The report of an attempt that nobody answered.
fn failed(outcome: Outcome, message: &str) -> Report {
    Report { outcome, http_status: None, message: message.to_owned(), retry_after: None, response: None }
}
