//! For whoever runs the process: is it alive, can it take events, how is it doing.

use super::{App, error::ApiError, json::respond};
use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::atomic::Ordering;

/// Ready, or alive.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Health")]
pub(super) struct StatusJson {
    status: &'static str,
}

/// The process answers.
pub(super) async fn healthz() -> Response {
    respond(StatusCode::OK, &StatusJson { status: "ok" })
}

/// Events are accepted; otherwise 503 says why not.
pub(super) async fn readyz(State(app): State<App>) -> Result<Response, ApiError> {
    if app.ending.load(Ordering::Relaxed) || app.engine.has_ended() {
        return Err(actors::engine::Unavailable::Closing.into());
    }
    app.engine.availability()?;
    Ok(respond(StatusCode::OK, &StatusJson { status: "ready" }))
}

/// For Prometheus. Counts of the whole process; no label names a tenant.
pub(super) async fn metrics(State(app): State<App>) -> Response {
    app.engine.observe().await;
    let text = crate::telemetry::metrics().render();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}
