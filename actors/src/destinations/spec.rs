//! What a destination declares: enough for the catalogue, the forms and the masking of secrets.

use super::FieldError;
use serde_json::{Map, Value};

/// A destination, declared.
#[derive(Debug)]
pub struct Spec {
    /// Its kind on the wire, such as `webhook`. Never changes.
    pub kind: &'static str,
    /// Its name for people.
    pub name: &'static str,
    pub auth: Auth,
    /// The settings of a connection.
    pub fields: &'static [Field],
    pub actions: &'static [ActionSpec],
    /// How a consent is asked for, where an account can be connected in a browser.
    pub consent: Option<&'static Consent>,
}

/// How a consent is asked for and turned into tokens: OAuth 2, as the vendor has it.
#[derive(Debug)]
pub struct Consent {
    pub authorize: &'static str,
    pub token: &'static str,
    /// The setting that names the vendor's host for both, where a customer's account has another than these.
    /// Its values are checked when they are set: the app's secret goes there.
    pub login: Option<&'static str>,
    /// Asked for; empty where the vendor has them in the app's own settings.
    pub scopes: &'static [&'static str],
    /// What stands between two scopes.
    pub separator: char,
    pub client: ClientAuth,
    /// Whether the vendor takes a proof key (RFC 7636).
    pub pkce: bool,
    /// What else the vendor wants in the address of its consent page.
    pub params: &'static [(&'static str, &'static str)],
}

impl Consent {
    /// One of its addresses, for a connection of these settings.
    pub fn at(&self, url: &str, settings: &Map<String, Value>) -> String {
        let login = self.login.and_then(|key| settings.get(key)?.as_str()).filter(|text| !text.is_empty());
        let path = url.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..]));
        match (login, path) {
            (Some(login), Some(path)) => format!("{}{path}", login.trim_end_matches('/')),
            _ => url.to_owned(),
        }
    }

    /// Of what is known before there is a consent, what it goes by.
    pub fn settings(&self, of: &Map<String, Value>) -> Map<String, Value> {
        let login = self.login.and_then(|key| Some((key.to_owned(), of.get(key)?.clone())));
        login.into_iter().collect()
    }
}

/// How the app says who it is when it asks for tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// `Authorization: Basic`.
    Basic,
    /// In the form.
    Form,
}

/// How a customer's account is opened to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    None,
    ApiKey,
    Basic,
    /// OAuth of this version, 1 or 2: the connection is made in a browser.
    OAuth(u8),
}

impl Auth {
    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ApiKey => "api_key",
            Self::Basic => "basic",
            Self::OAuth(_) => "oauth",
        }
    }
}

/// One setting of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub key: &'static str,
    pub label: &'static str,
    pub kind: FieldKind,
    /// Never shown again once it is saved.
    pub secret: bool,
    /// Goes to nobody: it signs what does.
    pub signs: bool,
    pub required: bool,
    pub default: Option<&'static str>,
    /// One sentence of help.
    pub help: Option<&'static str>,
    /// Asked for only while another setting has one of these values.
    pub depends_on: Option<(&'static str, &'static [&'static str])>,
}

impl Field {
    /// An optional text, to be changed with `..`.
    pub const fn text(key: &'static str, label: &'static str) -> Self {
        let (kind, secret, signs, required) = (FieldKind::Text, false, false, false);
        Self { key, label, kind, secret, signs, required, default: None, help: None, depends_on: None }
    }

    /// An optional secret.
    pub const fn secret(key: &'static str, label: &'static str) -> Self {
        Self { kind: FieldKind::Password, secret: true, ..Self::text(key, label) }
    }

    /// A choice; the first option is the default.
    pub const fn select(key: &'static str, label: &'static str, options: &'static [Choice]) -> Self {
        let default = match options {
            [first, ..] => Some(first.value),
            [] => None,
        };
        Self { kind: FieldKind::Select(options), default, ..Self::text(key, label) }
    }
}

/// How a setting is typed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    Text,
    /// A text that must be a URL.
    Url,
    Password,
    Select(&'static [Choice]),
    /// `true` or `false`.
    Toggle,
    /// A list of `{name, value}`.
    Headers,
    /// A list of secrets, the newest first.
    Secrets,
}

/// One option of a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    pub label: &'static str,
    pub value: &'static str,
}

/// Something that can be done at a destination.
#[derive(Debug)]
pub struct ActionSpec {
    /// Its name in a rule's `metadata.action`.
    pub key: &'static str,
    pub label: &'static str,
    /// What it is about, such as `list`.
    pub noun: &'static str,
    pub description: &'static str,
    /// What a rule has to say beside the action.
    pub inputs: &'static [Input],
    /// Mapped fields that must not be empty.
    pub needs: &'static [&'static str],
    /// What happens if a delivery is made twice, in one sentence.
    pub twice: &'static str,
}

/// One input of an action.
#[derive(Clone, Copy, Debug)]
pub struct Input {
    /// The live data it picks from, such as `lists`; its own name for typed text.
    pub key: &'static str,
    /// Where it is kept in the rule's metadata, such as `id`.
    pub field: &'static str,
    pub label: &'static str,
    pub required: bool,
    pub kind: InputKind,
}

/// How an input is given.
#[derive(Clone, Copy, Debug)]
pub enum InputKind {
    /// One live item is picked.
    Pick,
    /// A live item is picked, and then one of its options, kept in this field.
    PickOption { field: &'static str },
    /// Text is typed, on one line or several.
    Text { several_lines: bool, placeholder: Option<&'static str> },
}

impl Input {
    /// One live item that a rule needs, kept in `id`.
    pub const fn pick(key: &'static str, label: &'static str) -> Self {
        Self { key, field: "id", label, required: true, kind: InputKind::Pick }
    }

    /// One live item that a rule needs, kept in `id`, and one of its options, kept in `value`.
    pub const fn pick_option(key: &'static str, label: &'static str) -> Self {
        Self { kind: InputKind::PickOption { field: "value" }, ..Self::pick(key, label) }
    }

    /// Text on one line.
    pub const fn line(
        key: &'static str,
        label: &'static str,
        required: bool,
        placeholder: Option<&'static str>,
    ) -> Self {
        Self { key, field: key, label, required, kind: InputKind::Text { several_lines: false, placeholder } }
    }

    /// Where it is kept in the rule's metadata: one place, or two.
    pub fn kept_in(&self) -> impl Iterator<Item = &'static str> + use<> {
        let option = match self.kind {
            InputKind::PickOption { field } => Some(field),
            InputKind::Pick | InputKind::Text { .. } => None,
        };
        [Some(self.field), option].into_iter().flatten()
    }

    /// Whether it is picked from what the account has.
    pub const fn is_live(&self) -> bool {
        matches!(self.kind, InputKind::Pick | InputKind::PickOption { .. })
    }
}

impl Spec {
    /// The settings that hold one secret text each.
    pub fn secret_fields(&self) -> impl Iterator<Item = &'static Field> {
        self.fields.iter().filter(|field| field.secret && field.kind == FieldKind::Password)
    }

    /// The action of this name.
    pub fn action(&self, key: &str) -> Option<&'static ActionSpec> {
        self.actions.iter().find(|action| action.key == key)
    }

    /// Refuses an action that does not exist, and one that lacks a required input.
    pub fn check_action(&self, metadata: &Map<String, Value>) -> Result<(), Vec<FieldError>> {
        let Some(action) = metadata.get("action").and_then(Value::as_str).and_then(|key| self.action(key))
        else {
            let known: Vec<&str> = self.actions.iter().map(|action| action.key).collect();
            return Err(vec![FieldError::new("action", format!("must be one of: {}", known.join(", ")))]);
        };
        let is_missing = |field: &str| {
            let value = metadata.get(field).unwrap_or(&Value::Null);
            value.is_null() || value.as_str().is_some_and(str::is_empty)
        };
        let required = action.inputs.iter().filter(|input| input.required);
        let missing = required.flat_map(Input::kept_in).filter(|field| is_missing(field));
        let errors: Vec<FieldError> = missing.map(|field| FieldError::new(field, "is required")).collect();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }
}
