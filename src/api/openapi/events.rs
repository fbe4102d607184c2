//! Events: sending them, finding them, and what became of them.

use super::{
    Operation, Tag, of,
    schema::{self, EventForm},
};
use crate::api::{
    events::{Bulk, Created},
    history::{AttemptJson, EventJson, EventPayloadJson, ResponseJson, RuleEventJson},
    page::{Envelope, HISTORY},
    replays::{self, ReplayJson},
};
use actors::domain::{
    access::{Permission::*, Subject::*},
    delivery::Outcome,
    event::Status,
};
use uuid::Uuid;

type Op = Operation;

/// What lists of events are looked through by.
fn searched(operation: Operation) -> Operation {
    operation
        .query("event", schema::text, "Only events of this name.")
        .query("resource", schema::text, "Only events about this resource.")
        .query("resource_id", schema::text, "Only events about this id of it.")
        .query("status", of::<Status>, "Only events of this status.")
        .query("id", of::<Uuid>, "Only this event.")
        .query("after", schema::time, "Only events accepted then or later.")
        .query("before", schema::time, "Only events accepted before.")
        .query("rule", of::<Uuid>, "Only events with a delivery by this rule.")
        .query("connection", of::<Uuid>, "Only events with a delivery through this connection.")
        .query("outcome", of::<Outcome>, "Only events with a delivery whose last attempt ended so.")
        .queries(
            "payload",
            schema::payload_tests,
            "Only events whose payload says so: `payload.user.plan=pro`, as text, number or boolean. Asks for the permission `payload` too.",
        )
        .errors([400])
}

/// What goes for both ways to send.
fn sent(operation: Operation) -> Operation {
    const ALL: [&str; 5] = [
        "RateLimit-Limit",
        "RateLimit-Remaining",
        "RateLimit-Reset",
        "Access-Control-Allow-Origin",
        "Access-Control-Expose-Headers",
    ];
    operation.with(&ALL)
}

fn idempotent(operation: Operation) -> Operation {
    operation
        .header(
            "Idempotency-Key",
            schema::text,
            "1 to 255 visible characters. The same key with the same body within 24 hours is the same event; with another body it is 409.",
        )
        .asks_sender()
        .errors([409])
}

fn preflight(path: &'static str, id: &'static str) -> Operation {
    Op::options(path, id, "What browsers ask before they send").silent(204, "Any page may send.").with(&[
        "Allow",
        "Access-Control-Allow-Origin",
        "Access-Control-Expose-Headers",
        "Access-Control-Allow-Methods",
        "Access-Control-Allow-Headers",
        "Access-Control-Max-Age",
    ])
}

pub fn tags() -> Vec<Tag> {
    let sending = vec![
        sent(
            idempotent(Op::post("/api/v1/events", "createEvent", "Send an event"))
                .about("The answer comes when it is on disk. What becomes of it is read by its id.")
                .takes::<EventForm>()
                .answers::<Created<'_>>(201, "It is on disk."),
        ),
        preflight("/api/v1/events", "preflightEvent"),
        sent(
            sent(
                idempotent(Op::post("/api/v1/events/bulk", "createEvents", "Send up to 100 events"))
                    .about("Each is accepted or refused by itself, and the answer is in the order of the request.")
                    .takes_as(schema::bulk)
                    .answers::<Bulk<'_>>(201, "All of them are on disk."),
            )
            .answers::<Bulk<'_>>(207, "Some were refused; the records say which, and why."),
        ),
        preflight("/api/v1/events/bulk", "preflightEvents"),
    ];
    let history = vec![
        searched(Op::get("/api/v1/events", "listEvents", "List events of all workspaces"))
            .asks(Read, Workspaces)
            .paged(HISTORY)
            .answers::<Envelope<EventJson>>(200, "Newest first. A page may hold fewer than `limit` and still have a `next_cursor`."),
        searched(Op::get("/api/v1/workspaces/{workspace}/events", "getWorkspaceEvents", "List events of a workspace"))
            .asks(Read, Events)
            .paged(HISTORY)
            .answers::<Envelope<EventJson>>(200, "Newest first. A page may hold fewer than `limit` and still have a `next_cursor`."),
        searched(Op::get("/api/v1/workspaces/{workspace}/events/export", "exportEvents", "Export events as lines"))
            .about("All that pass, newest first, each a line of JSON with its deliveries. The schema is of one line. What goes wrong on the way is the last one.")
            .asks(Read, Events)
            .says(200, "application/x-ndjson", schema::export_line, "As they are read."),
        Op::get("/api/v1/events/{event}", "getEvent", "Read an event and its deliveries")
            .asks(Read, Events)
            .answers::<EventJson>(200, "The event."),
        Op::get("/api/v1/events/{event}/payload", "getEventPayload", "Read an event with its payload")
            .about("The payload is what was sent, byte for byte.")
            .asks(Payload, Events)
            .answers::<EventPayloadJson>(200, "The event."),
        Op::post("/api/v1/events/{event}/cancel", "cancelEvent", "Call all deliveries of an event off")
            .about("Those that are over stay as they are; what is in flight ends by itself.")
            .asks(Write, Events)
            .answers::<EventJson>(200, "As it is now.")
            .errors([409, 425]),
    ];
    let deliveries = vec![
        Op::post("/api/v1/events/{event}/rules/{rule}/retry", "retryEventRule", "Try a delivery again now")
            .asks(Write, Events)
            .answers::<RuleEventJson>(200, "It is due.")
            .errors([409, 410, 422, 425]),
        Op::post("/api/v1/events/{event}/rules/{rule}/cancel", "cancelEventRule", "Call a delivery off")
            .asks(Write, Events)
            .answers::<RuleEventJson>(200, "As it is now.")
            .errors([409, 425]),
        Op::get(
            "/api/v1/events/{event}/rules/{rule}/attempts",
            "listAttempts",
            "List the attempts at a delivery",
        )
        .asks(Read, Events)
        .paged(HISTORY)
        .answers::<Envelope<AttemptJson>>(200, "Oldest first."),
        Op::get("/api/v1/events/{event}/rules/{rule}/attempts/{attempt}", "getAttempt", "Read an attempt")
            .asks(Read, Events)
            .answers::<AttemptJson>(200, "The attempt."),
        Op::get(
            "/api/v1/events/{event}/rules/{rule}/attempts/{attempt}/response-details",
            "getAttemptResponse",
            "Read what a failed attempt was answered",
        )
        .asks(Payload, Events)
        .answers::<ResponseJson>(200, "As much as was kept."),
    ];
    let replays = vec![
        Op::get("/api/v1/replays", "listReplays", "List replays of a workspace")
            .asks(Read, Workspaces)
            .required_query("workspace_id", of::<Uuid>, "The workspace.")
            .paged(HISTORY)
            .answers::<Envelope<ReplayJson>>(200, "Newest first.")
            .errors([404]),
        Op::post("/api/v1/replays", "createReplay", "Do past deliveries again")
            .about("All that pass the filter, at a rate of their own and below what is live. `filter` refuses members it does not know.")
            .asks(Write, Workspaces)
            .takes::<replays::Form>()
            .answers::<replays::CountJson>(200, "What it would find, where `dry_run` asks only for that.")
            .answers::<replays::Enveloped>(201, "It is under way.")
            .errors([404, 409, 422]),
        Op::get("/api/v1/replays/{replay}", "getReplay", "Read how far a replay is")
            .asks(Read, Workspaces)
            .answers::<replays::Enveloped>(200, "The replay."),
        Op::patch("/api/v1/replays/{replay}", "patchReplay", "Pause, resume, cancel or pace a replay")
            .asks(Write, Workspaces)
            .takes::<replays::PatchForm>()
            .answers::<replays::Enveloped>(200, "As it is now.")
            .errors([409]),
    ];
    vec![
        Tag {
            name: "Sending",
            description: "Events in: from servers by machine key, from browsers and apps by publishable key.",
            operations: sending,
        },
        Tag { name: "Events", description: "What was sent, and what became of it.", operations: history },
        Tag {
            name: "Deliveries",
            description: "One event for one rule, and the attempts at it.",
            operations: deliveries,
        },
        Tag { name: "Replays", description: "Past deliveries done again, one or many.", operations: replays },
    ]
}
