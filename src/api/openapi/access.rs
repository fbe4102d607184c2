//! Sessions and machine keys.

use super::{Operation, Tag, of, schema};
use crate::api::{
    keys::{self, KeyJson},
    page::{CONFIGURED, Envelope, HISTORY},
    sessions::{self, ListedJson, MintedJson, Revoked, TokenJson},
};
use actors::domain::access::{Permission::*, Subject::*};
use uuid::Uuid;

type Op = Operation;

pub fn tags() -> Vec<Tag> {
    let sessions = vec![
        Op::get("/api/v1/sessions", "listSessions", "List sessions of a workspace")
            .asks(Sessions, Workspaces)
            .required_query("workspace_id", of::<Uuid>, "The workspace.")
            .paged(HISTORY)
            .query("status", sessions::status, "Only those that were, or were not, revoked.")
            .query("resource", schema::text, "Only those about this resource.")
            .query("resource_id", schema::text, "Only those about this id of it.")
            .answers::<Envelope<ListedJson>>(200, "Newest first.")
            .errors([404]),
        Op::post("/api/v1/sessions", "createSession", "Make a session for an embedded page")
            .asks(Sessions, Workspaces)
            .takes::<sessions::Form>()
            .answers::<MintedJson<'_>>(200, "It is made.")
            .errors([404]),
        Op::post("/api/v1/sessions/{session}/refresh", "refreshSession", "Give a session its next token")
            .about("The one before is worth nothing from then on.")
            .asks(Sessions, Workspaces)
            .answers::<TokenJson<'_>>(200, "The next token.")
            .errors([409]),
        Op::delete("/api/v1/sessions/{session}", "revokeSession", "Revoke a session")
            .asks(Sessions, Workspaces)
            .answers::<Revoked>(200, "It is revoked."),
    ];
    let keys = vec![
        Op::get("/api/v1/keys", "listKeys", "List machine keys")
            .asks(Keys, Organization)
            .paged(CONFIGURED)
            .answers::<Envelope<KeyJson>>(200, "Without their secrets."),
        Op::post("/api/v1/keys", "createKey", "Make a machine key")
            .about("It may do no more than the key that makes it. Its secret is shown here and never again.")
            .asks(Keys, Organization)
            .takes::<keys::NewForm>()
            .answers::<keys::Created>(201, "It is made.")
            .errors([404, 409]),
        Op::delete("/api/v1/keys/{access_key}", "revokeKey", "Revoke a machine key")
            .about("A key cannot revoke itself.")
            .asks(Keys, Organization)
            .answers::<Revoked>(200, "It is revoked.")
            .errors([409]),
    ];
    vec![
        Tag {
            name: "Sessions",
            description: "Short-lived access for an embedded page, to one workspace or one resource of it.",
            operations: sessions,
        },
        Tag {
            name: "Machine keys",
            description: "Who may call this API from servers, and what each may do.",
            operations: keys,
        },
    ]
}
