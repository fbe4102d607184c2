//! What organizations use is counted, and plans hold them to what they may.

use crate::support::*;
use actors::{
    domain::{
        notice,
        plan::{Exceeded, Limit, OnEventsExceeded, Plan, Plans},
        secret::Secret,
        session::Role,
        usage::{Day, Usage},
    },
    engine::{Idempotency, Joining, NewInvitation, OperationalWebhook, Trial},
    store::{StoreError, Unavailable},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::future::join_all;

/// A world where everybody has this plan.
fn world_of(plan: Plan) -> World {
    let mut world = World::new();
    // Weeks pass here, and nothing is to be forgotten in them.
    world.options.retention_every = days(1);
    let plans = [("small".to_owned(), plan)];
    world.options.plans =
        Plans { plans: plans.into(), default: Some("small".to_owned()), ..Plans::default() };
    world
}

fn ten_a_month(on_events_exceeded: OnEventsExceeded) -> World {
    world_of(Plan { events_per_month: Some(10), on_events_exceeded, ..Plan::default() })
}

/// How many of so many events sent at once are accepted. They are the first; the others say why.
async fn accepted_of(tenant: &Tenant, count: usize) -> usize {
    let answers = tenant.engine.ingest(vec![tenant.request("a.b"); count]).await;
    let accepted = answers.iter().take_while(|answer| answer.is_ok()).count();
    for answer in &answers[accepted..] {
        let Err(EngineError::Exceeded(exceeded)) = answer else { panic!("{answer:?}") };
        assert_eq!((exceeded.limit, exceeded.of), (Limit::EventsPerMonth, 10));
        let said = exceeded.to_string();
        assert!(said.contains("10 events a month") && said.contains("from 2026-04-01T00:00:00"), "{said}");
    }
    accepted
}

async fn used(tenant: &Tenant) -> Vec<(String, u64)> {
    let days = Day(0)..=tenant.engine.today();
    let page = tenant.engine.usage(Scope::Organization(tenant.organization), days, None, 100).await;
    let rows = page.expect("it is readable").records.into_iter();
    rows.map(|row| (row.day.to_string(), row.usage.events)).collect()
}

/// Events beyond those of a month are refused, also by the next life; what was accepted goes its way, tests
/// do not count, and with the month comes new room.
#[test]
fn events_beyond_the_plan_are_refused_until_the_month_turns() {
    let world = ten_a_month(OnEventsExceeded::Refuse);
    let tenant = life(async {
        let tenant = Tenant::new(&world.start().await).await;
        let other = Tenant::new(&tenant.engine).await;
        assert_eq!(accepted_of(&tenant, 8).await, 8);
        let trial = Trial { request: tenant.request("a.b"), rule: None };
        tenant.engine.test(trial.clone()).await.expect("a test");
        assert_eq!(accepted_of(&tenant, 5).await, 2, "as many as there is room for");
        assert_eq!(accepted_of(&tenant, 1).await, 0);
        tenant.engine.test(trial).await.expect("a test");
        assert_eq!(accepted_of(&other, 10).await, 10, "others have their own");
        tenant
    });
    life(async {
        let tenant = tenant.on(&world.start().await);
        assert_eq!(accepted_of(&tenant, 1).await, 0);
        let view = tenant.engine.plan_view(tenant.organization).await.expect("a plan");
        assert_eq!((view.name.as_deref(), view.events, view.held.workspaces), (Some("small"), 10, 1));
        assert_eq!(view.month.to_string(), "2026-03-01");
        tokio::time::sleep(span(START, view.turns_at)).await;
        assert_eq!(accepted_of(&tenant, 10).await, 10);
        assert_eq!(tenant.engine.ingest(vec![tenant.request("a.b")]).await.len(), 1);
        let expected = [("2026-03-15".to_owned(), 10), ("2026-04-01".to_owned(), 10)];
        assert_eq!(used(&tenant).await, expected);
    });
}

/// Where the plan says so, they are accepted all the same, and it can be seen.
#[tokio::test(start_paused = true)]
async fn events_beyond_the_plan_may_be_accepted() {
    let world = ten_a_month(OnEventsExceeded::Accept);
    let tenant = Tenant::new(&world.start().await).await;
    assert_eq!(accepted_of(&tenant, 25).await, 25);
    let view = tenant.engine.plan_view(tenant.organization).await.expect("a plan");
    assert_eq!((view.events, view.plan.events_per_month), (25, Some(10)));
}

/// However many come at once, there are no more than the plan allows.
#[tokio::test(start_paused = true)]
async fn many_at_once_take_no_more_than_there_is() {
    let world = ten_a_month(OnEventsExceeded::Refuse);
    let tenant = Tenant::new(&world.start().await).await;
    world.store.hold("append_events");
    let all: Vec<_> = (0..30)
        .map(|_| {
            let tenant = tenant.clone();
            tokio::spawn(async move { accepted_of(&tenant, 1).await })
        })
        .collect();
    settle().await;
    world.store.let_go("append_events");
    let accepted: usize = join_all(all).await.into_iter().map(|one| one.expect("no panic")).sum();
    assert_eq!(accepted, 10);
    assert_eq!(used(&tenant).await, [("2026-03-15".to_owned(), 10)]);
}

/// What does not go in takes no room: what the disk does not take, what was sent before, and what nobody
/// waited for long enough to know.
#[tokio::test(start_paused = true)]
async fn what_does_not_go_in_takes_no_room() {
    let world = ten_a_month(OnEventsExceeded::Refuse);
    let tenant = Tenant::new(&world.start().await).await;
    world.store.fail(|method, _| {
        (method == "append_events").then_some(StoreError::Unavailable(Unavailable::DiskFull))
    });
    for _ in 0..3 {
        let answers = tenant.engine.ingest(vec![tenant.request("a.b"); 9]).await;
        assert!(matches!(answers[0], Err(EngineError::Unavailable(_))), "{answers:?}");
    }
    world.store.mend();
    let once = || {
        let idempotency = Some(Idempotency { key: "once".to_owned(), fingerprint: [1; 32] });
        vec![actors::engine::IngestRequest { idempotency, ..tenant.request("a.b") }]
    };
    for _ in 0..5 {
        tenant.engine.ingest(once()).await[0].as_ref().expect("it is accepted, or was");
    }
    assert_eq!(accepted_of(&tenant, 20).await, 9);
}

/// The number of workspaces, connections and rules is limited, at once too, and what is deleted makes room.
#[tokio::test(start_paused = true)]
async fn there_are_no_more_of_anything_than_the_plan_allows() {
    let plan = Plan { workspaces: Some(2), connections: Some(3), rules: Some(4), ..Plan::default() };
    let world = world_of(plan);
    let tenant = Tenant::new(&world.start().await).await;
    let engine = &tenant.engine;
    let refused = |limit, of| {
        move |err: EngineError| match err {
            EngineError::Exceeded(found) => assert_eq!(found, Exceeded { limit, of, until: None }),
            err => panic!("{err:?}"),
        }
    };
    let workspace = async |n: usize| {
        let made = engine.create_workspace(tenant.organization, format!("Workspace {n}"), None).await;
        made.map(drop).map_err(refused(Limit::Workspaces, 2)).is_ok()
    };
    let connection = async |n: usize| {
        let new = NewConnection {
            workspace_id: tenant.workspace,
            kind: "webhook".to_owned(),
            name: format!("Connection {n}"),
            metadata: object(serde_json::json!({"url": "https://hooks.example.com/in", "skip_test": true})),
            policy: None,
            hidden: false,
            created_by: "test".to_owned(),
        };
        let made = engine.create_connection(tenant.scope(), new).await;
        made.map(|made| made.connection.id).map_err(refused(Limit::Connections, 3)).ok()
    };
    let made = join_all((0..9).map(workspace)).await;
    assert_eq!(made.iter().filter(|made| **made).count(), 1, "one was there");
    let made: Vec<_> = join_all((0..9).map(&connection)).await.into_iter().flatten().collect();
    assert_eq!(made.len(), 3);
    let rule = async |n: usize| {
        let new = NewRule {
            workspace_id: tenant.workspace,
            connection_id: made[n % 3],
            event: format!("a.{n}"),
            resource: None,
            resource_id: None,
            metadata: object(serde_json::json!({"action": "send_webhook"})),
            conditions: None,
            active: true,
            hidden: false,
            created_by: "test".to_owned(),
        };
        engine.create_rule(tenant.scope(), new).await.map_err(refused(Limit::Rules, 4)).is_ok()
    };
    let rules = join_all((0..9).map(rule)).await;
    assert_eq!(rules.iter().filter(|made| **made).count(), 4);
    let view = engine.plan_view(tenant.organization).await.expect("a plan");
    assert_eq!((view.held.workspaces, view.held.connections, view.held.rules), (2, 3, 4));

    engine.delete_connection(tenant.scope(), made[0], true).await.expect("it is deleted");
    assert!(connection(20).await.is_some(), "there is room again");
    assert!(connection(21).await.is_none());
}

/// Deliveries and attempts count on the day they happen, and a plan's retention is shorter than the server's.
#[tokio::test(start_paused = true)]
async fn usage_outlives_the_events_that_a_plan_keeps_for_a_day() {
    let mut world = world_of(Plan { retention_days: Some(1), ..Plan::default() });
    world.options.retention_every = secs(60);
    let tenant = Tenant::new(&world.start().await).await;
    tenant.route("a.b").await;
    let event = tenant.emit("a.b").await;
    tenant.finished(event).await;
    tokio::time::sleep(days(1) + secs(120)).await;
    let found = tenant.engine.event(tenant.scope(), event).await.expect("readable");
    assert!(found.is_none(), "the plan keeps a day, the server thirty");
    let days = Day(0)..=tenant.engine.today();
    let page = tenant.engine.usage(tenant.scope(), days, None, 9).await.expect("readable");
    let usage = Usage { events: 1, deliveries: 1, attempts: 1, delivered: 1 };
    assert_eq!(page.records.iter().map(|row| row.usage).collect::<Vec<_>>(), [usage]);
}

/// The operator is told once a month that a limit is near, and once that it is reached.
#[tokio::test(start_paused = true)]
async fn the_operator_is_told_of_limits_once_a_month() {
    let mut world = ten_a_month(OnEventsExceeded::Accept);
    let secret = Secret::new(format!("whsec_{}", STANDARD.encode([1; 32])));
    world.options.operational_webhook =
        Some(OperationalWebhook { url: "https://ops.example.com/weft".to_owned(), secret });
    let tenant = Tenant::new(&world.start().await).await;
    let told = async || {
        tokio::time::sleep(hours(1)).await;
        let calls = world.fake.calls_to(notice::CONNECTION);
        let told = |call: &Call| {
            let payload: serde_json::Value = serde_json::from_slice(&call.payload).expect("JSON");
            (call.event_name.clone(), payload["month"].to_string(), payload["used"].as_u64())
        };
        calls.iter().map(told).collect::<Vec<_>>()
    };
    let near = |month: &str, used| ("weft.limit.near".to_owned(), format!("\"{month}\""), Some(used));
    let reached = |month: &str, used| ("weft.limit.reached".to_owned(), format!("\"{month}\""), Some(used));
    tenant.emit_many("a.b", 7).await;
    assert_eq!(told().await, []);
    tenant.emit_many("a.b", 2).await;
    assert_eq!(told().await, [near("2026-03", 9)]);
    for _ in 0..5 {
        tenant.emit("a.b").await;
    }
    let mut expected = vec![near("2026-03", 9), reached("2026-03", 10)];
    assert_eq!(told().await, expected);
    tokio::time::sleep(days(17)).await;
    tenant.emit_many("a.b", 12).await;
    expected.push(reached("2026-04", 12));
    assert_eq!(told().await, expected, "both at once are one");
    let own = tenant.engine.plan_view(notice::ORGANIZATION).await.expect("readable");
    assert_eq!((own.name, own.plan), (None, Plan::default()), "nothing limits the operator's own");
}

/// A plan's members are the users of the organization: those who were invited join while there is room.
#[tokio::test(start_paused = true)]
async fn nobody_joins_beyond_the_plans_members() {
    let world = world_of(Plan { members: Some(1), ..Plan::default() });
    let tenant = Tenant::new(&world.start().await).await;
    let engine = &tenant.engine;
    let invite = async |email: &str| {
        let new =
            NewInvitation { email: email.to_owned(), role: Role::Member, created_by: "test".to_owned() };
        engine.invite(tenant.organization, new).await
    };
    let join = async |token: Secret| {
        let password = Secret::new("correct horse battery".to_owned());
        engine.accept_invitation(Joining { token, name: "Ada".to_owned(), password }).await
    };
    let [one, other] = ["ada@example.com", "bob@example.com"];
    let (one, other) =
        (invite(one).await.expect("there is room"), invite(other).await.expect("there is room"));
    join(one.1).await.expect("there is room");
    let is_full = |err: EngineError| {
        let expected = Exceeded { limit: Limit::Members, of: 1, until: None };
        assert!(matches!(err, EngineError::Exceeded(found) if found == expected), "{err:?}");
    };
    is_full(join(other.1).await.expect_err("there is no room"));
    is_full(invite("eve@example.com").await.expect_err("there is no room"));
    let view = engine.plan_view(tenant.organization).await.expect("readable");
    assert_eq!(view.held.members, 1);
}
