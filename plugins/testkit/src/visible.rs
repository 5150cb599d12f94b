/// Returns a text with its control characters escaped: they would affect a terminal, and JSON's own escapes do not
/// cover all of them.
pub(crate) fn visible(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, letter| {
        if letter.is_control() {
            shown.extend(letter.escape_unicode())
        } else {
            shown.push(letter)
        }
        shown
    })
}
