use serde_json::value::RawValue;

use crate::json_tokens::{Token, Tokens, unescaped};

/// Maximum nesting depth of arrays and objects in JSON from outside.
pub const MAX_JSON_DEPTH: usize = 127;

/// The reason why a text is rejected although it follows JSON's grammar.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonLimit {
    /// Arrays and objects are nested too deeply.
    #[error("nested more than {0} levels deep, which is the limit")]
    Depth(usize),
    /// A number that readers would parse as infinity.
    #[error("a number is beyond the limit of ±1.7976931348623157e308, that of 64-bit floating point")]
    Number,
    /// An unpaired surrogate. The grammar allows it, but no Unicode text contains it.
    #[error("a string has an unpaired surrogate (\\ud800 to \\udfff), which is not a character")]
    Surrogate,
}

/// Checks that JSON is within the limits of [`JsonLimit`].
pub(crate) fn check_limits(json: &RawValue, max_depth: usize) -> Result<(), JsonLimit> {
    let mut depth: usize = 0;
    for token in Tokens::of(json.get()) {
        match token {
            Token::Object | Token::Array if depth == max_depth => return Err(JsonLimit::Depth(max_depth)),
            Token::Object | Token::Array => depth += 1,
            Token::End => depth = depth.saturating_sub(1),
            Token::Number(number) if !number.parse().is_ok_and(f64::is_finite) => return Err(JsonLimit::Number),
            Token::Text(text) if unescaped(text).is_none() => return Err(JsonLimit::Surrogate),
            Token::Number(_) | Token::Text(_) | Token::Word(_) => {}
        }
    }
    Ok(())
}
