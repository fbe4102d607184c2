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
