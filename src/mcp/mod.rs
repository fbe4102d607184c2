//! `/mcp`: the API for language models, by the Model Context Protocol over streamable HTTP.
//!
//! A tool is a row of a table, and its call is a request to the API's own routes in this process, with
//! the caller's credentials: what may be done, and whether it is right, is decided there and nowhere else.
//! It keeps no sessions and opens no streams, so that any process behind a balancer can answer.
//!
//! A request with an `Origin` comes from a browser, and no page has business here: it is refused. A
//! name that was bound to our address (DNS rebinding) gains nothing either, since no browser adds a
//! token by itself; so `Host` is not looked at, and a proxy may name us as it likes.

mod arguments;
mod call;
mod tools;

pub(crate) use call::refusal;

use self::{
    call::Given,
    tools::{Method, TOOLS, Tool},
};
use crate::{
    api::{self, App, Peer, RequestId, document, error::ApiError, json::is_json},
    auth,
    http::read_body,
    proxies::FORWARDED_FOR,
};
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderValue, header, request::Parts},
    response::Response,
};
use http_body_util::Full;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation,
        ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig, ToolAnnotations,
    },
    service::RequestContext,
};
use serde::Deserialize;
use std::sync::{Arc, LazyLock};

/// Where it is.
pub const PATH: &str = "/mcp";

/// The envelope of a message around the longest body of the API, in bytes.
const ENVELOPE_BYTES_MAX: usize = 16 * 1024;
/// What is handed on of a caller's headers, beside who is connected and the request's id.
const HANDED_ON: [header::HeaderName; 2] = [header::AUTHORIZATION, FORWARDED_FOR];

const INSTRUCTIONS: &str = "Weft delivers events to the services that each workspace has connected. A rule \
says which events go to which connection, and what to do there. To learn what became of an event, ask \
meshes_get_event. Ids are UUIDs: list first, then use what was listed.";

/// The way from a tool to the routes it asks.
#[derive(Clone)]
pub(crate) struct Routes(pub Router);

/// Answers one message.
pub(crate) async fn answer(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    auth::machine(&app, &parts).await?;
    if parts.headers.contains_key(header::ORIGIN) {
        return Err(ApiError::forbidden("pages of a browser may not ask here").closing());
    }
    is_json(&parts.headers)?;
    let bytes_max = app.limits.bulk_bytes_max + ENVELOPE_BYTES_MAX;
    let body = read_body(body, bytes_max, app.limits.body_timeout).await?;
    document::check(&body)?;
    let message: Message = serde_json::from_slice(&body)
        .map_err(|_| ApiError::bad_request("the body must be one JSON-RPC message, an object"))?;
    parts.extensions.insert(message.params.arguments);
    // All we answer with is JSON, whatever is asked for.
    let accept = HeaderValue::from_static("application/json, text/event-stream");
    parts.headers.insert(header::ACCEPT, accept);
    parts.headers.iter_mut().for_each(|(_, value)| value.set_sensitive(true));

    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .disable_allowed_hosts()
        .with_max_request_body_bytes(bytes_max);
    let service = StreamableHttpService::new(|| Ok(Weft), Arc::new(NeverSessionManager::default()), config);
    let answer = service.handle(Request::from_parts(parts, Full::new(body))).await;
    let is_json = answer.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if answer.status().as_u16() < 400 || is_json {
        return Ok(answer.map(Body::new));
    }
    // The protocol's library says in plain text what is wrong with a message.
    let told = to_bytes(Body::new(answer.into_body()), ENVELOPE_BYTES_MAX).await.unwrap_or_default();
    let told = String::from_utf8_lossy(&told).into_owned();
    Err(match told.strip_prefix("Bad Request: ") {
        Some(why) => ApiError::bad_request(why.to_owned()),
        None => ApiError::bad_request("the body is no message of the Model Context Protocol"),
    })
}

/// What is read of a message before the library reads it.
#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    params: Params,
}

#[derive(Default, Deserialize)]
struct Params {
    #[serde(default)]
    arguments: Option<Given>,
}

/// The server as the protocol sees it.
struct Weft;

impl ServerHandler for Weft {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("weft", env!("CARGO_PKG_VERSION")))
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(LISTED.clone()))
    }

    fn get_tool(&self, name: &str) -> Option<rmcp::model::Tool> {
        LISTED.iter().find(|tool| tool.name == name).cloned()
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let unknown = || ErrorData::invalid_params(format!("there is no tool {}", request.name), None);
        let tool = TOOLS.iter().find(|tool| tool.name == request.name).ok_or_else(unknown)?;
        let parts = context.extensions.get::<Parts>();
        let parts = parts.ok_or_else(|| ErrorData::internal_error("the request is lost", None))?;
        let told = call(tool, parts).await;
        let is_refused = told.is_err();
        let text = vec![ContentBlock::text(told.unwrap_or_else(|why| why))];
        let result = if is_refused { CallToolResult::error(text) } else { CallToolResult::success(text) };
        Ok(result.into())
    }
}

/// Asks the API, as who sent this request. `Err` is a refusal, by us or by it.
async fn call(tool: &Tool, parts: &Parts) -> Result<String, String> {
    let given = parts.extensions.get::<Option<Given>>().cloned().flatten().unwrap_or_default();
    let asked = call::ask(tool, &given)?;
    let lost = || "the request is lost".to_owned();
    let Routes(router) = parts.extensions.get::<Routes>().cloned().ok_or_else(lost)?;
    let Peer(peer) = parts.extensions.get::<Peer>().copied().ok_or_else(lost)?;
    let RequestId(id) = parts.extensions.get::<RequestId>().cloned().ok_or_else(lost)?;
    let mut request = Request::builder().method(asked.method).uri(asked.target).header(api::REQUEST_ID, id);
    for name in HANDED_ON {
        for value in parts.headers.get_all(&name) {
            request = request.header(&name, value);
        }
    }
    if asked.body.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let request = request.body(asked.body.map_or_else(Body::empty, Body::from)).map_err(|_| lost())?;
    let answer = api::answer(router, request, peer).await;
    let status = answer.status();
    let body = to_bytes(answer.into_body(), usize::MAX).await.map_err(|_| lost())?;
    call::tell(tool, status, &String::from_utf8_lossy(&body))
}

/// The table as clients see it.
static LISTED: LazyLock<Vec<rmcp::model::Tool>> = LazyLock::new(|| {
    let listed = |tool: &Tool| {
        // What was deleted or given up cannot be had back by the same tools.
        let destroys = tool.method == Method::Delete || tool.path.ends_with("/cancel");
        let reads = tool.method == Method::Get;
        let hints = ToolAnnotations::new().read_only(reads).destructive(destroys).open_world(false);
        rmcp::model::Tool::new(tool.name, tool.about, Arc::new(arguments::schema(tool.arguments)))
            .with_annotations(hints)
    };
    TOOLS.iter().map(listed).collect()
});
