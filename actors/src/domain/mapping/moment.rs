//! Days and instants, as payloads write them and as destinations read them.

use super::transform::spelled_number;
use crate::domain::payload::Json;
use jiff::{
    Timestamp,
    civil::Date,
    tz::{Offset, TimeZone},
};

/// Numbers nearer to 0 are seconds, others milliseconds.
const SECONDS_BELOW: i128 = 100_000_000_000;
/// Digits before the point that make a string an epoch time: one with eight may be a day without dashes.
const EPOCH_DIGITS_MIN: usize = 9;
/// Digits that are looked at: a nanosecond of any year has fewer.
const DIGITS_MAX: usize = 30;
const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// What a value says about time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    Day(Date),
    /// And how far ahead of UTC the clock was that it was read from.
    Instant(Timestamp, Offset),
}

impl Moment {
    /// Understands a string or a number, by the table above in the module.
    pub fn read(value: &Json<'_>) -> Option<Self> {
        match value {
            Json::Number(digits) => epoch(digits),
            Json::String(text) => {
                let text = text.trim();
                day(text).or_else(|| instant(text)).or_else(|| epoch_text(text))
            }
            _ => None,
        }
    }

    /// `2026-03-15`, as a calendar in that zone shows it.
    pub fn to_date(self, zone: Option<&TimeZone>) -> Option<String> {
        let day = match self {
            Self::Day(day) => day,
            Self::Instant(instant, own) => {
                zone.map_or_else(|| own.to_datetime(instant), |zone| zone.to_datetime(instant)).date()
            }
        };
        (day.year() >= 0).then(|| day.to_string())
    }

    /// `2026-03-15T13:00:00+01:00`, as a clock in that zone shows it.
    pub fn to_datetime(self, zone: Option<&TimeZone>) -> Option<String> {
        let (instant, offset) = match self {
            Self::Day(day) => {
                // Where clocks skip midnight the day starts at the first time there is.
                let utc = TimeZone::UTC;
                let zone = zone.unwrap_or(&utc);
                let start = zone.to_timestamp(day.at(0, 0, 0, 0)).ok()?;
                (start, zone.to_offset(start))
            }
            Self::Instant(instant, own) => (instant, zone.map_or(own, |zone| zone.to_offset(instant))),
        };
        rfc3339(instant, offset)
    }
}

/// RFC 3339 has no seconds in offsets, which zones had until about 1900: they are cut off, and the
/// instant stays the same.
fn rfc3339(instant: Timestamp, offset: Offset) -> Option<String> {
    let offset = Offset::from_seconds(offset.seconds() / 60 * 60).ok()?;
    if offset.to_datetime(instant).year() < 0 {
        return None;
    }
    let is_utc = offset == Offset::UTC;
    Some(if is_utc { instant.to_string() } else { instant.display_with_offset(offset).to_string() })
}

/// `YYYY-MM-DD`, and nothing else that a date may look like.
fn day(text: &str) -> Option<Moment> {
    if has_shape(text, "0000-00-00") { text.parse().ok().map(Moment::Day) } else { None }
}

/// RFC 3339: `T` and `Z` in any case, or a space for the `T`; the sixtieth second is the one before.
fn instant(text: &str) -> Option<Moment> {
    const CLOCK: &str = "0000-00-00T00:00:00";
    let (clock, rest) = text.split_at_checked(CLOCK.len())?;
    let offset = match rest.strip_prefix('.') {
        Some(fraction) => fraction.trim_start_matches(|digit: char| digit.is_ascii_digit()),
        None => rest,
    };
    let offset = offset_of(offset)?;
    if !has_shape(clock, CLOCK) {
        return None;
    }
    text.parse().ok().map(|instant| Moment::Instant(instant, offset))
}

/// `Z` or `+01:00`, within a day.
fn offset_of(text: &str) -> Option<Offset> {
    if matches!(text, "Z" | "z") {
        return Some(Offset::UTC);
    }
    if !has_shape(text, "+00:00") {
        return None;
    }
    let number = |from: usize| text.get(from..from + 2)?.parse::<i32>().ok();
    let (hours, minutes) = (number(1)?, number(4)?);
    let seconds = (hours * 60 + minutes) * 60;
    let is_offset = hours < 24 && minutes < 60;
    if is_offset {
        Offset::from_seconds(if text.starts_with('-') { -seconds } else { seconds }).ok()
    } else {
        None
    }
}

/// Whether it is as long as the shape, with digits for its zeros, `T`, `t` or a space for its `T`, and
/// either sign for its plus.
fn has_shape(text: &str, shape: &str) -> bool {
    let fits = |(byte, shape): (u8, u8)| match shape {
        b'0' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b't' | b' '),
        b'+' => matches!(byte, b'+' | b'-'),
        _ => byte == shape,
    };
    text.len() == shape.len() && text.bytes().zip(shape.bytes()).all(fits)
}

fn epoch_text(text: &str) -> Option<Moment> {
    let digits = spelled_number(text)?;
    let whole = digits.trim_start_matches('-').bytes().take_while(u8::is_ascii_digit).count();
    if whole >= EPOCH_DIGITS_MIN { epoch(digits) } else { None }
}

/// Seconds or milliseconds since 1970, by how many they are.
fn epoch(digits: &str) -> Option<Moment> {
    let billionths = billionths(digits)?;
    let is_seconds = billionths.abs() < SECONDS_BELOW * NANOS_PER_SECOND;
    let nanos = if is_seconds { billionths } else { billionths / 1_000 };
    Timestamp::from_nanosecond(nanos).ok().map(|instant| Moment::Instant(instant, Offset::UTC))
}

/// A JSON number times a billion, exactly; what is smaller than that is cut off.
fn billionths(number: &str) -> Option<i128> {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_negative = whole.starts_with('-');
    let digits = format!("{}{fraction}", whole.trim_start_matches('-'));
    let digits = digits.trim_start_matches('0');
    let (seen, unseen) = digits.split_at(digits.len().min(DIGITS_MAX));
    if seen.is_empty() {
        return Some(0);
    }
    let scale = exponent.parse::<i64>().ok()?;
    let scale = scale.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    let scale = scale.checked_add(i64::try_from(unseen.len()).ok()?)?.checked_add(9)?;
    let seen: i128 = seen.parse().ok()?;
    let power = u32::try_from(scale.unsigned_abs()).ok().and_then(|power| 10_i128.checked_pow(power));
    let size = match power {
        Some(power) if scale >= 0 => seen.checked_mul(power)?,
        Some(power) => seen / power,
        None if scale >= 0 => return None,
        None => 0,
    };
    Some(if is_negative { -size } else { size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_scaled_exactly() {
        let long = format!("1.{}", "9".repeat(1_000));
        #[rustfmt::skip]
        let cases = [
            ("0",                        Some(0)),
            ("-0.0e99999999999999999",   Some(0)),
            ("1",                        Some(1_000_000_000)),
            ("-1.5",                     Some(-1_500_000_000)),
            ("1700000000.123456789",     Some(1_700_000_000_123_456_789)),
            ("1.7e9",                    Some(1_700_000_000_000_000_000)),
            ("17000E-1",                 Some(1_700_000_000_000)),
            ("0.0000000019",             Some(1)),
            ("1e-400",                   Some(0)),
            (long.as_str(),              Some(1_999_999_999)),
            ("1e29",                     Some(100_000_000_000_000_000_000_000_000_000_000_000_000)),
            ("1e30",                     None),
            ("1e400",                    None),
            ("1e9223372036854775807",    None),
            ("1e9223372036854775808",    None),
            ("-1e-9223372036854775808", Some(0)),
        ];
        for (number, expected) in cases {
            assert_eq!(billionths(number), expected, "{number}");
        }
    }
}
