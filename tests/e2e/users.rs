//! Users: invited by a link, signed in by a password, changed and removed by owners.

use crate::support::{Answer, Weft, assert_members, ids, send, text};
use actors::engine::MachineKeyClear;
use reqwest::Method;
use serde_json::{Value, json};

pub const PASSWORD: &str = "correct horse battery";

/// Somebody who was invited and accepted.
pub struct User {
    pub id: String,
    pub email: String,
}

impl Weft {
    pub async fn invite(&self, email: &str, role: &str) -> Value {
        let made = self.post("/invitations", json!({ "email": email, "role": role })).await;
        made.answered(201, "an invitation")
    }

    /// A new user of this role.
    pub async fn user(&self, role: &str) -> User {
        self.user_of(&self.machine, role).await
    }

    /// The same of another organization.
    pub async fn user_of(&self, machine: &MachineKeyClear, role: &str) -> User {
        let email = format!("{role}-{}@example.com", uuid::Uuid::new_v4().simple());
        let body = json!({ "email": email, "role": role });
        let invited = self.ask_as(&self.token_of(machine), Method::POST, "/invitations", Some(body)).await;
        let link = text(&invited.answered(201, "an invitation")["link"]);
        let accepted = self.accept(token_in(&link), role, PASSWORD).await.answered(201, "accepted");
        User { id: text(&accepted["user"]["id"]), email }
    }

    async fn accept(&self, token: &str, name: &str, password: &str) -> Answer {
        let body = json!({ "token": token, "name": name, "password": password });
        send(self.request(Method::POST, "/api/v1/invitations/accept").json(&body)).await
    }

    pub async fn try_sign_in(&self, email: &str, password: &str) -> Answer {
        let body = json!({ "email": email, "password": password });
        send(self.request(Method::POST, "/api/v1/sign-in").json(&body)).await
    }

    /// A token of the user's.
    pub async fn sign_in(&self, user: &User) -> String {
        let signed_in = self.try_sign_in(&user.email, PASSWORD).await.answered(200, "signed in");
        text(&signed_in["access_token"])
    }

    pub async fn status_with(&self, token: &str) -> u16 {
        self.ask_as(token, Method::GET, "/organization", None).await.status
    }
}

fn token_in(link: &str) -> &str {
    link.split_once("/invitation?token=").expect("a link").1
}

#[tokio::test]
async fn somebody_is_invited_accepts_once_and_signs_in() {
    let weft = Weft::start().await;
    let made = weft.invite("Ada@Example.com", "admin").await;
    let shown = ["id", "email", "role", "created_by", "created_at", "expires_at"];
    assert_members(&made, &["invitation", "link"], "as it is made");
    assert_members(&made["invitation"], &shown, "an invitation");
    assert_eq!(made["invitation"]["email"], "ada@example.com", "one spelling");
    assert_eq!(made["invitation"]["created_by"], weft.machine.access_key);
    let link = text(&made["link"]);
    assert!(link.starts_with(&weft.base), "{link}");
    let list = weft.get("/invitations").await.answered(200, "a list");
    assert_eq!(ids(&list), [text(&made["invitation"]["id"])]);
    assert!(!list.to_string().contains("invite."), "the token is shown once");

    let again = weft.post("/invitations", json!({ "email": "ADA@example.com", "role": "member" })).await;
    again.refused(409, "already exists", "one invitation an address");

    let accepted = weft.accept(token_in(&link), "Ada", PASSWORD).await.answered(201, "accepted");
    let members = [
        "id",
        "email",
        "name",
        "role",
        "payloads",
        "disabled",
        "last_sign_in_at",
        "created_at",
        "updated_at",
    ];
    assert_members(&accepted["user"], &members, "a user");
    assert_eq!((&accepted["user"]["role"], &accepted["user"]["name"]), (&json!("admin"), &json!("Ada")));
    let used = weft.accept(token_in(&link), "Eve", PASSWORD).await;
    used.refused(401, "used or deleted, or has expired", "once");
    assert!(ids(&weft.get("/invitations").await.body).is_empty());
    weft.post("/invitations", json!({ "email": "ada@example.com", "role": "member" })).await.refused(
        409,
        "a user of this e-mail address already exists",
        "who is there is not invited",
    );

    let signed_in = weft.try_sign_in("ADA@example.com", PASSWORD).await.answered(200, "signed in");
    assert_members(&signed_in, &["access_token", "expires_at", "user"], "a sign-in");
    let token = text(&signed_in["access_token"]);
    let shown = weft.ask_as(&token, Method::GET, "/organization", None).await.answered(200, "ours");
    assert_eq!(shown["id"], weft.machine.organization_id.to_string());

    // Both are there after a restart, and so is what was used up.
    let weft = weft.restart().await;
    assert_eq!(weft.status_with(&token).await, 200);
    weft.accept(token_in(&link), "Eve", PASSWORD).await.refused(401, "used or deleted", "still");
    let users = weft.get("/users").await.answered(200, "users");
    assert_eq!(users["records"][0]["email"], "ada@example.com");
    assert!(!users.to_string().contains("argon2"), "no hash is told");
    weft.stop().await;
}

#[tokio::test]
async fn an_invitation_that_is_deleted_altered_or_anothers_is_worth_nothing() {
    let weft = Weft::start().await;
    let made = weft.invite("ada@example.com", "member").await;
    let link = text(&made["link"]);
    let token = token_in(&link);
    let altered = format!("{}{}", &token[..token.len() - 1], if token.ends_with('A') { "B" } else { "A" });
    for (why, token) in [("altered", &altered[..]), ("made up", "invite.x.y"), ("another kind", "launch.x.y")]
    {
        weft.accept(token, "Eve", PASSWORD).await.refused(401, "used or deleted, or has expired", why);
    }
    let path = format!("/invitations/{}", text(&made["invitation"]["id"]));
    weft.delete(&path).await.answered(200, "deleted");
    weft.delete(&path).await.refused(404, "invitation not found", "again");
    weft.accept(token, "Eve", PASSWORD).await.refused(401, "used or deleted, or has expired", "deleted");

    // An address is one user's on the whole server; who invites elsewhere is not told so.
    let user = weft.user("member").await;
    let (stranger, ..) = weft.stranger().await;
    let body = json!({ "email": user.email, "role": "member" });
    let invited = weft.ask_as(&weft.token_of(&stranger), Method::POST, "/invitations", Some(body)).await;
    let link = text(&invited.answered(201, "nothing is revealed")["link"]);
    let taken = weft.accept(token_in(&link), "Twin", PASSWORD).await;
    taken.refused(409, "a user of this e-mail address already exists", "their own address");
    weft.stop().await;
}

/// Whoever tries learns nothing of who is there: the same answer, for the same work.
#[tokio::test]
async fn a_wrong_address_and_a_wrong_password_read_and_cost_the_same() {
    let weft = Weft::start().await;
    let user = weft.user("member").await;
    let disabled = weft.user("member").await;
    let patch = json!({ "disabled": true });
    weft.patch(&format!("/users/{}", disabled.id), patch).await.answered(200, "disabled");
    let mut answers = Vec::new();
    for (why, email, password) in [
        ("a wrong password", &user.email[..], "wrong horse battery"),
        ("nobody's address", "nobody@example.com", PASSWORD),
        ("no address at all", "nobody", PASSWORD),
        ("a disabled user's right password", &disabled.email, PASSWORD),
        ("a password that is too short to be one", &user.email, "x"),
    ] {
        let before = weft.engine().passwords_checked();
        let answer = weft.try_sign_in(email, password).await;
        answer.refused(401, "the e-mail address or the password is wrong", why);
        assert_eq!(weft.engine().passwords_checked(), before + 1, "{why}: one hash");
        answers.push(answer.body["error"].clone());
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
    weft.try_sign_in(&user.email, PASSWORD).await.answered(200, "the right ones");
    weft.stop().await;
}

#[tokio::test]
async fn passwords_are_tried_at_a_rate() {
    let weft = Weft::with(|config| {
        (config.auth.sign_ins_per_minute, config.auth.sign_ins_burst) = (1, 3);
        config.http.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    });
    let weft = weft.await;
    let user = weft.user("member").await;
    for _ in 0..3 {
        weft.try_sign_in(&user.email, "wrong horse battery").await.refused(401, "is wrong", "a try");
    }
    let before = weft.engine().passwords_checked();
    let held_back = weft.try_sign_in(&user.email, PASSWORD).await;
    held_back.refused(429, "too many passwords were tried", "a fourth");
    assert!(held_back.header("retry-after").is_some());
    assert_eq!(weft.engine().passwords_checked(), before, "nothing is hashed for it");
    // Behind a proxy of ours it is the client's address that counts, and that the log tells.
    let request = weft.request(Method::POST, "/api/v1/sign-in").header("x-forwarded-for", "198.51.100.7");
    let body = json!({ "email": user.email, "password": PASSWORD });
    send(request.json(&body)).await.answered(200, "from elsewhere");
    let line = weft.get("/audit?limit=1").await.answered(200, "the log")["records"][0].clone();
    assert_eq!(line["actor"]["ip_address"], "198.51.100.7");
    weft.stop().await;
}

/// Signing out, another password, and being disabled or deleted end every token at once.
#[tokio::test]
async fn a_sign_in_ends_when_it_should() {
    let weft = Weft::start().await;
    let user = weft.user("owner").await;
    let path = format!("/users/{}", user.id);
    let [one, two] = [weft.sign_in(&user).await, weft.sign_in(&user).await];
    assert_eq!((weft.status_with(&one).await, weft.status_with(&two).await), (200, 200));
    weft.ask_as(&one, Method::POST, "/sign-out", None).await.answered(200, "signed out");
    assert_eq!((weft.status_with(&one).await, weft.status_with(&two).await), (401, 401), "everywhere");

    let token = weft.sign_in(&user).await;
    let change = async |current: &str, new: &str| {
        let body = json!({ "current_password": current, "password": new });
        weft.ask_as(&token, Method::POST, "/password", Some(body)).await
    };
    let wrong = change("wrong horse battery", "another password").await;
    wrong.refused(400, "is not the password you have", "without the right one");
    assert_eq!(weft.status_with(&token).await, 200);
    let elsewhere = weft.sign_in(&user).await;
    let changed = change(PASSWORD, "another password").await.answered(200, "changed");
    assert_eq!((weft.status_with(&token).await, weft.status_with(&elsewhere).await), (401, 401));
    assert_eq!(weft.status_with(&text(&changed["access_token"])).await, 200, "who changed it goes on");
    weft.try_sign_in(&user.email, PASSWORD).await.refused(401, "is wrong", "the old password");
    let signed_in = weft.try_sign_in(&user.email, "another password").await.answered(200, "the new one");
    let token = text(&signed_in["access_token"]);

    let other = weft.user("owner").await;
    weft.patch(&path, json!({ "disabled": true })).await.answered(200, "disabled");
    assert_eq!(weft.status_with(&token).await, 401);
    weft.patch(&path, json!({ "disabled": false })).await.answered(200, "enabled again");
    assert_eq!(weft.status_with(&token).await, 401, "an old token stays dead");
    let token = text(&weft.try_sign_in(&user.email, "another password").await.body["access_token"]);
    weft.delete(&path).await.answered(200, "deleted");
    assert_eq!(weft.status_with(&token).await, 401);
    weft.delete(&path).await.refused(404, "user not found", "again");
    let altered = token.replace("weft_user_", "weft_user_A");
    assert_eq!(weft.status_with(&altered).await, 401);
    weft.delete(&format!("/users/{}", other.id)).await.refused(409, "last owner", "somebody must be left");
    weft.stop().await;
}

/// A role is what it is now, whatever it was when its user signed in.
#[tokio::test]
async fn a_role_changes_at_once_and_the_last_owner_stays_one() {
    let weft = Weft::start().await;
    let (one, two) = (weft.user("owner").await, weft.user("owner").await);
    let (token, path) = (weft.sign_in(&one).await, format!("/users/{}", one.id));
    let keys = async || weft.ask_as(&token, Method::GET, "/keys", None).await.status;
    assert_eq!(keys().await, 200);
    weft.patch(&path, json!({ "role": "admin", "name": "Ada" })).await.answered(200, "demoted");
    assert_eq!(keys().await, 403);
    let last = format!("/users/{}", two.id);
    for (why, patch) in [("demoted", json!({ "role": "member" })), ("disabled", json!({ "disabled": true }))]
    {
        weft.patch(&last, patch).await.refused(409, "last owner", why);
    }
    weft.delete(&last).await.refused(409, "last owner", "deleted");
    weft.patch(&last, json!({ "role": "owner", "name": "Two" })).await.answered(200, "as it is");
    weft.patch(&path, json!({ "role": "owner" })).await.answered(200, "promoted");
    weft.delete(&last).await.answered(200, "there is another one");
    weft.stop().await;
}

/// Nobody makes themselves more than they are: neither a key nor a user.
#[tokio::test]
async fn nobody_gives_or_takes_a_role_beyond_their_own() {
    let weft = Weft::start().await;
    let owner = weft.user("owner").await;
    let member = weft.user("member").await;
    let permissions = json!(["keys", "read", "write"]);
    let made = weft.post("/keys", json!({ "name": "limited", "permissions": permissions })).await;
    let made = made.answered(201, "a key")["key"].clone();
    let limited = MachineKeyClear {
        access_key: text(&made["access_key"]),
        secret: actors::domain::secret::Secret::new(text(&made["secret_key"])),
        ..weft.machine.clone()
    };
    let token = weft.token_of(&limited);
    let ask =
        async |method: Method, path: &str, body: Value| weft.ask_as(&token, method, path, Some(body)).await;
    let beyond = "may do more than they may themselves";
    for role in ["admin", "owner"] {
        let body = json!({ "email": format!("{role}@example.com"), "role": role });
        ask(Method::POST, "/invitations", body).await.refused(403, beyond, role);
    }
    let body = json!({ "email": "m@example.com", "role": "member" });
    ask(Method::POST, "/invitations", body).await.answered(201, "a member");
    let (theirs, ours) = (format!("/users/{}", owner.id), format!("/users/{}", member.id));
    ask(Method::PATCH, &theirs, json!({ "role": "member" })).await.refused(403, beyond, "an owner");
    ask(Method::DELETE, &theirs, json!({})).await.refused(403, beyond, "an owner");
    ask(Method::PATCH, &ours, json!({ "role": "owner" })).await.refused(403, beyond, "to an owner");
    ask(Method::PATCH, &ours, json!({ "name": "Grace" })).await.answered(200, "a member");
    weft.stop().await;
}

#[tokio::test]
async fn what_is_wrong_about_a_field_is_said() {
    let weft = Weft::start().await;
    let user = weft.user("owner").await;
    let token = weft.sign_in(&user).await;
    let path = format!("/users/{}", user.id);
    let long = |count: usize| "x".repeat(count);
    let invite = |email: Value, role: Value| json!({ "email": email, "role": role });
    let accept = |token: Value, name: Value, password: Value| json!({ "token": token, "name": name, "password": password });
    let enter = |email: Value, password: Value| json!({ "email": email, "password": password });
    let change = |current: Value, new: Value| json!({ "current_password": current, "password": new });
    let (address, word) = (json!("ada@example.com"), json!(PASSWORD));
    #[rustfmt::skip]
    let cases = [
        // where                                         body                                                    names
        (Method::POST, "/invitations",                   json!({ "role": "member" }),                            "email"),
        (Method::POST, "/invitations",                   json!({ "email": address }),                            "role"),
        (Method::POST, "/invitations",                   invite(Value::Null, json!("member")),                   "email"),
        (Method::POST, "/invitations",                   invite(json!(7), json!("member")),                      "email"),
        (Method::POST, "/invitations",                   invite(json!(""), json!("member")),                     "email"),
        (Method::POST, "/invitations",                   invite(json!("ada"), json!("member")),                  "email"),
        (Method::POST, "/invitations",                   invite(json!("a\n@example.com"), json!("member")),      "email"),
        (Method::POST, "/invitations",                   invite(json!(format!("{}@example.com", long(65))), json!("member")), "email"),
        (Method::POST, "/invitations",                   invite(address.clone(), json!("root")),                 "role"),
        (Method::POST, "/invitations",                   invite(address.clone(), json!("")),                     "role"),
        (Method::POST, "/invitations",                   invite(address.clone(), Value::Null),                   "role"),
        (Method::POST, "/invitations",                   invite(address.clone(), json!(["owner"])),              "role"),
        (Method::POST, "/invitations/accept",            json!({ "name": "a", "password": word }),               "token"),
        (Method::POST, "/invitations/accept",            accept(json!(""), json!("a"), word.clone()),            "token"),
        (Method::POST, "/invitations/accept",            accept(json!(long(256)), json!("a"), word.clone()),     "token"),
        (Method::POST, "/invitations/accept",            accept(json!(1), json!("a"), word.clone()),             "token"),
        (Method::POST, "/invitations/accept",            accept(json!("t"), json!(""), word.clone()),            "name"),
        (Method::POST, "/invitations/accept",            accept(json!("t"), json!("a\0"), word.clone()),         "name"),
        (Method::POST, "/invitations/accept",            accept(json!("t"), json!(long(256)), word.clone()),     "name"),
        (Method::POST, "/invitations/accept",            accept(json!("t"), Value::Null, word.clone()),          "name"),
        (Method::POST, "/invitations/accept",            accept(json!("t"), json!("a"), json!(long(11))),        "password"),
        (Method::POST, "/invitations/accept",            accept(json!("t"), json!("a"), json!(long(257))),       "password"),
        (Method::POST, "/invitations/accept",            accept(json!("t"), json!("a"), Value::Null),            "password"),
        (Method::POST, "/invitations/accept",            accept(json!("t"), json!("a"), json!(123_456_789_012_i64)), "password"),
        (Method::POST, "/sign-in",                       json!({ "password": word }),                            "email"),
        (Method::POST, "/sign-in",                       json!({ "email": address }),                            "password"),
        (Method::POST, "/sign-in",                       enter(json!(""), word.clone()),                         "email"),
        (Method::POST, "/sign-in",                       enter(json!(long(1_025)), word.clone()),                "email"),
        (Method::POST, "/sign-in",                       enter(Value::Null, word.clone()),                       "email"),
        (Method::POST, "/sign-in",                       enter(address.clone(), json!("")),                      "password"),
        (Method::POST, "/sign-in",                       enter(address.clone(), json!(long(1_025))),             "password"),
        (Method::POST, "/sign-in",                       enter(address, json!({ "$ne": "" })),                   "password"),
        (Method::POST, "/password",                      json!({ "password": word }),                            "current_password"),
        (Method::POST, "/password",                      json!({ "current_password": word }),                    "password"),
        (Method::POST, "/password",                      change(json!(""), word.clone()),                        "current_password"),
        (Method::POST, "/password",                      change(word.clone(), json!(long(11))),                  "password"),
        (Method::POST, "/password",                      change(word.clone(), json!(long(257))),                 "password"),
        (Method::POST, "/password",                      change(word, Value::Null),                              "password"),
        (Method::PATCH, &path,                           json!({ "name": "" }),                                  "name"),
        (Method::PATCH, &path,                           json!({ "name": long(256) }),                           "name"),
        (Method::PATCH, &path,                           json!({ "name": 5 }),                                   "name"),
        (Method::PATCH, &path,                           json!({ "role": "Owner" }),                             "role"),
        (Method::PATCH, &path,                           json!({ "role": 1 }),                                   "role"),
        (Method::PATCH, &path,                           json!({ "payloads": "yes" }),                           "payloads"),
        (Method::PATCH, &path,                           json!({ "disabled": 1 }),                               "disabled"),
        (Method::PUT,  "/organization",                  json!({}),                                              "name"),
        (Method::PUT,  "/organization",                  json!({ "name": "" }),                                  "name"),
        (Method::PUT,  "/organization",                  json!({ "name": Value::Null }),                         "name"),
        (Method::PUT,  "/organization",                  json!({ "name": long(129) }),                           "name"),
        (Method::PUT,  "/organization",                  json!({ "name": "<b>" }),                               "name"),
    ];
    for (method, path, body, names) in cases {
        let why = format!("{method} {path} {body}");
        weft.ask_as(&token, method, path, Some(body)).await.assert_error(400, names, &why);
    }
    // The last that are allowed.
    let renamed = weft.put("/organization", json!({ "name": long(128) })).await.answered(200, "128");
    assert_members(&renamed, &["id", "name", "created_at"], "an organization");
    weft.patch(&path, json!({ "name": long(255) })).await.answered(200, "255");
    let made = weft.invite(&format!("{}@example.com", long(64)), "member").await;
    let link = text(&made["link"]);
    weft.accept(token_in(&link), "a", &long(256)).await.answered(201, "256");
    weft.stop().await;
}
