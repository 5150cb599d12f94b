use std::str::FromStr;

use belfry_model::parse_instant_ms;

/// Where reading starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// At the oldest record that exists.
    Earliest,
    /// After the newest record.
    Latest,
    /// At the first record that is not older than this time, in milliseconds since the epoch.
    Time(i64),
}

/// The error for a text that is not a start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be earliest, latest or an RFC 3339 time such as 2026-03-02T09:15:01Z")]
pub struct InvalidStart;

impl FromStr for StartAt {
    type Err = InvalidStart;

    fn from_str(text: &str) -> Result<Self, InvalidStart> {
        match text {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            time => parse_instant_ms(time).map(Self::Time).map_err(|_| InvalidStart),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_a_word_or_a_time() {
        assert_eq!("earliest".parse(), Ok(StartAt::Earliest));
        assert_eq!("latest".parse(), Ok(StartAt::Latest));
        assert_eq!("1970-01-01T00:00:01.5Z".parse(), Ok(StartAt::Time(1500)));
        for text in ["", "Latest", "yesterday", "12"] {
            assert_eq!(text.parse::<StartAt>(), Err(InvalidStart), "{text}");
        }
    }
}
