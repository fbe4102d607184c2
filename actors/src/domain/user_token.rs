//! A user's token: what signing in gives, a text that only this server makes.
//!
//! It says whose it is, of which generation and until when, and is signed; whether the generation is still
//! the user's, the stored user decides. So signing out ends all tokens of a user at once.

use super::{
    ids::{OrganizationId, UserId},
    secret::Secret,
    session_token::derived_key,
    timestamp::Timestamp,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use std::fmt;

const PREFIX: &str = "weft_user_";
/// Organization, user, generation, end.
const CLAIM_BYTES: usize = 16 + 16 + 4 + 8;
const WHOLE_BYTES: usize = CLAIM_BYTES + 32;
/// What the key is for, in its derivation.
const KEY_INFO: &[u8] = b"weft/user-token/v1";

/// Whether the text has the form of a user's token.
pub fn is_user_token(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// What a token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserClaims {
    pub organization_id: OrganizationId,
    pub user_id: UserId,
    pub generation: u32,
    pub expires_at: Timestamp,
}

/// Signs users' tokens.
#[derive(Clone)]
pub struct UserTokenKey(Hmac<Sha256>);

impl fmt::Debug for UserTokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[key]")
    }
}

impl UserTokenKey {
    /// The key that goes with a master key.
    pub fn derived_from(master_key: &[u8; 32]) -> Self {
        Self(derived_key(master_key, KEY_INFO))
    }

    /// The token that says this.
    pub fn sign(&self, claims: &UserClaims) -> Secret {
        let mut bytes = Vec::with_capacity(WHOLE_BYTES);
        bytes.extend_from_slice(claims.organization_id.as_bytes());
        bytes.extend_from_slice(claims.user_id.as_bytes());
        bytes.extend_from_slice(&claims.generation.to_be_bytes());
        bytes.extend_from_slice(&claims.expires_at.to_be_bytes());
        let signature = self.0.clone().chain_update(&bytes).finalize().into_bytes();
        bytes.extend_from_slice(&signature);
        Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// What a token says, if this key signed it.
    pub fn read(&self, token: &str) -> Option<UserClaims> {
        let text = token.strip_prefix(PREFIX).filter(|text| text.len() <= 2 * WHOLE_BYTES)?;
        let bytes: [u8; WHOLE_BYTES] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let (claims, signature) = bytes.split_at(CLAIM_BYTES);
        self.0.clone().chain_update(claims).verify_slice(signature).ok()?;
        let (organization, rest) = claims.split_first_chunk()?;
        let (user, rest) = rest.split_first_chunk()?;
        let (generation, rest) = rest.split_first_chunk()?;
        Some(UserClaims {
            organization_id: OrganizationId::from_bytes(*organization),
            user_id: UserId::from_bytes(*user),
            generation: u32::from_be_bytes(*generation),
            expires_at: Timestamp::from_be_bytes(*rest.first_chunk()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_by_the_key_that_signed_it_and_unaltered() {
        let key = UserTokenKey::derived_from(&[7; 32]);
        let claims = UserClaims {
            organization_id: OrganizationId::from_bytes([1; 16]),
            user_id: UserId::from_bytes([2; 16]),
            generation: 3,
            expires_at: Timestamp(1_773_576_000_123),
        };
        let token = key.sign(&claims);
        let text = token.expose();
        assert!(is_user_token(text));
        assert_eq!(key.read(text), Some(claims));
        assert_eq!(UserTokenKey::derived_from(&[7; 32]).read(text), Some(claims), "after a restart");

        let other = key.sign(&UserClaims { generation: 4, ..claims });
        let (body, others) = (&text[..text.len() - 43], &other.expose()[text.len() - 43..]);
        let altered = [
            ("another key's", UserTokenKey::derived_from(&[8; 32]).sign(&claims).expose().to_owned()),
            ("another token's signature", format!("{body}{others}")),
            ("cut", text[..text.len() - 1].to_owned()),
            ("longer", format!("{text}AAAA")),
            ("padded", format!("{text}==")),
            ("very long", format!("{PREFIX}{}", "A".repeat(1 << 20))),
            ("the prefix alone", PREFIX.to_owned()),
            ("without prefix", text[PREFIX.len()..].to_owned()),
            ("nothing", String::new()),
        ];
        for (why, text) in altered {
            assert_eq!(key.read(&text), None, "{why}");
        }
    }
}
