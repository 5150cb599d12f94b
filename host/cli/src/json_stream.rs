//! Converts a stream of JSON values to lines.

use std::io::{self, BufReader, Read};

use serde_json::value::RawValue;
use serde_json::{Deserializer, Error};

const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

/// A stream that cannot be read to its end: a read error, invalid JSON, or an array of values instead of the values.
#[derive(Debug, thiserror::Error)]
#[error("value {number} {what}; the values before it were read; correct it and start again")]
pub struct BrokenStream {
    /// The number of the value, from 1.
    number: u64,
    what: String,
}

/// Passes each value of the stream to `take` as one line, in order, until the stream ends or `take` returns false.
pub fn for_each_line(stream: impl Read, mut take: impl FnMut(String) -> bool) -> Result<(), BrokenStream> {
    let mut encoding = Encoding::default();
    let reader = BufReader::new(Watched { stream, encoding: &mut encoding });
    let mut values = Deserializer::from_reader(reader).into_iter::<Box<RawValue>>();
    let (mut number, mut broken) = (0, None);
    for value in &mut values {
        number += 1;
        match value {
            Ok(value) if value.get().starts_with('[') => {
                let what = "is a JSON array; supply the events one after another, as `jq -c '.[]' FILE` writes them";
                return Err(BrokenStream { number, what: what.to_owned() });
            }
            Ok(value) if take(one_line(value.get())) => {}
            Ok(_) => break,
            Err(error) => broken = Some(error),
        }
    }
    drop(values);
    broken.map_or(Ok(()), |error| Err(BrokenStream { number, what: what(&error, &encoding) }))
}

fn what(error: &Error, encoding: &Encoding) -> String {
    if error.is_io() {
        return format!("cannot be read: {error}");
    }
    let hint = if encoding.is_utf16() {
        ": the text is in UTF-16; convert it to UTF-8 with `iconv -f UTF-16 -t UTF-8 FILE`"
    } else if encoding.has_mark() {
        ": the text has a byte order mark (BOM); save it as UTF-8 without one, or remove it with `sed 's/\\xef\\xbb\\xbf//' FILE`"
    } else {
        ""
    };
    format!("is not valid JSON{hint}: {error}")
}

/// What the bytes of a stream reveal about its encoding.
#[derive(Default)]
struct Encoding {
    /// The first two bytes.
    first: Vec<u8>,
    /// The last two bytes, for a mark that is split between two reads.
    last: Vec<u8>,
    /// Whether there is a UTF-8 byte order mark anywhere: concatenated files may have one in the middle.
    marked: bool,
}

impl Encoding {
    fn see(&mut self, bytes: &[u8]) {
        self.first.extend(bytes.iter().take(2 - self.first.len().min(2)));
        self.last.extend(bytes.iter().take(2));
        self.marked |=
            [&self.last, bytes].into_iter().any(|bytes| bytes.windows(3).any(|three| three == BYTE_ORDER_MARK));
        if let [.., before, last] = bytes {
            self.last = vec![*before, *last];
        } else {
            let surplus = self.last.len().saturating_sub(2);
            self.last.drain(..surplus);
        }
    }

    /// Accepts an incomplete mark at the end: the parser stops at its first byte, so the others may not have been read.
    fn has_mark(&self) -> bool {
        self.marked || (1..=2).any(|read| self.last.ends_with(&BYTE_ORDER_MARK[..read]))
    }

    fn is_utf16(&self) -> bool {
        // The parser stops at the first byte, so the second may not have been read.
        matches!(self.first[..], [0xff, 0xfe] | [0xfe, 0xff] | [0xff | 0xfe])
    }
}

struct Watched<'encoding, R> {
    stream: R,
    encoding: &'encoding mut Encoding,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        self.encoding.see(&buffer[..read]);
        Ok(read)
    }
}

/// Returns the text of a JSON value without line breaks. A value on one line is unchanged; from others, the whitespace
/// between tokens is removed. Strings and numbers keep their text.
fn one_line(json: &str) -> String {
    // JSON strings contain no raw line breaks, so every line break is between tokens.
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
        let stream = "{\n  \"a b\": [1.50,\r\n 2],\n \"c\": \"x \\\" y\\\\\"\n}\n{\"d\" : 1}{\"e\":2}\n\n{ } \"s\" 4\n";
        let expected = [r#"{"a b":[1.50,2],"c":"x \" y\\"}"#, r#"{"d" : 1}"#, r#"{"e":2}"#, "{ }", r#""s""#, "4"];
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

    #[test]
    fn an_array_is_recognised() {
        let (read, error) = lines("{\"a\":1}\n[{\"b\":1}]");
        assert_eq!(read.len(), 1);
        let error = error.expect("an error");
        assert!(error.starts_with("value 2 is a JSON array") && error.contains("jq -c '.[]'"), "{error}");
    }

    #[test]
    fn byte_order_marks_are_recognised() {
        /// Returns one byte per read, as a slow pipe does.
        struct OneByOne<'bytes>(&'bytes [u8]);
        impl Read for OneByOne<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0.read(&mut buffer[..1])
            }
        }
        let utf16: Vec<u8> = [0xfeff].into_iter().chain("{}".encode_utf16()).flat_map(u16::to_le_bytes).collect();
        let cases: [(&[u8], &str); 4] = [
            ("\u{feff}{}".as_bytes(), "value 1 is not valid JSON: the text has a byte order mark"),
            ("{}\n\u{feff}{}".as_bytes(), "value 2 is not valid JSON: the text has a byte order mark"),
            (&utf16, "value 1 is not valid JSON: the text is in UTF-16"),
            (b"]", "value 1 is not valid JSON: expected"),
        ];
        for (bytes, start) in cases {
            for error in [for_each_line(bytes, |_| true), for_each_line(OneByOne(bytes), |_| true)] {
                let error = error.expect_err("not JSON").to_string();
                assert!(error.starts_with(start), "{error}");
            }
        }
        assert!(
            for_each_line("\"\u{feff}\"".as_bytes(), |_| true).is_ok(),
            "within a string the mark is an ordinary character"
        );
    }
}
