use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

/// A text that is no point in time, or one outside the years 1 to 9999.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 date and time between the years 1 and 9999")]
pub struct InvalidTimestamp;

/// Read an RFC 3339 text as milliseconds since the epoch, rounded down. Without a zone it is UTC.
pub fn parse_instant_ms(text: &str) -> Result<i64, InvalidTimestamp> {
    if !has_shape(text.as_bytes()) {
        return Err(InvalidTimestamp);
    }
    let instant = match text.parse::<Timestamp>() {
        Ok(instant) => instant,
        Err(_) => text
            .parse::<DateTime>()
            .and_then(|civil| civil.to_zoned(TimeZone::UTC))
            .map_err(|_| InvalidTimestamp)?
            .timestamp(),
    };
    let ms = instant.as_nanosecond().div_euclid(1_000_000);
    in_calendar(i64::try_from(ms).map_err(|_| InvalidTimestamp)?).map(|_| ms as i64)
}

/// `YYYY-MM-DD`, then `T` or a space, `hh:mm`, perhaps `:ss` and a fraction, perhaps `Z` or an offset; or the date alone.
/// The parser takes more than that, but the platform's readers do not, and the text goes on to them as it is.
fn has_shape(text: &[u8]) -> bool {
    let digits = |from: usize, count: usize| {
        text.get(from..from + count).is_some_and(|part| part.iter().all(u8::is_ascii_digit))
    };
    let is = |place: usize, allowed: &[u8]| text.get(place).is_some_and(|byte| allowed.contains(byte));
    if !(digits(0, 4) && is(4, b"-") && digits(5, 2) && is(7, b"-") && digits(8, 2)) {
        return false;
    }
    if text.len() == 10 {
        return true;
    }
    if !(is(10, b"Tt ") && digits(11, 2) && is(13, b":") && digits(14, 2)) {
        return false;
    }
    let mut end = 16;
    if is(end, b":") {
        if !digits(17, 2) || text[17] > b'5' {
            return false;
        }
        end = 19;
        if is(end, b".") {
            end += 1 + text[20..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        }
    }
    match &text[end..] {
        [] | [b'Z' | b'z'] => true,
        [b'+' | b'-', hours @ ..] => {
            let shape = text.len() == end + 6 && digits(end + 1, 2) && is(end + 3, b":") && digits(end + 4, 2);
            shape && hours[..2] < b"24"[..]
        }
        _ => false,
    }
}

/// Write milliseconds since the epoch as RFC 3339 with `Z`, with a fraction only where it is not zero.
pub fn format_instant_ms(ms: i64) -> Result<String, InvalidTimestamp> {
    in_calendar(ms).map(|instant| instant.to_string())
}

/// Write an RFC 3339 text as Python's `datetime.isoformat` does, with the offset that it has: `+00:00` rather than `Z`, and
/// a fraction of six digits, unless it is zero.
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

/// Readers of the platform's events keep times in calendars that know the years 1 to 9999 only.
fn in_calendar(ms: i64) -> Result<Timestamp, InvalidTimestamp> {
    let instant = Timestamp::from_millisecond(ms).map_err(|_| InvalidTimestamp)?;
    match instant.to_zoned(TimeZone::UTC).year() {
        1..=9999 => Ok(instant),
        _ => Err(InvalidTimestamp),
    }
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
        ] {
            assert_eq!(isoformat(text).as_deref(), Ok(expected), "{text}");
        }
        assert_eq!(isoformat("tomorrow, early"), Err(InvalidTimestamp));
    }

    #[test]
    fn writes_a_fraction_only_where_there_is_one() {
        assert_eq!(format_instant_ms(0).as_deref(), Ok("1970-01-01T00:00:00Z"));
        assert_eq!(format_instant_ms(1500).as_deref(), Ok("1970-01-01T00:00:01.5Z"));
        assert_eq!(format_instant_ms(i64::MAX), Err(InvalidTimestamp));
    }
}
