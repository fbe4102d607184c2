//! I9: what sessions of every kind and keys of every limit may do, on every route there is.

use super::isolation::{CATALOGUE, ROUTES, World};
use crate::support::{Receiver, Reply, Weft, ids, text};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A kind of session, with whether it may ask for something about connections, rules, events or names.
struct Kind {
    name: String,
    body: Value,
    shows: &'static str,
    may: &'static str,
}

fn kinds() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for (kind, shows) in [("workspace", "cren"), ("resource", "ren"), ("dashboard", "n")] {
        for (role, scoped, may) in [
            ("member", false, "r"),
            ("member", true, "r"),
            ("admin", false, "rw"),
            ("admin", true, "rwp"),
            ("owner", false, "rw"),
            ("owner", true, "rwp"),
        ] {
            let mut body = json!({ "session_type": kind, "role": role });
            if kind == "resource" {
                (body["resource"], body["resource_id"]) = (json!("user"), json!("7"));
            }
            if scoped {
                body["scopes"] = json!(["events.payload:read"]);
            }
            kinds.push(Kind {
                name: format!("a {kind} session of {role}, scoped {scoped}"),
                body,
                shows,
                may,
            });
        }
    }
    kinds
}

/// One table of routes, asked by every kind of session.
#[tokio::test]
async fn a_session_may_what_its_kind_allows_and_nothing_else() {
    let world = World::new().await;
    let mut minted = Vec::new();
    for kind in kinds() {
        let session = world.weft.mint(kind.body.clone()).await;
        minted.push((kind, [("authorization", format!("Bearer {}", text(&session["access_token"])))]));
    }
    let unknown: BTreeMap<_, _> =
        world.ids.keys().map(|name| (*name, uuid::Uuid::now_v7().to_string())).collect();
    let before = world.seen().await;
    for (kind, headers) in &minted {
        for (method, path, whom, of) in ROUTES {
            if whom.is_open() {
                continue;
            }
            let why = format!("{method} {path} in {}", kind.name);
            let may = of.is_some_and(|(what, how)| kind.shows.contains(what) && kind.may.contains(how));
            if !may {
                let body = world.body(method, path);
                let answer = world.ask(method, &World::path(path, &world.ids), headers, body.as_ref()).await;
                answer.refused(403, "these credentials may not", &why);
                assert_eq!(answer.body["error"]["name"], "Forbidden", "{why}");
                world.assert_reveals_nothing(&answer, &why);
            } else if path.contains('{') {
                let body = world.body(method, path);
                let answer = world.ask(method, &World::path(path, &unknown), headers, body.as_ref()).await;
                answer.refused(404, "not found", &why);
            }
            if may && method == "GET" {
                let answer = world.ask(method, &World::path(path, &world.ids), headers, None).await;
                let is_list = path.starts_with("/workspaces") || of == CATALOGUE;
                // What there is in this world is about no resource.
                let is_all = kind.shows.contains('c') || of == CATALOGUE;
                if path.ends_with("/export") {
                    assert_eq!((answer.status, answer.text.is_empty()), (200, !is_all), "{why}");
                } else if is_all || is_list {
                    let shown = answer.answered(200, &why);
                    assert!(is_all || ids(&shown).is_empty(), "{why}: {shown}");
                } else {
                    answer.refused(404, "not found", &why);
                    world.assert_reveals_nothing(&answer, &why);
                }
            }
        }
    }
    assert_eq!(world.seen().await, before, "nothing was changed");
    world.weft.stop().await;
}

/// What a user must be at least to ask for this; `None`: it is for no user.
fn least(method: &str, path: &str) -> Option<&'static str> {
    let is = |part: &str| path.starts_with(part);
    Some(match (method, path) {
        ("POST", "/events" | "/events/bulk" | "/mcp") => return None,
        (_, "/sign-out" | "/password") => "member",
        ("POST", "/workspaces") | ("PUT", "/organization") => "owner",
        _ if is("/keys") || is("/users") || is("/invitations") || is("/audit") => "owner",
        _ if path.ends_with("/rotate") => "owner",
        _ if is("/sessions") => "admin",
        _ if path.ends_with("/payload")
            || path.ends_with("/response-details")
            || path.ends_with("/preview") =>
        {
            "reader"
        }
        ("GET", _) => "member",
        _ if is("/events/") => "member",
        _ => "admin",
    })
}

/// The same table, asked by users of every role.
#[tokio::test]
async fn a_user_may_what_their_role_allows_and_nothing_else() {
    let world = World::new().await;
    const RANKS: [&str; 4] = ["member", "reader", "admin", "owner"];
    let mut users = Vec::new();
    for rank in RANKS {
        let user = world.weft.user(if rank == "reader" { "member" } else { rank }).await;
        if rank == "reader" {
            let patch = json!({ "payloads": true });
            world.weft.patch(&format!("/users/{}", user.id), patch).await.answered(200, "the switch");
        }
        users.push((rank, [("authorization", format!("Bearer {}", world.weft.sign_in(&user).await))]));
    }
    let unknown: BTreeMap<_, _> =
        world.ids.keys().map(|name| (*name, uuid::Uuid::now_v7().to_string())).collect();
    let before = world.seen().await;
    for (index, (rank, headers)) in users.iter().enumerate() {
        for (method, path, whom, _) in ROUTES {
            if whom.is_open() {
                continue;
            }
            let (why, body) = (format!("{method} {path} by a {rank}"), world.body(method, path));
            let may = least(method, path).is_some_and(|least| RANKS[..=index].contains(&least));
            let here = World::path(path, &world.ids);
            if !may {
                let answer = world.ask(method, &here, headers, body.as_ref()).await;
                answer.refused(403, "these credentials may not", &why);
                world.assert_reveals_nothing(&answer, &why);
            } else if method == "GET" {
                let answer = world.ask(method, &here, headers, None).await;
                assert_eq!(answer.status, 200, "{why}: {}", answer.text);
            }
            if may && path.contains('{') {
                let answer = world.ask(method, &World::path(path, &unknown), headers, body.as_ref()).await;
                answer.refused(404, "not found", &why);
            }
        }
    }
    assert_eq!(world.seen().await, before, "nothing was changed");
    world.weft.stop().await;
}

/// A user of one organization finds nothing of another, and no machine's credentials stand for a user.
#[tokio::test]
async fn a_user_of_another_organization_finds_nothing() {
    let world = World::new().await;
    let (stranger, ..) = world.weft.stranger().await;
    let theirs = world.weft.user_of(&stranger, "owner").await;
    let headers = [("authorization", format!("Bearer {}", world.weft.sign_in(&theirs).await))];
    let before = world.seen().await;
    for (method, path, whom, _) in ROUTES {
        if whom.is_open() || !path.contains('{') || least(method, path).is_none() {
            continue;
        }
        let (why, body) = (format!("{method} {path}"), world.body(method, path));
        let answer = world.ask(method, &World::path(path, &world.ids), &headers, body.as_ref()).await;
        answer.refused(404, "not found", &why);
        world.assert_reveals_nothing(&answer, &why);
    }
    assert_eq!(world.seen().await, before, "nothing was changed");
    world.weft.stop().await;
}

/// A session never leaves its workspace, whoever owns the others.
#[tokio::test]
async fn a_session_of_another_workspace_finds_nothing() {
    let world = World::new().await;
    let (sibling, _) = world.weft.sibling("sibling").await;
    let (stranger, theirs, _) = world.weft.stranger().await;
    let mut foreign = Vec::new();
    for (token, workspace) in [(world.weft.token(), sibling), (world.weft.token_of(&stranger), theirs)] {
        let body = json!({ "workspace_id": workspace, "role": "owner", "scopes": ["events.payload:read"] });
        let made = world.weft.ask_as(&token, Method::POST, "/sessions", Some(body)).await;
        foreign.push(text(&made.answered(200, "a session")["access_token"]));
    }
    let before = world.seen().await;
    for token in foreign {
        let headers = [("authorization", format!("Bearer {token}"))];
        for (method, path, _, of) in ROUTES {
            if of.is_none() {
                continue;
            }
            let (why, body) = (format!("{method} {path}"), world.body(method, path));
            let answer = world.ask(method, &World::path(path, &world.ids), &headers, body.as_ref()).await;
            if path == "/integrations" {
                assert_eq!(answer.status, 200, "{why}: the same for everybody");
            } else {
                answer.refused(404, "not found", &why);
            }
            world.assert_reveals_nothing(&answer, &why);
        }
    }
    assert_eq!(world.seen().await, before, "nothing was changed");
    world.weft.stop().await;
}

/// What looks through events, or makes one, keeps to the pair and to who may read payloads.
#[tokio::test]
async fn exports_searches_and_tests_keep_to_the_session() {
    let (weft, receiver) = (Weft::start().await, Receiver::start(Reply::ok).await);
    let connection = weft.webhook(&receiver.url("/")).await;
    let rule = weft.rule("a.b", &connection).await;
    let mut sent = Vec::new();
    for id in ["7", "8"] {
        let body = json!({ "event": "a.b", "payload": { "n": 1 }, "resource": "user", "resource_id": id });
        sent.push(text(&weft.emit(body).await.answered(201, "sent")["event"]["id"]));
    }
    let about =
        json!({ "session_type": "resource", "resource": "user", "resource_id": "7", "role": "admin" });
    let session = weft.mint(about).await;
    let workspace = format!("/workspaces/{}", weft.workspace);

    let exported = weft.get_in(&session, &format!("{workspace}/events/export?resource_id=8")).await;
    let lines: Vec<Value> =
        exported.text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.iter().map(|line| text(&line["id"])).collect::<Vec<_>>(), [sent[0].clone()]);
    assert_eq!(lines[0]["unmatched_rules"], json!([]), "others' rules are not told");

    for path in ["events", "events/export"] {
        let answer = weft.get_in(&session, &format!("{workspace}/{path}?payload.n=1")).await;
        answer.refused(403, "may not read payloads", path);
    }
    let preview = weft
        .ask_in(&session, Method::POST, &format!("{workspace}/rules/preview"), Some(json!({ "event": "*" })))
        .await;
    preview.refused(403, "may not read payloads", "without the scope");

    let test = format!("{workspace}/events/test");
    for (param, id) in
        [("resource", json!({ "resource": "account" })), ("resource_id", json!({ "resource_id": "8" }))]
    {
        let mut body = id;
        body["event"] = json!("a.b");
        let answer = weft.ask_in(&session, Method::POST, &test, Some(body)).await;
        answer.refused(400, "is not the session's", param);
        assert_eq!(answer.params(), [param]);
    }
    let made = weft.ask_in(&session, Method::POST, &test, Some(json!({ "event": "a.b" }))).await;
    let made = made.answered(201, "a test");
    assert_eq!((&made["event"]["resource"], &made["event"]["resource_id"]), (&json!("user"), &json!("7")));
    let path = format!("{workspace}/rules/{rule}/test");
    weft.ask_in(&session, Method::POST, &path, None).await.refused(
        404,
        "rule not found",
        "it is about no resource",
    );
    weft.stop().await;
}
