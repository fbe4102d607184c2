//! `weft dev`, as a newcomer meets it: one command, one line to paste, one delivery to see.

use crate::support::{Exit, PATIENCE, Process, http_client, until};
use serde_json::Value;
use std::{net::TcpListener, path::Path, process::Command};

/// What it printed, taken apart as a reader would.
struct Welcome {
    address: String,
    organization: String,
    publishable_key: String,
    access_key: String,
    secret_key: String,
    data: String,
    /// The line that sends an event.
    emit: String,
    /// The line that shows what became of it.
    status: String,
}

/// Variables as a shell would have them; the temporary directory is the test's own.
fn variables(dir: &Path) -> [(&'static str, String); 2] {
    [("TMPDIR", dir.display().to_string()), ("PATH", std::env::var("PATH").unwrap_or_default())]
}

fn start(dir: &Path, arguments: &[&str]) -> Process {
    let variables = variables(dir);
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, &**value)).collect();
    Process::start(&[&["dev"], arguments].concat(), &variables)
}

async fn welcome(dev: &Process) -> Welcome {
    let said = |line: &str| line.contains("Stop with Ctrl-C").then_some(());
    dev.line("how to stop", said).await;
    let lines = dev.so_far();
    let after = |what: &str| {
        let found = lines.iter().find_map(|line| line.trim_start().strip_prefix(what));
        found.unwrap_or_else(|| panic!("it says nothing of {what}: {lines:#?}")).trim().to_owned()
    };
    let first_word = |text: String| text.split_whitespace().next().expect("a word").to_owned();
    let curls: Vec<_> = lines.iter().filter(|line| line.starts_with("curl ")).cloned().collect();
    let [emit, status] = &curls[..] else { panic!("two lines to paste: {curls:#?}") };
    Welcome {
        address: after("Weft is running at "),
        organization: after("organization "),
        publishable_key: first_word(after("publishable key ")),
        access_key: after("access key "),
        secret_key: after("secret key "),
        data: after("data "),
        emit: emit.clone(),
        status: status.clone(),
    }
}

/// The words of a command line, quotes taken off as a shell does.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, ' ') => words.push(std::mem::take(&mut word)),
            _ => word.push(c),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

/// Sends what a `curl` line says; the answer's status and body.
async fn sent(line: &str) -> (u16, Value) {
    let words = words(line);
    let value_of = |flag: &str| {
        words
            .iter()
            .zip(&words[1..])
            .filter(|(word, _)| *word == flag)
            .map(|(_, value)| value.clone())
            .collect::<Vec<_>>()
    };
    let url = words.iter().find(|word| word.starts_with("http://")).expect("a URL");
    let data = value_of("-d").pop();
    let mut request = match data {
        Some(data) => http_client().post(url).body(data),
        None => http_client().get(url),
    };
    for header in value_of("-H") {
        let (name, value) = header.split_once(": ").expect("a header");
        request = request.header(name, value);
    }
    let response = request.send().await.expect("it answers");
    (response.status().as_u16(), response.json().await.expect("JSON"))
}

/// Runs a line in a shell, as it would be pasted; `None` where there is no curl.
fn pasted(line: &str) -> Option<Value> {
    let has_curl =
        Command::new("sh").args(["-c", "command -v curl"]).output().is_ok_and(|found| found.status.success());
    if !has_curl {
        eprintln!("there is no curl here: the line was sent by the test's own client only");
        return None;
    }
    let output = Command::new("sh").args(["-c", line]).output().expect("sh runs");
    assert!(output.status.success(), "{line}: {output:?}");
    Some(serde_json::from_slice(&output.stdout).unwrap_or_else(|err| panic!("{err}: {output:?}")))
}

/// The token that the status line's inner command prints.
fn token(welcome: &Welcome) -> String {
    let keys = [
        ("WEFT_ACCESS_KEY", &welcome.access_key),
        ("WEFT_SECRET_KEY", &welcome.secret_key),
        ("WEFT_ORG_ID", &welcome.organization),
    ];
    for (name, value) in keys {
        assert!(welcome.status.contains(&format!("{name}={value} ")), "{}", welcome.status);
    }
    let output = Command::new(env!("CARGO_BIN_EXE_weft"))
        .arg("token")
        .env_clear()
        .envs(keys)
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

async fn shown(welcome: &Welcome, path: &str) -> Value {
    let request = http_client().get(format!("{}/api/v1{path}", welcome.address));
    let response = request.bearer_auth(token(welcome)).send().await.expect("it answers");
    assert_eq!(response.status(), 200, "{path}");
    response.json().await.expect("JSON")
}

async fn completed(welcome: &Welcome, id: &str) -> Value {
    until("the event is completed", async || {
        let shown = shown(welcome, &format!("/events/{id}")).await;
        (shown["status"] == "completed").then_some(shown)
    })
    .await
}

async fn received(dev: &Process, id: &str) -> String {
    let needle = format!("event {id} ");
    dev.line("that it received the event", |line| line.contains(&needle).then(|| line.to_owned())).await
}

async fn interrupted(dev: Process) -> Exit {
    dev.signal("INT");
    let exit = dev.wait().await;
    assert_eq!(exit.code, Some(0), "{exit:#?}");
    exit
}

fn id_of(accepted: &Value) -> String {
    accepted["event"]["id"].as_str().unwrap_or_else(|| panic!("no event: {accepted}")).to_owned()
}

#[tokio::test]
async fn the_pasted_line_is_accepted_delivered_printed_and_shown() {
    let dir = tempfile::tempdir().expect("a directory");
    let dev = start(dir.path(), &["--listen", "127.0.0.1:0"]);
    let welcome = welcome(&dev).await;
    assert!(welcome.data.contains(&*dir.path().display().to_string()), "{}", welcome.data);
    assert!(welcome.data.contains("gone when you stop"), "{}", welcome.data);
    assert!(welcome.emit.contains(&welcome.publishable_key) && welcome.emit.contains(&welcome.address));

    let (status, accepted) = sent(&welcome.emit).await;
    assert_eq!(status, 201, "{accepted}");
    let mut ids = vec![id_of(&accepted)];
    ids.extend(pasted(&welcome.emit).as_ref().map(id_of));
    for id in &ids {
        let line = received(&dev, id).await;
        assert!(line.contains("received contact.created") && line.contains("ada@example.com"), "{line}");
        let event = completed(&welcome, id).await;
        assert_eq!(event["rule_events"][0]["attempt_count"], 1, "{event}");
        let rule = event["rule_events"][0]["rule"].as_str().expect("a rule").to_owned();
        let attempts = shown(&welcome, &format!("/events/{id}/rules/{rule}/attempts")).await;
        assert_eq!(attempts["records"][0]["http_status"], 200, "{attempts}");
    }
    let listed = shown(&welcome, "/events").await;
    assert_eq!(listed["records"][0]["id"], ids.last().expect("one").as_str(), "newest first");
    if let Some(pasted) = pasted(&welcome.status) {
        assert_eq!(pasted, listed);
    }

    interrupted(dev).await;
    assert_eq!(std::fs::read_dir(dir.path()).expect("it is there").count(), 0, "the temporary data is gone");
}

#[tokio::test]
async fn data_that_is_named_is_kept_for_the_next_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("kept").display().to_string();
    let arguments = ["--listen", "127.0.0.1:0", "--data", &data];
    let dev = start(dir.path(), &arguments);
    let before = welcome(&dev).await;
    assert!(before.data.starts_with(&data) && before.data.contains("(kept)"), "{}", before.data);
    let first = id_of(&sent(&before.emit).await.1);
    received(&dev, &first).await;
    interrupted(dev).await;

    let dev = start(dir.path(), &arguments);
    let after = welcome(&dev).await;
    for (what, before, after) in [
        ("organization", &before.organization, &after.organization),
        ("publishable key", &before.publishable_key, &after.publishable_key),
        ("access key", &before.access_key, &after.access_key),
        ("secret key", &before.secret_key, &after.secret_key),
    ] {
        assert_eq!(before, after, "{what}");
    }
    completed(&after, &first).await;
    let second = id_of(&sent(&after.emit).await.1);
    received(&dev, &second).await;
    completed(&after, &second).await;
    let exit = interrupted(dev).await;
    assert!(!exit.lines.iter().any(|line| line.contains(&format!("event {first} "))), "not delivered again");
}

#[tokio::test]
async fn a_taken_port_is_avoided_unless_it_was_asked_for() {
    // Taken by us, or by somebody else already: either will do.
    let _default = TcpListener::bind("127.0.0.1:4100");
    let dir = tempfile::tempdir().expect("a directory");
    let dev = start(dir.path(), &[]);
    let welcome = welcome(&dev).await;
    assert!(
        welcome.address.starts_with("http://127.0.0.1:") && !welcome.address.ends_with(":4100"),
        "{}",
        welcome.address
    );
    assert_eq!(sent(&welcome.emit).await.0, 201);
    interrupted(dev).await;

    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let exit = tokio::time::timeout(PATIENCE, start(dir.path(), &["--listen", &address]).wait()).await;
    let exit = exit.expect("it ends");
    assert_eq!(exit.code, Some(2), "{exit:#?}");
    assert!(
        exit.lines.iter().any(|line| line.starts_with(&format!("weft: cannot listen on {address}"))),
        "{exit:#?}"
    );
    assert_eq!(std::fs::read_dir(dir.path()).expect("it is there").count(), 0, "nothing is left behind");
}
