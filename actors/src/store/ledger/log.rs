//! Where a ledger's records go.

use super::*;

/// Records as they are on disk, each with its sequence.
pub type Records = Box<dyn Iterator<Item = Result<(u64, Record), StoreError>> + Send>;

/// Why a record was not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// It is not there, or is not what was written: trying again does not help.
    #[error("{0}")]
    Lost(String),
    /// The disk does not read for now.
    #[error("{0}")]
    DiskFails(String),
}

impl From<Unread> for StoreError {
    fn from(unread: Unread) -> Self {
        Self::Damaged(unread.to_string())
    }
}

/// Where records go, and how they become durable.
#[async_trait]
pub trait Log: Send + Sync + 'static {
    type View: View + Send + Sync + 'static;

    /// A transaction is over and the state still locked: its records are in the outbox.
    fn committed(&self, state: &mut State<Self::View>);

    /// Returns when everything up to this sequence is durable.
    async fn durable(&self, sequence: u64) -> Result<(), StoreError>;

    /// Makes events durable, and only then part of the state.
    async fn append(&self, fence: Fence, events: Vec<NewEvent>) -> Vec<Result<Appended, StoreError>>;

    /// Returns when there is room for more records nobody waits for.
    async fn room(&self) -> Result<(), StoreError>;

    /// Reads durable records, one answer each. What touches the disk does so off the async threads.
    async fn read(&self, places: Vec<Place>) -> Vec<Result<Record, Unread>>;

    /// The payload of an event, if it was accepted so lately that it is still in memory.
    fn recent_payload(&self, sequence: u64) -> Option<Bytes>;

    /// All records that are kept and part of the state, in order, and which those are; they end at the
    /// first that cannot be read. `None`: there is nothing beside the state that could tell otherwise.
    /// None of them goes while they are looked at.
    async fn records(&self) -> Option<(RangeInclusive<u64>, Records)> {
        None
    }

    /// The sequence up to which everything is durable and part of the state.
    fn settled(&self) -> u64;

    /// Gives back the space of records that nothing needs any more.
    async fn reclaim(&self, fence: Fence) -> Result<(), StoreError>;

    /// See [`Store::availability`].
    fn availability(&self) -> Result<(), Unavailable>;

    /// See [`Store::close`].
    async fn close(&self) -> Result<(), StoreError>;
}
