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

pub(super) fn error_text(value: &Value) -> Option<String> {
    [&value["error"]["message"], &value["error"], &value["message"], &value["detail"]]
        .into_iter()
        .find(|candidate| !candidate.is_null())
        .map(|found| found.as_str().map_or_else(|| found.to_string(), str::to_owned))
}

/// One line, short enough for a message.
pub(super) fn excerpt(text: &str) -> String {
    const LONGEST: usize = 300;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} ...", &line[..end]),
        None => line,
    }
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
            (r#"{"detail":[{"msg":"required"}]}"#, r#"[{"msg":"required"}]"#),
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
