//! kill -9 in the middle of everything, again and again: what was acknowledged arrives, unchanged, under
//! its one id, where it belongs and nowhere else.

use crate::{
    load::{Arrival, Chance, Clients, EVENT, Known, Moody, payload},
    support::{Caller, Place, Served},
};
use parking_lot::Mutex;
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};
use tokio::time::Instant;

const ORGANIZATIONS: usize = 2;
/// An answer that came so long before a kill was on disk by then: its delivery is never repeated.
const SETTLED_AFTER: Duration = Duration::from_millis(500);
/// How long the deliveries that a killed life left behind may take.
const DRAIN: Duration = Duration::from_secs(60);

/// How a run differs from another.
struct Run {
    seed: u64,
    kills: u64,
    /// The receivers refuse everything until the last kill is over.
    refusing: bool,
    /// What befalls the data between two lives, of which this is the number.
    meddle: fn(&Path, u64),
}

/// I1, I2, I4, I5, I6, I8, I9, I14: ten kills in mid-load, one of them while it starts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_kills_in_mid_load_lose_nothing_and_repeat_nothing_settled() {
    run(Run { seed: 7, kills: 10, refusing: false, meddle: |_, _| {} }).await;
}

/// I1, I14: nothing was delivered before the last kill, and the index is deleted, truncated and robbed of
/// its checkpoint between the lives: the journal alone saves the events.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journal_alone_saves_what_no_receiver_took() {
    let meddle = |data: &Path, life: u64| {
        let (index, checkpoint) = (data.join("index"), data.join("CHECKPOINT"));
        match life {
            0 => fs::remove_dir_all(index).expect("it is there"),
            1 => {
                let db = fs::OpenOptions::new().write(true).open(index.join("db")).expect("it is there");
                db.set_len(db.metadata().expect("it is open").len() / 2).expect("it is ours");
            }
            // A life that was killed early may have made none.
            2 => drop(fs::remove_file(checkpoint)),
            _ => {}
        }
    };
    run(Run { seed: 11, kills: 5, refusing: true, meddle }).await;
}

async fn run(run: Run) {
    let place = Place::new(ORGANIZATIONS as u32).await;
    let open = Arc::new(AtomicBool::new(!run.refusing));
    let mut receivers = Vec::new();
    for number in 0..ORGANIZATIONS as u64 * 2 {
        receivers.push(Moody::start(run.seed + number, number % 2 == 1, &open).await);
    }
    let first = place.serve().await;
    for (organization, account) in place.accounts.iter().enumerate() {
        let caller = Caller::new(&first.base, account);
        for moody in &receivers[organization * 2..organization * 2 + 2] {
            let mode = if moody.receiver.address == receivers[organization * 2].receiver.address {
                "wrapped"
            } else {
                "raw"
            };
            let url = moody.receiver.url("/hook");
            let connection = caller.webhook_with(&url, json!({ "payload_mode": mode }), json!({})).await;
            caller.rule(EVENT, &connection).await;
        }
    }

    let clients = Clients::start(&place.accounts);
    let kills = live_and_die(&run, &place, first, &clients).await;

    // What the last kill left behind adds up, before anybody mends anything.
    let (code, found) = place.verify().await;
    assert_eq!((code, &found["faults"]), (Some(0), &json!([])), "{found}");
    assert!(found["events"].as_u64() >= Some(clients.acked() as u64), "{found}");

    open.store(true, Ordering::Relaxed);
    let served = place.serve().await;
    clients.server_is_at(Some(&served.base));
    let known = &clients.finish().await;
    let callers: Vec<_> = place.accounts.iter().map(|account| Caller::new(&served.base, account)).collect();
    for caller in &callers {
        drained(caller).await;
    }

    let arrivals: Vec<Vec<Arrival>> = receivers.iter().map(Moody::arrivals).collect();
    let total: usize = arrivals.iter().map(Vec::len).sum();
    let settled: Vec<_> = kills.iter().map(|kill| kill.settled_after.as_millis()).collect();
    eprintln!("{} events acknowledged, {total} attempts, settled after {settled:?} ms", known.acked.len());
    assert!(known.acked.len() > 3 * kills.len(), "the kills came in mid-load: {}", known.acked.len());
    assert_eq!(faults(known, &arrivals, &kills), Vec::<String>::new());
    for (organization, caller) in callers.iter().enumerate() {
        shown_completed(organization, caller, known).await;
        keys_are_remembered(organization, caller, known).await;
        usage_adds_up(caller).await;
    }

    served.stop().await;
    let printed = place.run(&["verify"]).await;
    assert_eq!(printed.code, Some(0), "{printed:#?}");
    assert_eq!(printed.lines.last().map(String::as_str), Some("nothing is amiss"), "{printed:#?}");
    assert!(printed.lines.iter().any(|line| line.ends_with(" 0 scheduled")), "{printed:#?}");
}

/// A kill, and how long before it an answer counts as settled.
struct Kill {
    sent: Instant,
    dead: Instant,
    settled_after: Duration,
}

impl Kill {
    /// Whether this kill is why a delivery taken at `first` came again: it fell before that was on disk, or
    /// the request was still on its way to the receiver.
    fn excuses(&self, first: Instant, again: Instant) -> bool {
        again >= self.sent
            && first + self.settled_after >= self.sent
            && first <= self.dead + self.settled_after
    }
}

/// Kills the server again and again, the last time for good.
async fn live_and_die(run: &Run, place: &Place, first: Served, clients: &Clients) -> Vec<Kill> {
    let mut chance = Chance::new(run.seed);
    let (mut kills, mut served) = (Vec::new(), Some(first));
    for life in 0..run.kills {
        let pulse = Pulse::start(place.data().parent().expect("a directory"));
        // One life ends while it opens the store.
        let process = if life == 3 && served.is_none() {
            let process = place.start(&["serve"]);
            tokio::time::sleep(Duration::from_millis(chance.below(30))).await;
            process
        } else {
            let Served { process, base } = match served.take() {
                Some(first) => first,
                None => place.serve().await,
            };
            clients.server_is_at(Some(&base));
            tokio::time::sleep(Duration::from_millis(50 + chance.below(1_150))).await;
            process
        };
        clients.server_is_at(None);
        let sent = Instant::now();
        process.kill().await;
        let (dead, settled_after) = (Instant::now(), SETTLED_AFTER + pulse.lag(SETTLED_AFTER) * 2);
        kills.push(Kill { sent, dead, settled_after });
        if life + 1 < run.kills {
            (run.meddle)(place.data(), life);
        }
    }
    kills
}

/// How late this machine is at the moment: how much longer than 20 ms a sleep of that and one synced write
/// take. A machine that is busy with other tests is given as much more time to settle an answer.
struct Pulse {
    late: Arc<Mutex<Vec<(Instant, Duration)>>>,
    ended: Arc<AtomicBool>,
}

impl Pulse {
    const BEAT: Duration = Duration::from_millis(20);

    fn start(directory: &Path) -> Self {
        let pulse = Self { late: Arc::default(), ended: Arc::default() };
        let (late, ended, path) = (pulse.late.clone(), pulse.ended.clone(), directory.join("pulse"));
        thread::spawn(move || {
            let mut file = fs::File::create(path).expect("it is ours");
            while !ended.load(Ordering::Relaxed) {
                let started = Instant::now();
                thread::sleep(Self::BEAT);
                file.write_all(b"beat").and_then(|()| file.sync_data()).expect("it is ours");
                let ended = Instant::now();
                late.lock().push((ended, (ended - started).saturating_sub(Self::BEAT)));
            }
        });
        pulse
    }

    /// The worst since a while before now.
    fn lag(&self, within: Duration) -> Duration {
        let since = Instant::now().checked_sub(within);
        let late = self.late.lock();
        let lately = late.iter().filter(|(at, _)| since.is_none_or(|since| *at >= since));
        lately.map(|(_, late)| *late).max().unwrap_or_default()
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// Waits until the organization has nothing left to deliver.
async fn drained(caller: &Caller) {
    let deadline = Instant::now() + DRAIN;
    loop {
        let mut open = 0;
        for status in ["pending", "processing", "retrying"] {
            let page = caller.get(&format!("/events?status={status}&limit=1")).await;
            assert_eq!(page.status, 200, "{page:?}");
            open += page.body["records"].as_array().expect("records").len();
        }
        if open == 0 {
            return;
        }
        assert!(Instant::now() < deadline, "deliveries still wait after {DRAIN:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// All that is not as promised, a sentence each.
fn faults(known: &Known, arrivals: &[Vec<Arrival>], kills: &[Kill]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut event_of: BTreeMap<(usize, u64), BTreeSet<&str>> = BTreeMap::new();
    for (number, arrivals) in arrivals.iter().enumerate() {
        let mut deliveries: BTreeMap<&str, Vec<&Arrival>> = BTreeMap::new();
        for arrival in arrivals {
            deliveries.entry(&arrival.delivery).or_default().push(arrival);
            event_of.entry((arrival.organization, arrival.n)).or_default().insert(&arrival.event);
            if arrival.organization != number / 2 {
                faults.push(format!("receiver {number} got another tenant's event: {arrival:?}"));
            }
            if !arrival.intact {
                faults.push(format!("receiver {number} got a changed payload: {arrival:?}"));
            }
        }
        for (delivery, attempts) in &deliveries {
            faults.extend(
                repeated(attempts, kills).map(|why| format!("receiver {number}, delivery {delivery}: {why}")),
            );
        }
        let taken =
            arrivals.iter().filter(|arrival| arrival.taken).map(|arrival| (arrival.n, &*arrival.event));
        let taken: BTreeSet<_> = taken.collect();
        let owed = known.acked.iter().filter(|((organization, _), _)| *organization == number / 2);
        for ((_, n), id) in owed {
            if !taken.contains(&(*n, &**id)) {
                faults.push(format!("receiver {number} never got event {n}, acknowledged as {id}"));
            }
        }
    }
    for (of, ids) in event_of {
        let acked = known.acked.get(&of);
        if ids.len() > 1 || acked.is_some_and(|acked| !ids.contains(&**acked)) {
            faults.push(format!("event {of:?}, acknowledged as {acked:?}, came as {ids:?}"));
        }
    }
    faults
}

/// I6: a delivery that was taken comes again only if a kill followed before that was on disk.
fn repeated(attempts: &[&Arrival], kills: &[Kill]) -> Option<String> {
    let taken = attempts.iter().position(|attempt| attempt.taken)?;
    let (first, again) = (attempts[taken], attempts.get(taken + 1)?);
    if !kills.iter().any(|kill| kill.excuses(first.at, again.at)) {
        let next = kills.iter().find_map(|kill| kill.sent.checked_duration_since(first.at));
        return Some(format!(
            "taken, and came again {:?} later; a kill came {next:?} after it was taken",
            again.at - first.at
        ));
    }
    repeated(&attempts[taken + 1..], kills)
}

/// I2: the API shows every acknowledged event completed.
async fn shown_completed(organization: usize, caller: &Caller, known: &Known) {
    let (mut shown, mut path) = (BTreeSet::new(), "/events?status=completed&limit=200".to_owned());
    loop {
        let page = caller.get(&path).await;
        assert_eq!(page.status, 200, "{page:?}");
        let records = page.body["records"].as_array().expect("records");
        shown.extend(records.iter().map(|record| record["id"].as_str().expect("an id").to_owned()));
        let Some(next) = page.body["next_cursor"].as_str() else { break };
        path = format!("/events?status=completed&limit=200&cursor={next}");
    }
    let acked = known.acked.iter().filter(|((of, _), _)| *of == organization);
    let missing: Vec<_> = acked.filter(|(_, id)| !shown.contains(*id)).collect();
    assert!(missing.is_empty(), "not shown completed: {missing:?}");
}

/// What was used is what the history shows, whatever the kills took from the index.
async fn usage_adds_up(caller: &Caller) {
    let (mut events, mut deliveries, mut path) = (0, 0, "/events?limit=200".to_owned());
    loop {
        let page = caller.get(&path).await;
        assert_eq!(page.status, 200, "{page:?}");
        for record in page.body["records"].as_array().expect("records") {
            (events, deliveries) =
                (events + 1, deliveries + record["total_rules"].as_u64().expect("a number"));
        }
        let Some(next) = page.body["next_cursor"].as_str() else { break };
        path = format!("/events?limit=200&cursor={next}");
    }
    let page = caller.get("/usage?from=2020-01-01").await;
    assert_eq!((page.status, &page.body["next_cursor"]), (200, &json!(null)), "{page:?}");
    let rows = page.body["records"].as_array().expect("records");
    let sum = |key: &str| rows.iter().map(|row| row[key].as_u64().expect("a number")).sum::<u64>();
    let used = ["events", "deliveries", "delivered"].map(sum);
    assert_eq!(used, [events, deliveries, deliveries], "{rows:?}");
    assert!(sum("attempts") >= deliveries, "{rows:?}");
}

/// I5: a key that was used before the crashes stands for its event still.
async fn keys_are_remembered(organization: usize, caller: &Caller, known: &Known) {
    let keyed = known.keyed.iter().filter(|(of, _)| *of == organization);
    for &(_, n) in keyed.step_by(known.keyed.len() / 20 + 1) {
        let send = async |body: String| {
            let request = caller.request(reqwest::Method::POST, "/api/v1/events");
            let request = request
                .header("content-type", "application/json")
                .header("idempotency-key", format!("single-{n}"));
            let key = &caller.workspace().publishable_key;
            crate::support::send(request.header("x-meshes-publishable-key", key).body(body)).await
        };
        let again = send(format!(r#"{{"event":"{EVENT}","payload":{}}}"#, payload(organization, n))).await;
        assert_eq!(
            (again.status, &again.body["event"]["id"]),
            (201, &json!(known.acked[&(organization, n)])),
            "{again:?}"
        );
        let other = send(format!(r#"{{"event":"{EVENT}","payload":{{"n":{n}}}}}"#)).await;
        assert_eq!(other.status, 409, "{other:?}");
    }
}
