//! Words that people are shown in terminals and logs.

use std::borrow::Cow;

/// The text with what a terminal would not show as it is written out, such as `\u{1b}`.
#[must_use]
pub fn plain(text: &str) -> Cow<'_, str> {
    if is_plain(text) {
        return Cow::Borrowed(text);
    }
    let letters = text.chars().map(|letter| {
        let mut bytes = [0; 4];
        if is_plain(letter.encode_utf8(&mut bytes)) {
            letter.to_string()
        } else {
            letter.escape_default().to_string()
        }
    });
    Cow::Owned(letters.collect())
}

/// Whether a text is one line that a terminal shows as it is: no control character, no line or paragraph
/// separator, nothing that turns the direction of writing (Unicode Technical Report 36).
#[must_use]
pub fn is_plain(text: &str) -> bool {
    let turns = |letter: char| matches!(letter, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !text.chars().any(|letter| letter.is_control() || turns(letter))
}

/// 1,234,567.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut words = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at != 0 && (digits.len() - at).is_multiple_of(3) {
            words.push(',');
        }
        words.push(digit);
    }
    words
}

/// The first of a list, as a terminal shows them, and how many more there are.
#[must_use]
pub fn first_of(words: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<_> = words.iter().take(SHOWN).map(|word| plain(word)).collect();
    let more = words.len().saturating_sub(SHOWN);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::{first_of, grouped, is_plain, plain};

    #[test]
    fn numbers_and_lists_are_short_enough_to_read() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        let words = |count: u8| (0..count).map(|word| word.to_string()).collect::<Vec<_>>();
        assert_eq!(first_of(&words(0)), "");
        assert_eq!(first_of(&words(8)), "0, 1, 2, 3, 4, 5, 6, 7");
        assert_eq!(first_of(&words(10)), "0, 1, 2, 3, 4, 5, 6, 7 and 2 more");
        assert_eq!(first_of(&["a\nb".to_owned()]), "a\\nb");
    }

    #[test]
    fn a_terminal_shows_it_as_it_is() {
        for text in ["", "/etc/p olicy.hujson", "brèche: \u{1f6a8} node-1"] {
            assert!(is_plain(text), "{text}");
            assert_eq!(plain(text), text);
        }
        for text in ["a\nb", "\u{1b}[2J", "\r", "\0", "a\u{202e}b", "\u{9b}31m", "\u{2028}"] {
            assert!(!is_plain(text), "{text:?}");
            assert!(is_plain(&plain(text)), "{text:?}");
        }
        assert_eq!(plain("a\u{1b}[2J\nb"), r"a\u{1b}[2J\nb");
    }
}
