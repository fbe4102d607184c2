//! How fast a destination is spoken to: its rate, what is in flight at a time, and the breaker.

use crate::support::{Answer::*, *};

/// Checks that in any span there were at most `burst` calls and those that `rate_per_second` allows.
fn assert_rate(calls: &[Call], rate_per_second: f64, burst: usize, why: &str) {
    for (first, from) in calls.iter().enumerate() {
        for (last, to) in calls.iter().enumerate().skip(first) {
            let allowed = burst as f64 + rate_per_second * span(from.at, to.at).as_secs_f64() + 0.01;
            let made = last - first + 1;
            assert!(made as f64 <= allowed, "{why}: {made} calls within {:?}", span(from.at, to.at));
        }
    }
}

/// I20: a connection's rate holds, with its burst once it has rested.
#[tokio::test(start_paused = true)]
async fn a_connections_rate_holds() {
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    let policy = Policy { rate_per_second: Some(10.0), burst: Some(5), ..Default::default() };
    let connection = tenant.connect_with("limited", policy).await;
    tenant.rule(connection, "contact.created").await;
    let events = tenant.emit_many("contact.created", 100).await;
    tenant.all_completed(&events, secs(12)).await;
    let calls = world.fake.calls();
    assert_rate(&calls, 10.0, 1, "it starts without a burst");
    tokio::time::sleep(secs(20)).await;
    let events = tenant.emit_many("contact.created", 20).await;
    tenant.all_completed(&events, secs(3)).await;
    let rested = &world.fake.calls()[100..];
    assert_rate(rested, 10.0, 5, "rested, it allows its burst");
    assert_eq!(rested.iter().filter(|call| call.at == rested[0].at).count(), 5, "and all of it");
}

/// I2: a connection told to slow down waits as a whole, also across a restart, and loses nothing.
#[tokio::test(start_paused = true)]
async fn a_pause_that_was_asked_for_outlives_a_restart() {
    let world = World::new();
    let engine = world.start().await;
    let tenant = Tenant::new(&engine).await;
    let connection = tenant.route("contact.created").await;
    world.fake.answers(connection, [NotBefore(429, secs(3_600)), Code(200)]);
    let first = tenant.emit("contact.created").await;
    tenant.tried(first, 1).await;
    let events = tenant.emit_many("contact.created", 20).await;
    tokio::time::sleep(secs(600)).await;
    engine.drain(secs(1)).await.expect("drained");
    let tenant = tenant.on(&world.start_at(START.after(secs(1_200))).await.0);
    tenant.all_completed(&events, secs(4_000)).await;
    tenant.all_completed(&[first], secs(4_000)).await;
    let calls = world.fake.calls();
    assert_eq!(calls.len(), 22);
    assert!(calls[1..].iter().all(|call| span(calls[0].at, call.at) >= secs(3_600)), "none earlier");
    assert!(span(calls[0].at, calls[21].at) < secs(3_605), "and none much later");
}
