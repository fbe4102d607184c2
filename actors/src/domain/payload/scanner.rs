//! A strict JSON scanner: one pass over the bytes, nothing built, nothing rewritten.
//!
//! It exists because parsers disagree, and what we accept others will have to read: which of two
//! equal keys wins, what a lone surrogate means, how many digits a number keeps. So whatever
//! [RFC 8259](https://www.rfc-editor.org/rfc/rfc8259) leaves open is refused here, except
//! numbers, which stay text of any size. Open containers are kept in a list, never on the call
//! stack: input decides how much is scanned, not how deep we recurse.

use std::{borrow::Cow, collections::HashSet};

/// Objects and arrays may be open within each other this many times.
pub const NESTING_MAX: usize = 64;

/// Up to this many keys of one object are compared one by one, which is faster than hashing them.
const KEYS_COMPARED_MAX: usize = 16;

const TOO_DEEP: &str = "nested too deeply";
pub(super) const DUPLICATE_KEY: &str = "duplicate key";

/// Why bytes are not a JSON document we take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not valid JSON at byte {offset}: {msg}")]
pub struct JsonError {
    /// Where, in bytes from the start.
    pub offset: usize,
    pub msg: &'static str,
}

/// Checks that the bytes are exactly one JSON document that every parser reads alike.
///
/// # Errors
/// The first thing wrong, as it is met: among them equal keys in one object (compared as decoded),
/// more than [`NESTING_MAX`] open containers, half a surrogate pair, and anything after the document.
/// Invalid UTF-8 is reported first, wherever it is.
pub fn check_document(bytes: &[u8]) -> Result<(), JsonError> {
    let mut scanner = Scanner::new(bytes)?;
    scanner.value()?;
    scanner.end()
}

/// A cursor in a document, and the containers open around it.
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    open: Vec<Container<'a>>,
    /// Keys seen in the open objects, outermost first; of each object, those not yet in its set.
    keys: Vec<Cow<'a, str>>,
    nesting_max: usize,
    check_keys: bool,
}

struct Container<'a> {
    is_object: bool,
    is_fresh: bool,
    keys_from: usize,
    many_keys: Option<HashSet<Cow<'a, str>>>,
}

/// A string as it is spelled between its quotes, known to be well formed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'a> {
    spelled: &'a str,
    has_escapes: bool,
}

impl<'a> Text<'a> {
    /// What it says. Borrowed unless it has escapes.
    pub fn decode(self) -> Cow<'a, str> {
        if !self.has_escapes {
            return Cow::Borrowed(self.spelled);
        }
        let mut decoded = String::with_capacity(self.spelled.len());
        let mut rest = Scanner::over(self.spelled);
        while let Some(plain) = self.spelled[rest.at..].find('\\') {
            decoded.push_str(&self.spelled[rest.at..rest.at + plain]);
            rest.at += plain;
            decoded.push(rest.escape().expect("checked when it was scanned"));
        }
        decoded.push_str(&self.spelled[rest.at..]);
        Cow::Owned(decoded)
    }
}

impl<'a> Scanner<'a> {
    /// Starts before the document.
    ///
    /// # Errors
    /// The bytes are not UTF-8.
    pub fn new(bytes: &'a [u8]) -> Result<Self, JsonError> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Self::over(text)),
            Err(err) => Err(JsonError { offset: err.valid_up_to(), msg: "invalid UTF-8" }),
        }
    }

    fn over(text: &'a str) -> Self {
        Self { text, at: 0, open: Vec::new(), keys: Vec::new(), nesting_max: NESTING_MAX, check_keys: true }
    }

    /// For a list of documents that will each be checked by themselves: leaves equal keys to
    /// those checks, and does not count the list as a level.
    pub fn of_list(self) -> Self {
        Self { check_keys: false, nesting_max: NESTING_MAX + 1, ..self }
    }

    /// The first byte of what comes next, past white space.
    pub fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(self.at) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    /// Where it is, in bytes from the start.
    pub fn offset(&self) -> usize {
        self.at
    }

    /// What it has read since it was at an offset.
    pub fn since(&self, offset: usize) -> &'a [u8] {
        &self.text.as_bytes()[offset..self.at]
    }

    /// Nothing but white space may be left.
    pub fn end(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.fail("something after the document")),
        }
    }

    /// Reads one whole value and returns its bytes.
    pub fn value(&mut self) -> Result<&'a [u8], JsonError> {
        self.peek();
        let (from, outside) = (self.at, self.open.len());
        loop {
            self.scalar_or_open()?;
            // To the next value, closing what ends here.
            loop {
                if self.open.len() == outside {
                    return Ok(self.since(from));
                }
                let is_object = self.open.last().is_some_and(|container| container.is_object);
                if if is_object { self.next_key()?.is_some() } else { self.next_item()? } {
                    break;
                }
            }
        }
    }

    /// Enters the object or array that comes next.
    pub fn open(&mut self) -> Result<(), JsonError> {
        let is_object = match self.peek() {
            Some(b'{') => true,
            Some(b'[') => false,
            _ => return Err(self.fail("expected an object or an array")),
        };
        if self.open.len() >= self.nesting_max {
            return Err(self.fail(TOO_DEEP));
        }
        self.at += 1;
        let keys_from = self.keys.len();
        self.open.push(Container { is_object, is_fresh: true, keys_from, many_keys: None });
        Ok(())
    }

    /// In an array: moves to the next item, or leaves the array and says `false`.
    pub fn next_item(&mut self) -> Result<bool, JsonError> {
        self.next_member(b']', "expected ',' or ']'")
    }

    /// In an object: reads the next key and moves to its value, or leaves the object and says `None`.
    pub fn next_key(&mut self) -> Result<Option<Text<'a>>, JsonError> {
        if !self.next_member(b'}', "expected ',' or '}'")? {
            return Ok(None);
        }
        if self.peek() != Some(b'"') {
            return Err(self.fail("expected a key"));
        }
        let from = self.at;
        let key = self.string()?;
        if self.check_keys && !self.is_new(key) {
            return Err(JsonError { offset: from, msg: DUPLICATE_KEY });
        }
        if self.peek() != Some(b':') {
            return Err(self.fail("expected ':'"));
        }
        self.at += 1;
        Ok(Some(key))
    }

    fn next_member(&mut self, close: u8, otherwise: &'static str) -> Result<bool, JsonError> {
        let next = self.peek();
        let Some(container) = self.open.last_mut() else { return Ok(false) };
        if next == Some(close) {
            self.at += 1;
            self.keys.truncate(container.keys_from);
            self.open.pop();
            return Ok(false);
        }
        if !std::mem::take(&mut container.is_fresh) {
            if next != Some(b',') {
                return Err(self.fail(otherwise));
            }
            self.at += 1;
        }
        Ok(true)
    }

    /// Remembers a key of the innermost object; `false` if it had one like it.
    fn is_new(&mut self, key: Text<'a>) -> bool {
        let Some(container) = self.open.last_mut() else { return true };
        let key = key.decode();
        if let Some(many) = &mut container.many_keys {
            return many.insert(key);
        }
        if self.keys[container.keys_from..].contains(&key) {
            return false;
        }
        self.keys.push(key);
        if self.keys.len() - container.keys_from > KEYS_COMPARED_MAX {
            container.many_keys = Some(self.keys.drain(container.keys_from..).collect());
        }
        true
    }

    fn scalar_or_open(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b'{' | b'[') => self.open(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => Err(self.fail("expected a value")),
        }
    }

    fn word(&mut self, word: &'static str) -> Result<(), JsonError> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(self.fail("expected a value"));
        }
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), JsonError> {
        if self.byte() == Some(b'-') {
            self.at += 1;
        }
        if self.byte() == Some(b'0') {
            self.at += 1;
            if self.byte().is_some_and(|byte| byte.is_ascii_digit()) {
                return Err(self.fail("a number with a leading zero"));
            }
        } else {
            self.digits()?;
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.byte() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// One digit or more.
    fn digits(&mut self) -> Result<(), JsonError> {
        let from = self.at;
        while self.byte().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == from { Err(self.fail("expected a digit")) } else { Ok(()) }
    }

    /// Reads a string, from its opening quote to behind its closing one.
    pub fn string(&mut self) -> Result<Text<'a>, JsonError> {
        self.at += 1;
        let from = self.at;
        let mut has_escapes = false;
        loop {
            self.at += plain_bytes(&self.text.as_bytes()[self.at..]);
            match self.byte() {
                Some(b'"') => {
                    let spelled = &self.text[from..self.at];
                    self.at += 1;
                    return Ok(Text { spelled, has_escapes });
                }
                Some(b'\\') => {
                    has_escapes = true;
                    self.escape()?;
                }
                Some(_) => return Err(self.fail("a raw control character in a string")),
                None => return Err(self.fail("a string that does not end")),
            }
        }
    }

    /// Reads one escape, or two that make a surrogate pair, from the backslash on.
    fn escape(&mut self) -> Result<char, JsonError> {
        let from = self.at;
        self.at += 1;
        let decoded = match self.byte() {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode_escape(from);
            }
            _ => return Err(JsonError { offset: from, msg: "an escape JSON does not have" }),
        };
        self.at += 1;
        Ok(decoded)
    }

    fn unicode_escape(&mut self, from: usize) -> Result<char, JsonError> {
        let half = JsonError { offset: from, msg: "half a surrogate pair" };
        let first = self.hex4(from)?;
        if !(0xD800..0xE000).contains(&first) {
            return char::from_u32(first).ok_or(half);
        }
        if first >= 0xDC00 || !self.text.as_bytes()[self.at..].starts_with(b"\\u") {
            return Err(half);
        }
        self.at += 2;
        let second = self.hex4(from)?;
        if !(0xDC00..0xE000).contains(&second) {
            return Err(half);
        }
        char::from_u32(0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00)).ok_or(half)
    }

    fn hex4(&mut self, escape_at: usize) -> Result<u32, JsonError> {
        let mut value = 0;
        for _ in 0..4 {
            let digit = self.byte().and_then(|byte| char::from(byte).to_digit(16));
            let digit = digit.ok_or(JsonError { offset: escape_at, msg: "\\u without four hex digits" })?;
            value = value << 4 | digit;
            self.at += 1;
        }
        Ok(value)
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn fail(&self, msg: &'static str) -> JsonError {
        JsonError { offset: self.at, msg }
    }
}

/// How many bytes of a string come before a quote, a backslash or a control character.
///
/// Eight at a time: <https://graphics.stanford.edu/~seander/bithacks.html#HasLessInWord>. A borrow
/// can only mark bytes above a true find, and the lowest one is taken.
fn plain_bytes(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let mut chunks = bytes.chunks_exact(8);
    let mut count = 0;
    for chunk in &mut chunks {
        let word = u64::from_le_bytes(chunk.try_into().expect("chunks of eight"));
        let quote = word ^ (ONES * u64::from(b'"'));
        let backslash = word ^ (ONES * u64::from(b'\\'));
        let found = (word.wrapping_sub(ONES * 0x20) & !word)
            | (quote.wrapping_sub(ONES) & !quote)
            | (backslash.wrapping_sub(ONES) & !backslash);
        let found = found & (ONES << 7);
        if found != 0 {
            return count + found.trailing_zeros() as usize / 8;
        }
        count += 8;
    }
    let is_plain = |byte: &&u8| !matches!(byte, b'"' | b'\\' | ..0x20);
    count + chunks.remainder().iter().take_while(is_plain).count()
}
