//! Machine tokens: made by callers who hold a key's secret, a minute old at most.
//!
//! The check is written out here and not taken from a JWT library: a library's defaults are
//! lenient (60 s of leeway, `exp` alone required, the rest checked when asked for), and what it
//! makes of a member that comes twice or of an odd header is its own affair. Ours accepts one
//! form. The rules are RFC 7519 and 8725 made narrow: HS256 only, canonical base64url, no header
//! that could change how the token is read, and a life of a minute at most.

use super::Unauthorized;
use crate::api::document;
use actors::domain::{ids::OrganizationId, secret::Secret, timestamp::Timestamp};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Map, Value};
use sha2::Sha256;

/// A longer token is not looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 4 * 1024;
/// The longest life of a token, in seconds.
pub const TOKEN_SECONDS_MAX: i64 = 60;
/// How far the clocks of caller and server may be apart, in seconds.
const SKEW_SECONDS: i64 = 5;
/// Every machine token is made for this audience.
pub const AUDIENCE: &str = "meshes-api";
/// Header fields that would have a lenient reader fetch a key or read the token otherwise.
const HEADERS_REFUSED: [&str; 7] = ["jwk", "jku", "x5u", "x5c", "crit", "zip", "b64"];

/// A machine token of the right form, not verified yet.
#[derive(Debug)]
pub struct Token<'t> {
    /// Whose it claims to be.
    pub access_key: String,
    claims: Map<String, Value>,
    signed: &'t str,
    signature: Vec<u8>,
}

impl<'t> Token<'t> {
    /// Takes a compact JWS apart, and refuses all but the one form that is accepted.
    pub fn parse(token: &'t str) -> Result<Self, Unauthorized> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Unauthorized);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Unauthorized)?;
        let (header, claims) = signed.split_once('.').ok_or(Unauthorized)?;
        let header = members(header)?;
        if HEADERS_REFUSED.iter().any(|name| header.contains_key(*name)) {
            return Err(Unauthorized);
        }
        if header.get("alg").and_then(Value::as_str) != Some("HS256") {
            return Err(Unauthorized);
        }
        if header
            .get("typ")
            .is_some_and(|typ| typ.as_str().is_none_or(|typ| !typ.eq_ignore_ascii_case("jwt")))
        {
            return Err(Unauthorized);
        }
        let access_key = header.get("kid").and_then(Value::as_str).ok_or(Unauthorized)?;
        if !is_access_key(access_key) {
            return Err(Unauthorized);
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Unauthorized)?;
        Ok(Self { access_key: access_key.to_owned(), claims: members(claims)?, signed, signature })
    }

    /// Checks the signature, then every claim, for the key that `access_key` names.
    pub fn verify(
        &self,
        secret: &Secret,
        organization: OrganizationId,
        now: Timestamp,
    ) -> Result<(), Unauthorized> {
        let mut mac = keyed(secret);
        mac.update(self.signed.as_bytes());
        mac.verify_slice(&self.signature).map_err(|_| Unauthorized)?;

        let text = |name: &str| self.claims.get(name).and_then(Value::as_str).ok_or(Unauthorized);
        let seconds = |name: &str| self.claims.get(name).and_then(Value::as_i64).ok_or(Unauthorized);
        let now = now.0.div_euclid(1_000);
        let (iat, exp) = (seconds("iat")?, seconds("exp")?);
        let not_before = if self.claims.contains_key("nbf") { seconds("nbf")? } else { iat };
        let accepted = text("iss")?.strip_prefix("urn:meshes:m2m:") == Some(self.access_key.as_str())
            && text("aud")? == AUDIENCE
            && text("org")?.len() == ORGANIZATION_ID_LEN
            && text("org")?.parse() == Ok(organization)
            && exp.checked_sub(iat).is_some_and(|life| (1..=TOKEN_SECONDS_MAX).contains(&life))
            && iat <= now + SKEW_SECONDS
            && exp >= now - SKEW_SECONDS
            && not_before <= now + SKEW_SECONDS;
        if accepted { Ok(()) } else { Err(Unauthorized) }
    }
}

/// The hyphenated form; other spellings of a UUID are not used on the wire.
const ORGANIZATION_ID_LEN: usize = 36;

/// Makes a token that is good for `life_seconds` from `now`, as the official clients do.
pub fn sign(
    access_key: &str,
    secret: &Secret,
    organization: OrganizationId,
    now: Timestamp,
    life_seconds: i64,
) -> String {
    let issued = now.0.div_euclid(1_000);
    let header = serde_json::json!({ "alg": "HS256", "typ": "JWT", "kid": access_key });
    let claims = serde_json::json!({
        "iss": format!("urn:meshes:m2m:{access_key}"),
        "aud": AUDIENCE,
        "org": organization,
        "iat": issued,
        "exp": issued + life_seconds,
    });
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let mut mac = keyed(secret);
    mac.update(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

/// Keyed with the secret's UTF-8 bytes, not with what it might decode to.
fn keyed(secret: &Secret) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret.expose().as_bytes()).expect("HMAC takes keys of any length")
}

/// One part of a token as a JSON object in which no name comes twice.
fn members(part: &str) -> Result<Map<String, Value>, Unauthorized> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| Unauthorized)?;
    document::check(&json).map_err(|_| Unauthorized)?;
    serde_json::from_slice(&json).map_err(|_| Unauthorized)
}

/// `mk_` and at least 22 base64url characters.
pub fn is_access_key(text: &str) -> bool {
    let base64url = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    text.len() <= 128
        && text.strip_prefix("mk_").is_some_and(|key| key.len() >= 22 && key.bytes().all(base64url))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const KEY: &str = "mk_0123456789abcdefABCDEF";
    const SECRET: &str = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I";
    const ORG: &str = "7b0e8e55-4c1b-4a39-9d35-0a2d7c1f3c11";
    const NOW: i64 = 1_773_576_000;

    fn signed_with(secret: &[u8], header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("any length");
        mac.update(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }

    fn accepts(token: &str) -> bool {
        let verified = |token: Token<'_>| {
            token.verify(&Secret::new(SECRET), ORG.parse().expect("a UUID"), Timestamp(NOW * 1_000))
        };
        Token::parse(token).and_then(verified).is_ok()
    }

    fn header() -> String {
        json!({"alg": "HS256", "typ": "JWT", "kid": KEY}).to_string()
    }

    /// The claims of a good token, with one changed (or left out, by `null`).
    fn claims(name: &str, value: Value) -> String {
        let iss = format!("urn:meshes:m2m:{KEY}");
        let mut claims = json!({"iss": iss, "aud": "meshes-api", "org": ORG, "iat": NOW, "exp": NOW + 30});
        let members = claims.as_object_mut().expect("an object");
        if value.is_null() {
            members.remove(name);
        } else {
            members.insert(name.to_owned(), value);
        }
        claims.to_string()
    }

    #[test]
    fn a_token_of_the_official_form_is_accepted() {
        let good = claims("", Value::Null);
        assert!(accepts(&signed_with(SECRET.as_bytes(), &header(), &good)));
        let org = ORG.parse().expect("a UUID");
        let token = sign(KEY, &Secret::new(SECRET), org, Timestamp(NOW * 1_000), 60);
        assert!(accepts(&token));
        let without_typ = json!({"alg": "HS256", "kid": KEY}).to_string();
        assert!(accepts(&signed_with(SECRET.as_bytes(), &without_typ, &good)));
        let upper = claims("org", json!(ORG.to_uppercase()));
        assert!(accepts(&signed_with(SECRET.as_bytes(), &header(), &upper)));
    }

    #[test]
    fn every_claim_is_held_to_its_rule() {
        #[rustfmt::skip]
        let cases = [
            ("as it should be",                   "nbf", json!(NOW + 5),             true),
            ("extra claims are ignored",          "jti", json!("x"),                 true),
            ("issued 5 s ahead",                  "iat", json!(NOW + 5),             true),
            ("issued 6 s ahead",                  "iat", json!(NOW + 6),             false),
            ("a life of 60 s",                    "exp", json!(NOW + 60),            true),
            ("a life of 61 s",                    "exp", json!(NOW + 61),            false),
            ("no life",                           "exp", json!(NOW),                 false),
            ("a negative life",                   "exp", json!(NOW - 1),             false),
            ("without exp",                       "exp", Value::Null,                false),
            ("without iat",                       "iat", Value::Null,                false),
            ("without iss",                       "iss", Value::Null,                false),
            ("without aud",                       "aud", Value::Null,                false),
            ("without org",                       "org", Value::Null,                false),
            ("exp as text",                       "exp", json!((NOW + 30).to_string()), false),
            ("exp as a fraction",                 "exp", json!(NOW as f64 + 30.5),   false),
            ("exp as a boolean",                  "exp", json!(true),                false),
            ("exp beyond time",                   "exp", json!(u64::MAX),            false),
            ("iat before time",                   "iat", json!(i64::MIN),            false),
            ("iat far back",                      "iat", json!(-1),                  false),
            ("nbf 6 s ahead",                     "nbf", json!(NOW + 6),             false),
            ("nbf as text",                       "nbf", json!("now"),               false),
            ("another issuer",                    "iss", json!("urn:meshes:m2m:mk_another0another0another"), false),
            ("the issuer without its prefix",     "iss", json!(KEY),                 false),
            ("a longer issuer",                   "iss", json!(format!("urn:meshes:m2m:{KEY}x")), false),
            ("another audience",                  "aud", json!("meshes"),            false),
            ("a list of audiences",               "aud", json!(["meshes-api"]),      false),
            ("another organization",              "org", json!("7b0e8e55-4c1b-4a39-9d35-0a2d7c1f3c12"), false),
            ("the organization in braces",        "org", json!(format!("{{{ORG}}}")), false),
            ("no organization",                   "org", json!(""),                  false),
        ];
        for (why, name, value, expected) in cases {
            let token = signed_with(SECRET.as_bytes(), &header(), &claims(name, value));
            assert_eq!(accepts(&token), expected, "{why}");
        }
    }

    #[test]
    fn a_token_lives_from_its_issue_to_its_end_and_5_s_beyond() {
        let org: OrganizationId = ORG.parse().expect("a UUID");
        let secret = Secret::new(SECRET);
        let token = sign(KEY, &secret, org, Timestamp(NOW * 1_000), 30);
        for (offset, expected) in
            [(-6, false), (-5, true), (0, true), (35, true), (36, false), (100_000, false)]
        {
            let token = Token::parse(&token).expect("well formed");
            let verified = token.verify(&secret, org, Timestamp((NOW + offset) * 1_000));
            assert_eq!(verified.is_ok(), expected, "{offset} s after issue");
        }
    }

    #[test]
    fn no_header_but_the_one_form_is_accepted() {
        let mut cases = vec![
            ("no alg", json!({"kid": KEY}).to_string()),
            ("alg null", json!({"alg": null, "kid": KEY}).to_string()),
            ("alg a list", json!({"alg": ["HS256"], "kid": KEY}).to_string()),
            ("alg a number", json!({"alg": 256, "kid": KEY}).to_string()),
            ("alg twice", format!(r#"{{"alg":"HS256","alg":"HS256","kid":"{KEY}"}}"#)),
            ("alg twice, once escaped", format!(r#"{{"alg":"HS256","\u0061lg":"none","kid":"{KEY}"}}"#)),
            ("kid twice", format!(r#"{{"alg":"HS256","kid":"{KEY}","kid":"{KEY}"}}"#)),
            ("an unknown member twice", format!(r#"{{"alg":"HS256","kid":"{KEY}","x":1,"x":2}}"#)),
            ("another type", json!({"alg": "HS256", "typ": "at+jwt", "kid": KEY}).to_string()),
            ("no kid", json!({"alg": "HS256"}).to_string()),
            ("not an object", "[\"HS256\"]".to_owned()),
            ("trailing text", format!("{} ", header()) + "x"),
            ("not JSON", "HS256".to_owned()),
        ];
        for alg in [
            "none", "None", "nOnE", "", "hs256", "HS256 ", "HS384", "HS512", "RS256", "ES256", "PS256",
            "EdDSA",
        ] {
            cases.push((alg, json!({"alg": alg, "kid": KEY}).to_string()));
        }
        for name in HEADERS_REFUSED {
            cases.push((name, json!({"alg": "HS256", "kid": KEY, name: []}).to_string()));
        }
        let long = format!("mk_{}", "x".repeat(20_000));
        for kid in
            ["", "mk_", "../../etc/passwd", "' OR 1=1 --", "mk_0123456789abcdef\0ABCDEF", "mk_short", &long]
        {
            cases.push(("kid", json!({"alg": "HS256", "kid": kid}).to_string()));
        }
        cases.push(("kid a number", json!({"alg": "HS256", "kid": 7}).to_string()));
        for (why, header) in cases {
            let token = signed_with(SECRET.as_bytes(), &header, &claims("", Value::Null));
            assert!(!accepts(&token), "{why}: {header}");
        }
    }

    #[test]
    fn the_signature_is_the_secrets_and_canonical() {
        let good = signed_with(SECRET.as_bytes(), &header(), &claims("", Value::Null));
        let (signed, signature) = good.rsplit_once('.').expect("three parts");
        let decoded = URL_SAFE_NO_PAD.decode(SECRET).expect("it is base64url");
        // The last character of 32 bytes in base64url carries two spare bits, which must be zero.
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let last = signature.as_bytes()[signature.len() - 1];
        let at = ALPHABET.iter().position(|byte| *byte == last).expect("base64url");
        let other_spelling = format!("{}{}", &signature[..signature.len() - 1], char::from(ALPHABET[at | 1]));
        let cases = [
            ("keyed with the decoded secret", signed_with(&decoded, &header(), &claims("", Value::Null))),
            ("keyed with nothing", signed_with(b"", &header(), &claims("", Value::Null))),
            ("no signature", format!("{signed}.")),
            ("cut short", good[..good.len() - 4].to_owned()),
            ("padded", format!("{good}=")),
            ("spelled otherwise", format!("{signed}.{other_spelling}")),
            ("of other claims", {
                let other = signed_with(SECRET.as_bytes(), &header(), &claims("exp", json!(NOW + 31)));
                format!("{}.{signature}", other.rsplit_once('.').expect("three parts").0)
            }),
            ("four parts", format!("{good}.x")),
            ("two parts", signed.to_owned()),
            ("empty", String::new()),
            ("a space before it", format!(" {good}")),
            ("very long", "a".repeat(1 << 20)),
        ];
        for (why, token) in cases {
            assert!(!accepts(&token), "{why}");
        }
    }

    #[test]
    fn duplicate_claims_and_odd_numbers_are_refused() {
        let good = claims("", Value::Null);
        let body = good.trim_end_matches('}');
        for extra in [
            format!(r#","exp":{}}}"#, NOW + 30),
            r#","a":1,"a":1}"#.to_owned(),
            r#","nbf":NaN}"#.to_owned(),
            r#","nbf":1e3}"#.replace("1e3", "1773576000.0"),
            r#","nbf":01}"#.to_owned(),
            "} {}".to_owned(),
        ] {
            let token = signed_with(SECRET.as_bytes(), &header(), &format!("{body}{extra}"));
            assert!(!accepts(&token), "{extra}");
        }
    }
}
