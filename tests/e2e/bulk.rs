//! Events by the hundred: each is accepted or refused by itself, and told in its place.

use crate::support::{Weft, Witness};
use serde_json::{Value, json};

fn event(name: &str) -> Value {
    json!({ "event": name, "payload": { "a": 1 } })
}

fn events(count: usize) -> Value {
    (0..count).map(|n| event(&format!("n{n}"))).collect()
}

/// The API's word for a list that is all good is 201, for any other 207; wrong as a whole is 400.
#[tokio::test]
async fn a_bulk_is_a_list_of_1_to_100() {
    let one = event("bad").to_string();
    #[rustfmt::skip]
    let cases = [
        // why                           body                                          status
        ("one",                          events(1).to_string(),                        201),
        ("a hundred",                    events(100).to_string(),                      201),
        ("none",                         "[]".to_owned(),                              400),
        ("101",                          events(101).to_string(),                      400),
        ("an event without its list",    one.clone(),                                  400),
        ("a wrapper around the list",    format!(r#"{{"events":[{one}]}}"#),           400),
        ("null",                         "null".to_owned(),                            400),
        ("a string",                     "\"[]\"".to_owned(),                          400),
        ("nothing",                      String::new(),                                400),
        ("a line for each",              format!("{one}\n{one}"),                      400),
        ("a list that does not end",     format!("[{one}"),                            400),
        ("a comma too many",             format!("[{one},]"),                          400),
        ("two lists",                    format!("[{one}][{one}]"),                    400),
        ("an event that does not end",   format!("[{one},{{\"event\":\"bad\""),        400),
        ("one too deep to be read past",      format!("[{one},{}1{}]", "[".repeat(65), "]".repeat(65)), 400),
    ];
    let weft = Weft::start().await;
    let witness = Witness::of(&weft).await;
    for (why, body, status) in cases {
        let answer = weft.emit_bytes("/events/bulk", body).await;
        if status == 400 {
            answer.assert_error(400, "body", why);
            continue;
        }
        assert_eq!(answer.status, status, "{why}: {answer:?}");
        let records = answer.body["records"].as_array().expect("records");
        assert_eq!(answer.body["count"], records.len(), "{why}");
        assert_eq!(answer.body.get("error_count"), None, "{why}: there is none to count");
        for (n, record) in records.iter().enumerate() {
            assert_eq!(record["event"], format!("n{n}"), "{why}: in the order of the request");
            assert_eq!(record["resource"], "global", "{why}");
            assert_eq!(record["workspace"], weft.workspace.as_str(), "{why}");
            assert_eq!((record.get("payload"), record.get("status")), (None, None), "{why}");
        }
    }
    let accepted: Vec<_> = [0..1, 0..100].into_iter().flatten().map(|n| format!("n{n}")).collect();
    witness.assert_saw(&weft, &accepted.iter().map(String::as_str).collect::<Vec<_>>()).await;
    weft.stop().await;
}

/// I3: the good ones of a list are delivered, each bad one is refused as it would be alone.
#[tokio::test]
async fn a_bad_event_is_refused_in_its_place() {
    let weft = Weft::start().await;
    let witness = Witness::of(&weft).await;
    let (other, _) = weft.another_workspace("other").await;
    let mut elsewhere = event("bad");
    elsewhere["workspace"] = other.into();
    let large = format!(r#"{{"event":"bad","payload":{{"a":"{}"}}}}"#, "x".repeat(262_144));
    let just_fits = format!(r#"{{"event":"deep","payload":{{"a":{}{}}}}}"#, "[".repeat(62), "]".repeat(62));
    #[rustfmt::skip]
    let items: Vec<(&str, String, Option<&str>)> = vec![
        // why                          item                                                        refused for
        ("good",                        event("first").to_string(),                                 None),
        ("no name",                     r#"{"payload":{"a":1}}"#.to_owned(),                        Some("event")),
        ("no payload",                  r#"{"event":"bad"}"#.to_owned(),                            Some("payload")),
        ("a list for a payload",        r#"{"event":"bad","payload":[1]}"#.to_owned(),              Some("payload")),
        ("a list in the list",          format!("[{}]", event("bad")),                              Some("body")),
        ("null",                        "null".to_owned(),                                          Some("body")),
        ("a number",                    "5".to_owned(),                                             Some("body")),
        ("good, in the middle",         event("second").to_string(),                                None),
        ("a key twice",                 r#"{"event":"bad","payload":{"a":1,"a":1}}"#.to_owned(),    Some("body")),
        ("a key twice, by escapes",     r#"{"event":"bad","\u0065vent":"bad","payload":{"a":1}}"#.to_owned(), Some("body")),
        ("64 levels in itself",         just_fits,                                                  None),
        ("too large by itself",         large,                                                      Some("")),
        ("for another workspace",       elsewhere.to_string(),                                      Some("workspace")),
        ("another type",                r#"{"event":"bad","type":"rule","payload":{"a":1}}"#.to_owned(), Some("type")),
        ("good, and once more",         event("second").to_string(),                                None),
        ("good, at the end",            event("last").to_string(),                                  None),
    ];
    let bodies: Vec<_> = items.iter().map(|(_, item, _)| item.as_str()).collect();
    let answer = weft.emit_bytes("/events/bulk", format!("[{}]", bodies.join(","))).await;
    assert_eq!(answer.status, 207, "{answer:?}");
    let records = answer.body["records"].as_array().expect("records");
    assert_eq!((records.len(), &answer.body["count"]), (items.len(), &json!(items.len())), "all are told of");
    let errors = items.iter().filter(|(.., refused)| refused.is_some()).count();
    assert_eq!(answer.body["error_count"], errors);
    for ((why, item, refused), record) in items.iter().zip(records) {
        let Some(param) = refused else {
            let sent: Value = serde_json::from_str(item).expect("JSON");
            assert_eq!(record["event"], sent["event"], "{why}: {record}");
            assert!(record["id"].is_string() && record.get("message").is_none(), "{why}: {record}");
            continue;
        };
        assert!(record.get("id").is_none(), "{why}: {record}");
        let error = &record["error"];
        assert!(record["message"].as_str().is_some_and(|text| !text.is_empty()), "{why}: {record}");
        assert_eq!(error["message"], record["message"], "{why}");
        let name = if param.is_empty() { "PayloadTooLarge" } else { "BadRequest" };
        assert_eq!(error["name"], name, "{why}: {record}");
        assert_eq!(error["data"][0]["param"].as_str().unwrap_or_default(), *param, "{why}: {record}");
    }
    witness.assert_saw(&weft, &["first", "second", "deep", "second", "last"]).await;
    weft.stop().await;
}

/// I3: a list of nothing but bad ones is 207, too, and delivers nothing.
#[tokio::test]
async fn a_bulk_may_be_refused_item_by_item_to_the_last() {
    let weft = Weft::start().await;
    let witness = Witness::of(&weft).await;
    let answer = weft.emit(json!([{}, [], "x", { "event": "bad" }])).await;
    assert_eq!(answer.status, 207, "{answer:?}");
    assert_eq!((&answer.body["count"], &answer.body["error_count"]), (&json!(4), &json!(4)));
    witness.assert_saw(&weft, &[]).await;
    weft.stop().await;
}

/// I9: a machine may send into several workspaces at once, and into none of a stranger's.
#[tokio::test]
async fn a_machines_bulk_goes_to_the_workspaces_it_names() {
    let weft = Weft::start().await;
    let (other, _) = weft.another_workspace("other").await;
    let (_, foreign, _) = weft.stranger().await;
    let into = |name: &str, workspace: &str| {
        let mut event = event(name);
        event["workspace"] = workspace.into();
        event
    };
    let own = weft.workspace.as_str();
    let bulk = json!([into("a", own), into("b", &other), into("c", &foreign), into("d", own), event("e")]);
    let answer = weft.post("/events/bulk", bulk).await;
    assert_eq!(answer.status, 207, "{answer:?}");
    let records = &answer.body["records"];
    let places: Vec<_> = (0..5).map(|n| records[n]["workspace"].as_str()).collect();
    assert_eq!(places, [Some(own), Some(&other), None, Some(own), None], "{answer:?}");
    assert_eq!(records[2]["message"], "workspace not found");
    assert_eq!(records[4]["error"]["data"][0]["param"], "workspace");
    assert_eq!(weft.events().await, ["a", "d"]);
    let there = weft.get(&format!("/workspaces/{other}/events")).await;
    assert_eq!((&there.body["count"], &there.body["records"][0]["event"]), (&json!(1), &json!("b")));
    weft.stop().await;
}
