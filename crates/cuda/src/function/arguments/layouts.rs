//! The table: which function has which arguments where.

mod build;
mod code;
mod copies;
mod launches;
mod memory;
mod nothing;
mod order;
mod structures;

use std::collections::HashMap;
use std::sync::LazyLock;

use super::Argument;

/// Functions that take the same arguments, without their suffix for the per-thread stream.
///
/// The comment before a row names the header that declares them, the types in their order, and of a
/// structure the byte offsets of the members used.
type Row = (&'static [&'static str], &'static [Argument]);

/// The arguments of a function, by its name without the suffix for the per-thread stream. `None` if
/// it is not in the table.
pub(super) fn of(name: &str) -> Option<&'static [Argument]> {
    static BY_NAME: LazyLock<HashMap<&str, &[Argument]>> = LazyLock::new(|| rows().collect());
    BY_NAME.get(name).copied()
}

/// Each function with its arguments.
fn rows() -> impl Iterator<Item = (&'static str, &'static [Argument])> {
    [code::ROWS, memory::ROWS, copies::ROWS, structures::ROWS, launches::ROWS, order::ROWS]
        .into_iter()
        .flatten()
        .chain(&[(nothing::NAMES, &[] as &[Argument])])
        .flat_map(|&(names, arguments)| names.iter().map(move |name| (*name, arguments)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::{
        Capture, Field, Form, MEMORY_WORDS, Place, REGISTERS, STACK_WORDS, Value, capture,
    };
    use super::*;
    use crate::function::{KNOWN, Selection, without_stream_suffix};

    #[test]
    fn each_function_of_the_default_set_is_decided_upon() {
        let decided: BTreeSet<_> = rows().map(|(name, _)| name).collect();
        let default: BTreeSet<_> =
            Selection::default().known().map(without_stream_suffix).collect();
        let missing: Vec<_> = default.difference(&decided).collect();
        assert!(missing.is_empty(), "neither in a table nor in nothing.rs: {missing:?}");
        let surplus: Vec<_> = decided.difference(&default).collect();
        assert!(surplus.is_empty(), "not in the default set: {surplus:?}");
    }

    #[test]
    fn each_function_is_in_one_row_with_each_field_once_and_in_order() {
        let mut seen = BTreeSet::new();
        for (name, arguments) in rows() {
            assert!(seen.insert(name), "{name} is in two rows");
            let fields: Vec<Field> = arguments.iter().map(|argument| argument.field).collect();
            assert!(fields.is_sorted_by(|a, b| a < b), "{name}: {fields:?}");
        }
    }

    #[test]
    fn per_thread_twins_share_a_row_and_unknown_versions_have_none() {
        for name in KNOWN.iter() {
            assert_eq!(
                super::super::arguments(name),
                of(without_stream_suffix(name)).unwrap_or_default(),
                "{name}"
            );
        }
        assert_eq!(
            super::super::arguments("cudaMemcpyAsync_ptsz"),
            super::super::arguments("cudaMemcpyAsync")
        );
        assert!(super::super::arguments("cuMemAlloc_v9").is_empty());
    }

    #[test]
    fn values_have_the_form_of_their_field() {
        for (name, arguments) in rows() {
            for argument in arguments {
                let fits = match argument.value {
                    Value::Word(_) | Value::FirstSet(_) => {
                        matches!(argument.field.form(), Form::Number | Form::Hexadecimal)
                    }
                    Value::Product(_) | Value::Volume { .. } => {
                        argument.field.form() == Form::Number
                    }
                    Value::Triple(_) => argument.field.form() == Form::Triple,
                    Value::MemcpyKind(_) | Value::Direction(_) | Value::MemoryTypes { .. } => {
                        argument.field.form() == Form::Text
                    }
                    Value::Located { .. } => argument.field.form() == Form::Hexadecimal,
                };
                assert!(fits, "{name}: {argument:?}");
            }
        }
    }

    #[test]
    fn what_is_captured_suffices() {
        for (name, arguments) in rows() {
            let Capture { registers, stack, memory, second } = capture(name);
            for word in arguments.iter().flat_map(|argument| argument.value.words()) {
                let is_captured = match word.place {
                    Place::Register(number) => registers && number < REGISTERS,
                    Place::Stack(word) => stack && word < STACK_WORDS,
                    Place::Memory { register, word } => {
                        registers
                            && register < REGISTERS
                            && (memory.is_some_and(|(window, words)| {
                                window == register && word < words && words <= MEMORY_WORDS
                            }) || second == Some(register) && word == 0)
                    }
                    Place::Constant(_) => true,
                };
                assert!(is_captured, "{name}: {word:?}");
            }
        }
    }

    #[test]
    fn captures_hold_what_they_must_and_no_more() {
        let registers = Capture { registers: true, ..Capture::default() };
        for (name, expected) in [
            ("cuInit", Capture::default()),
            ("cuGraphLaunch_ptsz", registers),
            ("cuLaunchKernel", Capture { stack: true, ..registers }),
            ("cudaMalloc", Capture { memory: Some((0, 1)), ..registers }),
            ("cudaMallocPitch", Capture { memory: Some((0, 1)), second: Some(1), ..registers }),
            ("cuMulticastCreate", Capture { memory: Some((1, 2)), second: Some(0), ..registers }),
            ("cuMemcpy3D_v2", Capture { memory: Some((0, MEMORY_WORDS)), ..registers }),
            ("cudaMalloc3D", Capture { stack: true, memory: Some((0, 2)), ..registers }),
            ("cudaLaunchKernelExC", Capture { memory: Some((0, 5)), ..registers }),
            ("cuGraphAddKernelNode", Capture { memory: Some((4, 5)), ..registers }),
            ("cuGraphAddKernelNode_v2", Capture { memory: Some((4, 8)), ..registers }),
            ("cuGraphClone", Capture { memory: Some((0, 1)), ..registers }),
        ] {
            assert_eq!(capture(name), expected, "{name}");
        }
    }
}
