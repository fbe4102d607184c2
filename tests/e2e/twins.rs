//! The commands that are twins of the API's actions, run as processes against a server.

use super::isolation::{For, ROUTES};
use crate::support::{Receiver, Weft, acme, ids, text};
use serde_json::{Value, json};
use std::{collections::BTreeSet, process::Stdio};
use tokio::{io::AsyncWriteExt as _, process::Command};
use weft::{
    cli::actions::{ACTIONS, NOUNS, paths},
    config::Config,
};

/// How a command ended, and what it wrote.
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ended {
    /// The JSON it printed, having done what it was told.
    #[track_caller]
    fn json(&self) -> Value {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        serde_json::from_str(&self.out).unwrap_or_else(|err| panic!("{err}: {}", self.out))
    }
}

/// Runs `weft` with the organization's keys, and this on its standard input.
pub async fn run(weft: &Weft, arguments: &[&str], input: &str) -> Ended {
    run_with(weft, &[], arguments, input).await
}

async fn run_with(weft: &Weft, variables: &[(&str, &str)], arguments: &[&str], input: &str) -> Ended {
    let machine = &weft.machine;
    let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
    command.args(arguments).env_clear().kill_on_drop(true);
    command.env("WEFT_SERVER", &weft.base).env("WEFT_ACCESS_KEY", &machine.access_key);
    command.env("WEFT_SECRET_KEY", machine.secret.expose());
    command.env("WEFT_ORG_ID", machine.organization_id.to_string()).envs(variables.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the command runs");
    let mut stdin = child.stdin.take().expect("piped");
    // One that does not read it has closed it, and that is its right.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = child.wait_with_output().await.expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Ended { code: output.status.code().expect("a code"), out: text(output.stdout), err: text(output.stderr) }
}

/// A route without a command fails this until it has a row in `src/cli/actions.rs`.
#[test]
fn every_route_of_the_api_has_its_twin() {
    // The names in a path are the server's own affair.
    let shape = |path: &str| {
        let part = |part: &str| if part.starts_with('{') { "{}".to_owned() } else { part.to_owned() };
        path.split('/').map(part).collect::<Vec<_>>().join("/")
    };
    // Signing in is for people, who have pages for it; /mcp has a command of its own.
    let is_twinned = |path: &str, whom: For| matches!(whom, For::Machine | For::Sender) && path != "/mcp";
    let routes: BTreeSet<_> = ROUTES
        .iter()
        .filter(|(_, path, whom, _)| is_twinned(path, *whom))
        .map(|(method, path, ..)| ((*method).to_owned(), shape(path)))
        .collect();
    let mut twins = BTreeSet::new();
    for action in ACTIONS {
        assert!(NOUNS.iter().any(|(noun, _)| *noun == action.noun), "{} is no noun", action.noun);
        twins.extend(paths(action.path).iter().map(|path| (action.verb.method().to_owned(), shape(path))));
    }
    let missing: Vec<_> = routes.difference(&twins).collect();
    let dangling: Vec<_> = twins.difference(&routes).collect();
    assert!(
        missing.is_empty() && dangling.is_empty(),
        "without a twin {missing:?}, of no route {dangling:?}"
    );
}

/// Each action is told twice, to print JSON and to print for a person, where telling it again does no harm.
#[tokio::test]
async fn every_action_does_on_the_command_line_what_it_does_over_http() {
    let set_up = |config: &mut Config| acme::set_up(config, "http://127.0.0.1:9");
    let (weft, receiver) = (Weft::with(set_up).await, Receiver::script(&[400]).await);
    let mut told = BTreeSet::new();
    let mut run = async |words: &[&str], input: &str| {
        let of = |action: &&weft::cli::actions::Action| {
            let name = [&[action.noun][..], &action.name.split_whitespace().collect::<Vec<_>>()].concat();
            words.starts_with(&name)
        };
        let action = ACTIONS.iter().find(of).unwrap_or_else(|| panic!("no action: {words:?}"));
        told.insert((action.noun, action.name));
        run(&weft, words, input).await
    };
    let mut ask = async |words: &[&str]| run(&[words, &["--json"]].concat(), "").await.json();
    let workspace = weft.workspace.clone();
    let there = ["--workspace", &*workspace];

    let made = ask(&["workspace", "create", "--name", "By hand", "--description", "of a test"]).await;
    let other = text(&made["workspace"]["id"]);
    let kept = ask(&["workspace", "update", &other, "--name", "By hand 2"]).await;
    assert_eq!((&kept["name"], &kept["description"]), (&json!("By hand 2"), &json!("of a test")));
    assert_eq!(ask(&["workspace", "list"]).await["count"], 2);
    let key = |shown: &Value| text(&shown["publishable_key"]["public_key"]);
    let before = key(&ask(&["workspace", "get", &other]).await);
    ask(&["workspace", "rotate-key", &other, "--overlap-seconds", "0"]).await;
    assert_ne!(key(&ask(&["workspace", "get", &other]).await), before);

    let url = receiver.url("/");
    let new = ["connection", "create", "--type", "webhook", "--name", "Theirs", "--url", &url, "--skip-test"];
    let made = ask(&[&new[..], &there, &["--policy", r#"{"max_in_flight":3}"#]].concat()).await;
    let connection = text(&made["connection"]["id"]);
    assert_eq!(made["connection"]["policy"]["max_in_flight"], 3);
    let new = ["connection", "connect", "--type", acme::ROTATING, "--name", "In a browser"];
    assert!(text(&ask(&[&new[..], &there].concat()).await["url"]).contains("/oauth/start?ticket="));
    assert_eq!(ask(&["connection", "update", &connection, "--hidden", "true"]).await["hidden"], true);
    let replace = ["connection", "replace", &connection, "--name", "Their hook", "--url", &url];
    let replaced = ask(&[&replace[..], &["-f", "metadata.skip_test=true"]].concat()).await;
    assert_eq!(replaced["name"], "Their hook");
    assert_eq!(ask(&["connection", "pause", &connection]).await["paused"], true);
    assert_eq!(ask(&["connection", "resume", &connection]).await["paused"], false);
    assert_eq!(ask(&["connection", "get", &connection]).await["id"], connection.as_str());
    assert_eq!(ask(&["connection", "list"]).await["count"], 1);
    assert_eq!(ask(&["connection", "list", "--workspace", &other]).await["count"], 0);
    assert!(ask(&["connection", "actions", &connection]).await["send_webhook"].is_object());
    ask(&["connection", "fields", &connection, "--refresh"]).await;
    assert_eq!(ask(&["connection", "mapping", "get", &connection]).await["status"], "generated");
    let schema = r#"{"schema_version":1,"fields":[]}"#;
    let set = ask(&["connection", "mapping", "set", &connection, "--schema", schema, "--name", "Ours"]).await;
    assert_eq!((&set["status"], &set["mapping"]["name"]), (&json!("stored"), &json!("Ours")));

    let new = ["rule", "create", "--connection", &connection, "--event", "a.*", "--action", "send_webhook"];
    let condition = r#"{"path":"n","op":"gte","value":1}"#;
    let made = ask(&[&new[..], &there, &["--conditions", condition]].concat()).await;
    let rule = text(&made["rule"]["id"]);
    assert_eq!(made["rule"]["metadata"], json!({ "action": "send_webhook" }));
    assert_eq!(ask(&["rule", "update", &rule, "--event", "a.b"]).await["event"], "a.b");
    assert_eq!(ask(&["rule", "get", &rule]).await["id"], rule.as_str());
    assert_eq!(ask(&["rule", "list", "--event", "a.b"]).await["count"], 1);
    assert_eq!(ask(&["rule", "list", "--event", "a.b", "--workspace", &other]).await["count"], 0);

    let emit = ["event", "emit", "a.b", "--payload", r#"{"n":1,"user":{"email":"ada@example.com"}}"#];
    let once = [&emit[..], &there, &["--idempotency-key", "once"]].concat();
    let sent = ask(&once).await;
    let event = text(&sent["event"]["id"]);
    assert_eq!(ask(&once).await, sent, "the same key, the same event");
    weft.event_as(&event, "failed").await;
    let bulk = json!([{ "workspace": workspace, "event": "b", "payload": { "n": 1 } }]).to_string();
    let bulk = ask(&["event", "bulk", "--data", &bulk]).await;
    assert_eq!(bulk["count"], 1);
    weft.event_as(&text(&bulk["records"][0]["id"]), "completed").await;
    assert_eq!(ask(&["event", "get", &event]).await["rule_events"][0]["rule"], rule.as_str());
    assert_eq!(ask(&["event", "payload", &event]).await["payload"]["n"], 1);
    assert_eq!(ask(&["event", "list", "--status", "failed"]).await["count"], 1);
    let find = ["event", "list", "--payload", "user.email=ada@example.com", "--rule", &rule];
    assert_eq!(ids(&ask(&[&find[..], &there].concat()).await), [&*event]);
    let attempts = ask(&["event", "attempts", &event, &rule]).await;
    let attempt = text(&attempts["records"][0]["id"]);
    assert_eq!(ask(&["event", "attempt", &event, &rule, &attempt]).await["http_status"], 400);
    assert_eq!(ask(&["event", "response", &event, &rule, &attempt]).await["status"], 400);
    assert_eq!(ask(&["event", "retry", &event, &rule]).await["rule"], rule.as_str());
    weft.attempts(&event, &rule, 2).await;
    weft.event_as(&event, "failed").await;
    let preview = ask(&[&["rule", "preview", "--event", "b", "--last", "10"][..], &there].concat()).await;
    assert_eq!(preview["matched"], 1);
    let action = ["--connection", &connection, "--action", "send_webhook"];
    let preview = ask(&[&["rule", "preview", "--event", "b"][..], &action, &there].concat()).await;
    assert_eq!(preview["examples"]["matched"][0]["sends"]["request"]["method"], "POST");
    ask(&[&["rule", "test", &rule, "--payload", r#"{"n":2}"#][..], &there].concat()).await;

    ask(&["connection", "pause", &connection]).await;
    for words in [&["event", "cancel"][..], &["event", "cancel", "of a rule"]] {
        let test = ask(&[&["event", "test", "a.b", "--payload", r#"{"n":3}"#][..], &there].concat()).await;
        let event = text(&test["event"]["id"]);
        weft.attempts(&event, &rule, 0).await;
        let of_rule = [&event, rule.as_str()];
        let canceled = ask(&[&words[..2], &of_rule[..words.len() - 1]].concat()).await;
        assert_eq!(canceled["status"], "canceled", "{words:?}");
    }

    let set = [&["event-type", "set", "a.b", "--label", "Signed up"][..], &there].concat();
    assert_eq!(ask(&set).await["label"], "Signed up");
    let set = [&["resource", "set", "an order/7", "--description", "Of a shop"][..], &there].concat();
    assert_eq!(ask(&set).await["key"], "an order/7", "what is in a path is escaped");
    for noun in ["event-type", "resource"] {
        assert!(
            ask(&[&[noun, "list"][..], &there].concat()).await.as_array().is_some_and(|all| !all.is_empty())
        );
    }
    assert!(ask(&["integration", "list"]).await["count"].as_u64().is_some_and(|count| count > 0));

    let new =
        ["session", "create", "--role", "admin", "--ttl-seconds", "300", "--scopes", "events.payload:read"];
    let session = text(&ask(&[&new[..], &there].concat()).await["session_id"]);
    assert!(ask(&["session", "refresh", &session]).await["access_token"].is_string());
    assert_eq!(ask(&[&["session", "list"][..], &there].concat()).await["count"], 1);
    assert_eq!(ask(&["session", "revoke", &session]).await["revoked"], true);

    let new =
        ["key", "create", "--name", "Billing", "--permissions", "read,send", "--workspaces", &workspace];
    let made = ask(&new).await;
    assert_eq!(made["key"]["permissions"], json!(["read", "send"]));
    assert_eq!(ask(&["key", "list"]).await["count"], 2);
    ask(&["key", "revoke", &text(&made["key"]["access_key"])]).await;

    let renamed = ask(&["organization", "update", "--name", "Renamed"]).await;
    assert_eq!(ask(&["organization", "get"]).await, renamed);
    let user = weft.user("member").await.id;
    let changed = ask(&["user", "update", &user, "--role", "admin"]).await;
    assert_eq!(changed["user"]["role"], "admin");
    assert_eq!(ask(&["user", "list"]).await["count"], 1);
    let invited = ask(&["invitation", "create", "--email", "bob@example.com", "--role", "member"]).await;
    assert_eq!(ask(&["invitation", "list"]).await["count"], 1);
    ask(&["invitation", "delete", &text(&invited["invitation"]["id"])]).await;
    assert!(text(&ask(&["user", "reset", &user]).await["link"]).contains("/reset?token="));
    ask(&["user", "unreset", &user]).await;
    ask(&["user", "delete", &user]).await;
    let used = ask(&[&["usage", "--from", "2020-01-01"][..], &there].concat()).await;
    assert_eq!(
        ask(&["usage", "--from", "2020-01-01"]).await["records"],
        used["records"],
        "the other sent nothing"
    );
    assert!(used["records"][0]["events"].as_u64().is_some_and(|events| events > 1), "{used}");
    assert_eq!(ask(&["plan"]).await["limits"]["workspaces"]["used"], 2);
    let audited = ask(&["audit", "--subject", &user]).await;
    assert!(audited["count"].as_u64().is_some_and(|count| count > 1), "{audited}");

    let replay = [&["replay", "create", "--event", "a.b", "--json"][..], &there].concat();
    let counted = run(&[&replay[..], &["--dry-run"]].concat(), "").await.json();
    assert_eq!(counted["matched"], 1, "{counted}");
    let slowly = [&replay[..], &["--rate-per-second", "0.01"]].concat();
    let replayed = text(&run(&slowly, "").await.json()["replay"]["id"]);
    assert_eq!(
        run(&["replay", "get", &replayed, "--json"], "").await.json()["replay"]["id"],
        replayed.as_str()
    );
    let listed = [&["replay", "list", "--json"][..], &there].concat();
    assert_eq!(run(&listed, "").await.json()["count"], 1);
    let ended = run(&["replay", "update", &replayed, "--state", "canceled"], "").await;
    assert!(ended.code == 0 || ended.err.contains("finished"), "it may be over: {}", ended.err);

    // For a person, before all is gone.
    #[rustfmt::skip]
    let people = [
        (&["workspace", "list"][..],            "By hand 2"),
        (&["workspace", "get", &other],         "publishable_key.public_key"),
        (&["connection", "list"],               "Their hook"),
        (&["connection", "get", &connection],   "metadata.url"),
        (&["rule", "list"],                     "send_webhook"),
        (&["rule", "get", &rule],               "conditions.op"),
        (&["event", "list"],                    "failed"),
        (&["event", "get", &event],             "rule_events"),
        (&["event", "payload", &event],         "payload.user.email"),
        (&["event", "attempts", &event, &rule], "rejected_client_error"),
        (&["integration", "list"],              "webhook"),
        (&["key", "list"],                      "access_key"),
        (&["audit"],                            "actor.id"),
        (&["usage", "--from", "2020-01-01"],    "delivered"),
        (&["plan"],                             "limits.rules.used"),
    ];
    for (words, expected) in people {
        let ended = run(words, "").await;
        assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{words:?}");
        assert!(ended.out.contains(expected), "{words:?}: {}", ended.out);
        assert!(serde_json::from_str::<Value>(&ended.out).is_err(), "{words:?}: for a person: {}", ended.out);
    }

    let exported = run(&[&["event", "export", "--event", "a.b"][..], &there].concat(), "").await;
    assert_eq!((exported.code, exported.out.lines().count()), (0, 4), "{}{}", exported.out, exported.err);
    for line in exported.out.lines() {
        let line: Value = serde_json::from_str(line).expect("a line of JSON");
        assert_eq!(line["event"], "a.b");
    }

    let gone = run(&["rule", "delete", &rule, "--json"], "").await.json();
    assert_eq!(gone["id"], rule.as_str());
    let gone = run(&["connection", "delete", &connection, "--force", "--json"], "").await.json();
    assert_eq!(gone["type"], "webhook");
    let all: BTreeSet<_> = ACTIONS.iter().map(|action| (action.noun, action.name)).collect();
    assert_eq!(told, all, "every action was told");
    weft.stop().await;
}

#[tokio::test]
async fn what_goes_wrong_is_told_in_a_clear_line_and_a_code() {
    let weft = Weft::start().await;
    let nobody = uuid::Uuid::now_v7().to_string();
    let own = weft.workspace.as_str();
    #[rustfmt::skip]
    let cases = [
        // why                     words                                                                                code  told
        ("refused, with a field",  &["workspace", "create", "--name", "a/b/c"][..],                                     1, "weft: 400 name must be 3 to 50 letters, digits, spaces, _ or -\n  name: must be"),
        ("nothing given",          &["workspace", "create"],                                                            1, "weft: 400 the body is empty"),
        ("not there",              &["rule", "get", &nobody],                                                           1, "weft: 404 rule not found\n"),
        ("no id",                  &["rule", "get", "../workspaces"],                                                   1, "weft: 404 rule not found\n"),
        ("only dots",              &["rule", "get", ".."],                                                              1, "weft: \"..\" is the id of nothing\n"),
        ("nothing at all",         &["connection", "list", "--workspace", ""],                                          1, "weft: \"\" is the id of nothing\n"),
        ("wrong keys",             &["workspace", "list", "--secret-key", "wrong"],                                     1, "weft: 401 invalid or missing credentials\n"),
        ("a bad limit",            &["event", "list", "--limit", "201"],                                                1, "weft: 400 limit must be"),
        ("nobody there",           &["workspace", "list", "--server", "http://127.0.0.1:9"],                            1, "weft: cannot reach http://127.0.0.1:9: "),
        ("no URL",                 &["workspace", "list", "--server", "localhost"],                                     1, "weft: --server localhost: must be a URL"),
        ("another scheme",         &["workspace", "list", "--server", "ftp://a"],                                       1, "weft: --server ftp://a: must be an http or https URL"),
        ("no JSON",                &["event", "emit", "a", "--payload", "{"],                                           1, "weft: --payload: not JSON: "),
        ("no such file",           &["event", "emit", "a", "--payload", "@/nowhere.json"],                              1, "weft: /nowhere.json: "),
        ("no pair",                &["rule", "update", own, "--field", "active"],                                       1, "weft: --field active: must be a path, = and a value\n"),
        ("into no object",         &["event", "emit", "a", "--data", "[]"],                                             1, "weft: --data: must be an object to put flags into\n"),
        ("an unknown flag",        &["event", "list", "--limt", "3"],                                                   2, "error: unexpected argument '--limt' found"),
        ("an unknown verb",        &["event", "forget"],                                                                2, "error: unrecognized subcommand 'forget'"),
        ("without its argument",   &["event", "get"],                                                                   2, "error: the following required arguments"),
        ("without its workspace",  &["event", "export"],                                                                2, "error: the following required arguments"),
        ("no boolean",             &["rule", "update", own, "--active", "maybe"],                                       2, "error: invalid value 'maybe' for '--active"),
        ("no organization",        &["workspace", "list", "--org", "x"],                                                2, "error: invalid value 'x' for '--org"),
    ];
    for (why, words, code, told) in cases {
        for words in [words.to_vec(), [words, &["--json"]].concat()] {
            if words == ["event", "export", "--json"] {
                continue;
            }
            let ended = run(&weft, &words, "").await;
            assert_eq!((ended.code, ended.out.as_str()), (code, ""), "{why}: {}", ended.err);
            assert!(ended.err.starts_with(told), "{why}: {}", ended.err);
            assert!(!ended.err.contains(weft.machine.secret.expose()), "{why}");
        }
    }
    // Some of it refused: what became of each is printed, and it is no success.
    let bulk =
        json!([{ "workspace": own, "event": "b", "payload": { "n": 1 } }, { "event": "b" }]).to_string();
    let ended = run(&weft, &["event", "bulk", "--data", "-", "--json"], &bulk).await;
    assert_eq!((ended.code, ended.err.as_str()), (1, "weft: 1 of 2 were refused\n"));
    let printed: Value = serde_json::from_str(&ended.out).expect("JSON");
    assert_eq!(printed["error_count"], 1);
    weft.stop().await;
}

#[tokio::test]
async fn pages_are_followed_and_told_of() {
    let weft = Weft::start().await;
    for n in 0..5 {
        weft.send_event("page", json!({ "n": n })).await;
    }
    let all = run(&weft, &["event", "list", "--limit", "2", "--all", "--json"], "").await.json();
    let expected = weft.get("/events").await.body;
    assert_eq!((ids(&all), &all["count"], &all["next_cursor"]), (ids(&expected), &json!(5), &Value::Null));

    let first = run(&weft, &["event", "list", "--limit", "2"], "").await;
    assert_eq!((first.code, first.out.lines().count()), (0, 3), "a head and two");
    let cursor = first.err.trim().rsplit(' ').next().expect("a cursor");
    assert!(first.err.starts_with("there are more: --all, or --cursor "), "{}", first.err);
    let second =
        run(&weft, &["event", "list", "--limit", "2", "--cursor", cursor, "--json"], "").await.json();
    assert_eq!(ids(&second), ids(&expected)[2..4]);
    weft.stop().await;
}

/// What is given whole is sent as it is; what is given by flags goes over it.
#[tokio::test]
async fn a_body_comes_from_a_file_a_pipe_or_flags() {
    let weft = Weft::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    let own = weft.workspace.clone();
    let exact = r#"{ "n": 1.0000000000000000000001 }"#;
    let body = format!(r#"{{"workspace":"{own}","event":"of a file","payload":{exact}}}"#);
    let file = dir.path().join("body.json");
    std::fs::write(&file, &body).expect("it is ours");
    let at_file = format!("@{}", file.display());
    for (why, data, input) in
        [("a file", at_file.as_str(), ""), ("a pipe", "-", body.as_str()), ("itself", &body, "")]
    {
        let sent = run(&weft, &["event", "emit", "--data", data, "--json"], input).await.json();
        let id = text(&sent["event"]["id"]);
        let stored = run(&weft, &["event", "payload", &id, "--json"], "").await;
        assert!(stored.out.contains(exact), "{why}: {}", stored.out);
    }
    let (other, _) = weft.another_workspace("other").await;
    let variables = [("WEFT_WORKSPACE", other.as_str())];
    let sent = run_with(&weft, &variables, &["event", "emit", "--data", &at_file, "--json"], "").await.json();
    assert_eq!(sent["event"]["workspace"], own.as_str(), "what is said goes before what is set");
    let flags =
        ["event", "emit", "by flags", "-f", "payload.user.age=36", "-f", "payload.name=Ada", "--json"];
    let sent = run_with(&weft, &variables, &flags, "").await.json();
    assert_eq!(sent["event"]["workspace"], other.as_str());
    let stored = weft.get(&format!("/events/{}/payload", text(&sent["event"]["id"]))).await.body;
    assert_eq!(stored["payload"], json!({ "user": { "age": 36 }, "name": "Ada" }));
    let over = ["event", "emit", "by both", "--data", &at_file, "--resource", "order", "--json"];
    let sent = run(&weft, &over, "").await.json();
    assert_eq!((&sent["event"]["event"], &sent["event"]["resource"]), (&json!("by both"), &json!("order")));
    weft.stop().await;
}
