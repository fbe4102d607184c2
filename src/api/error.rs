//! What goes wrong, as the contract says it: a status, and `message` with an `error` beside it.

use crate::http::BodyError;
use actors::domain::plan::Exceeded;
use actors::engine::{EngineError, FieldError, Refusal, Unavailable};
use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;

/// Why a request was not done. Becomes its JSON body once the request's id is known
/// ([`Self::body`]), and so travels in the response's extensions until then.
#[derive(Clone, Debug)]
pub struct ApiError {
    pub status: StatusCode,
    /// One sentence for a person: no stack trace, path, internal address or secret.
    pub message: Arc<str>,
    data: Arc<[FieldError]>,
    retry_after_seconds: Option<u32>,
    close: bool,
    /// Where its status has another name.
    name: Option<&'static str>,
}

/// Why a request was not done.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Error")]
pub(super) struct Whole<'e> {
    /// One sentence for a person.
    message: &'e str,
    error: Detail<'e>,
    /// The answer's `X-Request-Id`.
    request_id: &'e str,
}

/// The same for programs.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ErrorDetail")]
pub struct Detail<'e> {
    /// The status in one word, such as `BadRequest`.
    name: &'e str,
    message: &'e str,
    /// The parameters that are wrong, where it is about some.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    data: Vec<Param<'e>>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ErrorParam")]
struct Param<'e> {
    /// Such as `metadata.url` or `scopes[0]`.
    param: &'e str,
    msg: &'e str,
}

impl ApiError {
    /// An error of this status.
    pub fn new(status: StatusCode, message: impl Into<Arc<str>>) -> Self {
        let (data, message) = (Arc::new([]), message.into());
        Self { status, message, data, retry_after_seconds: None, close: false, name: None }
    }

    /// 400: something about the request as a whole.
    pub fn bad_request(message: impl Into<Arc<str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 400: these fields.
    pub fn invalid(fields: Vec<FieldError>) -> Self {
        let message = fields.first().map_or_else(|| "the request is invalid".to_owned(), ToString::to_string);
        Self { data: fields.into(), ..Self::bad_request(message) }
    }

    /// 400: this field.
    pub fn field(param: impl Into<String>, msg: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError::new(param, msg)])
    }

    /// The same as 422, where it is about fields: for operations that declare no 400.
    pub fn of_meaning(mut self) -> Self {
        if self.status == StatusCode::BAD_REQUEST && self.data.iter().any(|field| field.param != "body") {
            self.status = StatusCode::UNPROCESSABLE_ENTITY;
        }
        self
    }

    /// 401, with the same text whatever was wrong.
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "invalid or missing credentials")
    }

    /// 403: it is known who asks, and they may not.
    pub fn forbidden(message: impl Into<Arc<str>>) -> Self {
        Self { name: Some("Forbidden"), ..Self::new(StatusCode::FORBIDDEN, message) }
    }

    /// 404: there is none, or none that this caller may know of.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("{what} not found"))
    }

    /// 413. The rest of the body is not read, so the connection ends with the answer.
    pub fn too_large(message: impl Into<Arc<str>>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, message).closing()
    }

    /// 429.
    pub fn too_many_requests(message: &str, retry_after_seconds: u32) -> Self {
        let retry_after_seconds = Some(retry_after_seconds);
        Self { retry_after_seconds, ..Self::new(StatusCode::TOO_MANY_REQUESTS, message) }
    }

    /// 500. What happened is in the log.
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "an unexpected error; it has been logged")
    }

    /// The connection ends with this answer.
    pub fn closing(self) -> Self {
        Self { close: true, ..self }
    }

    /// The `error` member.
    pub fn detail(&self) -> Detail<'_> {
        let data = self.data.iter().map(|field| Param { param: &field.param, msg: &field.msg }).collect();
        Detail { name: self.name.unwrap_or_else(|| self.status_name()), message: &self.message, data }
    }

    /// The whole body.
    pub fn body(&self, request_id: &str) -> Vec<u8> {
        let whole = Whole { message: &self.message, error: self.detail(), request_id };
        serde_json::to_vec(&whole).expect("text serializes")
    }

    /// The status phrase in one word, such as `BadRequest`.
    fn status_name(&self) -> &'static str {
        match self.status {
            StatusCode::BAD_REQUEST => "BadRequest",
            StatusCode::UNAUTHORIZED => "Unauthorized",
            StatusCode::FORBIDDEN => "LimitExceeded",
            StatusCode::NOT_FOUND => "NotFound",
            StatusCode::METHOD_NOT_ALLOWED => "MethodNotAllowed",
            StatusCode::REQUEST_TIMEOUT => "RequestTimeout",
            StatusCode::CONFLICT => "Conflict",
            StatusCode::GONE => "Gone",
            StatusCode::PAYLOAD_TOO_LARGE => "PayloadTooLarge",
            StatusCode::URI_TOO_LONG => "UriTooLong",
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "UnsupportedMediaType",
            StatusCode::UNPROCESSABLE_ENTITY => "UnprocessableEntity",
            StatusCode::TOO_EARLY => "TooEarly",
            StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
            StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
            _ => "InternalServerError",
        }
    }
}

impl From<EngineError> for ApiError {
    fn from(err: EngineError) -> Self {
        match err {
            EngineError::Invalid(fields) => Self::invalid(fields),
            EngineError::Meaningless(fields) => Self::invalid(fields).of_meaning(),
            err @ EngineError::Inactive(_) => Self::new(StatusCode::CONFLICT, err.to_string()),
            EngineError::Refused(refusal) => refusal.into(),
            EngineError::Exceeded(exceeded) => exceeded.into(),
            EngineError::Unavailable(reason) => reason.into(),
            err @ EngineError::TooMany(_) => Self {
                retry_after_seconds: Some(60),
                ..Self::new(StatusCode::SERVICE_UNAVAILABLE, err.to_string())
            },
            EngineError::NotProven => Self::unauthorized(),
            EngineError::ProbeFailed(why) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, why),
            err @ (EngineError::Internal(_) | EngineError::WrongMasterKey) => {
                tracing::error!(why = %err, "the engine failed");
                Self::internal()
            }
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::NotFound(_) => StatusCode::NOT_FOUND,
            Refusal::TooMany(..) | Refusal::TooManyKeys(_) | Refusal::TooManyUsers(..) => {
                StatusCode::FORBIDDEN
            }
            Refusal::TooManyMatches(_) => StatusCode::BAD_REQUEST,
            Refusal::InFlight => StatusCode::TOO_EARLY,
            Refusal::ConnectionGone | Refusal::ConnectionInactive => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::PayloadLost => StatusCode::GONE,
            Refusal::NameTaken(_)
            | Refusal::DuplicateRule
            | Refusal::HasRules(_)
            | Refusal::Stale(_)
            | Refusal::SessionOver(_)
            | Refusal::LastOwner
            | Refusal::IdempotencyMismatch
            | Refusal::Replayed
            | Refusal::ReplayIs(..)
            | Refusal::Final(_) => StatusCode::CONFLICT,
        };
        Self::new(status, refusal.to_string())
    }
}

/// 429 where there is room again by itself, else 403.
impl From<Exceeded> for ApiError {
    fn from(exceeded: Exceeded) -> Self {
        let what = FieldError::new(exceeded.limit.key(), format!("is at most {} in this plan", exceeded.of));
        let (status, retry_after_seconds) = match exceeded.until {
            Some((_, wait)) => {
                let seconds = u32::try_from(wait.as_secs() + 1).unwrap_or(u32::MAX);
                (StatusCode::TOO_MANY_REQUESTS, Some(seconds))
            }
            None => (StatusCode::FORBIDDEN, None),
        };
        Self {
            name: Some("PlanLimitExceeded"),
            data: [what].into(),
            retry_after_seconds,
            ..Self::new(status, exceeded.to_string())
        }
    }
}

impl From<Unavailable> for ApiError {
    fn from(reason: Unavailable) -> Self {
        let seconds = match reason {
            Unavailable::Busy => 1,
            Unavailable::Closing => 5,
            Unavailable::DiskFull | Unavailable::DiskFails => 30,
        };
        let retry_after_seconds = Some(seconds);
        Self { retry_after_seconds, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, reason.to_string()) }
    }
}

impl From<BodyError> for ApiError {
    fn from(err: BodyError) -> Self {
        match err {
            BodyError::TooLong => Self::too_large("the body is too large"),
            BodyError::Late => {
                Self::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time").closing()
            }
            BodyError::Broken => Self::bad_request("the body could not be read").closing(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actors::domain::{connection::InactiveReason, event::Status, session::Over};
    use actors::domain::{plan::Limit, timestamp::Timestamp};
    use std::time::Duration;

    #[test]
    fn the_body_is_the_contracts() {
        let err = ApiError::field("name", "must be 3 to 50 characters");
        let body: serde_json::Value = serde_json::from_slice(&err.body("r1")).expect("JSON");
        let expected = serde_json::json!({
            "message": "name must be 3 to 50 characters",
            "error": {
                "name": "BadRequest",
                "message": "name must be 3 to 50 characters",
                "data": [{"param": "name", "msg": "must be 3 to 50 characters"}],
            },
            "request_id": "r1",
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn every_refusal_has_its_status() {
        let until = Some((Timestamp(9), Duration::from_secs(8)));
        #[rustfmt::skip]
        let cases = [
            (EngineError::Invalid(vec![]),                           400, None),
            (EngineError::Meaningless(vec![FieldError::new("schema", "is wrong")]), 422, None),
            (EngineError::Inactive(InactiveReason::AuthenticationInvalid), 409, None),
            (Refusal::NotFound("rule").into(),                       404, None),
            (Refusal::NameTaken("connection").into(),                409, None),
            (Refusal::DuplicateRule.into(),                          409, None),
            (Refusal::HasRules(2).into(),                            409, None),
            (Refusal::Stale("connection").into(),                    409, None),
            (Refusal::TooMany(10, "rules").into(),                   403, None),
            (Exceeded { limit: Limit::Rules, of: 3, until: None }.into(), 403, None),
            (Exceeded { limit: Limit::EventsPerMonth, of: 3, until }.into(), 429, Some("9")),
            (Refusal::TooManyKeys(10).into(),                        403, None),
            (Refusal::TooManyUsers(10, "users").into(),              403, None),
            (Refusal::LastOwner.into(),                              409, None),
            (EngineError::NotProven,                                 401, None),
            (Refusal::SessionOver(Over::Revoked).into(),             409, None),
            (Refusal::TooManyMatches(200).into(),                    400, None),
            (Refusal::IdempotencyMismatch.into(),                    409, None),
            (Refusal::Final(Status::Completed).into(),               409, None),
            (Refusal::InFlight.into(),                               425, None),
            (Refusal::ConnectionGone.into(),                         422, None),
            (Refusal::ConnectionInactive.into(),                     422, None),
            (Refusal::PayloadLost.into(),                            410, None),
            (Unavailable::Busy.into(),                               503, Some("1")),
            (Unavailable::DiskFull.into(),                           503, Some("30")),
            (EngineError::ProbeFailed("answered 500".into()),        422, None),
            (EngineError::TooMany("consents under way"),             503, Some("60")),
            (EngineError::Internal("/var/lib: secret".into()),       500, None),
        ];
        for (err, status, retry_after) in cases {
            let why = format!("{err:?}");
            let response = ApiError::from(err).into_response();
            assert_eq!(response.status().as_u16(), status, "{why}");
            let header = response.headers().get("retry-after").map(|value| value.to_str().expect("a number"));
            assert_eq!(header, retry_after, "{why}");
            let err = response.extensions().get::<ApiError>().expect("it carries its error");
            assert!(!err.message.contains("secret"), "{why}");
        }
    }
}
