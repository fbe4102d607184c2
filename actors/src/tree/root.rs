//! The root: starts workspaces on demand and, at start, those with unfinished work.

use super::{
    Context,
    children::{Budget, Child, Fallen, Waiting},
    named,
    notices::{self, NoticesActor},
    quarantine::Who,
    replays::{self, ReplaysActor},
    retention::{self, RetentionActor},
    workspace::{self, WorkspaceActor},
};
use crate::domain::{
    ids::{ConnectionId, WorkspaceId},
    timestamp::Timestamp,
};
use parking_lot::Mutex;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};
use tokio::sync::watch;
use tracing::{error, info, warn};

/// Unfinished workspaces read from the store at a time.
const RECOVERY_BATCH: usize = 1_000;
/// How long a tree that is told to stop may take to put its actors away.
const STOP_MAX: Duration = Duration::from_secs(5);
/// How long a tree that is told to stop tells the operator of what it noticed.
const TELL_MAX: Duration = Duration::from_secs(2);

/// The running tree. The only way in: wake it, or drain it.
pub struct Tree {
    root: ActorRef<Msg>,
    ctx: Context,
    rung: Rung,
    ended: watch::Receiver<bool>,
}

/// Workspaces whose wake is on its way to the root: another would say nothing new.
type Rung = Arc<Mutex<HashSet<WorkspaceId>>>;

impl Tree {
    /// Starts the tree: recovery is its first message.
    pub async fn start(ctx: Context) -> Result<Self, ractor::SpawnErr> {
        let rung = Rung::default();
        let args = Args { ctx: ctx.clone(), rung: rung.clone() };
        let (root, handle) = Actor::spawn(None, RootActor, args).await?;
        let (tell_ended, ended) = watch::channel(false);
        tokio::spawn(async move {
            // However it ended, it ended.
            let _ = handle.await;
            let _ = tell_ended.send(true);
        });
        Ok(Self { root, ctx, rung, ended })
    }

    /// Events were accepted for this workspace.
    pub fn wake(&self, workspace: WorkspaceId) {
        if self.rung.lock().insert(workspace) {
            // A root that is gone ends the process; what is in the store waits for the next one.
            let _ = self.root.cast(Msg::Wake(workspace));
        }
    }

    /// A connection was changed by a person, or deleted.
    pub fn connection_changed(&self, workspace: WorkspaceId, connection: ConnectionId) {
        let _ = self.root.cast(Msg::Pass(workspace, workspace::Msg::Changed(connection)));
    }

    /// A delivery of this connection was made due by a person.
    pub fn queued(&self, workspace: WorkspaceId, connection: ConnectionId) {
        let _ = self.root.cast(Msg::Pass(workspace, workspace::Msg::Queued(connection)));
    }

    /// A replay was made, or told to do something else.
    pub fn replays_changed(&self) {
        let _ = self.root.cast(Msg::WakeReplays);
    }

    /// Until when a workspace's events stay unrouted because it fell too often; `None`: they do not.
    pub fn routing_paused_until(&self, workspace: WorkspaceId) -> Option<Timestamp> {
        let who = [Who::Rule(workspace), Who::Workspace(workspace)];
        self.ctx.quarantine.until(&who, self.ctx.clock.now())
    }

    /// Until when a connection is left alone because it fell too often; `None`: it is not.
    pub fn quarantined_until(&self, workspace: WorkspaceId, connection: ConnectionId) -> Option<Timestamp> {
        let who = [Who::Connection(connection), Who::Workspace(workspace)];
        self.ctx.quarantine.until(&who, self.ctx.clock.now())
    }

    /// Returns when the tree has ended, which it does only when the root fell or was drained.
    pub async fn ended(&self) {
        let mut ended = self.ended.clone();
        // An error means that the watcher is gone, and so is the root.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        // As above, whoever would say so is gone, too.
        *self.ended.borrow() || self.ended.has_changed().is_err()
    }

    /// Starts no more attempts, and waits up to `patience` for those in flight. What does not
    /// come back in time is tried again after the next start.
    pub async fn drain(&self, patience: Duration) {
        self.ctx.start_draining();
        if tokio::time::timeout(patience, self.ctx.slots.all_landed()).await.is_err() {
            info!("gave up what was still in flight; it is tried again after the next start");
        }
        if tokio::time::timeout(TELL_MAX, self.ctx.notices.told()).await.is_err() {
            warn!("the operator is not told of all that was noticed");
        }
        self.root.stop(None);
        if tokio::time::timeout(STOP_MAX, self.ended()).await.is_err() {
            warn!("an actor does not stop; the store closes without waiting for it");
        }
    }
}

struct RootActor;

struct Args {
    ctx: Context,
    rung: Rung,
}

struct State {
    ctx: Context,
    rung: Rung,
    retention: Child<retention::Msg>,
    replays: Child<replays::Msg>,
    notices: Child<notices::Msg>,
    workspaces: HashMap<WorkspaceId, Child<workspace::Msg>>,
    /// Whose actor each is that is up.
    names: HashMap<ActorId, WorkspaceId>,
    /// Workspaces put away with something due later.
    waiting: Waiting<WorkspaceId>,
    /// How often the store may fail to say what is unfinished.
    budget: Budget,
}

pub enum Msg {
    /// Events were accepted for this workspace.
    Wake(WorkspaceId),
    /// A workspace is to be told this.
    Pass(WorkspaceId, workspace::Msg),
    /// A workspace that fell has waited long enough.
    Restart(WorkspaceId),
    /// Retention fell and has waited long enough.
    RestartRetention,
    /// The same for notices.
    RestartNotices,
    /// A replay was made, or told to do something else.
    WakeReplays,
    /// Replays fell and have waited long enough.
    RestartReplays,
    /// It is time to look at what waits.
    Tick,
    /// Go on reading what a former life left unfinished, after this workspace.
    Recover(Option<WorkspaceId>),
    /// A workspace has nothing to do until then, having handled so many wakes.
    WorkspaceIdle { id: WorkspaceId, handled: u64, next_due: Option<Timestamp> },
}

impl Actor for RootActor {
    type Arguments = Args;
    type State = State;
    type Msg = Msg;

    async fn pre_start(&self, myself: ActorRef<Msg>, args: Args) -> Result<State, ActorProcessingErr> {
        myself.cast(Msg::Recover(None))?;
        myself.cast(Msg::RestartRetention)?;
        myself.cast(Msg::RestartReplays)?;
        if args.ctx.notices.are_on() {
            myself.cast(Msg::RestartNotices)?;
        }
        myself.cast(Msg::Tick)?;
        Ok(State {
            ctx: args.ctx,
            rung: args.rung,
            retention: Child::default(),
            replays: Child::default(),
            notices: Child::default(),
            workspaces: HashMap::new(),
            names: HashMap::new(),
            waiting: Waiting::default(),
            budget: Budget::default(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Msg>,
        msg: Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            Msg::Wake(id) => {
                state.rung.lock().remove(&id);
                state.ctx.faults.at("root.wake");
                state.wake(&myself, id, workspace::Msg::Wake).await;
            }
            Msg::Pass(id, msg) => state.wake(&myself, id, msg).await,
            Msg::Restart(id) => state.start(&myself, id).await,
            Msg::RestartRetention => state.start_retention(&myself).await,
            Msg::WakeReplays => state.replays.tell(replays::Msg::Wake),
            Msg::RestartReplays => state.start_replays(&myself).await,
            Msg::RestartNotices => state.start_notices(&myself).await,
            Msg::Tick => state.tick(&myself).await,
            Msg::Recover(after) => state.recover(&myself, after).await?,
            Msg::WorkspaceIdle { id, handled, next_due } => state.workspace_idle(id, handled, next_due),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Msg>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(cell, err) => {
                state.child_ended(&myself, cell.get_id(), &err.to_string())
            }
            SupervisionEvent::ActorTerminated(cell, _, _) => {
                state.child_ended(&myself, cell.get_id(), "it ended")
            }
            _ => {}
        }
        Ok(())
    }
}

impl State {
    async fn wake(&mut self, myself: &ActorRef<Msg>, id: WorkspaceId, msg: workspace::Msg) {
        let child = self.workspaces.entry(id).or_default();
        if child.is_down() {
            return;
        }
        if !child.is_up() {
            self.start(myself, id).await;
        }
        if let Some(child) = self.workspaces.get_mut(&id) {
            match msg {
                workspace::Msg::Wake => child.ring(msg),
                msg => child.tell(msg),
            }
        }
    }

    async fn start(&mut self, myself: &ActorRef<Msg>, id: WorkspaceId) {
        let child = self.workspaces.entry(id).or_default();
        if child.is_up() {
            return;
        }
        self.waiting.remove(id);
        self.ctx.quarantine.let_go(Who::Workspace(id));
        let bell = child.new_bell();
        let args = workspace::Args { id, parent: myself.clone(), bell, ctx: self.ctx.clone() };
        match Actor::spawn_linked(None, WorkspaceActor, args, myself.get_cell()).await {
            Ok((actor, _)) => {
                self.names.insert(actor.get_id(), id);
                child.started(actor);
            }
            Err(err) => self.workspace_fell(myself, id, &err.to_string()),
        }
        metrics::gauge!("weft_workspaces_active").set(self.workspaces.len() as f64);
    }

    async fn start_retention(&mut self, myself: &ActorRef<Msg>) {
        self.ctx.quarantine.let_go(Who::Retention);
        let args = retention::Args { ctx: self.ctx.clone() };
        match Actor::spawn_linked(None, RetentionActor, args, myself.get_cell()).await {
            Ok((actor, _)) => self.retention.started(actor),
            Err(err) => self.retention_fell(myself, &err.to_string()),
        }
    }

    async fn start_replays(&mut self, myself: &ActorRef<Msg>) {
        self.ctx.quarantine.let_go(Who::Replays);
        let args = replays::Args { parent: myself.clone(), ctx: self.ctx.clone() };
        match Actor::spawn_linked(None, ReplaysActor, args, myself.get_cell()).await {
            Ok((actor, _)) => self.replays.started(actor),
            Err(err) => self.replays_fell(myself, &err.to_string()),
        }
    }

    async fn start_notices(&mut self, myself: &ActorRef<Msg>) {
        self.ctx.quarantine.let_go(Who::Notices);
        let args = notices::Args { parent: myself.clone(), ctx: self.ctx.clone() };
        match Actor::spawn_linked(None, NoticesActor, args, myself.get_cell()).await {
            Ok((actor, _)) => self.notices.started(actor),
            Err(err) => self.notices_fell(myself, &err.to_string()),
        }
    }

    /// `Err`: the store does not say what is unfinished, however often it is asked.
    async fn recover(
        &mut self,
        myself: &ActorRef<Msg>,
        after: Option<WorkspaceId>,
    ) -> Result<(), ActorProcessingErr> {
        let unfinished = match self.ctx.store.unfinished(after, RECOVERY_BATCH).await {
            Ok(unfinished) => unfinished,
            Err(err) => {
                let fallen = self.budget.fell();
                error!(%err, ?fallen, "cannot read what is unfinished");
                if fallen == Fallen::Quarantine {
                    return Err(err.into());
                }
                myself.send_after(fallen.wait(), move || Msg::Recover(after));
                return Ok(());
            }
        };
        let soon = self.ctx.clock.now().after(self.ctx.settings.idle_after);
        let last = unfinished.last().map(|workspace| workspace.id);
        for found in unfinished {
            if found.due <= soon {
                self.wake(myself, found.id, workspace::Msg::Wake).await;
            } else if !self.workspaces.contains_key(&found.id) {
                self.waiting.insert(found.id, found.due);
            }
        }
        if last.is_some() {
            myself.cast(Msg::Recover(last))?;
        }
        Ok(())
    }

    async fn tick(&mut self, myself: &ActorRef<Msg>) {
        let now = self.ctx.clock.now();
        while let Some(id) = self.waiting.pop_due(now) {
            self.wake(myself, id, workspace::Msg::Wake).await;
        }
        let (idle_after, first_due) = (self.ctx.settings.idle_after, self.waiting.first_due());
        let wait = first_due.map_or(idle_after, |due| self.ctx.until(due).min(idle_after));
        myself.send_after(wait, || Msg::Tick);
    }

    /// Puts a workspace away, unless it was woken since it last looked.
    fn workspace_idle(&mut self, id: WorkspaceId, handled: u64, next_due: Option<Timestamp>) {
        let Some(child) = self.workspaces.get_mut(&id) else { return };
        let Some(actor) = child.actor_id().filter(|_| child.may_leave(handled)) else { return };
        child.leave();
        self.names.remove(&actor);
        self.workspaces.remove(&id);
        if let Some(due) = next_due {
            self.waiting.insert(id, due);
        }
        metrics::gauge!("weft_workspaces_active").set(self.workspaces.len() as f64);
    }

    /// A child is gone, perhaps without having been sent away.
    fn child_ended(&mut self, myself: &ActorRef<Msg>, actor: ActorId, why: &str) {
        if self.retention.actor_id() == Some(actor) {
            self.retention_fell(myself, why);
        } else if self.replays.actor_id() == Some(actor) {
            self.replays_fell(myself, why);
        } else if self.notices.actor_id() == Some(actor) {
            self.notices_fell(myself, why);
        } else if let Some(id) = self.names.remove(&actor) {
            self.workspace_fell(myself, id, why);
        }
    }

    fn retention_fell(&mut self, myself: &ActorRef<Msg>, why: &str) {
        metrics::counter!("weft_actor_restarts_total", "actor" => "retention").increment(1);
        let fallen = self.retention.fell();
        error!(why, ?fallen, "retention fell");
        if fallen == Fallen::Quarantine {
            self.ctx.hold(Who::Retention);
        }
        myself.send_after(fallen.wait(), || Msg::RestartRetention);
    }

    fn replays_fell(&mut self, myself: &ActorRef<Msg>, why: &str) {
        metrics::counter!("weft_actor_restarts_total", "actor" => "replays").increment(1);
        let fallen = self.replays.fell();
        error!(why, ?fallen, "replays fell");
        if fallen == Fallen::Quarantine {
            self.ctx.hold(Who::Replays);
        }
        myself.send_after(fallen.wait(), || Msg::RestartReplays);
    }

    fn notices_fell(&mut self, myself: &ActorRef<Msg>, why: &str) {
        metrics::counter!("weft_actor_restarts_total", "actor" => "notices").increment(1);
        let fallen = self.notices.fell();
        error!(why, ?fallen, "what tells the operator fell");
        if fallen == Fallen::Quarantine {
            self.ctx.hold(Who::Notices);
        }
        myself.send_after(fallen.wait(), || Msg::RestartNotices);
    }

    fn workspace_fell(&mut self, myself: &ActorRef<Msg>, id: WorkspaceId, why: &str) {
        metrics::counter!("weft_actor_restarts_total", "actor" => "workspace").increment(1);
        let fallen = self.workspaces.entry(id).or_default().fell();
        error!(workspace_id = named(id), why, ?fallen, "a workspace actor fell");
        if fallen == Fallen::Quarantine {
            self.ctx.hold(Who::Workspace(id));
        }
        myself.send_after(fallen.wait(), move || Msg::Restart(id));
    }
}
