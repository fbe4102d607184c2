//! Texts with places in them: `Hello {{user.name}}`, filled from the payload's root.
//!
//! A place is two braces, a dotted path and two braces, with blanks around the path if you like. What is not
//! there is filled with nothing; a list or an object with its JSON. Braces that hold no path stay as they are.
//! What is filled in is escaped as the service needs it; the text around it is the rule's own and is not.

use crate::domain::payload::{Json, is_path};
use std::fmt::Write as _;

/// The text with its places filled.
pub fn filled(template: &str, payload: &Json<'_>, escape: impl Fn(&str) -> String) -> String {
    let (mut text, mut rest) = (String::with_capacity(template.len()), template);
    while let Some(open) = rest.find("{{") {
        let (before, from) = rest.split_at(open);
        text.push_str(before);
        let Some(close) = from.find("}}") else {
            rest = from;
            break;
        };
        match from[2..close].trim() {
            path if is_path(path) => {
                if let Some(value) = payload.at_path(path) {
                    text.push_str(&escape(&shown(value)));
                }
                rest = &from[close + 2..];
            }
            _ => {
                text.push('{');
                rest = &from[1..];
            }
        }
    }
    text.push_str(rest);
    text
}

fn shown(value: &Json<'_>) -> String {
    match value {
        Json::Null => String::new(),
        Json::Bool(flag) => flag.to_string(),
        Json::Number(text) | Json::String(text) => text.clone().into_owned(),
        Json::Array(_) | Json::Object(_) => serde_json::to_string(value).unwrap_or_default(),
    }
}

/// As it is.
pub fn plain(text: &str) -> String {
    text.to_owned()
}

/// For HTML and what is read like it.
pub fn html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Says how much too long a text is, in characters.
pub fn fits(what: &str, text: &str, chars_max: usize) -> Result<(), String> {
    let chars = text.chars().count();
    if chars <= chars_max {
        return Ok(());
    }
    let mut message = String::new();
    let _ = write!(
        message,
        "the {what} has {chars} characters of at most {chars_max}: shorten the rule's {what}"
    );
    Err(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn places_are_filled_from_the_payload() {
        let payload = r#"{"user":{"name":"Ada <3","tags":["a","b"]},"n":1.50,"yes":true,"none":null}"#;
        let payload = Json::parse(payload.as_bytes()).expect("JSON");
        #[rustfmt::skip]
        let cases = [
            ("Hello {{user.name}}!",      "Hello Ada &lt;3!"),
            ("{{ user.name }}",           "Ada &lt;3"),
            ("{{user.tags.1}}{{n}}",      "b1.50"),
            ("{{user.tags}}",             "[&quot;a&quot;,&quot;b&quot;]"),
            ("{{yes}} {{none}}{{gone}}.", "true ."),
            ("<b>{{n}}</b>",              "<b>1.50</b>"),
            ("{{}} {{ }} {{a b}} {{n",    "{{}} {{ }} {{a b}} {{n"),
            ("{{{n}}}",                   "{1.50}"),
            ("}} {{n}} {",                "}} 1.50 {"),
            ("",                          ""),
        ];
        for (template, expected) in cases {
            assert_eq!(filled(template, &payload, html), expected, "{template}");
        }
    }

    proptest! {
        #[test]
        fn no_template_is_too_odd(template in "[{}a.\u{e9} ]{0,40}") {
            let payload = Json::parse(br#"{"a":"{{a}}"}"#).expect("JSON");
            let text = filled(&template, &payload, plain);
            prop_assert!(template.contains("{{") || text == template);
        }
    }
}
