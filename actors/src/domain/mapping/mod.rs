//! Mappings: which value of a payload becomes which field at a destination, and what is done to it on the way.
//!
//! A mapping is a [`Schema`]: parsed once, with every mistake named ([`Schema::parse`]), then asked for
//! each delivery ([`Schema::apply`]). It starts as a guess from the fields the account has ([`generated`]).
//!
//! **What a field gets.** The value at its path, or its literal; then its transforms, in order. A path leads
//! from the payload through members and, after the first dot, elements: `items.0.sku`. Where nothing or
//! `null` is found the value is missing, and a missing value passes every transform but `default`. What is
//! missing at the end is left out, and that is no error. `null` is sent only where the mapping itself says
//! so, by a literal or by `default`.
//!
//! **Transforms.** What each makes of each kind; `–` is an error, which the field's `on_error` decides about.
//! `null` here is one that the mapping said.
//!
//! | transform | missing | null | boolean | number | string | list, object |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | `to_string` | missing | null | `"true"` `"false"` | its digits, as spelled | itself | its JSON text |
//! | `to_number` | missing | null | 1, 0 | itself | the number it spells, or – | – |
//! | `to_boolean` | missing | null | itself | 1 true, 0 false, or – | by its words, or – | – |
//! | `to_date` | missing | null | – | epoch time, or – | its day, or – | – |
//! | `to_datetime` | missing | null | – | epoch time, or – | its instant, or – | – |
//! | `default` | its value | its value | itself | itself | itself | itself |
//! | `trim` `lower` `upper` | missing | null | itself | itself | changed | – |
//! | `substring` | missing | null | – | – | changed | – |
//!
//! - `to_string`: JSON text is compact, with the members of an object by name.
//! - `to_number`: a string must spell a number as JSON does, white space around it aside: `-1.50`, `2e9`; not
//!   `007`, `+1` or `1,000`, which are names, phones and prices. Numbers keep their digits, however many.
//! - `to_boolean`: `true t yes y on 1` and `false f no n off 0`, in any case, white space around them aside.
//! - `trim` takes white space off both ends; `lower` and `upper` change case, in no particular language: all
//!   three as Unicode has it.
//! - `substring` leaves out `start` characters and keeps at most `length`, else all. A character is a Unicode
//!   scalar value. From beyond the end it is the empty string.
//!
//! **Times.** These are read; anything else is an error, so a month is never taken for a day.
//!
//! | value | means |
//! | --- | --- |
//! | `2026-03-15` | that day; as an instant its start, in `timezone`, else in UTC |
//! | `2026-03-15T12:00:00.5+01:00` | that instant ([RFC 3339](https://www.rfc-editor.org/rfc/rfc3339#section-5.6), to nine digits of a second) |
//! | a number nearer to 0 than 1e11 | seconds since 1970, UTC, with any fraction: up to the year 5138 |
//! | any other number | milliseconds since 1970, UTC: all but those from November 1966 to March 1973 |
//! | a string that spells a number | the same, if it has nine digits or more before its point: `20260315` and `2026` are no epoch times |
//!
//! White space around strings is passed over. `to_date` writes `2026-03-15`, `to_datetime` an RFC 3339 time
//! with its offset, `Z` for none. The instant is seen from `timezone`; without one from the offset it was
//! written with, UTC for numbers. Zones are the [IANA](https://www.iana.org/time-zones) ones that come with us,
//! the same on every machine. Years before 0 and after 9999 are errors.
//!
//! **Errors.** `on_error` says what becomes of a field that a transform has no use for: `skip_field` (also if
//! nothing is said) leaves it out, `warn_action` too, with a warning on the attempt, `fail_action` fails the
//! delivery. Messages tell places and kinds, never a value of the payload.
//!
//! **Bounds.** Whatever the payload, applying a mapping handles at most [`WORK_BYTES_MAX`]: what transforms
//! read, and what is sent. Beyond that the delivery fails.

mod apply;
mod generated;
mod kept;
#[cfg(test)]
mod laws;
mod moment;
mod parse;
mod schema;
#[cfg(test)]
mod tests;
mod transform;

pub use apply::{Applied, Failure, Fields, WORK_BYTES_MAX, Warning};
pub use generated::generated;
pub use kept::{DefaultMapping, GENERATED_VERSION};
pub use parse::ERRORS_MAX;
pub use schema::{
    DEFAULT_CHARS_MAX, DEST_CHARS_MAX, FIELDS_MAX, LITERAL_CHARS_MAX, META_NAME_CHARS_MAX, MappedField, Meta,
    NOTES_CHARS_MAX, OnError, PATH_CHARS_MAX, Schema, Source, TIMEZONE_CHARS_MAX, TRANSFORMS_MAX, Transform,
    Zone,
};
