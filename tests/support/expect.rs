//! What tests say about answers, and the steps most stories take.

use super::{Answer, Weft, until};
use reqwest::Method;
use serde_json::{Value, json};

impl Answer {
    /// Its body, once it is JSON with this status.
    #[track_caller]
    pub fn answered(self, status: u16, why: &str) -> Value {
        assert_eq!(self.status, status, "{why}: {}", self.text);
        assert_eq!(self.header("content-type"), Some("application/json"), "{why}");
        assert!(self.header("x-request-id").is_some(), "{why}");
        self.body
    }

    /// It is the contract's error of this status, and its message says this.
    #[track_caller]
    pub fn refused(&self, status: u16, says: &str, why: &str) {
        assert_eq!(self.status, status, "{why}: {}", self.text);
        assert_eq!(self.header("content-type"), Some("application/json"), "{why}");
        let message = self.message();
        assert!(message.contains(says), "{why}: {message:?} does not say {says:?}");
        let error = &self.body["error"];
        assert_eq!(error["message"], message, "{why}");
        assert!(error["name"].as_str().is_some_and(|name| !name.is_empty()), "{why}: {error}");
        assert_eq!(self.body["request_id"].as_str(), self.header("x-request-id"), "{why}");
    }

    /// The one sentence for a person.
    #[track_caller]
    pub fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_else(|| panic!("no message: {}", self.text))
    }

    /// The parameters that an error complains about.
    pub fn params(&self) -> Vec<&str> {
        let data = self.body["error"]["data"].as_array().map_or(&[][..], Vec::as_slice);
        data.iter().filter_map(|field| field["param"].as_str()).collect()
    }
}

/// The value is an object with exactly these members.
#[track_caller]
pub fn assert_members(value: &Value, members: &[&str], why: &str) {
    let object = value.as_object().unwrap_or_else(|| panic!("{why}: not an object: {value}"));
    let (mut found, mut expected): (Vec<&str>, Vec<&str>) =
        (object.keys().map(String::as_str).collect(), members.to_vec());
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected, "{why}");
}

/// The ids of a list's records, in order.
pub fn ids(list: &Value) -> Vec<String> {
    let records = list["records"].as_array().unwrap_or_else(|| panic!("not a list: {list}"));
    records.iter().map(|record| text(&record["id"])).collect()
}

/// A text, owned.
#[track_caller]
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}")).to_owned()
}

impl Weft {
    /// Sends an event with the publishable key; returns its id.
    pub async fn send_event(&self, name: &str, payload: Value) -> String {
        let answer = self.emit(json!({ "event": name, "payload": payload })).await;
        text(&answer.answered(201, name)["event"]["id"])
    }

    /// The replay, once it is over and so is all it made.
    pub async fn replay_over(&self, id: &str) -> Value {
        until(&format!("replay {id} is over"), async || {
            let replay =
                self.get(&format!("/replays/{id}")).await.answered(200, "a replay")["replay"].clone();
            let count = |name: &str| replay[name].as_u64().expect("a count");
            let is_over = replay["state"] == "finished" || replay["state"] == "canceled";
            let ended = count("completed") + count("failed") + count("canceled");
            (is_over && ended == count("queued")).then_some(replay)
        })
        .await
    }

    /// The event, once it has this status.
    pub async fn event_as(&self, id: &str, status: &str) -> Value {
        let path = format!("/events/{id}");
        until(&format!("event {id} is {status}"), async || {
            let event = self.get(&path).await.answered(200, "an event");
            (event["status"] == status).then_some(event)
        })
        .await
    }

    /// The event, once each of its deliveries is completed, failed or canceled.
    pub async fn finished_event(&self, id: &str) -> Value {
        let path = format!("/events/{id}");
        until(&format!("event {id} is finished"), async || {
            let event = self.get(&path).await.answered(200, "an event");
            let status = event["status"].as_str().expect("a status");
            ["completed", "failed", "canceled"].contains(&status).then_some(event)
        })
        .await
    }

    /// The attempts at an event's one delivery, once there are at least so many.
    pub async fn attempts(&self, event: &str, rule: &str, at_least: usize) -> Vec<Value> {
        let path = format!("/events/{event}/rules/{rule}/attempts");
        until(&format!("event {event} has {at_least} attempts"), async || {
            let answer = self.get(&path).await;
            // Until the event is routed there is no such delivery.
            if answer.status == 404 {
                return None;
            }
            let records = answer.answered(200, "attempts")["records"].as_array().expect("a list").clone();
            (records.len() >= at_least).then_some(records)
        })
        .await
    }

    /// What was kept of the answer to one attempt.
    pub async fn response_details(&self, attempt: &Value) -> Answer {
        let part = |name: &str| text(&attempt[name]);
        let (event, rule, id) = (part("event_id"), part("rule"), part("id"));
        self.get(&format!("/events/{event}/rules/{rule}/attempts/{id}/response-details")).await
    }

    /// Asks with a body as it is, as JSON.
    pub async fn ask_raw(&self, method: Method, path: &str, body: impl Into<String>) -> Answer {
        let request = self.request(method, &format!("/api/v1{path}")).bearer_auth(self.token());
        super::server::send(request.header("content-type", "application/json").body(body.into())).await
    }

    /// Another workspace of the same organization: its id and publishable key.
    pub async fn sibling(&self, name: &str) -> (String, String) {
        let made = self.post("/workspaces", json!({ "name": name })).await.answered(201, name);
        let id = text(&made["workspace"]["id"]);
        let shown = self.get(&format!("/workspaces/{id}")).await.answered(200, name);
        (id, text(&shown["publishable_key"]["public_key"]))
    }
}
