//! Text of trace lines. A call costs two integer conversions and one copy, no allocation.

use serde::Serialize as _;

use crate::{
    function::Api,
    line::{META_TYPE, Meta},
};

/// The constant end of a function's call lines, rendered once.
#[derive(Debug, Clone)]
pub struct CallText {
    entry: Box<[u8]>,
}

impl CallText {
    /// `name` must be an exported C symbol: it is written without escapes.
    pub fn new(name: &str, api: Api) -> Self {
        debug_assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'));
        let entry = format!(
            ",\"type\":\"{}\",\"func\":\"{name}\",\"phase\":\"entry\"}}\n",
            api.type_name()
        );
        Self { entry: entry.into_bytes().into() }
    }
}

/// Appends the line of a call that began `since_start_ns` after the start of the run.
pub fn push_entry(out: &mut Vec<u8>, since_start_ns: u64, pid: u32, tid: u32, text: &CallText) {
    let mut integers = itoa::Buffer::new();
    push_timestamp(out, since_start_ns, &mut integers);
    out.extend_from_slice(b",\"pid\":");
    out.extend_from_slice(integers.format(pid).as_bytes());
    out.extend_from_slice(b",\"tid\":");
    out.extend_from_slice(integers.format(tid).as_bytes());
    out.extend_from_slice(&text.entry);
}

/// Appends a meta line. The five common fields stand first, as in every line.
pub fn push_meta(out: &mut Vec<u8>, since_start_ns: u64, pid: u32, meta: &Meta) {
    let mut integers = itoa::Buffer::new();
    push_timestamp(out, since_start_ns, &mut integers);
    out.extend_from_slice(b",\"pid\":");
    out.extend_from_slice(integers.format(pid).as_bytes());
    out.extend_from_slice(b",\"type\":\"");
    out.extend_from_slice(META_TYPE.as_bytes());
    out.extend_from_slice(b"\",\"phase\":\"meta\",");
    // The tag `func` comes first in the object, whose opening brace is replaced.
    let body = out.len();
    meta.serialize(&mut serde_json::Serializer::new(&mut *out))
        .expect("maps with string keys and numbers always serialize");
    debug_assert_eq!(out[body], b'{');
    out.remove(body);
    out.push(b'\n');
}

/// `{"ts":` and milliseconds with six decimals: nanoseconds survive.
fn push_timestamp(out: &mut Vec<u8>, since_start_ns: u64, integers: &mut itoa::Buffer) {
    let (milliseconds, mut fraction) = (since_start_ns / 1_000_000, since_start_ns % 1_000_000);
    out.extend_from_slice(b"{\"ts\":");
    out.extend_from_slice(integers.format(milliseconds).as_bytes());
    let mut digits = *b".000000";
    for digit in digits[1..].iter_mut().rev() {
        *digit = b'0' + u8::try_from(fraction % 10).expect("a digit");
        fraction /= 10;
    }
    out.extend_from_slice(&digits);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::Library;

    fn entry(since_start_ns: u64) -> String {
        let mut out = Vec::new();
        push_entry(&mut out, since_start_ns, 7, 8, &CallText::new("cuInit", Api::Driver));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_call_line_has_the_five_fields_of_the_seed_and_the_thread() {
        assert_eq!(
            entry(1_234_567_890),
            "{\"ts\":1234.567890,\"pid\":7,\"tid\":8,\"type\":\"cuda_api\",\"func\":\"cuInit\",\
             \"phase\":\"entry\"}\n"
        );
    }

    #[test]
    fn timestamps_keep_leading_and_trailing_zeros() {
        assert!(entry(1).starts_with("{\"ts\":0.000001,"));
        assert!(entry(5_000_100).starts_with("{\"ts\":5.000100,"));
    }

    #[test]
    fn a_meta_line_begins_with_the_five_fields_too() {
        let meta = Meta::Library(Library {
            path: "/a \"b\"/libcuda.so.1".to_owned(),
            device: 1,
            inode: 2,
            found_by: "mapping".to_owned(),
            attached_late: true,
            functions: 3,
            single_stepped: 0,
            failed: std::collections::BTreeMap::new(),
        });
        let mut out = Vec::new();
        push_meta(&mut out, 0, 1, &meta);
        let text = String::from_utf8(out).unwrap();
        let start = "{\"ts\":0.000000,\"pid\":1,\"type\":\"meta\",\"phase\":\"meta\",\
                     \"func\":\"library\",\"path\":\"/a \\\"b\\\"/libcuda.so.1\"";
        assert!(text.starts_with(start), "{text}");
        assert_eq!(text.matches('\n').count(), 1);
    }
}
