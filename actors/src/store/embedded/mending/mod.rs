//! What the embedded store does about a disk that is full or fails, and about what cannot be read.

mod audit;
mod full_disk;
mod index;
mod reclaim;
mod usage;

pub use full_disk::SmallDisk;

use super::{EmbeddedStore, OpenError, Options, journal::FaultyDisk, *};
use crate::domain::ids::IdSource;
use parking_lot::Mutex;
use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use uuid::Uuid;

/// How long something may take that must happen by itself, in bad cases.
const PATIENCE: Duration = Duration::from_secs(60);

pub const NOW: Timestamp = Timestamp(1_800_000_000_000);

/// A store's home, its disk, and what opening it said. The disk syncs only in name.
pub struct Home {
    dir: TempDir,
    pub disk: FaultyDisk,
    pub segment_bytes: u64,
    said: Mutex<Arc<Mutex<Vec<String>>>>,
    pub ids: IdSource,
}

impl Home {
    pub fn new() -> Self {
        Self {
            dir: TempDir::new().unwrap(),
            disk: FaultyDisk::default(),
            segment_bytes: 64 << 10,
            said: Mutex::default(),
            ids: IdSource::default(),
        }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn index(&self) -> std::path::PathBuf {
        self.path().join("index")
    }

    pub fn has_checkpoint(&self) -> bool {
        self.path().join("CHECKPOINT").exists()
    }

    pub fn open(&self) -> EmbeddedStore {
        self.try_open(false).unwrap_or_else(|err| panic!("{err}: {:?}", std::error::Error::source(&err)))
    }

    pub fn try_open(&self, accept_damage: bool) -> Result<EmbeddedStore, OpenError> {
        let said = Arc::<Mutex<Vec<String>>>::default();
        *self.said.lock() = said.clone();
        EmbeddedStore::open(Options {
            directory: self.path().to_owned(),
            segment_bytes: self.segment_bytes,
            cache_bytes: 16 << 20,
            accept_damage,
            disk: Arc::new(self.disk.clone()),
            say: Arc::new(move |text| said.lock().push(text.to_owned())),
        })
    }

    /// What the last opening said.
    pub fn said(&self) -> String {
        self.said.lock().lock().join("\n")
    }

    /// An event of this workspace, accepted at `at`.
    pub fn event(&self, workspace: WorkspaceId, at: Timestamp, payload_bytes: usize) -> NewEvent {
        let event = Event {
            id: EventId::from_uuid(self.ids.next(at)),
            organization_id: ORGANIZATION,
            workspace_id: workspace,
            name: "contact.created".to_owned(),
            resource: "global".to_owned(),
            resource_id: None,
            created_by: "test".to_owned(),
            accepted_at: at,
        };
        NewEvent { event, payload: vec![b'x'; payload_bytes].into(), idempotency: None }
    }

    /// Appends events of `payload_bytes` each; those that were acknowledged.
    pub async fn append(&self, store: &EmbeddedStore, count: usize, payload_bytes: usize) -> Vec<EventId> {
        let new: Vec<_> = (0..count).map(|_| self.event(WORKSPACE, NOW, payload_bytes)).collect();
        let ids: Vec<_> = new.iter().map(|new| new.event.id).collect();
        let answers = store.append_events(store.fence(), new).await;
        ids.into_iter().zip(answers).filter_map(|(id, answer)| answer.ok().map(|_| id)).collect()
    }
}

pub const ORGANIZATION: OrganizationId = OrganizationId::from_uuid(Uuid::from_u128(1));
pub const WORKSPACE: WorkspaceId = WorkspaceId::from_uuid(Uuid::from_u128(2));
pub const CONNECTION: ConnectionId = ConnectionId::from_uuid(Uuid::from_u128(3));
pub const RULE: RuleId = RuleId::from_uuid(Uuid::from_u128(4));

/// What makes an event of the workspace go to the one connection.
pub fn routed(event: EventId, at: Timestamp) -> Routed {
    let matched = Matched {
        rule_id: RULE,
        connection_id: CONNECTION,
        destination: "webhook".to_owned(),
        action: "{}".to_owned(),
        created_by: "test".to_owned(),
    };
    Routed { event_id: event, at, matched: vec![matched], unmatched: Vec::new() }
}

/// Waits for something that must happen by itself.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "it takes too long until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// All of these are there, and their payloads.
pub async fn assert_all_there(store: &EmbeddedStore, events: &[EventId]) {
    for id in events {
        let found = store.event(Scope::Workspace(WORKSPACE), *id).await;
        assert!(matches!(found, Ok(Some(_))), "event {id}: {found:?}");
        let payload = store.payload(Scope::Workspace(WORKSPACE), *id).await;
        assert!(matches!(payload, Ok(Some(_))), "payload of {id}: {payload:?}");
    }
    let verified = store.verify().await.unwrap();
    assert_eq!(verified.faults, Vec::<String>::new());
}
