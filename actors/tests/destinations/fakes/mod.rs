//! Services to try destinations against: each keeps tables of its own and answers as its vendor says it does.
//!
//! What comes in is written down; what goes wrong is scripted: a fault takes the place of the next answer.

pub mod activecampaign;
pub mod aweber;
pub mod customer_io;
pub mod discord;
pub mod hubspot;
pub mod intercom;
pub mod mailchimp;
pub mod mailerlite;
pub mod pipedrive;
pub mod resend;
pub mod salesforce;
pub mod sendgrid;
pub mod slack;
pub mod zoom;

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::Request,
    http::{HeaderMap, Response, StatusCode},
    middleware::{Next, from_fn},
    response::IntoResponse,
};
use serde_json::Value;
use std::{
    collections::VecDeque,
    fmt::Write as _,
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{net::TcpListener, task::JoinHandle};

/// What stands in the place of an answer.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Let through: faults after it hit later calls.
    None,
    Answer {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
    },
    /// The service does it and its answer is lost.
    Lost,
    /// No answer, and nothing done.
    Silence,
    /// The first bytes of the answer, and then nothing more of it.
    Truncated,
}

impl Fault {
    pub fn status(status: u16, body: &str) -> Self {
        Self::Answer {
            status,
            headers: vec![("content-type", "application/json".to_owned())],
            body: body.to_owned(),
        }
    }

    pub fn with(self, name: &'static str, value: impl Into<String>) -> Self {
        match self {
            Self::Answer { status, mut headers, body } => {
                headers.push((name, value.into()));
                Self::Answer { status, headers, body }
            }
            other => other,
        }
    }
}

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    /// Path and query.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Seen {
    #[allow(dead_code, reason = "for services whose cases look into bodies")]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// For a reviewed snapshot: the line, the headers that say something, and the body.
    fn shown(&self) -> String {
        let mut shown = format!("{} {}\n", self.method, self.target);
        let mut headers: Vec<_> = self.headers.iter().collect();
        headers.sort_by_key(|(name, _)| name.as_str());
        for (name, value) in headers {
            if !matches!(name.as_str(), "host" | "content-length" | "accept-encoding" | "user-agent") {
                let _ = writeln!(shown, "{name}: {}", value.to_str().unwrap_or("?"));
            }
        }
        if !self.body.is_empty() {
            let text = match serde_json::from_slice::<Value>(&self.body) {
                Ok(json) => serde_json::to_string_pretty(&json).expect("JSON"),
                Err(_) => String::from_utf8_lossy(&self.body).into_owned(),
            };
            let _ = writeln!(shown, "\n{text}");
        }
        shown
    }
}

#[derive(Default)]
struct Script {
    faults: VecDeque<Fault>,
    seen: Vec<Seen>,
}

/// A service at work on loopback, until it is dropped.
pub struct Fake<T> {
    pub address: SocketAddr,
    /// Its tables.
    pub tables: Arc<Mutex<T>>,
    script: Arc<Mutex<Script>>,
    server: JoinHandle<()>,
}

impl<T: Default + Send + 'static> Fake<T> {
    /// Starts it with tables as `routes` fills and serves them.
    pub async fn start(routes: fn(Arc<Mutex<T>>) -> Router) -> Self {
        let (tables, script) = (Arc::<Mutex<T>>::default(), Arc::<Mutex<Script>>::default());
        let scripted = script.clone();
        let app =
            routes(tables.clone()).layer(from_fn(move |request, next| play(scripted.clone(), request, next)));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("an address");
        let server = tokio::spawn(async move { axum::serve(listener, app).await.expect("it serves") });
        Self { address, tables, script, server }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl<T> Fake<T> {
    /// The next answers.
    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.script.lock().expect("no test panicked").faults.extend(faults);
    }

    /// Nothing goes wrong from here on.
    pub fn forget_faults(&self) {
        self.script.lock().expect("no test panicked").faults.clear();
    }

    /// All requests since this was asked last, oldest first.
    pub fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.script.lock().expect("no test panicked").seen)
    }

    /// The same, as text to be reviewed.
    pub fn shown(&self) -> String {
        self.seen().iter().map(Seen::shown).collect::<Vec<_>>().join("\n")
    }

    pub fn tables(&self) -> std::sync::MutexGuard<'_, T> {
        self.tables.lock().expect("no test panicked")
    }
}

impl<T> Drop for Fake<T> {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn play(script: Arc<Mutex<Script>>, request: Request, next: Next) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.expect("a body");
    let seen = Seen {
        method: parts.method.to_string(),
        target: parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers: parts.headers.clone(),
        body: body.clone(),
    };
    let fault = {
        let mut script = script.lock().expect("no test panicked");
        script.seen.push(seen);
        script.faults.pop_front().unwrap_or(Fault::None)
    };
    let request = Request::from_parts(parts, Body::from(body));
    match fault {
        Fault::None => next.run(request).await,
        Fault::Answer { status, headers, body } => {
            let mut answer = Response::builder().status(status);
            for (name, value) in headers {
                answer = answer.header(name, value);
            }
            answer.body(Body::from(body)).expect("an answer")
        }
        Fault::Lost => {
            next.run(request).await;
            std::future::pending().await
        }
        Fault::Silence => std::future::pending().await,
        Fault::Truncated => {
            let (parts, body) = next.run(request).await.into_parts();
            let whole = to_bytes(body, 1 << 20).await.expect("a body");
            let half = whole.slice(..whole.len() / 2);
            Response::from_parts(parts, Body::from(half))
        }
    }
}

/// An answer in JSON.
pub fn json(status: u16, body: Value) -> Response<Body> {
    (StatusCode::from_u16(status).expect("a status"), axum::Json(body)).into_response()
}
