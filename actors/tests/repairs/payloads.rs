//! What becomes of an event whose payload cannot be read any more, and of those beside it.

use crate::support::*;
use actors::{
    domain::delivery::Outcome,
    engine::{EngineError, Refusal},
};
use bytes::Bytes;
use serde_json::json;
use std::{fs, path::Path};
use tempfile::TempDir;

/// A world whose store is on disk, in segments that a few events fill.
fn world_in(home: &Path) -> World {
    let mut world = World::new();
    world.options.seams.store = None;
    world.options.data = Some(home.to_owned());
    world.options.segment_bytes = 64 << 10;
    world
}

/// Sends events whose payloads are told apart by their number; enough that the first are not in the segment
/// written last.
async fn emit_numbered(tenant: &Tenant) -> Vec<EventId> {
    let mut ids = Vec::new();
    for number in 0..8 {
        let payload =
            Bytes::from(format!(r#"{{"marker":"payload-{number}","fill":"{}"}}"#, "x".repeat(20_000)));
        let request = IngestRequest { payload, ..tenant.request("contact.created") };
        let answer = tenant.engine.ingest(vec![request]).await.pop().expect("an answer");
        ids.push(answer.expect("it is accepted").id);
    }
    ids
}

/// Writes over the payload of this number, in whichever segment it is.
fn damage(home: &Path, number: usize) {
    let marker = format!("payload-{number}");
    for entry in fs::read_dir(home.join("journal")).expect("a journal") {
        let path = entry.expect("an entry").path();
        let mut bytes = fs::read(&path).expect("a file");
        if let Some(at) = bytes.windows(marker.len()).position(|window| window == marker.as_bytes()) {
            bytes[at] ^= 0xff;
            fs::write(&path, bytes).expect("it is written");
            return;
        }
    }
    panic!("no payload {number} on disk");
}

/// The deliveries of an event, once there are so many and all are final.
async fn all_final(tenant: &Tenant, event: EventId, count: usize) -> Vec<Delivery> {
    until(secs(60), "the event is through", async || {
        let found = tenant.engine.event(tenant.scope(), event).await.expect("readable").expect("there");
        let deliveries = found.deliveries;
        let is_through = deliveries.len() == count && deliveries.iter().all(|one| one.status.is_final());
        is_through.then_some(deliveries)
    })
    .await
}

async fn assert_lost(tenant: &Tenant, event: EventId, deliveries: usize) {
    for delivery in all_final(tenant, event, deliveries).await {
        assert_eq!(delivery.status, Status::Failed);
        assert_eq!(delivery.attempts.last().map(|attempt| attempt.outcome), Some(Outcome::InternalError));
        let message = delivery.last_error.expect("a reason");
        assert!(message.contains("damaged") && message.contains("send the event again"), "{message}");
    }
    let payload = tenant.engine.payload(tenant.scope(), event).await;
    assert!(matches!(payload, Err(EngineError::Refused(Refusal::PayloadLost))), "{payload:?}");
}

/// I2, I14: an event whose payload is lost before any rule judged it fails wherever it may have had to go,
/// and the others are routed and delivered.
#[tokio::test]
async fn a_lost_payload_does_not_stop_the_routing_of_others() {
    let home = TempDir::new().expect("a directory");
    let mut world = world_in(home.path());
    let offline = Engine::offline(world.options.clone()).await.expect("it opens");
    let tenant = Tenant::new(&offline).await;
    let connection = tenant.route("contact.created").await;
    let condition = json!({"path": "marker", "op": "starts_with", "value": "payload"});
    tenant.rule(connection, "contact.created", Some(condition)).await;
    tenant.rule(connection, "contact.deleted", None).await;
    let events = emit_numbered(&tenant).await;
    offline.close().await.expect("it closes");
    let (organization, workspace) = (tenant.organization, tenant.workspace);
    drop((offline, tenant));
    damage(home.path(), 1);

    world.options.accept_damage = true;
    let engine = world.start().await;
    let tenant = Tenant { engine: engine.clone(), organization, workspace };
    assert_lost(&tenant, events[1], 2).await;
    for (number, event) in events.iter().enumerate().filter(|(number, _)| *number != 1) {
        let deliveries = all_final(&tenant, *event, 2).await;
        assert!(deliveries.iter().all(|one| one.status == Status::Completed), "event {number}");
    }
    let faults = engine.verify().await.expect("it can be verified").faults;
    assert!(matches!(&faults[..], [one] if one.contains("was damaged and set aside")), "{faults:?}");
}

/// I2, I14: the same where its deliveries waited already; it is read when it is taken up.
#[tokio::test]
async fn a_lost_payload_does_not_stall_its_connection() {
    let home = TempDir::new().expect("a directory");
    let world = world_in(home.path());
    let engine = world.start().await;
    let tenant = Tenant::new(&engine).await;
    let connection = tenant.route("contact.created").await;
    tenant.patch(connection, ConnectionPatch { paused: Some(true), ..Default::default() }).await;
    let events = emit_numbered(&tenant).await;
    for event in &events {
        until(secs(60), "it is routed", async || tenant.delivery(*event).await).await;
    }
    engine.drain(secs(5)).await.expect("it closes");
    let (organization, workspace) = (tenant.organization, tenant.workspace);
    drop((engine, tenant));
    damage(home.path(), 1);

    // Opening checks the segment written last, and no other: the damage is met when it is read.
    let engine = world.start().await;
    let tenant = Tenant { engine, organization, workspace };
    tenant.patch(connection, ConnectionPatch { paused: Some(false), ..Default::default() }).await;
    assert_lost(&tenant, events[1], 1).await;
    for (number, event) in events.iter().enumerate().filter(|(number, _)| *number != 1) {
        assert_eq!(all_final(&tenant, *event, 1).await[0].status, Status::Completed, "event {number}");
    }
    assert_eq!(world.fake.calls_to(connection).len(), 7, "nothing was sent of what is lost");
}
