//! One connection: delivers what is due, a few at a time, and decides when to try again.
//!
//! Sole owner of its pace; its credentials are asked for as each call needs them. Holds a bounded
//! window of what is due and one timer for what is due next: a backlog of millions costs disk, not memory.
//! Holds no work: killed at any line, it starts again from the store.

use super::{
    Context, WINDOW,
    attempt::{Attempt, Finished, Landed, Line, Started},
    children::Bell,
    credentials::Credentials,
    hand::Hand,
    lower::Lower,
    named,
    pace::{Breaker, Limiter, Rate, Turn},
    share::{Share, Slot},
    workspace,
};
use crate::{
    domain::{
        audit::Act,
        connection::{Connection, InactiveReason},
        delivery::{NOTES_BYTES_MAX, Next, Outcome, Report},
        ids::{ConnectionId, WorkspaceId},
        notice::Notice,
        retry::{RETRY_AFTER_MAX, RetryPolicy},
        timestamp::Timestamp,
    },
    store::{Attempted, Change, DueEntry, Pace, Refusal, Scope, StoreError, Work},
};
use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::Instant,
};
use tracing::{debug, error, info, warn};

/// Deliveries called off at a time once their connection is gone.
const CANCEL_BATCH: usize = 256;
/// The pause of a connection that was told to slow down without being told for how long.
const RATE_LIMITED_WAIT: Duration = Duration::from_secs(1);
/// The wait before another look when a connection cannot be made ready.
const UNREADY_WAIT: Duration = Duration::from_secs(30);
/// The wait before another look when others have most of what may be in flight.
const SHARE_WAIT: Duration = Duration::from_millis(250);
/// An attempt that told what came of it.
struct Reported {
    line: Arc<Line>,
    started: Started,
    work: Box<Work>,
    outcome: Outcome,
    retry_after: Option<Duration>,
    inactive: Option<InactiveReason>,
    /// What was answered, where it may make the connection inactive.
    refusal: Option<String>,
    pauses: bool,
    /// Given back once the result is on record: a drain waits for that.
    slot: Option<Slot>,
}

/// Due, whatever the time is.
const AT_ONCE: Timestamp = Timestamp(0);

pub struct ConnectionActor;

/// What its parent passes to start it.
pub struct Args {
    pub id: ConnectionId,
    pub workspace_id: WorkspaceId,
    pub parent: ActorRef<workspace::Msg>,
    pub bell: Bell,
    /// The workspace's share of attempts.
    pub share: Share,
    pub hand: Hand,
    pub ctx: Context,
}

/// What it keeps between messages. Dropping it aborts its attempts.
pub struct State {
    args: Args,
    line: Option<Arc<Line>>,
    /// Outlives the line: a change of something else must not hand out an attempt.
    limiter: Option<Limiter>,
    window: VecDeque<DueEntry>,
    /// Tried first and one by one: one of them may have made an earlier life fall.
    suspects: VecDeque<DueEntry>,
    /// What is replayed: where nothing of the above is to be started.
    lower: Lower,
    /// When something may be due that is not in the window.
    next_due: Option<Timestamp>,
    breaker: Breaker,
    /// Whether the operator was last told that it is open, as soon as that was asked.
    told_open: Option<bool>,
    credentials: Credentials,
    paused_until: Option<Timestamp>,
    attempts: JoinSet<()>,
    landing: Landing,
    timer: Option<(Instant, JoinHandle<()>)>,
    idle_since: Instant,
    wakes: u64,
}

pub enum Msg {
    /// Something may be due: look in the store.
    Wake,
    /// The same, also of what is replayed.
    Queued,
    /// The connection was changed, or is gone: read it again.
    Changed,
    /// The timer is up.
    Tick,
    /// Attempts came back: they are in the state's [`Landing`].
    AttemptsFinished,
}

/// Attempts that came back and are not looked at yet. Many are recorded in one transaction, and one
/// message tells of all.
type Landing = Arc<Mutex<Vec<Finished>>>;

impl Actor for ConnectionActor {
    type Arguments = Args;
    type State = State;
    type Msg = Msg;

    async fn pre_start(&self, myself: ActorRef<Msg>, args: Args) -> Result<State, ActorProcessingErr> {
        myself.cast(Msg::Wake)?;
        args.ctx.faults.at("connection.start");
        args.ctx.store.release(args.id).await;
        let suspects = args.hand.empty();
        Ok(State {
            args,
            line: None,
            limiter: None,
            window: VecDeque::new(),
            suspects: suspects.into(),
            lower: Lower::default(),
            next_due: None,
            breaker: Breaker::default(),
            told_open: None,
            credentials: Credentials::default(),
            paused_until: None,
            attempts: JoinSet::new(),
            landing: Landing::default(),
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
        let handled = state.handle(&myself, msg).await;
        if let Err(Fall::Store(StoreError::Unavailable(_) | StoreError::Fenced)) = &handled {
            // That the store takes nothing for now is no delivery's fault, whatever is in hand.
            state.args.hand.clear();
        }
        Ok(handled?)
    }
}

/// Why it must be started again.
#[derive(Debug, thiserror::Error)]
enum Fall {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the code around an attempt panicked")]
    Panicked,
}

impl State {
    async fn handle(&mut self, myself: &ActorRef<Msg>, msg: Msg) -> Result<(), Fall> {
        match msg {
            Msg::Wake => {
                self.args.bell.hear();
                (self.wakes, self.next_due) = (self.wakes + 1, Some(AT_ONCE));
            }
            Msg::Queued => {
                (self.wakes, self.next_due) = (self.wakes + 1, Some(AT_ONCE));
                self.lower.wakes_by(AT_ONCE);
            }
            Msg::Changed => {
                self.wakes += 1;
                self.read_again();
            }
            Msg::Tick => self.timer = None,
            Msg::AttemptsFinished => self.attempts_finished().await?,
        }
        self.go_on(myself).await
    }

    /// What is known of the connection, and of what is due, is out of date.
    fn read_again(&mut self) {
        (self.line, self.next_due) = (None, Some(AT_ONCE));
        self.window.clear();
        self.lower.look_again(Some(AT_ONCE));
    }

    /// Starts what may be started now, and arms the timer for the rest.
    async fn go_on(&mut self, myself: &ActorRef<Msg>) -> Result<(), Fall> {
        if self.args.ctx.is_draining() {
            return Ok(());
        }
        let line = match &self.line {
            Some(line) => line.clone(),
            None => match self.load().await? {
                Some(line) => line,
                None => {
                    self.leave_if_idle(myself, true);
                    return Ok(());
                }
            },
        };
        loop {
            match self.may_start(&line) {
                Ok(true) => {}
                Ok(false) => return Ok(()), // an attempt that comes back goes on
                Err(wait) => {
                    self.arm(myself, Instant::now() + wait);
                    self.leave_until_unpaused(myself, wait);
                    return Ok(());
                }
            }
            let is_live = self.has_next().await?;
            if !is_live && !self.has_replayed(&line).await? {
                break;
            }
            if let Some(Err(wait)) = self.limiter.as_ref().map(Limiter::take) {
                self.arm(myself, Instant::now() + wait);
                return Ok(());
            }
            let next = match is_live {
                true => self.suspects.pop_front().or_else(|| self.window.pop_front()),
                false => self.lower.take(),
            };
            if let Some(entry) = next {
                self.start(myself, &line, entry);
            }
        }
        if let Some(due) = self.soonest(line.max_in_flight) {
            let wait = self.args.ctx.until(due).min(self.args.ctx.settings.idle_after);
            self.arm(myself, Instant::now() + wait);
        }
        self.leave_if_idle(myself, false);
        Ok(())
    }

    /// Reads the connection and makes it ready. `None`: it takes no deliveries now.
    async fn load(&mut self) -> Result<Option<Arc<Line>>, StoreError> {
        let Args { id, workspace_id, ctx, .. } = &self.args;
        ctx.faults.at("connection.load");
        self.next_due = None;
        self.lower.look_again(None);
        let Some(connection) = ctx.store.connection(Scope::Workspace(*workspace_id), *id).await? else {
            self.call_off().await?;
            return Ok(None);
        };
        if !connection.takes_deliveries() {
            return Ok(None);
        }
        let prepared = match ctx.preparer.prepare(&connection).await {
            Ok(prepared) => prepared,
            Err(reason) => {
                error!(workspace_id = named(*workspace_id), connection_id = %id, %reason, "connection is not usable; its deliveries wait");
                self.next_due = Some(ctx.clock.now().after(UNREADY_WAIT));
                return Ok(None);
            }
        };
        self.paused_until = ctx.store.pace(*id).await?.paused_until;
        if self.told_open.is_none() && ctx.notices.are_of(*workspace_id) {
            // An earlier life may have said so.
            self.told_open = Some(ctx.is_told_open(*id).await?);
        }
        let (policy, settings) = (&connection.policy, &ctx.settings);
        let rate =
            policy.rate_per_second.map(|per_second| Rate { per_second, burst: policy.burst.unwrap_or(1) });
        if self.limiter.as_ref().map(Limiter::rate) != rate {
            self.limiter = rate.map(Limiter::new);
        }
        let waits =
            policy.retry.as_ref().map(|waits| waits.iter().map(|ms| Duration::from_millis(*ms)).collect());
        let retry =
            RetryPolicy { waits: waits.unwrap_or_else(|| settings.retry.waits.clone()), ..settings.retry };
        let most =
            prepared.in_flight().map_or(settings.max_in_flight, |most| most.min(settings.max_in_flight));
        let max_in_flight = policy.max_in_flight.unwrap_or(most).max(1) as usize;
        let timeout = policy.timeout(settings.timeout);
        self.credentials.are_of(connection.version);
        self.next_due = Some(AT_ONCE);
        self.lower.look_again(Some(AT_ONCE));
        let line = Arc::new(Line { connection, prepared, retry, timeout, max_in_flight });
        Ok(Some(self.line.insert(line).clone()))
    }

    /// The connection is gone: calls off what waits for it.
    async fn call_off(&self) -> Result<(), StoreError> {
        let Args { id, workspace_id, ctx, .. } = &self.args;
        loop {
            let now = ctx.clock.now();
            if ctx.store.cancel_queued(ctx.fence, *workspace_id, *id, now, CANCEL_BATCH).await? < CANCEL_BATCH
            {
                return Ok(());
            }
        }
    }

    /// Whether one more attempt may start now, or how long to wait before that is known.
    fn may_start(&mut self, line: &Line) -> Result<bool, Duration> {
        if let Some(until) = self.paused_until {
            if until > self.args.ctx.clock.now() {
                return Err(self.args.ctx.until(until));
            }
            self.paused_until = None;
        }
        let (in_flight, has_suspects) = self.args.hand.count();
        let max = if has_suspects { 1 } else { self.credentials.allow(line.max_in_flight) };
        let allowed = self.breaker.allows(max).map_err(|until| until - Instant::now())?;
        if in_flight >= allowed {
            return Ok(false);
        }
        if self.args.share.allows(in_flight) { Ok(true) } else { Err(SHARE_WAIT) }
    }

    /// Whether there is something to start, after a look in the store if need be.
    async fn has_next(&mut self) -> Result<bool, StoreError> {
        let Args { id, workspace_id, ctx, hand, .. } = &self.args;
        if self.suspects.is_empty() && self.window.is_empty() {
            let now = ctx.clock.now();
            if self.next_due.is_some_and(|due| due <= now) {
                // Those in hand that are not taken up yet are in the queue still.
                let limit = WINDOW + hand.count().0;
                let page = ctx.store.due(*workspace_id, *id, now, limit).await?;
                self.next_due = page.next;
                self.window.extend(hand.without(page.entries));
            }
        }
        Ok(!self.suspects.is_empty() || !self.window.is_empty())
    }

    /// The same of what is replayed, where it may have one more attempt.
    async fn has_replayed(&mut self, line: &Line) -> Result<bool, StoreError> {
        let Args { id, workspace_id, ctx, hand, .. } = &self.args;
        let bounds = (line.max_in_flight, WINDOW + hand.count().0);
        self.lower.has_next(&*ctx.store, (*workspace_id, *id), ctx.clock.now(), hand, bounds).await
    }

    /// When something may be due next.
    fn soonest(&self, max_in_flight: usize) -> Option<Timestamp> {
        self.next_due.into_iter().chain(self.lower.next_due(max_in_flight)).min()
    }

    fn start(&mut self, myself: &ActorRef<Msg>, line: &Arc<Line>, entry: DueEntry) {
        let slot = self.args.share.take(self.args.hand.take(entry));
        let attempt = Attempt {
            entry,
            line: line.clone(),
            started: Started { spell: self.breaker.started(), known: self.credentials.known() },
            share: self.args.share.clone(),
            slot,
            ctx: self.args.ctx.clone(),
        };
        let (myself, landing) = (myself.clone(), self.landing.clone());
        self.attempts.spawn(async move {
            let finished = attempt.run().await;
            let is_first = {
                let mut landing = landing.lock();
                landing.push(finished);
                landing.len() == 1
            };
            if is_first {
                // Nobody is left to tell only when the actor is gone, and then this task with it.
                let _ = myself.cast(Msg::AttemptsFinished);
            }
        });
    }

    async fn attempts_finished(&mut self) -> Result<(), Fall> {
        while self.attempts.try_join_next().is_some() {}
        self.idle_since = Instant::now();
        let landed = std::mem::take(&mut *self.landing.lock());
        let (mut reported, mut attempted, mut fall) = (Vec::new(), Vec::new(), None);
        for finished in landed {
            self.args.ctx.faults.at("connection.attempt_finished");
            let Finished { entry, line, started, landed, slot } = finished;
            match landed {
                Landed::Reported { work, started_at, report } => {
                    let (retry_after, inactive) = (report.retry_after, report.inactive);
                    let pauses = report.pauses;
                    let came_to = self.judge(&line, started, &work, started_at, report);
                    let is_refusal = came_to.outcome == Outcome::AuthFailed;
                    reported.push(Reported {
                        line,
                        started,
                        work,
                        outcome: came_to.outcome,
                        retry_after,
                        inactive,
                        refusal: is_refusal.then(|| came_to.message.clone()),
                        pauses,
                        slot,
                    });
                    attempted.push(came_to);
                }
                Landed::Unreadable(work) => {
                    attempted.push(self.set_aside(&work));
                    let outcome = Outcome::InternalError;
                    reported.push(Reported {
                        line,
                        started,
                        work,
                        outcome,
                        retry_after: None,
                        inactive: None,
                        refusal: None,
                        pauses: false,
                        slot,
                    });
                }
                Landed::Withdrawn => self.withdraw(entry, started),
                Landed::ConnectionChanged => {
                    self.withdraw(entry, started);
                    // Read as it is now, it need not be read again; what was not taken up is in the store.
                    let is_known = self.line.as_ref().is_some_and(|now| !Arc::ptr_eq(now, &line));
                    if is_known {
                        self.next_due = Some(AT_ONCE);
                    } else {
                        self.read_again();
                    }
                }
                Landed::StoreFailed(err) => fall = Some(err.into()),
                Landed::Panicked => fall = Some(Fall::Panicked),
            }
        }
        self.record(reported, attempted).await?;
        fall.map_or(Ok(()), Err)
    }

    /// It was not even tried.
    fn withdraw(&mut self, entry: DueEntry, started: Started) {
        self.breaker.withdrawn(started.spell);
        self.args.hand.landed(entry.delivery_id);
        self.lower.landed(entry.delivery_id);
    }

    /// What an attempt came to, and what follows for its delivery.
    fn judge(
        &self,
        line: &Line,
        started: Started,
        work: &Work,
        started_at: Timestamp,
        report: Report,
    ) -> Attempted {
        let Args { id, workspace_id, ctx, .. } = &self.args;
        let (now, delivery) = (ctx.clock.now(), &work.delivery);
        let worked_at = self.credentials.worked_at(started.known);
        let next = delivery.after(&report, &line.retry, worked_at, now, rand::random());
        let (outcome, number, elapsed) = (report.outcome, delivery.attempt_count + 1, now.since(started_at));
        let elapsed_ms = elapsed.as_millis();
        metrics::counter!("weft_attempts_total", "outcome" => outcome.as_str(), "destination" => delivery.destination.clone()).increment(1);
        metrics::histogram!("weft_attempt_seconds").record(elapsed.as_secs_f64());
        if outcome == Outcome::Delivered {
            debug!(workspace_id = named(*workspace_id), connection_id = %id, event_id = %work.event.id, delivery_id = %delivery.id, attempt = number, destination = %delivery.destination, elapsed_ms, "delivered");
        } else {
            warn!(workspace_id = named(*workspace_id), connection_id = %id, event_id = %work.event.id, delivery_id = %delivery.id, attempt = number, destination = %delivery.destination, outcome = outcome.as_str(), elapsed_ms, ?next, "attempt failed");
        }
        Attempted {
            delivery_id: delivery.id,
            event_id: work.event.id,
            started_at,
            finished_at: now,
            outcome,
            http_status: report.http_status,
            message: report.message,
            response: report.response,
            next,
            notes: report.notes.filter(|notes| next != Next::Completed && notes.len() <= NOTES_BYTES_MAX),
        }
    }

    /// Fails a delivery of which nothing is left to be sent: no further try would find it again.
    fn set_aside(&self, work: &Work) -> Attempted {
        let Args { id, workspace_id, ctx, .. } = &self.args;
        let (at, Work { delivery, event, .. }) = (ctx.clock.now(), work);
        error!(workspace_id = named(*workspace_id), connection_id = %id, event_id = %event.id, delivery_id = %delivery.id, "set aside: its event's payload cannot be read any more");
        metrics::counter!("weft_deliveries_set_aside_total").increment(1);
        Attempted {
            delivery_id: delivery.id,
            event_id: event.id,
            started_at: at,
            finished_at: at,
            outcome: Outcome::InternalError,
            http_status: None,
            message: Refusal::PayloadLost.to_string(),
            response: None,
            next: Next::Failed,
            notes: None,
        }
    }

    /// Records attempts in one transaction, and learns from each.
    async fn record(&mut self, reported: Vec<Reported>, attempted: Vec<Attempted>) -> Result<(), StoreError> {
        if attempted.is_empty() {
            return Ok(());
        }
        let Args { workspace_id, ctx, .. } = &self.args;
        let nexts: Vec<Next> = attempted.iter().map(|attempted| attempted.next).collect();
        let now = ctx.clock.now();
        let works = reported.iter().map(|reported| &*reported.work);
        let failures = ctx.notices.failures(works.zip(&attempted));
        ctx.store.record_attempts(ctx.fence, *workspace_id, attempted).await?;
        failures.into_iter().for_each(|failure| ctx.notices.notify(failure, now));
        for (reported, next) in reported.into_iter().zip(nexts) {
            self.args.ctx.faults.at("connection.recorded");
            self.lower.landed(reported.work.delivery.id);
            if let Next::Due { at, .. } = next {
                if reported.work.delivery.replay.is_some() {
                    self.lower.wakes_by(at);
                }
                self.next_due = Some(self.next_due.map_or(at, |next| next.min(at)));
            }
            if self.credentials.are_those_of(reported.started.known) {
                self.learn(&reported, now).await?;
            } else {
                // What the connection was before says nothing about what it is.
                self.breaker.withdrawn(reported.started.spell);
            }
            self.args.hand.landed(reported.work.delivery.id);
            drop(reported.slot);
        }
        Ok(())
    }

    /// What an outcome says about the destination as a whole.
    async fn learn(&mut self, reported: &Reported, now: Timestamp) -> Result<(), StoreError> {
        let Reported { line, started, work, outcome, retry_after, inactive, refusal, pauses, .. } = reported;
        let (outcome, mut has_answered) = (*outcome, false);
        let turn = if outcome.is_destination_down() {
            self.breaker.failed(started.spell, rand::random())
        } else if outcome == Outcome::InternalError || outcome == Outcome::MappingError {
            self.breaker.withdrawn(started.spell); // says nothing about the destination
            None
        } else {
            has_answered = true;
            self.breaker.answered(started.spell, line.max_in_flight)
        };
        self.tell_of_breaker(&line.connection, has_answered, now);
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
        if let (Outcome::AuthFailed, Some(reason)) = (outcome, *inactive) {
            return self.inactivate(&line.connection, reason, refusal.clone(), now).await;
        }
        match outcome {
            Outcome::Delivered => self.credentials.worked(now),
            Outcome::RateLimited if *pauses => {
                let until = now.after(retry_after.unwrap_or(RATE_LIMITED_WAIT).min(RETRY_AFTER_MAX));
                if self.paused_until.is_none_or(|paused| paused < until) {
                    self.paused_until = Some(until);
                    ctx.store.record_pace(ctx.fence, *id, Pace { paused_until: Some(until) }).await?;
                }
            }
            Outcome::AuthFailed if work.delivery.is_to_blame(self.credentials.worked_at(started.known)) => {}
            Outcome::AuthFailed if self.credentials.refused(started.known) => {
                let reason = InactiveReason::AuthenticationInvalid;
                self.inactivate(&line.connection, reason, refusal.clone(), now).await?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Tells the operator of a breaker that turned, also of one that an earlier life saw open.
    fn tell_of_breaker(&mut self, connection: &Connection, has_answered: bool, now: Timestamp) {
        let is_open = self.breaker.is_open();
        if self.told_open.is_some_and(|told| told != is_open && (is_open || has_answered)) {
            self.told_open = Some(is_open);
            self.args.ctx.notices.notify(Notice::of_breaker(connection, is_open), now);
        }
    }

    /// The destination refuses our credentials: nothing more is sent until a person mends that.
    async fn inactivate(
        &mut self,
        connection: &Connection,
        reason: InactiveReason,
        refusal: Option<String>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.read_again();
        let Args { id, workspace_id, ctx, .. } = &self.args;
        warn!(workspace_id = named(*workspace_id), connection_id = %id, "credentials are refused: the connection is inactive, its deliveries wait");
        let inactive = Connection {
            inactive: Some(reason),
            refusal,
            version: connection.version + 1,
            updated_at: now,
            ..connection.clone()
        };
        let notice = Notice::of_change(connection, &inactive);
        let act = Some(Act::of_system(now));
        match ctx.store.configure(ctx.fence, Change::UpdateConnection(inactive), act).await {
            Ok(()) => notice.into_iter().for_each(|notice| ctx.notices.notify(notice, now)),
            // Somebody changed it meanwhile, perhaps its credentials: they get their chance.
            Err(StoreError::Refused(_)) => {}
            Err(err) => return Err(err),
        }
        Ok(())
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
            self.lower.look_again(self.paused_until);
            self.leave_if_idle(myself, true);
        }
    }

    /// Asks the parent to be put away, if there is nothing to do for a while. A connection that
    /// takes no deliveries need not wait for that.
    fn leave_if_idle(&mut self, myself: &ActorRef<Msg>, at_once: bool) {
        // A limiter made anew hands out an attempt: it goes when it would have had one again.
        let idle_after = self.args.ctx.settings.idle_after;
        let stays = self.limiter.as_ref().map_or(idle_after, |limiter| limiter.memory().max(idle_after));
        if self.args.hand.count().0 > 0 || !self.window.is_empty() || !self.lower.is_empty() {
            return;
        }
        let soon = self.args.ctx.clock.now().after(idle_after);
        let next_due = self.soonest(usize::MAX);
        if !at_once && next_due.is_some_and(|due| due <= soon) {
            return;
        }
        if at_once || self.idle_since.elapsed() >= stays {
            let (id, handled) = (self.args.id, self.wakes);
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
