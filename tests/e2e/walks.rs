//! Every list, walked page by page while it is written to: each record that was there before and stays comes once.

use crate::support::{Receiver, Weft, text};
use proptest::{
    collection::vec,
    prelude::*,
    sample::Index,
    test_runner::{Config, TestRunner},
};
use reqwest::Method;
use serde_json::{Value, json};
use std::{cell::RefCell, collections::BTreeSet};
use tokio::runtime::Runtime;

/// What is done to a list while one of its pages is read.
#[derive(Clone, Debug)]
enum Write {
    Add,
    /// Takes a record off the list, where that can be; else changes it.
    Remove(Index),
    Change(Index),
}

fn write() -> impl Strategy<Value = Write> {
    prop_oneof![
        3 => Just(Write::Add),
        2 => any::<Index>().prop_map(Write::Remove),
        1 => any::<Index>().prop_map(Write::Change),
    ]
}

/// A page of this size, with what is written while it is read.
#[derive(Clone, Debug)]
struct Turn {
    limit: usize,
    /// First the record that its cursor names is taken away.
    takes_cursor: bool,
    writes: Vec<Write>,
}

fn script() -> impl Strategy<Value = Vec<Turn>> {
    let turn = (1..=4_usize, any::<bool>(), vec(write(), 0..=3));
    vec(turn.prop_map(|(limit, takes_cursor, writes)| Turn { limit, takes_cursor, writes }), 1..=6)
}

#[derive(Clone, Copy, Debug)]
enum List {
    Workspaces,
    Connections,
    ConnectionsOfWorkspace,
    Rules,
    RulesOfWorkspace,
    RulesOfName,
    Events,
    EventsOfWorkspace,
    EventsOfName,
    EventsOfPayload,
    Sessions,
    SessionsActive,
    Keys,
    Invitations,
    Audit,
    Attempts,
}

/// One list, and what is needed to write to it.
struct Walk<'w> {
    weft: &'w Weft,
    list: List,
    /// With a query, which it has in any case.
    path: String,
    /// What a record is known by.
    id: &'static str,
    workspace: String,
    connection: String,
    /// Where attempts are listed: the delivery.
    delivery: String,
    /// Records that were made here, and that may be removed.
    own: RefCell<Vec<String>>,
    removed: RefCell<BTreeSet<String>>,
}

impl<'w> Walk<'w> {
    /// Six records to begin with, beside those of earlier walks in lists of the whole organization.
    async fn begin(weft: &'w Weft, list: List, receiver: &Receiver) -> Self {
        let (workspace, key) = weft.another_workspace(&format!("walk {}", uuid::Uuid::new_v4())).await;
        let own = format!("/workspaces/{workspace}");
        let mut walk = Self {
            weft,
            list,
            path: String::new(),
            id: "id",
            workspace,
            connection: String::new(),
            delivery: String::new(),
            own: RefCell::default(),
            removed: RefCell::default(),
        };
        walk.connection = walk.connect(&receiver.url("/")).await;
        (walk.path, walk.id) = match list {
            List::Workspaces => ("/workspaces?".to_owned(), "id"),
            List::Connections => ("/connections?".to_owned(), "id"),
            List::ConnectionsOfWorkspace => (format!("{own}/connections?"), "id"),
            List::Rules => ("/rules?".to_owned(), "id"),
            List::RulesOfWorkspace => (format!("{own}/rules?"), "id"),
            List::RulesOfName => (format!("{own}/rules?event=a.b"), "id"),
            List::Events => ("/events?".to_owned(), "id"),
            List::EventsOfWorkspace => (format!("{own}/events?"), "id"),
            List::EventsOfName => (format!("{own}/events?event=a.b&resource=global"), "id"),
            List::EventsOfPayload => (format!("{own}/events?payload.n=1"), "id"),
            List::Sessions => (format!("/sessions?workspace_id={}", walk.workspace), "session_id"),
            List::SessionsActive => {
                (format!("/sessions?workspace_id={}&status=active", walk.workspace), "session_id")
            }
            List::Keys => ("/keys?".to_owned(), "access_key"),
            List::Invitations => ("/invitations?".to_owned(), "id"),
            List::Audit => (format!("/audit?workspace={}", walk.workspace), "id"),
            List::Attempts => {
                let body = json!({ "workspace": walk.workspace, "connection": walk.connection, "event": "*", "metadata": { "action": "send_webhook" } });
                let made = weft.post("/rules", body).await.answered(201, "a rule");
                let request = weft.request(Method::POST, "/api/v1/events");
                let event = json!({ "event": "a.b", "payload": { "n": 1 } });
                let request = request.header("x-meshes-publishable-key", key).json(&event);
                let sent = crate::support::send(request).await.answered(201, "an event");
                let event = text(&sent["event"]["id"]);
                weft.event_as(&event, "failed").await;
                walk.delivery = format!("/events/{event}/rules/{}", text(&made["rule"]["id"]));
                (format!("{}/attempts?", walk.delivery), "id")
            }
        };
        for _ in 0..6 {
            walk.add().await;
        }
        walk
    }

    async fn connect(&self, url: &str) -> String {
        let name = format!("hook {}", uuid::Uuid::new_v4());
        let metadata = json!({ "url": url, "skip_test": true });
        let body =
            json!({ "workspace": self.workspace, "type": "webhook", "name": name, "metadata": metadata });
        text(&self.weft.post("/connections", body).await.answered(201, "made")["connection"]["id"])
    }

    async fn add(&self) {
        let weft = self.weft;
        let made = match self.list {
            List::Workspaces => weft.another_workspace(&format!("made {}", uuid::Uuid::new_v4())).await.0,
            List::Connections | List::ConnectionsOfWorkspace => self.connect("http://127.0.0.1:9/").await,
            List::Rules | List::RulesOfWorkspace | List::RulesOfName => {
                // One rule does the same with the same events only once.
                let metadata = json!({ "action": "send_webhook", "name": uuid::Uuid::new_v4().to_string() });
                let body = json!({ "workspace": self.workspace, "connection": self.connection, "event": "a.b", "metadata": metadata });
                text(&weft.post("/rules", body).await.answered(201, "a rule")["rule"]["id"])
            }
            List::Events | List::EventsOfWorkspace | List::EventsOfName | List::EventsOfPayload => {
                let body = json!({ "workspace": self.workspace, "event": "a.b", "payload": { "n": 1 } });
                text(&weft.post("/events", body).await.answered(201, "an event")["event"]["id"])
            }
            List::Sessions | List::SessionsActive => {
                let body = json!({ "workspace_id": self.workspace });
                text(&weft.post("/sessions", body).await.answered(200, "a session")["session_id"])
            }
            List::Keys => text(
                &weft.post("/keys", json!({ "name": "walk" })).await.answered(201, "a key")["key"]["access_key"],
            ),
            List::Invitations => {
                let email = format!("{}@example.com", uuid::Uuid::new_v4());
                let body = json!({ "email": email, "role": "member" });
                text(&weft.post("/invitations", body).await.answered(201, "invited")["invitation"]["id"])
            }
            List::Audit => return drop(self.connect("http://127.0.0.1:9/").await),
            List::Attempts => {
                weft.post(&format!("{}/retry", self.delivery), json!({})).await.answered(200, "again");
                let event = self.delivery.split('/').nth(2).expect("its id");
                return drop(weft.event_as(event, "failed").await);
            }
        };
        self.own.borrow_mut().push(made);
    }

    /// Takes one of its own records off the list, where that can be.
    async fn remove(&self, id: &str) -> bool {
        let path = match self.list {
            List::Connections | List::ConnectionsOfWorkspace => "/connections/",
            List::Rules | List::RulesOfWorkspace | List::RulesOfName => "/rules/",
            List::SessionsActive => "/sessions/",
            List::Keys => "/keys/",
            List::Invitations => "/invitations/",
            _ => return false,
        };
        let at = self.own.borrow().iter().position(|own| own == id);
        let Some(at) = at else { return false };
        self.own.borrow_mut().remove(at);
        self.removed.borrow_mut().insert(id.to_owned());
        self.weft.delete(&format!("{path}{id}")).await.answered(200, "removed");
        true
    }

    fn pick(&self, which: &Index) -> Option<String> {
        let own = self.own.borrow();
        (!own.is_empty()).then(|| own[which.index(own.len())].clone())
    }

    async fn write(&self, write: &Write) {
        match write {
            Write::Add => self.add().await,
            Write::Remove(which) | Write::Change(which) => {
                let Some(id) = self.pick(which) else { return };
                if matches!(write, Write::Change(_)) || !self.remove(&id).await {
                    self.change(&id).await;
                }
            }
        }
    }

    async fn change(&self, id: &str) {
        let weft = self.weft;
        let answer = match self.list {
            List::Workspaces => {
                let name = format!("other {}", uuid::Uuid::new_v4());
                weft.put(&format!("/workspaces/{id}"), json!({ "name": name })).await
            }
            List::Connections | List::ConnectionsOfWorkspace => {
                let name = format!("aaa {}", uuid::Uuid::new_v4());
                weft.patch(&format!("/connections/{id}"), json!({ "name": name, "hidden": true })).await
            }
            List::Rules | List::RulesOfWorkspace | List::RulesOfName => {
                weft.patch(&format!("/rules/{id}"), json!({ "active": false })).await
            }
            List::Sessions => weft.delete(&format!("/sessions/{id}")).await,
            List::SessionsActive => weft.ask(Method::POST, &format!("/sessions/{id}/refresh"), None).await,
            List::Events
            | List::EventsOfWorkspace
            | List::EventsOfName
            | List::EventsOfPayload
            | List::Keys
            | List::Invitations
            | List::Audit
            | List::Attempts => {
                return;
            }
        };
        answer.answered(200, "changed");
    }

    async fn page(&self, limit: usize, cursor: &str) -> (Vec<String>, Option<String>) {
        let path = format!("{}&limit={limit}{cursor}", self.path);
        let page = self.weft.get(&path).await.answered(200, &path);
        let records = page["records"].as_array().expect("an array");
        assert!(records.len() <= limit && page["count"] == records.len(), "{path}: {page}");
        let next = page["next_cursor"].as_str().map(|next| format!("&cursor={next}"));
        assert!(next.is_some() || page["next_cursor"] == Value::Null, "{path}: {page}");
        (records.iter().map(|record| text(&record[self.id])).collect(), next)
    }

    /// All of it, while nobody writes.
    async fn all(&self) -> Vec<String> {
        let (mut all, mut cursor) = (Vec::new(), Some(String::new()));
        while let Some(at) = cursor {
            let (records, next) = self.page(200, &at).await;
            all.extend(records);
            cursor = next;
        }
        all
    }

    /// Walks it while this happens to it.
    async fn run(&self, script: &[Turn]) {
        let before = self.all().await;
        assert!(before.len() >= 6, "{:?}: {before:?}", self.list);
        let (mut seen, mut cursor, mut script) = (Vec::<String>::new(), Some(String::new()), script.iter());
        while let Some(at) = cursor {
            let quiet = Turn { limit: 5, takes_cursor: false, writes: Vec::new() };
            let turn = script.next().unwrap_or(&quiet);
            if let Some(last) = seen.last().filter(|_| turn.takes_cursor) {
                self.remove(last).await;
            }
            let write = async {
                for write in &turn.writes {
                    self.write(write).await;
                }
            };
            let ((records, next), ()) = tokio::join!(self.page(turn.limit, &at), write);
            seen.extend(records);
            cursor = next;
        }
        let after = self.all().await;
        let removed = self.removed.borrow();
        let (why, times) =
            (format!("{:?}", self.list), |id: &String| seen.iter().filter(|one| *one == id).count());
        for id in &before {
            let expected = if removed.contains(id) { 0..=1 } else { 1..=1 };
            assert!(expected.contains(&times(id)), "{why}: {id} came {} times", times(id));
            assert_eq!(after.contains(id), !removed.contains(id), "{why}: {id}");
        }
        for id in &seen {
            assert_eq!(times(id), 1, "{why}: {id}");
            assert!(
                before.contains(id) || after.contains(id) || removed.contains(id),
                "{why}: {id} is none of it"
            );
        }
        // What is there is in one order all along.
        let stayed: Vec<_> = seen.iter().filter(|id| after.contains(id)).collect();
        let places: Vec<_> = stayed.iter().map(|id| after.iter().position(|other| other == *id)).collect();
        assert!(places.is_sorted(), "{why}: {seen:?} and then {after:?}");
    }
}

fn walked_while_written(list: List) {
    let runtime = Runtime::new().expect("a runtime");
    let (weft, receiver) = runtime.block_on(async { (Weft::start().await, Receiver::script(&[400]).await) });
    let mut runner = TestRunner::new(Config { cases: 5, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&script(), |script| {
        runtime.block_on(async { Walk::begin(&weft, list, &receiver).await.run(&script).await });
        Ok(())
    });
    outcome.expect("every walk sees each record once");
    runtime.block_on(weft.stop());
}

#[test]
fn workspaces_and_keys() {
    [List::Workspaces, List::Keys].into_iter().for_each(walked_while_written);
}

#[test]
fn connections() {
    [List::Connections, List::ConnectionsOfWorkspace].into_iter().for_each(walked_while_written);
}

#[test]
fn rules() {
    [List::Rules, List::RulesOfWorkspace, List::RulesOfName].into_iter().for_each(walked_while_written);
}

#[test]
fn events() {
    [List::Events, List::EventsOfWorkspace, List::EventsOfName, List::EventsOfPayload]
        .into_iter()
        .for_each(walked_while_written);
}

#[test]
fn sessions() {
    [List::Sessions, List::SessionsActive].into_iter().for_each(walked_while_written);
}

#[test]
fn invitations_and_the_audit_log() {
    [List::Invitations, List::Audit].into_iter().for_each(walked_while_written);
}

#[test]
fn attempts() {
    walked_while_written(List::Attempts);
}

/// Lists of the API that are not walked here, and why.
const UNWALKED: [(&str, &str); 4] = [
    ("Integrations", "nothing is written to it while the server runs"),
    ("Replays", "each takes the workspace's past with it; `replays` walks it"),
    ("Users", "each costs a hash of a password; they are listed as invitations are"),
    ("Usage", "it is in the order of workspaces and days; `usage` walks it"),
];

/// Every list that has cursors is walked above, or it is said why not.
#[test]
fn no_list_is_left_out() {
    let source = include_str!("../../src/api/page.rs");
    let lists = source.split("pub enum List {").nth(1).and_then(|rest| rest.split('}').next());
    let lists = lists.expect("the lists").lines().map(str::trim).filter_map(|line| line.strip_suffix(','));
    let walked = include_str!("walks.rs").split("enum List {").nth(1).expect("those of this file");
    let walked = walked.split('}').next().expect("its end");
    let walked: BTreeSet<&str> = walked.lines().filter_map(|line| line.trim().strip_suffix(',')).collect();
    let missing: Vec<&str> = lists
        .filter(|list| !walked.contains(list) && UNWALKED.iter().all(|(unwalked, _)| unwalked != list))
        .collect();
    assert!(missing.is_empty(), "{missing:?} have cursors and are not walked while they are written to");
}
