//! What a server says when it fails, in whichever form, and a piece of what cannot be read.

use serde_json::Value;

/// The server's own words in the body of a failed request, whichever of its frameworks wrote them.
pub fn error_message(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let message = serde_json::from_str(&text).ok().and_then(|value| error_text(&value));
    match message {
        Some(message) => excerpt(&message),
        None if text.trim().is_empty() => "(no message)".to_owned(),
        None => excerpt(&text),
    }
}

fn error_text(value: &Value) -> Option<String> {
    const NAMES: [&str; 6] = ["error", "message", "detail", "details", "msg", "error_description"];
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Array(errors) if !errors.is_empty() => {
            let texts: Option<Vec<_>> = errors.iter().map(error_text).collect();
            texts.map(|texts| texts.join("; "))
        }
        Value::Object(fields) => {
            let text = NAMES.iter().find_map(|&name| error_text(fields.get(name)?))?;
            // FastAPI names the field of the request that it refuses.
            let place = fields.get("loc").and_then(Value::as_array).map(|path| {
                let names: Vec<_> = path
                    .iter()
                    .map(|name| name.as_str().map_or_else(|| name.to_string(), str::to_owned))
                    .collect();
                format!(" ({})", names.join("."))
            });
            Some(text + &place.unwrap_or_default())
        }
        _ => None,
    }
}

/// One line, short enough for a message, and harmless to a terminal.
pub(crate) fn excerpt(text: &str) -> String {
    const MAX_CHARACTERS: usize = 300;
    let words = text.split_whitespace().flat_map(|word| [" ", word]).skip(1);
    let mut characters = words.flat_map(str::chars);
    let mut line = String::new();
    for character in characters.by_ref().take(MAX_CHARACTERS) {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    if characters.next().is_some() {
        line.push_str(" ...");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_words_are_found_in_each_form_of_error() {
        for (body, expected) in [
            (r#"{"error":{"message":"no such model"}}"#, "no such model"),
            (r#"{"error":"Unauthorized"}"#, "Unauthorized"),
            (r#"{"object":"error","message":"bad"}"#, "bad"),
            (r#"{"detail":"Not Found"}"#, "Not Found"),
            (
                r#"{"detail":[{"loc":["body","prompt",0],"msg":"required"},{"msg":"too long"}]}"#,
                "required (body.prompt.0); too long",
            ),
            (r#"{"code":422,"details":"too long"}"#, "too long"),
            (r#"{"error":{"code":9}}"#, r#"{"error":{"code":9}}"#),
            (r#""busy""#, "busy"),
            ("\u{1b}[31mred\u{7}", r"\u{1b}[31mred\u{7}"),
            ("<h1>Bad\n Gateway</h1>", "<h1>Bad Gateway</h1>"),
            (" \n", "(no message)"),
        ] {
            assert_eq!(error_message(body.as_bytes()), expected);
        }
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let message = error_message("é".repeat(1000).as_bytes());
        assert_eq!(message, format!("{} ...", "é".repeat(300)));
    }
}
