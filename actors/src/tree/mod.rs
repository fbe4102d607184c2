//! The actors: who does what, and who looks after whom.
//!
//! ```text
//! Root            one; starts workspaces on demand and, at start, those with unfinished work
//! ├─ Retention    drops what a workspace no longer keeps
//! ├─ Replays      queues past deliveries once more, each replay at its own rate
//! ├─ Notices      tells the operator, if there is somewhere to tell
//! └─ Workspace(w) one per active workspace; put away when idle
//!    ├─ Rule(w)         routes what is unrouted, records why each rule did or did not match
//!    └─ Connection(c)   one per active connection: pace, breaker, retry timer, attempts
//! ```
//!
//! | who falls | what happens |
//! | --- | --- |
//! | Connection | its workspace starts it again after a growing wait; over its budget it is quarantined for a while, its siblings go on |
//! | Rule | the same; meanwhile events stay unrouted in the store |
//! | Workspace | its children end with it; Root starts it again after a growing wait |
//! | Retention, Replays, Notices | Root starts it again; a replay goes on where it was |
//! | Root | nothing supervises it: the process ends, and whoever runs it starts it anew. It asks a store that fails again before it falls |
//!
//! Who is quarantined is told by a gauge and, for connections and rules, by the API.
//!
//! Messages wake, the store carries: no message holds the only copy of work. A start, a restart
//! and a wake are one path: ask the store what is due.

mod attempt;
mod children;
mod connection;
mod credentials;
mod hand;
mod lower;
mod notices;
mod pace;
mod quarantine;
mod replays;
mod retention;
mod root;
mod rule;
mod share;
mod workspace;

pub use notices::Notices;
pub use root::Tree;

use crate::{
    clock::Clock,
    destinations::Prepared,
    domain::plan::Retention,
    domain::{connection::Connection, ids::WorkspaceId, retry::RetryPolicy, timestamp::Timestamp},
    store::{Fence, Store},
    transport::Http,
};
use async_trait::async_trait;
use quarantine::Quarantine;
use share::Slots;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Due deliveries a connection reads at a time, and events a rule actor does.
pub const WINDOW: usize = 64;

/// What every actor is handed: the world, and how to behave in it.
#[derive(Clone)]
pub struct Context(Arc<World>);

impl std::ops::Deref for Context {
    type Target = World;

    fn deref(&self) -> &World {
        &self.0
    }
}

/// See [`Context`].
pub struct World {
    pub store: Arc<dyn Store>,
    pub fence: Fence,
    pub clock: Clock,
    pub http: Http,
    pub preparer: Arc<dyn Preparer>,
    pub faults: Faults,
    pub settings: Settings,
    /// All attempts that may be in flight.
    pub slots: Slots,
    /// Who is left down for a while.
    pub quarantine: Quarantine,
    /// What the operator is told.
    pub notices: Notices,
    draining: AtomicBool,
}

/// How the tree behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    pub retry: RetryPolicy,
    /// The whole time of an attempt.
    pub timeout: Duration,
    /// Attempts in flight for one connection.
    pub max_in_flight: u32,
    /// How long an actor without work stays.
    pub idle_after: Duration,
    /// Days that finished events are kept where a workspace says nothing.
    pub retention: Retention,
    /// Days that entries of the audit log are kept.
    pub audit_retention_days: u32,
    /// How often what is past its time is dropped.
    pub retention_every: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            retry: RetryPolicy::default(),
            timeout: Duration::from_secs(15),
            max_in_flight: 64,
            idle_after: Duration::from_secs(30),
            retention: Retention::of_days(30),
            audit_retention_days: 400,
            retention_every: Duration::from_secs(300),
        }
    }
}

/// Makes a connection ready to deliver: unseals its settings and hands them to its destination.
#[async_trait]
pub trait Preparer: Send + Sync + 'static {
    /// The error is one sentence, without secrets.
    async fn prepare(&self, connection: &Connection) -> Result<Arc<dyn Prepared>, String>;
}

/// Named places where a test may make something go wrong. A server has none.
///
/// | place | where |
/// | --- | --- |
/// | `root.wake` | events were accepted |
/// | `retention.retain` | it is time to forget |
/// | `replays.turn`, `replays.judge`, `replays.record`, `replays.recorded` | before a replay is looked at, for each delivery judged by a rule of today, and around the transaction |
/// | `workspace.wake`, `workspace.routed`, `workspace.tick` | as the message comes in |
/// | `rule.route`, `rule.judge`, `rule.record`, `rule.recorded` | before reading, for each event, and around the transaction |
/// | `connection.start`, `connection.load` | before it lets go of an earlier life's attempts; before it is made ready |
/// | `connection.begin` | in the task of an attempt, before it is taken up |
/// | `oauth.answered` | a token was answered for, and is not stored yet |
/// | `connection.attempt_finished`, `connection.recorded` | around the record of an attempt |
/// | `notices.append` | before what the operator is told is put on disk |
#[derive(Clone, Default)]
pub struct Faults(Option<Script>);

type Script = Arc<dyn Fn(&str) + Send + Sync>;

impl Faults {
    /// `script` is told each place as it is reached, and may panic there.
    pub fn scripted(script: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(script)))
    }

    /// This place is reached.
    pub fn at(&self, place: &str) {
        if let Some(script) = &self.0 {
            script(place);
        }
    }
}

impl Context {
    /// The world, put together.
    pub fn new(
        store: Arc<dyn Store>,
        clock: Clock,
        http: Http,
        preparer: Arc<dyn Preparer>,
        faults: Faults,
        settings: Settings,
        notices: Notices,
    ) -> Self {
        let (fence, slots, quarantine) = (store.fence(), Slots::default(), Quarantine::default());
        let draining = AtomicBool::new(false);
        let world = World {
            store,
            fence,
            clock,
            http,
            preparer,
            faults,
            settings,
            slots,
            quarantine,
            notices,
            draining,
        };
        Self(Arc::new(world))
    }
}

impl World {
    /// No new attempts: the server is going down.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// From here on no attempt starts.
    fn start_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Leaves somebody down who fell too often.
    fn hold(&self, who: quarantine::Who) {
        let now = self.clock.now();
        self.quarantine.hold(who, now.after(children::QUARANTINE), now);
    }

    /// How long until `moment`, at least a millisecond, so that a timer never spins.
    fn until(&self, moment: Timestamp) -> Duration {
        moment.since(self.clock.now()).max(Duration::from_millis(1))
    }
}

/// Which workspace, for the log.
fn named(id: WorkspaceId) -> tracing::field::DisplayValue<WorkspaceId> {
    tracing::field::display(id)
}
