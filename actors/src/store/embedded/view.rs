//! Delivery state and indexes: a view of the journal, in sled, with what is newest in memory.
//!
//! Three layers, newest first: `active` takes the writes, `frozen` is on its way down, sled holds the
//! rest. Most keys of an event's life (unrouted, queued, pending) come and go within `active` and never
//! reach sled. Nothing here has to survive: what sled lost or never got is replayed from the journal,
//! and a sled that is damaged is set aside and built again.
//!
//! sled 0.34 does not sync its files when it flushes (it asks for `sync_file_range`), so a checkpoint
//! syncs them itself before it writes down how far the view has come.
//! <https://github.com/spacejam/sled/blob/v0.34.7/src/pagecache/iobuf.rs>

use super::{
    below::{Below, Range},
    create_private_file, make_private_directory, runs,
};
use crate::store::{
    StoreError,
    state::{Order, View, Visit, keys::Key},
};
use bytes::Bytes;
use std::{
    cmp::Ordering,
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    ops::Bound,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The sequence up to which sled holds everything.
const APPLIED: &[u8] = b"\0applied";
const CHECKPOINT: &str = "CHECKPOINT";
const INDEX: &str = "index";
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

/// The view.
pub struct IndexView {
    active: Layer,
    frozen: Option<Frozen>,
    tree: sled::Tree,
    below: Below,
}

/// Where the view rests.
pub struct Index {
    db: sled::Db,
    directory: PathBuf,
}

impl IndexView {
    /// Keys written since the last freeze.
    pub fn active_keys(&self) -> usize {
        self.active.len()
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

    /// The frozen layer is in sled now.
    pub fn thaw(&mut self) {
        if let Some(frozen) = self.frozen.take() {
            self.below.wrote(&frozen.layer);
        }
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
                Some(value_bytes) => runs::get(&self.tree, key, value_bytes).map_err(damaged),
                None => self.below.row(key, || {
                    let found = self.tree.get(key).map_err(damaged)?;
                    Ok(found.map(|value| Bytes::copy_from_slice(&value)))
                }),
            },
        }
    }

    fn put(&mut self, key: Key, value: Vec<u8>) {
        let fresh = matches!(self.active.get(&key), Some(Known::Value { fresh: true, .. }));
        self.active.insert(key, Known::Value { value: value.into(), fresh });
    }

    fn put_new(&mut self, key: Key, value: Vec<u8>) {
        // A key that is gone is not there, but a layer below may have it.
        let fresh = !matches!(self.active.get(&key), Some(Known::Gone));
        self.active.insert(key, Known::Value { value: value.into(), fresh });
    }

    fn delete(&mut self, key: Key) {
        if let Some(Known::Value { fresh: true, .. }) = self.active.get(&key) {
            self.active.remove(&key);
        } else {
            self.active.insert(key, Known::Gone);
        }
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visit<'_>) -> Result<(), StoreError> {
        if from >= to {
            return Ok(());
        }
        let bounds = (Bound::Included(from), Bound::Excluded(to));
        let empty = Layer::new();
        let active = self.active.range::<[u8], _>(bounds);
        let frozen = self.frozen_layer().unwrap_or(&empty).range::<[u8], _>(bounds);
        match (runs::value_bytes(from), order) {
            (None, Order::Ascending) => {
                let owned = |pair: sled::Result<(sled::IVec, sled::IVec)>| {
                    pair.map(|(key, value)| (key.to_vec(), Bytes::copy_from_slice(&value)))
                };
                let range = || self.tree.range::<&[u8], _>(bounds);
                match self.below.range(from, to, || range().map(owned)).map_err(damaged)? {
                    Some(Range::Whole(pairs)) => {
                        let rest = pairs.iter().map(Ok);
                        merge(active, frozen, rest, Ordering::Less, visit)
                    }
                    Some(Range::Long) => {
                        let (mut keys, mut at_end) = (0, false);
                        let mut rest = range();
                        let counted = std::iter::from_fn(|| {
                            let pair = rest.next();
                            (keys, at_end) = (keys + 1, pair.is_none());
                            pair
                        });
                        merge(active, frozen, counted, Ordering::Less, visit)?;
                        if at_end {
                            self.below.read_to_end(from, keys);
                        }
                        Ok(())
                    }
                    None => merge(active, frozen, range(), Ordering::Less, visit),
                }
            }
            (None, Order::Descending) => {
                let rest = self.tree.range::<&[u8], _>(bounds).rev();
                merge(active.rev(), frozen.rev(), rest, Ordering::Greater, visit)
            }
            (Some(value_bytes), Order::Ascending) => {
                merge(active, frozen, runs::range(&self.tree, from, to, value_bytes), Ordering::Less, visit)
            }
            (Some(value_bytes), Order::Descending) => {
                let rest = runs::range(&self.tree, from, to, value_bytes).rev();
                merge(active.rev(), frozen.rev(), rest, Ordering::Greater, visit)
            }
        }
    }
}

/// Shows the pairs of three ordered layers as one, the newest layer's word counting.
/// `first` is how the key that comes first compares with one that comes later.
fn merge<'a, K, V>(
    active: impl Iterator<Item = (&'a Key, &'a Known)>,
    frozen: impl Iterator<Item = (&'a Key, &'a Known)>,
    rest: impl Iterator<Item = sled::Result<(K, V)>>,
    first: Ordering,
    visit: Visit<'_>,
) -> Result<(), StoreError>
where
    K: AsRef<[u8]>,
    V: AsRef<[u8]>,
{
    let (mut active, mut frozen, mut rest) = (active.peekable(), frozen.peekable(), rest.peekable());
    loop {
        if let Some(Err(err)) = rest.peek() {
            return Err(damaged(err.clone()));
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
            (Some((key, Known::Value { value, .. })), _) => visit(key, value)?,
            (None, Some((key, value))) => visit(key.as_ref(), value.as_ref())?,
            _ => true,
        };
        if !goes_on {
            return Ok(());
        }
    }
}

fn damaged(err: sled::Error) -> StoreError {
    StoreError::Damaged(format!("the index cannot be read: {err}"))
}

impl Index {
    /// Opens the index in `directory`, and tells up to which sequence it is complete. One that cannot
    /// be opened, is behind its checkpoint, or ends before `journal_first`, where the journal begins, is
    /// set aside: an empty one takes its place.
    pub fn open(
        directory: &Path,
        cache_bytes: u64,
        journal_first: u64,
        say: &dyn Fn(&str),
    ) -> io::Result<(Self, u64)> {
        let path = directory.join(INDEX);
        let checkpoint = checkpointed(directory);
        let index = |db| Self { db, directory: directory.to_owned() };
        if path.exists() {
            let opened = std::panic::catch_unwind(|| open_db(&path, cache_bytes));
            let why = match opened {
                Ok(Ok((db, applied))) => {
                    if applied >= checkpoint && (applied == 0 || applied + 1 >= journal_first) {
                        return Ok((index(db), applied));
                    }
                    drop(db); // it writes to its files until then, and these are about to move
                    format!(
                        "it ends at {applied}, its checkpoint says {checkpoint}, the journal begins at {journal_first}"
                    )
                }
                Ok(Err(err)) => err.to_string(),
                Err(_) => "it does not open".to_owned(),
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
        forget_checkpoint(directory)?;
        let (db, applied) = open_db(&path, cache_bytes).map_err(io::Error::other)?;
        Ok((index(db), applied))
    }

    /// A view on it.
    pub fn view(&self) -> IndexView {
        IndexView { active: Layer::new(), frozen: None, tree: (*self.db).clone(), below: Below::default() }
    }

    /// Writes a frozen layer down, in one batch.
    pub fn write(&self, frozen: &Frozen) -> Result<(), StoreError> {
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
                        self.write_list(&mut batch, &list)?;
                        list = (of, Vec::new());
                    }
                    list.1.push((id, value));
                }
                (None, Some(value)) => batch.insert(&key[..], value),
                (None, None) => batch.remove(&key[..]),
            }
        }
        self.write_list(&mut batch, &list)?;
        batch.insert(APPLIED, &frozen.applied.to_be_bytes());
        self.db.apply_batch(batch).map_err(damaged)
    }

    fn write_list(
        &self,
        batch: &mut sled::Batch,
        (list, changes): &(&[u8], Vec<runs::Entry<'_>>),
    ) -> Result<(), StoreError> {
        let Some(value_bytes) = runs::value_bytes(list) else { return Ok(()) };
        runs::write(&self.db, batch, list, value_bytes, changes).map_err(damaged)
    }

    /// Makes what was written durable, and writes down how far it goes.
    pub fn checkpoint(&self, applied: u64) -> io::Result<()> {
        self.db.flush().map_err(io::Error::other)?;
        let path = self.directory.join(INDEX);
        sync_all_files(&path)?;
        let new = self.directory.join("CHECKPOINT.new");
        let mut file = create_private_file(&new)?;
        file.write_all(&applied.to_be_bytes())?;
        file.write_all(&crc32c::crc32c(&applied.to_be_bytes()).to_be_bytes())?;
        file.sync_all()?;
        fs::rename(&new, self.directory.join(CHECKPOINT))?;
        File::open(&self.directory)?.sync_all()
    }
}

fn open_db(path: &Path, cache_bytes: u64) -> sled::Result<(sled::Db, u64)> {
    // sled makes its files readable by everybody who may enter.
    make_private_directory(path)?;
    let db = sled::Config::new().path(path).cache_capacity(cache_bytes).flush_every_ms(None).open()?;
    let applied = db.get(APPLIED)?;
    let applied = applied.and_then(|bytes| bytes[..].try_into().ok()).map_or(0, u64::from_be_bytes);
    Ok((db, applied))
}

/// Takes the checkpoint away, before the index it vouches for goes.
pub fn forget_checkpoint(directory: &Path) -> io::Result<()> {
    match fs::remove_file(directory.join(CHECKPOINT)) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
        _ => Ok(()),
    }
}

/// The sequence the last checkpoint vouches for; 0 without a valid one.
pub fn checkpointed(directory: &Path) -> u64 {
    let bytes = fs::read(directory.join(CHECKPOINT)).unwrap_or_default();
    let Some((applied, crc)) = bytes.split_at_checked(8) else { return 0 };
    let is_whole = crc == crc32c::crc32c(applied).to_be_bytes();
    applied.try_into().ok().filter(|_| is_whole).map_or(0, u64::from_be_bytes)
}

/// sled's main file, and the side files it moves large values to.
fn sync_all_files(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_all_files(&entry.path())?;
        } else if let Ok(file) = File::open(entry.path()) {
            file.sync_data()?;
        }
    }
    File::open(directory)?.sync_all()
}
