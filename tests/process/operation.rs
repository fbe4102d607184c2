//! What an operator sees of a server at work: log lines that tell no secrets, and metrics that count right.

use crate::support::{Account, Caller, Place, Received, Receiver, Reply, Weft, send, until};
use actors::{
    clock::Clock,
    engine::{Engine, Faults, Options, Seams},
};
use axum::http::HeaderValue;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// The value of the series with this name and these labels, if it is there.
pub fn metric(text: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let (found, of) = series.split_once('{').unwrap_or((series, "}"));
        let has = |(key, value): &(&str, &str)| of.contains(&format!("{key}=\"{value}\""));
        let is_it = found == name && labels.iter().all(has) && of.matches('=').count() == labels.len();
        is_it.then(|| value.parse().expect("a number"))
    })
}

/// I12: what is in payloads, settings and answers is in no log line and no metric, at the most talkative level; and
/// secrets are in no file of the data.
#[tokio::test]
async fn neither_log_nor_metrics_nor_files_tell_secrets() {
    const SECRETS: [&str; 6] = [
        "bearer-0a6e39c1f4b2",
        "signing-5f00c2d8a7e1",
        "header-77b1e94d02c6",
        "path-c41d58f0a9b3",
        "query-e8a2046b9d75",
        "password-31f7c0e5b8a4",
    ];
    const PAYLOAD: &str = "payload-9e2b7d40c6f5";
    let [bearer, signing, header, path, query, password] = SECRETS;
    // Hostile receivers: each sends back all it was told, and the secrets it shares with its sender.
    let first = Receiver::start(|_, received| echo(received, &[bearer, signing, header, path, query])).await;
    let second = Receiver::start(|_, received| echo(received, &[password, path, query])).await;
    let mut place = Place::new(1).await;
    place.set("WEFT_LOG", "trace");
    place.set("WEFT_RETRY_SCHEDULE", "20ms*2");
    let served = place.serve().await;
    let caller = Caller::new(&served.base, &place.accounts[0]);
    // The address is for the connection's owner to see; the rest nobody is shown again.
    let hidden = &[bearer, signing, header, password];
    #[rustfmt::skip]
    let settings = [
        (&first, json!({ "auth_scheme": "bearer", "bearer_token": bearer, "signing": "hmac", "hmac_secret": signing,
                "headers": [{ "name": "x-api-token", "value": header }] })),
        (&second, json!({ "auth_scheme": "basic", "username": "ada", "password": password })),
    ];
    let mut ids = Vec::new();
    for (number, (receiver, settings)) in settings.into_iter().enumerate() {
        let url = receiver.url(&format!("/{path}?token={query}"));
        let connection = caller.webhook_with(&url, settings, json!({})).await;
        caller.rule("contact.created", &connection).await;
        let shown = caller.get(&format!("/connections/{connection}")).await;
        assert_eq!(shown.status, 200);
        told_none(hidden, &shown.text, "a connection as the API shows it");
        let payload = json!({ "email": format!("{PAYLOAD}@example.com"), "n": number });
        ids.push(caller.accepted(json!({ "event": "contact.created", "payload": payload })).await);
    }
    // By a tool, too; no rule is for it.
    let token = caller.account.token();
    let by_tool =
        json!({ "workspace": caller.workspace().id, "event": "by.tool", "payload": { "id": PAYLOAD } });
    let params = json!({ "name": "meshes_emit_event", "arguments": by_tool });
    let message = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
    let sent = send(caller.request(Method::POST, "/mcp").bearer_auth(&token).json(&message)).await;
    assert_eq!(sent.body["result"]["isError"], false, "{}", sent.text);
    // The first event goes to the first, the second to both; three attempts each.
    first.received(6).await;
    second.received(3).await;
    for id in &ids {
        until("the event has failed", async || {
            let shown = caller.get(&format!("/events/{id}")).await;
            told_none(hidden, &shown.text, "an event as the API shows it");
            (shown.body["status"] == "failed").then_some(())
        })
        .await;
    }
    let metrics = caller.metrics().await;
    let lines = served.stop().await;
    assert!(lines.len() > 20, "it was talkative: {}", lines.len());

    let encoded = STANDARD.encode(format!("ada:{password}"));
    let account = &place.accounts[0];
    let master_key = fs::read_to_string(place.data().with_file_name("master.key")).expect("it was made");
    let secrets = [&SECRETS[..], &[&*encoded, &*account.secret_key, master_key.trim(), &*token]].concat();
    for text in lines.iter().chain([&metrics]) {
        told_none(&secrets, text, "the log or the metrics");
        told_none(&[PAYLOAD], text, "the log or the metrics");
    }
    in_no_file(&secrets, place.data());

    let failed: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|err| panic!("not JSON: {err}: {line}")))
        .filter(|line: &Value| line["message"] == "attempt failed")
        .collect();
    assert_eq!(failed.len(), 9);
    for line in &failed {
        let fields = [
            "timestamp",
            "level",
            "workspace_id",
            "connection_id",
            "event_id",
            "delivery_id",
            "attempt",
            "destination",
            "outcome",
            "elapsed_ms",
        ];
        for field in fields {
            assert!(!line[field].is_null(), "{field} is missing: {line}");
        }
        assert_eq!(
            (&line["level"], &line["outcome"], &line["destination"]),
            (&json!("WARN"), &json!("rejected_server_error"), &json!("webhook"))
        );
        assert!(ids.iter().any(|id| line["event_id"] == id.as_str()), "{line}");
        assert_eq!(line["workspace_id"], account.workspaces[0].id.as_str());
    }
}

fn echo(received: &Received, secrets: &[&str]) -> Reply {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let told = received.headers.iter().map(|(name, value)| format!("{name}: {}", text(value)));
    let told = format!("{} {} {}", told.collect::<Vec<_>>().join("; "), received.target, secrets.join(" "));
    Reply::status(500).header("x-echo", secrets.join(" ")).body(told)
}

fn told_none(secrets: &[&str], text: &str, place: &str) {
    for secret in secrets {
        assert!(!text.contains(secret), "{place} tells {secret}: {text}");
    }
}

/// No file below the directory holds one of the secrets.
fn in_no_file(secrets: &[&str], directory: &Path) {
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("it is ours") {
            let path = entry.expect("it is ours").path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let bytes = fs::read(&path).expect("it is ours");
            for secret in secrets {
                let is_there = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!is_there, "{} holds {secret}", path.display());
            }
        }
    }
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let mut place = Place::new(1).await;
    place.set("WEFT_RETRY_SCHEDULE", "1h*3");
    let served = place.serve().await;
    let caller = Caller::new(&served.base, &place.accounts[0]);
    let at_start = caller.metrics().await;
    for actor in ["connection", "rule", "workspace", "retention", "notices"] {
        let restarts = metric(&at_start, "weft_actor_restarts_total", &[("actor", actor)]);
        assert_eq!(restarts, Some(0.0), "{actor}: {at_start}");
    }

    let ok = Receiver::start(Reply::ok).await;
    let busy = Receiver::script(&[503]).await;
    let forbidden = Receiver::script(&[401]).await;
    let bad = Receiver::script(&[422]).await;
    let idle = Receiver::start(Reply::ok).await;
    caller.route("a.delivered", &ok.url("/")).await;
    caller.route("a.retried", &busy.url("/")).await;
    caller.route("a.refused", &bad.url("/")).await;
    let credentials = json!({ "auth_scheme": "bearer", "bearer_token": "secret" });
    let inactive = caller.webhook_with(&forbidden.url("/"), credentials, json!({ "max_in_flight": 1 })).await;
    caller.rule("a.forbidden", &inactive).await;
    let paused = caller.route("a.paused", &idle.url("/")).await;
    assert_eq!(caller.post(&format!("/connections/{paused}/pause"), json!({})).await.status, 200);

    #[rustfmt::skip]
    let sent = [("a.delivered", 4), ("a.retried", 2), ("a.refused", 1), ("a.forbidden", 5), ("a.paused", 3), ("a.unheard", 1)];
    let total: u32 = sent.iter().map(|(_, count)| count).sum();
    for (event, count) in sent {
        let bulk: Value = (0..count).map(|n| json!({ "event": event, "payload": { "n": n } })).collect();
        assert_eq!(caller.emit(bulk).await.status, 201);
    }
    let text = until("three refusals of credentials make the connection inactive", async || {
        let text = caller.metrics().await;
        let depth = |state| metric(&text, "weft_queue_depth", &[("state", state)]);
        // 5 were queued, and each of the 3 that were refused waits to be tried again.
        let settled =
            depth("inactive") == Some(5.0) && depth("active") == Some(2.0) && depth("paused") == Some(3.0);
        let age = |state| metric(&text, "weft_queue_oldest_age_seconds", &[("state", state)]);
        // What is to be retried in an hour waits since it was made.
        let all_wait = ["active", "paused", "inactive"].into_iter().all(|state| age(state) > Some(0.0));
        let is_over = metric(&text, "weft_events_routed_total", &[]) == Some(f64::from(total))
            && metric(&text, "weft_attempt_seconds_count", &[]) == Some(10.0);
        (settled && all_wait && is_over).then_some(text)
    })
    .await;
    let attempts =
        |outcome| metric(&text, "weft_attempts_total", &[("outcome", outcome), ("destination", "webhook")]);
    #[rustfmt::skip]
    let expected = [
        ("accepted",        metric(&text, "weft_events_accepted_total", &[]),     f64::from(total)),
        ("routed",          metric(&text, "weft_events_routed_total", &[]),       f64::from(total)),
        ("delivered",       attempts("delivered"),                                4.0),
        ("to be retried",   attempts("rejected_server_error"),                    2.0),
        ("refused",         attempts("rejected_client_error"),                    1.0),
        ("unauthorized",    attempts("auth_failed"),                              3.0),
        ("attempts timed",  metric(&text, "weft_attempt_seconds_count", &[]),     10.0),
        ("in a bucket",     metric(&text, "weft_attempt_seconds_bucket", &[("le", "+Inf")]), 10.0),
    ];
    for (what, found, expected) in expected {
        assert_eq!(found, Some(expected), "{what}: {text}");
    }
    assert!(metric(&text, "weft_commit_seconds_count", &[]) > Some(0.0), "{text}");
    let labels = text.lines().filter(|line| line.contains(&caller.workspace().id));
    assert_eq!(labels.count(), 0, "no label names a tenant");
    served.stop().await;
}

/// I17: an actor that panics is started again and counted, and its work is done.
#[tokio::test]
async fn restarts_are_counted() {
    let receiver = Receiver::start(Reply::ok).await;
    // For its configuration and keys; the engine under test is another one.
    let Weft { mut config, .. } = Weft::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    config.data = dir.path().join("data");
    weft::telemetry::metrics();
    let fallen = Arc::new(AtomicBool::new(false));
    let once = fallen.clone();
    let faults = Faults::scripted(move |place| {
        assert!(place != "connection.attempt_finished" || once.swap(true, Ordering::Relaxed), "on purpose");
    });
    let seams = Seams { faults, ..Seams::default() };
    let options = Options { seams, ..weft::engine_options(&config, [7; 32], Clock::system()) };
    let engine = Engine::start(options).await.expect("it starts");
    let organization = engine.create_organization("Tests").await.expect("it is made").id;
    let machine = engine.create_machine_key(organization).await.expect("it is made");
    let made = engine.create_workspace(organization, "tests".into(), None).await;
    let (workspace, key) = made.expect("it is made");
    let server = weft::serve_engine(&config, engine, Clock::system()).await.expect("it serves");
    let account = Account::of(&machine, &workspace.id.to_string(), &key.public_key);
    let caller = Caller::new(&format!("http://{}", server.address()), &account);
    let restarts =
        async || metric(&caller.metrics().await, "weft_actor_restarts_total", &[("actor", "connection")]);
    let before = restarts().await;

    caller.route("contact.created", &receiver.url("/hook")).await;
    let id = caller.accepted(json!({ "event": "contact.created", "payload": { "n": 1 } })).await;
    caller.completed(&id).await;
    assert!(fallen.load(Ordering::Relaxed) && restarts().await > before);
    server.shut_down().await.expect("it ends well");
}
