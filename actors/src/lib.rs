pub mod clock;
pub mod destinations;
pub mod domain;
pub mod transport;
