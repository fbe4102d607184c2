//! The thread that writes the journal, and what waits for it.

use super::{
    flusher::Flusher,
    freeze,
    journal::{AppendError, Entry, Journal, Position},
    keeper::Keeper,
    place_of,
    recent::Recent,
    trust::Trust,
    view::{Frozen, Index, IndexView},
};
use crate::store::{
    Appended, Fence, NewEvent, StoreError, Unavailable,
    ledger::BatchKeys,
    state::{
        Admission, State,
        record::{RECORD_KIND, Record},
    },
};
use parking_lot::{Condvar, Mutex, RwLock};
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, futures::Notified, oneshot, watch};
use tracing::{error, info, warn};

/// Records of a batch, and their bytes.
const BATCH_RECORDS_MAX: usize = 1_024;
const BATCH_BYTES_MAX: usize = 1 << 20;
/// How long records nobody waits for may wait for company.
const LAZY_WAIT: Duration = Duration::from_millis(20);
/// Bytes of events that may wait to be written, all callers together.
const INTAKE_BYTES_MAX: usize = 32 << 20;
/// How long a caller waits for a place among them.
const INTAKE_WAIT: Duration = Duration::from_secs(2);
/// Bytes of records nobody waits for that may wait to be written.
const OUTBOX_BYTES_MAX: usize = 16 << 20;
/// Keys that make a layer full, and the age at which one that is not full goes down. Reads of sled wait while a
/// layer is written (its batch takes the lock that each read shares), so layers are small: some milliseconds each.
/// <https://docs.rs/sled/0.34.7/src/sled/tree.rs.html>
const LAYER_KEYS: usize = 4_096;
const LAYER_AGE: Duration = Duration::from_millis(100);
/// Keys in memory at which no more events are taken: the index does not keep up.
const LAYER_KEYS_MAX: usize = 100_000;
/// Keys in memory at which nothing is taken: what became of events waits, too.
const LAYER_KEYS_LIMIT: usize = 150_000;
/// How long a close waits for a layer that is on its way to the index, and how often it looks.
const CLOSE_WAIT: Duration = Duration::from_secs(10);
const CLOSE_LOOK: Duration = Duration::from_millis(1);
/// How often a disk that fails or is full is tried again.
pub const MEND_EVERY: Duration = Duration::from_secs(1);

/// Events on their way to the journal, and who waits for them.
pub struct Job {
    fence: Fence,
    events: Vec<(NewEvent, Vec<u8>)>,
    bytes: usize,
    reply: oneshot::Sender<Vec<Result<Appended, StoreError>>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Job {
    /// Encodes the events, where the caller is and not in the one thread that writes.
    pub fn new(
        fence: Fence,
        events: Vec<NewEvent>,
        reply: oneshot::Sender<Vec<Result<Appended, StoreError>>>,
    ) -> Result<Self, StoreError> {
        let mut bytes = 0;
        let mut encoded = Vec::with_capacity(events.len());
        for new in events {
            let record = Record::Accepted(new);
            let body = record.encode();
            bytes += body.len();
            let Record::Accepted(new) = record else {
                return Err(StoreError::Damaged("a record changed its kind".to_owned()));
            };
            encoded.push((new, body));
        }
        Ok(Self { fence, events: encoded, bytes, reply, permit: None })
    }

    fn refuse(self, why: Unavailable) {
        let _ = self.reply.send(vec![Err(StoreError::Unavailable(why)); self.events.len()]);
    }
}

/// What waits for the committer, and what it says about itself.
pub struct Intake {
    queue: Mutex<Queue>,
    grew: Condvar,
    budget: Arc<Semaphore>,
    outbox_bytes: AtomicUsize,
    /// Bytes the committer took from the outbox and could not write.
    unwritten_bytes: AtomicUsize,
    /// Keys in memory that are not on their way to the index.
    layer_keys: AtomicUsize,
    settled: AtomicU64,
    /// What is in the way of taking events, each of it a bit that its finder sets and clears.
    trouble: AtomicU8,
    changed: Notify,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Since when records nobody waits for are waiting.
    lazy_since: Option<Instant>,
    /// Somebody waits for those after all.
    hurry: bool,
    /// Segments that may go, and who waits for that.
    remove: Vec<(u64, oneshot::Sender<bool>)>,
    between: Vec<Between>,
    closing: bool,
}

/// Done to the state while no event is on its way into it.
type Between = Box<dyn FnOnce(&mut State<IndexView>) + Send>;

/// What is in the way of taking events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Trouble {
    /// There is not all the room that is to be kept. The keeper finds out when there is again.
    Full = 1,
    /// The journal cannot be written. The writer keeps trying.
    JournalFails = 2,
    /// The index cannot be written. The flusher keeps trying.
    IndexFails = 4,
    /// Too much waits for the index. The flusher finds out when it does not any more.
    Behind = 8,
    Closing = 16,
}

impl Intake {
    pub fn new(settled: u64) -> Self {
        Self {
            queue: Mutex::default(),
            grew: Condvar::new(),
            budget: Arc::new(Semaphore::new(INTAKE_BYTES_MAX)),
            outbox_bytes: AtomicUsize::new(0),
            unwritten_bytes: AtomicUsize::new(0),
            layer_keys: AtomicUsize::new(0),
            settled: AtomicU64::new(settled),
            trouble: AtomicU8::new(0),
            changed: Notify::new(),
        }
    }

    /// Hands events to the committer, waiting a little for room.
    pub async fn submit(&self, mut job: Job) -> Result<(), Unavailable> {
        self.availability()?;
        let bytes = u32::try_from(job.bytes.clamp(1, INTAKE_BYTES_MAX)).unwrap_or(u32::MAX);
        let permit = match self.budget.clone().try_acquire_many_owned(bytes) {
            Ok(permit) => permit,
            Err(_) => tokio::time::timeout(INTAKE_WAIT, self.budget.clone().acquire_many_owned(bytes))
                .await
                .map_err(|_| Unavailable::Busy)?
                .map_err(|_| Unavailable::Closing)?,
        };
        job.permit = Some(permit);
        let mut queue = self.queue.lock();
        if queue.closing {
            return Err(Unavailable::Closing);
        }
        queue.jobs.push_back(job);
        if queue.jobs.len() == 1 {
            self.grew.notify_one();
        }
        Ok(())
    }

    /// Records nobody waits for are in the outbox, and `keys` in the layer that takes writes.
    pub fn outbox_grew(&self, bytes: usize, keys: usize) {
        self.outbox_bytes.store(bytes, Ordering::Relaxed);
        self.layer_keys.store(keys, Ordering::Relaxed);
        let mut queue = self.queue.lock();
        if queue.lazy_since.is_none() {
            queue.lazy_since = Some(Instant::now());
            self.grew.notify_one();
        }
    }

    /// Somebody waits for what is in the outbox.
    pub fn hurry(&self) {
        let mut queue = self.queue.lock();
        if !queue.hurry {
            queue.hurry = true;
            self.grew.notify_one();
        }
    }

    /// Whether more records nobody waits for may be made: neither the journal nor the index is too far behind.
    pub fn has_room(&self) -> bool {
        let waiting =
            self.outbox_bytes.load(Ordering::Relaxed) + self.unwritten_bytes.load(Ordering::Relaxed);
        waiting < OUTBOX_BYTES_MAX && self.layer_keys.load(Ordering::Relaxed) < LAYER_KEYS_LIMIT
    }

    /// A layer is in the index.
    pub fn thawed(&self) {
        self.clear(Trouble::Behind, "the index keeps up again");
        self.changed.notify_waiters();
    }

    /// Returns when what is in the way has changed, or a layer is in the index, from this call on.
    pub fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// The sequence up to which everything is durable and part of the state.
    pub fn settled(&self) -> u64 {
        self.settled.load(Ordering::Acquire)
    }

    /// Lets a segment go; see [`Journal::remove_oldest`]. Returns whether it is gone.
    pub async fn remove(&self, segment: u64) -> bool {
        let (reply, answer) = oneshot::channel();
        {
            let mut queue = self.queue.lock();
            if queue.closing {
                return false;
            }
            queue.remove.push((segment, reply));
            self.grew.notify_one();
        }
        answer.await.unwrap_or(false)
    }

    /// Does something to the state while no event has a sequence and is not part of it. `None`: the store
    /// closes.
    pub async fn between<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut State<IndexView>) -> T + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        {
            let mut queue = self.queue.lock();
            if queue.closing {
                return None;
            }
            queue.between.push(Box::new(move |state| drop(reply.send(work(state)))));
            self.grew.notify_one();
        }
        answer.await.ok()
    }

    pub fn close(&self) {
        self.queue.lock().closing = true;
        self.trouble.fetch_or(Trouble::Closing as u8, Ordering::AcqRel);
        self.grew.notify_all();
        self.changed.notify_waiters();
    }

    pub fn availability(&self) -> Result<(), Unavailable> {
        let has = |trouble| self.has(trouble);
        match self.trouble.load(Ordering::Acquire) {
            0 => Ok(()),
            _ if has(Trouble::Closing) => Err(Unavailable::Closing),
            _ if has(Trouble::JournalFails) || has(Trouble::IndexFails) => Err(Unavailable::DiskFails),
            _ if has(Trouble::Full) => Err(Unavailable::DiskFull),
            _ => Err(Unavailable::Busy),
        }
    }

    pub fn has(&self, trouble: Trouble) -> bool {
        self.trouble.load(Ordering::Acquire) & trouble as u8 != 0
    }

    /// Returns when records could not be written, with why. A full disk alone is no reason: that is what
    /// the reserve is for.
    pub async fn failed(&self) -> Unavailable {
        loop {
            let changed = self.changed();
            if self.unwritten_bytes.load(Ordering::Acquire) > 0 {
                return self.availability().err().unwrap_or(Unavailable::DiskFails);
            }
            changed.await;
        }
    }

    /// Something is in the way of taking events, and why. Says so once.
    pub fn raise(&self, trouble: Trouble, why: &str) {
        if self.trouble.fetch_or(trouble as u8, Ordering::AcqRel) & trouble as u8 == 0 {
            error!(why, "no events are accepted; deliveries and reads go on");
            self.changed.notify_waiters();
        }
    }

    /// It is not in the way any more, and why.
    pub fn clear(&self, trouble: Trouble, why: &str) {
        let before = self.trouble.fetch_and(!(trouble as u8), Ordering::AcqRel);
        if before & trouble as u8 != 0 {
            match before == trouble as u8 {
                true => info!(why, "events are accepted again"),
                false => info!(why, "something else keeps events from being accepted"),
            }
            self.changed.notify_waiters();
        }
    }

    /// What there is to do, waiting for it a while. Empty after that while.
    fn next(&self, patience: Duration) -> Errand {
        let mut queue = self.queue.lock();
        let until = Instant::now() + patience;
        loop {
            let lazy_due = queue.lazy_since.map(|since| since + LAZY_WAIT);
            let now = Instant::now();
            let is_due =
                lazy_due.is_some_and(|due| due <= now) || until <= now || queue.closing || queue.hurry;
            if is_due || !queue.jobs.is_empty() || !queue.remove.is_empty() || !queue.between.is_empty() {
                (queue.lazy_since, queue.hurry) = (None, false);
                let (mut jobs, mut records, mut bytes) = (Vec::new(), 0, 0);
                while let Some(job) = queue.jobs.front() {
                    records += job.events.len();
                    bytes += job.bytes;
                    if !jobs.is_empty() && (records > BATCH_RECORDS_MAX || bytes > BATCH_BYTES_MAX) {
                        break;
                    }
                    jobs.extend(queue.jobs.pop_front());
                }
                let remove = std::mem::take(&mut queue.remove);
                let between = std::mem::take(&mut queue.between);
                return Errand { jobs, remove, between, closing: queue.closing && queue.jobs.is_empty() };
            }
            self.grew.wait_until(&mut queue, lazy_due.map_or(until, |due| due.min(until)));
        }
    }
}

struct Errand {
    jobs: Vec<Job>,
    remove: Vec<(u64, oneshot::Sender<bool>)>,
    between: Vec<Between>,
    closing: bool,
}

/// What the committer starts with.
pub struct Committer {
    pub state: Arc<RwLock<State<IndexView>>>,
    pub intake: Arc<Intake>,
    pub durable: watch::Sender<u64>,
    pub recent: Arc<Recent>,
    pub trust: Arc<Trust>,
}

impl Committer {
    /// Starts the threads. They end when the intake is closed.
    pub fn start(self, journal: Journal, index: Index) -> Vec<JoinHandle<()>> {
        let (to_flusher, layers) = mpsc::channel();
        let (nudge, nudged) = mpsc::channel();
        let flusher = Flusher::new(
            self.state.clone(),
            self.intake.clone(),
            index,
            journal.reserve(),
            journal.slack_bytes(),
        );
        let keeper = Keeper::new(self.intake.clone(), journal.spare_maker(), journal.reserve());
        let writer = Writer {
            state: self.state,
            intake: self.intake,
            durable: self.durable,
            recent: self.recent,
            trust: self.trust,
            journal,
            to_flusher,
            nudge,
            unwritten: Vec::new(),
            ready: None,
            layer_since: Instant::now(),
            next_try: Instant::now(),
            close_until: None,
        };
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            thread::Builder::new().name(name.to_owned()).spawn(run).expect("a thread can be started at start")
        };
        vec![
            spawn("journal", Box::new(move || writer.run())),
            spawn("index", Box::new(move || flusher.run(&layers))),
            spawn("keeper", Box::new(move || keeper.run(&nudged))),
        ]
    }
}

/// The committer's thread: the only one that writes the journal.
struct Writer {
    state: Arc<RwLock<State<IndexView>>>,
    intake: Arc<Intake>,
    durable: watch::Sender<u64>,
    recent: Arc<Recent>,
    trust: Arc<Trust>,
    journal: Journal,
    to_flusher: mpsc::Sender<Frozen>,
    nudge: mpsc::Sender<()>,
    /// Applied, but not on disk: a write failed. They go first.
    unwritten: Vec<Vec<u8>>,
    /// A layer whose records are not all on disk yet.
    ready: Option<Frozen>,
    layer_since: Instant,
    /// A disk that failed is not tried before this, unless whoever found it full finds room again.
    next_try: Instant,
    /// Until when a close waits for the index.
    close_until: Option<Instant>,
}

/// What becomes of an event of a batch.
enum Fate {
    Settled(Result<Appended, StoreError>),
    /// It is in the batch.
    Written,
}

impl Writer {
    fn run(mut self) {
        loop {
            let patience = if self.is_idle() { MEND_EVERY } else { LAZY_WAIT };
            let errand = self.intake.next(patience);
            let closing = errand.closing;
            self.commit(errand.jobs);
            errand.between.into_iter().for_each(|work| work(&mut self.state.write()));
            for (segment, reply) in errand.remove {
                let _ = reply.send(self.remove(segment));
            }
            self.freeze(closing);
            if closing && self.waits_for_index() {
                thread::sleep(CLOSE_LOOK);
            } else if closing && (self.is_idle() || !self.unwritten.is_empty()) {
                if !self.unwritten.is_empty() {
                    warn!(
                        records = self.unwritten.len(),
                        "closing with unwritten records: what they say may be repeated after the next start"
                    );
                }
                return;
            }
        }
    }

    /// Removes a segment, unless the index turned out meanwhile not to hold what is in it.
    fn remove(&mut self, segment: u64) -> bool {
        if self.trust.is_lost() {
            return false;
        }
        let removed = self.journal.remove_oldest(segment);
        if let Err(err) = &removed {
            warn!(segment, %err, "cannot remove a journal segment; it is tried again later");
        }
        removed.is_ok()
    }

    /// Nothing is under way that wants another look soon.
    fn is_idle(&self) -> bool {
        self.ready.is_none() && self.unwritten.is_empty()
    }

    /// Whether the last layer can go down once the one before it has. What does not go is read back from
    /// the journal at the next start, so an index that cannot be written is not waited for.
    fn waits_for_index(&mut self) -> bool {
        let fails = self.intake.has(Trouble::IndexFails) || self.intake.has(Trouble::Full);
        let until = *self.close_until.get_or_insert_with(|| Instant::now() + CLOSE_WAIT);
        !fails && Instant::now() < until && self.state.read().view.active_keys() > 0
    }

    fn commit(&mut self, jobs: Vec<Job>) {
        let started = Instant::now();
        if !self.unwritten.is_empty()
            && started < self.next_try
            && let Err(why) = self.intake.availability()
        {
            jobs.into_iter().for_each(|job| job.refuse(why));
            return;
        }
        let mut state = self.state.write();
        if self.intake.has(Trouble::JournalFails) && self.unwritten.is_empty() {
            // Something to try the disk with.
            let _ = state.commit(Record::Void);
        }
        let mut bodies = std::mem::take(&mut self.unwritten);
        bodies.extend(state.take_outbox());
        let lazy = bodies.len();
        let (mut keys, mut fates, mut accepted) =
            (BatchKeys::default(), Vec::with_capacity(jobs.len()), Vec::new());
        for mut job in jobs {
            if let Err(why @ (Unavailable::DiskFull | Unavailable::DiskFails)) = self.intake.availability() {
                job.refuse(why);
                continue;
            }
            let mut of_job = Vec::with_capacity(job.events.len());
            for (new, body) in std::mem::take(&mut job.events) {
                of_job.push(match announce(&mut state, job.fence, &mut keys, &new) {
                    Some(settled) => Fate::Settled(settled),
                    None => {
                        bodies.push(body);
                        accepted.push(new);
                        Fate::Written
                    }
                });
            }
            fates.push((job, of_job));
        }
        drop(state);
        if bodies.is_empty() {
            self.answer(fates, &Ok(()));
            return;
        }
        let written = self.append(&bodies);
        self.intake.outbox_bytes.store(self.state.read().outbox_bytes(), Ordering::Relaxed);
        match written {
            Ok(positions) => {
                self.intake.unwritten_bytes.store(0, Ordering::Relaxed);
                self.admit(&accepted, &positions[lazy..]);
                metrics::histogram!("weft_commit_seconds").record(started.elapsed().as_secs_f64());
                metrics::counter!("weft_journal_records_total").increment(bodies.len() as u64);
                self.answer(fates, &Ok(()));
            }
            Err(why) => {
                // The sequences are given out: what stands in their place says nothing.
                bodies.truncate(lazy);
                bodies.extend(accepted.iter().map(|_| Record::Void.encode()));
                self.intake.unwritten_bytes.store(bodies.iter().map(Vec::len).sum(), Ordering::Release);
                self.intake.changed.notify_waiters();
                self.unwritten = bodies;
                self.next_try = Instant::now() + MEND_EVERY;
                self.answer(fates, &Err(why));
            }
        }
    }

    fn append(&mut self, bodies: &[Vec<u8>]) -> Result<Vec<Position>, Unavailable> {
        let entries: Vec<Entry<'_>> = bodies.iter().map(|body| Entry { kind: RECORD_KIND, body }).collect();
        let segments_before = self.journal.segments().len();
        let appended = self.journal.append(&entries).or_else(|err| match err {
            // What is under way must be recorded: that is what the reserve is for.
            AppendError::NoSpace(_) => {
                self.intake.raise(Trouble::Full, "the disk is full");
                if let Err(err) = self.journal.reserve().release() {
                    error!(%err, "cannot release the reserve");
                }
                self.journal.append(&entries)
            }
            err => Err(err),
        });
        if self.journal.segments().len() != segments_before {
            let _ = self.nudge.send(());
        }
        appended.inspect(|_| self.intake.clear(Trouble::JournalFails, "the disk writes again")).map_err(
            |err| match err {
                AppendError::NoSpace(err) => {
                    error!(%err, "the journal cannot be written");
                    Unavailable::DiskFull
                }
                err => {
                    self.intake.raise(Trouble::JournalFails, &err.to_string());
                    Unavailable::DiskFails
                }
            },
        )
    }

    /// The events are on disk: now they exist.
    fn admit(&mut self, accepted: &[NewEvent], positions: &[Position]) {
        let last = self.journal.next_sequence() - 1;
        let first = last + 1 - accepted.len() as u64;
        self.recent.remember((first..).zip(accepted.iter().map(|new| &new.payload)));
        let mut state = self.state.write();
        for ((sequence, new), position) in (first..).zip(accepted).zip(positions) {
            state.admit(new, place_of(sequence, *position));
        }
        drop(state);
        self.intake.settled.store(last, Ordering::Release);
        self.durable.send_replace(last);
    }

    fn answer(&self, fates: Vec<(Job, Vec<Fate>)>, written: &Result<(), Unavailable>) {
        for (job, fates) in fates {
            let answers = fates.into_iter().map(|fate| match (fate, written) {
                (Fate::Written, Ok(())) => Ok(Appended::New),
                // A repetition of an event of the same batch stands and falls with it.
                (Fate::Written | Fate::Settled(Ok(_)), Err(why)) => Err(StoreError::Unavailable(*why)),
                (Fate::Settled(settled), _) => settled,
            });
            // A caller who left does not matter: the event is on disk.
            let _ = job.reply.send(answers.collect());
        }
    }

    /// Sends a full or old layer on its way, and one that waited for its records.
    fn freeze(&mut self, closing: bool) {
        if self.ready.is_none() {
            let keys = self.state.read().view.active_keys();
            self.intake.layer_keys.store(keys, Ordering::Relaxed);
            let is_old = self.layer_since.elapsed() >= LAYER_AGE;
            if keys >= LAYER_KEYS || keys > 0 && (is_old || closing) {
                let mut state = self.state.write();
                if !state.view.is_freezing() {
                    let applied = state.next_sequence() - 1;
                    self.ready = Some(freeze(&mut state, applied));
                    self.intake.layer_keys.store(0, Ordering::Relaxed);
                    self.layer_since = Instant::now();
                } else if keys >= LAYER_KEYS_MAX {
                    self.intake.raise(Trouble::Behind, "the index does not keep up");
                }
            }
        }
        let durable = self.journal.next_sequence() - 1;
        if let Some(frozen) = self.ready.take_if(|frozen| frozen.applied <= durable) {
            let _ = self.to_flusher.send(frozen); // one that has failed has closed the store
        }
    }
}

/// However this thread ends, nobody waits for it any longer and nothing more is accepted.
impl Drop for Writer {
    fn drop(&mut self) {
        self.state.write().close();
        self.intake.close();
        let mut queue = self.intake.queue.lock();
        queue.jobs.drain(..).for_each(|job| job.refuse(Unavailable::Closing));
        queue.remove.clear();
        queue.between.clear();
    }
}

/// Decides about an event; `None`: it is to be written.
fn announce(
    state: &mut State<IndexView>,
    fence: Fence,
    keys: &mut BatchKeys,
    new: &NewEvent,
) -> Option<Result<Appended, StoreError>> {
    if let Err(err) = state.check_owner(fence) {
        return Some(Err(err));
    }
    if let Some(earlier) = keys.earlier(new) {
        return Some(earlier);
    }
    match state.announce(new) {
        Ok(Admission::New(_)) => {
            keys.remember(new);
            None
        }
        Ok(Admission::Repeated(event)) => Some(Ok(Appended::Repeated(event))),
        Err(err) => Some(Err(err)),
    }
}
