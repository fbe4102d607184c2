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

use std::{collections::BTreeMap, fs, path::Path};

/// Checks that are not here, and why.
const ELSEWHERE: [(u8, &str); 3] = [
    (47, "waits for the embedded pages"),
    (48, "tests/e2e/mcp: each of the MCP server's tools"),
    (50, "tests/e2e/mcp: what an MCP tool says of a 401"),
];

/// The numbers of the functions in this folder that are called `check_NN_…`, and their names.
fn checks() -> BTreeMap<u8, Vec<String>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/checks");
    let mut found = BTreeMap::<u8, Vec<String>>::new();
    for entry in fs::read_dir(folder).expect("the folder of checks") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            continue;
        }
        let source = fs::read_to_string(path).expect("a file of text");
        let lines: Vec<&str> = source.lines().collect();
        for two in lines.windows(2) {
            let [attribute, line] = [two[0].trim(), two[1].trim_start_matches("async ")];
            let Some(name) = line.strip_prefix("fn check_") else { continue };
            assert!(["#[tokio::test]", "#[test]"].contains(&attribute), "{line} is a test");
            let number = name.split('_').next().and_then(|digits| digits.parse().ok()).expect("a number");
            found.entry(number).or_default().push(name.split('(').next().expect("a name").to_owned());
        }
    }
    found
}

/// Every check of 1 to 50 is one test here, or it is said where it is.
#[test]
fn every_check_is_here_once() {
    let found = checks();
    let mut faults = Vec::new();
    for number in 1..=50 {
        let here = found.get(&number).map_or(&[][..], Vec::as_slice);
        let elsewhere = ELSEWHERE.iter().find(|(other, _)| *other == number);
        match (here, elsewhere) {
            ([_], None) | ([], Some(_)) => {}
            ([], None) => faults.push(format!("check {number} is missing")),
            ([_], Some((_, why))) => faults.push(format!("check {number} is here and listed: {why}")),
            (many, _) => faults.push(format!("check {number} is here more than once: {many:?}")),
        }
    }
    faults.extend(
        found
            .keys()
            .filter(|number| !(1..=50).contains(*number))
            .map(|number| format!("check {number} is none")),
    );
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
