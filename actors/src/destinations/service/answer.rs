//! What came back from a service, and what it means for the delivery.

use crate::{
    destinations::answer as reports,
    domain::{
        connection::InactiveReason,
        delivery::{Outcome, Report},
        timestamp::Timestamp,
    },
};
use reqwest::header::HeaderMap;
use serde_json::Value;
use std::time::Duration;

/// An answer, of any status.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// `Null` where the body is no JSON.
    pub json: Value,
    pub body: Vec<u8>,
    /// The body was too long, or broke off.
    pub truncated: bool,
    /// When it came: by our clock, or the service's own where a question has none.
    pub at: Option<Timestamp>,
}

impl Answer {
    pub const fn is_success(&self) -> bool {
        self.status >= 200 && self.status < 300
    }

    /// A text or a whole number in the body, as text; `pointer` is a JSON pointer such as `/contact/id`.
    pub fn text(&self, pointer: &str) -> Option<String> {
        text_at(&self.json, pointer)
    }

    /// A list in the body; empty where there is none.
    pub fn list(&self, pointer: &str) -> &[Value] {
        self.json.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Whether the body says this anywhere, in any case.
    pub fn says(&self, words: &str) -> bool {
        String::from_utf8_lossy(&self.body).to_ascii_lowercase().contains(&words.to_ascii_lowercase())
    }
}

/// A text or a whole number, as text.
pub fn text_at(value: &Value, pointer: &str) -> Option<String> {
    match value.pointer(pointer)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// What an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Fine,
    /// The same request would be refused again.
    Refused,
    /// The service is unwell, or asks for another try.
    Unwell,
    /// Too fast. The wait is the service's; none: the account's usual rest.
    Slower {
        wait: Option<Duration>,
        over: Over,
    },
    /// The token has ended or was not taken: another one, where there is a way to get one.
    Expired,
    /// Nothing works any more until a person mends it.
    Locked(InactiveReason),
}

/// What has to slow down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// All that is asked of the account.
    Account,
    /// What the call charged beside it, such as one channel.
    Part,
    /// Everything that shares the operator's own token.
    Operator,
}

impl Verdict {
    /// The usual reading of a status, for what a service does not say otherwise.
    pub const fn of_status(status: u16) -> Self {
        match status {
            200..300 => Self::Fine,
            401 => Self::Expired,
            403 => Self::Locked(InactiveReason::AuthenticationInvalid),
            429 => Self::Slower { wait: None, over: Over::Account },
            408 | 423 | 425 => Self::Unwell,
            400..500 => Self::Refused,
            _ => Self::Unwell,
        }
    }
}

/// Why an action ended early: the report of its attempt.
#[derive(Debug)]
pub struct Stop(pub Box<Report>);

impl Stop {
    /// The rule or the mapping lacks something, or has something that cannot be: no call was made for it.
    pub fn mapping(message: impl Into<String>) -> Self {
        Self(Box::new(reports::failed(Outcome::MappingError, message.into())))
    }

    /// The service would refuse it again and again.
    pub fn refused(message: impl Into<String>) -> Self {
        Self(Box::new(reports::failed(Outcome::RejectedClientError, message.into())))
    }

    /// The service answered what makes no sense, and may not the next time.
    pub fn odd(message: impl Into<String>) -> Self {
        Self(Box::new(reports::failed(Outcome::RejectedServerError, message.into())))
    }

    /// The status of the answer it is about.
    pub const fn status(&self) -> Option<u16> {
        self.0.http_status
    }
}
