//! What was used is told by workspace and day, and plans say what is too much, what to change, and from when on
//! there is room again.

use crate::support::{Answer, Receiver, Weft, assert_members, send, text, until};
use actors::{
    clock::{Clock, ClockLever},
    domain::{
        plan::{OnEventsExceeded, Plan},
        timestamp::Timestamp,
    },
    engine::MachineKeyClear,
};
use reqwest::Method;
use serde_json::{Value, json};

const DAY_MS: i64 = 24 * 3_600_000;
/// 2026-03-15T12:00:00Z.
const NOON: Timestamp = Timestamp(1_773_576_000_000);

/// A server on a day of the test's own, where everybody has this plan.
async fn weft_with(plan: Plan) -> (Weft, ClockLever) {
    let (clock, lever) = Clock::tokio(NOON);
    let set = |config: &mut weft::config::Config| {
        config.plans.insert("small".to_owned(), plan);
        config.plan = Some("small".to_owned());
    };
    (Weft::at(clock, set, |_| {}).await, lever)
}

fn event() -> Value {
    json!({ "event": "a.b", "payload": { "a": 1 } })
}

async fn rows(weft: &Weft, path: &str) -> Vec<Value> {
    let page = weft.get(path).await.answered(200, path);
    assert_members(&page, &["count", "limit", "next_cursor", "records"], path);
    assert_eq!(page["next_cursor"], Value::Null, "{path}");
    page["records"].as_array().expect("a list").clone()
}

fn assert_exceeded(answer: &Answer, status: u16, limit: &str, why: &str) {
    answer.assert_error(status, limit, why);
    assert_eq!(answer.body["error"]["name"], "PlanLimitExceeded", "{why}: {answer:?}");
    assert!(text(&answer.body["message"]).contains("have the plan changed"), "{why}: {answer:?}");
}

/// Each thing counts on the day it happens, also after a restart; tests do not count.
#[tokio::test]
async fn what_was_used_is_told_by_workspace_and_day() {
    let (weft, lever) = weft_with(Plan::default()).await;
    let receiver = Receiver::script(&[500]).await;
    let connection = weft.webhook(&receiver.url("/")).await;
    weft.rule("a.b", &connection).await;
    let (other, _) = weft.another_workspace("other").await;
    let to_other = json!({ "workspace": other, "event": "a.c", "payload": { "a": 1 } });
    assert_eq!(weft.post("/events", to_other.clone()).await.status, 201);
    let test = json!({ "event": "a.b" });
    let tested = weft.post(&format!("/workspaces/{}/events/test", weft.workspace), test).await;
    assert_eq!(tested.status, 201, "{tested:?}");
    assert_eq!(weft.emit(json!([event(), event()])).await.status, 201);
    let own = format!("/workspaces/{}/usage", weft.workspace);
    let row = |workspace: &str, day: &str, numbers: [u64; 4]| {
        let [events, deliveries, attempts, delivered] = numbers;
        json!({
            "workspace": workspace, "day": day, "events": events, "deliveries": deliveries,
            "attempts": attempts, "delivered": delivered,
        })
    };
    let first = row(&weft.workspace, "2026-03-15", [2, 2, 8, 0]);
    until("all tries are over", async || (rows(&weft, &own).await == [first.clone()]).then_some(())).await;

    lever.jump_ms(DAY_MS);
    let weft = weft.restart().await;
    assert_eq!(weft.emit(event()).await.status, 201);
    assert_eq!(weft.post("/events", to_other).await.status, 201);
    let second = row(&weft.workspace, "2026-03-16", [1, 1, 4, 0]);
    let both = [first.clone(), second.clone()];
    until("all tries are over", async || (rows(&weft, &own).await == both).then_some(())).await;
    let others = ["2026-03-15", "2026-03-16"].map(|day| row(&other, day, [1, 0, 0, 0]));
    let all = [both.to_vec(), others.to_vec()].concat();
    #[rustfmt::skip]
    let cases = [
        // asked for                                       expected
        ("/usage".to_owned(),                              all.clone()),
        ("/usage?from=2026-03-15&to=2026-03-16".to_owned(), all.clone()),
        ("/usage?from=1970-01-01&to=9999-12-30".to_owned(), all.clone()),
        ("/usage?to=2026-03-15".to_owned(),                vec![first, others[0].clone()]),
        ("/usage?from=2026-03-16".to_owned(),              vec![second, others[1].clone()]),
        ("/usage?from=2026-02-01&to=2026-02-28".to_owned(), vec![]),
        ("/usage?to=2026-02-28".to_owned(),                vec![]),
        (format!("/usage?workspace={other}"),              others.to_vec()),
        (format!("/workspaces/{other}/usage"),             others.to_vec()),
    ];
    for (path, expected) in cases {
        assert_eq!(rows(&weft, &path).await, expected, "{path}");
    }
    for limit in 1..=5 {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/usage?from=2026-03-01&limit={limit}{cursor}");
            let page = weft.get(&path).await.answered(200, &path);
            assert_eq!(page["limit"], limit);
            seen.extend(page["records"].as_array().expect("a list").clone());
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
            assert!(seen.len() < 9, "it ends");
        }
        assert_eq!(seen, all, "by {limit}");
    }
    weft.stop().await;
}

#[tokio::test]
async fn what_is_no_question_about_usage_is_refused_by_name() {
    let weft = Weft::start().await;
    let (stranger, their_workspace, _) = weft.stranger().await;
    weft.another_workspace("other").await;
    weft.emit(event()).await;
    let elsewhere = weft.get("/workspaces?limit=1").await.answered(200, "a list");
    let elsewhere = text(&elsewhere["next_cursor"]);
    let long = "1".repeat(300);
    #[rustfmt::skip]
    let cases = [
        // query                              status  field
        ("from=".to_owned(),                   400, "from"),
        ("from=yesterday".to_owned(),          400, "from"),
        ("from=2026-02-29".to_owned(),         400, "from"),
        ("from=2026-2-1".to_owned(),           400, "from"),
        ("from=2026-02-01T00:00:00Z".to_owned(), 400, "from"),
        (format!("from={long}"),               400, "from"),
        ("to=1772323200".to_owned(),           400, "to"),
        ("to=".to_owned(),                     400, "to"),
        ("from=2026-03-02&to=2026-03-01".to_owned(), 400, "to"),
        ("limit=0".to_owned(),                 400, "limit"),
        ("limit=1001".to_owned(),              400, "limit"),
        ("limit=1000".to_owned(),              200, ""),
        ("cursor=".to_owned(),                 400, "cursor"),
        ("cursor=AAAA".to_owned(),             400, "cursor"),
        (format!("cursor={long}"),             400, "cursor"),
        (format!("cursor={elsewhere}"),        400, "cursor"),
    ];
    for path in ["/usage".to_owned(), format!("/workspaces/{}/usage", weft.workspace)] {
        for (query, status, field) in &cases {
            let answer = weft.get(&format!("{path}?{query}")).await;
            match status {
                200 => assert_eq!(answer.status, 200, "{query}: {answer:?}"),
                status => answer.assert_error(*status, field, query),
            }
        }
    }
    weft.get("/usage?workspace=mine").await.assert_error(400, "workspace", "no UUID");
    for workspace in [&their_workspace, "4c8a1e5e-0000-4000-8000-000000000001"] {
        let answer = weft.get(&format!("/usage?workspace={workspace}")).await;
        answer.refused(404, "workspace not found", "another's");
        weft.get(&format!("/workspaces/{workspace}/usage")).await.refused(
            404,
            "workspace not found",
            "another's",
        );
    }
    let theirs = weft.ask_as(&weft.token_of(&stranger), Method::GET, "/usage", None).await;
    assert_eq!(theirs.answered(200, "their own")["records"], json!([]));
    weft.stop().await;
}

/// A key that is limited to workspaces sees what those used, and nothing of the whole organization.
#[tokio::test]
async fn a_limited_key_sees_the_usage_of_its_workspaces() {
    let weft = Weft::start().await;
    let (one, _) = weft.another_workspace("one").await;
    let (two, _) = weft.another_workspace("two").await;
    for workspace in [&weft.workspace, &one, &two] {
        let sent = weft
            .post("/events", json!({ "workspace": workspace, "event": "a.b", "payload": { "a": 1 } }))
            .await;
        assert_eq!(sent.status, 201, "{sent:?}");
    }
    for seen in [vec![one.clone()], vec![one.clone(), two]] {
        let body = json!({ "name": format!("for {}", seen.len()), "workspaces": seen });
        let made = weft.post("/keys", body).await.answered(201, "a key")["key"].clone();
        let key = MachineKeyClear {
            access_key: text(&made["access_key"]),
            secret: actors::domain::secret::Secret::new(text(&made["secret_key"])),
            ..weft.machine.clone()
        };
        let ask = async |path: &str| weft.ask_as(&weft.token_of(&key), Method::GET, path, None).await;
        let page = ask("/usage").await.answered(200, "a list");
        let of = page["records"].as_array().expect("a list").iter();
        assert_eq!(of.map(|row| text(&row["workspace"])).collect::<Vec<_>>(), seen);
        ask("/plan").await.refused(403, "may not", "the whole organization's");
        let elsewhere = ask(&format!("/workspaces/{}/usage", weft.workspace)).await;
        elsewhere.refused(404, "workspace not found", "not the key's");
    }
    weft.stop().await;
}

/// Without a plan nothing is limited, and what there is is told all the same.
#[tokio::test]
async fn without_a_plan_there_is_no_limit() {
    let (clock, _) = Clock::tokio(NOON);
    let weft = Weft::at(clock, |_| {}, |_| {}).await;
    assert_eq!(weft.emit(json!([event(), event()])).await.status, 201);
    let of = |used: u64| json!({ "limit": null, "used": used, "exceeded": false });
    let expected = json!({
        "name": null,
        "limits": {
            "events_per_month": of(2), "workspaces": of(1), "connections": of(0), "rules": of(0),
            "members": of(0),
        },
        "on_events_exceeded": "accept",
        "retention_days": null,
        "month": "2026-03-01",
        "month_ends_at": "2026-04-01T00:00:00.000Z",
    });
    assert_eq!(weft.get("/plan").await.answered(200, "no plan"), expected);
    weft.stop().await;
}

/// At the limit of its plan an organization is told so, and what to change; and what was there goes on.
#[tokio::test]
async fn a_plan_limits_workspaces_connections_and_rules() {
    let plan = Plan { workspaces: Some(2), connections: Some(1), rules: Some(1), ..Plan::default() };
    let (weft, _) = weft_with(plan).await;
    let workspace = async |name: &str| weft.post("/workspaces", json!({ "name": name })).await;
    let connection = async |name: &str| {
        let metadata = json!({ "url": "https://127.0.0.1:9/", "skip_test": true });
        let body =
            json!({ "workspace": weft.workspace, "type": "webhook", "name": name, "metadata": metadata });
        weft.post("/connections", body).await
    };
    let rule = async |event: &str, connection: &Value| {
        let metadata = json!({ "action": "send_webhook" });
        let body = json!({ "workspace": weft.workspace, "connection": connection, "event": event, "metadata": metadata });
        weft.post("/rules", body).await
    };
    workspace("second").await.answered(201, "there is room for it");
    assert_exceeded(&workspace("third").await, 403, "workspaces", "a third");
    let first = connection("first").await.answered(201, "there is room for it")["connection"]["id"].clone();
    assert_exceeded(&connection("second").await, 403, "connections", "a second");
    let kept = rule("a.b", &first).await.answered(201, "there is room for it")["rule"]["id"].clone();
    assert_exceeded(&rule("a.c", &first).await, 403, "rules", "a second");

    let limits = weft.get("/plan").await.answered(200, "a plan")["limits"].clone();
    for (key, count) in [("workspaces", 2), ("connections", 1), ("rules", 1)] {
        assert_eq!(limits[key], json!({ "limit": count, "used": count, "exceeded": false }));
    }
    // What is there can still be changed, and its place be taken.
    let changed = weft.patch(&format!("/rules/{}", text(&kept)), json!({ "event": "a.d" })).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    assert_eq!(weft.delete(&format!("/rules/{}", text(&kept))).await.status, 200);
    rule("a.c", &first).await.answered(201, "there is room again");
    let path = format!("/connections/{}", text(&first));
    let deleted = weft.ask(Method::DELETE, &path, Some(json!({ "force_delete": true }))).await;
    assert_eq!(deleted.status, 200, "{deleted:?}");
    connection("second").await.answered(201, "there is room again");
    weft.stop().await;
}

/// Events beyond a plan that refuses them get 429 until the month is over, each of a list by itself; also
/// after a restart. Other organizations go on.
#[tokio::test]
async fn a_plan_may_refuse_events_until_the_month_is_over() {
    let on_events_exceeded = OnEventsExceeded::Refuse;
    let (weft, lever) =
        weft_with(Plan { events_per_month: Some(5), on_events_exceeded, ..Plan::default() }).await;
    let once = async |weft: &Weft, key: &str, body: Value| {
        let request = weft.request(Method::POST, "/api/v1/events").header("idempotency-key", key);
        send(request.header("x-meshes-publishable-key", &weft.publishable_key).json(&body)).await
    };
    let first = once(&weft, "k", event()).await;
    assert_eq!(first.status, 201, "{first:?}");
    let bad = json!({ "event": "a.b" });
    let mixed = weft.emit(json!([event(), bad, event(), event(), event(), event()])).await;
    assert_eq!(mixed.status, 207, "{mixed:?}");
    assert_eq!((&mixed.body["count"], &mixed.body["error_count"]), (&json!(6), &json!(2)));
    assert_eq!(mixed.body["records"][1]["error"]["name"], "BadRequest");
    assert_eq!(mixed.body["records"][5]["error"]["name"], "PlanLimitExceeded");
    let weft = weft.restart().await;
    for (why, body) in [("one", event()), ("a list", json!([event(), event()]))] {
        let refused = weft.emit(body).await;
        assert_exceeded(&refused, 429, "events_per_month", why);
        assert!(text(&refused.body["message"]).contains("from 2026-04-01T00:00:00"), "{refused:?}");
        let seconds: i64 =
            refused.header("retry-after").and_then(|text| text.parse().ok()).expect("a number");
        let left = Timestamp(NOON.0 + 17 * DAY_MS - DAY_MS / 2).since(NOON).as_secs() as i64;
        assert!((left - 60..=left + 1).contains(&seconds), "{seconds}, not {left}");
    }
    // What was accepted is accepted: its sender is told so again.
    let again = once(&weft, "k", event()).await;
    assert_eq!((again.status, &again.text), (201, &first.text));
    once(&weft, "k", json!({ "event": "other", "payload": { "a": 1 } }))
        .await
        .assert_error(409, "", "another");
    assert_exceeded(&once(&weft, "new", event()).await, 429, "events_per_month", "a new key");
    let by_machine = json!({ "workspace": weft.workspace, "event": "a.b", "payload": { "a": 1 } });
    assert_exceeded(&weft.post("/events", by_machine).await, 429, "events_per_month", "a machine's");
    let used = weft.get("/plan").await.answered(200, "a plan")["limits"]["events_per_month"].clone();
    assert_eq!(used, json!({ "limit": 5, "used": 5, "exceeded": false }));
    assert_eq!(weft.events().await.len(), 5, "what was refused is not there");
    let (stranger, theirs, _) = weft.stranger().await;
    let body = json!({ "workspace": theirs, "event": "a.b", "payload": { "a": 1 } });
    let there = weft.ask_as(&weft.token_of(&stranger), Method::POST, "/events", Some(body)).await;
    assert_eq!(there.status, 201, "{there:?}");

    lever.jump_ms(17 * DAY_MS);
    let weft = weft.restart().await;
    assert_eq!(weft.emit(event()).await.status, 201, "another month");
    weft.stop().await;
}

/// A plan may also take them, and says that there are more than it allows.
#[tokio::test]
async fn a_plan_may_accept_events_beyond_it_and_says_so() {
    let (weft, _) = weft_with(Plan { events_per_month: Some(2), ..Plan::default() }).await;
    for (count, exceeded) in [(1, false), (2, false), (3, true), (4, true)] {
        assert_eq!(weft.emit(event()).await.status, 201);
        let used = weft.get("/plan").await.answered(200, "a plan")["limits"]["events_per_month"].clone();
        assert_eq!(used, json!({ "limit": 2, "used": count, "exceeded": exceeded }));
    }
    weft.stop().await;
}
