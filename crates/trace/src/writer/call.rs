//! The line of a call that has returned.

use super::{CallText, push_hexadecimal, push_number, push_start};
use cuda::{
    error_name::error_name,
    function::arguments::{Evaluated, Field, Form, Place, ResultKind},
};

/// A call that has returned.
#[derive(Debug, Clone, Copy)]
pub struct Returned<'a> {
    pub since_start_ns: u64,
    pub pid: u32,
    pub tid: u32,
    pub duration_ns: u64,
    /// The result register.
    pub result: u64,
    /// How many traced calls of the thread were open around it.
    pub depth: u16,
    /// The innermost of them.
    pub parent: Option<&'a CallText>,
    /// The kernel that [`Field::Function`] stands for.
    pub kernel: Option<u32>,
}

/// Appends the line of a call. `word` gives what stands at a place in the call, if it was read.
pub fn push_call(
    out: &mut Vec<u8>,
    text: &CallText,
    call: &Returned<'_>,
    word: impl Fn(Place) -> Option<u64>,
) {
    let mut integers = itoa::Buffer::new();
    push_start(out, call.since_start_ns, call.pid, call.tid, &mut integers);
    out.extend_from_slice(&text.call);
    push_microseconds(out, call.duration_ns, &mut integers);
    let has_failed = push_result(out, text, call.result, &mut integers);
    out.extend_from_slice(b",\"depth\":");
    out.extend_from_slice(integers.format(call.depth).as_bytes());
    if let Some(parent) = call.parent {
        out.extend_from_slice(&parent.parent);
    }
    for argument in text.arguments {
        push_key(out, argument.field);
        let is_void = argument.is_result && has_failed;
        let value = if is_void { None } else { argument.value.evaluate(&word) };
        push_value(out, argument.field, value);
        if argument.field == Field::Function
            && let Some(kernel) = call.kernel
        {
            out.extend_from_slice(b",\"kernel\":");
            push_number(out, kernel.into());
        }
    }
    out.extend_from_slice(b"}\n");
}

/// The value of a field of a call, where it is one word.
pub fn field_word(
    text: &CallText,
    result: u64,
    field: Field,
    word: impl Fn(Place) -> Option<u64>,
) -> Option<u64> {
    let argument = text.arguments.iter().find(|argument| argument.field == field)?;
    if argument.is_result && has_failed(text.result, result) {
        return None;
    }
    match argument.value.evaluate(word)? {
        Evaluated::Number(number) => Some(number),
        _ => None,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a code is the lower half of the register")]
fn has_failed(kind: ResultKind, result: u64) -> bool {
    kind == ResultKind::Code && result as u32 != 0
}

/// Whether the call says that it has failed.
#[expect(clippy::cast_possible_truncation, reason = "a code is the lower half of the register")]
fn push_result(
    out: &mut Vec<u8>,
    text: &CallText,
    result: u64,
    integers: &mut itoa::Buffer,
) -> bool {
    let code = result as u32;
    match text.result {
        ResultKind::Code | ResultKind::Number => {
            out.extend_from_slice(b",\"ret\":");
            out.extend_from_slice(integers.format(code).as_bytes());
        }
        ResultKind::Pointer => {
            out.extend_from_slice(b",\"ret\":null,\"result\":");
            push_hexadecimal(out, result);
        }
        ResultKind::Nothing => out.extend_from_slice(b",\"ret\":null"),
    }
    let has_failed = has_failed(text.result, result);
    if has_failed && let Some(name) = error_name(text.api, code) {
        out.extend_from_slice(b",\"error\":\"");
        out.extend_from_slice(name.as_bytes());
        out.push(b'"');
    }
    has_failed
}

fn push_key(out: &mut Vec<u8>, field: Field) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(field.key().as_bytes());
    out.extend_from_slice(b"\":");
}

fn push_value(out: &mut Vec<u8>, field: Field, value: Option<Evaluated>) {
    match value {
        None => out.extend_from_slice(b"null"),
        Some(Evaluated::Number(number)) if field.form() == Form::Hexadecimal => {
            push_hexadecimal(out, number);
        }
        Some(Evaluated::Number(number)) => push_number(out, number),
        Some(Evaluated::Triple(sizes)) => {
            for (before, size) in [b'[', b',', b','].into_iter().zip(sizes) {
                out.push(before);
                push_number(out, size);
            }
            out.push(b']');
        }
        Some(Evaluated::Direction(direction)) => {
            out.push(b'"');
            out.extend_from_slice(direction.name().as_bytes());
            out.push(b'"');
        }
    }
}

/// With three decimals: nanoseconds.
fn push_microseconds(out: &mut Vec<u8>, duration_ns: u64, integers: &mut itoa::Buffer) {
    out.extend_from_slice(integers.format(duration_ns / 1000).as_bytes());
    super::push_decimals(out, duration_ns % 1000, *b".000");
}

#[cfg(test)]
mod tests {
    use super::*;
    use cuda::function::{Api, canonical};

    fn line(name: &str, call: Returned<'_>, word: impl Fn(Place) -> Option<u64>) -> String {
        let mut out = Vec::new();
        push_call(&mut out, &CallText::new(name, Api::of(name).unwrap()), &call, word);
        String::from_utf8(out).unwrap()
    }

    const CALL: Returned<'_> = Returned {
        since_start_ns: 1_000_000,
        pid: 7,
        tid: 8,
        duration_ns: 1_234_056,
        result: 0,
        depth: 0,
        parent: None,
        kernel: None,
    };

    #[test]
    fn a_call_without_arguments_has_duration_code_and_depth() {
        insta::assert_snapshot!(
            line("cuInit", CALL, |_| None),
            @r#"{"ts":1.000000,"pid":7,"tid":8,"type":"cuda_api","func":"cuInit","phase":"call","dur_us":1234.056,"ret":0,"depth":0}"#
        );
    }

    #[test]
    fn a_failed_call_names_its_error_and_has_no_results() {
        let parent = CallText::new("cudaMalloc", Api::Runtime);
        // The upper half of the register is no part of the code.
        let failed =
            Returned { result: 0xffff_ffff_0000_0002, depth: 1, parent: Some(&parent), ..CALL };
        let line = line("cuMemAlloc_v2", failed, |_| Some(4096));
        assert!(line.contains(
            r#""ret":2,"error":"CUDA_ERROR_OUT_OF_MEMORY","depth":1,"parent":"cudaMalloc","#
        ));
        assert!(line.contains(r#""bytes":4096"#) && line.contains(r#""ptr":null"#), "{line}");
        assert_eq!(canonical("cuMemAlloc_v2"), "cuMemAlloc");
    }

    #[test]
    fn what_was_not_read_is_null() {
        let line = line("cuLaunchKernel", Returned { kernel: Some(3), ..CALL }, |place| {
            matches!(place, Place::Register(_)).then_some(5)
        });
        assert!(line.contains(r#""function":"0x5","kernel":3,"#), "{line}");
        assert!(line.contains(r#""block":null"#) && line.contains(r#""stream":null"#), "{line}");
        assert!(line.contains(r#""grid":[5,5,5]"#), "{line}");
    }
}
