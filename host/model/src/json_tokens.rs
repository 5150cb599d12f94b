use std::borrow::Cow;

/// A JSON token. Commas and colons are skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    Object,
    Array,
    /// The end of the object or array that was opened last.
    End,
    /// A string with its quotation marks and escapes.
    Text(&'a str),
    Number(&'a str),
    /// `true`, `false` or `null`.
    Word(&'a str),
}

/// Iterator over the tokens of a text that follows JSON's grammar, such as the text of a `RawValue`.
pub(crate) struct Tokens<'a>(&'a str);

impl<'a> Tokens<'a> {
    pub(crate) fn of(json: &'a str) -> Self {
        Self(json)
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let text = self.0.trim_start_matches([' ', '\t', '\n', '\r', ',', ':']);
        let length_while = |belongs: fn(&u8) -> bool| text.bytes().take_while(belongs).count().max(1);
        let (length, token): (usize, fn(&'a str) -> Token<'a>) = match text.bytes().next()? {
            b'{' => (1, |_| Token::Object),
            b'[' => (1, |_| Token::Array),
            b'}' | b']' => (1, |_| Token::End),
            b'"' => (text_length(text.as_bytes()), Token::Text),
            b'-' | b'0'..=b'9' => {
                (length_while(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')), Token::Number)
            }
            _ => (length_while(u8::is_ascii_lowercase), Token::Word),
        };
        let (token_text, rest) = text.split_at_checked(length)?;
        self.0 = rest;
        Some(token(token_text))
    }
}

/// Returns the length of the string at the start of `text`, including both quotation marks.
fn text_length(text: &[u8]) -> usize {
    let mut end = 1;
    while let Some(byte) = text.get(end) {
        match byte {
            b'"' => return end + 1,
            b'\\' => end += 2,
            _ => end += 1,
        }
    }
    text.len()
}

/// Returns the value of a string, or `None` if it has an unpaired surrogate.
pub(crate) fn unescaped(text: &str) -> Option<Cow<'_, str>> {
    if text.contains('\\') {
        serde_json::from_str(text).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(text.trim_matches('"')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_one_after_another() {
        let tokens: Vec<_> = Tokens::of("{ \"a\\\"\\\\\" :[-1.5e+3,true , {}],\"ö{\":null}").collect();
        let expected = [
            Token::Object,
            Token::Text(r#""a\"\\""#),
            Token::Array,
            Token::Number("-1.5e+3"),
            Token::Word("true"),
            Token::Object,
            Token::End,
            Token::End,
            Token::Text("\"ö{\""),
            Token::Word("null"),
            Token::End,
        ];
        assert_eq!(tokens, expected);
    }
}
