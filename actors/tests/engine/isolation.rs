//! One tenant's trouble is nobody else's, and a backlog is the disk's, not the memory's.

use crate::support::{Answer::*, *};

/// Emits one event after the other, and checks that each is delivered on the spot.
async fn flows(tenant: &Tenant, name: &str, why: &str) {
    for _ in 0..200 {
        let event = tenant.emit(name).await;
        tokio::time::sleep(ms(300)).await;
        let delivery = tenant.delivery(event).await.expect("routed");
        assert_eq!(delivery.status, Status::Completed, "{why}");
        let took = span(delivery.created_at, delivery.completed_at.expect("an end"));
        assert!(took <= ms(1), "{why}: {took:?}");
    }
}

/// I10: a tenant's hanging destination with thousands waiting delays no other tenant, and not its own others.
#[tokio::test(start_paused = true)]
async fn a_hanging_destination_costs_only_its_own_rule() {
    let world = World::new();
    let engine = world.start().await;
    let (noisy, quiet) = (Tenant::new(&engine).await, Tenant::new(&engine).await);
    let hanging = noisy.route("noise").await;
    world.fake.answers(hanging, [Hang]);
    noisy.route("sibling").await;
    quiet.route("signal").await;
    noisy.emit_many("noise", 2_000).await;
    settle().await;
    assert_eq!(world.fake.in_flight(hanging), 32, "as much as it may");
    flows(&quiet, "signal", "another tenant").await;
    flows(&noisy, "sibling", "another connection of the same tenant").await;
    assert!(world.fake.calls_to(hanging).len() < 200, "the breaker spares it");
}

/// I10: a tenant that has its whole share in flight waits for itself alone.
#[tokio::test(start_paused = true)]
async fn a_tenant_with_all_of_its_share_in_flight_delays_no_other() {
    let world = World::new();
    let engine = world.start().await;
    let (noisy, quiet) = (Tenant::new(&engine).await, Tenant::new(&engine).await);
    let policy = Policy { max_in_flight: Some(256), timeout_ms: Some(60_000), ..Default::default() };
    let hanging = noisy.connect_with("hangs", policy).await;
    noisy.rule(hanging, "noise").await;
    world.fake.answers(hanging, [Hang]);
    quiet.route("signal").await;
    noisy.emit_many("noise", 2_000).await;
    settle().await;
    assert_eq!(world.fake.in_flight(hanging), 256);
    flows(&quiet, "signal", "another tenant").await;
}

/// I15: of a long queue a connection holds a window: it reads a page when it needs one, and begins no more
/// than it may have in flight.
#[tokio::test(start_paused = true)]
async fn a_long_queue_is_read_a_page_at_a_time() {
    const WAITING: usize = 5_000;
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    let connection = tenant.route("contact.created").await;
    tenant.pause(connection, true).await;
    for _ in 0..WAITING / 1_000 {
        tenant.emit_many("contact.created", 1_000).await;
    }
    until(hours(1), "all are routed", async || {
        let verification = tenant.engine.verify().await.expect("readable");
        (verification.scheduled == WAITING as u64).then_some(())
    })
    .await;
    world.fake.answers(connection, [Hang]);
    let (pages, begun) = (world.store.count("due"), world.store.count("begin"));
    tenant.pause(connection, false).await;
    tokio::time::sleep(secs(600)).await;
    let (pages, begun) = (world.store.count("due") - pages, world.store.count("begin") - begun);
    let attempts = world.fake.calls().len();
    assert!((32..100).contains(&attempts), "{attempts} attempts, and the breaker opens");
    assert_eq!(begun, attempts, "nothing is taken up to wait in memory");
    assert!(pages < 2 * attempts + 64, "{pages} pages for {attempts} attempts");
}

/// I15: deliveries that wait for their next try cost no task each, and no actor.
#[tokio::test(start_paused = true)]
async fn what_waits_for_hours_costs_no_task() {
    let mut world = World::new();
    world.options.delivery.retry.waits = vec![hours(6)];
    let tenant = Tenant::new(&world.start().await).await;
    let connection = tenant.route("contact.created").await;
    // Our own fault says nothing about the destination: all of them are tried.
    world.fake.answers(connection, [Told(Outcome::InternalError)]);
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    tokio::time::sleep(secs(120)).await;
    let before = tasks();
    let events = tenant.emit_many("contact.created", 1_000).await;
    tenant.tried(events[999], 1).await;
    assert!(tasks() < before + 50, "{} tasks while they are awake", tasks() - before);
    tokio::time::sleep(secs(120)).await;
    assert_eq!(world.fake.calls().len(), 1_000);
    assert!(tasks() <= before, "{} tasks more once all is put away", tasks() - before);
    world.fake.answers(connection, [200]);
    tenant.all_completed(&events, hours(6)).await;
}
