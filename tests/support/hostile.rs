//! A receiver that means ill: it answers bytes, not HTTP.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// What is done with one request, once its head and body are read.
#[derive(Clone, Debug)]
pub enum Play {
    /// These bytes, and then the next request.
    Answer(Vec<u8>),
    /// These bytes, and the end of the connection.
    Close(Vec<u8>),
    /// These bytes, and then nothing.
    Hang(Vec<u8>),
    /// The first bytes, then the second ones for ever.
    Endless(Vec<u8>, Vec<u8>),
    /// The first bytes, then the second ones for ever, one by one, slowly.
    Drip(Vec<u8>, Vec<u8>),
}

/// It ends when it is dropped.
pub struct Hostile {
    pub address: SocketAddr,
    asked: Arc<AtomicUsize>,
    _serving: JoinSet<()>,
}

impl Hostile {
    /// The n-th request gets the n-th play, and the last one is repeated.
    pub async fn start(plays: Vec<Play>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (asked, plays) = (Arc::<AtomicUsize>::default(), Arc::new(plays));
        let mut serving = JoinSet::new();
        let counter = asked.clone();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (plays, asked) = (plays.clone(), counter.clone());
                connections.spawn(async move { drop(connection(stream, &plays, &asked).await) });
            }
        });
        Self { address, asked, _serving: serving }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Requests that came so far.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn connection(mut stream: TcpStream, plays: &[Play], asked: &AtomicUsize) -> std::io::Result<()> {
    while read_request(&mut stream).await? {
        let number = asked.fetch_add(1, Ordering::SeqCst);
        match plays.get(number).or(plays.last()).expect("a play") {
            Play::Answer(bytes) => stream.write_all(bytes).await?,
            Play::Close(bytes) => {
                stream.write_all(bytes).await?;
                return stream.shutdown().await;
            }
            Play::Hang(bytes) => {
                stream.write_all(bytes).await?;
                return std::future::pending().await;
            }
            Play::Endless(first, more) => {
                stream.write_all(first).await?;
                loop {
                    stream.write_all(more).await?;
                }
            }
            Play::Drip(first, more) => {
                stream.write_all(first).await?;
                let mut pace = tokio::time::interval(Duration::from_millis(20));
                for byte in more.iter().cycle() {
                    pace.tick().await;
                    stream.write_all(&[*byte]).await?;
                }
            }
        }
    }
    Ok(())
}

/// Reads one request with a `Content-Length`. `false`: there is none.
async fn read_request(stream: &mut TcpStream) -> std::io::Result<bool> {
    let mut bytes = Vec::new();
    loop {
        if let Some(head_bytes) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..head_bytes]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let body_bytes: usize = length.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
            if bytes.len() >= head_bytes + 4 + body_bytes {
                return Ok(true);
            }
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(false);
        }
    }
}
