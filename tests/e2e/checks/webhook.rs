//! Checks 36 to 40: what a webhook's receiver gets, and what its answer leads to.

use crate::support::{Received, Receiver, Reply, Weft, assert_members, text};
use crate::webhook::{received, sha256};
use actors::domain::timestamp::Timestamp;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha512;
use tokio::sync::watch;

const PAYLOAD: &str = r#"{"email":"ada@example.com","n":1.0,"deep":{"a":[1,null]}}"#;

/// Sends this event to an endpoint with these settings; what came, and the event as it is shown.
async fn delivered(weft: &Weft, receiver: &Receiver, settings: Value, about: &str) -> (Received, Value) {
    let name = format!("sent.{}", uuid::Uuid::new_v4());
    weft.rule(&name, &weft.webhook_with(&receiver.url("/"), settings, json!({})).await).await;
    let body = format!(r#"{{"event":"{name}","payload":{PAYLOAD}{about}}}"#);
    let sent = weft.emit_bytes("/events", body).await.answered(201, "sent");
    let event = weft.event_as(&text(&sent["event"]["id"]), "completed").await;
    let is = |came: &Received| {
        String::from_utf8_lossy(&came.body).contains(&name) || came.header("x-meshes-event") == Some(&name)
    };
    (receiver.find(is).await, event)
}

/// Milliseconds since 1970 that are when the event was accepted, and when this attempt was sent.
fn assert_times(created: &Value, sent: &Value, event: &Value) {
    let (created, sent) = (created.as_i64().expect("a number"), sent.as_i64().expect("a number"));
    let accepted: Timestamp = text(&event["created_at"]).parse().expect("RFC 3339");
    assert_eq!(created, accepted.0, "in milliseconds");
    assert!((created..created + 60_000).contains(&sent), "sent at {sent}, accepted at {created}");
}

const ABOUT: [(&str, Option<&str>, Option<&str>); 3] = [
    ("", None, None),
    (r#","resource":"user""#, Some("user"), None),
    (r#","resource":"user","resource_id":"7""#, Some("user"), Some("7")),
];

/// The seven members, always all of them; `uuid` is the event's id, and times are in milliseconds.
#[tokio::test]
async fn check_36_a_wrapped_body_has_seven_members() {
    let (weft, receiver) = (Weft::start().await, Receiver::start(Reply::ok).await);
    for (about, resource, id) in ABOUT {
        let (came, event) = delivered(&weft, &receiver, json!({}), about).await;
        let body = came.json();
        let members = ["uuid", "event", "resource", "resource_id", "payload", "time_created", "time_sent"];
        assert_members(&body, &members, "exactly these");
        assert_eq!((&body["uuid"], &body["event"]), (&event["id"], &event["event"]));
        assert_eq!(body["resource"], resource.unwrap_or("global"));
        assert_eq!(body["resource_id"].as_str(), id);
        assert_eq!(body["payload"], serde_json::from_str::<Value>(PAYLOAD).expect("JSON"));
        assert_times(&body["time_created"], &body["time_sent"], &event);
        assert_eq!(came.header("content-type"), Some("application/json"));
    }
    weft.stop().await;
}

/// The payload alone; all that was around it is in `X-Meshes-*` headers.
#[tokio::test]
async fn check_37_a_raw_body_is_the_payload() {
    let (weft, receiver) = (Weft::start().await, Receiver::start(Reply::ok).await);
    for (about, resource, id) in ABOUT {
        let (came, event) = delivered(&weft, &receiver, json!({ "payload_mode": "raw" }), about).await;
        assert_eq!(came.body, PAYLOAD.as_bytes());
        assert_eq!(came.header("x-meshes-event-id"), event["id"].as_str());
        assert_eq!(came.header("x-meshes-event"), event["event"].as_str());
        assert_eq!(came.header("x-meshes-resource"), Some(resource.unwrap_or("global")));
        assert_eq!(came.header("x-meshes-resource-id"), id);
        let time = |name: &str| came.header(name).expect(name).parse::<i64>().expect("milliseconds").into();
        assert_times(&time("x-meshes-time-created"), &time("x-meshes-time-sent"), &event);
        assert_eq!(came.header("content-type"), Some("application/json"));
    }
    weft.stop().await;
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha512(secret: &[u8], message: &[u8]) -> Vec<u8> {
    let mac = Hmac::<Sha512>::new_from_slice(secret).expect("any length").chain_update(message);
    mac.finalize().into_bytes().to_vec()
}

/// HMAC over the bytes that came equals the header, by SHA-256 and SHA-512, in a header of any name.
#[tokio::test]
async fn check_38_a_receiver_can_verify_the_hmac_of_the_body() {
    let (weft, receiver) = (Weft::start().await, Receiver::start(Reply::ok).await);
    let secret = "a secret; not base64 ✓";
    #[rustfmt::skip]
    let cases = [
        // why                      settings                                                                                 header                digest
        ("switched on",             json!({ "hmac_enabled": true, "hmac_secret": secret }),                                  "x-meshes-signature", sha256 as fn(&[u8], &[u8]) -> Vec<u8>),
        ("by name",                 json!({ "signing": "hmac", "hmac_secret": secret }),                                     "x-meshes-signature", sha256),
        ("SHA-256, own header",     json!({ "signing": "hmac", "hmac_secret": secret, "hmac_algorithm": "sha256", "hmac_header": "X-Hub-Signature-256" }), "x-hub-signature-256", sha256),
        ("SHA-512",                 json!({ "hmac_enabled": true, "hmac_secret": secret, "hmac_algorithm": "sha512" }),      "x-meshes-signature", sha512),
        ("SHA-512, own header",     json!({ "hmac_enabled": true, "hmac_secret": secret, "hmac_algorithm": "sha512", "hmac_header": "X-Sig" }), "x-sig", sha512),
        ("raw",                     json!({ "hmac_enabled": true, "hmac_secret": secret, "payload_mode": "raw" }),           "x-meshes-signature", sha256),
        ("beside credentials",      json!({ "hmac_enabled": true, "hmac_secret": secret, "auth_scheme": "bearer", "bearer_token": "t" }), "x-meshes-signature", sha256),
    ];
    for (why, settings, header, digest) in cases {
        let (came, ..) = received(&weft, &receiver, settings).await;
        let expected = hex(&digest(secret.as_bytes(), &came.body));
        assert_eq!(came.header(header), Some(expected.as_str()), "{why}");
        let signed = came.headers.keys().filter(|name| name.as_str().contains("sig")).count();
        assert_eq!(signed, 1, "{why}: and no other signature");
    }
    weft.stop().await;
}

/// What each answer leads to. A redirect is an answer, and where it points nobody is asked.
#[tokio::test]
async fn check_39_an_answer_decides_what_becomes_of_a_delivery() {
    let weft = Weft::start().await;
    let target = Receiver::start(Reply::ok).await;
    let (_never, gate) = watch::channel(false);
    let slow = move |n, _: &_| if n == 0 { Reply::status(200).behind(&gate) } else { Reply::status(200) };
    let elsewhere = target.url("/elsewhere");
    let moved = Receiver::start(move |_, _| Reply::status(301).header("location", elsewhere.as_str()));
    const OK: (&str, Option<u16>) = ("delivered", Some(200));
    type Case<'c> = (&'c str, Receiver, &'c str, &'c [(&'c str, Option<u16>)]);
    #[rustfmt::skip]
    let cases: [Case<'_>; 6] = [
        // why                      endpoint                                event        attempts
        ("200",                     Receiver::script(&[200]).await,         "completed", &[OK]),
        ("204",                     Receiver::script(&[204]).await,         "completed", &[("delivered", Some(204))]),
        ("301",                     moved.await,                            "completed", &[("delivered", Some(301))]),
        ("500, then it recovers",   Receiver::script(&[500, 200]).await,    "completed", &[("rejected_server_error", Some(500)), OK]),
        ("a timeout, the same",     Receiver::start(slow).await,            "completed", &[("timeout", None), OK]),
        ("400",                     Receiver::script(&[400, 200]).await,    "failed",    &[("rejected_client_error", Some(400))]),
    ];
    for (why, receiver, status, expected) in cases {
        // Between two tries there is time to be seen, until it is told to try at once.
        let policy = json!({ "retry": [3_600_000], "timeout_ms": 300 });
        let rule = weft.rule(why, &weft.webhook_with(&receiver.url("/"), json!({}), policy).await).await;
        let event = weft.send_event(why, json!({ "n": 1 })).await;
        if expected.len() > 1 {
            let waiting = weft.event_as(&event, "retrying").await;
            assert_eq!(waiting["rule_events"][0]["status"], "retrying", "{why}");
            let retry = format!("/events/{event}/rules/{rule}/retry");
            weft.post(&retry, json!({})).await.answered(200, "its time has come");
        }
        let shown = weft.finished_event(&event).await;
        assert_eq!(
            (&shown["status"], &shown["rule_events"][0]["status"]),
            (&json!(status), &json!(status)),
            "{why}"
        );
        let attempts = weft.attempts(&event, &rule, expected.len()).await;
        let told: Vec<_> =
            attempts.iter().map(|one| (text(&one["outcome_code"]), one["http_status"].as_u64())).collect();
        let expected: Vec<_> =
            expected.iter().map(|(outcome, status)| ((*outcome).to_owned(), status.map(u64::from))).collect();
        assert_eq!(told, expected, "{why}");
        assert_eq!(receiver.so_far().len(), expected.len(), "{why}: a request for each");
    }
    assert!(target.so_far().is_empty(), "the redirect was not followed");
    weft.stop().await;
}

/// Basic, bearer and header credentials arrive, and up to five static headers; a sixth and a reserved one are refused.
#[tokio::test]
async fn check_40_credentials_and_static_headers_are_sent() {
    let (weft, receiver) = (Weft::start().await, Receiver::start(Reply::ok).await);
    let five: Vec<Value> =
        (1..=5).map(|n| json!({ "name": format!("X-Own-{n}"), "value": format!("v{n}") })).collect();
    let basic = format!("Basic {}", STANDARD.encode("ada:löve:lace"));
    #[rustfmt::skip]
    let cases = [
        // why                    settings                                                                                      header             value
        ("basic",                 json!({ "auth_scheme": "basic", "username": "ada", "password": "löve:lace" }),                "authorization",   basic.as_str()),
        ("basic, no password",    json!({ "auth_scheme": "basic", "username": "key" }),                                         "authorization",   "Basic a2V5Og=="),
        ("bearer",                json!({ "auth_scheme": "bearer", "bearer_token": "t0ken" }),                                  "authorization",   "Bearer t0ken"),
        ("a header of its own",   json!({ "auth_scheme": "header", "auth_header_name": "X-Api-Key", "auth_header_value": "k y" }), "x-api-key",    "k y"),
        ("another scheme",        json!({ "auth_scheme": "header", "auth_header_name": "Authorization", "auth_header_value": "Token t" }), "authorization", "Token t"),
        ("the first of five",     json!({ "headers": five }),                                                                   "x-own-1",         "v1"),
        ("the last of five",      json!({ "headers": five }),                                                                   "x-own-5",         "v5"),
        ("its own user agent",    json!({ "headers": [{ "name": "User-Agent", "value": "Acme/1" }] }),                          "user-agent",      "Acme/1"),
        ("an empty value",        json!({ "headers": [{ "name": "X-Empty", "value": "" }] }),                                   "x-empty",         ""),
        ("both at once",          json!({ "auth_scheme": "bearer", "bearer_token": "t", "headers": [{ "name": "X-A", "value": "b" }] }), "x-a",    "b"),
        ("what is not in use",    json!({ "auth_scheme": "none", "bearer_token": "kept for later" }),                           "x-weft-attempt",  "1"),
    ];
    for (why, settings, name, expected) in cases {
        let scheme = settings["auth_scheme"].clone();
        let (came, ..) = received(&weft, &receiver, settings).await;
        assert_eq!(came.header(name), Some(expected), "{why}");
        let authorized = came.header("authorization").is_some() || came.header("x-api-key").is_some();
        assert_eq!(authorized, !scheme.is_null() && scheme != "none", "{why}");
    }
    let header = |name: String| json!({ "name": name, "value": "v" });
    let six: Vec<Value> = (1..=6).map(|n| header(format!("X-Own-{n}"))).collect();
    let reserved =
        ["Content-Type", "content-length", "Host", "X-Meshes-Signature", "Authorization", "Connection"];
    let reserved = reserved.map(|name| (name, vec![header(name.to_owned())]));
    for (why, headers) in reserved.into_iter().chain([("a sixth", six)]) {
        let metadata = json!({ "url": receiver.url("/"), "headers": headers, "skip_test": true });
        let body = json!({ "workspace": weft.workspace, "type": "webhook", "name": "Refused", "metadata": metadata });
        weft.post("/connections", body).await.refused(400, "metadata.headers", why);
    }
    weft.stop().await;
}
