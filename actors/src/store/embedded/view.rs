//! Delivery state and indexes: a view of the journal, in sled, with what is newest in memory.
//!
//! Three layers, newest first: `active` takes the writes, `frozen` is on its way down, sled holds the
//! rest. Most keys of an event's life (unrouted, queued, pending) come and go within `active` and never
//! reach sled. Nothing here has to survive: what sled lost or never got is replayed from the journal,
//! and a sled that is damaged is set aside and built again.
//!
//! sled 0.34 does not sync its files when it flushes (it asks for `sync_file_range`), so a checkpoint
//! syncs them itself before it writes down how far the view has come. Once a write of its has failed it
//! takes no other until it is opened anew.
//! <https://github.com/spacejam/sled/blob/v0.34.7/src/pagecache/iobuf.rs>

use super::{
    below::{Below, Range},
    journal::is_no_space,
    make_private_directory, runs,
    trust::Trust,
};
use crate::store::{
    StoreError, Unavailable,
    state::{Order, View, Visit, keys::Key},
};
use bytes::Bytes;
use std::{
    cmp::Ordering, collections::BTreeMap, fs, io, ops::Bound, panic::AssertUnwindSafe, path::Path, sync::Arc,
};

/// The sequence up to which sled holds everything.
const APPLIED: &[u8] = b"\0applied";
const INDEX: &str = "index";
/// Keys whose garbage one collection frees, with room to spare: some three objects each, of 512.
const KEYS_A_COLLECTION: usize = 64;
const INDEX_DAMAGED: &str = "index.damaged";

/// What memory knows of a key.
#[derive(Clone, Debug)]
pub enum Known {
    /// `fresh`: no layer below has it, so that removing it leaves nothing to remember.
    Value {
        value: Bytes,
        fresh: bool,
    },
    Gone,
}

/// What is known of some keys.
pub type Layer = BTreeMap<Key, Known>;

/// A layer on its way to sled, and the sequence up to which it completes what is there.
#[derive(Clone)]
pub struct Frozen {
    layer: Arc<Layer>,
    pub applied: u64,
}

impl Frozen {
    pub fn keys(&self) -> usize {
        self.layer.len()
    }

    pub fn layer(&self) -> &Layer {
        &self.layer
    }

    /// Layers as one, oldest first; `None` without any.
    pub fn merge<'f>(layers: impl Iterator<Item = &'f Self>) -> Option<Self> {
        let mut merged: Option<Self> = None;
        for frozen in layers {
            match &mut merged {
                None => merged = Some(frozen.clone()),
                Some(Self { layer, applied }) => {
                    *applied = frozen.applied;
                    let pairs = frozen.layer.iter().map(|(key, known)| (key.clone(), known.clone()));
                    Arc::make_mut(layer).extend(pairs);
                }
            }
        }
        merged
    }
}

/// The view.
pub struct IndexView {
    active: Layer,
    frozen: Option<Frozen>,
    /// `None` while sled is opened anew.
    tree: Option<sled::Tree>,
    below: Arc<Below>,
    trust: Arc<Trust>,
}

/// Where the view rests.
pub struct Index {
    /// `None` if it could not be opened anew so far.
    db: Option<sled::Db>,
    cache_bytes: u64,
    trust: Arc<Trust>,
    /// A write failed: nothing is taken until it is opened anew.
    is_broken: bool,
}

/// Why the index does not take something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    #[error("there is no room for the index: {0}")]
    NoSpace(String),
    #[error("the index cannot be written: {0}")]
    Failed(String),
}

impl From<sled::Error> for IndexError {
    fn from(err: sled::Error) -> Self {
        match &err {
            sled::Error::Io(io) if is_no_space(io.kind()) => Self::NoSpace(err.to_string()),
            _ => Self::Failed(err.to_string()),
        }
    }
}

impl From<IndexError> for io::Error {
    fn from(err: IndexError) -> Self {
        match err {
            IndexError::NoSpace(why) => Self::new(io::ErrorKind::StorageFull, why),
            IndexError::Failed(why) => Self::other(why),
        }
    }
}

impl IndexView {
    /// Keys written since the last freeze.
    pub fn active_keys(&self) -> usize {
        self.active.len()
    }

    /// The layer that is on its way down.
    pub fn frozen(&self) -> Option<&Frozen> {
        self.frozen.as_ref()
    }

    /// Whether a layer is on its way down.
    pub fn is_freezing(&self) -> bool {
        self.frozen.is_some()
    }

    /// Starts a new layer; the old one, complete up to `applied`, is to be written to the index.
    pub fn freeze(&mut self, applied: u64) -> Frozen {
        let frozen = Frozen { layer: Arc::new(std::mem::take(&mut self.active)), applied };
        self.frozen = Some(frozen.clone());
        frozen
    }

    /// What is known of sled. It is told of a frozen layer that was written before that is thawed.
    pub fn below(&self) -> Arc<Below> {
        self.below.clone()
    }

    /// The frozen layer is in sled now, and what is known of sled is of that.
    pub fn thaw(&mut self) {
        self.frozen = None;
    }

    /// sled, as far as it can be read.
    fn tree(&self) -> Result<&sled::Tree, StoreError> {
        self.tree.as_ref().ok_or(StoreError::Unavailable(Unavailable::DiskFails))
    }

    /// A read of sled failed.
    fn damaged(&self, err: &sled::Error) -> StoreError {
        let why = format!("the index cannot be read: {err}");
        self.trust.lose(&why);
        StoreError::Damaged(why)
    }

    fn frozen_layer(&self) -> Option<&Layer> {
        self.frozen.as_ref().map(|frozen| &*frozen.layer)
    }
}

impl View for IndexView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.active.get(key).or_else(|| self.frozen_layer()?.get(key)) {
            Some(Known::Value { value, .. }) => Ok(Some(value.clone())),
            Some(Known::Gone) => Ok(None),
            None => match runs::value_bytes(key) {
                Some(value_bytes) => {
                    let _reading = Reading(&self.trust);
                    runs::get(self.tree()?, key, value_bytes).map_err(|err| self.damaged(&err))
                }
                None => self.below.row(key, || {
                    let _reading = Reading(&self.trust);
                    let found = self.tree()?.get(key).map_err(|err| self.damaged(&err))?;
                    Ok(found.map(|value| Bytes::copy_from_slice(&value)))
                }),
            },
        }
    }

    fn put(&mut self, key: Key, value: Vec<u8>) {
        let fresh = matches!(self.active.get(&key), Some(Known::Value { fresh: true, .. }));
        self.below.put(&key);
        self.active.insert(key, Known::Value { value: value.into(), fresh });
    }

    fn put_new(&mut self, key: Key, value: Vec<u8>) {
        // A key that is gone is not there, but a layer below may have it.
        let fresh = !matches!(self.active.get(&key), Some(Known::Gone));
        self.below.put(&key);
        self.active.insert(key, Known::Value { value: value.into(), fresh });
    }

    fn delete(&mut self, key: Key) {
        if let Some(Known::Value { fresh: true, .. }) = self.active.get(&key) {
            self.active.remove(&key);
        } else {
            self.active.insert(key, Known::Gone);
        }
    }

    fn distrust(&self, why: &str) {
        self.trust.lose(why);
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visit<'_>) -> Result<(), StoreError> {
        if from >= to {
            return Ok(());
        }
        if order == Order::Ascending
            && let Some(head) = self.below.head(from, to)
        {
            return self.scan_from(&head, from, to, order, visit);
        }
        self.scan_from(from, from, to, order, visit)
    }
}

impl IndexView {
    /// Scans what is from `start`, the first that there may be from `from` to `to`.
    fn scan_from(
        &self,
        start: &[u8],
        from: &[u8],
        to: &[u8],
        order: Order,
        visit: Visit<'_>,
    ) -> Result<(), StoreError> {
        let bounds = (Bound::Included(start), Bound::Excluded(to));
        let mut is_first = order == Order::Ascending;
        let visit: Visit<'_> = &mut |key, value| {
            if std::mem::take(&mut is_first) {
                self.below.found_head(from, to, key);
            }
            visit(key, value)
        };
        let empty = Layer::new();
        let active = self.active.range::<[u8], _>(bounds);
        let frozen = self.frozen_layer().unwrap_or(&empty).range::<[u8], _>(bounds);
        let tree = self.tree()?;
        let _reading = Reading(&self.trust);
        let merged = match (runs::value_bytes(from), order) {
            (None, Order::Ascending) => {
                let owned = |pair: sled::Result<(sled::IVec, sled::IVec)>| {
                    pair.map(|(key, value)| (key.to_vec(), Bytes::copy_from_slice(&value)))
                };
                let whole = (Bound::Included(from), Bound::Excluded(to));
                let known = self.below.range(from, to, || tree.range::<&[u8], _>(whole).map(owned));
                match known.map_err(|err| self.damaged(&err))? {
                    Some(Range::Whole(pairs)) => {
                        merge(active, frozen, pairs.range::<[u8], _>(bounds).map(Ok), Ordering::Less, visit)
                    }
                    _ => merge(active, frozen, tree.range::<&[u8], _>(bounds), Ordering::Less, visit),
                }
            }
            (None, Order::Descending) => {
                let rest = tree.range::<&[u8], _>(bounds).rev();
                merge(active.rev(), frozen.rev(), rest, Ordering::Greater, visit)
            }
            (Some(value_bytes), Order::Ascending) => {
                merge(active, frozen, runs::range(tree, from, to, value_bytes), Ordering::Less, visit)
            }
            (Some(value_bytes), Order::Descending) => {
                let rest = runs::range(tree, from, to, value_bytes).rev();
                merge(active.rev(), frozen.rev(), rest, Ordering::Greater, visit)
            }
        };
        merged.map_err(|stop| match stop {
            Stop::Unreadable(err) => self.damaged(&err),
            Stop::Visitor(err) => err,
        })
    }
}

/// Notices when a read of sled ends in a panic.
struct Reading<'t>(&'t Trust);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lose("reading the index panicked");
        }
    }
}

/// Why a merge did not come to its end.
enum Stop {
    Unreadable(sled::Error),
    Visitor(StoreError),
}

/// Shows the pairs of three ordered layers as one, the newest layer's word counting.
/// `first` is how the key that comes first compares with one that comes later.
fn merge<'a, K, V>(
    active: impl Iterator<Item = (&'a Key, &'a Known)>,
    frozen: impl Iterator<Item = (&'a Key, &'a Known)>,
    rest: impl Iterator<Item = sled::Result<(K, V)>>,
    first: Ordering,
    visit: Visit<'_>,
) -> Result<(), Stop>
where
    K: AsRef<[u8]>,
    V: AsRef<[u8]>,
{
    let (mut active, mut frozen, mut rest) = (active.peekable(), frozen.peekable(), rest.peekable());
    loop {
        if let Some(Err(err)) = rest.peek() {
            return Err(Stop::Unreadable(err.clone()));
        }
        let in_rest = rest.peek().and_then(|pair| pair.as_ref().ok()).map(|(key, _)| key.as_ref());
        let in_memory = [active.peek().map(|(key, _)| &key[..]), frozen.peek().map(|(key, _)| &key[..])];
        let mut next: Option<&[u8]> = None;
        for key in in_memory.into_iter().chain([in_rest]).flatten() {
            if next.is_none_or(|next| key.cmp(next) == first) {
                next = Some(key);
            }
        }
        let Some(next) = next else { return Ok(()) };
        let is_next = |key: Option<&[u8]>| key == Some(next);
        let (from_active, from_frozen, from_rest) =
            (is_next(in_memory[0]), is_next(in_memory[1]), is_next(in_rest));
        let in_active = if from_active { active.next() } else { None };
        let in_frozen = if from_frozen { frozen.next() } else { None };
        let in_rest = if from_rest { rest.next().and_then(Result::ok) } else { None };
        let goes_on = match (in_active.or(in_frozen), &in_rest) {
            (Some((key, Known::Value { value, .. })), _) => visit(key, value).map_err(Stop::Visitor)?,
            (None, Some((key, value))) => visit(key.as_ref(), value.as_ref()).map_err(Stop::Visitor)?,
            _ => true,
        };
        if !goes_on {
            return Ok(());
        }
    }
}

impl Index {
    /// Opens the index that `trust` is about, and tells up to which sequence it is complete. One that cannot
    /// be opened, that nothing vouches for, that is behind its checkpoint, or that ends before
    /// `journal_first`, where the journal begins, is set aside: an empty one takes its place. For want of room
    /// nothing is set aside.
    pub fn open(
        trust: Arc<Trust>,
        cache_bytes: u64,
        journal_first: u64,
        say: &dyn Fn(&str),
    ) -> io::Result<(Self, u64)> {
        let directory = trust.directory().to_owned();
        let path = directory.join(INDEX);
        let checkpoint = trust.checkpointed();
        let index = |db| Self { db: Some(db), cache_bytes, trust: trust.clone(), is_broken: false };
        if path.exists() {
            let why = match open_db(&path, cache_bytes) {
                Ok((db, applied)) => {
                    let is_vouched_for = applied == 0 || checkpoint > 0;
                    let is_joined = applied == 0 || applied + 1 >= journal_first;
                    if is_vouched_for && is_joined && applied >= checkpoint {
                        return Ok((index(db), applied));
                    }
                    drop(db); // it writes to its files until then, and these are about to move
                    match is_vouched_for {
                        false => "nothing vouches for it".to_owned(),
                        true => format!(
                            "it ends at {applied}, its checkpoint says {checkpoint}, the journal begins at {journal_first}"
                        ),
                    }
                }
                Err(err @ IndexError::NoSpace(_)) => return Err(err.into()),
                Err(err) => err.to_string(),
            };
            say(&format!("the index is set aside and built again from the journal: {why}"));
            let aside = directory.join(INDEX_DAMAGED);
            if aside.exists() {
                fs::remove_dir_all(&aside)?;
            }
            fs::rename(&path, &aside)?;
        } else if checkpoint > 0 {
            say("the index is missing and built again from the journal");
        }
        trust.forget()?;
        let (db, applied) = open_db(&path, cache_bytes)?;
        Ok((index(db), applied))
    }

    /// A view on it.
    pub fn view(&self) -> IndexView {
        IndexView {
            active: Layer::new(),
            frozen: None,
            tree: self.db.as_deref().cloned(),
            below: Arc::default(),
            trust: self.trust.clone(),
        }
    }

    /// Writes a frozen layer down, in one batch.
    pub fn write(&mut self, frozen: &Frozen) -> Result<(), IndexError> {
        let written = self.db().and_then(|db| write(db, frozen));
        collect_garbage(frozen.keys());
        self.settle(written)
    }

    /// After a write that failed no other is taken; and unless it was for want of room, nobody knows what is lost.
    fn settle(&mut self, done: Result<(), IndexError>) -> Result<(), IndexError> {
        self.is_broken |= done.is_err();
        if let Err(IndexError::Failed(why)) = &done {
            self.trust.lose(why);
        }
        done
    }

    /// The sequence up to which it is durable.
    pub fn checkpointed(&self) -> u64 {
        self.trust.checkpointed()
    }

    /// Whether it takes nothing more until it is opened anew.
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }

    fn db(&self) -> Result<&sled::Db, IndexError> {
        self.db.as_ref().ok_or_else(|| IndexError::Failed("it is not open".to_owned()))
    }

    /// Bytes the disk has room for; a disk that does not say has enough.
    pub fn room(&self) -> u64 {
        self.trust.disk().room(&self.trust.directory().join(INDEX)).unwrap_or(u64::MAX)
    }

    /// Hands what was written over to the operating system: it survives this process, and being opened anew.
    pub fn flush(&mut self) -> Result<(), IndexError> {
        let flushed = self.db().and_then(|db| Ok(db.flush().map(drop)?));
        self.settle(flushed)
    }

    /// Makes what was written durable, and writes down how far it goes. After a sync that failed nothing
    /// vouches for the index any more.
    pub fn checkpoint(&mut self, applied: u64) -> Result<(), IndexError> {
        self.flush()?;
        self.trust.make_known();
        if self.trust.is_lost() {
            return Ok(());
        }
        if let Err(err) = sync_all_files(&self.trust, &self.trust.directory().join(INDEX)) {
            self.trust.lose(&format!("its files cannot be synced: {err}"));
            return Ok(());
        }
        self.trust.vouch(applied).map_err(|err| IndexError::Failed(err.to_string()))
    }

    /// Opens it anew, with all that was flushed, up to the sequence `flushed`. What was not is in
    /// `frozen` and goes above what is there. Until this succeeds the view cannot be read.
    pub fn reopen(
        &mut self,
        view: &mut IndexView,
        flushed: u64,
        frozen: Option<Frozen>,
    ) -> Result<(), IndexError> {
        (view.tree, self.db, self.is_broken) = (None, None, true);
        let (db, applied) = open_db(&self.trust.directory().join(INDEX), self.cache_bytes)?;
        if applied < flushed {
            let why = format!("it ends at {applied}, and was flushed up to {flushed}");
            self.trust.lose(&why);
            return Err(IndexError::Failed(why));
        }
        view.tree = Some((*db).clone());
        (view.frozen, view.below) = (frozen, Arc::default());
        (self.db, self.is_broken) = (Some(db), false);
        Ok(())
    }
}

fn write(db: &sled::Db, frozen: &Frozen) -> Result<(), IndexError> {
    let mut batch = sled::Batch::default();
    let mut list: (&[u8], Vec<runs::Entry<'_>>) = (&[], Vec::new());
    for (key, known) in &*frozen.layer {
        let value = match known {
            Known::Value { value, .. } => Some(&value[..]),
            Known::Gone => None,
        };
        match (runs::value_bytes(key), value) {
            (Some(_), value) => {
                let (of, id) = runs::split(key);
                if of != list.0 {
                    write_list(db, &mut batch, &list)?;
                    list = (of, Vec::new());
                }
                list.1.push((id, value));
            }
            (None, Some(value)) => batch.insert(&key[..], value),
            (None, None) => batch.remove(&key[..]),
        }
    }
    write_list(db, &mut batch, &list)?;
    batch.insert(APPLIED, &frozen.applied.to_be_bytes());
    Ok(db.apply_batch(batch)?)
}

fn write_list(
    db: &sled::Db,
    batch: &mut sled::Batch,
    (list, changes): &(&[u8], Vec<runs::Entry<'_>>),
) -> Result<(), IndexError> {
    let Some(value_bytes) = runs::value_bytes(list) else { return Ok(()) };
    Ok(runs::write(db, batch, list, value_bytes, changes)?)
}

/// Frees what sled let go of while `keys` keys were written. It replaces whole nodes, and what was
/// replaced is freed by later calls, eight bags each, now and then: far less than one batch leaves
/// behind, so that without this memory grows with everything that is ever written.
/// <https://docs.rs/crossbeam-epoch/0.9/crossbeam_epoch/struct.Guard.html#method.flush>
fn collect_garbage(keys: usize) {
    for _ in 0..16 + keys / KEYS_A_COLLECTION {
        crossbeam_epoch::pin().flush();
    }
}

/// Opens sled, which may panic over what it finds.
fn open_db(path: &Path, cache_bytes: u64) -> Result<(sled::Db, u64), IndexError> {
    let open = || {
        // sled makes its files readable by everybody who may enter.
        make_private_directory(path)?;
        let db = sled::Config::new().path(path).cache_capacity(cache_bytes).flush_every_ms(None).open()?;
        let applied = db.get(APPLIED)?;
        Ok::<_, sled::Error>((db, applied))
    };
    let opened = std::panic::catch_unwind(AssertUnwindSafe(open));
    let (db, applied) = opened.map_err(|_| IndexError::Failed("it does not open".to_owned()))??;
    let applied = applied.and_then(|bytes| bytes[..].try_into().ok()).map_or(0, u64::from_be_bytes);
    Ok((db, applied))
}

/// sled's main file, and the side files it moves large values to.
fn sync_all_files(trust: &Trust, directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_all_files(trust, &entry.path())?;
        } else {
            match trust.disk().sync_others(&entry.path()) {
                Err(err) if err.kind() == io::ErrorKind::NotFound => {} // removed meanwhile
                synced => synced?,
            }
        }
    }
    trust.disk().sync_others(directory)
}
