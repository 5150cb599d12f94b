//! A stream of JSON values, made into lines.

use std::io::{BufReader, Read};

use serde_json::value::RawValue;
use serde_json::{Deserializer, Error};

/// A stream that ends in something else than JSON.
#[derive(Debug, thiserror::Error)]
#[error("value {number} {what}: {error}; what stands before it is read, correct it and start again")]
pub struct BrokenStream {
    /// Which value, from 1.
    number: u64,
    what: &'static str,
    error: Error,
}

/// Hand each value of the stream over as one line, in order, until there are no more or `take` says that it wants no
/// more.
pub fn for_each_line(stream: impl Read, mut take: impl FnMut(String) -> bool) -> Result<(), BrokenStream> {
    let values = Deserializer::from_reader(BufReader::new(stream)).into_iter::<Box<RawValue>>();
    for (number, value) in (1..).zip(values) {
        let value = value.map_err(|error| {
            let what = if error.is_io() { "cannot be read" } else { "is not valid JSON" };
            BrokenStream { number, what, error }
        })?;
        if !take(one_line(value.get())) {
            break;
        }
    }
    Ok(())
}

/// The text of a JSON value without line ends. A value on one line is kept exactly as it is; of others the whitespace
/// between the tokens goes. Strings and numbers keep the text they have.
fn one_line(json: &str) -> String {
    // Within strings JSON has no raw line ends, so these are between tokens.
    if !json.contains(['\n', '\r']) {
        return json.to_owned();
    }
    let (mut in_string, mut escaped) = (false, false);
    json.chars()
        .filter(|letter| {
            if in_string {
                match letter {
                    _ if escaped => escaped = false,
                    '\\' => escaped = true,
                    '"' => in_string = false,
                    _ => {}
                }
                return true;
            }
            in_string = *letter == '"';
            !matches!(letter, ' ' | '\t' | '\n' | '\r')
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(stream: &str) -> (Vec<String>, Option<String>) {
        let mut lines = Vec::new();
        let read = for_each_line(stream.as_bytes(), |line| {
            lines.push(line);
            true
        });
        (lines, read.err().map(|error| error.to_string()))
    }

    #[test]
    fn values_may_be_pretty_or_concatenated() {
        let stream =
            "{\n  \"a b\": [1.50,\r\n 2],\n \"c\": \"x \\\" y\\\\\"\n}\n{\"d\" : 1}{\"e\":2}\n\n[ 3 ] \"s\" 4\n";
        let expected = [r#"{"a b":[1.50,2],"c":"x \" y\\"}"#, r#"{"d" : 1}"#, r#"{"e":2}"#, "[ 3 ]", r#""s""#, "4"];
        assert_eq!(lines(stream), (expected.map(str::to_owned).to_vec(), None));
        assert_eq!(lines(" \n"), (Vec::new(), None));
    }

    #[test]
    fn what_stands_before_the_error_is_read() {
        let (read, error) = lines("{\"a\":1}\n{\"b\":1}\n{\"c\":");
        assert_eq!(read.len(), 2);
        let error = error.expect("an error");
        assert!(error.starts_with("value 3 is not valid JSON"), "{error}");
    }

    #[test]
    fn reading_stops_when_nobody_wants_more() {
        let mut taken = 0;
        for_each_line("1 2 3 not JSON".as_bytes(), |_| {
            taken += 1;
            taken < 2
        })
        .expect("the rest is not read");
        assert_eq!(taken, 2);
    }
}
