//! The `weft` command as an operator types it, as far as no store is needed.

use std::process::{Command, Output};

fn weft(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
    command.args(arguments).env_clear().envs(variables.iter().copied());
    command.output().expect("the command runs")
}

#[test]
fn bad_configuration_is_one_clear_line_and_no_success() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(at("bad.toml"), "[http]\nconections_max = 5\n").expect("it is ours");
    type Case<'c> = (&'c str, &'c [&'c str], &'c [(&'c str, &'c str)], &'c str);
    #[rustfmt::skip]
    let cases: [Case<'_>; 6] = [
        ("an unknown key",           &["serve", "--config", &at("bad.toml")],            &[],                             "conections_max"),
        ("an unknown variable",      &["serve", "--data", &at("data")],                  &[("WEFT_LISEN", "x")],          "lisen"),
        ("a bad variable",           &["serve", "--data", &at("data")],                  &[("WEFT_DELIVERY__TIMEOUT", "soon")], "delivery.timeout"),
        ("no such file",             &["serve", "--config", &at("absent.toml")],         &[],                             "no such file"),
        ("a bad master key",         &["serve", "--data", &at("data")],                  &[("WEFT_MASTER_KEY", "short")], "WEFT_MASTER_KEY"),
        ("nothing to verify",        &["verify", "--data", &at("data")],                 &[],                             "there is no data"),
    ];
    for (why, arguments, variables, expected) in cases {
        let output = weft(arguments, variables);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{why}: {told}");
        assert!(told.starts_with("weft: ") && told.contains(expected), "{why}: {told}");
        assert_eq!(told.lines().count(), 1, "{why}: {told}");
        assert!(output.stdout.is_empty(), "{why}");
    }
    assert!(!dir.path().join("data").exists(), "nothing was made");
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
    for command in ["dev", "serve", "init", "verify", "token"] {
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
