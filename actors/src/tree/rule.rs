//! The rules of one workspace: routes what is unrouted, in the order it was accepted.
//!
//! An event meets the rules as they stood when it was acknowledged, however late it is routed:
//! the store says since when today's rules are in force, and what they were before.
//! Holds no work: killed at any line, it starts again from the store.
//!
//! Tenants write the rules, so judging may take long: regular expressions are searched on threads
//! of their own, and whatever else takes a while lets others have their turn in between.

use super::{Context, Faults, WINDOW, children::Bell, named, workspace};
use crate::{
    domain::{
        event::Event,
        ids::{ConnectionId, EventId, WorkspaceId},
        routing::{Routing, RuleSet},
    },
    store::{Matched, Routed, StoreError, Unreadable, Unrouted},
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::{collections::BTreeSet, panic::AssertUnwindSafe, sync::Arc, time::Duration};
use tokio::{
    task::{spawn_blocking, yield_now},
    time::Instant,
};
use tracing::{error, warn};

/// The wait before another try when the store cannot take more.
const STORE_WAIT: Duration = Duration::from_millis(500);

/// How long events are judged before others have their turn.
const TURN: Duration = Duration::from_millis(1);

pub struct RuleActor;

/// What its parent passes to start it.
pub struct Args {
    pub workspace_id: WorkspaceId,
    pub parent: ActorRef<workspace::Msg>,
    pub bell: Bell,
    pub ctx: Context,
}

/// What it keeps between messages.
pub struct State {
    workspace_id: WorkspaceId,
    parent: ActorRef<workspace::Msg>,
    bell: Bell,
    ctx: Context,
    rules: Option<InForce>,
    /// It looks again by itself.
    goes_on: bool,
    wakes: u64,
}

/// Rules, and the sequences for which they are known to be in force.
struct InForce {
    from: u64,
    until: Option<u64>,
    rules: Arc<RuleSet>,
}

impl InForce {
    /// `changed_at`: when the workspace's rules last changed.
    fn at(&self, sequence: u64, changed_at: u64) -> bool {
        self.from <= sequence && self.until.map_or(changed_at <= self.from, |until| sequence < until)
    }
}

pub enum Msg {
    /// Something may be unrouted: look in the store.
    Wake,
    /// There was something, or the store could not take it: look again.
    GoOn,
}

impl Actor for RuleActor {
    type Arguments = Args;
    type State = State;
    type Msg = Msg;

    async fn pre_start(&self, myself: ActorRef<Msg>, args: Args) -> Result<State, ActorProcessingErr> {
        myself.cast(Msg::Wake)?;
        let Args { workspace_id, parent, bell, ctx } = args;
        Ok(State { workspace_id, parent, bell, ctx, rules: None, goes_on: false, wakes: 0 })
    }

    async fn handle(
        &self,
        myself: ActorRef<Msg>,
        msg: Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            Msg::Wake => {
                state.bell.hear();
                state.wakes += 1;
            }
            Msg::GoOn => state.goes_on = false,
        }
        state.route(&myself).await
    }
}

impl State {
    async fn route(&mut self, myself: &ActorRef<Msg>) -> Result<(), ActorProcessingErr> {
        self.ctx.faults.at("rule.route");
        let page = self.ctx.store.unrouted(self.workspace_id, WINDOW).await?;
        if page.events.is_empty() && page.unreadable.is_empty() {
            self.parent.cast(workspace::Msg::RuleIdle { handled: self.wakes })?;
            return Ok(());
        }
        let (mut routed, mut touched) = (Vec::with_capacity(page.events.len()), BTreeSet::new());
        let mut turn = Instant::now();
        for unrouted in &page.events {
            if turn.elapsed() >= TURN {
                yield_now().await;
                turn = Instant::now();
            }
            let routing = self.judge(unrouted, page.rules_changed_at).await?;
            touched.extend(routing.matched.iter().map(|matched| matched.rule.connection_id));
            routed.push(self.as_routed(unrouted.event.id, routing));
        }
        for Unreadable { sequence, event } in &page.unreadable {
            let routing = self.rules_for(event, *sequence, page.rules_changed_at).await?.route_unread(event);
            touched.extend(routing.matched.iter().map(|matched| matched.rule.connection_id));
            routed.push(self.as_routed(event.id, routing));
        }
        self.ctx.faults.at("rule.record");
        let count = routed.len() as u64;
        match self.ctx.store.record_routing(self.ctx.fence, self.workspace_id, routed).await {
            Ok(()) => {}
            Err(StoreError::Unavailable(why)) => {
                warn!(workspace_id = named(self.workspace_id), %why, "routing waits for the store");
                if !std::mem::replace(&mut self.goes_on, true) {
                    myself.send_after(STORE_WAIT, || Msg::GoOn);
                }
                return Ok(());
            }
            Err(err) => return Err(err.into()),
        }
        self.ctx.faults.at("rule.recorded");
        metrics::counter!("weft_events_routed_total").increment(count);
        let touched: Vec<ConnectionId> = touched.into_iter().collect();
        if !touched.is_empty() {
            self.parent.cast(workspace::Msg::Routed(touched))?;
        }
        // Until there is nothing left; whoever rings comes before that.
        if !self.bell.rings() && !std::mem::replace(&mut self.goes_on, true) {
            myself.cast(Msg::GoOn)?;
        }
        Ok(())
    }

    /// Judges one event by the rules it met.
    async fn judge(&mut self, unrouted: &Unrouted, changed_at: u64) -> Result<Routing, ActorProcessingErr> {
        let ctx = self.ctx.clone();
        let rules = self.rules_for(&unrouted.event, unrouted.sequence, changed_at).await?;
        if !rules.has_matches() {
            return Ok(judge(&rules, unrouted, &ctx.faults));
        }
        let unrouted = unrouted.clone();
        Ok(spawn_blocking(move || judge(&rules, &unrouted, &ctx.faults)).await?)
    }

    /// The rules that an event meets: those in force at its sequence, or of these the one it is to test.
    async fn rules_for(
        &mut self,
        event: &Event,
        sequence: u64,
        changed_at: u64,
    ) -> Result<Arc<RuleSet>, ActorProcessingErr> {
        let tested = match event.id.is_test() {
            true => self.ctx.store.tested_rule(self.workspace_id, event.id).await?,
            false => None,
        };
        let rules = self.rules_at(sequence, changed_at).await?;
        Ok(tested.map_or_else(|| rules.clone(), |rule| Arc::new(rules.only(rule))))
    }

    /// The rules in force at a sequence.
    async fn rules_at(
        &mut self,
        sequence: u64,
        changed_at: u64,
    ) -> Result<&Arc<RuleSet>, ActorProcessingErr> {
        let known = self.rules.take().filter(|known| known.at(sequence, changed_at));
        let known = match known {
            Some(known) => known,
            None => {
                let as_of = self.ctx.store.rules_as_of(self.workspace_id, sequence).await?;
                let rules = spawn_blocking(|| Arc::new(RuleSet::compile(as_of.rules))).await?;
                InForce { from: sequence, until: as_of.until, rules }
            }
        };
        Ok(&self.rules.insert(known).rules)
    }

    fn as_routed(&self, event_id: EventId, routing: Routing) -> Routed {
        let matched = routing.matched.iter().map(|compiled| Matched::by(&compiled.rule));
        Routed {
            event_id,
            at: self.ctx.clock.now(),
            matched: matched.collect(),
            unmatched: routing.unmatched,
        }
    }
}

/// A panic in a rule is the event's: it is routed to nobody, with the reason on record, and the
/// others go on.
fn judge(rules: &RuleSet, unrouted: &Unrouted, faults: &Faults) -> Routing {
    let event = &unrouted.event;
    let judge = || {
        faults.at("rule.judge");
        rules.route(event, &unrouted.payload)
    };
    std::panic::catch_unwind(AssertUnwindSafe(judge)).unwrap_or_else(|_| {
        error!(workspace_id = named(event.workspace_id), event_id = %event.id, "judging the rules panicked");
        rules.faulted(event)
    })
}
