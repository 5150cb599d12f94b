use jiff::SignedDuration;
use jiff::civil::{Date, DateTime};

/// The error for a text that is not a point in time, or is outside the years 1 to 9999.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 date and time between the years 1 and 9999")]
pub struct InvalidTimestamp;

const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
/// Range of valid times in milliseconds since the epoch. Readers of the platform's events use calendars that support
/// only the years 1 to 9999, in UTC.
const CALENDAR_MS: std::ops::RangeInclusive<i64> = -62_135_596_800_000..=253_402_300_799_999;

/// Parses an RFC 3339 text into milliseconds since the epoch, rounded down. A text without a zone is in UTC.
pub fn parse_instant_ms(text: &str) -> Result<i64, InvalidTimestamp> {
    let parts = Parts::of(text).ok_or(InvalidTimestamp)?;
    let date: Date = parts.date.parse().map_err(|_| InvalidTimestamp)?;
    let days = date.duration_since(EPOCH.date()).as_hours() / 24;
    let minutes = (days * 24 + parts.hour) * 60 + parts.minute - parts.offset_minutes;
    let fraction_ms = parts.fraction.bytes().chain(std::iter::repeat(b'0')).take(3);
    let fraction_ms = fraction_ms.fold(0, |ms, digit| ms * 10 + i64::from(digit - b'0'));
    let ms = (minutes * 60 + parts.second) * 1000 + fraction_ms;
    if CALENDAR_MS.contains(&ms) { Ok(ms) } else { Err(InvalidTimestamp) }
}

/// The parts of a text of the form `YYYY-MM-DD`, then `T` or a space, `hh:mm`, optionally `:ss` and a fraction of any
/// length, optionally `Z` or an offset; or of the date alone. Parsers of date libraries accept more forms, but the
/// platform's readers do not, and they receive the text unchanged.
struct Parts<'a> {
    /// May be a day that does not exist.
    date: &'a str,
    hour: i64,
    minute: i64,
    second: i64,
    fraction: &'a str,
    offset_minutes: i64,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let (date, rest) = text.split_at_checked(10)?;
        let is_date = date.bytes().enumerate().all(|(place, byte)| match place {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
        let midnight = Self { date, hour: 0, minute: 0, second: 0, fraction: "", offset_minutes: 0 };
        if !is_date || rest.is_empty() {
            return is_date.then_some(midnight);
        }
        let (hour, rest) = number(rest.strip_prefix(['T', 't', ' '])?, 23)?;
        let (minute, rest) = number(rest.strip_prefix(':')?, 59)?;
        let (second, rest) = rest.strip_prefix(':').map_or(Some((0, rest)), |rest| number(rest, 59))?;
        let has_seconds = text.as_bytes().get(16) == Some(&b':');
        let (fraction, offset) = match rest.strip_prefix('.').filter(|_| has_seconds) {
            Some(rest) => rest.split_at(rest.bytes().take_while(u8::is_ascii_digit).count()),
            None => ("", rest),
        };
        if rest.starts_with('.') && fraction.is_empty() {
            return None;
        }
        Some(Self { hour, minute, second, fraction, offset_minutes: offset_minutes(offset)?, ..midnight })
    }
}

/// Parses two digits with a value of at most `max`. Returns the value and the rest of the text.
fn number(text: &str, max: i64) -> Option<(i64, &str)> {
    let (digits, rest) = text.split_at_checked(2)?;
    let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()?;
    (number <= max).then_some((number, rest))
}

fn offset_minutes(text: &str) -> Option<i64> {
    let (sign, text) = match text.split_at_checked(1) {
        None | Some(("Z" | "z", "")) => return Some(0),
        Some(("+", text)) => (1, text),
        Some(("-", text)) => (-1, text),
        Some(_) => return None,
    };
    let (hours, rest) = number(text, 23)?;
    let (minutes, rest) = number(rest.strip_prefix(':')?, 59)?;
    rest.is_empty().then_some(sign * (hours * 60 + minutes))
}

/// Formats milliseconds since the epoch as RFC 3339 with `Z`, and with a fraction only if it is not zero.
pub fn format_instant_ms(ms: i64) -> Result<String, InvalidTimestamp> {
    if !CALENDAR_MS.contains(&ms) {
        return Err(InvalidTimestamp);
    }
    let instant = EPOCH.checked_add(SignedDuration::from_millis(ms)).map_err(|_| InvalidTimestamp)?;
    Ok(format!("{instant}Z"))
}

/// Formats an RFC 3339 text as Python's `datetime.isoformat` does, with its original offset: `+00:00` instead of `Z`,
/// and a fraction of six digits unless it is zero.
pub(crate) fn isoformat(text: &str) -> Result<String, InvalidTimestamp> {
    parse_instant_ms(text)?;
    let (date, rest) = text.split_at(10);
    let (minutes, rest) = rest.get(1..).map_or(("00:00", ""), |time| time.split_at(5));
    let (seconds, rest) = if rest.starts_with(':') { rest.split_at(3) } else { (":00", rest) };
    let digits = rest.strip_prefix('.').map_or(0, |rest| rest.bytes().take_while(u8::is_ascii_digit).count());
    let (fraction, offset) = if digits > 0 { rest.split_at(1 + digits) } else { ("", rest.trim_start_matches('.')) };
    let micros: String = fraction.chars().skip(1).chain(std::iter::repeat('0')).take(6).collect();
    let fraction = if micros == "000000" { String::new() } else { format!(".{micros}") };
    let offset = if matches!(offset, "" | "Z" | "z" | "-00:00") { "+00:00" } else { offset };
    Ok(format!("{date}T{minutes}{seconds}{fraction}{offset}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_producers_write() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T00:00:01.5+00:00", 1500),
            ("1970-01-01T02:00:00+02:00", 0),
            ("1970-01-01T00:00:01.234567", 1234),
            ("1970-01-01 00:00:01", 1000),
            ("1970-01-01t00:01z", 60_000),
            ("1970-01-02", 86_400_000),
            ("1969-12-31T23:59:59.9999Z", -1),
            ("1970-01-01T00:00:01.1234567890123456789Z", 1123),
            ("0001-01-01T00:00:00Z", -62_135_596_800_000),
            ("0001-01-01T05:00:00+05:00", -62_135_596_800_000),
            ("9999-12-30T21:00:00-05:00", 253_402_214_400_000 + 2 * 3_600_000),
            ("9999-12-31T23:59:59Z", 253_402_300_799_000),
            ("9999-12-31T23:59:59.99999999999Z", 253_402_300_799_999),
            ("9999-12-31", 253_402_214_400_000),
            ("1970-01-02T23:59:00+23:59", 86_400_000),
        ] {
            assert_eq!(parse_instant_ms(text), Ok(ms), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_time() {
        for text in [
            "",
            "yesterday",
            "2026-02-30T00:00:00Z",
            "0000-01-01T00:00:00Z",
            "1700000000",
            "2026-03-02T09:15:01Z[UTC]",
            "20260302T091501Z",
            "+002026-03-02T09:15:01Z",
            "2026-03-02T09:15:01+01",
            "2026-03-02T09:15:60Z",
            "2026-03-02T09:15:01+25:30",
            "2026-03-02T09:15:01[Europe/Stockholm]",
            "2026-03-02T24:00:00Z",
            "2026-03-02T09:60:00Z",
            "2026-03-02T09:15:01.Z",
            "2026-03-02T09:15.5Z",
            "2026-03-02T09:15:01,5Z",
            "2026-03-02T09:15:01+01:60",
            "2026-03-02T09:15:01+0100",
            "2026-03-02T09:15:01Z ",
            "2026-03-02T",
            "2026-03-02Z",
            "2026-13-02",
            "2026-03-0２",
            "2026-03-02Tö9:15",
            "9999-12-31T23:59:59-00:01",
            "0001-01-01T00:00:00+00:01",
        ] {
            assert_eq!(parse_instant_ms(text), Err(InvalidTimestamp), "{text}");
        }
    }

    #[test]
    fn writes_what_python_writes() {
        for (text, expected) in [
            ("2026-03-02T09:15:01Z", "2026-03-02T09:15:01+00:00"),
            ("2026-03-02T09:15:01.5Z", "2026-03-02T09:15:01.500000+00:00"),
            ("2026-03-02T09:15:01.123456789Z", "2026-03-02T09:15:01.123456+00:00"),
            ("2026-03-02T09:15:01.0000009z", "2026-03-02T09:15:01+00:00"),
            ("2026-03-02T09:15:01.000000+02:00", "2026-03-02T09:15:01+02:00"),
            ("2026-03-02T09:15:01.000001-05:30", "2026-03-02T09:15:01.000001-05:30"),
            ("2026-03-02t09:15:01-00:00", "2026-03-02T09:15:01+00:00"),
            ("2026-03-02 09:15", "2026-03-02T09:15:00+00:00"),
            ("2026-03-02T09:15+01:00", "2026-03-02T09:15:00+01:00"),
            ("2026-03-02", "2026-03-02T00:00:00+00:00"),
            ("9999-12-31T23:59:59.1234567890123Z", "9999-12-31T23:59:59.123456+00:00"),
        ] {
            assert_eq!(isoformat(text).as_deref(), Ok(expected), "{text}");
        }
        assert_eq!(isoformat("tomorrow, early"), Err(InvalidTimestamp));
    }

    #[test]
    fn writes_a_fraction_only_where_there_is_one() {
        assert_eq!(format_instant_ms(0).as_deref(), Ok("1970-01-01T00:00:00Z"));
        assert_eq!(format_instant_ms(1500).as_deref(), Ok("1970-01-01T00:00:01.5Z"));
        assert_eq!(format_instant_ms(253_402_300_799_999).as_deref(), Ok("9999-12-31T23:59:59.999Z"));
        assert_eq!(format_instant_ms(-62_135_596_800_000).as_deref(), Ok("0001-01-01T00:00:00Z"));
        for ms in [i64::MAX, i64::MIN, 253_402_300_800_000, -62_135_596_800_001] {
            assert_eq!(format_instant_ms(ms), Err(InvalidTimestamp), "{ms}");
        }
    }
}
