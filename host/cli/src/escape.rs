//! Escapes text from external sources for display in a terminal.

/// Returns a text in which all characters are escaped that a terminal would act upon or that hide other text: control
/// characters, line breaks and direction marks.
pub fn escape(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\r' | '\t' => shown.extend(letter.escape_default()),
            _ if letter.is_control() || is_hidden_mark(letter) => shown.extend(letter.escape_unicode()),
            _ => shown.push(letter),
        }
    }
    shown
}

/// Returns true for line and paragraph separators, direction marks and invisible operators. They are legal in any text,
/// but make one line look like another.
fn is_hidden_mark(letter: char) -> bool {
    matches!(letter, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_written_out() {
        assert_eq!(escape("a\n\r\tb\u{1b}[31m\0\u{7f}\u{9b}"), r"a\n\r\tb\u{1b}[31m\u{0}\u{7f}\u{9b}");
        assert_eq!(escape("\u{202e}evil\u{2028}\u{2066}"), r"\u{202e}evil\u{2028}\u{2066}");
    }

    #[test]
    fn everything_else_stays() {
        let text = "Åsa – 老师 😀 \"quoted\" \\ e\u{301} \u{200d}";
        assert_eq!(escape(text), text);
    }
}
