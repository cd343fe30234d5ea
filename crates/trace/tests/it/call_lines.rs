//! What the writer writes of a call, the reader reads: no field of a line is lost on the way.

use std::{
    collections::{BTreeSet, HashSet},
    path::Path,
};

use cuda::function::{
    Api, KNOWN,
    arguments::{Field, Place, ResultKind, result},
};
use serde_json::{Map, Value, json};
use trace::{
    line::{Call, Detail, Line},
    reader::Reader,
    writer::{CallText, Returned, push_call},
};

/// More bits than a JSON number keeps in many readers; no error, as its lower half is 0.
const SUCCESS: u64 = 0xffff_7f5c_0000_0000;
const OUT_OF_MEMORY: u64 = SUCCESS + 2;

/// What is not in the [`Detail`].
const COMMON: [&str; 6] = ["ts", "pid", "tid", "type", "func", "phase"];

#[test]
fn every_field_that_is_written_is_read_back() {
    let (mut fields, mut kinds) = (BTreeSet::new(), HashSet::new());
    for name in KNOWN.iter().copied() {
        for rax in [SUCCESS, OUT_OF_MEMORY] {
            let text = line(name, rax);
            let Ok(Value::Object(mut written)) = serde_json::from_str(&text) else {
                panic!("no object: {text}")
            };
            written.retain(|key, value| !COMMON.contains(&key.as_str()) && !value.is_null());
            fields.extend(
                Field::ALL.map(Field::key).into_iter().filter(|key| written.contains_key(*key)),
            );
            assert_eq!(values(*read(&text).detail), written, "{text}");
        }
        kinds.insert(result(name));
    }
    assert_eq!(fields, Field::ALL.map(Field::key).into(), "each has a value in some line");
    let all = [ResultKind::Code, ResultKind::Nothing, ResultKind::Pointer, ResultKind::Number];
    assert_eq!(kinds, all.into());
}

#[test]
fn what_a_function_returns_is_read_as_its_kind() {
    let returned = |name| {
        let Detail { ret, result, error, .. } = *read(&line(name, OUT_OF_MEMORY)).detail;
        (ret, result.map(|address| address.0), error)
    };
    let error = Some("CUDA_ERROR_OUT_OF_MEMORY".to_owned());
    assert_eq!(returned("cuMemAlloc_v2"), (Some(2), None, error));
    assert_eq!(returned("__cudaPushCallConfiguration"), (Some(2), None, None));
    assert_eq!(returned("__cudaRegisterFatBinary"), (None, Some(OUT_OF_MEMORY), None));
    assert_eq!(returned("__cudaRegisterFunction"), (None, None, None));
}

/// The line of a call of which all was read.
fn line(name: &str, result: u64) -> String {
    let api = Api::of(name).expect("the name of a CUDA function");
    let call = Returned {
        since_start_ns: 1_000_000,
        pid: 7,
        tid: 8,
        duration_ns: 1_234_056,
        result,
        depth: 1,
        parent: Some(&CallText::new("cudaMalloc", Api::Runtime)),
        kernel: Some(3),
    };
    let mut out = Vec::new();
    push_call(&mut out, &CallText::new(name, api), &call, |place| {
        Some(match place {
            Place::Register(number) => SUCCESS + 0x100 + u64::from(number),
            Place::Stack(word) => SUCCESS + 0x200 + u64::from(word),
            Place::Memory { register, word } => {
                SUCCESS + 0x1000 * (1 + u64::from(register)) + u64::from(word)
            }
            Place::Constant(number) => number.into(),
        })
    });
    String::from_utf8(out).expect("JSON is UTF-8")
}

fn read(line: &str) -> Call {
    match Reader::new(line.as_bytes(), Path::new("line")).next() {
        Some(Ok(Line::Call(call))) => call,
        other => panic!("{line}: {other:?}"),
    }
}

/// The fields that have a value. A field that is new in [`Detail`] has to be named here.
fn values(detail: Detail) -> Map<String, Value> {
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
    } = detail;
    let fields = json!({
        "dur_us": dur_us,
        "ret": ret,
        "error": error,
        "result": result,
        "depth": depth,
        "parent": parent,
        "function": function,
        "kernel": kernel,
        "grid": grid,
        "block": block,
        "shared_bytes": shared_bytes,
        "bytes": bytes,
        "count": count,
        "kind": kind,
        "ptr": ptr,
        "dst": dst,
        "src": src,
        "allocation": allocation,
        "module": module,
        "graph": graph,
        "graph_exec": graph_exec,
        "event": event,
        "stream": stream,
    });
    let Value::Object(mut fields) = fields else { unreachable!("written as an object") };
    fields.retain(|_, value| !value.is_null());
    fields
}
