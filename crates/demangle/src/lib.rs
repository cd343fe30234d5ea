//! Names of C++ functions as `c++filt` of binutils prints them, to the byte, in bounded steps, depth and space.
//!
//! CUPTI, Nsight and torch.profiler print kernels so, and people join traces by these names. The name is parsed into
//! a tree, by the grammar of the Itanium C++ ABI, and the tree is printed.
//!
//! The traced process chooses the name. It refers back to its own parts, so each of a few dozen references can double
//! what it stands for: 268 bytes would fill any memory. So steps are counted and the text is measured while it is
//! made, and a name that has too much of either is given up.

mod builtin;
mod operator;
mod parse;
mod print;
mod tree;

/// Of the 28 743 kernels of a start of vLLM the longest has 10 228 bytes.
pub const MAX_DEMANGLED_BYTES: usize = 16 << 10;

/// For parsing and printing: none of those kernels takes 5000. A step takes some ten nanoseconds.
const MAX_STEPS: u32 = 1 << 15;

/// `None` for what is not mangled or was cut, and for what has too much text, takes too long or lies too deep.
pub fn demangle(name: &str) -> Option<String> {
    demangle_within(name, MAX_STEPS).0
}

/// And the steps that it took.
fn demangle_within(name: &str, max_steps: u32) -> (Option<String>, u32) {
    let mut steps = Steps { left: max_steps };
    let text = parse::parse(name, &mut steps)
        .and_then(|(tree, root)| print::print(&tree, root, MAX_DEMANGLED_BYTES, &mut steps).ok());
    (text, max_steps - steps.left)
}

struct Steps {
    left: u32,
}

impl Steps {
    /// `None` when there are not so many left.
    fn take(&mut self, number: usize) -> Option<()> {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let left = self.left.checked_sub(number);
        self.left = left.unwrap_or(0);
        left.map(|_| ())
    }
}

#[cfg(test)]
mod tests;
