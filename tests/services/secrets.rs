//! A secret of any service is clear in memory and on the requests it is for, and nowhere else: in no answer, no
//! file and no log line, whatever the service says back.

use crate::support::{Answer, Operated, Received, Receiver, Reply, all_files, text, until};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use reqwest::Method;
use serde_json::{Map, Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering},
};

/// Each of the vendors' hosts; all of them are one that echoes.
const HOSTS: [&str; 18] = [
    "api.aweber.com",
    "cdp.customer.io",
    "cdp-eu.customer.io",
    "discord.com",
    "api.hubapi.com",
    "api.intercom.io",
    "api.eu.intercom.io",
    "api.au.intercom.io",
    "us19.api.mailchimp.com",
    "connect.mailerlite.com",
    "api.pipedrive.com",
    "api.resend.com",
    "api.sendgrid.com",
    "api.eu.sendgrid.com",
    "slack.com",
    "hooks.slack.com",
    "api.zoom.us",
    "login.salesforce.com",
];
/// How often every secret of every service is another one.
const ROUNDS: usize = 2;
/// What is answered to deliveries: refusals, what makes no sense, and at last what stops the connection.
const STATUSES: [u16; 5] = [400, 500, 299, 404, 403];

/// Everything that came in, in many spellings, as what vendors call an error.
fn echo(status: u16, received: &Received) -> Reply {
    let mut told = format!("you asked {} {}", received.method, received.target);
    for (name, value) in &received.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        told += &format!("; {name}: {value} {} {}", STANDARD.encode(value.as_bytes()), json!(value));
    }
    told += &String::from_utf8_lossy(&received.body);
    // What a webhook of Slack's is asked when it is tried out is nothing it could post.
    let status = if status == 200 && received.body[..] == *b"{}" { 400 } else { status };
    told += " no_text";
    let is_fine = status == 200;
    let mut body = json!({
        "ok": is_fine, "success": is_fine, "scopes": ["mail.send"], "entries": [{ "id": 123_456 }],
        "id": "1", "message": told, "description": told, "data": [], "title": told,
    });
    if !is_fine {
        body["error"] = told.clone().into();
        body["errors"] = json!([{ "message": told, "code": told, "title": told }]);
    }
    Reply::status(status).body(body.to_string()).header("x-echo", received.target.clone())
}

/// The settings of a connection by one of its secrets, and how that is spelled where it must not be.
fn settings(kind: &str, field: &str, random: &str, echo: &str) -> (Value, Vec<String>) {
    let (secret, value) = match (kind, field) {
        ("mailchimp", _) => (format!("{random}-us19"), format!("{random}-us19")),
        ("slack", "webhook_url") => {
            (random.to_owned(), format!("https://hooks.slack.com/services/T1/B1/{random}"))
        }
        ("discord", "webhook_url") => {
            (random.to_owned(), format!("https://discord.com/api/webhooks/77/{random}"))
        }
        _ => (random.to_owned(), random.to_owned()),
    };
    let mut settings = json!({ field: value });
    let needed: &[(&str, &str)] = match (kind, field) {
        ("activecampaign", _) => &[("api_url", echo)],
        ("salesforce", _) => &[("instance_url", echo)],
        ("aweber", _) => &[("account_id", "123456")],
        ("discord", "bot_token") => &[("guild_id", "290926792226357250")],
        _ => &[],
    };
    for (key, value) in needed {
        settings[*key] = (*value).into();
    }
    let spellings = [
        secret.clone(),
        STANDARD.encode(&secret),
        STANDARD.encode(format!("{secret}:")),
        STANDARD.encode(format!("Bearer {secret}")),
    ];
    (settings, spellings.to_vec())
}

#[track_caller]
fn assert_silent(told: &str, hidden: &[String], why: &str) {
    for spelling in hidden {
        assert!(!told.contains(spelling.as_str()), "{why}: {spelling} is told in {told}");
    }
}

/// A rule's inputs for an action, whatever they are.
fn inputs(action: &Value) -> Map<String, Value> {
    let fields = action["display"]["fields"].as_array().or(action["fields"].as_array());
    let keys = fields.into_iter().flatten().filter_map(|field| field["key"].as_str().or(field.as_str()));
    let named = ["id", "value", "tag", "template", "subject", "body", "title", "event_name", "company_id"];
    keys.chain(named).map(|key| (key.to_owned(), "12".into())).collect()
}

#[tokio::test]
async fn no_secret_of_any_service_is_told_anywhere() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let status = Arc::new(AtomicU16::new(200));
    let says = status.clone();
    let receiver = Receiver::start(move |_, received| echo(says.load(Ordering::SeqCst), received)).await;
    let here = receiver.url("");
    let hosts = HOSTS.map(|host| format!("{host}={here}")).join(",");
    let weft = Operated::start(&data, &[("WEFT_HOSTS", &hosts)]).await;
    let workspace = text(&weft.made["workspaces"][0]["id"]);
    let mut hidden = Vec::new();
    let ask = async |method: Method, path: &str, body: Option<Value>| -> Answer {
        weft.ask(method, path, body).await
    };

    let config = Config { failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]));
    let random = "[A-Za-z0-9_-]{24,48}";
    let listed = ask(Method::GET, "/integrations", None).await.answered(200, "integrations");
    let services =
        listed["records"].as_array().expect("a list").iter().filter(|one| one["type"] != "webhook");
    let secrets = services.flat_map(|service| {
        let fields = service["authentication"]["fields"].as_array().expect("fields");
        fields
            .iter()
            .filter(|field| field["type"] == "password")
            .map(move |field| (service, text(&field["key"])))
    });
    let secrets: Vec<_> = secrets.collect();
    assert!(secrets.len() >= 14, "each service has one: {secrets:?}");
    for round in 0..ROUNDS {
        for (service, field) in &secrets {
            let kind = text(&service["type"]);
            let why = format!("{kind}.{field}");
            let random = random.new_tree(&mut runner).expect("a secret").current();
            let (metadata, spellings) = settings(&kind, field, &random, &here);
            hidden.extend(spellings);
            let name = format!("{kind} {field} {round}");
            status.store(500, Ordering::SeqCst);
            let body = json!({ "workspace": workspace, "type": kind, "name": name, "metadata": metadata });
            let refused = ask(Method::POST, "/connections", Some(body.clone())).await;
            assert_silent(&refused.text, &hidden, &why);
            assert_eq!(refused.status, 422, "{why}: it is tried out: {}", refused.text);
            status.store(200, Ordering::SeqCst);
            let made = ask(Method::POST, "/connections", Some(body)).await;
            assert_silent(&made.text, &hidden, &why);
            let id = text(&made.answered(201, &why)["connection"]["id"]);

            let (key, action) =
                service["actions"].as_object().and_then(|all| all.iter().next()).expect("an action");
            let mut metadata = inputs(action);
            metadata.insert("action".to_owned(), key.as_str().into());
            let event = format!("{}.{}", kind, hidden.len());
            let rule =
                json!({ "workspace": workspace, "connection": id, "event": event, "metadata": metadata });
            ask(Method::POST, "/rules", Some(rule)).await.answered(201, &why);
            for answered in STATUSES {
                status.store(answered, Ordering::SeqCst);
                let payload =
                    json!({ "id": "u", "email": "ada@example.com", "first_name": "Ada", "name": "Ada" });
                let event = json!({ "workspace": workspace, "event": event, "payload": payload });
                let sent = ask(Method::POST, "/events", Some(event)).await.answered(201, &why);
                let event = format!("/events/{}", text(&sent["event"]["id"]));
                let tried = until(&format!("{why} was attempted"), async || {
                    let shown = ask(Method::GET, &event, None).await;
                    assert_silent(&shown.text, &hidden, &why);
                    let delivery = shown.answered(200, &why)["rule_events"][0].clone();
                    let connection = ask(Method::GET, &format!("/connections/{id}"), None).await;
                    assert_silent(&connection.text, &hidden, &why);
                    let is_over = connection.answered(200, &why)["active"] == false;
                    (is_over || delivery["attempt_count"].as_u64() >= Some(1)).then_some(delivery)
                })
                .await;
                if tried["attempt_count"].as_u64().unwrap_or(0) == 0 {
                    break; // it was stopped by what came before
                }
                let attempts = format!("{event}/rules/{}/attempts", text(&tried["rule"]));
                let shown = ask(Method::GET, &attempts, None).await;
                assert_silent(&shown.text, &hidden, &why);
                let attempt = text(&shown.body["records"][0]["id"]);
                let details = ask(Method::GET, &format!("{attempts}/{attempt}/response-details"), None).await;
                assert_silent(&details.text, &hidden, &why);
            }
            for path in ["", "/actions", "/fields?refresh=true", "/mappings/default"] {
                let shown = ask(Method::GET, &format!("/connections/{id}{path}"), None).await;
                assert_silent(&shown.text, &hidden, &why);
            }
        }
    }
    for path in ["/connections?limit=200", "/audit?limit=200"] {
        assert_silent(&ask(Method::GET, path, None).await.text, &hidden, path);
    }
    let metrics = weft.http.get(format!("{}/metrics", weft.base)).send().await.expect("it answers");
    assert_silent(&metrics.text().await.expect("text"), &hidden, "metrics");
    weft.process.terminate();
    let exit = weft.process.wait().await;
    assert_eq!(exit.code, Some(0), "{exit:#?}");
    let log = exit.lines.join("\n");
    assert!(log.contains("attempt failed"), "there is something to look at");
    assert_silent(&log, &hidden, "the log");
    for (file, held) in all_files(&data) {
        let found = hidden.iter().find(|spelling| held.contains(spelling.as_str()));
        assert!(found.is_none(), "{found:?} is in {file}");
    }
}
