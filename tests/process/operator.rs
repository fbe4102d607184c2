//! Commands on data: what they print, and what they say where they cannot.

use crate::support::{Caller, Exit, Place, Receiver, Reply, Served, http_client};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// What a command said that could not do what it was told: one line, beside its log.
fn refusal(exit: &Exit) -> &str {
    assert_eq!(exit.code, Some(2), "{exit:#?}");
    let said: Vec<_> = exit.lines.iter().filter(|line| !line.starts_with("{\"timestamp\"")).collect();
    let [line] = &said[..] else { panic!("one line: {exit:#?}") };
    line.strip_prefix("weft: ").unwrap_or_else(|| panic!("{exit:#?}"))
}

fn event(n: usize, filling: usize) -> Value {
    json!({ "event": "contact.created", "payload": { "marked": format!("mark-{n:04}"), "filling": "x".repeat(filling) } })
}

#[tokio::test]
async fn keys_that_init_prints_open_what_they_are_for() {
    // The form of what it prints is checked strictly when it is read.
    let place = Place::new(2).await;
    let served = place.serve().await;
    let callers: Vec<_> = place.accounts.iter().map(|account| Caller::new(&served.base, account)).collect();
    for caller in &callers {
        assert_eq!(caller.account.workspaces.len(), 1);
        let listed = caller.get("/workspaces").await;
        assert_eq!(
            (listed.status, &listed.body["records"][0]["id"]),
            (200, &json!(caller.workspace().id)),
            "{listed:?}"
        );
        assert_eq!(listed.body["count"], 1, "{listed:?}");
        let id = caller.accepted(event(1, 0)).await;
        assert_eq!(caller.completed(&id).await["workspace"], caller.workspace().id.as_str());
        for other in callers.iter().filter(|other| other.account != caller.account) {
            assert_eq!(other.get(&format!("/events/{id}")).await.status, 404);
        }
    }
    served.stop().await;

    // Without --json, for people; keys that are there already stay good.
    let made = place.run(&["init"]).await;
    assert_eq!(made.code, Some(0), "{made:#?}");
    for label in ["organization ", "access key ", "secret key ", "workspace ", "publishable key "] {
        let lines = made.lines.iter().filter(|line| line.starts_with(label));
        assert_eq!(lines.count(), 1, "{label}: {made:#?}");
    }
    let served = place.serve().await;
    assert_eq!(Caller::new(&served.base, &place.accounts[1]).get("/workspaces").await.status, 200);
    served.stop().await;
}

/// The first owner comes by a link that `init` prints, and by nothing else.
#[tokio::test]
async fn the_first_owner_is_invited_by_init() {
    let place = Place::new(1).await;
    let made = place.run(&["init", "--owner-email", "Ada@Example.com"]).await;
    assert_eq!(made.code, Some(0), "{made:#?}");
    let line = made.lines.iter().find(|line| line.starts_with("owner's link ")).expect("a link");
    let (url, rest) = line.split_once("/invitation?token=").expect("a token");
    assert!(url.contains(" http://127.0.0.1:"), "where it listens: {line}");
    let token = rest.split(' ').next().expect("a token");
    let served = place.serve().await;
    let http = http_client();
    let post = async |path: &str, body: Value| {
        let answer = http.post(format!("{}/api/v1{path}", served.base)).json(&body).send().await;
        let answer = answer.expect("an answer");
        (answer.status().as_u16(), answer.json::<Value>().await.expect("JSON"))
    };
    let password = "correct horse battery";
    let joining = json!({ "token": token, "name": "Ada", "password": password });
    let (status, joined) = post("/invitations/accept", joining).await;
    assert_eq!((status, &joined["user"]["role"]), (201, &json!("owner")), "{joined}");
    let (status, signed_in) =
        post("/sign-in", json!({ "email": "ada@example.com", "password": password })).await;
    assert_eq!(status, 200, "{signed_in}");
    let token = signed_in["access_token"].as_str().expect("a token");
    let log = http.get(format!("{}/api/v1/audit", served.base)).bearer_auth(token).send().await;
    let log: Value = log.expect("an answer").json().await.expect("JSON");
    let told: Vec<_> = log["records"].as_array().expect("a list").iter().collect();
    let by = |line: &Value| (line["action"].clone(), line["actor"]["type"].clone());
    assert_eq!(by(told[0]), (json!("user.signed_in"), json!("user")));
    assert_eq!(by(told[2]), (json!("invitation.created"), json!("operator")));
    assert!(told.iter().skip(2).all(|line| line["actor"]["id"] == "weft init"), "{log}");
    served.stop().await;

    let refused = place.run(&["init", "--owner-email", "ada"]).await;
    assert_eq!(refused.code, Some(2), "{refused:#?}");
}

/// One process at a time: whoever comes second is told so in one line, and the first goes on.
#[tokio::test]
async fn data_in_use_is_not_touched() {
    let place = Place::new(1).await;
    let served = place.serve().await;
    for command in ["serve", "init", "verify", "repair"] {
        let exit = place.run(&[command]).await;
        let expected = format!(
            "the data directory {} is in use by another process; stop that one first",
            place.data().display()
        );
        assert_eq!(refusal(&exit), expected, "{command}");
    }
    let caller = Caller::new(&served.base, &place.accounts[0]);
    let id = caller.accepted(event(1, 0)).await;
    caller.completed(&id).await;
    served.stop().await;
}

/// I12: data meets the key it was sealed with or none: nothing starts, and nothing is sealed with another.
#[tokio::test]
async fn another_master_key_opens_nothing_and_says_so() {
    let mut place = Place::new(1).await;
    let key = place.data().with_file_name("master.key");
    let text = fs::read_to_string(&key).expect("it was made");
    place.set("WEFT_MASTER_KEY", &"5a".repeat(32));
    for command in ["serve", "init", "verify"] {
        let exit = place.run(&[command]).await;
        assert!(
            refusal(&exit).starts_with("the master key is not the one this data was sealed with"),
            "{command}: {exit:#?}"
        );
    }

    place.set("WEFT_MASTER_KEY", text.trim());
    let served = place.serve().await;
    assert_eq!(Caller::new(&served.base, &place.accounts[0]).get("/workspaces").await.status, 200);
    served.stop().await;

    place.set("WEFT_MASTER_KEY_FILE", &key.with_file_name("moved.key").display().to_string());
    let mut without = place;
    without.unset("WEFT_MASTER_KEY");
    let exit = without.run(&["serve"]).await;
    assert!(refusal(&exit).contains("moved.key is missing: put it back or set WEFT_MASTER_KEY"), "{exit:#?}");
}

/// I12: what is kept is for its owner's eyes, also in a directory that others may look into.
#[tokio::test]
async fn files_are_for_their_owner_only() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    fs::create_dir(&data).expect("it is ours");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let place = Place::at(dir, data, 1).await;
    let served = place.serve().await;
    let caller = Caller::new(&served.base, &place.accounts[0]);
    caller.completed(&caller.accepted(event(1, 0)).await).await;
    served.stop().await;
    let names = ["LOCK", "CHECKPOINT", "journal", "index"];
    let mut found: Vec<_> =
        fs::read_dir(place.data()).expect("it is there").map(|entry| entry.expect("it is ours")).collect();
    found.retain(|entry| names.iter().any(|name| entry.file_name() == *name));
    assert_eq!(found.len(), names.len(), "{found:?}");
    for entry in found {
        let mode = entry.metadata().expect("it is ours").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{entry:?}: {mode:o}");
    }
}

/// Where the journal's segments are, oldest first.
fn segments(data: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(data.join("journal"))
        .expect("it is there")
        .map(|entry| entry.expect("it is ours").path());
    let is_segment = |path: &PathBuf| {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        path.extension().is_some_and(|extension| extension == "seg") && stem.len() == 16
    };
    let mut segments: Vec<_> = names.filter(is_segment).collect();
    segments.sort();
    segments
}

/// Flips a bit in the middle of a text that stands in one of the files.
fn damage(files: &[PathBuf], text: &str) {
    for path in files {
        let mut bytes = fs::read(path).expect("it is ours");
        if let Some(at) = bytes.windows(text.len()).position(|window| window == text.as_bytes()) {
            bytes[at + text.len() / 2] ^= 1;
            return fs::write(path, bytes).expect("it is ours");
        }
    }
    panic!("{text} stands nowhere");
}

/// Sends so many events, and sees them finished.
async fn sent(caller: &Caller, count: usize, filling: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 0..count {
        ids.push(caller.accepted(event(n, filling)).await);
    }
    for id in &ids {
        caller.completed(id).await;
    }
    ids
}

/// I14: a record that was acknowledged and is damaged keeps the server from starting; what it says to do about it
/// works, sets aside that record and no other, and `verify` lists it from then on.
#[tokio::test]
async fn a_damaged_journal_is_named_and_repaired() {
    let place = Place::new(1).await;
    let receiver = Receiver::start(Reply::ok).await;
    let served = place.serve().await;
    let caller = Caller::new(&served.base, &place.accounts[0]);
    caller.route("contact.created", &receiver.url("/hook")).await;
    let ids = sent(&caller, 10, 0).await;
    served.stop().await;
    assert_eq!(place.verify().await.0, Some(0));

    damage(&segments(place.data()), "mark-0005");
    for command in ["serve", "verify"] {
        let exit = place.run(&[command]).await;
        let told = refusal(&exit);
        assert!(told.contains("0000000000000001.seg is damaged at byte "), "{command}: {told}");
        assert!(told.contains("run `weft repair --data DIR`"), "{command}: {told}");
    }

    let data = place.data().display().to_string();
    let repaired = place.run(&["repair", "--data", &data]).await;
    assert_eq!(repaired.code, Some(0), "{repaired:#?}");
    let aside = repaired.lines.iter().filter_map(|line| line.strip_prefix("set aside: record "));
    let aside: Vec<_> = aside.filter_map(|rest| rest.split(',').next()).collect();
    let [record] = aside[..] else { panic!("one record: {repaired:#?}") };
    let fault = format!("journal record {record} was damaged and set aside; what stood there is lost");
    assert!(repaired.lines.contains(&format!("fault: {fault}")), "{repaired:#?}");
    assert!(place.data().join("journal/damaged-0000000000000001.seg").exists(), "a copy is kept");

    let (code, found) = place.verify().await;
    assert_eq!((code, &found["faults"]), (Some(1), &json!([fault])), "{found}");
    let printed = place.run(&["verify"]).await;
    assert_eq!(
        (printed.code, printed.lines.last().map(String::as_str)),
        (Some(1), Some("the ledger does not add up"))
    );

    let served = place.serve().await;
    let caller = Caller::new(&served.base, &place.accounts[0]);
    for (n, id) in ids.iter().enumerate().filter(|(n, _)| *n != 5) {
        let shown = caller.get(&format!("/events/{id}/payload")).await;
        assert_eq!(
            (shown.status, &shown.body["payload"]["marked"]),
            (200, &json!(format!("mark-{n:04}"))),
            "{shown:?}"
        );
    }
    sent(&caller, 3, 0).await;
    receiver.received(13).await;
    served.stop().await;
}

/// I14: damage where nobody looks at the start is found by `verify`, and by whoever builds the index again.
#[tokio::test]
async fn damage_in_an_older_segment_is_found() {
    let place = Place::new(1).await;
    let served = place.serve().await;
    let caller = Caller::new(&served.base, &place.accounts[0]);
    let ids = sent(&caller, 30, 60_000).await;
    served.stop().await;
    let files = segments(place.data());
    assert!(files.len() > 1, "{files:?}");
    damage(&files[..1], "mark-0003");

    let (code, found) = place.verify().await;
    let listed = found["faults"].as_array().expect("a list");
    assert_eq!((code, listed.len()), (Some(1), 1), "{found}");
    assert!(
        listed[0]
            .as_str()
            .is_some_and(|fault| fault.contains("is damaged at byte ") && fault.contains("weft repair")),
        "{found}"
    );

    fs::remove_dir_all(place.data().join("index")).expect("it is there");
    let exit = place.run(&["serve"]).await;
    assert!(refusal(&exit).contains("run `weft repair --data DIR`"), "{exit:#?}");
    assert_eq!(place.run(&["repair"]).await.code, Some(0));

    let served = place.serve().await;
    let caller = Caller::new(&served.base, &place.accounts[0]);
    for (n, id) in ids.iter().enumerate() {
        let expected = if n == 3 { 404 } else { 200 };
        assert_eq!(caller.get(&format!("/events/{id}/payload")).await.status, expected, "{n}");
    }
    served.stop().await;
    let (code, found) = place.verify().await;
    assert_eq!((code, &found["events"]), (Some(1), &json!(29)), "{found}");
}

/// I2, I14: an index that lost an acknowledged event does not pass for a whole one.
#[tokio::test]
async fn an_index_of_other_data_is_found() {
    let (place, other) = (Place::new(1).await, Place::new(1).await);
    let mut ids = Vec::new();
    for place in [&place, &other] {
        let Served { process, base } = place.serve().await;
        let caller = Caller::new(&base, &place.accounts[0]);
        ids.extend(sent(&caller, 5, 0).await);
        Served { process, base }.stop().await;
    }
    for name in ["index", "CHECKPOINT"] {
        let (from, to) = (other.data().join(name), place.data().join(name));
        let _ = fs::remove_dir_all(&to);
        fs::rename(from, to).expect("they are ours");
    }
    let mut place = place;
    // Its secrets are the other's too.
    place.set("WEFT_MASTER_KEY_FILE", &other.data().with_file_name("master.key").display().to_string());
    let (code, found) = place.verify().await;
    assert_eq!(code, Some(1), "{found}");
    let faults = found["faults"].as_array().expect("a list");
    for id in &ids[..5] {
        let told = faults.iter().any(|fault| {
            fault.as_str().is_some_and(|fault| fault.contains(id) && fault.ends_with("but not in the state"))
        });
        assert!(told, "{id}: {found}");
    }
}
