//! What happens to every service.

use crate::{
    fakes::{Fake, Fault},
    support::{Weft, text, until},
};
use actors::{clock::Clock, domain::timestamp::Timestamp};
use axum::Router;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

/// The example event of the vendors' contracts.
pub fn payload() -> Value {
    json!({ "id": "usr_123", "email": "ada@example.com", "first_name": "Ada", "last_name": "Lovelace", "source": "signup", "tier": "pro" })
}

/// A service, and what a person would see in it.
pub struct Story<T> {
    pub kind: &'static str,
    pub routes: fn(Arc<Mutex<T>>) -> Router,
    /// The vendor's hosts that are this service.
    pub hosts: &'static [&'static str],
    /// What a person pastes. Given the service's address, for those whose accounts have their own.
    pub settings: fn(&str) -> Value,
    /// Must be shown nowhere.
    pub secret: &'static str,
    /// The account's fields, by the payload's that they are mapped from. None: they go by their names.
    pub mapping: &'static [(&'static str, &'static str)],
    /// What there is to pick from: the action, the input's key, and the id of something there.
    pub picks: &'static [(&'static str, &'static str, &'static str)],
    /// In this order: each begins where the one before has ended. Together they are all it does.
    pub actions: Vec<Act<T>>,
    /// An event that the first action cannot be done for, and a word of why.
    pub lacking: (Value, &'static str),
    /// Too many calls, answered now, and the wait in seconds that it asks for.
    pub slower: fn() -> (Fault, i64),
    /// Credentials that are not taken.
    pub locked: Fault,
}

pub struct Act<T> {
    pub metadata: Value,
    pub is_done: fn(&T) -> bool,
}

/// Seconds since 1970, so many from now.
pub fn in_seconds(seconds: i64) -> String {
    (seconds_since_1970() + seconds).to_string()
}

fn seconds_since_1970() -> i64 {
    Clock::system().now().0 / 1_000
}

/// The server, and the service as the server knows it.
struct World<'s, T> {
    story: &'s Story<T>,
    fake: Fake<T>,
    weft: Weft,
    connection: String,
}

pub async fn tell<T: Default + Send + 'static>(story: Story<T>) {
    let fake = Fake::start(story.routes).await;
    let weft = Weft::with(|config| {
        config.hosts.extend(story.hosts.iter().map(|host| ((*host).to_owned(), fake.url())));
        config.allow_http = true;
    })
    .await;
    let connection = connect(&story, &fake, &weft).await;
    let world = World { story: &story, fake, weft, connection };
    world.look().await;
    world.map().await;
    let rules = world.deliver().await;
    let first = &rules[0];
    world.preview().await;
    world.lack(first).await;
    world.lock(first).await;
    world.slow_down(first).await;
    world.weft.stop().await;
}

/// Refused while the service refuses, and told why; then connected.
async fn connect<T: Default + Send + 'static>(story: &Story<T>, fake: &Fake<T>, weft: &Weft) -> String {
    let Story { kind, settings, secret, locked, actions, .. } = story;
    let listed = weft.get("/integrations").await.answered(200, kind);
    let records = listed["records"].as_array().expect("a list");
    let declared = records.iter().find(|record| record["type"] == *kind).expect("it is declared");
    let all: BTreeSet<_> =
        declared["actions"].as_object().into_iter().flatten().map(|(key, _)| &key[..]).collect();
    let told: BTreeSet<_> = actions.iter().filter_map(|act| act.metadata["action"].as_str()).collect();
    assert_eq!(told, all, "{kind}: every action has its part");

    let body = json!({ "workspace": weft.workspace, "type": kind, "name": "Ours", "metadata": settings(&fake.url()) });
    let mut nothing = body.clone();
    nothing["metadata"] = json!({});
    let refused = weft.post("/connections", nothing).await;
    assert!(refused.status == 422 || refused.status == 400, "{kind}: {}", refused.text);
    assert!(!refused.params().is_empty(), "{kind}: the fields that are missing: {}", refused.text);

    fake.fail([locked.clone()]);
    let refused = weft.post("/connections", body.clone()).await;
    refused.refused(422, "", kind);
    assert!(!refused.text.contains(secret), "{kind}: {}", refused.text);
    fake.forget_faults();
    let none = weft.get("/connections").await.answered(200, kind);
    assert_eq!(none["count"], 0, "{kind}");

    let made = weft.post("/connections", body).await;
    assert!(!made.text.contains(secret), "{kind}: {}", made.text);
    text(&made.answered(201, kind)["connection"]["id"])
}

impl<T: Default + Send + 'static> World<'_, T> {
    fn path(&self, below: &str) -> String {
        format!("/connections/{}{below}", self.connection)
    }

    /// What the account has is shown to pick from.
    async fn look(&self) {
        let kind = self.story.kind;
        let shown = self.weft.get(&self.path("/actions")).await.answered(200, kind);
        for act in &self.story.actions {
            let key = text(&act.metadata["action"]);
            let fields = shown[&key]["fields"].as_array().unwrap_or_else(|| panic!("{kind}.{key}: {shown}"));
            let inputs =
                act.metadata.as_object().expect("an object").keys().filter(|input| *input != "action");
            for input in inputs {
                assert!(fields.iter().any(|field| field == input), "{kind}.{key} takes {input}: {fields:?}");
            }
        }
        for (action, input, id) in self.story.picks {
            let items = shown[*action]["data"][*input].as_array();
            let items = items.unwrap_or_else(|| panic!("{kind}.{action}.{input}: {shown}"));
            let item = items.iter().find(|item| item["id"] == *id);
            let item = item.unwrap_or_else(|| panic!("{kind}.{action}.{input} has {id}: {items:?}"));
            assert!(!text(&item["name"]).is_empty(), "{kind}: {item}");
        }
    }

    /// The catalog has the fields that are mapped, and a mapping of them is kept.
    async fn map(&self) {
        let Story { kind, mapping, .. } = self.story;
        let catalog = self.weft.get(&self.path("/fields")).await.answered(200, kind);
        let fields = catalog["fields"].as_array().expect("a list");
        if mapping.is_empty() {
            return;
        }
        let of = |(dest, path): &(&str, &str)| {
            assert!(fields.iter().any(|field| field["key"] == *dest), "{kind} has {dest}: {fields:?}");
            json!({ "dest": dest, "source": { "type": "path", "value": path } })
        };
        let fields: Vec<_> = mapping.iter().map(of).collect();
        let path = self.path("/mappings/default");
        let body = json!({ "schema": { "schema_version": 1, "fields": fields } });
        let saved = self.weft.put(&path, body).await.answered(200, kind);
        assert_eq!(
            (&saved["status"], &saved["mapping"]["integration_type"]),
            (&json!("stored"), &json!(kind))
        );
    }

    /// A rule per action and an event for each: it is completed, and the service has it. Returns the rules.
    async fn deliver(&self) -> Vec<String> {
        let mut rules = Vec::new();
        for (number, act) in self.story.actions.iter().enumerate() {
            let name = format!("step.{number}");
            rules.push(self.rule(&name, &act.metadata).await);
            let why = format!("{}: {}", self.story.kind, act.metadata);
            let event = self.weft.send_event(&name, payload()).await;
            let event = self.weft.finished_event(&event).await;
            assert_eq!(event["status"], "completed", "{why}: {event}");
            assert!((act.is_done)(&self.fake.tables()), "{why}: {}", self.fake.shown());
            self.fake.seen();
        }
        rules
    }

    /// A draft shows what it would send for what was sent already, and sends nothing.
    async fn preview(&self) {
        let Story { kind, secret, actions, .. } = self.story;
        let path = format!("/workspaces/{}/rules/preview", self.weft.workspace);
        for act in actions {
            let draft =
                json!({ "event": "*", "connection": self.connection, "metadata": act.metadata, "last": 1 });
            let shown = self.weft.post(&path, draft).await;
            assert!(!shown.text.contains(secret), "{kind}: {}", shown.text);
            let shown = shown.answered(200, kind);
            let sends = &shown["examples"]["matched"][0]["sends"];
            let url = text(&sends["request"]["url"]);
            assert!(url.starts_with(&self.fake.url()), "{kind}: {}: {sends}", act.metadata);
        }
        assert!(self.fake.seen().is_empty(), "{kind}: nobody was asked");
    }

    async fn rule(&self, event: &str, metadata: &Value) -> String {
        let body = json!({ "workspace": self.weft.workspace, "event": event, "connection": self.connection, "metadata": metadata });
        text(&self.weft.post("/rules", body).await.answered(201, self.story.kind)["rule"]["id"])
    }

    /// What an action needs and an event lacks is told without a call, and nothing is tried again.
    async fn lack(&self, rule: &str) {
        let Story { kind, lacking: (payload, says), .. } = self.story;
        let event = self.weft.send_event("step.0", payload.clone()).await;
        self.weft.event_as(&event, "failed").await;
        let attempts = self.weft.attempts(&event, rule, 1).await;
        let [attempt] = &attempts[..] else { panic!("{kind}: {attempts:?}") };
        let metadata = &self.story.actions[0].metadata;
        let draft = json!({ "event": "*", "connection": self.connection, "metadata": metadata, "last": 1 });
        let path = format!("/workspaces/{}/rules/preview", self.weft.workspace);
        let shown = self.weft.post(&path, draft).await.answered(200, kind);
        let told = json!({ "outcome_code": attempt["outcome_code"], "message": attempt["message"] });
        assert_eq!(shown["examples"]["matched"][0]["sends"], told, "{kind}: a preview tells it beforehand");
        assert_eq!(attempt["outcome_code"], "mapping_error", "{kind}: {attempt}");
        assert!(text(&attempt["message"]).contains(says), "{kind}: {attempt}");
        assert!(self.fake.seen().is_empty(), "{kind}: nobody was asked");
    }

    /// Credentials are revoked: deliveries wait, and go on with new ones.
    async fn lock(&self, rule: &str) {
        let Story { kind, settings, locked, secret, .. } = self.story;
        self.fake.fail(std::iter::repeat_n(locked.clone(), 8));
        let event = self.weft.send_event("step.0", payload()).await;
        let inactive = until(&format!("{kind} is inactive"), async || {
            let shown = self.weft.get(&self.path("")).await.answered(200, kind);
            (shown["active"] == false).then_some(shown)
        })
        .await;
        let reason = text(&inactive["inactive_reason"]);
        assert!(reason.starts_with("oauth_") || reason == "authentication_invalid", "{kind}: {reason}");
        let attempts = self.weft.attempts(&event, rule, 1).await;
        assert_eq!(attempts[0]["outcome_code"], "auth_failed", "{kind}: {attempts:?}");
        let why = text(&attempts[0]["message"]);
        assert!(why.len() > 20 && !why.contains(secret), "{kind}: {why}");
        assert_eq!(inactive["inactive_message"], why, "{kind}: the connection says it, too");
        let late = self.weft.send_event("step.0", payload()).await;
        self.weft.event_as(&late, "pending").await;

        // An account where nobody is yet, so that what waited can be seen to come.
        self.fake.forget_faults();
        *self.fake.tables() = T::default();
        let body = json!({ "name": "Theirs", "metadata": settings(&self.fake.url()) });
        let mended = self.weft.put(&self.path(""), body).await.answered(200, kind);
        assert_eq!((&mended["active"], &mended["inactive_reason"]), (&json!(true), &Value::Null), "{kind}");
        assert_eq!(mended.get("inactive_message"), None, "{kind}: and says no more once it is mended");
        for event in [event, late] {
            self.weft.event_as(&event, "completed").await;
        }
        assert!((self.story.actions[0].is_done)(&self.fake.tables()), "{kind}: {}", self.fake.shown());
    }

    /// Too many calls: it says when it goes on.
    async fn slow_down(&self, rule: &str) {
        let Story { kind, slower, .. } = self.story;
        let before = seconds_since_1970();
        let (fault, asked) = slower();
        self.fake.fail(std::iter::repeat_n(fault, 4));
        let event = self.weft.send_event("step.0", payload()).await;
        let attempts = self.weft.attempts(&event, rule, 1).await;
        assert_eq!(attempts[0]["outcome_code"], "rate_limited", "{kind}: {attempts:?}");
        let event = self.weft.get(&format!("/events/{event}")).await.answered(200, kind);
        let delivery = &event["rule_events"][0];
        let next = text(&attempts[0]["next_retry_at"]).parse::<Timestamp>().expect("a time").0 / 1_000;
        // Not before it was asked to, and later by no more than the spread: however long any of this took.
        let expected = before + asked..=seconds_since_1970() + asked + asked / 4 + 1;
        assert!(expected.contains(&next), "{kind}: asked for {asked} s at {before}: {delivery} {attempts:?}");
    }
}
