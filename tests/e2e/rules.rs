//! Rules over the API: made, listed, filtered, shown, changed, deleted, and what is refused.

use crate::support::{Receiver, Reply, Weft, assert_members, text};
use reqwest::Method;
use serde_json::{Value, json};

const RULE: [&str; 11] = [
    "id",
    "connection",
    "workspace",
    "type",
    "event",
    "metadata",
    "active",
    "hidden",
    "created_by",
    "created_at",
    "updated_at",
];

/// A rule's body, with this beside what every one needs.
fn body(weft: &Weft, connection: &str, more: Value) -> Value {
    let metadata = json!({ "action": "send_webhook" });
    let mut body = json!({ "workspace": weft.workspace, "connection": connection, "event": "a.b", "metadata": metadata });
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    body
}

#[tokio::test]
async fn a_rule_is_made_listed_shown_changed_and_deleted() {
    let (weft, receiver) = (Weft::start().await, Receiver::start(Reply::ok).await);
    let connection = weft.webhook(&receiver.url("/")).await;
    let made = weft
        .post("/rules", body(&weft, &connection, json!({ "colour": "ignored" })))
        .await
        .answered(201, "made");
    assert_members(&made, &["rule"], "a create is wrapped");
    let made = &made["rule"];
    assert_members(made, &RULE, "made");
    #[rustfmt::skip]
    let expected = [
        ("connection", json!(connection)), ("workspace", json!(weft.workspace)), ("type", json!("webhook")), ("event", json!("a.b")),
        ("metadata", json!({ "action": "send_webhook" })), ("active", json!(true)), ("hidden", json!(false)),
        ("created_by", json!(weft.machine.access_key)),
    ];
    for (name, value) in expected {
        assert_eq!(made[name], value, "{name}");
    }
    let path = format!("/rules/{}", text(&made["id"]));
    assert_eq!(weft.get(&path).await.answered(200, "shown"), *made);
    for list in ["/rules".to_owned(), format!("/workspaces/{}/rules", weft.workspace)] {
        let list = weft.get(&list).await.answered(200, "listed");
        assert_members(&list, &["count", "limit", "next_cursor", "records"], "the envelope");
        assert_eq!(list["records"], json!([made]));
    }

    let conditions = json!({ "path": "plan", "op": "eq", "value": "pro" });
    let metadata = json!({ "action": "send_webhook", "name": "kept as it is", "own": { "n": 1 } });
    type Case<'c> = (&'c str, Value, &'c [(&'c str, Value)]);
    #[rustfmt::skip]
    let changes: [Case<'_>; 6] = [
        // why                          body                                                and then
        ("a pattern",                   json!({ "event": "a.*" }),                          &[("event", json!("a.*")), ("active", json!(true))]),
        ("filters",                     json!({ "resource": "team", "resource_id": "t:1", "conditions": conditions }),
                                                                                            &[("resource", json!("team")), ("resource_id", json!("t:1")), ("conditions", conditions.clone()), ("event", json!("a.*"))]),
        ("metadata as it was sent",     json!({ "metadata": metadata }),                    &[("metadata", metadata.clone()), ("resource", json!("team"))]),
        ("switched off and hidden",     json!({ "active": false, "hidden": true }),         &[("active", json!(false)), ("hidden", json!(true))]),
        ("null takes a filter away",    json!({ "resource": null, "resource_id": null, "conditions": null }),
                                                                                            &[("resource", Value::Null), ("resource_id", Value::Null), ("conditions", Value::Null), ("active", json!(false))]),
        ("nothing changes nothing",     json!({ "unknown": 1 }),                            &[("event", json!("a.*")), ("metadata", metadata.clone()), ("hidden", json!(true))]),
    ];
    for (why, body, expected) in changes {
        let changed = weft.patch(&path, body).await.answered(200, why);
        for (name, value) in expected {
            assert_eq!(changed[name], *value, "{why}: {name}");
        }
        assert_eq!(weft.get(&path).await.answered(200, why), changed, "{why}: shown as it was answered");
    }
    assert_members(&weft.get(&path).await.body, &RULE, "what is taken away is absent");

    let put = weft.ask(Method::PUT, &path, Some(json!({}))).await;
    put.refused(405, "does not have that method", "there is no PUT");
    let gone = weft.ask_raw(Method::DELETE, &path, "").await.answered(200, "deleted");
    assert_eq!(
        gone,
        json!({ "id": made["id"], "connection": connection, "type": "webhook", "event": "a.*" })
    );
    weft.get(&path).await.refused(404, "rule not found", "gone");
    weft.delete(&path).await.refused(404, "rule not found", "deleted twice");
    weft.patch(&path, json!({ "active": true })).await.refused(404, "rule not found", "changed when gone");
    weft.stop().await;
}

#[tokio::test]
async fn a_malformed_rule_is_refused_by_field() {
    let (weft, receiver) = (Weft::start().await, Receiver::start(Reply::ok).await);
    let connection = weft.webhook(&receiver.url("/")).await;
    let (sibling, _) = weft.sibling("sibling").await;
    let unknown = uuid::Uuid::now_v7().to_string();
    let made =
        weft.post("/rules", body(&weft, &connection, json!({ "event": "kept" }))).await.answered(201, "made");
    let path = format!("/rules/{}", text(&made["rule"]["id"]));
    let with = |name: &str, value: Value| body(&weft, &connection, json!({ name: value }));
    let without = |name: &str| {
        let mut body = body(&weft, &connection, json!({}));
        body.as_object_mut().expect("an object").remove(name);
        body
    };
    let action = |more: Value| with("metadata", more);
    let large = json!({ "action": "send_webhook", "own": "x".repeat(64 * 1_024) });
    #[rustfmt::skip]
    let of_create = [
        // why                              body                                     status  says
        ("no workspace",                    without("workspace"),                    400,    "workspace is required"),
        ("a workspace of numbers",          with("workspace", json!(1)),             400,    "workspace must be a string"),
        ("no UUID",                         with("workspace", json!("mine")),        400,    "workspace must be a UUID"),
        ("an unknown workspace",            with("workspace", json!(unknown)),       404,    "workspace not found"),
        ("no connection",                   without("connection"),                   400,    "connection is required"),
        ("a null connection",               with("connection", Value::Null),         400,    "connection must be a string"),
        ("an empty connection",             with("connection", json!("")),           400,    "connection must be a UUID"),
        ("an unknown connection",           with("connection", json!(unknown)),      404,    "connection not found"),
        ("a connection elsewhere",          with("workspace", json!(sibling)),       404,    "connection not found"),
        ("no event",                        without("event"),                        400,    "event is required"),
        ("no metadata",                     without("metadata"),                     400,    "metadata is required"),
        ("null metadata",                   with("metadata", Value::Null),           400,    "metadata must be"),
        ("the same rule again",             with("event", json!("kept")),            409,    "already exists"),
    ];
    for (why, body, status, says) in of_create {
        weft.post("/rules", body).await.refused(status, says, why);
    }
    #[rustfmt::skip]
    let of_both = [
        // why                              body                                     says
        ("an event of numbers",             with("event", json!(7)),                 "event must be a string"),
        ("an empty event",                  with("event", json!("")),                "event must be 1 to 255"),
        ("a blank event",                   with("event", json!("  ")),              "event must not be blank"),
        ("256 characters",                  with("event", json!("e".repeat(256))),   "event must be 1 to 255"),
        ("10 KB of event",                  with("event", json!("e".repeat(10_240))), "event must be 1 to 255"),
        ("a line break in it",              with("event", json!("a\nb")),            "event must be 1 to 255"),
        ("NUL in it",                       with("event", json!("a\u{0}b")),         "event must be 1 to 255"),
        ("a star inside a segment",         with("event", json!("inv*")),            "event must have * only as a whole segment"),
        ("an empty segment beside a star",  with("event", json!("a..*")),            "event must not have empty segments"),
        ("a resource of numbers",           with("resource", json!(1)),              "resource must be a string"),
        ("an empty resource",               with("resource", json!("")),             "resource must be 1 to 255"),
        ("a resource too long",             with("resource", json!("r".repeat(256))), "resource must be 1 to 255"),
        ("a control character",             with("resource", json!("a\u{7}")),       "resource must be 1 to 255"),
        ("an empty resource id",            with("resource_id", json!("")),          "resource_id must be 1 to 64"),
        ("a resource id too long",          with("resource_id", json!("i".repeat(65))), "resource_id must be 1 to 64"),
        ("a space in it",                   with("resource_id", json!("a b")),       "resource_id must be 1 to 64"),
        ("a slash in it",                   with("resource_id", json!("a/b")),       "resource_id must be 1 to 64"),
        ("metadata a list",                 action(json!(["send_webhook"])),         "metadata must be"),
        ("no action",                       action(json!({})),                       "metadata.action is required"),
        ("an empty action",                 action(json!({ "action": "" })),         "metadata.action is required"),
        ("an action of numbers",            action(json!({ "action": 5 })),          "metadata.action"),
        ("an unknown action",               action(json!({ "action": "fly" })),      "metadata.action must be one of: send_webhook"),
        ("a number where text is read",     action(json!({ "action": "send_webhook", "id": 5 })), "metadata.id must be a string"),
        ("metadata over 64 KiB",            action(large),                           "metadata must be at most"),
        ("active a word",                   with("active", json!("no")),             "active must be a boolean"),
        ("hidden a number",                 with("hidden", json!(0)),                "hidden must be a boolean"),
    ];
    for (why, body, says) in of_both {
        weft.post("/rules", body.clone()).await.refused(400, says, why);
        weft.patch(&path, body).await.refused(400, says, why);
    }
    let list = weft.get("/rules").await.answered(200, "after all of it");
    assert_eq!(list["records"], json!([made["rule"]]), "nothing was made or changed");
    weft.stop().await;
}

/// A condition that makes no sense is refused when it is saved, and the place is named.
#[tokio::test]
async fn a_malformed_condition_is_refused_with_its_place() {
    let (weft, receiver) = (Weft::start().await, Receiver::start(Reply::ok).await);
    let connection = weft.webhook(&receiver.url("/")).await;
    let rule = format!("/rules/{}", weft.rule("kept", &connection).await);
    let before = weft.get(&rule).await.answered(200, "before");
    let leaf = json!({ "path": "plan", "op": "eq", "value": "pro" });
    let deep = (0..9).fold(leaf.clone(), |inner, _| json!({ "not": inner }));
    let many = json!({ "all": vec![leaf.clone(); 101] });
    let of = |op: &str, value: Value| json!({ "path": "plan", "op": op, "value": value });
    #[rustfmt::skip]
    let cases = [
        // why                          conditions                                              says
        ("a text",                      json!("plan = pro"),                                    "conditions must be an object"),
        ("a list",                      json!([leaf]),                                          "conditions must be an object"),
        ("nothing",                     json!({}),                                              "conditions must have all, any, not, or path and op"),
        ("an unknown word",             json!({ "none": [leaf] }),                              "conditions must have all, any, not, or path and op"),
        ("all of nothing",              json!({ "all": [] }),                                   "conditions.all must be a list of at least one"),
        ("all of an object",            json!({ "all": leaf }),                                 "conditions.all must be a list"),
        ("any with a number",           json!({ "any": [leaf, 7] }),                            "conditions.any[1] must be an object"),
        ("not of a list",               json!({ "not": [leaf] }),                               "conditions.not must be an object"),
        ("all and any",                 json!({ "all": [leaf], "any": [leaf] }),                "conditions must not have any beside all"),
        ("deep inside",                 json!({ "all": [leaf, { "any": [{ "not": { "path": "a", "op": "like", "value": 1 } }] }] }), "conditions.all[1].any[0].not.op must be one of eq, ne"),
        ("no path",                     json!({ "op": "eq", "value": 1 }),                      "conditions.path must be a dotted path"),
        ("an empty path",               json!({ "path": "", "op": "exists" }),                  "conditions.path must be a dotted path"),
        ("a path with a dollar",        json!({ "path": "$.plan", "op": "exists" }),            "conditions.path must be a dotted path"),
        ("a path with two dots",        json!({ "path": "a..b", "op": "exists" }),              "conditions.path must be a dotted path"),
        ("a path of 129 bytes",         json!({ "path": "p".repeat(129), "op": "exists" }),     "conditions.path must be a dotted path"),
        ("no op",                       json!({ "path": "plan", "value": 1 }),                  "conditions.op must be one of"),
        ("an op of numbers",            json!({ "path": "plan", "op": 1 }),                     "conditions.op must be one of"),
        ("a misspelt member",           json!({ "path": "plan", "op": "eq", "valeu": 1 }),      "conditions must not have valeu beside path, op, value"),
        ("eq without a value",          json!({ "path": "plan", "op": "eq" }),                  "conditions.value is missing"),
        ("eq with a list",              of("eq", json!([1])),                                   "conditions.value must be a scalar"),
        ("gt with a boolean",           of("gt", json!(true)),                                  "conditions.value must be a number or a string"),
        ("in with a text",              of("in", json!("pro")),                                 "conditions.value must be a list of scalars"),
        ("in with nothing",             of("in", json!([])),                                    "conditions.value must be a list of scalars"),
        ("not_in with objects",         of("not_in", json!([{}])),                              "conditions.value must be a list of scalars"),
        ("contains an object",          of("contains", json!({})),                              "conditions.value must be a scalar"),
        ("starts_with a number",        of("starts_with", json!(1)),                            "conditions.value must be a string"),
        ("ends_with null",              of("ends_with", Value::Null),                           "conditions.value must be a string"),
        ("exists of a word",            of("exists", json!("yes")),                             "conditions.value must be true or false"),
        ("matches half a pattern",      of("matches", json!("(")),                              "conditions.value must be a regular expression"),
        ("matches too large a one",     of("matches", json!("(a{999}){999}")),                  "conditions.value must be a regular expression"),
        ("matches too long a one",      of("matches", json!("a".repeat(513))),                  "conditions.value must be at most 512 bytes"),
        ("nested nine deep",            deep,                                                   "must not nest deeper than 8"),
        ("a hundred and one",           many,                                                   "conditions.all[100] is more than the 100 comparisons"),
    ];
    for (why, conditions, says) in cases {
        let new = body(&weft, &connection, json!({ "conditions": conditions }));
        let answer = weft.post("/rules", new).await;
        answer.refused(400, says, why);
        assert!(answer.params()[0].starts_with("conditions"), "{why}: {:?}", answer.params());
        weft.patch(&rule, json!({ "conditions": conditions })).await.refused(400, says, why);
    }
    assert_eq!(weft.get(&rule).await.answered(200, "after"), before);
    assert_eq!(weft.get("/rules").await.body["count"], 1, "nothing was made");
    weft.stop().await;
}

#[tokio::test]
async fn two_rules_are_the_same_when_they_do_the_same_with_the_same_events() {
    let (weft, receiver) = (Weft::start().await, Receiver::start(Reply::ok).await);
    let (connection, other) =
        (weft.webhook(&receiver.url("/")).await, weft.webhook(&receiver.url("/")).await);
    let condition = json!({ "path": "n", "op": "gt", "value": 1 });
    weft.post("/rules", body(&weft, &connection, json!({ "resource": "team" })))
        .await
        .answered(201, "the first");
    let again = |more: Value| {
        let mut body = body(&weft, &connection, json!({ "resource": "team" }));
        for (name, value) in more.as_object().expect("an object") {
            body[name] = value.clone();
        }
        body
    };
    #[rustfmt::skip]
    let cases = [
        ("all of it",                    again(json!({})),                                                     409),
        ("switched off or hidden",       again(json!({ "active": false, "hidden": true })),                    409),
        ("another connection",           again(json!({ "connection": other })),                                201),
        ("another event",                again(json!({ "event": "a.c" })),                                     201),
        ("another resource",             again(json!({ "resource": "user" })),                                 201),
        ("one resource id of it",        again(json!({ "resource_id": "1" })),                                 201),
        ("a condition",                  again(json!({ "conditions": condition })),                            201),
        ("the same condition",           again(json!({ "conditions": condition })),                            409),
        ("another action input",         again(json!({ "metadata": { "action": "send_webhook", "id": "1" } })), 201),
        ("its members in other order",   again(json!({ "metadata": { "id": "1", "action": "send_webhook" } })), 409),
    ];
    for (why, body, status) in cases {
        let answer = weft.post("/rules", body).await;
        assert_eq!(answer.status, status, "{why}: {}", answer.text);
    }
    let third = weft.post("/rules", again(json!({ "event": "third" }))).await.answered(201, "another");
    let path = format!("/rules/{}", text(&third["rule"]["id"]));
    weft.patch(&path, json!({ "event": "a.b" })).await.refused(
        409,
        "already exists",
        "changed into the first",
    );
    assert_eq!(weft.get(&path).await.answered(200, "as it was"), third["rule"]);
    weft.stop().await;
}

#[tokio::test]
async fn deliveries_of_a_deleted_rule_go_on() {
    let (weft, receiver) = (Weft::start().await, Receiver::start(Reply::ok).await);
    let connection = weft.webhook(&receiver.url("/")).await;
    let new = json!({ "event": "a.b", "connection": connection, "resource": "team", "resource_id": "t:1" });
    let rule = weft.rule_with(new).await;
    let pause = |verb: &str| format!("/connections/{connection}/{verb}");
    weft.ask(Method::POST, &pause("pause"), None).await.answered(200, "paused");
    let event = json!({ "event": "a.b", "payload": { "n": 1 }, "resource": "team", "resource_id": "t:1" });
    let event = text(&weft.emit(event).await.answered(201, "sent")["event"]["id"]);
    weft.event_as(&event, "pending").await;
    let gone = weft.delete(&format!("/rules/{rule}")).await.answered(200, "deleted");
    assert_members(&gone, &["id", "connection", "type", "event", "resource", "resource_id"], "what it was");
    weft.ask(Method::POST, &pause("resume"), None).await.answered(200, "resumed");
    let shown = weft.event_as(&event, "completed").await;
    assert_eq!(shown["rule_events"][0]["rule"], rule.as_str(), "its history stays");
    assert_eq!(weft.attempts(&event, &rule, 1).await.len(), 1, "and is found by its id");
    weft.stop().await;
}
