//! One operation of the API, told in a few words; what it has in common with the others follows.

use crate::api::page::Sizes;
use actors::domain::access::{Permission, Subject};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Describes a type to a generator.
pub type Describe = fn(&mut SchemaGenerator) -> Schema;

/// The schema of a type.
pub fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

const JSON: &str = "application/json";

/// Errors, each with its name among the document's responses, and when it is the answer.
#[rustfmt::skip] // the columns are the point
const ERRORS: [(u16, &str, &str); 15] = [
    (400, "BadRequest",           "The request is wrong; `error.data` says where."),
    (401, "Unauthorized",         "The credentials are missing or wrong."),
    (403, "Forbidden",            "These credentials may not do this, or a limit is reached: `error.name` is `Forbidden`, `LimitExceeded` or `PlanLimitExceeded`."),
    (404, "NotFound",             "There is none, or none that these credentials may know of."),
    (408, "RequestTimeout",       "The body did not come in time."),
    (409, "Conflict",             "It does not fit what is there: a name that is taken, a version that is not the latest, something that is over."),
    (410, "Gone",                 "The payload is not kept any more."),
    (413, "PayloadTooLarge",      "The body is too large."),
    (414, "UriTooLong",           "The request target is longer than 8192 bytes."),
    (415, "UnsupportedMediaType", "The body must be uncompressed JSON, and say so."),
    (422, "UnprocessableEntity",  "It is understood, and cannot be done like this."),
    (425, "TooEarly",             "An attempt is in flight; ask again when it is over."),
    (429, "TooManyRequests",      "Too much in too short a time, or more events than the plan has in a month; wait for `Retry-After`."),
    (500, "InternalServerError",  "An unexpected error; it has been logged under `request_id`."),
    (503, "ServiceUnavailable",   "Not now; ask again after `Retry-After`."),
];

/// Ids and names in paths, each with its form.
#[rustfmt::skip] // the columns are the point
const PATH: [(&str, &str, &str); 10] = [
    ("workspace",  "uuid",                     "A workspace's id."),
    ("connection", "uuid",                     "A connection's id."),
    ("rule",       "uuid",                     "A rule's id; of an event's deliveries also the delivery's own."),
    ("event",      "uuid",                     "An event's id."),
    ("attempt",    "uuid",                     "An attempt's id."),
    ("replay",     "uuid",                     "A replay's id."),
    ("user",       "uuid",                     "A user's id."),
    ("invitation", "uuid",                     "An invitation's id."),
    ("session",    "^sess_[0-9a-fA-F-]{36}$",  "A session's id."),
    ("access_key", "^mk_[A-Za-z0-9_-]{22,}$",  "A machine key's public half."),
];

/// Whom an operation answers.
#[derive(Clone, Copy)]
enum Asks {
    /// Anybody: it tells nothing of tenants.
    Nobody,
    /// A machine key, or a workspace's publishable key.
    Sender,
    /// Who has this permission, about this.
    Caller(Permission, Subject),
}

/// What an operation answers where it does what it is asked.
struct Answer {
    status: u16,
    description: &'static str,
    content: Option<(&'static str, Describe)>,
    headers: Vec<&'static str>,
}

struct Parameter {
    name: &'static str,
    place: &'static str,
    description: &'static str,
    is_required: bool,
    schema: Describe,
    /// Only of objects: each member is a parameter of its own.
    is_exploded: bool,
}

/// See the module's text.
pub struct Operation {
    pub method: &'static str,
    pub path: &'static str,
    pub id: &'static str,
    summary: &'static str,
    description: &'static str,
    asks: Asks,
    /// Only of who signed in.
    is_of_users: bool,
    parameters: Vec<Parameter>,
    page: Option<Sizes>,
    body: Option<(Describe, bool)>,
    answers: Vec<Answer>,
    errors: BTreeSet<u16>,
}

impl Operation {
    fn new(method: &'static str, path: &'static str, id: &'static str, summary: &'static str) -> Self {
        let named = if path.contains('{') { [404].into() } else { BTreeSet::new() };
        Self {
            method,
            path,
            id,
            summary,
            description: "",
            asks: Asks::Nobody,
            is_of_users: false,
            parameters: Vec::new(),
            page: None,
            body: None,
            answers: Vec::new(),
            errors: named,
        }
        .errors([414, 500])
    }

    pub fn get(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new("get", path, id, summary)
    }

    pub fn post(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new("post", path, id, summary)
    }

    pub fn put(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new("put", path, id, summary)
    }

    pub fn patch(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new("patch", path, id, summary)
    }

    pub fn delete(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new("delete", path, id, summary)
    }

    pub fn options(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new("options", path, id, summary)
    }

    /// More about it, in Markdown.
    pub fn about(self, description: &'static str) -> Self {
        Self { description, ..self }
    }

    /// What it asks of its caller, as the table of routes says.
    pub fn asks(self, permission: Permission, subject: Subject) -> Self {
        Self { asks: Asks::Caller(permission, subject), ..self }.errors([401, 403, 429, 503])
    }

    /// It is about the user who asks.
    pub fn of_users(self) -> Self {
        Self { is_of_users: true, ..self }
    }

    /// It takes events from publishable keys too.
    pub fn asks_sender(self) -> Self {
        Self { asks: Asks::Sender, ..self }.errors([401, 403, 404, 429, 503])
    }

    /// It answers a page of a list.
    pub fn paged(self, sizes: Sizes) -> Self {
        Self { page: Some(sizes), ..self }.errors([400])
    }

    /// A parameter of the query.
    pub fn query(self, name: &'static str, schema: Describe, description: &'static str) -> Self {
        self.parameter("query", name, schema, description)
    }

    /// The same, without which there is no answer.
    pub fn required_query(self, name: &'static str, schema: Describe, description: &'static str) -> Self {
        let mut query = self.query(name, schema, description);
        query.parameters.last_mut().expect("there is one now").is_required = true;
        query
    }

    /// Parameters that are no fixed set: an object, each of whose members is one.
    pub fn queries(self, name: &'static str, schema: Describe, description: &'static str) -> Self {
        let mut query = self.query(name, schema, description);
        query.parameters.last_mut().expect("there is one now").is_exploded = true;
        query
    }

    /// A header of the request.
    pub fn header(self, name: &'static str, schema: Describe, description: &'static str) -> Self {
        self.parameter("header", name, schema, description)
    }

    fn parameter(
        mut self,
        place: &'static str,
        name: &'static str,
        schema: Describe,
        description: &'static str,
    ) -> Self {
        let (is_required, is_exploded) = (false, false);
        self.parameters.push(Parameter { name, place, description, is_required, schema, is_exploded });
        self
    }

    /// The JSON it takes.
    pub fn takes<T: JsonSchema>(self) -> Self {
        Self { body: Some((of::<T>, true)), ..self }.errors([400, 408, 413, 415])
    }

    /// The JSON it takes, which no type of ours is.
    pub fn takes_as(self, schema: Describe) -> Self {
        Self { body: Some((schema, true)), ..self }.errors([400, 408, 413, 415])
    }

    /// The JSON it takes, where there is any.
    pub fn may_take<T: JsonSchema>(self) -> Self {
        Self { body: Some((of::<T>, false)), ..self }.errors([400, 408, 413, 415])
    }

    /// What it answers: JSON of this type.
    pub fn answers<T: JsonSchema>(self, status: u16, description: &'static str) -> Self {
        self.says(status, JSON, of::<T>, description)
    }

    /// What it answers in another form.
    pub fn says(
        mut self,
        status: u16,
        media: &'static str,
        schema: Describe,
        description: &'static str,
    ) -> Self {
        self.answers.push(Answer {
            status,
            description,
            content: Some((media, schema)),
            headers: Vec::new(),
        });
        self
    }

    /// An answer without a body.
    pub fn silent(mut self, status: u16, description: &'static str) -> Self {
        self.answers.push(Answer { status, description, content: None, headers: Vec::new() });
        self
    }

    /// Headers of the answer before, by their names in `super::headers`.
    pub fn with(mut self, headers: &[&'static str]) -> Self {
        self.answers.last_mut().expect("an answer comes first").headers.extend(headers);
        self
    }

    /// Errors beside those that follow from the rest.
    pub fn errors(mut self, statuses: impl IntoIterator<Item = u16>) -> Self {
        self.errors.extend(statuses);
        self
    }

    /// As the document has it.
    pub fn describe(self, tag: &str, generators: &mut super::Generators) -> Value {
        let mut operation = Map::new();
        operation.insert("operationId".into(), self.id.into());
        operation.insert("tags".into(), json!([tag]));
        operation.insert("summary".into(), self.summary.into());
        let description = self.whole_description();
        if !description.is_empty() {
            operation.insert("description".into(), description.into());
        }
        operation.insert("security".into(), self.security());
        let mut parameters: Vec<Value> = Vec::new();
        parameters.extend(self.path_names().map(|name| json!({ "$ref": parameter(name) })));
        if let Some(sizes) = self.page {
            parameters.push(json!({
                "name": "limit", "in": "query", "description": "Records in a page.",
                "schema": { "type": "integer", "minimum": 1, "maximum": sizes.max, "default": sizes.default },
            }));
            parameters.push(json!({ "$ref": parameter("cursor") }));
        }
        for given in &self.parameters {
            let schema = generators.of_request(given.schema);
            let mut shown = json!({ "name": given.name, "in": given.place, "description": given.description, "schema": schema });
            if given.is_required {
                shown["required"] = true.into();
            }
            if given.is_exploded {
                (shown["style"], shown["explode"]) = ("form".into(), true.into());
            }
            parameters.push(shown);
        }
        parameters.push(json!({ "$ref": parameter("request_id") }));
        operation.insert("parameters".into(), parameters.into());
        if let Some((schema, required)) = self.body {
            let schema = generators.of_request(schema);
            let body = json!({ "required": required, "content": { JSON: { "schema": schema } } });
            operation.insert("requestBody".into(), body);
        }
        let mut responses = Map::new();
        for answer in self.answers {
            let mut shown =
                json!({ "description": answer.description, "headers": headers_of(&answer.headers) });
            if let Some((media, schema)) = answer.content {
                shown["content"] = json!({ media: { "schema": generators.of_answer(schema) } });
            }
            responses.insert(answer.status.to_string(), shown);
        }
        for status in self.errors {
            let (_, name, _) =
                ERRORS.iter().find(|(known, ..)| *known == status).expect("it is one of these");
            let reference = json!({ "$ref": format!("#/components/responses/{name}") });
            responses.insert(status.to_string(), reference);
        }
        operation.insert("responses".into(), responses.into());
        operation.into()
    }

    fn path_names(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.path.split('{').skip(1).filter_map(|rest| rest.split('}').next())
    }

    fn whole_description(&self) -> String {
        let permission = match self.asks {
            Asks::Nobody => "Asks for no credentials.".to_owned(),
            Asks::Sender => "Asks for a publishable key, or a machine key that may `send`.".to_owned(),
            Asks::Caller(permission, _) => format!("Asks for the permission `{}`.", permission.as_str()),
        };
        if self.description.is_empty() { permission } else { format!("{}\n\n{permission}", self.description) }
    }

    /// Who may, with the permission as the scheme's role.
    fn security(&self) -> Value {
        match self.asks {
            Asks::Nobody => json!([]),
            Asks::Sender => json!([{ "publishableKey": [] }, { "bearerAuth": [Permission::Send.as_str()] }]),
            Asks::Caller(permission, subject) => {
                let schemes: &[&str] = match self.is_of_users {
                    true => &["userToken"],
                    false if is_for_sessions(permission, subject) => {
                        &["bearerAuth", "userToken", "sessionToken"]
                    }
                    false => &["bearerAuth", "userToken"],
                };
                schemes.iter().map(|scheme| json!({ *scheme: [permission.as_str()] })).collect()
            }
        }
    }
}

/// Whether there are sessions that may.
const fn is_for_sessions(permission: Permission, subject: Subject) -> bool {
    let is_shown = !matches!(subject, Subject::Organization | Subject::Workspaces);
    is_shown && matches!(permission, Permission::Read | Permission::Write | Permission::Payload)
}

fn parameter(name: &str) -> String {
    format!("#/components/parameters/{name}")
}

/// These headers, and the one that every answer has.
fn headers_of(names: &[&str]) -> Value {
    let all = names.iter().copied().chain(["X-Request-Id"]);
    all.map(|name| (name.to_owned(), json!({ "$ref": format!("#/components/headers/{name}") }))).collect()
}

/// What operations refer to: parameters by their names in paths, and errors.
pub fn parameters() -> Value {
    let mut all = Map::new();
    for (name, form, description) in PATH {
        let schema = match form {
            "uuid" => json!({ "type": "string", "format": "uuid" }),
            pattern => json!({ "type": "string", "pattern": pattern }),
        };
        let shown = json!({ "name": name, "in": "path", "required": true, "description": description, "schema": schema });
        all.insert(name.to_owned(), shown);
    }
    all.insert(
        "key".to_owned(),
        json!({
            "name": "key", "in": "path", "required": true, "description": "The name, as events have it.",
            "schema": { "type": "string", "minLength": 1, "maxLength": 255 },
        }),
    );
    all.insert(
        "cursor".to_owned(),
        json!({
            "name": "cursor", "in": "query",
            "description": "The `next_cursor` of the page before. Good for the same list only.",
            "schema": { "type": "string", "pattern": "^[A-Za-z0-9_-]+$" },
        }),
    );
    all.insert(
        "request_id".to_owned(),
        json!({
            "name": "X-Request-Id", "in": "header",
            "description": "Comes back with the answer and stands in the log: 1 to 128 letters, digits or `-_.:`. Any other is replaced.",
            "schema": { "type": "string" },
        }),
    );
    all.into()
}

/// See [`parameters`].
pub fn responses(error: &Value) -> Value {
    let mut all = Map::new();
    for (status, name, description) in ERRORS {
        let headers: &[&str] = match status {
            401 => &["WWW-Authenticate"],
            429 | 503 => &["Retry-After"],
            _ => &[],
        };
        let shown = json!({
            "description": description, "headers": headers_of(headers), "content": { JSON: { "schema": error } },
        });
        all.insert(name.to_owned(), shown);
    }
    all.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_have_in_common_follows() {
        let operation = Operation::post("/a/{workspace}/b/{key}", "makeB", "Make")
            .asks(Permission::Write, Subject::Rules)
            .takes::<String>()
            .answers::<String>(201, "It is made.");
        let told = operation.describe("Things", &mut super::super::Generators::default());
        let statuses: Vec<_> = told["responses"].as_object().expect("responses").keys().collect();
        assert_eq!(
            statuses,
            ["201", "400", "401", "403", "404", "408", "413", "414", "415", "429", "500", "503"]
        );
        assert_eq!(
            told["security"],
            json!([{ "bearerAuth": ["write"] }, { "userToken": ["write"] }, { "sessionToken": ["write"] }])
        );
        let names: Vec<_> = told["parameters"].as_array().expect("a list").iter().collect();
        assert_eq!(names[0]["$ref"], "#/components/parameters/workspace");
        assert_eq!(names[1]["$ref"], "#/components/parameters/key");
    }
}
