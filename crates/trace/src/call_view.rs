//! Reads a line without allocating: what an analysis of many million lines needs.
//!
//! [`Parser::parse`] knows the writer's own spelling of a call. Whatever it does not expect goes to
//! serde, as in [`crate::reader`], so what is read, and what is refused, is the same for every line.

use std::str;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    line::{Address, Call, Detail, ENTRY_PHASE, Line, MetaLine},
    reader::{Reason, parse_line},
};

/// A line, borrowed from its text where it is a call.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is the frequent one, and lives on the stack"
)]
pub enum LineView<'a> {
    Call(CallView<'a>),
    Meta(Box<MetaLine>),
}

/// A call; the fields are those of [`Call`] and [`Detail`], and times are whole nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallView<'a> {
    /// Since the start of the run.
    pub ts_ns: i64,
    pub pid: u32,
    pub tid: Option<u32>,
    /// The line's `type`.
    pub api: &'a str,
    pub func: &'a str,
    pub phase: &'a str,
    pub dur_ns: Option<u64>,
    pub ret: Option<u32>,
    pub error: Option<&'a str>,
    pub result: Option<Address>,
    pub depth: Option<u16>,
    pub parent: Option<&'a str>,
    pub function: Option<Address>,
    pub kernel: Option<u32>,
    pub grid: Option<[u32; 3]>,
    pub block: Option<[u32; 3]>,
    pub shared_bytes: Option<u64>,
    pub bytes: Option<u64>,
    pub count: Option<u64>,
    pub kind: Option<&'a str>,
    pub ptr: Option<Address>,
    pub dst: Option<Address>,
    pub src: Option<Address>,
    pub allocation: Option<Address>,
    pub module: Option<Address>,
    pub graph: Option<Address>,
    pub graph_exec: Option<Address>,
    pub event: Option<Address>,
    pub stream: Option<Address>,
}

impl CallView<'_> {
    /// Only the beginning of the call is known.
    pub fn is_entry(&self) -> bool {
        self.phase == ENTRY_PHASE
    }

    /// When the call returned; of an entry, when it began.
    pub fn end_ns(&self) -> i64 {
        self.ts_ns.saturating_add_unsigned(self.dur_ns.unwrap_or(0))
    }
}

/// Keeps a line that had to be read by serde while its view is in use.
#[derive(Default)]
pub struct Parser {
    call: Call,
}

impl Parser {
    /// Without its line feed, or with it.
    pub fn parse<'a>(&'a mut self, line: &'a [u8]) -> Result<LineView<'a>, Reason> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if let Some(call) = Scanner::new(line).call() {
            return Ok(LineView::Call(call));
        }
        match parse_line(line)? {
            Line::Meta(meta) => Ok(LineView::Meta(Box::new(meta))),
            Line::Call(call) => {
                self.call = call;
                let ts_ns = exact_ns(line).unwrap_or_else(|| from_milliseconds(self.call.ts));
                Ok(LineView::Call(view(&self.call, ts_ns)))
            }
        }
    }
}

/// The time of a line that was read as a floating-point number.
#[expect(clippy::cast_possible_truncation, reason = "saturates at 292 years")]
pub fn from_milliseconds(ts: f64) -> i64 {
    (ts * 1e6).round() as i64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn from_microseconds(duration: f64) -> u64 {
    (duration * 1e3).round() as u64
}

/// `ts` from its digits, as far as they are plain: a floating-point number of many days has lost its
/// last nanoseconds.
fn exact_ns(line: &[u8]) -> Option<i64> {
    #[derive(Deserialize)]
    struct Time<'a> {
        #[serde(borrow)]
        ts: &'a RawValue,
    }
    let Time { ts } = serde_json::from_slice(line).ok()?;
    let mut scanner = Scanner::new(ts.get().as_bytes());
    let ns = scanner.decimal(6)?;
    scanner.is_at_end().then_some(ns)?.try_into().ok()
}

fn view(call: &Call, ts_ns: i64) -> CallView<'_> {
    let Call { ts: _, pid, tid, r#type, func, phase, detail } = call;
    let Detail {
        dur_us,
        ret,
        error,
        result,
        depth,
        parent,
        function,
        kernel,
        grid,
        block,
        shared_bytes,
        bytes,
        count,
        kind,
        ptr,
        dst,
        src,
        allocation,
        module,
        graph,
        graph_exec,
        event,
        stream,
    } = &**detail;
    CallView {
        ts_ns,
        pid: *pid,
        tid: *tid,
        api: r#type,
        func,
        phase,
        dur_ns: dur_us.map(from_microseconds),
        ret: *ret,
        error: error.as_deref(),
        result: *result,
        depth: *depth,
        parent: parent.as_deref(),
        function: *function,
        kernel: *kernel,
        grid: *grid,
        block: *block,
        shared_bytes: *shared_bytes,
        bytes: *bytes,
        count: *count,
        kind: kind.as_deref(),
        ptr: *ptr,
        dst: *dst,
        src: *src,
        allocation: *allocation,
        module: *module,
        graph: *graph,
        graph_exec: *graph_exec,
        event: *event,
        stream: *stream,
    }
}

/// Accepts less than JSON allows, and only what serde would read the same way.
struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    fn call(&mut self) -> Option<CallView<'a>> {
        let mut call = CallView::default();
        self.literal(b"{\"ts\":")?;
        call.ts_ns = self.decimal(6)?.try_into().ok()?;
        self.literal(b",\"pid\":")?;
        call.pid = self.small()?;
        self.literal(b",\"t")?;
        if self.literal(b"id\":").is_some() {
            call.tid = Some(self.small()?);
            self.literal(b",\"t")?;
        }
        self.literal(b"ype\":\"cuda_")?;
        call.api = if self.literal(b"api").is_some() {
            "cuda_api"
        } else {
            self.literal(b"runtime")?;
            "cuda_runtime"
        };
        self.literal(b"\",\"func\":\"")?;
        call.func = self.rest_of_string()?;
        self.literal(b",\"phase\":\"")?;
        if self.literal(b"call\"").is_some() {
            call.phase = "call";
            self.details(&mut call)?;
        } else {
            self.literal(b"entry\"")?;
            call.phase = ENTRY_PHASE;
        }
        self.literal(b"}")?;
        self.is_at_end().then_some(call)
    }

    fn details(&mut self, call: &mut CallView<'a>) -> Option<()> {
        // One bit for each field: a second one of the same name is an error for serde.
        let mut seen = 0_u32;
        while self.literal(b",\"").is_some() {
            let bit = match self.key()? {
                b"dur_us" => self.optional(&mut call.dur_ns, Self::duration, 0)?,
                b"ret" => self.optional(&mut call.ret, Self::small, 1)?,
                b"error" => self.optional(&mut call.error, Self::string, 2)?,
                b"result" => self.optional(&mut call.result, Self::address, 3)?,
                b"depth" => self.optional(&mut call.depth, Self::small, 4)?,
                b"parent" => self.optional(&mut call.parent, Self::string, 5)?,
                b"function" => self.optional(&mut call.function, Self::address, 6)?,
                b"kernel" => self.optional(&mut call.kernel, Self::small, 7)?,
                b"grid" => self.optional(&mut call.grid, Self::triple, 8)?,
                b"block" => self.optional(&mut call.block, Self::triple, 9)?,
                b"shared_bytes" => self.optional(&mut call.shared_bytes, Self::integer, 10)?,
                b"bytes" => self.optional(&mut call.bytes, Self::integer, 11)?,
                b"count" => self.optional(&mut call.count, Self::integer, 12)?,
                b"kind" => self.optional(&mut call.kind, Self::string, 13)?,
                b"ptr" => self.optional(&mut call.ptr, Self::address, 14)?,
                b"dst" => self.optional(&mut call.dst, Self::address, 15)?,
                b"src" => self.optional(&mut call.src, Self::address, 16)?,
                b"allocation" => self.optional(&mut call.allocation, Self::address, 17)?,
                b"module" => self.optional(&mut call.module, Self::address, 18)?,
                b"graph" => self.optional(&mut call.graph, Self::address, 19)?,
                b"graph_exec" => self.optional(&mut call.graph_exec, Self::address, 20)?,
                b"event" => self.optional(&mut call.event, Self::address, 21)?,
                b"stream" => self.optional(&mut call.stream, Self::address, 22)?,
                _ => return None,
            };
            if seen & bit != 0 {
                return None;
            }
            seen |= bit;
        }
        Some(())
    }

    /// Behind its opening quote, and past the colon.
    fn key(&mut self) -> Option<&'a [u8]> {
        let rest = self.text.get(self.at..)?;
        let length = rest.iter().position(|&byte| byte == b'"')?;
        self.at += length + 1;
        self.literal(b":")?;
        Some(&rest[..length])
    }

    /// The bit of the field, once its value or `null` is read.
    fn optional<T>(
        &mut self,
        field: &mut Option<T>,
        value: impl Fn(&mut Self) -> Option<T>,
        bit: u32,
    ) -> Option<u32> {
        *field = if self.literal(b"null").is_some() { None } else { Some(value(self)?) };
        Some(1 << bit)
    }

    fn literal(&mut self, expected: &[u8]) -> Option<()> {
        let found = self.text.get(self.at..)?.starts_with(expected);
        self.at += if found { expected.len() } else { 0 };
        found.then_some(())
    }

    fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    /// Of at most 18 digits, so that nothing overflows.
    fn integer(&mut self) -> Option<u64> {
        let start = self.at;
        let mut number = 0_u64;
        while let Some(digit) = self.text.get(self.at).map(|byte| byte.wrapping_sub(b'0'))
            && digit <= 9
        {
            if self.at - start == 18 {
                return None;
            }
            number = number * 10 + u64::from(digit);
            self.at += 1;
        }
        let length = self.at - start;
        let has_leading_zero = length > 1 && self.text[start] == b'0';
        (length > 0 && !has_leading_zero).then_some(number)
    }

    fn small<T: TryFrom<u64>>(&mut self) -> Option<T> {
        self.integer()?.try_into().ok()
    }

    /// A number with at most `places` decimals, in units of the last of them.
    fn decimal(&mut self, places: usize) -> Option<u64> {
        let mut number = self.integer()?;
        let mut missing = places;
        if self.literal(b".").is_some() {
            let start = self.at;
            while let Some(digit) = self.text.get(self.at).map(|byte| byte.wrapping_sub(b'0'))
                && digit <= 9
            {
                missing = missing.checked_sub(1)?;
                number = number.checked_mul(10)?.checked_add(digit.into())?;
                self.at += 1;
            }
            if self.at == start {
                return None;
            }
        }
        for _ in 0..missing {
            number = number.checked_mul(10)?;
        }
        Some(number)
    }

    /// Up to 13 days, below which a floating-point number of microseconds has all nanoseconds.
    fn duration(&mut self) -> Option<u64> {
        self.decimal(3).filter(|&ns| ns < 1 << 50)
    }

    fn string(&mut self) -> Option<&'a str> {
        self.literal(b"\"")?;
        self.rest_of_string()
    }

    /// Behind its opening quote; printable ASCII without escapes.
    fn rest_of_string(&mut self) -> Option<&'a str> {
        let rest = self.text.get(self.at..)?;
        let length = rest
            .iter()
            .position(|byte| !matches!(byte, b' '..=b'~') || matches!(byte, b'"' | b'\\'))?;
        if rest[length] != b'"' {
            return None;
        }
        self.at += length + 1;
        str::from_utf8(&rest[..length]).ok()
    }

    fn address(&mut self) -> Option<Address> {
        self.literal(b"\"0x")?;
        let start = self.at;
        let mut number = 0_u64;
        loop {
            let digit = match *self.text.get(self.at)? {
                byte @ b'0'..=b'9' => byte - b'0',
                byte @ b'a'..=b'f' => byte - b'a' + 10,
                b'"' => break,
                _ => return None,
            };
            if self.at - start == 16 {
                return None;
            }
            number = number << 4 | u64::from(digit);
            self.at += 1;
        }
        let is_empty = self.at == start;
        self.at += 1;
        (!is_empty).then_some(Address(number))
    }

    fn triple(&mut self) -> Option<[u32; 3]> {
        let mut sizes = [0; 3];
        for (before, size) in [b"[", b",", b","].into_iter().zip(&mut sizes) {
            self.literal(before)?;
            *size = self.small()?;
        }
        self.literal(b"]")?;
        Some(sizes)
    }
}

#[cfg(test)]
mod tests;
