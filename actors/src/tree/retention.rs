//! Drops what a workspace no longer keeps, a little at a time.

use super::Context;
use crate::store::StoreError;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::time::Duration;
use tracing::{info, warn};

pub struct RetentionActor;

/// What its parent passes to start it.
pub struct Args {
    pub ctx: Context,
}

pub enum Msg {
    /// It is time.
    Tick,
}

impl Actor for RetentionActor {
    type Arguments = Args;
    type State = Context;
    type Msg = Msg;

    async fn pre_start(&self, myself: ActorRef<Msg>, args: Args) -> Result<Context, ActorProcessingErr> {
        myself.send_after(args.ctx.settings.retention_every, || Msg::Tick);
        Ok(args.ctx)
    }

    async fn handle(
        &self,
        myself: ActorRef<Msg>,
        _: Msg,
        ctx: &mut Context,
    ) -> Result<(), ActorProcessingErr> {
        ctx.faults.at("retention.retain");
        let day = Duration::from_secs(86_400);
        let audit_until = ctx.clock.now().before(day * ctx.settings.audit_retention_days);
        let audit = ctx.store.forget_audit(ctx.fence, audit_until).await;
        let forgotten = ctx.store.retain(ctx.fence, ctx.clock.now(), &ctx.settings.retention).await;
        myself.send_after(ctx.settings.retention_every, || Msg::Tick);
        match audit.and(forgotten) {
            Ok(0) => Ok(()),
            Ok(events) => {
                metrics::counter!("weft_events_expired_total").increment(events);
                info!(events, "dropped what is past its retention");
                Ok(())
            }
            Err(StoreError::Unavailable(why)) => {
                warn!(%why, "retention waits for the store");
                Ok(())
            }
            Err(err) => Err(err.into()),
        }
    }
}
