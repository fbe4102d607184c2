//! The Weft delivery engine.

pub mod clock;
pub mod destinations;
pub mod domain;
pub mod store;
pub mod transport;
