//! What the journal promises, asked with 4 KiB segments and a disk that fails on command.

mod damage;
mod faults;
mod model;
mod reading;
mod recovery;

use super::{format::RECORD_HEAD_BYTES, *};
use std::{fs, path::Path};
use tempfile::TempDir;

/// A journal's home, its disk, and how it is opened.
struct Home {
    dir: TempDir,
    disk: FaultyDisk,
}

impl Home {
    fn new() -> Self {
        Self { dir: TempDir::new().unwrap(), disk: FaultyDisk::default() }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn options(&self) -> Options {
        let disk = Arc::new(self.disk.clone());
        Options { segment_bytes: 4096, disk, ..Options::new(self.path()) }
    }

    fn try_open(&self) -> Result<(Journal, Opening), JournalError> {
        Journal::open(self.options())
    }

    fn open(&self) -> Journal {
        self.try_open().unwrap().0
    }

    fn repair(&self) -> (Journal, Opening) {
        Journal::open(Options { accept_damage: true, ..self.options() }).unwrap()
    }

    /// Puts the directory back to what [`Home::image`] saw.
    fn restore(&self, image: &[(String, Vec<u8>)]) {
        for entry in fs::read_dir(self.path()).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        for (name, bytes) in image {
            fs::write(self.path().join(name), bytes).unwrap();
        }
    }

    fn image(&self) -> Vec<(String, Vec<u8>)> {
        let mut names = self.names();
        names.sort();
        names.into_iter().map(|name| (name.clone(), fs::read(self.path().join(name)).unwrap())).collect()
    }

    fn names(&self) -> Vec<String> {
        RealDisk.list(self.path()).unwrap()
    }

    fn segment_path(&self, id: u64) -> PathBuf {
        self.path().join(format!("{id:016x}.seg"))
    }

    /// Changes a segment's bytes behind the journal's back.
    fn alter(&self, id: u64, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.segment_path(id)).unwrap();
        change(&mut bytes);
        fs::write(self.segment_path(id), bytes).unwrap();
    }
}

fn try_put(journal: &mut Journal, bodies: &[Vec<u8>]) -> Result<Vec<Position>, AppendError> {
    let entries: Vec<_> = bodies.iter().map(|body| Entry { kind: 7, body }).collect();
    journal.append(&entries)
}

fn put(journal: &mut Journal, bodies: &[Vec<u8>]) -> Vec<Position> {
    try_put(journal, bodies).unwrap()
}

/// Bodies of a batch that are told apart by their number; none ends in a zero.
fn bodies(numbers: std::ops::Range<u64>, bytes: usize) -> Vec<Vec<u8>> {
    numbers.map(|number| format!("{number:0>width$}", width = bytes.max(1)).into_bytes()).collect()
}

/// What a scan yields; sequences must go up by one.
fn contents(journal: &Journal) -> Vec<Vec<u8>> {
    let records: Vec<_> = journal.reader().scan(1).map(|found| found.unwrap().1).collect();
    for pair in records.windows(2) {
        assert_eq!(pair[0].sequence + 1, pair[1].sequence);
    }
    records.into_iter().map(|record| record.body.to_vec()).collect()
}

/// Sequences of what a scan yields.
fn sequences(journal: &Journal) -> Vec<u64> {
    journal.reader().scan(1).map(|found| found.unwrap().1.sequence).collect()
}
