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
    store::{Attempted, DueEntry, StoreError},
};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};
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
    /// The rule actor fell: of what it queued last it may have told nobody.
    RuleFell,
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
        let mut state = State {
            args,
            rule: Child::default(),
            connections: HashMap::new(),
            waiting: Waiting::default(),
            share: Arc::new(Semaphore::new(IN_FLIGHT_PER_WORKSPACE_MAX)),
            active_at: Instant::now(),
            wakes: 0,
        };
        state.look_at_queues().await?;
        Ok(state)
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
                state.wake_rule(&myself).await;
            }
            Msg::Changed(id) => {
                state.wakes += 1;
                state.active_at = Instant::now();
                state.wake_connection(&myself, id, connection::Msg::Changed).await;
            }
            Msg::Routed(ids) => {
                state.active_at = Instant::now();
                state.args.ctx.faults.at("workspace.routed");
                for id in ids {
                    state.wake_connection(&myself, id, connection::Msg::Wake).await;
                }
            }
            Msg::RuleFell => {
                state.look_at_queues().await?;
                state.wake_due(&myself).await;
            }
            Msg::Restart(Who::Rule) => state.start_rule(&myself).await,
            Msg::Restart(Who::Connection(id)) => state.start_connection(&myself, id).await,
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
    async fn wake_rule(&mut self, myself: &ActorRef<Msg>) {
        // One that fell comes back by itself, and asks the store.
        if self.rule.is_up() {
            self.rule.ring(rule::Msg::Wake);
        } else if !self.rule.is_down() {
            self.start_rule(myself).await;
        }
    }

    async fn start_rule(&mut self, myself: &ActorRef<Msg>) {
        if self.rule.is_up() {
            return;
        }
        let args = rule::Args {
            workspace_id: self.args.id,
            parent: myself.clone(),
            bell: self.rule.new_bell(),
            ctx: self.args.ctx.clone(),
        };
        match Actor::spawn_linked(None, RuleActor, args, myself.get_cell()).await {
            Ok((actor, _)) => self.rule.started(actor),
            Err(err) => self.rule_fell(myself, &err.to_string()),
        }
    }

    async fn wake_connection(&mut self, myself: &ActorRef<Msg>, id: ConnectionId, msg: connection::Msg) {
        let child = &mut self.connections.entry(id).or_default().child;
        match msg {
            connection::Msg::Wake if child.is_up() => child.ring(msg),
            msg if child.is_up() => child.tell(msg),
            _ if child.is_down() => {}
            _ => self.start_connection(myself, id).await,
        }
    }

    async fn start_connection(&mut self, myself: &ActorRef<Msg>, id: ConnectionId) {
        let supervised = self.connections.entry(id).or_default();
        if supervised.child.is_up() {
            return;
        }
        self.waiting.remove(id);
        let args = connection::Args {
            id,
            workspace_id: self.args.id,
            parent: myself.clone(),
            bell: supervised.child.new_bell(),
            share: self.share.clone(),
            hand: supervised.hand.clone(),
            suspects: supervised.suspects_next(),
            ctx: self.args.ctx.clone(),
        };
        match Actor::spawn_linked(None, ConnectionActor, args, myself.get_cell()).await {
            Ok((actor, _)) => supervised.child.started(actor),
            Err(err) => self.connection_fell(myself, id, &err.to_string()).await,
        }
    }

    /// Puts a connection away, unless it was woken since it last looked, or has begun something.
    fn connection_idle(&mut self, id: ConnectionId, handled: u64, next_due: Option<Timestamp>) {
        let Some(supervised) = self.connections.get_mut(&id) else { return };
        let is_idle = supervised.hand.lock().is_empty() && supervised.child.may_leave(handled);
        if supervised.child.is_up() && is_idle {
            supervised.child.leave();
            self.connections.remove(&id);
            if let Some(due) = next_due {
                self.waiting.insert(id, due);
            }
        }
    }

    /// Wakes what is due, asks to leave if nothing is to be done, and comes back in time.
    async fn tick(&mut self, myself: &ActorRef<Msg>) -> Result<(), ActorProcessingErr> {
        self.wake_due(myself).await;
        let idle_after = self.args.ctx.settings.idle_after;
        if self.connections.is_empty() && !self.rule.is_down() && self.active_at.elapsed() >= idle_after {
            self.leave_if_idle(myself).await?;
        }
        let first_due = self.waiting.first_due();
        let wait = first_due.map_or(idle_after, |due| self.args.ctx.until(due).min(idle_after));
        myself.send_after(wait, || Msg::Tick);
        Ok(())
    }

    async fn wake_due(&mut self, myself: &ActorRef<Msg>) {
        let now = self.args.ctx.clock.now();
        while let Some(id) = self.waiting.pop_due(now) {
            self.wake_connection(myself, id, connection::Msg::Wake).await;
        }
    }

    /// Asks to be put away, if the store, too, knows of nothing to do soon: whoever fell, or could not
    /// write for a while, may owe work that nobody was woken for.
    async fn leave_if_idle(&mut self, myself: &ActorRef<Msg>) -> Result<(), ActorProcessingErr> {
        let ctx = self.args.ctx.clone();
        if ctx.store.next_due(self.args.id).await? == Some(Timestamp(0)) {
            self.wake_rule(myself).await;
            return Ok(());
        }
        self.look_at_queues().await?;
        let (id, handled, next_due) = (self.args.id, self.wakes, self.waiting.first_due());
        let soon = ctx.clock.now().after(ctx.settings.idle_after);
        if next_due.is_none_or(|due| due > soon) {
            self.args.parent.cast(root::Msg::WorkspaceIdle { id, handled, next_due })?;
        }
        Ok(())
    }

    /// Makes sure that each connection with a queue is woken when its head is due.
    async fn look_at_queues(&mut self) -> Result<(), StoreError> {
        for (id, due) in self.args.ctx.store.queues(self.args.id).await? {
            match self.connections.get_mut(&id) {
                Some(supervised) => supervised.child.ring(connection::Msg::Wake),
                // One that was put away said itself when it is to be woken.
                None if self.waiting.contains(id) => {}
                None => self.waiting.insert(id, due),
            }
        }
        Ok(())
    }

    /// A child is gone without having been sent away.
    async fn child_fell(&mut self, myself: &ActorRef<Msg>, actor: ractor::ActorId, why: &str) {
        if self.rule.is(actor) {
            self.rule_fell(myself, why);
            let _ = myself.cast(Msg::RuleFell);
            return;
        }
        let fallen = self.connections.iter().find(|(_, supervised)| supervised.child.is(actor));
        // Others were sent away, or are an earlier life.
        if let Some((&id, _)) = fallen {
            self.connection_fell(myself, id, why).await;
        }
    }

    fn rule_fell(&mut self, myself: &ActorRef<Msg>, why: &str) {
        metrics::counter!("weft_actor_restarts_total", "actor" => "rule").increment(1);
        let fallen = self.rule.fell();
        error!(workspace_id = named(self.args.id), why, ?fallen, "the rule actor fell");
        restart_after(myself, fallen, Who::Rule);
    }

    async fn connection_fell(&mut self, myself: &ActorRef<Msg>, id: ConnectionId, why: &str) {
        let supervised = self.connections.entry(id).or_default();
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
    /// What was in hand at the last two falls: whether it is to blame shows when it is alone.
    fn suspects_next(&self) -> HashSet<DeliveryId> {
        let is_close = |falls: u32| falls + 1 >= POISON_FALLS;
        self.suspects.iter().filter(|(_, falls)| is_close(**falls)).map(|(id, _)| *id).collect()
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
