//! `weft mcp`: the tools for a client that starts its servers as processes.

use crate::support::{Weft, text};
use crate::twins::run;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What is answered to these messages, by its id.
async fn asked(weft: &Weft, keys: &[&str], messages: &[Value]) -> BTreeMap<u64, Value> {
    let input: String = messages.iter().map(|message| format!("{message}\n")).collect();
    let ended = run(weft, &[&["mcp"], keys].concat(), &input).await;
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{}", ended.out);
    let answer = |line: &str| {
        let answer: Value = serde_json::from_str(line).unwrap_or_else(|err| panic!("{err}: {line}"));
        (answer["id"].as_u64().unwrap_or_else(|| panic!("no id: {answer}")), answer)
    };
    ended.out.lines().map(answer).collect()
}

fn messages(weft: &Weft) -> [Value; 4] {
    let hello = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } });
    let there = json!({ "name": "meshes_get_workspace", "arguments": { "workspace_id": weft.workspace } });
    [
        json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello }),
        json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }),
        json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": {} }),
        json!({ "jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": there }),
    ]
}

#[tokio::test]
async fn tools_are_offered_on_standard_input_and_output() {
    let weft = Weft::start().await;
    let told = asked(&weft, &[], &messages(&weft)).await;
    assert_eq!(told.keys().copied().collect::<Vec<_>>(), [1, 2, 3], "a notification has no answer");
    assert_eq!(told[&1]["result"]["serverInfo"]["name"], "weft");
    assert!(told[&2]["result"]["tools"].as_array().is_some_and(|tools| tools.len() >= 33));
    let shown = &told[&3]["result"];
    assert!(shown["isError"] == false && text(&shown["content"][0]["text"]).contains(&weft.publishable_key));
    weft.stop().await;
}

/// Check 50: with keys that are wrong every call says so, in the API's words.
#[tokio::test]
async fn check_50_a_401_surfaces_with_its_message() {
    let weft = Weft::start().await;
    let told = asked(&weft, &["--secret-key", "wrong"], &messages(&weft)).await;
    let called = &told[&3]["result"];
    assert_eq!(called["isError"], true, "{called}");
    let said = [text(&called["content"][0]["text"]), text(&told[&1]["error"]["message"])];
    for said in said {
        let body = said.strip_prefix("Meshes API 401: ").unwrap_or_else(|| panic!("{said}"));
        let body: Value = serde_json::from_str(body).expect("the body");
        assert_eq!(body["message"], "invalid or missing credentials");
    }
    weft.stop().await;
}

#[tokio::test]
async fn what_cannot_be_asked_is_answered_all_the_same() {
    let weft = Weft::start().await;
    let ended = run(&weft, &["mcp"], "no JSON\n\n").await;
    let told: Value = serde_json::from_str(&ended.out).expect("one line of JSON");
    assert_eq!((&told["id"], &told["error"]["code"]), (&Value::Null, &json!(-32_700)));
    let told = asked(&weft, &["--server", "http://127.0.0.1:9"], &messages(&weft)[2..]).await;
    assert!(text(&told[&2]["error"]["message"]).starts_with("cannot reach http://127.0.0.1:9"), "{told:?}");
    assert_eq!(told[&3]["result"]["isError"], true);
    weft.stop().await;
}
