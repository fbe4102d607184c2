//! Users: people who sign in, invitations, which make them, and links by which they get another password.
//!
//! A user belongs to one organization and sees all of its workspaces. E-mail addresses are theirs alone on
//! the whole server, since whoever signs in names nothing else.

use super::{
    access::{KeyLimits, Permission, Subject},
    ids::{InvitationId, OrganizationId, UserId},
    secret::Secret,
    session::Role,
    timestamp::Timestamp,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{fmt, ops::RangeInclusive, time::Duration};
use subtle::ConstantTimeEq as _;

/// How long an invitation is good.
pub const INVITATION_LIFE: Duration = Duration::from_secs(7 * 24 * 3_600);
/// How long a link to another password is good.
pub const RESET_LIFE: Duration = Duration::from_secs(24 * 3_600);
/// How long a sign-in is good.
pub const SIGN_IN_LIFE: Duration = Duration::from_secs(12 * 3_600);
/// Characters of a password.
pub const PASSWORD_CHARACTERS: RangeInclusive<usize> = 12..=256;
/// The longest address that mail can be sent to, in bytes, and its part before the `@` (RFC 5321, 4.5.3.1).
const EMAIL_BYTES_MAX: usize = 254;
const LOCAL_PART_BYTES_MAX: usize = 64;

/// Somebody who signs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub id: UserId,
    pub organization_id: OrganizationId,
    /// As [`email`] makes it.
    pub email: String,
    pub name: String,
    pub role: Role,
    /// Whether a member may read payloads; others may anyway.
    pub payloads: bool,
    pub password: PasswordHash,
    /// Which of their tokens are good: those of this one.
    pub generation: u32,
    pub disabled: bool,
    pub last_sign_in_at: Option<Timestamp>,
    /// The link that gives them another password, until it is used or taken back.
    #[serde(default)]
    pub reset: Option<PasswordReset>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub version: u64,
}

/// A link by which its user gets another password: the last one that was made, and good once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordReset {
    /// Of the token in the link, which is not kept.
    pub hash: [u8; 32],
    pub expires_at: Timestamp,
}

/// A password's argon2id hash in PHC's form.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PasswordHash(pub String);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hashed]")
    }
}

impl User {
    /// Whether they may do this.
    pub fn may(&self, permission: Permission, subject: Subject) -> bool {
        match permission {
            Permission::Read => true,
            Permission::Write => match self.role {
                // To retry and to cancel is to look after what others have set up.
                Role::Member => subject == Subject::Events,
                Role::Admin => subject != Subject::Organization,
                Role::Owner => true,
            },
            Permission::Payload => self.payloads || self.role >= Role::Admin,
            Permission::Sessions => self.role >= Role::Admin,
            Permission::Keys => self.role == Role::Owner,
            Permission::Send => false,
        }
    }

    /// Whether their tokens of this generation are good.
    pub fn accepts(&self, generation: u32) -> bool {
        !self.disabled && self.generation == generation
    }

    /// Whether this is the token of a link that gives them another password now.
    pub fn may_reset_by(&self, token: &str, now: Timestamp) -> bool {
        let is_its =
            |reset: &PasswordReset| now < reset.expires_at && reset.hash.ct_eq(&hash_of(token)).into();
        !self.disabled && self.reset.as_ref().is_some_and(is_its)
    }

    /// Whether the organization has an owner as long as it has this one.
    pub fn owns(&self) -> bool {
        self.role == Role::Owner && !self.disabled
    }
}

/// What a machine key would have to be free to do for it to do all that this role may.
pub fn limits_of(role: Role) -> KeyLimits {
    use Permission::{Payload, Read, Sessions, Write};
    KeyLimits {
        workspaces: None,
        permissions: match role {
            Role::Member => Some(vec![Read, Write]),
            Role::Admin => Some(vec![Read, Write, Payload, Sessions]),
            Role::Owner => None,
        },
    }
}

/// The e-mail address in one spelling: lower case. `None` if it is none.
pub fn email(text: &str) -> Option<String> {
    let (local, domain) = text.rsplit_once('@')?;
    let is_local = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_`{|}~.-".contains(&byte);
    let is_dotted = |text: &str| !text.split('.').any(str::is_empty);
    let is_label = |label: &str| {
        !label.starts_with('-')
            && !label.ends_with('-')
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let fits = text.len() <= EMAIL_BYTES_MAX
        && local.len() <= LOCAL_PART_BYTES_MAX
        && is_dotted(local)
        && local.bytes().all(is_local)
        && domain.contains('.')
        && is_dotted(domain)
        && domain.split('.').all(is_label);
    fits.then(|| text.to_ascii_lowercase())
}

/// Makes somebody a user of this role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    pub id: InvitationId,
    pub organization_id: OrganizationId,
    /// As [`email`] makes it.
    pub email: String,
    pub role: Role,
    /// Of the token in its link, which is not kept.
    pub hash: [u8; 32],
    /// Whoever invited, as the audit log names them.
    pub created_by: String,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
}

impl Invitation {
    /// Whether it is still good.
    pub fn is_good(&self, now: Timestamp) -> bool {
        now < self.expires_at
    }

    /// Whether this is the token of its link.
    pub fn accepts(&self, token: &str) -> bool {
        self.hash.ct_eq(&hash_of(token)).into()
    }
}

/// What tokens begin with.
const INVITE: &str = "invite";
const RESET: &str = "reset";

fn hash_of(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// A new token of an invitation, and the hash that is kept of it. It names its invitation, so that it is
/// found without an index of its own.
pub fn new_invitation_token(organization: OrganizationId, id: InvitationId) -> (Secret, [u8; 32]) {
    new_token(INVITE, organization, id.as_bytes())
}

/// The same of a link to another password.
pub fn new_reset_token(organization: OrganizationId, id: UserId) -> (Secret, [u8; 32]) {
    new_token(RESET, organization, id.as_bytes())
}

fn new_token(kind: &str, organization: OrganizationId, id: &[u8; 16]) -> (Secret, [u8; 32]) {
    let names = URL_SAFE_NO_PAD.encode([*organization.as_bytes(), *id].concat());
    let token = format!("{kind}.{names}.{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 24]>()));
    let hash = hash_of(&token);
    (Secret::new(token), hash)
}

/// The invitation that a token names, whether it is one of its or not.
pub fn invitation_of(token: &str) -> Option<(OrganizationId, InvitationId)> {
    named_by(INVITE, token).map(|(organization, id)| (organization, InvitationId::from_bytes(id)))
}

/// The user that the token of a link to another password names, whether it is one of theirs or not.
pub fn reset_of(token: &str) -> Option<(OrganizationId, UserId)> {
    named_by(RESET, token).map(|(organization, id)| (organization, UserId::from_bytes(id)))
}

fn named_by(kind: &str, token: &str) -> Option<(OrganizationId, [u8; 16])> {
    let (names, _) = token.strip_prefix(kind)?.strip_prefix('.')?.split_once('.')?;
    let bytes: [u8; 32] = URL_SAFE_NO_PAD.decode(names).ok()?.try_into().ok()?;
    let (organization, id) = bytes.split_at(16);
    let half = |bytes: &[u8]| <[u8; 16]>::try_from(bytes).expect("half of 32 bytes");
    Some((OrganizationId::from_bytes(half(organization)), half(id)))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A user of this role.
    pub fn user(role: Role) -> User {
        User {
            id: UserId::from_bytes([1; 16]),
            organization_id: OrganizationId::from_bytes([2; 16]),
            email: "ada@example.com".to_owned(),
            name: "Ada".to_owned(),
            role,
            payloads: false,
            password: PasswordHash("$argon2id$".to_owned()),
            generation: 1,
            disabled: false,
            last_sign_in_at: None,
            reset: None,
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
            version: 1,
        }
    }

    #[test]
    fn a_role_may_what_the_table_says() {
        use Permission::*;
        use Subject::*;
        #[rustfmt::skip]
        let cases = [
            // what                                asks for              member  admin  owner
            ("look",                               (Read, Workspaces),   true,   true,  true),
            ("retry and cancel",                   (Write, Events),      true,   true,  true),
            ("read a payload",                     (Payload, Events),    false,  true,  true),
            ("change rules",                       (Write, Rules),       false,  true,  true),
            ("change connections",                 (Write, Connections), false,  true,  true),
            ("rename a workspace",                 (Write, Workspaces),  false,  true,  true),
            ("make a workspace",                   (Write, Organization), false, false, true),
            ("mint sessions",                      (Sessions, Workspaces), false, true, true),
            ("manage keys, users, the log",        (Keys, Organization), false,  false, true),
            ("send events",                        (Send, Events),       false,  false, false),
        ];
        for (why, (permission, subject), member, admin, owner) in cases {
            for (role, expected) in [(Role::Member, member), (Role::Admin, admin), (Role::Owner, owner)] {
                assert_eq!(user(role).may(permission, subject), expected, "{role:?}: {why}");
            }
        }
        assert!(User { payloads: true, ..user(Role::Member) }.may(Payload, Events), "the switch");
    }

    #[test]
    fn only_who_may_as_much_covers_a_role() {
        let of = |permissions: &[Permission]| KeyLimits {
            workspaces: None,
            permissions: Some(permissions.to_vec()),
        };
        let keys = of(&[Permission::Keys, Permission::Read, Permission::Write]);
        for (role, expected) in [(Role::Member, true), (Role::Admin, false), (Role::Owner, false)] {
            assert_eq!(keys.covers(&limits_of(role)), expected, "{role:?}");
            assert!(KeyLimits::default().covers(&limits_of(role)), "{role:?}");
        }
    }

    #[test]
    fn an_address_has_one_spelling() {
        let long = format!("{}@example.com", "a".repeat(65));
        let longer = format!("a@{}.com", vec!["b".repeat(60); 5].join("."));
        #[rustfmt::skip]
        let cases = [
            ("Ada@Example.COM",          Some("ada@example.com")),
            ("a.b+c@mail.example.com",   Some("a.b+c@mail.example.com")),
            ("ada@example",              None),
            ("ada",                      None),
            ("@example.com",             None),
            ("ada@",                     None),
            ("a@b@example.com",          None),
            (" ada@example.com",         None),
            ("ada@example.com\n",        None),
            ("a..b@example.com",         None),
            (".a@example.com",           None),
            ("ada@exa_mple.com",         None),
            ("ada@-example.com",         None),
            ("ada@example..com",         None),
            ("ada@example.com.",         None),
            ("\"a b\"@example.com",      None),
            ("<ada@example.com>",        None),
            ("\u{e4}da@example.com",     None),
            ("",                         None),
            (&long,                      None),
            (&longer,                    None),
        ];
        for (text, expected) in cases {
            assert_eq!(email(text).as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn a_token_is_its_invitations_alone() {
        let (organization, id) = (OrganizationId::from_bytes([1; 16]), InvitationId::from_bytes([2; 16]));
        let (token, hash) = new_invitation_token(organization, id);
        let invitation = Invitation {
            id,
            organization_id: organization,
            email: "ada@example.com".to_owned(),
            role: Role::Member,
            hash,
            created_by: "test".to_owned(),
            created_at: Timestamp(0),
            expires_at: Timestamp(10),
        };
        let text = token.expose();
        assert_eq!(invitation_of(text), Some((organization, id)));
        assert!(invitation.accepts(text) && !invitation.accepts(&text[..text.len() - 1]));
        assert!(!invitation.accepts(new_invitation_token(organization, id).0.expose()), "new each time");
        assert!(invitation.is_good(Timestamp(9)) && !invitation.is_good(Timestamp(10)));
        assert_eq!(reset_of(text), None);
        let (reset, hash) = new_reset_token(organization, UserId::from_bytes([3; 16]));
        let reset = reset.expose();
        assert_eq!(reset_of(reset), Some((organization, UserId::from_bytes([3; 16]))));
        let mut user = user(Role::Member);
        assert!(!user.may_reset_by(reset, Timestamp(0)), "none was made");
        user.reset = Some(PasswordReset { hash, expires_at: Timestamp(10) });
        assert!(user.may_reset_by(reset, Timestamp(9)) && !user.may_reset_by(reset, Timestamp(10)));
        assert!(!user.may_reset_by(text, Timestamp(9)));
        user.disabled = true;
        assert!(!user.may_reset_by(reset, Timestamp(9)), "they are disabled");
        for text in ["", "invite.", "invite.AAAA.x", "launch.x.y", &text.replace('.', "-")] {
            assert_eq!(invitation_of(text), None, "{text}");
        }
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)), "fits a URL");
    }
}
