//! I12: a secret is clear in memory and on the request it is for, and nowhere else: in no answer, no
//! file, no log line.

use crate::support::{Operated, Receiver, Reply, Weft, all_files, send, text, until};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::Method;
use serde_json::{Value, json};
use std::path::Path;

pub const MASK: &str = "••••••••";
const URL_TOKEN: &str = "T0url2path3token4";
const QUERY_TOKEN: &str = "q1u2e3r4y5t6o7k8e9n";
pub const PASSWORD: &str = "p-4-s-s-w-o-r-d-basic";
pub const TOKEN: &str = "b-3-a-r-e-r-t-o-k-e-n";
pub const HEADER_VALUE: &str = "h-3-a-d-e-r-v-a-l-u-e";
const HMAC_SECRET: &str = "h-m-4-c-s-3-c-r-e-t";
pub const STATIC_VALUE: &str = "s-t-4-t-i-c-a-p-i-k-e-y";
const PAYLOAD_MARK: &str = "ada.lovelace.of.the.payload@example.com";

fn standard_secret() -> String {
    format!("whsec_{}", STANDARD.encode([0x5a; 32]))
}

/// Settings with a secret wherever one can be, by the scheme in use.
pub fn settings(url: &str, scheme: &str) -> Value {
    json!({
        "url": url, "auth_scheme": scheme, "username": "ada", "password": PASSWORD, "bearer_token": TOKEN,
        "auth_header_name": "X-Api-Key", "auth_header_value": HEADER_VALUE,
        "signing": if scheme == "basic" { "standard" } else { "hmac" },
        "hmac_secret": HMAC_SECRET, "standard_secrets": [standard_secret()],
        "headers": [{ "name": "X-Auth-Token", "value": STATIC_VALUE }, { "name": "X-Tenant", "value": "acme" }],
        "skip_test": true,
    })
}

/// Every secret of those settings, in the spellings it may have.
pub fn secrets() -> Vec<String> {
    let standard = standard_secret();
    let plain = [PASSWORD, TOKEN, HEADER_VALUE, HMAC_SECRET, STATIC_VALUE, &standard];
    let basic = STANDARD.encode(format!("ada:{PASSWORD}"));
    plain
        .iter()
        .map(|secret| (*secret).to_owned())
        .chain([basic, standard["whsec_".len()..].to_owned()])
        .collect()
}

#[track_caller]
pub fn assert_silent(told: &str, secrets: &[String], why: &str) {
    for secret in secrets {
        assert!(!told.contains(secret.as_str()), "{why}: {secret} is told in {told}");
    }
}

/// Who may change an address need not know the secrets that would go there.
#[tokio::test]
async fn a_stored_secret_goes_to_no_other_host() {
    let (ours, theirs) = (Receiver::start(Reply::ok).await, Receiver::start(Reply::ok).await);
    let weft = Weft::start().await;
    let connection = weft.webhook_with(&ours.url("/"), settings(&ours.url("/"), "bearer"), json!({})).await;
    let path = format!("/connections/{connection}");
    weft.rule("a.b", &connection).await;
    let mut shown = weft.get(&path).await.answered(200, "as it is")["metadata"].clone();
    let put = async |metadata: &Value| weft.put(&path, json!({ "name": "Ours", "metadata": metadata })).await;

    shown["url"] = json!(theirs.url("/"));
    shown["skip_test"] = json!(false);
    let refused = put(&shown).await;
    let named: Vec<String> = refused.body["error"]["data"]
        .as_array()
        .expect("faults")
        .iter()
        .map(|fault| text(&fault["param"]))
        .collect();
    let sent = ["password", "bearer_token", "auth_header_value", "headers"];
    assert_eq!(
        named,
        sent.map(|key| format!("metadata.{key}")),
        "signing secrets are never sent: {}",
        refused.text
    );
    let says = format!(
        "must be sent again, because url leads to another host now: the stored one is for {}",
        ours.url("")
    );
    refused.refused(400, says.trim_end_matches('/'), "to another host");

    let event = weft.send_event("a.b", json!({ "n": 1 })).await;
    weft.event_as(&event, "completed").await;
    assert_eq!(theirs.so_far().len(), 0, "nobody else is asked, not even for a try");
    let came = ours.received(1).await.remove(0);
    assert_eq!(came.header("authorization"), Some(format!("Bearer {TOKEN}").as_str()));

    shown["url"] = json!(ours.url("/another/path?of=ours"));
    put(&shown).await.answered(200, "elsewhere at the same host");
    shown["url"] = json!(theirs.url("/"));
    for key in ["password", "auth_header_value", "headers"] {
        shown.as_object_mut().expect("settings").remove(key);
    }
    shown["bearer_token"] = json!("another-token-for-them");
    put(&shown).await.answered(200, "with a secret that is known");
    let event = weft.send_event("a.b", json!({ "n": 1 })).await;
    weft.event_as(&event, "completed").await;
    let came = theirs.received(2).await.remove(1);
    assert_eq!(came.header("authorization"), Some("Bearer another-token-for-them"));
    assert!(came.header("x-meshes-signature").is_some(), "it is signed as before");
    weft.stop().await;
}

/// What is refused is not told back either.
#[tokio::test]
async fn a_refused_secret_is_not_echoed() {
    let weft = Weft::start().await;
    let secret = "s3cret\u{7}with-a-bell";
    #[rustfmt::skip]
    let cases = [
        json!({ "auth_scheme": "bearer", "bearer_token": secret }),
        json!({ "auth_scheme": "basic", "username": "a", "password": secret }),
        json!({ "auth_scheme": "header", "auth_header_name": "X-Key", "auth_header_value": secret }),
        json!({ "hmac_enabled": true, "hmac_secret": secret }),
        json!({ "signing": "standard", "standard_secrets": [secret] }),
        json!({ "headers": [{ "name": "X-Key", "value": secret }] }),
        json!({ "auth_scheme": "bearer", "bearer_token": [secret] }),
        json!({ "auth_scheme": secret }),
        json!({ "headers": [{ "name": secret, "value": "v" }] }),
    ];
    for mut settings in cases {
        settings["url"] = "http://127.0.0.1:9/".into();
        let body =
            json!({ "workspace": weft.workspace, "type": "webhook", "name": "Hook", "metadata": settings });
        let answer = weft.post("/connections", body).await;
        answer.refused(400, "metadata.", &settings.to_string());
        assert!(!answer.text.contains("s3cret"), "{}", answer.text);
    }
    let url = format!("http://user:{PASSWORD}@127.0.0.1/{URL_TOKEN}");
    let body =
        json!({ "workspace": weft.workspace, "type": "webhook", "name": "Hook", "metadata": { "url": url } });
    let answer = weft.post("/connections", body).await;
    answer.refused(400, "metadata.url", "a URL with a password");
    assert_silent(&answer.text, &[PASSWORD.to_owned(), URL_TOKEN.to_owned()], "a URL");
    weft.stop().await;
}

/// Answers 500 and everything it was sent, in many spellings.
fn echo(_: usize, received: &crate::support::Received) -> Reply {
    let mut told = format!("you asked {} {}\n", received.method, received.target);
    for (name, value) in &received.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        told += &format!("{name}: {value} {} {}\n", STANDARD.encode(value.as_bytes()), json!(value));
    }
    for secret in secrets() {
        let percent: String = secret.bytes().map(|b| format!("%{b:02X}")).collect();
        told += &format!("{secret} {} {percent}\n", STANDARD.encode(&secret));
    }
    let reply = Reply::status(500).body(told).header("x-echo", format!("Bearer {TOKEN}"));
    reply.header("x-path", received.target.clone())
}

#[tokio::test]
async fn an_endpoint_that_echoes_our_secrets_leaves_none_in_the_history() {
    let (weft, receiver) = (Weft::start().await, Receiver::start(echo).await);
    let mut hidden = secrets();
    hidden.extend([URL_TOKEN, QUERY_TOKEN].map(str::to_owned));
    hidden.extend(secrets().iter().map(|secret| STANDARD.encode(secret)));
    for scheme in ["basic", "bearer", "header"] {
        let url = receiver.url(&format!("/hook/{URL_TOKEN}?key={QUERY_TOKEN}"));
        let connection = weft.webhook_with(&url, settings(&url, scheme), json!({ "retry": [] })).await;
        let rule = weft.rule(scheme, &connection).await;
        let event = weft.send_event(scheme, json!({ "n": 1 })).await;
        let attempt = weft.attempts(&event, &rule, 1).await.remove(0);
        let details = weft.response_details(&attempt).await;
        assert_silent(&details.text, &hidden, scheme);
        let details = details.answered(200, scheme);
        assert!(text(&details["body"]).contains("[redacted]"), "{scheme}: {details}");
        assert!(
            text(&details["body"]).contains("you asked POST"),
            "{scheme}: the rest can be read: {details}"
        );
        let event = weft.get(&format!("/events/{event}")).await;
        assert_silent(&event.text, &hidden, "the event");
        assert_silent(&attempt.to_string(), &hidden, "the attempt");
    }
    weft.stop().await;
}

#[tokio::test]
async fn no_file_and_no_log_line_holds_a_secret_in_clear() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let (weft, receiver) = (Operated::start(&data, &[]).await, Receiver::start(echo).await);
    let workspace = text(&weft.made["workspaces"][0]["id"]);
    let url = receiver.url(&format!("/hook/{URL_TOKEN}?key={QUERY_TOKEN}"));
    for scheme in ["basic", "bearer", "header"] {
        let mut metadata = settings(&url, scheme);
        metadata["skip_test"] = true.into();
        let body = json!({ "workspace": workspace, "type": "webhook", "name": scheme, "metadata": metadata });
        let made = weft.ask(Method::POST, "/connections", Some(body)).await.answered(201, scheme);
        let metadata = json!({ "action": "send_webhook" });
        let body = json!({ "workspace": workspace, "connection": made["connection"]["id"], "event": "a.b", "metadata": metadata });
        weft.ask(Method::POST, "/rules", Some(body)).await.answered(201, scheme);
        // Tried out, refused, and told: by the test of the URL too.
        let mut metadata = settings(&url, scheme);
        metadata["skip_test"] = false.into();
        let body =
            json!({ "workspace": workspace, "type": "webhook", "name": "tried", "metadata": metadata });
        weft.ask(Method::POST, "/connections", Some(body)).await.refused(422, "answered 500", scheme);
    }
    let event = json!({ "workspace": workspace, "event": "a.b", "payload": { "email": PAYLOAD_MARK } });
    let sent = weft.ask(Method::POST, "/events", Some(event)).await.answered(201, "sent");
    let path = format!("/events/{}", text(&sent["event"]["id"]));
    until("all were attempted", async || {
        let event = weft.ask(Method::GET, &path, None).await.answered(200, "shown");
        let all = event["rule_events"].as_array().expect("a list").clone();
        (all.len() == 3 && all.iter().all(|delivery| delivery["attempt_count"] == 1)).then_some(())
    })
    .await;
    // Wrong ones too: what is not accepted is logged nowhere.
    let wrong =
        weft.http.get(format!("{}/api/v1/workspaces", weft.base)).bearer_auth("wr0ng-t0ken-0f-an-int3uder");
    assert_eq!(send(wrong).await.status, 401);
    let bad = format!(r#"{{"event":"a.b","payload":{{"email":"{PAYLOAD_MARK}"}}"#);
    let bad = weft.http.post(format!("{}/api/v1/events", weft.base)).bearer_auth(weft.token()).body(bad);
    assert_eq!(send(bad.header("content-type", "application/json")).await.status, 400);

    let (secret_key, token) = (weft.secret_key(), weft.token());
    weft.process.terminate();
    let exit = weft.process.wait().await;
    assert_eq!(exit.code, Some(0), "{exit:#?}");
    let log = exit.lines.join("\n");
    assert!(log.contains("attempt failed"), "there is something to look at: {log}");

    let mut hidden = secrets();
    hidden.extend([URL_TOKEN, QUERY_TOKEN, &secret_key].map(str::to_owned));
    assert_silent(&log, &hidden, "the log");
    let signature = token.rsplit('.').next().expect("a signature").to_owned();
    let payload = PAYLOAD_MARK.to_owned();
    assert_silent(&log, &[signature, payload, "wr0ng-t0ken".to_owned(), "Bearer ".to_owned()], "the log");

    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&directory.path().join("data.key")), 0o600, "the key is beside the data, not in it");
    assert_eq!(mode(&data), 0o700, "the data is its owner's");
    for entry in std::fs::read_dir(&data).expect("it can be read") {
        let path = entry.expect("an entry").path();
        assert_eq!(
            mode(&path) & 0o077,
            0,
            "{} is, also in a directory that others may enter",
            path.display()
        );
    }
    let files = all_files(&data);
    assert!(
        files.iter().any(|(_, held)| held.contains(PAYLOAD_MARK)),
        "the payload is kept, so the files are these"
    );
    for secret in &hidden {
        for spelling in [
            secret.clone(),
            STANDARD.encode(secret),
            STANDARD.encode(secret).trim_end_matches('=').to_owned(),
        ] {
            let holder = files.iter().find(|(_, held)| held.contains(&spelling));
            assert!(holder.is_none(), "{spelling} is in {:?}", holder.map(|(path, _)| path));
        }
    }
}
