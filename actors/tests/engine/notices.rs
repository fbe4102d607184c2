//! What the operator is told: each change of state once, whatever falls, and nothing about itself.

use crate::support::{Answer::*, *};
use actors::{
    domain::{notice, notice::Notice, secret::Secret},
    engine::{EventFilter, OperationalWebhook, StoreError, Unavailable},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

const INACTIVE: &str = "weft.connection.inactive";
const OPENED: &str = "weft.connection.breaker_opened";
const CLOSED: &str = "weft.connection.breaker_closed";
const FAILED: &str = "weft.delivery.failed";
const URL: &str = "https://ops.example.com/weft";

fn webhook(url: &str, byte: u8) -> Option<OperationalWebhook> {
    let secret = Secret::new(format!("whsec_{}", STANDARD.encode([byte; 32])));
    Some(OperationalWebhook { url: url.to_owned(), secret })
}

/// A world whose operator wants to be told.
fn told_world() -> World {
    let mut world = World::new();
    world.options.operational_webhook = webhook(URL, 1);
    world
}

/// What the operator was told so far: name and payload, in the order it came.
fn told(world: &World) -> Vec<(String, Value)> {
    let calls = world.fake.calls_to(notice::CONNECTION);
    let payload = |call: &Call| serde_json::from_slice(&call.payload).expect("JSON");
    calls.iter().map(|call| (call.event_name.clone(), payload(call))).collect()
}

fn names(world: &World) -> Vec<String> {
    told(world).into_iter().map(|(name, _)| name).collect()
}

/// Once the operator was told so often; and then, after a while, no more often.
async fn told_just(world: &World, count: usize) -> Vec<(String, Value)> {
    until(days(1), "the operator is told", async || (told(world).len() >= count).then_some(())).await;
    tokio::time::sleep(hours(1)).await;
    let told = told(world);
    assert_eq!(told.len(), count, "{told:#?}");
    told
}

/// The operator's own view of the operational events.
fn own(engine: &Engine) -> Tenant {
    Tenant { engine: engine.clone(), organization: notice::ORGANIZATION, workspace: notice::WORKSPACE }
}

/// The names on record in the operator's workspace, oldest first.
async fn on_record(engine: &Engine) -> Vec<String> {
    let scope = Scope::Workspace(notice::WORKSPACE);
    let page = engine.events(scope, EventFilter::default(), None, 1_000).await.expect("readable");
    page.records.into_iter().rev().map(|record| record.event.name).collect()
}

async fn down(tenant: &Tenant, waits_ms: Vec<u64>) -> ConnectionId {
    let policy = Policy { retry: Some(waits_ms), ..Default::default() };
    let connection = tenant.connect_with("down", policy).await;
    tenant.rule(connection, "contact.created").await;
    connection
}

async fn turn_off(tenant: &Tenant, connection: ConnectionId) {
    let inactive = Some(Some(InactiveReason::ManuallyInactivated));
    tenant.patch(connection, ConnectionPatch { inactive, ..Default::default() }).await;
}

/// A connection whose credentials are refused, and one that somebody turns off.
#[tokio::test(start_paused = true)]
async fn a_connection_that_became_inactive_is_told_with_the_reason() {
    let world = told_world();
    let tenant = Tenant::new(&world.start().await).await;
    let connection = tenant.route("contact.created").await;
    world.fake.answers(connection, [401]);
    tenant.emit("contact.created").await;
    let (name, payload) = told_just(&world, 1).await.remove(0);
    assert_eq!(name, INACTIVE);
    let at: Timestamp = payload["at"].as_str().expect("a time").parse().expect("RFC 3339");
    assert!(at > START && span(START, at) < hours(1), "{at}");
    let expected = json!({
        "organization": tenant.organization.to_string(), "workspace": tenant.workspace.to_string(),
        "connection": connection.to_string(), "reason": "authentication_invalid", "at": at.to_string(),
        "message": "the destination refuses its credentials; its deliveries wait for settings that work",
    });
    assert_eq!(payload, expected, "and nothing else");

    let rename = ConnectionPatch { name: Some("renamed".to_owned()), ..Default::default() };
    tenant.patch(connection, rename).await;
    tenant.patch(connection, ConnectionPatch { inactive: Some(None), ..Default::default() }).await;
    turn_off(&tenant, connection).await;
    let told = told_just(&world, 2).await;
    assert_eq!((&*told[1].0, &told[1].1["reason"]), (INACTIVE, &json!("manually_inactivated")));
}

/// Also of a breaker that nobody remembers any more: its connection was put away meanwhile.
#[tokio::test(start_paused = true)]
async fn a_breaker_that_opened_and_closed_is_told_once_each() {
    #[rustfmt::skip]
    let cases = [
        // why                   events  schedule, ms          until it is back
        ("tried soon",           200,    vec![20_000; 50],     secs(600)),
        ("put away in between",  10,     vec![3_600_000; 50],  hours(5)),
    ];
    for (why, count, waits_ms, until_back) in cases {
        let world = told_world();
        let tenant = Tenant::new(&world.start().await).await;
        let connection = down(&tenant, waits_ms).await;
        let back = START.after(until_back);
        world.fake.script(connection, move |call| Code(if call.at < back { 503 } else { 200 }));
        let events = tenant.emit_many("contact.created", count).await;
        tokio::time::sleep(until_back * 9 / 10).await;
        assert_eq!(names(&world), [OPENED], "{why}: once, however many attempts fail");
        tenant.all_completed(&events, days(1)).await;
        let told = told_just(&world, 2).await;
        assert_eq!(told[1].0, CLOSED, "{why}");
        for (name, payload) in told {
            let ids = ["organization", "workspace", "connection"].map(|key| payload[key].clone());
            let expected =
                [tenant.organization.to_string(), tenant.workspace.to_string(), connection.to_string()];
            assert_eq!(ids, expected.map(Value::from), "{why}: {name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_failed_for_good_is_told() {
    let world = told_world();
    let tenant = Tenant::new(&world.start().await).await;
    let connection = down(&tenant, vec![1_000, 1_000]).await;
    #[rustfmt::skip]
    let cases = [
        // why                       answers             attempts  outcome                   status
        ("refused",                  vec![422],          1,        "rejected_client_error",  json!(422)),
        ("its schedule ended",       vec![503],          3,        "rejected_server_error",  json!(503)),
        ("delivered in the end",     vec![503, 200],     0,        "",                       json!(null)),
    ];
    let mut count = 0;
    for (why, answers, attempts, outcome, status) in cases {
        world.fake.answers(connection, answers);
        let event = tenant.emit("contact.created").await;
        let delivery = tenant.finished(event).await;
        count += usize::from(attempts > 0);
        let told = told_just(&world, count).await;
        if attempts == 0 {
            continue;
        }
        let (name, payload) = &told[count - 1];
        let at = delivery.completed_at.expect("it ended").to_string();
        let mut payload = payload.clone();
        let message = payload.as_object_mut().and_then(|payload| payload.remove("message"));
        assert!(
            message.is_some_and(|text| text.as_str().is_some_and(|text| text.contains("for good"))),
            "{why}"
        );
        let expected = json!({
            "organization": tenant.organization.to_string(), "workspace": tenant.workspace.to_string(),
            "connection": connection.to_string(), "rule": delivery.rule_id.to_string(),
            "event": event.to_string(), "delivery": delivery.id.to_string(), "attempts": attempts,
            "outcome": outcome, "http_status": status, "count": 1, "since": at, "at": at,
        });
        assert_eq!((&**name, payload), (FAILED, expected), "{why}: and nothing of the payload");
    }
}

/// Tried again by a person it may fail again, and that is told again.
#[tokio::test(start_paused = true)]
async fn a_delivery_that_fails_again_is_told_again_and_one_called_off_is_not() {
    let world = told_world();
    let tenant = Tenant::new(&world.start().await).await;
    let connection = tenant.route("contact.created").await;
    world.fake.answers(connection, [422]);
    let event = tenant.emit("contact.created").await;
    told_just(&world, 1).await;
    let rule = tenant.finished(event).await.rule_id;
    tenant.engine.retry(tenant.scope(), event, rule).await.expect("it may");
    let told = told_just(&world, 2).await;
    assert_eq!(told[1].1["attempts"], 2);

    world.fake.answers(connection, [Slow(secs(5), 422)]);
    let called_off = tenant.emit("contact.created").await;
    until(secs(9), "under way", async || (world.fake.in_flight(connection) == 1).then_some(())).await;
    tenant.engine.cancel(tenant.scope(), called_off, None).await.expect("it may");
    told_just(&world, 2).await;
}

#[tokio::test(start_paused = true)]
async fn poison_that_is_set_aside_is_told() {
    let world = told_world();
    let tenant = Tenant::new(&world.start().await).await;
    let connection = tenant.route("contact.created").await;
    world.store.hold("unrouted");
    let event = tenant.emit("contact.created").await;
    world.store.damage(event, true);
    world.store.let_go("unrouted");
    let delivery = tenant.finished(event).await;
    let (name, payload) = told_just(&world, 1).await.remove(0);
    let found = ["connection", "delivery", "outcome"].map(|key| payload[key].clone());
    let expected = [connection.to_string(), delivery.id.to_string(), "internal_error".to_owned()];
    assert_eq!((&*name, found), (FAILED, expected.map(Value::from)));
}

/// The queue to the operator is bounded, and nothing of a storm is left out.
#[tokio::test(start_paused = true)]
async fn a_storm_of_failures_is_summed_up() {
    let world = told_world();
    let tenant = Tenant::new(&world.start().await).await;
    let connection = tenant.route("contact.created").await;
    world.fake.answers(connection, [422]);
    for _ in 0..10 {
        tenant.emit_many("contact.created", 300).await;
        tokio::time::sleep(secs(1)).await;
    }
    tokio::time::sleep(secs(200)).await;
    let counts: Vec<u64> =
        told(&world).iter().map(|(_, payload)| payload["count"].as_u64().expect("a count")).collect();
    assert_eq!((counts.len(), &counts[..10]), (11, &[1; 10][..]));
    assert_eq!(counts.iter().sum::<u64>(), 3_000);
    let message = told(&world)[10].1["message"].clone();
    assert_eq!(message, "2990 deliveries failed for good, the last because the destination refused it");
}

/// Five lives, each killed: down, down, refused, down elsewhere, back.
#[test]
fn nothing_is_told_twice_across_restarts() {
    let world = told_world();
    let (tenant, broken, refused) = life(async {
        let tenant = Tenant::new(&world.start().await).await;
        let broken = down(&tenant, vec![600_000; 50]).await;
        let refused = tenant.connect("refused").await;
        tenant.rule(refused, "invoice.paid").await;
        world.fake.answers(broken, [503]);
        world.fake.answers(refused, [401]);
        tenant.emit_many("contact.created", 40).await;
        tenant.emit("invoice.paid").await;
        told_just(&world, 2).await;
        (tenant, broken, refused)
    });
    assert_eq!(names(&world).iter().filter(|name| *name == OPENED).count(), 1);
    let (organization, workspace) = (tenant.organization, tenant.workspace);
    let reason = InactiveReason::AuthenticationInvalid;
    let again = [
        Notice::ConnectionInactive { organization, workspace, connection: refused, version: 2, reason },
        Notice::BreakerOpened { organization, workspace, connection: broken },
    ];
    for n in 1..=3 {
        life(async {
            let engine = world.start_at(START.after(hours(2 * n))).await.0;
            // Somebody notices once more.
            again.clone().into_iter().for_each(|notice| engine.notify(notice));
            let tried = world.fake.calls_to(broken).len();
            until(hours(1), "it is tried again", async || {
                (world.fake.calls_to(broken).len() > tried + 12).then_some(())
            })
            .await;
            told_just(&world, 2).await;
        });
    }
    world.fake.answers(broken, [200]);
    life(async {
        world.start_at(START.after(hours(9))).await;
        let told = told_just(&world, 3).await;
        assert_eq!(told[2].0, CLOSED);
    });
}

/// What is noticed right before the end is on disk, and told in the next life.
#[test]
fn what_is_noticed_at_the_end_is_told_in_the_next_life() {
    let world = told_world();
    life(async {
        let engine = world.start().await;
        let tenant = Tenant::new(&engine).await;
        let connection = tenant.route("contact.created").await;
        world.fake.answers(connection, [422]);
        // Enough for a sum that is not due yet.
        let events = tenant.emit_many("contact.created", 15).await;
        for event in &events {
            tenant.finished(*event).await;
        }
        turn_off(&tenant, connection).await;
        engine.drain(secs(5)).await.expect("drained");
    });
    life(async {
        world.start_at(START.after(secs(60))).await;
        let told = told_just(&world, 12).await;
        let counts = told.iter().filter_map(|(_, payload)| payload["count"].as_u64());
        assert_eq!(counts.sum::<u64>(), 15);
        assert!(told.iter().any(|(name, _)| name == INACTIVE));
    });
}

/// Whatever becomes of an operational event makes no other.
#[tokio::test(start_paused = true)]
async fn an_operator_who_does_not_answer_makes_no_loop() {
    for answer in [422, 503, 401] {
        let mut world = told_world();
        world.options.delivery.retry.waits = vec![secs(1); 3];
        let engine = world.start().await;
        let tenant = Tenant::new(&engine).await;
        let connection = tenant.route("contact.created").await;
        world.fake.answers(notice::CONNECTION, [answer]);
        world.fake.answers(connection, [422]);
        for _ in 0..8 {
            tenant.emit_many("contact.created", 20).await;
            tokio::time::sleep(secs(120)).await;
        }
        tokio::time::sleep(days(1)).await;
        let record = on_record(&engine).await;
        assert!(record.iter().all(|name| name == FAILED), "{answer}: {record:?}");
        assert!((8..=8 * 11).contains(&record.len()), "{answer}: {}", record.len());
        let view = engine.connection(own(&engine).scope(), notice::CONNECTION).await;
        let inactive = view.expect("readable").expect("there").connection.inactive;
        assert_eq!(inactive.is_some(), answer == 401, "{answer}");

        // A start is a new try, for who mended it.
        engine.drain(secs(1)).await.expect("drained");
        world.fake.answers(notice::CONNECTION, [200]);
        let engine = world.start_at(START.after(days(3))).await.0;
        let view = engine.connection(own(&engine).scope(), notice::CONNECTION).await;
        assert!(view.expect("readable").expect("there").connection.takes_deliveries(), "{answer}");
        if answer == 401 {
            let scope = own(&engine).scope();
            let events =
                engine.events(scope, EventFilter::default(), None, 1_000).await.expect("readable").records;
            let events: Vec<_> = events.iter().map(|record| record.event.id).collect();
            own(&engine).all_completed(&events, secs(60)).await;
        }
    }
}

/// The operator's workspace follows the configuration at each start.
#[test]
fn a_url_that_is_changed_or_taken_away_is_followed() {
    let mut world = World::new();
    let shown = async |engine: &Engine| {
        let view = engine.connection(Scope::Workspace(notice::WORKSPACE), notice::CONNECTION).await;
        let view = view.expect("readable").expect("there");
        (view.metadata["url"].clone(), view.connection.paused, view.connection.version)
    };
    let tenant = life(async {
        let engine = world.start().await;
        let tenant = Tenant::new(&engine).await;
        tenant.route("contact.created").await;
        assert_eq!(
            engine.organization(notice::ORGANIZATION).await.expect("readable"),
            None,
            "nothing is made"
        );
        tenant
    });
    let turn_two_off = async |engine: &Engine, why: &str| {
        let tenant = tenant.on(engine);
        for number in 1..=2 {
            turn_off(&tenant, tenant.connect(&format!("{why} {number}")).await).await;
        }
    };
    let (old, new) = (json!(URL), json!("https://ops.example.com/new"));
    #[rustfmt::skip]
    let steps = [
        // why                          webhook                                      url    paused  version  told in all
        ("a first URL",                 webhook(URL, 1),                             &old,  false,  1,       2),
        ("the same again",              webhook(URL, 1),                             &old,  false,  1,       4),
        ("another secret",              webhook(URL, 2),                             &old,  false,  2,       6),
        ("another URL",                 webhook("https://ops.example.com/new", 2),   &new,  false,  3,       8),
        ("none",                        None,                                        &new,  true,   4,       8),
        ("none again",                  None,                                        &new,  true,   4,       8),
        ("the first again",             webhook(URL, 2),                             &old,  false,  5,       10),
    ];
    for (n, (why, webhook, url, paused, version, count)) in (1..).zip(steps) {
        world.options.operational_webhook = webhook;
        life(async {
            let engine = world.start_at(START.after(hours(3 * n))).await.0;
            turn_two_off(&engine, why).await;
            assert_eq!(told_just(&world, count).await.len(), count, "{why}");
            assert_eq!(shown(&engine).await, (url.clone(), paused, version), "{why}");
        });
    }
    assert!(names(&world).iter().all(|name| name == INACTIVE));
}

/// What waits when the URL is taken away goes to the next one; an operator who deleted the connection
/// gets another.
#[test]
fn what_waits_goes_to_the_next_url_and_what_was_deleted_is_made_again() {
    let mut world = told_world();
    world.options.delivery.retry.waits = vec![hours(1); 50];
    world.fake.answers(notice::CONNECTION, [503]);
    let tenant = life(async {
        let engine = world.start().await;
        let tenant = Tenant::new(&engine).await;
        turn_off(&tenant, tenant.connect("one").await).await;
        until(hours(1), "it is tried", async || (told(&world).len() == 1).then_some(())).await;
        tenant
    });
    world.options.operational_webhook = None;
    life(async {
        world.start_at(START.after(days(1))).await;
        tokio::time::sleep(days(1)).await;
    });
    assert_eq!(told(&world).len(), 1, "nobody is told");
    world.fake.answers(notice::CONNECTION, [200]);
    world.options.operational_webhook = webhook("https://ops.example.com/new", 1);
    life(async {
        let engine = world.start_at(START.after(days(3))).await.0;
        assert_eq!(told_just(&world, 2).await[0], told(&world)[1], "the same once more, and that is all");
        let deleted = engine.delete_connection(own(&engine).scope(), notice::CONNECTION, true).await;
        deleted.expect("it may");
    });
    life(async {
        let tenant = tenant.on(&world.start_at(START.after(days(4))).await.0);
        turn_off(&tenant, tenant.connect("two").await).await;
        told_just(&world, 3).await;
        let verification = tenant.engine.verify().await.expect("readable");
        assert_eq!(verification.faults, [""; 0]);
    });
}

/// What the edges notice: a limit again and again, a replay once.
#[test]
fn limits_and_replays_are_told_once() {
    let world = told_world();
    let noticed = |tenant: &Tenant| {
        let Tenant { organization, workspace, .. } = *tenant;
        let (limit, month) = ("events".to_owned(), "2026-03".to_owned());
        [
            Notice::LimitNear {
                organization,
                workspace: None,
                limit: limit.clone(),
                used: 80,
                of: 100,
                month: month.clone(),
            },
            Notice::LimitReached {
                organization,
                workspace: Some(workspace),
                limit,
                used: 100,
                of: 100,
                month,
            },
            Notice::ReplayFinished {
                replay: "r1".to_owned(),
                organization,
                workspace,
                counts: BTreeMap::from([("replayed".to_owned(), 3)]),
            },
        ]
    };
    let tenant = life(async { Tenant::new(&world.start().await).await });
    for days_later in [0, 1, 20] {
        life(async {
            let engine = world.start_at(START.after(days(days_later))).await.0;
            for _ in 0..500 {
                noticed(&tenant).into_iter().for_each(|notice| engine.notify(notice));
            }
            let told = told_just(&world, 3).await;
            // One may overtake the other on its way.
            let told: BTreeMap<String, Value> = told.into_iter().collect();
            let names: Vec<_> = told.keys().collect();
            assert_eq!(names, ["weft.limit.near", "weft.limit.reached", "weft.replay.finished"]);
            assert_eq!(told["weft.replay.finished"]["counts"], json!({"replayed": 3}));
        });
    }
}

/// What tells the operator may fall and the store may be full: it is told later, and once.
#[tokio::test(start_paused = true)]
async fn a_fall_or_a_full_disk_puts_it_off() {
    let (mut world, falls) = (told_world(), AtomicUsize::new(0));
    world.options.seams.faults = Faults::scripted(move |place| {
        assert!(place != "notices.append" || falls.fetch_add(1, Relaxed) >= 3, "as scripted");
    });
    let tenant = Tenant::new(&world.start().await).await;
    let connection = tenant.connect("one").await;
    turn_off(&tenant, connection).await;
    told_just(&world, 1).await;

    world.store.fail(|method, _| {
        (method == "append_events").then_some(StoreError::Unavailable(Unavailable::DiskFull))
    });
    tenant.patch(connection, ConnectionPatch { inactive: Some(None), ..Default::default() }).await;
    turn_off(&tenant, connection).await;
    told_just(&world, 1).await;
    world.store.mend();
    told_just(&world, 2).await;
}

/// A disk that is full keeps no server from starting, whatever it would like to set up.
#[tokio::test(start_paused = true)]
async fn a_full_disk_keeps_no_engine_from_starting() {
    let world = told_world();
    world
        .store
        .fail(|method, _| (method == "configure").then_some(StoreError::Unavailable(Unavailable::DiskFull)));
    let engine = world.start().await;
    world.store.mend();
    let tenant = Tenant::new(&engine).await;
    turn_off(&tenant, tenant.connect("one").await).await;
    told_just(&world, 0).await;
    engine.drain(secs(1)).await.expect("drained");
    let tenant = tenant.on(&world.start().await);
    turn_off(&tenant, tenant.connect("two").await).await;
    told_just(&world, 1).await;
}
