//! Refused credentials: when they are lost, what becomes of deliveries, and how a person mends it.

use crate::support::{Answer::*, *};

async fn mended(tenant: &Tenant, connection: ConnectionId) {
    let metadata = Some(settings("https://hooks.example.com/new"));
    tenant.patch(connection, ConnectionPatch { metadata, ..Default::default() }).await;
}

/// I18: refusals of credentials that were replaced meanwhile do not take the new ones down.
#[tokio::test(start_paused = true)]
async fn refusals_of_replaced_credentials_say_nothing_of_the_new() {
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    let connection = tenant.route("contact.created").await;
    world.fake.script(connection, |call| if call.version == 1 { Slow(secs(5), 401) } else { Says(200) });
    let events = tenant.emit_many("contact.created", 16).await;
    settle().await;
    assert_eq!(world.fake.in_flight(connection), 16, "all under way with the old ones");
    mended(&tenant, connection).await;
    let fresh = tenant.emit("contact.created").await;
    tenant.all_completed(&[fresh], secs(1)).await;
    tenant.all_completed(&events, secs(60)).await;
    assert_eq!(tenant.view(connection).await.connection.inactive, None);
}

/// I2: refusals side by side are one refusal: only more that follow from it confirm it.
#[tokio::test(start_paused = true)]
async fn refusals_side_by_side_are_no_confirmation() {
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    let connection = tenant.route("contact.created").await;
    world.fake.script(connection, |call| Slow(ms(100), if call.attempt == 1 { 403 } else { 200 }));
    let events = tenant.emit_many("contact.created", 16).await;
    tenant.all_completed(&events, secs(60)).await;
    assert_eq!(tenant.view(connection).await.connection.inactive, None);
    let calls = world.fake.calls_to(connection).len();
    assert_eq!(calls, 32, "each was refused once");
}

/// I2: deliveries are parked, not failed, with the first, the last or no try left, and flow once a person
/// sends settings that are accepted: also by `PUT`, which says nothing of being active.
#[tokio::test(start_paused = true)]
async fn what_waits_for_lost_credentials_is_parked_and_flows_when_they_are_mended() {
    #[rustfmt::skip]
    let cases = [
        // why                          events  schedule, ms
        ("one, with tries left",        1,      Some(vec![1_000; 5])),
        ("one that may be tried once",  1,      Some(vec![])),
        ("many, by the server's schedule", 200, None),
    ];
    for (why, count, retry) in cases {
        let world = World::new();
        let tenant = Tenant::new(&world.start().await).await;
        let policy = Policy { retry, max_in_flight: Some(8), ..Default::default() };
        let (connection, _) = tenant.route_with("contact.created", policy).await;
        world.fake.answer(connection, Says(401));
        let events = tenant.emit_many("contact.created", count).await;
        until(secs(60), why, async || tenant.view(connection).await.connection.inactive).await;
        let tried = world.fake.calls_to(connection).len();
        assert!((3..=11).contains(&tried), "{why}: {tried} attempts, three and those under way");
        tokio::time::sleep(secs(86_400)).await;
        for event in &events {
            let delivery = tenant.delivery(*event).await.expect("routed");
            assert!(!delivery.status.is_final(), "{why}: {:?}", delivery.status);
            assert_eq!(delivery.tries_used, 0, "{why}");
        }
        world.fake.answer(connection, Says(200));
        let renamed = ConnectionPatch { name: Some("renamed".to_owned()), ..Default::default() };
        tenant.patch(connection, renamed).await;
        assert!(tenant.view(connection).await.connection.inactive.is_some(), "{why}: a name mends nothing");
        mended(&tenant, connection).await;
        tenant.all_completed(&events, secs(60)).await;
    }
}

/// What a person turned off stays off, whatever settings it is given.
#[tokio::test(start_paused = true)]
async fn settings_do_not_turn_on_what_a_person_turned_off() {
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    let connection = tenant.route("contact.created").await;
    let reason = InactiveReason::ManuallyInactivated;
    tenant.patch(connection, ConnectionPatch { inactive: Some(Some(reason)), ..Default::default() }).await;
    mended(&tenant, connection).await;
    assert_eq!(tenant.view(connection).await.connection.inactive, Some(reason));
}

/// I2: a delivery that is refused though the credentials work for others is to blame, and fails in the end.
#[tokio::test(start_paused = true)]
async fn a_refusal_among_successes_is_the_deliverys_own() {
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    let policy = Policy { retry: Some(vec![60_000]), ..Default::default() };
    let (connection, _) = tenant.route_with("*", policy).await;
    world.fake.script(connection, |call| Says(if call.event_name == "forbidden" { 403 } else { 200 }));
    let forbidden = tenant.emit("forbidden").await;
    for _ in 0..20 {
        tenant.emit("allowed").await;
        tokio::time::sleep(secs(30)).await;
    }
    let delivery = tenant.delivery(forbidden).await.expect("routed");
    assert_eq!(delivery.status, Status::Failed);
    assert_eq!(tenant.view(connection).await.connection.inactive, None);
}
