//! The rules of one workspace: routes what is unrouted, in the order it was accepted.
//!
//! An event meets the rules as they stood when it was acknowledged, however late it is routed:
//! the store says since when today's rules are in force, and what they were before.
//! Holds no work: killed at any line, it starts again from the store.

use super::{Context, WINDOW, children::Bell, named, workspace};
use crate::{
    domain::{
        ids::{ConnectionId, WorkspaceId},
        routing::{Routing, RuleSet},
    },
    store::{Matched, Routed, StoreError, Unrouted},
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::{collections::BTreeSet, panic::AssertUnwindSafe, time::Duration};
use tracing::{error, warn};

/// The wait before another try when the store cannot take more.
const STORE_WAIT: Duration = Duration::from_millis(500);

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
    /// The store takes nothing for now: a retry is on its way, and looks at everything.
    waits_for_store: bool,
}

/// Rules, and the sequences for which they are known to be in force.
struct InForce {
    from: u64,
    until: Option<u64>,
    rules: RuleSet,
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
    /// The store may take more again.
    Retry,
}

impl Actor for RuleActor {
    type Arguments = Args;
    type State = State;
    type Msg = Msg;

    async fn pre_start(&self, myself: ActorRef<Msg>, args: Args) -> Result<State, ActorProcessingErr> {
        myself.cast(Msg::Wake)?;
        let Args { workspace_id, parent, bell, ctx } = args;
        Ok(State { workspace_id, parent, bell, ctx, rules: None, waits_for_store: false })
    }

    async fn handle(
        &self,
        myself: ActorRef<Msg>,
        msg: Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match msg {
            Msg::Wake if state.waits_for_store => Ok(()),
            Msg::Wake => state.route(&myself).await,
            Msg::Retry => {
                state.waits_for_store = false;
                state.route(&myself).await
            }
        }
    }
}

impl State {
    async fn route(&mut self, myself: &ActorRef<Msg>) -> Result<(), ActorProcessingErr> {
        self.bell.hear();
        self.ctx.faults.at("rule.route");
        let page = self.ctx.store.unrouted(self.workspace_id, WINDOW).await?;
        if page.events.is_empty() {
            return Ok(());
        }
        let is_full = page.events.len() == WINDOW;
        let (mut routed, mut touched) = (Vec::with_capacity(page.events.len()), BTreeSet::new());
        for unrouted in &page.events {
            let routing = self.judge(unrouted, page.rules_changed_at).await?;
            touched.extend(routing.matched.iter().map(|matched| matched.rule.connection_id));
            routed.push(self.as_routed(unrouted, routing));
        }
        self.ctx.faults.at("rule.record");
        let count = routed.len() as u64;
        match self.ctx.store.record_routing(self.ctx.fence, self.workspace_id, routed).await {
            Ok(()) => {}
            Err(StoreError::Unavailable(why)) => {
                warn!(workspace_id = named(self.workspace_id), %why, "routing waits for the store");
                self.waits_for_store = true;
                myself.send_after(STORE_WAIT, || Msg::Retry);
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
        if is_full {
            myself.cast(Msg::Wake)?;
        }
        Ok(())
    }

    /// Judges one event by the rules it met. A panic in a rule is that event's: it is routed to
    /// nobody, with the reason on record, and the others go on.
    async fn judge(&mut self, unrouted: &Unrouted, changed_at: u64) -> Result<Routing, ActorProcessingErr> {
        let rules = match self.rules.take().filter(|known| known.at(unrouted.sequence, changed_at)) {
            Some(known) => known,
            None => {
                let as_of = self.ctx.store.rules_as_of(self.workspace_id, unrouted.sequence).await?;
                InForce { from: unrouted.sequence, until: as_of.until, rules: RuleSet::compile(as_of.rules) }
            }
        };
        let rules = &self.rules.insert(rules).rules;
        let judge = || {
            self.ctx.faults.at("rule.judge");
            rules.route(&unrouted.event, &unrouted.payload)
        };
        Ok(std::panic::catch_unwind(AssertUnwindSafe(judge)).unwrap_or_else(|_| {
            error!(workspace_id = named(self.workspace_id), event_id = %unrouted.event.id, "judging the rules panicked");
            rules.faulted(&unrouted.event)
        }))
    }

    fn as_routed(&self, unrouted: &Unrouted, routing: Routing) -> Routed {
        let matched = routing.matched.iter().map(|compiled| &compiled.rule).map(|rule| Matched {
            rule_id: rule.id,
            connection_id: rule.connection_id,
            destination: rule.kind.clone(),
            action: serde_json::to_string(&rule.metadata).expect("a JSON object is JSON"),
            created_by: rule.created_by.clone(),
        });
        Routed {
            event_id: unrouted.event.id,
            at: self.ctx.clock.now(),
            matched: matched.collect(),
            unmatched: routing.unmatched,
        }
    }
}
