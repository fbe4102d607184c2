//! Actors that fall: who starts them again, when, and what becomes of the work.

use crate::support::{Answer::*, *};
use actors::store::StoreError;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Panics at a place for the first so many times.
fn falls(at: &'static str, times: usize) -> impl Fn(&str) + Send + Sync {
    let left = AtomicUsize::new(times);
    move |place| {
        let falls = place == at && left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
        assert!(!falls, "as scripted, at {at}");
    }
}

/// I17: whoever panics, wherever, is started again, and all of the work is done.
#[tokio::test(start_paused = true)]
async fn a_panic_anywhere_loses_nothing() {
    #[rustfmt::skip]
    let cases = [
        // place                          attempts may be repeated
        ("workspace.wake",                false),
        ("workspace.routed",              false),
        ("workspace.tick",                false),
        ("rule.route",                    false),
        ("rule.record",                   false),
        ("rule.recorded",                 false),
        ("connection.start",              false),
        ("connection.load",               false),
        ("connection.begin",              true),
        ("connection.attempt_finished",   true),
        ("connection.recorded",           true),
    ];
    for (place, may_repeat) in cases {
        for times in 1..=2 {
            let gauges = gauges::Gauges::default();
            let _listening = gauges.listen();
            let world = World::with_faults(falls(place, times));
            let tenant = Tenant::new(&world.start().await).await;
            tenant.route("contact.created").await;
            tenant.route("contact.*").await;
            let events = tenant.emit_many("contact.created", 20).await;
            tenant.all_completed(&events, secs(5)).await;
            let counts = world.fake.counts();
            assert_eq!(counts.len(), 40, "{place}: each event went to both");
            let repeated = counts.values().filter(|count| **count > 1).count();
            assert!(repeated == 0 || may_repeat, "{place}: {repeated} were repeated");
            let actor = place.split('.').next().expect("an actor");
            let fallen = gauges.counter(&format!("weft_actor_restarts_total/{actor}"));
            // Who comes back finds its work in the store, and may not pass the same place again.
            assert!((1..=times as u64).contains(&fallen), "{place}: {fallen} falls");
        }
    }
}

/// I17: retention falls and comes back, and nobody else notices.
#[tokio::test(start_paused = true)]
async fn retention_comes_back() {
    let mut world = World::with_faults(falls("retention.retain", 3));
    world.options.retention_every = secs(60);
    let tenant = Tenant::new(&world.start().await).await;
    tenant.route("contact.created").await;
    tokio::time::sleep(secs(600)).await;
    assert!(world.store.count("retain") >= 5, "{} times", world.store.count("retain"));
    let event = tenant.emit("contact.created").await;
    assert_eq!(tenant.finished(event).await.status, Status::Completed);
}

/// I17: who falls again and again waits ever longer, and then for a minute; its siblings go on meanwhile, and
/// when it is mended, so does it.
#[tokio::test(start_paused = true)]
async fn who_falls_too_often_is_quarantined_and_its_siblings_go_on() {
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    let [falling, sibling] = [tenant.route("falling").await, tenant.route("sibling").await];
    world.fake.falls(falling, true);
    let waiting = tenant.emit_many("falling", 10).await;
    for _ in 0..100 {
        let event = tenant.emit("sibling").await;
        tokio::time::sleep(secs(1)).await;
        assert_eq!(tenant.delivery(event).await.expect("routed").status, Status::Completed);
    }
    let fell = world.fake.fell(falling);
    let waits: Vec<_> = fell.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
    assert_eq!(waits[..6], [50, 100, 200, 400, 800, 60_000], "and so on: {waits:?}");
    world.fake.falls(falling, false);
    tenant.all_completed(&waiting, secs(61)).await;
    assert!(world.fake.calls_to(sibling).len() == 100 && world.fake.calls_to(falling).len() == 10);
}

/// I17: a rule actor that falls too often leaves events unrouted; other workspaces are not concerned, and
/// after a minute it goes on where it was.
#[tokio::test(start_paused = true)]
async fn a_quarantined_rule_actor_leaves_events_unrouted_for_a_while() {
    let world = World::with_faults(falls("rule.record", 6));
    let engine = world.start().await;
    let (tenant, other) = (Tenant::new(&engine).await, Tenant::new(&engine).await);
    tenant.route("contact.created").await;
    other.route("contact.created").await;
    let waiting = tenant.emit_many("contact.created", 10).await;
    tokio::time::sleep(secs(30)).await;
    let events = other.emit_many("contact.created", 10).await;
    other.all_completed(&events, ms(10)).await;
    assert!(tenant.event(waiting[0]).await.deliveries.is_empty(), "in quarantine");
    tenant.all_completed(&waiting, secs(35)).await;
}

/// I17: a delivery that its connection's actor falls with three times running is set aside as failed, the
/// others go on as fast as before, and a person can have it tried again.
#[tokio::test(start_paused = true)]
async fn poison_is_set_aside_and_the_rest_flows() {
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    let connection = tenant.route("contact.created").await;
    world.fake.script(connection, |_| Slow(ms(50), 200));
    world.store.hold("unrouted");
    let mut events = tenant.emit_many("contact.created", 40).await;
    let poison = events.remove(7);
    world.store.damage(poison, true);
    world.store.let_go("unrouted");
    let delivery = tenant.finished(poison).await;
    assert_eq!((delivery.status, delivery.attempts[0].outcome), (Status::Failed, Outcome::InternalError));
    assert!(delivery.last_error.expect("a reason").starts_with("set aside after repeated errors"));
    tenant.all_completed(&events, secs(10)).await;
    let more = tenant.emit_many("contact.created", 320).await;
    tenant.all_completed(&more, secs(2)).await;

    world.store.damage(poison, false);
    tenant.engine.retry(tenant.scope(), poison, delivery.rule_id).await.expect("it may");
    assert_eq!(tenant.finished(poison).await.status, Status::Completed);
}

/// I17: suspicion ends when the suspects have come back well: the connection is not slow for ever.
#[tokio::test(start_paused = true)]
async fn a_connection_is_fast_again_once_nobody_is_suspected() {
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    let connection = tenant.route("contact.created").await;
    world.fake.script(connection, |_| Slow(ms(50), 200));
    // It falls twice with the same deliveries in hand.
    let left = AtomicUsize::new(2);
    world.store.fail(move |method, _| {
        let damaged = method == "record_attempts"
            && left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
        damaged.then(|| StoreError::Damaged("as scripted".to_owned()))
    });
    let events = tenant.emit_many("contact.created", 640).await;
    tenant.all_completed(&events, secs(8)).await;
    assert_eq!(world.fake.in_flight_most(connection), 32);
}

/// I17: a panic while a rule judges an event is that event's: it goes to nobody, with the reason on
/// record, and the others are routed.
#[tokio::test(start_paused = true)]
async fn an_event_whose_judging_panics_says_so() {
    let world = World::with_faults(falls("rule.judge", 1));
    let tenant = Tenant::new(&world.start().await).await;
    let connection = tenant.connect("all").await;
    let rule = tenant.rule(connection, "contact.created").await;
    let events = tenant.emit_many("contact.created", 5).await;
    tenant.all_completed(&events, secs(5)).await;
    let details = tenant.event(events[0]).await;
    assert_eq!(details.deliveries, []);
    assert_eq!(details.unmatched.len(), 1);
    assert_eq!(details.unmatched[0].rule_id, rule);
    assert!(details.unmatched[0].reason.contains("an error in Weft's own code"), "{:?}", details.unmatched);
    assert_eq!(world.fake.calls().len(), 4);
}

/// I17: nobody looks after the root: when it falls the engine says so, and the next life does the work.
#[tokio::test(start_paused = true)]
async fn when_the_root_falls_the_engine_says_so() {
    let world = World::with_faults(falls("root.wake", 1));
    let engine = world.start().await;
    let tenant = Tenant::new(&engine).await;
    tenant.route("contact.created").await;
    tokio::time::timeout(secs(5), engine.failed()).await.expect_err("all is well");
    let event = tenant.emit("contact.created").await;
    tokio::time::timeout(secs(5), engine.failed()).await.expect("it is told");
    assert!(tenant.delivery(event).await.is_none());
    let later = tenant.emit("contact.created").await;
    let tenant = tenant.on(&world.start().await);
    tenant.all_completed(&[event, later], secs(5)).await;
}

/// I17: a destination's code that panics each time fails its deliveries, and no actor falls for it.
#[tokio::test(start_paused = true)]
async fn a_destination_that_panics_kills_nobody() {
    let gauges = gauges::Gauges::default();
    let _listening = gauges.listen();
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    let policy = Policy { retry: Some(vec![1_000; 3]), ..Default::default() };
    let connection = tenant.connect_with("panics", policy).await;
    tenant.rule(connection, "contact.created").await;
    world.fake.answers(connection, [Panic]);
    for event in tenant.emit_many("contact.created", 50).await {
        let delivery = tenant.finished(event).await;
        assert_eq!((delivery.status, delivery.attempt_count), (Status::Failed, 4));
        assert!(delivery.attempts.iter().all(|attempt| attempt.outcome == Outcome::InternalError));
    }
    assert_eq!(gauges.counter("weft_actor_restarts_total/connection"), 0);
}
