//! The product's promises over public HTTP, asked of the real server.

#[path = "../support/mod.rs"]
mod support;

mod addresses;
mod connections;
mod delivery;
mod events;
mod first_event;
mod hostile;
mod https;
mod isolation;
mod lists;
mod retry_cancel;
mod routing;
mod rules;
mod secrets;
mod webhook;
mod workspaces;
