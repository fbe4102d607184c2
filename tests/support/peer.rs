//! A peer that speaks HTTP/1.1 by hand, for what no HTTP client would send.

use super::{Answer, PATIENCE, Weft};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use std::net::{IpAddr, SocketAddr};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

/// One connection to the server.
pub struct Peer {
    pub stream: TcpStream,
    /// What came and was not asked for yet.
    came: Vec<u8>,
}

impl Peer {
    pub async fn connect(weft: &Weft) -> Self {
        Self::through(weft, TcpSocket::new_v4().expect("a socket")).await
    }

    /// Connects from this address, such as 127.0.0.2.
    pub async fn from(weft: &Weft, source: IpAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::new(source, 0)).expect("all of 127.0.0.0/8 is ours");
        Self::through(weft, socket).await
    }

    /// Connects through a socket with options of the test's own.
    pub async fn through(weft: &Weft, socket: TcpSocket) -> Self {
        let address = weft.base.trim_start_matches("http://").parse().expect("an address");
        let connected = timeout(PATIENCE, socket.connect(address)).await.expect("it is accepted in time");
        Self { stream: connected.expect("it listens"), came: Vec::new() }
    }

    /// Sends these bytes; `false` if the server has closed the connection.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let sent = timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await;
        sent.expect("the server reads, or closes").is_ok()
    }

    /// Says that nothing more will be sent.
    pub async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// The next answer, those before the last (1xx) left out; `None` if the connection ends instead.
    pub async fn answer(&mut self) -> Option<Answer> {
        loop {
            let head = self.until_blank_line().await?;
            let (status, headers) = parse(&head);
            if status < 200 {
                continue;
            }
            let length = headers.get("content-length").map(|value| value.to_str().expect("text").parse());
            let length = length.transpose().expect("a number").unwrap_or(0);
            while self.came.len() < length {
                if !self.more().await {
                    return None;
                }
            }
            let body: Vec<u8> = self.came.drain(..length).collect();
            let text = String::from_utf8(body).expect("answers are text");
            let body = serde_json::from_str(&text).unwrap_or_default();
            return Some(Answer { status, headers, body, text });
        }
    }

    /// Waits until the server closes the connection, and returns what came before.
    pub async fn rest(mut self) -> Vec<u8> {
        while self.more().await {}
        self.came
    }

    /// Whether the server has not closed the connection so far, nor said anything.
    pub fn is_held(&self) -> bool {
        matches!(self.stream.try_read(&mut [0; 1]), Err(err) if err.kind() == std::io::ErrorKind::WouldBlock)
    }

    async fn until_blank_line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.came.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = self.came.drain(..end + 4).collect();
                return Some(String::from_utf8(head).expect("heads are text"));
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// Reads on; `false` at the end. A reset is an end, too.
    async fn more(&mut self) -> bool {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.came)).await;
        matches!(read.expect("the server answers or closes in time"), Ok(1..))
    }
}

fn parse(head: &str) -> (u16, HeaderMap) {
    let mut lines = head.trim_end().split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status line");
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").expect("a header");
        (name.parse::<HeaderName>().expect("a name"), value.parse::<HeaderValue>().expect("a value"))
    };
    (status.parse().expect("a status"), lines.map(header).collect())
}
