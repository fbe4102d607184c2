//! Going down in order: what is in flight may land, nothing new starts, the rest waits for the next life.

use crate::support::{Answer::*, *};
use tokio::time::Instant;

/// I19: those in flight land and are recorded; what waits is done in the next life, and nothing twice.
#[tokio::test(start_paused = true)]
async fn a_drain_lets_land_what_is_in_flight_and_starts_nothing() {
    let world = World::new();
    let engine = world.start().await;
    let tenant = Tenant::new(&engine).await;
    let connection = tenant.route("contact.created").await;
    world.fake.script(connection, |_| Slow(secs(3), 200));
    let mut events = tenant.emit_many("contact.created", 100).await;
    settle().await;
    assert_eq!(world.fake.in_flight(connection), 32);
    world.store.hold("unrouted");
    events.extend(tenant.emit_many("contact.created", 10).await); // accepted, and not even routed
    let started = Instant::now();
    engine.drain(secs(10)).await.expect("drained");
    assert!((ms(2_900)..secs(4)).contains(&started.elapsed()), "{:?}", started.elapsed());
    assert_eq!(world.store.count("close"), 1, "the store is closed");
    tokio::time::sleep(hours(1)).await;
    assert_eq!(world.fake.calls().len(), 32, "nothing started");
    assert_eq!(world.store.in_hand(), 0, "what landed is on record");

    world.store.let_go("unrouted");
    let tenant = tenant.on(&world.start().await);
    tenant.all_completed(&events, secs(60)).await;
    assert_eq!(world.fake.calls().len(), 110, "nothing twice");
}

/// I19: patience ends; what has not come back is tried again after the next start, under the same id.
#[tokio::test(start_paused = true)]
async fn what_is_given_up_is_tried_again_in_the_next_life() {
    let world = World::new();
    let engine = world.start().await;
    let tenant = Tenant::new(&engine).await;
    let connection = tenant.route("contact.created").await;
    world.fake.answers(connection, [[Hang; 5].as_slice(), &[Code(200)]].concat());
    let events = tenant.emit_many("contact.created", 5).await;
    settle().await;
    let started = Instant::now();
    engine.drain(secs(2)).await.expect("drained");
    assert!((secs(2)..secs(3)).contains(&started.elapsed()), "{:?}", started.elapsed());
    settle().await;
    assert_eq!(world.fake.in_flight(connection), 0, "given up");
    let tenant = tenant.on(&world.start().await);
    tenant.all_completed(&events, secs(5)).await;
    let counts = world.fake.counts();
    assert!(counts.len() == 5 && counts.values().all(|count| *count == 2), "{counts:?}");
}

/// I19: a drain with nothing in flight is over at once, also when the tree has fallen already.
#[tokio::test(start_paused = true)]
async fn a_drain_without_work_is_over_at_once() {
    for falls in [false, true] {
        let world = World::with_faults(move |place| assert!(place != "root.wake" || !falls, "as scripted"));
        let engine = world.start().await;
        let tenant = Tenant::new(&engine).await;
        let event = tenant.emit("nobody.asks").await;
        settle().await;
        let started = Instant::now();
        engine.drain(secs(10)).await.expect("drained");
        assert!(started.elapsed() < ms(100), "{:?}", started.elapsed());
        assert_eq!(tenant.event(event).await.summary.status.is_final(), !falls);
    }
}
