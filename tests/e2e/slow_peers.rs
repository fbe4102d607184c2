//! Peers who hold a connection without using it: put up with for a while, and in nobody's way.

use crate::support::{Peer, Weft, Witness, http_client, send, until};
use futures_util::future::join_all;
use serde_json::json;
use std::{io::ErrorKind, time::Duration};
use tokio::{net::TcpSocket, time::timeout};

/// What a slow peer says at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slow {
    Nothing,
    PartOfAHead,
    PartOfABody,
    PartOfAChunk,
    /// Asks for much, and never reads.
    Deaf,
}

/// The nth of a crowd: few are deaf, since each of them fills some megabytes of the system's buffers.
const fn nth(n: usize) -> Slow {
    const HASTY: [Slow; 4] = [Slow::Nothing, Slow::PartOfAHead, Slow::PartOfABody, Slow::PartOfAChunk];
    if n % 15 == 14 { Slow::Deaf } else { HASTY[n % 4] }
}

/// Answers that a deaf peer asks for: more than all the buffers between it and the server hold.
const ANSWERS: usize = 60;

/// A connection on which this much was said. `large` is where a deaf peer finds much to ask for.
async fn slow(weft: &Weft, kind: Slow, large: &str) -> Peer {
    let head = format!(
        "POST /api/v1/events HTTP/1.1\r\nhost: a\r\nx-meshes-publishable-key: {}\r\ncontent-type: application/json\r\n",
        weft.publishable_key
    );
    let said = match kind {
        Slow::Nothing => String::new(),
        Slow::PartOfAHead => head,
        Slow::PartOfABody => format!("{head}content-length: 6000\r\n\r\n{{\"event\":\"slow\""),
        Slow::PartOfAChunk => format!("{head}transfer-encoding: chunked\r\n\r\n1770\r\n{{\"event\":\"slow\""),
        Slow::Deaf => {
            let token = weft.token();
            format!("GET {large} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\r\n")
                .repeat(ANSWERS)
        }
    };
    let socket = TcpSocket::new_v4().expect("a socket");
    if kind == Slow::Deaf {
        socket.set_recv_buffer_size(4_096).expect("it can be small");
    }
    let mut peer = Peer::through(weft, socket).await;
    assert!(peer.send(said).await, "{kind:?}");
    peer
}

/// Sends an event whose payload is large, and returns where it is read.
async fn large(weft: &Weft) -> String {
    let sent = weft.emit(json!({ "event": "large", "payload": { "a": "x".repeat(250_000) } })).await;
    assert_eq!(sent.status, 201, "{sent:?}");
    format!("/api/v1/events/{}/payload", sent.body["event"]["id"].as_str().expect("an id"))
}

/// I20: the time for a head, a body and a stalled answer is bounded, dribbling or not, and what
/// was not said to its end is no event.
#[tokio::test]
async fn a_slow_peer_is_closed_and_delivers_nothing() {
    let weft = Weft::with(|config| {
        let (http, short) = (&mut config.http, Duration::from_millis(500));
        (http.header_timeout, http.body_timeout, http.write_timeout) = (short, short, short);
        http.idle_timeout = Duration::from_secs(120);
    });
    let weft = weft.await;
    let witness = Witness::of(&weft).await;
    let large = large(&weft).await;
    #[rustfmt::skip]
    let cases = [
        // said at first         and then, again and again    answered
        (Slow::PartOfAHead,      "",                          ""),
        (Slow::PartOfAHead,      "x",                         ""),
        (Slow::PartOfABody,      "",                          "HTTP/1.1 408 "),
        (Slow::PartOfABody,      " ",                         "HTTP/1.1 408 "),
        (Slow::PartOfAChunk,     "",                          "HTTP/1.1 408 "),
        (Slow::PartOfAChunk,     " ",                         "HTTP/1.1 408 "),
    ];
    let closed = cases.map(async |(kind, more, answered)| {
        let said = dribble(slow(&weft, kind, &large).await, more).await;
        assert!(said.starts_with(answered), "{kind:?}, then {more:?}: {said}");
        assert_eq!(said.is_empty(), answered.is_empty(), "{kind:?}, then {more:?}: {said}");
        assert_eq!(
            said.contains("\"RequestTimeout\""),
            !answered.is_empty(),
            "{kind:?}, then {more:?}: {said}"
        );
    });
    join_all(closed).await;
    // It reads nothing, so it learns of the end only by writing.
    let deaf = slow(&weft, Slow::Deaf, &large).await;
    until("a deaf peer is closed", async || {
        let sent = deaf.stream.try_write(b"\r\n");
        sent.is_err_and(|err| err.kind() != ErrorKind::WouldBlock).then_some(())
    })
    .await;
    witness.assert_saw(&weft, &["large"]).await;
    weft.stop().await;
}

/// I20: nor does saying nothing hold a connection for ever, before a request or after one.
#[tokio::test]
async fn a_silent_peer_is_closed() {
    let weft = Weft::with(|config| {
        (config.http.header_timeout, config.http.idle_timeout) = (IDLE, IDLE);
    });
    let weft = weft.await;
    const IDLE: Duration = Duration::from_millis(500);
    assert_eq!(dribble(slow(&weft, Slow::Nothing, "").await, "").await, "");
    let mut asked = Peer::connect(&weft).await;
    assert!(asked.send("GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await);
    assert_eq!(asked.answer().await.map(|answer| answer.status), Some(200));
    assert_eq!(asked.rest().await, b"");
    weft.stop().await;
}

/// Says this again and again, with a breath in between, until the server closes; returns what it said.
async fn dribble(peer: Peer, more: &str) -> String {
    const BREATH: Duration = Duration::from_millis(50);
    let (mut said, mut chunk) = (Vec::new(), [0; 4_096]);
    until("the server closes", async || {
        if timeout(BREATH, peer.stream.readable()).await.is_ok() {
            match peer.stream.try_read(&mut chunk) {
                Ok(0) => return Some(()),
                Ok(read) => said.extend_from_slice(&chunk[..read]),
                Err(err) if err.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return Some(()),
            }
        }
        // Refused once the server has closed: it is read to its end all the same.
        let _ = peer.stream.try_write(more.as_bytes());
        None
    })
    .await;
    String::from_utf8(said).expect("text")
}

/// I10, I20: a hundred and fifty of them are in nobody's way.
#[tokio::test]
async fn slow_peers_leave_others_answered() {
    let weft = Weft::with(|config| {
        let (http, long) = (&mut config.http, Duration::from_secs(120));
        (http.header_timeout, http.body_timeout) = (long, long);
        (http.write_timeout, http.idle_timeout) = (long, long);
    });
    let weft = weft.await;
    let witness = Witness::of(&weft).await;
    let large = large(&weft).await;
    let slow: Vec<_> = join_all((0..150).map(|n| slow(&weft, nth(n), &large))).await;

    let http = http_client();
    let names: Vec<_> = (0..40).map(|n| format!("healthy{n}")).collect();
    for name in &names {
        let url = format!("{}/api/v1/events", weft.base);
        let request = http.post(url).json(&json!({ "event": name, "payload": { "a": 1 } }));
        // The client gives up after a while, and so tells a server that is held up.
        let answer = send(request.header("x-meshes-publishable-key", &weft.publishable_key)).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    for (n, peer) in slow.iter().enumerate().filter(|(n, _)| nth(*n) != Slow::Deaf) {
        assert!(peer.is_held(), "{:?}: they were there all the time", nth(n));
    }
    let expected: Vec<_> = ["large"].into_iter().chain(names.iter().map(String::as_str)).collect();
    witness.assert_saw(&weft, &expected).await;
    drop(slow);
    weft.stop().await;
}

/// I20: beyond so many connections the next ones wait, until the slow are closed.
#[tokio::test]
async fn a_full_house_empties_itself() {
    let weft = Weft::with(|config| {
        let (http, short) = (&mut config.http, Duration::from_millis(500));
        (http.connections_max, http.body_timeout) = (4, short);
        (http.header_timeout, http.idle_timeout) = (short, short);
    });
    let weft = weft.await;
    let slow: Vec<_> = join_all((0..14).map(|n| slow(&weft, nth(n), ""))).await;
    let answer = weft.emit(json!({ "event": "healthy", "payload": { "a": 1 } })).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    drop(slow);
    weft.stop().await;
}

/// I3: two hundred connections broken off in the middle leave nothing behind.
#[tokio::test]
async fn a_request_broken_off_leaves_nothing_behind() {
    let weft = Weft::start().await;
    let witness = Witness::of(&weft).await;
    for n in 0..200 {
        let peer = slow(&weft, nth(n), "/metrics").await;
        // A reset, where a plain close would be an end.
        peer.stream.set_zero_linger().expect("a socket has it");
        drop(peer);
        if n % 20 == 0 {
            let answer = weft.emit(json!({ "event": "healthy", "payload": { "a": 1 } })).await;
            assert_eq!(answer.status, 201, "{answer:?}");
        }
    }
    witness.assert_saw(&weft, &["healthy"; 10]).await;
    weft.stop().await;
}
