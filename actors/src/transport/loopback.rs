//! Endpoints for tests: listeners on loopback that answer from a script, in raw bytes.

use super::{Http, HttpArgs, address::AddressPolicy, resolve::Scripted};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
};

/// What an endpoint does with one request.
#[derive(Clone, Debug)]
pub enum Play {
    /// Writes this and waits for the next request.
    Answer(Vec<u8>),
    /// Writes this and closes the connection.
    Close(Vec<u8>),
    /// Writes this and then nothing more.
    Hang(Vec<u8>),
    /// Writes the first once and then the second for ever.
    Endless(Vec<u8>, Vec<u8>),
    /// Writes the first once and then a byte of the second now and then.
    Drip(Vec<u8>, Vec<u8>),
}

impl Play {
    /// An answer with a status line such as `200 OK` and a body.
    pub fn status(line: &str, body: &str) -> Self {
        let head = format!("HTTP/1.1 {line}\r\ncontent-length: {}\r\n\r\n", body.len());
        Self::Answer([head.as_bytes(), body.as_bytes()].concat())
    }
}

/// A request as it came over the wire.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Request line and headers.
    pub head: String,
    pub body: Vec<u8>,
}

impl Seen {
    /// The value of a header, if it was sent.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// A listener that plays its script: the n-th request gets the n-th play, the last one repeats.
pub struct Loopback {
    pub addr: SocketAddr,
    script: Arc<Script>,
    _tasks: JoinSet<()>,
}

struct Script {
    plays: Vec<Play>,
    accepted: AtomicUsize,
    seen: parking_lot::Mutex<Vec<Seen>>,
}

impl Loopback {
    pub async fn start(plays: Vec<Play>) -> Self {
        Self::serve(plays, None).await
    }

    pub async fn start_tls(plays: Vec<Play>, tls: tokio_rustls::TlsAcceptor) -> Self {
        Self::serve(plays, Some(tls)).await
    }

    async fn serve(plays: Vec<Play>, tls: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let script = Arc::new(Script { plays, accepted: AtomicUsize::new(0), seen: Default::default() });
        let mut tasks = JoinSet::new();
        let shared = script.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                shared.accepted.fetch_add(1, Ordering::SeqCst);
                let (script, tls) = (shared.clone(), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => script.connection(stream).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => script.connection(stream).await,
                            Err(_) => None,
                        },
                    }
                });
            }
        });
        Self { addr, script, _tasks: tasks }
    }

    /// How many connections were made so far.
    pub fn accepted(&self) -> usize {
        self.script.accepted.load(Ordering::SeqCst)
    }

    /// The requests that came so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.script.seen.lock().clone()
    }

    /// Where to send to, by this host name or address.
    pub fn url(&self, scheme: &str, host: &str) -> url::Url {
        let text = format!("{scheme}://{host}:{}/hook", self.addr.port());
        url::Url::parse(&text).expect("a URL")
    }
}

impl Script {
    async fn connection<S: AsyncRead + AsyncWrite + Unpin>(&self, mut stream: S) -> Option<()> {
        loop {
            let request = read_request(&mut stream).await?;
            let number = {
                let mut seen = self.seen.lock();
                seen.push(request);
                seen.len() - 1
            };
            let play = self.plays.get(number).or(self.plays.last())?;
            match play {
                Play::Answer(bytes) => stream.write_all(bytes).await.ok()?,
                Play::Close(bytes) => {
                    stream.write_all(bytes).await.ok()?;
                    return stream.shutdown().await.ok();
                }
                Play::Hang(bytes) => {
                    stream.write_all(bytes).await.ok()?;
                    std::future::pending::<()>().await;
                }
                Play::Endless(first, more) => {
                    stream.write_all(first).await.ok()?;
                    loop {
                        stream.write_all(more).await.ok()?;
                    }
                }
                Play::Drip(first, more) => {
                    stream.write_all(first).await.ok()?;
                    let mut pace = tokio::time::interval(Duration::from_millis(20));
                    for byte in more.iter().cycle() {
                        pace.tick().await;
                        stream.write_all(&[*byte]).await.ok()?;
                    }
                }
            }
            stream.flush().await.ok()?;
        }
    }
}

async fn read_request<S: AsyncRead + Unpin>(stream: &mut S) -> Option<Seen> {
    let mut bytes = Vec::new();
    let head_bytes = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_bytes]).into_owned();
    let mut seen = Seen { head, body: bytes[head_bytes..].to_vec() };
    let body_bytes: usize = seen.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    while seen.body.len() < body_bytes {
        if stream.read_buf(&mut seen.body).await.ok()? == 0 {
            return None;
        }
    }
    Some(seen)
}

/// What may be reached in tests: this machine, by plain http too.
pub fn loopback_policy() -> AddressPolicy {
    AddressPolicy { allow: vec!["127.0.0.1/32".parse().expect("a CIDR")], allow_http: true }
}

/// A client for this policy, with these names.
pub fn http(policy: AddressPolicy, names: Scripted) -> Http {
    Http::new(HttpArgs { policy, resolver: Arc::new(names), extra_roots_pem: None }).expect("a client")
}
