//! Finding events: by id, time, delivery and what the payload says; and all of them as one stream.

use crate::support::{Receiver, Reply, Weft, ids, send, text};
use reqwest::Method;
use serde_json::{Value, json};

/// A workspace with five events: two were delivered, one was refused, two met no rule.
struct World {
    weft: Weft,
    own: String,
    /// The events, oldest first.
    events: Vec<String>,
    rules: [String; 2],
    connections: [String; 2],
}

impl World {
    async fn new() -> Self {
        let (good, bad) = (Receiver::start(Reply::ok).await, Receiver::script(&[400]).await);
        let weft = Weft::start().await;
        let connections = [weft.webhook(&good.url("/")).await, weft.webhook(&bad.url("/")).await];
        let rules =
            [weft.rule("order.paid", &connections[0]).await, weft.rule("order.lost", &connections[1]).await];
        let mut events = Vec::new();
        for (name, payload, status) in [
            ("order.paid", json!({ "email": "ada@example.com", "n": 1 }), "completed"),
            ("order.lost", json!({ "email": "bob@example.com", "n": 2.0 }), "failed"),
            ("order.seen", json!({ "user": { "plan": "pro", "ok": true } }), "completed"),
            ("order.paid", json!({ "email": "bob@example.com", "tags": ["a", "b"] }), "completed"),
            ("order.seen", json!({ "n": "1" }), "completed"),
        ] {
            let event = weft.send_event(name, payload).await;
            weft.event_as(&event, status).await;
            events.push(event);
        }
        let own = format!("/workspaces/{}/events", weft.workspace);
        Self { weft, own, events, rules, connections }
    }

    /// The numbers of the events that pass, newest first, in pages of `limit`.
    async fn found(&self, query: &str, limit: usize) -> Vec<usize> {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        for _ in 0..20 {
            let path = format!("{}?limit={limit}&{query}{cursor}", self.own);
            let page = self.weft.get(&path).await.answered(200, query);
            found.extend(ids(&page));
            let Some(next) = page["next_cursor"].as_str() else { return self.numbers(&found) };
            cursor = format!("&cursor={next}");
        }
        panic!("a list without end");
    }

    fn numbers(&self, ids: &[String]) -> Vec<usize> {
        let number = |id: &String| self.events.iter().position(|event| event == id).expect("one of ours");
        ids.iter().map(number).collect()
    }

    async fn at(&self, event: usize) -> String {
        text(&self.weft.get(&format!("/events/{}", self.events[event])).await.body["created_at"])
    }

    async fn export(&self, query: &str) -> (u16, String, Vec<Value>) {
        let path = format!("/api/v1{}/export?{query}", self.own);
        let answer = send(self.weft.request(Method::GET, &path).bearer_auth(self.weft.token())).await;
        let kind = answer.header("content-type").unwrap_or_default().to_owned();
        let lines = answer.text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON"));
        (answer.status, kind, lines.collect())
    }
}

/// Also what we filter by beyond the contract.
#[tokio::test]
async fn every_filter_finds_what_passes_and_walks_it_once() {
    let world = World::new().await;
    let [first, third] = [world.at(0).await, world.at(2).await];
    let World { events, rules, connections, .. } = &world;
    let unknown = uuid::Uuid::now_v7();
    #[rustfmt::skip]
    let cases = [
        ("".to_owned(),                                              vec![4, 3, 2, 1, 0]),
        ("status=completed".to_owned(),                              vec![4, 3, 2, 0]),
        ("status=failed".to_owned(),                                 vec![1]),
        ("status=pending".to_owned(),                                vec![]),
        ("status=processing".to_owned(),                             vec![]),
        ("status=retrying".to_owned(),                               vec![]),
        ("status=canceled".to_owned(),                               vec![]),
        (format!("id={}", events[2]),                                vec![2]),
        (format!("id={}", events[2].to_uppercase()),                 vec![2]),
        (format!("id={}&event=order.paid", events[2]),               vec![]),
        (format!("id={unknown}"),                                    vec![]),
        (format!("after={third}"),                                   vec![4, 3, 2]),
        (format!("before={third}"),                                  vec![1, 0]),
        (format!("after={first}&before={third}"),                    vec![1, 0]),
        (format!("after={third}&event=order.paid"),                  vec![3]),
        (format!("before={third}&event=order.paid&status=completed"), vec![0]),
        ("after=2999-01-01T00:00:00Z".to_owned(),                    vec![]),
        ("before=0001-01-01T00:00:00Z".to_owned(),                   vec![]),
        ("after=1969-12-31T23:00:00%2B01:00".to_owned(),             vec![4, 3, 2, 1, 0]),
        (format!("rule={}", rules[0]),                               vec![3, 0]),
        (format!("rule={}&outcome=delivered", rules[0]),             vec![3, 0]),
        (format!("rule={}&outcome=timeout", rules[0]),               vec![]),
        (format!("rule={}&connection={}", rules[0], connections[1]), vec![]),
        (format!("connection={}", connections[1]),                   vec![1]),
        ("outcome=rejected_client_error".to_owned(),                 vec![1]),
        ("outcome=delivered".to_owned(),                             vec![3, 0]),
        (format!("rule={unknown}"),                                  vec![]),
        ("payload.email=bob@example.com".to_owned(),                 vec![3, 1]),
        ("payload.email=bob%40example.com&status=failed".to_owned(), vec![1]),
        ("payload.email=Bob@example.com".to_owned(),                 vec![]),
        ("payload.n=1".to_owned(),                                   vec![4, 0]),
        ("payload.n=2".to_owned(),                                   vec![1]),
        ("payload.user.plan=pro&payload.user.ok=true".to_owned(),    vec![2]),
        ("payload.tags.1=b".to_owned(),                              vec![3]),
        ("payload.missing=".to_owned(),                              vec![]),
    ];
    for (query, expected) in cases {
        for limit in [1, 2, 200] {
            assert_eq!(world.found(&query, limit).await, expected, "{query} by {limit}");
        }
        let (status, kind, lines) = world.export(&query).await;
        assert_eq!((status, &*kind), (200, "application/x-ndjson"), "{query}");
        let exported: Vec<String> = lines.iter().map(|line| text(&line["id"])).collect();
        assert_eq!(world.numbers(&exported), expected, "{query} exported");
    }
    // In the whole organization, too.
    let all = world.weft.get(&format!("/events?rule={}&limit=50", world.rules[0])).await;
    assert_eq!(world.numbers(&ids(&all.answered(200, "of the organization"))), [3, 0]);
    world.weft.stop().await;
}

#[tokio::test]
async fn an_exported_line_is_the_event_with_its_deliveries() {
    let world = World::new().await;
    let (_, _, lines) = world.export("").await;
    for (line, event) in lines.iter().zip(world.events.iter().rev()) {
        let shown = world.weft.get(&format!("/events/{event}")).await.answered(200, event);
        assert_eq!(*line, shown);
    }
    assert_eq!(lines[1]["rule_events"][0]["rule"], world.rules[0].as_str());
    world.weft.stop().await;
}

/// More than one piece, and a client that leaves after the first.
#[tokio::test]
async fn an_export_is_streamed_and_ends_when_its_reader_leaves() {
    let weft = Weft::start().await;
    let bulk = |from: usize| {
        let event = |n| json!({ "event": "many", "payload": { "n": n, "text": "x".repeat(200) } });
        Value::Array((from..from + 100).map(event).collect())
    };
    for from in [0, 100, 200] {
        weft.emit(bulk(from)).await.answered(201, "many");
    }
    let path = format!("/api/v1/workspaces/{}/events/export", weft.workspace);
    let whole = send(weft.request(Method::GET, &path).bearer_auth(weft.token())).await;
    assert_eq!(whole.text.lines().count(), 300);
    let leaving = weft.request(Method::GET, &path).bearer_auth(weft.token()).send().await.expect("it begins");
    drop(leaving);
    assert_eq!(weft.get("/workspaces").await.status, 200);
    weft.stop().await;
}

#[tokio::test]
async fn what_is_no_filter_is_refused_by_name() {
    let weft = Weft::start().await;
    let many: String = (0..11).map(|n| format!("payload.a{n}=1&")).collect();
    #[rustfmt::skip]
    let cases = [
        // why                       query                              param
        ("an id that is none",       "id=7",                            "id"),
        ("no id",                    "id=",                             "id"),
        ("a date without time",      "after=2026-03-15",                "after"),
        ("a time without zone",      "after=2026-03-15T12:00:00",       "after"),
        ("a number",                 "before=1773576000",               "before"),
        ("no time",                  "before=",                         "before"),
        ("a rule that is no id",     "rule=mine",                       "rule"),
        ("a connection that is none", "connection=%00",                 "connection"),
        ("an unknown outcome",       "outcome=lost",                    "outcome"),
        ("no outcome",               "outcome=",                        "outcome"),
        ("an unknown status",        "status=lost",                     "status"),
        ("no path",                  "payload.=x",                      "payload."),
        ("a path with a gap",        "payload.a..b=x",                  "payload.a..b"),
        ("a path with a blank",      "payload.a%20b=x",                 "payload.a b"),
        ("a path that is an index",  "payload.0=x",                     "payload.0"),
        ("too many paths",           &many,                             "payload"),
    ];
    for list in ["events", "events/export"] {
        for (why, query, param) in cases {
            let answer = weft.get(&format!("/workspaces/{}/{list}?{query}", weft.workspace)).await;
            answer.assert_error(400, param, why);
        }
    }
    let ignored =
        weft.get(&format!("/workspaces/{}/events?payload=x&payloads.a=1&ids=7", weft.workspace)).await;
    ignored.answered(200, "what nobody asks for is ignored");
    weft.stop().await;
}

/// A preview says of stored events what a rule would have done, and does nothing.
#[tokio::test]
async fn a_draft_is_previewed_over_stored_events() {
    let world = World::new().await;
    let path = format!("/workspaces/{}/rules/preview", world.weft.workspace);
    let has_email = json!({ "path": "email", "op": "exists" });
    #[rustfmt::skip]
    let cases = [
        // draft                                                          looked at  matched      unmatched     why not
        (json!({ "event": "order.paid" }),                                2,         vec![3, 0],  vec![],       ""),
        (json!({ "event": "order.*" }),                                   5,         vec![4, 3, 2, 1, 0], vec![], ""),
        (json!({ "event": "order.*", "last": 2 }),                        2,         vec![4, 3],  vec![],       ""),
        (json!({ "event": "*.paid" }),                                    5,         vec![3, 0],  vec![4, 2, 1], "the rule wants \"*.paid\""),
        (json!({ "event": "*", "conditions": has_email }),                5,         vec![3, 1, 0], vec![4, 2],  "email"),
        (json!({ "event": "order.paid", "resource": "shop" }),            2,         vec![],      vec![3, 0],   "resource"),
        (json!({ "event": "never.sent" }),                                0,         vec![],      vec![],       ""),
    ];
    for (draft, looked_at, matched, unmatched, why_not) in cases {
        let shown = world.weft.post(&path, draft.clone()).await.answered(200, &draft.to_string());
        let numbers = |kind: &str| {
            let examples = shown["examples"][kind].as_array().expect("a list");
            world.numbers(&examples.iter().map(|it| text(&it["event_id"])).collect::<Vec<_>>())
        };
        assert_eq!((&shown["looked_at"], &shown["complete"]), (&json!(looked_at), &json!(true)), "{draft}");
        assert_eq!((&shown["matched"], numbers("matched")), (&json!(matched.len()), matched), "{draft}");
        assert_eq!(
            (&shown["unmatched"], numbers("unmatched")),
            (&json!(unmatched.len()), unmatched),
            "{draft}"
        );
        for miss in shown["examples"]["unmatched"].as_array().expect("a list") {
            assert!(text(&miss["why"]).contains(why_not), "{draft}: {miss}");
        }
    }
    assert_eq!(world.found("", 200).await, [4, 3, 2, 1, 0], "nothing was made of it");
    #[rustfmt::skip]
    let refused = [
        ("no event",            json!({}),                                                  "event"),
        ("an event of null",    json!({ "event": null }),                                   "event"),
        ("an empty event",      json!({ "event": "" }),                                     "event"),
        ("half a star",         json!({ "event": "a.b*" }),                                 "event"),
        ("an empty resource",   json!({ "event": "a", "resource": "" }),                    "resource"),
        ("a bad resource id",   json!({ "event": "a", "resource_id": "a b" }),              "resource_id"),
        ("an unknown op",       json!({ "event": "a", "conditions": { "path": "a", "op": "like", "value": 1 } }), "conditions.op"),
        ("none",                json!({ "event": "a", "last": 0 }),                         "last"),
        ("too many",            json!({ "event": "a", "last": 10_001 }),                    "last"),
        ("some as text",        json!({ "event": "a", "last": "9" }),                       "last"),
        ("a negative number",   json!({ "event": "a", "last": -1 }),                        "last"),
    ];
    for (why, draft, param) in refused {
        world.weft.post(&path, draft).await.assert_error(400, param, why);
    }
    world.weft.stop().await;
}
