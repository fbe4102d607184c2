//! Sessions as hosts mint, refresh, list and revoke them.

use crate::support::{Answer, Weft, assert_members, text};
use reqwest::Method;
use serde_json::{Value, json};

/// What every answer about a session has, but for what only some have.
pub const ALWAYS: [&str; 5] = ["session_id", "workspace_id", "role", "session_type", "expires_at"];

impl Weft {
    /// Mints a session from what is not usual.
    pub async fn mint(&self, mut body: Value) -> Value {
        body["workspace_id"] = self.workspace.as_str().into();
        self.post("/sessions", body).await.answered(200, "a session")
    }

    /// Asks with a session's access token.
    pub async fn ask_in(&self, session: &Value, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.ask_as(&text(&session["access_token"]), method, path, body).await
    }

    pub async fn get_in(&self, session: &Value, path: &str) -> Answer {
        self.ask_in(session, Method::GET, path, None).await
    }

    pub async fn refresh(&self, session: &Value) -> Answer {
        let path = format!("/api/v1/sessions/{}/refresh", text(&session["session_id"]));
        // As the official client does: a content type, and nothing.
        let request = self.request(Method::POST, &path).bearer_auth(self.token());
        crate::support::send(request.header("content-type", "application/json").header("content-length", "0"))
            .await
    }

    pub async fn revoke(&self, session: &Value) -> Answer {
        self.delete(&format!("/sessions/{}", text(&session["session_id"]))).await
    }
}

/// Where nothing is set, links lead to where the server listens.
#[tokio::test]
async fn a_launch_url_is_absolute() {
    let weft = Weft::start().await;
    let minted = weft.mint(json!({})).await;
    assert!(text(&minted["launch_url"]).starts_with(&format!("{}/workspace/dashboard?launch=", weft.base)));
    weft.stop().await;
}

/// What does not fit is refused by the name of its field, and nothing is made.
#[tokio::test]
async fn what_does_not_fit_is_refused_by_name() {
    let weft = Weft::start().await;
    let with = |name: &str, value: Value| {
        let mut body = json!({ "workspace_id": weft.workspace });
        body[name] = value;
        body
    };
    let origin = |origin: &str| with("allowed_origins", json!([origin]));
    let of = |kind: &str, page: &str| {
        let mut body = with("session_type", json!(kind));
        body["launch_page"] = json!(page);
        if kind == "resource" {
            (body["resource"], body["resource_id"]) = (json!("user"), json!("7"));
        }
        body
    };
    let pair = |resource: Value, id: Value| {
        let mut body = with("session_type", json!("resource"));
        (body["resource"], body["resource_id"]) = (resource, id);
        body
    };
    let (long, many) = ("x".repeat(256), vec!["https://a.example"; 11]);
    let scopes = |count: usize| json!(vec!["events.payload:read"; count]);
    #[rustfmt::skip]
    let cases = [
        // why                          body                                                        field
        ("no workspace",                json!({}),                                                  "workspace_id"),
        ("null",                        with("workspace_id", Value::Null),                          "workspace_id"),
        ("a number",                    with("workspace_id", json!(5)),                             "workspace_id"),
        ("no id",                       with("workspace_id", json!("mine")),                        "workspace_id"),
        ("an unknown role",             with("role", json!("root")),                                "role"),
        ("a role in capitals",          with("role", json!("Admin")),                               "role"),
        ("an empty role",               with("role", json!("")),                                    "role"),
        ("a list of roles",             with("role", json!(["admin"])),                             "role"),
        ("an unknown type",             with("session_type", json!("organization")),                "session_type"),
        ("a type in numbers",           with("session_type", json!(1)),                             "session_type"),
        ("a short life",                with("ttl_seconds", json!(299)),                            "ttl_seconds"),
        ("a long life",                 with("ttl_seconds", json!(3_601)),                          "ttl_seconds"),
        ("a negative life",             with("ttl_seconds", json!(-300)),                           "ttl_seconds"),
        ("half a second",               with("ttl_seconds", json!(300.5)),                          "ttl_seconds"),
        ("beyond numbers",              with("ttl_seconds", json!(u64::MAX)),                       "ttl_seconds"),
        ("a life as text",              with("ttl_seconds", json!("300")),                          "ttl_seconds"),
        ("a short launch",              with("launch_ttl_seconds", json!(14)),                      "launch_ttl_seconds"),
        ("a long launch",               with("launch_ttl_seconds", json!(61)),                      "launch_ttl_seconds"),
        ("an unknown page",             with("launch_page", json!("members")),                      "launch_page"),
        ("a page as a path",            with("launch_page", json!("/workspace/rules")),             "launch_page"),
        ("a path elsewhere",            with("launch_path", json!("/workspace/members")),           "launch_path"),
        ("a path without its start",    with("launch_path", json!("rules")),                        "launch_path"),
        ("no pair",                     with("session_type", json!("resource")),                    "resource"),
        ("half a pair",                 pair(json!("user"), Value::Null),                           "resource_id"),
        ("the other half",              pair(Value::Null, json!("7")),                              "resource"),
        ("an empty resource",           pair(json!(""), json!("7")),                                "resource"),
        ("an empty id",                 pair(json!("user"), json!("")),                             "resource_id"),
        ("a long id",                   pair(json!("user"), json!(long)),                           "resource_id"),
        ("NUL in an id",                pair(json!("user"), json!("7\0")),                          "resource_id"),
        ("an id in numbers",            pair(json!("user"), json!(7)),                              "resource_id"),
        ("a pair for a workspace",      with("resource", json!("user")),                            "resource"),
        ("an id for a workspace",       with("resource_id", json!("7")),                            "resource_id"),
        ("a resource's connections",    of("resource", "connections"),                              "launch_page"),
        ("a dashboard's rules",         of("dashboard", "rules"),                                   "launch_page"),
        ("a dashboard's events",        of("dashboard", "events"),                                  "launch_page"),
        ("a dashboard's connections",   of("dashboard", "connections"),                             "launch_page"),
        ("eleven origins",              with("allowed_origins", json!(many)),                       "allowed_origins"),
        ("one text for a list",         with("allowed_origins", json!("https://a.example")),        "allowed_origins"),
        ("a null among them",           with("allowed_origins", json!([null])),                     "allowed_origins[0]"),
        ("any origin",                  origin("*"),                                                "allowed_origins[0]"),
        ("no origin",                   origin("null"),                                             "allowed_origins[0]"),
        ("a path",                      origin("https://a.example/x"),                              "allowed_origins[0]"),
        ("a second directive",          origin("https://a.example; script-src *"),                  "allowed_origins[0]"),
        ("a second header",             origin("https://a.example\r\nx: y"),                        "allowed_origins[0]"),
        ("a script",                    origin("javascript:alert(1)"),                              "allowed_origins[0]"),
        ("plain http",                  origin("http://a.example"),                                 "allowed_origins[0]"),
        ("an unknown scope",            with("scopes", json!(["events:write"])),                    "scopes[0]"),
        ("21 scopes",                   with("scopes", scopes(21)),                                 "scopes"),
        ("a scope as text",             with("scopes", json!("events.payload:read")),               "scopes"),
        ("a long user",                 with("external_user_id", json!("x".repeat(256))),           "external_user_id"),
        ("a user in numbers",           with("external_user_id", json!(7)),                         "external_user_id"),
        ("a line break in a user",      with("external_user_id", json!("a\nb")),                    "external_user_id"),
    ];
    for (why, body, param) in cases {
        let answer = weft.post("/sessions", body).await;
        answer.refused(400, "", why);
        assert_eq!(answer.params()[0], param, "{why}: {}", answer.text);
        assert!(!answer.text.contains("script-src"), "{why}: it is not told back");
    }
    for (why, workspace) in
        [("unknown", uuid::Uuid::now_v7().to_string()), ("another's", weft.stranger().await.1)]
    {
        let answer = weft.post("/sessions", json!({ "workspace_id": workspace })).await;
        answer.refused(404, "workspace not found", why);
    }
    let list = weft.get(&format!("/sessions?workspace_id={}", weft.workspace)).await.answered(200, "after");
    assert_eq!(list["count"], 0, "nothing was made");
    for (name, value) in
        [("ttl_seconds", 300), ("ttl_seconds", 3_600), ("launch_ttl_seconds", 15), ("launch_ttl_seconds", 60)]
    {
        weft.post("/sessions", with(name, json!(value))).await.answered(200, "at its bounds");
    }
    let most =
        [with("allowed_origins", json!(many[1..])), with("scopes", scopes(20)), with("role", Value::Null)];
    for body in most {
        weft.post("/sessions", body).await.answered(200, "at its bounds");
    }
    weft.stop().await;
}

/// However many ask at once, one token is the good one in the end.
#[tokio::test]
async fn of_many_refreshes_one_token_is_left() {
    let weft = Weft::start().await;
    let minted = weft.mint(json!({})).await;
    let all = futures_util::future::join_all((0..8).map(|_| weft.refresh(&minted))).await;
    let path = format!("/workspaces/{}/events", weft.workspace);
    let mut good = 0;
    for answer in all {
        let refreshed = answer.answered(200, "a refresh");
        good += usize::from(weft.get_in(&refreshed, &path).await.status == 200);
    }
    assert_eq!(good, 1);
    weft.stop().await;
}

#[tokio::test]
async fn a_list_is_of_one_workspace_and_filtered() {
    let weft = Weft::start().await;
    let (sibling, _) = weft.sibling("sibling").await;
    let elsewhere =
        weft.post("/sessions", json!({ "workspace_id": sibling })).await.answered(200, "elsewhere");
    let about = json!({ "session_type": "resource", "resource": "user", "resource_id": "7" });
    let (plain, about, dashboard) = (
        weft.mint(json!({})).await,
        weft.mint(about).await,
        weft.mint(json!({ "session_type": "dashboard" })).await,
    );
    weft.revoke(&dashboard).await.answered(200, "revoked");
    let ids = |list: &Value| -> Vec<String> {
        list["records"].as_array().expect("a list").iter().map(|one| text(&one["session_id"])).collect()
    };
    let [plain, about, dashboard, elsewhere] =
        [plain, about, dashboard, elsewhere].map(|session| text(&session["session_id"]));
    #[rustfmt::skip]
    let cases = [
        // query                              shown, newest first
        ("",                                  vec![&dashboard, &about, &plain]),
        ("&status=active",                    vec![&about, &plain]),
        ("&status=revoked",                   vec![&dashboard]),
        ("&resource=user",                    vec![&about]),
        ("&resource=user&resource_id=7",      vec![&about]),
        ("&resource=user&resource_id=8",      vec![]),
        ("&resource_id=7&status=revoked",     vec![]),
        ("&unknown=1",                        vec![&dashboard, &about, &plain]),
    ];
    for (query, expected) in cases {
        let list = weft.get(&format!("/sessions?workspace_id={}{query}", weft.workspace)).await;
        let list = list.answered(200, query);
        assert_members(&list, &["count", "limit", "next_cursor", "records"], query);
        assert_eq!(ids(&list).iter().collect::<Vec<_>>(), expected, "{query}");
    }
    let theirs = weft.get(&format!("/sessions?workspace_id={sibling}")).await.answered(200, "the sibling's");
    assert_eq!(ids(&theirs), [elsewhere]);

    let (mut walked, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/sessions?workspace_id={}&limit=1{cursor}", weft.workspace);
        let page = weft.get(&path).await.answered(200, "a page");
        walked.extend(ids(&page));
        let Some(next) = page["next_cursor"].as_str() else { break };
        weft.get(&format!("/sessions?workspace_id={sibling}&cursor={next}")).await.refused(
            400,
            "cursor",
            "elsewhere",
        );
        cursor = format!("&cursor={next}");
    }
    assert_eq!(walked, [dashboard, about, plain]);

    let own = &weft.workspace;
    #[rustfmt::skip]
    let refused = [
        ("no workspace",     "/sessions".to_owned(),                                 "workspace_id"),
        ("no id",            "/sessions?workspace_id=mine".to_owned(),               "workspace_id"),
        ("an empty one",     "/sessions?workspace_id=".to_owned(),                   "workspace_id"),
        ("another status",   format!("/sessions?workspace_id={own}&status=expired"), "status"),
        ("an empty status",  format!("/sessions?workspace_id={own}&status="),        "status"),
        ("none of them",     format!("/sessions?workspace_id={own}&limit=0"),        "limit"),
        ("too many",         format!("/sessions?workspace_id={own}&limit=201"),      "limit"),
        ("a broken cursor",  format!("/sessions?workspace_id={own}&cursor=x"),       "cursor"),
    ];
    for (why, path, param) in refused {
        let answer = weft.get(&path).await;
        answer.refused(400, param, why);
        assert_eq!(answer.params(), [param], "{why}");
    }
    weft.stop().await;
}

/// A launch token opens a document and nothing else; what is written of tokens on disk is of no use.
#[tokio::test]
async fn a_launch_token_is_no_credential_and_no_token_is_kept() {
    let weft = Weft::start().await;
    let minted = weft.mint(json!({ "role": "owner", "scopes": ["events.payload:read"] })).await;
    let (access, launch) = (text(&minted["access_token"]), text(&minted["launch_token"]));
    for path in [format!("/workspaces/{}/events", weft.workspace), "/workspaces".to_owned()] {
        weft.ask_as(&launch, Method::GET, &path, None).await.refused(401, "credentials", "a launch token");
    }
    let (signed, signature) = access.rsplit_once('.').expect("a signature");
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    let unsigned = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    let body = signed.split_once('.').expect("two parts").1;
    for (why, token) in [
        ("another signature", format!("{signed}.{flipped}{}", &signature[1..])),
        ("no signature", format!("{signed}.")),
        ("an unsigned header", format!("{unsigned}.{body}.{signature}")),
        ("cut", access[..access.len() - 2].to_owned()),
        ("the session's id", text(&minted["session_id"])),
    ] {
        let answer =
            weft.ask_as(&token, Method::GET, &format!("/workspaces/{}/events", weft.workspace), None).await;
        answer.refused(401, "credentials", why);
    }
    let (mut folders, mut bytes_seen) = (vec![weft.config.data.clone()], 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            // The server is at work: a file may go while it is looked for.
            let bytes = std::fs::read(&path).unwrap_or_default();
            bytes_seen += bytes.len();
            for token in [&access, &launch] {
                let found = bytes.windows(token.len()).any(|window| window == token.as_bytes());
                assert!(!found, "a token lies in {}", path.display());
            }
        }
    }
    assert!(bytes_seen > 0, "there is something on disk");
    weft.stop().await;
}
