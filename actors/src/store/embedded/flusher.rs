//! The thread that takes layers down to the index, and makes it durable now and then.
//!
//! sled gives up for good at the first write that fails. So it is kept from meeting a full disk: this
//! thread looks at the room first. Where that is not enough, sled is opened anew once there is room, and
//! what it had taken but not yet handed to the operating system is written again: those layers are kept
//! here until then.

use super::{
    committer::{Intake, MEND_EVERY, Trouble},
    journal::Reserve,
    view::{Frozen, Index, IndexError, IndexView},
};
use crate::store::{Unavailable, state::State};
use parking_lot::RwLock;
use std::{
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};
use tracing::{error, info, warn};

/// How often the index is made durable.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(3);
/// Keys that may be written and not flushed: they are kept in memory.
const UNFLUSHED_KEYS_MAX: usize = 32_768;

pub struct Flusher {
    state: Arc<RwLock<State<IndexView>>>,
    intake: Arc<Intake>,
    index: Index,
    reserve: Reserve,
    /// Room that must be left for the index to be written, in bytes.
    room_bytes_min: u64,
    /// Everything up to here is written, is flushed, is durable.
    written: u64,
    flushed: u64,
    checkpointed: u64,
    /// Layers that are written and not flushed, oldest first.
    unflushed: Vec<Frozen>,
}

impl Flusher {
    pub fn new(
        state: Arc<RwLock<State<IndexView>>>,
        intake: Arc<Intake>,
        index: Index,
        reserve: Reserve,
        room_bytes_min: u64,
    ) -> Self {
        let checkpointed = index.checkpointed();
        Self {
            state,
            intake,
            index,
            reserve,
            room_bytes_min,
            written: checkpointed,
            flushed: checkpointed,
            checkpointed,
            unflushed: Vec::new(),
        }
    }

    /// Runs until nobody sends layers any more.
    pub fn run(mut self, layers: &mpsc::Receiver<Frozen>) {
        let mut last = Instant::now();
        loop {
            let received = layers.recv_timeout(CHECKPOINT_EVERY);
            let is_over = matches!(received, Err(mpsc::RecvTimeoutError::Disconnected));
            self.take_down(received.ok());
            let is_due = is_over || last.elapsed() >= CHECKPOINT_EVERY;
            if is_due && self.written > self.checkpointed && !self.index.is_broken() {
                self.checkpoint();
                last = Instant::now();
            }
            if is_over {
                return;
            }
        }
    }

    /// Writes a layer, and again until it is written: until then it stays in memory. Gives up only when
    /// the store closes.
    fn take_down(&mut self, layer: Option<Frozen>) {
        // One that came while the index was opened anew is in it already.
        let mut layer = layer.filter(|layer| layer.applied > self.written);
        while let Err(err) = self.write(&mut layer) {
            match &err {
                IndexError::NoSpace(why) => {
                    self.intake.raise(Trouble::Full, why);
                    if let Err(err) = self.reserve.release() {
                        error!(%err, "cannot release the reserve");
                    }
                }
                IndexError::Failed(why) => self.intake.raise(Trouble::IndexFails, why),
            }
            if self.intake.availability() == Err(Unavailable::Closing) {
                return;
            }
            thread::sleep(MEND_EVERY);
        }
        self.intake.clear(Trouble::IndexFails, "the index can be written again");
    }

    fn write(&mut self, layer: &mut Option<Frozen>) -> Result<(), IndexError> {
        if self.index.is_broken() || layer.is_some() {
            self.check_room()?;
        }
        if self.index.is_broken() {
            *layer = self.reopen()?;
        }
        let Some(frozen) = layer else { return Ok(()) };
        self.index.write(frozen)?;
        let below = self.state.read().view.below();
        below.wrote(frozen.layer());
        self.state.write().view.thaw();
        self.intake.thawed();
        self.written = frozen.applied;
        self.unflushed.push(frozen.clone());
        if self.unflushed.iter().map(Frozen::keys).sum::<usize>() > UNFLUSHED_KEYS_MAX {
            *layer = None; // whatever becomes of the flush, this one is written
            self.flush()?;
        }
        Ok(())
    }

    fn check_room(&self) -> Result<(), IndexError> {
        match self.index.room() {
            room if room < self.room_bytes_min => Err(IndexError::NoSpace(format!("{room} bytes are left"))),
            _ => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), IndexError> {
        self.index.flush()?;
        self.flushed = self.written;
        self.unflushed.clear();
        Ok(())
    }

    fn checkpoint(&mut self) {
        let done =
            self.check_room().and_then(|()| self.flush()).and_then(|()| self.index.checkpoint(self.written));
        match done {
            Ok(()) => self.checkpointed = self.written,
            Err(err) => warn!(%err, "cannot make the index durable; it is tried again"),
        }
    }

    /// Opens the index anew. What was not flushed is above it in memory again, with what waits to be
    /// written; that is returned.
    fn reopen(&mut self) -> Result<Option<Frozen>, IndexError> {
        let mut state = self.state.write();
        let merged = Frozen::merge(self.unflushed.iter().chain(state.view.frozen()));
        self.index.reopen(&mut state.view, self.flushed, merged.clone())?;
        self.unflushed.clear();
        info!("the index was opened anew");
        Ok(merged)
    }
}

/// However this thread ends, nothing more is accepted: memory would fill up with what it does not take down.
impl Drop for Flusher {
    fn drop(&mut self) {
        if thread::panicking() {
            error!("the index thread failed: the store closes; start again");
        }
        self.state.write().close();
        self.intake.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        embedded::{
            journal::{self, Journal},
            mending::{Home, SmallDisk},
            trust::Trust,
        },
        state::View,
    };

    /// I13: sled gives up at the first write that fails. What it had taken by then and not handed over is
    /// written again once there is room, and reads see all of it at any time in between.
    #[test]
    fn what_the_index_took_and_could_not_write_is_written_again() {
        let Some(disk) = SmallDisk::mount(24) else { return };
        let elsewhere = Home::new();
        let (journal, _) = Journal::open(journal::Options {
            segment_bytes: 4_096,
            ..journal::Options::new(elsewhere.path().join("journal"))
        })
        .unwrap();
        let trust = Arc::new(Trust::read(disk.0.path(), Arc::new(disk.0.disk.clone())));
        let open = || Index::open(trust.clone(), 16 << 20, 1, &|_| {}).unwrap();
        let (index, _) = open();
        let state = Arc::new(RwLock::new(State::new(index.view(), 1)));
        let intake = Arc::new(Intake::new(0));
        let mut flusher = Flusher::new(state.clone(), intake, index, journal.reserve(), 0);

        let value = |layer: u64, key: u64| format!("{layer} {key} {}", "x".repeat(400)).into_bytes();
        let mut next_layer = 0;
        let mut put = |flusher: &mut Flusher| {
            next_layer += 1;
            let mut state = state.write();
            for key in 0..1_000 {
                state.view.put(format!("e{next_layer:8}{key:8}").into_bytes(), value(next_layer, key));
            }
            let mut layer = Some(state.view.freeze(next_layer));
            drop(state);
            (flusher.write(&mut layer), layer)
        };
        assert_eq!(put(&mut flusher).0, Ok(()));
        flusher.flush().unwrap();
        assert_eq!(put(&mut flusher).0, Ok(()), "taken, and not flushed");
        disk.fill();
        let mut layer = None;
        for _ in 0..100 {
            let (written, left) = put(&mut flusher);
            if written.is_err() {
                layer = left;
                break;
            }
        }
        assert!(flusher.index.is_broken(), "the index is meant to run out of room");
        disk.empty();
        let mended = (0..100).any(|_| flusher.write(&mut layer).is_ok());
        assert!(mended, "{:?}", flusher.write(&mut layer));
        let assert_whole = |view: &IndexView, what: &str| {
            for layer in 1..=next_layer {
                for key in 0..1_000 {
                    let found = view.get(format!("e{layer:8}{key:8}").as_bytes()).unwrap();
                    assert_eq!(
                        found.as_deref(),
                        Some(&value(layer, key)[..]),
                        "{what}: {key} of layer {layer}"
                    );
                }
            }
        };
        assert_whole(&state.read().view, "mended");
        flusher.checkpoint();
        assert_eq!(trust.checkpointed(), next_layer);
        drop((flusher, state));
        assert_whole(&open().0.view(), "opened again");
    }
}
