//! Checks 23 to 26: what can be connected, and rules.

use super::shapes::{Integration, List};
use crate::support::{NodeManagement, Receiver, Reply, Weft, assert_members, ids, text};
use serde_json::{Value, json};

type Listed = List<Integration>;

const HOOK: &str = "http://127.0.0.1:9/hook";

/// The types of all destinations, sorted.
#[rustfmt::skip] // one a line is too many
const INTEGRATIONS: [&str; 15] = [
    "activecampaign", "aweber", "customer_io", "discord", "hubspot", "intercom", "mailchimp", "mailerlite", "pipedrive", "resend",
    "salesforce", "sendgrid", "slack", "webhook", "zoom",
];

/// Every record's `authentication` and `actions` have the catalog's shape, in the list envelope. They are
/// [`INTEGRATIONS`], as the contract has them.
#[tokio::test]
async fn check_23_every_destination_is_listed_with_its_settings_and_actions() {
    let weft = Weft::start().await;
    let list = weft.get("/integrations?x=1").await.answered(200, "listed");
    assert_members(&list, &["count", "limit", "next_cursor", "records"], "the envelope");
    let records = list["records"].as_array().expect("a list");
    assert_eq!((&list["count"], &list["next_cursor"]), (&json!(records.len()), &Value::Null));
    for record in records {
        assert_members(record, &["name", "type", "authentication", "actions"], "a record");
        for (key, action) in record["actions"].as_object().expect("by their keys") {
            assert_eq!(action["key"], key.as_str());
            assert!(action["label"].is_string() && action["noun"].is_string(), "{action}");
        }
        for field in record["authentication"]["fields"].as_array().into_iter().flatten() {
            let kind = field["type"].as_str().expect("a type");
            assert!(["text", "password", "select"].contains(&kind), "{field}");
            assert_eq!(field["options"].is_array(), kind == "select", "{field}");
        }
    }
    let Listed { records: integrations, .. } =
        serde_json::from_value(list.clone()).expect("the catalog's shape");
    let mut kinds: Vec<_> = integrations.iter().map(|integration| integration.kind.as_str()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, INTEGRATIONS);
    for integration in &integrations {
        integration.assert_declared();
    }
    let webhook = records.iter().find(|record| record["type"] == "webhook").expect("it is there");
    assert_eq!((&webhook["name"], &webhook["authentication"]["type"]), (&json!("Webhook"), &json!("none")));
    let display =
        json!({ "label": "Send webhook", "description": "Sends the event to the connection's URL." });
    let action =
        json!({ "key": "send_webhook", "label": "Send webhook", "noun": "webhook", "display": display });
    assert_eq!(webhook["actions"], json!({ "send_webhook": action }));
    let url = &webhook["authentication"]["fields"][0];
    let (key, checks) = (json!("url"), json!("url"));
    assert_eq!((&url["key"], &url["validate"], &url["required"]), (&key, &checks, &json!(true)));

    #[rustfmt::skip]
    let refused = [("limit=0", "limit must be"), ("limit=1001", "limit must be"), ("limit=x", "limit must be"), ("cursor=x", "cursor is not")];
    for (query, says) in refused {
        weft.get(&format!("/integrations?{query}")).await.refused(400, says, query);
    }
    let mut walked = Vec::new();
    let mut cursor = String::new();
    for _ in 0..=records.len() {
        let page = weft.get(&format!("/integrations?limit=1{cursor}")).await.answered(200, "a page");
        walked.extend(page["records"].as_array().expect("a list").clone());
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(&walked, records, "page by page");
    weft.stop().await;
}

/// 201 and the rule, of its connection's type and active; an action is needed, and a connection of the same workspace.
#[tokio::test]
async fn check_24_a_rule_takes_its_type_from_its_connection() {
    let weft = Weft::start().await;
    let api = NodeManagement::of(&weft);
    let connection = weft.webhook(HOOK).await;
    let of = |workspace: &str, metadata: Value| json!({ "workspace": workspace, "connection": connection, "event": "a.b", "metadata": metadata });
    let action = json!({ "action": "send_webhook" });
    let made = api.post("/rules", of(&weft.workspace, action.clone())).await.answered(201, "made");
    assert_members(&made, &["rule"], "a create is wrapped");
    let shown = api.get(&format!("/connections/{connection}")).await.answered(200, "its connection");
    assert_eq!((&made["rule"]["type"], &made["rule"]["active"]), (&shown["type"], &json!(true)));
    assert_eq!(made["rule"]["metadata"], action);
    for metadata in [json!({}), json!({ "action": "" }), json!({ "action": null }), json!({ "id": "5" })] {
        let answer = api.post("/rules", of(&weft.workspace, metadata)).await;
        answer.refused(400, "action", "no action");
    }
    let (sibling, _) = weft.sibling("sibling").await;
    let (_, theirs, _) = weft.stranger().await;
    for workspace in [sibling, theirs] {
        let answer = api.post("/rules", of(&workspace, action.clone())).await;
        assert!((400..500).contains(&answer.status), "another workspace's: {}", answer.text);
        answer.refused(answer.status, "", "another workspace's");
    }
    assert_eq!(api.get("/rules").await.answered(200, "listed")["count"], 1, "nothing else was made");
    weft.stop().await;
}

/// `event`, `resource` and `resource_id` filter to the letter; a deleted rule is told as `{id,connection,type,event}`
/// with what it was about.
#[tokio::test]
async fn check_25_rules_are_filtered_by_exact_match_and_told_when_deleted() {
    let (weft, receiver) = (Weft::start().await, Receiver::start(Reply::ok).await);
    let connection = weft.webhook(&receiver.url("/")).await;
    let mut rules = Vec::new();
    for (event, resource, resource_id) in [
        ("a.b", None, None),
        ("a.b", Some("team"), None),
        ("a.b", Some("team"), Some("1")),
        ("a.*", None, None),
        ("ü x&y", Some("team"), None),
    ] {
        let mut body = json!({ "event": event, "connection": connection });
        for (name, value) in [("resource", resource), ("resource_id", resource_id)] {
            if let Some(value) = value {
                body[name] = value.into();
            }
        }
        rules.push(weft.rule_with(body).await);
    }
    #[rustfmt::skip]
    let cases: [(&str, &str, &[usize]); 10] = [
        ("all",                         "",                                    &[0, 1, 2, 3, 4]),
        ("an event",                    "?event=a.b",                          &[0, 1, 2]),
        ("a pattern is its own text",   "?event=a.*",                          &[3]),
        ("no prefix",                   "?event=a",                            &[]),
        ("its case matters",            "?event=A.B",                          &[]),
        ("encoded",                     "?event=%C3%BC%20x%26y",               &[4]),
        ("a resource",                  "?resource=team",                      &[1, 2, 4]),
        ("a resource id",               "?resource_id=1",                      &[2]),
        ("both",                        "?event=a.b&resource=team",            &[1, 2]),
        ("all three",                   "?event=a.b&resource=team&resource_id=1&x=y", &[2]),
    ];
    for (why, query, expected) in cases {
        let expected: Vec<&String> = expected.iter().map(|at| &rules[*at]).collect();
        for list in ["/rules".to_owned(), format!("/workspaces/{}/rules", weft.workspace)] {
            let found = weft.get(&format!("{list}{query}")).await.answered(200, why);
            assert_eq!(ids(&found).iter().collect::<Vec<_>>(), expected, "{why} in {list}");
        }
    }
    let about = json!({ "resource": "team", "resource_id": "1" });
    for (rule, event, more) in [(&rules[0], "a.b", json!({})), (&rules[2], "a.b", about)] {
        let mut expected = json!({ "id": rule, "connection": connection, "type": "webhook", "event": event });
        for (name, value) in more.as_object().expect("an object") {
            expected[name] = value.clone();
        }
        let gone = NodeManagement::of(&weft).delete(&format!("/rules/{rule}"), None).await;
        assert_eq!(gone.answered(200, "deleted"), expected);
        weft.get(&format!("/rules/{rule}")).await.refused(404, "rule not found", "gone");
    }
    weft.stop().await;
}

/// What a typed client reads as text is text when it is kept, or it is refused with its name.
#[tokio::test]
async fn check_26_metadata_that_clients_read_as_text_is_text() {
    let weft = Weft::start().await;
    let connection = weft.webhook(HOOK).await;
    let new = |metadata: &Value| json!({ "workspace": weft.workspace, "connection": connection, "event": "a.b", "metadata": metadata });
    const TEXTS: [&str; 13] = [
        "id",
        "name",
        "value",
        "key",
        "data",
        "option",
        "option_value",
        "template",
        "title",
        "subject",
        "from",
        "body",
        "event_name_override",
    ];
    let mut good = json!({ "action": "send_webhook", "own": { "n": 1 } });
    TEXTS.iter().for_each(|name| good[*name] = json!("5"));
    let made = weft.post("/rules", new(&good)).await.answered(201, "texts");
    let path = format!("/rules/{}", text(&made["rule"]["id"]));
    for name in TEXTS {
        for value in [json!(5), json!(1.5), json!(true), Value::Null, json!(["5"]), json!({ "a": 1 })] {
            let mut bad = good.clone();
            bad[name] = value.clone();
            let (param, why) = (format!("metadata.{name}"), format!("{name}: {value}"));
            weft.post("/rules", new(&bad)).await.assert_error(400, &param, &why);
            weft.patch(&path, json!({ "metadata": bad })).await.assert_error(400, &param, &why);
        }
    }
    let shown = weft.get(&path).await.answered(200, "shown");
    assert_eq!(shown["metadata"], good, "as it was sent");
    let list = weft.get("/rules").await.answered(200, "listed");
    assert_eq!(list["records"], json!([shown]));
    weft.stop().await;
}
