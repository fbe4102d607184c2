//! A store in memory: for tests, and for a server that need not remember.

use super::{
    ledger::{BatchKeys, Ledger, Log, Unread},
    state::{Admission, Order, Place, State, View, Visit, keys::Key, record::Record},
    *,
};
use parking_lot::{Mutex, RwLock};
use std::{collections::BTreeMap, ops::Bound, sync::Arc};

/// A store in memory. What it holds is gone when it is dropped.
pub type MemoryStore = Ledger<MemoryLog>;

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        let state = Arc::new(RwLock::new(State::new(MemoryView::default(), 1)));
        let log = MemoryLog { state: state.clone(), records: Mutex::default() };
        let mut locked = state.write();
        let fence = locked.open().expect("a map does not fail");
        log.committed(&mut locked);
        drop(locked);
        Self { state, log, fence }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

/// Keeps the records that hold payloads and responses.
pub struct MemoryLog {
    state: Arc<RwLock<State<MemoryView>>>,
    records: Mutex<BTreeMap<u64, Vec<u8>>>,
}

#[async_trait]
impl Log for MemoryLog {
    type View = MemoryView;

    fn committed(&self, state: &mut State<MemoryView>) {
        let outbox = state.take_outbox();
        let first = state.next_sequence() - outbox.len() as u64;
        self.records.lock().extend((first..).zip(outbox));
    }

    async fn durable(&self, _sequence: u64) -> Result<(), StoreError> {
        Ok(())
    }

    async fn append(&self, fence: Fence, events: Vec<NewEvent>) -> Vec<Result<Appended, StoreError>> {
        let mut state = self.state.write();
        let mut keys = BatchKeys::default();
        let mut append = |new: NewEvent| {
            state.check(fence)?;
            if let Some(earlier) = keys.earlier(&new) {
                return earlier;
            }
            match state.announce(&new)? {
                Admission::Repeated(event) => Ok(Appended::Repeated(event)),
                Admission::New(sequence) => {
                    keys.remember(&new);
                    state.admit(&new, Place::of(sequence));
                    self.records.lock().insert(sequence, Record::Accepted(new).encode());
                    Ok(Appended::New)
                }
            }
        };
        events.into_iter().map(&mut append).collect()
    }

    async fn room(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn read(&self, places: Vec<Place>) -> Vec<Result<Record, Unread>> {
        let records = self.records.lock();
        let read = |place: Place| {
            let bytes =
                records.get(&place.sequence).ok_or_else(|| Unread::Lost("no such record".to_owned()))?;
            Record::decode(bytes).map_err(|err| Unread::Lost(err.to_string()))
        };
        places.into_iter().map(read).collect()
    }

    fn recent_payload(&self, _sequence: u64) -> Option<Bytes> {
        None
    }

    fn settled(&self) -> u64 {
        self.state.read().next_sequence() - 1
    }

    async fn reclaim(&self, _fence: Fence) -> Result<(), StoreError> {
        Ok(())
    }

    fn availability(&self) -> Result<(), Unavailable> {
        Ok(())
    }

    async fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// An ordered map.
#[derive(Default)]
pub struct MemoryView(BTreeMap<Key, Bytes>);

impl View for MemoryView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.0.get(key).cloned())
    }

    fn put(&mut self, key: Key, value: Vec<u8>) {
        self.0.insert(key, value.into());
    }

    fn delete(&mut self, key: Key) {
        self.0.remove(&key);
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visit<'_>) -> Result<(), StoreError> {
        if from >= to {
            return Ok(());
        }
        let range = self.0.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
        let mut pairs: Box<dyn Iterator<Item = _>> = match order {
            Order::Ascending => Box::new(range),
            Order::Descending => Box::new(range.rev()),
        };
        pairs
            .try_for_each(|(key, value)| match visit(key, value) {
                Ok(true) => Ok(()),
                Ok(false) => Err(None),
                Err(err) => Err(Some(err)),
            })
            .or_else(|stop| stop.map_or(Ok(()), Err))
    }
}
