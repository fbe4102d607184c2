//! Bodies in and out.
//!
//! Own extractor instead of axum's: its refusals are JSON in the contract's form and name the
//! field, a name that comes twice is refused before parsers can disagree about it, and the time a
//! body may take is bounded.

use super::{App, document, error::ApiError};
use crate::http::read_body;
use actors::engine::FieldError;
use axum::{
    body::Body,
    extract::{FromRequest, Request},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer},
};
use std::{borrow::Cow, fmt, marker::PhantomData};

/// A JSON object, required.
pub struct Json<T>(pub T);

/// A JSON object, or the default where there is no body at all.
pub struct OptionalJson<T>(pub T);

impl<T: DeserializeOwned> FromRequest<App> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        is_json(request.headers())?;
        let body = read_body(request.into_body(), app.limits.body_bytes_max, app.limits.body_timeout).await?;
        parse(&body).map(Self)
    }
}

impl<T: DeserializeOwned + Default> FromRequest<App> for OptionalJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let body = read_body(body, app.limits.body_bytes_max, app.limits.body_timeout).await?;
        if body.is_empty() {
            return Ok(Self(T::default()));
        }
        is_json(&parts.headers)?;
        parse(&body).map(Self)
    }
}

/// 415 unless the headers say JSON in UTF-8, uncompressed.
pub fn is_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let unsupported =
        |message: &'static str| Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message).closing());
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let is_json = match (types.next(), types.next()) {
        // What every client sends, without taking it apart.
        (Some(value), None) if value == "application/json" => true,
        (Some(value), None) => value.to_str().is_ok_and(names_json),
        _ => false,
    };
    if !is_json {
        return unsupported("the content type must be application/json");
    }
    let encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    if encodings.into_iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return unsupported("the body must not be compressed");
    }
    Ok(())
}

/// `application/json`, perhaps with `charset=utf-8`.
fn names_json(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    let charset_fits = |parameter: &str| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            let value = value.trim().trim_matches('"');
            value.eq_ignore_ascii_case("utf-8") || value.eq_ignore_ascii_case("utf8")
        }
        _ => true,
    };
    essence.eq_ignore_ascii_case("application/json") && parts.all(charset_fits)
}

/// The body as a `T`, or 400 naming the field.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    if body.trim_ascii().is_empty() {
        return Err(ApiError::bad_request("the body is empty; send a JSON object"));
    }
    document::check(body)?;
    // A derived struct would also take its fields from an array.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(ApiError::bad_request("the body must be a JSON object"));
    }
    let mut document = serde_json::Deserializer::from_slice(body);
    serde_path_to_error::deserialize(&mut document).map_err(|err| ApiError::invalid(vec![field_error(&err)]))
}

/// serde's complaint, told by field and without its line and column.
fn field_error(err: &serde_path_to_error::Error<serde_json::Error>) -> FieldError {
    let path = match err.path().to_string() {
        path if path == "." => String::new(),
        path => path,
    };
    let text = err.inner().to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    let missing = text.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
    match missing {
        Some(name) if path.is_empty() => FieldError::new(name, "is required"),
        Some(name) => FieldError::new(format!("{path}.{name}"), "is required"),
        None => {
            let expected = text.rsplit_once(", expected ").map(|(_, expected)| format!("must be {expected}"));
            FieldError::new(path, expected.unwrap_or_else(|| format!("is not usable: {text}")))
        }
    }
}

/// A field that may be absent, null, or there: `None`, `Some(None)`, `Some(Some(_))`.
pub fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// A `T` inside a body, from an object only: a derived struct would also take its fields from an array.
#[derive(Clone, Debug, PartialEq)]
pub struct Object<T>(pub T);

impl<T: JsonSchema> JsonSchema for Object<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<T>()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members))
            }
        }
        deserializer.deserialize_map(Members(PhantomData)).map(Self)
    }
}

/// A value as the body of a response.
pub fn respond(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => respond_with(status, body.into()),
        Err(err) => {
            tracing::error!(%err, "a response does not serialize");
            ApiError::internal().into_response()
        }
    }
}

/// JSON text as the body of a response.
pub fn respond_with(status: StatusCode, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Form {
        name: String,
        #[serde(default)]
        inner: Option<Object<Inner>>,
        #[serde(default, deserialize_with = "present")]
        note: Option<Option<String>>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Inner {
        count: u32,
    }

    #[test]
    fn a_wrong_body_is_told_by_field() {
        #[rustfmt::skip]
        let cases = [
            ("",                                    "the body is empty"),
            ("  ",                                  "the body is empty"),
            ("[\"x\"]",                             "must be a JSON object"),
            ("null",                                "must be a JSON object"),
            ("{",                                   "body is not valid JSON"),
            ("{\"name\":\"a\"} {}",                 "body is not valid JSON"),
            ("{\"name\":\"a\",\"name\":\"b\"}",     "body is not valid JSON"),
            ("{}",                                  "name is required"),
            ("{\"name\":5}",                        "name must be a string"),
            ("{\"name\":null}",                     "name must be a string"),
            ("{\"name\":\"a\",\"inner\":[1]}",      "inner must be an object"),
            ("{\"name\":\"a\",\"inner\":{}}",       "inner.count is required"),
            ("{\"name\":\"a\",\"inner\":{\"count\":-1}}", "inner.count must be u32"),
        ];
        for (body, expected) in cases {
            let err = parse::<Form>(body.as_bytes()).expect_err(body);
            assert_eq!(err.status, StatusCode::BAD_REQUEST, "{body}");
            assert!(
                err.message.starts_with(expected) || err.message.contains(expected),
                "{body}: {}",
                err.message
            );
            assert!(!err.message.contains(" at line "), "{}", err.message);
        }
    }

    #[test]
    fn absent_null_and_unknown_fields_are_told_apart() {
        let note = |body: &str| parse::<Form>(body.as_bytes()).map(|form| form.note).ok();
        assert_eq!(note(r#"{"name":"a"}"#), Some(None));
        assert_eq!(note(r#"{"name":"a","note":null,"unknown":[1]}"#), Some(Some(None)));
        assert_eq!(note(r#"{"name":"a","note":"b"}"#), Some(Some(Some("b".into()))));
    }

    #[test]
    fn only_plain_json_is_accepted() {
        #[rustfmt::skip]
        let cases: [(&[(&str, &str)], bool); 12] = [
            (&[("content-type", "application/json")],                                     true),
            (&[("content-type", "Application/JSON; charset=UTF-8")],                      true),
            (&[("content-type", "application/json;charset=\"utf-8\"")],                   true),
            (&[("content-type", "application/json"), ("content-encoding", "identity")],   true),
            (&[("content-type", "application/json; charset=latin1")],                     false),
            (&[("content-type", "application/json; charset=utf-16")],                     false),
            (&[("content-type", "text/plain")],                                           false),
            (&[("content-type", "application/jsonx")],                                    false),
            (&[("content-type", "application/json"), ("content-type", "text/plain")],     false),
            (&[("content-type", "application/json"), ("content-encoding", "gzip")],       false),
            (&[("content-type", "application/json"), ("content-encoding", "identity, gzip")], false),
            (&[],                                                                         false),
        ];
        for (pairs, expected) in cases {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(
                    header::HeaderName::try_from(*name).expect("a name"),
                    value.parse().expect("a value"),
                );
            }
            assert_eq!(is_json(&headers).is_ok(), expected, "{pairs:?}");
        }
    }
}
