//! Replays over HTTP: one or many, counted first, and told what to do.

use crate::support::{Receiver, Reply, Weft, assert_members, ids, text, until};
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering::Relaxed},
};

/// A receiver that answers what the number says.
async fn receiver(status: u16) -> (Receiver, Arc<AtomicU16>) {
    let answers = Arc::new(AtomicU16::new(status));
    let says = answers.clone();
    (Receiver::start(move |_, _| Reply::status(says.load(Relaxed))).await, answers)
}

impl Weft {
    /// Events of this name, once they have failed.
    async fn failures(&self, name: &str, count: usize) -> Vec<String> {
        let mut events = Vec::new();
        for n in 0..count {
            events.push(self.send_event(name, json!({ "n": n })).await);
        }
        for event in &events {
            self.event_as(event, "failed").await;
        }
        events
    }

    async fn replay(&self, filter: Value) -> Value {
        let made = self.post("/replays", json!({ "workspace": self.workspace, "filter": filter })).await;
        made.answered(201, "a replay")["replay"].clone()
    }
}

#[tokio::test]
async fn failures_are_counted_and_then_replayed() {
    let (weft, (receiver, answers)) = (Weft::start().await, receiver(400).await);
    let connection = weft.webhook(&receiver.url("/")).await;
    let rule = weft.rule("a.b", &connection).await;
    let events = weft.failures("a.b", 5).await;
    answers.store(200, Relaxed);
    let fine = weft.send_event("a.b", json!({ "n": 5 })).await;
    weft.event_as(&fine, "completed").await;

    let body = json!({ "workspace": weft.workspace, "filter": { "status": "failed" }, "dry_run": true });
    let count = weft.post("/replays", body).await.answered(200, "a count");
    assert_members(&count, &["dry_run", "count", "events", "matched", "skipped", "exact"], "a count");
    assert_eq!((&count["count"], &count["events"], &count["exact"]), (&json!(5), &json!(5), &json!(true)));
    let list = format!("/replays?workspace_id={}", weft.workspace);
    assert_eq!(weft.get(&list).await.answered(200, "a list")["count"], 0, "nothing was made");
    assert_eq!(receiver.so_far().len(), 6, "nothing was sent");

    let made = weft.replay(json!({ "status": "failed", "connection": connection })).await;
    #[rustfmt::skip]
    let members = ["id", "workspace", "state", "filter", "as_of", "rate_per_second", "expected", "matched", "queued",
                   "skipped", "completed", "failed", "canceled", "retrying", "created_by", "created_at", "updated_at"];
    assert_members(&made, &members, "as it is made");
    assert_eq!((&made["as_of"], &made["rate_per_second"]), (&json!("then"), &json!(100.0)));
    assert_eq!(made["created_by"], json!(weft.machine.access_key));
    assert_eq!(
        (&made["filter"]["status"], &made["filter"]["connection"]),
        (&json!("failed"), &json!(connection))
    );
    let over = weft.replay_over(&text(&made["id"])).await;
    let counts = ["expected", "matched", "queued", "completed", "failed"].map(|name| over[name].clone());
    assert_eq!((&over["state"], counts), (&json!("finished"), [5, 5, 5, 5, 0].map(|n| json!(n))));
    assert!(over["ended_at"].is_string());

    for event in &events {
        let shown = weft.event_as(event, "completed").await;
        assert_eq!(
            (&shown["total_rules"], &shown["completed_count"], &shown["failed_count"]),
            (&json!(1), &json!(1), &json!(0))
        );
        let [again, first] = &shown["rule_events"].as_array().expect("a list")[..] else { panic!("{shown}") };
        assert_eq!(
            (&again["replay_of"], &again["replay_id"], &again["status"]),
            (&first["id"], &made["id"], &json!("completed"))
        );
        assert_eq!((first.get("replay_of"), &first["status"]), (None, &json!("failed")));
        // Each by its own id; by the rule's the one that stands for it.
        for (by, expected) in [(&rule, 200), (&text(&again["id"]), 200), (&text(&first["id"]), 400)] {
            let path = format!("/events/{event}/rules/{by}/attempts");
            let attempts = weft.get(&path).await.answered(200, "attempts");
            assert_eq!(
                (&attempts["count"], &attempts["records"][0]["http_status"]),
                (&json!(1), &json!(expected)),
                "{by}"
            );
        }
        let retry = format!("/events/{event}/rules/{}/retry", text(&first["id"]));
        weft.ask(Method::POST, &retry, None).await.refused(
            409,
            "was replayed",
            "the one that does not stand",
        );
    }
    let ids_sent: std::collections::BTreeSet<_> =
        receiver.so_far().iter().map(|it| it.header("x-weft-delivery-id").map(str::to_owned)).collect();
    assert_eq!(ids_sent.len(), 11, "each under an id of its own");
    assert_eq!(weft.get("/events?status=failed").await.answered(200, "events")["count"], 0);

    let one = weft.replay(json!({ "event_id": fine, "rule": rule })).await;
    let over = weft.replay_over(&text(&one["id"])).await;
    assert_eq!((&over["queued"], &over["completed"]), (&json!(1), &json!(1)));
    let listed = weft.get(&list).await.answered(200, "a list");
    assert_eq!(ids(&listed), [text(&one["id"]), text(&made["id"])], "newest first");
    let first = weft.get(&format!("{list}&limit=1")).await.answered(200, "a page");
    let cursor = text(&first["next_cursor"]);
    let second = weft.get(&format!("{list}&limit=1&cursor={cursor}")).await.answered(200, "the next page");
    assert_eq!((ids(&second), &second["next_cursor"]), (vec![text(&made["id"])], &Value::Null));
    let weft = weft.restart().await;
    let kept = weft.get(&format!("/replays/{}", text(&made["id"]))).await.answered(200, "kept");
    assert_eq!((&kept["replay"]["completed"], &kept["replay"]["state"]), (&json!(5), &json!("finished")));
    weft.stop().await;
}

#[tokio::test]
async fn a_replay_is_paused_resumed_and_canceled() {
    let (weft, (receiver, answers)) = (Weft::start().await, receiver(400).await);
    let connection = weft.webhook(&receiver.url("/")).await;
    weft.rule("a.b", &connection).await;
    weft.failures("a.b", 4).await;
    answers.store(200, Relaxed);
    let body = json!({ "workspace": weft.workspace, "filter": { "status": "failed" }, "rate_per_second": 0.01, "as_of": "now" });
    let made = weft.post("/replays", body).await.answered(201, "a slow one")["replay"].clone();
    assert_eq!((&made["as_of"], &made["rate_per_second"]), (&json!("now"), &json!(0.01)));
    let path = format!("/replays/{}", text(&made["id"]));
    until("its first one went out", async || {
        (weft.get(&path).await.answered(200, "it")["replay"]["completed"] == 1).then_some(())
    })
    .await;
    let tell = async |body: Value| weft.patch(&path, body).await;
    let state = |answer: Value| text(&answer["replay"]["state"]);
    assert_eq!(state(tell(json!({ "state": "paused" })).await.answered(200, "paused")), "paused");
    assert_eq!(state(tell(json!({})).await.answered(200, "nothing is asked")), "paused");
    let faster = tell(json!({ "rate_per_second": 5_000 })).await.answered(200, "faster");
    assert_eq!(
        (state(faster.clone()), &faster["replay"]["rate_per_second"]),
        ("paused".into(), &json!(5000.0))
    );
    let weft = weft.restart().await;
    let tell = async |body: Value| weft.patch(&path, body).await;
    let kept = weft.get(&path).await.answered(200, "after a restart")["replay"].clone();
    assert_eq!((&kept["state"], &kept["queued"]), (&json!("paused"), &json!(1)));
    tell(json!({ "state": "running" })).await.answered(200, "it goes on");
    let over = weft.replay_over(&text(&made["id"])).await;
    assert_eq!((&over["completed"], receiver.so_far().len()), (&json!(4), 8));
    for body in [
        json!({ "state": "paused" }),
        json!({ "state": "running" }),
        json!({ "state": "canceled" }),
        json!({ "rate_per_second": 1 }),
    ] {
        tell(body.clone()).await.refused(409, "the replay is finished", &body.to_string());
    }
    let one = weft
        .post("/replays", json!({ "workspace": weft.workspace, "filter": {}, "rate_per_second": 0.01 }))
        .await;
    let id = text(&one.answered(201, "another")["replay"]["id"]);
    weft.patch(&format!("/replays/{id}"), json!({ "state": "canceled" })).await.answered(200, "canceled");
    let over = weft.replay_over(&id).await;
    assert_eq!(over["state"], "canceled");
    let again = weft.patch(&format!("/replays/{id}"), json!({ "state": "running" })).await;
    again.refused(409, "the replay is canceled", "it does not come back");
    weft.stop().await;
}

#[tokio::test]
async fn what_does_not_fit_a_replay_is_refused_by_name() {
    let weft = Weft::start().await;
    let filter = |filter: Value| json!({ "workspace": weft.workspace, "filter": filter });
    let with = |name: &str, value: Value| {
        let mut body = json!({ "workspace": weft.workspace, "filter": {} });
        body[name] = value;
        body
    };
    let long = "x".repeat(256);
    #[rustfmt::skip]
    let cases = [
        // why                          body                                                             param                   says
        ("no workspace",                json!({ "filter": {} }),                                         "workspace",            "is required"),
        ("null",                        with("workspace", Value::Null),                                  "workspace",            "must be a string"),
        ("a number",                    with("workspace", json!(5)),                                     "workspace",            "must be a string"),
        ("empty",                       with("workspace", json!("")),                                    "workspace",            "must be a UUID"),
        ("no filter",                   json!({ "workspace": weft.workspace }),                          "filter",               "is required"),
        ("null",                        with("filter", Value::Null),                                     "filter",               "must be an object"),
        ("a list",                      with("filter", json!([])),                                       "filter",               "must be an object"),
        ("a mistyped filter",           filter(json!({ "conection": weft.workspace })),                  "filter.conection",     "must be one of"),
        ("no id",                       filter(json!({ "connection": "mine" })),                         "filter.connection",    "must be a UUID"),
        ("a number",                    filter(json!({ "rule": 5 })),                                    "filter.rule",          "must be a string"),
        ("empty",                       filter(json!({ "event_id": "" })),                               "filter.event_id",      "must be a UUID"),
        ("no name",                     filter(json!({ "event": "" })),                                  "filter.event",         "must be 1 to 255"),
        ("too long",                    filter(json!({ "event": long })),                                "filter.event",         "must be 1 to 255"),
        ("not over",                    filter(json!({ "status": "pending" })),                          "filter.status",        "must be completed"),
        ("unknown",                     filter(json!({ "status": "Failed" })),                           "filter.status",        "must be completed"),
        ("unknown",                     filter(json!({ "outcome_code": "nope" })),                       "filter.outcome_code",  "must be an outcome_code"),
        ("no time",                     filter(json!({ "from": "yesterday" })),                          "filter.from",          "RFC 3339"),
        ("a number",                    filter(json!({ "to": 1 })),                                      "filter.to",            "must be a string"),
        ("the wrong way round",         filter(json!({ "from": "2026-03-15T12:00:00Z", "to": "2026-03-15T12:00:00Z" })), "filter.to", "must be later"),
        ("text",                        filter(json!({ "include_tests": "yes" })),                       "filter.include_tests", "must be a boolean"),
        ("unknown",                     with("as_of", json!("later")),                                   "as_of",                "must be then or now"),
        ("a number",                    with("as_of", json!(1)),                                         "as_of",                "must be a string"),
        ("text",                        with("rate_per_second", json!("fast")),                          "rate_per_second",      ""),
        ("zero",                        with("rate_per_second", json!(0)),                               "rate_per_second",      "must be from 0.01 to 5000"),
        ("too slow",                    with("rate_per_second", json!(0.009)),                           "rate_per_second",      "must be from 0.01 to 5000"),
        ("too fast",                    with("rate_per_second", json!(5_000.1)),                         "rate_per_second",      "must be from 0.01 to 5000"),
        ("text",                        with("dry_run", json!("yes")),                                   "dry_run",              "must be a boolean"),
    ];
    for (why, body, param, says) in cases {
        let why = format!("{param}: {why}");
        let answer = weft.post("/replays", body.clone()).await;
        answer.refused(400, says, &why);
        assert_eq!(answer.params()[0], param, "{why}: {}", answer.text);
    }
    let many = json!({ "workspace": "mine", "filter": { "rule": "mine", "status": "done" }, "as_of": "x" });
    let answer = weft.post("/replays", many).await;
    assert_eq!(answer.params(), ["workspace", "filter.status", "filter.rule", "as_of"], "all are told");

    for (why, workspace) in
        [("unknown", uuid::Uuid::now_v7().to_string()), ("another's", weft.stranger().await.1)]
    {
        for dry_run in [true, false] {
            let body = json!({ "workspace": workspace, "filter": {}, "dry_run": dry_run });
            weft.post("/replays", body).await.refused(404, "workspace not found", why);
        }
        let list = format!("/replays?workspace_id={workspace}");
        weft.get(&list).await.refused(404, "workspace not found", why);
    }
    weft.get("/replays").await.refused(400, "workspace_id is required", "no workspace");
    weft.get("/replays?workspace_id=mine").await.refused(400, "workspace_id must be a UUID", "no id");
    weft.get("/replays/mine").await.refused(404, "replay not found", "no id");
    let list = format!("/replays?workspace_id={}", weft.workspace);
    assert_eq!(weft.get(&list).await.answered(200, "a list")["count"], 0, "nothing was made");

    let edges = json!({ "event": "x".repeat(255), "to": "2026-03-15T12:00:00Z", "rule": null });
    for rate in [0.01, 5_000.0] {
        let body =
            json!({ "workspace": weft.workspace, "filter": edges, "rate_per_second": rate, "unknown": 1 });
        let made = weft.post("/replays", body).await.answered(201, "at the edge");
        weft.replay_over(&text(&made["replay"]["id"])).await;
    }
    let id = ids(&weft.get(&list).await.answered(200, "a list")).remove(0);
    for (why, body, param) in [
        ("unknown", json!({ "state": "stopped" }), "state"),
        ("not to be asked for", json!({ "state": "finished" }), "state"),
        ("not to be asked for", json!({ "state": "counting" }), "state"),
        ("a number", json!({ "state": 1 }), "state"),
        ("zero", json!({ "rate_per_second": 0 }), "rate_per_second"),
        ("too fast", json!({ "rate_per_second": 5_001 }), "rate_per_second"),
    ] {
        let answer = weft.patch(&format!("/replays/{id}"), body).await;
        answer.refused(400, "", why);
        assert_eq!(answer.params()[0], param, "{why}: {}", answer.text);
    }
    weft.stop().await;
}

#[tokio::test]
async fn what_is_left_out_says_why() {
    let (weft, (receiver, answers)) = (Weft::start().await, receiver(400).await);
    let [paused, deleted, kept] = [
        weft.webhook(&receiver.url("/p")).await,
        weft.webhook(&receiver.url("/d")).await,
        weft.webhook(&receiver.url("/k")).await,
    ];
    for connection in [&paused, &deleted, &kept] {
        weft.rule("a.b", connection).await;
    }
    weft.failures("a.b", 2).await;
    answers.store(200, Relaxed);
    weft.ask(Method::POST, &format!("/connections/{paused}/pause"), None).await.answered(200, "paused");
    weft.ask(Method::DELETE, &format!("/connections/{deleted}"), Some(json!({ "force_delete": true })))
        .await
        .answered(200, "deleted");
    let made = weft.replay(json!({})).await;
    let over = weft.replay_over(&text(&made["id"])).await;
    assert_eq!((&over["matched"], &over["queued"], &over["completed"]), (&json!(6), &json!(2), &json!(2)));
    let skipped = &over["skipped"];
    assert_eq!(
        (
            &skipped["total"],
            &skipped["connection_paused"],
            &skipped["connection_deleted"],
            &skipped["unfinished"]
        ),
        (&json!(4), &json!(2), &json!(2), &json!(0))
    );
    weft.stop().await;
}
