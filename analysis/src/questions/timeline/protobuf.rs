//! Protobuf's wire format, as far as a trace is written in it.

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;

pub(super) fn uint(out: &mut Vec<u8>, field: u32, value: u64) {
    tag(out, field, VARINT);
    varint(out, value);
}

pub(super) fn fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    tag(out, field, FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn text(out: &mut Vec<u8>, field: u32, value: &str) {
    tag(out, field, LENGTH_DELIMITED);
    varint(out, value.len() as u64);
    out.extend_from_slice(value.as_bytes());
}

/// A message inside the one that is being written; `write` adds its fields.
pub(super) fn message(out: &mut Vec<u8>, field: u32, write: impl FnOnce(&mut Vec<u8>)) {
    tag(out, field, LENGTH_DELIMITED);
    let start = out.len();
    // Most are short: the length has one byte.
    out.push(0);
    write(out);
    let length = out.len() - start - 1;
    if let Ok(length @ 0..0x80) = u8::try_from(length) {
        out[start] = length;
        return;
    }
    let mut prefix = Vec::with_capacity(10);
    varint(&mut prefix, length as u64);
    out.splice(start..=start, prefix);
}

fn tag(out: &mut Vec<u8>, field: u32, wire_type: u64) {
    varint(out, u64::from(field) << 3 | wire_type);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_format() {
        let mut out = Vec::new();
        uint(&mut out, 1, 150);
        text(&mut out, 2, "testing");
        message(&mut out, 3, |out| uint(out, 1, 150));
        fixed64(&mut out, 47, 1);
        assert_eq!(
            out,
            [
                &[0x08, 0x96, 0x01, 0x12, 0x07][..],
                b"testing",
                &[0x1a, 0x03, 0x08, 0x96, 0x01],
                &[0xf9, 0x02, 1, 0, 0, 0, 0, 0, 0, 0],
            ]
            .concat()
        );
    }

    #[test]
    fn a_long_message_has_a_long_length() {
        for length in [126, 127, 128, 300, 20_000] {
            let mut out = Vec::new();
            message(&mut out, 1, |out| out.resize(out.len() + length, 7));
            let content = &out[out.len() - length..];
            assert!(content.iter().all(|&byte| byte == 7));
            let mut expected = vec![0x0a];
            varint(&mut expected, length as u64);
            assert_eq!(out[..out.len() - length], expected);
        }
    }
}
