//! The listener: HTTP/1.1 connections, none of which can hold the others up.
//!
//! Served with hyper itself, because `axum::serve` sets no timer and its header timeout is then
//! silently off. hyper's one timer covers the wait for a request as well as its head, so the time
//! a head may take and the time a response may make no progress are kept in [`Guarded`].
//!
//! hyper answers what is no HTTP itself, before any service sees it, with a bare 400 or 431 and the
//! end of the connection; it has no hook for a JSON body there. Of two equal Content-Length lines it
//! keeps one and shows us no trace of the other. RFC 9112 (6.3) allows that, and no second reader
//! can find another end of the body; two that differ are 400.

mod body;
mod guard;

pub use self::body::{BodyError, read_body};

use self::guard::{Guarded, Turn};
use axum::body::Body;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

/// A request's line and headers together, in bytes. hyper answers 431 beyond it, and beyond 100 headers.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// What is read of one connection at a time, in bytes.
const READ_BYTES_MAX: usize = 64 * 1024;
/// How long accepting rests when the process is out of file descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// What a peer may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// At a time; more wait in the listen queue.
    pub connections_max: u32,
    /// From the first byte of a request's head to its last.
    pub header_timeout: Duration,
    /// Without progress in writing.
    pub write_timeout: Duration,
    /// Between requests.
    pub idle_timeout: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    /// Answer what was asked, and nothing more.
    Ending,
    Ended,
}

/// A listener at work. Dropping it cuts every connection off; [`Self::stop`] does not.
pub struct Server {
    address: SocketAddr,
    phase: watch::Sender<Phase>,
    slots: Arc<Semaphore>,
    limits: Limits,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Listens on `address` (port 0: any free one) and has each request answered by `answer`,
    /// which must not panic.
    pub async fn start<F, A>(address: SocketAddr, limits: Limits, answer: F) -> io::Result<Self>
    where
        F: Fn(Request<Incoming>, SocketAddr) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Response<Body>> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (phase, watched) = watch::channel(Phase::Serving);
        let slots = Arc::new(Semaphore::new(limits.connections_max as usize));
        let accepting = tokio::spawn(accept(listener, limits, slots.clone(), watched, answer));
        Ok(Self { address, phase, slots, limits, accepting })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops listening, lets requests be answered for as long as `patience`, then cuts off the rest.
    pub async fn stop(mut self, patience: Duration) {
        self.phase.send_replace(Phase::Ending);
        let _ = (&mut self.accepting).await;
        if timeout(patience, self.slots.acquire_many(self.limits.connections_max)).await.is_err() {
            warn!("some requests were not answered before the end");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.phase.send_replace(Phase::Ended);
        self.accepting.abort();
    }
}

async fn accept<F, A>(
    listener: TcpListener,
    limits: Limits,
    slots: Arc<Semaphore>,
    mut phase: watch::Receiver<Phase>,
    answer: F,
) where
    F: Fn(Request<Incoming>, SocketAddr) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<Body>> + Send + 'static,
{
    loop {
        let slot = tokio::select! {
            slot = slots.clone().acquire_owned() => slot.expect("the semaphore is never closed"),
            _ = phase.changed() => return,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = phase.changed() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Answers are small and awaited: holding them back for more gains nothing.
                let _ = stream.set_nodelay(true);
                tokio::spawn(converse(stream, peer, limits, slot, phase.clone(), answer.clone()));
            }
            Err(err) if is_the_peers(&err) => {}
            Err(err) => {
                warn!(%err, "cannot accept connections");
                sleep(ACCEPT_REST).await;
            }
        }
    }
}

/// The peer left before it was accepted.
fn is_the_peers(err: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(err.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// One connection, until either side ends it.
async fn converse<F, A>(
    stream: TcpStream,
    peer: SocketAddr,
    limits: Limits,
    _slot: OwnedSemaphorePermit,
    mut phase: watch::Receiver<Phase>,
    answer: F,
) where
    F: Fn(Request<Incoming>, SocketAddr) -> A,
    A: Future<Output = Response<Body>>,
{
    let turn = Arc::new(Turn::default());
    let io = Guarded::new(TokioIo::new(stream), turn.clone(), limits);
    let service = service_fn(|request| {
        turn.set(Turn::ANSWERING);
        let (answering, turn) = (answer(request, peer), turn.clone());
        async move {
            let response = answering.await;
            turn.set(Turn::IDLE);
            Ok::<_, Infallible>(response)
        }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            // A peer that has said all may say so, and still gets its answer: otherwise what it
            // asked for is done, and it is told nothing.
            .half_close(true)
            .header_read_timeout(limits.idle_timeout)
            .max_header_size(HEAD_BYTES_MAX)
            .max_buf_size(READ_BYTES_MAX)
            .serve_connection(io, service)
    );
    let outcome = tokio::select! {
        biased;
        outcome = connection.as_mut() => outcome,
        () = reached(&mut phase, Phase::Ending) => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                outcome = connection => outcome,
                () = reached(&mut phase, Phase::Ended) => Ok(()),
            }
        }
    };
    if let Err(err) = outcome {
        debug!(%err, "connection ended");
    }
}

/// Returns once the server is that far, or gone.
async fn reached(phase: &mut watch::Receiver<Phase>, awaited: Phase) {
    let _ = phase.wait_for(|phase| *phase >= awaited).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        sync::Notify,
        time::Instant,
    };

    // Time is paused in these tests: it moves only when everybody waits, so 75 s pass at once.

    const LIMITS: Limits = Limits {
        connections_max: 8,
        header_timeout: Duration::from_secs(10),
        write_timeout: Duration::from_secs(30),
        idle_timeout: Duration::from_secs(75),
    };
    const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

    /// `/` says its body's length, `/large` answers 64 MiB, `/wait` waits for `open`, `/deaf` reads nothing.
    async fn server(limits: Limits, open: Arc<Notify>) -> Server {
        let answer = move |request: Request<Incoming>, _: SocketAddr| {
            let open = open.clone();
            async move {
                let (parts, body) = request.into_parts();
                let text = match parts.uri.path() {
                    "/large" => return Response::new(Body::from(vec![b'x'; 64 << 20])),
                    "/deaf" => {
                        return Response::builder().status(413).body(Body::from("too large")).expect("plain");
                    }
                    "/wait" => {
                        open.notified().await;
                        "waited".to_owned()
                    }
                    _ => match read_body(Body::new(body), 1_000, Duration::from_secs(15)).await {
                        Ok(body) => format!("{} bytes", body.len()),
                        Err(err) => format!("{err:?}"),
                    },
                };
                Response::new(Body::from(text))
            }
        };
        Server::start(([127, 0, 0, 1], 0).into(), limits, answer).await.expect("loopback has free ports")
    }

    async fn start() -> Server {
        server(LIMITS, Arc::default()).await
    }

    async fn connect(server: &Server) -> TcpStream {
        TcpStream::connect(server.address()).await.expect("it listens")
    }

    /// All that comes until the server closes; a reset counts as an end.
    async fn rest(stream: &mut TcpStream) -> String {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What comes, up to and with `end`.
    async fn until(stream: &mut TcpStream, end: &str) -> String {
        let mut text = String::new();
        while !text.ends_with(end) {
            let byte = stream.read_u8().await.unwrap_or_else(|_| panic!("closed after {text:?}"));
            text.push(char::from(byte));
        }
        text
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_is_put_up_with_for_so_long_and_no_longer() {
        #[rustfmt::skip]
        let cases = [
            // why                        sent                                                            then a byte each second   seconds
            ("a head that stops",         "GET / HTTP/1.1\r\nho",                                         false,                    10),
            ("a head that dribbles",      "GET / HTTP/1.1\r\nho",                                         true,                     10),
            ("nothing",                   "",                                                             false,                    75),
            ("nothing after an answer",   GET,                                                            false,                    75),
            ("a body that stops",         "POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\nab",                false,                    15),
            ("chunks that dribble",       "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n50\r\na",  true,                     15),
        ];
        for (why, sent, dribbles, seconds) in cases {
            let server = start().await;
            let (mut reading, mut writing) = connect(&server).await.into_split();
            let started = Instant::now();
            writing.write_all(sent.as_bytes()).await.expect(why);
            let dribbling = tokio::spawn(async move {
                while dribbles && writing.write_all(b"a").await.is_ok() {
                    sleep(Duration::from_secs(1)).await;
                }
                writing
            });
            let _ = reading.read_to_end(&mut Vec::new()).await;
            let elapsed = started.elapsed().as_secs_f64();
            assert!((elapsed - f64::from(seconds)).abs() < 2.0, "{why}: {elapsed} s");
            dribbling.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_stops_reading_frees_its_place() {
        let server = server(Limits { connections_max: 1, ..LIMITS }, Arc::default()).await;
        let mut deaf = connect(&server).await;
        deaf.write_all(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("it is taken");
        let started = Instant::now();
        let mut next = connect(&server).await;
        next.write_all(GET.as_bytes()).await.expect("it waits in the listen queue");
        assert!(until(&mut next, "0 bytes").await.starts_with("HTTP/1.1 200"));
        let elapsed = started.elapsed().as_secs();
        assert!((30..=32).contains(&elapsed), "{elapsed} s");
    }

    #[tokio::test]
    async fn heads_are_bounded() {
        let header = |name: usize| format!("h{name}: v\r\n");
        #[rustfmt::skip]
        let cases = [
            ("plain",             "GET / HTTP/1.1\r\n\r\n".to_owned(),                                                       "200"),
            ("100 headers",       format!("GET / HTTP/1.1\r\n{}\r\n", (0..100).map(header).collect::<String>()),             "200"),
            ("101 headers",       format!("GET / HTTP/1.1\r\n{}\r\n", (0..101).map(header).collect::<String>()),             "431"),
            ("more than 16 KiB",  format!("GET / HTTP/1.1\r\nh: {}\r\n\r\n", "v".repeat(17 * 1024)),                         "431"),
            ("without end",       format!("GET / HTTP/1.1\r\nh: {}", "v".repeat(40 * 1024)),                                 "431"),
            ("NUL",               "GET / HTTP/1.1\r\nh: a\0b\r\n\r\n".to_owned(),                                            "400"),
            ("a space",           "GET / HTTP/1.1\r\nh : a\r\n\r\n".to_owned(),                                              "400"),
            ("two lengths",       "POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab".to_owned(),            "400"),
            ("a signed length",   "POST / HTTP/1.1\r\ncontent-length: +1\r\n\r\na".to_owned(),                               "400"),
            ("a negative length", "POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n".to_owned(),                                "400"),
            ("a list of lengths", "POST / HTTP/1.1\r\ncontent-length: 1, 1\r\n\r\na".to_owned(),                             "400"),
            ("another coding",    "POST / HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n".to_owned(),                           "400"),
            ("HTTP/9.9",          "GET / HTTP/9.9\r\n\r\n".to_owned(),                                                       "400"),
        ];
        let server = start().await;
        for (why, request, status) in cases {
            let mut stream = connect(&server).await;
            stream.write_all(request.as_bytes()).await.expect(why);
            let answer = until(&mut stream, "\r\n").await;
            assert_eq!(answer.split(' ').nth(1), Some(status), "{why}: {answer}");
        }
    }

    #[tokio::test]
    async fn a_body_is_bounded_however_it_is_framed() {
        let chunk = |bytes: usize| format!("{bytes:x}\r\n{}\r\n", "a".repeat(bytes));
        let chunked = |chunks: String| {
            format!("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
        };
        let sized =
            |bytes: usize| format!("POST / HTTP/1.1\r\ncontent-length: {bytes}\r\n\r\n{}", "a".repeat(bytes));
        #[rustfmt::skip]
        let cases = [
            ("none",                GET.to_owned(),                              "0 bytes"),
            ("as large as allowed", sized(1_000),                                "1000 bytes"),
            ("too large",           sized(1_001),                                "TooLong"),
            ("in chunks",           chunked(chunk(400) + &chunk(600)),           "1000 bytes"),
            ("in too many chunks",  chunked(chunk(400) + &chunk(400) + &chunk(201)), "TooLong"),
            ("a bad chunk size",    chunked("zz\r\n".to_owned()),                "Broken"),
            ("an absurd chunk",     chunked("ffffffffffffffffff\r\n".to_owned()), "Broken"),
        ];
        let server = start().await;
        for (why, request, expected) in cases {
            let mut stream = connect(&server).await;
            stream.write_all(request.as_bytes()).await.expect(why);
            until(&mut stream, expected).await;
        }
    }

    #[tokio::test]
    async fn an_early_answer_arrives_although_the_body_is_not_read() {
        let server = start().await;
        let (mut reading, mut writing) = connect(&server).await.into_split();
        let head = "POST /deaf HTTP/1.1\r\ncontent-length: 4000000\r\n\r\n";
        writing.write_all(head.as_bytes()).await.expect("it is read");
        let sending = tokio::spawn(async move { writing.write_all(&vec![b'a'; 4_000_000]).await });
        let mut answer = Vec::new();
        reading.read_to_end(&mut answer).await.expect("the connection is closed, not reset");
        assert!(String::from_utf8_lossy(&answer).ends_with("too large"));
        let _ = sending.await;
    }

    /// One length said twice frames one request: what follows it is the next one and nothing else.
    #[tokio::test]
    async fn a_length_said_twice_is_one_length() {
        let server = start().await;
        let mut stream = connect(&server).await;
        let twice = "POST / HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\nabc";
        stream.write_all(format!("{twice}{GET}").as_bytes()).await.expect("they are read");
        for expected in ["\r\n\r\n3 bytes", "\r\n\r\n0 bytes"] {
            until(&mut stream, expected).await;
        }
    }

    #[tokio::test]
    async fn a_peer_that_has_said_all_is_answered() {
        let open = Arc::new(Notify::new());
        let server = server(LIMITS, open.clone()).await;
        let mut stream = connect(&server).await;
        stream.write_all(b"GET /wait HTTP/1.1\r\n\r\n").await.expect("it is read");
        stream.shutdown().await.expect("the other side reads");
        // Answered means that the end of the other one was seen, too.
        let mut other = connect(&server).await;
        other.write_all(GET.as_bytes()).await.expect("it is read");
        until(&mut other, "0 bytes").await;
        open.notify_one();
        assert!(rest(&mut stream).await.ends_with("waited"));
    }

    #[tokio::test]
    async fn pipelined_requests_are_answered_in_order() {
        let server = start().await;
        let mut stream = connect(&server).await;
        let post = |n: usize| format!("POST / HTTP/1.1\r\ncontent-length: {n}\r\n\r\n{}", "a".repeat(n));
        stream.write_all((1..=20).map(post).collect::<String>().as_bytes()).await.expect("they are read");
        for n in 1..=20 {
            until(&mut stream, &format!("\r\n\r\n{n} bytes")).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn stopping_answers_what_was_asked_and_nothing_more() {
        let open = Arc::new(Notify::new());
        let server = server(LIMITS, open.clone()).await;
        let (mut idle, mut asking) = (connect(&server).await, connect(&server).await);
        idle.write_all(GET.as_bytes()).await.expect("it is read");
        until(&mut idle, "0 bytes").await;
        asking.write_all(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("it is read");
        // Answered means that the one before on another connection was read, too.
        let mut other = connect(&server).await;
        other.write_all(GET.as_bytes()).await.expect("it is read");
        until(&mut other, "0 bytes").await;

        let address = server.address();
        let stopping = tokio::spawn(server.stop(Duration::from_secs(10)));
        assert_eq!(rest(&mut idle).await, "", "an idle connection is closed");
        assert!(TcpStream::connect(address).await.is_err(), "nobody listens");
        open.notify_one();
        assert!(rest(&mut asking).await.ends_with("waited"), "an asked question is answered");
        stopping.await.expect("it ends");
    }

    #[tokio::test(start_paused = true)]
    async fn stopping_does_not_wait_for_ever() {
        let server = start().await;
        let mut asking = connect(&server).await;
        asking.write_all(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("it is read");
        let mut other = connect(&server).await;
        other.write_all(GET.as_bytes()).await.expect("it is read");
        until(&mut other, "0 bytes").await;
        let started = Instant::now();
        server.stop(Duration::from_secs(10)).await;
        assert_eq!(started.elapsed().as_secs(), 10);
        assert_eq!(rest(&mut asking).await, "", "it is cut off");
    }
}
