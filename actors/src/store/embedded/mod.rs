//! The embedded store: a journal that everything depends on, and an index that can be built again.
//!
//! ```text
//! append_events ─┐                      ┌─> journal (one write, one sync) ─> answer 201
//!                ├─> committer thread ──┤
//! transactions ──┘   takes what waits   └─> state: active layer ─> frozen ─> flusher thread ─> sled
//! ```
//!
//! Three threads beside tokio's. The **committer** owns the journal: it takes what waits, writes it as
//! one batch, syncs once, makes the events part of the state and answers. The **flusher** takes full
//! layers of the view down to sled and checkpoints it. The **keeper** makes spare segments ahead of
//! need, and notices when the disk is full and when it is not any more.
//!
//! A layer goes to sled only once every record behind it is on disk, so the index never knows more
//! than the journal. Opening replays what the journal has beyond the index.

mod below;
mod committer;
mod flusher;
pub mod journal;
mod keeper;
#[cfg(test)]
mod mending;
mod recent;
mod reclaim;
mod runs;
#[cfg(test)]
mod tests;
mod trust;
mod view;

use super::{
    ledger::{Ledger, Log, Records, Unread},
    state::{
        Place, State,
        record::{RECORD_BYTES_MAX, Record},
    },
    *,
};
use committer::{Committer, Intake, Job};
use journal::{Disk, Journal, Position, ReadError, Reader, is_no_space};
use parking_lot::{Mutex, RwLock};
use recent::Recent;
use reclaim::Survey;
use std::{
    fs, io,
    ops::RangeInclusive,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
};
use tokio::sync::{oneshot, watch};
use trust::Trust;
use view::{Frozen, Index, IndexView};

/// Records between two words about how far a replay is.
const PROGRESS_EVERY: u64 = 250_000;
/// Keys a replay gathers before it writes them to the index.
const REPLAY_LAYER_KEYS: usize = 16_384;

const _: () = assert!(RECORD_BYTES_MAX <= journal::BODY_BYTES_MAX, "every record fits the journal");

/// The embedded store.
pub type EmbeddedStore = Ledger<JournalLog>;

/// How an embedded store is opened.
pub struct Options {
    /// Holds everything: `journal/`, `index/`, `CHECKPOINT`, `LOCK`. Made if it is missing, mode 0700.
    pub directory: PathBuf,
    /// Size of a journal segment in bytes; see [`journal::Options`].
    pub segment_bytes: u64,
    /// Memory for sled's cache, in bytes.
    pub cache_bytes: u64,
    /// Start although acknowledged records are damaged, leaving those out.
    pub accept_damage: bool,
    pub disk: Arc<dyn Disk>,
    /// Told in plain sentences what takes time and what was found.
    pub say: Arc<dyn Fn(&str) + Send + Sync>,
}

/// Why a store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the data directory {0} is in use by another process; stop that one first")]
    InUse(PathBuf),
    #[error("the data directory {0} cannot be used")]
    Directory(PathBuf, #[source] io::Error),
    #[error(transparent)]
    Journal(#[from] journal::JournalError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the index cannot be opened")]
    Index(#[source] io::Error),
    #[error(
        "the journal ends at record {0}, but the index knows of record {1}: records that were acknowledged are gone; \
         restore the journal from a backup, or run `weft repair --data DIR` to go on without them"
    )]
    JournalCut(u64, u64),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl EmbeddedStore {
    /// Opens the store, or begins one: replays what the index does not hold yet, and takes it over.
    /// Takes time in proportion to what has to be replayed.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let lock = lock_directory(&options.directory)?;
        let (journal, opening) = Journal::open(journal::Options {
            dir: options.directory.join("journal"),
            segment_bytes: options.segment_bytes,
            disk: options.disk.clone(),
            accept_damage: options.accept_damage,
            ..journal::Options::new(&options.directory)
        })?;
        let say = &*options.say;
        if opening.torn_bytes > 0 {
            say(&format!(
                "cut {} bytes of a write that a crash interrupted; nobody was told it was done",
                opening.torn_bytes
            ));
        }
        for loss in &opening.losses {
            say(&format!("set aside: {loss}"));
        }
        let reader = journal.reader();
        let trust = Arc::new(Trust::read(&options.directory, options.disk));
        let reserve = journal.reserve();
        if trust.disk().room(&options.directory).is_ok_and(|room| room < journal.slack_bytes()) {
            say("the disk is full: the room kept in reserve is given up for opening");
            reserve.release()?;
        }
        let open_index = || {
            let open = || Index::open(trust.clone(), options.cache_bytes, reader.first_sequence(), say);
            let opened = open().or_else(|err| match is_no_space(err.kind()) {
                true => reserve.release().map_err(io::Error::other).and_then(|()| open()),
                false => Err(err),
            });
            opened.map_err(OpenError::Index)
        };
        // Asked before the index, which is set aside if it is damaged: what it vouched for counts still.
        let vouched = trust.checkpointed();
        let cut = |known| OpenError::JournalCut(opening.next_sequence - 1, known);
        if vouched >= opening.next_sequence && !options.accept_damage {
            return Err(cut(vouched));
        }
        let (mut index, mut applied) = open_index()?;
        if applied >= opening.next_sequence {
            if !options.accept_damage {
                return Err(cut(applied));
            }
            drop(index);
            trust.forget().map_err(OpenError::Index)?;
            fs::remove_dir_all(options.directory.join("index")).map_err(OpenError::Index)?;
            (index, applied) = open_index()?;
        }
        let mut state = State::new(index.view(), applied + 1);
        replay(&mut state, &mut index, &reader, applied, opening.next_sequence, say)?;
        let fence = state.open()?;
        Ok(Self::start(state, index, journal, lock, fence, trust))
    }

    fn start(
        state: State<IndexView>,
        index: Index,
        journal: Journal,
        lock: fs::File,
        fence: Fence,
        trust: Arc<Trust>,
    ) -> Self {
        let state = Arc::new(RwLock::new(state));
        let settled = state.read().next_sequence() - 1;
        let (durable, watching) = watch::channel(journal.next_sequence() - 1);
        let intake = Arc::new(Intake::new(settled));
        let (reader, recent) = (journal.reader(), Arc::new(Recent::default()));
        let committer = Committer {
            state: state.clone(),
            intake: intake.clone(),
            durable,
            recent: recent.clone(),
            trust: trust.clone(),
        };
        let threads = Mutex::new(committer.start(journal, index));
        let log = JournalLog {
            state: state.clone(),
            intake,
            durable: watching,
            recent,
            reader,
            trust,
            survey: Arc::default(),
            threads,
            _lock: lock,
        };
        Self { state, log, fence }
    }
}

/// Takes the directory for this process alone, until the file is closed.
fn lock_directory(directory: &Path) -> Result<fs::File, OpenError> {
    let unusable = |err| OpenError::Directory(directory.to_owned(), err);
    make_private_directory(directory).map_err(unusable)?;
    let lock = create_private_file(&directory.join("LOCK")).map_err(unusable)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => Err(OpenError::InUse(directory.to_owned())),
        Err(fs::TryLockError::Error(err)) => Err(unusable(err)),
    }
}

/// For its owner only, whatever the directory around it lets others do.
fn make_private_directory(directory: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// The same for a file, emptied if it is there.
fn create_private_file(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Applies what the journal has beyond the index.
fn replay(
    state: &mut State<IndexView>,
    index: &mut Index,
    reader: &Reader,
    applied: u64,
    next_sequence: u64,
    say: &dyn Fn(&str),
) -> Result<(), OpenError> {
    let first = reader.first_sequence().max(applied + 1);
    let total = next_sequence.saturating_sub(first);
    let mut checkpointed = applied;
    for found in reader.scan(first) {
        let (position, record) = match found {
            Ok(found) => found,
            Err(ReadError::Lost { .. }) => continue,
            Err(err) => return Err(err.into()),
        };
        let place = place_of(record.sequence, position);
        state.replay(Record::decode(&record.body)?, place)?;
        if state.view.active_keys() >= REPLAY_LAYER_KEYS {
            write_layer(state, index)?;
            checkpointed = record.sequence;
        }
        let done = record.sequence - first + 1;
        if done.is_multiple_of(PROGRESS_EVERY) {
            say(&format!("reading the journal: {done} of {total} records"));
        }
    }
    state.write_usage();
    state.skip_to(next_sequence);
    if checkpointed > applied {
        write_layer(state, index)?;
        index.checkpoint(next_sequence - 1).map_err(io::Error::from).map_err(OpenError::Index)?;
        say(&format!("the index is up to date: {total} records read"));
    }
    Ok(())
}

/// Starts a new layer; the old one holds all that the state knows up to `applied`.
fn freeze(state: &mut State<IndexView>, applied: u64) -> Frozen {
    state.write_usage();
    state.view.freeze(applied)
}

fn write_layer(state: &mut State<IndexView>, index: &mut Index) -> Result<(), OpenError> {
    let applied = state.next_sequence() - 1;
    let frozen = freeze(state, applied);
    index.write(&frozen).map_err(io::Error::from).map_err(OpenError::Index)?;
    state.view.below().wrote(frozen.layer());
    state.view.thaw();
    Ok(())
}

fn read_record(reader: &Reader, place: Place) -> Result<Record, Unread> {
    let found = if place.segment == 0 && place.offset == 0 {
        reader.read(place.sequence)
    } else {
        reader.read_at(Position { segment: place.segment, offset: place.offset })
    };
    let record = found.map_err(|err| match err {
        ReadError::Io(_) => Unread::DiskFails(err.to_string()),
        ReadError::Unknown | ReadError::Lost { .. } | ReadError::Damaged(_) => Unread::Lost(err.to_string()),
    })?;
    Record::decode(&record.body).map_err(|err| Unread::Lost(err.to_string()))
}

fn place_of(sequence: u64, position: Position) -> Place {
    Place { sequence, segment: position.segment, offset: position.offset }
}

/// The journal as a store's log.
pub struct JournalLog {
    state: Arc<RwLock<State<IndexView>>>,
    intake: Arc<Intake>,
    durable: watch::Receiver<u64>,
    recent: Arc<Recent>,
    reader: Reader,
    trust: Arc<Trust>,
    /// Held by the one who gives back space.
    survey: Arc<tokio::sync::Mutex<Survey>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    _lock: fs::File,
}

#[async_trait]
impl Log for JournalLog {
    type View = IndexView;

    fn committed(&self, state: &mut State<IndexView>) {
        let bytes = state.outbox_bytes();
        if bytes > 0 {
            self.intake.outbox_grew(bytes, state.view.active_keys());
        }
    }

    async fn durable(&self, sequence: u64) -> Result<(), StoreError> {
        let mut durable = self.durable.clone();
        loop {
            if *durable.borrow_and_update() >= sequence {
                return Ok(());
            }
            self.intake.hurry();
            tokio::select! {
                changed = durable.changed() => if changed.is_err() {
                    return Err(StoreError::Unavailable(Unavailable::Closing));
                },
                why = self.intake.failed() => return Err(StoreError::Unavailable(why)),
            }
        }
    }

    async fn append(&self, fence: Fence, events: Vec<NewEvent>) -> Vec<Result<Appended, StoreError>> {
        let count = events.len();
        let refuse = |why| vec![Err(StoreError::Unavailable(why)); count];
        let (reply, answer) = oneshot::channel();
        let job = match Job::new(fence, events, reply) {
            Ok(job) => job,
            Err(err) => return vec![Err(err); count],
        };
        if let Err(why) = self.intake.submit(job).await {
            return refuse(why);
        }
        answer.await.unwrap_or_else(|_| refuse(Unavailable::Closing))
    }

    async fn room(&self) -> Result<(), StoreError> {
        if self.intake.has_room() {
            return Ok(());
        }
        let mut durable = self.durable.clone();
        loop {
            let changed = self.intake.changed();
            durable.borrow_and_update();
            if self.intake.has_room() {
                return Ok(());
            }
            tokio::select! {
                written = durable.changed() => if written.is_err() {
                    return Err(StoreError::Unavailable(Unavailable::Closing));
                },
                () = changed => {}
            }
        }
    }

    async fn read(&self, places: Vec<Place>) -> Vec<Result<Record, Unread>> {
        let (reader, count) = (self.reader.clone(), places.len());
        let read = move || places.into_iter().map(|place| read_record(&reader, place)).collect();
        tokio::task::spawn_blocking(read).await.unwrap_or_else(|err| {
            vec![Err(Unread::DiskFails(format!("reading the journal failed: {err}"))); count]
        })
    }

    fn recent_payload(&self, sequence: u64) -> Option<Bytes> {
        self.recent.get(sequence)
    }

    async fn records(&self) -> Option<(RangeInclusive<u64>, Records)> {
        let all_stay = self.survey.clone().lock_owned().await;
        // What a start says about itself is part of the state before it is on disk.
        let last = self.intake.settled().min(self.reader.last_sequence());
        let first = self.reader.first_sequence();
        let records = self.reader.scan(first).map(move |found| {
            let _ = &all_stay;
            let (_, record) = found.map_err(|err| StoreError::Damaged(err.to_string()))?;
            Ok((record.sequence, Record::decode(&record.body)?))
        });
        Some((first..=last, Box::new(records)))
    }

    fn settled(&self) -> u64 {
        self.intake.settled()
    }

    async fn reclaim(&self, fence: Fence) -> Result<(), StoreError> {
        self.reclaim_segments(fence).await
    }

    fn availability(&self) -> Result<(), Unavailable> {
        self.intake.availability()
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.intake.close();
        let threads = std::mem::take(&mut *self.threads.lock());
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().map(JoinHandle::join).all(|joined| joined.is_ok())
        });
        match joined.await {
            Ok(true) => Ok(()),
            _ => Err(StoreError::Damaged("a thread of the store failed".to_owned())),
        }
    }
}

impl Drop for JournalLog {
    fn drop(&mut self) {
        self.intake.close();
        for thread in std::mem::take(self.threads.get_mut()) {
            let _ = thread.join();
        }
    }
}
