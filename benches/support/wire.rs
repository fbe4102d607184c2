//! The least HTTP/1.1 that a bench can do with, so that generator and sink cost little of the
//! machine they share with what is measured: one message after the other, framed by Content-Length.

use std::io;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// One connection, and what was read ahead on it.
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Bytes of the last message, which the next read drops.
    taken: usize,
}

/// One message.
pub struct Message<'w> {
    /// Request or status line, and headers.
    pub head: &'w [u8],
    pub body: &'w [u8],
}

impl Wire {
    pub fn new(stream: TcpStream) -> Self {
        // Fails only on a socket that is closed, which the next read tells better.
        let _ = stream.set_nodelay(true);
        Self { stream, buffer: Vec::with_capacity(16 * 1_024), taken: 0 }
    }

    /// Writes a whole message.
    pub async fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.stream.write_all(message).await
    }

    /// The next message; `None` at the end.
    pub async fn receive(&mut self) -> io::Result<Option<Message<'_>>> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let head_bytes = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        };
        let whole = head_bytes + content_length(&self.buffer[..head_bytes]);
        while self.buffer.len() < whole {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.taken = whole;
        let (head, body) = self.buffer[..whole].split_at(head_bytes);
        Ok(Some(Message { head, body }))
    }
}

fn content_length(head: &[u8]) -> usize {
    const NAME: &[u8] = b"content-length:";
    let is_it = |line: &&[u8]| line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME);
    let line = head.split(|byte| *byte == b'\n').find(is_it);
    let digits = line.and_then(|line| std::str::from_utf8(&line[NAME.len()..]).ok());
    digits.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// A POST of JSON.
pub fn post(path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}
