//! One attempt: takes a delivery up, hands it to its destination, and comes back with a report.
//!
//! Runs beside its connection's actor, which decides what follows. However it ends, panics
//! included, it comes back: nothing it holds outlives it.

use super::{
    Context,
    credentials::Known,
    named,
    pace::Spell,
    share::{Share, Slot},
};
use crate::{
    destinations::{Prepared, answer, outgoing::Outgoing},
    domain::{
        connection::Connection,
        delivery::{Outcome, Report},
        retry::RetryPolicy,
        timestamp::Timestamp,
    },
    store::{Begun, DueEntry, StoreError, Work},
};
use futures_util::FutureExt;
use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};
use tracing::error;

/// How far a destination's code may overrun the time of an attempt before it is stopped.
const OVERRUN_MAX: Duration = Duration::from_secs(5);

/// A connection as it stood when it was read, made ready to deliver.
pub struct Line {
    pub connection: Connection,
    pub prepared: Arc<dyn Prepared>,
    pub retry: RetryPolicy,
    pub timeout: Duration,
    pub max_in_flight: usize,
}

/// What its actor knew when an attempt started: what it comes to is measured by that.
#[derive(Clone, Copy)]
pub struct Started {
    pub spell: Spell,
    pub known: Known,
}

/// One attempt at what is due.
pub struct Attempt {
    pub entry: DueEntry,
    pub line: Arc<Line>,
    pub started: Started,
    pub share: Share,
    /// The right to be in flight, if there was one to be had at once.
    pub slot: Option<Slot>,
    pub ctx: Context,
}

/// An attempt that came back.
pub struct Finished {
    pub entry: DueEntry,
    pub line: Arc<Line>,
    pub started: Started,
    pub landed: Landed,
    /// Given back once the result is on record: a drain waits for that.
    pub slot: Option<Slot>,
}

/// How it came back.
pub enum Landed {
    Reported {
        work: Box<Work>,
        started_at: Timestamp,
        report: Report,
    },
    /// There is nothing to deliver: the payload cannot be read any more.
    Unreadable(Box<Work>),
    /// It was not due any more, or the server is going down.
    Withdrawn,
    /// The connection is not as it was.
    ConnectionChanged,
    StoreFailed(StoreError),
    /// Our own code around the destination's did.
    Panicked,
}

impl Attempt {
    pub async fn run(mut self) -> Finished {
        let landed = AssertUnwindSafe(self.land()).catch_unwind().await.unwrap_or(Landed::Panicked);
        let Self { entry, line, started, slot, .. } = self;
        Finished { entry, line, started, landed, slot }
    }

    async fn land(&mut self) -> Landed {
        if self.slot.is_none() {
            self.slot = self.share.wait().await;
        }
        let (ctx, connection) = (&self.ctx, &self.line.connection);
        if self.slot.is_none() || ctx.is_draining() {
            return Landed::Withdrawn;
        }
        ctx.faults.at("connection.begin");
        let (workspace_id, id, version) = (connection.workspace_id, connection.id, connection.version);
        match ctx.store.begin(ctx.fence, workspace_id, id, version, self.entry).await {
            Ok(Begun::Work(work)) => self.deliver(work).await,
            Ok(Begun::Unreadable(work)) => Landed::Unreadable(work),
            Ok(Begun::NotDue) => Landed::Withdrawn,
            Ok(Begun::ConnectionChanged) => Landed::ConnectionChanged,
            Err(err) => Landed::StoreFailed(err),
        }
    }

    async fn deliver(&self, work: Box<Work>) -> Landed {
        let Line { connection, prepared, timeout, .. } = &*self.line;
        let out = Outgoing {
            event: &work.event,
            payload: &work.payload,
            delivery_id: work.delivery.id,
            attempt: work.delivery.attempt_count + 1,
            sent_at: self.ctx.clock.wall(),
            action: &work.delivery.action,
            notes: work.delivery.notes.as_deref(),
            timeout: *timeout,
        };
        let started_at = self.ctx.clock.now();
        let deliver = AssertUnwindSafe(prepared.deliver(&out, &self.ctx.http)).catch_unwind();
        let (outcome, what, message) = match tokio::time::timeout(*timeout + OVERRUN_MAX, deliver).await {
            Ok(Ok(report)) => return Landed::Reported { work, started_at, report },
            Ok(Err(_)) => (
                Outcome::InternalError,
                "the destination's code panicked",
                "an error in Weft's own code; it was reported to the server's log",
            ),
            Err(_) => (Outcome::Timeout, "the destination's code overran its time", "no answer in time"),
        };
        error!(workspace_id = named(connection.workspace_id), connection_id = %connection.id, delivery_id = %work.delivery.id, "{what}");
        Landed::Reported { work, started_at, report: answer::failed(outcome, message.to_owned()) }
    }
}
