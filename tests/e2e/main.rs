//! The product's promises over public HTTP, asked of the real server.

#[path = "../support/mod.rs"]
mod support;

mod connections;
mod delivery;
mod first_event;
mod retry_cancel;
mod secrets;
