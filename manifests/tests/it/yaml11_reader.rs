//! A reader of YAML 1.1: a parser of its syntax, and its types as published at <https://yaml.org/type/>.
//!
//! The test's own idea of the standard, which shares nothing with the guard that it judges. What is no JSON becomes an
//! object with a key that no manifest has, so that it is never equal to a string.

use libyaml_safer::{EventData, Parser, ScalarStyle};
use regex_lite::Regex;
use serde_json::{Map, Value, json};

const NULL: &str = r"^(~|null|Null|NULL|)$";
const BOOL: &str =
    r"^(y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$";
const INT: &str = r"^([-+]?0b[0-1_]+|[-+]?0[0-7_]+|[-+]?(0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+|[-+]?[1-9][0-9_]*(:[0-5]?[0-9])+)$";
/// The published expression for decimal floats lets a lone `.` through and demands a sign in exponents; readers differ,
/// so the wider reading counts.
const FLOAT: &str = r"^([-+]?([0-9][0-9_]*)?\.[0-9_]*([eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$";
const TIMESTAMP: &str = r"^([0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(\.[0-9]*)?([ \t]*(Z|[-+][0-9]{1,2}(:[0-9]{2})?))?)$";
const MERGE_OR_VALUE: &str = r"^(<<|=)$";
/// Not of the standard: what the reader in kubectl takes for an integer besides, by Go's `ParseInt`.
const GO_INT: &str = r"^[-+]?0[oO][0-7_]+$";

/// The documents of a stream.
pub(crate) fn read(text: &str) -> Vec<Value> {
    let mut bytes = text.as_bytes();
    let mut parser = Parser::new();
    parser.set_input_string(&mut bytes);
    let types = Types::new();
    let mut next = || parser.parse().unwrap_or_else(|error| panic!("{error}\n{text}")).data;
    let mut documents = Vec::new();
    loop {
        match next() {
            EventData::StreamEnd => return documents,
            EventData::DocumentStart { .. } => {
                let first = next();
                documents.push(node(first, &mut next, &types));
            }
            _ => (),
        }
    }
}

fn node(event: EventData, next: &mut impl FnMut() -> EventData, types: &Types) -> Value {
    match event {
        EventData::Scalar { value, tag: None, style: ScalarStyle::Plain, .. } => types.of(&value),
        EventData::Scalar { value, tag: None, .. } => Value::String(value),
        EventData::SequenceStart { .. } => {
            let mut items = Vec::new();
            loop {
                match next() {
                    EventData::SequenceEnd => return Value::Array(items),
                    item => items.push(node(item, next, types)),
                }
            }
        }
        EventData::MappingStart { .. } => {
            let mut entries = Map::new();
            loop {
                let key = match next() {
                    EventData::MappingEnd => return Value::Object(entries),
                    key => node(key, next, types),
                };
                let value = next();
                let value = node(value, next, types);
                // A key of another type keeps its type in its text.
                let key =
                    key.as_str().map_or_else(|| format!("not a string: {key}"), str::to_owned);
                assert!(entries.insert(key, value).is_none(), "a key is there twice");
            }
        }
        other => panic!("no manifest holds {other:?}"),
    }
}

struct Types(Vec<(&'static str, Regex)>);

impl Types {
    fn new() -> Self {
        let types = [
            ("null", NULL),
            ("bool", BOOL),
            ("int", INT),
            ("int", GO_INT),
            ("float", FLOAT),
            ("timestamp", TIMESTAMP),
            ("merge or value", MERGE_OR_VALUE),
        ];
        Self(types.map(|(name, pattern)| (name, Regex::new(pattern).unwrap())).into())
    }

    /// The value of a bare word.
    fn of(&self, word: &str) -> Value {
        let name = self.0.iter().find(|(_, pattern)| pattern.is_match(word)).map(|(name, _)| *name);
        match name {
            None => Value::String(word.to_owned()),
            Some("null") => Value::Null,
            Some("bool") => {
                let word = word.to_lowercase();
                Value::Bool(matches!(word.as_str(), "y" | "yes" | "true" | "on"))
            }
            Some("int") if word == "0" || !word.starts_with('0') && word.parse::<i64>().is_ok() => {
                json!(word.parse::<i64>().unwrap())
            }
            Some(name) => json!({ "a bare": name, "word": word }),
        }
    }
}
