//! What a question is: something that looks at every line once, and then has an answer.

use trace::{call_view::CallView, line::MetaLine};

use crate::{
    answer::Answer,
    context::{Context, function::FunctionId, process::ProcessId},
    gap::Gap,
};

/// Lines come in the order of the trace; `context` knows of all lines up to this one.
pub trait Question {
    fn call(&mut self, call: &Call<'_>, context: &Context);

    /// A call before the window that was asked for: for who must know the state at its beginning.
    fn call_before(&mut self, _call: &Call<'_>, _context: &Context) {}

    fn meta(&mut self, _line: &MetaLine, _context: &Context) {}

    /// Told when it is found out, which may be behind the lines that it touches.
    fn gap(&mut self, _gap: &Gap, _context: &Context) {}

    fn finish(self: Box<Self>, context: &Context) -> Answer;
}

/// A call with its function and process as numbers, small and without gaps.
pub struct Call<'a> {
    pub line: &'a CallView<'a>,
    pub function: FunctionId,
    pub process: ProcessId,
}
