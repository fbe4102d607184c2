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

/// I20: nothing hands out another burst: no restart, no fall, and no change by a person.
#[tokio::test(start_paused = true)]
async fn no_restart_and_no_change_hands_out_another_burst() {
    let faults = std::sync::atomic::AtomicUsize::new(0);
    let world = World::with_faults(move |place| {
        let number = || faults.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        assert!(place != "connection.attempt_finished" || number() % 40 != 39, "as scripted");
    });
    let engine = world.start().await;
    let tenant = Tenant::new(&engine).await;
    let policy = Policy { rate_per_second: Some(2.0), burst: Some(50), ..Default::default() };
    let connection = tenant.connect_with("limited", policy).await;
    tenant.rule(connection, "contact.created").await;
    // Our own fault, which no breaker minds.
    let first = Told(Outcome::InternalError);
    world.fake.script(connection, move |call| if call.attempt == 1 { first } else { Code(200) });
    let events = tenant.emit_many("contact.created", 30).await;
    tokio::time::sleep(secs(5)).await;
    for number in 0..100 {
        let name = Some(format!("renamed {number}"));
        tenant.patch(connection, ConnectionPatch { name, ..Default::default() }).await;
        tokio::time::sleep(ms(50)).await;
    }
    engine.drain(secs(1)).await.expect("drained");
    let tenant = tenant.on(&world.start_at(START.after(secs(11))).await.0);
    tenant.all_completed(&events, secs(120)).await;
    // Each of the falls and starts may forget that the last token is just used up.
    assert_rate(&world.fake.calls(), 2.0, 4, "with two lives and one fall");
}

/// I20: never more in flight than the policy says, whatever is changed meanwhile.
#[tokio::test(start_paused = true)]
async fn no_more_is_in_flight_than_allowed() {
    #[rustfmt::skip]
    let cases = [
        // why                               policy     most
        ("the connection's own bound",       Some(3),   3),
        ("one at a time",                    Some(1),   1),
        ("the server's, where none is set",  None,      32),
        ("the workspace's share bounds all", Some(256), 256),
    ];
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    for (number, (why, max_in_flight, most)) in cases.into_iter().enumerate() {
        let policy = Policy { max_in_flight, ..Default::default() };
        let connection = tenant.connect_with(why, policy).await;
        let name = format!("case.{number}");
        tenant.rule(connection, &name).await;
        world.fake.script(connection, |_| Slow(ms(100), 200));
        let events = tenant.emit_many(&name, most * 4).await;
        for renamed in 0..5 {
            tokio::time::sleep(ms(30)).await;
            let name = Some(format!("{why} {renamed}"));
            tenant.patch(connection, ConnectionPatch { name, ..Default::default() }).await;
        }
        tenant.all_completed(&events, secs(10)).await;
        assert_eq!(world.fake.in_flight_most(connection), most, "{why}");
        assert_eq!(world.fake.calls_to(connection).len(), most * 4, "{why}: none twice");
    }
}

/// I20: two connections of one workspace share what one workspace may have in flight.
#[tokio::test(start_paused = true)]
async fn a_workspace_has_its_share_and_no_more() {
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    let mut connections = Vec::new();
    for name in ["one", "two"] {
        let policy = Policy { max_in_flight: Some(200), ..Default::default() };
        let connection = tenant.connect_with(name, policy).await;
        tenant.rule(connection, "contact.created").await;
        world.fake.script(connection, |_| Slow(ms(100), 200));
        connections.push(connection);
    }
    let events = tenant.emit_many("contact.created", 600).await;
    settle().await;
    let in_flight: usize = connections.iter().map(|connection| world.fake.in_flight(*connection)).sum();
    assert!((256..384).contains(&in_flight), "{in_flight}, and some are left for others");
    tenant.all_completed(&events, secs(10)).await;
}

/// I20: at a destination that is down attempts stop; one asks now and then whether it is back, and then the
/// flow grows again from one at a time.
#[tokio::test(start_paused = true)]
async fn a_destination_that_is_down_is_asked_now_and_then() {
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    let policy = Policy { retry: Some(vec![500; 50]), ..Default::default() };
    let connection = tenant.connect_with("down", policy).await;
    tenant.rule(connection, "contact.created").await;
    let back = START.after(secs(20));
    world.fake.script(connection, move |call| if call.at < back { Code(503) } else { Slow(ms(100), 200) });
    let events = tenant.emit_many("contact.created", 500).await;
    tenant.all_completed(&events, secs(300)).await;
    let calls = world.fake.calls();
    assert_eq!(calls.len(), 500 + calls.iter().filter(|call| call.at < back).count(), "none twice");

    let first = calls.iter().filter(|call| span(calls[0].at, call.at) < ms(500)).count();
    assert!((10..10 + 32).contains(&first), "{first} attempts opened the breaker");
    let (probes, after): (Vec<_>, Vec<_>) = calls[first..].iter().partition(|call| call.at < back);
    let mut span_expected = secs(1);
    for (before, probe) in calls[first - 1..].iter().zip(&probes) {
        let (least, most) = (span_expected.mul_f64(0.8), span_expected.mul_f64(1.2) + ms(5));
        let wait = span(before.at, probe.at);
        assert!((least..=most).contains(&wait), "a probe after {wait:?}, not {least:?} to {most:?}");
        span_expected *= 2;
    }
    assert!((3..=5).contains(&probes.len()), "{} probes in twenty seconds", probes.len());
    let mut flow: Vec<usize> = Vec::new();
    for (number, call) in after.iter().enumerate() {
        match flow.last_mut() {
            Some(last) if after[number - 1].at == call.at => *last += 1,
            _ => flow.push(1),
        }
    }
    assert_eq!(flow[..3], [1, 1, 2], "a probe, and then a flow that grows: {flow:?}");
    assert_eq!(world.fake.in_flight_most(connection), 32, "up to where it was");
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
