//! What becomes of deliveries that wait for longer than events are kept.

use crate::support::{Answer::*, *};
use actors::domain::audit::AuditFilter;

const DAY: std::time::Duration = secs(24 * 3_600);

/// A world that keeps events for a day.
fn world_of_a_day() -> World {
    let mut world = World::new();
    world.options.retention_days = 1;
    world.options.retention_every = secs(60);
    world
}

/// I2: what waits for too long is called off with the reason on record, kept for as long again, and gone.
#[tokio::test(start_paused = true)]
async fn what_waits_for_too_long_is_called_off_seen_and_forgotten() {
    let world = world_of_a_day();
    let tenant = Tenant::new(&world.start().await).await;
    let patient = Policy { retry: Some(vec![7 * 24 * 3_600_000]), ..Default::default() };
    let [parked, (refusing, _), (working, _)] = [
        tenant.route_with("contact.created", Policy::default()).await,
        tenant.route_with("contact.created", patient).await,
        tenant.route_with("contact.created", Policy::default()).await,
    ];
    tenant.patch(parked.0, ConnectionPatch { paused: Some(true), ..Default::default() }).await;
    world.fake.answer(refusing, Says(503));
    let event = tenant.emit("contact.created").await;
    let state = async || {
        let found = tenant.engine.event(tenant.scope(), event).await.expect("readable")?;
        let of = |connection| found.deliveries.iter().find(|one| one.connection_id == connection).cloned();
        Some([parked.0, refusing, working].map(|connection| of(connection).expect("a delivery")))
    };
    tokio::time::sleep(DAY - secs(60)).await;
    let before = state().await.expect("it is kept").map(|delivery| delivery.status);
    assert_eq!(before, [Status::Pending, Status::Retrying, Status::Completed]);

    tokio::time::sleep(secs(180)).await;
    let [parked_now, refusing_now, working_now] = state().await.expect("it is kept");
    for delivery in [&parked_now, &refusing_now] {
        assert_eq!(delivery.status, Status::Canceled);
        let why = delivery.last_error.as_deref().expect("a reason");
        assert!(why.contains("kept longer than the workspace's retention of 1 day without"), "{why}");
    }
    assert_eq!(working_now.status, Status::Completed);
    tenant.patch(parked.0, ConnectionPatch { paused: Some(false), ..Default::default() }).await;
    let page = tenant.engine.verify().await.expect("it can be verified");
    assert_eq!((page.scheduled, page.finished, page.faults), (0, 3, vec![]));

    tokio::time::sleep(DAY - secs(240)).await;
    assert!(state().await.is_some(), "it is kept for as long again");
    tokio::time::sleep(secs(360)).await;
    assert!(state().await.is_none(), "and then forgotten");
    assert!(world.fake.calls_to(parked.0).is_empty(), "nothing is sent of what was called off");
}

/// What is in flight when its event's time is over comes back first.
#[tokio::test(start_paused = true)]
async fn what_is_in_flight_is_left_alone_until_it_is_back() {
    let mut world = world_of_a_day();
    world.options.retention_every = secs(15);
    let tenant = Tenant::new(&world.start().await).await;
    let policy = Policy { timeout_ms: Some(60_000), ..Default::default() };
    let (connection, _) = tenant.route_with("contact.created", policy).await;
    tenant.patch(connection, ConnectionPatch { paused: Some(true), ..Default::default() }).await;
    world.fake.answer(connection, Slow(secs(50), 200));
    let event = tenant.emit("contact.created").await;
    tokio::time::sleep(DAY - secs(20)).await;
    tenant.patch(connection, ConnectionPatch { paused: Some(false), ..Default::default() }).await;
    tokio::time::sleep(secs(40)).await;
    assert_eq!(tenant.delivery(event).await.expect("it is kept").status, Status::Processing);
    assert_eq!(tenant.finished(event, secs(60)).await.status, Status::Completed);
}

/// An event that no rule ever judged does not stay for ever either.
#[tokio::test(start_paused = true)]
async fn what_is_never_routed_is_called_off() {
    let world = world_of_a_day();
    let tenant = Tenant::new(&world.start().await).await;
    world.store.hold("unrouted");
    let event = tenant.emit("contact.created").await;
    let status = async || {
        let found = tenant.engine.event(tenant.scope(), event).await.expect("readable");
        found.map(|found| found.summary.status)
    };
    tokio::time::sleep(DAY - secs(60)).await;
    assert_eq!(status().await, Some(Status::Pending));
    tokio::time::sleep(secs(180)).await;
    assert_eq!(status().await, Some(Status::Canceled));
    tokio::time::sleep(DAY + secs(60)).await;
    assert_eq!(status().await, None);
}

/// The audit log is kept for longer than events, and not for ever.
#[tokio::test(start_paused = true)]
async fn the_audit_log_is_kept_for_its_own_time() {
    let mut world = world_of_a_day();
    world.options.audit_retention_days = 3;
    let engine = world.start().await;
    let tenant = Tenant::new(&engine).await;
    let made = tenant.route_with("contact.created", Policy::default()).await;
    let organization = engine.organizations(None, 1).await.expect("one").records[0].id;
    let actions = async || {
        let page = engine.audit(organization, AuditFilter::default(), None, 100).await.expect("readable");
        page.records.into_iter().map(|entry| entry.action).collect::<Vec<_>>()
    };
    let all = ["rule.created", "connection.created", "workspace.created", "organization.created"];
    assert_eq!(actions().await, all);
    tokio::time::sleep(DAY * 3 - secs(120)).await;
    tenant.patch(made.0, ConnectionPatch { paused: Some(true), ..Default::default() }).await;
    assert_eq!(actions().await[1..], all, "all is kept, also when its events are not");
    tokio::time::sleep(secs(300)).await;
    assert_eq!(actions().await, ["connection.updated"], "what is younger stays");
}
