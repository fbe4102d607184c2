//! Noise: whatever comes, it is refused in form or kept as it came, and the server goes on.

use crate::support::{Peer, Weft};
use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
    test_runner::{Config, TestCaseError, TestRunner},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::runtime::Runtime;

/// What is written somewhere into a request, or over it.
#[rustfmt::skip]
const BITS: [&[u8]; 40] = [
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\0", b" ", b"\t", b":", b";", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xef\xbb\xbf",
    b"{", b"}", b"[", b"]", b",", b"\"", b"\\", b"\\u0000", b"\\ud800", b"\\udc00", b"null", b"NaN", b"1e999", b"-", b"0", b"00", b"/*",
    b"content-length: 5\r\n", b"transfer-encoding: chunked\r\n", b"0\r\n\r\n", b"fffffffffffffffff", b"HTTP/1.1", b"GET /healthz HTTP/1.1\r\n\r\n",
    b"expect: 100-continue\r\n", b"connection: upgrade\r\nupgrade: h2c\r\n", b"\x16\x03\x01", b"%00",
];

#[derive(Clone, Debug)]
enum Edit {
    Write(Index, &'static [u8]),
    WriteOver(Index, &'static [u8]),
    Leave(Index, usize),
    Repeat(Index, usize),
    Cut(Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        4 => (any::<Index>(), select(&BITS[..])).prop_map(|(at, bit)| Edit::Write(at, bit)),
        4 => (any::<Index>(), select(&BITS[..])).prop_map(|(at, bit)| Edit::WriteOver(at, bit)),
        2 => (any::<Index>(), 1..20_usize).prop_map(|(at, count)| Edit::Leave(at, count)),
        2 => (any::<Index>(), 1..60_usize).prop_map(|(at, count)| Edit::Repeat(at, count)),
        1 => any::<Index>().prop_map(Edit::Cut),
    ]
}

fn edited(mut bytes: Vec<u8>, edits: &[Edit]) -> Vec<u8> {
    for edit in edits {
        let place = |at: &Index| at.index(bytes.len() + 1);
        match edit {
            Edit::Write(at, bit) => {
                let at = place(at);
                bytes.splice(at..at, bit.iter().copied());
            }
            Edit::WriteOver(at, bit) => {
                let at = place(at);
                bytes.splice(at..bytes.len().min(at + bit.len()), bit.iter().copied());
            }
            Edit::Leave(at, count) => {
                let at = place(at);
                bytes.drain(at..bytes.len().min(at + count));
            }
            Edit::Repeat(at, count) => {
                let at = place(at);
                let again = bytes[at..bytes.len().min(at + count)].to_vec();
                bytes.splice(at..at, again);
            }
            Edit::Cut(at) => bytes.truncate(place(at)),
        }
    }
    bytes
}

/// Runs this with so many cases made of edits, against one server.
fn against(cases: u32, check: impl AsyncFn(&Weft, usize, &[Edit])) {
    let runtime = Runtime::new().expect("a runtime");
    let weft = runtime.block_on(Weft::start());
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&(any::<Index>(), vec(edit(), 1..5)), |(which, edits)| {
        runtime.block_on(check(&weft, which.index(12), &edits));
        Ok::<_, TestCaseError>(())
    });
    outcome.expect("every case passes");
    runtime.block_on(async {
        let after = weft.emit(serde_json::json!({ "event": "after", "payload": { "a": 1 } })).await;
        assert_eq!(after.status, 201, "and the server goes on: {after:?}");
        weft.stop().await;
    });
}

/// I17, I20: no request, however garbled, is a fault of ours, hangs, or brings the server down.
#[test]
fn garbled_requests_are_refused() {
    against(400, async |weft, which, edits| {
        let event = r#"{"event":"x","payload":{"a":[1,"two",{"three":null}]}}"#;
        let (key, token) = (&weft.publishable_key, weft.token());
        let head = |method: &str, path: &str, more: &str| {
            format!(
                "{method} {path} HTTP/1.1\r\nhost: a\r\nx-meshes-publishable-key: {key}\r\ncontent-type: application/json\r\n{more}\r\n"
            )
        };
        let sized = |body: &str| format!("content-length: {}\r\n", body.len());
        let bulk = format!("[{event},{event}]");
        let get = format!(
            "GET /api/v1/events?limit=1 HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        let request = match which % 4 {
            0 => head("POST", "/api/v1/events", &sized(event)) + event,
            1 => head("POST", "/api/v1/events/bulk", &sized(&bulk)) + &bulk,
            2 => {
                let chunked = head("POST", "/api/v1/events", "transfer-encoding: chunked\r\n");
                format!("{chunked}{:x}\r\n{event}\r\n0\r\n\r\n", event.len())
            }
            _ => get.clone() + &head("POST", "/api/v1/events", &sized(event)) + event + &get,
        };
        let mut peer = Peer::connect(weft).await;
        peer.send(edited(request.into_bytes(), edits)).await;
        peer.finish().await;
        while let Some(answer) = peer.answer().await {
            assert!((200..500).contains(&answer.status), "{answer:?}");
        }
    });
}

/// I8, I3: a garbled event is refused, or it is JSON and kept to the byte.
#[test]
fn a_garbled_event_is_refused_or_kept() {
    #[derive(Deserialize)]
    struct Sent<'s> {
        event: String,
        #[serde(borrow)]
        payload: &'s RawValue,
    }
    #[rustfmt::skip]
    const EVENTS: [&str; 4] = [
        r#"{"event":"x","payload":{"a":1}}"#,
        r#" { "event" : "contact.created" , "payload" : { "email" : "ada@example.com", "n" : -0.10e+5 } } "#,
        r#"{"payload":{"s":"\ud83d\ude00\u0041","t":"😀é","l":[1,[2,[3]],{}]},"event":"x","resource":"r","resource_id":"7"}"#,
        r#"{"type":"event","event":"x","payload":{"a":{"a":{"a":null}},"b":true},"unknown":{"a":[false]}}"#,
    ];
    let accepted = AtomicUsize::new(0);
    against(400, async |weft, which, edits| {
        let body = edited(EVENTS[which % EVENTS.len()].as_bytes().to_vec(), edits);
        let answer = weft.emit_bytes("/events", body.clone()).await;
        if answer.status != 201 {
            assert_eq!(answer.status, 400, "{answer:?}");
            return;
        }
        let sent: Sent<'_> = serde_json::from_slice(&body).expect("what is accepted is JSON to others, too");
        accepted.fetch_add(1, Ordering::Relaxed);
        assert_eq!(answer.body["event"]["event"], sent.event.as_str());
        let id = answer.body["event"]["id"].as_str().expect("an id");
        let shown = weft.get(&format!("/events/{id}/payload")).await;
        assert!(shown.text.ends_with(&format!(r#","payload":{}}}"#, sent.payload.get())), "{}", shown.text);
    });
    assert!(accepted.into_inner() > 0, "some edits leave an event an event");
}
