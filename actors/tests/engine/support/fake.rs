//! Destinations that answer from a script, and remember who asked.

use super::{ConnectionId, DeliveryId, EventId, Outcome, Timestamp};
use actors::{
    destinations::{Prepared, answer, answer::failed, outgoing::Outgoing},
    domain::{connection::Connection, delivery::Report},
    engine::Preparer,
    transport::Http,
};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// What a destination answers to one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This HTTP status, read as that of a destination with credentials.
    Code(u16),
    /// This status after a while.
    Slow(Duration, u16),
    /// This status, and the wish to be left alone for so long.
    NotBefore(u16, Duration),
    /// An outcome that is no HTTP status.
    Told(Outcome),
    /// The destination's code panics.
    Panic,
    /// No answer within the attempt's time.
    Hang,
    /// No answer, and the destination's code forgets the attempt's time.
    Forever,
}

impl From<u16> for Answer {
    fn from(status: u16) -> Self {
        Self::Code(status)
    }
}

/// One attempt as its destination saw it.
#[derive(Clone, Debug)]
pub struct Call {
    pub connection: ConnectionId,
    /// The version of the connection whose settings were used.
    pub version: u64,
    pub event: EventId,
    pub event_name: String,
    pub delivery: DeliveryId,
    pub attempt: u32,
    pub at: Timestamp,
    pub payload: Bytes,
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
    /// Connections that are made ready: as many as there are connection actors that could deliver.
    ready: usize,
    /// Why connections cannot be made ready, if they cannot.
    unready: Option<String>,
    /// Connections whose actor panics as they are made ready, and when it did.
    falling: HashSet<ConnectionId>,
    falls: Vec<(ConnectionId, Instant)>,
}

impl Fake {
    /// The connection's destination answers what `script` says.
    pub fn script(&self, connection: ConnectionId, script: impl Fn(&Call) -> Answer + Send + Sync + 'static) {
        self.0.lock().scripts.insert(connection, Arc::new(script));
    }

    /// The connection's destination gives these answers one after the other, and then the last one always.
    pub fn answers<A: Into<Answer>>(&self, connection: ConnectionId, answers: impl IntoIterator<Item = A>) {
        let answers: Vec<Answer> = answers.into_iter().map(Into::into).collect();
        let last = *answers.last().expect("an answer");
        let left = Mutex::new(answers.into_iter());
        self.script(connection, move |_| left.lock().next().unwrap_or(last));
    }

    /// From here on no connection can be made ready, or each again.
    pub fn unready(&self, why: Option<&str>) {
        self.0.lock().unready = why.map(str::to_owned);
    }

    /// From here on the actor of this connection panics whenever it makes it ready, or no more.
    pub fn falls(&self, connection: ConnectionId, falls: bool) {
        let mut inner = self.0.lock();
        if falls {
            inner.falling.insert(connection)
        } else {
            inner.falling.remove(&connection)
        };
    }

    /// When the actor of this connection fell so.
    pub fn fell(&self, connection: ConnectionId) -> Vec<Instant> {
        let inner = self.0.lock();
        inner.falls.iter().filter(|(id, _)| *id == connection).map(|(_, at)| *at).collect()
    }

    /// All attempts so far.
    pub fn calls(&self) -> Vec<Call> {
        self.0.lock().calls.clone()
    }

    /// All attempts so far at one connection.
    pub fn calls_to(&self, connection: ConnectionId) -> Vec<Call> {
        self.0.lock().calls.iter().filter(|call| call.connection == connection).cloned().collect()
    }

    /// How many attempts each delivery took so far.
    pub fn counts(&self) -> HashMap<DeliveryId, usize> {
        let mut counts = HashMap::new();
        for call in &self.0.lock().calls {
            *counts.entry(call.delivery).or_default() += 1;
        }
        counts
    }

    /// Attempts in flight now.
    pub fn in_flight(&self, connection: ConnectionId) -> usize {
        self.0.lock().in_flight.get(&connection).copied().unwrap_or(0)
    }

    /// The most attempts that were ever in flight at a time.
    pub fn in_flight_most(&self, connection: ConnectionId) -> usize {
        self.0.lock().in_flight_most.get(&connection).copied().unwrap_or(0)
    }

    /// Connections that are ready to deliver.
    pub fn ready(&self) -> usize {
        self.0.lock().ready
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
        script.map_or(Answer::Code(200), |script| script(call))
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
        let mut inner = self.0.lock();
        if let Some(why) = &inner.unready {
            return Err(why.clone());
        }
        if inner.falling.contains(&connection.id) {
            inner.falls.push((connection.id, Instant::now()));
            drop(inner);
            panic!("as scripted");
        }
        inner.ready += 1;
        drop(inner);
        let (connection, version) = (connection.id, connection.version);
        Ok(Arc::new(FakePrepared { fake: self.clone(), connection, version }))
    }
}

struct FakePrepared {
    fake: Fake,
    connection: ConnectionId,
    version: u64,
}

impl Drop for FakePrepared {
    fn drop(&mut self) {
        self.fake.0.lock().ready -= 1;
    }
}

#[async_trait]
impl Prepared for FakePrepared {
    async fn deliver(&self, out: &Outgoing<'_>, _: &Http) -> Report {
        let call = Call {
            connection: self.connection,
            version: self.version,
            event: out.event.id,
            event_name: out.event.name.clone(),
            delivery: out.delivery_id,
            attempt: out.attempt,
            at: out.sent_at,
            payload: out.payload.clone(),
        };
        let answer = self.fake.arrived(&call);
        let _in_flight = InFlight(self.fake.clone(), self.connection);
        match answer {
            Answer::Code(status) => report(status, None),
            Answer::Slow(time, status) => {
                sleep(time).await;
                report(status, None)
            }
            Answer::NotBefore(status, wait) => report(status, Some(wait)),
            Answer::Told(outcome) => answer::failed(outcome, "as scripted".to_owned()),
            Answer::Panic => panic!("as scripted"),
            Answer::Hang => {
                sleep(out.timeout).await;
                answer::failed(Outcome::Timeout, format!("no answer within {:?}", out.timeout))
            }
            Answer::Forever => std::future::pending().await,
        }
    }
}

fn report(status: u16, retry_after: Option<Duration>) -> Report {
    let outcome = answer::outcome(status);
    let message = format!("the endpoint answered {status}");
    Report { http_status: Some(status), retry_after, ..failed(outcome, message) }
}
