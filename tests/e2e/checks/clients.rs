//! Check 49: the Go client over every operation there is. Checks 48 and 50 are the MCP server's.

use super::shapes::{
    Attempt, BulkMade, BulkRecord, CatalogEntry, Connection, ConnectionDeleted, ConnectionMade,
    DefaultMapping, Event, EventMade, EventWithPayload, FieldCatalog, Id, Integration, List, LiveActions,
    MappingStatus, ResponseDetails, Rule, RuleDeleted, RuleEvent, RuleMade, SessionListed, SessionMade,
    SessionRefreshed, SessionRevoked, Workspace, WorkspaceMade, WorkspaceShown,
};
use crate::support::{Credentials, Go, Receiver, Reply, Weft};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{cell::RefCell, collections::BTreeSet};

/// Every operation of the contract's index, and the success statuses it declares.
#[rustfmt::skip] // the columns are the point
const INDEX: [(&str, &str, &[u16]); 38] = [
    ("GET",     "/workspaces",                                                          &[200]),
    ("POST",    "/workspaces",                                                          &[201]),
    ("GET",     "/workspaces/{}",                                                       &[200]),
    ("PUT",     "/workspaces/{}",                                                       &[200]),
    ("GET",     "/workspaces/{}/connections",                                           &[200]),
    ("GET",     "/workspaces/{}/rules",                                                 &[200]),
    ("GET",     "/workspaces/{}/events",                                                &[200]),
    ("GET",     "/workspaces/{}/event-types",                                           &[200]),
    ("GET",     "/workspaces/{}/resources",                                             &[200]),
    ("GET",     "/connections",                                                         &[200]),
    ("POST",    "/connections",                                                         &[201]),
    ("GET",     "/connections/{}",                                                      &[200]),
    ("PUT",     "/connections/{}",                                                      &[200]),
    ("DELETE",  "/connections/{}",                                                      &[200]),
    ("GET",     "/connections/{}/actions",                                              &[200]),
    ("GET",     "/connections/{}/fields",                                               &[200]),
    ("GET",     "/connections/{}/mappings/default",                                     &[200]),
    ("PUT",     "/connections/{}/mappings/default",                                     &[200]),
    ("GET",     "/integrations",                                                        &[200]),
    ("GET",     "/rules",                                                               &[200]),
    ("POST",    "/rules",                                                               &[201]),
    ("GET",     "/rules/{}",                                                            &[200]),
    ("DELETE",  "/rules/{}",                                                            &[200]),
    ("GET",     "/events",                                                              &[200]),
    ("POST",    "/events",                                                              &[201]),
    ("POST",    "/events/bulk",                                                         &[201, 207]),
    ("GET",     "/events/{}",                                                           &[200]),
    ("GET",     "/events/{}/payload",                                                   &[200]),
    ("POST",    "/events/{}/rules/{}/retry",                                            &[200]),
    ("POST",    "/events/{}/rules/{}/cancel",                                           &[200]),
    ("POST",    "/events/{}/cancel",                                                    &[200]),
    ("GET",     "/events/{}/rules/{}/attempts",                                         &[200]),
    ("GET",     "/events/{}/rules/{}/attempts/{}",                                      &[200]),
    ("GET",     "/events/{}/rules/{}/attempts/{}/response-details",                     &[200]),
    ("GET",     "/sessions",                                                            &[200]),
    ("POST",    "/sessions",                                                            &[200]),
    ("POST",    "/sessions/{}/refresh",                                                 &[200]),
    ("DELETE",  "/sessions/{}",                                                         &[200]),
];

/// What a client has asked for so far.
type Walked = RefCell<BTreeSet<(&'static str, &'static str)>>;

/// A client, and what has been asked.
struct Client<'w> {
    go: Go<'w>,
    walked: &'w Walked,
}

impl Client<'_> {
    /// The typed answer. The client decodes one only if its type says JSON and its status is the declared one:
    /// whatever else comes looks like a failure to its caller.
    async fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        template: &'static str,
        ids: &[&Id],
        body: Option<Value>,
    ) -> T {
        self.query(method, template, ids, "", body).await
    }

    async fn query<T: DeserializeOwned>(
        &self,
        method: &'static str,
        template: &'static str,
        ids: &[&Id],
        query: &str,
        body: Option<Value>,
    ) -> T {
        let operation = INDEX.iter().find(|(m, t, _)| (*m, *t) == (method, template));
        let (.., declared) = operation.unwrap_or_else(|| panic!("{method} {template} is of no index"));
        let path = ids.iter().fold(template.to_owned(), |path, id| path.replacen("{}", &id.0, 1));
        assert!(!path.contains("{}"), "{path}: an id is missing");
        let answer = self.go.request(method, &format!("{path}{query}"), body.as_ref()).await;
        let is_json = answer.header("content-type").is_some_and(|kind| kind.contains("json"));
        let typed = is_json && declared.contains(&answer.status);
        assert!(typed, "{method} {path} stays nil: {} {:?} {}", answer.status, answer.headers, answer.text);
        self.walked.borrow_mut().insert((method, template));
        serde_json::from_str(&answer.text)
            .unwrap_or_else(|err| panic!("{method} {path}: {err}: {}", answer.text))
    }
}

/// For every operation of the index the typed success field is there, with all in it that the client reads.
#[tokio::test]
async fn check_49_the_go_client_reads_every_answer() {
    let weft = Weft::start().await;
    let walked = Walked::default();
    let machine = Client { go: Go::Management(&weft, Credentials::of(&weft)), walked: &walked };
    let workspace = walk_workspaces(&machine).await;
    walk_integrations(&machine).await;
    let receiver = Receiver::start(|_, came| {
        Reply::status(if came.json()["event"] == "order.refused" { 400 } else { 200 }).body("thank you")
    })
    .await;
    let connection = walk_connections(&machine, &workspace, &receiver).await;
    let rules = walk_rules(&machine, &workspace, &connection).await;
    let shown: WorkspaceShown = machine.call("GET", "/workspaces/{}", &[&workspace], None).await;
    let sender = Client { go: Go::Events(&weft, shown.publishable_key.public_key), walked: &walked };
    walk_events(&weft, &machine, &sender, &workspace, &connection, &rules).await;
    walk_sessions(&machine, &workspace).await;

    let gone: RuleDeleted = machine.call("DELETE", "/rules/{}", &[&rules[0]], None).await;
    assert_eq!((gone.id, gone.kind.as_str()), (rules[0].clone(), "webhook"));
    let force = json!({ "force_delete": true });
    let gone: ConnectionDeleted =
        machine.call("DELETE", "/connections/{}", &[&connection], Some(force)).await;
    assert_eq!(gone.id, connection);
    // What became of the events is still told, and so are lists with nothing left in them.
    let events: List<Event> = machine.call("GET", "/events", &[], None).await;
    assert!(events.count > 0);
    let rules: List<Rule> = machine.call("GET", "/rules", &[], None).await;
    assert_eq!(rules.records.len(), 0);

    let index: BTreeSet<_> = INDEX.iter().map(|(method, template, _)| (*method, *template)).collect();
    assert_eq!(*walked.borrow(), index, "every operation");
    weft.stop().await;
}

async fn walk_workspaces(go: &Client<'_>) -> Id {
    let body = json!({ "name": "Shop" });
    let made: WorkspaceMade = go.call("POST", "/workspaces", &[], Some(body)).await;
    let id = made.workspace.id;
    for description in [json!("Books"), Value::Null] {
        let body = json!({ "name": "Shop 2", "description": description });
        let changed: Workspace = go.call("PUT", "/workspaces/{}", &[&id], Some(body)).await;
        assert_eq!((changed.name.as_str(), changed.description.as_deref()), ("Shop 2", description.as_str()));
    }
    let list: List<Workspace> = go.call("GET", "/workspaces", &[], None).await;
    assert_eq!(list.count, 2);
    for template in ["/workspaces/{}/event-types", "/workspaces/{}/resources"] {
        let names: Vec<CatalogEntry> = go.call("GET", template, &[&id], None).await;
        assert_eq!(names.len(), 1);
    }
    // Nothing is an empty array, not null.
    let connections: List<Connection> = go.call("GET", "/workspaces/{}/connections", &[&id], None).await;
    let rules: List<Rule> = go.call("GET", "/workspaces/{}/rules", &[&id], None).await;
    let events: List<Event> = go.call("GET", "/workspaces/{}/events", &[&id], None).await;
    assert_eq!((connections.records.len(), rules.records.len(), events.records.len()), (0, 0, 0));
    id
}

async fn walk_integrations(go: &Client<'_>) {
    let list: List<Integration> = go.call("GET", "/integrations", &[], None).await;
    list.records.iter().for_each(Integration::assert_declared);
    assert!(list.records.iter().any(|integration| integration.kind == "webhook"));
}

async fn walk_connections(go: &Client<'_>, workspace: &Id, receiver: &Receiver) -> Id {
    let new = |name: &str| {
        let metadata = json!({ "url": receiver.url("/"), "skip_test": true });
        json!({ "workspace": workspace.0, "type": "webhook", "name": name, "metadata": metadata, "hidden": false })
    };
    let made: ConnectionMade = go.call("POST", "/connections", &[], Some(new("Hook"))).await;
    let second: ConnectionMade = go.call("POST", "/connections", &[], Some(new("Second"))).await;
    let own = [&made.connection.id];
    let body = json!({ "name": "Hook 2", "metadata": made.connection.metadata });
    let changed: Connection = go.call("PUT", "/connections/{}", &own, Some(body)).await;
    let shown: Connection = go.call("GET", "/connections/{}", &own, None).await;
    assert_eq!((changed.name, shown.active), (shown.name, Some(true)));
    let list: List<Connection> = go.call("GET", "/workspaces/{}/connections", &[workspace], None).await;
    let all: List<Connection> = go.call("GET", "/connections", &[], None).await;
    assert_eq!((list.count, all.records.len()), (2, 2));

    let actions: LiveActions = go.call("GET", "/connections/{}/actions", &own, None).await;
    assert!(actions.contains_key("send_webhook"));
    for query in ["", "?refresh=true"] {
        let catalog: FieldCatalog = go.query("GET", "/connections/{}/fields", &own, query, None).await;
        assert_eq!((&catalog.connection_id, &catalog.workspace_id), (own[0], workspace));
    }
    const MAPPING: &str = "/connections/{}/mappings/default";
    let generated: DefaultMapping = go.call("GET", MAPPING, &own, None).await;
    assert_eq!(generated.status, MappingStatus::Generated);
    let schema = json!({ "schema_version": 1, "fields": [
        { "dest": "email", "source": { "type": "path", "value": "email" }, "transforms": [{ "type": "lower" }] },
    ] });
    let body = json!({ "schema": schema, "expected_version": generated.mapping.version, "name": "Mine" });
    let stored: DefaultMapping = go.call("PUT", MAPPING, &own, Some(body)).await;
    let shown: DefaultMapping = go.call("GET", MAPPING, &own, None).await;
    assert_eq!((stored.status, shown.mapping.version), (MappingStatus::Stored, stored.mapping.version));

    // This client sends a body with every DELETE.
    let gone: ConnectionDeleted =
        go.call("DELETE", "/connections/{}", &[&second.connection.id], Some(json!({}))).await;
    assert_eq!((gone.id, gone.kind.as_str()), (second.connection.id, "webhook"));
    made.connection.id
}

async fn walk_rules(go: &Client<'_>, workspace: &Id, connection: &Id) -> [Id; 2] {
    let mut rules = Vec::new();
    for (event, about) in
        [("order.refused", json!({})), ("order.*", json!({ "resource": "shop", "resource_id": "7" }))]
    {
        let metadata = json!({ "action": "send_webhook", "id": "5", "value": "8", "own": 1 });
        let mut body = json!({ "workspace": workspace.0, "connection": connection.0, "event": event, "metadata": metadata });
        about.as_object().expect("an object").iter().for_each(|(name, value)| body[name] = value.clone());
        let made: RuleMade = go.call("POST", "/rules", &[], Some(body)).await;
        let shown: Rule = go.call("GET", "/rules/{}", &[&made.rule.id], None).await;
        assert_eq!((shown.metadata.id.as_deref(), shown.active), (Some("5"), Some(true)));
        rules.push(made.rule.id);
    }
    for (query, count) in [("", 2), ("?event=order.*&resource=shop&resource_id=7", 1), ("?event=none", 0)] {
        let list: List<Rule> = go.query("GET", "/workspaces/{}/rules", &[workspace], query, None).await;
        let all: List<Rule> = go.query("GET", "/rules", &[], query, None).await;
        assert_eq!((list.count, all.records.len()), (count, count as usize), "{query}");
    }
    rules.try_into().expect("two")
}

async fn walk_events(
    weft: &Weft,
    go: &Client<'_>,
    sender: &Client<'_>,
    workspace: &Id,
    connection: &Id,
    [refused, general]: &[Id; 2],
) {
    let payload = json!({ "email": "ada@example.com", "first_name": "Ada", "id": "7", "n": 1 });
    let event =
        |name: &str| json!({ "event": name, "payload": payload, "resource": "shop", "resource_id": "7" });
    let mut named = event("order.refused");
    named["workspace"] = json!(workspace.0);
    let made: EventMade = go.call("POST", "/events", &[], Some(named)).await;
    let failed = made.event.id;
    weft.event_as(&failed.0, "failed").await;
    let by_key: EventMade = sender.call("POST", "/events", &[], Some(event("order.paid"))).await;
    assert_eq!(&by_key.event.workspace, workspace);
    let paid = by_key.event.id;
    weft.event_as(&paid.0, "completed").await;
    let bulk: BulkMade =
        sender.call("POST", "/events/bulk", &[], Some(json!([event("a.b"), event("a.b")]))).await;
    assert_eq!((bulk.count, bulk.error_count), (2, None));
    let mixed: BulkMade = sender.call("POST", "/events/bulk", &[], Some(json!([event("a.b"), {}]))).await;
    assert_eq!((mixed.count, mixed.error_count), (2, Some(1)));
    assert!(matches!(&mixed.records[..], [BulkRecord::Accepted(_), BulkRecord::Refused { .. }]), "{mixed:?}");

    let shown: Event = go.call("GET", "/events/{}", &[&failed], None).await;
    assert_eq!((shown.total_rules, shown.rule_events.map(|all| all.len())), (Some(2), Some(2)));
    let with: EventWithPayload = go.call("GET", "/events/{}/payload", &[&failed], None).await;
    assert_eq!(with.payload.email.map(|email| email.0).as_deref(), Some("ada@example.com"));
    for query in ["", "?status=failed", "?limit=1&event=order.paid&resource=shop&resource_id=7"] {
        let list: List<Event> = go.query("GET", "/workspaces/{}/events", &[workspace], query, None).await;
        assert!(list.count > 0, "{query}");
    }
    let page: List<Event> = go.query("GET", "/events", &[], "?limit=1", None).await;
    let cursor = page.next_cursor.expect("there are more");
    let next: List<Event> =
        go.query("GET", "/events", &[], &format!("?limit=200&cursor={cursor}"), None).await;
    assert!(next.next_cursor.is_none() && next.count >= 4);

    const ATTEMPTS: &str = "/events/{}/rules/{}/attempts";
    const ATTEMPT: &str = "/events/{}/rules/{}/attempts/{}";
    const DETAILS: &str = "/events/{}/rules/{}/attempts/{}/response-details";
    let attempts: List<Attempt> = go.call("GET", ATTEMPTS, &[&failed, refused], None).await;
    let own = [&failed, refused, &attempts.records[0].id];
    let attempt: Attempt = go.call("GET", ATTEMPT, &own, None).await;
    let details: ResponseDetails = go.call("GET", DETAILS, &own, None).await;
    assert_eq!((attempt.http_status, details.status), (Some(400), 400));
    let delivered: List<Attempt> = go.call("GET", ATTEMPTS, &[&paid, general], None).await;
    assert_eq!(delivered.records[0].outcome_code, "delivered");

    let retried: RuleEvent = go.call("POST", "/events/{}/rules/{}/retry", &[&failed, refused], None).await;
    assert_eq!(&retried.rule, refused);
    weft.attempts(&failed.0, &refused.0, 2).await;
    // What waits can be called off.
    weft.post(&format!("/connections/{}/pause", connection.0), json!({})).await.answered(200, "paused");
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let made: EventMade = sender.call("POST", "/events", &[], Some(event("order.refused"))).await;
        crate::support::until("it is routed", async || {
            let shown = weft.get(&format!("/events/{}", made.event.id.0)).await;
            (shown.body["total_rules"] == 2).then_some(())
        })
        .await;
        waiting.push(made.event.id);
    }
    let one: RuleEvent = go.call("POST", "/events/{}/rules/{}/cancel", &[&waiting[0], refused], None).await;
    assert_eq!((one.status.as_str(), one.attempt_count), ("canceled", 0));
    let all: Event = go.call("POST", "/events/{}/cancel", &[&waiting[1]], None).await;
    assert_eq!(all.status, "canceled");
}

async fn walk_sessions(go: &Client<'_>, workspace: &Id) {
    let about = json!({
        "workspace_id": workspace.0, "session_type": "resource", "resource": "shop", "resource_id": "7",
        "role": "admin", "launch_page": "rules", "allowed_origins": ["https://app.example"], "scopes": ["events.payload:read"],
    });
    for body in [json!({ "workspace_id": workspace.0 }), about] {
        let made: SessionMade = go.call("POST", "/sessions", &[], Some(body)).await;
        // Session ids are opaque to this client.
        let id = Id(made.session.session_id.clone());
        let refreshed: SessionRefreshed = go.call("POST", "/sessions/{}/refresh", &[&id], None).await;
        assert_eq!((refreshed.session_id, refreshed.role), (made.session.session_id, made.session.role));
        let query = format!("?workspace_id={}&status=active", workspace.0);
        let list: List<SessionListed> = go.query("GET", "/sessions", &[], &query, None).await;
        assert_eq!((list.count, list.records[0].session_id.as_str()), (1, id.0.as_str()));
        let gone: SessionRevoked = go.call("DELETE", "/sessions/{}", &[&id], None).await;
        assert!(gone.revoked);
    }
}
