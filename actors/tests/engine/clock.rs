//! A machine's clock that is set forward or back, under a running engine and between two lives.

use crate::support::{Answer::*, *};

const DAY_MS: i64 = 24 * 3_600_000;

/// I16: a clock set while the engine runs changes nothing: no retry is early, late, lost or doubled.
#[tokio::test(start_paused = true)]
async fn a_clock_set_under_a_running_engine_moves_nothing() {
    for jump in [DAY_MS, -DAY_MS, 400 * DAY_MS] {
        let mut world = World::new();
        world.options.delivery.retry.waits = vec![hours(2), hours(2)];
        let (engine, lever) = world.start_at(START).await;
        let tenant = Tenant::new(&engine).await;
        let connection = tenant.route("contact.created").await;
        world.fake.answers(connection, [Slow(secs(2), 500), NotBefore(429, hours(3)), Code(200)]);
        let event = tenant.emit("contact.created").await;
        settle().await;
        lever.jump_ms(jump); // an attempt is in flight
        tenant.tried(event, 1).await;
        lever.jump_ms(jump); // it waits for its retry
        tenant.tried(event, 2).await;
        lever.jump_ms(-jump); // the connection is paused
        let delivery = tenant.finished(event).await;
        assert_eq!((delivery.status, delivery.attempt_count), (Status::Completed, 3), "{jump} ms");
        // By what is on record: a receiver is told the machine's time.
        let waits = delivery.attempts.windows(2).map(|pair| span(pair[0].started_at, pair[1].started_at));
        assert_eq!(waits.collect::<Vec<_>>(), [hours(2) + secs(2), hours(3)], "{jump} ms");
    }
}

/// I16: a clock set between two lives loses nothing, sends nothing twice, and delays no retry beyond its
/// own interval.
#[test]
fn a_clock_set_between_two_lives_delays_nothing_beyond_its_interval() {
    #[rustfmt::skip]
    let cases = [
        // why                            the second life's clock, ms from the first's start
        ("as it should be",               3_600_000),
        ("a day ahead",                   DAY_MS),
        ("a day behind",                  -DAY_MS),
        ("as if it were 1970",            -START.0),
        ("a year ahead",                  365 * DAY_MS),
    ];
    for (why, offset) in cases {
        let mut world = World::new();
        world.options.delivery.retry.waits = vec![hours(2)];
        let (tenant, events) = life(async {
            let tenant = Tenant::new(&world.start().await).await;
            let connection = tenant.route("contact.created").await;
            world.fake.script(connection, |call| Code(if call.attempt == 1 { 500 } else { 200 }));
            let events = tenant.emit_many("contact.created", 5).await;
            tenant.tried(events[4], 1).await;
            tokio::time::sleep(hours(1)).await;
            (tenant, events)
        });
        life(async {
            let (engine, _) = world.start_at(Timestamp(START.0 + offset)).await;
            let tenant = tenant.on(&engine);
            tenant.all_completed(&events, hours(2) + secs(1)).await;
            let fresh = tenant.emit("contact.created").await;
            assert!(fresh > events[4], "{why}: ids go on");
            tenant.all_completed(&[fresh], hours(2) + secs(1)).await;
        });
        let counts = world.fake.counts();
        assert!(counts.len() == 6 && counts.values().all(|count| *count == 2), "{why}: {counts:?}");
    }
}

/// I16: what a clock far ahead once put down as due is not waited for: a wait is never longer than the
/// longest there is.
#[test]
fn a_retry_due_in_another_age_is_due_now() {
    let mut world = World::new();
    world.options.delivery.retry.waits = vec![secs(10); 5];
    let (tenant, event) = life(async {
        let tenant = Tenant::new(&world.start_at(START).await.0).await;
        let connection = tenant.route("contact.created").await;
        world.fake.script(connection, |call| Code(if call.attempt == 1 { 500 } else { 200 }));
        let event = tenant.emit("contact.created").await;
        tenant.tried(event, 1).await;
        (tenant, event)
    });
    life(async {
        let tenant = tenant.on(&world.start_at(Timestamp(START.0 - 3_000 * DAY_MS)).await.0);
        tenant.all_completed(&[event], secs(15)).await;
    });
}
