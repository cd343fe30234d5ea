//! Text of trace lines. A call costs a few integer conversions and copies, no allocation.

mod call;

pub use call::{Returned, field_word, push_call};

use serde::Serialize as _;

use cuda::function::{
    Api,
    arguments::{Argument, ResultKind, arguments, result},
};

use crate::line::{META_TYPE, Meta};

/// What is the same in all lines of a function: rendered and looked up once.
#[derive(Debug, Clone)]
pub struct CallText {
    api: Api,
    entry: Box<[u8]>,
    call: Box<[u8]>,
    parent: Box<[u8]>,
    result: ResultKind,
    arguments: &'static [Argument],
}

impl CallText {
    /// Any name makes a valid line.
    pub fn new(name: &str, api: Api) -> Self {
        let quoted = serde_json::Value::from(name);
        let text = |end: &str| {
            let text = format!(",\"type\":\"{}\",\"func\":{quoted},{end}", api.type_name());
            text.into_bytes().into()
        };
        Self {
            api,
            entry: text("\"phase\":\"entry\"}\n"),
            call: text("\"phase\":\"call\",\"dur_us\":"),
            parent: format!(",\"parent\":{quoted}").into_bytes().into(),
            result: result(name),
            arguments: arguments(name),
        }
    }
}

/// Appends the line of a call that began `since_start_ns` after the start of the run.
pub fn push_entry(out: &mut Vec<u8>, since_start_ns: u64, pid: u32, tid: u32, text: &CallText) {
    push_start(out, since_start_ns, pid, tid, &mut itoa::Buffer::new());
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

/// Time, process and thread: the beginning of every call line.
fn push_start(
    out: &mut Vec<u8>,
    since_start_ns: u64,
    pid: u32,
    tid: u32,
    integers: &mut itoa::Buffer,
) {
    push_timestamp(out, since_start_ns, integers);
    out.extend_from_slice(b",\"pid\":");
    out.extend_from_slice(integers.format(pid).as_bytes());
    out.extend_from_slice(b",\"tid\":");
    out.extend_from_slice(integers.format(tid).as_bytes());
}

/// `{"ts":` and milliseconds with six decimals: nanoseconds survive.
fn push_timestamp(out: &mut Vec<u8>, since_start_ns: u64, integers: &mut itoa::Buffer) {
    out.extend_from_slice(b"{\"ts\":");
    out.extend_from_slice(integers.format(since_start_ns / 1_000_000).as_bytes());
    push_decimals(out, since_start_ns % 1_000_000, *b".000000");
}

/// `value` in as many decimals as `digits` has zeros.
fn push_decimals<const LENGTH: usize>(out: &mut Vec<u8>, value: u64, mut digits: [u8; LENGTH]) {
    let mut value = value;
    for digit in digits[1..].iter_mut().rev() {
        *digit = b'0' + u8::try_from(value % 10).expect("a digit");
        value /= 10;
    }
    out.extend_from_slice(&digits);
}

fn push_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// `"0x7f5c2a000000"`: text, because JSON readers keep 53 bits of a number.
fn push_hexadecimal(out: &mut Vec<u8>, number: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 16];
    let mut first = text.len();
    let mut rest = number;
    loop {
        first -= 1;
        text[first] = DIGITS[(rest & 15) as usize];
        rest >>= 4;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(b"\"0x");
    out.extend_from_slice(&text[first..]);
    out.push(b'"');
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
    fn a_name_with_quotes_and_control_characters_is_read_back_as_it_was() {
        let name = "cuA\\\"},\n{\"ts\":0,\u{1b}[2J\u{0}é";
        let text = CallText::new(name, Api::Driver);
        let mut out = Vec::new();
        push_entry(&mut out, 1, 7, 8, &text);
        let call = Returned {
            since_start_ns: 1,
            pid: 7,
            tid: 8,
            duration_ns: 1,
            result: 0,
            depth: 1,
            parent: Some(&text),
            kernel: None,
        };
        push_call(&mut out, &text, &call, |_| None);
        let lines = String::from_utf8(out).unwrap();
        let lines: Vec<serde_json::Value> =
            lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [entry, call] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!(
            (&entry["func"], &call["func"], &call["parent"]),
            (&name.into(), &name.into(), &name.into())
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
