//! Arguments of a call, as Perfetto shows them beside its slice.

use trace::call_view::CallView;

use super::{
    perfetto::{annotation, event},
    protobuf::{message, text, uint},
};
use crate::context::Context;

/// Names of arguments: one of these stands for its name in the file.
macro_rules! arguments {
    ($($argument:ident $name:literal,)*) => {
        #[derive(Debug, Clone, Copy)]
        pub(super) enum Argument {
            $($argument,)*
        }

        /// In the order of their numbers, from 1.
        pub(super) const ARGUMENTS: &[&str] = &[$($name),*];
    };
}

arguments! {
    Kernel "kernel",
    KernelId "kernel_id",
    Grid "grid",
    Block "block",
    SharedBytes "shared_bytes",
    Bytes "bytes",
    Count "count",
    Kind "kind",
    Function "function",
    Ptr "ptr",
    Dst "dst",
    Src "src",
    Allocation "allocation",
    Module "module",
    Graph "graph",
    GraphExec "graph_exec",
    Event "event",
    Stream "stream",
    Result "result",
    Ret "ret",
    Error "error",
    Kernels "kernels",
    DurNs "dur_ns",
    NoSlice "no_slice",
}

/// All but the kernel, whose name a sequence tells once.
pub(super) fn arguments(out: &mut Vec<u8>, line: &CallView<'_>, context: &Context) {
    for (name, triple) in [(Argument::Grid, line.grid), (Argument::Block, line.block)] {
        if let Some(triple) = triple {
            argument(out, name, |out| {
                for value in triple {
                    message(out, annotation::ARRAY, |out| {
                        uint(out, annotation::UINT, value.into());
                    });
                }
            });
        }
    }
    for (name, value) in [
        (Argument::SharedBytes, line.shared_bytes),
        (Argument::Bytes, line.bytes),
        (Argument::Count, line.count),
        (Argument::Ret, line.ret.filter(|&ret| ret != 0).map(u64::from)),
    ] {
        if let Some(value) = value {
            number(out, name, value);
        }
    }
    for (name, value) in [(Argument::Kind, line.kind), (Argument::Error, line.error)] {
        if let Some(value) = value {
            argument(out, name, |out| text(out, annotation::STRING, value));
        }
    }
    for (name, address) in [
        (Argument::Function, line.function),
        (Argument::Ptr, line.ptr),
        (Argument::Dst, line.dst),
        (Argument::Src, line.src),
        (Argument::Allocation, line.allocation),
        (Argument::Module, line.module),
        (Argument::Graph, line.graph),
        (Argument::GraphExec, line.graph_exec),
        (Argument::Event, line.event),
        (Argument::Stream, line.stream),
        (Argument::Result, line.result),
    ] {
        if let Some(address) = address {
            argument(out, name, |out| uint(out, annotation::POINTER, address.0));
        }
    }
    if let Some(graph_exec) = line.graph_exec
        && let Some(kernels) = context.graphs.kernels(line.pid, graph_exec)
    {
        number(out, Argument::Kernels, kernels.len() as u64);
    }
}

pub(super) fn number(out: &mut Vec<u8>, name: Argument, value: u64) {
    argument(out, name, |out| uint(out, annotation::UINT, value));
}

pub(super) fn argument(out: &mut Vec<u8>, name: Argument, write: impl FnOnce(&mut Vec<u8>)) {
    message(out, event::ANNOTATIONS, |out| {
        uint(out, annotation::NAME_IID, name as u64 + 1);
        write(out);
    });
}
