/// A text with its control characters written out: they would do something to a terminal, and JSON's own escapes leave
/// some of them in.
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
