//! Numbers as people read them.

use super::{Unit, Value};

/// Without grade.
pub fn shown(value: &Value, unit: Unit) -> String {
    match value {
        Value::None => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Text(text) => printable(text),
        Value::Integer(number) => in_unit(*number as f64, unit, || grouped(*number, unit)),
        Value::Float(number) => in_unit(*number, unit, || rounded(*number)),
        Value::List(values) => {
            values.iter().map(|value| shown(value, unit)).collect::<Vec<_>>().join(" ")
        }
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, value)| *value != Value::None)
            .map(|(name, value)| format!("{name} {}", shown(value, unit)))
            .collect::<Vec<_>>()
            .join(", "),
    }
}

fn in_unit(number: f64, unit: Unit, plain: impl Fn() -> String) -> String {
    match unit {
        Unit::None | Unit::Count => plain(),
        Unit::PerSecond => format!("{}/s", rounded(number)),
        Unit::Nanoseconds => duration(number),
        Unit::UnixNanoseconds => time_of_day(number),
        Unit::Bytes => bytes(number),
        Unit::Ratio => format!("{} %", rounded(number * 100.0)),
    }
}

/// `357 613`: a number that counts, not one that names.
fn grouped(number: i128, unit: Unit) -> String {
    let digits = number.unsigned_abs().to_string();
    if unit != Unit::Count || digits.len() < 5 {
        return number.to_string();
    }
    let mut text = if number < 0 { "-".to_owned() } else { String::new() };
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// `1 step`, `12 345 steps`.
pub fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(count.into(), Unit::Count), if count == 1 { one } else { many })
}

/// Three digits that matter.
fn rounded(number: f64) -> String {
    let size = number.abs();
    if size == 0.0 {
        "0".to_owned()
    } else if size < 0.01 {
        format!("{number:.1e}")
    } else if size < 1.0 {
        format!("{number:.3}")
    } else if size < 10.0 {
        format!("{number:.2}")
    } else if size < 100.0 {
        format!("{number:.1}")
    } else {
        format!("{number:.0}")
    }
}

pub fn duration(ns: f64) -> String {
    let size = ns.abs();
    let (divisor, unit) = match size {
        _ if size < 1e3 => (1.0, "ns"),
        _ if size < 1e6 => (1e3, "us"),
        _ if size < 1e9 => (1e6, "ms"),
        _ => (1e9, "s"),
    };
    format!("{} {unit}", rounded(ns / divisor))
}

pub fn bytes(bytes: f64) -> String {
    let size = bytes.abs();
    let (shift, unit) = match size {
        _ if size < 1024.0 => (0, "B"),
        _ if size < 1024.0 * 1024.0 => (10, "KiB"),
        _ if size < 1024.0 * 1024.0 * 1024.0 => (20, "MiB"),
        _ => (30, "GiB"),
    };
    if size >= 1024_f64.powi(4) * 9.0 {
        return format!("{} TiB", rounded(bytes / 1024_f64.powi(4)));
    }
    format!("{} {unit}", rounded(bytes / f64::from(1 << shift)))
}

fn time_of_day(unix_ns: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "years of our time")]
    let time = jiff::Timestamp::from_nanosecond(unix_ns as i128);
    time.map_or_else(|_| "-".to_owned(), |time| format!("{time:.3}"))
}

/// Names come from traces, and go to a terminal.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_the_singular() {
        let counted = |count| counted(count, "process", "processes");
        assert_eq!([0, 1, 12_345].map(counted), ["0 processes", "1 process", "12 345 processes"]);
    }

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        for (value, unit, expected) in [
            (Value::from(357_613_u64), Unit::Count, "357 613"),
            (Value::from(1234_u64), Unit::Count, "1234"),
            (Value::from(-1_234_567_i64), Unit::Count, "-1 234 567"),
            (Value::from(1_234_567_u64), Unit::None, "1234567"),
            (Value::from(1322_u64), Unit::Nanoseconds, "1.32 us"),
            (Value::from(61_000_000_000_u64), Unit::Nanoseconds, "61.0 s"),
            (Value::from(119_721_164_800_u64), Unit::Bytes, "111 GiB"),
            (Value::from(0.9471), Unit::Ratio, "94.7 %"),
            (Value::from(0.000_01), Unit::Ratio, "1.0e-3 %"),
            (Value::from(3300.2), Unit::PerSecond, "3300/s"),
            (Value::None, Unit::Bytes, "-"),
            (Value::from("a\u{1b}[2J"), Unit::None, "a\u{fffd}[2J"),
            (
                Value::from(1_795_494_481_398_774_480_i64),
                Unit::UnixNanoseconds,
                "2026-11-24T04:28:01.398Z",
            ),
        ] {
            assert_eq!(shown(&value, unit), expected);
        }
    }
}
