//! The store that needs no other service: a journal, and a view of it.

pub mod journal;
