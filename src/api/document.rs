//! The form of JSON that is accepted from anyone, its complaints in the API's words.

use super::error::ApiError;
use actors::domain::payload;

pub use payload::EventBody;

/// Whether the bytes are one well-formed document, no name in it twice, nothing in it deep.
pub fn check(bytes: &[u8]) -> Result<(), ApiError> {
    payload::check_document(bytes).map_err(|err| ApiError::field("body", format!("is {err}")))
}

/// One event.
pub fn parse_event(bytes: &[u8]) -> Result<EventBody<'_>, ApiError> {
    payload::parse_event(bytes).map_err(|err| ApiError::invalid(vec![err]))
}

/// The events of a bulk request, each byte for byte.
pub fn parse_bulk(bytes: &[u8]) -> Result<Vec<&[u8]>, ApiError> {
    payload::parse_bulk(bytes).map_err(|err| ApiError::invalid(vec![err]))
}
