//! What the engine remembers.

pub mod embedded;
