//! Somebody who receives webhooks: records what comes, and answers as the test says.

use super::PATIENCE;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use parking_lot::Mutex;
use std::{net::SocketAddr, sync::Arc};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout},
};

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Received {
    pub method: Method,
    /// Path and query.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub at: Instant,
}

impl Received {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a webhook's body is JSON")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("a header is text"))
    }
}

/// How a request is answered.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
    /// Not before this is true, or for ever if its sender is gone.
    pub gate: Option<watch::Receiver<bool>>,
    /// The connection is closed instead.
    pub hangs_up: bool,
}

impl Reply {
    pub const fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new(), gate: None, hangs_up: false }
    }

    /// 200 to everything, for [`Receiver::start`].
    pub const fn ok(_: usize, _: &Received) -> Self {
        Self::status(200)
    }

    /// No answer: the connection is closed.
    pub fn hang_up() -> Self {
        Self { hangs_up: true, ..Self::status(200) }
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn body(mut self, body: impl Into<String>) -> Self {
        self.body = body.into();
        self
    }

    /// Answers only once the gate is open.
    pub fn behind(mut self, gate: &watch::Receiver<bool>) -> Self {
        self.gate = Some(gate.clone());
        self
    }
}

/// A receiver at work. It ends when it is dropped.
pub struct Receiver {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

/// What a request is answered with, given how many came before it.
type Answering = Box<dyn Fn(usize, &Received) -> Reply + Send + Sync>;

struct Shared {
    answer: Answering,
    received: Mutex<Vec<Received>>,
    count: watch::Sender<usize>,
}

impl Receiver {
    /// `answer` is asked about each request, with how many came before it.
    pub async fn start(answer: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::on("127.0.0.1:0".parse().expect("an address"), answer).await
    }

    /// The same on this address.
    pub async fn on(
        address: SocketAddr,
        answer: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.expect("the port is free");
        let address = listener.local_addr().expect("it is bound");
        let (count, received) = (watch::Sender::new(0), Mutex::default());
        let shared = Arc::new(Shared { answer: Box::new(answer), received, count });
        let router = Router::new().fallback(receive).with_state(shared.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        Self { address, shared, serving }
    }

    /// Answers these statuses in turn, and the last of them from then on.
    pub async fn script(statuses: &'static [u16]) -> Self {
        Self::start(move |n, _| Reply::status(statuses[n.min(statuses.len() - 1)])).await
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What came so far, once it is at least so many.
    pub async fn received(&self, at_least: usize) -> Vec<Received> {
        let mut count = self.shared.count.subscribe();
        // Told apart from what it says: while that is looked at, nobody can be counted.
        let enough = timeout(PATIENCE, count.wait_for(|count| *count >= at_least)).await.is_ok();
        let so_far = self.so_far();
        assert!(enough, "{} of {at_least} came within {PATIENCE:?}", so_far.len());
        so_far
    }

    /// The first request that `is` says it is, once it has come.
    pub async fn find(&self, is: impl Fn(&Received) -> bool) -> Received {
        let mut count = self.shared.count.subscribe();
        let found = async {
            loop {
                count.borrow_and_update();
                if let Some(found) = self.shared.received.lock().iter().find(|one| is(one)) {
                    return found.clone();
                }
                count.changed().await.expect("the receiver is here");
            }
        };
        timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("it did not come within {PATIENCE:?}"))
    }

    /// What came so far.
    pub fn so_far(&self) -> Vec<Received> {
        self.shared.received.lock().clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn receive(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let target = uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let received = Received { method, target, headers, body, at: Instant::now() };
    let reply = {
        let mut all = shared.received.lock();
        let reply = (shared.answer)(all.len(), &received);
        all.push(received);
        shared.count.send_replace(all.len());
        reply
    };
    if let Some(mut gate) = reply.gate
        && gate.wait_for(|open| *open).await.is_err()
    {
        std::future::pending::<()>().await;
    }
    if reply.hangs_up {
        // Ends the task that serves the connection, and so the connection; no panic hook is told.
        std::panic::resume_unwind(Box::new("hangs up"));
    }
    let mut response = reply.body.into_response();
    *response.status_mut() = StatusCode::from_u16(reply.status).expect("a status");
    for (name, value) in reply.headers {
        response.headers_mut().append(name, value.parse().expect("a header value"));
    }
    response
}
