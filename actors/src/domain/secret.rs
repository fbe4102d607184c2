//! Secrets: clear only in memory, sealed wherever they rest.
//!
//! The operator's key-encryption key wraps one random data key per workspace; a data key
//! seals values with XChaCha20-Poly1305 under a fresh nonce. What a value belongs to
//! (workspace, object, field) is authenticated with it, so a sealed value moved to another
//! row or tenant does not open.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::fmt;
use zeroize::Zeroizing;

const NONCE_BYTES: usize = 24;
const KEY_BYTES: usize = 32;

/// Text that must not be seen: prints as `[redacted]`, is not serialized, and is wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text in.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The value was sealed with another key, for another place, or was altered.
#[derive(Debug, thiserror::Error)]
#[error("a sealed value does not open: wrong master key, or damaged data")]
pub struct UnsealError;

/// What may rest on disk: nonce and ciphertext. In JSON it is base64.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[sealed]")
    }
}

impl Serialize for Sealed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD_NO_PAD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Sealed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD_NO_PAD.decode(text).map(Self).map_err(D::Error::custom)
    }
}

/// A workspace's data key, sealed with the master key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WrappedKey(Sealed);

/// A key that seals and opens.
pub struct SealingKey(XChaCha20Poly1305);

impl SealingKey {
    /// The key with these bytes.
    pub fn from_bytes(bytes: &[u8; KEY_BYTES]) -> Self {
        Self(XChaCha20Poly1305::new(bytes.into()))
    }

    /// Makes a data key and wraps it for `owner`.
    pub fn new_data_key(&self, owner: &str) -> (Self, WrappedKey) {
        let bytes = Zeroizing::new(rand::random::<[u8; KEY_BYTES]>());
        (Self::from_bytes(&bytes), WrappedKey(self.seal(&bytes[..], &key_place(owner))))
    }

    /// Opens a data key wrapped for `owner`.
    pub fn open_data_key(&self, wrapped: &WrappedKey, owner: &str) -> Result<Self, UnsealError> {
        let bytes = self.open(&wrapped.0, &key_place(owner))?;
        let bytes: &[u8; KEY_BYTES] = bytes.as_slice().try_into().map_err(|_| UnsealError)?;
        Ok(Self::from_bytes(bytes))
    }

    /// Seals bytes for one place, such as `connection/<id>/settings`.
    pub fn seal(&self, clear: &[u8], place: &str) -> Sealed {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let payload = Payload { msg: clear, aad: place.as_bytes() };
        let sealed =
            self.0.encrypt(&XNonce::from(nonce), payload).expect("a value is far below the cipher's limit");
        Sealed([&nonce[..], &sealed].concat())
    }

    /// Opens what was sealed for this place.
    pub fn open(&self, sealed: &Sealed, place: &str) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
        let (nonce, msg) = sealed.0.split_at_checked(NONCE_BYTES).ok_or(UnsealError)?;
        let nonce: [u8; NONCE_BYTES] = nonce.try_into().map_err(|_| UnsealError)?;
        let clear = self.0.decrypt(&XNonce::from(nonce), Payload { msg, aad: place.as_bytes() });
        clear.map(Zeroizing::new).map_err(|_| UnsealError)
    }
}

fn key_place(owner: &str) -> String {
    format!("data-key/{owner}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_value_opens_only_with_its_key_in_its_place_unaltered() {
        let master = SealingKey::from_bytes(&[1; KEY_BYTES]);
        let (data, wrapped) = master.new_data_key("workspace-a");
        let sealed = data.seal(b"hunter2", "a/settings");
        assert_eq!(data.open(&sealed, "a/settings").expect("opens")[..], b"hunter2"[..]);
        let again = master.open_data_key(&wrapped, "workspace-a").expect("opens");
        assert_eq!(again.open(&sealed, "a/settings").expect("opens")[..], b"hunter2"[..]);

        let mut altered = sealed.clone();
        *altered.0.last_mut().expect("not empty") ^= 1;
        assert!(data.open(&sealed, "b/settings").is_err(), "moved to another place");
        assert!(data.open(&altered, "a/settings").is_err(), "altered");
        assert!(data.open(&Sealed(vec![0; 5]), "a/settings").is_err(), "cut short");
        assert!(master.open(&sealed, "a/settings").is_err(), "another key");
        assert!(master.open_data_key(&wrapped, "workspace-b").is_err(), "another owner");
    }

    #[test]
    fn nothing_secret_is_printed() {
        let shown = format!(
            "{:?} {:?}",
            Secret::new("hunter2"),
            SealingKey::from_bytes(&[7; 32]).seal(b"hunter2", "")
        );
        assert_eq!(shown, "[redacted] [sealed]");
    }
}
