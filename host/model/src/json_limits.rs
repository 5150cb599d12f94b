use serde_json::value::RawValue;

use crate::json_tokens::{Token, Tokens, unescaped};

/// How many arrays and objects within one another are read in JSON of others.
pub const MAX_JSON_DEPTH: usize = 127;

/// Why a text that follows JSON's grammar is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonLimit {
    /// Arrays and objects within one another.
    #[error("nested more than {0} levels deep, which is the limit")]
    Depth(usize),
    /// A number that readers would take for infinity.
    #[error("a number is beyond the limit of ±1.7976931348623157e308, that of 64-bit floating point")]
    Number,
    /// The grammar allows it, and no text has it.
    #[error("a string has half of a surrogate pair (\\ud800 to \\udfff), which is no character")]
    Surrogate,
}

/// Look for what is beyond the limits of what is read.
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
