//! What is kept of a failed answer, with our own secrets taken out.
//!
//! Destinations echo what they were sent: headers in debug pages, tokens in error texts. What is
//! kept lands in the history, so each secret of the connection is looked for in the spellings an
//! echo may have: plain, JSON-escaped, percent-encoded, and base64 at any alignment.

use super::{BODY_BYTES_MAX, Response};
use crate::domain::delivery::ResponseDetails;
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use reqwest::header::{HeaderMap, HeaderValue};
use std::fmt;

/// What stands where a secret stood.
pub const REDACTED: &str = "[redacted]";

/// The most that is kept of response headers, names and values together.
pub const HEADER_BYTES_MAX: usize = 16 * 1_024;

/// Shorter secrets are looked for in plain only: their encodings are in every text.
const ENCODED_BYTES_MIN: usize = 6;

/// The start of a secret that was cut off at the end of a text is removed from this length on.
const CUT_BYTES_MIN: usize = 4;

/// Names, and parts of names, whose values are credentials.
const SECRET_NAMES: [&str; 5] =
    ["cookie", "set-cookie", "www-authenticate", "authentication-info", "session"];
const SECRET_PARTS: [&str; 7] =
    ["authorization", "token", "secret", "password", "-key", "apikey", "signature"];

/// Whether a header of this name usually holds a credential.
pub fn is_secret_header(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.contains(&name.as_str()) || SECRET_PARTS.iter().any(|part| name.contains(part))
}

/// Takes a destination's own secrets out of texts.
#[derive(Clone, Default)]
pub struct Redactor {
    /// Every spelling of every secret, longest first.
    spellings: Vec<String>,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor")
    }
}

impl Redactor {
    /// One that knows these secrets. Empty ones are left out.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut spellings: Vec<String> = secrets.into_iter().flat_map(spellings).collect();
        spellings.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        spellings.dedup();
        Self { spellings }
    }

    /// The text without the secrets.
    pub fn scrub(&self, text: String) -> String {
        self.spellings.iter().fold(text, |text, spelling| match text.contains(spelling) {
            true => text.replace(spelling, REDACTED),
            false => text,
        })
    }

    /// As [`Self::scrub`], for a text that was cut off: the start of a secret at its end goes too.
    fn scrub_cut(&self, text: String) -> String {
        let mut text = self.scrub(text);
        let cut_bytes = self.spellings.iter().filter_map(|spelling| cut_off(&text, spelling)).max();
        if let Some(bytes) = cut_bytes {
            text.truncate(text.len() - bytes);
            text.push_str(REDACTED);
        }
        text
    }

    /// What is kept of an answer.
    pub fn capture(&self, response: &Response) -> ResponseDetails {
        let kept = &response.body[..response.body.len().min(BODY_BYTES_MAX)];
        let body = String::from_utf8_lossy(kept).into_owned();
        let body = if response.truncated { self.scrub_cut(body) } else { self.scrub(body) };
        ResponseDetails {
            status: response.status.as_u16(),
            headers: self.headers(&response.headers),
            truncated: response.truncated || body.len() > BODY_BYTES_MAX,
            body: at_most(body, BODY_BYTES_MAX),
        }
    }

    fn headers(&self, headers: &HeaderMap) -> Vec<(String, String)> {
        let mut kept_bytes = 0;
        let shown = headers.iter().map(|(name, value)| (name.to_string(), self.header(name.as_str(), value)));
        shown
            .take_while(|(name, value)| {
                kept_bytes += name.len() + value.len();
                kept_bytes <= HEADER_BYTES_MAX
            })
            .collect()
    }

    fn header(&self, name: &str, value: &HeaderValue) -> String {
        match is_secret_header(name) {
            true => REDACTED.to_owned(),
            false => self.scrub(String::from_utf8_lossy(value.as_bytes()).into_owned()),
        }
    }
}

/// Replaced bytes are longer than they were: cuts the text to size between two characters.
fn at_most(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        let end = (0..=bytes_max).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

/// How many bytes at the end of the text are the start of this spelling.
fn cut_off(text: &str, spelling: &str) -> Option<usize> {
    let longest = spelling.len().saturating_sub(1).min(text.len());
    (CUT_BYTES_MIN..=longest).rev().find(|bytes| text.as_bytes().ends_with(&spelling.as_bytes()[..*bytes]))
}

fn spellings(secret: &str) -> Vec<String> {
    if secret.is_empty() {
        return Vec::new();
    }
    let mut found = vec![secret.to_owned()];
    if secret.len() >= ENCODED_BYTES_MIN {
        let json = serde_json::Value::from(secret).to_string();
        found.push(json[1..json.len() - 1].to_owned());
        for upper in [true, false] {
            found.push(percent_encoded(secret, upper));
            found.push(percent_encoded(secret, upper).replace("%20", "+"));
        }
        for alignment in 0..3 {
            let standard = base64_core(secret.as_bytes(), alignment);
            found.push(standard.replace('+', "-").replace('/', "_"));
            found.push(standard);
        }
    }
    found.retain(|spelling| !spelling.is_empty());
    found
}

fn percent_encoded(secret: &str, upper: bool) -> String {
    let encode = |b: u8| match b {
        b'-' | b'.' | b'_' | b'~' => char::from(b).to_string(),
        b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
        b if upper => format!("%{b:02X}"),
        b => format!("%{b:02x}"),
    };
    secret.bytes().map(encode).collect()
}

/// The base64 digits that depend on the secret alone when it starts `alignment` bytes into a group.
fn base64_core(secret: &[u8], alignment: usize) -> String {
    let bytes = [&[0; 2][..alignment], secret].concat();
    let text = STANDARD_NO_PAD.encode(&bytes);
    // A byte before the secret reaches into the digit it shares; so does a byte after it.
    let skip = [0, 2, 3][alignment];
    let take = bytes.len() * 8 / 6;
    text[skip..take.max(skip)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};
    use proptest::prelude::*;
    use reqwest::StatusCode;

    fn response(headers: &[(&'static str, &[u8])], body: &[u8], truncated: bool) -> Response {
        let headers = headers.iter().map(|(name, value)| {
            let value = HeaderValue::from_bytes(value).expect("a header value");
            (reqwest::header::HeaderName::from_static(name), value)
        });
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Response { status, headers: headers.collect(), body: body.to_vec(), truncated }
    }

    #[test]
    fn a_secret_is_found_however_it_is_echoed() {
        let secret = r#"s3cr/t+"ké y&="#;
        let redactor = Redactor::new([secret, ""]);
        let basic = STANDARD.encode(format!("user:{secret}"));
        #[rustfmt::skip]
        let cases = [
            ("plain",            secret.to_owned()),
            ("base64",           STANDARD.encode(secret)),
            ("url-safe base64",  URL_SAFE.encode(secret)),
            ("shifted by one",   STANDARD.encode(format!("a{secret}b"))),
            ("shifted by two",   STANDARD.encode(format!("ab{secret}bc"))),
            ("Basic",            basic),
            ("percent, upper",   percent_encoded(secret, true)),
            ("percent, lower",   percent_encoded(secret, false)),
            ("form",             percent_encoded(secret, true).replace("%20", "+")),
            ("JSON",             serde_json::to_string(secret).expect("JSON")),
        ];
        for (why, echo) in cases {
            let scrubbed = redactor.scrub(format!("you sent <{echo}>!"));
            assert!(scrubbed.contains(REDACTED), "{why}: {scrubbed}");
            assert!(scrubbed.starts_with("you sent <") && scrubbed.ends_with(">!"), "{why}");
        }
        assert_eq!(redactor.scrub("nothing here".into()), "nothing here");
        assert_eq!(format!("{redactor:?}"), "Redactor");
    }

    #[test]
    fn what_is_kept_is_cut_to_size_and_carries_no_credential() {
        let redactor = Redactor::new(["hunter2hunter2"]);
        let long = vec![b'h'; HEADER_BYTES_MAX];
        let kept = redactor.capture(&response(
            &[
                ("content-type", b"text/\xff"),
                ("set-cookie", b"sid=1"),
                ("x-auth-token", b"abc"),
                ("x-echo", b"hunter2hunter2"),
                ("x-long", &long),
                ("x-after", b"1"),
            ],
            b"\x00\x1b[31m \xff\xfe hunter2hunter2 ends in hunter2hun",
            true,
        ));
        let expected = [
            ("content-type", "text/\u{fffd}"),
            ("set-cookie", REDACTED),
            ("x-auth-token", REDACTED),
            ("x-echo", REDACTED),
        ];
        assert_eq!(kept.headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(kept.body, "\0\u{1b}[31m \u{fffd}\u{fffd} [redacted] ends in [redacted]");
        assert!(kept.truncated);
        let not_text = redactor.capture(&response(&[], &vec![0xff; BODY_BYTES_MAX], false));
        assert!(
            not_text.body.len() <= BODY_BYTES_MAX,
            "replacement characters are longer than what they replace"
        );
    }

    proptest! {
        #[test]
        fn no_encoding_of_a_secret_survives(secret in "[!-~]{6,40}", before in "[ -~]{0,9}", after in "[ -~]{0,9}") {
            let redactor = Redactor::new([secret.as_str()]);
            let whole = format!("{before}{secret}{after}");
            prop_assert!(!redactor.scrub(whole.clone()).contains(&secret));
            for encoded in [STANDARD.encode(&whole), URL_SAFE.encode(&whole)] {
                prop_assert!(redactor.scrub(encoded).contains(REDACTED));
            }
        }
    }
}
