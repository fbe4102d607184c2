//! A moment, in milliseconds since 1970 UTC: what the store keeps and the wire shows.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

/// Milliseconds since the Unix epoch, UTC. In JSON an RFC 3339 string with
/// milliseconds (`2026-03-15T12:00:00.000Z`); in binary formats the number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// The text is not an RFC 3339 timestamp.
#[derive(Debug, thiserror::Error)]
#[error("not an RFC 3339 timestamp, such as 2026-03-15T12:00:00Z")]
pub struct ParseTimestampError;

impl Timestamp {
    /// Later by `span`, stopping at the end of time.
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }

    /// Earlier by `span`.
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(millis(span)))
    }

    /// How long from `earlier` until now; zero if `earlier` is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Eight bytes that sort as the moments do. Times before 1970 sort as 1970.
    pub fn to_be_bytes(self) -> [u8; 8] {
        self.as_unsigned().to_be_bytes()
    }

    /// The reverse of [`Self::to_be_bytes`].
    pub fn from_be_bytes(bytes: [u8; 8]) -> Self {
        Self(i64::try_from(u64::from_be_bytes(bytes)).unwrap_or(i64::MAX))
    }

    /// Milliseconds, never negative.
    pub fn as_unsigned(self) -> u64 {
        u64::try_from(self.0).unwrap_or(0)
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = jiff::Timestamp::from_millisecond(self.0).unwrap_or(jiff::Timestamp::MAX);
        write!(f, "{moment:.3}")
    }
}

impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let moment: jiff::Timestamp = text.parse().map_err(|_| ParseTimestampError)?;
        Ok(Self(moment.as_millisecond()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl JsonSchema for Timestamp {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
        } else {
            i64::deserialize(deserializer).map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_rfc_3339() {
        for (ms, text) in [(0, "1970-01-01T00:00:00.000Z"), (1_773_576_000_123, "2026-03-15T12:00:00.123Z")] {
            assert_eq!(Timestamp(ms).to_string(), text);
            assert_eq!(text.parse::<Timestamp>().expect(text), Timestamp(ms));
        }
        assert!("yesterday".parse::<Timestamp>().is_err());
    }

    #[test]
    fn its_bytes_sort_as_time_does() {
        let moments = [-5, 0, 1, 255, 256, 1_773_576_000_123, i64::MAX].map(|ms| Timestamp(ms).to_be_bytes());
        assert!(moments.is_sorted());
        assert_eq!(Timestamp::from_be_bytes(moments[5]), Timestamp(1_773_576_000_123));
    }
}
