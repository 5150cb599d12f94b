use std::collections::HashMap;

use serde_json::value::RawValue;

/// Returns the text of the number at an RFC 6901 pointer. A `Value` would round a number that fits no machine type.
pub(crate) fn number_text<'a>(json: &'a str, pointer: &str) -> Option<&'a str> {
    let mut found = json;
    for part in pointer.split('/').skip(1) {
        let name = part.replace("~1", "/").replace("~0", "~");
        let inner: &RawValue = if found.trim_start().starts_with('[') {
            let items: Vec<&RawValue> = serde_json::from_str(found).ok()?;
            items.get(name.parse::<usize>().ok()?).copied()?
        } else {
            // If a name occurs twice, the last value counts, as everywhere.
            let mut fields: HashMap<String, &RawValue> = serde_json::from_str(found).ok()?;
            fields.remove(&name)?
        };
        found = inner.get();
    }
    let found = found.trim();
    found.starts_with(|first: char| first == '-' || first.is_ascii_digit()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_keeps_its_text() {
        let json = r#" {"a":1,"a":[0,{"b/c":12345678901234567890.10}],"t":"7"} "#;
        assert_eq!(number_text(json, "/a/1/b~1c"), Some("12345678901234567890.10"));
        assert_eq!(number_text(json, "/t"), None);
        assert_eq!(number_text(json, "/a/2"), None);
        assert_eq!(number_text("-7.0", ""), Some("-7.0"));
    }
}
