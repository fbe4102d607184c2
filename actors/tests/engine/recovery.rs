//! Two lives over one store, and actors that are put away and woken in time.

use crate::support::{Answer::*, *};
use gauges::Gauges;

/// I2, I4, I14: whatever a life that was killed left behind, the next one finishes: what was not routed, what
/// was queued, what was in flight, and what is due in hours, at its time.
#[test]
fn a_second_life_finishes_what_the_first_left() {
    let mut world = World::new();
    world.options.delivery.retry.waits = vec![hours(2)];
    let (tenant, [unrouted, queued, in_flight, later]) = life(async {
        let tenant = Tenant::new(&world.start().await).await;
        let [hanging, failing] = [tenant.route("hangs").await, tenant.route("fails").await];
        world.fake.answers(hanging, [Hang]);
        world.fake.answers(failing, [Told(Outcome::InternalError)]);
        let later = tenant.emit_many("fails", 5).await;
        tenant.tried(later[4], 1).await;
        let in_flight = tenant.emit_many("hangs", 32).await;
        settle().await;
        let queued = tenant.emit_many("hangs", 100).await;
        settle().await;
        assert_eq!(world.fake.in_flight(hanging), 32);
        world.store.hold("record_routing");
        let unrouted = tenant.emit_many("hangs", 100).await;
        settle().await;
        for connection in [hanging, failing] {
            world.fake.answers(connection, [200]);
        }
        (tenant, [unrouted, queued, in_flight, later])
    });
    world.store.let_go("record_routing");
    let before = world.fake.calls();
    life(async {
        let tenant = tenant.on(&world.start_at(START.after(hours(1))).await.0);
        for events in [&unrouted, &queued, &in_flight] {
            tenant.all_completed(events, secs(5)).await;
        }
        tenant.all_completed(&later, hours(1) + secs(1)).await;
        let verification = tenant.engine.verify().await.expect("readable");
        assert_eq!((verification.events, verification.finished), (237, 237), "{verification:?}");
    });
    let calls = world.fake.calls();
    for call in &calls[before.len()..] {
        let earlier = before.iter().find(|earlier| earlier.event == call.event);
        let expected = in_flight.contains(&call.event) || later.contains(&call.event);
        assert_eq!(earlier.is_some(), expected, "only what was in flight or failed is tried again");
        if let Some(earlier) = earlier {
            assert_eq!(earlier.delivery, call.delivery, "under the same id");
        }
        if later.contains(&call.event) {
            assert!(span(START, call.at) >= hours(2), "not before it is due");
        }
    }
    assert_eq!(calls.len() - before.len(), 237, "and nothing twice");
}

/// I2, I14: ten lives, each killed in mid-load: everything is delivered in the end.
#[test]
fn ten_lives_killed_in_mid_load_lose_nothing() {
    let world = World::new();
    let mut tenant: Option<Tenant> = None;
    let mut events = Vec::new();
    for number in 0..10 {
        life(async {
            let (engine, _) = world.start_at(START.after(secs(number * 60))).await;
            let tenant = match &mut tenant {
                Some(tenant) => tenant.on(&engine),
                none => {
                    let made = none.insert(Tenant::new(&engine).await).clone();
                    let connection = made.route("contact.created").await;
                    world.fake.script(connection, |call| match call.delivery.as_bytes()[15] % 4 {
                        0 if call.attempt == 1 => Slow(ms(30), 503),
                        1 => Slow(ms(200), 200),
                        _ => Slow(ms(7), 200),
                    });
                    made
                }
            };
            for _ in 0..10 {
                events.extend(tenant.emit_many("contact.created", 10).await);
                tokio::time::sleep(ms(11 * number)).await;
            }
        });
    }
    life(async {
        let (engine, _) = world.start_at(START.after(hours(1))).await;
        tenant.expect("a tenant").on(&engine).all_completed(&events, secs(120)).await;
    });
}

/// I2: the same on disk, in real time: a life that hangs is ended, and the next one delivers.
#[tokio::test]
async fn a_second_life_on_disk_delivers_what_the_first_accepted() {
    let mut world = World::new();
    let directory = tempfile::tempdir().expect("a directory");
    world.options.data = Some(directory.path().join("data"));
    world.options.segment_bytes = 1 << 20;
    world.options.seams.store = None;
    let engine = Engine::start(world.options.clone()).await.expect("it starts");
    let tenant = Tenant::new(&engine).await;
    let connection = tenant.route("contact.created").await;
    world.fake.answers(connection, [Hang]);
    let events = tenant.emit_many("contact.created", 300).await;
    until(secs(60), "under way", async || (world.fake.in_flight(connection) == 32).then_some(())).await;
    engine.drain(ms(1)).await.expect("drained");
    drop(engine);
    let organization = tenant.organization;
    let workspace = tenant.workspace;
    drop(tenant);
    world.fake.answers(connection, [200]);
    // The last actors of the first life give the directory back as they are dropped.
    let engine =
        until(secs(60), "the directory is free", async || Engine::start(world.options.clone()).await.ok())
            .await;
    let tenant = Tenant { engine: engine.clone(), organization, workspace };
    tenant.all_completed(&events, secs(60)).await;
    let verification = engine.verify().await.expect("readable");
    assert_eq!((verification.finished, verification.faults.len()), (300, 0), "{verification:?}");
    engine.drain(secs(10)).await.expect("drained");
}

/// I15: who has nothing to do is put away, and what is due in hours is woken on time.
#[tokio::test(start_paused = true)]
async fn idle_actors_are_put_away_and_woken_on_time() {
    let gauges = Gauges::default();
    let _listening = gauges.listen();
    let mut world = World::new();
    world.options.delivery.retry.waits = vec![hours(2), hours(5)];
    let engine = world.start().await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    tokio::time::sleep(secs(60)).await;
    let before = tasks();
    let mut tenants = Vec::new();
    for _ in 0..20 {
        let tenant = Tenant::new(&engine).await;
        let connection = tenant.route("contact.created").await;
        world.fake.answers(connection, [500, 500, 200]);
        let event = tenant.emit("contact.created").await;
        tenants.push((tenant, connection, event));
    }
    settle().await;
    assert_eq!((gauges.gauge("weft_workspaces_active"), world.fake.ready()), (20.0, 20));
    let put_away = async |when: &str| {
        tokio::time::sleep(secs(120)).await;
        assert_eq!((gauges.gauge("weft_workspaces_active"), world.fake.ready()), (0.0, 0), "{when}");
        assert!(tasks() <= before, "{when}: {} tasks instead of {before}", tasks());
    };
    put_away("after the first try").await;
    tokio::time::sleep(hours(2)).await;
    put_away("after the second").await;
    for (tenant, connection, event) in &tenants {
        assert_eq!(tenant.finished(*event).await.status, Status::Completed);
        let calls = world.fake.calls_to(*connection);
        let waits: Vec<_> = calls.windows(2).map(|pair| span(pair[0].at, pair[1].at)).collect();
        assert_eq!(waits, [hours(2), hours(5)]);
    }
    put_away("in the end").await;
}

/// I2: a wake that meets an actor on its way out is not lost, and disturbs no attempt. Seeded: actors are put
/// away after a few milliseconds, and events come at any of them.
#[test]
fn a_wake_that_meets_an_actor_leaving_is_not_lost() {
    for seed in 0..6 {
        let mut world = World::new();
        world.options.idle_after = ms(3);
        let mut chance = Chance(seed);
        life(async {
            let tenant = Tenant::new(&world.start().await).await;
            let connection = tenant.route("contact.created").await;
            world.fake.script(connection, |call| match call.delivery.as_bytes()[15] % 4 {
                0 => Slow(ms(4), 200),
                1 => Slow(ms(1), 200),
                _ => Code(200),
            });
            for _ in 0..100 {
                let event = tenant.emit("contact.created").await;
                if chance.below(3) == 0 {
                    tenant.pause(connection, true).await;
                    tokio::time::sleep(ms(chance.below(5))).await;
                    tenant.pause(connection, false).await;
                }
                tokio::time::sleep(ms(chance.below(12))).await;
                for _ in 0..chance.below(20) {
                    tokio::task::yield_now().await;
                }
                if chance.below(4) == 0 {
                    tenant.all_completed(&[event], ms(50)).await;
                }
            }
            tokio::time::sleep(ms(50)).await;
            let verification = tenant.engine.verify().await.expect("readable");
            assert_eq!((verification.finished, verification.scheduled), (100, 0), "seed {seed}");
        });
        let counts = world.fake.counts();
        assert!(counts.len() == 100 && counts.values().all(|count| *count == 1), "seed {seed}: {counts:?}");
    }
}

/// I2: events that could not be routed for minutes, because the store took no writes, are routed when it does.
#[tokio::test(start_paused = true)]
async fn a_workspace_with_unrouted_events_is_not_put_away() {
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    tenant.route("contact.created").await;
    for held in [true, false] {
        if held {
            world.store.hold("record_routing");
        } else {
            world.store.fail(|method, _| {
                let why = actors::engine::Unavailable::DiskFull;
                (method == "record_routing").then_some(actors::store::StoreError::Unavailable(why))
            });
        }
        let events = tenant.emit_many("contact.created", 100).await;
        let asked = world.store.count("record_routing");
        for _ in 0..60 {
            tenant.emit("nobody.asks").await; // each wakes the rule actor
        }
        tokio::time::sleep(secs(600)).await;
        let asked = world.store.count("record_routing") - asked;
        assert!(asked <= 1_300, "asked {asked} times in ten minutes, more than twice a second");
        world.store.let_go("record_routing");
        world.store.mend();
        tenant.all_completed(&events, secs(5)).await;
    }
    assert_eq!(world.fake.calls().len(), 200);
}
