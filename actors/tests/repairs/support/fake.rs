//! Destinations that answer from a script, and remember who asked.

use super::{ConnectionId, Timestamp};
use actors::{
    destinations::{Prepared, answer, answer::failed, outgoing::Outgoing},
    domain::{
        connection::Connection,
        delivery::{Outcome, Report},
    },
    engine::Preparer,
    transport::Http,
};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

/// What a destination answers to one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This HTTP status, read as that of a destination with credentials.
    Says(u16),
    /// This status after a while.
    Slow(Duration, u16),
    /// No answer within the attempt's time.
    Hang,
    /// No answer, and the destination's code forgets the attempt's time.
    Forever,
}

/// One attempt as its destination saw it.
#[derive(Clone, Debug)]
pub struct Call {
    pub connection: ConnectionId,
    /// The version of the connection whose settings were used.
    pub version: u64,
    pub event_name: String,
    pub attempt: u32,
    /// What the receiver was told.
    pub sent_at: Timestamp,
    pub at: Instant,
}

type Script = Arc<dyn Fn(&Call) -> Answer + Send + Sync>;

/// All destinations of a test. One without a script answers 200 at once. Clones are the same.
#[derive(Clone, Default)]
pub struct Fake(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    scripts: HashMap<ConnectionId, Script>,
    calls: Vec<Call>,
    in_flight: HashMap<ConnectionId, usize>,
    in_flight_most: HashMap<ConnectionId, usize>,
}

impl Fake {
    /// The connection's destination answers what `script` says.
    pub fn script(&self, connection: ConnectionId, script: impl Fn(&Call) -> Answer + Send + Sync + 'static) {
        self.0.lock().scripts.insert(connection, Arc::new(script));
    }

    /// The connection's destination gives this answer from here on.
    pub fn answer(&self, connection: ConnectionId, answer: Answer) {
        self.script(connection, move |_| answer);
    }

    /// All attempts so far at one connection.
    pub fn calls_to(&self, connection: ConnectionId) -> Vec<Call> {
        self.0.lock().calls.iter().filter(|call| call.connection == connection).cloned().collect()
    }

    /// Attempts in flight now.
    pub fn in_flight(&self, connection: ConnectionId) -> usize {
        self.0.lock().in_flight.get(&connection).copied().unwrap_or(0)
    }

    /// The most attempts that were ever in flight at a time.
    pub fn in_flight_most(&self, connection: ConnectionId) -> usize {
        self.0.lock().in_flight_most.get(&connection).copied().unwrap_or(0)
    }

    fn arrived(&self, call: &Call) -> Answer {
        let mut inner = self.0.lock();
        inner.calls.push(call.clone());
        let in_flight = inner.in_flight.entry(call.connection).or_default();
        *in_flight += 1;
        let now = *in_flight;
        let most = inner.in_flight_most.entry(call.connection).or_default();
        *most = now.max(*most);
        let script = inner.scripts.get(&call.connection).cloned();
        drop(inner);
        script.map_or(Answer::Says(200), |script| script(call))
    }
}

/// Takes an attempt out of those in flight, however it ends.
struct InFlight(Fake, ConnectionId);

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(in_flight) = self.0.0.lock().in_flight.get_mut(&self.1) {
            *in_flight -= 1;
        }
    }
}

#[async_trait]
impl Preparer for Fake {
    async fn prepare(&self, connection: &Connection) -> Result<Arc<dyn Prepared>, String> {
        let (connection, version) = (connection.id, connection.version);
        Ok(Arc::new(FakePrepared { fake: self.clone(), connection, version }))
    }
}

struct FakePrepared {
    fake: Fake,
    connection: ConnectionId,
    version: u64,
}

#[async_trait]
impl Prepared for FakePrepared {
    async fn deliver(&self, out: &Outgoing<'_>, _: &Http) -> Report {
        let call = Call {
            connection: self.connection,
            version: self.version,
            event_name: out.event.name.clone(),
            attempt: out.attempt,
            sent_at: out.sent_at,
            at: Instant::now(),
        };
        let answer = self.fake.arrived(&call);
        let _in_flight = InFlight(self.fake.clone(), self.connection);
        match answer {
            Answer::Says(status) => report(status),
            Answer::Slow(time, status) => {
                sleep(time).await;
                report(status)
            }
            Answer::Hang => {
                sleep(out.timeout).await;
                answer::failed(Outcome::Timeout, format!("no answer within {:?}", out.timeout))
            }
            Answer::Forever => std::future::pending().await,
        }
    }
}

fn report(status: u16) -> Report {
    let outcome = answer::outcome(status);
    let message = format!("the endpoint answered {status}");
    Report { http_status: Some(status), ..failed(outcome, message) }
}
