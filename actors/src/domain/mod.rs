//! Data and decisions, pure: no IO, no async, no clock.

pub mod catalog;
pub mod condition;
pub mod connection;
pub mod delivery;
pub mod event;
pub mod field;
pub mod ids;
pub mod key;
pub mod mapping;
pub mod names;
pub mod payload;
pub mod replay;
pub mod retry;
pub mod routing;
pub mod rule;
pub mod secret;
pub mod timestamp;
pub mod workspace;
