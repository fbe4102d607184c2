//! Events in over HTTP, deliveries out over HTTP: the whole product as a process of its own, beside
//! the least that a durable relay can do, measured in the same way right before it.
//!
//! `cargo bench --bench end_to_end`; `WEFT_BENCH_SECONDS` sets how long each row emits (5).
//! Generator, sink and server share the machine, so the ratio says more than the figures.

mod support;

use actors::{
    clock::Clock,
    domain::{ids::OrganizationId, secret::Secret},
};
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use support::{
    PAYLOAD_BYTES, ceiling, percentile, setting,
    sink::Sink,
    wire::{Wire, post},
};
use tokio::{net::TcpStream, runtime::Runtime, task::JoinSet};

const EVENT: &str = "contact.created";

/// How events are sent.
#[derive(Clone, Copy)]
struct Load {
    connections: usize,
    /// Events in a request.
    bulk: usize,
    /// Requests a second over all connections; `None`: each sends the next when the last is answered.
    rate: Option<u32>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let runtime = Runtime::new().expect("a runtime");
    if arguments.get(1).is_some_and(|argument| argument == "ceiling") {
        let sinks = arguments[2..].iter().map(|text| text.parse().expect("an address"));
        return runtime.block_on(ceiling::serve(sinks.collect()));
    }
    let span = Duration::from_secs(setting("WEFT_BENCH_SECONDS", 5) as u64);
    let closed = |connections, bulk| Load { connections, bulk, rate: None };
    #[rustfmt::skip]
    let rows = [
        // what                                    destinations  load
        ("1 destination, 16 connections",          1,            closed(16, 1)),
        ("1 destination, 64 connections",          1,            closed(64, 1)),
        ("3 destinations, 64 connections",         3,            closed(64, 1)),
        ("bulk of 100, 16 connections",            1,            closed(16, 100)),
        ("50 a second",                            1,            Load { connections: 8, bulk: 1, rate: Some(50) }),
    ];
    println!(
        "{:<32}{:<9}{:>14}{:>13}{:>10}{:>10}{:>16}",
        "", "", "deliveries/s", "of ceiling", "p50 ms", "p99 ms", "CPU µs/delivery"
    );
    for (what, destinations, load) in rows {
        let mut bound = None;
        for name in ["ceiling", "weft"] {
            let row = runtime.block_on(measure(name, destinations, load, span));
            let share = bound.map_or_else(String::new, |bound: f64| format!("{:.2}", row.per_second / bound));
            let [p50, p99] = [0.5, 0.99].map(|share| percentile(&row.latencies, share).as_secs_f64() * 1e3);
            println!(
                "{what:<32}{name:<9}{:>14.0}{share:>13}{p50:>10.2}{p99:>10.2}{:>16.0}",
                row.per_second, row.cpu_us
            );
            assert_eq!(row.lost, 0, "every accepted event is delivered");
            bound = Some(row.per_second);
        }
    }
}

/// What was measured of one target under one load.
struct Row {
    per_second: f64,
    latencies: Vec<Duration>,
    cpu_us: f64,
    lost: usize,
}

async fn measure(name: &str, destinations: usize, load: Load, span: Duration) -> Row {
    let started = Instant::now();
    let mut sinks = Vec::with_capacity(destinations);
    for _ in 0..destinations {
        sinks.push(Sink::start(started).await);
    }
    let addresses: Vec<_> = sinks.iter().map(|sink| sink.address).collect();
    let target = match name {
        "ceiling" => Target::ceiling(&addresses),
        _ => Target::weft(&addresses).await,
    };
    let (cpu_before, emitting) = (cpu(target.process.id()), Instant::now());
    let accepted = emit(&target, load, started, span).await;
    let mut delivered = 0;
    for sink in &sinks {
        delivered += sink.wait_for(accepted).await;
    }
    let elapsed = emitting.elapsed();
    let cpu = cpu(target.process.id()) - cpu_before;
    let mut latencies: Vec<_> = sinks.iter().flat_map(Sink::latencies).collect();
    latencies.sort_unstable();
    Row {
        per_second: delivered as f64 / elapsed.as_secs_f64(),
        latencies,
        cpu_us: cpu.as_secs_f64() * 1e6 / delivered.max(1) as f64,
        lost: (accepted * destinations).saturating_sub(delivered),
    }
}

/// Sends events for `span`; returns how many were accepted.
async fn emit(target: &Target, load: Load, started: Instant, span: Duration) -> usize {
    let (accepted, until) = (Arc::new(AtomicUsize::new(0)), Instant::now() + span);
    let mut senders = JoinSet::new();
    for number in 0..load.connections {
        let stream = TcpStream::connect(target.address).await.expect("the target listens");
        let (headers, accepted) = (target.headers.clone(), accepted.clone());
        senders.spawn(async move {
            let mut wire = Wire::new(stream);
            let mut ticks = load.rate.map(|rate| {
                let every = Duration::from_secs(1) * load.connections as u32 / rate;
                let first = tokio::time::Instant::now() + every * number as u32 / load.connections as u32;
                tokio::time::interval_at(first, every)
            });
            while Instant::now() < until {
                if let Some(ticks) = &mut ticks {
                    ticks.tick().await;
                }
                wire.send(&request(&headers, load.bulk, started)).await.expect("the target reads");
                let answer = wire.receive().await.expect("it answers").expect("it keeps the connection");
                assert!(answer.head.starts_with(b"HTTP/1.1 201"), "{}", String::from_utf8_lossy(answer.body));
                accepted.fetch_add(load.bulk, Ordering::Relaxed);
            }
        });
    }
    while let Some(sender) = senders.join_next().await {
        sender.expect("no sender panics");
    }
    accepted.load(Ordering::Relaxed)
}

fn request(headers: &str, bulk: usize, started: Instant) -> Vec<u8> {
    let sent_us = started.elapsed().as_micros();
    let filler = "x".repeat(PAYLOAD_BYTES.saturating_sub(80));
    let event = format!(
        r#"{{"event":"{EVENT}","payload":{{"email":"ada@example.com","sent_us":{sent_us},"note":"{filler}"}}}}"#
    );
    if bulk == 1 {
        return post("/api/v1/events", headers, event.as_bytes());
    }
    let body = format!("[\n{}\n]", vec![event; bulk].join(",\n"));
    post("/api/v1/events/bulk", headers, body.as_bytes())
}

/// A server under load, ended when dropped.
struct Target {
    address: SocketAddr,
    /// What requests carry to be let in.
    headers: String,
    process: Child,
    _data: Option<tempfile::TempDir>,
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Target {
    fn ceiling(sinks: &[SocketAddr]) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let mut command = Command::new(program);
        command.arg("ceiling").args(sinks.iter().map(ToString::to_string)).stdout(Stdio::piped());
        let mut process = command.spawn().expect("it starts");
        let mut line = String::new();
        let output = process.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut line).expect("it says where it listens");
        let address = line.trim().parse().expect("an address");
        Self { address, headers: String::new(), process, _data: None }
    }

    async fn weft(sinks: &[SocketAddr]) -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let place = data.path().join("data").display().to_string();
        let weft = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
            command.env("WEFT_LOG", "warn").env("WEFT_LISTEN", "127.0.0.1:0");
            // The generator is one workspace: what one may send is not the question here.
            command.env("WEFT_INGEST__EVENTS_PER_SECOND", "1000000").env("WEFT_INGEST__BURST", "1000000");
            command
        };
        let made = weft().args(["init", "--json", "--data", &place]).output().expect("it runs");
        let made: Value = serde_json::from_slice(&made.stdout).expect("it prints JSON");
        let organization = &made["orgs"][0];
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let workspace = &organization["workspaces"][0];

        let mut command = weft();
        command.args(["serve", "--data", &place, "--allow-http", "--outbound-allow", "127.0.0.0/8"]);
        command.args(["--log-format", "json"]).env("WEFT_LOG", "weft=info").stderr(Stdio::piped());
        let mut process = command.spawn().expect("it starts");
        let address = address_said(&mut process);
        let token = weft::auth::sign(
            &text(&organization["access_key"]),
            &Secret::new(text(&organization["secret_key"])),
            text(&organization["org_id"]).parse::<OrganizationId>().expect("an id"),
            Clock::system().now(),
            60,
        );
        let authorization = format!("authorization: Bearer {token}\r\n");
        let mut wire = Wire::new(TcpStream::connect(address).await.expect("it listens"));
        for (number, sink) in sinks.iter().enumerate() {
            let metadata = json!({ "url": format!("http://{sink}/"), "skip_test": true });
            let connection = json!({
                "workspace": workspace["id"], "type": "webhook", "name": format!("sink {number}"), "metadata": metadata
            });
            let made = create(&mut wire, "/api/v1/connections", &authorization, &connection).await;
            let rule = json!({
                "workspace": workspace["id"], "connection": made["connection"]["id"], "event": EVENT,
                "metadata": { "action": "send_webhook" }
            });
            create(&mut wire, "/api/v1/rules", &authorization, &rule).await;
        }
        let headers = format!("x-meshes-publishable-key: {}\r\n", text(&workspace["publishable_key"]));
        Self { address, headers, process, _data: Some(data) }
    }
}

/// Where the server says it listens. What it says after that is passed on.
fn address_said(process: &mut Child) -> SocketAddr {
    let mut lines = BufReader::new(process.stderr.take().expect("it is piped")).lines();
    let address = loop {
        let line = lines.next().expect("it says where it serves").expect("it says text");
        let said: Value = serde_json::from_str(&line).unwrap_or_default();
        if said["message"] == "serving" {
            break said["address"].as_str().expect("text").parse().expect("an address");
        }
    };
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| eprintln!("{line}")));
    address
}

async fn create(wire: &mut Wire, path: &str, authorization: &str, body: &Value) -> Value {
    wire.send(&post(path, authorization, body.to_string().as_bytes())).await.expect("it reads");
    let answer = wire.receive().await.expect("it answers").expect("it keeps the connection");
    assert!(answer.head.starts_with(b"HTTP/1.1 201"), "{}", String::from_utf8_lossy(answer.body));
    serde_json::from_slice(answer.body).expect("it answers JSON")
}

/// CPU time of a process so far, where there is `/proc`; in its ticks of a hundredth of a second.
fn cpu(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // Behind the name, which is in brackets: state, then ten more, then user and system time.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(2).filter_map(|text| text.parse::<u64>().ok());
    Duration::from_millis(ticks.sum::<u64>() * 10)
}
