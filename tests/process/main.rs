//! The product as a process: how it starts, is killed, fills its disk and ends. A binary of its own,
//! so that processes that are killed by the clock need not share the processor with the other tests.

#[path = "../support/mod.rs"]
mod support;

mod crash;
mod dev;
mod drain;
mod full_disk;
mod load;
mod noisy;
mod operation;
mod operator;
mod replay;
mod told;
