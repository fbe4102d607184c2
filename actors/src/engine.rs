//! All an edge may ask: no edge ever meets an actor or a store.
//!
//! The engine checks what is asked against what is there, seals secrets on their way in,
//! makes it durable, and wakes the tree.

mod accounts;
mod connections;
mod events;
mod identity;
mod keys;
mod meter;
mod names;
mod notices;
mod oauth;
mod options;
mod passwords;
mod plans;
mod preview;
mod replays;
mod rules;
mod search;
mod seen_through;
mod sessions;
mod trial;
mod users;
mod vault;

pub use self::{
    accounts::{ActionView, MappingView, NewMapping},
    connections::{ConnectionPatch, ConnectionView, NewConnection},
    events::IngestRequest,
    keys::{MachineKeyClear, NewMachineKey},
    names::NamePatch,
    notices::OperationalWebhook,
    oauth::{ConsentBack, ConsentEnd, ConsentFor, NewConsent, OpenedConsent, Starter, consent_cookie},
    options::{DeliveryDefaults, Options, Seams},
    plans::PlanView,
    preview::{Draft, DraftAction, Example, Preview},
    replays::{NewReplay, ReplayCount, ReplayPatch},
    rules::{NewRule, RulePatch},
    search::{PAYLOAD_TESTS_MAX, PayloadTest},
    sessions::{Minted, NewSession},
    trial::{SAMPLE_PAYLOAD, Trial, sample_name},
    users::{Joining, NewInvitation, SignedIn, UserPatch},
};
use self::{oauth::Grants, passwords::Passwords, plans::Limits, vault::Vault};
pub use crate::destinations::{
    live::Item,
    planned::Planned,
    setup::{App, Operator},
    spec,
};
pub use crate::domain::field::FieldError;
pub use crate::store::{
    Appended, DeliveryFilter, EventDetails, EventFilter, EventSummary, Idempotency, PAYLOAD_BYTES_MAX, Page,
    Refusal, ReplayView, RuleFilter, Scope, SessionFilter, StoreError, Unavailable, Verification,
};
pub use crate::tree::{Faults, Preparer};
use crate::{
    clock::Clock,
    destinations::{self, Destination},
    domain::{
        audit::{Act, Actor, AuditEntry, AuditFilter},
        connection::{Connection, InactiveReason},
        ids::{AuditId, IdSource, OrganizationId},
        plan::{Exceeded, Retention},
        timestamp::Timestamp,
    },
    store::{Change, Fence, Store},
    transport::Http,
    tree::{Context, Notices, Settings, Tree},
};
use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// Queues looked at in one go for the gauges of what waits: nobody else gets at the store meanwhile.
const QUEUE_REPORTS_PAGE: usize = 100;
/// How long a store may take to close.
const CLOSE_MAX: Duration = Duration::from_secs(60);

/// Why the engine did not do it.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Fields of the request are wrong; each with what to change.
    #[error("{}", .0.first().map_or_else(|| "the request is invalid".to_owned(), ToString::to_string))]
    Invalid(Vec<FieldError>),
    /// What was sent is understood, and means nothing that could be done; each place with what to change.
    #[error("{}", .0.first().map_or_else(|| "the request means nothing".to_owned(), ToString::to_string))]
    Meaningless(Vec<FieldError>),
    /// The account cannot be asked while its connection is inactive.
    #[error("the connection is inactive; {}", next_step(*.0))]
    Inactive(InactiveReason),
    /// It does not fit what is there.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The organization's plan has no room for it.
    #[error(transparent)]
    Exceeded(#[from] Exceeded),
    /// Nothing can be accepted at the moment.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The destination did not answer a test as it should.
    #[error("{0}")]
    ProbeFailed(String),
    /// There is no room for one more of these at the moment.
    #[error("too many {0}")]
    TooMany(&'static str),
    /// What the data was sealed with is not what it is to be opened with.
    #[error(
        "the master key is not the one this data was sealed with; give the right one, in its file or as WEFT_MASTER_KEY"
    )]
    WrongMasterKey,
    /// Who signs in, or accepts, showed nothing that is good. What was wrong is nobody's business.
    #[error("invalid credentials")]
    NotProven,
    /// A fault of ours. The text is for the log, not for the caller.
    #[error("{0}")]
    Internal(String),
}

/// The engine, in the name of whoever [`Engine::by`] says, else in its own. Cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<Inner>, Arc<Actor>);

struct Inner {
    store: Arc<dyn Store>,
    fence: Fence,
    /// Its line goes on from what is on record.
    clock: Clock,
    ids: IdSource,
    http: Http,
    vault: Vault,
    limits: Limits,
    passwords: Passwords,
    /// Machine keys whose use was recorded lately, and when.
    keys_used: Mutex<HashMap<String, Timestamp>>,
    /// Makes connections ready to be asked.
    preparer: Arc<dyn Preparer>,
    /// Accounts that are being connected in a browser.
    consents: oauth::Consents,
    /// What the operator is told.
    notices: Notices,
    /// Whose turn it is to read payloads.
    scans: Semaphore,
    tree: Option<Tree>,
}

impl Engine {
    /// Opens the store, recovers, and starts the tree.
    pub async fn start(options: Options) -> Result<Self, EngineError> {
        Self::open(options, true).await
    }

    /// Opens the store without starting the tree, for commands such as `init` and `verify`.
    pub async fn offline(options: Options) -> Result<Self, EngineError> {
        Self::open(options, false).await
    }

    async fn open(options: Options, with_tree: bool) -> Result<Self, EngineError> {
        let http = options::http(&options)?;
        let store = options::open_store(&options).await?;
        let clock = options.clock.steady(store.latest());
        let (operator, faults) = (options.operator.clone(), options.seams.faults.clone());
        let grants =
            Grants::new(store.clone(), http.clone(), clock.clone(), operator.clone(), faults.clone());
        let vault = Vault::new(store.clone(), &options.master_key, operator, grants);
        vault.check().await?;
        let fence = store.fence();
        let notices = match with_tree {
            true => notices::arrange(&options, &store, &vault, &clock, http.policy()).await?,
            false => Notices::default(),
        };
        let preparer = options.seams.preparer.unwrap_or_else(|| Arc::new(vault.clone()));
        let plans = Arc::new(options.plans);
        let mut tree = None;
        if with_tree {
            let settings = Settings {
                retry: options.delivery.retry,
                timeout: options.delivery.timeout,
                max_in_flight: options.delivery.max_in_flight,
                idle_after: options.idle_after,
                retention: Retention { default_days: options.retention_days, plans: plans.clone() },
                audit_retention_days: options.audit_retention_days,
                retention_every: options.retention_every,
            };
            let preparer = preparer.clone();
            let (store, clock) = (store.clone(), clock.clone());
            let ctx = Context::new(store, clock, http.clone(), preparer, faults, settings, notices.clone());
            tree = Some(Tree::start(ctx).await.map_err(internal)?);
        }
        let ids = IdSource::starting_after(store.latest());
        let inner = Inner {
            store,
            fence,
            clock,
            ids,
            http,
            vault,
            limits: Limits::new(plans),
            passwords: Passwords::default(),
            keys_used: Mutex::default(),
            preparer,
            consents: oauth::Consents::default(),
            notices,
            scans: Semaphore::new(search::SCANS_MAX),
            tree,
        };
        Ok(Self(Arc::new(inner), Arc::new(Actor::system())))
    }

    /// The same engine, doing what it is asked in this one's name: so it is in the audit log.
    pub fn by(&self, actor: Actor) -> Self {
        Self(self.0.clone(), Arc::new(actor))
    }

    /// Something is done just now.
    fn act(&self) -> Act {
        let at = self.0.clock.now();
        Act { id: AuditId::from_uuid(self.0.ids.next(at)), at, actor: (*self.1).clone() }
    }

    async fn configure(&self, change: Change) -> Result<(), EngineError> {
        Ok(self.0.store.configure(self.0.fence, change, Some(self.act())).await?)
    }

    /// An organization's audit log, newest first, after (that is, older than) `after`.
    pub async fn audit(
        &self,
        organization: OrganizationId,
        filter: AuditFilter,
        after: Option<AuditId>,
        limit: usize,
    ) -> Result<Page<AuditEntry, AuditId>, EngineError> {
        Ok(self.0.store.audit(organization, filter, after, limit).await?)
    }

    /// Whether new events are accepted, and why not.
    pub fn availability(&self) -> Result<(), Unavailable> {
        self.0.store.availability()
    }

    /// Sets the gauges of what waits (`weft_queue_depth`, `weft_queue_oldest_age_seconds`, by connection state).
    pub async fn observe(&self) {
        const STATES: [&str; 3] = ["active", "paused", "inactive"];
        let (now, mut waiting, mut after) = (self.0.clock.now(), [(0, Duration::ZERO); 3], None);
        loop {
            let Ok(page) = self.0.store.queue_reports(after, QUEUE_REPORTS_PAGE).await else { return };
            for report in page.records {
                let state = connection_state(&report.connection);
                let of_state = STATES.iter().zip(&mut waiting).find(|(name, _)| **name == state);
                let Some((_, (depth, age))) = of_state else { continue };
                *depth += report.waiting;
                *age = now.since(report.oldest).max(*age);
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        for (state, (depth, age)) in STATES.into_iter().zip(waiting) {
            metrics::gauge!("weft_queue_depth", "state" => state).set(depth as f64);
            metrics::gauge!("weft_queue_oldest_age_seconds", "state" => state).set(age.as_secs_f64());
        }
    }

    /// Proves the ledger: every accepted event × matched rule is final or scheduled.
    pub async fn verify(&self) -> Result<Verification, EngineError> {
        Ok(self.0.store.verify().await?)
    }

    /// Returns when the tree has fallen for good: the process should end, and be started anew.
    pub async fn failed(&self) {
        match &self.0.tree {
            Some(tree) => tree.ended().await,
            None => std::future::pending().await,
        }
    }

    /// Whether the tree has fallen, or was drained: nothing is delivered any more.
    pub fn has_ended(&self) -> bool {
        self.0.tree.as_ref().is_some_and(Tree::has_ended)
    }

    /// Starts no more attempts, and finishes or gives up those in flight within `patience`. Events are
    /// still accepted: they are delivered after the next start.
    pub async fn land(&self, patience: Duration) {
        if let Some(tree) = &self.0.tree {
            tree.drain(patience).await;
        }
    }

    /// Closes the store. The caller has stopped sending events.
    pub async fn close(&self) -> Result<(), EngineError> {
        match tokio::time::timeout(CLOSE_MAX, self.0.store.close()).await {
            Ok(closed) => Ok(closed?),
            Err(_) => Err(EngineError::Internal(format!(
                "the store is not closed after {CLOSE_MAX:?}; what is not on disk is done again after the next start"
            ))),
        }
    }

    /// [`Self::land`], then [`Self::close`].
    pub async fn drain(&self, patience: Duration) -> Result<(), EngineError> {
        self.land(patience).await;
        self.close().await
    }
}

fn destination(kind: &str) -> Result<&'static dyn Destination, EngineError> {
    destinations::find(kind).ok_or_else(|| {
        let known: Vec<_> = destinations::ALL.iter().map(|destination| destination.spec().kind).collect();
        let msg = format!("must be one of: {}", known.join(", "));
        EngineError::Invalid(vec![FieldError::new("type", msg)])
    })
}

fn invalid(within: &str, errors: Vec<FieldError>) -> EngineError {
    EngineError::Invalid(errors.into_iter().map(|error| error.within(within)).collect())
}

const fn next_step(reason: InactiveReason) -> &'static str {
    match reason {
        InactiveReason::ManuallyInactivated => "make it active again, and ask once more",
        InactiveReason::AuthenticationInvalid => {
            "its credentials were refused: send settings that work, and ask once more"
        }
        InactiveReason::OauthAuthorizationRevoked | InactiveReason::OauthReauthorizationRequired => {
            "its account must be connected again in a browser; then ask once more"
        }
    }
}

const fn connection_state(connection: &Connection) -> &'static str {
    match connection {
        Connection { inactive: Some(_), .. } => "inactive",
        Connection { paused: true, .. } => "paused",
        _ => "active",
    }
}

fn internal(err: impl std::error::Error) -> EngineError {
    let mut text = err.to_string();
    let mut source = err.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    EngineError::Internal(text)
}

impl From<StoreError> for EngineError {
    fn from(err: StoreError) -> Self {
        match err {
            StoreError::Refused(refusal) => Self::Refused(refusal),
            StoreError::Unavailable(why) => Self::Unavailable(why),
            StoreError::Fenced | StoreError::Damaged(_) => Self::Internal(err.to_string()),
        }
    }
}
