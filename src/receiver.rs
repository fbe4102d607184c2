//! The receiver that `weft dev` delivers to: prints a line for each delivery, and answers 200.

use crate::http::{self, read_body};
use actors::clock::Clock;
use axum::{
    body::Body,
    http::{HeaderMap, Request, Response, StatusCode},
};
use hyper::body::Incoming;
use std::{io, net::SocketAddr, time::Duration};

/// A longer body than any delivery has, in bytes.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Of the body, in characters.
const SHOWN_MAX: usize = 400;
const PATIENCE: Duration = Duration::from_secs(10);

/// Listens on a free port of the loopback address. `print` gets each delivery as one line.
pub async fn start(
    clock: Clock,
    print: impl Fn(String) + Clone + Send + Sync + 'static,
) -> io::Result<http::Server> {
    let limits = http::Limits {
        connections_max: 256,
        header_timeout: PATIENCE,
        write_timeout: PATIENCE,
        idle_timeout: Duration::from_secs(75),
    };
    let answer = move |request: Request<Incoming>, _: SocketAddr| {
        let (clock, print) = (clock.clone(), print.clone());
        async move {
            let (parts, body) = request.into_parts();
            let status = match read_body(Body::new(body), BODY_BYTES_MAX, PATIENCE).await {
                Ok(body) => {
                    print(line(&clock.now().to_string(), &parts.headers, &body));
                    StatusCode::OK
                }
                Err(_) => StatusCode::BAD_REQUEST,
            };
            let mut response = Response::new(Body::empty());
            *response.status_mut() = status;
            response
        }
    };
    http::Server::start(SocketAddr::from(([127, 0, 0, 1], 0)), limits, answer).await
}

/// `12:00:00  contact.created  event 0192…  attempt 1  {"email":…}`
fn line(now: &str, headers: &HeaderMap, body: &[u8]) -> String {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("?").to_owned();
    let header =
        |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("?").to_owned();
    let time = now.get(11..19).unwrap_or(now);
    let wrapped = serde_json::from_slice::<serde_json::Value>(body).unwrap_or_default();
    let (event, id, payload) =
        (text(&wrapped["event"]), text(&wrapped["uuid"]), wrapped["payload"].to_string());
    let attempt = header("x-weft-attempt");
    let line = format!("{time}  received {event}  event {id}  attempt {attempt}  {payload}");
    let shown = line.chars().take(SHOWN_MAX);
    // What a payload holds must not steer the terminal.
    shown.map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_is_one_plain_line() {
        let mut headers = HeaderMap::new();
        headers.insert("x-weft-attempt", "2".parse().expect("a value"));
        let body = br#"{"uuid":"0192","event":"contact.created","payload":{"email":"a@b.example"}}"#;
        let shown = line("2026-03-15T12:00:00.123Z", &headers, body);
        assert_eq!(
            shown,
            r#"12:00:00  received contact.created  event 0192  attempt 2  {"email":"a@b.example"}"#
        );

        let hostile = line("?", &HeaderMap::new(), "{\"event\":\"a\\u001b[2J\\n\"}".as_bytes());
        assert!(!hostile.chars().any(char::is_control), "{hostile}");
        assert!(line("?", &HeaderMap::new(), b"not JSON").contains("received ?"));
    }
}
