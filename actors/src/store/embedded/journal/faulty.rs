//! For tests: a real folder on a disk that fails as it is told, and syncs only in name.
//!
//! It also remembers what was never synced, so that a test can cut the power: sectors
//! that were not synced come back old or new as the test chooses, and sectors whose sync
//! failed are old for good, as on Linux, where a failed `fsync` marks dirty pages clean.
//! <https://wiki.postgresql.org/wiki/Fsync_Errors>

use super::disk::{Disk, DiskFile, RealDisk};
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
};

const SECTOR_BYTES: u64 = 512;

/// How a write fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteFault {
    /// Nothing is written; an input/output error.
    Refused,
    /// Nothing is written; the disk is full.
    NoSpace,
    /// The first so many bytes are written, then an input/output error. With `usize::MAX` all
    /// are, and the sync that would follow never comes: a crash between the two.
    Torn(usize),
}

/// A [`Disk`] that can be told to fail. Clones are the same disk.
#[derive(Clone, Default)]
pub struct FaultyDisk(Arc<Mutex<Script>>);

#[derive(Default)]
struct Script {
    /// Faults by how many further writes go well first.
    writes: Vec<(u32, WriteFault)>,
    /// Likewise for syncs, of files and of directories.
    syncs: Vec<u32>,
    full: bool,
    failing: Option<PathBuf>,
    panicking: Option<PathBuf>,
    synced: u64,
    written: u64,
    files: BTreeMap<PathBuf, u64>,
    next_file: u64,
    unsynced: BTreeMap<u64, BTreeMap<u64, Sector>>,
}

/// What a sector held when it was last durable.
struct Sector {
    old: Vec<u8>,
    lost: bool,
}

impl FaultyDisk {
    /// Fails the nth write from now; 1 is the next.
    pub fn fail_write(&self, nth: u32, fault: WriteFault) {
        self.0.lock().writes.push((nth, fault));
    }

    /// Fails the nth sync from now, of a file or a directory; 1 is the next.
    pub fn fail_sync(&self, nth: u32) {
        self.0.lock().syncs.push(nth);
    }

    /// From now on the syncs of what others write below `path` fail; they are not counted.
    pub fn fail_syncs_below(&self, path: &Path) {
        self.0.lock().failing = Some(path.to_owned());
    }

    /// Whoever asks for the room below `path` panics, once.
    pub fn panic_at(&self, path: &Path) {
        self.0.lock().panicking = Some(path.to_owned());
    }

    /// While full, no file can be made or grow.
    pub fn set_full(&self, full: bool) {
        self.0.lock().full = full;
    }

    /// Forgets the faults that have not struck yet.
    pub fn heal(&self) {
        let mut script = self.0.lock();
        (script.full, script.writes, script.syncs) = (false, Vec::new(), Vec::new());
        script.failing = None;
    }

    /// How many writes and syncs were asked for so far.
    pub fn counts(&self) -> (u64, u64) {
        let script = self.0.lock();
        (script.written, script.synced)
    }

    /// Cuts the power: each sector not synced survives only if `survives` says so. Use no
    /// journal that was open before. Renames and removals all count as durable.
    pub fn power_cut(&self, mut survives: impl FnMut() -> bool) -> io::Result<()> {
        let mut script = self.0.lock();
        let unsynced = std::mem::take(&mut script.unsynced);
        for (path, id) in &script.files {
            for (number, sector) in unsynced.get(id).into_iter().flatten() {
                if sector.lost || !survives() {
                    RealDisk.open(path)?.write_at(&sector.old, number * SECTOR_BYTES)?;
                }
            }
        }
        Ok(())
    }

    fn hold(&self, path: &Path, id: u64, inner: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        self.0.lock().files.insert(path.to_owned(), id);
        Arc::new(FaultyFile { id, inner, script: self.0.clone() })
    }
}

impl Script {
    /// Counts down; true when this very call is to fail.
    fn sync_fails(&mut self) -> bool {
        self.synced += 1;
        self.syncs.iter_mut().for_each(|left| *left = left.saturating_sub(1));
        let before = self.syncs.len();
        self.syncs.retain(|left| *left > 0);
        self.syncs.len() < before
    }

    fn write_fault(&mut self) -> Option<WriteFault> {
        self.written += 1;
        self.writes.iter_mut().for_each(|(left, _)| *left = left.saturating_sub(1));
        let struck = self.writes.iter().position(|(left, _)| *left == 0)?;
        Some(self.writes.swap_remove(struck).1)
    }

    fn new_file(&mut self) -> u64 {
        self.next_file += 1;
        self.next_file
    }
}

impl Disk for FaultyDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let id = {
            let mut script = self.0.lock();
            if script.full {
                return Err(ErrorKind::StorageFull.into());
            }
            script.new_file()
        };
        Ok(self.hold(path, id, RealDisk.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let inner = RealDisk.open(path)?;
        let id = {
            let mut script = self.0.lock();
            script.files.get(path).copied().unwrap_or_else(|| script.new_file())
        };
        Ok(self.hold(path, id, inner))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)?;
        let mut script = self.0.lock();
        if let Some(id) = script.files.remove(from) {
            script.files.insert(to.to_owned(), id);
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.lock().files.remove(path);
        RealDisk.remove(path)
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        match self.0.lock().sync_fails() {
            true => Err(io::Error::other("scripted sync failure")),
            false => Ok(()),
        }
    }

    fn sync_others(&self, path: &Path) -> io::Result<()> {
        match &self.0.lock().failing {
            Some(failing) if path.starts_with(failing) => Err(io::Error::other("scripted sync failure")),
            _ => Ok(()),
        }
    }

    fn room(&self, dir: &Path) -> io::Result<u64> {
        let mut script = self.0.lock();
        let panics = script.panicking.take_if(|panicking| dir.starts_with(panicking)).is_some();
        let full = script.full;
        drop(script);
        assert!(!panics, "scripted panic");
        if full { Ok(0) } else { RealDisk.room(dir) }
    }
}

struct FaultyFile {
    id: u64,
    inner: Arc<dyn DiskFile>,
    script: Arc<Mutex<Script>>,
}

impl FaultyFile {
    fn remember_sectors(&self, script: &mut Script, bytes: usize, offset: u64) -> io::Result<()> {
        let sectors = script.unsynced.entry(self.id).or_default();
        for number in offset / SECTOR_BYTES..(offset + bytes as u64).div_ceil(SECTOR_BYTES) {
            if let Some(sector) = sectors.get_mut(&number) {
                sector.lost = false;
                continue;
            }
            let mut old = vec![0; SECTOR_BYTES as usize];
            let kept = self.inner.read_at(&mut old, number * SECTOR_BYTES)?;
            if kept > 0 && kept < old.len() {
                old.truncate(kept);
            }
            sectors.insert(number, Sector { old, lost: false });
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut script = self.script.lock();
        let fails = script.sync_fails();
        let sectors = script.unsynced.entry(self.id).or_default();
        if fails {
            sectors.values_mut().for_each(|sector| sector.lost = true);
            return Err(io::Error::other("scripted sync failure"));
        }
        sectors.retain(|_, sector| sector.lost);
        Ok(())
    }
}

impl DiskFile for FaultyFile {
    fn bytes(&self) -> io::Result<u64> {
        self.inner.bytes()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut script = self.script.lock();
        let fault = script.write_fault();
        let grows = offset + bytes.len() as u64 > self.inner.bytes()?;
        let part = match fault {
            Some(WriteFault::Refused) => return Err(io::Error::other("scripted write failure")),
            Some(WriteFault::NoSpace) => return Err(ErrorKind::StorageFull.into()),
            None if script.full && grows => return Err(ErrorKind::StorageFull.into()),
            Some(WriteFault::Torn(kept)) => &bytes[..kept.min(bytes.len())],
            None => bytes,
        };
        self.remember_sectors(&mut script, part.len(), offset)?;
        self.inner.write_at(part, offset)?;
        match fault {
            Some(_) => Err(io::Error::other("scripted torn write")),
            None => Ok(()),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync()
    }
}
