use std::ops::Range;

use serde_json::value::RawValue;

use crate::JsonLimit;
use crate::decimal::write_number;
use crate::json_limits::MAX_JSON_DEPTH;
use crate::json_tokens::{Token, Tokens, unescaped};

/// Returns the canonical form of a JSON text. Two texts have the same canonical form if and only if they are equal:
/// numbers have exactly the same value, and objects have the same fields in any order. If a name occurs twice in an
/// object, the last value counts.
///
/// This is the canonical form of RFC 8785, except that numbers that RFC 8785 would round keep all their digits.
pub fn canonical_json(json: &RawValue) -> Result<String, JsonLimit> {
    canonical_without(json.get(), &[])
}

/// Returns the canonical form of `json`, which must follow JSON's grammar, without the fields `omitted` of the
/// outermost object.
pub(crate) fn canonical_without(json: &str, omitted: &[&str]) -> Result<String, JsonLimit> {
    let mut writer = Writer { tokens: Tokens::of(json), depth: 0, out: String::with_capacity(json.len()) };
    writer.value(omitted)?;
    Ok(writer.out)
}

struct Writer<'a> {
    tokens: Tokens<'a>,
    depth: usize,
    out: String,
}

impl Writer<'_> {
    /// Writes the next value. Returns false at the end of the enclosing array.
    fn value(&mut self, omitted: &[&str]) -> Result<bool, JsonLimit> {
        match self.tokens.next() {
            None | Some(Token::End) => return Ok(false),
            Some(Token::Number(number)) => write_number(number, &mut self.out),
            Some(Token::Word(word)) => self.out.push_str(word),
            Some(Token::Text(text)) => self.text(text)?,
            Some(Token::Array | Token::Object) if self.depth == MAX_JSON_DEPTH => {
                return Err(JsonLimit::Depth(MAX_JSON_DEPTH));
            }
            Some(opened) => {
                self.depth += 1;
                if opened == Token::Array {
                    self.array()?
                } else {
                    self.object(omitted)?
                }
                self.depth -= 1;
            }
        }
        Ok(true)
    }

    fn array(&mut self) -> Result<(), JsonLimit> {
        self.out.push('[');
        let start = self.out.len() - 1;
        while self.value(&[])? {
            self.out.push(',');
        }
        self.close(start, ']');
        Ok(())
    }

    /// Closes the array or object that begins at `start`. Each of its elements is followed by a comma.
    fn close(&mut self, start: usize, bracket: char) {
        if self.out.len() > start + 1 {
            self.out.pop();
        }
        self.out.push(bracket);
    }

    fn object(&mut self, omitted: &[&str]) -> Result<(), JsonLimit> {
        let start = self.out.len();
        let mut fields: Vec<(String, Range<usize>)> = Vec::new();
        while let Some(Token::Text(text)) = self.tokens.next() {
            let field = self.out.len();
            self.text(text)?;
            self.out.push(':');
            self.value(&[])?;
            let name = unescaped(text).ok_or(JsonLimit::Surrogate)?.into_owned();
            fields.push((name, field - start..self.out.len() - start));
        }
        let written = self.out.split_off(start);
        // The last of the fields with the same name now comes first, and is kept.
        fields.reverse();
        fields.sort_by(|(one, _), (other, _)| one.encode_utf16().cmp(other.encode_utf16()));
        fields.dedup_by(|(later, _), (earlier, _)| later == earlier);
        self.out.push('{');
        for (_, place) in fields.into_iter().filter(|(name, _)| !omitted.contains(&name.as_str())) {
            self.out.extend([&written[place], ","]);
        }
        self.close(start, '}');
        Ok(())
    }

    /// Writes a string. RFC 8785 escapes only what JSON requires, and so does `serde_json`.
    fn text(&mut self, text: &str) -> Result<(), JsonLimit> {
        if text.contains('\\') {
            let said = unescaped(text).ok_or(JsonLimit::Surrogate)?;
            self.out.push_str(&serde_json::to_string(&said).expect("a string always serializes to JSON"));
        } else {
            self.out.push_str(text);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(json: &str) -> String {
        canonical_json(serde_json::from_str(json).expect("JSON")).expect("within the limits")
    }

    #[test]
    fn what_says_the_same_becomes_the_same() {
        let expected = r#"{"":[],"a":[1,"x",{}],"b":{"c":true,"d":null},"ö":"\n/\"é"}"#;
        for json in [
            r#"{"a":[1.0,"x",{}],"b":{"d":null,"c":true},"ö":"\n\/\"\u00e9","":[]}"#,
            r#" { "\u00f6" : "\u000a/\u0022é", "b":{"c":1,"d":null,"c":true}, "": [ ] , "a":[ 10e-1 , "x", { } ] } "#,
        ] {
            assert_eq!(canonical(json), expected);
        }
        assert_eq!(
            canonical(r#"{"\ue000":1,"\ud83d\ude00":2}"#),
            "{\"😀\":2,\"\u{e000}\":1}",
            "sorted by UTF-16 code units"
        );
        assert_eq!(canonical(" -0.0 "), "0");
    }

    #[test]
    fn what_is_beyond_the_limits_is_named() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let limit = |json: &str| canonical_json(serde_json::from_str(json).expect("JSON")).err();
        assert_eq!(limit(&nested(MAX_JSON_DEPTH)), None);
        assert_eq!(limit(&nested(MAX_JSON_DEPTH + 1)), Some(JsonLimit::Depth(MAX_JSON_DEPTH)));
        assert_eq!(limit(r#"{"\ud800":1}"#), Some(JsonLimit::Surrogate));
    }
}
