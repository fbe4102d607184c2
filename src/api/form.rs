//! The form of what callers send: names, ids and texts, before the engine is asked anything.

use super::error::ApiError;
use actors::engine::FieldError;
use uuid::Uuid;

/// Complaints about a request's fields, all of them told at once.
#[derive(Default)]
pub struct Fields(Vec<FieldError>);

impl Fields {
    /// Complains about `param` unless `fits`.
    pub fn require(&mut self, param: &str, fits: bool, msg: &str) -> &mut Self {
        if !fits {
            self.0.push(FieldError { param: param.to_owned(), msg: msg.to_owned() });
        }
        self
    }

    /// `Err` if there was anything to complain about.
    pub fn check(&mut self) -> Result<(), ApiError> {
        if self.0.is_empty() { Ok(()) } else { Err(ApiError::invalid(std::mem::take(&mut self.0))) }
    }
}

/// A UUID in its hyphenated form, in either case.
pub fn uuid(text: &str) -> Option<Uuid> {
    (text.len() == 36).then(|| Uuid::try_parse(text).ok()).flatten()
}

/// A UUID in a body: 400 if it is none.
pub fn uuid_field(param: &str, text: &str) -> Result<Uuid, ApiError> {
    uuid(text).ok_or_else(|| ApiError::field(param, "must be a UUID"))
}

pub const WORKSPACE_NAME: &str = "must be 3 to 50 letters, digits, spaces, _ or -";
pub fn is_workspace_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b" _-".contains(&byte);
    (3..=50).contains(&name.len()) && name.bytes().all(allowed)
}

/// The same for readers of the API's document, as nearly as a pattern says it that all of them understand.
pub const CONNECTION_NAME_PATTERN: &str = r"^[^\x00-\x1f!-,./:-@\[-\^`{-\x7f]+$";
pub const RESOURCE_ID_PATTERN: &str = "^[A-Za-z0-9._:-]+$";
pub const CONNECTION_NAME: &str = "must be 1 to 128 letters, digits, spaces, _ or -";
pub fn is_connection_name(name: &str) -> bool {
    let allowed = |c: char| c.is_alphanumeric() || " _-".contains(c);
    (1..=128).contains(&name.chars().count()) && name.chars().all(allowed)
}

pub const DESCRIPTION: &str = "must be at most 1024 characters";
pub fn is_description(text: &str) -> bool {
    text.chars().count() <= 1_024
}

pub const NAME: &str = "must be 1 to 255 characters, none of them a control character";
pub fn is_name(text: &str) -> bool {
    (1..=255).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

pub const RESOURCE_ID: &str = "must be 1 to 64 letters, digits or . _ : -";
pub fn is_resource_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids_keep_their_form() {
        let long = |n: usize| "é".repeat(n);
        #[rustfmt::skip]
        let cases = [
            ("a workspace",              is_workspace_name("My shop_1-b"),              true),
            ("two characters",           is_workspace_name("ab"),                       false),
            ("51 characters",            is_workspace_name(&"a".repeat(51)),            false),
            ("a slash",                  is_workspace_name("a/b"),                      false),
            ("a letter beyond ASCII",    is_workspace_name("Café"),                     false),
            ("a connection",             is_connection_name(&long(128)),                true),
            ("no name",                  is_connection_name(""),                        false),
            ("129 characters",           is_connection_name(&long(129)),                false),
            ("markup",                   is_connection_name("<b>"),                     false),
            ("a line break",             is_connection_name("a\nb"),                    false),
            ("an event",                 is_name("contact.created"),                    true),
            ("a blank is a name",        is_name(" "),                                  true),
            ("NUL",                      is_name("a\0"),                                false),
            ("256 characters",           is_name(&long(256)),                           false),
            ("a resource id",            is_resource_id("acct:7.b_c-d"),                true),
            ("a space in it",            is_resource_id("a b"),                         false),
            ("65 characters",            is_resource_id(&"a".repeat(65)),               false),
            ("a description",            is_description(&long(1_024)),                  true),
            ("too much of it",           is_description(&long(1_025)),                  false),
            ("a UUID",                   uuid("018f3C5e-7b1a-7c3e-9d2b-0a1b2c3d4e5f").is_some(), true),
            ("in braces",                uuid("{018f3c5e-7b1a-7c3e-9d2b-0a1b2c3d4e5f}").is_some(), false),
            ("without hyphens",          uuid("018f3c5e7b1a7c3e9d2b0a1b2c3d4e5f").is_some(), false),
            ("as a URN",                 uuid("urn:uuid:018f3c5e-7b1a-7c3e-9d2b-0a1b2c3d4e5f").is_some(), false),
            ("no UUID",                  uuid("018f3c5e-7b1a-7c3e-9d2b-0a1b2c3d4e5g").is_some(), false),
        ];
        for (why, found, expected) in cases {
            assert_eq!(found, expected, "{why}");
        }
    }

    #[test]
    fn all_complaints_are_told_at_once() {
        let mut fields = Fields::default();
        fields.require("a", false, "is wrong").require("b", true, "is fine").require(
            "c",
            false,
            "is wrong too",
        );
        let err = fields.check().expect_err("two are wrong");
        assert_eq!(&*err.message, "a is wrong");
        assert_eq!(
            serde_json::to_value(err.detail()).expect("JSON")["data"].as_array().map(Vec::len),
            Some(2)
        );
        assert!(Fields::default().check().is_ok());
    }
}
