//! Tells the operator: takes notices in from anywhere, without ever making anybody wait, and appends
//! them as events of the operator's own workspace, which are delivered as all others are.
//!
//! What was told is what the store holds: so a change of state that is noticed again, after a fall or
//! a restart, is not told again. A process that is killed may lose what it just noticed.

mod queue;

use super::{Context, named, root};
use crate::{
    domain::{
        delivery::{Next, Outcome},
        event::{Event, Status},
        ids::{ConnectionId, EventId, IdSource, WorkspaceId},
        notice::{self, Failure, Notice},
        timestamp::Timestamp,
    },
    store::{Appended, Attempted, EventFilter, Idempotency, NewEvent, Scope, StoreError, Work},
};
use parking_lot::Mutex;
use queue::{Noticed, Queue};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use sha2::{Digest, Sha256};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tracing::{error, warn};

/// Notices that are appended at a time.
const BATCH_MAX: usize = 64;
/// The wait before another try when the store takes nothing.
const STORE_WAIT: Duration = Duration::from_secs(1);
/// Who made their events.
const CREATED_BY: &str = "weft";

/// Where notices are handed in. By default nobody is told, and that costs nothing. Clones are the same.
#[derive(Clone, Default)]
pub struct Notices(Option<Arc<Shared>>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// There is something new.
    rung: Notify,
    /// All there was is told.
    emptied: Notify,
}

impl Notices {
    /// Somebody is to be told.
    pub fn on() -> Self {
        Self(Some(Arc::default()))
    }

    /// Whether somebody is.
    pub fn are_on(&self) -> bool {
        self.0.is_some()
    }

    /// Whether somebody is to be told of this workspace.
    pub fn are_of(&self, workspace: WorkspaceId) -> bool {
        self.are_on() && workspace != notice::WORKSPACE
    }

    /// Takes a notice in, at once. It is dropped when too many wait.
    pub fn notify(&self, notice: Notice, at: Timestamp) {
        let Some(shared) = self.0.as_ref().filter(|_| !notice.is_of_our_own()) else { return };
        let name = notice.name();
        if shared.queue.lock().push(Noticed { notice, at }, Instant::now()) {
            shared.rung.notify_one();
        } else {
            metrics::counter!("weft_operational_events_dropped_total", "event" => name).increment(1);
        }
    }

    /// Returns once all is told that was noticed.
    pub async fn told(&self) {
        let Some(shared) = &self.0 else { return };
        loop {
            let mut emptied = std::pin::pin!(shared.emptied.notified());
            emptied.as_mut().enable();
            if shared.queue.lock().is_empty() {
                return;
            }
            shared.rung.notify_one();
            emptied.await;
        }
    }

    /// Those attempts that were the last of their delivery, as they are to be told.
    pub fn failures<'a>(&self, attempts: impl IntoIterator<Item = (&'a Work, &'a Attempted)>) -> Vec<Notice> {
        if !self.are_on() {
            return Vec::new();
        }
        let failed = attempts.into_iter().filter(|(work, attempted)| {
            attempted.next == Next::Failed && work.event.workspace_id != notice::WORKSPACE
        });
        failed.map(|(work, attempted)| failure(work, attempted)).collect()
    }
}

fn failure(Work { delivery, event, .. }: &Work, attempted: &Attempted) -> Notice {
    Notice::DeliveryFailed(Failure {
        organization: event.organization_id,
        workspace: event.workspace_id,
        connection: delivery.connection_id,
        rule: delivery.rule_id,
        event: event.id,
        delivery: delivery.id,
        attempts: delivery.attempt_count + 1,
        outcome: attempted.outcome,
        http_status: attempted.http_status,
        count: 1,
        since: attempted.finished_at,
    })
}

impl Context {
    /// Tells of a delivery that was set aside.
    pub(super) async fn notice_set_aside(&self, workspace: WorkspaceId, attempted: &Attempted) {
        if !self.notices.are_of(workspace) {
            return;
        }
        let details = match self.store.event(Scope::Workspace(workspace), attempted.event_id).await {
            Ok(details) => details,
            Err(err) => {
                return error!(workspace_id = named(workspace), delivery_id = %attempted.delivery_id, %err, "the operator is not told of a delivery that was set aside");
            }
        };
        let Some(details) = details else { return };
        let mut deliveries = details.deliveries.iter();
        if let Some(delivery) = deliveries.find(|delivery| delivery.id == attempted.delivery_id) {
            let notice = Notice::DeliveryFailed(Failure {
                organization: details.summary.event.organization_id,
                workspace,
                connection: delivery.connection_id,
                rule: delivery.rule_id,
                event: attempted.event_id,
                delivery: delivery.id,
                attempts: delivery.attempt_count,
                outcome: Outcome::InternalError,
                http_status: None,
                count: 1,
                since: attempted.finished_at,
            });
            self.notices.notify(notice, attempted.finished_at);
        }
    }

    /// Whether the operator was last told that this connection's breaker is open.
    pub(super) async fn is_told_open(&self, connection: ConnectionId) -> Result<bool, StoreError> {
        let opened = self.last_told(notice::BREAKER_OPENED, &connection.to_string()).await?;
        let Some(opened) = opened else { return Ok(false) };
        let closed = self.last_told(notice::BREAKER_CLOSED, &connection.to_string()).await?;
        Ok(closed.is_none_or(|closed| closed < opened))
    }

    async fn last_told(&self, name: &str, subject: &str) -> Result<Option<EventId>, StoreError> {
        let filter = EventFilter {
            event: Some(name.to_owned()),
            resource_id: Some(subject.to_owned()),
            ..Default::default()
        };
        let page = self.store.events(Scope::Workspace(notice::WORKSPACE), filter, None, 1).await?;
        Ok(page.records.first().map(|told| told.event.id))
    }
}

pub struct NoticesActor;

/// What its parent passes to start it.
pub struct Args {
    pub parent: ActorRef<root::Msg>,
    pub ctx: Context,
}

/// What it keeps between messages. What is to be told is in the handle, and outlives it.
pub struct State {
    parent: ActorRef<root::Msg>,
    ctx: Context,
    shared: Arc<Shared>,
    ids: IdSource,
    /// Waits for what comes next.
    waiting: JoinSet<()>,
}

pub enum Msg {
    /// Something may be to be told.
    Look,
}

impl Actor for NoticesActor {
    type Arguments = Args;
    type State = State;
    type Msg = Msg;

    async fn pre_start(&self, myself: ActorRef<Msg>, args: Args) -> Result<State, ActorProcessingErr> {
        myself.cast(Msg::Look)?;
        let Args { parent, ctx } = args;
        let shared = ctx.notices.0.clone().unwrap_or_default();
        let ids = IdSource::starting_after(ctx.store.latest());
        Ok(State { parent, ctx, shared, ids, waiting: JoinSet::new() })
    }

    async fn handle(
        &self,
        myself: ActorRef<Msg>,
        _: Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.look(&myself).await
    }
}

impl State {
    async fn look(&mut self, myself: &ActorRef<Msg>) -> Result<(), ActorProcessingErr> {
        while self.waiting.try_join_next().is_some() {}
        let (batch, dropped) = {
            let mut queue = self.shared.queue.lock();
            queue.close_sums(Instant::now(), self.ctx.is_draining());
            (queue.first(BATCH_MAX), queue.dropped())
        };
        if dropped > 0 {
            warn!(dropped, "operational events were dropped: too many waited to be told");
        }
        if batch.is_empty() {
            self.shared.emptied.notify_waiters();
            self.wait(myself);
            return Ok(());
        }
        self.ctx.faults.at("notices.append");
        match self.append(&batch).await {
            Ok(()) => {
                self.shared.queue.lock().told(batch.len());
                myself.cast(Msg::Look)?;
            }
            Err(StoreError::Unavailable(why)) => {
                warn!(%why, "operational events wait for the store");
                myself.send_after(STORE_WAIT, || Msg::Look);
            }
            Err(err) => return Err(err.into()),
        }
        Ok(())
    }

    /// Looks again once there is something new, or a sum is to be closed.
    fn wait(&mut self, myself: &ActorRef<Msg>) {
        let next_sum = self.shared.queue.lock().next_sum();
        let (shared, myself) = (self.shared.clone(), myself.clone());
        self.waiting.spawn(async move {
            let sum_is_due = async {
                match next_sum {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shared.rung.notified() => {}
                () = sum_is_due => {}
            }
            // Nobody is left to tell only when the actor is gone, and then this task with it.
            let _ = myself.cast(Msg::Look);
        });
    }

    /// Puts them on disk as events. Doing so again changes nothing.
    async fn append(&self, batch: &[Noticed]) -> Result<(), StoreError> {
        let (mut news, mut names, mut open) = (Vec::new(), Vec::new(), HashMap::new());
        for noticed in batch {
            if self.is_news(&noticed.notice, &mut open).await? {
                names.push(noticed.notice.name());
                news.push(self.as_event(noticed));
            }
        }
        if news.is_empty() {
            return Ok(());
        }
        let mut failed = None;
        let appended = self.ctx.store.append_events(self.ctx.fence, news).await;
        // What failed may be on disk all the same.
        let _ = self.parent.cast(root::Msg::Wake(notice::WORKSPACE));
        for (name, appended) in names.into_iter().zip(appended) {
            match appended {
                Ok(Appended::New) => {
                    metrics::counter!("weft_operational_events_total", "event" => name).increment(1);
                }
                Ok(Appended::Repeated(_)) => {}
                Err(StoreError::Refused(why)) => {
                    error!(event = name, %why, "an operational event is refused")
                }
                Err(err) => failed = Some(err),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Whether it says something that was not told. `open`: the breakers that this batch tells of.
    async fn is_news(
        &self,
        notice: &Notice,
        open: &mut HashMap<ConnectionId, bool>,
    ) -> Result<bool, StoreError> {
        match notice {
            Notice::BreakerOpened { connection, .. } | Notice::BreakerClosed { connection, .. } => {
                let is_open = matches!(notice, Notice::BreakerOpened { .. });
                let was_open = match open.get(connection) {
                    Some(was_open) => *was_open,
                    None => self.ctx.is_told_open(*connection).await?,
                };
                open.insert(*connection, is_open);
                Ok(is_open != was_open)
            }
            Notice::LimitNear { .. } | Notice::LimitReached { .. } | Notice::ReplayFinished { .. } => {
                Ok(self.ctx.last_told(notice.name(), &notice.subject().1).await?.is_none())
            }
            // One that was called off while its last attempt was in flight did not fail.
            Notice::DeliveryFailed(failure) if failure.count == 1 => {
                let scope = Scope::Workspace(failure.workspace);
                let details = self.ctx.store.event(scope, failure.event).await?;
                let deliveries = details.map(|details| details.deliveries).unwrap_or_default();
                let mut called_off = deliveries.iter().filter(|one| one.status == Status::Canceled);
                Ok(!called_off.any(|delivery| delivery.id == failure.delivery))
            }
            Notice::DeliveryFailed(_) | Notice::ConnectionInactive { .. } => Ok(true),
        }
    }

    fn as_event(&self, Noticed { notice, at }: &Noticed) -> NewEvent {
        let now = self.ctx.clock.now();
        let ((resource, resource_id), identity) = (notice.subject(), notice.identity(*at));
        let event = Event {
            id: EventId::from_uuid(self.ids.next(now)),
            organization_id: notice::ORGANIZATION,
            workspace_id: notice::WORKSPACE,
            name: notice.name().to_owned(),
            resource: resource.to_owned(),
            resource_id: Some(resource_id),
            created_by: CREATED_BY.to_owned(),
            accepted_at: now,
        };
        let fingerprint = Sha256::digest(&identity).into();
        NewEvent {
            event,
            payload: notice.payload(*at),
            idempotency: Some(Idempotency { key: identity, fingerprint }),
        }
    }
}
