//! Each service from a clean start, over HTTP alone: connected, looked into, mapped, written to, and gone wrong.
//!
//! The services are those that the destinations' own tests are asked against; here nothing but the server's
//! public interface is used. [`accounts`] says what there is in each, [`story`] what happens to all of them, and
//! [`consented`] what happens to those that can be connected in a browser.

#[path = "../../actors/tests/destinations/fakes/mod.rs"]
#[allow(dead_code, reason = "the destinations' own tests use the rest")]
mod fakes;
#[path = "../support/mod.rs"]
mod support;

mod accounts;
mod consented;
mod inputs;
mod pasted;
mod secrets;
mod story;
mod vendors;

use serde_json::Value;
use std::collections::BTreeSet;
use support::Weft;

/// Whoever adds a destination tells its story too.
#[tokio::test]
async fn none_is_left_out() {
    let weft = Weft::start().await;
    let listed = weft.get("/integrations").await.answered(200, "integrations");
    let records = listed["records"].as_array().expect("a list");
    let listed: BTreeSet<_> = records.iter().filter_map(|record| record["type"].as_str()).collect();
    let told: BTreeSet<_> = pasted::ALL.iter().copied().chain(["webhook"]).collect();
    assert_eq!(told, listed);
    let is_connected_in_a_browser = |record: &&Value| record["authentication"]["type"] == "oauth";
    let browsed =
        records.iter().filter(is_connected_in_a_browser).filter_map(|record| record["type"].as_str());
    // Mailchimp is declared with its API key, as the contract has it, and takes a consent too.
    let browsed: BTreeSet<_> = browsed.chain(["mailchimp"]).collect();
    assert_eq!(consented::ALL.iter().copied().collect::<BTreeSet<_>>(), browsed);
    let actions = |record: &Value| record["actions"].as_object().map_or(0, serde_json::Map::len);
    assert!(records.iter().all(|record| actions(record) > 0), "each does something");
    weft.stop().await;
}
