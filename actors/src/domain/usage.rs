//! How much a workspace has used, by the day.
//!
//! What counts: events that were accepted, but for tests of a rule; deliveries that were made of them; attempts
//! at those, and how many of them arrived. Days and months are UTC.

use super::{ids::WorkspaceId, timestamp::Timestamp};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::{borrow::Cow, fmt, str::FromStr};

/// Days that usage is remembered.
pub const USAGE_DAYS_KEPT: u32 = 400;

const DAY_MS: u64 = 86_400_000;
/// The last day that has a date: 9999-12-30.
const DAY_LAST: u32 = 2_932_895;

/// A day, UTC: days since 1970-01-01. In JSON its date, `2026-03-15`; in binary formats the number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub u32);

/// The text is not a date.
#[derive(Debug, thiserror::Error)]
#[error("not a date such as 2026-03-15")]
pub struct ParseDayError;

impl Day {
    /// The day of a moment.
    pub fn of(moment: Timestamp) -> Self {
        Self(u32::try_from(moment.as_unsigned() / DAY_MS).unwrap_or(u32::MAX).min(DAY_LAST))
    }

    /// When it begins.
    pub fn start(self) -> Timestamp {
        Timestamp(i64::try_from(u64::from(self.0) * DAY_MS).unwrap_or(i64::MAX))
    }

    /// So many days earlier.
    pub const fn before(self, days: u32) -> Self {
        Self(self.0.saturating_sub(days))
    }

    /// The first day of its month.
    pub fn first_of_month(self) -> Self {
        Self::of_date(self.date().first_of_month())
    }

    /// The first day of the month after its own.
    pub fn first_of_next_month(self) -> Self {
        Self::of_date(self.date().last_of_month().tomorrow().unwrap_or(jiff::civil::Date::MAX))
    }

    /// Its month, such as `2026-03`.
    pub fn month(self) -> String {
        let mut text = self.to_string();
        text.truncate(7);
        text
    }

    fn date(self) -> jiff::civil::Date {
        let moment = jiff::Timestamp::from_millisecond(self.start().0).unwrap_or(jiff::Timestamp::MAX);
        jiff::tz::Offset::UTC.to_datetime(moment).date()
    }

    fn of_date(date: jiff::civil::Date) -> Self {
        let moment = jiff::tz::Offset::UTC.to_timestamp(date.to_datetime(jiff::civil::Time::midnight()));
        Self::of(Timestamp(moment.map_or(i64::MAX, jiff::Timestamp::as_millisecond)))
    }
}

impl JsonSchema for Day {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Day".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date" })
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.date())
    }
}

impl FromStr for Day {
    type Err = ParseDayError;

    fn from_str(text: &str) -> Result<Self, ParseDayError> {
        // jiff reads more forms than this one, such as a date with a time.
        let is_plain = text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        let date: jiff::civil::Date = text.parse().map_err(|_| ParseDayError)?;
        let day = Self::of_date(date);
        if is_plain && day.date() == date { Ok(day) } else { Err(ParseDayError) }
    }
}

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
        } else {
            u32::deserialize(deserializer).map(Self)
        }
    }
}

/// How much was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Events accepted.
    pub events: u64,
    /// Deliveries made: one for each rule that an event matched.
    pub deliveries: u64,
    /// Attempts that came back.
    pub attempts: u64,
    /// Attempts that arrived.
    pub delivered: u64,
}

impl Usage {
    /// Adds what else was used.
    pub const fn add(&mut self, more: &Self) {
        let Self { events, deliveries, attempts, delivered } = more;
        self.events = self.events.saturating_add(*events);
        self.deliveries = self.deliveries.saturating_add(*deliveries);
        self.attempts = self.attempts.saturating_add(*attempts);
        self.delivered = self.delivered.saturating_add(*delivered);
    }
}

/// What a workspace used in a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRow {
    pub workspace_id: WorkspaceId,
    pub day: Day,
    pub usage: Usage,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_months_are_utc() {
        #[rustfmt::skip]
        let cases = [
            // moment                      day           its month's first  the next month's
            ("1970-01-01T00:00:00Z",       "1970-01-01", "1970-01-01",      "1970-02-01"),
            ("2026-02-28T23:59:59.999Z",   "2026-02-28", "2026-02-01",      "2026-03-01"),
            ("2026-03-01T00:30:00+01:00",  "2026-02-28", "2026-02-01",      "2026-03-01"),
            ("2028-02-29T12:00:00Z",       "2028-02-29", "2028-02-01",      "2028-03-01"),
            ("2026-12-31T23:59:59Z",       "2026-12-31", "2026-12-01",      "2027-01-01"),
        ];
        for (moment, day, first, next) in cases {
            let found = Day::of(moment.parse().expect(moment));
            let all = [found, found.first_of_month(), found.first_of_next_month()];
            assert_eq!(all.map(|day| day.to_string()), [day, first, next], "{moment}");
            assert_eq!(day.parse::<Day>().expect(day), found);
            assert_eq!(Day::of(found.start()), found, "{moment}");
        }
        assert!(
            Day(u32::MAX).first_of_next_month() >= Day(DAY_LAST - 31),
            "the end of time has a month, too"
        );
    }

    #[test]
    fn only_plain_dates_are_dates() {
        for text in [
            "",
            "today",
            "2026-3-1",
            "2026-02-29",
            "2026-13-01",
            "20260301",
            "+002026-03-01",
            "2026-03-01T00:00",
            "1969-12-31",
            " 2026-03-01",
        ] {
            assert!(text.parse::<Day>().is_err(), "{text}");
        }
    }
}
