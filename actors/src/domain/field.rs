//! What is wrong with one field of something that was sent.

/// A field that is wrong. Never holds its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{param} {msg}")]
pub struct FieldError {
    /// Where: `event`, `payload.email`, `headers[1].name`; `body` for all of it.
    pub param: String,
    /// What it must be, to be read after the name: `must be a string`.
    pub msg: String,
}

impl FieldError {
    /// `param` is wrong because of `msg`.
    pub fn new(param: impl Into<String>, msg: impl Into<String>) -> Self {
        Self { param: param.into(), msg: msg.into() }
    }

    /// The same field, seen from the object that holds the one it was found in.
    pub fn within(mut self, outer: &str) -> Self {
        self.param = if self.param.is_empty() { outer.to_owned() } else { format!("{outer}.{}", self.param) };
        self
    }
}
