//! Load as `crash.rs` needs it: clients that know what was acknowledged, and receivers that refuse now and then.

use crate::support::{Account, Received, Receiver, Reply};
use parking_lot::Mutex;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::watch, task::JoinSet, time::Instant};

pub const EVENT: &str = "contact.created";
/// Events of a bulk.
const BULK: u64 = 10;
/// Clients of an organization that send one event at a time.
const SINGLES: usize = 3;
/// Between two requests of one client, so that a fast machine does not make the test a long one.
const PACE: Duration = Duration::from_millis(15);
/// Events of a test at most.
const EVENTS_MAX: u64 = 4_000;

/// Chance that a seed repeats.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number below `end` (splitmix64, <https://prng.di.unimi.it/splitmix64.c>).
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// Event `n` of an organization as it is sent: numbers and texts that a careless copy would change.
pub fn payload(organization: usize, n: u64) -> String {
    let filling = "x".repeat(usize::try_from(n * 37 % 1_500).expect("small"));
    format!(
        r#"{{ "n":{n}, "of":{organization},"exact":1.10, "big":123456789012345678901234567890,"text":"A\u00e9 \/ é","filling":"{filling}"}}"#
    )
}

fn body(organization: usize, n: u64) -> String {
    format!(r#"{{"event":"{EVENT}","payload":{}}}"#, payload(organization, n))
}

/// What the clients know.
#[derive(Default)]
pub struct Known {
    /// The id of each event that was acknowledged, by organization and number.
    pub acked: BTreeMap<(usize, u64), String>,
    /// Acknowledged under an idempotency key.
    pub keyed: BTreeSet<(usize, u64)>,
}

/// Clients at work. Where the server is they are told; `None`: it is down.
pub struct Clients {
    pub known: Arc<Mutex<Known>>,
    base: watch::Sender<Option<String>>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

/// One of them.
#[derive(Clone)]
struct Client {
    organization: usize,
    publishable_key: String,
    known: Arc<Mutex<Known>>,
    base: watch::Receiver<Option<String>>,
    stop: Arc<AtomicBool>,
    next: Arc<AtomicU64>,
    http: reqwest::Client,
}

impl Clients {
    pub fn start(accounts: &[Account]) -> Self {
        let (base, watched) = watch::channel(None);
        let (known, stop, next) = <(Arc<Mutex<Known>>, Arc<AtomicBool>, Arc<AtomicU64>)>::default();
        let mut tasks = JoinSet::new();
        for (organization, account) in accounts.iter().enumerate() {
            let client = Client {
                organization,
                publishable_key: account.workspaces[0].publishable_key.clone(),
                known: known.clone(),
                base: watched.clone(),
                stop: stop.clone(),
                next: next.clone(),
                http: crate::support::http_client(),
            };
            for _ in 0..SINGLES {
                tasks.spawn(client.clone().send_singles());
            }
            tasks.spawn(client.send_bulks());
        }
        Self { known, base, stop, tasks }
    }

    /// The server is here now, or down.
    pub fn server_is_at(&self, base: Option<&str>) {
        self.base.send_replace(base.map(str::to_owned));
    }

    /// How many events were acknowledged so far.
    pub fn acked(&self) -> usize {
        self.known.lock().acked.len()
    }

    /// No new events; what is under way is repeated until it is acknowledged.
    pub async fn finish(mut self) -> Known {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("a client does not panic");
        }
        std::mem::take(&mut *self.known.lock())
    }
}

impl Client {
    /// The numbers of so many new events; `None`: no more.
    async fn take(&self, count: u64) -> Option<u64> {
        tokio::time::sleep(PACE).await;
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        Some(self.next.fetch_add(count, Ordering::Relaxed)).filter(|n| n + count <= EVENTS_MAX)
    }

    async fn send_singles(mut self) {
        while let Some(n) = self.take(1).await {
            let key = format!("single-{n}");
            let body = body(self.organization, n);
            let answer = loop {
                if let Some((201, answer)) = self.post("/api/v1/events", &body, Some(&key)).await {
                    break answer;
                }
                tokio::time::sleep(PACE).await;
            };
            let id = answer["event"]["id"].as_str().expect("an id").to_owned();
            let mut known = self.known.lock();
            known.acked.insert((self.organization, n), id);
            known.keyed.insert((self.organization, n));
        }
    }

    /// Without a key: what a lost connection became of nobody knows, and it is not repeated.
    async fn send_bulks(mut self) {
        while let Some(first) = self.take(BULK).await {
            tokio::time::sleep(PACE * 6).await;
            let items: Vec<_> = (first..first + BULK).map(|n| body(self.organization, n)).collect();
            let body = format!("[{}]", items.join(","));
            let Some((status, answer)) = self.post("/api/v1/events/bulk", &body, None).await else {
                continue;
            };
            assert_eq!(status, 201, "{answer}");
            let records = answer["records"].as_array().expect("records");
            let mut known = self.known.lock();
            for (n, record) in (first..).zip(records) {
                let id = record["id"].as_str().expect("an id").to_owned();
                known.acked.insert((self.organization, n), id);
            }
        }
    }

    /// Sends it, once there is a server. `None`: the connection died.
    async fn post(&mut self, path: &str, body: &str, key: Option<&str>) -> Option<(u16, Value)> {
        let base = self.base.wait_for(Option::is_some).await.expect("the test goes on").clone()?;
        let request = self.http.post(format!("{base}{path}"));
        let mut request = request
            .header("content-type", "application/json")
            .header("x-meshes-publishable-key", &self.publishable_key)
            .body(body.to_owned());
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        Some((status, response.json().await.ok()?))
    }
}

/// One delivery as it came to a receiver.
#[derive(Debug)]
pub struct Arrival {
    pub at: Instant,
    /// It was answered 200.
    pub taken: bool,
    pub delivery: String,
    pub event: String,
    pub organization: usize,
    pub n: u64,
    /// The payload is byte for byte what was sent.
    pub intact: bool,
}

/// Somebody who takes most deliveries, refuses some, and hangs up on a few.
pub struct Moody {
    pub receiver: Receiver,
    answered: Arc<Mutex<Vec<bool>>>,
    raw: bool,
}

impl Moody {
    /// While not `open` it refuses everything. `raw`: it is sent the payload alone.
    pub async fn start(seed: u64, raw: bool, open: &Arc<AtomicBool>) -> Self {
        let (answered, open) = (Arc::<Mutex<Vec<bool>>>::default(), open.clone());
        let (answers, chance) = (answered.clone(), Mutex::new(Chance::new(seed)));
        let receiver = Receiver::start(move |_, _| {
            let reply = match chance.lock().below(1_000) {
                even if !open.load(Ordering::Relaxed) && even % 2 == 0 => Reply::status(503),
                _ if !open.load(Ordering::Relaxed) => Reply::hang_up(),
                0..50 => Reply::status(503),
                50..65 => Reply::hang_up(),
                _ => Reply::status(200),
            };
            answers.lock().push(reply.status == 200 && !reply.hangs_up);
            reply
        });
        Self { receiver: receiver.await, answered, raw }
    }

    pub fn arrivals(&self) -> Vec<Arrival> {
        let received = self.receiver.so_far();
        let answered = self.answered.lock();
        // A reply is decided on just before its request is noted down.
        assert!(answered.len() >= received.len());
        received.iter().zip(answered.iter()).map(|(received, taken)| self.arrival(received, *taken)).collect()
    }

    fn arrival(&self, received: &Received, taken: bool) -> Arrival {
        let body = received.json();
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let (sent, event) = match self.raw {
            true => (&body, received.header("x-meshes-event-id").expect("an event's id").to_owned()),
            false => (&body["payload"], text(&body["uuid"])),
        };
        let organization = usize::try_from(sent["of"].as_u64().expect("a number")).expect("small");
        let n = sent["n"].as_u64().expect("a number");
        let expected = payload(organization, n);
        let intact = match self.raw {
            true => received.body == expected,
            false => String::from_utf8_lossy(&received.body).contains(&expected),
        };
        let delivery = received.header("x-weft-delivery-id").expect("a delivery's id").to_owned();
        Arrival { at: received.at, taken, delivery, event, organization, n, intact }
    }
}
