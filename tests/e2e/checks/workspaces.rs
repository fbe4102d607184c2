//! Checks 14 to 17: workspaces, and the names that are known in them.

use crate::support::{Credentials, Go, NodeManagement, Weft, assert_members, text};
use actors::domain::timestamp::Timestamp;
use serde_json::{Value, json};

const WORKSPACE: [&str; 5] = ["id", "name", "description", "created_at", "updated_at"];

#[tokio::test]
async fn check_14_a_workspace_is_made_once_and_by_a_good_name() {
    let weft = Weft::start().await;
    let api = NodeManagement::of(&weft);
    for (name, description) in
        [("Shop", Some("Books")), ("a_b-C 9", None), (&"n".repeat(50), None), ("abc", None)]
    {
        let made = api.post("/workspaces", json!({ "name": name, "description": description })).await;
        let made = made.answered(201, name);
        assert_members(&made, &["workspace"], "a create is wrapped");
        let workspace = &made["workspace"];
        assert_members(workspace, &WORKSPACE, name);
        assert_eq!((&workspace["name"], &workspace["description"]), (&json!(name), &json!(description)));
        assert!(uuid::Uuid::try_parse(&text(&workspace["id"])).is_ok(), "{workspace}");
        for time in ["created_at", "updated_at"] {
            assert!(text(&workspace[time]).parse::<Timestamp>().is_ok(), "{workspace}");
        }
    }
    for name in ["ab", &"n".repeat(51), "a/b"] {
        api.post("/workspaces", json!({ "name": name })).await.refused(400, "name", name);
    }
    api.post("/workspaces", json!({ "name": "Shop" })).await.refused(409, "already exists", "again");
    weft.stop().await;
}

/// The publishable key is shown by `GET` of one workspace, and nowhere else.
#[tokio::test]
async fn check_15_one_workspace_is_shown_with_its_publishable_key() {
    let weft = Weft::start().await;
    let api = NodeManagement::of(&weft);
    let made = api.post("/workspaces", json!({ "name": "Shop" })).await.answered(201, "made");
    let path = format!("/workspaces/{}", text(&made["workspace"]["id"]));
    let shown = api.get(&path).await.answered(200, "shown");
    let key = &shown["publishable_key"];
    assert!(text(&key["public_key"]).starts_with("mesh_pub_") && !text(&key["name"]).is_empty(), "{shown}");
    let changed = api.put(&path, json!({ "name": "Shop" })).await.answered(200, "changed");
    let list = api.get("/workspaces").await.answered(200, "listed");
    let listed = list["records"].as_array().expect("an array");
    assert_eq!(listed.len(), 2);
    for without in listed.iter().chain([&made["workspace"], &changed]) {
        assert_members(without, &WORKSPACE, "without its key");
    }
    weft.stop().await;
}

/// Go always sends `description`: null clears it. The answer is the workspace itself.
#[tokio::test]
async fn check_16_a_description_of_null_is_cleared() {
    let weft = Weft::start().await;
    let (node, go) = (NodeManagement::of(&weft), Go::Management(&weft, Credentials::of(&weft)));
    let made = node.post("/workspaces", json!({ "name": "Shop", "description": "Books" })).await;
    let path = format!("/workspaces/{}", text(&made.answered(201, "made")["workspace"]["id"]));
    let kept = node.put(&path, json!({ "name": "Shop 2" })).await.answered(200, "description left out");
    assert_eq!((&kept["name"], &kept["description"]), (&json!("Shop 2"), &json!("Books")));
    let body = json!({ "name": "Shop 3", "description": null });
    let cleared = go.request("PUT", &path, Some(&body)).await.answered(200, "cleared");
    assert_members(&cleared, &WORKSPACE, "an update is bare");
    assert_eq!((&cleared["name"], &cleared["description"]), (&json!("Shop 3"), &Value::Null));
    assert_eq!(node.get(&path).await.answered(200, "shown")["description"], Value::Null);
    weft.stop().await;
}

/// Bare arrays; a new account has the event type `contact.created`, and the resource `global`.
#[tokio::test]
async fn check_17_a_new_workspace_knows_the_default_names() {
    let weft = Weft::start().await;
    for (list, key) in [("event-types", "contact.created"), ("resources", "global")] {
        let shown = weft.get(&format!("/workspaces/{}/{list}", weft.workspace)).await.answered(200, list);
        let [name] = &shown.as_array().expect("a bare array")[..] else { panic!("one: {shown}") };
        assert_eq!((&name["key"], &name["label"], &name["active"]), (&json!(key), &json!(key), &json!(true)));
        assert_eq!((&name["description"], &name["created_by"]), (&Value::Null, &Value::Null), "{list}");
        assert!(uuid::Uuid::try_parse(&text(&name["id"])).is_ok(), "{list}");
        for member in ["created_at", "updated_at"] {
            assert!(text(&name[member]).ends_with('Z'), "{list} {member}");
        }
        let again = weft.get(&format!("/workspaces/{}/{list}?limit=0", weft.workspace)).await;
        assert_eq!(again.answered(200, "unknown parameters are ignored"), shown, "the id stays");
    }
    weft.stop().await;
}
