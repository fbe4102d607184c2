//! A rule: which events go to which connection, to do what.

use super::{
    condition::{self, Condition},
    field::FieldError,
    ids::{ConnectionId, OrganizationId, RuleId, WorkspaceId},
    timestamp::Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// Event name → connection and action, with optional conditions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    pub id: RuleId,
    pub organization_id: OrganizationId,
    pub workspace_id: WorkspaceId,
    pub connection_id: ConnectionId,
    /// The connection's kind.
    pub kind: String,
    /// A name, or a pattern such as `invoice.*`.
    pub event: String,
    pub resource: Option<String>,
    pub resource_id: Option<String>,
    /// The action and its inputs.
    pub metadata: Map<String, Value>,
    /// As it was sent; compiled where it is used.
    pub conditions: Option<Value>,
    pub active: bool,
    pub hidden: bool,
    pub created_by: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Grows with every change; a change names the version it was made from.
    #[serde(default)]
    pub version: u64,
}

impl Rule {
    /// Tells rules of one connection apart by what they do: a hash of it, in whatever order members are.
    pub fn likeness(&self) -> [u8; 16] {
        let Self { event, resource, resource_id, metadata, conditions, .. } = self;
        let mut what = json!([event, resource, resource_id, metadata, conditions]);
        what.sort_all_objects();
        let hash: [u8; 32] = Sha256::digest(what.to_string()).into();
        hash[..16].try_into().expect("half of a hash")
    }

    /// The regular expressions in its conditions.
    pub fn matches(&self) -> usize {
        self.conditions.as_ref().map_or(0, condition::matches_in)
    }
}

/// Which event names a rule is for: one name, or a pattern.
///
/// `*` alone is every name. In a dotted pattern a last segment `*` stands for one or more segments
/// (`invoice.*` is for `invoice.paid` and `invoice.line.added`, not for `invoice`), one in between for exactly one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventPattern {
    /// Exactly this name, byte for byte.
    Name(String),
    /// Segments; `None` is `*`.
    Pattern(Vec<Option<String>>),
}

/// Bytes of an event name.
pub const EVENT_NAME_CHARS_MAX: usize = 255;

impl EventPattern {
    /// Understands a name or pattern; the error is to be read after the field's name.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.trim().is_empty() {
            return Err("must not be blank");
        }
        if text.chars().count() > EVENT_NAME_CHARS_MAX || text.chars().any(char::is_control) {
            return Err("must be at most 255 characters, none of them control characters");
        }
        if !text.contains('*') {
            return Ok(Self::Name(text.to_owned()));
        }
        let segment = |segment: &str| match segment {
            "*" => Ok(None),
            "" => Err("must not have empty segments beside a *"),
            literal if literal.contains('*') => Err("must have * only as a whole segment, as in invoice.*"),
            literal => Ok(Some(literal.to_owned())),
        };
        text.split('.').map(segment).collect::<Result<_, _>>().map(Self::Pattern)
    }

    /// Whether it is for this name.
    pub fn matches(&self, name: &str) -> bool {
        let segments = match self {
            Self::Name(own) => return own == name,
            Self::Pattern(segments) => segments,
        };
        let mut parts = name.split('.');
        for (index, segment) in segments.iter().enumerate() {
            let Some(part) = parts.next() else { return false };
            match segment {
                None if index + 1 == segments.len() => return true,
                Some(literal) if literal != part => return false,
                _ => {}
            }
        }
        parts.next().is_none()
    }
}

/// A rule, ready to judge events.
#[derive(Clone, Debug)]
pub struct CompiledRule {
    pub rule: Rule,
    pub pattern: EventPattern,
    pub condition: Option<Condition>,
}

impl CompiledRule {
    /// Understands a rule, or says what is wrong where.
    pub fn compile(rule: &Rule) -> Result<Self, FieldError> {
        let pattern = EventPattern::parse(&rule.event).map_err(|msg| FieldError::new("event", msg))?;
        let condition = rule.conditions.as_ref().map(Condition::compile).transpose()?;
        Ok(Self { rule: rule.clone(), pattern, condition })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a pattern's text says, in the plainest words.
    fn means(pattern: &[&str], name: &[&str]) -> bool {
        match (pattern, name) {
            (["*"], [_, ..]) | ([], []) => true,
            (["*", pattern @ ..], [_, name @ ..]) => means(pattern, name),
            ([segment, pattern @ ..], [part, name @ ..]) => segment == part && means(pattern, name),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn a_pattern_matches_what_its_text_says(
            pattern in "(\\*|a|b|ab)(\\.(\\*|a|b|ab)){0,3}", name in "(a|b|ab|c|)(\\.(a|b|ab|c|)){0,4}",
        ) {
            let parsed = EventPattern::parse(&pattern).expect("well formed");
            let expected = means(&pattern.split('.').collect::<Vec<_>>(), &name.split('.').collect::<Vec<_>>());
            prop_assert_eq!(parsed.matches(&name), expected, "{} on {}", pattern, name);
        }

        #[test]
        fn no_text_makes_a_pattern_panic(text in any::<String>(), name in any::<String>()) {
            if let Ok(pattern) = EventPattern::parse(&text) {
                prop_assert!(text.contains('*') || pattern.matches(&text));
                pattern.matches(&name);
            }
        }
    }

    #[test]
    fn patterns_match_whole_segments() {
        #[rustfmt::skip]
        let cases = [
            ("contact.created", "contact.created",    true),
            ("contact.created", "contact.created.eu", false),
            ("contact.created", "Contact.created",    false),
            ("invoice.*",       "invoice.paid",       true),
            ("invoice.*",       "invoice.line.added", true),
            ("invoice.*",       "invoice",            false),
            ("invoice.*",       "invoices.paid",      false),
            ("*",               "anything at all",    true),
            ("*",               "a.b.c",              true),
            ("*.created",       "contact.created",    true),
            ("*.created",       "a.b.created",        false),
            ("a.*.c",           "a.b.c",              true),
            ("a.*.c",           "a.b.d.c",            false),
            ("*.*",             "a",                  false),
            ("*.*",             "a.b.c",              true),
        ];
        for (pattern, name, expected) in cases {
            let parsed = EventPattern::parse(pattern).expect(pattern);
            assert_eq!(parsed.matches(name), expected, "{pattern} on {name}");
        }
        for malformed in ["", "  ", "inv*", "**", "a.**", "a..*", "*.", "a\nb", &"x".repeat(256)] {
            assert!(EventPattern::parse(malformed).is_err(), "{malformed:?}");
        }
    }
}
