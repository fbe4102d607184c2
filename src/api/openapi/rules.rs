//! Rules, and trying them out.

use super::{
    Operation, Tag,
    schema::{self, TestForm},
};
use crate::api::{
    page::{CONFIGURED, Envelope},
    rules::{self, RuleJson},
    trial,
};
use actors::domain::access::{Permission::*, Subject::*};

type Op = Operation;

/// What lists of rules are looked through by.
fn filtered(operation: Operation) -> Operation {
    operation
        .query("event", schema::text, "Only rules with exactly this event.")
        .query("resource", schema::text, "Only rules with this resource.")
        .query("resource_id", schema::text, "Only rules with this id of it.")
}

pub fn tags() -> Vec<Tag> {
    let rules = vec![
        filtered(Op::get("/api/v1/rules", "listRules", "List rules of all workspaces"))
            .asks(Read, Workspaces)
            .paged(CONFIGURED)
            .answers::<Envelope<RuleJson>>(200, "Oldest first."),
        Op::post("/api/v1/rules", "createRule", "Make a rule")
            .asks(Write, Rules)
            .takes::<rules::NewForm>()
            .answers::<rules::Created>(201, "It is made.")
            .errors([404, 409]),
        filtered(Op::get("/api/v1/workspaces/{workspace}/rules", "getWorkspaceRules", "List rules of a workspace"))
            .asks(Read, Rules)
            .paged(CONFIGURED)
            .answers::<Envelope<RuleJson>>(200, "Oldest first."),
        Op::get("/api/v1/rules/{rule}", "getRule", "Read a rule").asks(Read, Rules).answers::<RuleJson>(200, "The rule."),
        Op::patch("/api/v1/rules/{rule}", "patchRule", "Change some of a rule")
            .about("For events that are accepted from then on.")
            .asks(Write, Rules)
            .takes::<rules::PatchForm>()
            .answers::<RuleJson>(200, "As it is now.")
            .errors([409]),
        Op::delete("/api/v1/rules/{rule}", "deleteRule", "Delete a rule")
            .about("What was routed by it is still delivered.")
            .asks(Write, Rules)
            .answers::<rules::Deleted>(200, "What it was.")
            .errors([409]),
        Op::post("/api/v1/workspaces/{workspace}/rules/preview", "previewRule", "Try a draft of a rule over what was stored")
            .about("Over the last events of its name, or of any where it has a pattern; sends and stores nothing. With `connection` and `metadata` it shows what would be sent for what matches, to who may read connections. Not for sessions about one resource.")
            .asks(Payload, Events)
            .takes::<trial::DraftForm>()
            .answers::<trial::PreviewJson>(200, "What it would have made of them.")
            .errors([422]),
        tested(Op::post("/api/v1/workspaces/{workspace}/rules/{rule}/test", "testRule", "Send a test event by one rule")),
        tested(Op::post("/api/v1/workspaces/{workspace}/events/test", "testEvent", "Send a test event by all rules of its name")),
    ];
    vec![Tag {
        name: "Rules",
        description: "A rule says which events go to which connection, to do what.",
        operations: rules,
    }]
}

fn tested(operation: Operation) -> Operation {
    operation
        .about("It is accepted, routed and delivered as any other, so the other end receives it.")
        .asks(Write, Rules)
        .may_take::<TestForm>()
        .answers::<trial::Tested<'_>>(201, "It is on disk, and on its way.")
        .with(&["Location", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"])
        .errors([409])
}
