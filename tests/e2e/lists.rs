//! Every list: pages by cursor without gap or repetition, and what is no page.

use crate::support::{Receiver, Reply, Weft, ids};
use serde_json::{Value, json};

/// All records of a list, `limit` at a time.
async fn walk(weft: &Weft, path: &str, limit: usize) -> Vec<String> {
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = weft.get(&format!("{path}?limit={limit}{cursor}")).await.answered(200, path);
        let found = ids(&page);
        assert_eq!(page["count"], found.len(), "{path}");
        assert_eq!(page["limit"], limit, "{path}");
        assert!(found.len() <= limit, "{path}");
        seen.extend(found);
        match &page["next_cursor"] {
            Value::Null => return seen,
            next => cursor = format!("&cursor={}", next.as_str().expect("a cursor is text")),
        }
        assert!(seen.len() < 100, "{path}: it ends");
    }
}

#[tokio::test]
async fn cursors_walk_every_list_without_gap_or_repetition() {
    let (weft, receiver) = (Weft::start().await, Receiver::script(&[500]).await);
    let (mut workspaces, mut connections, mut rules, mut events) =
        (vec![weft.workspace.clone()], Vec::new(), Vec::new(), Vec::new());
    for n in 0..4 {
        workspaces.push(weft.sibling(&format!("sibling {n}")).await.0);
        let policy = json!({ "retry": [0, 0, 0, 0] });
        connections.push(weft.webhook_with(&receiver.url("/hook"), json!({}), policy).await);
        rules.push(weft.rule(&format!("list.{n}"), &connections[n]).await);
    }
    for n in 0..5 {
        events.push(weft.send_event(if n == 0 { "list.0" } else { "list.unheard" }, json!({ "n": n })).await);
    }
    let attempts: Vec<_> = weft.attempts(&events[0], &rules[0], 5).await;
    let attempts: Vec<String> = attempts.iter().map(|attempt| crate::support::text(&attempt["id"])).collect();
    let tried = format!("/events/{}/rules/{}/attempts", events[0], rules[0]);
    events.reverse();

    let own = format!("/workspaces/{}", weft.workspace);
    #[rustfmt::skip]
    let lists = [
        // order                list                               records           largest page
        ("the oldest first",    "/workspaces".to_owned(),          &workspaces,      1_000),
        ("the oldest first",    "/connections".to_owned(),         &connections,     1_000),
        ("the oldest first",    format!("{own}/connections"),      &connections,     1_000),
        ("the oldest first",    "/rules".to_owned(),               &rules,           1_000),
        ("the oldest first",    format!("{own}/rules"),            &rules,           1_000),
        ("the newest first",    "/events".to_owned(),              &events,          200),
        ("the newest first",    format!("{own}/events"),           &events,          200),
        ("the oldest first",    tried,                             &attempts,        200),
    ];
    let mut cursors = Vec::new();
    for (order, path, expected, _) in &lists {
        for limit in [1, 2, 3, 5, 200] {
            assert_eq!(&walk(&weft, path, limit).await, *expected, "{path} by {limit}: {order}");
        }
        let first = weft.get(&format!("{path}?limit=1")).await.answered(200, path);
        let cursor = crate::support::text(&first["next_cursor"]);
        assert!(cursor.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)), "{path}: {cursor}");
        cursors.push(cursor);
    }

    for (at, (_, path, _, largest)) in lists.iter().enumerate() {
        let over = largest + 1;
        #[rustfmt::skip]
        let limits = [
            ("none",            "0".to_owned()),
            ("too many",        over.to_string()),
            ("negative",        "-1".to_owned()),
            ("a word",          "all".to_owned()),
            ("nothing",         String::new()),
            ("a fraction",      "1.5".to_owned()),
            ("beyond numbers",  "9".repeat(30)),
        ];
        for (why, limit) in limits {
            let answer = weft.get(&format!("{path}?limit={limit}")).await;
            answer.refused(400, "limit must be a number from 1 to", why);
        }
        let cursor = &cursors[at];
        #[rustfmt::skip]
        let mut broken = vec![
            ("empty",           String::new()),
            ("cut",             cursor[..cursor.len() - 1].to_owned()),
            ("longer",          format!("{cursor}AA")),
            ("another letter",  format!("{}{}", if cursor.starts_with('A') { "B" } else { "A" }, &cursor[1..])),
            ("padded",          format!("{cursor}%3D")),
            ("not base64url",   "%2B%2F%00".to_owned()),
            ("an id",           weft.workspace.clone()),
            ("very long",       "A".repeat(4_000)),
        ];
        let foreign = cursors.iter().enumerate().filter(|(other, _)| *other != at);
        broken.extend(foreign.map(|(_, cursor)| ("another list's", cursor.clone())));
        for (why, cursor) in broken {
            let answer = weft.get(&format!("{path}?cursor={cursor}")).await;
            answer.refused(400, "cursor is not a cursor of this list", &format!("{why} at {path}"));
        }
        let shown = weft.get(&format!("{path}?limit=1&sort=id&colour=blue")).await;
        assert_eq!(ids(&shown.answered(200, "unknown parameters are ignored")).len(), 1, "{path}");
        assert!(weft.get(path).await.answered(200, path)["limit"].as_u64().is_some_and(|limit| limit >= 50));
    }
    weft.stop().await;
}

/// I9: a cursor of another tenant is no cursor.
#[tokio::test]
async fn a_cursor_of_another_workspace_or_organization_is_refused() {
    let (weft, receiver) = (Weft::start().await, Receiver::start(Reply::ok).await);
    for _ in 0..2 {
        weft.webhook(&receiver.url("/")).await;
        weft.send_event("an.event", json!({ "n": 1 })).await;
    }
    let (sibling, _) = weft.sibling("sibling").await;
    let (stranger, their_workspace, _) = weft.stranger().await;
    let stranger = crate::support::token(&stranger);
    for list in ["connections", "events"] {
        let of = |workspace: &str| format!("/workspaces/{workspace}/{list}");
        let page = weft.get(&format!("{}?limit=1", of(&weft.workspace))).await.answered(200, list);
        let cursor = crate::support::text(&page["next_cursor"]);
        let says = "cursor is not a cursor of this list";
        weft.get(&format!("{}?cursor={cursor}", of(&sibling))).await.refused(400, says, "a sibling's list");
        let theirs = format!("{}?cursor={cursor}", of(&their_workspace));
        let answer = weft.ask_as(&stranger, reqwest::Method::GET, &theirs, None).await;
        answer.refused(400, says, "another organization's workspace");
        let page = weft.get(&format!("/{list}?limit=1")).await.answered(200, list);
        let cursor = crate::support::text(&page["next_cursor"]);
        let answer =
            weft.ask_as(&stranger, reqwest::Method::GET, &format!("/{list}?cursor={cursor}"), None).await;
        answer.refused(400, says, "another organization");
    }
    weft.stop().await;
}

#[tokio::test]
async fn a_cursor_outlives_its_record_and_is_not_moved_by_newer_ones() {
    let (weft, receiver) = (Weft::start().await, Receiver::start(Reply::ok).await);
    let mut connections = Vec::new();
    let mut events = Vec::new();
    for n in 0..4 {
        connections.push(weft.webhook(&receiver.url("/")).await);
        events.push(weft.send_event("an.event", json!({ "n": n })).await);
    }
    let page = weft.get("/connections?limit=2").await.answered(200, "the first two");
    assert_eq!(ids(&page), connections[..2]);
    for connection in &connections[1..3] {
        weft.delete(&format!("/connections/{connection}")).await.answered(200, "gone");
    }
    let next = format!("/connections?limit=2&cursor={}", crate::support::text(&page["next_cursor"]));
    let page = weft.get(&next).await.answered(200, "after one that is gone");
    assert_eq!((ids(&page), &page["next_cursor"]), (vec![connections[3].clone()], &Value::Null));

    let page = weft.get("/events?limit=2").await.answered(200, "the newest two");
    assert_eq!(ids(&page), [events[3].clone(), events[2].clone()]);
    for n in 0..3 {
        weft.send_event("an.event", json!({ "newer": n })).await;
    }
    let next = format!("/events?limit=5&cursor={}", crate::support::text(&page["next_cursor"]));
    let page = weft.get(&next).await.answered(200, "the older two, whatever came meanwhile");
    assert_eq!(ids(&page), [events[1].clone(), events[0].clone()]);
    weft.stop().await;
}

/// I18: what was answered is still the answer after a restart.
#[tokio::test]
async fn a_restart_changes_no_answer() {
    let (mut weft, receiver) = (Weft::start().await, Receiver::script(&[500, 404]).await);
    let settings = json!({ "auth_scheme": "bearer", "bearer_token": "t-0-k-e-n", "signing": "hmac", "hmac_secret": "s" });
    let policy = json!({ "retry": [0, 1], "max_in_flight": 2, "timeout_ms": 5_000 });
    let connection = weft.webhook_with(&receiver.url("/"), settings, policy).await;
    let conditions = json!({ "path": "n", "op": "gt", "value": 0 });
    let rule =
        weft.rule_with(json!({ "event": "a.*", "connection": connection, "conditions": conditions })).await;
    let other = weft.rule_with(json!({ "event": "a.b", "connection": connection, "resource": "team" })).await;
    let (sibling, _) = weft.sibling("sibling").await;
    let event = weft.send_event("a.b", json!({ "n": 1 })).await;
    weft.event_as(&event, "failed").await;
    let attempt = crate::support::text(&weft.attempts(&event, &rule, 2).await[0]["id"]);
    let paused = weft.webhook(&receiver.url("/")).await;
    weft.ask_raw(reqwest::Method::POST, &format!("/connections/{paused}/pause"), "")
        .await
        .answered(200, "paused");
    weft.delete(&format!("/rules/{other}")).await.answered(200, "gone");
    let deliveries = format!("/events/{event}/rules/{rule}/attempts");
    let paths = [
        "/workspaces".to_owned(),
        format!("/workspaces/{sibling}"),
        "/connections".to_owned(),
        "/rules".to_owned(),
        "/events".to_owned(),
        "/events?status=failed".to_owned(),
        format!("/events/{event}"),
        format!("/events/{event}/payload"),
        deliveries.clone(),
        format!("{deliveries}/{attempt}/response-details"),
        format!("/rules/{other}"),
    ];
    let ask = async |weft: &Weft| {
        let mut answers = Vec::new();
        for path in &paths {
            let mut answer = weft.get(path).await;
            if let Some(body) = answer.body.as_object_mut() {
                body.remove("request_id");
            }
            answers.push((path.clone(), answer.status, answer.body));
        }
        answers
    };
    let before = ask(&weft).await;
    weft = weft.restart().await;
    assert_eq!(ask(&weft).await, before);
    weft.stop().await;
}
