//! Text from traces in HTML: whoever is traced chooses names, so nothing of them is trusted.

use serde_json::Value as Json;

/// Letters of one text; a kernel's name may be longer.
const MAX_LENGTH: usize = 400;

/// For the content of an element, or of an attribute in quotes.
pub(super) fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    let mut before = ' ';
    let mut at = 0;
    while let Some(letter) = letters.next() {
        if at == MAX_LENGTH {
            html.push_str("...");
            break;
        }
        match letter {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            letter if is_misleading(letter) => html.push('\u{fffd}'),
            // A number stays in one line.
            ' ' if before.is_ascii_digit() && letters.peek().is_some_and(char::is_ascii_digit) => {
                html.push('\u{a0}');
            }
            letter => html.push(letter),
        }
        before = letter;
        at += 1;
    }
    html
}

/// For a `script` element that holds data: what HTML would read as its end cannot be in it.
pub(super) fn json_in_script(value: &Json) -> String {
    let text = value.to_string();
    let mut html = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                put!(html, "\\u{:04x}", u32::from(letter));
            }
            letter => html.push(letter),
        }
    }
    html
}

/// What controls a terminal, or turns the direction of the text behind it.
fn is_misleading(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_leaves_its_place() {
        assert_eq!(
            escaped("</td><script>alert('1')</script>\" onload=\"x\u{202e}\u{1b}"),
            "&lt;/td&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot; \
             onload=&quot;x\u{fffd}\u{fffd}"
        );
        assert_eq!(escaped("36 096 times of 7"), "36\u{a0}096 times of 7");
        assert_eq!(escaped(&"x".repeat(1000)).len(), MAX_LENGTH + 3);
        let hostile = serde_json::json!(["</script><!--<script>", "\u{2028}&"]);
        let text = json_in_script(&hostile);
        assert!(!text.contains(['<', '>', '&', '\u{2028}']), "{text}");
        assert_eq!(serde_json::from_str::<Json>(&text).unwrap(), hostile);
    }
}
