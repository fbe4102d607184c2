//! One workspace: supervises its rules and connections, and passes wakes on to them.

use super::{
    Context, IN_FLIGHT_PER_WORKSPACE_MAX,
    children::{Bell, Child, Fallen, QUARANTINE, Waiting},
    connection::{self, ConnectionActor, Hand},
    named, root,
    rule::{self, RuleActor},
};
use crate::{
    domain::{
        delivery::{Next, Outcome},
        ids::{ConnectionId, DeliveryId, WorkspaceId},
        timestamp::Timestamp,
    },
    store::{Attempted, DueEntry},
};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{sync::Semaphore, time::Instant};
use tracing::{error, warn};

/// Falls of an actor running with the same delivery in hand, before that one is set aside.
pub const POISON_FALLS: u32 = 3;

pub struct WorkspaceActor;

/// What its parent passes to start it.
pub struct Args {
    pub id: WorkspaceId,
    pub parent: ActorRef<root::Msg>,
    pub bell: Bell,
    pub ctx: Context,
}

/// What it keeps between messages.
pub struct State {
    args: Args,
    rule: Child<rule::Msg>,
    connections: HashMap<ConnectionId, Supervised>,
    /// Connections put away with something due later.
    waiting: Waiting<ConnectionId>,
    share: Arc<Semaphore>,
    active_at: Instant,
    wakes: u64,
}

/// A connection's actor, and what it had in hand when it fell.
#[derive(Default)]
struct Supervised {
    child: Child<connection::Msg>,
    hand: Hand,
    suspects: HashMap<DeliveryId, u32>,
}

/// One of the children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Rule,
    Connection(ConnectionId),
}

pub enum Msg {
    /// Events were accepted.
    Wake,
    /// A connection or its queue was changed by a person.
    Changed(ConnectionId),
    /// A child that fell has waited long enough.
    Restart(Who),
    /// It is time to look at what waits.
    Tick,
    /// Deliveries were queued for these.
    Routed(Vec<ConnectionId>),
    /// A connection has nothing to do until then, having handled so many wakes.
    ConnectionIdle { id: ConnectionId, handled: u64, next_due: Option<Timestamp> },
}

impl Actor for WorkspaceActor {
    type Arguments = Args;
    type State = State;
    type Msg = Msg;

    async fn pre_start(&self, myself: ActorRef<Msg>, args: Args) -> Result<State, ActorProcessingErr> {
        myself.cast(Msg::Wake)?;
        myself.cast(Msg::Tick)?;
        let mut waiting = Waiting::default();
        for (connection, due) in args.ctx.store.queues(args.id).await? {
            waiting.insert(connection, due);
        }
        Ok(State {
            args,
            rule: Child::default(),
            connections: HashMap::new(),
            waiting,
            share: Arc::new(Semaphore::new(IN_FLIGHT_PER_WORKSPACE_MAX)),
            active_at: Instant::now(),
            wakes: 0,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Msg>,
        msg: Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            Msg::Wake => {
                state.args.bell.hear();
                state.wakes += 1;
                state.active_at = Instant::now();
                state.args.ctx.faults.at("workspace.wake");
                state.wake_rule(&myself).await?;
            }
            Msg::Changed(id) => {
                state.wakes += 1;
                state.active_at = Instant::now();
                state.wake_connection(&myself, id, connection::Msg::Changed).await?;
            }
            Msg::Routed(ids) => {
                state.active_at = Instant::now();
                state.args.ctx.faults.at("workspace.routed");
                for id in ids {
                    state.wake_connection(&myself, id, connection::Msg::Wake).await?;
                }
            }
            Msg::Restart(Who::Rule) => state.start_rule(&myself).await?,
            Msg::Restart(Who::Connection(id)) => state.start_connection(&myself, id).await?,
            Msg::ConnectionIdle { id, handled, next_due } => state.connection_idle(id, handled, next_due),
            Msg::Tick => {
                state.args.ctx.faults.at("workspace.tick");
                state.tick(&myself).await?;
            }
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
                state.child_fell(&myself, cell.get_id(), &err.to_string()).await
            }
            SupervisionEvent::ActorTerminated(cell, _, _) => {
                state.child_fell(&myself, cell.get_id(), "it ended").await
            }
            _ => {}
        }
        Ok(())
    }
}

impl State {
    async fn wake_rule(&mut self, myself: &ActorRef<Msg>) -> Result<(), ActorProcessingErr> {
        if self.rule.is_up() {
            self.rule.ring(rule::Msg::Wake);
            return Ok(());
        }
        // One that fell comes back by itself, and asks the store.
        if self.rule.is_down() { Ok(()) } else { self.start_rule(myself).await }
    }

    async fn start_rule(&mut self, myself: &ActorRef<Msg>) -> Result<(), ActorProcessingErr> {
        if self.rule.is_up() {
            return Ok(());
        }
        let args = rule::Args {
            workspace_id: self.args.id,
            parent: myself.clone(),
            bell: self.rule.new_bell(),
            ctx: self.args.ctx.clone(),
        };
        let (actor, _) = Actor::spawn_linked(None, RuleActor, args, myself.get_cell()).await?;
        self.rule.started(actor);
        Ok(())
    }

    async fn wake_connection(
        &mut self,
        myself: &ActorRef<Msg>,
        id: ConnectionId,
        msg: connection::Msg,
    ) -> Result<(), ActorProcessingErr> {
        let supervised = self.connections.entry(id).or_default();
        if supervised.child.is_up() {
            match msg {
                connection::Msg::Wake => supervised.child.ring(msg),
                msg => supervised.child.tell(msg),
            }
            return Ok(());
        }
        if supervised.child.is_down() { Ok(()) } else { self.start_connection(myself, id).await }
    }

    async fn start_connection(
        &mut self,
        myself: &ActorRef<Msg>,
        id: ConnectionId,
    ) -> Result<(), ActorProcessingErr> {
        let supervised = self.connections.entry(id).or_default();
        if supervised.child.is_up() {
            return Ok(());
        }
        self.waiting.remove(id);
        let args = connection::Args {
            id,
            workspace_id: self.args.id,
            parent: myself.clone(),
            bell: supervised.child.new_bell(),
            share: self.share.clone(),
            hand: supervised.hand.clone(),
            one_at_a_time: supervised.is_suspicious(),
            ctx: self.args.ctx.clone(),
        };
        let (actor, _) = Actor::spawn_linked(None, ConnectionActor, args, myself.get_cell()).await?;
        supervised.child.started(actor);
        Ok(())
    }

    /// Puts a connection away, unless it was woken since it last looked.
    fn connection_idle(&mut self, id: ConnectionId, handled: u64, next_due: Option<Timestamp>) {
        let Some(supervised) = self.connections.get_mut(&id) else { return };
        if supervised.child.is_up() && supervised.child.may_leave(handled) {
            supervised.child.leave();
            self.connections.remove(&id);
            if let Some(due) = next_due {
                self.waiting.insert(id, due);
            }
        }
    }

    /// Wakes what is due, asks to leave if nothing is to be done, and comes back in time.
    async fn tick(&mut self, myself: &ActorRef<Msg>) -> Result<(), ActorProcessingErr> {
        let now = self.args.ctx.clock.now();
        while let Some(id) = self.waiting.pop_due(now) {
            self.wake_connection(myself, id, connection::Msg::Wake).await?;
        }
        let idle_after = self.args.ctx.settings.idle_after;
        let next_due = self.waiting.first_due();
        let is_due_soon = next_due.is_some_and(|due| due <= now.after(idle_after));
        let is_idle = self.connections.is_empty() && !self.rule.is_down() && !is_due_soon;
        if is_idle && self.active_at.elapsed() >= idle_after {
            let (id, handled) = (self.args.id, self.wakes);
            self.args.parent.cast(root::Msg::WorkspaceIdle { id, handled, next_due })?;
        }
        let wait = next_due.map_or(idle_after, |due| self.args.ctx.until(due).min(idle_after));
        myself.send_after(wait, || Msg::Tick);
        Ok(())
    }

    /// A child is gone without having been sent away.
    async fn child_fell(&mut self, myself: &ActorRef<Msg>, actor: ractor::ActorId, why: &str) {
        if self.rule.is(actor) {
            metrics::counter!("weft_actor_restarts_total", "actor" => "rule").increment(1);
            let fallen = self.rule.fell();
            error!(workspace_id = named(self.args.id), why, ?fallen, "the rule actor fell");
            restart_after(myself, fallen, Who::Rule);
            return;
        }
        let Some((&id, supervised)) =
            self.connections.iter_mut().find(|(_, supervised)| supervised.child.is(actor))
        else {
            return; // sent away, or an earlier life
        };
        metrics::counter!("weft_actor_restarts_total", "actor" => "connection").increment(1);
        let fallen = supervised.child.fell();
        error!(workspace_id = named(self.args.id), connection_id = %id, why, ?fallen, "a connection actor fell");
        let poisoned = supervised.suspect();
        self.set_aside(id, poisoned).await;
        restart_after(myself, fallen, Who::Connection(id));
    }

    /// Fails deliveries that were in hand each time their actor fell, so that the rest can go on.
    async fn set_aside(&mut self, id: ConnectionId, poisoned: Vec<DueEntry>) {
        let ctx = &self.args.ctx;
        let at = ctx.clock.now();
        for entry in poisoned {
            warn!(workspace_id = named(self.args.id), connection_id = %id, delivery_id = %entry.delivery_id, "set aside: its connection's actor fell with it again and again");
            let attempted = Attempted {
                delivery_id: entry.delivery_id,
                event_id: entry.event_id,
                started_at: at,
                finished_at: at,
                outcome: Outcome::InternalError,
                http_status: None,
                message: "set aside after repeated errors in Weft's own code; see the server's log"
                    .to_owned(),
                response: None,
                next: Next::Failed,
            };
            if let Err(err) = ctx.store.record_attempts(ctx.fence, self.args.id, vec![attempted]).await {
                error!(workspace_id = named(self.args.id), delivery_id = %entry.delivery_id, %err, "cannot set a delivery aside");
            }
        }
    }
}

impl Supervised {
    /// Something in hand at the last two falls may be to blame: what it is shows when it is alone.
    fn is_suspicious(&self) -> bool {
        self.suspects.values().any(|falls| *falls + 1 >= POISON_FALLS)
    }

    /// Counts what was in hand at this fall, and tells what was so too often.
    fn suspect(&mut self) -> Vec<DueEntry> {
        let hand = std::mem::take(&mut *self.hand.lock());
        self.suspects.retain(|id, _| hand.contains_key(id));
        let mut poisoned = Vec::new();
        for (id, entry) in hand {
            let falls = self.suspects.entry(id).or_insert(0);
            *falls += 1;
            if *falls >= POISON_FALLS {
                self.suspects.remove(&id);
                poisoned.push(entry);
            }
        }
        poisoned
    }
}

fn restart_after(myself: &ActorRef<Msg>, fallen: Fallen, who: Who) {
    let wait: Duration = match fallen {
        Fallen::Restart(wait) => wait,
        Fallen::Quarantine => QUARANTINE,
    };
    myself.send_after(wait, move || Msg::Restart(who));
}
