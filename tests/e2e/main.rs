//! The product's promises over public HTTP, asked of the real server.

#[path = "../support/mod.rs"]
mod support;

mod addresses;
mod bad_input;
mod bulk;
mod callers;
mod catalogues;
mod connections;
mod cors;
mod delivery;
mod edges;
mod events;
mod first_event;
mod framing;
mod hostile;
mod https;
mod idempotency;
mod isolation;
mod keys;
mod lists;
mod names;
mod noise;
mod oauth;
mod oauth_tokens;
mod payloads;
mod rate;
mod retry_cancel;
mod routes;
mod routing;
mod rules;
mod search;
mod secrets;
mod sessions;
mod slow_peers;
mod tokens;
mod trial;
mod webhook;
mod workspaces;
