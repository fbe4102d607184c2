//! How many attempts there are, when they start, and what they tell the other side.

use crate::support::{Answer::*, *};

const DAY_MS: i64 = 24 * 3_600_000;

/// I16: a receiver is told the machine's time, also when an earlier life's clock was a day ahead.
#[test]
fn a_receiver_is_told_the_time_whatever_is_on_record() {
    let world = World::new();
    let (tenant, connection) = life(async {
        let tenant = Tenant::new(&world.start_at(Timestamp(START.0 + DAY_MS)).await).await;
        let connection = tenant.route("contact.created").await;
        let event = tenant.emit("contact.created").await;
        tenant.all_completed(&[event], secs(5)).await;
        (tenant, connection)
    });
    life(async {
        let tenant = tenant.on(&world.start_at(START).await);
        let event = tenant.emit("contact.created").await;
        tenant.all_completed(&[event], secs(5)).await;
    });
    let told: Vec<_> = world.fake.calls_to(connection).iter().map(|call| call.sent_at.0 - START.0).collect();
    assert!((DAY_MS..DAY_MS + 1_000).contains(&told[0]) && (0..1_000).contains(&told[1]), "{told:?}");
}

/// I20: nobody gets around a connection's rate: not by asking for a retry, not by a change of something
/// else, and not by coming so rarely that the actor is put away in between.
#[tokio::test(start_paused = true)]
async fn nothing_gets_around_a_rate() {
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    let policy = Policy { rate_per_second: Some(0.01), ..Default::default() };
    let (connection, rule) = tenant.route_with("contact.created", policy).await;
    world.fake.answer(connection, Says(422));
    let mut events = Vec::new();
    for number in 0..30 {
        events.push(tenant.emit("contact.created").await);
        let failed = tenant.delivery(events[0]).await;
        if failed.is_some_and(|delivery| delivery.status == Status::Failed) {
            tenant.engine.retry(tenant.scope(), events[0], rule).await.expect("it may");
        }
        let name = Some(format!("renamed {number}"));
        tenant.patch(connection, ConnectionPatch { name, ..Default::default() }).await;
        tokio::time::sleep(secs(35)).await;
    }
    let calls = world.fake.calls_to(connection);
    let waits: Vec<_> = calls.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    assert!(calls.len() >= 10 && waits.iter().all(|wait| *wait >= secs(100)), "{waits:?}");
}

/// I20: the same when there is nothing else to do between two events.
#[tokio::test(start_paused = true)]
async fn a_rate_is_remembered_when_nothing_waits() {
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    let policy = Policy { rate_per_second: Some(0.01), ..Default::default() };
    let (connection, _) = tenant.route_with("contact.created", policy).await;
    for _ in 0..5 {
        tenant.emit("contact.created").await;
        tokio::time::sleep(secs(70)).await;
    }
    let calls = world.fake.calls_to(connection);
    assert!(calls.windows(2).all(|pair| pair[1].at - pair[0].at >= secs(100)), "{calls:?}");
}

/// I10: connections that hang, of one workspace or of all others, leave enough for one that does not.
#[tokio::test(start_paused = true)]
async fn whoever_hangs_leaves_enough_for_the_others() {
    #[rustfmt::skip]
    let cases = [
        // why                                       workspaces  connections of each
        ("siblings that hang",                       1,          11),
        ("workspaces in which everything hangs",     20,         16),
    ];
    for (why, workspaces, connections) in cases {
        let world = World::new();
        let engine = world.start().await;
        let mut tenants = Vec::new();
        for _ in 0..workspaces {
            let tenant = Tenant::new(&engine).await;
            for _ in 0..connections {
                world.fake.answer(tenant.route("noise").await, Hang);
            }
            tenants.push(tenant);
        }
        let tenant = if workspaces == 1 { tenants[0].clone() } else { Tenant::new(&engine).await };
        let connection = tenant.route("signal").await;
        world.fake.answer(connection, Slow(ms(10), 200));
        for tenant in &tenants {
            tenant.emit_many("noise", 32).await;
        }
        settle().await;
        for _ in 0..20 {
            let events = tenant.emit_many("signal", 8).await;
            tokio::time::sleep(ms(50)).await;
            tenant.all_completed(&events, ms(0)).await;
        }
        assert_eq!(world.fake.in_flight_most(connection), 8, "{why}: all of them at once");
    }
}

/// I20: code of a destination that forgets the time is stopped, and holds nothing for ever.
#[tokio::test(start_paused = true)]
async fn a_destination_that_forgets_the_time_is_stopped() {
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    let connection = tenant.route("contact.created").await;
    world.fake.script(connection, |call| if call.attempt == 1 { Forever } else { Says(200) });
    let events = tenant.emit_many("contact.created", 5).await;
    tenant.all_completed(&events, secs(60)).await;
}
