//! Past deliveries done again: each once, at their pace, below what is live, and across restarts.

use crate::support::{Answer::*, *};
use actors::{
    domain::{
        ids::ReplayId,
        replay::{AsOf, ReplayFilter, ReplayState, Skipped},
    },
    engine::{NewReplay, ReplayCount, ReplayPatch, ReplayView, RulePatch},
    store::{Refusal, StoreError},
};
use serde_json::json;
use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// A rate that no test waits for.
const FAST: f64 = 5_000.0;

fn failed() -> ReplayFilter {
    ReplayFilter { status: Some(Status::Failed), ..Default::default() }
}

impl Tenant {
    fn replay_of(&self, filter: ReplayFilter, rate_per_second: f64) -> NewReplay {
        let (workspace_id, created_by) = (self.workspace, "test".to_owned());
        NewReplay { workspace_id, filter, as_of: AsOf::Then, rate_per_second, created_by }
    }

    async fn replay(&self, new: NewReplay) -> ReplayId {
        self.engine.create_replay(self.scope(), new).await.expect("a replay").replay.id
    }

    async fn replayed(&self, id: ReplayId) -> ReplayView {
        self.engine.replay(self.scope(), id).await.expect("readable").expect("there")
    }

    /// The replay once it is over.
    async fn over(&self, id: ReplayId) -> ReplayView {
        until(hours(12), "the replay is over", async || {
            Some(self.replayed(id).await).filter(|view| view.replay.outcome.is_some())
        })
        .await
    }

    async fn count(&self, filter: ReplayFilter) -> ReplayCount {
        self.engine.count_replay(self.scope(), self.replay_of(filter, FAST)).await.expect("a count")
    }

    async fn tell(&self, id: ReplayId, state: ReplayState) -> Result<ReplayView, EngineError> {
        let patch = ReplayPatch { state: Some(state), ..Default::default() };
        self.engine.change_replay(self.scope(), id, patch).await
    }

    /// Events that failed for good.
    async fn failures(&self, world: &World, name: &str, count: usize) -> (ConnectionId, Vec<EventId>) {
        let connection = self.route(name).await;
        world.fake.answers(connection, [Told(Outcome::RejectedClientError)]);
        let mut events = Vec::new();
        while events.len() < count {
            events.extend(self.emit_many(name, (count - events.len()).min(100)).await);
        }
        for event in &events {
            let status = until(secs(60), "it failed", async || {
                Some(self.event(*event).await.summary.status).filter(|status| status.is_final())
            });
            assert_eq!(status.await, Status::Failed);
        }
        world.fake.answers(connection, [200]);
        (connection, events)
    }

    async fn assert_sound(&self) {
        let found = self.engine.verify().await.expect("readable");
        assert_eq!((found.faults.len(), found.scheduled), (0, 0), "{found:?}");
    }
}

/// I2: each that failed is done again once, under an id of its own that names its first; and its event counts
/// what came of that, and no more than before.
#[tokio::test(start_paused = true)]
async fn what_failed_is_done_again_once_each() {
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    let (connection, events) = tenant.failures(&world, "contact.created", 300).await;
    tenant.rule(tenant.route("other").await, "contact.created").await;
    let fine = tenant.emit("contact.created").await;
    tenant.tried_all(fine, 2).await;
    assert_eq!(world.fake.calls_to(connection).len(), 301);

    let count = tenant.count(failed()).await;
    assert_eq!(
        (count.counts.matched, count.counts.queued, count.events, count.is_cut),
        (300, 300, 300, false)
    );
    let id = tenant.replay(tenant.replay_of(failed(), FAST)).await;
    let ReplayView { replay, tally } = tenant.over(id).await;
    assert_eq!((replay.state, replay.expected), (ReplayState::Finished, Some(300)));
    assert_eq!(
        (replay.counts.matched, replay.counts.queued, replay.counts.skipped),
        (300, 300, Skipped::default())
    );
    assert_eq!((tally.total, tally.completed), (300, 300));

    for event in &events {
        let details = tenant.event(*event).await;
        assert_eq!((details.summary.status, details.summary.tally.total), (Status::Completed, 1));
        let [again, first] = &details.deliveries[..] else { panic!("{:?}", details.deliveries) };
        let of = again.replay.expect("a replay");
        assert_eq!((of.first, of.replay, of.number, first.replay), (first.id, id, 1, None));
        assert_eq!((first.status, again.status, again.attempt_count), (Status::Failed, Status::Completed, 1));
        assert_eq!((&again.action, again.rule_id), (&first.action, first.rule_id));
    }
    let counts = world.fake.counts();
    assert_eq!(counts.len(), 300 + 2 + 300);
    assert!(counts.values().all(|count| *count == 1), "and none twice");
    tenant.assert_sound().await;

    assert_eq!(tenant.count(failed()).await.counts.matched, 0, "what succeeded since has not failed");
    let one = ReplayFilter { event_id: Some(events[7]), ..Default::default() };
    let again = tenant.over(tenant.replay(tenant.replay_of(one, FAST)).await).await;
    assert_eq!((again.replay.counts.queued, again.tally.completed), (1, 1), "one, whatever came of it");
    let numbers = tenant
        .event(events[7])
        .await
        .deliveries
        .into_iter()
        .map(|it| it.replay.map(|of| (of.first, of.number)));
    let first = DeliveryId::of(events[7], tenant.event(events[7]).await.deliveries[0].rule_id);
    assert_eq!(
        numbers.collect::<Vec<_>>(),
        [Some((first, 2)), Some((first, 1)), None],
        "each names the first"
    );
    tenant.assert_sound().await;
}

impl Tenant {
    /// Waits until all of an event's deliveries were tried, and that they are so many.
    async fn tried_all(&self, event: EventId, count: usize) {
        until(secs(60), "all were tried", async || {
            let deliveries = self.event(event).await.deliveries;
            (deliveries.len() == count && deliveries.iter().all(|it| it.attempt_count > 0)).then_some(())
        })
        .await;
    }
}

/// A filter means the delivery, not its event: what succeeded beside it is left alone, and so is what others
/// filter out.
#[tokio::test(start_paused = true)]
async fn only_what_passes_the_filter_is_done_again() {
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    let (broken, events) = tenant.failures(&world, "contact.created", 3).await;
    let fine = tenant.connect("fine").await;
    let rule = tenant.rule(fine, "contact.*").await;
    world.fake.answers(broken, [Told(Outcome::RejectedClientError)]);
    let both = tenant.emit("contact.created").await;
    tenant.tried_all(both, 2).await;
    world.fake.answers(broken, [200]);
    let (other, others) = tenant.failures(&world, "order.paid", 2).await;
    let test = tenant.trial("contact.created").await;
    tenant.tried_all(test, 2).await;

    let any = ReplayFilter::default();
    let since = Some(tenant.event(both).await.summary.event.accepted_at);
    #[rustfmt::skip]
    let cases = [
        // why                              filter                                                                 deliveries
        ("all there is",                    any.clone(),                                                           7),
        ("also what was a test",            ReplayFilter { with_tests: true, ..any.clone() },                      9),
        ("a test that is named",            ReplayFilter { event_id: Some(test), ..any.clone() },                  2),
        ("of a name",                       ReplayFilter { event: Some("order.paid".into()), ..any.clone() },      2),
        ("to a connection",                 ReplayFilter { connection: Some(fine), ..any.clone() },                1),
        ("by a rule",                       ReplayFilter { rule: Some(rule), ..any.clone() },                      1),
        ("that failed",                     failed(),                                                              6),
        ("that failed, of a name",          ReplayFilter { event: Some("contact.created".into()), ..failed() },    4),
        ("that failed there",               ReplayFilter { connection: Some(other), ..failed() },                  2),
        ("that succeeded",                  ReplayFilter { status: Some(Status::Completed), ..any.clone() },       1),
        ("that ended so",                   ReplayFilter { outcome: Some(Outcome::RejectedClientError), ..any.clone() }, 6),
        ("that ended otherwise",            ReplayFilter { outcome: Some(Outcome::Timeout), ..any.clone() },       0),
        ("since then",                      ReplayFilter { from: since, ..any.clone() },                           4),
        ("before",                          ReplayFilter { to: since, ..any.clone() },                             3),
        ("of one event",                    ReplayFilter { event_id: Some(both), ..any.clone() },                  2),
        ("of one event by one rule",        ReplayFilter { event_id: Some(both), rule: Some(rule), ..any.clone() }, 1),
        ("of one event that failed",        ReplayFilter { event_id: Some(both), ..failed() },                     1),
    ];
    for (why, filter, expected) in cases {
        assert_eq!(tenant.count(filter).await.counts.matched, expected, "{why}");
    }
    let before = world.fake.calls_to(fine).len();
    let view = tenant.over(tenant.replay(tenant.replay_of(failed(), FAST)).await).await;
    assert_eq!((view.replay.counts.queued, view.tally.completed), (6, 6));
    assert_eq!(world.fake.calls_to(fine).len(), before, "what succeeded is left alone");
    for event in events.iter().chain(&others).chain([&both]) {
        assert_eq!(tenant.event(*event).await.summary.status, Status::Completed);
    }
    tenant.assert_sound().await;

    // I9: whose they are not.
    let stranger = Tenant::new(&tenant.engine).await;
    assert_eq!(stranger.count(ReplayFilter { event_id: Some(both), ..any }).await.counts.matched, 0);
    let foreign = tenant.engine.create_replay(stranger.scope(), tenant.replay_of(failed(), FAST)).await;
    assert!(matches!(foreign, Err(EngineError::Refused(Refusal::NotFound("workspace")))));
    assert_eq!(tenant.engine.replay(stranger.scope(), view.replay.id).await.expect("readable"), None);
    let told = tenant.engine.change_replay(stranger.scope(), view.replay.id, ReplayPatch::default()).await;
    assert!(matches!(told, Err(EngineError::Refused(Refusal::NotFound("replay")))));
}

impl Tenant {
    /// Sends a test event.
    async fn trial(&self, name: &str) -> EventId {
        let trial = actors::engine::Trial { request: self.request(name), rule: None };
        self.engine.test(trial).await.expect("it is accepted").id
    }
}

/// As it was: what its rule said when the event was accepted. As it is now: what it says today, if it still
/// takes the event.
#[tokio::test(start_paused = true)]
async fn a_delivery_is_done_again_as_it_was_or_as_it_is_now() {
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    let connection = tenant.connect("the one").await;
    let rules = [
        tenant
            .rule_with(connection, "a", |new| {
                new.metadata = object(json!({"action": "send_webhook", "v": 1}))
            })
            .await,
        tenant.rule(connection, "b").await,
        tenant.rule(connection, "c").await,
        tenant.rule(connection, "d").await,
    ];
    world.fake.answers(connection, [Told(Outcome::RejectedClientError)]);
    let mut events = Vec::new();
    for name in ["a", "b", "c", "d"] {
        events.push(tenant.emit(name).await);
        tenant.finished(events[events.len() - 1]).await;
    }
    world.fake.answers(connection, [200]);
    let change = async |rule: RuleId, patch: RulePatch| {
        tenant.engine.update_rule(tenant.scope(), rule, patch).await.expect("it is changed");
    };
    let says_pro = json!({"path": "plan", "op": "eq", "value": "pro"});
    let metadata = object(json!({"action": "send_webhook", "v": 2}));
    change(
        rules[0],
        RulePatch {
            metadata: Some(metadata),
            conditions: Some(Some(says_pro.clone())),
            ..Default::default()
        },
    )
    .await;
    change(rules[1], RulePatch { conditions: Some(Some(json!({"not": says_pro}))), ..Default::default() })
        .await;
    change(rules[2], RulePatch { active: Some(false), ..Default::default() }).await;
    tenant.engine.delete_rule(tenant.scope(), rules[3]).await.expect("deleted");

    let now = NewReplay { as_of: AsOf::Now, ..tenant.replay_of(failed(), FAST) };
    let view = tenant.over(tenant.replay(now).await).await;
    let skipped = Skipped { rule_passes: 1, rule_inactive: 1, rule_deleted: 1, ..Default::default() };
    assert_eq!((view.replay.counts.queued, view.replay.counts.skipped), (1, skipped));
    let action = |delivery: &Delivery| {
        serde_json::from_str::<serde_json::Value>(&delivery.action).expect("JSON")["v"].clone()
    };
    let shown: Vec<_> = tenant.event(events[0]).await.deliveries.iter().map(action).collect();
    assert_eq!(shown, [json!(2), json!(1)], "as it is now");

    let first = ReplayFilter { event_id: Some(events[0]), ..Default::default() };
    tenant.over(tenant.replay(tenant.replay_of(first, FAST)).await).await;
    let shown: Vec<_> = tenant.event(events[0]).await.deliveries.iter().map(action).collect();
    assert_eq!(shown, [json!(2), json!(2), json!(1)], "as the one was that stands");
    let view = tenant.over(tenant.replay(tenant.replay_of(failed(), FAST)).await).await;
    assert_eq!((view.replay.counts.queued, view.tally.completed), (3, 3), "as it was, no rule is asked");
    tenant.assert_sound().await;
}

/// Nothing is left out silently: what cannot be done again is counted by its reason.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_done_again_says_why() {
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    let (paused, _) = tenant.failures(&world, "paused", 1).await;
    let (inactive, _) = tenant.failures(&world, "inactive", 2).await;
    let (deleted, _) = tenant.failures(&world, "deleted", 3).await;
    let (open, _) = tenant.failures(&world, "open", 4).await;
    world.fake.answers(open, [Hang]);
    tenant.emit_many("open", 5).await;
    settle().await;
    tenant.pause(paused, true).await;
    tenant
        .patch(
            inactive,
            ConnectionPatch {
                inactive: Some(Some(InactiveReason::ManuallyInactivated)),
                ..Default::default()
            },
        )
        .await;
    tenant.engine.delete_connection(tenant.scope(), deleted, true).await.expect("deleted");

    let expected = Skipped {
        connection_paused: 1,
        connection_inactive: 2,
        connection_deleted: 3,
        unfinished: 5,
        ..Default::default()
    };
    let count = tenant.count(ReplayFilter::default()).await;
    assert_eq!((count.counts.queued, count.counts.skipped), (4, expected));
    world.fake.answers(open, [200]);
    let id = tenant.replay(tenant.replay_of(failed(), FAST)).await;
    let view = tenant.over(id).await;
    let expected = Skipped { unfinished: 0, ..expected };
    assert_eq!((view.replay.counts.matched, view.replay.counts.queued), (10, 4));
    assert_eq!(view.replay.counts.skipped, expected);
    tenant.pause(paused, false).await;
    let view = tenant.over(tenant.replay(tenant.replay_of(failed(), FAST)).await).await;
    assert_eq!(
        (view.replay.counts.queued, view.tally.completed),
        (1, 1),
        "what was paused can be done again now"
    );
}

/// It keeps its rate, stops and goes on when told to, and calls off what waits when canceled.
#[tokio::test(start_paused = true)]
async fn a_replay_keeps_its_rate_and_does_as_it_is_told() {
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    let (connection, events) = tenant.failures(&world, "a", 400).await;
    let started = tokio::time::Instant::now();
    let id = tenant.replay(tenant.replay_of(failed(), 20.0)).await;
    let calls = || world.fake.calls_to(connection).len() - 400;
    tokio::time::sleep(secs(5)).await;
    assert!((95..=102).contains(&calls()), "{} in five seconds at 20/s", calls());
    tenant.tell(id, ReplayState::Paused).await.expect("paused");
    settle().await;
    let before = calls();
    tokio::time::sleep(secs(60)).await;
    assert_eq!(calls(), before, "paused, it does nothing");
    tenant.tell(id, ReplayState::Paused).await.expect("it is");
    let faster = ReplayPatch { state: Some(ReplayState::Running), rate_per_second: Some(100.0) };
    tenant.engine.change_replay(tenant.scope(), id, faster).await.expect("it goes on");
    tokio::time::sleep(secs(1)).await;
    assert!((before + 80..=before + 110).contains(&calls()), "{} in a second at 100/s", calls() - before);
    tokio::time::sleep(secs(3)).await;
    let view = tenant.over(id).await;
    assert_eq!((view.tally.completed, calls()), (400, 400));
    assert!(started.elapsed() < secs(80));
    for wanted in [ReplayState::Running, ReplayState::Paused, ReplayState::Canceled] {
        let told = tenant.tell(id, wanted).await;
        assert!(
            matches!(told, Err(EngineError::Refused(Refusal::ReplayIs(ReplayState::Finished, _)))),
            "{wanted:?}"
        );
    }
    tenant.all_completed(&events, secs(1)).await;

    world.fake.answers(connection, [Slow(secs(10), 200)]);
    let done = ReplayFilter { status: Some(Status::Completed), ..Default::default() };
    let id = tenant.replay(tenant.replay_of(done, FAST)).await;
    tokio::time::sleep(secs(1)).await;
    let view = tenant.tell(id, ReplayState::Canceled).await.expect("canceled");
    assert_eq!(view.replay.state, ReplayState::Canceled);
    let view = tenant.over(id).await;
    assert_eq!(
        (view.replay.state, view.tally.completed),
        (ReplayState::Canceled, 8),
        "what was in flight ends well"
    );
    assert_eq!(view.tally.canceled + 8, view.tally.total);
    assert_eq!(world.fake.calls_to(connection).len(), 808);
    tenant.all_completed(&events, secs(1)).await;
    tenant.assert_sound().await;
    let listed = tenant.engine.replays(tenant.workspace, None, 10).await.expect("readable").records;
    let states: Vec<_> = listed.iter().map(|view| view.replay.state).collect();
    assert_eq!(states, [ReplayState::Canceled, ReplayState::Finished], "newest first");
}

/// I10: live work goes first. Beside a replay that would take all there is, it waits for nobody, and most of
/// what may be in flight is left to it.
#[tokio::test(start_paused = true)]
async fn live_work_goes_first() {
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    let (connection, _) = tenant.failures(&world, "a", 2_000).await;
    world.fake.answers(connection, [Slow(ms(100), 200)]);
    let id = tenant.replay(tenant.replay_of(failed(), FAST)).await;
    tokio::time::sleep(secs(2)).await;
    let live: HashSet<EventId> = world.fake.calls().iter().map(|call| call.event).collect();
    let mut replayed_at_once = 0;
    for _ in 0..100 {
        let sent = tokio::time::Instant::now();
        let event = tenant.emit("a").await;
        assert!(!live.contains(&event));
        replayed_at_once = world.fake.in_flight(connection).max(replayed_at_once);
        tenant.all_completed(&[event], secs(1)).await;
        assert!(sent.elapsed() < ms(250), "{:?} for one that takes 100 ms", sent.elapsed());
    }
    assert!(
        (1..=9).contains(&replayed_at_once),
        "{replayed_at_once} of 32 in flight are a replay's, and one is live"
    );
    let view = tenant.replayed(id).await;
    let tried = view.tally.completed + view.tally.retrying;
    assert!(view.tally.total - tried <= 1_000, "few wait at a time: {:?}", view.tally);
    assert!(tried > 100, "and it goes on beside: {:?}", view.tally);

    // At the rate of the connection, the live one has the next turn.
    let slow = tenant.connect_with("slow", Policy { rate_per_second: Some(2.0), ..Default::default() }).await;
    tenant.rule(slow, "b").await;
    let events = tenant.emit_many("b", 40).await;
    tenant.all_completed(&events, secs(60)).await;
    let of_it = ReplayFilter { connection: Some(slow), ..Default::default() };
    tenant.replay(tenant.replay_of(of_it, FAST)).await;
    tokio::time::sleep(secs(3)).await;
    for _ in 0..5 {
        let sent = tokio::time::Instant::now();
        let event = tenant.emit("b").await;
        tenant.all_completed(&[event], secs(5)).await;
        assert!(sent.elapsed() < ms(800), "{:?} at two a second", sent.elapsed());
    }
}

/// A destination that is down is not piled upon: a replay waits for it, and goes on once it is back.
#[tokio::test(start_paused = true)]
async fn a_replay_waits_for_a_destination_that_is_down() {
    let mut world = World::new();
    world.options.delivery.retry.waits = vec![secs(60); 100];
    let tenant = Tenant::new(&world.start().await).await;
    let (connection, events) = tenant.failures(&world, "a", 1_500).await;
    world.fake.answers(connection, [503]);
    let id = tenant.replay(tenant.replay_of(failed(), 100.0)).await;
    tokio::time::sleep(secs(30)).await;
    let view = tenant.replayed(id).await;
    assert!(view.tally.total <= 140 + view.tally.retrying, "{:?}", view.tally);
    assert!(view.tally.total < 400 && view.replay.state == ReplayState::Running, "{:?}", view.tally);
    world.fake.answers(connection, [200]);
    let view = tenant.over(id).await;
    assert_eq!((view.replay.state, view.tally.completed), (ReplayState::Finished, 1_500));
    tenant.all_completed(&events, secs(1)).await;
    tenant.assert_sound().await;
}

/// I2, I14: lives killed in the middle of a replay under load: each past delivery is done again once, none is
/// left out, and live work is all done.
#[test]
fn a_replay_goes_on_across_lives_that_are_killed() {
    let world = World::new();
    let (mut tenant, mut replay, mut live) = (None::<Tenant>, None, Vec::new());
    let mut failures = Vec::new();
    for number in 0..8 {
        life(async {
            let (engine, _) = world.start_at(START.after(secs(number * 600))).await;
            let here = match &tenant {
                Some(tenant) => tenant.on(&engine),
                None => {
                    let made = Tenant::new(&engine).await;
                    let (connection, events) = made.failures(&world, "a", 1_000).await;
                    world.fake.script(connection, |call| {
                        Slow(ms(u64::from(call.delivery.as_bytes()[15] % 50)), 200)
                    });
                    failures = events;
                    replay = Some(made.replay(made.replay_of(failed(), 400.0)).await);
                    tenant = Some(made.clone());
                    made
                }
            };
            for _ in 0..3 {
                live.extend(here.emit_many("a", 10).await);
                tokio::time::sleep(ms(20 + 23 * number)).await;
            }
        });
    }
    life(async {
        let (engine, _) = world.start_at(START.after(hours(3))).await;
        let tenant = tenant.expect("a tenant").on(&engine);
        let view = tenant.over(replay.expect("a replay")).await;
        assert_eq!(
            (view.replay.counts.queued, view.tally.total, view.tally.completed),
            (1_000, 1_000, 1_000)
        );
        tenant.all_completed(&failures, secs(5)).await;
        tenant.all_completed(&live, secs(5)).await;
        let mut replayed = HashSet::new();
        for event in &failures {
            let deliveries = tenant.event(*event).await.deliveries;
            assert_eq!(deliveries.len(), 2, "done again once: {deliveries:?}");
            replayed.insert(deliveries[0].id);
        }
        let calls: HashMap<_, _> =
            world.fake.counts().into_iter().filter(|(id, _)| replayed.contains(id)).collect();
        assert_eq!(calls.len(), 1_000, "each was sent");
        let repeated = calls.values().filter(|count| **count > 1).count();
        assert!(repeated <= 8 * 8, "{repeated} were in flight at a kill, no more than may be");
        tenant.assert_sound().await;
    });
}

/// I17: the actor falls wherever it may, the store takes nothing for a while, and a page loses nothing and
/// repeats nothing.
#[tokio::test(start_paused = true)]
async fn a_fall_in_the_middle_of_a_page_repeats_nothing() {
    for place in ["replays.turn", "replays.record", "replays.recorded"] {
        let reached = AtomicUsize::new(0);
        let world = World::with_faults(move |at| {
            let falls =
                at == place && [2, 3, 5, 9].contains(&reached.fetch_add(usize::from(at == place), Relaxed));
            assert!(!falls, "as scripted, at {at}");
        });
        let tenant = Tenant::new(&world.start().await).await;
        tenant.failures(&world, "a", 700).await;
        let id = tenant.replay(NewReplay { as_of: AsOf::Now, ..tenant.replay_of(failed(), 1_000.0) }).await;
        let view = tenant.over(id).await;
        assert_eq!((view.replay.counts.queued, view.tally.completed), (700, 700), "{place}");
        let counts = world.fake.counts();
        assert!(
            counts.len() == 1_400 && counts.values().all(|count| *count == 1),
            "{place}: {}",
            counts.len()
        );
        tenant.assert_sound().await;
    }
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    tenant.failures(&world, "a", 300).await;
    world.store.fail(|method, before| {
        let why = actors::engine::Unavailable::DiskFull;
        (method == "record_replayed" && before < 3).then_some(StoreError::Unavailable(why))
    });
    let view = tenant.over(tenant.replay(tenant.replay_of(failed(), FAST)).await).await;
    assert_eq!((view.replay.counts.queued, view.tally.completed), (300, 300), "once there is room again");
    assert!(world.store.count("record_replayed") < 30);
}

/// A replay of one that is replayed already, or retried meanwhile, leaves it alone; and a person's retry is of
/// what stands.
#[tokio::test(start_paused = true)]
async fn who_comes_second_finds_it_under_way() {
    let world = World::new();
    let tenant = Tenant::new(&world.start().await).await;
    let (connection, events) = tenant.failures(&world, "a", 3).await;
    world.fake.answers(connection, [Slow(secs(5), 200)]);
    let rule = tenant.event(events[0]).await.deliveries[0].rule_id;
    tenant.engine.retry(tenant.scope(), events[0], rule).await.expect("a retry");
    let ids = [
        tenant.replay(tenant.replay_of(failed(), FAST)).await,
        tenant.replay(tenant.replay_of(ReplayFilter::default(), FAST)).await,
    ];
    settle().await;
    let first = DeliveryId::of(events[1], rule);
    let of_first = RuleId::from_bytes(*first.as_bytes());
    let refused = tenant.engine.retry(tenant.scope(), events[1], of_first).await;
    assert!(matches!(refused, Err(EngineError::Refused(Refusal::Replayed))), "{refused:?}");
    let refused = tenant.engine.retry(tenant.scope(), events[1], rule).await;
    assert!(matches!(refused, Err(EngineError::Refused(Refusal::InFlight))), "{refused:?}");
    let [first, second] = [tenant.over(ids[0]).await, tenant.over(ids[1]).await];
    assert_eq!(first.replay.counts.queued + second.replay.counts.queued, 2);
    let skipped = first.replay.counts.skipped.unfinished + second.replay.counts.skipped.unfinished;
    assert_eq!(skipped, 3, "the one that was retried, and the two that the other replay took");
    assert_eq!(world.fake.calls_to(connection).len(), 6);
    tenant.all_completed(&events, secs(10)).await;
    tenant.assert_sound().await;

    let many: Vec<_> = (0..12).map(|_| tenant.replay_of(failed(), 0.01)).collect();
    let mut answers = Vec::new();
    world.store.hold("replay_page");
    for new in many {
        answers.push(tenant.engine.create_replay(tenant.scope(), new).await.is_ok());
    }
    assert_eq!(answers.iter().filter(|made| **made).count(), 10, "so many at a time");
}
