//! Data and decisions, pure: no IO, no async, no clock.

pub mod access;
pub mod catalog;
pub mod condition;
pub mod connection;
pub mod delivery;
pub mod event;
pub mod field;
pub mod grant;
pub mod ids;
pub mod key;
pub mod mapping;
pub mod names;
pub mod payload;
pub mod retry;
pub mod routing;
pub mod rule;
pub mod secret;
pub mod session;
pub mod session_token;
pub mod timestamp;
pub mod workspace;
