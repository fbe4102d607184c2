//! The root: starts workspaces on demand and, at start, those with unfinished work.

use super::{
    Context,
    children::{Child, Fallen, QUARANTINE, Waiting},
    named,
    retention::{self, RetentionActor},
    workspace::{self, WorkspaceActor},
};
use crate::domain::{
    ids::{ConnectionId, WorkspaceId},
    timestamp::Timestamp,
};
use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};
use tokio::sync::watch;
use tracing::{error, info};

/// Unfinished workspaces read from the store at a time.
const RECOVERY_BATCH: usize = 1_000;

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

    /// A connection, or what waits for it, was changed by a person.
    pub fn connection_changed(&self, workspace: WorkspaceId, connection: ConnectionId) {
        let _ = self.root.cast(Msg::Changed(workspace, connection));
    }

    /// Returns when the tree has ended, which it does only when the root fell or was drained.
    pub async fn ended(&self) {
        let mut ended = self.ended.clone();
        // An error means that the watcher is gone, and so is the root.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// Starts no more attempts, and waits up to `patience` for those in flight. What does not
    /// come back in time is tried again after the next start.
    pub async fn drain(&self, patience: Duration) {
        self.ctx.start_draining();
        if tokio::time::timeout(patience, self.ctx.all_landed()).await.is_err() {
            info!("gave up what was still in flight; it is tried again after the next start");
        }
        self.root.stop(None);
        self.ended().await;
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
    workspaces: HashMap<WorkspaceId, Child<workspace::Msg>>,
    /// Workspaces put away with something due later.
    waiting: Waiting<WorkspaceId>,
}

pub enum Msg {
    /// Events were accepted for this workspace.
    Wake(WorkspaceId),
    /// A connection of this workspace, or its queue, was changed by a person.
    Changed(WorkspaceId, ConnectionId),
    /// A workspace that fell has waited long enough.
    Restart(WorkspaceId),
    /// Retention fell and has waited long enough.
    RestartRetention,
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
        myself.cast(Msg::Tick)?;
        Ok(State {
            ctx: args.ctx,
            rung: args.rung,
            retention: Child::default(),
            workspaces: HashMap::new(),
            waiting: Waiting::default(),
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
                state.ctx.faults.at("root.wake");
                state.rung.lock().remove(&id);
                state.wake(&myself, id, workspace::Msg::Wake).await?;
            }
            Msg::Changed(id, connection) => {
                state.wake(&myself, id, workspace::Msg::Changed(connection)).await?
            }
            Msg::Restart(id) => state.start(&myself, id).await?,
            Msg::RestartRetention => state.start_retention(&myself).await?,
            Msg::Tick => state.tick(&myself).await?,
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
                state.child_fell(&myself, cell.get_id(), &err.to_string())
            }
            SupervisionEvent::ActorTerminated(cell, _, _) => {
                state.child_fell(&myself, cell.get_id(), "it ended")
            }
            _ => {}
        }
        Ok(())
    }
}

impl State {
    async fn wake(
        &mut self,
        myself: &ActorRef<Msg>,
        id: WorkspaceId,
        msg: workspace::Msg,
    ) -> Result<(), ActorProcessingErr> {
        let child = self.workspaces.entry(id).or_default();
        if child.is_down() {
            return Ok(());
        }
        if !child.is_up() {
            self.start(myself, id).await?;
        }
        if let Some(child) = self.workspaces.get_mut(&id) {
            match msg {
                workspace::Msg::Wake => child.ring(msg),
                msg => child.tell(msg),
            }
        }
        Ok(())
    }

    async fn start(&mut self, myself: &ActorRef<Msg>, id: WorkspaceId) -> Result<(), ActorProcessingErr> {
        if self.workspaces.entry(id).or_default().is_up() {
            return Ok(());
        }
        self.waiting.remove(id);
        let bell = self.workspaces.entry(id).or_default().new_bell();
        let args = workspace::Args { id, parent: myself.clone(), bell, ctx: self.ctx.clone() };
        let spawned = Actor::spawn_linked(None, WorkspaceActor, args, myself.get_cell()).await;
        match spawned {
            Ok((actor, _)) => self.workspaces.entry(id).or_default().started(actor),
            Err(err) => self.fell(myself, id, &err.to_string()),
        }
        metrics::gauge!("weft_workspaces_active").set(self.workspaces.len() as f64);
        Ok(())
    }

    async fn start_retention(&mut self, myself: &ActorRef<Msg>) -> Result<(), ActorProcessingErr> {
        let args = retention::Args { ctx: self.ctx.clone() };
        let (actor, _) = Actor::spawn_linked(None, RetentionActor, args, myself.get_cell()).await?;
        self.retention.started(actor);
        Ok(())
    }

    async fn recover(
        &mut self,
        myself: &ActorRef<Msg>,
        after: Option<WorkspaceId>,
    ) -> Result<(), ActorProcessingErr> {
        let unfinished = self.ctx.store.unfinished(after, RECOVERY_BATCH).await?;
        let soon = self.ctx.clock.now().after(self.ctx.settings.idle_after);
        let last = unfinished.last().map(|workspace| workspace.id);
        for found in unfinished {
            if found.due <= soon {
                self.wake(myself, found.id, workspace::Msg::Wake).await?;
            } else if !self.workspaces.contains_key(&found.id) {
                self.waiting.insert(found.id, found.due);
            }
        }
        if last.is_some() {
            myself.cast(Msg::Recover(last))?;
        }
        Ok(())
    }

    async fn tick(&mut self, myself: &ActorRef<Msg>) -> Result<(), ActorProcessingErr> {
        let now = self.ctx.clock.now();
        while let Some(id) = self.waiting.pop_due(now) {
            self.wake(myself, id, workspace::Msg::Wake).await?;
        }
        let (idle_after, first_due) = (self.ctx.settings.idle_after, self.waiting.first_due());
        let wait = first_due.map_or(idle_after, |due| self.ctx.until(due).min(idle_after));
        myself.send_after(wait, || Msg::Tick);
        Ok(())
    }

    /// Puts a workspace away, unless it was woken since it last looked.
    fn workspace_idle(&mut self, id: WorkspaceId, handled: u64, next_due: Option<Timestamp>) {
        let Some(child) = self.workspaces.get_mut(&id) else { return };
        if child.is_up() && child.may_leave(handled) {
            child.leave();
            self.workspaces.remove(&id);
            if let Some(due) = next_due {
                self.waiting.insert(id, due);
            }
        }
        metrics::gauge!("weft_workspaces_active").set(self.workspaces.len() as f64);
    }

    fn child_fell(&mut self, myself: &ActorRef<Msg>, actor: ractor::ActorId, why: &str) {
        if self.retention.is(actor) {
            metrics::counter!("weft_actor_restarts_total", "actor" => "retention").increment(1);
            let fallen = self.retention.fell();
            error!(why, ?fallen, "retention fell");
            myself.send_after(wait_of(fallen), || Msg::RestartRetention);
            return;
        }
        let fallen = self.workspaces.iter().find(|(_, child)| child.is(actor)).map(|(id, _)| *id);
        if let Some(id) = fallen {
            self.fell(myself, id, why);
        }
    }

    fn fell(&mut self, myself: &ActorRef<Msg>, id: WorkspaceId, why: &str) {
        metrics::counter!("weft_actor_restarts_total", "actor" => "workspace").increment(1);
        let fallen = self.workspaces.entry(id).or_default().fell();
        error!(workspace_id = named(id), why, ?fallen, "a workspace actor fell");
        myself.send_after(wait_of(fallen), move || Msg::Restart(id));
    }
}

fn wait_of(fallen: Fallen) -> Duration {
    match fallen {
        Fallen::Restart(wait) => wait,
        Fallen::Quarantine => QUARANTINE,
    }
}
