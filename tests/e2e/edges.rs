//! The edges under what goes wrong inside, and under what tenants may ask of everybody's server.

use crate::support::{MASTER_KEY, PATIENCE, Process, Receiver, Reply, Weft, http_client, send, token, until};
use actors::{
    clock::Clock,
    domain::{event::Status, ids::ConnectionId, workspace::Workspace},
    engine::{Engine, EngineError, Faults, IngestRequest, NewConnection, NewRule, Options, Scope, Seams},
    transport::resolve::Scripted,
};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Map, Value, json};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::watch,
    time::Instant,
};
use weft::{Error, config::Config};

/// I17: a panic in the root cannot stay local, so the process says so and ends; it is not left
/// accepting events that nobody delivers.
#[tokio::test]
async fn a_fallen_root_is_told_and_ends_the_process() {
    let faults = Faults::scripted(|place| assert_ne!(place, "root.wake", "on purpose"));
    let seams = Seams { faults, ..Seams::default() };
    let engine = Engine::start(Options { seams, ..Options::new(MASTER_KEY) }).await.expect("it starts");
    let mut config = Config::defaults();
    config.listen = ([127, 0, 0, 1], 0).into();
    let server = weft::serve_engine(&config, engine.clone(), Clock::system()).await.expect("it serves");
    let ready = format!("http://{}/readyz", server.address());
    let client = http_client();
    assert_eq!(send(client.get(&ready)).await.status, 200);

    let request = new_event(&workspace(&engine).await, json!({ "a": 1 }));
    assert!(engine.ingest(vec![request]).await.remove(0).is_ok());
    let served = tokio::time::timeout(PATIENCE, server.serve_until(std::future::pending())).await;
    assert!(matches!(served.expect("it is noticed"), Err(Error::Fallen)));
    let refused = until("it is not ready", async || {
        let answer = send(client.get(&ready)).await;
        (answer.status == 503).then_some(answer)
    });
    assert!(refused.await.body["message"].is_string());
    server.shut_down().await.expect("it ends well");
}

async fn workspace(engine: &Engine) -> Workspace {
    let organization = engine.create_organization("Tests").await.expect("it is made").id;
    let made = engine.create_workspace(organization, "tests".to_owned(), None).await;
    made.expect("it is made").0
}

fn new_event(workspace: &Workspace, payload: Value) -> IngestRequest {
    IngestRequest {
        organization_id: workspace.organization_id,
        workspace_id: workspace.id,
        name: "contact.created".to_owned(),
        resource: None,
        resource_id: None,
        payload: payload.to_string().into(),
        created_by: String::new(),
        idempotency: None,
    }
}

async fn new_connection(engine: &Engine, workspace: &Workspace, url: &str) -> ConnectionId {
    let new = NewConnection {
        workspace_id: workspace.id,
        kind: "webhook".to_owned(),
        name: "hook".to_owned(),
        metadata: object(json!({ "url": url, "skip_test": true })),
        policy: None,
        hidden: false,
        created_by: String::new(),
    };
    let made = engine.create_connection(Scope::Workspace(workspace.id), new).await;
    made.expect("it is made").connection.id
}

async fn new_rule(
    engine: &Engine,
    workspace: &Workspace,
    connection: ConnectionId,
    conditions: Option<Value>,
) {
    let new = NewRule {
        workspace_id: workspace.id,
        connection_id: connection,
        event: "contact.created".to_owned(),
        resource: None,
        resource_id: None,
        metadata: object(json!({ "action": "send_webhook" })),
        conditions,
        active: true,
        hidden: false,
        created_by: String::new(),
    };
    engine.create_rule(Scope::Workspace(workspace.id), new).await.expect("it is made");
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().expect("an object").clone()
}

/// I10: a tenant's regular expressions take their time on a thread that serves nobody else.
#[tokio::test]
async fn regular_expressions_are_searched_away_from_everybody_elses_work() {
    let judged = Arc::<Mutex<Vec<_>>>::default();
    let threads = judged.clone();
    let faults = Faults::scripted(move |place| {
        if place == "rule.judge" {
            threads.lock().expect("no one panicked").push(std::thread::current().id());
        }
    });
    let seams = Seams { faults, ..Seams::default() };
    let engine = Engine::start(Options { seams, ..Options::new(MASTER_KEY) }).await.expect("it starts");
    let workspace = workspace(&engine).await;
    let scope = Scope::Workspace(workspace.id);
    let connection = new_connection(&engine, &workspace, "https://192.0.3.1/").await;
    // The test's one thread runs everything that is asynchronous.
    let (here, mut so_far) = (std::thread::current().id(), 0);
    for (op, is_here) in [("eq", true), ("matches", false)] {
        let condition = json!({ "path": "plan", "op": op, "value": "pro" });
        new_rule(&engine, &workspace, connection, Some(condition)).await;
        let request = new_event(&workspace, json!({ "plan": "free" }));
        let event = engine.ingest(vec![request]).await.remove(0).expect("it is accepted");
        let routed = until("it is judged", async || {
            let found = engine.event(scope, event.id).await.expect("it is there")?;
            (found.summary.status == Status::Completed).then_some(found)
        });
        assert!(routed.await.deliveries.is_empty(), "{op}");
        let judged = judged.lock().expect("no one panicked").clone();
        assert!(judged.len() > so_far && judged[so_far..].iter().all(|id| (*id == here) == is_here), "{op}");
        so_far = judged.len();
    }
    engine.drain(PATIENCE).await.expect("it ends");
}

/// I20: what one workspace's rules may cost everybody is limited, and the field to change is named.
#[tokio::test]
async fn a_workspaces_regular_expressions_are_limited() {
    let weft = Weft::start().await;
    let connection = weft.webhook("http://127.0.0.1:9/").await;
    let matches =
        |count: usize| json!({ "any": vec![json!({ "path": "a", "op": "matches", "value": "x" }); count] });
    let rule = |n: usize, conditions: Value| {
        json!({ "workspace": weft.workspace, "connection": connection, "event": format!("event.{n}"),
            "metadata": { "action": "send_webhook" }, "conditions": conditions })
    };
    let mut last = String::new();
    for n in 0..20 {
        let made = weft.post("/rules", rule(n, matches(10))).await;
        assert_eq!(made.status, 201, "{made:?}");
        last = made.body["rule"]["id"].as_str().expect("an id").to_owned();
    }
    let without = json!({ "path": "a", "op": "eq", "value": "x" });
    #[rustfmt::skip]
    let cases = [
        ("one more",                   rule(20, matches(1)),                                           Some("conditions")),
        ("more than a rule may have",  rule(21, matches(11)),                                          Some("conditions.any[10]")),
        ("too much text",              rule(22, json!({ "path": "a", "op": "eq", "value": "x".repeat(16_384) })), Some("conditions")),
        ("too large once compiled",    rule(23, json!({ "path": "a", "op": "matches", "value": "(a{50}){50}" })), Some("conditions.value")),
        ("without any",                rule(24, without.clone()),                                      None),
        ("the same again",             rule(24, without.clone()),                                      Some("")),
    ];
    for (why, body, refused) in cases {
        let answer = weft.post("/rules", body).await;
        let expected = match refused {
            None => 201,
            Some("") => 409,
            Some(_) => 400,
        };
        assert_eq!(answer.status, expected, "{why}: {answer:?}");
        if let Some(param) = refused.filter(|param| !param.is_empty()) {
            assert_eq!(answer.body["error"]["data"][0]["param"], param, "{why}");
        }
    }
    let path = format!("/rules/{last}");
    assert_eq!(weft.patch(&path, json!({ "hidden": true })).await.status, 200, "its own count as they are");
    assert_eq!(weft.patch(&path, json!({ "conditions": without })).await.status, 200);
    assert_eq!(weft.post("/rules", rule(20, matches(1))).await.status, 201, "room was made");
    weft.stop().await;
}

/// I2: asking in vain for a retry does not take a failure away.
#[tokio::test]
async fn a_retry_that_could_not_be_attempted_is_refused_and_changes_nothing() {
    let (weft, receiver) = (Weft::start().await, Receiver::script(&[400]).await);
    #[rustfmt::skip]
    let cases = [
        // why           what happens to the connection                                          status
        ("paused",       (Method::POST, "/pause", None),                                   200),
        ("inactive",     (Method::PATCH, "", Some(json!({ "active": false }))),            422),
        ("deleted",      (Method::DELETE, "", Some(json!({ "force_delete": true }))),      422),
    ];
    for (why, change, status) in cases {
        let connection = weft.webhook(&receiver.url("/hook")).await;
        let rule = weft.rule(why, &connection).await;
        let emitted = weft.emit(json!({ "event": why, "payload": { "a": 1 } })).await;
        let path = format!("/events/{}", emitted.body["event"]["id"].as_str().expect("an id"));
        let failed = until("it failed", async || {
            let shown = weft.get(&path).await.body;
            (shown["status"] == "failed").then_some(shown)
        });
        let failed = failed.await;
        let (method, suffix, body) = change;
        let changed = weft.ask(method, &format!("/connections/{connection}{suffix}"), body).await;
        assert_eq!(changed.status, 200, "{why}: {changed:?}");
        let retried = weft.post(&format!("{path}/rules/{rule}/retry"), json!({})).await;
        assert_eq!(retried.status, status, "{why}: {retried:?}");
        if status != 200 {
            assert_eq!(weft.get(&path).await.body, failed, "{why}");
        }
    }
    weft.stop().await;
}

/// I20: retries by hand are limited for each organization apart.
#[tokio::test]
async fn retries_by_hand_are_limited_for_each_organization() {
    let weft = Weft::with(|config| (config.retries.per_second, config.retries.burst) = (1, 1)).await;
    let (stranger, ..) = weft.stranger().await;
    let path = format!("/events/{0}/rules/{0}/retry", uuid::Uuid::nil());
    // Many at once, since the bucket fills again while a slow machine is at it.
    let answers = join_all((0..50).map(|_| weft.post(&path, json!({})))).await;
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert!(!refused.is_empty() && refused.len() < answers.len(), "{answers:?}");
    assert!(refused.iter().all(|answer| answer.header("retry-after") == Some("1")), "{refused:?}");
    let others = weft.ask_as(&token(&stranger), Method::POST, &path, None).await;
    assert_eq!(others.status, 404, "{others:?}");
    weft.stop().await;
}

/// I11: a name that leads into a private network is refused when it is saved, tried out or not.
#[tokio::test]
async fn a_name_is_judged_when_it_is_saved_by_where_it_leads() {
    let ips = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("an address")).collect::<Vec<_>>();
    let resolver = Scripted::default()
        .name("private.example.com", vec![ips(&["10.0.0.5"])])
        .name("mixed.example.com", vec![ips(&["192.0.3.1", "169.254.169.254"])])
        .name("public.example.com", vec![ips(&["192.0.3.1"])]);
    let seams = Seams { resolver: Some(Arc::new(resolver)), ..Seams::default() };
    let engine = Engine::start(Options { seams, ..Options::new(MASTER_KEY) }).await.expect("it starts");
    let workspace = workspace(&engine).await;
    #[rustfmt::skip]
    let cases = [
        ("private",         "https://private.example.com/hook", false),
        ("private as well", "https://mixed.example.com/hook",   false),
        ("public",          "https://public.example.com/hook",  true),
        ("nowhere yet",     "https://nowhere.example.com/hook", true),
    ];
    for (why, url, accepted) in cases {
        let new = NewConnection {
            workspace_id: workspace.id,
            kind: "webhook".to_owned(),
            name: why.to_owned(),
            metadata: object(json!({ "url": url, "skip_test": true })),
            policy: None,
            hidden: false,
            created_by: String::new(),
        };
        match engine.create_connection(Scope::Workspace(workspace.id), new).await {
            Ok(_) => assert!(accepted, "{why}"),
            Err(EngineError::Invalid(fields)) => {
                assert!(!accepted && fields[0].param == "metadata.url", "{why}: {fields:?}");
                assert!(fields[0].msg.contains("destination address is not allowed"), "{why}: {fields:?}");
            }
            Err(err) => panic!("{why}: {err}"),
        }
    }
    engine.drain(PATIENCE).await.expect("it ends");
}

/// I19: requests and attempts that do not end are given up at one deadline, not one after the other.
#[tokio::test]
async fn what_does_not_end_is_given_up_at_one_deadline() {
    let drain = Duration::from_secs(5);
    let weft = Weft::with(|config| config.shutdown.drain = drain).await;
    let (_closed, gate) = watch::channel(false);
    let receiver = Receiver::start(move |_, _| Reply::status(200).behind(&gate)).await;
    let connection = weft.webhook(&receiver.url("/hook")).await;
    weft.rule("contact.created", &connection).await;
    weft.emit(json!({ "event": "contact.created", "payload": { "a": 1 } })).await;
    receiver.received(1).await;
    let mut asking =
        tokio::net::TcpStream::connect(weft.base.trim_start_matches("http://")).await.expect("it listens");
    // The interim answer says that the request is being answered.
    let head = format!(
        "POST /api/v1/events HTTP/1.1\r\nhost: weft\r\nexpect: 100-continue\r\ncontent-type: application/json\r\n\
        x-meshes-publishable-key: {}\r\ncontent-length: 9\r\n\r\n",
        weft.publishable_key
    );
    asking.write_all(head.as_bytes()).await.expect("it is read");
    asking.read_exact(&mut [0; 25]).await.expect("100 Continue");

    let begun = Instant::now();
    weft.stop().await;
    let elapsed = begun.elapsed();
    assert!(elapsed >= drain, "{elapsed:?}");
    assert!(elapsed < drain * 2, "one after the other: {elapsed:?}");
}

/// I9: a workspace that sends too much loses its own events of a bulk, and costs another one nothing.
#[tokio::test]
async fn a_bulk_refuses_only_the_workspace_that_sends_too_much() {
    // A bucket that fills again so slowly that 60 more events never fit within this test.
    let weft = Weft::with(|config| (config.ingest.events_per_second, config.ingest.burst) = (1, 100)).await;
    let other = weft.post("/workspaces", json!({ "name": "another one" })).await;
    let other = other.body["workspace"]["id"].as_str().expect("an id").to_owned();
    let event = |workspace: &str| json!({ "event": "a.b", "payload": { "a": 1 }, "workspace": workspace });
    let bulk = |ours: usize, others: usize| {
        // Both in turns, so that each answer has to find its place.
        let mut events = vec![event(&weft.workspace); ours];
        (0..others).for_each(|n| events.insert((2 * n).min(events.len()), event(&other)));
        Value::from(events)
    };
    #[rustfmt::skip]
    let cases = [
        // why                         ours  others  status  accepted
        ("both have room",             60,   10,     201,    70),
        ("one has none",               60,   10,     207,    10),
        ("the other lost nothing",     0,    60,     201,    60),
        ("neither has",                60,   40,     429,    0),
    ];
    for (why, ours, others, status, accepted) in cases {
        let sent = bulk(ours, others);
        let answer = weft.post("/events/bulk", sent.clone()).await;
        assert_eq!(answer.status, status, "{why}: {answer:?}");
        let records = answer.body["records"].as_array().cloned().unwrap_or_default();
        let is_accepted = |record: &&Value| record["id"].is_string();
        assert_eq!(records.iter().filter(is_accepted).count(), accepted, "{why}");
        for (record, event) in records.iter().zip(sent.as_array().expect("a list")) {
            match is_accepted(&record) {
                true => assert_eq!(record["workspace"], event["workspace"], "{why}"),
                false => assert_eq!(event["workspace"], weft.workspace, "{why}"),
            }
        }
    }
    weft.stop().await;
}

/// I20: the longest names fit beside the largest payload, however they are spelled.
#[tokio::test]
async fn the_longest_names_fit_in_their_longest_spelling() {
    let weft = Weft::start().await;
    let name = r"\ud83d\ude00".repeat(255);
    let payload = format!(r#"{{"a":"{}"}}"#, "x".repeat(weft.config.ingest.payload_bytes_max - 8));
    let body =
        format!(r#"{{"event":"{name}","resource":"{name}","resource_id":"{name}","payload":{payload}}}"#);
    let request = weft.request(Method::POST, "/api/v1/events").header("content-type", "application/json");
    let request = request.header("x-meshes-publishable-key", &weft.publishable_key).body(body);
    let answer = send(request).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(answer.body["event"]["event"], "\u{1f600}".repeat(255));
    weft.stop().await;
}

/// The value of a metric with these labels; 0 where it was never set.
fn metric(text: &str, name_and_labels: &str) -> f64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name_and_labels)?.strip_prefix(' '));
    value.map_or(0.0, |value| value.parse().expect("a number"))
}

#[tokio::test]
async fn metrics_tell_how_deliveries_end_and_how_long_the_oldest_waits() {
    let weft = Weft::with(|config| config.retry_schedule = "1h".parse().expect("a schedule")).await;
    let receiver = Receiver::start(|_, received| {
        Reply::status(match received.target.as_str() {
            "/refuses" => 400,
            "/is-down" => 500,
            _ => 200,
        })
    });
    let receiver = receiver.await;
    for path in ["/takes", "/refuses", "/is-down"] {
        let connection = weft.webhook(&receiver.url(path)).await;
        weft.rule("a.b", &connection).await;
    }
    weft.emit(json!({ "event": "a.b", "payload": { "a": 1 } })).await;
    // The gauges are of the whole process, where other tests' servers set them, too.
    let told = until("all is told", async || {
        let text = send(weft.request(Method::GET, "/metrics")).await.text;
        let ended =
            |status: &str| metric(&text, &format!("weft_deliveries_total{{status=\"{status}\"}}")) >= 1.0;
        let depth = metric(&text, "weft_queue_depth{state=\"active\"}");
        let age = metric(&text, "weft_queue_oldest_age_seconds{state=\"active\"}");
        // Its retry is an hour away, and it waits all the same.
        (ended("completed") && ended("failed") && depth == 1.0 && age > 0.0).then_some(age)
    });
    assert!(told.await < 600.0);
    weft.stop().await;
}

/// I17: a connection whose actor falls too often is told as quarantined, and what brought it down as set aside.
#[tokio::test]
async fn metrics_tell_what_is_set_aside_and_quarantined() {
    let receiver = Receiver::start(Reply::ok).await;
    let faults = Faults::scripted(|place| assert_ne!(place, "connection.attempt_finished", "on purpose"));
    let seams = Seams { faults, ..Seams::default() };
    let options = Options {
        seams,
        outbound_allow: vec!["127.0.0.0/8".parse().expect("a network")],
        allow_http: true,
        ..Options::new(MASTER_KEY)
    };
    let mut config = Config::defaults();
    config.listen = ([127, 0, 0, 1], 0).into();
    weft::telemetry::metrics();
    let engine = Engine::start(options).await.expect("it starts");
    let server = weft::serve_engine(&config, engine.clone(), Clock::system()).await.expect("it serves");
    let workspace = workspace(&engine).await;
    let connection = new_connection(&engine, &workspace, &receiver.url("/hook")).await;
    new_rule(&engine, &workspace, connection, None).await;
    for _ in 0..2 {
        let request = new_event(&workspace, json!({ "a": 1 }));
        assert!(engine.ingest(vec![request]).await.remove(0).is_ok());
    }
    let (client, url) = (http_client(), format!("http://{}/metrics", server.address()));
    let told = until("both are told", async || {
        let text = send(client.get(&url)).await.text;
        let set_aside = metric(&text, "weft_deliveries_set_aside_total");
        let quarantined = metric(&text, r#"weft_quarantined{actor="connection"}"#);
        (set_aside >= 1.0 && quarantined >= 1.0).then_some(())
    });
    told.await;
    server.shut_down().await.expect("it ends well");
}

/// I12: secrets are clear in memory, so memory is never written to disk by a crash.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_server_leaves_no_core_dump() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let data = data.to_str().expect("a plain path");
    let server =
        Process::start(&["serve", "--data", data, "--listen", "127.0.0.1:0", "--log-format", "json"], &[]);
    server.base().await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.id())).expect("it runs");
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size"));
    let core: Vec<_> = core.expect("it is listed").split_whitespace().collect();
    assert_eq!(core[..2], ["0", "0"]);
    server.kill().await;
}
