//! How many deliveries a second does the engine make of events for one, three and ten destinations?
//! Beside it the bound: the same requests sent to the same sinks with nothing behind them.
//!
//! `cargo bench --bench fan_out`; `WEFT_BENCH_EVENTS` sets how many events (30,000).

mod support;

use actors::{
    domain::ids::{OrganizationId, WorkspaceId},
    engine::{Engine, IngestRequest, NewConnection, NewRule, Options, Scope},
};
use serde_json::{Map, Value, json};
use std::time::Instant;
use support::{
    PAYLOAD_BYTES, rate, setting, show,
    sink::Sink,
    wire::{Wire, post},
};
use tokio::{net::TcpStream, task::JoinSet};

const EVENT: &str = "contact.created";
const CALLERS: usize = 16;
/// Events in one call.
const BULK: usize = 50;
/// Connections that the bound sends on.
const SENDERS: usize = 64;

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for destinations in [1, 3, 10] {
        let events = setting("WEFT_BENCH_EVENTS", 30_000) / destinations;
        let (ours, bound) = runtime.block_on(async {
            let sinks = Sinks::start(destinations).await;
            let bound = sinks.alone(events).await;
            (Sinks::start(destinations).await.engine(events).await, bound)
        });
        show(&format!("{destinations} destinations"), ours, "deliveries/s", bound);
    }
}

struct Sinks(Vec<Sink>);

impl Sinks {
    async fn start(count: usize) -> Self {
        let mut sinks = Vec::with_capacity(count);
        for _ in 0..count {
            sinks.push(Sink::start(Instant::now()).await);
        }
        Self(sinks)
    }

    async fn wait_for(&self, events: usize) -> usize {
        let mut came = 0;
        for sink in &self.0 {
            came += sink.wait_for(events).await;
        }
        assert_eq!(came, events * self.0.len(), "every delivery comes");
        came
    }

    async fn alone(&self, events: usize) -> f64 {
        let started = Instant::now();
        let mut senders = JoinSet::new();
        let each = events.div_ceil(SENDERS);
        for number in 0..SENDERS {
            let mine = each.min(events.saturating_sub(number * each));
            let addresses: Vec<_> = self.0.iter().map(|sink| sink.address).collect();
            senders.spawn(async move {
                let request = post("/", "", payload().as_bytes());
                for address in addresses {
                    let mut wire = Wire::new(TcpStream::connect(address).await.expect("the sink listens"));
                    for _ in 0..mine {
                        wire.send(&request).await.expect("the sink reads");
                        wire.receive().await.expect("the sink answers");
                    }
                }
            });
        }
        rate(self.wait_for(events).await, started)
    }

    async fn engine(&self, events: usize) -> f64 {
        let data = tempfile::tempdir().expect("a directory");
        let options = Options {
            data: Some(data.path().join("data")),
            outbound_allow: vec!["127.0.0.0/8".parse().expect("a network")],
            allow_http: true,
            ..Options::new([7; 32])
        };
        let engine = Engine::start(options).await.expect("it starts");
        let (organization, workspace) = self.route(&engine).await;
        let started = Instant::now();
        let mut callers = JoinSet::new();
        for number in 0..CALLERS {
            let engine = engine.clone();
            let mine = events / CALLERS + usize::from(number < events % CALLERS);
            callers.spawn(async move {
                let mut left = mine;
                while left > 0 {
                    let bulk = left.min(BULK);
                    let requests = (0..bulk).map(|_| request(organization, workspace)).collect();
                    for answer in engine.ingest(requests).await {
                        answer.expect("it is accepted");
                    }
                    left -= bulk;
                }
            });
        }
        let rate = rate(self.wait_for(events).await, started);
        engine.drain(std::time::Duration::from_secs(5)).await.expect("it ends well");
        rate
    }

    /// A workspace with a connection and a rule for each sink.
    async fn route(&self, engine: &Engine) -> (OrganizationId, WorkspaceId) {
        let organization = engine.create_organization("bench").await.expect("it is made").id;
        let made = engine.create_workspace(organization, "bench".to_owned(), None).await;
        let workspace_id = made.expect("it is made").0.id;
        let scope = Scope::Workspace(workspace_id);
        for (number, sink) in self.0.iter().enumerate() {
            let connection = NewConnection {
                workspace_id,
                kind: "webhook".to_owned(),
                name: format!("sink {number}"),
                metadata: object(json!({ "url": format!("http://{}/", sink.address), "skip_test": true })),
                policy: None,
                hidden: false,
                created_by: "bench".to_owned(),
            };
            let connection = engine.create_connection(scope, connection).await.expect("it is made");
            let rule = NewRule {
                workspace_id,
                connection_id: connection.connection.id,
                event: EVENT.to_owned(),
                resource: None,
                resource_id: None,
                metadata: object(json!({ "action": "send_webhook" })),
                conditions: None,
                active: true,
                hidden: false,
                created_by: "bench".to_owned(),
            };
            engine.create_rule(scope, rule).await.expect("it is made");
        }
        (organization, workspace_id)
    }
}

fn request(organization_id: OrganizationId, workspace_id: WorkspaceId) -> IngestRequest {
    IngestRequest {
        organization_id,
        workspace_id,
        name: EVENT.to_owned(),
        resource: None,
        resource_id: None,
        payload: payload().into(),
        created_by: "bench".to_owned(),
        idempotency: None,
    }
}

fn payload() -> String {
    let filler = "x".repeat(PAYLOAD_BYTES.saturating_sub(40));
    format!(r#"{{"email":"ada@example.com","note":"{filler}"}}"#)
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}
