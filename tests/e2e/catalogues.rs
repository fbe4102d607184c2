//! What can be connected, what is in an account, and how a payload is mapped to it.

use crate::support::{Answer, Weft, assert_members, text};
use actors::{
    destinations::{Prepared, live::Item, outgoing::Outgoing},
    domain::{
        catalog::CatalogField,
        connection::Connection,
        delivery::{Outcome, Report},
    },
    engine::Preparer,
    transport::Http,
};
use async_trait::async_trait;
use parking_lot::Mutex;
use reqwest::Method;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

const HOOK: &str = "http://127.0.0.1:9/hook";
const CATALOG: [&str; 10] = [
    "id",
    "workspace_id",
    "connection_id",
    "integration_type",
    "catalog_version",
    "refreshed_at",
    "created_by",
    "created_at",
    "updated_at",
    "fields",
];

/// An account whose fields a test sets; `Err` is what its service says instead.
#[derive(Clone)]
struct Account(Arc<Mutex<Result<Value, String>>>);

impl Account {
    fn of(fields: Value) -> Self {
        Self(Arc::new(Mutex::new(Ok(fields))))
    }

    async fn weft(&self) -> Weft {
        let preparer = Arc::new(self.clone());
        Weft::on(|_| {}, |options| options.seams.preparer = Some(preparer)).await
    }
}

#[async_trait]
impl Preparer for Account {
    async fn prepare(&self, _connection: &Connection) -> Result<Arc<dyn Prepared>, String> {
        Ok(Arc::new(self.clone()))
    }
}

#[async_trait]
impl Prepared for Account {
    async fn deliver(&self, _out: &Outgoing<'_>, _http: &Http) -> Report {
        actors::destinations::answer::failed(Outcome::InternalError, "not asked for".to_owned())
    }

    async fn items(&self, _key: &str, _http: &Http, _timeout: Duration) -> Result<Vec<Item>, String> {
        Ok(Vec::new())
    }

    async fn fields(&self, _http: &Http, _timeout: Duration) -> Result<Vec<CatalogField>, String> {
        let fields = self.0.lock().clone()?;
        Ok(serde_json::from_value(fields).expect("fields"))
    }
}

fn schema(fields: Value) -> Value {
    json!({ "schema_version": 1, "fields": fields })
}

fn mapped(dest: &str, path: &str) -> Value {
    json!({ "dest": dest, "source": { "type": "path", "value": path } })
}

/// A value without these members.
fn without(value: &Value, members: &[&str]) -> Value {
    let mut value = value.clone();
    members.iter().for_each(|member| drop(value.as_object_mut().expect("an object").remove(*member)));
    value
}

#[tokio::test]
async fn a_webhook_has_one_action_and_nothing_to_pick_from() {
    let weft = Weft::start().await;
    let connection = weft.webhook(HOOK).await;
    let actions = weft.get(&format!("/connections/{connection}/actions?x=1")).await.answered(200, "shown");
    let action = json!({ "key": "send_webhook", "label": "Send webhook", "noun": "webhook", "fields": [], "data": {} });
    assert_eq!(actions, json!({ "send_webhook": action }));
    weft.stop().await;
}

#[tokio::test]
async fn a_catalog_is_read_once_and_again_when_it_is_asked_for() {
    let (one, two) = (
        json!({ "key": "a", "type": "string" }),
        json!({ "key": "tier", "label": "Tier", "type": "enum",
        "description": "What they pay.", "constraints": { "allowed_values": ["pro", "free"], "required": true } }),
    );
    let account = Account::of(json!([one, two]));
    let weft = account.weft().await;
    let connection = weft.webhook(HOOK).await;
    let path = format!("/connections/{connection}/fields");
    let refresh = format!("{path}?refresh=true");
    let first = weft.get(&path).await.answered(200, "the first read makes it");
    assert_members(&first, &CATALOG, "a catalog");
    assert_eq!(first["fields"], json!([one, two]));
    #[rustfmt::skip]
    let expected = [("workspace_id", &weft.workspace), ("connection_id", &connection), ("created_by", &weft.machine.access_key)];
    for (name, value) in expected {
        assert_eq!(first[name], value.as_str(), "{name}");
    }
    assert_eq!(first["integration_type"], "webhook");

    // What the account has by now is not looked at until that is asked for.
    *account.0.lock() = Ok(json!([two, one]));
    for query in ["", "?refresh=false", "?refresh=", "?other=true", "?Refresh=true"] {
        let kept = weft.get(&format!("{path}{query}")).await.answered(200, query);
        assert_eq!(kept, first, "{query:?} serves what is kept");
    }
    let again = weft.get(&refresh).await.answered(200, "read again");
    assert_eq!(without(&again, &["refreshed_at"]), without(&first, &["refreshed_at"]), "only that moved");
    assert!(text(&again["refreshed_at"]) >= text(&first["refreshed_at"]));
    assert_eq!(weft.get(&path).await.answered(200, "kept"), again);

    *account.0.lock() = Ok(json!([two]));
    let changed = weft.get(&refresh).await.answered(200, "changed");
    assert_ne!(changed["catalog_version"], first["catalog_version"]);
    assert_eq!(changed["fields"], json!([two]));
    for stays in ["id", "created_at", "created_by"] {
        assert_eq!(changed[stays], first[stays], "{stays}");
    }

    // A service that does not tell changes nothing.
    *account.0.lock() = Err("the service answered 500".to_owned());
    weft.get(&refresh).await.refused(422, "the service answered 500", "it fails");
    assert_eq!(weft.get(&path).await.answered(200, "kept"), changed);
    for value in ["yes", "1", "TRUE", "true,true"] {
        weft.get(&format!("{path}?refresh={value}")).await.assert_error(422, "refresh", value);
    }
    let weft = weft.restart().await;
    assert_eq!(weft.get(&path).await.answered(200, "after a restart"), changed);
    weft.stop().await;
}

#[tokio::test]
async fn an_inactive_connection_is_not_asked() {
    let weft = Weft::start().await;
    let connection = weft.webhook(HOOK).await;
    let shown = weft.webhook(HOOK).await;
    let kept = weft.get(&format!("/connections/{shown}/fields")).await.answered(200, "before");
    for id in [&connection, &shown] {
        weft.patch(&format!("/connections/{id}"), json!({ "active": false })).await.answered(200, "inactive");
    }
    for path in ["actions", "fields", "fields?refresh=true", "mappings/default"] {
        let answer = weft.get(&format!("/connections/{connection}/{path}")).await;
        answer.refused(409, "the connection is inactive; make it active again", path);
    }
    assert_eq!(weft.get(&format!("/connections/{shown}/fields")).await.answered(200, "as kept"), kept);
    let body = json!({ "schema": schema(json!([])) });
    for id in [&connection, &shown] {
        let path = format!("/connections/{id}/mappings/default");
        weft.put(&path, body.clone()).await.answered(200, "a mapping needs nobody to be asked");
        assert_eq!(weft.get(&path).await.answered(200, "stored")["status"], "stored");
    }
    weft.patch(&format!("/connections/{connection}"), json!({ "active": true }))
        .await
        .answered(200, "active");
    weft.get(&format!("/connections/{connection}/actions")).await.answered(200, "as it was told");
    weft.stop().await;
}

const MAPPING: [&str; 11] = [
    "id",
    "mapping_id",
    "version",
    "workspace_id",
    "connection_id",
    "integration_type",
    "name",
    "schema",
    "catalog_version",
    "created_at",
    "updated_at",
];

#[tokio::test]
async fn a_mapping_is_suggested_until_one_is_saved() {
    let fields = json!([{ "key": "email", "type": "string" }, { "key": "FNAME", "type": "string" }, { "key": "AGE", "type": "number" }]);
    let weft = Account::of(fields).weft().await;
    let connection = weft.webhook(HOOK).await;
    let path = format!("/connections/{connection}/mappings/default");
    let generated = weft.get(&path).await.answered(200, "generated");
    assert_members(&generated, &["status", "mapping"], "the envelope");
    let suggested = &generated["mapping"];
    assert_members(suggested, &MAPPING, "generated: nobody made it");
    assert_eq!((&generated["status"], &suggested["version"]), (&json!("generated"), &json!(1)));
    let guess = schema(json!([mapped("email", "email"), mapped("FNAME", "first_name")]));
    assert_eq!(suggested["schema"], guess);
    let catalog = weft.get(&format!("/connections/{connection}/fields")).await.answered(200, "its catalog");
    assert_eq!(suggested["catalog_version"], catalog["catalog_version"]);
    assert_eq!(weft.get(&path).await.answered(200, "again"), generated);

    // What is sent is what is kept, numbers to the digit, but for what nobody knows.
    let sent = r#"{"schema_version":1,"fields":[{"dest":"n","source":{"type":"literal","value":12345678901234567890.50}},{"dest":"e","source":{"type":"path","value":"user.email"},"transforms":[{"type":"trim"},{"type":"default","value":1.10E+2}],"on_error":"warn_action","notes":"why"}],"meta":{"name":"mine","notes":"n"}}"#;
    let body = format!(r#"{{"schema":{sent},"expected_version":1,"name":"Mine","unknown":[1]}}"#);
    let answer = weft.ask_raw(Method::PUT, &format!("{path}?x=1"), body).await;
    assert!(answer.text.contains(sent), "{}", answer.text);
    let saved = answer.answered(200, "saved");
    let mapping = &saved["mapping"];
    assert_members(mapping, &[&MAPPING[..], &["created_by"]].concat(), "saved");
    #[rustfmt::skip]
    let expected = [("version", json!(2)), ("name", json!("Mine")), ("mapping_id", suggested["mapping_id"].clone()),
        ("workspace_id", json!(weft.workspace)), ("connection_id", json!(connection)), ("integration_type", json!("webhook")),
        ("created_by", json!(weft.machine.access_key)), ("catalog_version", catalog["catalog_version"].clone())];
    for (name, value) in expected {
        assert_eq!(mapping[name], value, "{name}");
    }
    assert_eq!(saved["status"], "stored");
    assert_ne!(mapping["id"], suggested["id"], "each version has an id");
    let shown = weft.get(&path).await;
    assert!(shown.text.contains(sent), "{}", shown.text);
    assert_eq!(shown.answered(200, "as it was saved"), saved);

    let next = json!({ "schema": schema(json!([])), "mapping_id": mapping["mapping_id"], "workspace_id": weft.workspace, "expected_version": 2 });
    let next = weft.put(&path, next).await.answered(200, "the next version")["mapping"].clone();
    for (name, stays) in
        [("mapping_id", true), ("name", true), ("created_at", true), ("id", false), ("version", false)]
    {
        assert_eq!(next[name] == mapping[name], stays, "{name}");
    }
    for stale in [1, 2, 4] {
        let body = json!({ "schema": schema(json!([])), "expected_version": stale });
        weft.put(&path, body).await.refused(409, "mapping was changed meanwhile", "another version");
    }
    let body = json!({ "schema": schema(json!([])), "workspace_id": null, "mapping_id": null, "expected_version": null, "name": null });
    let last = weft.put(&path, body).await.answered(200, "null asks nothing");
    assert_eq!((&last["mapping"]["version"], &last["mapping"]["name"]), (&json!(4), &json!("Mine")));
    let weft = weft.restart().await;
    assert_eq!(weft.get(&path).await.answered(200, "after a restart"), last);
    weft.stop().await;
}

/// Of changes made from one version one is kept; those that name none are all kept, one after another.
#[tokio::test]
async fn changes_at_once_are_not_lost_unseen() {
    let weft = Weft::start().await;
    let path = format!("/connections/{}/mappings/default", weft.webhook(HOOK).await);
    let save = async |more: Value| {
        let mut body = json!({ "schema": schema(json!([])) });
        more.as_object().expect("an object").iter().for_each(|(name, value)| body[name] = value.clone());
        weft.put(&path, body).await.status
    };
    let expecting = || save(json!({ "expected_version": 1 }));
    let (a, b, c, d) = tokio::join!(expecting(), expecting(), expecting(), expecting());
    let mut statuses = [a, b, c, d];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409, 409, 409]);
    let any = || save(json!({}));
    let (a, b, c, d) = tokio::join!(any(), any(), any(), any());
    assert_eq!([a, b, c, d], [200; 4]);
    assert_eq!(weft.get(&path).await.answered(200, "shown")["mapping"]["version"], 6);
    weft.stop().await;
}

/// Every wrong place is named.
#[tokio::test]
async fn a_malformed_mapping_is_refused_by_place() {
    let weft = Weft::start().await;
    let (connection, other) = (weft.webhook(HOOK).await, weft.webhook(HOOK).await);
    let path = format!("/connections/{connection}/mappings/default");
    let before = weft.get(&path).await.answered(200, "before");
    let others = weft.get(&format!("/connections/{other}/mappings/default")).await.answered(200, "another");
    let (sibling, _) = weft.sibling("sibling").await;
    let with = |name: &str, value: Value| {
        let mut body = json!({ "schema": schema(json!([mapped("email", "email")])) });
        body[name] = value;
        body
    };
    let of = |fields: Value| json!({ "schema": schema(fields) });
    let field = |more: Value| {
        let mut field = mapped("email", "email");
        more.as_object().expect("an object").iter().for_each(|(name, value)| field[name] = value.clone());
        of(json!([field]))
    };
    let transforms = |transforms: Value| field(json!({ "transforms": transforms }));
    let many = |count: usize| of((0..count).map(|n| mapped(&format!("f{n}"), "email")).collect());
    let unknown = uuid::Uuid::now_v7().to_string();
    #[rustfmt::skip]
    let cases = [
        // why                          body                                                                    param
        ("no schema",                   json!({ "name": "x" }),                                                 "schema"),
        ("null",                        with("schema", Value::Null),                                            "schema"),
        ("a text",                      with("schema", json!("{}")),                                            "schema"),
        ("a list",                      with("schema", json!([])),                                              "schema"),
        ("empty",                       with("schema", json!({})),                                              "schema.schema_version"),
        ("another version",             with("schema", json!({ "schema_version": 2, "fields": [] })),           "schema.schema_version"),
        ("251 fields",                  many(251),                                                              "schema.fields"),
        ("eleven transforms",           transforms(json!(vec![json!({ "type": "trim" }); 11])),                            "schema.fields[0].transforms"),
        ("an unknown transform",        transforms(json!([{ "type": "rot13" }])),                               "schema.fields[0].transforms[0].type"),
        ("a path with a dollar",        of(json!([mapped("email", "$.payload.email")])),                        "schema.fields[0].source.value"),
        ("a path that is too long",     of(json!([mapped("email", &"p".repeat(129))])),                         "schema.fields[0].source.value"),
        ("no dest",                     of(json!([{ "source": { "type": "literal", "value": 1 } }])),           "schema.fields[0].dest"),
        ("a dest that is too long",     of(json!([mapped(&"d".repeat(129), "email")])),                         "schema.fields[0].dest"),
        ("an unknown on_error",         field(json!({ "on_error": "ignore" })),                                 "schema.fields[0].on_error"),
        ("empty notes",                 field(json!({ "notes": "" })),                                          "schema.fields[0].notes"),
        ("a name of nothing",           with("name", json!("")),                                                "name"),
        ("a name of 65 characters",     with("name", json!("n".repeat(65))),                                    "name"),
        ("a line break in it",          with("name", json!("a\nb")),                                            "name"),
        ("a name of numbers",           with("name", json!(5)),                                                 "name"),
        ("version zero",                with("expected_version", json!(0)),                                     "expected_version"),
        ("a negative version",          with("expected_version", json!(-1)),                                    "expected_version"),
        ("half a version",              with("expected_version", json!(1.5)),                                   "expected_version"),
        ("a version in words",          with("expected_version", json!("1")),                                   "expected_version"),
        ("a workspace in words",        with("workspace_id", json!("mine")),                                    "workspace_id"),
        ("a workspace of numbers",      with("workspace_id", json!(1)),                                         "workspace_id"),
        ("another workspace",           with("workspace_id", json!(sibling)),                                   "workspace_id"),
        ("a workspace nobody has",      with("workspace_id", json!(unknown)),                                   "workspace_id"),
        ("a mapping in words",          with("mapping_id", json!("")),                                          "mapping_id"),
        ("another's mapping",           with("mapping_id", others["mapping"]["mapping_id"].clone()),            "mapping_id"),
        ("a mapping nobody has",        with("mapping_id", json!(unknown)),                                     "mapping_id"),
    ];
    for (why, body, param) in cases {
        weft.put(&path, body).await.assert_error(422, param, why);
    }
    let both = of(json!([mapped("a", "1"), mapped("b", "b"), { "dest": "c" }]));
    let answer: Answer = weft.put(&path, both).await;
    assert_eq!(answer.params(), ["schema.fields[0].source.value", "schema.fields[2].source"], "all at once");
    for (why, body) in [
        ("nothing", ""),
        ("no object", "[]"),
        ("no JSON", "{"),
        ("a name twice", r#"{"schema":{"a":1,"a":2}}"#),
    ] {
        assert_eq!(weft.ask_raw(Method::PUT, &path, body).await.status, 400, "{why}");
    }
    assert_eq!(weft.get(&path).await.answered(200, "after all of it"), before, "nothing was saved");
    weft.put(&path, many(250)).await.answered(200, "as many as there may be");
    weft.put(&path, transforms(json!(vec![json!({ "type": "trim" }); 10])))
        .await
        .answered(200, "ten transforms");
    weft.put(&path, with("name", json!("é".repeat(64)))).await.answered(200, "64 characters");
    weft.stop().await;
}

#[tokio::test]
async fn what_is_known_of_an_account_goes_with_its_connection() {
    let weft = Weft::start().await;
    let connection = weft.webhook(HOOK).await;
    weft.rule("a.b", &connection).await;
    let below = ["actions", "fields", "fields?refresh=true", "mappings/default"];
    let body = json!({ "schema": schema(json!([])) });
    let mapping = format!("/connections/{connection}/mappings/default");
    for path in below {
        weft.get(&format!("/connections/{connection}/{path}")).await.answered(200, path);
    }
    weft.put(&mapping, body.clone()).await.answered(200, "saved");
    let own = format!("/connections/{connection}");
    let gone = weft.ask(Method::DELETE, &own, Some(json!({ "force_delete": true }))).await;
    gone.answered(200, "deleted");
    let weft = weft.restart().await;
    for path in below {
        let answer = weft.get(&format!("/connections/{connection}/{path}")).await;
        answer.refused(404, "connection not found", path);
    }
    weft.put(&mapping, body).await.refused(404, "connection not found", "saved again");
    weft.stop().await;
}
