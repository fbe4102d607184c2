//! Reading a request's body: bounded in size and time, and not copied where it came in one piece.

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use std::time::Duration;
use tokio::time::timeout;

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// Longer than allowed, as announced or as it came.
    TooLong,
    /// It did not come whole in time.
    Late,
    /// The connection broke, or the framing is wrong.
    Broken,
}

/// Reads a whole body of at most `bytes_max` within `limit`. A body that comes in one piece is
/// handed on without a copy; one announced as too long is not read at all.
pub async fn read_body(mut body: Body, bytes_max: usize, limit: Duration) -> Result<Bytes, BodyError> {
    use hyper::body::Body as _;
    let announced = body.size_hint();
    if announced.lower() > bytes_max as u64 {
        return Err(BodyError::TooLong);
    }
    let reading = async {
        let mut first: Option<Bytes> = None;
        let mut whole: Vec<u8> = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
            let so_far = if whole.is_empty() { first.as_ref().map_or(0, Bytes::len) } else { whole.len() };
            if so_far + data.len() > bytes_max {
                return Err(BodyError::TooLong);
            }
            match first.take() {
                None if whole.is_empty() => first = Some(data),
                None => whole.extend_from_slice(&data),
                Some(start) => {
                    let exact = announced.exact().and_then(|bytes| usize::try_from(bytes).ok());
                    whole.reserve(exact.unwrap_or(start.len() + data.len()));
                    whole.extend_from_slice(&start);
                    whole.extend_from_slice(&data);
                }
            }
        }
        Ok(first.unwrap_or_else(|| whole.into()))
    };
    timeout(limit, reading).await.unwrap_or(Err(BodyError::Late))
}
