//! Times and durations as command arguments.

use std::str::FromStr;
use std::time::Duration;

use belfry_model::{format_instant_ms, parse_instant_ms};
use belfry_store::now_ms;

/// A duration, such as `90s`, `30m`, `12h` or `7d`; at most a century.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const WRONG: &str = "must be a duration, such as 90s, 30m, 12h or 7d";
        let unit = text.chars().next_back().ok_or(WRONG)?;
        let seconds: u64 = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return Err(WRONG),
        };
        let number: u64 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| WRONG)?;
        // A century is practically unlimited.
        let span = number.checked_mul(seconds).filter(|seconds| *seconds <= 100 * 366 * 86_400).ok_or(WRONG)?;
        Ok(Self(Duration::from_secs(span)))
    }
}

/// A point in time, absolute or relative to the current time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Milliseconds since the Unix epoch.
    At(i64),
    /// This duration before the current time.
    Ago(Duration),
}

impl FromStr for When {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const WRONG: &str =
            "must be a time, such as 2026-03-02T09:15:00Z, or a duration before now, such as 90s, 30m, 12h or 7d";
        if let Ok(ms) = parse_instant_ms(text) {
            return Ok(Self::At(ms));
        }
        text.parse().map(|Span(ago)| Self::Ago(ago)).map_err(|_| WRONG)
    }
}

impl When {
    /// Returns the time in the API's format, RFC 3339.
    pub fn written(self) -> anyhow::Result<String> {
        self.written_at(now_ms())
    }

    /// Returns the time in milliseconds since the Unix epoch.
    pub fn ms(self) -> i64 {
        self.ms_at(now_ms())
    }

    fn ms_at(self, now_ms: i64) -> i64 {
        match self {
            Self::At(ms) => ms,
            Self::Ago(ago) => now_ms - i64::try_from(ago.as_millis()).unwrap_or(i64::MAX),
        }
    }

    fn written_at(self, now_ms: i64) -> anyhow::Result<String> {
        format_instant_ms(self.ms_at(now_ms)).map_err(|error| anyhow::anyhow!("a time is {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_given_or_counted_back() {
        assert_eq!("7d".parse(), Ok(When::Ago(Duration::from_secs(7 * 86_400))));
        assert_eq!("90s".parse(), Ok(When::Ago(Duration::from_secs(90))));
        assert_eq!("1970-01-01T00:00:01Z".parse(), Ok(When::At(1000)));
        for text in ["", "7", "d", "7w", "-7d", "yesterday", "99999999999d", "7ü"] {
            assert!(text.parse::<When>().is_err(), "{text}");
        }
        assert_eq!(When::Ago(Duration::from_secs(1)).written_at(2000).expect("a time"), "1970-01-01T00:00:01Z");
    }
}
