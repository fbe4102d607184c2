//! The contract's conformance checks, each by its number: what a developer may count on who has the official
//! clients and no other word about this server. Numbers of other tests are not of this list.

mod auth;
mod clients;
mod connections;
mod events;
mod http;
mod integrations_rules;
mod sessions;
mod shapes;
mod webhook;
mod workspaces;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Checks that are not there yet, and what they wait for.
const WAITING: [(u8, &str); 1] = [(47, "the embedded pages")];
/// Checks of the MCP server are beside its other tests.
const MCP: [u8; 2] = [48, 50];

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e")
}

/// The functions of all end-to-end tests that are called `check_NN_…`: by number, where they are.
fn checks() -> BTreeMap<u8, Vec<String>> {
    let (mut folders, mut found) = (vec![tests()], BTreeMap::<u8, Vec<String>>::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of tests") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let source = fs::read_to_string(&path).expect("a file of text");
            let lines: Vec<&str> = source.lines().map(str::trim).collect();
            for two in lines.windows(2) {
                let Some(name) = two[1].trim_start_matches("async ").strip_prefix("fn check_") else {
                    continue;
                };
                assert!(two[0].starts_with("#[") && two[0].ends_with("test]"), "{} is a test", two[1]);
                let number = name.split('_').next().and_then(|digits| digits.parse().ok()).expect("a number");
                let place = path.strip_prefix(tests()).expect("below it").display().to_string();
                found.entry(number).or_default().push(place);
            }
        }
    }
    found
}

/// Each of 1 to 50 is one test in this folder, or it is said above where it is.
#[test]
fn every_check_is_here_once() {
    let found = checks();
    let mut faults = Vec::new();
    for number in 1..=50 {
        let places = found.get(&number).map_or(&[][..], Vec::as_slice);
        let waits = WAITING.iter().find(|(waiting, _)| *waiting == number);
        let room = if MCP.contains(&number) { "mcp" } else { "checks/" };
        match (places, waits) {
            ([place], None) if place.starts_with(room) => {}
            ([], Some(_)) => {}
            ([], None) => faults.push(format!("check {number} is missing from tests/e2e/{room}")),
            (_, Some((_, for_what))) => faults.push(format!("check {number} waits for {for_what} no more")),
            (places, None) => {
                faults.push(format!("check {number} is not once in tests/e2e/{room}: {places:?}"))
            }
        }
    }
    let strange = found.keys().filter(|number| !(1..=50).contains(*number));
    faults.extend(strange.map(|number| format!("check {number} is none of the contract's")));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
