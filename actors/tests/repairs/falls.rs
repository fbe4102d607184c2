//! Actors that fall: what is in hand is not lost, who is to blame is found, and all of it shows.

use crate::support::{Answer::*, *};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// I17: a panic in the code around an attempt loses neither the delivery nor the place it had.
#[tokio::test(start_paused = true)]
async fn a_panic_around_an_attempt_loses_nothing() {
    let world = World::with_falls(|place, before| place == "connection.begin" && before < 2);
    let tenant = Tenant::new(&world.start().await).await;
    let policy = Policy { max_in_flight: Some(1), ..Default::default() };
    let (connection, _) = tenant.route_with("contact.created", policy).await;
    let events = tenant.emit_many("contact.created", 10).await;
    tenant.all_completed(&events, secs(5)).await;
    assert_eq!(world.fake.calls_to(connection).len(), 10);
}

/// I17: a connection whose actor fell twice with the same in hand is slow only until each has come back.
#[tokio::test(start_paused = true)]
async fn suspicion_ends_when_the_suspects_have_come_back() {
    let world = World::with_falls(|place, before| place == "connection.attempt_finished" && before < 2);
    let tenant = Tenant::new(&world.start().await).await;
    let connection = tenant.route("contact.created").await;
    world.fake.answer(connection, Slow(ms(100), 200));
    world.store.hold("record_routing");
    let events = tenant.emit_many("contact.created", 640).await;
    world.store.let_go("record_routing");
    // 32 of them one by one take three seconds, and the others two.
    tenant.all_completed(&events, secs(8)).await;
    assert_eq!(world.fake.in_flight_most(connection), 32);
}

/// I2: what was queued by a rule actor that fell before it told anybody is delivered.
#[tokio::test(start_paused = true)]
async fn what_a_fallen_rule_actor_queued_is_delivered() {
    let world = World::with_falls(|place, before| place == "rule.recorded" && before == 1);
    let tenant = Tenant::new(&world.start().await).await;
    tenant.route("contact.created").await;
    for _ in 0..2 {
        let events = tenant.emit_many("contact.created", 5).await;
        tenant.all_completed(&events, secs(1)).await;
    }
}

/// I17: who is left down for a while shows, and until when; and shows no more when it is up again.
#[tokio::test(start_paused = true)]
async fn a_quarantine_shows_while_it_lasts() {
    #[rustfmt::skip]
    let cases = [
        // where they fall   the connection's  the workspace's routing
        ("connection.load",  true,             false),
        ("rule.record",      false,            true),
        ("workspace.wake",   true,             true),
    ];
    for (where_, connection_is_down, routing_is_down) in cases {
        let left = Arc::new(AtomicUsize::new(0));
        let falls = left.clone();
        let world = World::with_falls(move |place, _| {
            place == where_ && falls.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
        });
        let engine = world.start().await;
        let (tenant, other) = (Tenant::new(&engine).await, Tenant::new(&engine).await);
        let [connection, other_connection] = [tenant.route("contact.created").await, other.route("a").await];
        let shown = async || {
            let quarantined = tenant.view(connection).await.quarantined_until;
            [quarantined, engine.routing_paused_until(tenant.workspace)]
        };
        let first = tenant.emit("contact.created").await;
        tenant.all_completed(&[first], secs(5)).await;
        assert_eq!(shown().await, [None, None], "{where_}: all is well");
        tokio::time::sleep(secs(300)).await;
        left.store(6, Relaxed);
        let event = tenant.emit("contact.created").await;
        tokio::time::sleep(secs(10)).await;
        let shown_down = shown().await;
        assert_eq!(
            shown_down.map(|until| until.is_some()),
            [connection_is_down, routing_is_down],
            "{where_}"
        );
        let until = shown_down.into_iter().flatten().max().expect("one of them");
        assert!(
            (secs(40)..secs(61)).contains(&until.since(START.after(secs(310)))),
            "{where_}: until {until}"
        );
        assert_eq!(other.view(other_connection).await.quarantined_until, None, "{where_}");
        assert_eq!(engine.routing_paused_until(other.workspace), None, "{where_}");
        tenant.all_completed(&[event], secs(61)).await;
        assert_eq!(shown().await, [None, None], "{where_}: up again");
    }
}

/// I14, I17: a store that fails now and then when it is asked what is unfinished is asked again; one that
/// always does ends the engine, which says so.
#[test]
fn the_root_asks_a_store_that_fails_again() {
    let world = World::new();
    let (tenant, events) = life(async {
        let tenant = Tenant::new(&world.start().await).await;
        tenant.route("contact.created").await;
        world.store.hold("record_routing");
        let events = tenant.emit_many("contact.created", 5).await;
        settle().await;
        (tenant, events)
    });
    world.store.let_go("record_routing");
    let damaged = || Some(StoreError::Damaged("as scripted".to_owned()));
    life(async {
        world.store.fail(move |gate, _| damaged().filter(|_| gate == "unfinished"));
        let engine = world.start().await;
        tokio::time::timeout(secs(30), engine.failed()).await.expect("it says so");
    });
    let before = world.store.count("unfinished");
    assert!(before > 4, "asked {before} times");
    world.store.fail(move |gate, count| damaged().filter(|_| gate == "unfinished" && count < before + 3));
    life(async {
        let tenant = tenant.on(&world.start().await);
        tenant.all_completed(&events, secs(5)).await;
    });
}
