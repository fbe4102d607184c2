//! What the benches share: events to send, folders to write to, numbers to show.

#![allow(dead_code, reason = "each bench uses its part")]

pub mod ceiling;
pub mod sink;
pub mod wire;

use actors::{
    clock::Clock,
    domain::{
        event::Event,
        ids::{EventId, IdSource, OrganizationId, WorkspaceId},
    },
    store::{
        NewEvent, Store, StoreError, Unavailable,
        embedded::{self, EmbeddedStore, journal::RealDisk},
    },
};
use bytes::Bytes;
use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

/// The wait of who is told to come again.
const BUSY_WAIT: Duration = Duration::from_millis(20);
/// Bytes of a typical payload.
pub const PAYLOAD_BYTES: usize = 1_024;

/// A number from the environment, such as `WEFT_BENCH_EVENTS=1000000`.
pub fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.replace('_', "").parse().ok()).unwrap_or(default)
}

/// Makes events that look like real ones.
pub struct Events {
    ids: IdSource,
    clock: Clock,
    pub organization_id: OrganizationId,
    payload: Bytes,
}

impl Events {
    /// A source for one organization.
    pub fn new(organization_id: OrganizationId) -> Self {
        let filler = "x".repeat(PAYLOAD_BYTES.saturating_sub(40));
        let payload = format!(r#"{{"email":"a@example.com","note":"{filler}"}}"#).into();
        Self { ids: IdSource::default(), clock: Clock::system(), organization_id, payload }
    }

    /// The next event.
    pub fn next(&self, workspace_id: WorkspaceId, name: &str, resource_id: Option<String>) -> NewEvent {
        let now = self.clock.now();
        let event = Event {
            id: EventId::from_uuid(self.ids.next(now)),
            organization_id: self.organization_id,
            workspace_id,
            name: name.to_owned(),
            resource: "global".to_owned(),
            resource_id,
            created_by: "bench".to_owned(),
            accepted_at: now,
        };
        NewEvent { event, payload: self.payload.clone(), idempotency: None }
    }
}

/// A new workspace's id.
pub fn workspace_id() -> WorkspaceId {
    WorkspaceId::from_uuid(IdSource::default().next(Clock::system().now()))
}

/// Opens a store as a server does.
pub fn open(directory: &Path) -> EmbeddedStore {
    let options = embedded::Options {
        directory: directory.to_owned(),
        segment_bytes: 64 << 20,
        cache_bytes: 64 << 20,
        accept_damage: false,
        disk: Arc::new(RealDisk),
        say: Arc::new(|text| eprintln!("  {text}")),
    };
    EmbeddedStore::open(options).expect("the store opens")
}

/// Puts events into the store as fast as it takes them: where the index does not keep up, they wait.
pub async fn append(store: &EmbeddedStore, mut news: Vec<NewEvent>) {
    while !news.is_empty() {
        let answers = store.append_events(store.fence(), news.clone()).await;
        let mut refused = answers.into_iter().map(|answer| match answer {
            Err(StoreError::Unavailable(Unavailable::Busy)) => true,
            answer => answer.map(|_| false).expect("it is accepted"),
        });
        news.retain(|_| refused.next() == Some(true));
        if !news.is_empty() {
            tokio::time::sleep(BUSY_WAIT).await;
        }
    }
}

/// A line of results: what, how much, and the bound it is compared with.
pub fn show(what: &str, rate: f64, unit: &str, bound: f64) {
    println!("{what:<44} {rate:>12.0} {unit:<14} bound {bound:>12.0}   {:>5.2} of it", rate / bound);
}

/// The value below which `share` of the sorted times lie.
pub fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let index = ((sorted.len() as f64 - 1.0) * share).round() as usize;
    sorted.get(index).copied().unwrap_or_default()
}

/// How many a second.
pub fn rate(count: usize, since: Instant) -> f64 {
    count as f64 / since.elapsed().as_secs_f64()
}
