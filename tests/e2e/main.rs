//! The product's promises over public HTTP, asked of the real server.

#[path = "../support/mod.rs"]
mod support;

mod edges;
mod first_event;
