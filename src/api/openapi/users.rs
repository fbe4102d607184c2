//! The organization, its users, how they sign in, and what everybody did.

use super::{Operation, Tag, of, schema};
use crate::api::{
    audit::EntryJson,
    invitations::{self, Deleted, InvitationJson},
    organization::{self, OrganizationJson},
    page::{CONFIGURED, Envelope, HISTORY},
    resets,
    sign_in::{self, SignedInJson, SignedOut},
    usage::{PlanJson, ROWS, UsageJson},
    users::{self, UserJson},
};
use actors::domain::{
    access::{Permission::*, Subject::*},
    usage::Day,
};
use uuid::Uuid;

type Op = Operation;

fn used(operation: Operation) -> Operation {
    operation
        .asks(Read, Workspaces)
        .paged(ROWS)
        .query("from", of::<Day>, "The first day, UTC; that of the month where nothing is said.")
        .query("to", of::<Day>, "The last day; today where nothing is said.")
        .answers::<Envelope<UsageJson>>(200, "Days on which nothing was used are left out.")
}

pub fn tags() -> Vec<Tag> {
    let users = vec![
        Op::get("/api/v1/organization", "getOrganization", "Read the organization")
            .asks(Read, Organization)
            .answers::<OrganizationJson>(200, "The caller's.")
            .errors([404]),
        Op::put("/api/v1/organization", "updateOrganization", "Rename the organization")
            .asks(Keys, Organization)
            .takes::<organization::Form>()
            .answers::<OrganizationJson>(200, "As it is now.")
            .errors([404, 409]),
        Op::get("/api/v1/users", "listUsers", "List users")
            .asks(Keys, Organization)
            .paged(CONFIGURED)
            .answers::<Envelope<UserJson>>(200, "Oldest first."),
        Op::patch("/api/v1/users/{user}", "patchUser", "Change some of a user")
            .about("Whoever changes a user may do at least as much as they. The last owner stays one.")
            .asks(Keys, Organization)
            .takes::<users::PatchForm>()
            .answers::<users::Changed>(200, "As they are now.")
            .errors([409]),
        Op::delete("/api/v1/users/{user}", "deleteUser", "Delete a user")
            .asks(Keys, Organization)
            .answers::<Deleted>(200, "They are gone.")
            .errors([409]),
        Op::post("/api/v1/users/{user}/reset", "createPasswordReset", "Make a link to another password")
            .about("The link is shown once, is good once and for a day, and takes the place of an earlier one. Sending it is up to you.")
            .asks(Keys, Organization)
            .answers::<resets::Created>(201, "It is made.")
            .errors([409]),
        Op::delete("/api/v1/users/{user}/reset", "deletePasswordReset", "Take that link back")
            .asks(Keys, Organization)
            .answers::<Deleted>(200, "It is worth nothing any more.")
            .errors([409]),
        Op::get("/api/v1/invitations", "listInvitations", "List invitations")
            .asks(Keys, Organization)
            .paged(CONFIGURED)
            .answers::<Envelope<InvitationJson>>(200, "Those that may still be accepted."),
        Op::post("/api/v1/invitations", "createInvitation", "Invite somebody")
            .about("The link is shown once, is good once and for a week. Sending it is up to you.")
            .asks(Keys, Organization)
            .takes::<invitations::NewForm>()
            .answers::<invitations::Created>(201, "It is made.")
            .errors([404, 409]),
        Op::delete("/api/v1/invitations/{invitation}", "deleteInvitation", "Take an invitation back")
            .asks(Keys, Organization)
            .answers::<Deleted>(200, "It is gone.")
            .errors([409]),
    ];
    let sign_in = vec![
        Op::post("/api/v1/invitations/accept", "acceptInvitation", "Become a user by invitation")
            .takes::<invitations::AcceptForm>()
            .answers::<invitations::Accepted>(201, "The user.")
            .errors([401, 403, 404, 409, 429, 503]),
        Op::post("/api/v1/sign-in", "signIn", "Sign in")
            .about("A wrong address and a wrong password read the same.")
            .takes::<sign_in::Form>()
            .answers::<SignedInJson<'_>>(200, "A token for this API.")
            .errors([401, 429, 503]),
        Op::post("/api/v1/sign-out", "signOut", "Sign out everywhere")
            .asks(Read, Organization)
            .of_users()
            .answers::<SignedOut>(200, "No token of the user is good any more.")
            .errors([404, 409]),
        Op::post("/api/v1/password", "changePassword", "Change one's password")
            .about("Signs out everywhere, too; the answer has the token to go on with.")
            .asks(Read, Organization)
            .of_users()
            .takes::<sign_in::PasswordForm>()
            .answers::<SignedInJson<'_>>(200, "It is changed.")
            .errors([404, 409]),
        Op::post("/api/v1/password/reset", "resetPassword", "Get another password by a link")
            .about("Ends all sign-ins of the user.")
            .takes::<resets::Form>()
            .answers::<resets::Changed>(200, "It is changed.")
            .errors([401, 404, 409, 429, 503]),
    ];
    let usage = vec![
        used(Op::get("/api/v1/usage", "listUsage", "List what workspaces used, by the day"))
            .query("workspace", of::<Uuid>, "Only this workspace.")
            .errors([404]),
        used(Op::get(
            "/api/v1/workspaces/{workspace}/usage",
            "getWorkspaceUsage",
            "List what a workspace used, by the day",
        )),
        Op::get("/api/v1/plan", "getPlan", "Read what the plan allows, and what of it is used")
            .asks(Read, Organization)
            .answers::<PlanJson>(200, "The organization's.")
            .errors([404]),
    ];
    let audit = vec![
        Op::get("/api/v1/audit", "listAudit", "List who changed what")
            .about("That of a workspace, or of the organization for who may manage its keys.")
            .asks(Keys, Workspaces)
            .paged(HISTORY)
            .query("workspace", of::<Uuid>, "Only what is about this workspace.")
            .query(
                "actor",
                schema::text,
                "Only what this actor did: a user's id, an access key, a session's id.",
            )
            .query("action", schema::text, "Only this, such as `rule.updated`.")
            .query("subject", schema::text, "Only what was done to this: an id.")
            .query("after", schema::time, "Only what was done then or later.")
            .query("before", schema::time, "Only what was done before.")
            .answers::<Envelope<EntryJson>>(200, "Newest first.")
            .errors([404]),
    ];
    vec![
        Tag {
            name: "Organization and users",
            description: "People who may use an organization, and what each may do.",
            operations: users,
        },
        Tag {
            name: "Signing in",
            description: "How a person gets a token for this API.",
            operations: sign_in,
        },
        Tag {
            name: "Usage and plan",
            description: "What was used, by workspace and day, and what the plan allows.",
            operations: usage,
        },
        Tag { name: "Audit", description: "Every change, by whom, when and from where.", operations: audit },
    ]
}
