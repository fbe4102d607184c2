//! The walls of the house, and nothing of taste: which room may name which, and who may ask the time.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Every Rust file below `folder`, as (path from the root, text without comments).
fn sources(folder: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.expect("a readable directory").path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a readable file");
                let name = path.strip_prefix(root).expect("below the root").display().to_string();
                found.push((name, without_comments(&text)));
            }
        }
    }
    found.sort();
    found
}

fn without_comments(text: &str) -> String {
    let code = |line: &str| match line.find("//") {
        // A URL in a string is not a comment.
        Some(at) if !line[..at].ends_with(':') => line[..at].to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(code).collect::<Vec<_>>().join("\n")
}

/// Lines of `text` where `name` is a whole word and part of a path.
fn names(text: &str, name: &str) -> Vec<usize> {
    let word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let is_path = |line: &str| {
        line.match_indices(name).any(|(at, _)| {
            let (before, after) = (&line[..at], &line[at + name.len()..]);
            !word(before.chars().next_back())
                && !word(after.chars().next())
                && (before.ends_with("::") || after.starts_with("::"))
        })
    };
    // base64 has an `engine` of its own, rmcp a `transport`.
    let others = ["general_purpose", "GeneralPurpose", "use rmcp::transport::"];
    let is_others = |line: &str| others.iter().any(|name| line.contains(name));
    let found = text.lines().enumerate().filter(|(_, line)| is_path(line) && !is_others(line));
    found.map(|(at, _)| at + 1).collect()
}

#[test]
fn arrows_point_one_way() {
    #[rustfmt::skip]
    let walls: [(&str, &[&str]); 8] = [
        // the room                    names none of these
        ("src",                        &["ractor", "sled", "tree", "store", "destinations", "transport"]),
        ("actors/src/destinations",    &["ractor", "sled", "tree", "store", "engine"]),
        ("actors/src/transport",       &["ractor", "sled", "tree", "store", "engine", "destinations"]),
        ("actors/src/store",           &["ractor", "tree", "engine", "destinations", "transport"]),
        ("actors/src/domain",          &["ractor", "sled", "tree", "store", "engine", "destinations", "transport",
                                         "clock", "tokio", "reqwest"]),
        ("actors/src/tree",            &["sled", "engine"]),
        ("actors/src/engine.rs",       &["sled"]),
        ("actors/src",                 &["axum", "maud"]),
    ];
    let mut faults = Vec::new();
    for (room, foreign) in walls {
        let files = if room.ends_with(".rs") { sources("actors/src") } else { sources(room) };
        for (file, text) in files.iter().filter(|(file, _)| file.starts_with(room)) {
            for name in foreign {
                faults.extend(names(text, name).iter().map(|line| format!("{file}:{line} names {name}")));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn decisions_wait_for_nobody() {
    let mut faults = Vec::new();
    for (file, text) in sources("actors/src/domain") {
        for (at, line) in text.lines().enumerate() {
            let waits =
                [".await", "async fn", "async move", "async {"].iter().any(|word| line.contains(word));
            let asks_the_system = ["std::fs", "std::io", "std::net::Tcp", "std::thread", "std::process"];
            if waits || asks_the_system.iter().any(|word| line.contains(word)) {
                faults.push(format!("{file}:{} {}", at + 1, line.trim()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn one_file_asks_what_time_it_is() {
    let asks = ["SystemTime::now", "Utc::now", "Local::now", "Timestamp::now", "Zoned::now"];
    let mut askers = BTreeSet::new();
    for (file, text) in [sources("src"), sources("actors/src")].concat() {
        if asks.iter().any(|ask| text.contains(ask)) {
            askers.insert(file);
        }
    }
    assert_eq!(askers, BTreeSet::from(["actors/src/clock.rs".to_owned()]));
}

#[test]
fn every_test_runs() {
    let ignored = concat!("#[", "ignore");
    let all = ["src", "actors/src", "actors/tests", "tests", "benches"].map(sources).concat();
    let faults: Vec<_> =
        all.iter().filter(|(_, text)| text.contains(ignored)).map(|(file, _)| file).collect();
    assert!(faults.is_empty(), "{faults:?}");
}

#[test]
fn nothing_is_unwrapped_without_a_reason() {
    let all = [sources("src"), sources("actors/src")].concat();
    // A module that is declared for tests only may do as tests do.
    let mut test_modules = Vec::new();
    for (file, text) in &all {
        let mut lines = text.lines().map(str::trim);
        while let Some(line) = lines.next() {
            if line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(any(test") {
                let declared = lines.next().unwrap_or_default().trim_start_matches("pub(crate) ");
                let declared = declared.trim_start_matches("pub ").strip_prefix("mod ");
                if let Some(name) = declared.and_then(|rest| rest.strip_suffix(';')) {
                    test_modules.push(folder_of(file).join(name));
                }
            }
        }
    }
    let mut faults = Vec::new();
    for (file, text) in &all {
        let path = Path::new(file).with_extension("");
        if test_modules.iter().any(|module| path.starts_with(module)) {
            continue;
        }
        let lines = text.lines().map(str::trim).enumerate();
        for (at, line) in lines.take_while(|(_, line)| !line.starts_with("#[cfg(test)]")) {
            if line.contains(".unwrap()") {
                faults.push(format!("{file}:{}", at + 1));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Where the modules that a file declares are.
fn folder_of(file: &str) -> PathBuf {
    let path = Path::new(file);
    let own_folder = ["mod.rs", "lib.rs", "main.rs"].iter().any(|name| path.ends_with(name));
    if own_folder { path.parent().map(Path::to_owned).unwrap_or_default() } else { path.with_extension("") }
}

#[test]
fn the_check_itself_sees_what_it_looks_for() {
    #[rustfmt::skip]
    let cases = [
        ("use crate::{domain, store::Store};",  "store",  true),
        ("crate::tree::Root",                   "tree",   true),
        ("let store = 1;",                      "store",  false),
        ("use crate::storefront::Door;",        "store",  false),
        ("use actors::engine;",                 "engine", true),
    ];
    for (line, name, expected) in cases {
        assert_eq!(!names(line, name).is_empty(), expected, "{line}");
    }
    assert_eq!(without_comments("a // store::x\n\"https://b\""), "a \n\"https://b\"");
}
