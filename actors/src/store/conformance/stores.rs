//! The stores that the suite is asked of, and how each is opened again.

use super::{steps::How, *};
use crate::store::{
    embedded::{
        EmbeddedStore, OpenError, Options,
        journal::{FaultyDisk, SEGMENT_BYTES_MIN},
    },
    memory::MemoryStore,
};
use parking_lot::Mutex;
use std::{fs, path::Path, sync::Arc};
use tempfile::TempDir;

/// A store under test.
#[async_trait]
pub trait Subject {
    /// The store as it is open now.
    fn store(&self) -> &dyn Store;

    /// Opens it again; `false` if it remembers only as long as it is open, and was left alone.
    async fn reopen(&mut self, how: How) -> bool;
}

#[async_trait]
impl Subject for MemoryStore {
    fn store(&self) -> &dyn Store {
        self
    }

    async fn reopen(&mut self, _how: How) -> bool {
        false
    }
}

/// An embedded store in a directory of its own, with the smallest segments there are, on a disk that syncs
/// only in name.
pub struct Embedded {
    pub home: TempDir,
    pub disk: FaultyDisk,
    pub segment_bytes: u64,
    /// See [`Options::accept_damage`].
    pub accept_damage: bool,
    /// What the last opening said.
    said: Arc<Mutex<Vec<String>>>,
    /// `None` while it is closed.
    open: Option<EmbeddedStore>,
    /// The index as it was when the store was opened last.
    older: TempDir,
}

/// What makes up an index, in the store's directory.
pub const INDEX: [&str; 2] = ["index", "CHECKPOINT"];

impl Embedded {
    pub fn new() -> Self {
        Self::at(TempDir::new().unwrap())
    }

    /// Opens what is in a directory, or begins one there.
    pub fn at(home: TempDir) -> Self {
        let (disk, older) = (FaultyDisk::default(), TempDir::new().unwrap());
        let mut new = Self {
            home,
            disk,
            segment_bytes: SEGMENT_BYTES_MIN,
            accept_damage: false,
            said: Arc::default(),
            open: None,
            older,
        };
        new.open();
        new
    }

    pub fn path(&self) -> &Path {
        self.home.path()
    }

    pub fn store(&self) -> &EmbeddedStore {
        self.open.as_ref().expect("it is open")
    }

    pub fn open(&mut self) {
        self.open = Some(self.try_open(self.path()).unwrap_or_else(|err| panic!("{err}: {err:?}")));
    }

    /// Opens what is in a directory the way this store is opened.
    pub fn try_open(&self, directory: &Path) -> Result<EmbeddedStore, OpenError> {
        let said = self.said.clone();
        said.lock().clear();
        EmbeddedStore::open(Options {
            directory: directory.to_owned(),
            segment_bytes: self.segment_bytes,
            cache_bytes: 1 << 20,
            accept_damage: self.accept_damage,
            disk: Arc::new(self.disk.clone()),
            say: Arc::new(move |text| said.lock().push(text.to_owned())),
        })
    }

    /// What the last opening said.
    pub fn said(&self) -> String {
        self.said.lock().join("\n")
    }

    pub async fn close(&mut self) {
        self.store().close().await.unwrap();
        self.open = None;
    }

    /// As a process ends that is killed.
    pub fn drop_store(&mut self) {
        self.open = None;
    }
}

#[async_trait]
impl Subject for Embedded {
    fn store(&self) -> &dyn Store {
        self.store()
    }

    async fn reopen(&mut self, how: How) -> bool {
        match how {
            How::Closed => self.close().await,
            How::Dropped | How::OlderIndex | How::NoIndex => self.drop_store(),
        }
        if matches!(how, How::OlderIndex | How::NoIndex) {
            INDEX.iter().for_each(|name| remove(&self.path().join(name)));
        }
        if how == How::OlderIndex {
            copy_index(self.older.path(), self.path());
        }
        // A later crash may bring back what there is now.
        INDEX.iter().for_each(|name| remove(&self.older.path().join(name)));
        copy_index(self.path(), self.older.path());
        self.open();
        true
    }
}

fn copy_index(from: &Path, to: &Path) {
    INDEX.iter().for_each(|name| copy(&from.join(name), &to.join(name)));
}

/// Copies a file or a directory, if it is there.
pub fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let name = entry.unwrap().file_name();
            copy(&from.join(&name), &to.join(&name));
        }
    } else if from.exists() {
        fs::copy(from, to).unwrap();
    }
}

/// Removes a file or a directory, if it is there.
pub fn remove(path: &Path) {
    if path.is_dir() {
        fs::remove_dir_all(path).unwrap();
    } else if path.exists() {
        fs::remove_file(path).unwrap();
    }
}
