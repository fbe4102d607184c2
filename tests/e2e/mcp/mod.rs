//! `/mcp`: the API's operations as tools of the Model Context Protocol, asked over HTTP as clients ask.

mod stdio;

use crate::support::{Answer, Receiver, Weft, http_client, send, text, token};
use actors::{domain::secret::Secret, engine::MachineKeyClear};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The official server's tools: name, arguments that are required, arguments that are not.
#[rustfmt::skip]
const OFFICIAL: [(&str, &str, &str); 33] = [
    ("meshes_list_workspaces",                    "",                                      ""),
    ("meshes_get_workspace",                      "workspace_id",                          ""),
    ("meshes_create_workspace",                   "name",                                  "description"),
    ("meshes_update_workspace",                   "workspace_id name",                     "description"),
    ("meshes_get_workspace_connections",          "workspace_id",                          ""),
    ("meshes_get_workspace_event_types",          "workspace_id",                          ""),
    ("meshes_get_workspace_resources",            "workspace_id",                          ""),
    ("meshes_get_workspace_rules",                "workspace_id",                          "event resource resource_id"),
    ("meshes_get_workspace_events",               "workspace_id",                          "limit cursor event status resource resource_id"),
    ("meshes_list_connections",                   "",                                      ""),
    ("meshes_get_connection",                     "connection_id",                         ""),
    ("meshes_create_connection",                  "workspace type name metadata",          "hidden"),
    ("meshes_update_connection",                  "connection_id name metadata",           "hidden"),
    ("meshes_delete_connection",                  "connection_id",                         "force_delete"),
    ("meshes_get_connection_actions",             "connection_id",                         ""),
    ("meshes_get_connection_fields",              "connection_id",                         "refresh"),
    ("meshes_get_connection_default_mappings",    "connection_id",                         ""),
    ("meshes_update_connection_default_mappings", "connection_id schema",                  "workspace_id mapping_id expected_version name"),
    ("meshes_list_integrations",                  "",                                      ""),
    ("meshes_list_rules",                         "",                                      "event resource resource_id"),
    ("meshes_get_rule",                           "rule_id",                               ""),
    ("meshes_create_rule",                        "workspace connection event action",     "resource resource_id active hidden metadata_extra"),
    ("meshes_delete_rule",                        "rule_id",                               ""),
    ("meshes_emit_event",                         "workspace event payload",               "resource resource_id"),
    ("meshes_emit_bulk_events",                   "events",                                ""),
    ("meshes_list_events",                        "",                                      "limit cursor"),
    ("meshes_get_event",                          "event_id",                              ""),
    ("meshes_get_event_payload",                  "event_id",                              ""),
    ("meshes_retry_event_rule",                   "event_id rule_id",                      ""),
    ("meshes_create_session",                     "workspace_id",                          "role session_type external_user_id ttl_seconds launch_ttl_seconds launch_page resource resource_id allowed_origins scopes"),
    ("meshes_list_sessions",                      "workspace_id",                          "limit cursor status resource resource_id"),
    ("meshes_refresh_session",                    "session_id",                            ""),
    ("meshes_revoke_session",                     "session_id",                            ""),
];

/// Posts a message as a client does that has initialized.
async fn post(weft: &Weft, token: &str, message: &Value) -> Answer {
    let request = weft.request(Method::POST, "/mcp").bearer_auth(token);
    let request = request.header("accept", "application/json, text/event-stream");
    send(request.header("mcp-protocol-version", "2025-06-18").json(message)).await
}

/// What a request comes to: `Err` with code and message if the protocol refuses it.
async fn ask(weft: &Weft, method: &str, params: Value) -> Result<Value, (i64, String)> {
    let message = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params });
    let answer = post(weft, &weft.token(), &message).await.answered(200, method);
    assert_eq!((&answer["jsonrpc"], &answer["id"]), (&json!("2.0"), &json!(7)), "{answer}");
    match answer.get("error") {
        None => Ok(answer["result"].clone()),
        Some(error) => Err((error["code"].as_i64().expect("a code"), text(&error["message"]))),
    }
}

/// Calls a tool: its text, as an error where it says that it is one.
async fn call(weft: &Weft, name: &str, arguments: Value) -> Result<String, String> {
    let result = ask(weft, "tools/call", json!({ "name": name, "arguments": arguments })).await;
    let result = result.unwrap_or_else(|err| panic!("{name}: {err:?}"));
    assert_eq!(result["content"].as_array().map(Vec::len), Some(1), "{name}: {result}");
    assert_eq!(result["content"][0]["type"], "text", "{name}");
    let told = text(&result["content"][0]["text"]);
    if result["isError"] == true { Err(told) } else { Ok(told) }
}

/// The JSON that a tool tells.
async fn called(weft: &Weft, name: &str, arguments: Value) -> Value {
    let told = call(weft, name, arguments).await.unwrap_or_else(|why| panic!("{name}: {why}"));
    assert!(told.lines().count() > 1 || told == "[]", "{name}: it is pretty: {told}");
    serde_json::from_str(&told).unwrap_or_else(|err| panic!("{name}: {err}: {told}"))
}

#[tokio::test]
async fn a_client_initializes_and_finds_the_33_tools_with_their_arguments() {
    let weft = Weft::start().await;
    let hello = |version: &str| json!({ "protocolVersion": version, "capabilities": {}, "clientInfo": { "name": "tests", "version": "1" } });
    for version in ["2025-03-26", "2025-06-18", "2025-11-25"] {
        let message =
            json!({ "jsonrpc": "2.0", "id": "a", "method": "initialize", "params": hello(version) });
        // Before it has agreed on a version a client sends none, and some say less of what they accept.
        let request = weft.request(Method::POST, "/mcp").bearer_auth(weft.token()).json(&message);
        let answer = send(request).await.answered(200, version);
        let result = &answer["result"];
        assert_eq!((&answer["id"], &result["protocolVersion"]), (&json!("a"), &json!(version)), "{answer}");
        assert_eq!(result["serverInfo"]["name"], "weft");
        assert!(result["capabilities"]["tools"].is_object(), "{answer}");
    }
    let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    let told = post(&weft, &weft.token(), &initialized).await;
    assert_eq!((told.status, told.text.as_str()), (202, ""));
    assert_eq!(ask(&weft, "ping", json!({})).await, Ok(json!({})));

    let listed = ask(&weft, "tools/list", json!({})).await.expect("a list");
    assert_eq!(listed.get("nextCursor"), None, "all at once");
    let tools: BTreeMap<_, _> =
        listed["tools"].as_array().expect("a list").iter().map(|tool| (text(&tool["name"]), tool)).collect();
    let words = |list: &str| list.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>();
    for (name, required, optional) in OFFICIAL {
        let tool = tools.get(name).unwrap_or_else(|| panic!("there is no {name}"));
        assert!(tool["description"].as_str().is_some_and(|about| about.len() > 10), "{name}");
        let schema = &tool["inputSchema"];
        assert_eq!(schema["type"], "object", "{name}");
        let told: BTreeSet<_> = schema["required"].as_array().expect("a list").iter().map(text).collect();
        assert_eq!(told, words(required), "{name}");
        let properties = schema["properties"].as_object().expect("an object");
        let told: BTreeSet<_> = properties.keys().cloned().collect();
        assert_eq!(told, &words(required) | &words(optional), "{name}");
        for (argument, schema) in properties {
            assert!(schema["type"].is_string() || schema["type"].is_array(), "{name} {argument}");
            assert!(
                schema["description"].as_str().is_some_and(|about| !about.is_empty()),
                "{name} {argument}"
            );
        }
    }
    let ours = tools.keys().filter(|name| name.starts_with("weft_")).count();
    assert_eq!(tools.len(), OFFICIAL.len() + ours, "every other tool says that it is ours");
    weft.stop().await;
}

/// The protocol of 2026 has no handshake: each request says which version it is of, and by whom.
#[tokio::test]
async fn a_client_of_the_newest_protocol_needs_no_handshake() {
    const VERSION: &str = "2026-07-28";
    let weft = Weft::start().await;
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": VERSION,
        "io.modelcontextprotocol/clientInfo": { "name": "tests", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let ask = async |method: &str, mut params: Value| {
        let name = params["name"].as_str().map(str::to_owned);
        params["_meta"] = meta.clone();
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let mut request = weft.request(Method::POST, "/mcp").bearer_auth(weft.token());
        request = request.header("mcp-protocol-version", VERSION).header("mcp-method", method);
        if let Some(name) = name {
            request = request.header("mcp-name", name);
        }
        send(request.json(&message)).await.answered(200, method)["result"].clone()
    };
    let found = ask("server/discover", json!({})).await;
    assert!(
        found["supportedVersions"].as_array().is_some_and(|all| all.contains(&json!(VERSION))),
        "{found}"
    );
    assert!(ask("tools/list", json!({})).await["tools"].as_array().is_some_and(|all| all.len() >= 33));
    let listed = ask("tools/call", json!({ "name": "meshes_list_workspaces", "arguments": {} })).await;
    assert_eq!((&listed["isError"], &listed["resultType"]), (&json!(false), &json!("complete")), "{listed}");
    weft.stop().await;
}

#[tokio::test]
async fn check_48_each_of_the_33_tools_succeeds_on_a_seeded_server() {
    let (weft, receiver) = (Weft::start().await, Receiver::script(&[400, 200]).await);
    let mut asked = BTreeSet::new();
    let mut called = async |name: &'static str, arguments: Value| {
        asked.insert(name);
        called(&weft, name, arguments).await
    };
    let workspace = weft.workspace.clone();
    let there = json!({ "workspace_id": workspace });

    let made = called("meshes_create_workspace", json!({ "name": "By a tool" })).await;
    let other = text(&made["workspace"]["id"]);
    let renamed = json!({ "workspace_id": other, "name": "By a tool again", "description": "of a test" });
    assert_eq!(called("meshes_update_workspace", renamed).await["description"], "of a test");
    let kept = json!({ "workspace_id": other, "name": "By a tool" });
    let kept = called("meshes_update_workspace", kept).await;
    assert_eq!(kept["description"], "of a test", "what is left out is not sent");
    let cleared = json!({ "workspace_id": other, "name": "By a tool", "description": null });
    assert_eq!(called("meshes_update_workspace", cleared).await["description"], Value::Null);
    assert_eq!(called("meshes_list_workspaces", json!({})).await["count"], 2);
    let shown = called("meshes_get_workspace", there.clone()).await;
    assert_eq!(shown["publishable_key"]["public_key"], weft.publishable_key);

    let metadata = json!({ "url": receiver.url("/"), "skip_test": true });
    let new = json!({ "workspace": workspace, "type": "webhook", "name": "Theirs", "metadata": metadata });
    let connection = text(&called("meshes_create_connection", new).await["connection"]["id"]);
    let it = json!({ "connection_id": connection });
    let changed =
        json!({ "connection_id": connection, "name": "Their hook", "metadata": metadata, "hidden": true });
    assert_eq!(called("meshes_update_connection", changed).await["hidden"], true);
    assert_eq!(called("meshes_get_connection", it.clone()).await["name"], "Their hook");
    assert_eq!(called("meshes_list_connections", json!({})).await["count"], 1);
    assert_eq!(called("meshes_get_workspace_connections", there.clone()).await["count"], 1);
    assert!(called("meshes_get_connection_actions", it.clone()).await["send_webhook"].is_object());
    let refreshed = json!({ "connection_id": connection, "refresh": true });
    assert_eq!(called("meshes_get_connection_fields", refreshed).await["connection_id"], connection.as_str());
    let generated = called("meshes_get_connection_default_mappings", it.clone()).await;
    assert_eq!(generated["status"], "generated");
    let mapping = json!({ "connection_id": connection, "name": "Ours", "schema": { "schema_version": 1, "fields": [] } });
    let stored = called("meshes_update_connection_default_mappings", mapping).await;
    assert_eq!((&stored["status"], &stored["mapping"]["name"]), (&json!("stored"), &json!("Ours")));
    let integrations = called("meshes_list_integrations", json!({})).await;
    assert!(integrations["records"][0]["actions"].is_object(), "{integrations}");

    let new = json!({
        "workspace": workspace, "connection": connection, "event": "a.b", "action": "send_webhook",
        "metadata_extra": { "title": "kept" },
    });
    let made = called("meshes_create_rule", new).await;
    assert_eq!(made["rule"]["metadata"], json!({ "action": "send_webhook", "title": "kept" }));
    assert_eq!((&made["rule"]["active"], &made["rule"]["hidden"]), (&json!(true), &json!(false)));
    let rule = text(&made["rule"]["id"]);
    assert_eq!(called("meshes_get_rule", json!({ "rule_id": rule })).await["event"], "a.b");
    for (event, count) in [("a.b", 1), ("a.c", 0)] {
        assert_eq!(called("meshes_list_rules", json!({ "event": event })).await["count"], count);
        let there = json!({ "workspace_id": workspace, "event": event });
        assert_eq!(called("meshes_get_workspace_rules", there).await["count"], count);
    }

    let bulk = json!([
        { "workspace": workspace, "event": "b.1", "payload": { "n": 1 }, "resource": "order", "resource_id": "7" },
        { "workspace": other, "event": "b.2", "payload": { "n": 2 } },
    ]);
    let sent = called("meshes_emit_bulk_events", json!({ "events": bulk })).await;
    assert_eq!((&sent["count"], sent.get("error_count")), (&json!(2), None));
    let new = json!({ "workspace": workspace, "event": "a.b", "payload": { "email": "ada@example.com" } });
    asked_alone(&weft, new, &workspace, &rule, &receiver).await;
    let event = text(&called("meshes_list_events", json!({ "limit": 1 })).await["records"][0]["id"]);
    let second = called("meshes_list_events", json!({ "limit": 1 })).await;
    let second = json!({ "limit": 2, "cursor": second["next_cursor"] });
    assert_eq!(called("meshes_list_events", second).await["count"], 2);
    for (status, count) in [("completed", 2), ("canceled", 0)] {
        let filter = json!({ "workspace_id": workspace, "status": status });
        assert_eq!(called("meshes_get_workspace_events", filter).await["count"], count, "{status}");
    }
    let it = json!({ "event_id": event });
    assert_eq!(called("meshes_get_event", it.clone()).await["rule_events"][0]["rule"], rule.as_str());
    assert_eq!(called("meshes_get_event_payload", it).await["payload"]["email"], "ada@example.com");
    let names = called("meshes_get_workspace_event_types", there.clone()).await;
    assert!(names.as_array().is_some_and(|names| names.iter().any(|name| name["key"] == "a.b")), "{names}");
    assert!(called("meshes_get_workspace_resources", there.clone()).await.is_array());

    let new = json!({ "workspace_id": workspace, "role": "admin", "ttl_seconds": 300 });
    let session = text(&called("meshes_create_session", new).await["session_id"]);
    let it = json!({ "session_id": session });
    assert!(called("meshes_refresh_session", it.clone()).await["access_token"].is_string());
    assert_eq!(called("meshes_revoke_session", it).await["revoked"], true);
    let gone = json!({ "workspace_id": workspace, "status": "revoked", "limit": 200 });
    assert_eq!(called("meshes_list_sessions", gone).await["count"], 1);

    let deleted = called("meshes_delete_rule", json!({ "rule_id": rule })).await;
    assert_eq!(deleted["id"], rule.as_str());
    let force = json!({ "connection_id": connection, "force_delete": true });
    assert_eq!(called("meshes_delete_connection", force).await["type"], "webhook");

    // Asked beside the others, since their text or their time is another.
    asked.extend(["meshes_emit_event", "meshes_retry_event_rule"]);
    assert_eq!(asked, OFFICIAL.iter().map(|(name, ..)| *name).collect(), "every one was asked");
    weft.stop().await;
}

/// Emits an event that its receiver refuses once, and has it tried again.
async fn asked_alone(weft: &Weft, new: Value, workspace: &str, rule: &str, receiver: &Receiver) {
    let told = call(weft, "meshes_emit_event", new).await.expect("it is accepted");
    let (lead, body) = told.split_once("\n\n").expect("two lines, and the body");
    let body: Value = serde_json::from_str(body).expect("JSON");
    let event = text(&body["event"]["id"]);
    assert_eq!((lead.lines().count(), &body["event"]["workspace"]), (2, &json!(workspace)), "{told}");
    assert!(lead.contains(&event), "{told}");
    weft.event_as(&event, "failed").await;
    let again = called(weft, "meshes_retry_event_rule", json!({ "event_id": event, "rule_id": rule })).await;
    assert_eq!(again["rule"], rule);
    weft.event_as(&event, "completed").await;
    assert_eq!(receiver.so_far().len(), 2);
}

/// What a tool sends is what the client said, to the digit.
#[tokio::test]
async fn a_payload_keeps_its_bytes_both_ways() {
    let weft = Weft::start().await;
    let payload = r#"{ "n": 1.0000000000000000000001,  "s": "\u00e9" }"#;
    let message = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"meshes_emit_event","arguments":{{"workspace":"{}","event":"a","payload":{payload}}}}}}}"#,
        weft.workspace
    );
    let request = weft.request(Method::POST, "/mcp").bearer_auth(weft.token());
    let answer = send(request.header("content-type", "application/json").body(message)).await;
    assert_eq!(answer.body["result"]["isError"], false, "{}", answer.text);
    let event = text(&weft.get("/events").await.body["records"][0]["id"]);
    let stored = weft.get(&format!("/events/{event}/payload")).await;
    assert!(stored.text.contains(payload), "{}", stored.text);
    let told =
        call(&weft, "meshes_get_event_payload", json!({ "event_id": event })).await.expect("it is there");
    assert!(told.contains("\"n\": 1.0000000000000000000001,"), "{told}");
    weft.stop().await;
}

#[tokio::test]
async fn an_argument_that_cannot_be_used_is_named_and_nothing_is_asked() {
    let weft = Weft::start().await;
    let id = weft.workspace.as_str();
    let long = |n: usize| "a".repeat(n);
    let event = json!({ "workspace": id, "event": "a", "payload": { "n": 1 } });
    let rule = |name: &str, value: Value| {
        let mut arguments = json!({ "workspace": id, "connection": id, "event": "a", "action": "b" });
        arguments[name] = value;
        arguments
    };
    let session = |name: &str, value: Value| {
        let mut arguments = json!({ "workspace_id": id });
        arguments[name] = value;
        arguments
    };
    let connection = |name: &str, value: Value| {
        let mut arguments = json!({ "workspace": id, "type": "webhook", "name": "n", "metadata": {} });
        arguments[name] = value;
        arguments
    };
    let mapping = |name: &str, value: Value| {
        let mut arguments = json!({ "connection_id": id, "schema": {} });
        arguments[name] = value;
        arguments
    };
    #[rustfmt::skip]
    let cases = [
        // tool                                         arguments                                                 told
        ("meshes_get_workspace",                        json!({}),                                                "workspace_id is required"),
        ("meshes_get_workspace",                        json!({ "workspace_id": null }),                          "workspace_id must be a UUID"),
        ("meshes_get_workspace",                        json!({ "workspace_id": 7 }),                             "workspace_id must be a UUID"),
        ("meshes_get_workspace",                        json!({ "workspace_id": "" }),                            "workspace_id must be a UUID"),
        ("meshes_get_workspace",                        json!({ "workspace_id": "../events" }),                   "workspace_id must be a UUID"),
        ("meshes_get_workspace",                        json!({ "workspace_id": id.replace('-', "") }),           "workspace_id must be a UUID"),
        ("meshes_get_workspace",                        json!({ "workspace": id, "workspace_id": id }),           "workspace is not an argument here"),
        ("meshes_create_workspace",                     json!({ "name": "ab" }),                                  "name must be text of 3 to 50 characters"),
        ("meshes_create_workspace",                     json!({ "name": long(51) }),                              "name must be text of 3 to 50 characters"),
        ("meshes_create_workspace",                     json!({ "name": ["abc"] }),                               "name must be text of 3 to 50 characters"),
        ("meshes_create_workspace",                     json!({ "name": "abc", "description": long(1_025) }),     "description must be text of 0 to 1024 characters"),
        ("meshes_create_workspace",                     json!({ "name": "abc", "description": null }),            "description must be text"),
        ("meshes_update_workspace",                     json!({ "workspace_id": id, "name": "abc", "description": 1 }), "description must be null or text"),
        ("meshes_get_workspace_events",                 session("limit", json!(0)),                               "limit must be a whole number from 1 to 200"),
        ("meshes_get_workspace_events",                 session("limit", json!(201)),                             "limit must be a whole number from 1 to 200"),
        ("meshes_get_workspace_events",                 session("limit", json!(1.5)),                             "limit must be a whole number"),
        ("meshes_get_workspace_events",                 session("limit", json!("5")),                             "limit must be a whole number"),
        ("meshes_get_workspace_events",                 session("status", json!("done")),                         "status must be one of pending, "),
        ("meshes_get_workspace_events",                 session("event", json!("")),                              "event must be text, and not empty"),
        ("meshes_list_events",                          json!({ "cursor": "a b" }),                               "cursor must be the next_cursor"),
        ("meshes_create_connection",                    connection("type", json!("fax")),                         "type must be one of activecampaign, "),
        ("meshes_create_connection",                    connection("name", json!(long(129))),                     "name must be text of 1 to 128 characters"),
        ("meshes_create_connection",                    connection("name", json!("")),                            "name must be text of 1 to 128 characters"),
        ("meshes_create_connection",                    connection("metadata", json!("{}")),                      "metadata must be an object"),
        ("meshes_create_connection",                    connection("hidden", json!("true")),                      "hidden must be true or false"),
        ("meshes_delete_connection",                    json!({ "connection_id": id, "force_delete": 1 }),        "force_delete must be true or false"),
        ("meshes_get_connection_fields",                json!({ "connection_id": id, "refresh": "yes" }),         "refresh must be true or false"),
        ("meshes_update_connection_default_mappings",   mapping("expected_version", json!(0)),                    "expected_version must be a whole number, 1 or more"),
        ("meshes_update_connection_default_mappings",   mapping("name", json!(long(65))),                         "name must be text of 1 to 64 characters"),
        ("meshes_update_connection_default_mappings",   mapping("schema", json!([])),                             "schema must be an object"),
        ("meshes_create_rule",                          rule("action", json!("")),                                "action must be text, and not empty"),
        ("meshes_create_rule",                          rule("metadata_extra", json!({ "id": 5 })),               "metadata_extra.id must be text"),
        ("meshes_create_rule",                          rule("metadata_extra", json!([])),                        "metadata_extra must be an object"),
        ("meshes_create_rule",                          rule("connection", json!("c")),                           "connection must be a UUID"),
        ("meshes_emit_event",                           json!({ "event": "a", "payload": {} }),                   "workspace is required"),
        ("meshes_emit_event",                           json!({ "workspace": id, "event": "a", "payload": [] }),  "payload must be an object"),
        ("meshes_emit_bulk_events",                     json!({ "events": [] }),                                  "events must be a list of 1 to 100 events"),
        ("meshes_emit_bulk_events",                     json!({ "events": vec![event.clone(); 101] }),            "events must be a list of 1 to 100 events"),
        ("meshes_emit_bulk_events",                     json!({ "events": [event, { "event": "a", "payload": {} }] }), "events[1].workspace is required"),
        ("meshes_emit_bulk_events",                     json!({ "events": ["a"] }),                               "events[0] must be an object"),
        ("meshes_retry_event_rule",                     json!({ "event_id": id }),                                "rule_id is required"),
        ("meshes_create_session",                       session("role", json!("root")),                           "role must be one of member, admin, owner"),
        ("meshes_create_session",                       session("session_type", json!("page")),                   "session_type must be one of"),
        ("meshes_create_session",                       session("external_user_id", json!(long(256))),            "external_user_id must be text of 1 to 255"),
        ("meshes_create_session",                       session("ttl_seconds", json!(299)),                       "ttl_seconds must be a whole number from 300 to 3600"),
        ("meshes_create_session",                       session("ttl_seconds", json!(3_601)),                     "ttl_seconds must be a whole number from 300 to 3600"),
        ("meshes_create_session",                       session("launch_ttl_seconds", json!(14)),                 "launch_ttl_seconds must be a whole number from 15 to 60"),
        ("meshes_create_session",                       session("launch_page", json!("/")),                       "launch_page must be one of"),
        ("meshes_create_session",                       session("allowed_origins", json!(vec!["https://a.example"; 11])), "allowed_origins must be a list of 0 to 10 URLs"),
        ("meshes_create_session",                       session("allowed_origins", json!(["a"])),                 "allowed_origins[0] must be a URL"),
        ("meshes_create_session",                       session("scopes", json!(["all"])),                        "scopes[0] must be one of events.payload:read"),
        ("meshes_list_sessions",                        session("status", json!("ended")),                        "status must be one of active, revoked"),
        ("meshes_refresh_session",                      json!({ "session_id": "a/b" }),                           "session_id must be the id of a session"),
    ];
    for (tool, arguments, expected) in cases {
        let told = call(&weft, tool, arguments.clone()).await;
        let told = told.expect_err(tool);
        assert!(told.starts_with(expected), "{tool} {arguments}: {told}");
    }
    // What only the API can judge comes in its words.
    let told = call(&weft, "meshes_create_workspace", json!({ "name": "a/b/c" })).await.expect_err("a slash");
    assert!(told.starts_with("Meshes API 400: {") && told.contains("\"param\":\"name\""), "{told}");
    let unknown =
        ask(&weft, "tools/call", json!({ "name": "meshes_delete_workspace", "arguments": {} })).await;
    assert_eq!(unknown.map_err(|(code, _)| code), Err(-32602));
    let seen = [
        weft.get("/workspaces").await.body["count"].clone(),
        weft.get("/events").await.body["count"].clone(),
    ];
    assert_eq!(seen, [1, 0], "nothing was made");
    weft.stop().await;
}

/// I9: a tool does what its caller may do, and tells of what is his.
#[tokio::test]
async fn a_tool_has_its_callers_rights_and_no_others() {
    let weft = Weft::start().await;
    let (stranger, their_workspace, _) = weft.stranger().await;
    let ask = |workspace: &str| {
        let params = json!({ "name": "meshes_get_workspace", "arguments": { "workspace_id": workspace } });
        json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params })
    };
    for (why, workspace, is_error) in
        [("ours", &weft.workspace, true), ("their own", &their_workspace, false)]
    {
        let answer = post(&weft, &token(&stranger), &ask(workspace)).await.answered(200, why);
        assert_eq!(answer["result"]["isError"], is_error, "{why}: {answer}");
        let told = text(&answer["result"]["content"][0]["text"]);
        assert!(
            !is_error || told.starts_with("Meshes API 404: {\"message\":\"workspace not found\""),
            "{told}"
        );
    }
    // What it changes is written down as theirs, under the id of the request that came in.
    let params = json!({ "name": "meshes_create_workspace", "arguments": { "name": "By a tool" } });
    let message = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
    let request =
        weft.request(Method::POST, "/mcp").bearer_auth(weft.token()).header("x-request-id", "mine-7");
    send(request.json(&message)).await.answered(200, "a change");
    let entry = weft.get("/audit?limit=1").await.answered(200, "the log")["records"][0].clone();
    assert_eq!(entry["actor"]["id"], weft.machine.access_key, "{entry}");
    assert_eq!(
        (&entry["actor"]["request_id"], &entry["actor"]["ip_address"]),
        (&json!("mine-7"), &json!("127.0.0.1"))
    );
    // A key is let in whatever its limits, and may there what it may elsewhere.
    let made =
        weft.post("/keys", json!({ "name": "Sends", "permissions": ["send"] })).await.answered(201, "a key");
    let limited = MachineKeyClear {
        access_key: text(&made["key"]["access_key"]),
        secret: Secret::new(text(&made["key"]["secret_key"])),
        ..weft.machine.clone()
    };
    let emit = json!({ "name": "meshes_emit_event", "arguments": { "workspace": weft.workspace, "event": "a", "payload": { "n": 1 } } });
    let emit = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": emit });
    let answer = post(&weft, &token(&limited), &emit).await.answered(200, "it sends");
    assert_eq!(answer["result"]["isError"], false, "{answer}");
    let answer = post(&weft, &token(&limited), &ask(&weft.workspace)).await.answered(200, "it does not read");
    let told = text(&answer["result"]["content"][0]["text"]);
    assert!(
        told.starts_with("Meshes API 403: {\"message\":\"these credentials may not read this\""),
        "{told}"
    );
    // Sessions are for pages.
    let session = json!({ "workspace_id": weft.workspace, "role": "owner" });
    let session = weft.post("/sessions", session).await.answered(200, "a session");
    let answer = post(&weft, &text(&session["access_token"]), &ask(&weft.workspace)).await;
    answer.refused(403, "these credentials may not be used here", "a session");
    weft.stop().await;
}

#[tokio::test]
async fn what_is_no_message_is_refused_as_the_api_refuses() {
    let weft = Weft::start().await;
    let ping = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" }).to_string();
    let json = Some("application/json");
    #[rustfmt::skip]
    let cases = [
        // why                       body                                             content type          more                                     status
        ("as it should be",          ping.clone(),                                    json,                 None,                                         200),
        ("no content type",          ping.clone(),                                    None,                 None,                                         415),
        ("another",                  ping.clone(),                                    Some("text/plain"),   None,                                         415),
        ("nothing",                  String::new(),                                   json,                 None,                                         400),
        ("not JSON",                 "ping".into(),                                   json,                 None,                                         400),
        ("half of it",               ping[..20].into(),                               json,                 None,                                         400),
        ("a name twice",             ping.replace("\"id\":1", "\"id\":1,\"id\":2"),   json,                 None,                                         400),
        ("deep",                     format!("{}{}", "[".repeat(500), "]".repeat(500)), json,               None,                                         400),
        ("a batch",                  format!("[{ping}]"),                             json,                 None,                                         400),
        ("no method",                r#"{"jsonrpc":"2.0","id":1}"#.into(),            json,                 None,                                         400),
        ("another protocol",         ping.replace("2.0", "1.0"),                      json,                 None,                                         400),
        ("arguments in a list",      r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"meshes_list_rules","arguments":[]}}"#.into(), json, None, 400),
        ("an unknown version",       ping.clone(),                                    json,                 Some(("mcp-protocol-version", "1999-01-01")), 400),
        ("from a page",              ping.clone(),                                    json,                 Some(("origin", "https://page.example")),     403),
        ("from a page of ours",      ping.clone(),                                    json,                 Some(("origin", weft.base.as_str())),         403),
        ("from a file",              ping.clone(),                                    json,                 Some(("origin", "null")),                     403),
        ("by another name",          ping.clone(),                                    json,                 Some(("host", "weft.example.com")),           200),
        ("accepting little",         ping.clone(),                                    json,                 Some(("accept", "text/html")),                200),
    ];
    for (why, body, kind, more, status) in cases {
        let mut request = weft.request(Method::POST, "/mcp").bearer_auth(weft.token());
        for (name, value) in kind.map(|kind| ("content-type", kind)).into_iter().chain(more) {
            request = request.header(name, value);
        }
        let answer = send(request.body(body)).await;
        assert_eq!(answer.header("content-type"), Some("application/json"), "{why}");
        assert_eq!(answer.header("access-control-allow-origin"), None, "{why}");
        if status == 200 {
            assert_eq!((answer.status, &answer.body["result"]), (200, &json!({})), "{why}: {}", answer.text);
        } else {
            answer.refused(status, "", why);
        }
    }
    let unknown = json!({ "jsonrpc": "2.0", "id": 1, "method": "prompts/list", "params": {} });
    let answer = post(&weft, &weft.token(), &unknown).await;
    assert!(
        answer.status == 200 && answer.body.get("result").is_some() || answer.body["error"]["code"] == -32601
    );

    for method in ["GET", "DELETE", "PUT", "PATCH", "OPTIONS"] {
        let request = weft.request(method.parse().expect("a method"), "/mcp").bearer_auth(weft.token());
        let answer = send(request.header("accept", "text/event-stream")).await;
        answer.refused(405, "does not have that method", method);
        assert_eq!(answer.header("allow"), Some("POST"), "{method}");
    }
    for (why, token) in [("no token", None), ("a token that is none", Some("x"))] {
        let request =
            http_client().post(format!("{}/mcp", weft.base)).header("content-type", "application/json");
        let request = token.into_iter().fold(request, |request, token| request.bearer_auth(token));
        send(request.body(ping.clone())).await.refused(401, "invalid or missing credentials", why);
    }
    weft.stop().await;
}

/// A body that is too long or does not come is no heavier here than elsewhere.
#[tokio::test]
async fn a_message_has_the_bounds_of_a_bulk() {
    let weft = Weft::with(|config| config.ingest.bulk_bytes_max = 300_000).await;
    let of = |n: usize| json!({ "jsonrpc": "2.0", "id": 1, "method": "ping", "params": { "_meta": { "x": "a".repeat(n) } } });
    assert_eq!(post(&weft, &weft.token(), &of(300_000)).await.status, 200);
    let answer = post(&weft, &weft.token(), &of(320_000)).await;
    answer.refused(413, "too large", "too long");
    weft.stop().await;
}
