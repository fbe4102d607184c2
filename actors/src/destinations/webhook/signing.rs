//! Signatures over the exact bytes that are sent.
//!
//! Meshes' HMAC covers the body; Standard Webhooks covers id, time and body, so that a receiver
//! can refuse what is old. Keys are set up once per connection and cloned for each message.

use base64::{
    Engine as _,
    alphabet::STANDARD as ALPHABET,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Sha256, Sha512};
use std::fmt::Write as _;

/// What a Standard Webhooks secret starts with; it may be left out.
const PREFIX: &str = "whsec_";

/// The lengths a Standard Webhooks key may have, in bytes.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HmacAlgorithm {
    Sha256,
    Sha512,
}

/// The key in a Standard Webhooks secret, or `None` if it is not one.
pub fn standard_key(secret: &str) -> Option<Vec<u8>> {
    let text = secret.strip_prefix(PREFIX).unwrap_or(secret);
    LENIENT.decode(text).ok().filter(|key| KEY_BYTES.contains(&key.len()))
}

/// Signs messages with a connection's keys.
pub enum Signer {
    None,
    Sha256(HeaderName, Hmac<Sha256>),
    Sha512(HeaderName, Hmac<Sha512>),
    Standard(Vec<Hmac<Sha256>>),
}

impl Signer {
    /// Meshes' HMAC, in this header.
    pub fn hmac(algorithm: HmacAlgorithm, secret: &str, header: HeaderName) -> Self {
        match algorithm {
            HmacAlgorithm::Sha256 => Self::Sha256(header, keyed(secret.as_bytes())),
            HmacAlgorithm::Sha512 => {
                let mac = Hmac::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
                Self::Sha512(header, mac)
            }
        }
    }

    /// Standard Webhooks, by each of these keys.
    pub fn standard<'a>(keys: impl IntoIterator<Item = &'a [u8]>) -> Self {
        Self::Standard(keys.into_iter().map(keyed).collect())
    }

    /// Adds the signature headers of one message. `time_s` is in seconds since 1970.
    pub fn sign(&self, headers: &mut HeaderMap, id: &HeaderValue, time_s: i64, body: &[u8]) {
        match self {
            Self::None => {}
            Self::Sha256(header, mac) => {
                let digest = mac.clone().chain_update(body).finalize().into_bytes();
                headers.insert(header.clone(), signature(hex(&digest)));
            }
            Self::Sha512(header, mac) => {
                let digest = mac.clone().chain_update(body).finalize().into_bytes();
                headers.insert(header.clone(), signature(hex(&digest)));
            }
            Self::Standard(macs) => {
                let time = time_s.to_string();
                let sign = |mac: &Hmac<Sha256>| {
                    let parts = [id.as_bytes(), b".", time.as_bytes(), b".", body];
                    let mac = parts.into_iter().fold(mac.clone(), |mac, part| mac.chain_update(part));
                    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
                };
                let signatures = macs.iter().map(sign).collect::<Vec<_>>().join(" ");
                headers.insert("webhook-id", id.clone());
                headers.insert("webhook-timestamp", ascii(time));
                headers.insert("webhook-signature", signature(signatures));
            }
        }
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all text");
        text
    })
}

/// Not shown anywhere: whoever has it could send what it is of.
fn signature(text: String) -> HeaderValue {
    let mut value = ascii(text);
    value.set_sensitive(true);
    value
}

fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("digits, base64 and blanks are header text")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(signer: &Signer, id: &'static str, time_s: i64, body: &[u8]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        signer.sign(&mut headers, &HeaderValue::from_static(id), time_s, body);
        headers
    }

    /// `printf '{"test": 2432232314}' | openssl dgst -sha256 -hmac 'my secret'`, and `-sha512`.
    #[test]
    fn hmacs_are_those_of_openssl() {
        let body = br#"{"test": 2432232314}"#;
        #[rustfmt::skip]
        let cases = [
            (HmacAlgorithm::Sha256, "9142b1c2a2ad7ac6ff1d30022ac32205699cfb3e3b1969be55faacc0dd676e8f"),
            (HmacAlgorithm::Sha512, "61257c19f86a916067f3f6a7d4d0df1cc167b2ff235df49e6228894ee5227ff29cc37786584c0b6933c19f1d1cec19f58bd2913089698dcc92c96102e99ba94a"),
        ];
        for (algorithm, expected) in cases {
            let signer = Signer::hmac(algorithm, "my secret", HeaderName::from_static("x-meshes-signature"));
            assert_eq!(signed(&signer, "id", 0, body)["x-meshes-signature"], expected);
        }
    }

    /// The specification's own vector, and the same with a second key by
    /// `openssl dgst -sha256 -mac HMAC -macopt hexkey:`.
    #[test]
    fn standard_webhooks_signatures_are_those_of_the_specification() {
        let old = standard_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a key");
        let new = standard_key("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").expect("a key");
        let (id, time_s, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        let one = signed(&Signer::standard([&old[..]]), id, time_s, body);
        assert_eq!(one["webhook-signature"], "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(one["webhook-id"], id);
        assert_eq!(one["webhook-timestamp"], "1614265330");
        let both = signed(&Signer::standard([&new[..], &old[..]]), id, time_s, body);
        assert_eq!(
            both["webhook-signature"],
            "v1,O4Gjv1HqPqsMrjmczoggs/sWA8gZD0VyHG+fLh4+ktI= v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn a_standard_secret_is_base64_of_24_to_64_bytes() {
        let secret = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        #[rustfmt::skip]
        let cases = [
            ("too short",        secret(23),                                  false),
            ("shortest",         secret(24),                                  true),
            ("longest",          secret(64),                                  true),
            ("too long",         secret(65),                                  false),
            ("without prefix",   secret(32).replace("whsec_", ""),            true),
            ("without padding",  secret(32).replace('=', ""),                 true),
            ("not base64",       format!("whsec_{}", "!".repeat(32)),         false),
            ("an asymmetric one", secret(32).replace("whsec_", "whsk_"),      false),
            ("empty",            String::new(),                               false),
        ];
        for (why, text, expected) in cases {
            assert_eq!(standard_key(&text).is_some(), expected, "{why}");
        }
    }
}
