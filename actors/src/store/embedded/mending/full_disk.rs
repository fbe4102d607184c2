//! A disk that is full heals by itself once there is room. These mount a small disk of their own, where they may.

use super::*;
use std::process::Command;

/// A home on a disk of its own; unmounted when dropped.
pub struct SmallDisk(pub Home);

impl SmallDisk {
    /// `None` where nothing may be mounted.
    pub fn mount(megabytes: u32) -> Option<Self> {
        let home = Home { segment_bytes: 8 << 20, ..Home::new() };
        let size = format!("size={megabytes}m,mode=700");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(home.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(home))
    }

    /// Leaves no room at all.
    pub fn fill(&self) {
        use std::io::Write;
        let mut file = fs::File::create(self.0.path().join("filler")).unwrap();
        while file.write_all(&[1; 65_536]).is_ok() {}
        while file.write_all(&[1]).is_ok() {}
    }

    pub fn empty(&self) {
        fs::remove_file(self.0.path().join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).output();
    }
}

/// I13, I14: on a full disk nothing is accepted, and what is under way is recorded; it opens there, and
/// sets nothing aside; and it accepts again by itself once there is room.
#[tokio::test]
async fn a_full_disk_refuses_records_opens_and_heals() {
    let Some(disk) = SmallDisk::mount(64) else { return };
    let home = &disk.0;
    let store = home.open();
    until("there is a reserve", || home.path().join("journal/reserve.bin").exists()).await;
    let mut events = home.append(&store, 200, 100).await;
    assert_eq!(events.len(), 200);
    disk.fill();
    let mut last = Ok(());
    let mut tries = 0;
    while last.is_ok() {
        events.extend(home.append(&store, 100, 200).await);
        last = store.availability();
        tries += 1;
        assert!(tries < 10_000, "the disk is meant to be full");
    }
    assert_eq!(last, Err(Unavailable::DiskFull));
    assert_eq!(home.append(&store, 1, 10).await, []);
    let routings = events[..100].iter().map(|id| routed(*id, NOW)).collect();
    store.record_routing(store.fence(), WORKSPACE, routings).await.unwrap();
    assert_eq!(store.queues(WORKSPACE).await.unwrap(), [(CONNECTION, Timestamp(0))]);
    assert_all_there(&store, &events).await;
    store.close().await.unwrap();
    drop(store);

    let store = home.open();
    assert!(!home.path().join("index.damaged").exists(), "a full disk is no damage: {}", home.said());
    assert_all_there(&store, &events).await;
    disk.empty();
    until("events are accepted again", || store.availability().is_ok()).await;
    assert_eq!(home.append(&store, 10, 10).await.len(), 10);
    store.close().await.unwrap();
}
