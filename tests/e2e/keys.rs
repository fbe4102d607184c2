//! Machine keys with their limits, and publishable keys that take each other's place.

use crate::support::{Answer, Weft, assert_members, ids, send, text, until};
use actors::{clock::Clock, domain::secret::Secret, engine::MachineKeyClear};
use reqwest::Method;
use serde_json::{Value, json};

impl Weft {
    /// Makes a machine key over the API.
    async fn key(&self, body: Value) -> (Value, MachineKeyClear) {
        let made = self.post("/keys", body).await.answered(201, "a key")["key"].clone();
        let clear = MachineKeyClear {
            access_key: text(&made["access_key"]),
            secret: Secret::new(text(&made["secret_key"])),
            ..self.machine.clone()
        };
        (made, clear)
    }

    async fn ask_by(&self, key: &MachineKeyClear, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.ask_as(&self.token_of(key), method, path, body).await
    }
}

/// I12: a key's secret is shown once, signs at once, and is worth nothing once it is revoked.
#[tokio::test]
async fn a_key_is_made_listed_and_revoked() {
    let weft = Weft::start().await;
    let (made, key) = weft.key(json!({ "name": "Billing" })).await;
    let shown =
        ["access_key", "name", "workspaces", "permissions", "created_by", "last_used_at", "created_at"];
    assert_members(&made, &[&shown[..], &["secret_key"]].concat(), "as it is made");
    assert_eq!((&made["name"], &made["created_by"]), (&json!("Billing"), &json!(weft.machine.access_key)));
    let is_base64url = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let (access, secret) = (text(&made["access_key"]), text(&made["secret_key"]));
    assert!(access.len() >= 25 && access.starts_with("mk_") && is_base64url(&access), "{access}");
    assert!(secret.len() >= 43 && is_base64url(&secret));

    let list = weft.get("/keys").await.answered(200, "a list");
    let keys: Vec<_> =
        list["records"].as_array().expect("a list").iter().map(|key| text(&key["access_key"])).collect();
    assert_eq!(keys, [weft.machine.access_key.clone(), access.clone()], "oldest first");
    list["records"]
        .as_array()
        .expect("a list")
        .iter()
        .for_each(|key| assert_members(key, &shown, "no secrets"));

    weft.ask_by(&key, Method::GET, "/workspaces", None).await.answered(200, "it signs");
    let weft = weft.restart().await;
    weft.ask_by(&key, Method::GET, "/workspaces", None).await.answered(200, "it signs after a restart");
    let used = until("it is remembered as used", async || {
        let list = weft.get("/keys").await.answered(200, "a list");
        (!list["records"][1]["last_used_at"].is_null()).then(|| text(&list["records"][1]["last_used_at"]))
    });
    used.await;

    let itself = weft.ask_by(&key, Method::DELETE, &format!("/keys/{access}"), None).await;
    itself.refused(409, "cannot revoke itself", "so that one is always left");
    let path = format!("/keys/{access}");
    assert_eq!(weft.delete(&path).await.answered(200, "revoked"), json!({ "revoked": true }));
    weft.ask_by(&key, Method::GET, "/workspaces", None).await.refused(
        401,
        "credentials",
        "from the next request on",
    );
    weft.delete(&path).await.refused(404, "key not found", "again");
    let weft = weft.restart().await;
    weft.ask_by(&key, Method::GET, "/workspaces", None).await.refused(401, "credentials", "after a restart");
    assert_eq!(weft.get("/keys").await.answered(200, "a list")["count"], 1);
    weft.stop().await;
}

#[tokio::test]
async fn what_does_not_fit_a_key_is_refused_by_name() {
    let weft = Weft::start().await;
    let workspaces = |workspaces: Value| json!({ "name": "a", "workspaces": workspaces });
    let permissions = |permissions: Value| json!({ "name": "a", "permissions": permissions });
    #[rustfmt::skip]
    let cases = [
        ("no name",                json!({}),                                     "name"),
        ("null",                   json!({ "name": null }),                       "name"),
        ("a number",               json!({ "name": 5 }),                          "name"),
        ("empty",                  json!({ "name": "" }),                         "name"),
        ("too long",               json!({ "name": "x".repeat(129) }),            "name"),
        ("markup",                 json!({ "name": "<b>" }),                      "name"),
        ("no workspace",           workspaces(json!([])),                         "workspaces"),
        ("one as text",            workspaces(json!(weft.workspace)),             "workspaces"),
        ("no id",                  workspaces(json!(["mine"])),                   "workspaces[0]"),
        ("101 of them",            workspaces(json!(vec![&weft.workspace; 101])), "workspaces"),
        ("no permission",          permissions(json!([])),                        "permissions"),
        ("an unknown one",         permissions(json!(["read", "admin"])),         "permissions[1]"),
        ("one in capitals",        permissions(json!(["Read"])),                  "permissions[0]"),
        ("one as text",            permissions(json!("read")),                    "permissions"),
        ("a null",                 permissions(json!([null])),                    "permissions[0]"),
    ];
    for (why, body, param) in cases {
        let answer = weft.post("/keys", body).await;
        answer.refused(400, "", why);
        assert_eq!(answer.params()[0], param, "{why}: {}", answer.text);
    }
    for (why, workspace) in
        [("unknown", uuid::Uuid::now_v7().to_string()), ("another's", weft.stranger().await.1)]
    {
        weft.post("/keys", workspaces(json!([workspace]))).await.refused(404, "workspace not found", why);
    }
    assert_eq!(weft.get("/keys").await.answered(200, "after")["count"], 1, "nothing was made");
    let (made, _) =
        weft.key(json!({ "name": "a", "permissions": ["write", "read", "read"], "unknown": 1 })).await;
    assert_eq!(made["permissions"], json!(["read", "write"]));
    weft.stop().await;
}

/// A key that is limited to a workspace finds nothing of the others; to permissions, may nothing else.
#[tokio::test]
async fn a_key_keeps_to_its_limits() {
    let weft = Weft::start().await;
    let (sibling, _) = weft.sibling("sibling").await;
    let (third, _) = weft.sibling("third").await;
    let mut made = Vec::new();
    for workspace in [&weft.workspace, &sibling, &third] {
        let metadata = json!({ "url": "http://127.0.0.1:9/", "skip_test": true });
        let body = json!({ "workspace": workspace, "type": "webhook", "name": "hook", "metadata": metadata });
        let connection =
            weft.post("/connections", body).await.answered(201, "a connection")["connection"].clone();
        let body = json!({ "workspace": workspace, "connection": connection["id"], "event": "other", "metadata": { "action": "send_webhook" } });
        let rule = weft.post("/rules", body).await.answered(201, "a rule")["rule"].clone();
        let body = json!({ "workspace": workspace, "event": "a.b", "payload": { "n": 1 } });
        let event = weft.post("/events", body).await.answered(201, "an event")["event"].clone();
        made.push([connection, rule, event].map(|it| text(&it["id"])));
    }
    let (_, one) = weft.key(json!({ "name": "one", "workspaces": [sibling] })).await;
    let (_, two) = weft.key(json!({ "name": "two", "workspaces": [sibling, third] })).await;
    for (key, workspaces, seen) in
        [(&one, vec![&sibling], &made[1..2]), (&two, vec![&sibling, &third], &made[1..])]
    {
        let ask = async |method: Method, path: &str, body: Option<Value>| {
            weft.ask_by(key, method, path, body).await
        };
        let listed = async |path: &str| {
            let mut ids = ids(&ask(Method::GET, path, None).await.answered(200, path));
            ids.sort();
            ids
        };
        assert_eq!(listed("/workspaces").await.iter().collect::<Vec<_>>(), workspaces);
        for (nth, list) in ["connections", "rules", "events"].into_iter().enumerate() {
            let expected: Vec<_> = seen.iter().map(|ids| ids[nth].clone()).collect();
            assert_eq!(listed(&format!("/{list}")).await, expected, "{list}");
            for workspace in &workspaces {
                assert_eq!(listed(&format!("/workspaces/{workspace}/{list}")).await.len(), 1, "{list}");
            }
            let path = format!("/workspaces/{}/{list}", weft.workspace);
            ask(Method::GET, &path, None).await.refused(404, "workspace not found", list);
            ask(Method::GET, &format!("/{list}/{}", seen[0][nth]), None).await.answered(200, list);
            let hidden = format!("/{list}/{}", made[0][nth]);
            ask(Method::GET, &hidden, None).await.refused(404, "not found", list);
            if list == "events" {
                ask(Method::POST, &format!("{hidden}/cancel"), None).await.refused(404, "not found", list);
                ask(Method::GET, &format!("{hidden}/payload"), None).await.refused(404, "not found", list);
            } else {
                ask(Method::PATCH, &hidden, Some(json!({ "hidden": true }))).await.refused(
                    404,
                    "not found",
                    list,
                );
                ask(Method::DELETE, &hidden, None).await.refused(404, "not found", list);
            }
        }
        let own = &weft.workspace;
        #[rustfmt::skip]
        let refused = [
            (Method::GET,  format!("/workspaces/{own}"),                          None,                                                                    404),
            (Method::PUT,  format!("/workspaces/{own}"),                          Some(json!({ "name": "Stolen" })),                                       404),
            (Method::POST, format!("/workspaces/{own}/publishable-key/rotate"),   None,                                                                    404),
            (Method::POST, "/events".to_owned(),                                  Some(json!({ "workspace": own, "event": "x", "payload": { "n": 1 } })),  404),
            (Method::POST, "/sessions".to_owned(),                                Some(json!({ "workspace_id": own })),                                    404),
            (Method::GET,  format!("/sessions?workspace_id={own}"),               None,                                                                    404),
            (Method::POST, "/workspaces".to_owned(),                              Some(json!({ "name": "New one" })),                                      403),
            (Method::GET,  "/keys".to_owned(),                                    None,                                                                    403),
            (Method::POST, "/keys".to_owned(),                                    Some(json!({ "name": "wider" })),                                        403),
        ];
        for (method, path, body, status) in refused {
            let answer = ask(method.clone(), &path, body).await;
            answer.refused(
                status,
                if status == 403 { "may not" } else { "not found" },
                &format!("{method} {path}"),
            );
        }
    }
    // Where there is only one workspace, an event need not name it.
    let event = json!({ "event": "a.b", "payload": { "n": 1 } });
    let sent =
        weft.ask_by(&one, Method::POST, "/events", Some(event.clone())).await.answered(201, "its only one");
    assert_eq!(sent["event"]["workspace"], sibling);
    weft.ask_by(&two, Method::POST, "/events", Some(event)).await.refused(400, "workspace", "one of two");
    weft.stop().await;
}

#[tokio::test]
async fn a_key_does_what_it_is_permitted_to() {
    let weft = Weft::start().await;
    let event = text(&weft.emit(json!({ "event": "a.b", "payload": { "n": 1 } })).await.body["event"]["id"]);
    let own = &weft.workspace;
    #[rustfmt::skip]
    let asks = [
        // permission   method         path                                 body
        ("read",        Method::GET,   "/workspaces".to_owned(),            None),
        ("read",        Method::GET,   format!("/events/{event}"),          None),
        ("write",       Method::PUT,   format!("/workspaces/{own}"),        Some(json!({ "name": "tests" }))),
        ("payload",     Method::GET,   format!("/events/{event}/payload"),  None),
        ("send",        Method::POST,  "/events".to_owned(),                Some(json!({ "workspace": own, "event": "x", "payload": { "n": 1 } }))),
        ("sessions",    Method::POST,  "/sessions".to_owned(),              Some(json!({ "workspace_id": own }))),
        ("keys",        Method::GET,   "/keys".to_owned(),                  None),
    ];
    for permission in ["read", "write", "payload", "send", "sessions", "keys"] {
        let (_, key) = weft.key(json!({ "name": permission, "permissions": [permission] })).await;
        for (needed, method, path, body) in asks.clone() {
            let answer = weft.ask_by(&key, method, &path, body).await;
            let why = format!("{path} with a key that may {permission}");
            if needed == permission {
                assert!([200, 201].contains(&answer.status), "{why}: {}", answer.text);
            } else {
                answer.refused(403, "these credentials may not", &why);
            }
        }
    }
    let (_, key) = weft.key(json!({ "name": "maker", "permissions": ["keys", "read"] })).await;
    for (permissions, status) in [(json!(["read"]), 201), (json!(["read", "write"]), 403), (json!(null), 403)]
    {
        let body = json!({ "name": "made", "permissions": permissions });
        let answer = weft.ask_by(&key, Method::POST, "/keys", Some(body)).await;
        assert_eq!(answer.status, status, "{permissions}: {}", answer.text);
    }
    weft.stop().await;
}

/// A new publishable key is good at once, and the older ones as long as was said.
#[tokio::test]
async fn a_publishable_key_is_rotated_with_an_overlap() {
    let weft = Weft::start().await;
    let path = format!("/workspaces/{}/publishable-key/rotate", weft.workspace);
    let status = async |key: &str| {
        let request = weft.request(Method::POST, "/api/v1/events").header("x-meshes-publishable-key", key);
        send(request.json(&json!({ "event": "a.b", "payload": { "n": 1 } }))).await.status
    };
    let first = weft.publishable_key.clone();
    let rotated = weft.ask(Method::POST, &path, None).await.answered(200, "without a body");
    assert_members(&rotated, &["public_key", "name", "created_at", "older"], "a rotation");
    let second = text(&rotated["public_key"]);
    let parts: Vec<_> = second.strip_prefix("mesh_pub_").expect("its form").split('_').collect();
    assert!(parts.len() == 3 && parts.iter().all(|part| !part.is_empty()), "{second}");
    assert_eq!((status(&first).await, status(&second).await), (201, 201), "both for a day");
    assert_eq!(rotated["older"][0]["public_key"], first);
    let shown = weft.get(&format!("/workspaces/{}", weft.workspace)).await.answered(200, "the workspace");
    assert_eq!(shown["publishable_key"]["public_key"], second);

    let third = weft.post(&path, json!({ "overlap_seconds": 60 })).await.answered(200, "again");
    let third = text(&third["public_key"]);
    assert_eq!((status(&first).await, status(&second).await, status(&third).await), (201, 201, 201));
    let fourth = weft.post(&path, json!({ "overlap_seconds": 0 })).await.answered(200, "at once");
    let fourth = text(&fourth["public_key"]);
    for key in [&first, &second, &third] {
        assert_eq!(status(key).await, 401, "no older one is good for longer than was said last");
    }
    assert_eq!(status(&fourth).await, 201);

    for (why, body) in [
        ("negative", json!({ "overlap_seconds": -1 })),
        ("31 days", json!({ "overlap_seconds": 31 * 86_400 })),
        ("text", json!({ "overlap_seconds": "60" })),
        ("half", json!({ "overlap_seconds": 0.5 })),
    ] {
        let answer = weft.post(&path, body).await;
        answer.refused(400, "overlap_seconds", why);
        assert_eq!(answer.params(), ["overlap_seconds"], "{why}");
    }
    let mut rotations = 0;
    let answer = loop {
        let answer = weft.post(&path, json!({})).await;
        if answer.status != 200 {
            break answer;
        }
        rotations += 1;
        assert!(rotations <= 10, "there is an end to it");
    };
    answer.refused(403, "at most 10 older publishable keys", "an eleventh");
    let current = text(
        &weft.get(&format!("/workspaces/{}", weft.workspace)).await.body["publishable_key"]["public_key"],
    );
    let weft = weft.restart().await;
    let request = weft.request(Method::POST, "/api/v1/events").header("x-meshes-publishable-key", current);
    send(request.json(&json!({ "event": "a.b", "payload": { "n": 1 } })))
        .await
        .answered(201, "after a restart");
    weft.stop().await;
}

/// What is used is remembered by the hour, and not by a record a request.
#[tokio::test]
async fn when_a_key_was_used_is_remembered_coarsely() {
    let (clock, _lever) = Clock::tokio(Clock::system().now());
    let weft = Weft::at(clock, |_| {}, |_| {}).await;
    let last_used =
        async || weft.get("/keys").await.answered(200, "keys")["records"][0]["last_used_at"].clone();
    let first = until("it is remembered", async || Some(last_used().await).filter(|at| !at.is_null())).await;
    for _ in 0..20 {
        assert_eq!(last_used().await, first, "within the hour it stays");
    }
    weft.stop().await;
}
