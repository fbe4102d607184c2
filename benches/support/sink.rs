//! Where deliveries go: answers 200, and counts.

use super::wire::Wire;
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{net::TcpListener, sync::Notify};

/// A sink at work, for as long as its runtime lives.
pub struct Sink {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    started: Instant,
    count: AtomicUsize,
    /// From the moment an event says it was sent to its arrival here.
    latencies: Mutex<Vec<Duration>>,
    came: Notify,
}

impl Sink {
    /// `started` is when the clock of `"sent_us":` in payloads began.
    pub async fn start(started: Instant) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (count, latencies, came) = (AtomicUsize::new(0), Mutex::default(), Notify::new());
        let shared = Arc::new(Shared { started, count, latencies, came });
        let serving = shared.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().connection(Wire::new(stream)));
            }
        });
        Self { address, shared }
    }

    /// Waits until so many have come, however long it takes while any come at all: half a minute
    /// without one ends the wait. Returns how many came.
    pub async fn wait_for(&self, count: usize) -> usize {
        loop {
            let came = self.shared.came.notified();
            let so_far = self.shared.count.load(Ordering::Acquire);
            if so_far >= count || tokio::time::timeout(Duration::from_secs(30), came).await.is_err() {
                return so_far;
            }
        }
    }

    /// The latencies so far, sorted, and forgets them.
    pub fn latencies(&self) -> Vec<Duration> {
        let mut latencies = std::mem::take(&mut *self.shared.latencies.lock().expect("nobody panics"));
        latencies.sort_unstable();
        latencies
    }
}

impl Shared {
    async fn connection(self: Arc<Self>, mut wire: Wire) {
        while let Ok(Some(message)) = wire.receive().await {
            if let Some(sent) = sent_at(message.body) {
                let latency = self.started.elapsed().saturating_sub(sent);
                self.latencies.lock().expect("nobody panics").push(latency);
            }
            if wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.is_err() {
                return;
            }
            self.count.fetch_add(1, Ordering::AcqRel);
            self.came.notify_waiters();
        }
    }
}

/// What stands behind `"sent_us":` in a body.
fn sent_at(body: &[u8]) -> Option<Duration> {
    const NAME: &[u8] = b"\"sent_us\":";
    let at = body.windows(NAME.len()).position(|window| window == NAME)? + NAME.len();
    let digits = body[at..].iter().take_while(|byte| byte.is_ascii_digit());
    let number = digits.fold(0_u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    Some(Duration::from_micros(number))
}
