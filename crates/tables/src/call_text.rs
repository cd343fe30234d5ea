//! A call between its line and its columns: what is a column of numbers or text, and how a line is
//! written from them again.

use trace::{call_view::CallView, line::Address};

/// Columns of a call, in the order of a line's fields.
pub const COLUMNS: [&str; 33] = [
    "ts_ns",
    "pid",
    "tid",
    "type",
    "func",
    "phase",
    "dur_ns",
    "ret",
    "error",
    "result",
    "depth",
    "parent",
    "function",
    "kernel",
    "grid_x",
    "grid_y",
    "grid_z",
    "block_x",
    "block_y",
    "block_z",
    "shared_bytes",
    "bytes",
    "count",
    "kind",
    "ptr",
    "dst",
    "src",
    "allocation",
    "module",
    "graph",
    "graph_exec",
    "event",
    "stream",
];

/// What columns hold of one call; each is asked for once, in their order.
pub trait CallValues {
    fn integer(&mut self, column: usize) -> Option<i64>;
    fn text(&mut self, column: usize) -> Option<&[u8]>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    Nothing,
    Integer(i64),
    Text(&'a str),
}

/// What [`COLUMNS`] hold of a call. Numbers of 2^63 and more become negative.
pub fn values<'a>(call: &CallView<'a>) -> [Value<'a>; COLUMNS.len()] {
    let integer = |value: Option<i64>| value.map_or(Value::Nothing, Value::Integer);
    let number = |value: Option<u64>| integer(value.map(u64::cast_signed));
    let small = |value: Option<u32>| integer(value.map(i64::from));
    let text = |value: Option<&'a str>| value.map_or(Value::Nothing, Value::Text);
    let address = |value: Option<Address>| number(value.map(|address| address.0));
    let size = |sizes: Option<[u32; 3]>, at: usize| small(sizes.map(|sizes| sizes[at]));
    [
        Value::Integer(call.ts_ns),
        Value::Integer(call.pid.into()),
        small(call.tid),
        Value::Text(call.api),
        Value::Text(call.func),
        Value::Text(call.phase),
        number(call.dur_ns),
        small(call.ret),
        text(call.error),
        address(call.result),
        small(call.depth.map(u32::from)),
        text(call.parent),
        address(call.function),
        small(call.kernel),
        size(call.grid, 0),
        size(call.grid, 1),
        size(call.grid, 2),
        size(call.block, 0),
        size(call.block, 1),
        size(call.block, 2),
        number(call.shared_bytes),
        number(call.bytes),
        number(call.count),
        text(call.kind),
        address(call.ptr),
        address(call.dst),
        address(call.src),
        address(call.allocation),
        address(call.module),
        address(call.graph),
        address(call.graph_exec),
        address(call.event),
        address(call.stream),
    ]
}

impl CallValues for &[Value<'_>] {
    fn integer(&mut self, column: usize) -> Option<i64> {
        match self[column] {
            Value::Integer(number) => Some(number),
            _ => None,
        }
    }

    fn text(&mut self, column: usize) -> Option<&[u8]> {
        match self[column] {
            Value::Text(text) => Some(text.as_bytes()),
            _ => None,
        }
    }
}

/// Appends the line of a call in the sidecar's own spelling, which is read fastest. [`COLUMNS`] begin at
/// `first`; of fields without a value those in `nulls` are written as `null`, and others are not there.
pub fn push_call(out: &mut Vec<u8>, rows: &mut impl CallValues, first: usize, nulls: Nulls) {
    let mut column = first;
    let mut next = || {
        column += 1;
        column - 1
    };
    let ts_ns = rows.integer(next()).unwrap_or(0);
    out.extend_from_slice(if ts_ns < 0 { b"{\"ts\":-" } else { b"{\"ts\":" });
    push_decimal(out, ts_ns.unsigned_abs(), 1_000_000);
    for (place, (name, kind)) in FIELDS.into_iter().enumerate() {
        let at = next();
        let start = out.len();
        push_key(out, name);
        let has_value = match kind {
            Field::Text => rows.text(at).map(|text| push_text(out, text)),
            Field::Number => {
                rows.integer(at).map(|number| push_number(out, number.cast_unsigned()))
            }
            Field::Microseconds => {
                rows.integer(at).map(|ns| push_decimal(out, ns.cast_unsigned(), 1000))
            }
            Field::Address => {
                rows.integer(at).map(|address| push_address(out, address.cast_unsigned()))
            }
            Field::Size => {
                let [x, y, z] = [at, next(), next()].map(|at| rows.integer(at));
                let sizes = x.zip(y).zip(z);
                sizes.map(|((x, y), z)| push_size(out, [x, y, z]))
            }
        };
        match has_value {
            Some(()) => {}
            None if nulls.has(place) => out.extend_from_slice(b"null"),
            None => out.truncate(start),
        }
    }
    out.extend_from_slice(b"}\n");
}

/// Fields that a line has, but without a value.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Nulls(u32);

impl Nulls {
    /// Of a line, wherever it says `null`; a field that has no column does not count.
    pub fn of_line(line: &[u8]) -> Self {
        const NULL: &[u8] = b"\":null";
        let mut found = Self::default();
        let mut rest = line;
        while let Some(at) = rest.windows(NULL.len()).position(|window| window == NULL) {
            let name = rest[..at].rsplit(|&byte| byte == b'"').next().unwrap_or_default();
            found.add(name);
            rest = &rest[at + NULL.len()..];
        }
        found
    }

    /// Of a text as [`Self::text`] gives it.
    pub fn parse(text: &[u8]) -> Self {
        let mut found = Self::default();
        text.split(|&byte| byte == b' ').for_each(|name| found.add(name));
        found
    }

    /// The names of the fields, with spaces between them.
    pub fn text(self) -> String {
        let names = FIELDS.into_iter().enumerate();
        let names = names.filter(|&(place, _)| self.has(place)).map(|(_, (name, _))| name);
        names.collect::<Vec<_>>().join(" ")
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn add(&mut self, name: &[u8]) {
        let place = FIELDS.into_iter().position(|(field, _)| field.as_bytes() == name);
        self.0 |= place.map_or(0, |place| 1 << place);
    }

    fn has(self, place: usize) -> bool {
        self.0 >> place & 1 == 1
    }
}

#[derive(Clone, Copy)]
enum Field {
    Text,
    Number,
    Microseconds,
    Address,
    /// Three columns.
    Size,
}

/// Of a call line, behind `ts`.
const FIELDS: [(&str, Field); 28] = [
    ("pid", Field::Number),
    ("tid", Field::Number),
    ("type", Field::Text),
    ("func", Field::Text),
    ("phase", Field::Text),
    ("dur_us", Field::Microseconds),
    ("ret", Field::Number),
    ("error", Field::Text),
    ("result", Field::Address),
    ("depth", Field::Number),
    ("parent", Field::Text),
    ("function", Field::Address),
    ("kernel", Field::Number),
    ("grid", Field::Size),
    ("block", Field::Size),
    ("shared_bytes", Field::Number),
    ("bytes", Field::Number),
    ("count", Field::Number),
    ("kind", Field::Text),
    ("ptr", Field::Address),
    ("dst", Field::Address),
    ("src", Field::Address),
    ("allocation", Field::Address),
    ("module", Field::Address),
    ("graph", Field::Address),
    ("graph_exec", Field::Address),
    ("event", Field::Address),
    ("stream", Field::Address),
];

fn push_key(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn push_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn push_size(out: &mut Vec<u8>, sizes: [i64; 3]) {
    for (before, size) in ["[", ",", ","].into_iter().zip(sizes) {
        out.extend_from_slice(before.as_bytes());
        push_number(out, size.cast_unsigned());
    }
    out.push(b']');
}

/// `value / unit` with all its decimals; `unit` is a power of ten.
fn push_decimal(out: &mut Vec<u8>, value: u64, unit: u64) {
    push_number(out, value / unit);
    out.push(b'.');
    let mut unit = unit / 10;
    while unit > 0 {
        let digit = value / unit % 10;
        out.push(b'0' + u8::try_from(digit).expect("a digit"));
        unit /= 10;
    }
}

fn push_address(out: &mut Vec<u8>, address: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"\"0x");
    let first = (64 - (address | 1).leading_zeros()).div_ceil(4);
    for place in (0..first).rev() {
        out.push(DIGITS[(address >> (place * 4) & 15) as usize]);
    }
    out.push(b'"');
}

fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    if text.iter().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')) {
        out.push(b'"');
        out.extend_from_slice(text);
        out.push(b'"');
    } else {
        let text = String::from_utf8_lossy(text);
        serde_json::to_writer(out, &text).expect("text into memory");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_texts_are_spelled_as_the_sidecar_does() {
        let mut out = Vec::new();
        push_decimal(&mut out, 3_018_407_248, 1_000_000);
        push_decimal(&mut out, 4, 1000);
        push_address(&mut out, 0);
        push_address(&mut out, 0x55a3_82e7_5380);
        push_address(&mut out, u64::MAX);
        push_text(&mut out, "a\"\n\u{e9}".as_bytes());
        let expected = "3018.4072480.004\"0x0\"\"0x55a382e75380\"\"0xffffffffffffffff\"\
                        \"a\\\"\\n\u{e9}\"";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
