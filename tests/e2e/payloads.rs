//! Payloads are sacred: what is sent is what is stored, shown and delivered, byte for byte.

use crate::support::{Weft, Witness};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestCaseError, TestRunner},
};
use serde_json::json;

/// What other programs change without a word: read as a float, normalised, written anew.
#[rustfmt::skip]
const ODD: [(&str, &str); 18] = [
    // why                            payload
    ("beyond a double's integers",    r#"{"n":9007199254740993}"#),
    ("beyond 64 bits",                r#"{"n":18446744073709551616}"#),
    ("30 digits",                     r#"{"n":123456789012345678901234567890}"#),
    ("beyond a double",               r#"{"n":1e400}"#),
    ("below a double",                r#"{"n":1e-400}"#),
    ("a long decimal",                r#"{"n":0.1000000000000000055511151231257827021181583404541015625}"#),
    ("zeros that say how exact",      r#"{"n":10.500,"m":-0,"o":-0.0,"p":0e0}"#),
    ("exponents as they are spelled", r#"{"n":1E+2,"m":1e2,"o":100}"#),
    ("escapes as they are spelled",   r#"{"s":"\u0041\/\u00e9\t\u001f"}"#),
    ("NUL, escaped",                  r#"{"s":"\u0000"}"#),
    ("a surrogate pair, escaped",     r#"{"s":"\ud83d\ude00"}"#),
    ("composed and decomposed",       "{\"\u{e9}\":\"\u{e9}\",\"e\u{301}\":\"e\u{301}\"}"),
    ("compatibility characters",      "{\"s\":\"\u{fb01} \u{212b} \u{2460}\"}"),
    ("marks that turn text around",   "{\"s\":\"\u{202e}abc\u{202c}\u{feff}\"}"),
    ("line ends of JavaScript",       "{\"s\":\"a\u{2028}b\u{2029}\"}"),
    ("what is no character",          "{\"s\":\"\u{ffff}\u{10ffff}\"}"),
    ("keys in their order",           r#"{"z":1,"a":2,"10":3,"9":4,"__proto__":{"a":1},"":5}"#),
    ("white space",                   "{ \"a\" :\t[ 1 ,\r\n 2 ] , \"b\" : { } }"),
];

/// White space, as JSON allows it.
fn space() -> impl Strategy<Value = String> {
    "[ \\t\\r\\n]{0,2}"
}

/// The inside of a string: characters of all planes, and escapes in every spelling.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[^\"\\\\\\x00-\\x1f]{0,6}",
        r#"\\["\\/bfnrt]"#,
        r"\\u00[0-9a-fA-F]{2}",
        r"\\u[1-9a-cA-C][0-9a-fA-F]{3}",
        r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}",
    ];
    vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

/// A JSON value in any spelling.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,5})?",
        text().prop_map(|text| format!("\"{text}\"")),
    ];
    leaf.prop_recursive(6, 40, 5, |inner| {
        let item =
            (space(), inner, space()).prop_map(|(before, value, after)| before + &value + &after).boxed();
        prop_oneof![
            vec(item.clone(), 1..5).prop_map(|items| format!("[{}]", items.join(","))),
            vec((text(), space(), item), 1..5).prop_map(object),
        ]
    })
}

/// A payload: an object that says something, with no name that the contract has rules for.
fn payload() -> impl Strategy<Value = String> {
    let members = vec((text(), space(), value()), 0..6);
    members.prop_map(|mut members| {
        members.push(("says".to_owned(), String::new(), "1".to_owned()));
        object(members)
    })
}

fn object(members: Vec<(String, String, String)>) -> String {
    // Numbered, so that no two keys are equal, however they are spelled.
    let member = |(n, (key, space, value)): (usize, (String, String, String))| {
        format!("{space}\"{n} {key}\"{space}:{value}")
    };
    let members: Vec<_> = members.into_iter().enumerate().map(member).collect();
    format!("{{{}}}", members.join(","))
}

/// Sends each payload, alone and all in a bulk, and holds what is shown and delivered against it.
async fn walk(weft: &Weft, raw: &Witness, wrapped: &Witness, payloads: &[String]) {
    let event = |payload: &String| format!(r#"{{"event":"x","payload":{payload}}}"#);
    let mut ids = Vec::new();
    for payload in payloads {
        let answer = weft.emit_bytes("/events", event(payload)).await;
        assert_eq!(answer.status, 201, "{payload}: {answer:?}");
        ids.push(answer.body["event"]["id"].as_str().expect("an id").to_owned());
    }
    let all: Vec<_> = payloads.iter().map(event).collect();
    let answer = weft.emit_bytes("/events/bulk", format!("[ {} ]", all.join(" , "))).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let records = answer.body["records"].as_array().expect("records").iter();
    ids.extend(records.map(|record| record["id"].as_str().expect("an id").to_owned()));

    for (id, payload) in ids.iter().zip(payloads.iter().chain(payloads)) {
        let shown = weft.get(&format!("/events/{id}/payload")).await;
        assert!(shown.text.ends_with(&format!(r#","payload":{payload}}}"#)), "{payload}: {}", shown.text);
        let delivered = raw.delivery(|one| one.header("x-meshes-event-id") == Some(id)).await;
        assert_eq!(delivered.body, payload.as_bytes(), "raw: {payload}");
        let uuid = format!(r#"{{"uuid":"{id}","#);
        let delivered = wrapped.delivery(|one| one.body.starts_with(uuid.as_bytes())).await;
        let body = std::str::from_utf8(&delivered.body).expect("JSON");
        assert!(body.contains(&format!(r#","payload":{payload},"time_created":"#)), "{payload}: {body}");
    }
}

async fn witnesses(weft: &Weft) -> (Witness, Witness) {
    let raw = Witness::with(weft, json!({ "payload_mode": "raw" })).await;
    (raw, Witness::of(weft).await)
}

/// I8: also what other programs would round, reorder, normalise or spell anew.
#[tokio::test]
async fn odd_payloads_are_kept_to_the_byte() {
    let weft = Weft::start().await;
    let (raw, wrapped) = witnesses(&weft).await;
    let payloads = ODD.map(|(_, payload)| payload.to_owned());
    walk(&weft, &raw, &wrapped, &payloads).await;
    weft.stop().await;
}

/// I8: emitted = stored = shown = delivered, for any payload there is.
#[test]
fn any_payload_is_kept_to_the_byte() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let weft = runtime.block_on(Weft::start());
    let (raw, wrapped) = runtime.block_on(witnesses(&weft));
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&vec(payload(), 1..6), |payloads| {
        runtime.block_on(walk(&weft, &raw, &wrapped, &payloads));
        Ok::<_, TestCaseError>(())
    });
    outcome.expect("every payload is kept");
    runtime.block_on(weft.stop());
}
