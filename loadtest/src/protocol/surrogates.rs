//! Escapes of half a character, which JSON can write and no string can hold.

/// `text` with U+FFFD for each surrogate that stands alone; `None` if none does.
pub(super) fn replaced(text: &str) -> Option<String> {
    let mut result = String::new();
    let mut kept = 0;
    let mut at = 0;
    while let Some(found) = text[at..].find('\\') {
        let start = at + found;
        match surrogate(text, start) {
            Some(Half::High) if surrogate(text, start + 6) == Some(Half::Low) => at = start + 12,
            Some(_) => {
                result.push_str(&text[kept..start]);
                result.push_str("\\ufffd");
                (at, kept) = (start + 6, start + 6);
            }
            // The character behind a backslash is part of the escape; it may be a backslash itself.
            None => at = start + 1 + text[start + 1..].chars().next().map_or(0, char::len_utf8),
        }
    }
    (kept > 0).then(|| result + &text[kept..])
}

#[derive(PartialEq)]
enum Half {
    High,
    Low,
}

/// Which half the escape at `start` is, if it is one.
fn surrogate(text: &str, start: usize) -> Option<Half> {
    let digits = text.get(start..start + 6)?.strip_prefix("\\u")?;
    match u16::from_str_radix(digits, 16).ok()? {
        0xd800..=0xdbff => Some(Half::High),
        0xdc00..=0xdfff => Some(Half::Low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lonely_halves_are_replaced() {
        for (text, expected) in [
            (r"a\ud83d", Some(r"a\ufffd")),
            (r"\ude00b", Some(r"\ufffdb")),
            (r"\ud83d\ud83d\ude00", Some(r"\ufffd\ud83d\ude00")),
            (r"\ud83d\ude00", None),
            (r"\\ud83d", None),
            (r"\u00e9 \n", None),
            ("plain", None),
            ("\\", None),
            ("\\é", None),
            (r"\ud8", None),
        ] {
            assert_eq!(replaced(text).as_deref(), expected, "{text}");
        }
    }
}
