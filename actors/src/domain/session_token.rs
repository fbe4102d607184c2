//! A session's tokens: texts that only this server makes, and what each stands for.
//!
//! An access token is a JWT of one form: the header is a constant that is compared and never
//! read, so nothing in it can change how the rest is judged. It says which session and which of its
//! tokens it is; whether that one is still good, the stored session decides. A launch token is
//! random, and only its hash is kept.

use super::{
    ids::{SessionId, WorkspaceId},
    secret::Secret,
    session::Session,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;

/// `{"alg":"HS256","typ":"JWT"}` in base64url, and the dot after it. A machine token names its key
/// there, and so never begins like this.
const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.";
/// A longer one is not looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 1_024;
/// What the key is for, in its derivation.
const KEY_INFO: &[u8] = b"weft/session-access-token/v1";

/// Whether the text has the form of a session's access token, and not of a machine's.
pub fn is_access_token(text: &str) -> bool {
    text.starts_with(HEADER)
}

/// What an access token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    #[serde(rename = "sid")]
    pub session_id: SessionId,
    #[serde(rename = "ws")]
    pub workspace_id: WorkspaceId,
    #[serde(rename = "gen")]
    pub generation: u32,
    /// Seconds since 1970, for the page that holds it; the stored session decides.
    pub exp: i64,
}

impl Claims {
    /// What the good token of a session says.
    pub fn of(session: &Session) -> Self {
        Self {
            session_id: session.id,
            workspace_id: session.workspace_id,
            generation: session.generation,
            exp: session.expires_at.0.div_euclid(1_000),
        }
    }
}

/// Signs access tokens.
#[derive(Clone)]
pub struct TokenKey(Hmac<Sha256>);

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[key]")
    }
}

impl TokenKey {
    /// The key that goes with a master key.
    pub fn derived_from(master_key: &[u8; 32]) -> Self {
        Self(derived_key(master_key, KEY_INFO))
    }

    /// The token that says this.
    pub fn sign(&self, claims: &Claims) -> Secret {
        let claims = serde_json::to_vec(claims).expect("claims are plain members");
        let signed = format!("{HEADER}{}", URL_SAFE_NO_PAD.encode(claims));
        let signature = self.0.clone().chain_update(&signed).finalize().into_bytes();
        Secret::new(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// What a token says, if this key signed it.
    pub fn read(&self, token: &str) -> Option<Claims> {
        if token.len() > TOKEN_BYTES_MAX || !is_access_token(token) {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        self.0.clone().chain_update(signed).verify_slice(&signature).ok()?;
        let claims = URL_SAFE_NO_PAD.decode(signed.strip_prefix(HEADER)?).ok()?;
        serde_json::from_slice(&claims).ok()
    }
}

/// A key of its own for each use of the master key: HKDF's expansion (RFC 5869, 2.3) to one block. The
/// extraction is left out, as it may be where the input is a uniform key.
pub(super) fn derived_key(master_key: &[u8; 32], used_for: &[u8]) -> Hmac<Sha256> {
    keyed(&keyed(master_key).chain_update(used_for).chain_update([1]).finalize().into_bytes())
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

/// A new launch token of a session, and the hash that is kept of it. It names its session, so that
/// it is found without an index of its own.
pub fn new_launch_token(session: SessionId) -> (Secret, [u8; 32]) {
    let id = URL_SAFE_NO_PAD.encode(session.as_bytes());
    let random = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 24]>());
    let token = format!("launch.{id}.{random}");
    let hash = Sha256::digest(token.as_bytes()).into();
    (Secret::new(token), hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::session::{Reach, Role, tests::session};

    #[test]
    fn a_token_is_read_by_the_key_that_signed_it_and_unaltered() {
        let key = TokenKey::derived_from(&[7; 32]);
        let claims = Claims::of(&session(Role::Member, Reach::Workspace, &[]));
        let token = key.sign(&claims);
        let token = token.expose();
        assert_eq!(key.read(token), Some(claims));
        assert_eq!(token.split('.').count(), 3, "{token}");
        assert_eq!(TokenKey::derived_from(&[7; 32]).read(token), Some(claims), "the same after a restart");

        let (signed, signature) = token.rsplit_once('.').expect("three parts");
        let other = key.sign(&Claims { generation: 2, ..claims });
        let (_, others) = other.expose().rsplit_once('.').expect("three parts");
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
        let body = signed.strip_prefix(HEADER).expect("its header");
        let altered = [
            ("another key's", TokenKey::derived_from(&[8; 32]).sign(&claims).expose().to_owned()),
            ("another token's signature", format!("{signed}.{others}")),
            ("no signature", format!("{signed}.")),
            ("padded", format!("{token}=")),
            ("cut", token[..token.len() - 1].to_owned()),
            ("another header", format!("{header}.{body}.{signature}")),
            ("a fourth part", format!("{token}.x")),
            ("very long", format!("{HEADER}{}", "A".repeat(1 << 20))),
            ("the header alone", HEADER.to_owned()),
            ("nothing", String::new()),
        ];
        for (why, text) in altered {
            assert_eq!(key.read(&text), None, "{why}");
        }
    }

    #[test]
    fn the_header_is_what_it_says() {
        let header = URL_SAFE_NO_PAD.decode(HEADER.trim_end_matches('.')).expect("base64url");
        assert_eq!(header, br#"{"alg":"HS256","typ":"JWT"}"#);
    }

    #[test]
    fn a_launch_token_is_new_each_time_and_no_access_token() {
        let id = SessionId::from_bytes([1; 16]);
        let (one, two) = (new_launch_token(id), new_launch_token(id));
        assert_ne!(one, two);
        assert!(!is_access_token(one.0.expose()));
        assert!(
            one.0.expose().bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)),
            "fits a URL"
        );
        assert_eq!(one.1[..], Sha256::digest(one.0.expose())[..]);
    }
}
