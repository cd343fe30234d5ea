//! Names of C++ functions as their source has them, in bounded space and time.
//!
//! A mangled name refers back to its own parts, so each of a few dozen references can double what
//! it stands for: 268 bytes of a hostile module would fill any memory. So the text is written into
//! a bounded buffer, and given up when that is full.
//!
//! Reading a name can take as long: the parser tries several meanings of a part, one after the
//! other, and within each of them several of the next part; 110 bytes took 73 s. Nothing can
//! interrupt it, but its time is bounded by how deep it may go. So each name is tried with little
//! depth first, and with more only if that did not take long.

use std::{fmt, time::Duration};

use cpp_demangle::{BorrowedSymbol, DemangleOptions, DemangleWrite, ParseOptions};
use rustix::time::{ClockId, clock_gettime};

/// Of the 28 743 kernels of a start of vLLM the longest has 10 228 bytes.
pub const MAX_DEMANGLED_BYTES: usize = 16 << 10;

/// An empty piece takes time too.
const MAX_PIECES: usize = MAX_DEMANGLED_BYTES;

/// How deep parts may lie in each other: two thirds of those kernels are content with the first
/// limit, which no name can make take 1 ms, and nearly all with the last. From one to the next a
/// name can make it take up to a hundred times as long.
const LIMITS: [u32; 6] = [40, 52, 64, 76, 86, 96];

/// Processor time after which no higher limit is tried: real names take a tenth of it.
const MAX_TRIAL: Duration = Duration::from_millis(2);

/// What may be spent in a run on trials that take longer or lead to nothing. Then each name has only the
/// first.
const MAX_SPENT: Duration = Duration::from_secs(2);

#[derive(Default)]
pub struct Demangler {
    spent: Duration,
}

impl Demangler {
    /// `None` for what is not mangled, was cut, has too much text, or takes too long.
    pub fn demangle(&mut self, name: &str) -> Option<String> {
        if !name.starts_with("_Z") {
            return None;
        }
        for limit in LIMITS {
            let started = processor_time();
            let text = demangled(name, limit);
            let took = processor_time().saturating_sub(started);
            if took > MAX_TRIAL || text.is_err() {
                self.spent += took;
            }
            match text {
                Err(Failure::Unread) if took <= MAX_TRIAL && self.spent <= MAX_SPENT => {}
                text => return text.ok(),
            }
        }
        None
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// It is no name, or lies too deep for this limit.
    Unread,
    /// It was read, and has too much text.
    Unwritten,
}

fn demangled(name: &str, limit: u32) -> Result<String, Failure> {
    let options = ParseOptions::default().recursion_limit(limit);
    let read = BorrowedSymbol::with_tail_and_options(name.as_bytes(), &options);
    let (symbol, _) = read.ok().filter(|(_, rest)| rest.is_empty()).ok_or(Failure::Unread)?;
    let mut text = BoundedText::default();
    let written = symbol.structured_demangle(&mut text, &DemangleOptions::default());
    written.map(|()| text.text).map_err(|_| Failure::Unwritten)
}

/// Of this thread: what others take does not count.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[derive(Default)]
struct BoundedText {
    text: String,
    pieces: usize,
}

impl DemangleWrite for BoundedText {
    fn write_string(&mut self, piece: &str) -> fmt::Result {
        self.pieces += 1;
        if self.pieces > MAX_PIECES || self.text.len() + piece.len() > MAX_DEMANGLED_BYTES {
            return Err(fmt::Error);
        }
        self.text.push_str(piece);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocations::allocated_bytes;

    fn demangle(name: &str) -> Option<String> {
        Demangler::default().demangle(name)
    }

    #[test]
    fn names_are_as_their_source_has_them() {
        assert_eq!(demangle("_Z3addPfi").as_deref(), Some("add(float*, int)"));
        for name in ["add", "_Z", "_Z3ad", "_Z3addPfi.garbage\0", ""] {
            assert_eq!(demangle(name), None, "{name}");
        }
        // Deeper than the first limit lets it.
        let name = format!("_Z1f{}i{}", "1TI".repeat(12), "E".repeat(12));
        assert_eq!(demangled(&name, LIMITS[0]), Err(Failure::Unread));
        let expected = format!("f({}int{})", "T<".repeat(12), " >".repeat(12));
        let text = demangle(&name).expect("a valid name");
        assert_eq!(text.replace(' ', ""), expected.replace(' ', ""));
    }

    /// `f(P<A, A>, P<P<A, A>, P<A, A>>, ...)`: each parameter is a pair of the one before it.
    fn doubling(levels: usize) -> String {
        const DIGITS: &[u8; 36] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
        let mut name = "_Z1f1PI1AS0_E".to_owned();
        for digit in DIGITS[1..=levels].iter().copied().map(char::from) {
            name.extend(["S_IS", &digit.to_string(), "_S", &digit.to_string(), "_E"]);
        }
        name
    }

    #[test]
    fn a_name_that_doubles_with_each_reference_is_given_up_in_little_memory() {
        let small = demangle(&doubling(3)).expect("a valid name");
        assert!(small.len() > demangle(&doubling(2)).unwrap().len() * 3 / 2, "{small}");
        let name = doubling(30);
        assert!(name.len() < 400);
        let bytes = allocated_bytes(|| assert_eq!(demangle(&name), None));
        assert!(bytes < 1 << 20, "{bytes}");
    }

    /// Each of them takes less than a trial may, so that only all together count: 20 000 took 60 s.
    #[test]
    fn many_names_that_lead_to_nothing_cannot_hold_up_the_recorder() {
        const NAMES: u32 = 20_000;
        let name = |number: u32| doubling(30).replace("_Z1f", &format!("_Z6f{number:05}"));
        let mut demangler = Demangler::default();
        let started = processor_time();
        for number in 0..NAMES {
            assert_eq!(demangler.demangle(&name(number)), None);
        }
        let took = processor_time().saturating_sub(started);
        assert!(took < Duration::from_secs(15), "{took:?}");
        assert_eq!(demangler.demangle("_Z3addPfi").as_deref(), Some("add(float*, int)"));
    }

    #[test]
    fn long_names_of_real_kernels_are_kept() {
        let name = format!("_Z1500{}v", "k".repeat(1500));
        assert_eq!(demangle(&name).unwrap(), format!("{}()", "k".repeat(1500)));
    }

    /// Measured in processor time of this thread, a hundredth of what one of them took before.
    #[test]
    fn names_that_are_slow_to_read_cannot_hold_up_the_recorder() {
        let mut demangler = Demangler::default();
        let started = processor_time();
        for part in ["nwdlsrDT", "StId", "cvDpM", "StnwdlsrDT"] {
            for count in 1..100 {
                let name = format!("_Z{}vtwD0Li0EDp", part.repeat(count));
                assert_eq!(demangler.demangle(&name), None);
            }
        }
        let took = processor_time().saturating_sub(started);
        assert!(took < Duration::from_secs(60), "{took:?}");
        assert_eq!(demangler.demangle("_Z3addPfi").as_deref(), Some("add(float*, int)"));
    }
}
