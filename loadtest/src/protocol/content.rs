//! The text of a message: a string, or parts of which each says what it is.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;

/// Takes any JSON value: what is no text is empty.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Content {
    pub(super) text: String,
    /// Parts of the type `thinking` or `reasoning`.
    pub(super) reasoning: String,
}

impl Content {
    fn take_part(&mut self, part: &Value) {
        let kind = part["type"].as_str().unwrap_or_default();
        if let Some(text) = part.as_str() {
            self.text.push_str(text);
        } else if kind == "thinking" || kind == "reasoning" {
            collect_text(&part[kind], &mut self.reasoning);
            collect_text(&part["text"], &mut self.reasoning);
        } else {
            collect_text(&part["text"], &mut self.text);
        }
    }
}

/// A string, or a list of parts with texts.
fn collect_text(value: &Value, into: &mut String) {
    match value {
        Value::String(text) => into.push_str(text),
        Value::Array(parts) => parts.iter().for_each(|part| collect_text(&part["text"], into)),
        _ => (),
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Content;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text or its parts")
    }

    fn visit_str<E>(self, text: &str) -> Result<Content, E> {
        Ok(Content { text: text.to_owned(), reasoning: String::new() })
    }

    fn visit_string<E>(self, text: String) -> Result<Content, E> {
        Ok(Content { text, reasoning: String::new() })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Content, A::Error> {
        let mut content = Content::default();
        while let Some(part) = parts.next_element::<Value>()? {
            content.take_part(&part);
        }
        Ok(content)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Content::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Content, E> {
        Ok(Content::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Content, E> {
        Ok(Content::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Content, E> {
        Ok(Content::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Content, E> {
        Ok(Content::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_value_is_taken() {
        for (json, text, reasoning) in [
            (r#""a""#, "a", ""),
            (r#"["a",{"type":"text","text":"b"}]"#, "ab", ""),
            (r#"[{"type":"thinking","thinking":"hm"},{"text":"b"}]"#, "b", "hm"),
            (r#"[{"type":"image_url","image_url":{}}]"#, "", ""),
            (r#"{"a":[1]}"#, "", ""),
            ("7", "", ""),
            ("-1.5", "", ""),
            ("true", "", ""),
        ] {
            let content: Content = serde_json::from_str(json).unwrap();
            assert_eq!(
                (content.text.as_str(), content.reasoning.as_str()),
                (text, reasoning),
                "{json}"
            );
        }
    }
}
