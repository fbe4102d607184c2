//! Checks 41 to 46: sessions, and what each kind may see. Check 47 waits for the embedded pages.

use crate::isolation::World;
use crate::sessions::ALWAYS;
use crate::support::{NodeManagement, Receiver, Reply, Weft, assert_members, ids, text};
use actors::clock::Clock;
use reqwest::Method;
use serde_json::{Value, json};

/// 200 with the launch fields and the access fields; what does not fit is 400 with its field.
#[tokio::test]
async fn check_41_a_session_is_minted_with_its_tokens_or_refused() {
    let weft = Weft::with(|config| {
        config.public_url = Some("https://weft.example.com".parse().expect("a URL"));
    })
    .await;
    let plain = weft.mint(json!({})).await;
    let minted = ["access_token", "expires_in", "launch_token", "launch_expires_at", "launch_url"];
    assert_members(&plain, &[&ALWAYS[..], &minted].concat(), "with nothing said");
    assert_eq!((&plain["role"], &plain["session_type"]), (&json!("member"), &json!("workspace")));
    assert_eq!((&plain["expires_in"], &plain["workspace_id"]), (&json!(1_800), &json!(weft.workspace)));
    assert!(text(&plain["session_id"]).starts_with("sess_"), "{plain}");
    assert_eq!(text(&plain["access_token"]).split('.').count(), 3, "{plain}");
    let launch = text(&plain["launch_token"]);
    assert_eq!(plain["launch_url"], format!("https://weft.example.com/workspace/dashboard?launch={launch}"));

    let full = weft
        .mint(json!({
            "role": "owner", "session_type": "resource", "resource": "user", "resource_id": "7", "ttl_seconds": 300,
            "launch_ttl_seconds": 60, "launch_page": "events", "external_user_id": "user_1", "scopes": ["events.payload:read"],
            "allowed_origins": ["https://app.example.com", "https://app.example.com:8443"], "unknown": [1],
        }))
        .await;
    assert_members(&full, &[&ALWAYS[..], &minted, &["resource", "resource_id"]].concat(), "with all said");
    assert_eq!((&full["resource"], &full["resource_id"]), (&json!("user"), &json!("7")));
    assert_eq!((&full["role"], &full["expires_in"]), (&json!("owner"), &json!(300)));
    assert!(text(&full["launch_url"]).contains("/workspace/events?launch="), "{full}");

    let legacy = weft.mint(json!({ "launch_path": "/workspace/rules" })).await;
    assert!(text(&legacy["launch_url"]).contains("/workspace/rules?launch="), "{legacy}");
    let newer = weft.mint(json!({ "launch_path": "/elsewhere", "launch_page": "events" })).await;
    assert!(text(&newer["launch_url"]).contains("/workspace/events?launch="), "{newer}");
    let with = |name: &str, value: Value| json!({ "workspace_id": weft.workspace, name: value });
    let about = json!({ "workspace_id": weft.workspace, "session_type": "resource", "resource": "user", "resource_id": "7" });
    let (mut connections, mut rules) = (about, with("session_type", json!("dashboard")));
    (connections["launch_page"], rules["launch_page"]) = (json!("connections"), json!("rules"));
    #[rustfmt::skip]
    let refused = [
        ("TTL 299",                           with("ttl_seconds", json!(299)),                               "ttl_seconds"),
        ("TTL 3601",                          with("ttl_seconds", json!(3_601)),                             "ttl_seconds"),
        ("launch TTL 14",                     with("launch_ttl_seconds", json!(14)),                         "launch_ttl_seconds"),
        ("launch TTL 61",                     with("launch_ttl_seconds", json!(61)),                         "launch_ttl_seconds"),
        ("11 origins",                        with("allowed_origins", json!(vec!["https://a.example"; 11])), "allowed_origins"),
        ("unknown scope",                     with("scopes", json!(["events:write"])),                       "scopes[0]"),
        ("resource type without pair",        with("session_type", json!("resource")),                       "resource"),
        ("resource and its connections page", connections,                                                   "launch_page"),
        ("dashboard type and rules page",     rules,                                                         "launch_page"),
    ];
    for (why, body, param) in refused {
        NodeManagement::of(&weft).post("/sessions", body).await.assert_error(400, param, why);
    }
    weft.stop().await;
}

/// The same session, the next token and no launch fields; the token before is worth nothing at once.
#[tokio::test]
async fn check_42_refreshing_makes_the_next_token_and_ends_the_one_before() {
    let weft = Weft::start().await;
    let path = format!("/workspaces/{}/rules", weft.workspace);
    let minted = weft.mint(json!({ "role": "admin", "ttl_seconds": 600 })).await;
    weft.get_in(&minted, &path).await.answered(200, "the first token");
    let refreshed = weft.refresh(&minted).await.answered(200, "a refresh");
    assert_members(&refreshed, &[&ALWAYS[..], &["access_token", "expires_in"]].concat(), "no launch fields");
    assert_eq!((&refreshed["session_id"], &refreshed["role"]), (&minted["session_id"], &json!("admin")));
    assert_eq!(refreshed["expires_in"], 600);
    assert_ne!(refreshed["access_token"], minted["access_token"]);
    weft.get_in(&minted, &path).await.refused(401, "credentials", "the token before");
    weft.get_in(&refreshed, &path).await.answered(200, "the token now");
    let weft = weft.restart().await;
    weft.get_in(&minted, &path).await.refused(401, "credentials", "the token before, after a restart");
    weft.get_in(&refreshed, &path).await.answered(200, "the token now, after a restart");
    weft.stop().await;
}

/// A list of one workspace, in which time is told apart from status; and no token outlives a day.
#[tokio::test]
async fn check_43_a_session_expires_and_stays_active_until_it_is_revoked() {
    let (clock, lever) = Clock::tokio(Clock::system().now());
    let weft = Weft::at(clock, |_| {}, |_| {}).await;
    let list = format!("/sessions?workspace_id={}", weft.workspace);
    let minted = weft.mint(json!({ "ttl_seconds": 300, "external_user_id": "user_1" })).await;
    let first = async || weft.get(&list).await.answered(200, "a list")["records"][0].clone();
    let members = ["external_user_id", "status", "created_at", "is_expired"];
    assert_members(&first().await, &[&ALWAYS[..], &members].concat(), "no tokens in lists");
    assert_eq!((&first().await["status"], &first().await["is_expired"]), (&json!("active"), &json!(false)));

    weft.get("/sessions").await.assert_error(400, "workspace_id", "a list is of one workspace");
    let path = format!("/workspaces/{}/events", weft.workspace);
    lever.jump_ms(299_000);
    weft.get_in(&minted, &path).await.answered(200, "a second before its end");
    lever.jump_ms(1_000);
    weft.get_in(&minted, &path).await.refused(401, "credentials", "at its end");
    assert_eq!((&first().await["status"], &first().await["is_expired"]), (&json!("active"), &json!(true)));

    let refreshed = weft.refresh(&minted).await.answered(200, "an expired one may be refreshed");
    weft.get_in(&refreshed, &path).await.answered(200, "with its new token");
    assert_eq!(first().await["is_expired"], false);

    lever.jump_ms(24 * 3_600_000 - 300_000 - 60_000);
    let last = weft.refresh(&minted).await.answered(200, "a minute before its day is over");
    assert!(last["expires_in"].as_u64().is_some_and(|seconds| seconds <= 60), "{last}");
    lever.jump_ms(60_000);
    weft.get_in(&last, &path).await.refused(401, "credentials", "after a day");
    weft.refresh(&minted).await.refused(409, "older than 24 hours", "after a day");
    weft.stop().await;
}

/// Revoking is at once, for good, and may be said twice.
#[tokio::test]
async fn check_44_a_revoked_session_is_over() {
    let weft = Weft::start().await;
    let path = format!("/workspaces/{}/connections", weft.workspace);
    let minted = weft.mint(json!({})).await;
    weft.get_in(&minted, &path).await.answered(200, "before");
    for again in ["once", "twice"] {
        assert_eq!(weft.revoke(&minted).await.answered(200, again), json!({ "revoked": true }));
        weft.get_in(&minted, &path).await.refused(401, "credentials", again);
        weft.refresh(&minted).await.refused(409, "revoked", again);
    }
    let weft = weft.restart().await;
    weft.get_in(&minted, &path).await.refused(401, "credentials", "after a restart");
    weft.refresh(&minted).await.refused(409, "revoked", "after a restart");
    weft.stop().await;
}

/// Also what destinations answered, which may repeat a payload.
#[tokio::test]
async fn check_45_payloads_are_for_who_is_trusted_and_was_given_the_scope() {
    let world = World::new().await;
    let details = "/events/{event}/rules/{rule}/attempts/{attempt}/response-details";
    #[rustfmt::skip]
    let cases = [
        ("a member with the scope",     json!({ "scopes": ["events.payload:read"] }),                      403),
        ("an admin without it",         json!({ "role": "admin" }),                                        403),
        ("an admin with an empty list", json!({ "role": "admin", "scopes": [] }),                          403),
        ("an admin with it",            json!({ "role": "admin", "scopes": ["events.payload:read"] }),     200),
        ("an owner without it",         json!({ "role": "owner" }),                                        403),
        ("an owner with it",            json!({ "role": "owner", "scopes": ["events.payload:read"] }),     200),
    ];
    for (why, body, expected) in cases {
        let session = world.weft.mint(body).await;
        let headers = [("authorization", format!("Bearer {}", text(&session["access_token"])))];
        for (path, status) in
            [("/events/{event}", 200), ("/events/{event}/payload", expected), (details, expected)]
        {
            let answer = world.ask("GET", &World::path(path, &world.ids), &headers, None).await;
            assert_eq!(answer.status, status, "{why}: {path}: {}", answer.text);
        }
    }
    world.weft.stop().await;
}

/// Lists show the pair and nothing else, others' ids are not there, and what is made is about the pair.
#[tokio::test]
async fn check_46_a_resource_session_sees_its_pair_and_a_dashboard_neither_rules_nor_events() {
    let (weft, receiver) = (Weft::start().await, Receiver::start(Reply::ok).await);
    let connection = weft.webhook(&receiver.url("/")).await;
    let about =
        |id: &str| json!({ "event": "a.b", "connection": connection, "resource": "user", "resource_id": id });
    let (ours, theirs) = (weft.rule_with(about("7")).await, weft.rule_with(about("8")).await);
    let general = weft.rule("a.*", &connection).await;
    let send = async |id: &str| {
        let body = json!({ "event": "a.b", "payload": { "n": 1 }, "resource": "user", "resource_id": id });
        let id = text(&weft.emit(body).await.answered(201, "sent")["event"]["id"]);
        weft.event_as(&id, "completed").await;
        id
    };
    let (our_event, their_event) = (send("7").await, send("8").await);
    let session = weft
        .mint(json!({
            "session_type": "resource", "resource": "user", "resource_id": "7", "role": "admin",
            "scopes": ["events.payload:read"], "external_user_id": "ada",
        }))
        .await;
    let workspace = format!("/workspaces/{}", weft.workspace);
    for (query, rules, events) in [
        ("", vec![&ours], vec![&our_event]),
        ("?resource=user&resource_id=7", vec![&ours], vec![&our_event]),
        ("?resource_id=8", vec![], vec![]),
        ("?resource=account", vec![], vec![]),
    ] {
        for (list, expected) in [("rules", rules), ("events", events)] {
            let shown =
                weft.get_in(&session, &format!("{workspace}/{list}{query}")).await.answered(200, query);
            assert_eq!(ids(&shown).iter().collect::<Vec<_>>(), expected, "{list}{query}");
        }
    }
    let shown = weft.get_in(&session, &format!("/events/{our_event}")).await.answered(200, "our event");
    assert_eq!(
        (&shown["total_rules"], &shown["unmatched_rules"]),
        (&json!(2), &json!([])),
        "others' rules are not told"
    );
    let payload =
        weft.get_in(&session, &format!("/events/{our_event}/payload")).await.answered(200, "its payload");
    assert_eq!(payload["payload"], json!({ "n": 1 }));

    let ask = async |method: Method, path: &str, body: Option<Value>| {
        weft.ask_in(&session, method, path, body).await
    };
    for path in [format!("/rules/{theirs}"), format!("/rules/{general}")] {
        for (method, body) in
            [(Method::GET, None), (Method::PATCH, Some(json!({ "active": false }))), (Method::DELETE, None)]
        {
            ask(method, &path, body).await.refused(404, "rule not found", &path);
        }
    }
    for path in ["", "/payload", &format!("/rules/{theirs}/attempts")] {
        let path = format!("/events/{their_event}{path}");
        ask(Method::GET, &path, None).await.refused(404, "event not found", &path);
    }
    for path in ["cancel", &format!("rules/{theirs}/retry"), &format!("rules/{theirs}/cancel")] {
        let path = format!("/events/{their_event}/{path}");
        ask(Method::POST, &path, None).await.refused(404, "event not found", &path);
    }

    let new = |resource: Option<&str>, id: Option<&str>| {
        json!({ "workspace": weft.workspace, "connection": connection, "event": "c.d", "resource": resource, "resource_id": id,
                "metadata": { "action": "send_webhook" } })
    };
    for (why, resource, id, param) in [
        ("another resource", Some("account"), None, "resource"),
        ("another id", None, Some("8"), "resource_id"),
    ] {
        let answer = ask(Method::POST, "/rules", Some(new(resource, id))).await;
        answer.refused(400, "is not the session's", why);
        assert_eq!(answer.params(), [param], "{why}");
    }
    let made = ask(Method::POST, "/rules", Some(new(None, None))).await.answered(201, "a rule");
    let rule = &made["rule"];
    assert_eq!(
        (&rule["resource"], &rule["resource_id"]),
        (&json!("user"), &json!("7")),
        "the pair is put in"
    );
    assert_eq!(rule["created_by"], "ada");
    let path = format!("/rules/{}", text(&rule["id"]));
    for patch in [json!({ "resource": null }), json!({ "resource_id": null }), json!({ "resource_id": "8" })]
    {
        ask(Method::PATCH, &path, Some(patch)).await.refused(
            400,
            "is not the session's",
            "it stays about the pair",
        );
    }
    ask(Method::PATCH, &path, Some(json!({ "active": false, "resource": "user" })))
        .await
        .answered(200, "a change");
    ask(Method::DELETE, &path, None).await.answered(200, "gone");

    let about = json!({ "session_type": "dashboard", "role": "owner", "scopes": ["events.payload:read"] });
    let dashboard = weft.mint(about).await;
    for path in [
        format!("{workspace}/rules"),
        format!("{workspace}/events"),
        format!("/rules/{ours}"),
        format!("/events/{our_event}"),
        format!("/events/{our_event}/payload"),
        format!("/events/{our_event}/rules/{ours}/attempts"),
    ] {
        weft.get_in(&dashboard, &path).await.refused(403, "may not", &path);
    }
    weft.stop().await;
}
