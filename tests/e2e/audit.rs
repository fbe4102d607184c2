//! The audit log: whatever changes something says who did it, when, and from where.

use super::isolation::{For, ROUTES};
use crate::support::{Receiver, Weft, assert_members, send, text};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// One request that changes something, and the line it must leave.
struct Asked<'a> {
    /// As the table of routes has it.
    route: (&'a str, &'a str),
    /// In place of what stands in braces.
    path: String,
    body: Value,
    action: &'a str,
    /// The fields that changed.
    changed: &'a [&'a str],
}

/// `ids` stand in the path where it has names in braces, in its order.
fn asked<'a>(
    method: &'a str,
    route: &'a str,
    ids: &str,
    body: Value,
    action: &'a str,
    changed: &'a [&'a str],
) -> Asked<'a> {
    let path = ids.split(' ').fold(route.to_owned(), |path, id| match (path.find('{'), path.find('}')) {
        (Some(from), Some(to)) => format!("{}{id}{}", &path[..from], &path[to + 1..]),
        _ => path,
    });
    Asked { route: (method, route), path, body, action, changed }
}

/// Routes that change nothing that anybody has set up, whatever their method: what they do is an event that
/// says itself who sent it, or nothing at all.
const NO_CHANGE: [(&str, &str); 7] = [
    ("POST", "/events"),
    ("POST", "/events/bulk"),
    ("POST", "/workspaces/{workspace}/events/test"),
    ("POST", "/workspaces/{workspace}/rules/{rule}/test"),
    ("POST", "/workspaces/{workspace}/rules/preview"),
    // What comes of it has its lines once somebody comes back from the vendor.
    ("POST", "/connections/oauth"),
    // What its tools do, the other routes do: see below.
    ("POST", "/mcp"),
];

impl Weft {
    /// The newest lines, as the query asks.
    async fn audit(&self, query: &str) -> Vec<Value> {
        let list = self.get(&format!("/audit?{query}")).await.answered(200, query);
        list["records"].as_array().expect("a list").clone()
    }
}

/// Every route that changes something leaves one line, and it tells who, what and from where.
#[tokio::test]
async fn every_change_leaves_its_line() {
    let (weft, receiver) = (Weft::start().await, Receiver::script(&[400]).await);
    let workspace = weft.workspace.clone();
    let connection = weft.webhook(&receiver.url("/")).await;
    let rule = weft.rule("a.b", &connection).await;
    let event = weft.send_event("a.b", json!({ "n": 1 })).await;
    weft.event_as(&event, "failed").await;
    // The second of these waits for minutes.
    weft.rule("r.r", &connection).await;
    for n in 0..2 {
        let event = weft.send_event("r.r", json!({ "n": n })).await;
        weft.event_as(&event, "failed").await;
    }
    let slow = json!({ "workspace": workspace, "filter": { "event": "r.r" }, "rate_per_second": 0.01 });
    let replay = weft.post("/replays", slow).await.answered(201, "a replay");
    let replay = text(&replay["replay"]["id"]);
    let parked = weft.webhook(&receiver.url("/")).await;
    weft.post(&format!("/connections/{parked}/pause"), json!({})).await.answered(200, "paused");
    let waiting_rule = weft.rule("w.w", &parked).await;
    let [first, second] =
        [weft.send_event("w.w", json!({ "n": 1 })).await, weft.send_event("w.w", json!({ "n": 2 })).await];
    for event in [&first, &second] {
        weft.event_as(event, "pending").await;
    }
    let user = weft.user("member").await;
    let signer = weft.user("owner").await;
    let forgetful = weft.user("member").await;
    let by_link =
        weft.post(&format!("/users/{}/reset", forgetful.id), json!({})).await.answered(201, "a link");
    let by_link = text(&by_link["link"]).split_once("token=").expect("a token").1.to_owned();
    let session = weft.mint(json!({ "external_user_id": "grace" })).await;
    let invited = weft.invite("gone@example.com", "member").await;
    let joining = weft.invite("joins@example.com", "member").await;
    let joining = text(&joining["link"]).split_once("token=").expect("a token").1.to_owned();
    let key = weft.post("/keys", json!({ "name": "old" })).await.answered(201, "a key");
    let (key, old_rule) = (text(&key["key"]["access_key"]), weft.rule("o.o", &connection).await);

    let settings = json!({ "url": receiver.url("/new"), "skip_test": true });
    let hook = json!({ "workspace": workspace, "type": "webhook", "name": "New", "metadata": settings });
    let action = json!({ "action": "send_webhook" });
    let mapping = json!({ "schema": { "schema_version": 1, "fields": [] } });
    let word = "correct horse battery";
    let of_name = format!("{workspace} k.k");
    let (none, of_event) = (json!({}), format!("{event} {rule}"));
    #[rustfmt::skip]
    let all = [
        asked("POST",   "/workspaces",                                 "",            json!({ "name": "Another" }),                     "workspace.created",  &[]),
        asked("PUT",    "/workspaces/{workspace}",                     &workspace,    json!({ "name": "Renamed", "description": "d" }), "workspace.updated",  &["name", "description"]),
        asked("POST",   "/workspaces/{workspace}/publishable-key/rotate", &workspace, none.clone(),                                     "publishable_key.rotated", &[]),
        asked("PUT",    "/workspaces/{workspace}/event-types/{key}",   &of_name,    json!({ "label": "A" }),                          "event_type.saved",   &["*"]),
        asked("PUT",    "/workspaces/{workspace}/resources/{key}",     &of_name,    json!({ "label": "A" }),                          "resource.saved",     &["*"]),
        asked("POST",   "/connections",                                "",            hook,                                             "connection.created", &[]),
        asked("PUT",    "/connections/{connection}",                   &connection,   json!({ "name": "Put", "metadata": settings }),   "connection.updated", &["name", "metadata"]),
        asked("PATCH",  "/connections/{connection}",                   &connection,   json!({ "name": "Patched" }),                     "connection.updated", &["name"]),
        asked("POST",   "/connections/{connection}/pause",             &connection,   none.clone(),                                     "connection.updated", &["paused"]),
        asked("POST",   "/connections/{connection}/resume",            &connection,   none.clone(),                                     "connection.updated", &["paused"]),
        asked("POST",   "/replays",                                    "",            json!({ "workspace": workspace, "filter": { "event": "none" } }), "replay.created", &[]),
        asked("PATCH",  "/replays/{replay}",                           &replay,       json!({ "rate_per_second": 0.02 }),               "replay.updated",     &["rate_per_second"]),
        asked("PUT",    "/connections/{connection}/mappings/default",  &connection,   mapping,                                          "mapping.saved",      &["schema"]),
        asked("POST",   "/rules",                                      "",            json!({ "workspace": workspace, "connection": connection, "event": "n.n", "metadata": action }), "rule.created", &[]),
        asked("PATCH",  "/rules/{rule}",                               &rule,         json!({ "active": false }),                       "rule.updated",       &["active"]),
        asked("DELETE", "/rules/{rule}",                               &old_rule,     none.clone(),                                     "rule.deleted",       &[]),
        asked("POST",   "/events/{event}/rules/{rule}/retry",          &of_event,     none.clone(),                                     "delivery.retried",   &[]),
        asked("POST",   "/events/{event}/rules/{rule}/cancel",         &format!("{first} {waiting_rule}"), none.clone(),         "delivery.canceled",  &[]),
        asked("POST",   "/events/{event}/cancel",                      &second,       none.clone(),                                     "event.canceled",     &[]),
        asked("POST",   "/sessions",                                   "",            json!({ "workspace_id": workspace }),             "session.created",    &[]),
        asked("POST",   "/sessions/{session}/refresh",                 &text(&session["session_id"]), none.clone(),                     "session.refreshed",  &[]),
        asked("DELETE", "/sessions/{session}",                         &text(&session["session_id"]), none.clone(),                     "session.revoked",    &[]),
        asked("POST",   "/keys",                                       "",            json!({ "name": "new" }),                         "key.created",        &[]),
        asked("DELETE", "/keys/{access_key}",                          &key,          none.clone(),                                     "key.revoked",        &[]),
        asked("PUT",    "/organization",                               "",            json!({ "name": "Ours" }),                        "organization.updated", &["name"]),
        asked("PATCH",  "/users/{user}",                               &user.id,      json!({ "role": "admin", "payloads": true }),     "user.updated",       &["role", "payloads"]),
        asked("POST",   "/users/{user}/reset",                         &user.id,      none.clone(),                                     "user.reset_created", &["reset"]),
        asked("DELETE", "/users/{user}/reset",                         &user.id,      none.clone(),                                     "user.reset_deleted", &["reset"]),
        asked("DELETE", "/users/{user}",                               &user.id,      none.clone(),                                     "user.deleted",       &[]),
        asked("POST",   "/invitations",                                "",            json!({ "email": "new@example.com", "role": "member" }), "invitation.created", &[]),
        asked("DELETE", "/invitations/{invitation}",                   &text(&invited["invitation"]["id"]), none.clone(),               "invitation.deleted", &[]),
        asked("POST",   "/invitations/accept",                         "",            json!({ "token": joining, "name": "J", "password": word }), "invitation.accepted", &[]),
        asked("POST",   "/sign-in",                                    "",            json!({ "email": signer.email, "password": word }), "user.signed_in",   &[]),
        asked("POST",   "/password",                                   "",            json!({ "current_password": word, "password": "another password" }), "user.password_changed", &["password"]),
        asked("POST",   "/password/reset",                             "",            json!({ "token": by_link, "password": "another password" }), "user.password_changed", &["password", "reset"]),
        asked("POST",   "/sign-out",                                   "",            none.clone(),                                     "user.signed_out",    &[]),
        asked("DELETE", "/connections/{connection}",                   &connection,   json!({ "force_delete": true }),                  "connection.deleted", &[]),
    ];
    let told: BTreeSet<_> = all.iter().map(|one| one.route).collect();
    let changing = ROUTES.iter().filter(|(method, path, whom, _)| {
        !["GET", "OPTIONS"].contains(method) && *whom != For::Anybody && !NO_CHANGE.contains(&(method, path))
    });
    assert_eq!(
        told,
        changing.map(|(method, path, ..)| (*method, *path)).collect(),
        "all that change something"
    );

    let mut signed_in = weft.sign_in(&signer).await;
    for (number, one) in all.iter().enumerate() {
        let Asked { route: (method, route), path, body, action, changed } = one;
        let why = format!("{method} {route}");
        let whom = ROUTES.iter().find(|(m, r, ..)| (m, r) == (method, route)).expect("a route").2;
        if *route == "/sign-out" {
            let body = json!({ "email": signer.email, "password": "another password" });
            let answer = send(weft.request(Method::POST, "/api/v1/sign-in").json(&body)).await;
            signed_in = text(&answer.answered(200, "signed in again")["access_token"]);
        }
        let before = weft.audit("limit=200").await.len();
        let request_id = format!("asked-{number}");
        let mut request = weft.request(method.parse().expect("a method"), &format!("/api/v1{path}"));
        request = request.header("x-request-id", &request_id).json(body);
        request = match whom {
            For::User => request.bearer_auth(&signed_in),
            For::Proof => request,
            _ => request.bearer_auth(weft.token()),
        };
        let answer = send(request).await;
        assert!([200, 201].contains(&answer.status), "{why}: {} {}", answer.status, answer.text);
        let lines = weft.audit("limit=200").await;
        assert_eq!(lines.len(), before + 1, "{why}: one line");
        let line = &lines[0];
        assert_members(
            line,
            &["id", "created_at", "action", "actor", "subject", "workspace", "changed"],
            &why,
        );
        assert_eq!(line["action"], *action, "{why}");
        let actor = &line["actor"];
        match whom {
            For::User | For::Proof => {
                assert_eq!(actor["type"], "user", "{why}");
                assert!(actor["name"].as_str().is_some_and(|name| name.contains('@')), "{why}: {actor}");
            }
            _ => assert_eq!(
                (&actor["type"], &actor["id"]),
                (&json!("key"), &json!(weft.machine.access_key)),
                "{why}"
            ),
        }
        assert_eq!((&actor["ip_address"], &actor["request_id"]), (&json!("127.0.0.1"), &json!(request_id)));
        let about = if route.starts_with("/workspaces/{") { &json!(workspace) } else { &line["workspace"] };
        assert_eq!(&line["workspace"], about, "{why}");
        let mut fields: Vec<_> =
            line["changed"].as_array().expect("a list").iter().map(|field| text(field)).collect();
        if *changed != ["*"] {
            fields.sort_unstable();
            let mut expected = changed.to_vec();
            expected.sort_unstable();
            assert_eq!(fields, expected, "{why}");
        }
    }
    // A tool is one more way to the same routes, in the name of the same machine.
    let arguments = json!({ "workspace_id": workspace, "name": "By a tool" });
    let params = json!({ "name": "meshes_update_workspace", "arguments": arguments });
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
    let request = weft.request(Method::POST, "/mcp").bearer_auth(weft.token()).json(&call);
    assert_eq!(send(request.header("x-request-id", "by-tool")).await.status, 200);
    let line = weft.audit("limit=1").await[0].clone();
    assert_eq!((&line["action"], &line["changed"]), (&json!("workspace.updated"), &json!(["name"])));
    let actor = &line["actor"];
    assert_eq!((&actor["id"], &actor["ip_address"]), (&json!(weft.machine.access_key), &json!("127.0.0.1")));

    // What is refused, or changes nothing, leaves none.
    let before = weft.audit("limit=200").await.len();
    weft.delete(&format!("/connections/{connection}")).await.refused(404, "not found", "gone");
    weft.put("/organization", json!({ "name": "Ours" })).await.answered(200, "as it is");
    assert_eq!(weft.audit("limit=200").await.len(), before);

    // It says what changed and never what it is, and is all there after a restart.
    let whole = json!(weft.audit("limit=200").await);
    for secret in [word, "another password", "argon2", "invite.", "reset.", &receiver.url("/new"), "mesh_pub"]
    {
        assert!(!whole.to_string().contains(secret), "{secret} is told");
    }
    let weft = weft.restart().await;
    assert_eq!(json!(weft.audit("limit=200").await), whole);
    weft.stop().await;
}

/// What is asked for is what is shown, newest first, page by page.
#[tokio::test]
async fn the_log_is_asked_by_workspace_actor_action_subject_and_time() {
    let (weft, receiver) = (Weft::start().await, Receiver::start(crate::support::Reply::ok).await);
    let connection = weft.webhook(&receiver.url("/")).await;
    weft.post(&format!("/connections/{connection}/pause"), json!({})).await.answered(200, "paused");
    let (other, _) = weft.sibling("other").await;
    weft.rule("a.b", &connection).await;
    let user = weft.user("owner").await;
    let token = weft.sign_in(&user).await;
    let path = format!("/connections/{connection}/resume");
    weft.ask_as(&token, Method::POST, &path, None).await.answered(200, "by a user");
    let session = weft.mint(json!({ "role": "admin", "external_user_id": "grace" })).await;
    weft.ask_in(&session, Method::POST, &format!("/connections/{connection}/pause"), None)
        .await
        .answered(200, "by a session");

    let actions = async |query: &str| {
        weft.audit(query).await.iter().map(|line| text(&line["action"])).collect::<Vec<_>>()
    };
    let updated = "connection.updated";
    let all = weft.audit("").await;
    let middle = text(&all[2]["created_at"]);
    let newer = all.iter().filter(|line| text(&line["created_at"]) >= middle).count();
    #[rustfmt::skip]
    let cases = [
        (format!("subject={connection}"),                   vec![updated, updated, updated, "connection.created"]),
        (format!("subject={connection}&action={updated}"),  vec![updated, updated, updated]),
        (format!("actor={}&action=connection.*", user.id),  vec![updated]),
        (format!("actor={}&action=connection.*", user.email.replace('+', "%2B")), vec![updated]),
        ("actor=grace".to_owned(),                          vec![updated]),
        (format!("actor={}", text(&session["session_id"])), vec![updated]),
        (format!("workspace={other}&action=connection.*"),  vec![]),
        (format!("workspace={}&action=rule.*", weft.workspace), vec!["rule.created"]),
        ("action=rule".to_owned(),                          vec![]),
        ("after=2999-01-01T00:00:00Z".to_owned(),           vec![]),
        ("before=2000-01-01T00:00:00Z".to_owned(),          vec![]),
    ];
    for (query, expected) in cases {
        assert_eq!(actions(&query).await, expected, "{query}");
    }
    let (after, before) = (format!("after={middle}"), format!("before={middle}"));
    assert_eq!(weft.audit(&after).await, all[..newer], "from then on");
    assert_eq!(weft.audit(&before).await, all[newer..], "before");

    let (mut paged, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = weft.get(&format!("/audit?limit=2{cursor}")).await.answered(200, "a page");
        paged.extend(page["records"].as_array().expect("a list").clone());
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(paged, all);
    for (query, names) in [
        ("workspace=x", "workspace"),
        ("workspace=", "workspace"),
        ("after=yesterday", "after"),
        ("before=", "before"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("cursor=x", "cursor"),
    ] {
        weft.get(&format!("/audit?{query}")).await.assert_error(400, names, query);
    }
    weft.stop().await;
}

/// A key that is limited to a workspace sees that one's log and no other; another organization's is not there.
#[tokio::test]
async fn a_log_is_shown_to_who_may_manage_keys_there() {
    let weft = Weft::start().await;
    let (other, _) = weft.sibling("other").await;
    let made = weft.post("/keys", json!({ "name": "limited", "workspaces": [weft.workspace] })).await;
    let made = made.answered(201, "a key")["key"].clone();
    let limited = actors::engine::MachineKeyClear {
        access_key: text(&made["access_key"]),
        secret: actors::domain::secret::Secret::new(text(&made["secret_key"])),
        ..weft.machine.clone()
    };
    let token = weft.token_of(&limited);
    let ask = async |query: &str| weft.ask_as(&token, Method::GET, &format!("/audit{query}"), None).await;
    let shown = ask(&format!("?workspace={}", weft.workspace)).await.answered(200, "its own");
    let lines = shown["records"].as_array().expect("a list");
    assert!(!lines.is_empty() && lines.iter().all(|line| line["workspace"] == weft.workspace));
    ask("").await.refused(403, "these credentials may not", "the organization's");
    ask(&format!("?workspace={other}")).await.refused(404, "workspace not found", "another");
    let (_, theirs, _) = weft.stranger().await;
    weft.get(&format!("/audit?workspace={theirs}")).await.refused(404, "workspace not found", "a stranger's");
    weft.stop().await;
}

/// What the server does by itself to what people have set up is in the log, too.
#[tokio::test]
async fn a_connection_that_the_server_turns_off_says_so() {
    let (weft, receiver) = (Weft::start().await, Receiver::script(&[401; 64]).await);
    let settings = json!({ "auth_scheme": "bearer", "bearer_token": "t" });
    let connection = weft.webhook_with(&receiver.url("/"), settings, json!({})).await;
    weft.rule("a.b", &connection).await;
    weft.send_event("a.b", json!({ "n": 1 })).await;
    let line = crate::support::until("it is turned off", async || {
        weft.audit(&format!("subject={connection}&action=connection.updated")).await.into_iter().next()
    });
    let line = line.await;
    assert_eq!((&line["actor"]["type"], &line["actor"]["id"]), (&json!("system"), &json!("weft")));
    assert_eq!(line["changed"], json!(["inactive"]));
    weft.stop().await;
}
