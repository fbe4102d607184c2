//! A full disk: events are refused with a clear answer, everything else goes on, and it mends by itself.
//!
//! Asked of a real process on a small tmpfs where this machine lets us mount one, and of a server in
//! this process whose journal is on a disk that says it is full: the same questions of both.

use crate::support::{Account, Answer, Caller, Place, Receiver, Reply, Served, send, until};
use actors::{
    clock::Clock,
    engine::{Engine, Options, Seams},
    store::embedded::journal::FaultyDisk,
};
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};
use tokio::sync::watch;
use weft::{Server, config::Config};

const SMALL: &str = "size=20m,mode=700";
const LARGE: &str = "remount,size=80m";
/// Bytes of the payload of one event that fills the disk.
const FILLING: usize = 60_000;
/// More of them than fit the small disk.
const EVENTS_MAX: usize = 1_000;
const MESSAGE: &str = "the disk is full: nothing was accepted; try again once there is room";

/// A tmpfs of the test's own, unmounted when it is dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    /// `None` where this machine does not let us.
    fn mount(path: PathBuf) -> Option<Self> {
        std::fs::create_dir(&path).expect("it is ours");
        Self::run(&["mount", "-t", "tmpfs", "-o", SMALL, "tmpfs"], &path).then(|| Self(path))
    }

    fn enlarge(&self) {
        assert!(Self::run(&["mount", "-o", LARGE], &self.0), "it can be mounted again, larger");
    }

    fn run(command: &[&str], path: &Path) -> bool {
        let output = Command::new(command[0]).args(&command[1..]).arg(path).output();
        output.is_ok_and(|output| output.status.success())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily, for after a failure a process that is being killed may have files there still.
        Self::run(&["umount", "-l"], &self.0);
    }
}

/// A server whose disk can be filled and enlarged.
enum House {
    OnTmpfs {
        served: Option<Served>,
        place: Place,
        disk: Tmpfs,
    },
    OnScript {
        server: Option<Server>,
        config: Box<Config>,
        disk: FaultyDisk,
        account: Option<Account>,
        _dir: tempfile::TempDir,
    },
}

impl House {
    async fn on_tmpfs() -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let disk = Tmpfs::mount(dir.path().join("disk"))?;
        let data = disk.0.join("data");
        let place = Place::at(dir, data, 1).await;
        Some(Self::OnTmpfs { served: None, place, disk })
    }

    fn on_script() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = Box::new(Config::defaults());
        config.data = dir.path().join("data");
        config.listen = ([127, 0, 0, 1], 0).into();
        config.outbound_allow = vec!["127.0.0.0/8".parse().expect("a network")];
        config.allow_http = true;
        config.retry_schedule = "100ms*100".parse().expect("a schedule");
        config.store.segment_bytes = 1 << 20;
        Self::OnScript { server: None, config, disk: FaultyDisk::default(), account: None, _dir: dir }
    }

    /// Starts the server, and waits until it serves.
    async fn start(&mut self) -> Caller {
        match self {
            Self::OnTmpfs { served, place, .. } => {
                let started = served.insert(place.serve().await);
                Caller::new(&started.base, &place.accounts[0])
            }
            Self::OnScript { server, config, disk, account, .. } => {
                let seams = Seams { disk: Some(Arc::new(disk.clone())), ..Seams::default() };
                let options = Options { seams, ..weft::engine_options(config, [7; 32], Clock::system()) };
                // What was cut off takes a moment to let go of the data.
                let engine = until("the data is free", async || match Engine::start(options.clone()).await {
                    Err(err) if err.to_string().contains("is in use") => None,
                    started => Some(started.expect("it starts")),
                })
                .await;
                if account.is_none() {
                    *account = Some(made(&engine).await);
                }
                let started = weft::serve_engine(config, engine, Clock::system()).await.expect("it serves");
                let base = format!("http://{}", started.address());
                *server = Some(started);
                Caller::new(&base, account.as_ref().expect("it was just made"))
            }
        }
    }

    /// From here on the disk is as full as filling it can make it.
    fn fill_up(&self) {
        match self {
            Self::OnTmpfs { .. } => {} // each event takes its share
            Self::OnScript { disk, .. } => disk.set_full(true),
        }
    }

    fn make_room(&self) {
        match self {
            Self::OnTmpfs { disk, .. } => disk.enlarge(),
            Self::OnScript { disk, .. } => disk.set_full(false),
        }
    }

    /// kill -9; in this process, as near to it as a process can come that goes on.
    async fn kill(&mut self) {
        match self {
            Self::OnTmpfs { served, .. } => {
                let Served { process, .. } = served.take().expect("it runs");
                process.kill().await;
            }
            Self::OnScript { server, .. } => {
                let server = server.take().expect("it runs");
                let engine = server.engine().clone();
                drop(server);
                engine.drain(std::time::Duration::ZERO).await.expect("the store closes");
            }
        }
    }

    /// Ends it well, and proves the ledger: how many events there are, and what is amiss.
    async fn stop(&mut self) -> (Value, Value) {
        match self {
            Self::OnTmpfs { served, place, .. } => {
                served.take().expect("it runs").stop().await;
                let (code, found) = place.verify().await;
                assert_eq!(code, Some(0), "{found}");
                (found["events"].clone(), found["faults"].clone())
            }
            Self::OnScript { server, config, .. } => {
                server.take().expect("it runs").shut_down().await.expect("it ends well");
                let options = weft::engine_options(config, [7; 32], Clock::system());
                let engine = Engine::offline(options).await.expect("it opens");
                let found = engine.verify().await.expect("it can be read");
                engine.drain(std::time::Duration::ZERO).await.expect("the store closes");
                (json!(found.events), json!(found.faults))
            }
        }
    }
}

async fn made(engine: &Engine) -> Account {
    let organization = engine.create_organization("Tests").await.expect("it is made").id;
    let machine = engine.create_machine_key(organization).await.expect("it is made");
    let (workspace, key) =
        engine.create_workspace(organization, "tests".into(), None).await.expect("it is made");
    Account::of(&machine, &workspace.id.to_string(), &key.public_key)
}

/// I1, I2, I13, I14 on a small tmpfs, killed for real; where none can be mounted, on the scripted disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_events_and_nothing_else() {
    match House::on_tmpfs().await {
        Some(house) => promise(house).await,
        None => {
            eprintln!("no tmpfs can be mounted here: asked of the scripted disk instead");
            promise(House::on_script()).await;
        }
    }
}

/// The same on a journal that is told that its disk is full.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_without_room_refuses_events_and_nothing_else() {
    promise(House::on_script()).await;
}

fn event(n: usize) -> Value {
    json!({ "event": "contact.created", "payload": { "n": n, "filling": "x".repeat(FILLING) } })
}

async fn promise(mut house: House) {
    let (open, gate) = watch::channel(false);
    let receiver = Receiver::start(move |_, _| Reply::status(200).behind(&gate)).await;
    let caller = house.start().await;
    caller.route("contact.created", &receiver.url("/hook")).await;
    let mut acked = vec![caller.accepted(event(0)).await];

    house.fill_up();
    let refused = loop {
        let answer = caller.emit(event(acked.len())).await;
        if answer.status != 201 {
            break answer;
        }
        acked.push(answer.body["event"]["id"].as_str().expect("an id").to_owned());
        assert!(acked.len() < EVENTS_MAX, "the disk is never full");
    };
    is_refused(&refused);
    is_refused(&send(caller.request(Method::GET, "/readyz")).await);

    // Reads and deliveries go on, and what became of the deliveries is recorded.
    are_readable(&caller, &acked).await;
    open.send_replace(true);
    for id in &acked {
        caller.completed(id).await;
    }
    receiver.received(acked.len()).await;
    until("what became of each is on disk", async || {
        let written = metric(&caller.metrics().await, "weft_journal_records_total");
        (written >= 3.0 * acked.len() as f64).then_some(())
    })
    .await;

    house.kill().await;
    let caller = house.start().await;
    are_readable(&caller, &acked).await;
    let answer = caller.emit(event(acked.len())).await;
    match answer.status {
        201 => acked.push(answer.body["event"]["id"].as_str().expect("an id").to_owned()),
        _ => is_refused(&answer),
    }

    house.make_room();
    let resumed = until("events are accepted again by themselves", async || {
        let answer = caller.emit(event(acked.len())).await;
        (answer.status == 201).then_some(answer)
    });
    acked.push(resumed.await.body["event"]["id"].as_str().expect("an id").to_owned());
    until("readiness is back", async || {
        (send(caller.request(Method::GET, "/readyz")).await.status == 200).then_some(())
    })
    .await;
    for id in &acked {
        let shown = caller.completed(id).await;
        assert_eq!(shown["rule_events"][0]["attempt_count"], 1, "{shown}");
    }
    assert_eq!(receiver.so_far().len(), acked.len(), "each was delivered once");
    let (events, faults) = house.stop().await;
    assert_eq!(faults, json!([]));
    assert!(events.as_u64() >= Some(acked.len() as u64), "{events} of {}", acked.len());
}

fn is_refused(answer: &Answer) {
    assert_eq!((answer.status, &answer.body["message"]), (503, &json!(MESSAGE)), "{answer:?}");
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
}

async fn are_readable(caller: &Caller, acked: &[String]) {
    for (n, id) in [0, acked.len() / 2, acked.len() - 1].map(|n| (n, &acked[n])) {
        let shown = caller.get(&format!("/events/{id}/payload")).await;
        assert_eq!((shown.status, &shown.body["payload"]["n"]), (200, &json!(n)), "{id}");
    }
    let page = caller.get("/events?limit=200").await;
    let newest = page.body["records"].as_array().expect("records").first().expect("one")["id"].clone();
    assert_eq!((page.status, newest), (200, json!(acked.last())));
}

fn metric(text: &str, name: &str) -> f64 {
    crate::operation::metric(text, name, &[]).unwrap_or(0.0)
}
