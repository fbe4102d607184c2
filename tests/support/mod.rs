//! What every end-to-end test needs: a server, somebody who receives, and patience with an end.

// Each test binary uses its part of this.
#![allow(dead_code, unused_imports)]

pub mod acme;
mod browser;
mod clients;
pub mod contract;
mod expect;
pub mod generate;
mod hostile;
mod name_server;
mod operated;
mod peer;
mod place;
mod process;
mod receiver;
mod server;
pub mod vendor;
mod witness;

pub use browser::{Browser, location, parameter};
pub use clients::{Credentials, Go, NodeEvents, NodeManagement, is_publishable_key, jwt, jwt_by};
pub use expect::{assert_members, ids, text};
pub use hostile::{AUTHORITY, Hostile, Play};
pub use name_server::{NameServer, Record};
pub use operated::{Operated, all_files};
pub use peer::Peer;
pub use place::{Account, Caller, Place, Served, accounts};
pub use process::{Exit, Process};
pub use receiver::{Received, Receiver, Reply};
pub use server::{Answer, MASTER_KEY, Weft, http_client, send, token};
pub use vendor::Vendor;
pub use witness::Witness;

use std::time::Duration;
use tokio::time::Instant;

/// How long anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at something that has no way to tell by itself that it happened.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Asks until there is an answer, or fails the test after [`PATIENCE`].
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
