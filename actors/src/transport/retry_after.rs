//! How long a destination asks us to wait, in the spellings that are in use.
//!
//! `Retry-After` is seconds or an HTTP date (RFC 9110, 10.2.3); services also send decimals and
//! RFC 3339 times. `RateLimit-Reset` and `X-RateLimit-Reset` hold seconds, or the moment itself
//! in seconds or milliseconds since 1970. What makes no sense is as good as absent.

use crate::domain::{retry::RETRY_AFTER_MAX, timestamp::Timestamp};
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use std::time::Duration;

/// The shortest wait honoured.
pub const WAIT_MIN: Duration = Duration::from_secs(1);

/// Above this a reset is a moment, not a wait: seconds from September 2001, and milliseconds.
const EPOCH_SECONDS_MIN: f64 = 1e9;
const EPOCH_MILLIS_MIN: f64 = 1e12;

/// The wait that is asked for, from 1 second to [`RETRY_AFTER_MAX`]: by `Retry-After`, or by a
/// rate limit's reset when there is none.
pub fn asked(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    if headers.contains_key(RETRY_AFTER) {
        return retry_after(headers, now);
    }
    let resets = ["ratelimit-reset", "x-ratelimit-reset"];
    resets.iter().find_map(|name| values(headers, name).find_map(|text| reset(text, now)))
}

/// The wait that `Retry-After` asks for, from 1 second to [`RETRY_AFTER_MAX`].
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    values(headers, RETRY_AFTER.as_str()).find_map(|text| match seconds(text) {
        Some(seconds) => wait(seconds),
        None => wait(until(moment(text)?, now)),
    })
}

/// When an answer was made, by the clock of who made it (RFC 9110, 6.6.1).
pub fn date(headers: &HeaderMap) -> Option<Timestamp> {
    values(headers, DATE.as_str()).find_map(moment)
}

fn values<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok()).map(str::trim)
}

fn reset(text: &str, now: Timestamp) -> Option<Duration> {
    let Some(number) = seconds(text) else { return wait(until(moment(text)?, now)) };
    let since_now = |epoch_ms: f64| (epoch_ms - now.0 as f64) / 1_000.0;
    wait(match number {
        ms if ms >= EPOCH_MILLIS_MIN => since_now(ms),
        s if s >= EPOCH_SECONDS_MIN => since_now(s * 1_000.0),
        s => s,
    })
}

/// Plain digits with at most one point: no signs, exponents, `inf` or `NaN`.
fn seconds(text: &str) -> Option<f64> {
    let is_plain = text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if is_plain { text.parse().ok() } else { None }
}

fn moment(text: &str) -> Option<Timestamp> {
    if let Ok(date) = httpdate::parse_http_date(text) {
        let since_epoch = date.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        return i64::try_from(since_epoch.as_millis()).ok().map(Timestamp);
    }
    text.parse().ok()
}

fn until(moment: Timestamp, now: Timestamp) -> f64 {
    (moment.0 as f64 - now.0 as f64) / 1_000.0
}

/// A moment that has passed asks for the shortest wait, one far away for the longest.
fn wait(seconds: f64) -> Option<Duration> {
    let asked = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(RETRY_AFTER_MAX);
    Some(asked.clamp(WAIT_MIN, RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::{HeaderName, HeaderValue};

    // 2026-03-15T12:00:00Z, a Sunday.
    const NOW: Timestamp = Timestamp(1_773_576_000_000);
    const DAY_MS: u64 = 86_400_000;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            let name = HeaderName::try_from(*name).expect("a header name");
            map.append(name, HeaderValue::from_bytes(value.as_bytes()).expect("a header value"));
        }
        map
    }

    #[test]
    fn the_wait_is_read_in_every_spelling_and_nonsense_is_ignored() {
        #[rustfmt::skip]
        let cases = [
            ("seconds",                    "120",                               Some(120_000)),
            ("blanks around",              " 7 ",                               Some(7_000)),
            ("decimal seconds",            "1.5",                               Some(1_500)),
            ("leading zeros",              "007",                               Some(7_000)),
            ("at least a second",          "0",                                 Some(1_000)),
            ("half a second",              "0.5",                               Some(1_000)),
            ("at most a day",              "172800",                            Some(DAY_MS)),
            ("RFC 1123 date",              "Sun, 15 Mar 2026 12:01:00 GMT",     Some(60_000)),
            ("RFC 850 date",               "Sunday, 15-Mar-26 12:01:00 GMT",    Some(60_000)),
            ("asctime date",               "Sun Mar 15 12:01:00 2026",          Some(60_000)),
            ("a date that has passed",     "Sun, 15 Mar 2026 11:00:00 GMT",     Some(1_000)),
            ("a date tomorrow",            "Tue, 17 Mar 2026 12:00:00 GMT",     Some(DAY_MS)),
            ("RFC 3339",                   "2026-03-15T12:00:30Z",              Some(30_000)),
            ("RFC 3339, offset",           "2026-03-15T14:00:30.250+02:00",     Some(30_250)),
            ("a word",                     "banana",                            None),
            ("empty",                      "",                                  None),
            ("negative",                   "-5",                                None),
            ("signed",                     "+5",                                None),
            ("exponent",                   "1e3",                               None),
            ("infinite",                   "inf",                               None),
            ("not a number",               "NaN",                               None),
            ("two points",                 "1.2.3",                             None),
            ("hexadecimal",                "0x10",                              None),
            ("a unit",                     "10s",                               None),
            ("over a year",                "99999999",                          Some(DAY_MS)),
            ("over all numbers",           "99999999999999999999999999999999",  Some(DAY_MS)),
            ("over all floats",            &"9".repeat(400),                    Some(DAY_MS)),
            ("a date far away",            "Sun, 15 Mar 2099 12:00:00 GMT",     Some(DAY_MS)),
            ("a broken date",              "Sun, 99 Mar 2026 12:00:00 GMT",     None),
            ("not ASCII",                  "１２",                               None),
        ];
        for (why, text, expected_ms) in cases {
            let expected = expected_ms.map(Duration::from_millis);
            assert_eq!(retry_after(&headers(&[("retry-after", text)]), NOW), expected, "{why}");
        }
    }

    #[test]
    fn a_rate_limits_reset_counts_only_without_retry_after() {
        #[rustfmt::skip]
        let cases = [
            ("nothing",                &[][..],                                                   None),
            ("seconds",                &[("ratelimit-reset", "30")][..],                          Some(30_000)),
            ("x- seconds",             &[("x-ratelimit-reset", "30")],                            Some(30_000)),
            ("epoch seconds",          &[("x-ratelimit-reset", "1773576045")],                    Some(45_000)),
            ("epoch, decimal",         &[("x-ratelimit-reset", "1773576045.5")],                  Some(45_500)),
            ("epoch milliseconds",     &[("x-ratelimit-reset", "1773576045000")],                 Some(45_000)),
            ("epoch that has passed",  &[("x-ratelimit-reset", "1773570000")],                    Some(1_000)),
            ("RFC 3339",               &[("x-ratelimit-reset", "2026-03-15T12:00:30Z")],          Some(30_000)),
            ("nonsense",               &[("ratelimit-reset", "soon")],                            None),
            ("far away",               &[("x-ratelimit-reset", "9999999999999")],                 Some(DAY_MS)),
            ("the standard one first", &[("x-ratelimit-reset", "9"), ("ratelimit-reset", "30")],  Some(30_000)),
            ("Retry-After wins",       &[("ratelimit-reset", "30"), ("retry-after", "5")],        Some(5_000)),
            ("even a bad one",         &[("ratelimit-reset", "30"), ("retry-after", "x")],        None),
            ("the first good one",     &[("retry-after", "x"), ("retry-after", "5")],             Some(5_000)),
        ];
        for (why, pairs, expected_ms) in cases {
            assert_eq!(asked(&headers(pairs), NOW), expected_ms.map(Duration::from_millis), "{why}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_sent_the_wait_is_in_bounds(text in "[ -~]{0,40}", now: i64) {
            for name in ["retry-after", "ratelimit-reset"] {
                if let Some(wait) = asked(&headers(&[(name, &text)]), Timestamp(now)) {
                    proptest::prop_assert!((WAIT_MIN..=RETRY_AFTER_MAX).contains(&wait));
                }
            }
        }
    }
}
