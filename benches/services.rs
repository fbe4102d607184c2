//! What services with an API cost: deliveries of two calls each through one connection, and how long others wait
//! while some of a thousand accounts are told to slow down.
//!
//! `cargo bench --bench services`; `WEFT_BENCH_EVENTS` sets how many deliveries (30,000), `WEFT_BENCH_SECONDS` how
//! long events are sent to the thousand (20). The bound makes the same two calls with nothing behind them.

mod support;

use actors::{
    destinations::{
        self, SettingsError,
        limits::Pace,
        service::{Account, Answer, Api, Entry, Service, Stop, Verdict, Work},
        setup::{Operator, Setup},
        spec::{ActionSpec, Auth, Field, Spec},
    },
    domain::{
        connection::Policy,
        ids::{ConnectionId, OrganizationId, WorkspaceId},
    },
    engine::{Engine, IngestRequest, NewConnection, NewRule, Options, Scope},
};
use async_trait::async_trait;
use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderMap, Response, Uri},
};
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use support::{percentile, setting};
use tokio::{net::TcpListener, runtime::Runtime, task::JoinSet};

/// Attempts in flight at one connection, and calls of the bound.
const IN_FLIGHT: usize = 64;
const CONNECTIONS: usize = 1_000;
const LIMITED: usize = 100;
/// Events a second to all connections together.
const RATE: u32 = 200;
/// What a limited account asks for.
const WAIT_SECONDS: &str = "2";
/// What accounts that are told to slow down have in their token.
const MARK: &str = "limited";
/// What every call of every service is answered.
const ANSWER: &str = r#"{"ok":true,"id":"1","ts":"1","channel":"C1","data":{"id":"1"},"contact":{"id":"1"},"results":[{"id":"1"}]}"#;

fn main() {
    let runtime = Runtime::new().expect("a runtime");
    if std::env::args().nth(1).is_some_and(|argument| argument == "fake") {
        return runtime.block_on(serve_alone());
    }
    destinations::also(&[&TwoCalls]);
    let deliveries = setting("WEFT_BENCH_EVENTS", 30_000);
    let (bound, (ours, cpu_us)) = runtime.block_on(async {
        let fake = Apart::start();
        let bound = fake.alone(deliveries).await;
        (bound, Apart::start().engine(deliveries).await)
    });
    println!(
        "two calls each: {ours:.0} deliveries/s, bound {bound:.0}, {:.2} of it; {cpu_us:.0} µs of processor a delivery",
        ours / bound
    );

    let span = Duration::from_secs(setting("WEFT_BENCH_SECONDS", 20) as u64);
    for limited in [0, LIMITED] {
        let latencies = runtime.block_on(many(limited, span));
        let [p50, p99] = [0.5, 0.99].map(|share| percentile(&latencies, share).as_secs_f64() * 1e3);
        println!(
            "{limited} of {CONNECTIONS} told to slow down: the others' p50 {p50:.2} ms, p99 {p99:.2} ms, {} deliveries",
            latencies.len()
        );
    }
}

/// A service whose only action takes two calls, and which takes as many as there are.
struct TwoCalls;

const KIND: &str = "two_calls";

static SPEC: Spec = Spec {
    kind: KIND,
    name: "Two calls",
    auth: Auth::ApiKey,
    fields: &[Field::text("url", "URL")],
    actions: &[ActionSpec {
        key: "add",
        label: "Add",
        noun: "contact",
        description: "Makes a contact and puts it on a list.",
        inputs: &[],
        needs: &[],
        twice: "Nothing changes.",
    }],
    consent: None,
};

#[async_trait]
impl Service for TwoCalls {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn account(&self, setup: &Setup<'_>) -> Result<Account, SettingsError> {
        Ok(Account {
            base: setup.required("url")?.to_owned(),
            entry: Entry::Open,
            headers: Vec::new(),
            name: "one".to_owned(),
            pace: Pace::of(1_000_000, Duration::from_secs(1), 1_000),
            rest: Duration::from_secs(1),
        })
    }

    fn read(&self, answer: &Answer) -> Verdict {
        Verdict::of_status(answer.status)
    }

    async fn verify(&self, api: &Api<'_>) -> Result<(), Stop> {
        api.get("/me").send().await.map(drop)
    }

    async fn act(&self, api: &Api<'_>, work: &Work<'_>) -> Result<(), Stop> {
        let email = work.payload.at_path("email").and_then(|value| value.as_str().map(str::to_owned));
        let made = api.post("/contacts").json(&json!({ "email": email })).send().await?;
        let id = made.text("/id").ok_or_else(|| Stop::odd("no id"))?;
        api.post("/members").json(&json!({ "contact": id })).send().await.map(drop)
    }
}

/// Answers everything, and counts second calls, which `GET /count` tells.
async fn serve_alone() {
    let seconds = Arc::new(AtomicUsize::new(0));
    let app = Router::new().fallback(async move |uri: Uri| match uri.path() {
        "/count" => json_answer(&seconds.load(Ordering::Relaxed).to_string()),
        path => {
            seconds.fetch_add(usize::from(path == "/members"), Ordering::Relaxed);
            json_answer(ANSWER)
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    println!("{}", listener.local_addr().expect("an address"));
    axum::serve(listener, app).await.expect("it serves");
}

fn json_answer(body: &str) -> Response<Body> {
    let answer = Response::builder().header("content-type", "application/json");
    answer.body(Body::from(body.to_owned())).expect("an answer")
}

/// The service as a process of its own, so that what it costs is not ours. Ended when dropped.
struct Apart {
    process: Child,
    address: SocketAddr,
}

impl Drop for Apart {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Apart {
    fn start() -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let mut process =
            Command::new(program).arg("fake").stdout(Stdio::piped()).spawn().expect("it starts");
        let mut line = String::new();
        let output = process.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut line).expect("it says where it listens");
        Self { process, address: line.trim().parse().expect("an address") }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    async fn wait_for(&self, client: &reqwest::Client, count: usize) {
        loop {
            let told = client.get(format!("{}/count", self.url())).send().await.expect("it answers");
            if told.text().await.expect("text").parse::<usize>().expect("a number") >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Deliveries a second with nothing behind them.
    async fn alone(&self, deliveries: usize) -> f64 {
        let (client, started, mut callers) = (client(), Instant::now(), JoinSet::new());
        for _ in 0..IN_FLIGHT {
            let (client, url) = (client.clone(), self.url());
            callers.spawn(async move {
                for _ in 0..deliveries / IN_FLIGHT {
                    for path in ["contacts", "members"] {
                        let body = json!({ "email": "ada@example.com" });
                        let answer = client.post(format!("{url}/{path}")).json(&body).send().await;
                        answer.expect("it answers").bytes().await.expect("a body");
                    }
                }
            });
        }
        while let Some(caller) = callers.join_next().await {
            caller.expect("no caller panics");
        }
        (deliveries / IN_FLIGHT * IN_FLIGHT) as f64 / started.elapsed().as_secs_f64()
    }

    /// Deliveries a second through the engine, accepting included, and its processor time for each.
    async fn engine(&self, deliveries: usize) -> (f64, f64) {
        let place = Place::start(BTreeMap::new()).await;
        place.connect(KIND, "one", json!({ "url": self.url() }), json!({ "action": "add" }), "a.b").await;
        let (client, cpu_before, started) = (client(), cpu(), Instant::now());
        for _ in 0..deliveries / 50 {
            place.send((0..50).map(|_| ("a.b".to_owned(), "ada@example.com".to_owned()))).await;
        }
        self.wait_for(&client, deliveries / 50 * 50).await;
        let (elapsed, spent) = (started.elapsed(), cpu() - cpu_before);
        place.engine.drain(Duration::from_secs(5)).await.expect("it ends well");
        let count = (deliveries / 50 * 50) as f64;
        (count / elapsed.as_secs_f64(), spent.as_secs_f64() * 1e6 / count)
    }
}

fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().expect("a client")
}

/// Of this process, so far.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which is in brackets: state, then ten more, then user and system time.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(2).filter_map(|text| text.parse::<u64>().ok());
    Duration::from_millis(ticks.sum::<u64>() * 10)
}

/// An engine with a workspace.
struct Place {
    engine: Engine,
    organization: OrganizationId,
    workspace: WorkspaceId,
    _data: tempfile::TempDir,
}

impl Place {
    async fn start(hosts: BTreeMap<String, String>) -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let options = Options {
            data: Some(data.path().join("data")),
            outbound_allow: vec!["127.0.0.0/8".parse().expect("a network")],
            allow_http: true,
            operator: Operator { hosts, ..Operator::default() }.into(),
            ..Options::new([7; 32])
        };
        let engine = Engine::start(options).await.expect("it starts");
        let organization = engine.create_organization("bench").await.expect("it is made").id;
        let made = engine.create_workspace(organization, "bench".to_owned(), None).await;
        let workspace = made.expect("it is made").0.id;
        Self { engine, organization, workspace, _data: data }
    }

    /// A connection, and a rule by which events of this name go there.
    async fn connect(
        &self,
        kind: &str,
        name: &str,
        settings: Value,
        action: Value,
        event: &str,
    ) -> ConnectionId {
        let scope = Scope::Workspace(self.workspace);
        let connection = NewConnection {
            workspace_id: self.workspace,
            kind: kind.to_owned(),
            name: name.to_owned(),
            metadata: object(settings),
            policy: Some(Policy { max_in_flight: Some(IN_FLIGHT as u32), ..Policy::default() }),
            hidden: false,
            created_by: "bench".to_owned(),
        };
        let made = self.engine.create_connection(scope, connection).await.expect("it is made");
        let connection_id = made.connection.id;
        let rule = NewRule {
            workspace_id: self.workspace,
            connection_id,
            event: event.to_owned(),
            resource: None,
            resource_id: None,
            metadata: object(action),
            conditions: None,
            active: true,
            hidden: false,
            created_by: "bench".to_owned(),
        };
        self.engine.create_rule(scope, rule).await.expect("it is made");
        connection_id
    }

    /// Events, each by its name and whom it is about.
    async fn send(&self, events: impl Iterator<Item = (String, String)>) {
        let request = |(name, email): (String, String)| IngestRequest {
            organization_id: self.organization,
            workspace_id: self.workspace,
            name,
            resource: None,
            resource_id: None,
            payload: json!({ "email": email, "first_name": "Ada" }).to_string().into(),
            created_by: "bench".to_owned(),
            idempotency: None,
        };
        for answer in self.engine.ingest(events.map(request).collect()).await {
            answer.expect("it is accepted");
        }
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// When a call about each person first came.
type Arrived = Arc<Mutex<HashMap<usize, Instant>>>;

/// What deliveries to accounts that nobody limits took, from emitting to the service.
async fn many(limited: usize, span: Duration) -> Vec<Duration> {
    let arrived = Arrived::default();
    let noted = arrived.clone();
    let app =
        Router::new().fallback(async move |headers: HeaderMap, body: Bytes| answer(&noted, &headers, &body));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let here = format!("http://{}", listener.local_addr().expect("an address"));
    let serving = tokio::spawn(async move { axum::serve(listener, app).await.expect("it serves") });
    let hosts = ["connect.mailerlite.com", "api.hubapi.com", "slack.com"];
    let place = Place::start(hosts.map(|host| (host.to_owned(), here.clone())).into()).await;
    for number in 0..CONNECTIONS {
        // The account is known by its token, so no two share a budget.
        let mark = if number < limited { MARK } else { "" };
        let token = format!("token{mark}{number:08}");
        let (kind, settings, action) = match number % 4 {
            0 => (
                "activecampaign",
                json!({ "api_url": format!("{here}/{token}"), "api_key": token }),
                json!({ "action": "sync_contact" }),
            ),
            1 => ("mailerlite", json!({ "api_key": token }), json!({ "action": "upsert_subscriber" })),
            2 => ("hubspot", json!({ "access_token": token }), json!({ "action": "upsert_contact" })),
            _ => (
                "slack",
                json!({ "access_token": token, "team_id": format!("T{number}") }),
                json!({ "action": "send_message", "id": "C1", "template": "{{email}}" }),
            ),
        };
        place.connect(kind, &format!("c {number}"), settings, action, &format!("to.{number}")).await;
    }
    let (mut sent, mut ticks) = (Vec::new(), tokio::time::interval(Duration::from_secs(1) / RATE));
    let until = Instant::now() + span;
    while Instant::now() < until {
        ticks.tick().await;
        let number = sent.len();
        sent.push(Instant::now());
        // Every account in its turn, and those that are limited too.
        let name = format!("to.{}", number * 7 % CONNECTIONS);
        place.send(std::iter::once((name, format!("p{number}@example.com")))).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let arrived = arrived.lock().expect("no thread panicked").clone();
    let of_others = (0..sent.len()).filter(|number| number * 7 % CONNECTIONS >= limited);
    let mut latencies: Vec<_> =
        of_others.map(|number| arrived.get(&number).expect("it came").duration_since(sent[number])).collect();
    latencies.sort_unstable();
    place.engine.drain(Duration::from_secs(5)).await.expect("it ends well");
    serving.abort();
    latencies
}

fn answer(arrived: &Arrived, headers: &HeaderMap, body: &[u8]) -> Response<Body> {
    let entry = headers.get("authorization").or_else(|| headers.get("api-token"));
    let token = entry.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let body = String::from_utf8_lossy(body);
    let number =
        body.split_once("@example.com").and_then(|(before, _)| before.rsplit_once('p')?.1.parse().ok());
    let Some(number) = number else { return json_answer(ANSWER) };
    if token.contains(MARK) {
        let refused = Response::builder().status(429).header("retry-after", WAIT_SECONDS);
        return refused.body(Body::from("{}")).expect("an answer");
    }
    arrived.lock().expect("no thread panicked").entry(number).or_insert_with(Instant::now);
    json_answer(ANSWER)
}
