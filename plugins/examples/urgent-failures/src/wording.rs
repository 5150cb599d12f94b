use serde_json::{Map, Value};

use crate::FailedBatch;

/// Fills in the placeholders `{batch_id}`, `{failed}`, `{total}` and `{completed}`. Other braces are ordinary
/// characters.
///
/// One pass from left to right, so that a batch id that contains a placeholder is not filled in again.
pub(crate) fn fill(wording: &str, batch: &FailedBatch) -> String {
    let mut filled = String::with_capacity(wording.len());
    let mut rest = wording;
    while let Some((before, from_brace)) = rest.split_once('{') {
        filled.push_str(before);
        let placeholder = from_brace.split_once('}').and_then(|(name, after)| Some((batch.placeholder(name)?, after)));
        rest = match placeholder {
            Some((value, after)) => {
                filled.push_str(&value);
                after
            }
            None => {
                filled.push('{');
                from_brace
            }
        };
    }
    filled.push_str(rest);
    filled
}

/// Returns the payload with another message. All other fields keep their values and their order.
pub(crate) fn with_message(payload: &str, message: &str) -> Map<String, Value> {
    let mut fields: Map<String, Value> = serde_json::from_str(payload).expect("the base rule writes JSON objects");
    fields.insert("message".to_owned(), message.into());
    fields
}
