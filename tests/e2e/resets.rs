//! Another password by a link, and how often passwords may be tried.

use crate::{
    support::{Answer, Weft, assert_members, send, text},
    users::{PASSWORD, User},
};
use actors::{
    clock::Clock,
    domain::{secret::Secret, timestamp::Timestamp},
    engine::MachineKeyClear,
};
use reqwest::Method;
use serde_json::{Value, json};

const ANOTHER: &str = "another password";
const OVER: &str = "the link was used or taken back, or has expired";

/// A link for this user; the token in it.
async fn link(weft: &Weft, user: &User) -> String {
    let made = weft.post(&format!("/users/{}/reset", user.id), json!({})).await.answered(201, "a link");
    assert_members(&made, &["link", "expires_at"], "a link");
    let link = text(&made["link"]);
    assert!(link.starts_with(&format!("{}/reset?token=", weft.base)), "{link}");
    link.split_once("token=").expect("a token").1.to_owned()
}

async fn reset(weft: &Weft, token: &str, password: &str) -> Answer {
    let body = json!({ "token": token, "password": password });
    send(weft.request(Method::POST, "/api/v1/password/reset").json(&body)).await
}

#[tokio::test]
async fn a_link_gives_another_password_once_and_ends_what_was() {
    let weft = Weft::start().await;
    let user = weft.user("owner").await;
    let signed_in = weft.sign_in(&user).await;
    let (earlier, token) = (link(&weft, &user).await, link(&weft, &user).await);
    assert_eq!(weft.status_with(&signed_in).await, 200, "a link alone changes nothing");
    reset(&weft, &earlier, ANOTHER).await.refused(401, OVER, "a later one took its place");
    reset(&weft, &token, ANOTHER).await.answered(200, "used");
    assert_eq!(weft.status_with(&signed_in).await, 401, "the sign-ins are over");
    reset(&weft, &token, "a third password").await.refused(401, OVER, "it is good once");
    weft.try_sign_in(&user.email, PASSWORD).await.refused(401, "is wrong", "the old password");
    weft.try_sign_in(&user.email, ANOTHER).await.answered(200, "the new one");

    // Whoever changes their password has no use for a link, nor has anybody else.
    let token = link(&weft, &user).await;
    let mine = text(&weft.try_sign_in(&user.email, ANOTHER).await.body["access_token"]);
    let change = json!({ "current_password": ANOTHER, "password": PASSWORD });
    weft.ask_as(&mine, Method::POST, "/password", Some(change)).await.answered(200, "changed");
    reset(&weft, &token, ANOTHER).await.refused(401, OVER, "changed meanwhile");

    let token = link(&weft, &user).await;
    let path = format!("/users/{}/reset", user.id);
    weft.delete(&path).await.answered(200, "taken back");
    weft.delete(&path).await.refused(404, "reset not found", "there is none");
    reset(&weft, &token, ANOTHER).await.refused(401, OVER, "taken back");

    // Of two who use it at once one does.
    let token = link(&weft, &user).await;
    let (one, other) =
        tokio::join!(reset(&weft, &token, "one password more"), reset(&weft, &token, "or another one"));
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401], "at once");

    let token = link(&weft, &user).await;
    let weft = weft.restart().await;
    reset(&weft, &token, ANOTHER).await.answered(200, "after a restart");
    weft.stop().await;
}

#[tokio::test]
async fn a_link_ends_after_a_day() {
    let (clock, lever) = Clock::tokio(Timestamp(1_768_943_656_000));
    let weft = Weft::at(clock, |_| {}, |_| {}).await;
    let user = weft.user("member").await;
    let token = link(&weft, &user).await;
    lever.jump_ms(24 * 3_600 * 1_000);
    reset(&weft, &token, ANOTHER).await.refused(401, OVER, "a day later");
    weft.stop().await;
}

/// Only who may do as much as a user makes links for them, and none is of use to who is kept out.
#[tokio::test]
async fn links_are_for_those_below_and_for_those_who_may_come_in() {
    let weft = Weft::start().await;
    let (owner, member) = (weft.user("owner").await, weft.user("member").await);
    let admin = weft.sign_in(&weft.user("admin").await).await;
    for user in [&owner, &member] {
        let path = format!("/users/{}/reset", user.id);
        for method in [Method::POST, Method::DELETE] {
            assert_eq!(weft.ask_as(&admin, method, &path, None).await.status, 403, "admins manage no users");
        }
    }
    let (stranger, _, _) = weft.stranger().await;
    let path = format!("/users/{}/reset", member.id);
    let limited = json!({ "name": "limited", "permissions": ["keys", "read", "write"] });
    let limited = weft.post("/keys", limited).await.answered(201, "a key")["key"].clone();
    let limited = MachineKeyClear {
        access_key: text(&limited["access_key"]),
        secret: Secret::new(text(&limited["secret_key"])),
        ..weft.machine.clone()
    };
    for (user, status) in [(&owner, 403), (&member, 201)] {
        let path = format!("/users/{}/reset", user.id);
        let answer = weft.ask_as(&weft.token_of(&limited), Method::POST, &path, None).await;
        assert_eq!(answer.status, status, "by a key that may do less than an owner: {}", answer.text);
    }
    weft.ask_as(&weft.token_of(&stranger), Method::POST, &path, None).await.refused(
        404,
        "user not found",
        "theirs",
    );

    let token = link(&weft, &member).await;
    let disabled = |disabled: bool| json!({ "disabled": disabled });
    weft.patch(&format!("/users/{}", member.id), disabled(true)).await.answered(200, "disabled");
    weft.post(&path, json!({})).await.refused(409, "enable them first", "disabled");
    reset(&weft, &token, ANOTHER).await.refused(401, OVER, "disabled");
    weft.patch(&format!("/users/{}", member.id), disabled(false)).await.answered(200, "enabled");
    reset(&weft, &token, ANOTHER).await.answered(200, "enabled again");
    weft.stop().await;
}

#[tokio::test]
async fn what_is_wrong_about_a_reset_is_said() {
    let weft = Weft::start().await;
    let user = weft.user("member").await;
    let token = link(&weft, &user).await;
    let body = |token: Value, password: Value| json!({ "token": token, "password": password });
    #[rustfmt::skip]
    let cases = [
        ("no token",            json!({ "password": ANOTHER }),                 "token"),
        ("a token of null",     body(Value::Null, json!(ANOTHER)),              "token"),
        ("an empty token",      body(json!(""), json!(ANOTHER)),                "token"),
        ("a long token",        body(json!("x".repeat(256)), json!(ANOTHER)),   "token"),
        ("no password",         json!({ "token": token }),                      "password"),
        ("a number",            body(json!(token), json!(5)),                   "password"),
        ("a short password",    body(json!(token), json!("too short")),         "password"),
        ("a long password",     body(json!(token), json!("x".repeat(257))),     "password"),
        ("a list",              json!([]),                                      ""),
    ];
    for (why, body, param) in cases {
        let answer = send(weft.request(Method::POST, "/api/v1/password/reset").json(&body)).await;
        answer.assert_error(400, param, why);
    }
    let altered = format!("{}A", &token[..token.len() - 1]);
    let foreign = token.replace("reset.", "invite.");
    for wrong in ["x", "reset.", "reset.x.y", &altered, &foreign] {
        reset(&weft, wrong, ANOTHER).await.refused(401, OVER, wrong);
    }
    let before = weft.engine().passwords_checked();
    reset(&weft, &token, ANOTHER).await.answered(200, "nothing of that used it up");
    assert_eq!(weft.engine().passwords_checked(), before);
    weft.stop().await;
}

/// Strangers from many addresses share an account's tries; its owner comes in from where they were before,
/// and nobody learns whether there is such an account.
#[tokio::test]
async fn an_accounts_passwords_are_tried_at_a_rate() {
    let weft = Weft::with(|config| {
        (config.auth.account_sign_ins_per_hour, config.auth.account_sign_ins_burst) = (1, 3);
        config.http.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    });
    let weft = weft.await;
    let user = weft.user("member").await;
    let tries = async |email: &str, password: &str, from: &str| {
        let request = weft.request(Method::POST, "/api/v1/sign-in").header("x-forwarded-for", from);
        send(request.json(&json!({ "email": email, "password": password }))).await
    };
    let home = "192.0.2.1";
    tries(&user.email, PASSWORD, home).await.answered(200, "the owner");
    let mut answers = Vec::new();
    for email in [&user.email[..], "nobody@example.com"] {
        let mut statuses = Vec::new();
        for n in 0..5 {
            let answer = tries(email, "wrong horse battery", &format!("198.51.100.{n}")).await;
            statuses.push(answer.status);
            if n == 4 {
                assert!(answer.header("retry-after").is_some(), "{email}");
                answer.refused(429, "too many passwords were tried for this e-mail address", email);
                answers.push((answer.message().to_owned(), answer.body["error"]["name"].clone()));
            }
        }
        // The owner's own first try was one of the three.
        let expected =
            if email == user.email { [401, 401, 429, 429, 429] } else { [401, 401, 401, 429, 429] };
        assert_eq!(statuses, expected, "{email}");
    }
    assert_eq!(answers[0], answers[1], "nobody learns which of them there is");
    let before = weft.engine().passwords_checked();
    tries(&user.email, PASSWORD, "198.51.100.9").await.refused(429, "too many", "also with the right one");
    assert_eq!(weft.engine().passwords_checked(), before, "nothing is hashed for it");
    tries(&user.email, PASSWORD, home).await.answered(200, "from where the owner was before");
    weft.stop().await;
}
