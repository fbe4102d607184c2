//! The edges under what goes wrong inside: a fallen tree.

use crate::support::{MASTER_KEY, PATIENCE, http_client, send, until};
use actors::{
    clock::Clock,
    engine::{Engine, Faults, IngestRequest, Options, Seams},
};
use weft::{Error, config::Config};

/// I17: a panic in the root cannot stay local, so the process says so and ends; it is not left
/// accepting events that nobody delivers.
#[tokio::test]
async fn a_fallen_root_is_told_and_ends_the_process() {
    let faults = Faults::scripted(|place| assert_ne!(place, "root.wake", "on purpose"));
    let seams = Seams { faults, ..Seams::default() };
    let engine = Engine::start(Options { seams, ..Options::new(MASTER_KEY) }).await.expect("it starts");
    let mut config = Config::defaults();
    config.listen = ([127, 0, 0, 1], 0).into();
    let server = weft::serve_engine(&config, engine.clone(), Clock::system()).await.expect("it serves");
    let ready = format!("http://{}/readyz", server.address());
    let client = http_client();
    assert_eq!(send(client.get(&ready)).await.status, 200);

    let organization = engine.create_organization("Tests").await.expect("it is made").id;
    let made = engine.create_workspace(organization, "tests".to_owned(), None).await;
    let request = IngestRequest {
        organization_id: organization,
        workspace_id: made.expect("it is made").0.id,
        name: "contact.created".to_owned(),
        resource: None,
        resource_id: None,
        payload: "{}".into(),
        created_by: String::new(),
        idempotency: None,
    };
    assert!(engine.ingest(vec![request]).await.remove(0).is_ok());
    let served = tokio::time::timeout(PATIENCE, server.serve_until(std::future::pending())).await;
    assert!(matches!(served.expect("it is noticed"), Err(Error::Fallen)));
    let refused = until("it is not ready", async || {
        let answer = send(client.get(&ready)).await;
        (answer.status == 503).then_some(answer)
    });
    assert!(refused.await.body["message"].is_string());
    server.shut_down().await.expect("it ends well");
}
