//! The product's promises over public HTTP, asked of the real server.

#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod bulk;
mod cors;
mod first_event;
mod framing;
mod idempotency;
mod noise;
mod payloads;
mod rate;
mod routes;
mod slow_peers;
mod tokens;
