//! Somebody who is sent every event of a workspace, to tell what was let in and what was not.

use super::{Received, Receiver, Reply, Weft, http_client, send};
use serde_json::json;

/// A receiver of all events of a server's workspace, one after the other.
pub struct Witness {
    receiver: Receiver,
}

impl Witness {
    pub async fn of(weft: &Weft) -> Self {
        Self::with(weft, json!({})).await
    }

    /// With settings of its webhook, such as its `payload_mode`.
    pub async fn with(weft: &Weft, settings: serde_json::Value) -> Self {
        let receiver = Receiver::start(Reply::ok).await;
        let one_by_one = json!({ "max_in_flight": 1 });
        let connection = weft.webhook_with(&receiver.url("/"), settings, one_by_one).await;
        weft.rule("*", &connection).await;
        Self { receiver }
    }

    /// What came, once there are so many.
    pub async fn received(&self, at_least: usize) -> Vec<Received> {
        self.receiver.received(at_least).await
    }

    /// The delivery that `is` says it is, once it has come.
    pub async fn delivery(&self, is: impl Fn(&Received) -> bool) -> Received {
        self.receiver.find(is).await
    }

    /// I3: fails the test unless exactly these events, by name, are on record and were delivered,
    /// once each. The event it sends behind them all tells that nothing earlier is under way.
    pub async fn assert_saw(&self, weft: &Weft, names: &[&str]) {
        let marker = json!({ "event": "the.end", "payload": { "is": "it" } });
        let request = http_client().post(format!("{}/api/v1/events", weft.base)).json(&marker);
        let answer = send(request.header("x-meshes-publishable-key", &weft.publishable_key)).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let mut expected: Vec<&str> = names.iter().copied().chain(["the.end"]).collect();
        expected.sort_unstable();
        let mut on_record = weft.events().await;
        on_record.sort_unstable();
        assert_eq!(on_record, expected, "on record");
        let mut delivered: Vec<_> = self.received(expected.len()).await.iter().map(name).collect();
        delivered.sort_unstable();
        assert_eq!(delivered, expected, "delivered");
    }
}

fn name(received: &Received) -> String {
    received.json()["event"].as_str().expect("wrapped").to_owned()
}
