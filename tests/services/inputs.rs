//! What a rule has to say depends on how its account was connected.

use crate::{
    fakes::{Fake, discord, mailerlite, slack},
    support::{Weft, text},
};
use serde_json::{Value, json};

#[tokio::test]
async fn a_bot_is_told_where_to_and_a_webhook_knows() {
    let (messages, servers) = (Fake::start(slack::routes).await, Fake::start(discord::routes).await);
    let weft = Weft::with(|config| {
        let hosts = [
            ("slack.com", messages.url()),
            ("hooks.slack.com", messages.url()),
            ("discord.com", servers.url()),
        ];
        config.hosts.extend(hosts.map(|(host, url)| (host.to_owned(), url)));
    })
    .await;
    let connect = async |kind: &str, name: &str, settings: Value| {
        let body = json!({ "workspace": weft.workspace, "type": kind, "name": name, "metadata": settings });
        text(&weft.post("/connections", body).await.answered(201, name)["connection"]["id"])
    };
    let slack_bot = connect("slack", "slack bot", json!({ "access_token": slack::TOKEN })).await;
    let slack_hook = json!({ "webhook_url": "https://hooks.slack.com/services/T1/B1/hook" });
    let slack_hook = connect("slack", "slack hook", slack_hook).await;
    let discord_bot = json!({ "bot_token": discord::TOKEN, "guild_id": discord::GUILD });
    let discord_bot = connect("discord", "discord bot", discord_bot).await;
    let discord_hook = json!({ "webhook_url": "https://discord.com/api/webhooks/77/hook-token" });
    let discord_hook = connect("discord", "discord hook", discord_hook).await;

    let say = json!({ "action": "send_message", "template": "Hi" });
    let empty = json!({ "action": "send_message", "template": "Hi", "id": "" });
    let to = json!({ "action": "send_message", "template": "Hi", "id": "C1" });
    let direct = json!({ "action": "send_dm", "template": "Hi" });
    #[rustfmt::skip]
    let cases = [
        // connection       action     what is wrong
        (&slack_bot,        &say,      Some("metadata.id")),
        (&slack_bot,        &empty,    Some("metadata.id")),
        (&slack_bot,        &to,       None),
        (&slack_bot,        &direct,   None),
        (&slack_hook,       &say,      None),
        (&slack_hook,       &direct,   Some("metadata.action")),
        (&discord_bot,      &say,      Some("metadata.id")),
        (&discord_bot,      &to,       None),
        (&discord_hook,     &say,      None),
    ];
    let preview = format!("/workspaces/{}/rules/preview", weft.workspace);
    for (connection, metadata, wrong) in cases {
        let rule = json!({ "workspace": weft.workspace, "event": "a.b", "connection": connection, "metadata": metadata });
        let why = format!("{metadata} at {connection}");
        let previewed = weft.post(&preview, rule.clone()).await;
        let made = weft.post("/rules", rule).await;
        match wrong {
            Some(param) => [previewed, made].iter().for_each(|answer| answer.assert_error(400, param, &why)),
            None => assert_eq!((previewed.status, made.status), (200, 201), "{why}: {}", made.text),
        }
    }
    // What is not touched is not judged anew, what is touched is.
    let rules = weft.get("/rules").await.answered(200, "rules");
    let rule =
        rules["records"].as_array().expect("a list").iter().find(|rule| rule["connection"] == slack_bot);
    let path = format!("/rules/{}", text(&rule.expect("it is there")["id"]));
    weft.patch(&path, json!({ "event": "c.d" })).await.answered(200, "another event");
    weft.patch(&path, json!({ "metadata": say })).await.assert_error(
        400,
        "metadata.id",
        "no channel any more",
    );
    weft.stop().await;
}

/// A rule may map in its own way; others of its connection go on by the default.
#[tokio::test]
async fn a_rules_own_mapping_takes_the_place_of_its_connections() {
    let fake = Fake::start(mailerlite::routes).await;
    let host = ("connect.mailerlite.com".to_owned(), fake.url());
    let weft = Weft::with(|config| config.hosts.extend([host])).await;
    let body = json!({ "workspace": weft.workspace, "type": "mailerlite", "name": "Ours", "metadata": { "api_key": mailerlite::KEY } });
    let connection = text(&weft.post("/connections", body).await.answered(201, "made")["connection"]["id"]);
    let field = |dest: &str, path: &str| json!({ "dest": dest, "source": { "type": "path", "value": path } });
    let own = json!({ "schema_version": 1, "fields": [field("email", "contact.mail"), field("fields.name", "contact.called")] });
    let rule = |event: &str, connection: &str, mapping: Value| {
        let metadata = json!({ "action": "upsert_subscriber", "mapping": mapping });
        json!({ "workspace": weft.workspace, "event": event, "connection": connection, "metadata": metadata })
    };
    let made = weft.post("/rules", rule("own", &connection, own.clone())).await.answered(201, "its own");
    assert_eq!(made["rule"]["metadata"]["mapping"], own, "it is shown as it was sent");
    weft.post("/rules", rule("default", &connection, Value::Null)).await.answered(201, "the default");

    let grace =
        json!({ "email": "ada@example.com", "contact": { "mail": "grace@example.com", "called": "Grace" } });
    for (event, who) in [("own", "grace@example.com"), ("default", "ada@example.com")] {
        let sent = weft.send_event(event, grace.clone()).await;
        weft.event_as(&sent, "completed").await;
        assert!(fake.tables().subscribers.contains_key(who), "{event}: {:?}", fake.tables().subscribers);
    }
    assert_eq!(fake.tables().subscribers["grace@example.com"].fields, json!({ "name": "Grace" }));
    let sent = weft.send_event("own", json!({ "email": "ada@example.com" })).await;
    let failed = weft.event_as(&sent, "failed").await;
    assert!(text(&failed["rule_events"][0]["last_error"]).contains("email is missing"), "{failed}");

    let preview = format!("/workspaces/{}/rules/preview", weft.workspace);
    let mut draft = rule("own", &connection, own);
    draft["conditions"] = json!({ "path": "contact", "op": "exists" });
    let shown = weft.post(&preview, draft).await.answered(200, "a preview");
    let sends = &shown["examples"]["matched"][0]["sends"];
    assert_eq!(sends["fields"], json!({ "email": "grace@example.com", "fields.name": "Grace" }), "{shown}");

    let hook = weft.webhook("http://127.0.0.1:9/").await;
    let at_hook = json!({ "workspace": weft.workspace, "event": "a", "connection": hook, "metadata": { "action": "send_webhook", "mapping": {} } });
    weft.post("/rules", at_hook).await.assert_error(400, "metadata.mapping", "nothing is mapped there");
    #[rustfmt::skip]
    let cases = [
        ("text",               json!("x"),                                              "metadata.mapping"),
        ("a list",             json!([]),                                               "metadata.mapping"),
        ("no version",         json!({ "fields": [] }),                                 "metadata.mapping.schema_version"),
        ("no fields",          json!({ "schema_version": 1 }),                          "metadata.mapping.fields"),
        ("no source",          json!({ "schema_version": 1, "fields": [{ "dest": "email" }] }), "metadata.mapping.fields[0].source"),
    ];
    for (why, mapping, param) in cases {
        weft.post("/rules", rule("a", &connection, mapping)).await.assert_error(400, param, why);
    }
    weft.stop().await;
}
