//! Connections, what is in their accounts, and what can be connected.

use super::{Operation, Tag};
use crate::api::{
    accounts::{ActionJson, CatalogJson},
    connections::{self, ConnectionJson},
    integrations::IntegrationJson,
    mappings::{SaveForm, ViewJson},
    oauth,
    page::{CONFIGURED, Envelope},
};
use actors::domain::access::{Permission::*, Subject::*};
use std::collections::BTreeMap;

type Op = Operation;

pub fn tags() -> Vec<Tag> {
    let connections = vec![
        Op::get("/api/v1/connections", "listConnections", "List connections of all workspaces")
            .asks(Read, Workspaces)
            .paged(CONFIGURED)
            .answers::<Envelope<ConnectionJson>>(200, "Oldest first."),
        Op::post("/api/v1/connections", "createConnection", "Connect an account")
            .about("Settings are tried out against the destination, unless they say `skip_test`; 422 tells what it said.")
            .asks(Write, Connections)
            .takes::<connections::NewForm>()
            .answers::<connections::Created>(201, "It is made.")
            .errors([404, 409, 422]),
        Op::post("/api/v1/connections/oauth", "startConnectionConsent", "Connect an account in a browser")
            .about("The link is good for ten minutes and for one account. It leads to the service's own page, and from there back to a page of this server. 422 where the operator has no app at the service.")
            .asks(Write, Connections)
            .takes::<oauth::Form>()
            .answers::<oauth::Ticket>(201, "Where to send a browser.")
            .errors([404, 409, 422]),
        Op::get("/api/v1/workspaces/{workspace}/connections", "getWorkspaceConnections", "List connections of a workspace")
            .asks(Read, Connections)
            .paged(CONFIGURED)
            .answers::<Envelope<ConnectionJson>>(200, "Oldest first."),
        Op::get("/api/v1/connections/{connection}", "getConnection", "Read a connection")
            .asks(Read, Connections)
            .answers::<ConnectionJson>(200, "The connection."),
        Op::put("/api/v1/connections/{connection}", "updateConnection", "Replace a connection's settings")
            .asks(Write, Connections)
            .takes::<connections::ReplaceForm>()
            .answers::<ConnectionJson>(200, "As it is now.")
            .errors([409, 422]),
        Op::patch("/api/v1/connections/{connection}", "patchConnection", "Change some of a connection")
            .about("`active` switches it off, or on again once its settings work; `paused` lets its deliveries wait.")
            .asks(Write, Connections)
            .takes::<connections::PatchForm>()
            .answers::<ConnectionJson>(200, "As it is now.")
            .errors([409, 422]),
        Op::delete("/api/v1/connections/{connection}", "deleteConnection", "Delete a connection")
            .about("What waits for it is canceled, and says so.")
            .asks(Write, Connections)
            .may_take::<connections::DeleteForm>()
            .answers::<connections::Deleted>(200, "What it was.")
            .errors([409]),
        Op::post("/api/v1/connections/{connection}/pause", "pauseConnection", "Let a connection's deliveries wait")
            .about("Those in flight come back; nothing is lost.")
            .asks(Write, Connections)
            .answers::<ConnectionJson>(200, "As it is now.")
            .errors([409, 422]),
        Op::post("/api/v1/connections/{connection}/resume", "resumeConnection", "Let a connection's deliveries flow again")
            .asks(Write, Connections)
            .answers::<ConnectionJson>(200, "As it is now.")
            .errors([409, 422]),
    ];
    let accounts = vec![
        Op::get("/api/v1/integrations", "listIntegrations", "List what can be connected")
            .about("Each with the settings a connection needs and the actions a rule may have.")
            .asks(Read, Catalogue)
            .paged(CONFIGURED)
            .answers::<Envelope<IntegrationJson>>(200, "All there are."),
        Op::get(
            "/api/v1/connections/{connection}/actions",
            "getConnectionActions",
            "List a connection's actions, with what there is to pick from",
        )
        .about("Asks the service at this moment: lists, channels, properties.")
        .asks(Read, Connections)
        .answers::<BTreeMap<String, ActionJson<'_>>>(200, "Actions by their keys.")
        .errors([409, 422]),
        Op::get(
            "/api/v1/connections/{connection}/fields",
            "getConnectionFields",
            "List the fields of a connection's account",
        )
        .asks(Read, Connections)
        .query("refresh", super::of::<bool>, "Ask the service again, instead of answering what it said last.")
        .answers::<CatalogJson>(200, "As the service listed them last.")
        .errors([409, 422]),
        Op::get(
            "/api/v1/connections/{connection}/mappings/default",
            "getConnectionDefaultMapping",
            "Read a connection's mapping",
        )
        .about("`generated` is a suggestion from the account's fields, where none was saved.")
        .asks(Read, Connections)
        .answers::<ViewJson>(200, "The latest version.")
        .errors([409, 422]),
        Op::put(
            "/api/v1/connections/{connection}/mappings/default",
            "updateConnectionDefaultMapping",
            "Save a connection's mapping",
        )
        .about("As its next version. Wrong fields are 422 here, a body that cannot be read 400.")
        .asks(Write, Connections)
        .takes::<SaveForm>()
        .answers::<ViewJson>(200, "The version that was saved.")
        .errors([409, 422]),
    ];
    vec![
        Tag {
            name: "Connections",
            description: "A connection is a customer's account at a destination, such as an endpoint for webhooks.",
            operations: connections,
        },
        Tag {
            name: "Integrations and mappings",
            description: "What can be connected, what is in an account, and which value goes where.",
            operations: accounts,
        },
    ]
}
