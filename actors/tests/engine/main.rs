//! The engine's promises without HTTP: scripted destinations and faults, restarts, and hours that pass in
//! milliseconds because the tests pause tokio's clock.

mod clock;
mod connections;
mod delivery;
mod drain;
mod isolation;
mod notices;
mod pace;
mod plans;
mod recovery;
mod replays;
mod restarts;
mod rules;
mod storm;
mod support;
