//! The product's promises over public HTTP, asked of the real server.

#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod bulk;
mod cors;
mod first_event;
mod framing;
mod idempotency;
mod payloads;
mod tokens;
