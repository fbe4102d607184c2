//! `Idempotency-Key`: a request sent again is the same request, whatever happened to its answer.

use crate::support::{Answer, Peer, Weft, Witness, send, until};
use actors::{
    clock::Clock,
    domain::timestamp::Timestamp,
    store::embedded::journal::{Disk, FaultyDisk},
};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::Arc;

const BULK: &str = "/events/bulk";

fn event(name: &str) -> Value {
    json!({ "event": name, "payload": { "a": 1 } })
}

/// Sends with this `Idempotency-Key`, by this publishable key.
async fn send_as(weft: &Weft, publishable: &str, path: &str, key: &str, body: String) -> Answer {
    let request = weft.request(Method::POST, &format!("/api/v1{path}")).header("idempotency-key", key);
    let request = request.header("x-meshes-publishable-key", publishable);
    send(request.header("content-type", "application/json").body(body)).await
}

async fn once(weft: &Weft, key: &str, event: &Value) -> Answer {
    send_as(weft, &weft.publishable_key, "/events", key, event.to_string()).await
}

/// I5: the first answer again, also after a restart; the event is delivered once.
#[tokio::test]
async fn the_same_request_is_the_same_event() {
    let weft = Weft::start().await;
    let witness = Witness::of(&weft).await;
    let first = once(&weft, "k-1", &event("first")).await;
    assert_eq!(first.status, 201, "{first:?}");
    let again = once(&weft, "k-1", &event("first")).await;
    assert_eq!((again.status, &again.text), (201, &first.text), "the first answer, to the byte");
    // What comes behind it does not push it out.
    for n in 0..50 {
        assert_eq!(once(&weft, &format!("other-{n}"), &event("other")).await.status, 201);
    }
    let weft = weft.restart().await;
    let again = once(&weft, "k-1", &event("first")).await;
    assert_eq!((again.status, &again.text), (201, &first.text), "after a restart");
    once(&weft, "k-1", &event("changed")).await.assert_error(409, "", "another body after a restart");
    let expected: Vec<_> = ["first"].into_iter().chain(["other"; 50]).collect();
    witness.assert_saw(&weft, &expected).await;
    weft.stop().await;
}

/// I5: a key is remembered for a day, and then stands for whatever it is sent with.
#[tokio::test]
async fn a_key_is_remembered_for_a_day() {
    for (hours, same) in [(23, true), (25, false)] {
        let then = Timestamp(Clock::system().now().0 - hours * 3_600_000);
        let weft = Weft::on(|_| {}, |options| options.clock = Clock::tokio(then).0).await;
        let first = once(&weft, "k", &event("x")).await;
        assert_eq!(first.status, 201, "{first:?}");
        // It starts again by the machine's clock: so many hours later.
        let weft = weft.restart().await;
        let again = once(&weft, "k", &event("x")).await;
        assert_eq!(again.status, 201, "{again:?}");
        assert_eq!(again.text == first.text, same, "after {hours} hours");
        assert_eq!(once(&weft, "k", &event("x")).await.text, again.text, "and from then on");
        weft.stop().await;
    }
}

/// I5, I3: a 503 may have been anything; sent again with its key it is one event, on any disk.
#[tokio::test]
async fn a_key_settles_what_a_failing_disk_left_open() {
    let disk = FaultyDisk::default();
    let seam: Arc<dyn Disk> = Arc::new(disk.clone());
    let weft = Weft::on(|_| {}, |options| options.seams.disk = Some(seam)).await;
    let witness = Witness::of(&weft).await;
    let mut keys = Vec::new();
    // What else is written may meet the fault first: then the next key is tried.
    until("a sync fails under a request", async || {
        let (key, event) = (format!("k{}", keys.len()), event("x"));
        disk.fail_sync(1);
        let answers = join_all((0..10).map(|_| once(&weft, &key, &event))).await;
        keys.push(key);
        for answer in answers.iter().filter(|answer| answer.status != 201) {
            answer.assert_error(503, "", "the disk fails");
        }
        answers.iter().any(|answer| answer.status == 503).then_some(())
    })
    .await;
    disk.heal();
    let mut settled = Vec::new();
    for key in &keys {
        let answer = until("the disk is well again", async || {
            let answer = once(&weft, key, &event("x")).await;
            (answer.status == 201).then_some(answer)
        });
        settled.push(answer.await);
    }
    witness.assert_saw(&weft, &vec!["x"; keys.len()]).await;
    let weft = weft.restart().await;
    for (key, answer) in keys.iter().zip(settled) {
        assert_eq!(once(&weft, key, &event("x")).await.text, answer.text, "{key}: also after a restart");
    }
    assert_eq!(weft.events().await.len(), keys.len() + 1, "and no more of them, with the witness's own");
    weft.stop().await;
}

/// I5: fifty at once are one, and all fifty are told which.
#[tokio::test]
async fn the_same_request_at_once_is_the_same_event() {
    let weft = Weft::start().await;
    let witness = Witness::of(&weft).await;
    let event = event("first");
    let answers = join_all((0..50).map(|_| once(&weft, "k-1", &event))).await;
    let first = &answers[0].text;
    for answer in &answers {
        assert_eq!((answer.status, &answer.text), (201, first));
    }
    // Two bodies race for one key: one of them wins, and every answer says the same.
    let racing = join_all((0..50).map(async |n| {
        let name = if n % 2 == 0 { "even" } else { "odd" };
        (name, once(&weft, "k-2", &self::event(name)).await)
    }));
    let mut winner = None;
    for (name, answer) in racing.await {
        if answer.status == 201 {
            assert_eq!(*winner.get_or_insert(name), name, "one body has the key");
        } else {
            answer.assert_error(409, "", name);
        }
    }
    witness.assert_saw(&weft, &["first", winner.expect("one of them")]).await;
    weft.stop().await;
}

/// I5, I9, I3: what a key stands for, and for whom.
#[tokio::test]
async fn a_key_stands_for_one_body_in_one_workspace() {
    let weft = Weft::start().await;
    let witness = Witness::of(&weft).await;
    let (other, other_key) = weft.another_workspace("other").await;
    let first = once(&weft, "k", &event("first")).await;
    assert_eq!(first.status, 201, "{first:?}");

    let spaced = event("first").to_string().replace(':', ": ");
    #[rustfmt::skip]
    let others = [
        ("another name",             event("second").to_string()),
        ("another payload",          json!({ "event": "first", "payload": { "a": 2 } }).to_string()),
        ("one member more",          json!({ "event": "first", "payload": { "a": 1 }, "resource": "x" }).to_string()),
        ("the same, spelled anew",   spaced),
    ];
    for (why, body) in others {
        let answer = send_as(&weft, &weft.publishable_key, "/events", "k", body).await;
        answer.assert_error(409, "", why);
    }

    let there = send_as(&weft, &other_key, "/events", "k", event("first").to_string()).await;
    assert_eq!(there.status, 201, "{there:?}");
    assert_ne!(there.body["event"]["id"], first.body["event"]["id"], "another workspace, another key");
    assert_eq!(there.body["event"]["workspace"], other.as_str());

    // Whoever sends it: the workspace counts.
    let mut named = event("by.both");
    named["workspace"] = weft.workspace.as_str().into();
    let by_key = once(&weft, "both", &named).await;
    let request = weft.request(Method::POST, "/api/v1/events").bearer_auth(weft.token());
    let by_machine = send(request.header("idempotency-key", "both").json(&named)).await;
    assert_eq!((by_machine.status, &by_machine.text), (201, &by_key.text));

    // A refused request leaves its key free.
    once(&weft, "free", &json!({ "event": "bad" })).await.assert_error(400, "payload", "no payload");
    assert_eq!(once(&weft, "free", &event("good")).await.status, 201);

    // Keys are compared byte for byte; without one, nothing is held to be the same.
    for key in ["case", "CASE"] {
        assert_eq!(once(&weft, key, &event("cased")).await.status, 201);
    }
    for _ in 0..2 {
        assert_eq!(weft.emit(event("plain")).await.status, 201);
    }
    witness.assert_saw(&weft, &["first", "by.both", "good", "cased", "cased", "plain", "plain"]).await;
    weft.stop().await;
}

/// I3: a key that could be misread is refused, not ignored.
#[tokio::test]
async fn an_odd_key_is_refused() {
    let (longest, long) = ("k".repeat(255), "k".repeat(256));
    #[rustfmt::skip]
    let cases: [(&str, &[&[u8]], u16); 12] = [
        // why                        header lines                      status
        ("visible ASCII",             &[b"!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~"], 201),
        ("255 of it",                 &[longest.as_bytes()],            201),
        ("256 of it",                 &[long.as_bytes()],               400),
        ("nothing",                   &[b""],                           400),
        ("spaces alone",              &[b"   "],                        400),
        ("a space within",            &[b"a b"],                        400),
        ("a tab within",              &[b"a\tb"],                       400),
        ("Latin-1",                   &[b"caf\xe9"],                    400),
        ("UTF-8",                     &["schlüssel".as_bytes()], 400),
        ("two keys",                  &[b"a", b"b"],                    400),
        ("the same key twice",        &[b"a", b"a"],                    400),
        ("a control character",       &[b"a\x01"],                      400),
    ];
    let weft = Weft::start().await;
    let witness = Witness::of(&weft).await;
    let mut accepted = Vec::new();
    for (why, lines, status) in cases {
        for path in ["/events", BULK] {
            let body = if path == BULK { json!([event(why)]) } else { event(why) }.to_string();
            let mut request = format!(
                "POST /api/v1{path} HTTP/1.1\r\nhost: a\r\nx-meshes-publishable-key: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
                weft.publishable_key,
                body.len()
            )
            .into_bytes();
            for line in lines {
                request.extend([b"idempotency-key: ", *line, b"\r\n"].concat());
            }
            request.extend(["\r\n", &body].concat().into_bytes());
            let mut peer = Peer::connect(&weft).await;
            peer.send(request).await;
            let answer = peer.answer().await.unwrap_or_else(|| panic!("{why}: closed without a word"));
            assert_eq!(answer.status, status, "{why}: {answer:?}");
            if status == 201 {
                accepted.push(why);
            } else if !answer.text.is_empty() {
                answer.assert_error(status, "", why);
                assert!(answer.text.contains("Idempotency-Key"), "{why}: {answer:?}");
            }
        }
    }
    witness.assert_saw(&weft, &accepted).await;
    weft.stop().await;
}

/// I5: a list sent again is the same events; one that is not as it was is refused in its place.
#[tokio::test]
async fn a_bulk_sent_again_is_the_same_events() {
    let weft = Weft::start().await;
    let witness = Witness::of(&weft).await;
    let bulk = async |weft: &Weft, key: &str, items: &[Value]| {
        let body = Value::from(items.to_vec()).to_string();
        send_as(weft, &weft.publishable_key, BULK, key, body).await
    };
    let id = |answer: &Answer, n: usize| answer.body["records"][n]["id"].as_str().map(str::to_owned);

    let (a, b, c, bad) = (event("a"), event("b"), event("c"), json!({ "event": "bad" }));
    // One of them is refused, and may be put right.
    let first = bulk(&weft, "k", &[a.clone(), a.clone(), bad, c.clone()]).await;
    assert_eq!(first.status, 207, "{first:?}");
    assert_ne!(id(&first, 0), id(&first, 1), "two alike in one list are two");
    let weft = weft.restart().await;
    let again = bulk(&weft, "k", &[a.clone(), a.clone(), b.clone(), c.clone()]).await;
    assert_eq!(again.status, 201, "{again:?}");
    for n in [0, 1, 3] {
        assert_eq!(id(&again, n), id(&first, n), "item {n}");
    }

    // What stands in its place is another event: the others are as they were.
    let changed = bulk(&weft, "k", &[a.clone(), b.clone(), b.clone(), c.clone()]).await;
    assert_eq!((changed.status, &changed.body["error_count"]), (207, &json!(1)), "{changed:?}");
    assert_eq!(changed.body["records"][1]["error"]["name"], "Conflict");
    assert_eq!((id(&changed, 0), id(&changed, 3)), (id(&first, 0), id(&first, 3)));

    // A list's key and an event's key are not each other's.
    let single = once(&weft, "k", &a).await;
    assert_eq!(single.status, 201, "{single:?}");
    assert_ne!(single.body["event"]["id"].as_str().map(str::to_owned), id(&first, 0));
    witness.assert_saw(&weft, &["a", "a", "b", "c", "a"]).await;
    weft.stop().await;
}
