//! The least a durable relay can do: accept, append to a file, sync it for many at once, answer, and
//! forward. No rules, no retries, no history. What is measured is compared with this, in the same run.

use super::wire::{Wire, post};
use std::{
    fs::File,
    io::Write as _,
    net::SocketAddr,
    sync::{Arc, mpsc},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Mutex, mpsc as queue, oneshot},
};

/// Connections that forward to each sink.
const FORWARDERS: usize = 64;
/// Zeros the file starts with, so that a sync writes no metadata.
const FILE_BYTES: usize = 256 << 20;

type Waiting = (Vec<u8>, oneshot::Sender<()>);

/// Serves on loopback until the process is killed; prints the address first.
pub async fn serve(sinks: Vec<SocketAddr>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let (to_file, waiting) = mpsc::channel::<Waiting>();
    std::thread::spawn(move || append(&waiting));
    let forwards: Arc<Vec<_>> = Arc::new(sinks.into_iter().map(forward_to).collect());
    println!("{}", listener.local_addr().expect("it is bound"));
    while let Ok((stream, _)) = listener.accept().await {
        let (to_file, forwards) = (to_file.clone(), forwards.clone());
        tokio::spawn(async move {
            let mut wire = Wire::new(stream);
            while let Ok(Some(message)) = wire.receive().await {
                let events = split(message.body);
                let (synced, is_synced) = oneshot::channel();
                let _ = to_file.send((message.body.to_vec(), synced));
                let _ = is_synced.await;
                for forward in forwards.iter() {
                    for event in &events {
                        let _ = forward.send(event.clone());
                    }
                }
                if wire.send(b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}").await.is_err() {
                    return;
                }
            }
        });
    }
}

/// The events of a bulk, whose generator puts each on a line of its own.
fn split(body: &[u8]) -> Vec<Vec<u8>> {
    let lines = body.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b",").unwrap_or(line));
    lines.filter(|line| line.first() == Some(&b'{')).map(<[u8]>::to_vec).collect()
}

fn append(waiting: &mpsc::Receiver<Waiting>) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log");
    let mut file = File::create(&path).expect("a file");
    file.write_all(&vec![0; FILE_BYTES]).expect("writes");
    file.sync_all().expect("syncs");
    let mut file = File::options().write(true).open(&path).expect("opens");
    while let Ok(first) = waiting.recv() {
        let (mut bytes, mut waiters) = (first.0, vec![first.1]);
        for (body, waiter) in waiting.try_iter().take(1_023) {
            bytes.extend_from_slice(&body);
            waiters.push(waiter);
        }
        file.write_all(&bytes).expect("writes");
        file.sync_data().expect("syncs");
        for waiter in waiters {
            let _ = waiter.send(());
        }
    }
}

fn forward_to(sink: SocketAddr) -> queue::UnboundedSender<Vec<u8>> {
    let (sender, receiver) = queue::unbounded_channel::<Vec<u8>>();
    let receiver = Arc::new(Mutex::new(receiver));
    for _ in 0..FORWARDERS {
        let receiver = receiver.clone();
        tokio::spawn(async move {
            let mut wire = Wire::new(TcpStream::connect(sink).await.expect("the sink listens"));
            loop {
                let Some(body) = receiver.lock().await.recv().await else { break };
                wire.send(&post("/", "", &body)).await.expect("the sink reads");
                wire.receive().await.expect("the sink answers");
            }
        });
    }
    sender
}
