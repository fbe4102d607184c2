//! Work that is on record and that nobody was told of.

use crate::support::{Answer::*, *};
use actors::engine::Unavailable;
use std::{future::Future, pin::Pin};

/// Something a caller asks for, after which an event is delivered or called off.
type Asked = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A tenant with a connection at which one delivery failed, and which is paused if need be.
struct Scene {
    world: World,
    tenant: Tenant,
    connection: ConnectionId,
    rule: RuleId,
    failed: EventId,
}

impl Scene {
    async fn new() -> Self {
        let world = World::new();
        let tenant = Tenant::new(&world.start().await).await;
        let (connection, rule) = tenant.route_with("contact.created", Policy::default()).await;
        world.fake.answer(connection, Says(422));
        let failed = tenant.emit("contact.created").await;
        tenant.finished(failed, secs(5)).await;
        world.fake.answer(connection, Says(200));
        // Everybody is put away: nobody looks by chance.
        tokio::time::sleep(secs(300)).await;
        Self { world, tenant, connection, rule, failed }
    }

    async fn pause(&self, paused: bool) {
        self.tenant
            .patch(self.connection, ConnectionPatch { paused: Some(paused), ..Default::default() })
            .await;
    }

    fn ingest(&self) -> Asked {
        let tenant = self.tenant.clone();
        Box::pin(async move {
            let _ = tenant.engine.ingest(vec![tenant.request("contact.created")]).await;
        })
    }

    fn retry(&self) -> Asked {
        let (tenant, failed, rule) = (self.tenant.clone(), self.failed, self.rule);
        Box::pin(async move {
            let _ = tenant.engine.retry(tenant.scope(), failed, rule).await;
        })
    }

    fn resume(&self) -> Asked {
        let (tenant, connection) = (self.tenant.clone(), self.connection);
        let patch = ConnectionPatch { paused: Some(false), ..Default::default() };
        Box::pin(async move {
            let _ = tenant.engine.update_connection(tenant.scope(), connection, patch).await;
        })
    }

    fn delete(&self) -> Asked {
        let (tenant, connection) = (self.tenant.clone(), self.connection);
        Box::pin(async move {
            let _ = tenant.engine.delete_connection(tenant.scope(), connection, true).await;
        })
    }

    /// What is to become of everything: nothing waits any more.
    async fn nothing_waits(&self, why: &str) {
        until(secs(10), why, async || {
            let verification = self.tenant.engine.verify().await.expect("readable");
            (verification.unrouted + verification.scheduled == 0).then_some(())
        })
        .await;
    }
}

/// The ways to ask, and the gate behind which each is on record.
const WAYS: [(&str, &str); 4] = [
    ("an event", "append_events, done"),
    ("a retry", "retry, done"),
    ("a resumed connection", "configure, done"),
    ("a deleted connection", "configure, done"),
];

async fn asked(scene: &Scene, why: &str) -> Asked {
    match why {
        "an event" => scene.ingest(),
        "a retry" => scene.retry(),
        _ => {
            scene.pause(true).await;
            scene.tenant.emit("contact.created").await;
            tokio::time::sleep(secs(300)).await;
            if why == "a resumed connection" { scene.resume() } else { scene.delete() }
        }
    }
}

/// I2: a client that hangs up while its request is written leaves nothing behind that nobody works on.
#[tokio::test(start_paused = true)]
async fn what_is_on_record_is_worked_on_though_the_client_hung_up() {
    for (why, gate) in WAYS {
        let scene = Scene::new().await;
        let asked = asked(&scene, why).await;
        scene.world.store.hold(gate);
        let before = scene.world.store.count(gate);
        let client = tokio::spawn(asked);
        until(secs(5), why, async || (scene.world.store.count(gate) > before).then_some(())).await;
        client.abort();
        settle().await;
        scene.world.store.let_go(gate);
        scene.nothing_waits(why).await;
    }
}

/// I2, I3: nor does an answer that says it failed, while it is on record all the same.
#[tokio::test(start_paused = true)]
async fn what_is_on_record_is_worked_on_though_it_was_answered_as_failed() {
    for (why, gate) in WAYS {
        let scene = Scene::new().await;
        let asked = asked(&scene, why).await;
        scene
            .world
            .store
            .fail(move |at, _| (at == gate).then_some(StoreError::Unavailable(Unavailable::DiskFails)));
        asked.await;
        scene.world.store.fail(|_, _| None);
        scene.nothing_waits(why).await;
    }
}

/// I2: a workspace is not put away while its rule actor is held up, however long.
#[tokio::test(start_paused = true)]
async fn a_workspace_stays_while_its_rule_actor_is_at_work() {
    for gate in ["unrouted", "rules_as_of", "record_routing", "record_routing, done"] {
        let world = World::new();
        let tenant = Tenant::new(&world.start().await).await;
        tenant.route("contact.created").await;
        world.store.hold(gate);
        let events = tenant.emit_many("contact.created", 100).await;
        tokio::time::sleep(secs(600)).await;
        world.store.let_go(gate);
        tenant.all_completed(&events, secs(5)).await;
    }
}

/// I15: and goes once that is done: with nothing to do nobody stays.
#[tokio::test(start_paused = true)]
async fn a_workspace_with_nothing_to_do_is_put_away() {
    let world = World::new();
    let engine = world.start().await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    tokio::time::sleep(secs(60)).await;
    let before = tasks();
    for _ in 0..3 {
        let tenant = Tenant::new(&engine).await;
        tenant.route("contact.created").await;
        for name in ["contact.created", "nobody.asks"] {
            tenant.emit_many(name, 100).await;
        }
        settle().await;
        assert!(tasks() > before);
    }
    tokio::time::sleep(secs(300)).await;
    assert!(tasks() <= before, "{} tasks instead of {before}", tasks());
}
