//! The `weft` command as an operator types it, as far as no store is needed.

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Output},
};

fn weft(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
    command.args(arguments).env_clear().envs(variables.iter().copied());
    command.output().expect("the command runs")
}

/// What a command said that could not do what it was told: one line, and nothing else.
fn refusal(why: &str, output: &Output) -> String {
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{why}: {told}");
    assert!(told.starts_with("weft: "), "{why}: {told}");
    assert_eq!(told.lines().count(), 1, "{why}: {told}");
    assert!(output.stdout.is_empty(), "{why}");
    told
}

#[test]
fn bad_configuration_is_one_clear_line_and_no_success() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name).display().to_string();
    let secret = format!("whsec_{}", "A".repeat(44));
    let told =
        |url: &str, secret: &str| format!("[operational_webhook]\nurl = \"{url}\"\nsecret = \"{secret}\"\n");
    #[rustfmt::skip]
    let files = [
        // why                       in the file                                     named
        ("an unknown key",           "[http]\nconections_max = 5\n",                 "http.conections_max"),
        ("an unknown table",         "[htp]\nconnections_max = 5\n",                 "htp"),
        ("not TOML",                 "listen = \n",                                  "bad.toml"),
        ("a number as text",         "[store]\nsegment_bytes = \"many\"\n",          "store.segment_bytes"),
        ("a span without its unit",  "[shutdown]\ndrain = 10\n",                     "shutdown.drain"),
        ("a switch as text",         "allow_http = \"maybe\"\n",                     "allow_http"),
        ("a list of the wrong kind", "outbound_allow = [8]\n",                       "outbound_allow"),
        ("out of its bounds",        "[delivery]\nretry_jitter = 2\n",              "delivery.retry_jitter"),
        ("less than it can be",      "[store]\nsegment_bytes = 4096\n",             "store.segment_bytes"),
        ("a URL that is none",       &told("ops.example.com", &secret),              "operational_webhook.url: is not usable: "),
        ("plain http",               &told("http://ops.example.com/", &secret),      "operational_webhook.url: is not usable: "),
        ("a private address",        &told("https://10.0.0.1/", &secret),            "operational_webhook.url: is not usable: "),
        ("a URL without its secret", &told("https://ops.example.com/", ""),          "operational_webhook.secret: must be whsec_ and"),
        ("a short secret",           &told("https://ops.example.com/", "whsec_c2hvcnQ="), "operational_webhook.secret: must be whsec_ and"),
        ("a secret that is a number", "[operational_webhook]\nsecret = 12345\n",     "operational_webhook.secret: must be text"),
    ];
    for (why, text, expected) in files {
        std::fs::write(at("bad.toml"), text).expect("it is ours");
        let output = weft(&["serve", "--config", &at("bad.toml"), "--data", &at("data")], &[]);
        let told = refusal(why, &output);
        assert!(told.starts_with("weft: configuration: ") && told.contains(expected), "{why}: {told}");
    }

    std::fs::write(at("file"), "not a directory").expect("it is ours");
    std::fs::write(at("open.key"), "5a".repeat(32)).expect("it is ours");
    std::fs::set_permissions(at("open.key"), Permissions::from_mode(0o644)).expect("it is ours");
    std::fs::write(at("short.key"), "5a").expect("it is ours");
    std::fs::set_permissions(at("short.key"), Permissions::from_mode(0o600)).expect("it is ours");
    let key = "5a".repeat(32);
    let in_file = at("file/data");
    type Case<'c> = (&'c str, &'c str, &'c str, &'c str);
    #[rustfmt::skip]
    let variables: [Case<'_>; 19] = [
        // why                         variable                    value              told
        ("an unknown one",             "WEFT_LISEN",               "x",               "lisen"),
        ("an unknown one in a table",  "WEFT_HTTP__HEADER_TIMEOT", "1s",              "http.header_timeot"),
        ("a bad span",                 "WEFT_DELIVERY__TIMEOUT",   "soon",            "delivery.timeout"),
        ("a bad number",               "WEFT_HTTP__CONNECTIONS_MAX", "many",          "http.connections_max"),
        ("a number below zero",        "WEFT_INGEST__BURST",       "-1",              "ingest.burst"),
        ("zero where one is least",    "WEFT_DELIVERY__MAX_IN_FLIGHT", "0",           "delivery.max_in_flight"),
        ("a bad switch",               "WEFT_ALLOW_HTTP",          "maybe",           "allow_http"),
        ("a bad address",              "WEFT_LISTEN",              "localhost",       "listen"),
        ("a bad network",              "WEFT_OUTBOUND_ALLOW",      "10.0.0.0/40",     "outbound_allow"),
        ("a bad schedule",             "WEFT_RETRY_SCHEDULE",      "10s;20s",         "retry_schedule"),
        ("a bad name server",          "WEFT_DNS",                 "resolver",        "dns"),
        ("a bad format",               "WEFT_LOG_FORMAT",          "xml",             "log_format"),
        ("a bad filter",               "WEFT_LOG",                 "weft=loudly",     "log: "),
        ("no such roots",              "WEFT_EXTRA_ROOT_PEM",      "/nowhere.pem",    "/nowhere.pem"),
        ("no such file",               "WEFT_CONFIG",              "/nowhere.toml",   "no such file: /nowhere.toml"),
        ("a bad master key",           "WEFT_MASTER_KEY",          "short",           "WEFT_MASTER_KEY is not a key"),
        ("a key others can read",      "WEFT_MASTER_KEY_FILE",     &at("open.key"),   "run: chmod 600 "),
        ("a bad key in a file",        "WEFT_MASTER_KEY_FILE",     &at("short.key"),  "short.key is not a key"),
        ("a key that is a directory",  "WEFT_MASTER_KEY_FILE",     dir.path().to_str().expect("text"), "the master key "),
    ];
    for (why, name, value, expected) in variables {
        let told = refusal(why, &weft(&["serve", "--data", &at("data")], &[(name, value)]));
        assert!(told.contains(expected), "{why}: {told}");
    }
    assert!(!dir.path().join("data").exists(), "nothing was made");

    #[rustfmt::skip]
    let data: [(&str, &[&str], &str); 5] = [
        ("nothing to verify",     &["verify", "--data", &at("data")],  "there is no data at "),
        ("nothing to repair",     &["repair", "--data", &at("data")],  "there is no data at "),
        ("data that is a file",   &["serve", "--data", &at("file")],   "cannot be used"),
        ("data below a file",     &["serve", "--data", &in_file],      "Not a directory"),
        ("a place that is taken", &["serve", "--data", &at("made"), "--listen", "203.0.113.1:1"], "cannot listen on 203.0.113.1:1"),
    ];
    for (why, arguments, expected) in data {
        let told = refusal(why, &weft(arguments, &[("WEFT_MASTER_KEY", &key)]));
        assert!(told.contains(expected), "{why}: {told}");
    }
}

#[test]
fn a_master_key_inside_the_data_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data").display().to_string();
    let key = format!("{data}/key");
    let output = weft(&["serve", "--data", &data], &[("WEFT_MASTER_KEY_FILE", &key)]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(told.contains("inside the data directory"), "{told}");
}

#[test]
fn help_names_every_command_and_a_token_is_one_line() {
    let help = weft(&["--help"], &[]);
    let text = String::from_utf8_lossy(&help.stdout);
    for command in ["dev", "serve", "init", "verify", "repair", "token", "mcp", "completions", "event", "key"]
    {
        assert!(text.contains(&format!("  {command} ")), "{text}");
    }
    let keys = [
        ("WEFT_ACCESS_KEY", "mk_0123456789abcdefABCDEF"),
        ("WEFT_SECRET_KEY", "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I"),
        ("WEFT_ORG_ID", "7b0e8e55-4c1b-4a39-9d35-0a2d7c1f3c11"),
    ];
    let token = weft(&["token"], &keys);
    let text = String::from_utf8(token.stdout).expect("text");
    assert_eq!((text.lines().count(), text.trim().split('.').count()), (1, 3), "{text}");
    assert!(weft::auth::Token::parse(text.trim()).is_ok(), "{text}");
    let without = weft(&["token"], &keys[..2]);
    assert!(!without.status.success() && !String::from_utf8_lossy(&without.stderr).contains(keys[1].1));
}

#[test]
fn every_shell_gets_its_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = weft(&["completions", shell], &[]);
        let script = String::from_utf8(output.stdout).expect("text");
        assert!(output.status.success() && output.stderr.is_empty(), "{shell}");
        for word in ["export", "idempotency-key", "rotate-key", "outbound-allow"] {
            assert!(script.contains(word), "{shell} completes {word}");
        }
    }
    assert_eq!(weft(&["completions", "tcsh"], &[]).status.code(), Some(2));
}

#[test]
fn a_server_that_nobody_named_is_the_configurations() {
    let keys = [
        "--access-key",
        "mk_0123456789abcdefABCDEF",
        "--secret-key",
        "s",
        "--org",
        "7b0e8e55-4c1b-4a39-9d35-0a2d7c1f3c11",
    ];
    #[rustfmt::skip]
    let cases = [
        (("WEFT_LISTEN", "127.0.0.1:9"), "weft: cannot reach http://127.0.0.1:9: "),
        (("WEFT_LISTEN", "0.0.0.0:9"),   "weft: cannot reach http://127.0.0.1:9: "),
        (("WEFT_LISTEN", "127.0.0.1:0"), "weft: the configuration names no port; say --server URL"),
        (("WEFT_LISTEN", "nowhere"),     "weft: configuration: listen"),
    ];
    for (variable, expected) in cases {
        let output = weft(&[&["workspace", "list"][..], &keys].concat(), &[variable]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), told.lines().count()), (Some(1), 1), "{variable:?}: {told}");
        assert!(told.starts_with(expected), "{variable:?}: {told}");
    }
}
