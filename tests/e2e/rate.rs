//! Too much at once: one workspace is slowed down, a disk that does not keep up refuses everybody,
//! and either way what is refused is not kept.

use crate::support::{Answer, Weft, Witness, send, until};
use actors::store::embedded::journal::{Disk, DiskFile, FaultyDisk, RealDisk};
use futures_util::future::join_all;
use parking_lot::{Condvar, Mutex};
use reqwest::Method;
use serde_json::{Value, json};
use std::{io, path::Path, sync::Arc};

fn event(name: &str) -> Value {
    json!({ "event": name, "payload": { "a": 1 } })
}

async fn emit_by(weft: &Weft, key: &str, body: &Value) -> Answer {
    let path = if body.is_array() { "/api/v1/events/bulk" } else { "/api/v1/events" };
    send(weft.request(Method::POST, path).header("x-meshes-publishable-key", key).json(body)).await
}

fn seconds(answer: &Answer, name: &str) -> u32 {
    let text = answer.header(name).unwrap_or_else(|| panic!("{name}: {answer:?}"));
    text.parse().unwrap_or_else(|_| panic!("{name}: {text}"))
}

/// I3, I9: a workspace that sends too much is told when to come back, and others are not held up.
#[tokio::test]
async fn a_workspace_over_its_rate_is_slowed_down_alone() {
    let weft = Weft::with(|config| (config.ingest.events_per_second, config.ingest.burst) = (1, 100)).await;
    let witness = Witness::of(&weft).await;
    let (_, neighbour) = weft.another_workspace("neighbour").await;
    // While it is slow to send, tokens come back: so it sends until it is refused.
    let (mut accepted, mut refused) = (0, None);
    for n in 0..500 {
        let answer = weft.emit(event("one")).await;
        assert_eq!(seconds(&answer, "ratelimit-limit"), 100, "{answer:?}");
        let (remaining, reset) =
            (seconds(&answer, "ratelimit-remaining"), seconds(&answer, "ratelimit-reset"));
        assert!(remaining < 100 && (1..=100).contains(&reset), "{answer:?}");
        if n == 0 {
            assert_eq!((answer.status, remaining, reset), (201, 99, 1), "{answer:?}");
        }
        if answer.status != 201 {
            refused = Some(answer);
            break;
        }
        assert_eq!(answer.header("retry-after"), None, "{answer:?}");
        accepted += 1;
    }
    let refused = refused.expect("500 at once are too many");
    assert!(accepted >= 100, "so many may come at once: {accepted}");
    refused.assert_error(429, "", "too many");
    assert_eq!(refused.body["error"]["name"], "TooManyRequests");
    assert_eq!(seconds(&refused, "ratelimit-remaining"), 0);
    assert!((1..=100).contains(&seconds(&refused, "retry-after")), "{refused:?}");

    let there = emit_by(&weft, &neighbour, &event("there")).await;
    assert_eq!((there.status, seconds(&there, "ratelimit-remaining")), (201, 99), "{there:?}");

    // A list counts as what is in it, all or nothing.
    let list = |count| -> Value { (0..count).map(|_| event("bad")).collect() };
    assert_eq!(emit_by(&weft, &neighbour, &list(50)).await.status, 201);
    let list = list(100);
    let all = emit_by(&weft, &neighbour, &list).await;
    all.assert_error(429, "", "a list of more than is left");
    assert!(seconds(&all, "retry-after") >= 1, "{all:?}");

    // Sent again until it is let in: it is, before long.
    let again = until("there is room again", async || {
        let answer = weft.emit(event("again")).await;
        (answer.status == 201).then_some(answer)
    });
    again.await;
    // The witness's own event has to wait its turn, too.
    until("there is room for one more", async || {
        let answer = weft.emit(event("last")).await;
        (answer.status == 201).then_some(())
    })
    .await;
    let mut names = weft.events().await;
    assert_eq!(names.split_off(accepted), ["again", "last"], "what was refused is not there");
    assert!(names.iter().all(|name| name == "one"));
    let delivered = witness.received(accepted + 2).await;
    assert_eq!(delivered.len(), accepted + 2);
    weft.stop().await;
}

/// I3: a refused event costs nothing that another could have used.
#[tokio::test]
async fn what_is_bad_is_not_counted() {
    let weft = Weft::with(|config| (config.ingest.events_per_second, config.ingest.burst) = (1, 100)).await;
    for _ in 0..10 {
        weft.emit(json!({ "event": "bad" })).await.assert_error(400, "payload", "no payload");
    }
    let most: Value = (0..97).map(|_| event("good")).collect();
    assert_eq!(weft.emit(most).await.status, 201);
    let list = weft.emit(json!([{ "event": "bad" }, event("a"), {}, event("b"), event("c"), 1])).await;
    assert_eq!((list.status, &list.body["error_count"]), (207, &json!(3)), "{list:?}");
    weft.stop().await;
}

/// I1, I13, I3: what a disk does not take is refused with its reason, reads go on, and events
/// are accepted again once it does.
#[tokio::test]
async fn a_disk_that_fails_refuses_events_and_says_so() {
    let disk = FaultyDisk::default();
    let seam: Arc<dyn Disk> = Arc::new(disk.clone());
    let weft = Weft::on(|_| {}, |options| options.seams.disk = Some(seam)).await;
    let witness = Witness::of(&weft).await;
    let before = weft.emit(event("before")).await;
    let id = before.body["event"]["id"].as_str().expect("an id").to_owned();
    witness.received(1).await;
    until("what was under way is on record", async || {
        (weft.get(&format!("/events/{id}")).await.body["status"] == "completed").then_some(())
    })
    .await;

    let refuse = |answer: &Answer, what: &str| {
        answer.assert_error(503, "", what);
        assert_eq!(answer.body["error"]["name"], "ServiceUnavailable");
        assert!(seconds(answer, "retry-after") >= 1, "{answer:?}");
        let message = answer.body["message"].as_str().unwrap_or_default();
        assert!(message.contains("disk") && message.contains("nothing was accepted"), "{message}");
    };
    // What is under way may meet the fault before an event does; then the next one is told.
    let mut accepted = Vec::new();
    let failed = until("a sync fails", async || {
        disk.fail_sync(1);
        let answer = weft.emit(event("shaky")).await;
        accepted.extend((answer.status == 201).then_some("shaky"));
        (answer.status != 201).then_some(answer)
    });
    refuse(&failed.await, "an event");
    // Until the disk is tried again, all are refused, and after it none.
    until("events are accepted again", async || {
        let answer = weft.emit(json!([event("mended")])).await;
        if answer.status == 201 {
            accepted.push("mended");
            return Some(());
        }
        refuse(&answer, "a list");
        assert_eq!(send(weft.request(Method::GET, "/healthz")).await.status, 200, "alive");
        assert_eq!(weft.get(&format!("/events/{id}")).await.status, 200, "reads go on");
        None
    })
    .await;

    disk.set_full(true);
    // There is a file's room yet: it is used up, and then said to be.
    let large = json!({ "event": "large", "payload": { "a": "x".repeat(200_000) } });
    let full = until("the disk is full", async || {
        let answer = weft.emit(large.clone()).await;
        accepted.extend((answer.status == 201).then_some("large"));
        (answer.status != 201).then_some(answer)
    });
    let full = full.await;
    refuse(&full, "the disk is full");
    let ready = send(weft.request(Method::GET, "/readyz")).await;
    refuse(&ready, "not ready");
    assert_eq!(weft.get(&format!("/events/{id}")).await.status, 200, "reads go on");
    disk.heal();
    until("there is room again", async || {
        (send(weft.request(Method::GET, "/readyz")).await.status == 200).then_some(())
    })
    .await;
    let names = ["before"].into_iter().chain(accepted).collect::<Vec<_>>();
    witness.assert_saw(&weft, &names).await;
    let weft = weft.restart().await;
    assert_eq!(weft.events().await.len(), names.len() + 1, "and after a restart");
    weft.stop().await;
}

/// I15, I3: what a slow disk has not taken yet is bounded; beyond it callers are told to wait.
#[tokio::test]
async fn a_disk_that_stalls_holds_back_who_sends() {
    let disk = StallingDisk::default();
    let seam: Arc<dyn Disk> = Arc::new(disk.clone());
    let weft =
        Weft::on(|config| config.store.segment_bytes = 8 << 20, |options| options.seams.disk = Some(seam));
    let weft = weft.await;
    disk.stall(true);
    const LISTS: usize = 10;
    // Lists of 4 MB, more of them than may wait.
    let lists: Vec<_> = (0..LISTS).map(|n| format!("list{n}")).collect();
    let sending = join_all(lists.iter().map(async |name| {
        let one = json!({ "event": name, "payload": { "a": "x".repeat(41_000) } }).to_string();
        let answer = weft.emit_bytes("/events/bulk", format!("[{}]", vec![one; 100].join(","))).await;
        if answer.status != 201 {
            // Somebody was told to wait: from here on it may go on.
            disk.stall(false);
        }
        (name, answer)
    }));
    let mut accepted = 0;
    for (name, answer) in sending.await {
        let filtered =
            weft.get(&format!("/workspaces/{}/events?limit=200&event={name}", weft.workspace)).await;
        if answer.status == 201 {
            accepted += 1;
            assert_eq!(filtered.body["count"], 100, "{name} was accepted");
            continue;
        }
        answer.assert_error(503, "", name);
        assert_eq!(seconds(&answer, "retry-after"), 1, "{answer:?}");
        let message = answer.body["message"].as_str().unwrap_or_default();
        assert!(message.starts_with("too much is waiting"), "{message}");
        assert_eq!(filtered.body["count"], 0, "{name} was refused");
    }
    assert!((4..LISTS).contains(&accepted), "some had room to wait, and not all: {accepted}");
    assert_eq!(weft.emit(event("after")).await.status, 201, "and on it goes");
    weft.stop().await;
}

/// A disk whose syncs wait while it is told to stall.
#[derive(Clone, Default)]
struct StallingDisk(Arc<(Mutex<bool>, Condvar)>);

impl StallingDisk {
    fn stall(&self, stalls: bool) {
        *self.0.0.lock() = stalls;
        self.0.1.notify_all();
    }

    fn hold(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(StallingFile(self.clone(), file))
    }
}

impl Disk for StallingDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.hold(RealDisk.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.hold(RealDisk.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }

    fn sync_others(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_others(path)
    }

    fn room(&self, dir: &Path) -> io::Result<u64> {
        RealDisk.room(dir)
    }
}

struct StallingFile(StallingDisk, Arc<dyn DiskFile>);

impl DiskFile for StallingFile {
    fn bytes(&self) -> io::Result<u64> {
        self.1.bytes()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.1.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.1.write_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        let (stalls, changed) = &*self.0.0;
        changed.wait_while(&mut stalls.lock(), |stalls| *stalls);
        self.1.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.1.sync_all()
    }
}
