//! What the API can be told on the command line: a row an action. A new route of the API is a new row here.

use self::{Kind::*, Verb::*};

/// One action: `weft NOUN NAME`.
pub struct Action {
    pub noun: &'static str,
    /// Below its noun, in words: `get`, `mapping get`. Empty: the noun is the command.
    pub name: &'static str,
    pub verb: Verb,
    /// Below `/api/v1`. What is in `[]` is there if what it names is given. `{workspace}` is a flag where the
    /// noun is another; every other `{name}` is an argument, in the path's order.
    pub path: &'static str,
    pub about: &'static str,
    pub flags: &'static [&'static [Flag]],
    /// Of a list, what is shown of each record to a person. Empty: all that is no object or list.
    pub columns: &'static [&'static str],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Get,
    /// A list in pages: with `--limit`, `--cursor` and `--all`.
    List,
    /// Lines of JSON without end, passed on as they come.
    Stream,
    Post,
    Put,
    Patch,
    Delete,
}

impl Verb {
    /// Its method in HTTP.
    pub const fn method(self) -> &'static str {
        match self {
            Get | List | Stream => "GET",
            Post => "POST",
            Put => "PUT",
            Patch => "PATCH",
            Delete => "DELETE",
        }
    }
}

/// Something that may be said along with an action.
pub struct Flag {
    /// `--name`, or the argument's where it is one.
    pub name: &'static str,
    pub kind: Kind,
    pub to: To,
    pub is_argument: bool,
    pub about: &'static str,
}

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Number,
    /// With a fraction, if need be.
    Decimal,
    /// `true` or `false`.
    Boolean,
    /// Nothing: it is true by being there.
    Switch,
    /// Texts with commas between.
    Texts,
    /// JSON, `@FILE` or `-`.
    Json,
    /// `name=value`, any number of times.
    Pairs,
}

/// Where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// A parameter of this name; of pairs, what theirs begin with.
    Query(&'static str),
    /// A member of the body, by its path.
    Body(&'static str),
    Header(&'static str),
}

const fn flag(name: &'static str, kind: Kind, to: To, about: &'static str) -> Flag {
    Flag { name, kind, to, is_argument: false, about }
}

/// A parameter.
const fn query(name: &'static str, kind: Kind, about: &'static str) -> Flag {
    flag(name, kind, To::Query(name), about)
}

/// A member of the body.
const fn body(name: &'static str, kind: Kind, about: &'static str) -> Flag {
    flag(name, kind, To::Body(name), about)
}

/// The same as an argument.
const fn argument(name: &'static str, about: &'static str) -> Flag {
    Flag { is_argument: true, ..body(name, Text, about) }
}

#[rustfmt::skip]
const ABOUT_EVENTS: &[Flag] = &[
    query("event",        Text,  "Only of this event name"),
    query("resource",     Text,  "Only about this resource"),
    query("resource_id",  Text,  "Only about this one of them"),
];
#[rustfmt::skip]
const FIND: &[Flag] = &[
    query("status",       Text,  "Only in this status: pending, processing, retrying, completed, failed or canceled"),
    query("after",        Text,  "Only accepted then or later, as 2026-03-15T12:00:00Z"),
    query("before",       Text,  "Only accepted before then"),
    query("id",           Text,  "Only this event"),
    query("rule",         Text,  "Only with a delivery of this rule"),
    query("connection",   Text,  "Only with a delivery to this connection"),
    query("outcome",      Text,  "Only with a delivery whose last try ended so, as timeout"),
    flag("payload", Pairs, To::Query("payload."), "Only whose payload says so, as user.email=ada@example.com"),
];
#[rustfmt::skip]
const REPLAY: &[Flag] = &[
    body("filter",       Json,                                    "Which deliveries; or by the flags for each of its members"),
    flag("from",         Text,   To::Body("filter.from"),         "Only events accepted then or later"),
    flag("to",           Text,   To::Body("filter.to"),           "Only events accepted before then"),
    flag("event_id",     Text,   To::Body("filter.event_id"),     "Only this event"),
    flag("event",        Text,   To::Body("filter.event"),        "Only events of this name"),
    flag("connection",   Text,   To::Body("filter.connection"),   "Only deliveries to this connection"),
    flag("rule",         Text,   To::Body("filter.rule"),         "Only deliveries of this rule"),
    flag("status",       Text,   To::Body("filter.status"),       "Only deliveries that are completed, failed or canceled"),
    flag("outcome_code", Text,   To::Body("filter.outcome_code"), "Only deliveries that ended so, as timeout"),
    flag("dry_run",      Switch, To::Body("dry_run"),             "Only count them"),
    body("as_of",        Text,                                    "By the rules of `then` or `now` [default: then]"),
    body("rate_per_second", Decimal,                              "Deliveries a second"),
];
#[rustfmt::skip]
const WORKSPACE: &[Flag] = &[
    body("name",          Text,    "3 to 50 letters, digits, spaces, _ or -"),
    body("description",   Text,    "What it is for"),
];
#[rustfmt::skip]
const CONNECTION: &[Flag] = &[
    body("name",          Text,    "Unique in its workspace"),
    body("metadata",      Json,    "Its settings and credentials"),
    flag("url", Text, To::Body("metadata.url"), "Of a webhook: where it leads"),
    body("policy",        Json,    "Limits of its own: rate_per_second, burst, max_in_flight, timeout_ms, retry"),
    body("hidden",        Boolean, "Keep it out of pages that customers see"),
];
#[rustfmt::skip]
const RULE: &[Flag] = &[
    body("event",         Text,    "The event name or pattern it is for, as invoice.*"),
    body("resource",      Text,    "Only events about this resource"),
    body("resource_id",   Text,    "Only events about this one of them"),
    flag("action", Text, To::Body("metadata.action"), "What to do there, as send_webhook"),
    body("metadata",      Json,    "What to do there, with all it needs"),
    body("conditions",    Json,    "Only events whose payload is so, as {\"path\":\"total\",\"op\":\"gte\",\"value\":100}"),
    body("active",        Boolean, "Whether it is in force"),
    body("hidden",        Boolean, "Keep it out of pages that customers see"),
];
#[rustfmt::skip]
const EVENT: &[Flag] = &[
    argument("event",              "The event's name, as contact.created"),
    body("payload",       Json,    "What happened: any JSON object"),
    body("resource",      Text,    "The kind of thing it is about [default: global]"),
    body("resource_id",   Text,    "Which one of them it is about"),
];
const IN_WORKSPACE: &[Flag] = &[body("workspace", Text, "The workspace it belongs to")];
const ONCE: &[Flag] =
    &[flag("idempotency_key", Text, To::Header("idempotency-key"), "The same key is accepted once a day")];
#[rustfmt::skip]
const NAME: &[Flag] = &[
    body("label",         Text,    "How it is shown"),
    body("description",   Text,    "What it means"),
    body("active",        Boolean, "Whether it is offered"),
];
#[rustfmt::skip]
const SESSION: &[Flag] = &[
    flag("workspace", Text, To::Body("workspace_id"), "The workspace it shows"),
    body("role",          Text,    "What its user may do: member, admin or owner [default: member]"),
    body("session_type",  Text,    "How much it shows: workspace, resource or dashboard [default: workspace]"),
    body("resource",      Text,    "The resource it shows"),
    body("resource_id",   Text,    "Which one of them it shows"),
    body("external_user_id", Text, "Your own id of its user"),
    body("ttl_seconds",   Number,  "How long it lasts, 300 to 3600"),
    body("launch_ttl_seconds", Number, "How long its launch link can be opened, 15 to 60"),
    body("launch_page",   Text,    "The page it opens on: dashboard, connections, rules or events"),
    body("allowed_origins", Texts, "The sites that may embed it"),
    body("scopes",        Texts,   "What else its user may do: events.payload:read"),
];

#[rustfmt::skip]
const DAYS: &[Flag] = &[
    query("from",         Text,    "The first day, as 2026-03-01 [default: the first of the month]"),
    query("to",           Text,    "The last day [default: today]"),
];

const WORKSPACES: &[&str] = &["id", "name", "description", "created_at"];
const CONNECTIONS: &[&str] = &["id", "type", "name", "workspace", "active", "paused", "inactive_reason"];
const RULES: &[&str] = &["id", "event", "resource", "resource_id", "connection", "metadata.action", "active"];
const EVENTS: &[&str] = &["id", "event", "resource", "status", "total_rules", "failed_count", "created_at"];
const ATTEMPTS: &[&str] = &[
    "id",
    "attempt_number",
    "started_at",
    "duration_ms",
    "outcome_code",
    "http_status",
    "message",
    "next_retry_at",
];
const NAMES: &[&str] = &["key", "label", "active", "description"];
const SESSIONS: &[&str] = &["session_id", "session_type", "role", "status", "is_expired", "expires_at"];
const KEYS: &[&str] = &["access_key", "name", "permissions", "workspaces", "last_used_at", "created_at"];

/// What is shown of the records of lists inside an answer, by the list's name.
pub const INSIDE: &[(&str, &[&str])] = &[
    (
        "examples.matched",
        &[
            "event_id",
            "event",
            "created_at",
            "sends.outcome_code",
            "sends.message",
            "sends.complete",
            "sends.request.method",
            "sends.request.url",
            "sends.fields",
            "sends.request.body",
        ],
    ),
    ("rule_events", &["rule", "connection", "status", "attempt_count", "last_error", "next_attempt_at"]),
    ("unmatched_rules", &["rule", "connection", "reason"]),
    ("fields", &["key", "label", "type", "description"]),
];
const USERS: &[&str] = &["id", "email", "name", "role", "payloads", "disabled", "last_sign_in_at"];
const INVITATIONS: &[&str] = &["id", "email", "role", "created_by", "expires_at"];
const REPLAYS: &[&str] = &["id", "state", "matched", "queued", "completed", "failed", "created_at"];
const USAGE: &[&str] = &["workspace", "day", "events", "deliveries", "attempts", "delivered"];
const AUDIT: &[&str] = &[
    "created_at",
    "actor.type",
    "actor.id",
    "actor.name",
    "action",
    "subject.id",
    "subject.name",
    "changed",
];

const fn row(
    noun: &'static str,
    name: &'static str,
    verb: Verb,
    path: &'static str,
    about: &'static str,
    flags: &'static [&'static [Flag]],
    columns: &'static [&'static str],
) -> Action {
    Action { noun, name, verb, path, about, flags, columns }
}

/// What each noun is, for the help.
#[rustfmt::skip]
pub const NOUNS: &[(&str, &str)] = &[
    ("workspace",   "Workspaces: a customer's connections, rules and events"),
    ("connection",  "Connections: a customer's accounts at the services events go to"),
    ("rule",        "Rules: which events go to which connection, to do what"),
    ("event",       "Events, and what became of them"),
    ("replay",      "Past deliveries, done again"),
    ("event-type",  "The event names a workspace knows"),
    ("resource",    "The resources a workspace knows"),
    ("integration", "The services that can be connected"),
    ("session",     "Sessions for embedded pages"),
    ("key",         "Machine keys"),
    ("organization", "The organization itself"),
    ("user",        "People who may sign in"),
    ("invitation",  "Invitations of people who have not signed in yet"),
    ("audit",       "Who changed what, newest first"),
    ("usage",       "What was used, by workspace and day"),
    ("plan",        "What the plan allows, and how much of it is used"),
];

#[rustfmt::skip]
pub const ACTIONS: &[Action] = &[
    row("workspace",   "list",        List,   "/workspaces",                                "List workspaces", &[], WORKSPACES),
    row("workspace",   "get",         Get,    "/workspaces/{workspace}",                    "Show one, with its publishable key", &[], &[]),
    row("workspace",   "create",      Post,   "/workspaces",                                "Make one", &[WORKSPACE], &[]),
    row("workspace",   "update",      Put,    "/workspaces/{workspace}",                    "Rename one; what else is left out stays", &[WORKSPACE], &[]),
    row("workspace",   "rotate-key",  Post,   "/workspaces/{workspace}/publishable-key/rotate", "Give it a new publishable key",
        &[&[body("overlap_seconds", Number, "How long the old one is still good [default: 86400]")]], &[]),

    row("connection",  "list",        List,   "[/workspaces/{workspace}]/connections",      "List connections, of a workspace or all", &[], CONNECTIONS),
    row("connection",  "get",         Get,    "/connections/{connection}",                  "Show one; its secrets are masked", &[], &[]),
    row("connection",  "create",      Post,   "/connections",                               "Make one",
        &[IN_WORKSPACE, &[body("type", Text, "The service, as webhook")], CONNECTION, TEST], &[]),
    row("connection",  "connect",     Post,   "/connections/oauth",                         "Make a link that connects an account in a browser",
        &[IN_WORKSPACE, &[body("type", Text, "The service, as hubspot"), body("name", Text, "Unique in its workspace"),
          body("connection", Text, "Instead of these: one that is there, to be connected again"),
          body("metadata", Json, "What the consent goes by, as Salesforce's login_url")]], &[]),
    row("connection",  "update",      Patch,  "/connections/{connection}",                  "Change what is given; the rest stays",
        &[CONNECTION, TEST, &[body("paused", Boolean, "Let its deliveries wait"), body("active", Boolean, "Use it, or do not")]], &[]),
    row("connection",  "replace",     Put,    "/connections/{connection}",                  "Replace its name and metadata", &[CONNECTION, TEST], &[]),
    row("connection",  "delete",      Delete, "/connections/{connection}",                  "Delete one",
        &[&[flag("force", Switch, To::Body("force_delete"), "Delete the rules that lead to it, too")]], &[]),
    row("connection",  "pause",       Post,   "/connections/{connection}/pause",            "Let its deliveries wait", &[], &[]),
    row("connection",  "resume",      Post,   "/connections/{connection}/resume",           "Let its deliveries flow again", &[], &[]),
    row("connection",  "actions",     Get,    "/connections/{connection}/actions",          "Show what can be done there, with what is in the account", &[], &[]),
    row("connection",  "fields",      Get,    "/connections/{connection}/fields",           "Show the fields of the account",
        &[&[query("refresh", Switch, "Read them from the service again")]], &[]),
    row("connection",  "mapping get", Get,    "/connections/{connection}/mappings/default", "Show how a payload's fields become the account's", &[], &[]),
    row("connection",  "mapping set", Put,    "/connections/{connection}/mappings/default", "Save how they do",
        &[&[body("schema", Json, "The mapping"), body("name", Text, "What to call it"),
            body("expected_version", Number, "Refuse if it was saved since"), body("mapping_id", Text, "Refuse if it is another"),
            body("workspace_id", Text, "Refuse if it is of another workspace")]], &[]),

    row("rule",        "list",        List,   "[/workspaces/{workspace}]/rules",            "List rules, of a workspace or all", &[ABOUT_EVENTS], RULES),
    row("rule",        "get",         Get,    "/rules/{rule}",                              "Show one", &[], &[]),
    row("rule",        "create",      Post,   "/rules",                                     "Make one",
        &[IN_WORKSPACE, &[body("connection", Text, "Where matching events go")], RULE], &[]),
    row("rule",        "update",      Patch,  "/rules/{rule}",                              "Change what is given; the rest stays", &[RULE], &[]),
    row("rule",        "delete",      Delete, "/rules/{rule}",                              "Delete one", &[], &[]),
    row("rule",        "preview",     Post,   "/workspaces/{workspace}/rules/preview",      "Show which events of the past a draft would have matched",
        &[&[body("event", Text, "The event name or pattern it would be for"), body("resource", Text, "Only about this resource"),
            body("resource_id", Text, "Only about this one of them"), body("conditions", Json, "Only whose payload is so"),
            body("connection", Text, "Show what would be sent there"),
            flag("action", Text, To::Body("metadata.action"), "What it would do there"), body("metadata", Json, "The same, with all it needs"),
            body("last", Number, "How many events to look at [default: 1000]")]], &[]),
    row("rule",        "test",        Post,   "/workspaces/{workspace}/rules/{rule}/test",  "Send a test event through one rule", &[EVENT], &[]),

    row("event",       "list",        List,   "[/workspaces/{workspace}]/events",           "List events, newest first, of a workspace or all", &[ABOUT_EVENTS, FIND], EVENTS),
    row("event",       "get",         Get,    "/events/{event}",                            "Show what became of one", &[], &[]),
    row("event",       "payload",     Get,    "/events/{event}/payload",                    "Show one with its payload", &[], &[]),
    row("event",       "emit",        Post,   "/events",                                    "Send one", &[EVENT, IN_WORKSPACE, ONCE], &[]),
    row("event",       "bulk",        Post,   "/events/bulk",                               "Send up to 100, a list given by --data", &[ONCE], &[]),
    row("event",       "retry",       Post,   "/events/{event}/rules/{rule}/retry",         "Try a delivery again now", &[], &[]),
    row("event",       "cancel",      Post,   "/events/{event}[/rules/{rule}]/cancel",      "Stop its deliveries, or one rule's", &[], &[]),
    row("event",       "attempts",    List,   "/events/{event}/rules/{rule}/attempts",      "List the tries of a delivery", &[], ATTEMPTS),
    row("event",       "attempt",     Get,    "/events/{event}/rules/{rule}/attempts/{attempt}", "Show one try", &[], &[]),
    row("event",       "response",    Get,    "/events/{event}/rules/{rule}/attempts/{attempt}/response-details", "Show what was answered in a failed try", &[], &[]),
    row("event",       "export",      Stream, "/workspaces/{workspace}/events/export",      "Write all that pass, a line of JSON each", &[ABOUT_EVENTS, FIND], &[]),
    row("event",       "test",        Post,   "/workspaces/{workspace}/events/test",        "Send a test event through all rules", &[EVENT], &[]),

    row("event-type",  "list",        Get,    "/workspaces/{workspace}/event-types",        "List them", &[], NAMES),
    row("event-type",  "set",         Put,    "/workspaces/{workspace}/event-types/{key}",  "Say how one is shown; a new one is made", &[NAME], &[]),
    row("resource",    "list",        Get,    "/workspaces/{workspace}/resources",          "List them", &[], NAMES),
    row("resource",    "set",         Put,    "/workspaces/{workspace}/resources/{key}",    "Say how one is shown; a new one is made", &[NAME], &[]),

    row("integration", "list",        List,   "/integrations",                              "List them", &[], &["type", "name", "authentication.type"]),

    row("session",     "list",        List,   "/sessions",                                  "List those of a workspace, newest first",
        &[&[flag("workspace", Text, To::Query("workspace_id"), "The workspace they show"), query("status", Text, "Only active or revoked ones"),
            query("resource", Text, "Only about this resource"), query("resource_id", Text, "Only about this one of them")]], SESSIONS),
    row("session",     "create",      Post,   "/sessions",                                  "Make one", &[SESSION], &[]),
    row("session",     "refresh",     Post,   "/sessions/{session}/refresh",                "Give it a new token, and end the old one", &[], &[]),
    row("session",     "revoke",      Delete, "/sessions/{session}",                        "End it", &[], &[]),

    row("key",         "list",        List,   "/keys",                                      "List them, without their secrets", &[], KEYS),
    row("key",         "create",      Post,   "/keys",                                      "Make one; its secret is shown once",
        &[&[body("name", Text, "What it is for"), body("workspaces", Texts, "Only for these workspaces"),
            body("permissions", Texts, "Only to read, write, payload, send, sessions or keys")]], &[]),
    row("key",         "revoke",      Delete, "/keys/{access_key}",                         "End one at once", &[], &[]),

    row("organization", "get",        Get,    "/organization",                              "Show it", &[], &[]),
    row("organization", "update",     Put,    "/organization",                              "Rename it", &[&[body("name", Text, "What to call it")]], &[]),
    row("user",        "list",        List,   "/users",                                     "List them", &[], USERS),
    row("user",        "update",      Patch,  "/users/{user}",                              "Change what is given; the rest stays",
        &[&[body("name", Text, "Their name"), body("role", Text, "What they may do: member, admin or owner"),
            body("payloads", Boolean, "Whether a member may read payloads"), body("disabled", Boolean, "Keep them out")]], &[]),
    row("user",        "delete",      Delete, "/users/{user}",                              "Delete one", &[], &[]),
    row("user",        "reset",       Post,   "/users/{user}/reset",                        "Make a link to another password; it is shown once", &[], &[]),
    row("user",        "unreset",     Delete, "/users/{user}/reset",                        "Take that link back", &[], &[]),
    row("invitation",  "list",        List,   "/invitations",                               "List those that are open", &[], INVITATIONS),
    row("invitation",  "create",      Post,   "/invitations",                               "Invite somebody; the link is shown once",
        &[&[body("email", Text, "Their e-mail address"), body("role", Text, "What they will be: member, admin or owner")]], &[]),
    row("invitation",  "delete",      Delete, "/invitations/{invitation}",                  "Take one back", &[], &[]),
    row("replay",      "list",        List,   "/replays",                                   "List a workspace's", &[&[flag("workspace", Text, To::Query("workspace_id"), "The workspace")]], REPLAYS),
    row("replay",      "get",         Get,    "/replays/{replay}",                          "Show how far one is", &[], &[]),
    row("replay",      "create",      Post,   "/replays",                                   "Do past deliveries again, or count them first", &[IN_WORKSPACE, REPLAY], &[]),
    row("replay",      "update",      Patch,  "/replays/{replay}",                          "Pause, resume or cancel one, or change its rate",
        &[&[body("state", Text, "running, paused or canceled"), body("rate_per_second", Decimal, "Deliveries a second")]], &[]),

    row("usage",       "",            List,   "[/workspaces/{workspace}]/usage",            "List what was used, by workspace and day", &[DAYS], USAGE),
    row("plan",        "",            Get,    "/plan",                                      "Show what the plan allows, and how much of it is used", &[], &[]),
    row("audit",       "",            List,   "/audit",                                     "List who changed what, newest first",
        &[&[query("workspace", Text, "Only in this workspace"), query("actor", Text, "Only by them, by their id"),
            query("action", Text, "Only this action"), query("subject", Text, "Only of this, by its id"),
            query("after", Text, "Only then or later, as 2026-03-15T12:00:00Z"), query("before", Text, "Only before then")]], AUDIT),
];

const TEST: &[Flag] =
    &[flag("skip_test", Switch, To::Body("metadata.skip_test"), "Of a webhook: do not try it now")];

/// A path with and without what is optional in it.
pub fn paths(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('[') else { return vec![path.to_owned()] };
    let (optional, after) = rest.split_once(']').unwrap_or((rest, ""));
    vec![format!("{before}{after}"), format!("{before}{optional}{after}")]
}
