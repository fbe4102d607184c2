//! What a person does to a connection, and what then becomes of the deliveries that wait for it.

use crate::support::{Answer::*, *};

/// I2: a pause parks what comes, for days if it must, and a resume lets all of it flow.
#[tokio::test(start_paused = true)]
async fn a_pause_parks_and_a_resume_lets_flow() {
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    let connection = tenant.route("contact.created").await;
    tenant.pause(connection, true).await;
    let events = tenant.emit_many("contact.created", 100).await;
    tokio::time::sleep(days(3)).await;
    assert_eq!(world.fake.calls().len(), 0, "paused");
    assert_eq!(tenant.delivery(events[0]).await.expect("routed").status, Status::Pending);
    tenant.pause(connection, false).await;
    tenant.all_completed(&events, secs(5)).await;
    assert_eq!(world.fake.calls().len(), 100);
}

/// I18: once a change is answered no attempt starts with the settings from before: not of those that
/// wait in the window, and not of those that are just being taken up.
#[tokio::test(start_paused = true)]
async fn after_a_change_is_answered_no_attempt_uses_what_was_before() {
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    let policy = Policy { max_in_flight: Some(4), ..Default::default() };
    let connection = tenant.connect_with("slow", policy).await;
    tenant.rule(connection, "contact.created").await;
    world.fake.script(connection, |_| Slow(ms(100), 200));
    let events = tenant.emit_many("contact.created", 60).await;
    until(secs(9), "some are under way", async || (world.fake.calls().len() >= 4).then_some(())).await;
    let mut changes = Vec::new();
    for name in ["renamed", "renamed again"] {
        // The next ones are just being taken up, and wait at the store's door.
        world.store.hold("begin");
        let begun = world.store.count("begin");
        until(secs(9), "at the door", async || (world.store.count("begin") > begun).then_some(())).await;
        tenant.patch(connection, ConnectionPatch { name: Some(name.to_owned()), ..Default::default() }).await;
        changes.push(world.fake.calls().len());
        world.store.let_go("begin");
        until(secs(9), "on it goes", async || {
            (world.fake.calls().len() > changes[changes.len() - 1] + 4).then_some(())
        })
        .await;
    }
    tenant.all_completed(&events, secs(60)).await;
    let calls = world.fake.calls();
    assert_eq!(calls.len(), 60, "and none twice");
    for (number, call) in calls.iter().enumerate() {
        let version = 1 + changes.iter().filter(|answered| number >= **answered).count() as u64;
        assert_eq!(call.version, version, "attempt {number}");
    }
}

/// I18: no attempt starts once a pause is answered, also of those being taken up.
#[tokio::test(start_paused = true)]
async fn after_a_pause_is_answered_no_attempt_starts() {
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    let connection = tenant.route("contact.created").await;
    world.store.hold("begin");
    let events = tenant.emit_many("contact.created", 50).await;
    until(secs(9), "at the door", async || (world.store.count("begin") > 0).then_some(())).await;
    tenant.pause(connection, true).await;
    world.store.let_go("begin");
    tokio::time::sleep(hours(1)).await;
    assert_eq!(world.fake.calls().len(), 0);
    tenant.pause(connection, false).await;
    tenant.all_completed(&events, secs(5)).await;
}

/// I2: deliveries to a connection that is deleted are canceled, with the reason: those that wait, those
/// that come back from a failed try, and those that are only routed later.
#[tokio::test(start_paused = true)]
async fn deleting_a_connection_cancels_what_waits_for_it() {
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    let connection = tenant.route("contact.created").await;
    let other = tenant.connect("other").await;
    tenant.rule(other, "invoice.paid").await;
    world.fake.answers(connection, [Slow(secs(10), 503)]);
    let waiting = tenant.emit_many("contact.created", 300).await;
    until(secs(9), "some are under way", async || (world.fake.in_flight(connection) == 32).then_some(()))
        .await;
    world.store.hold("unrouted");
    let later = tenant.emit_many("contact.created", 3).await;
    let refused = tenant.engine.delete_connection(tenant.scope(), connection, false).await;
    assert!(matches!(refused, Err(EngineError::Refused(_))), "it has rules: {refused:?}");
    tenant.engine.delete_connection(tenant.scope(), connection, true).await.expect("deleted");
    world.store.let_go("unrouted");
    let sibling = tenant.emit("invoice.paid").await;
    assert_eq!(tenant.finished(sibling).await.status, Status::Completed);
    for event in waiting.iter().chain(&later) {
        let delivery = tenant.finished(*event).await;
        assert_eq!(delivery.status, Status::Canceled);
        assert_eq!(delivery.last_error.as_deref(), Some("the connection was deleted"));
    }
    assert_eq!(world.fake.calls_to(connection).len(), 32, "nothing was sent afterwards");
    let verification = tenant.engine.verify().await.expect("readable");
    assert_eq!((verification.scheduled, verification.faults.len()), (0, 0), "{verification:?}");
}

/// I2: refused credentials make a connection inactive once they are confirmed; what waits is parked, not
/// failed, and flows when a person has mended them.
#[tokio::test(start_paused = true)]
async fn refused_credentials_park_deliveries_until_they_are_mended() {
    #[rustfmt::skip]
    let cases = [
        // why                                          events  retry schedule, ms
        ("one delivery is tried three times",           1,      vec![1_000, 1_000, 1_000, 1_000]),
        ("three deliveries are enough, too",            3,      vec![1_000]),
        ("what has no further try is parked as well",   1,      vec![]),
        ("and so is what waits behind",                 200,    vec![1_000]),
    ];
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    for (number, (why, count, retry)) in cases.into_iter().enumerate() {
        let policy = Policy { retry: Some(retry), max_in_flight: Some(8), ..Default::default() };
        let connection = tenant.connect_with(&format!("case {number}"), policy).await;
        let name = format!("case.{number}");
        tenant.rule(connection, &name).await;
        world.fake.answers(connection, [401]);
        let events = tenant.emit_many(&name, count).await;
        let connection_now = async || {
            let found = tenant.engine.connection(tenant.scope(), connection).await;
            found.expect("readable").expect("there").connection
        };
        until(hours(1), why, async || connection_now().await.inactive).await;
        let reason = connection_now().await.inactive;
        assert_eq!(reason, Some(InactiveReason::AuthenticationInvalid), "{why}");
        tokio::time::sleep(days(2)).await;
        let tried = world.fake.calls_to(connection).len();
        assert!((3..=3 + 8).contains(&tried), "{why}: {tried} attempts, three and those under way");
        for event in &events {
            let status = tenant.delivery(*event).await.expect("routed").status;
            assert!(!status.is_final(), "{why}: {status:?}");
        }
        world.fake.answers(connection, [200]);
        tenant.patch(connection, ConnectionPatch { inactive: Some(None), ..Default::default() }).await;
        tenant.all_completed(&events, secs(60)).await;
    }
}

/// I2: a delivery that is refused for its credentials again and again, while others are not, fails in the end.
#[tokio::test(start_paused = true)]
async fn one_refusal_among_successes_blames_the_delivery() {
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    let policy = Policy { retry: Some(vec![60_000]), ..Default::default() };
    let connection = tenant.connect_with("mostly well", policy).await;
    tenant.rule(connection, "*").await;
    world.fake.script(connection, |call| Code(if call.event_name == "forbidden" { 403 } else { 200 }));
    let forbidden = tenant.emit("forbidden").await;
    for _ in 0..100 {
        tenant.emit("allowed").await;
        tokio::time::sleep(secs(3)).await;
    }
    let delivery = tenant.delivery(forbidden).await.expect("routed");
    assert_eq!(delivery.status, Status::Failed);
    assert_eq!(delivery.attempts[0].outcome, Outcome::AuthFailed);
    let view = tenant.engine.connection(tenant.scope(), connection).await.expect("readable").expect("there");
    assert!(view.connection.takes_deliveries());
}

/// I2: a connection that cannot be made ready, as with settings of a newer version, keeps its deliveries.
#[tokio::test(start_paused = true)]
async fn a_connection_that_cannot_be_made_ready_keeps_its_deliveries() {
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    tenant.route("contact.created").await;
    world.fake.unready(Some("its settings are of a newer version"));
    let events = tenant.emit_many("contact.created", 10).await;
    tokio::time::sleep(hours(5)).await;
    assert_eq!(world.fake.calls().len(), 0);
    world.fake.unready(None);
    tenant.all_completed(&events, secs(60)).await;
}

/// I18: credentials that were refused before they were replaced do not take the new ones down.
#[tokio::test(start_paused = true)]
async fn refusals_of_replaced_credentials_blame_nobody() {
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    let connection = tenant.route("contact.created").await;
    world.fake.script(connection, |call| if call.version == 1 { Slow(secs(5), 401) } else { Code(200) });
    let events = tenant.emit_many("contact.created", 10).await;
    settle().await;
    assert_eq!(world.fake.in_flight(connection), 10, "all under way with the old ones");
    let url = object(serde_json::json!({"url": "https://hooks.example.com/new", "skip_test": true}));
    tenant.patch(connection, ConnectionPatch { metadata: Some(url), ..Default::default() }).await;
    let other = tenant.emit("contact.created").await;
    assert_eq!(tenant.finished(other).await.status, Status::Completed);
    tenant.all_completed(&events, secs(60)).await;
    let view = tenant.engine.connection(tenant.scope(), connection).await.expect("readable").expect("there");
    assert_eq!(view.connection.inactive, None);
}
