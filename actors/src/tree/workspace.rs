//! One workspace: supervises its rules and connections, and passes wakes on to them.

use super::{
    Context,
    children::{Bell, Child, Fallen, Waiting},
    connection::{self, ConnectionActor},
    hand::Hand,
    named, quarantine, root,
    rule::{self, RuleActor},
    share::Share,
};
use crate::{
    domain::{
        delivery::{Next, Outcome},
        ids::{ConnectionId, WorkspaceId},
        timestamp::Timestamp,
    },
    store::{Attempted, DueEntry, StoreError},
};
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use std::collections::HashMap;
use tokio::time::Instant;
use tracing::{error, warn};

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
    /// How many wakes the rule actor had handled when it found nothing more to route.
    rule_handled: u64,
    connections: HashMap<ConnectionId, Supervised>,
    /// Whose actor each is that is up.
    names: HashMap<ActorId, Who>,
    /// Connections put away with something due later.
    waiting: Waiting<ConnectionId>,
    share: Share,
    active_at: Instant,
    wakes: u64,
}

/// A connection's actor, and what it had in hand when it fell.
#[derive(Default)]
struct Supervised {
    child: Child<connection::Msg>,
    hand: Hand,
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
    /// A connection was changed by a person, or deleted.
    Changed(ConnectionId),
    /// A delivery of this connection was made due by a person.
    Queued(ConnectionId),
    /// A child that fell has waited long enough.
    Restart(Who),
    /// It is time to look at what waits.
    Tick,
    /// Deliveries were queued for these.
    Routed(Vec<ConnectionId>),
    /// What is replayed was queued for these.
    Replayed(Vec<ConnectionId>),
    /// The rule actor has nothing to do, having handled so many wakes.
    RuleIdle { handled: u64 },
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
        let share = Share::of(&args.ctx.slots);
        let mut state = State {
            args,
            rule: Child::default(),
            rule_handled: 0,
            connections: HashMap::new(),
            names: HashMap::new(),
            waiting: Waiting::default(),
            share,
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
                state.woken();
                state.args.ctx.faults.at("workspace.wake");
                state.wake_rule(&myself).await;
            }
            Msg::Changed(id) => {
                state.woken();
                state.wake_connection(&myself, id, connection::Msg::Changed).await;
            }
            Msg::Queued(id) => {
                state.woken();
                state.wake_connection(&myself, id, connection::Msg::Queued).await;
            }
            Msg::Replayed(ids) => {
                state.woken();
                for id in ids {
                    state.wake_connection(&myself, id, connection::Msg::Queued).await;
                }
            }
            Msg::Routed(ids) => {
                state.active_at = Instant::now();
                state.args.ctx.faults.at("workspace.routed");
                for id in ids {
                    state.wake_connection(&myself, id, connection::Msg::Wake).await;
                }
            }
            Msg::RuleIdle { handled } => state.rule_handled = handled,
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
                state.child_ended(&myself, cell.get_id(), &err.to_string()).await?
            }
            SupervisionEvent::ActorTerminated(cell, _, _) => {
                state.child_ended(&myself, cell.get_id(), "it ended").await?
            }
            _ => {}
        }
        Ok(())
    }
}

impl State {
    fn woken(&mut self) {
        (self.wakes, self.active_at) = (self.wakes + 1, Instant::now());
    }

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
        let Args { id, ctx, .. } = &self.args;
        ctx.quarantine.let_go(quarantine::Who::Rule(*id));
        let args = rule::Args {
            workspace_id: *id,
            parent: myself.clone(),
            bell: self.rule.new_bell(),
            ctx: ctx.clone(),
        };
        self.rule_handled = 0;
        match Actor::spawn_linked(None, RuleActor, args, myself.get_cell()).await {
            Ok((actor, _)) => {
                self.names.insert(actor.get_id(), Who::Rule);
                self.rule.started(actor);
            }
            Err(err) => self.rule_fell(myself, &err.to_string()),
        }
    }

    async fn wake_connection(&mut self, myself: &ActorRef<Msg>, id: ConnectionId, msg: connection::Msg) {
        let Supervised { child, .. } = self.connections.entry(id).or_default();
        if child.is_up() {
            match msg {
                connection::Msg::Wake => child.ring(msg),
                msg => child.tell(msg),
            }
        } else if !child.is_down() {
            self.start_connection(myself, id).await;
        }
    }

    async fn start_connection(&mut self, myself: &ActorRef<Msg>, id: ConnectionId) {
        let supervised = self.connections.entry(id).or_default();
        if supervised.child.is_up() {
            return;
        }
        self.waiting.remove(id);
        self.args.ctx.quarantine.let_go(quarantine::Who::Connection(id));
        let args = connection::Args {
            id,
            workspace_id: self.args.id,
            parent: myself.clone(),
            bell: supervised.child.new_bell(),
            share: self.share.clone(),
            hand: supervised.hand.clone(),
            ctx: self.args.ctx.clone(),
        };
        match Actor::spawn_linked(None, ConnectionActor, args, myself.get_cell()).await {
            Ok((actor, _)) => {
                self.names.insert(actor.get_id(), Who::Connection(id));
                supervised.child.started(actor);
            }
            Err(err) => self.connection_fell(myself, id, &err.to_string()).await,
        }
    }

    /// Puts a connection away, unless it was woken since it last looked.
    fn connection_idle(&mut self, id: ConnectionId, handled: u64, next_due: Option<Timestamp>) {
        let Some(Supervised { child, .. }) = self.connections.get_mut(&id) else { return };
        let Some(actor) = child.actor_id().filter(|_| child.may_leave(handled)) else { return };
        child.leave();
        self.names.remove(&actor);
        self.connections.remove(&id);
        if let Some(due) = next_due {
            self.waiting.insert(id, due);
        }
    }

    /// Wakes what is due, asks to leave if nothing is to be done, and comes back in time.
    async fn tick(&mut self, myself: &ActorRef<Msg>) -> Result<(), ActorProcessingErr> {
        self.wake_due(myself).await;
        let ctx = &self.args.ctx;
        let (idle_after, next_due) = (ctx.settings.idle_after, self.waiting.first_due());
        let is_due_soon = next_due.is_some_and(|due| due <= ctx.clock.now().after(idle_after));
        // A rule actor that has not come back from its last wake may have everything before it still.
        let is_routed = self.rule.is_up() && self.rule.may_leave(self.rule_handled);
        let is_idle = self.connections.is_empty() && is_routed && !is_due_soon;
        if is_idle && self.active_at.elapsed() >= idle_after {
            let (id, handled) = (self.args.id, self.wakes);
            self.args.parent.cast(root::Msg::WorkspaceIdle { id, handled, next_due })?;
        }
        let wait = next_due.map_or(idle_after, |due| ctx.until(due).min(idle_after));
        myself.send_after(wait, || Msg::Tick);
        Ok(())
    }

    async fn wake_due(&mut self, myself: &ActorRef<Msg>) {
        let now = self.args.ctx.clock.now();
        while let Some(id) = self.waiting.pop_due(now) {
            self.wake_connection(myself, id, connection::Msg::Wake).await;
        }
    }

    /// Makes sure that each connection with a queue is woken when its head is due.
    async fn look_at_queues(&mut self) -> Result<(), StoreError> {
        for (id, due) in self.args.ctx.store.queues(self.args.id).await? {
            match self.connections.get_mut(&id) {
                Some(supervised) => supervised.child.ring(connection::Msg::Wake),
                None => self.waiting.insert_earlier(id, due),
            }
        }
        Ok(())
    }

    /// A child is gone, perhaps without having been sent away.
    async fn child_ended(
        &mut self,
        myself: &ActorRef<Msg>,
        actor: ActorId,
        why: &str,
    ) -> Result<(), ActorProcessingErr> {
        match self.names.remove(&actor) {
            Some(Who::Connection(id)) => self.connection_fell(myself, id, why).await,
            Some(Who::Rule) => {
                self.rule_fell(myself, why);
                // Of what it queued last it may have told nobody.
                self.look_at_queues().await?;
                self.wake_due(myself).await;
            }
            None => {} // sent away
        }
        Ok(())
    }

    fn rule_fell(&mut self, myself: &ActorRef<Msg>, why: &str) {
        metrics::counter!("weft_actor_restarts_total", "actor" => "rule").increment(1);
        let fallen = self.rule.fell();
        error!(workspace_id = named(self.args.id), why, ?fallen, "the rule actor fell");
        self.restart_after(myself, fallen, Who::Rule);
    }

    async fn connection_fell(&mut self, myself: &ActorRef<Msg>, id: ConnectionId, why: &str) {
        metrics::counter!("weft_actor_restarts_total", "actor" => "connection").increment(1);
        let supervised = self.connections.entry(id).or_default();
        let fallen = supervised.child.fell();
        error!(workspace_id = named(self.args.id), connection_id = %id, why, ?fallen, "a connection actor fell");
        let poisoned = supervised.hand.fell();
        self.set_aside(id, poisoned).await;
        self.restart_after(myself, fallen, Who::Connection(id));
    }

    fn restart_after(&self, myself: &ActorRef<Msg>, fallen: Fallen, who: Who) {
        if fallen == Fallen::Quarantine {
            let who = match who {
                Who::Rule => quarantine::Who::Rule(self.args.id),
                Who::Connection(id) => quarantine::Who::Connection(id),
            };
            self.args.ctx.hold(who);
        }
        myself.send_after(fallen.wait(), move || Msg::Restart(who));
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
                notes: None,
            };
            let recorded = ctx.store.record_attempts(ctx.fence, self.args.id, vec![attempted.clone()]).await;
            if let Err(err) = recorded {
                error!(workspace_id = named(self.args.id), delivery_id = %entry.delivery_id, %err, "cannot set a delivery aside");
                continue;
            }
            metrics::counter!("weft_deliveries_set_aside_total").increment(1);
            ctx.notice_set_aside(self.args.id, &attempted).await;
        }
    }
}
