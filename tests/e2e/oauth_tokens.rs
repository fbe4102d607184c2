//! Tokens of accounts that were connected in a browser: renewed in time, by one for all, stored before they are
//! used, and when nothing helps any more the connection says so, and nothing that waits is lost.

use crate::{
    oauth::{Acme, pass},
    support::{
        acme::{ENDLESS, ROTATING, STEADY},
        text, until, vendor,
    },
};
use actors::{
    engine::{Faults, Unavailable},
    store::{StoreError, memory::MemoryStore},
};
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use weft::config::Config;

#[path = "../../actors/tests/engine/support/store.rs"]
#[allow(dead_code, reason = "another suite's, which uses all of it")]
mod store;

const REFRESH: &str = "refresh_token";

impl Acme {
    fn refreshes(&self) -> usize {
        self.vendor.tables().asked_for(REFRESH)
    }

    /// The connection, once it is inactive.
    async fn inactive(&self, id: &str) -> Value {
        until("the connection is inactive", async || {
            let connection = self.connection(id).await;
            (connection["active"] == false).then_some(connection)
        })
        .await
    }

    async fn completed(&self, events: &[String]) {
        for event in events {
            self.weft.event_as(event, "completed").await;
        }
    }
}

/// Refused in the middle of many deliveries and a question, it is renewed once for all of them.
#[tokio::test]
async fn a_token_that_is_refused_is_renewed_once_for_all_who_need_it() {
    for kind in [ROTATING, STEADY] {
        let acme = Acme::start(kind).await;
        let id = acme.connect("Ours").await;
        acme.rule("a.b", &id).await;
        acme.vendor.tables().access.clear();
        let event = |n: u32| json!({ "event": "a.b", "payload": { "email": format!("{n}@a.example") } });
        let events = acme.weft.emit((0..40).map(event).collect::<Value>()).await.answered(201, "many");
        let path = format!("/connections/{id}/actions");
        let questions = tokio::join!(acme.weft.get(&path), acme.weft.get(&path));
        for answer in [questions.0, questions.1] {
            answer.answered(200, "a question meanwhile");
        }
        let records = events["records"].as_array().expect("a list");
        let events: Vec<_> = records.iter().map(|record| text(&record["id"])).collect();
        acme.completed(&events).await;
        assert_eq!((acme.received().len(), acme.refreshes()), (40, 1), "{kind}");
        assert!(acme.vendor.tables().refused > 0, "{kind}: the old one was refused");
        assert_eq!(acme.connection(&id).await["active"], true, "{kind}");
        acme.weft.stop().await;
    }
}

#[tokio::test]
async fn a_token_that_is_about_to_end_is_renewed_ahead_of_that() {
    let slowly = |config: &mut Config| config.retry_schedule = "30s*5".parse().expect("a schedule");
    let acme = Acme::on(ROTATING, slowly, |_| {}).await;
    let id = acme.connect("Ours").await;
    let rule = acme.rule("a.b", &id).await;
    pass(Duration::from_secs(3_200)).await;
    acme.completed(&[acme.emit("a.b", "1").await]).await;
    assert_eq!(acme.refreshes(), 0, "it has a while to live");
    pass(Duration::from_secs(200)).await;
    acme.completed(&[acme.emit("a.b", "2").await, acme.emit("a.b", "3").await]).await;
    assert_eq!((acme.refreshes(), acme.vendor.tables().refused), (1, 0));
    let used: Vec<_> = acme.vendor.tables().messages.iter().map(|(token, _)| token.clone()).collect();
    assert!(used[0] != used[1] && used[1] == used[2], "the new one is used");

    // As long as the old one lives it does; after that what there is to send waits for the vendor.
    pass(Duration::from_secs(3_400)).await;
    acme.vendor.tables().script.extend([(503, Value::Null), (503, Value::Null)]);
    acme.completed(&[acme.emit("a.b", "4").await]).await;
    assert_eq!(acme.vendor.tables().messages[3].0, used[2], "the old one");
    pass(Duration::from_secs(300)).await;
    let event = acme.emit("a.b", "5").await;
    let attempt = acme.weft.attempts(&event, &rule, 1).await.remove(0).to_string();
    assert!(attempt.contains("answered 503 when it was asked for a token"), "{attempt}");
    assert_eq!(acme.connection(&id).await["active"], true);
    pass(Duration::from_secs(60)).await;
    acme.completed(&[event]).await;
    acme.weft.stop().await;
}

/// The pair that a vendor gave is on disk before it is used; one that cannot be stored is neither used nor lost.
#[tokio::test]
async fn a_new_token_is_stored_before_it_is_used() {
    let watched = Arc::new(store::WatchedStore::new(Arc::new(MemoryStore::new())));
    let seam = watched.clone();
    let acme = Acme::on(
        ROTATING,
        |config| config.retry_schedule = "20ms*60".parse().expect("a schedule"),
        |options| options.seams.store = Some(seam),
    )
    .await;
    let id = acme.connect("Ours").await;
    acme.rule("a.b", &id).await;
    acme.vendor.tables().access.clear();
    // The first says that somebody asks, and the second has the new pair.
    let before = watched.count("configure");
    watched.fail(move |method, count| {
        (method == "configure" && count > before).then_some(StoreError::Unavailable(Unavailable::DiskFull))
    });
    let event = acme.emit("a.b", "ada").await;
    until("the new pair could not be stored", async || {
        (watched.count("configure") > before + 3).then_some(())
    })
    .await;
    assert_eq!((acme.refreshes(), acme.received().len()), (1, 0), "asked once, and used by nobody");
    watched.mend();
    acme.completed(&[event]).await;
    assert_eq!((acme.refreshes(), acme.received()), (1, vec!["ada".to_owned()]), "and then it is that pair");
    acme.weft.stop().await;
}

/// The vendor gave a new pair and took the old one back, and the server ended before it was stored.
#[tokio::test]
async fn an_end_between_answer_and_store_is_told_as_what_it_is() {
    let once = Arc::new(AtomicBool::new(true));
    let script = move |place: &str| {
        assert!(place != "oauth.answered" || !once.swap(false, Ordering::SeqCst), "on purpose");
    };
    let acme = Acme::on(
        ROTATING,
        |config| config.retry_schedule = "1h".parse().expect("a schedule"),
        |options| options.seams.faults = Faults::scripted(script),
    )
    .await;
    let id = acme.connect("Ours").await;
    let rule = acme.rule("a.b", &id).await;
    acme.vendor.tables().access.clear();
    let event = acme.emit("a.b", "ada").await;
    acme.weft.attempts(&event, &rule, 1).await;
    assert_eq!((acme.refreshes(), acme.received().len()), (1, 0));

    let Acme { weft, vendor, kind } = acme;
    let acme = Acme { weft: weft.restart().await, vendor, kind };
    let retry = format!("/events/{event}/rules/{rule}/retry");
    assert_eq!(acme.weft.ask(Method::POST, &retry, None).await.status, 200);
    let connection = acme.inactive(&id).await;
    assert_eq!(connection["inactive_reason"], "oauth_reauthorization_required");
    let attempts =
        acme.weft.attempts(&event, &rule, 2).await.iter().map(|it| it.to_string()).collect::<String>();
    for words in ["invalid_grant", "an earlier renewal was cut short", "connect the account again"] {
        assert!(attempts.contains(words), "{words}: {attempts}");
    }
    assert_eq!(acme.refreshes(), 2, "asked once more, and not in a loop");

    acme.connect_again(&id).await;
    until("it is tried by hand", async || {
        let answer = acme.weft.ask(Method::POST, &retry, None).await;
        (answer.status == 200 || !acme.received().is_empty()).then_some(())
    })
    .await;
    acme.completed(&[event]).await;
    assert_eq!(acme.received(), ["ada"]);
    acme.weft.stop().await;
}

/// A consent that is over makes the connection inactive and parks what comes; connected again it is the same
/// connection, and what waited is sent in order.
#[tokio::test]
async fn a_consent_that_is_over_parks_deliveries_until_it_is_given_again() {
    for kind in [ROTATING, STEADY] {
        let acme = Acme::start(kind).await;
        let id = acme.connect("Ours").await;
        let one = json!({ "policy": { "max_in_flight": 1 } });
        acme.weft.patch(&format!("/connections/{id}"), one).await.answered(200, kind);
        let rule = acme.rule("a.b", &id).await;
        let field = json!({ "dest": "email", "source": { "type": "path", "value": "email" } });
        let mapping = json!({ "schema": { "schema_version": 1, "fields": [field] } });
        let path = format!("/connections/{id}/mappings/default");
        acme.weft.put(&path, mapping).await.answered(200, kind);
        let mapped = acme.weft.get(&path).await.answered(200, kind);

        acme.vendor.tables().forget_all();
        let mut events = vec![acme.emit("a.b", "1").await];
        let connection = acme.inactive(&id).await;
        assert_eq!(connection["inactive_reason"], "oauth_reauthorization_required", "{kind}");
        // The one that found out is looked at again a moment later; those that come then wait behind it.
        pass(Duration::from_secs(30)).await;
        for n in 2..=6 {
            events.push(acme.emit("a.b", &n.to_string()).await);
        }
        let asked = acme.refreshes();
        assert_eq!(asked, 1, "{kind}");
        for event in &events {
            let shown = acme.weft.get(&format!("/events/{event}")).await.answered(200, kind);
            let is_parked = ["pending", "retrying", "processing"].contains(&text(&shown["status"]).as_str());
            assert!(is_parked, "{kind}: {shown}");
        }
        let answer = acme.weft.get(&format!("/connections/{id}/actions")).await;
        answer.refused(409, "connected again in a browser", kind);

        acme.connect_again(&id).await;
        acme.completed(&events).await;
        assert_eq!(acme.received(), ["1", "2", "3", "4", "5", "6"], "{kind}: in order");
        assert!(acme.vendor.tables().messages.iter().all(|(_, body)| body["fields"].is_null()), "{kind}");
        let now = acme.connection(&id).await;
        assert_eq!((&now["active"], &now["name"]), (&json!(true), &json!("Ours")), "{kind}");
        assert_eq!(now["policy"], json!({ "max_in_flight": 1 }), "{kind}");
        assert_eq!(acme.weft.get(&path).await.answered(200, kind), mapped, "{kind}: its mapping");
        let rules = acme.weft.get(&format!("/rules/{rule}")).await.answered(200, kind);
        assert_eq!(rules["connection"], id, "{kind}: its rule");
        assert_eq!(acme.refreshes(), asked, "{kind}");
        acme.weft.stop().await;
    }
}

#[tokio::test]
async fn a_token_without_an_end_that_is_refused_was_taken_back() {
    let acme = Acme::start(ENDLESS).await;
    let id = acme.connect("Ours").await;
    let rule = acme.rule("a.b", &id).await;
    pass(Duration::from_secs(400 * 24 * 3_600)).await;
    acme.completed(&[acme.emit("a.b", "1").await]).await;
    acme.vendor.tables().forget_all();
    let event = acme.emit("a.b", "2").await;
    let connection = acme.inactive(&id).await;
    assert_eq!(connection["inactive_reason"], "oauth_authorization_revoked");
    let attempt = acme.weft.attempts(&event, &rule, 1).await.remove(0).to_string();
    assert!(attempt.contains("access was taken back; connect the account again"), "{attempt}");
    let secrets = acme.vendor.tables().made.clone();
    assert!(!secrets.iter().any(|secret| attempt.contains(secret)), "{attempt}");
    assert_eq!(acme.refreshes(), 0, "there is nothing to ask with");
    acme.connect_again(&id).await;
    acme.completed(&[event]).await;
    acme.weft.stop().await;
}

/// What a person turned off stays off, and made active by hand without a consent it is inactive again.
#[tokio::test]
async fn only_a_consent_brings_a_lost_connection_back() {
    let acme = Acme::start(STEADY).await;
    let id = acme.connect("Ours").await;
    acme.rule("a.b", &id).await;
    acme.vendor.tables().forget_all();
    let event = acme.emit("a.b", "1").await;
    acme.inactive(&id).await;
    let path = format!("/connections/{id}");
    acme.weft.patch(&path, json!({ "active": true })).await.answered(200, "by hand");
    acme.inactive(&id).await;
    assert_eq!(acme.refreshes(), 1, "what was refused for good is not asked again at once");
    acme.weft.patch(&path, json!({ "active": false })).await.answered(200, "turned off");
    acme.connect_again(&id).await;
    assert_eq!(acme.connection(&id).await["inactive_reason"], "manually_inactivated");
    acme.weft.patch(&path, json!({ "active": true })).await.answered(200, "turned on");
    acme.completed(&[event]).await;
    acme.weft.stop().await;
}

/// Our own registration is refused: that is the operator's, and no customer can mend it.
#[tokio::test]
async fn an_app_that_is_refused_takes_no_connection_down() {
    let acme =
        Acme::on(STEADY, |config| config.retry_schedule = "1h*3".parse().expect("a schedule"), |_| {}).await;
    let id = acme.connect("Ours").await;
    let rule = acme.rule("a.b", &id).await;
    {
        let mut tables = acme.vendor.tables();
        tables.access.clear();
        tables.client_secret = "rotated by the vendor";
    }
    let event = acme.emit("a.b", "1").await;
    let attempt = acme.weft.attempts(&event, &rule, 1).await.remove(0).to_string();
    for words in ["invalid_client", "oauth.acme_steady.client_secret", "rejected_server_error"] {
        assert!(attempt.contains(words), "{words}: {attempt}");
    }
    assert!(!attempt.contains(vendor::CLIENT_SECRET), "{attempt}");
    assert_eq!(acme.connection(&id).await["active"], true);
    acme.vendor.tables().client_secret = vendor::CLIENT_SECRET;
    pass(Duration::from_secs(2 * 3_600)).await;
    acme.completed(&[event]).await;
    acme.weft.stop().await;
}

/// What comes with a token replaces what was known of the account.
#[tokio::test]
async fn an_account_that_moved_is_found() {
    let acme = Acme::start(ROTATING).await;
    let id = acme.connect("Ours").await;
    acme.rule("a.b", &id).await;
    let moved = format!("{}/api/moved", acme.vendor.url());
    {
        let mut tables = acme.vendor.tables();
        tables.access.clear();
        tables.tells = json!({ "api_domain": moved });
    }
    acme.completed(&[acme.emit("a.b", "1").await]).await;
    let connection = until("it is kept", async || {
        let connection = acme.connection(&id).await;
        (connection["metadata"]["api_domain"] == moved).then_some(connection)
    })
    .await;
    assert_eq!(connection["metadata"]["account_id"], "acct-7", "the rest stays");
    acme.completed(&[acme.emit("a.b", "2").await]).await;
    assert_eq!((acme.received().len(), acme.refreshes()), (2, 1));
    acme.weft.stop().await;
}
