//! Event types and resources: there from the first day, learned from what is sent, edited by people.

use crate::support::{Weft, text, until};
use serde_json::{Value, json};

async fn keys(weft: &Weft, list: &str) -> Vec<String> {
    let shown = weft.get(&format!("/workspaces/{}/{list}", weft.workspace)).await.answered(200, list);
    shown.as_array().expect("a bare array").iter().map(|name| text(&name["key"])).collect()
}

#[tokio::test]
async fn an_unknown_name_is_accepted_and_from_then_on_known() {
    let weft = Weft::start().await;
    for n in 0..3 {
        let event = json!({ "event": "order.paid", "resource": "shop", "payload": { "n": n } });
        weft.emit(event).await.answered(201, "an unknown name");
    }
    weft.send_event("contact.created", json!({ "n": 1 })).await;
    until("both names are known", async || {
        let known = (keys(&weft, "event-types").await, keys(&weft, "resources").await);
        (known.0 == ["contact.created", "order.paid"] && known.1 == ["global", "shop"]).then_some(())
    })
    .await;
    let weft = weft.restart().await;
    assert_eq!(keys(&weft, "event-types").await, ["contact.created", "order.paid"], "it is durable");
    let (sibling, _) = weft.another_workspace("sibling").await;
    let theirs = weft.get(&format!("/workspaces/{sibling}/event-types")).await;
    assert_eq!(theirs.answered(200, "a sibling")[1], Value::Null, "another workspace knows nothing of it");
    weft.stop().await;
}

#[tokio::test]
async fn a_name_is_edited_and_keeps_what_is_not_said() {
    let weft = Weft::start().await;
    let own = format!("/workspaces/{}", weft.workspace);
    #[rustfmt::skip]
    let steps = [
        // what is said                                             label            description        active
        (json!({ "label": "Paid" }),                                "Paid",          Value::Null,       true),
        (json!({ "description": "Money came", "active": false }),   "Paid",          json!("Money came"), false),
        (json!({ "description": null, "key": "other", "id": 7 }),   "Paid",          Value::Null,       false),
        (json!({}),                                                 "Paid",          Value::Null,       false),
        (json!({ "label": "Bezahlt é", "active": true }),           "Bezahlt é",     Value::Null,       true),
        (json!({ "label": null, "active": null }),                  "Bezahlt é",     Value::Null,       true),
    ];
    for (list, key) in [
        ("event-types", "order.paid"),
        ("event-types", "contact.created"),
        ("event-types", "a%2Fb%20%C3%A9"),
        ("resources", "global"),
    ] {
        let mut id = None;
        for (said, label, description, active) in &steps {
            let why = format!("{key} {said}");
            let shown = weft.put(&format!("{own}/{list}/{key}"), said.clone()).await.answered(200, &why);
            let found = (&shown["label"], &shown["description"], &shown["active"]);
            assert_eq!(found, (&json!(label), description, &json!(active)), "{why}");
            assert_eq!(*id.get_or_insert(shown["id"].clone()), shown["id"], "{why}");
            let all = weft.get(&format!("{own}/{list}")).await.answered(200, &why);
            let listed = all.as_array().expect("an array").iter().filter(|name| name["id"] == shown["id"]);
            assert_eq!(listed.collect::<Vec<_>>(), [&shown], "{why}");
        }
    }
    // An event of a name that is not active is accepted all the same, and leaves what was said alone.
    weft.put(&format!("{own}/event-types/order.paid"), json!({ "active": false })).await.answered(200, "off");
    let event = weft.send_event("order.paid", json!({ "n": 1 })).await;
    weft.event_as(&event, "completed").await;
    let weft = weft.restart().await;
    let shown = weft.get(&format!("{own}/event-types")).await.answered(200, "list");
    let found = shown.as_array().expect("an array").iter().find(|name| name["key"] == "order.paid");
    assert_eq!(
        found.map(|name| (&name["label"], &name["active"])),
        Some((&json!("Bezahlt é"), &json!(false)))
    );
    weft.stop().await;
}

#[tokio::test]
async fn what_is_no_name_is_refused() {
    let weft = Weft::start().await;
    let own = format!("/workspaces/{}/event-types", weft.workspace);
    let long = "x".repeat(256);
    #[rustfmt::skip]
    let cases = [
        // why                     key              body                                  param
        ("a label of no name",     "a",             json!({ "label": "" }),               "label"),
        ("a label too long",       "a",             json!({ "label": long }),             "label"),
        ("a label with NUL",       "a",             json!({ "label": "a\u{0}" }),         "label"),
        ("a label of a number",    "a",             json!({ "label": 5 }),                "label"),
        ("a description too long", "a",             json!({ "description": "x".repeat(1_025) }), "description"),
        ("a description, a list",  "a",             json!({ "description": [] }),         "description"),
        ("active as text",         "a",             json!({ "active": "true" }),          "active"),
        ("a key too long",         &long,           json!({}),                            "key"),
        ("a key with NUL",         "a%00",          json!({}),                            "key"),
        ("a list",                 "a",             json!([]),                            ""),
    ];
    for (why, key, body, param) in cases {
        weft.put(&format!("{own}/{key}"), body).await.assert_error(400, param, why);
    }
    assert_eq!(keys(&weft, "event-types").await, ["contact.created"], "nothing was written");
    weft.stop().await;
}

/// Beyond so many, names are accepted and not written down; what is there can still be edited.
#[tokio::test]
async fn a_workspace_has_so_many_names_at_most() {
    let weft = Weft::start().await;
    let own = format!("/workspaces/{}/event-types", weft.workspace);
    let mut last = String::new();
    for from in (0..1_100).step_by(100) {
        let events = (from..from + 100).map(|n| json!({ "event": format!("n.{n}"), "payload": { "n": n } }));
        let answer = weft.emit(Value::Array(events.collect())).await.answered(201, "names without end");
        last = text(&answer["records"][99]["id"]);
    }
    weft.event_as(&last, "completed").await;
    // The default one, which needs no room, and those that were written down.
    assert_eq!(keys(&weft, "event-types").await.len(), 1_001);
    let answer = weft.put(&format!("{own}/one.more"), json!({})).await;
    answer.refused(403, "a workspace has at most 1000 event types", "one more");
    weft.put(&format!("{own}/n.7"), json!({ "label": "Seven" })).await.answered(200, "one that is there");
    weft.stop().await;
}
