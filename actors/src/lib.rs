//! The engine of Weft: accepts events, routes them by rules, and delivers them through actors.
//!
//! [`engine`] is the way in; everything else is a room behind it. Arrows point one way:
//! `engine → tree → {destinations → transport, store} → domain`.

pub mod clock;
pub mod destinations;
pub mod domain;
pub mod engine;
pub mod store;
pub mod transport;
mod tree;
