//! Passwords: hashed and checked off the async threads, a few at a time.
//!
//! Every check costs the same, whether there is such a user or not: where there is none, a hash of nobody's
//! is checked, by the same parameters.

use super::EngineError;
use crate::{
    domain::{secret::Secret, user::PasswordHash},
    store::Unavailable,
};
use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version};
use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicU64, Ordering},
};
use tokio::sync::Semaphore;

/// Memory a hash takes, in KiB, and how often it is gone through: OWASP's first choice for argon2id
/// (<https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html>).
const MEMORY_KIB: u32 = 19 * 1_024;
const PASSES: u32 = 2;

/// Hashes made at a time: each takes a thread and its memory.
const AT_ONCE_MAX: usize = 2;

/// Hashes that may wait for their turn. Beyond it nobody is helped by waiting.
const WAITING_MAX: usize = 64;

/// Of a password nobody has: it was random, and forgotten.
static NOBODYS: LazyLock<Result<PasswordHash, String>> =
    LazyLock::new(|| hash(&format!("{:032x}", rand::random::<u128>())));

/// Hashes and checks passwords.
#[derive(Clone)]
pub(super) struct Passwords {
    turns: Arc<Semaphore>,
    room: Arc<Semaphore>,
    checked: Arc<AtomicU64>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(AT_ONCE_MAX)),
            room: Arc::new(Semaphore::new(AT_ONCE_MAX + WAITING_MAX)),
            checked: Arc::default(),
        }
    }
}

impl Passwords {
    /// A password's hash.
    pub(super) async fn hash(&self, password: Secret) -> Result<PasswordHash, EngineError> {
        self.in_turn(move || hash(password.expose())).await?.map_err(EngineError::Internal)
    }

    /// Whether this is the password of that hash. `None`: of nobody's, so it is not.
    pub(super) async fn check(
        &self,
        password: Secret,
        hash: Option<PasswordHash>,
    ) -> Result<bool, EngineError> {
        let checked = self.checked.clone();
        let check = move || {
            let is_somebodys = hash.is_some();
            // Asked for whether it is needed or not: making it, once, must not tell who is there.
            let nobodys = NOBODYS.clone()?;
            let hash = hash.unwrap_or(nobodys);
            let is_it = argon2()?.verify_password(password.expose().as_bytes(), &hash.0[..]).is_ok();
            checked.fetch_add(1, Ordering::Relaxed);
            Ok(is_it && is_somebodys)
        };
        self.in_turn(check).await?.map_err(EngineError::Internal)
    }

    /// How many were checked, against a user's hash or nobody's.
    pub(super) fn checked(&self) -> u64 {
        self.checked.load(Ordering::Relaxed)
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        let _room = self.room.try_acquire().map_err(|_| Unavailable::Busy)?;
        // The permit goes with the work: a caller who leaves does not let another one in beside it.
        let turn = self.turns.clone().acquire_owned().await.expect("it is never closed");
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        done.await.map_err(super::internal)
    }
}

fn argon2() -> Result<Argon2<'static>, String> {
    let params = Params::new(MEMORY_KIB, PASSES, 1, None).map_err(|err| err.to_string())?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash(password: &str) -> Result<PasswordHash, String> {
    let salt = rand::random::<[u8; 16]>();
    let hash = argon2()?.hash_password_with_salt(password.as_bytes(), &salt);
    Ok(PasswordHash(hash.map_err(|err| err.to_string())?.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_checked_by_its_hash_and_nobodys_costs_the_same() {
        let passwords = Passwords::default();
        let secret = |text: &str| Secret::new(text.to_owned());
        let [one, two] =
            [passwords.hash(secret("correct horse")).await, passwords.hash(secret("correct horse")).await];
        let (one, two) = (one.expect("a hash"), two.expect("a hash"));
        assert_ne!(one, two, "salted");
        assert!(one.0.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", one.0);
        let nobodys = NOBODYS.clone().expect("a hash");
        let parameters = |hash: &PasswordHash| hash.0.rsplitn(3, '$').last().map(str::to_owned);
        assert_eq!(parameters(&nobodys), parameters(&one), "as dear as anybody's");
        let cases = [
            ("the right one", "correct horse", Some(one.clone()), true),
            ("a wrong one", "wrong horse", Some(one), false),
            ("of nobody", "correct horse", None, false),
        ];
        for (number, (why, password, hash, expected)) in cases.into_iter().enumerate() {
            let checked = passwords.check(secret(password), hash).await;
            assert_eq!(checked.expect("it is checked"), expected, "{why}");
            assert_eq!(passwords.checked(), number as u64 + 1, "{why}: one hash is computed");
        }
    }

    #[tokio::test]
    async fn more_than_may_wait_are_turned_away_at_once() {
        let passwords = Passwords::default();
        let all = u32::try_from(AT_ONCE_MAX + WAITING_MAX).expect("a few");
        let room = passwords.room.clone().acquire_many_owned(all).await.expect("it is open");
        let refused = passwords.check(Secret::new("x"), None).await;
        assert!(matches!(refused, Err(EngineError::Unavailable(Unavailable::Busy))));
        drop(room);
        assert!(!passwords.check(Secret::new("x"), None).await.expect("there is room again"));
    }
}
