//! Workspaces, and the names their events have.

use super::{Operation, Tag};
use crate::api::{
    keys,
    names::{self, NameJson},
    page::{CONFIGURED, Envelope},
    workspaces::{self, WorkspaceJson},
};
use actors::domain::access::{Permission::*, Subject::*};

type Op = Operation;

pub fn tags() -> Vec<Tag> {
    let workspaces = vec![
        Op::get("/api/v1/workspaces", "listWorkspaces", "List workspaces")
            .asks(Read, Workspaces)
            .paged(CONFIGURED)
            .answers::<Envelope<WorkspaceJson>>(200, "Those the key is for, oldest first."),
        Op::post("/api/v1/workspaces", "createWorkspace", "Create a workspace")
            .about("With a publishable key of its own.")
            .asks(Write, Organization)
            .takes::<workspaces::Form>()
            .answers::<workspaces::Created>(201, "It is made.")
            .errors([409]),
        Op::get("/api/v1/workspaces/{workspace}", "getWorkspace", "Read a workspace and its publishable key")
            .asks(Read, Workspaces)
            .answers::<WorkspaceJson>(200, "The workspace."),
        Op::put("/api/v1/workspaces/{workspace}", "updateWorkspace", "Rename or describe a workspace")
            .asks(Write, Workspaces)
            .takes::<workspaces::Form>()
            .answers::<WorkspaceJson>(200, "As it is now.")
            .errors([409]),
        Op::post(
            "/api/v1/workspaces/{workspace}/publishable-key/rotate",
            "rotatePublishableKey",
            "Replace a workspace's publishable key",
        )
        .about("The key it had is good for a while longer.")
        .asks(Keys, Workspaces)
        .may_take::<keys::RotateForm>()
        .answers::<keys::Rotated>(200, "The key from now on.")
        .errors([409]),
    ];
    let names = vec![
        Op::get("/api/v1/workspaces/{workspace}/event-types", "getWorkspaceEventTypes", "List event types")
            .about("Those that were declared, and those that were learned from what was sent.")
            .asks(Read, Catalogue)
            .answers::<Vec<NameJson>>(200, "All of them."),
        Op::put(
            "/api/v1/workspaces/{workspace}/event-types/{key}",
            "saveEventType",
            "Declare or describe an event type",
        )
        .asks(Write, Workspaces)
        .takes::<names::Form>()
        .answers::<NameJson>(200, "As it is now.")
        .errors([409]),
        Op::get("/api/v1/workspaces/{workspace}/resources", "getWorkspaceResources", "List resources")
            .about("Those that were declared, and those that were learned from what was sent.")
            .asks(Read, Catalogue)
            .answers::<Vec<NameJson>>(200, "All of them."),
        Op::put(
            "/api/v1/workspaces/{workspace}/resources/{key}",
            "saveResource",
            "Declare or describe a resource",
        )
        .asks(Write, Workspaces)
        .takes::<names::Form>()
        .answers::<NameJson>(200, "As it is now.")
        .errors([409]),
    ];
    vec![
        Tag {
            name: "Workspaces",
            description: "A workspace is a tenant: what is in one is unknown to the others.",
            operations: workspaces,
        },
        Tag {
            name: "Event types and resources",
            description: "The names that events of a workspace have.",
            operations: names,
        },
    ]
}
