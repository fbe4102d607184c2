//! The proof of the ledger finds what does not add up: each kind of fault, made by hand.

use super::*;
use crate::store::state::keys;

/// An event with a delivery that waits and one that is over, and the rows that are about them.
struct Scene {
    event: EventId,
    /// Not routed yet.
    unrouted: EventId,
    sequence: u64,
    unrouted_sequence: u64,
    workspace: WorkspaceId,
    waiting: Delivery,
    done: Delivery,
}

/// What is done to the rows of a state.
type Harm = fn(&mut IndexView, &Scene);

async fn scene() -> (Run<Embedded>, Scene) {
    let mut run = Run::new(Embedded::new());
    run.furnish().await;
    run.take(append(20)).await;
    run.take(Step::Route { workspace: 0, limit: 1 }).await;
    run.take(Step::Begin { connection: 1, in_ms: 0, limit: 1, is_stale: false }).await;
    run.take(Step::Record { first: 0, count: 1, next: Came::Delivered, has_response: false }).await;
    run.take(append(20)).await;
    run.look(9).await;
    let [routed, unrouted] = run.model.events.values().collect::<Vec<_>>()[..] else { panic!("two events") };
    let of = |is_final| {
        let mut deliveries = routed.deliveries.values();
        deliveries.find(|delivery| delivery.status.is_final() == is_final).unwrap().clone()
    };
    let scene = Scene {
        event: routed.new.event.id,
        unrouted: unrouted.new.event.id,
        sequence: routed.sequence.unwrap(),
        unrouted_sequence: unrouted.sequence.unwrap(),
        workspace: routed.new.event.workspace_id,
        waiting: of(false),
        done: of(true),
    };
    (run, scene)
}

fn queued(delivery: &Delivery) -> keys::Key {
    keys::queued(delivery.workspace_id, delivery.connection_id, delivery.due, delivery.id)
}

fn delivery(delivery: &Delivery) -> keys::Key {
    keys::delivery(delivery.workspace_id, delivery.event_id, delivery.id)
}

/// I2: an event or a delivery that would be forgotten, or tried for ever, is found.
#[tokio::test]
async fn every_row_that_does_not_add_up_is_found() {
    #[rustfmt::skip] // the columns are the point
    let cases: [(&str, Harm, &[&str]); 8] = [
        // why                              what is done                                                    what is found
        ("nothing was done",                |_, _| (),                                                      &[]),
        ("an unrouted event nobody sees",   |view, it| view.delete(keys::unrouted(it.workspace, it.unrouted_sequence)),
                                            &["was never routed and waits for nothing"]),
        ("a routed event to be routed",     |view, it| view.put(keys::unrouted(it.workspace, it.sequence), it.event.as_bytes().to_vec()),
                                            &["is routed and still waits for it"]),
        ("a delivery nobody attempts",      |view, it| view.delete(queued(&it.waiting)),
                                            &["is neither final nor scheduled"]),
        ("a finished one that is queued",   |view, it| view.put(queued(&it.done), it.event.as_bytes().to_vec()),
                                            &["is final and still queued"]),
        ("a queued one that is not there",  |view, it| view.delete(delivery(&it.waiting)),
                                            &["deliveries Tally", "which is not there"]),
        ("a finished one that is not there",|view, it| view.delete(delivery(&it.done)),
                                            &["deliveries Tally"]),
        ("an event that is not there",      |view, it| view.delete(keys::event(it.workspace, it.unrouted)),
                                            &["but not in the state"]),
    ];
    for (why, harm, expected) in cases {
        let (run, scene) = scene().await;
        harm(&mut run.subject.store().state.write().view, &scene);
        let found = run.subject.store().verify().await.unwrap().faults;
        assert_eq!(found.len(), expected.len(), "{why}: {found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{why}: {found}");
        }
    }
}

/// I14: what was damaged in the journal and set aside stays known as lost; so does what cannot be read now.
#[tokio::test]
async fn records_that_are_lost_or_unreadable_are_found() {
    let (mut run, _) = scene().await;
    for _ in 0..3 {
        run.take(append(FILLING_BYTES)).await; // each in a segment of its own
    }
    run.subject.drop_store();
    let hit = segments(run.subject.path()).into_iter().rev().nth(2).unwrap();
    let mut bytes = fs::read(&hit).unwrap();
    bytes[SEGMENT_HEAD_BYTES + RECORD_HEAD_BYTES + 500] ^= 1;
    fs::write(&hit, bytes).unwrap();

    run.subject.open();
    let faults = run.subject.store().verify().await.unwrap().faults;
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(
        faults[0].contains("is damaged at byte 64") && faults[0].contains("was not looked at"),
        "{faults:?}"
    );
    run.subject.drop_store();

    run.subject.accept_damage = true;
    run.subject.open();
    let faults = run.subject.store().verify().await.unwrap().faults;
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].contains("was damaged and set aside; what stood there is lost"), "{faults:?}");
}

/// I2, I14: an attempt at a delivery that is not there, as a journal might say, harms nothing when it is
/// read back.
#[tokio::test]
async fn an_attempt_at_an_unknown_delivery_is_passed_over() {
    let (mut run, scene) = scene().await;
    let (store, ids) = (run.subject.store(), [scene.event, scene.unrouted]);
    let rule = RuleId::from_uuid(uuid::Uuid::from_u128(77));
    let unknown = ids.map(|event_id| Attempted {
        delivery_id: DeliveryId::of(event_id, rule),
        event_id,
        started_at: run.model.now,
        finished_at: run.model.now,
        outcome: Outcome::Delivered,
        http_status: Some(200),
        message: String::new(),
        response: None,
        next: Next::Completed,
        notes: None,
    });
    store.record_attempts(store.fence(), scene.workspace, unknown.to_vec()).await.unwrap();
    unknown.into_iter().for_each(|attempted| run.model.record_attempt(attempted)); // they count
    run.look(2).await;
    run.take(Step::Reopen(How::NoIndex)).await;
}
