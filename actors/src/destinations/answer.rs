//! What an HTTP answer means for a delivery: the usual reading, for destinations without a better one.

use crate::{
    domain::{
        delivery::{Outcome, Report},
        timestamp::Timestamp,
    },
    transport::{Response, SendError, redact::Redactor, retry_after},
};
use reqwest::StatusCode;

/// What a status says about the attempt.
///
/// | status | read as | because |
/// | --- | --- | --- |
/// | 2xx, 3xx | delivered | the contract says so: redirects are answers and are not followed |
/// | 401, 403 | the credentials are refused | wherever a connection has them: a scheme, a header, a signature, its URL |
/// | 429 | too fast | it is asked again later, and the connection slows down |
/// | 408, 421, 423, 425 | a server's error: tried again | each speaks of this moment or this TCP connection: too slow, the wrong server behind a balancer, locked, too early |
/// | 409, 410 and all other 4xx | a refusal for good | the same request gets the same answer; 409 mostly says that it is there already |
/// | 5xx, and what HTTP does not know | a server's error: tried again | it may be over later |
pub const fn outcome(status: u16) -> Outcome {
    match status {
        200..400 => Outcome::Delivered,
        401 | 403 => Outcome::AuthFailed,
        429 => Outcome::RateLimited,
        408 | 421 | 423 | 425 => Outcome::RejectedServerError,
        400..500 => Outcome::RejectedClientError,
        _ => Outcome::RejectedServerError,
    }
}

/// The report of an attempt that was one request. Failed answers are kept, without our secrets.
pub fn report(answer: Result<Response, SendError>, redactor: &Redactor, now: Timestamp) -> Report {
    let response = match answer {
        Ok(response) => response,
        Err(err) => return failed(err.outcome(), err.to_string()),
    };
    let status = response.status.as_u16();
    let outcome = outcome(status);
    let retry_after = match status {
        429 => retry_after::asked(&response.headers, now),
        503 => retry_after::retry_after(&response.headers, now),
        _ => None,
    };
    let kept = (outcome != Outcome::Delivered).then(|| redactor.capture(&response));
    let message = match outcome {
        Outcome::Delivered => String::new(),
        outcome => message(response.status, outcome),
    };
    Report { http_status: Some(status), retry_after, response: kept, ..failed(outcome, message) }
}

/// A report without an answer.
pub fn failed(outcome: Outcome, message: String) -> Report {
    Report {
        outcome,
        http_status: None,
        message,
        retry_after: None,
        response: None,
        inactive: None,
        pauses: true,
        notes: None,
    }
}

fn message(status: StatusCode, outcome: Outcome) -> String {
    let advice = match (status.as_u16(), outcome) {
        (_, Outcome::AuthFailed) => ": check the connection's credentials",
        (410, _) => ": delete the connection if its endpoint is gone for good",
        _ => "",
    };
    match status.canonical_reason() {
        Some(reason) => format!("the endpoint answered {} {reason}{advice}", status.as_u16()),
        None => format!("the endpoint answered {}{advice}", status.as_u16()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::{HeaderMap, HeaderValue};
    use std::time::Duration;

    fn answer(status: u16, retry_after: &'static str) -> Result<Response, SendError> {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", HeaderValue::from_static(retry_after));
        let status = StatusCode::from_u16(status).expect("a status");
        Ok(Response { status, headers, body: b"why".to_vec(), truncated: false })
    }

    #[test]
    fn a_status_means_the_same_everywhere() {
        use Outcome::*;
        #[rustfmt::skip]
        let cases = [
            (&[200, 201, 202, 204, 299][..],                           Delivered),
            (&[300, 301, 302, 304, 307, 399],                          Delivered),
            (&[401, 403],                                              AuthFailed),
            (&[400, 402, 404, 405, 407, 409, 410, 413, 418, 422, 499], RejectedClientError),
            (&[408, 421, 423, 425],                                       RejectedServerError),
            (&[429],                                                   RateLimited),
            (&[500, 501, 502, 503, 504, 599],                          RejectedServerError),
            (&[100, 101, 199, 600, 999],                               RejectedServerError),
        ];
        for (statuses, expected) in cases {
            for status in statuses {
                assert_eq!(outcome(*status), expected, "{status}");
            }
        }
    }

    #[test]
    fn a_report_says_what_happened_and_keeps_failures_only() {
        #[rustfmt::skip]
        let cases = [
            (200, None,    ""),
            (302, None,    ""),
            (401, None,    "the endpoint answered 401 Unauthorized: check the connection's credentials"),
            (410, None,    "the endpoint answered 410 Gone: delete the connection if its endpoint is gone for good"),
            (429, Some(9), "the endpoint answered 429 Too Many Requests"),
            (500, None,    "the endpoint answered 500 Internal Server Error"),
            (503, Some(9), "the endpoint answered 503 Service Unavailable"),
            (799, None,    "the endpoint answered 799"),
        ];
        for (status, wait_s, message) in cases {
            let report = report(answer(status, "9"), &Redactor::default(), Timestamp(0));
            assert_eq!(report.message, message);
            assert_eq!(report.retry_after, wait_s.map(Duration::from_secs), "{status}");
            assert_eq!(report.http_status, Some(status));
            assert_eq!(report.response.is_some(), status >= 400, "{status}");
        }
    }
}
