//! The tools: a row each, which says what to ask of the API and with what.
//!
//! Names and arguments of those that begin with `meshes_` are the official server's, so that prompts
//! and clients written for it work here; those that begin with `weft_` are ours.

use super::arguments::{
    Argument, EVENT,
    Form::{
        Boolean, Cursor, Events, Integer, Object, OneOf, SessionId, Text, TextOrNull, Texts, Urls, Uuid,
        Words,
    },
    To::{Body, BodyIfTrue, Metadata, MetadataMembers, Path, Query, QueryIfTrue, WholeBody},
    needs, takes,
};

/// One thing a client may ask for.
pub(super) struct Tool {
    pub name: &'static str,
    pub about: &'static str,
    pub method: Method,
    /// Below `/api/v1`, with `{argument}` where one goes.
    pub path: &'static str,
    pub arguments: &'static [Argument],
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
    Put,
    Delete,
}
use Method::{Delete, Get, Post, Put};

/// The one whose answer is led by two lines about the event.
pub(super) const EMIT: &str = "meshes_emit_event";

const ANY: usize = usize::MAX;
const CONNECTION_TYPES: &[&str] = &[
    "activecampaign",
    "aweber",
    "customer_io",
    "discord",
    "hubspot",
    "intercom",
    "mailchimp",
    "mailerlite",
    "pipedrive",
    "resend",
    "salesforce",
    "sendgrid",
    "slack",
    "webhook",
    "zoom",
];
const STATUSES: &[&str] = &["pending", "processing", "retrying", "completed", "failed", "canceled"];

/// The workspace a tool works in, where its path names it.
const WORKSPACE: Argument = needs("workspace_id", Uuid, Path, "The workspace's id");
const CONNECTION: Argument = needs("connection_id", Uuid, Path, "The connection's id");
const RULE: Argument = needs("rule_id", Uuid, Path, "The rule's id");
const EVENT_ID: Argument = needs("event_id", Uuid, Path, "The event's id");
const SESSION: Argument = needs("session_id", SessionId, Path, "The session's id");

const NAME_OF_EVENT: Argument = takes("event", Text(1, ANY), Query, "Only those of this event name");
const RESOURCE: Argument = takes("resource", Text(1, ANY), Query, "Only those of this resource");
const RESOURCE_ID: Argument = takes("resource_id", Text(1, ANY), Query, "Only those of this resource_id");
const LIMIT: Argument =
    takes("limit", Integer(1, 200), Query, "How many to answer at most; 50 where it is left out");
const CURSOR: Argument = takes("cursor", Cursor, Query, "The next_cursor of the page before");

const WORKSPACE_NAME: Argument = needs("name", Text(3, 50), Body, "3 to 50 letters, digits, spaces, _ or -");
const CONNECTION_NAME: Argument = needs("name", Text(1, 128), Body, "Unique in its workspace");
const HIDDEN: Argument = takes("hidden", Boolean, Body, "Keep it out of pages that customers see");

const fn tool(
    name: &'static str,
    method: Method,
    path: &'static str,
    about: &'static str,
    arguments: &'static [Argument],
) -> Tool {
    Tool { name, about, method, path, arguments }
}

#[rustfmt::skip]
pub(super) const TOOLS: &[Tool] = &[
    tool("meshes_list_workspaces", Get, "/workspaces",
        "List the workspaces of the organization. A workspace holds one customer's connections, rules and events.",
        &[]),
    tool("meshes_get_workspace", Get, "/workspaces/{workspace_id}",
        "Get one workspace, with the publishable key that may send events into it.",
        &[WORKSPACE]),
    tool("meshes_create_workspace", Post, "/workspaces",
        "Create a workspace. Its name must not be taken in the organization.",
        &[WORKSPACE_NAME,
          takes("description", Text(0, 1024), Body, "What it is for")]),
    tool("meshes_update_workspace", Put, "/workspaces/{workspace_id}",
        "Rename a workspace, and change or clear its description.",
        &[WORKSPACE, WORKSPACE_NAME,
          takes("description", TextOrNull(1024), Body, "What it is for; null clears it, and left out it stays")]),
    tool("meshes_get_workspace_connections", Get, "/workspaces/{workspace_id}/connections",
        "List the connections of a workspace: the accounts its events are delivered to.",
        &[WORKSPACE]),
    tool("meshes_get_workspace_event_types", Get, "/workspaces/{workspace_id}/event-types",
        "List the event names a workspace knows.",
        &[WORKSPACE]),
    tool("meshes_get_workspace_resources", Get, "/workspaces/{workspace_id}/resources",
        "List the resources a workspace knows: the kinds of things its events are about.",
        &[WORKSPACE]),
    tool("meshes_get_workspace_rules", Get, "/workspaces/{workspace_id}/rules",
        "List the rules of a workspace: which events go to which connection, to do what.",
        &[WORKSPACE, NAME_OF_EVENT, RESOURCE, RESOURCE_ID]),
    tool("meshes_get_workspace_events", Get, "/workspaces/{workspace_id}/events",
        "List the events of a workspace and what became of them, newest first.",
        &[WORKSPACE, LIMIT, CURSOR, NAME_OF_EVENT,
          takes("status", OneOf(STATUSES), Query, "Only those of this status"),
          RESOURCE, RESOURCE_ID]),

    tool("meshes_list_connections", Get, "/connections",
        "List the connections of all workspaces.",
        &[]),
    tool("meshes_get_connection", Get, "/connections/{connection_id}",
        "Get one connection. Secrets in its metadata are masked.",
        &[CONNECTION]),
    tool("meshes_create_connection", Post, "/connections",
        "Create a connection. What belongs in metadata depends on its type: meshes_list_integrations tells. A webhook needs a url.",
        &[needs("workspace", Uuid, Body, "The workspace it belongs to"),
          needs("type", OneOf(CONNECTION_TYPES), Body, "The service it leads to"),
          CONNECTION_NAME,
          needs("metadata", Object, Body, "Its settings and credentials"),
          HIDDEN]),
    tool("meshes_update_connection", Put, "/connections/{connection_id}",
        "Replace a connection's name and metadata. A masked secret that is sent back stays as it was.",
        &[CONNECTION, CONNECTION_NAME,
          needs("metadata", Object, Body, "Its settings and credentials, all of them"),
          HIDDEN]),
    tool("meshes_delete_connection", Delete, "/connections/{connection_id}",
        "Delete a connection. Refused while rules lead to it, unless force_delete takes them along.",
        &[CONNECTION,
          takes("force_delete", Boolean, BodyIfTrue, "Delete the rules that lead to it, too")]),
    tool("meshes_get_connection_actions", Get, "/connections/{connection_id}/actions",
        "List what can be done at a connection, with the lists, tags and the like that are in the account now.",
        &[CONNECTION]),
    tool("meshes_get_connection_fields", Get, "/connections/{connection_id}/fields",
        "List the fields a connection's account has, for mappings.",
        &[CONNECTION,
          takes("refresh", Boolean, QueryIfTrue, "Read them from the service again")]),
    tool("meshes_get_connection_default_mappings", Get, "/connections/{connection_id}/mappings/default",
        "Get how a payload's fields become the account's: the saved mapping, or one that is suggested.",
        &[CONNECTION]),
    tool("meshes_update_connection_default_mappings", Put, "/connections/{connection_id}/mappings/default",
        "Save how a payload's fields become the account's.",
        &[CONNECTION,
          takes("workspace_id", Uuid, Body, "The connection's workspace, to be sure of it"),
          takes("mapping_id", Uuid, Body, "The mapping that is changed, to be sure of it"),
          takes("expected_version", Integer(1, i64::MAX), Body, "Refuse if it was saved since this version"),
          takes("name", Text(1, 64), Body, "What to call it"),
          needs("schema", Object, Body, "schema_version 1, and fields of dest, source, transforms and on_error")]),
    tool("meshes_list_integrations", Get, "/integrations",
        "List the services that can be connected, with the settings and actions of each.",
        &[]),

    tool("meshes_list_rules", Get, "/rules",
        "List the rules of all workspaces.",
        &[NAME_OF_EVENT, RESOURCE, RESOURCE_ID]),
    tool("meshes_get_rule", Get, "/rules/{rule_id}",
        "Get one rule.",
        &[RULE]),
    tool("meshes_create_rule", Post, "/rules",
        "Create a rule: which events go to a connection, to do what there.",
        &[needs("workspace", Uuid, Body, "The workspace it belongs to"),
          needs("connection", Uuid, Body, "Where matching events go; of the same workspace"),
          needs("event", Text(1, ANY), Body, "The event name it is for, such as contact.created"),
          needs("action", Text(1, ANY), Metadata, "What to do there: a key of the connection's actions, such as send_webhook"),
          takes("resource", Text(1, ANY), Body, "Only events of this resource"),
          takes("resource_id", Text(1, ANY), Body, "Only events of this resource_id"),
          takes("active", Boolean, Body, "Whether it is in force; true where it is left out"),
          HIDDEN,
          takes("metadata_extra", Texts, MetadataMembers, "What else the action needs, such as the id of a list")]),
    tool("meshes_delete_rule", Delete, "/rules/{rule_id}",
        "Delete a rule. What it has queued is still delivered.",
        &[RULE]),

    tool(EMIT, Post, "/events",
        "Send one event. It is on disk when this answers, and delivered by the rules that match it.",
        EVENT),
    tool("meshes_emit_bulk_events", Post, "/events/bulk",
        "Send 1 to 100 events. Each is accepted or refused by itself: look at error_count and records.",
        &[needs("events", Events, WholeBody, "The events, each as in meshes_emit_event")]),
    tool("meshes_list_events", Get, "/events",
        "List the events of all workspaces and what became of them, newest first.",
        &[LIMIT, CURSOR]),
    tool("meshes_get_event", Get, "/events/{event_id}",
        "Get what became of an event: each delivery, its status and its last error, and why other rules did not match.",
        &[EVENT_ID]),
    tool("meshes_get_event_payload", Get, "/events/{event_id}/payload",
        "Get an event with its payload.",
        &[EVENT_ID]),
    tool("meshes_retry_event_rule", Post, "/events/{event_id}/rules/{rule_id}/retry",
        "Try a delivery again now: one that waits for its next try, or one that was given up.",
        &[EVENT_ID, needs("rule_id", Uuid, Path, "The rule whose delivery it is")]),

    tool("meshes_create_session", Post, "/sessions",
        "Make a short-lived session for an embedded page of one workspace.",
        &[needs("workspace_id", Uuid, Body, "The workspace it shows"),
          takes("role", OneOf(&["member", "admin", "owner"]), Body, "What its user may do; member where it is left out"),
          takes("session_type", OneOf(&["workspace", "resource", "dashboard"]), Body, "How much of it it shows; workspace where it is left out"),
          takes("external_user_id", Text(1, 255), Body, "Your own id of the user"),
          takes("ttl_seconds", Integer(300, 3600), Body, "How long it lasts"),
          takes("launch_ttl_seconds", Integer(15, 60), Body, "How long its launch link can be opened"),
          takes("launch_page", OneOf(&["dashboard", "connections", "rules", "events"]), Body, "The page it opens on; dashboard where it is left out"),
          takes("resource", Text(1, ANY), Body, "For session_type resource: the resource it shows"),
          takes("resource_id", Text(1, ANY), Body, "For session_type resource: which one"),
          takes("allowed_origins", Urls(10), Body, "The sites that may embed it"),
          takes("scopes", Words(20, &["events.payload:read"]), Body, "What else its user may do")]),
    tool("meshes_list_sessions", Get, "/sessions",
        "List the sessions of a workspace, newest first.",
        &[needs("workspace_id", Uuid, Query, "The workspace's id"), LIMIT, CURSOR,
          takes("status", OneOf(&["active", "revoked"]), Query, "Only those of this status"),
          RESOURCE, RESOURCE_ID]),
    tool("meshes_refresh_session", Post, "/sessions/{session_id}/refresh",
        "Give a session a new access token, and end the old one.",
        &[SESSION]),
    tool("meshes_revoke_session", Delete, "/sessions/{session_id}",
        "End a session.",
        &[SESSION]),

    tool("weft_cancel_event", Post, "/events/{event_id}/cancel",
        "Stop every delivery of an event that has not ended.",
        &[EVENT_ID]),
    tool("weft_list_attempts", Get, "/events/{event_id}/rules/{rule_id}/attempts",
        "List the tries of a delivery: when, how each ended, and when the next one is due.",
        &[EVENT_ID, needs("rule_id", Uuid, Path, "The rule whose delivery it is"), LIMIT, CURSOR]),
    tool("weft_get_attempt_response", Get, "/events/{event_id}/rules/{rule_id}/attempts/{attempt_id}/response-details",
        "Get what the destination answered in a failed try: status, headers and body.",
        &[EVENT_ID, needs("rule_id", Uuid, Path, "The rule whose delivery it is"), needs("attempt_id", Uuid, Path, "The attempt's id")]),
    tool("weft_pause_connection", Post, "/connections/{connection_id}/pause",
        "Let a connection's deliveries wait. Nothing is lost.",
        &[CONNECTION]),
    tool("weft_resume_connection", Post, "/connections/{connection_id}/resume",
        "Let a paused connection's deliveries flow again.",
        &[CONNECTION]),
    tool("weft_find_events", Get, "/workspaces/{workspace_id}/events",
        "Find events of a workspace by time, delivery or outcome as well as by name and status, newest first.",
        &[WORKSPACE, LIMIT, CURSOR, NAME_OF_EVENT,
          takes("status", OneOf(STATUSES), Query, "Only those of this status"),
          RESOURCE, RESOURCE_ID,
          takes("after", Text(1, 64), Query, "Only those accepted at this RFC 3339 time or later"),
          takes("before", Text(1, 64), Query, "Only those accepted before this RFC 3339 time"),
          takes("rule", Uuid, Query, "Only those with a delivery of this rule"),
          takes("connection", Uuid, Query, "Only those with a delivery to this connection"),
          takes("outcome", Text(1, 64), Query, "Only those with a delivery that ended so, such as timeout or rejected_server_error")]),
];
