//! An index that is gone, cut, overwritten or old is built again, and shows all that it showed before.

use super::*;
use tempfile::TempDir;

/// What may become of an index. It is handed the store's directory, and a copy of it as it was earlier.
type Harm = fn(&Path, &Path);

fn each_file(directory: &Path, change: impl Fn(&mut Vec<u8>)) {
    for (path, mut bytes) in files(&directory.join("index")) {
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    }
}

fn put_back(home: &Path, earlier: &Path) {
    for name in INDEX {
        remove(&home.join(name));
        copy(&earlier.join(name), &home.join(name));
    }
}

/// I14: whatever becomes of the index, all there is to see is as it was; and it goes on from there.
#[tokio::test]
async fn whatever_becomes_of_the_index_it_shows_what_it_showed() {
    #[rustfmt::skip] // the columns are the point
    let cases: [(&str, Harm, bool); 9] = [
        // why                               what is done                                                       is it built again?
        ("it is as it was",                  |_, _| (),                                                         false),
        ("it is from an earlier day",        put_back,                                                          false),
        ("it is gone",                       |home, _| remove(&home.join("index")),                             true),
        ("it is gone with its checkpoint",   |home, _| INDEX.iter().for_each(|name| remove(&home.join(name))),  false),
        ("its checkpoint is gone",           |home, _| remove(&home.join("CHECKPOINT")),                        true),
        ("its checkpoint is garbage",        |home, _| fs::write(home.join("CHECKPOINT"), [7; 12]).unwrap(),    true),
        ("its files are cut in half",        |home, _| each_file(home, |bytes| bytes.truncate(bytes.len() / 2)), true),
        ("its files are empty",              |home, _| each_file(home, Vec::clear),                             true),
        ("its files are garbage",            |home, _| each_file(home, |bytes| bytes.fill(0xa5)),               true),
    ];
    let mut run = Run::new(Embedded::new());
    run.furnish().await;
    for step in dozen() {
        run.take(step).await;
    }
    run.subject.close().await;
    let earlier = TempDir::new().unwrap();
    copy(run.subject.path(), earlier.path());
    run.subject.open();
    run.model.in_flight.clear();
    for step in dozen() {
        run.take(step).await;
    }
    for (why, harm, is_built_again) in cases {
        run.subject.close().await;
        run.model.in_flight.clear();
        harm(run.subject.path(), earlier.path());
        run.subject.open();
        println!("{why}"); // to know, if one fails
        assert_eq!(
            run.subject.said().contains("built again"),
            is_built_again,
            "{why}: {}",
            run.subject.said()
        );
        run.look(2).await;
        run.take(append(20)).await;
        run.take(Step::Route { workspace: 0, limit: 9 }).await;
    }
}

/// I14: what the index showed once it shows again, key for key, when it is built from nothing.
#[tokio::test]
async fn an_index_built_from_nothing_is_the_same_key_for_key() {
    let mut run = Run::new(Embedded::new());
    run.furnish().await;
    for step in dozen() {
        run.take(step).await;
    }
    run.subject.close().await;
    run.subject.open();
    let before = dump(&run.subject.store().state.read());
    run.subject.close().await;
    INDEX.iter().for_each(|name| remove(&run.subject.path().join(name)));
    run.subject.open();
    let after = dump(&run.subject.store().state.read());
    assert!(before.len() > 50, "there is something to compare");
    assert_eq!(after.len(), before.len());
    for (after, before) in after.iter().zip(&before) {
        assert_eq!(after, before, "in table {:?}", char::from(before.0[0]));
    }
}

/// I14, I18: the creation of a connection may go with its segment, while what was said of its pace and its
/// deletion stay. Read back without the first, it is as gone as before.
#[tokio::test]
async fn what_was_deleted_stays_so_when_its_creation_is_gone_from_the_journal() {
    let mut run = Run::new(Embedded::new());
    run.furnish().await;
    // What is configured and its audit log fill more than half of the first segments.
    for event in 0..3 {
        run.take(append(FILLING_BYTES)).await;
        run.take(Step::Cancel { event, delivery: None, is_foreign: false }).await;
    }
    for step in [
        Step::Pace { connection: 0, paused_ms: Some(5_000) },
        Step::SaveCatalog { connection: 0, fields: 2, is_stale: false },
        Step::SaveMapping { connection: 0, is_elsewhere: false, is_stale: false },
        Step::SaveGrant { connection: 0, is_elsewhere: false, is_stale: false },
        Step::DeleteConnection { connection: 0, force: true },
        append(20), // what is not routed keeps its segment
        Step::Reopen(How::Closed),
        Step::Pass { ms: 2 * 24 * 3_600_000 },
        Step::Retain { default_days: 1 },
    ] {
        run.take(step).await;
    }
    assert!(run.subject.store().log.reader.first_sequence() > 1, "old segments are meant to go");
    run.take(Step::Reopen(How::NoIndex)).await;
}

/// I14, I18: keys and sessions survive their segments as they are by now, and what is gone stays so.
#[tokio::test]
async fn keys_and_sessions_outlive_the_segments_they_were_made_in() {
    let mut run = Run::new(Embedded::new());
    run.furnish().await;
    for step in [
        append(FILLING_BYTES),
        Step::Cancel { event: 0, delivery: None, is_foreign: false },
        Step::RotatePublishableKey { workspace: 0, is_stale: false },
        Step::RotatePublishableKey { workspace: 0, is_stale: false },
        Step::UseMachineKey { key: 0 },
        Step::DeleteMachineKey { key: 1 },
        Step::RefreshSession { session: 0, is_stale: false },
        Step::RevokeSession { session: 1 },
        append(FILLING_BYTES),
        Step::Cancel { event: 5, delivery: None, is_foreign: false },
        append(20), // what is not routed keeps its segment
        Step::Reopen(How::Closed),
        Step::Pass { ms: 25 * 3_600_000 },
        Step::Retain { default_days: 1 },
        Step::Reopen(How::NoIndex),
        Step::Retain { default_days: 1 },
    ] {
        run.take(step).await;
    }
    assert!(run.subject.store().log.reader.first_sequence() > 1, "old segments are meant to go");
    assert_eq!(run.model.sessions.len(), 2, "they are not two days old");
    for step in [
        Step::Look { limit: 1 },
        Step::CreateSession { workspace: 0, is_about: false },
        Step::Pass { ms: 24 * 3_600_000 },
        Step::Retain { default_days: 1 },
        Step::Look { limit: 1 },
        Step::Reopen(How::NoIndex),
    ] {
        run.take(step).await;
    }
    assert_eq!(run.model.sessions.len(), 1, "but now");
}

/// I14: the one rule that a test is for is known until it is routed, and then by nobody: also to an index that
/// was built from nothing.
#[tokio::test]
async fn the_rule_of_a_test_is_known_until_it_is_routed() {
    let mut run = Run::new(Embedded::new());
    run.furnish().await;
    let rule = run.model.rules.values().next().unwrap().clone();
    let (workspace_id, rule_id, at) = (rule.workspace_id, rule.id, run.model.now);
    let id = EventId::of_test(run.model.new_id());
    let event = Event {
        id,
        organization_id: rule.organization_id,
        workspace_id,
        name: rule.event,
        resource: "global".to_owned(),
        resource_id: None,
        created_by: "test".to_owned(),
        accepted_at: at,
    };
    let test_one = |workspace_id| Change::TestOne { workspace_id, event_id: id, rule_id };
    let foreign = *run.model.workspaces.keys().last().unwrap();
    let store = run.subject.store();
    let refused = store.configure(store.fence(), test_one(foreign), None).await;
    assert_eq!(refused, Err(Refusal::NotFound("rule").into()), "a rule of another workspace");
    store.configure(store.fence(), test_one(workspace_id), None).await.unwrap();
    let new = NewEvent { event, payload: Bytes::from_static(b"{}"), idempotency: None };
    assert_eq!(store.append_events(store.fence(), vec![new]).await, [Ok(Appended::New)]);
    for (why, expected) in [("unrouted", Some(rule_id)), ("routed", None)] {
        let store = run.subject.store();
        if expected.is_none() {
            let routed = Routed { event_id: id, at, matched: Vec::new(), unmatched: Vec::new() };
            store.record_routing(store.fence(), workspace_id, vec![routed]).await.unwrap();
        }
        assert_eq!(store.tested_rule(workspace_id, id).await, Ok(expected), "{why}");
        assert_eq!(store.tested_rule(foreign, id).await, Ok(None), "{why}");
        run.subject.close().await;
        run.subject.open();
        let before = dump(&run.subject.store().state.read());
        run.subject.close().await;
        INDEX.iter().for_each(|name| remove(&run.subject.path().join(name)));
        run.subject.open();
        assert_eq!(dump(&run.subject.store().state.read()), before, "{why}");
        assert_eq!(run.subject.store().tested_rule(workspace_id, id).await, Ok(expected), "{why}");
    }
}

/// I2, I14: an event that was replayed outlives its segment with all its replays, and so does the row of the
/// replay itself; read back without the first records, all of it is there, key for key.
#[tokio::test]
async fn what_was_replayed_is_carried_with_what_it_is_a_replay_of() {
    let mut run = Run::new(Embedded::new());
    run.furnish().await;
    let begin = |connection| Step::Begin { connection, in_ms: 0, limit: 9, is_stale: false };
    let record = |next| Step::Record { first: 0, count: 2, next, has_response: true };
    for step in [
        append(20),
        Step::Route { workspace: 0, limit: 9 },
        begin(1),
        begin(2),
        record(Came::GivenUp),
        Step::CreateReplay { workspace: 0, filter: 0, is_now: false },
        Step::ReplayPage { replay: 0, limit: 9, disturbed: None },
    ] {
        run.take(step).await;
    }
    let replayed = |run: &Run<Embedded>| {
        let all = run.model.events.values().flat_map(|kept| kept.deliveries.values());
        all.filter(|delivery| delivery.replay.is_some()).count()
    };
    assert_eq!(replayed(&run), 2, "both are done again");
    // These fill segments, and are over and gone before the first: what waits there keeps it.
    for _ in 0..30 {
        run.take(append(FILLING_BYTES)).await;
    }
    run.take(Step::Route { workspace: 0, limit: 99 }).await;
    let others: Vec<_> = run.model.events.keys().skip(1).copied().collect();
    for id in others {
        let scope = Scope::Workspace(run.model.events[&id].new.event.workspace_id);
        let now = run.model.now;
        run.store().cancel(run.fence(), scope, id, None, now, None).await.unwrap();
        run.model.cancel(scope, id, None, now).unwrap();
    }
    run.take(Step::Reopen(How::Closed)).await;
    let first = segments(run.subject.path())[0].clone();
    // Replays are of events that are not over: they wait, and are kept.
    run.take(Step::Pass { ms: 2 * 24 * 3_600_000 }).await;
    for _ in 0..2 {
        run.take(Step::Retain { default_days: 1 }).await;
    }
    assert!(!first.exists(), "its segment is gone: {:?}", segments(run.subject.path()).len());
    assert_eq!(replayed(&run), 2, "and they are not");
    run.look(2).await;
    run.subject.close().await;
    run.model.in_flight.clear();
    run.subject.open();
    let of_replays = |run: &Run<Embedded>| {
        let mut pairs = dump(&run.subject.store().state.read());
        pairs.retain(|(key, _)| b"bBYZzdqQ".contains(&key[0]));
        pairs
    };
    let before = of_replays(&run);
    run.take(Step::Reopen(How::NoIndex)).await;
    assert_eq!(of_replays(&run), before);
}
