//! I9: every route, asked by everybody it is not for. A stranger learns nothing and changes nothing,
//! and cannot tell what is another's from what is not there.

use crate::support::{Answer, Receiver, Weft, ids, send, text, token};
use actors::{clock::Clock, engine::MachineKeyClear};
use reqwest::{Method, header};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Whom a route answers.
#[derive(Clone, Copy, PartialEq)]
pub enum For {
    /// A machine of the organization.
    Machine,
    /// A publishable key too.
    Sender,
    /// A user who signed in.
    User,
    /// Whoever proves in the body who they are.
    Proof,
    /// Anybody: it tells nothing of tenants.
    Anybody,
}
use For::{Anybody, Machine, Proof, Sender, User};

impl For {
    /// Whether the route asks for no credentials in a header.
    pub fn is_open(self) -> bool {
        matches!(self, Anybody | Proof)
    }
}

/// What a route asks of a session: something about connections, rules, events or names. `NONE`: it is for no session.
type Of = Option<(char, char)>;
const NONE: Of = None;
const CONNECTIONS_READ: Of = Some(('c', 'r'));
const CONNECTIONS_WRITE: Of = Some(('c', 'w'));
const RULES_READ: Of = Some(('r', 'r'));
const RULES_WRITE: Of = Some(('r', 'w'));
pub const CATALOGUE: Of = Some(('n', 'r'));
const EVENTS_READ: Of = Some(('e', 'r'));
const EVENTS_WRITE: Of = Some(('e', 'w'));
const PAYLOAD: Of = Some(('e', 'p'));

/// Every route there is, whom it answers, and what it asks of a session. A new one fails
/// [`the_list_is_complete`] until it is here, and so is asked by strangers and by every kind of session.
#[rustfmt::skip]
pub const ROUTES: [(&str, &str, For, Of); 85] = [
    ("GET",      "/workspaces",                                                       Machine,  NONE),
    ("POST",     "/workspaces",                                                       Machine,  NONE),
    ("GET",      "/workspaces/{workspace}",                                           Machine,  NONE),
    ("PUT",      "/workspaces/{workspace}",                                           Machine,  NONE),
    ("POST",     "/workspaces/{workspace}/publishable-key/rotate",                    Machine,  NONE),
    ("GET",      "/workspaces/{workspace}/connections",                               Machine,  CONNECTIONS_READ),
    ("GET",      "/workspaces/{workspace}/rules",                                     Machine,  RULES_READ),
    ("GET",      "/workspaces/{workspace}/events",                                    Machine,  EVENTS_READ),
    ("GET",      "/workspaces/{workspace}/event-types",                                               Machine,  CATALOGUE),
    ("PUT",      "/workspaces/{workspace}/event-types/{key}",                                         Machine,  NONE),
    ("GET",      "/workspaces/{workspace}/resources",                                                 Machine,  CATALOGUE),
    ("PUT",      "/workspaces/{workspace}/resources/{key}",                                           Machine,  NONE),
    ("GET",      "/workspaces/{workspace}/events/export",                                             Machine,  EVENTS_READ),
    ("POST",     "/workspaces/{workspace}/rules/preview",                                             Machine,  PAYLOAD),
    ("POST",     "/workspaces/{workspace}/events/test",                                               Machine,  RULES_WRITE),
    ("POST",     "/workspaces/{workspace}/rules/{rule}/test",                                         Machine,  RULES_WRITE),
    ("GET",      "/connections",                                                      Machine,  NONE),
    ("POST",     "/connections",                                                      Machine,  CONNECTIONS_WRITE),
    ("POST",     "/connections/oauth",                                                Machine,  CONNECTIONS_WRITE),
    ("GET",      "/connections/{connection}",                                         Machine,  CONNECTIONS_READ),
    ("PUT",      "/connections/{connection}",                                         Machine,  CONNECTIONS_WRITE),
    ("PATCH",    "/connections/{connection}",                                         Machine,  CONNECTIONS_WRITE),
    ("DELETE",   "/connections/{connection}",                                         Machine,  CONNECTIONS_WRITE),
    ("POST",     "/connections/{connection}/pause",                                   Machine,  CONNECTIONS_WRITE),
    ("POST",     "/connections/{connection}/resume",                                  Machine,  CONNECTIONS_WRITE),
    ("GET",      "/connections/{connection}/actions",                                                 Machine,  CONNECTIONS_READ),
    ("GET",      "/connections/{connection}/fields",                                                  Machine,  CONNECTIONS_READ),
    ("GET",      "/connections/{connection}/mappings/default",                                        Machine,  CONNECTIONS_READ),
    ("PUT",      "/connections/{connection}/mappings/default",                                        Machine,  CONNECTIONS_WRITE),
    ("GET",      "/integrations",                                                                     Machine,  CATALOGUE),
    ("GET",      "/rules",                                                            Machine,  NONE),
    ("POST",     "/rules",                                                            Machine,  RULES_WRITE),
    ("GET",      "/rules/{rule}",                                                     Machine,  RULES_READ),
    ("PATCH",    "/rules/{rule}",                                                     Machine,  RULES_WRITE),
    ("DELETE",   "/rules/{rule}",                                                     Machine,  RULES_WRITE),
    ("GET",      "/events",                                                           Machine,  NONE),
    ("POST",     "/events",                                                           Sender,   NONE),
    ("OPTIONS",  "/events",                                                           Anybody,  NONE),
    ("POST",     "/events/bulk",                                                      Sender,   NONE),
    ("OPTIONS",  "/events/bulk",                                                      Anybody,  NONE),
    ("GET",      "/events/{event}",                                                   Machine,  EVENTS_READ),
    ("GET",      "/events/{event}/payload",                                           Machine,  PAYLOAD),
    ("POST",     "/events/{event}/cancel",                                            Machine,  EVENTS_WRITE),
    ("POST",     "/events/{event}/rules/{rule}/retry",                                Machine,  EVENTS_WRITE),
    ("POST",     "/events/{event}/rules/{rule}/cancel",                               Machine,  EVENTS_WRITE),
    ("GET",      "/events/{event}/rules/{rule}/attempts",                             Machine,  EVENTS_READ),
    ("GET",      "/events/{event}/rules/{rule}/attempts/{attempt}",                   Machine,  EVENTS_READ),
    ("GET",      "/events/{event}/rules/{rule}/attempts/{attempt}/response-details",  Machine,  PAYLOAD),
    ("GET",      "/replays",                                                          Machine,  NONE),
    ("POST",     "/replays",                                                          Machine,  NONE),
    ("GET",      "/replays/{replay}",                                                 Machine,  NONE),
    ("PATCH",    "/replays/{replay}",                                                 Machine,  NONE),
    ("GET",      "/sessions",                                                         Machine,  NONE),
    ("POST",     "/sessions",                                                         Machine,  NONE),
    ("DELETE",   "/sessions/{session}",                                               Machine,  NONE),
    ("POST",     "/sessions/{session}/refresh",                                       Machine,  NONE),
    ("GET",      "/keys",                                                             Machine,  NONE),
    ("POST",     "/keys",                                                             Machine,  NONE),
    ("DELETE",   "/keys/{access_key}",                                                Machine,  NONE),
    ("GET",      "/usage",                                                            Machine,  NONE),
    ("GET",      "/workspaces/{workspace}/usage",                                     Machine,  NONE),
    ("GET",      "/plan",                                                             Machine,  NONE),
    ("GET",      "/organization",                                                     Machine,  NONE),
    ("PUT",      "/organization",                                                     Machine,  NONE),
    ("GET",      "/users",                                                            Machine,  NONE),
    ("PATCH",    "/users/{user}",                                                     Machine,  NONE),
    ("DELETE",   "/users/{user}",                                                     Machine,  NONE),
    ("POST",     "/users/{user}/reset",                                               Machine,  NONE),
    ("DELETE",   "/users/{user}/reset",                                               Machine,  NONE),
    ("GET",      "/invitations",                                                      Machine,  NONE),
    ("POST",     "/invitations",                                                      Machine,  NONE),
    ("DELETE",   "/invitations/{invitation}",                                         Machine,  NONE),
    ("POST",     "/invitations/accept",                                               Proof,    NONE),
    ("POST",     "/sign-in",                                                          Proof,    NONE),
    ("POST",     "/sign-out",                                                         User,     NONE),
    ("POST",     "/password",                                                         User,     NONE),
    ("POST",     "/password/reset",                                                   Proof,    NONE),
    ("GET",      "/audit",                                                            Machine,  NONE),
    ("GET",      "/healthz",                                                          Anybody,  NONE),
    ("GET",      "/readyz",                                                           Anybody,  NONE),
    ("GET",      "/metrics",                                                          Anybody,  NONE),
    ("GET",      "/oauth/start",                                                      Anybody,  NONE),
    ("GET",      "/oauth/callback",                                                   Anybody,  NONE),
    ("GET",      "/openapi.json",                                                     Anybody,  NONE),
    ("POST",     "/mcp",                                                              Machine,  NONE),
];

/// The table of routes as the server's source has it.
const SOURCE: &str = include_str!("../../src/api/mod.rs");

/// The table of routes as the server's source has it: method, path, and the permission that is asked for.
pub fn table() -> Vec<(String, String, Option<String>)> {
    let table = SOURCE.split("fn routes()").nth(1).expect("the table").split("\n}").next().expect("its end");
    for other in [".nest(", ".merge(", ".route_service(", ".fallback_service("] {
        let expected = usize::from(other == ".nest(");
        let found = table.matches(other).count();
        assert_eq!(found, expected, "{other} brings routes that this test does not see");
    }
    let mut found = Vec::new();
    for route in table.split(".route(").skip(1) {
        let path = route.split('"').nth(1).expect("a path");
        for method in ["get", "post", "put", "patch", "delete", "options", "head", "any", "on"] {
            let call = format!("{method}(");
            let is_call = |at: usize| !route[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            let Some((at, _)) = route.match_indices(&call).find(|(at, _)| is_call(*at)) else { continue };
            // The `ask(` it is in, if it is in one: all that was opened since is not closed.
            let asked = route[..at].rfind("ask(").map(|from| &route[from..at]);
            let depth = |text: &str| text.matches('(').count() as i64 - text.matches(')').count() as i64;
            let asked = asked.filter(|text| depth(text) > 0);
            let permission =
                asked.map(|text| text["ask(".len()..].split(',').next().unwrap_or_default().trim());
            found.push((method.to_uppercase(), path.to_owned(), permission.map(str::to_owned)));
        }
    }
    found
}

#[test]
fn the_list_is_complete() {
    let found = table();
    for (method, path, asks) in &found {
        let whom = ROUTES
            .iter()
            .find(|(of, at, ..)| (of, at) == (&&**method, &&**path))
            .map(|(_, _, whom, _)| *whom);
        // What a tool of /mcp may is asked where the tool's own route is.
        let asks_itself = whom.is_some_and(|whom| whom == Sender || whom.is_open()) || path == "/mcp";
        assert!(asks.is_some() || asks_itself, "{method} {path} asks nothing of its caller");
    }
    let found: BTreeSet<_> = found.into_iter().map(|(method, path, _)| (method, path)).collect();
    let listed: BTreeSet<_> =
        ROUTES.iter().map(|(method, path, ..)| ((*method).to_owned(), (*path).to_owned())).collect();
    assert_eq!(found, listed, "ROUTES and src/api/mod.rs are not the same");
}

/// An organization with one of everything, and its ids by their names in paths.
pub struct World {
    pub weft: Weft,
    pub ids: BTreeMap<&'static str, String>,
    receiver: Receiver,
}

impl World {
    pub async fn new() -> Self {
        let (weft, receiver) = (Weft::start().await, Receiver::script(&[400]).await);
        let connection = weft.webhook(&receiver.url("/")).await;
        let rule = weft.rule("a.b", &connection).await;
        let event = weft.send_event("a.b", json!({ "secret": "of the tenant" })).await;
        weft.event_as(&event, "failed").await;
        let attempt = text(&weft.attempts(&event, &rule, 1).await[0]["id"]);
        let minted = weft.post("/sessions", json!({ "workspace_id": weft.workspace })).await;
        let session = text(&minted.answered(200, "a session")["session_id"]);
        let made = weft.post("/keys", json!({ "name": "second" })).await.answered(201, "a key");
        // Of nothing, so that nothing comes of it.
        let filter = json!({ "event": "nobody sends this" });
        let replay = weft.post("/replays", json!({ "workspace": weft.workspace, "filter": filter })).await;
        let replay = text(&replay.answered(201, "a replay")["replay"]["id"]);
        weft.replay_over(&replay).await;
        let user = weft.user("owner").await;
        let invitation = weft.invite("somebody@example.com", "member").await;
        let ids = BTreeMap::from([
            ("replay", replay),
            ("user", user.id),
            ("invitation", text(&invitation["invitation"]["id"])),
            ("session", session),
            ("access_key", text(&made["key"]["access_key"])),
            ("workspace", weft.workspace.clone()),
            ("connection", connection),
            ("rule", rule),
            ("event", event),
            ("attempt", attempt),
            ("key", "stolen".to_owned()),
        ]);
        Self { weft, ids, receiver }
    }

    /// Where something receives.
    pub fn url(&self) -> String {
        self.receiver.url("/")
    }

    /// A path with these ids in it.
    pub fn path(template: &str, ids: &BTreeMap<&'static str, String>) -> String {
        let below = if template.starts_with("/healthz")
            || template.starts_with("/readyz")
            || template.starts_with("/metrics")
            || template.starts_with("/oauth")
            || template == "/openapi.json"
            || template.starts_with("/mcp")
        {
            ""
        } else {
            "/api/v1"
        };
        let query =
            if ["/sessions", "/replays"].contains(&template) { "?workspace_id={workspace}" } else { "" };
        ids.iter().fold(format!("{below}{template}{query}"), |path, (name, id)| {
            path.replace(&format!("{{{name}}}"), id)
        })
    }

    /// A body that would do something, where a route has one.
    pub fn body(&self, method: &str, path: &str) -> Option<Value> {
        let metadata = json!({ "url": "http://127.0.0.1:9/stolen", "skip_test": true });
        let (workspace, connection) = (&self.ids["workspace"], &self.ids["connection"]);
        let event = json!({ "workspace": workspace, "event": "a.b", "payload": { "n": 1 } });
        Some(match (method, path) {
            ("POST", "/workspaces") | ("PUT", "/workspaces/{workspace}") => json!({ "name": "Stolen" }),
            ("POST", "/connections") => {
                json!({ "workspace": workspace, "type": "webhook", "name": "Stolen", "metadata": metadata })
            }
            ("POST", "/connections/oauth") => {
                json!({ "workspace": workspace, "type": "webhook", "name": "Stolen" })
            }
            ("PUT" | "PATCH", "/connections/{connection}") => {
                json!({ "name": "Stolen", "metadata": metadata })
            }
            ("PUT", "/connections/{connection}/mappings/default") => {
                json!({ "schema": { "schema_version": 1, "fields": [] } })
            }
            ("PUT", _) if path.ends_with("/{key}") => json!({ "label": "Stolen" }),
            ("DELETE", "/connections/{connection}") => json!({ "force_delete": true }),
            ("POST", "/rules") => {
                json!({ "workspace": workspace, "connection": connection, "event": "*", "metadata": { "action": "send_webhook" } })
            }
            ("POST", "/replays") => json!({ "workspace": workspace, "filter": {} }),
            ("PATCH", "/replays/{replay}") => json!({ "rate_per_second": 1 }),
            ("POST", "/sessions") => json!({ "workspace_id": workspace }),
            ("POST", "/keys") | ("PUT", "/organization") => json!({ "name": "Stolen" }),
            ("PATCH", "/users/{user}") => json!({ "role": "owner" }),
            ("POST", "/invitations") => json!({ "email": "thief@example.com", "role": "owner" }),
            ("POST", "/invitations/accept") => {
                json!({ "token": "invite.x.y", "name": "Thief", "password": "a long password" })
            }
            ("POST", "/sign-in") => json!({ "email": "thief@example.com", "password": "a long password" }),
            ("POST", "/password") => {
                json!({ "current_password": "a long password", "password": "another password" })
            }
            ("POST", "/password/reset") => json!({ "token": "reset.x.y", "password": "a long password" }),
            ("PATCH", "/rules/{rule}") => json!({ "event": "*" }),
            ("POST", "/workspaces/{workspace}/rules/preview") => json!({ "event": "*" }),
            ("POST", "/workspaces/{workspace}/events/test") => json!({ "event": "a.b" }),
            ("POST", "/events") => event,
            ("POST", "/events/bulk") => json!([event]),
            ("POST", "/mcp") => {
                let arguments = json!({ "workspace_id": workspace, "name": "Stolen" });
                let params = json!({ "name": "meshes_update_workspace", "arguments": arguments });
                json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params })
            }
            _ => return None,
        })
    }

    pub async fn ask(
        &self,
        method: &str,
        target: &str,
        headers: &[(&'static str, String)],
        body: Option<&Value>,
    ) -> Answer {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = self.weft.request(method, target);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        send(match body {
            Some(body) => request.json(body),
            None => request,
        })
        .await
    }

    /// All that its owner sees.
    pub async fn seen(&self) -> Vec<Value> {
        let owner = [("authorization", format!("Bearer {}", self.weft.token()))];
        let mut seen = Vec::new();
        for (method, path, whom, _) in ROUTES {
            if method == "GET" && whom == Machine {
                let answer = self.ask(method, &Self::path(path, &self.ids), &owner, None).await;
                assert_eq!(answer.status, 200, "{path}: {}", answer.text);
                let mut shown = answer.body;
                // Looking is using.
                for record in shown.get_mut("records").and_then(Value::as_array_mut).into_iter().flatten() {
                    record.as_object_mut().expect("a record").remove("last_used_at");
                }
                seen.push(shown);
            }
        }
        seen
    }

    /// Nothing in an answer is ours.
    pub fn assert_reveals_nothing(&self, answer: &Answer, why: &str) {
        let ours = self.ids.values().map(String::as_str);
        for told in
            ours.chain(["of the tenant", "a.b", &self.weft.machine.access_key, &self.weft.publishable_key])
        {
            assert!(!answer.text.contains(told), "{why}: {told} is told in {}", answer.text);
        }
    }
}

fn bearer(machine: &MachineKeyClear) -> Vec<(&'static str, String)> {
    vec![("authorization", format!("Bearer {}", token(machine)))]
}

#[tokio::test]
async fn without_the_right_credentials_no_route_answers() {
    let world = World::new().await;
    let weft = &world.weft;
    let before = world.seen().await;
    let (stranger, ..) = weft.stranger().await;
    let key = weft.publishable_key.clone();
    let of = |machine: &MachineKeyClear, organization| {
        let now = Clock::system().now();
        format!("Bearer {}", weft::auth::sign(&machine.access_key, &machine.secret, organization, now, 30))
    };
    let ours = weft.machine.organization_id;
    let tampered = {
        let token = weft.token();
        let (signed, signature) = token.rsplit_once('.').expect("a signature");
        let other = if signature.starts_with('A') { "B" } else { "A" };
        format!("Bearer {signed}.{other}{}", &signature[1..])
    };
    const AUTH: &str = "authorization";
    #[rustfmt::skip]
    let credentials = [
        // why                                        headers
        ("none",                                      vec![]),
        ("a publishable key",                         vec![("x-meshes-publishable-key", key.clone())]),
        ("a publishable key as a token",              vec![(AUTH, format!("Bearer {key}"))]),
        ("a stranger who claims our organization",    vec![(AUTH, of(&stranger, ours))]),
        ("our key with their organization",           vec![(AUTH, of(&weft.machine, stranger.organization_id))]),
        ("a tampered signature",                      vec![(AUTH, tampered)]),
        ("another scheme",                            vec![(AUTH, format!("Basic {}", weft.token()))]),
        ("a cookie",                                  vec![("cookie", format!("token={}", weft.token()))]),
        ("two tokens",                                vec![(AUTH, format!("Bearer {}", weft.token())), (AUTH, format!("Bearer {}", weft.token()))]),
    ];
    for (method, path, whom, _) in ROUTES {
        let target = World::path(path, &world.ids);
        let body = world.body(method, path);
        for (why, headers) in &credentials {
            let why = format!("{method} {path} with {why}");
            if whom.is_open()
                || (whom == Sender && headers.iter().any(|(name, _)| *name == "x-meshes-publishable-key"))
            {
                continue;
            }
            let answer = world.ask(method, &target, headers, body.as_ref()).await;
            answer.refused(401, "invalid or missing credentials", &why);
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{why}");
            world.assert_reveals_nothing(&answer, &why);
        }
        if whom == Machine {
            let in_query = format!("{target}?access_token={}&token={0}", weft.token());
            let answer = world.ask(method, &in_query, &[], body.as_ref()).await;
            answer.refused(
                401,
                "invalid or missing credentials",
                &format!("{method} {path} with a token in the query"),
            );
        }
    }
    assert_eq!(world.seen().await, before, "nothing was changed");
    world.weft.stop().await;
}

#[tokio::test]
async fn another_organization_finds_nothing_and_changes_nothing() {
    let world = World::new().await;
    let before = world.seen().await;
    let (stranger, their_workspace, their_key) = world.weft.stranger().await;
    let unknown: BTreeMap<_, _> =
        world.ids.keys().map(|name| (*name, uuid::Uuid::now_v7().to_string())).collect();
    let upper: BTreeMap<_, _> = world.ids.iter().map(|(name, id)| (*name, id.to_uppercase())).collect();
    for (method, path, whom, _) in ROUTES {
        if whom.is_open() {
            continue;
        }
        let why = format!("{method} {path}");
        let body = world.body(method, path);
        let theirs = bearer(&stranger);
        let foreign = world.ask(method, &World::path(path, &world.ids), &theirs, body.as_ref()).await;
        if !path.contains('{') {
            match (method, path) {
                ("GET", "/keys") => {
                    let listed = &foreign.body["records"];
                    assert_eq!((foreign.status, listed.as_array().map(Vec::len)), (200, Some(1)), "{why}");
                    assert_eq!(listed[0]["access_key"], stranger.access_key, "{why}");
                }
                ("GET" | "PUT", "/organization") => {
                    assert_eq!(foreign.body["id"], stranger.organization_id.to_string(), "{why}: their own");
                }
                (_, "/sign-out" | "/password") => {
                    foreign.refused(403, "these credentials may not do this", &why);
                }
                ("GET", "/plan") => {
                    let theirs = &foreign.body["limits"]["connections"]["used"];
                    assert_eq!((foreign.status, theirs), (200, &json!(0)), "{why}: their own");
                }
                ("GET", "/usage") => {
                    assert_eq!((foreign.status, &foreign.body["records"]), (200, &json!([])), "{why}");
                }
                ("GET", "/sessions" | "/replays") => foreign.refused(404, "workspace not found", &why),
                // The same for everybody: what this server can connect to.
                ("GET", "/integrations") => assert_eq!(foreign.status, 200, "{why}"),
                ("GET", _) => {
                    let listed = ids(&foreign.body);
                    assert_eq!(foreign.status, 200, "{why}");
                    assert!(
                        listed.iter().all(|id| !world.ids.values().any(|ours| ours == id)),
                        "{why}: {listed:?}"
                    );
                }
                ("POST", "/workspaces" | "/keys" | "/invitations") => {
                    assert_eq!(foreign.status, 201, "{why}: into their own organization")
                }
                ("POST", "/events/bulk") => {
                    assert_eq!(foreign.status, 207, "{why}");
                    assert_eq!(foreign.body["records"][0]["message"], "workspace not found", "{why}");
                }
                ("POST", "/mcp") => {
                    let told = text(&foreign.body["result"]["content"][0]["text"]);
                    assert!(told.starts_with("Meshes API 404: "), "{why}: {told}");
                }
                _ => foreign.refused(404, "workspace not found", &why),
            }
            world.assert_reveals_nothing(&foreign, &why);
            continue;
        }
        world.assert_reveals_nothing(&foreign, &why);
        // Ours, spelled as they like, and what nobody has: one and the same answer.
        let none = world.ask(method, &World::path(path, &unknown), &theirs, body.as_ref()).await;
        none.refused(404, "not found", &why);
        for (spelling, answer) in [
            ("as it is", foreign),
            ("in upper case", world.ask(method, &World::path(path, &upper), &theirs, body.as_ref()).await),
        ] {
            assert_eq!((answer.status, answer.message()), (404, none.message()), "{why} {spelling}");
            assert_eq!(answer.body["error"], none.body["error"], "{why} {spelling}");
        }
    }
    // A rule of theirs to a connection of ours.
    let body = json!({ "workspace": their_workspace, "connection": world.ids["connection"], "event": "*", "metadata": { "action": "send_webhook" } });
    let answer = world.ask("POST", "/api/v1/rules", &bearer(&stranger), Some(&body)).await;
    answer.refused(404, "connection not found", "their rule, our connection");
    // Their publishable key, our workspace.
    let event = json!({ "workspace": world.ids["workspace"], "event": "a.b", "payload": { "n": 1 } });
    let key = [("x-meshes-publishable-key", their_key)];
    let answer = world.ask("POST", "/api/v1/events", &key, Some(&event)).await;
    answer.refused(400, "workspace is not the publishable key's workspace", "their key, our workspace");
    assert_eq!(world.seen().await, before, "nothing was changed");
    world.weft.stop().await;
}

#[tokio::test]
async fn what_is_no_id_names_nothing() {
    let world = World::new().await;
    let before = world.seen().await;
    for (method, path, whom, _) in ROUTES {
        if whom.is_open() || !path.contains('{') {
            continue;
        }
        let body = world.body(method, path);
        for name in [
            "workspace",
            "connection",
            "rule",
            "event",
            "attempt",
            "session",
            "access_key",
            "user",
            "invitation",
        ] {
            let there = format!("{{{name}}}");
            let Some(id) = path.contains(&there).then(|| &world.ids[name]) else { continue };
            #[rustfmt::skip]
            let malformed = [
                "x".to_owned(), "%20".to_owned(), "0".to_owned(), "null".to_owned(), "%00".to_owned(), "..%2f..".to_owned(),
                "%ff%fe".to_owned(), "*".to_owned(), format!("{id}%00"), format!("{id}0"), id[1..].to_owned(), id.replace('-', ""), format!("%7B{id}%7D"),
                format!("urn:uuid:{id}"), format!("{id}%2f"), format!("{id};x=1"), "' or 1=1 --".replace(' ', "%20"), "9".repeat(2_000),
            ];
            for malformed in malformed.into_iter().filter(|malformed| malformed != id) {
                let mut ids = world.ids.clone();
                ids.insert(name, malformed.clone());
                let answer = world
                    .ask(method, &World::path(path, &ids), &bearer(&world.weft.machine), body.as_ref())
                    .await;
                let why = format!("{method} {path} with {name} {malformed}");
                answer.refused(404, "not found", &why);
                assert!(
                    !answer.text.contains(&malformed) || malformed.len() < 5,
                    "{why}: it is not told back"
                );
            }
        }
    }
    assert_eq!(world.seen().await, before, "nothing was changed");
    world.weft.stop().await;
}

#[tokio::test]
async fn a_wrong_method_is_405_for_everybody_and_does_nothing() {
    let world = World::new().await;
    let before = world.seen().await;
    let mut paths = BTreeMap::<&str, Vec<&str>>::new();
    for (method, path, ..) in ROUTES {
        paths.entry(path).or_default().push(method);
    }
    for (path, methods) in paths {
        let target = World::path(path, &world.ids);
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get"] {
            if methods.contains(&method) {
                continue;
            }
            for headers in [vec![], bearer(&world.weft.machine)] {
                let answer = world.ask(method, &target, &headers, None).await;
                let why = format!("{method} {path}");
                answer.refused(405, "does not have that method", &why);
                world.assert_reveals_nothing(&answer, &why);
                if let Some(allowed) = answer.header(header::ALLOW.as_str()) {
                    let mut allowed: Vec<&str> =
                        allowed.split(',').filter(|method| *method != "HEAD").collect();
                    allowed.sort_unstable();
                    let mut methods = methods.clone();
                    methods.sort_unstable();
                    assert_eq!(allowed, methods, "{why}");
                }
            }
        }
    }
    for path in [
        "/",
        "/api",
        "/api/v1",
        "/api/v1/",
        "/api/v2/events",
        "/api/v1/organizations",
        "/api/v1/events/",
        "/API/V1/events",
        "/api/v1//events",
    ] {
        world.ask("GET", path, &bearer(&world.weft.machine), None).await.refused(404, "not found", path);
    }
    assert_eq!(world.seen().await, before, "nothing was changed");
    world.weft.stop().await;
}

#[tokio::test]
async fn what_anybody_may_ask_tells_nothing_of_tenants() {
    let world = World::new().await;
    for (method, path, whom, _) in ROUTES {
        if whom == Anybody {
            let answer = world.ask(method, &World::path(path, &world.ids), &[], None).await;
            // A page that tells whoever has no ticket to start again.
            let is_fine = [200, 204].contains(&answer.status) != path.starts_with("/oauth");
            assert!(is_fine, "{path}: {}", answer.text);
            world.assert_reveals_nothing(&answer, path);
            let organization = world.weft.machine.organization_id.to_string();
            assert!(
                !answer.text.contains(&organization) && !answer.text.contains("127.0.0.1"),
                "{path}: {}",
                answer.text
            );
        }
    }
    // And no route but the two for browsers may be called from a page.
    for (method, path, whom, _) in ROUTES {
        let headers =
            [bearer(&world.weft.machine), vec![("origin", "https://page.example".to_owned())]].concat();
        let is_ingest = path == "/events" || path == "/events/bulk";
        if method == "GET" && !is_ingest && whom == Machine {
            let answer = world.ask(method, &World::path(path, &world.ids), &headers, None).await;
            assert_eq!(answer.header("access-control-allow-origin"), None, "{method} {path}");
        }
    }
    world.weft.stop().await;
}
