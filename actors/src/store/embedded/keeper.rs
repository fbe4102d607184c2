//! The thread that keeps room: a spare segment ahead of need, and a reserve for a full disk.

use super::{
    committer::{Intake, MEND_EVERY, Trouble},
    journal::{JournalError, Reserve, SpareMaker},
};
use std::sync::{Arc, mpsc};
use tracing::warn;

pub struct Keeper {
    intake: Arc<Intake>,
    spare: SpareMaker,
    reserve: Reserve,
}

impl Keeper {
    pub fn new(intake: Arc<Intake>, spare: SpareMaker, reserve: Reserve) -> Self {
        Self { intake, spare, reserve }
    }

    /// Runs until nobody nudges any more.
    pub fn run(self, nudged: &mpsc::Receiver<()>) {
        loop {
            match self.keep() {
                Ok(()) => self.intake.clear(Trouble::Full, "there is room again"),
                Err(JournalError::NoSpace(_)) => self.intake.raise(Trouble::Full, "the disk is full"),
                Err(err) => warn!(%err, "cannot keep room for the journal"),
            }
            if nudged.recv_timeout(MEND_EVERY) == Err(mpsc::RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    fn keep(&self) -> Result<(), JournalError> {
        if self.spare.wanted() {
            self.spare.make()?;
        }
        if !self.reserve.is_whole() {
            self.reserve.restore()?;
        }
        Ok(())
    }
}
