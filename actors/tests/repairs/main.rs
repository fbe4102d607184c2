//! What once went wrong in the tree and must not again: each test fails without its repair. Time is
//! tokio's and paused, so that minutes pass in milliseconds; the store is in memory, behind gates.

mod attempts;
mod credentials;
mod falls;
mod payloads;
mod retention;
mod rules;
mod support;
mod wakes;
