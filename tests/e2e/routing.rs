//! Which rules an event meets: names, patterns, resources and conditions, and what is told of the others.

use crate::support::{Receiver, Reply, Weft, ids, send, text};
use reqwest::Method;
use serde_json::{Value, json};

/// Every rule of an event's name says why it matched or did not; a rule of another name says nothing.
#[tokio::test]
async fn every_rule_of_its_name_matches_an_event_or_tells_why_not() {
    let (weft, receiver) = (Weft::start().await, Receiver::start(Reply::ok).await);
    let connection = weft.webhook(&receiver.url("/")).await;
    let is = |op: &str, path: &str, value: Value| json!({ "path": path, "op": op, "value": value });
    let yes = is("eq", "plan", json!("pro"));
    let no = is("eq", "plan", json!("free"));
    let on = |conditions: Value| json!({ "conditions": conditions });
    const MATCHES: Option<&str> = None;
    #[rustfmt::skip]
    let rules = [
        // why                              rule                                                    why not
        ("its name",                        json!({}),                                              MATCHES),
        ("a pattern",                       json!({ "event": "invoice.*" }),                        MATCHES),
        ("every name",                      json!({ "event": "*" }),                                MATCHES),
        ("a star in the middle",            json!({ "event": "invoice.*.added" }),                  MATCHES),
        ("as many stars as it takes",       json!({ "event": "*.*" }),                              MATCHES),
        ("its resource",                    json!({ "resource": "account" }),                       MATCHES),
        ("another resource",                json!({ "resource": "team" }),                          Some(r#"resource is "account", the rule wants "team""#)),
        ("its resource id",                 json!({ "resource_id": "acc:1" }),                      MATCHES),
        ("another resource id",             json!({ "resource_id": "acc:2" }),                      Some(r#"resource_id is "acc:1", the rule wants "acc:2""#)),
        ("switched off",                    json!({ "active": false }),                             Some("the rule is not active")),
        ("eq",                              on(yes.clone()),                                        MATCHES),
        ("eq of another",                   on(no.clone()),                                         Some(r#"conditions: plan eq "free" does not hold, found "pro""#)),
        ("eq of what is not there",         on(is("eq", "nowhere", Value::Null)),                   Some("conditions: nowhere eq null does not hold, found nothing")),
        ("eq of null",                      on(is("eq", "none", Value::Null)),                      MATCHES),
        ("eq of numbers",                   on(is("eq", "seats", json!(3.0))),                      MATCHES),
        ("eq keeps types apart",            on(is("eq", "seats", json!("3"))),                      Some("found 3")),
        ("eq of a large integer",           on(is("eq", "big", json!(9_007_199_254_740_993_u64))),  MATCHES),
        ("eq of its neighbour",             on(is("eq", "big", json!(9_007_199_254_740_992_u64))),  Some("does not hold")),
        ("ne",                              on(is("ne", "plan", json!("free"))),                    MATCHES),
        ("ne of the same",                  on(is("ne", "plan", json!("pro"))),                     Some(r#"plan ne "pro" does not hold"#)),
        ("gt",                              on(is("gt", "seats", json!(2))),                        MATCHES),
        ("gt of an equal one",              on(is("gt", "seats", json!(3))),                        Some("seats gt 3 does not hold, found 3")),
        ("gte of an equal one",             on(is("gte", "seats", json!(3))),                       MATCHES),
        ("lt",                              on(is("lt", "price", json!(10))),                       MATCHES),
        ("lt of texts",                     on(is("lt", "plan", json!("q"))),                       MATCHES),
        ("lt of different types",           on(is("lt", "plan", json!(5))),                         Some(r#"plan lt 5 does not hold, found "pro""#)),
        ("lte",                             on(is("lte", "price", json!(9.5))),                     MATCHES),
        ("in",                              on(is("in", "plan", json!(["free", "pro"]))),           MATCHES),
        ("in of others",                    on(is("in", "plan", json!(["free", "team"]))),          Some("plan in")),
        ("not_in",                          on(is("not_in", "plan", json!(["free"]))),              MATCHES),
        ("not_in of its own",               on(is("not_in", "plan", json!(["pro"]))),               Some("plan not_in")),
        ("contains a part",                 on(is("contains", "user.name", json!("oë"))),           MATCHES),
        ("contains an element",             on(is("contains", "tags", json!("new"))),               MATCHES),
        ("contains no such element",        on(is("contains", "tags", json!("old"))),               Some(r#"tags contains "old" does not hold"#)),
        ("starts_with",                     on(is("starts_with", "user.name", json!("Zo"))),        MATCHES),
        ("starts_with another",             on(is("starts_with", "user.name", json!("zo"))),        Some("user.name starts_with")),
        ("ends_with",                       on(is("ends_with", "plan", json!("ro"))),               MATCHES),
        ("ends_with another",               on(is("ends_with", "seats", json!("3"))),               Some("seats ends_with")),
        ("exists",                          on(json!({ "path": "none", "op": "exists" })),          MATCHES),
        ("exists not",                      on(is("exists", "nowhere", json!(false))),              MATCHES),
        ("exists all the same",             on(is("exists", "plan", json!(false))),                 Some("plan exists false does not hold")),
        ("matches",                         on(is("matches", "user.name", json!("^Z.*ë$"))),        MATCHES),
        ("matches no number",               on(is("matches", "seats", json!("3"))),                 Some(r#"seats matches "3" does not hold"#)),
        ("an element's member",             on(is("eq", "items.1.sku", json!("B-2"))),              MATCHES),
        ("no such element",                 on(is("eq", "items.2.sku", json!("B-2"))),              Some("found nothing")),
        ("all",                             on(json!({ "all": [yes, is("gt", "seats", json!(1))] })), MATCHES),
        ("all but one",                     on(json!({ "all": [yes, no] })),                        Some("conditions.all[1]: plan")),
        ("any",                             on(json!({ "any": [no, yes] })),                        MATCHES),
        ("any of none",                     on(json!({ "any": [no, no] })),                         Some("conditions.any: none of its 2 holds")),
        ("not",                             on(json!({ "not": no })),                               MATCHES),
        ("not what holds",                  on(json!({ "not": yes })),                              Some("conditions.not: what it excludes holds")),
        ("filters and conditions together", json!({ "event": "*", "resource": "account", "resource_id": "acc:1", "conditions": yes }), MATCHES),
    ];
    let mut made = Vec::new();
    for (n, (why, rule, expected)) in rules.into_iter().enumerate() {
        let mut body = json!({ "event": "invoice.line.added", "connection": connection });
        for (name, value) in rule.as_object().expect("an object") {
            body[name] = value.clone();
        }
        body["workspace"] = weft.workspace.as_str().into();
        // Told apart by a member of their own: equal rules are refused.
        body["metadata"] = json!({ "action": "send_webhook", "own": n });
        let rule = weft.post("/rules", body).await.answered(201, why);
        made.push((why, text(&rule["rule"]["id"]), expected));
    }
    for other in
        ["invoice.line", "invoice", "Invoice.Line.Added", "invoice.line.added.twice", "other.*", "*.added"]
    {
        weft.rule(other, &connection).await;
    }

    let payload = json!({
        "plan": "pro", "seats": 3, "price": 9.5, "big": 9_007_199_254_740_993_u64, "none": null,
        "tags": ["new", 7], "user": { "name": "Zoë" }, "items": [{ "sku": "A-1" }, { "sku": "B-2" }],
    });
    let event = json!({ "event": "invoice.line.added", "payload": payload, "resource": "account", "resource_id": "acc:1" });
    let sent = weft.emit(event).await.answered(201, "sent");
    let event = weft.event_as(&text(&sent["event"]["id"]), "completed").await;

    let list = |name: &str| event[name].as_array().expect("a list").clone();
    let (matched, unmatched) = (list("rule_events"), list("unmatched_rules"));
    for (why, rule, expected) in &made {
        let matches = matched.iter().filter(|delivery| delivery["rule"] == rule.as_str()).count();
        let told: Vec<&str> = unmatched
            .iter()
            .filter(|verdict| verdict["rule"] == rule.as_str())
            .map(|verdict| verdict["reason"].as_str().expect("a reason"))
            .collect();
        match (expected, told.as_slice()) {
            (None, []) => assert_eq!(matches, 1, "{why}"),
            (Some(expected), [told]) => {
                assert_eq!(matches, 0, "{why}");
                assert!(told.contains(expected), "{why}: {told:?} does not say {expected:?}");
            }
            _ => panic!("{why}: matched {matches} times, told {told:?}"),
        }
    }
    assert_eq!(matched.len() + unmatched.len(), made.len(), "rules of other names say nothing: {event}");
    assert_eq!(event["total_rules"], matched.len());
    assert!(unmatched.iter().all(|verdict| verdict["connection"] == connection.as_str()));
    assert_eq!(receiver.received(matched.len()).await.len(), matched.len(), "one request for each match");
    weft.stop().await;
}

/// I7: an event meets the rules as they stood when it was acknowledged.
#[tokio::test]
async fn rules_are_bound_when_the_event_is_acknowledged() {
    let (weft, receiver) = (Weft::start().await, Receiver::start(Reply::ok).await);
    let connection = weft.webhook(&receiver.url("/")).await;
    let rule = weft.rule("a.b", &connection).await;
    let path = format!("/rules/{rule}");
    let mut events = Vec::new();
    // Acknowledged and changed in one go: routing may not have begun when the rule is gone.
    events.push(("before any change", weft.send_event("a.b", json!({ "n": 1 })).await, "completed", 1));
    weft.patch(&path, json!({ "active": false })).await.answered(200, "off");
    events.push(("while it was off", weft.send_event("a.b", json!({ "n": 2 })).await, "completed", 0));
    weft.patch(&path, json!({ "active": true })).await.answered(200, "on");
    events.push(("when it was on again", weft.send_event("a.b", json!({ "n": 3 })).await, "completed", 1));
    weft.delete(&path).await.answered(200, "gone");
    events.push(("when it was gone", weft.send_event("a.b", json!({ "n": 4 })).await, "completed", 0));
    for (why, id, status, deliveries) in events {
        let event = weft.event_as(&id, status).await;
        assert_eq!(event["total_rules"], deliveries, "{why}");
    }
    assert_eq!(receiver.received(2).await.len(), 2);
    weft.stop().await;
}

#[tokio::test]
async fn an_event_without_a_resource_has_the_resource_global() {
    let (weft, receiver) = (Weft::start().await, Receiver::start(Reply::ok).await);
    let connection = weft.webhook(&receiver.url("/")).await;
    let global =
        weft.rule_with(json!({ "event": "a.b", "connection": connection, "resource": "global" })).await;
    let narrow =
        weft.rule_with(json!({ "event": "a.b", "connection": connection, "resource_id": "1" })).await;
    let event = weft.send_event("a.b", json!({ "n": 1 })).await;
    let event = weft.event_as(&event, "completed").await;
    assert_eq!((&event["total_rules"], &event["rule_events"][0]["rule"]), (&json!(1), &json!(global)));
    let told = &event["unmatched_rules"][0];
    assert_eq!(
        (&told["rule"], &told["reason"]),
        (&json!(narrow), &json!(r#"resource_id is absent, the rule wants "1""#))
    );
    weft.stop().await;
}

/// Workspaces of one organization are apart as well: an event meets the rules of its own only.
#[tokio::test]
async fn an_event_meets_the_rules_of_its_own_workspace_only() {
    let (weft, ours, theirs) =
        (Weft::start().await, Receiver::start(Reply::ok).await, Receiver::start(Reply::ok).await);
    let (sibling, their_key) = weft.sibling("sibling").await;
    let rule = weft.rule("a.b", &weft.webhook(&ours.url("/")).await).await;
    let metadata = json!({ "url": theirs.url("/"), "skip_test": true });
    let body = json!({ "workspace": sibling, "type": "webhook", "name": "Theirs", "metadata": metadata });
    let connection = weft.post("/connections", body).await.answered(201, "theirs");
    let body = json!({ "workspace": sibling, "connection": connection["connection"]["id"], "event": "*", "metadata": { "action": "send_webhook" } });
    let their_rule = weft.post("/rules", body).await.answered(201, "theirs");

    let event = weft.send_event("a.b", json!({ "whose": "ours" })).await;
    let sent = weft.request(Method::POST, "/api/v1/events").header("x-meshes-publishable-key", their_key);
    let sent = send(sent.json(&json!({ "event": "a.b", "payload": { "whose": "theirs" } })))
        .await
        .answered(201, "theirs");
    let theirs_shown = weft.event_as(&text(&sent["event"]["id"]), "completed").await;
    let shown = weft.event_as(&event, "completed").await;
    for (why, event, rule, receiver, whose) in [
        ("ours", &shown, &rule, &ours, "ours"),
        ("theirs", &theirs_shown, &text(&their_rule["rule"]["id"]), &theirs, "theirs"),
    ] {
        assert_eq!((&event["total_rules"], &event["unmatched_rules"]), (&json!(1), &json!([])), "{why}");
        assert_eq!(event["rule_events"][0]["rule"], rule.as_str(), "{why}");
        let came = receiver.so_far();
        assert_eq!((came.len(), &came[0].json()["payload"]["whose"]), (1, &json!(whose)), "{why}");
    }
    for list in ["connections", "rules", "events"] {
        let of = async |workspace: &str| {
            ids(&weft.get(&format!("/workspaces/{workspace}/{list}")).await.answered(200, list))
        };
        let (ours, theirs) = (of(&weft.workspace).await, of(&sibling).await);
        assert_eq!((ours.len(), theirs.len()), (1, 1), "{list}");
        assert_ne!(ours, theirs, "{list}");
    }
    weft.stop().await;
}
