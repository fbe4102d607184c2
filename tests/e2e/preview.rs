//! What a draft would send: shown without its secrets, and without sending anything.

use crate::support::{Receiver, Reply, Weft, assert_members, text};
use actors::{
    destinations::Prepared,
    domain::{connection::Connection, secret::Secret},
    engine::{MachineKeyClear, Preparer},
};
use async_trait::async_trait;
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::Arc;

struct World {
    weft: Weft,
    receiver: Receiver,
}

impl World {
    async fn new() -> Self {
        let (weft, receiver) = (Weft::start().await, Receiver::start(Reply::ok).await);
        weft.send_event("invoice.paid", json!({ "total": 120, "user": { "name": "Ada" } })).await;
        Self { weft, receiver }
    }

    fn path(&self) -> String {
        format!("/workspaces/{}/rules/preview", self.weft.workspace)
    }

    /// A draft of a rule that would send everything there.
    fn draft(&self, connection: &str) -> Value {
        json!({ "event": "*", "connection": connection, "metadata": { "action": "send_webhook" } })
    }

    /// What the only event would become.
    async fn sends(&self, draft: Value) -> Value {
        let shown = self.weft.post(&self.path(), draft).await.answered(200, "a preview");
        let [example] = &shown["examples"]["matched"].as_array().expect("a list")[..] else {
            panic!("{shown}")
        };
        example["sends"].clone()
    }
}

#[tokio::test]
async fn a_webhooks_request_is_shown_without_its_secrets() {
    let world = World::new().await;
    let secrets = ["s3cret-bearer-0001", "s3cret-signing-0001", "s3cret-header-0001", "s3cret-path-0001"];
    let settings = json!({
        "auth_scheme": "bearer", "bearer_token": secrets[0],
        "signing": "hmac", "hmac_secret": secrets[1],
        "headers": [{ "name": "x-tenant", "value": secrets[2] }],
    });
    let url = world.receiver.url(&format!("/hooks/{}", secrets[3]));
    let connection = world.weft.webhook_with(&url, settings, json!({})).await;
    let sends = world.sends(world.draft(&connection)).await;
    assert_members(&sends, &["fields", "warnings", "request", "complete"], "what is sent");
    assert_eq!((&sends["fields"], &sends["complete"]), (&Value::Null, &json!(true)));
    let request = &sends["request"];
    assert_eq!((&request["method"], &request["body"]["event"]), (&json!("POST"), &json!("invoice.paid")));
    assert_eq!(request["body"]["payload"], json!({ "total": 120, "user": { "name": "Ada" } }));
    let headers = &request["headers"];
    assert_eq!(headers["content-type"], "application/json");
    for secret in ["authorization", "x-meshes-signature", "x-tenant"] {
        assert_eq!(headers[secret], "[redacted]", "{headers}");
    }
    let told = sends.to_string();
    assert!(secrets.iter().all(|secret| !told.contains(secret)), "{told}");
    assert!(text(&request["url"]).starts_with(&world.receiver.url("/hooks/")), "{request}");

    // An inactive connection shows what it would send, and none is ever called.
    let inactive = json!({ "active": false });
    world.weft.patch(&format!("/connections/{connection}"), inactive).await.answered(200, "inactive");
    let again = world.sends(world.draft(&connection)).await;
    assert_eq!(again["request"]["body"]["payload"], request["body"]["payload"]);
    assert!(world.receiver.so_far().is_empty());
    let without = json!({ "event": "*" });
    assert_eq!(world.sends(without).await, Value::Null, "nothing is named, nothing is shown");
    world.weft.stop().await;
}

/// Who may read payloads and no connections is not shown what one would send.
#[tokio::test]
async fn a_connections_request_is_for_who_may_read_connections() {
    let world = World::new().await;
    let connection = world.weft.webhook(&world.receiver.url("/")).await;
    let key = json!({ "name": "payloads", "permissions": ["payload"] });
    let key = world.weft.post("/keys", key).await.answered(201, "a key")["key"].clone();
    let machine = MachineKeyClear {
        access_key: text(&key["access_key"]),
        secret: Secret::new(text(&key["secret_key"])),
        ..world.weft.machine.clone()
    };
    let ask = async |draft: Value| {
        world.weft.ask_as(&world.weft.token_of(&machine), Method::POST, &world.path(), Some(draft)).await
    };
    ask(world.draft(&connection)).await.refused(403, "may not read this", "with a connection");
    ask(json!({ "event": "*" })).await.answered(200, "without one");
    world.weft.stop().await;
}

#[tokio::test]
async fn what_is_no_action_there_is_refused_by_name() {
    let world = World::new().await;
    let weft = &world.weft;
    let connection = weft.webhook(&world.receiver.url("/")).await;
    let (sibling, _) = weft.another_workspace("sibling").await;
    let nobody = uuid::Uuid::now_v7().to_string();
    let with = |name: &str, value: Value| {
        let mut draft = world.draft(&connection);
        draft[name] = value;
        draft
    };
    #[rustfmt::skip]
    let cases = [
        ("no id",             with("connection", json!("mine")),                    400, "connection"),
        ("a number",          with("connection", json!(7)),                         400, "connection"),
        ("nobody's",          with("connection", json!(nobody)),                    404, ""),
        ("no metadata",       with("metadata", Value::Null),                        400, "metadata.action"),
        ("no action",         with("metadata", json!({})),                          400, "metadata.action"),
        ("an unknown action", with("metadata", json!({ "action": "fly" })),         400, "metadata.action"),
        ("a list",            with("metadata", json!([])),                          400, "metadata"),
    ];
    for (why, draft, status, param) in cases {
        weft.post(&world.path(), draft).await.assert_error(status, param, why);
    }
    let elsewhere = format!("/workspaces/{sibling}/rules/preview");
    weft.post(&elsewhere, world.draft(&connection)).await.refused(404, "connection not found", "a sibling's");
    weft.post(&world.path(), json!({ "event": "*", "connection": null, "metadata": null }))
        .await
        .answered(200, "null asks nothing");
    world.weft.stop().await;
}

/// A connection that cannot be used as it is says so, and is nobody's fault but its own.
#[tokio::test]
async fn a_connection_that_cannot_be_used_says_why() {
    struct Broken;
    #[async_trait]
    impl Preparer for Broken {
        async fn prepare(&self, _: &Connection) -> Result<Arc<dyn Prepared>, String> {
            Err("its mapping is not usable".to_owned())
        }
    }
    let weft = Weft::on(|_| {}, |options| options.seams.preparer = Some(Arc::new(Broken))).await;
    let connection = weft.webhook("http://127.0.0.1:9/").await;
    weft.send_event("a.b", json!({ "n": 1 })).await;
    let draft = json!({ "event": "*", "connection": connection, "metadata": { "action": "send_webhook" } });
    let why = "cannot be used as it is: its mapping is not usable";
    let preview = format!("/workspaces/{}/rules/preview", weft.workspace);
    weft.post(&preview, draft).await.refused(422, why, "a preview");
    weft.get(&format!("/connections/{connection}/actions")).await.refused(422, why, "its actions");
    weft.stop().await;
}
