//! Function names as small numbers, with what the catalogue knows of each.

use std::collections::HashMap;

use cuda::function::{
    Api, Class,
    arguments::{ResultKind, result},
    canonical, class,
};

/// A trace knows some hundred functions; what is no trace may have any number of names.
const MAX_FUNCTIONS: usize = 8192;

/// Stands for all names beyond the most.
const OTHERS: &str = "(more functions)";

/// From 0 without gaps: an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionId(pub u32);

impl FunctionId {
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

#[derive(Debug, Clone)]
pub struct Function {
    pub name: Box<str>,
    /// Without version and stream suffix.
    pub canonical: Box<str>,
    pub class: Class,
    /// `None` where the name is none of CUDA's.
    pub api: Option<Api>,
    /// Its result is an error code.
    pub returns_code: bool,
}

#[derive(Default)]
pub struct Functions {
    all: Vec<Function>,
    by_name: HashMap<Box<str>, FunctionId, Hasher>,
    /// By a few bits of the name: most lines need no hash.
    recent: [Option<FunctionId>; 32],
}

impl Functions {
    pub(crate) fn intern(&mut self, name: &str) -> FunctionId {
        let slot = recent_slot(name);
        if let Some(id) = self.recent[slot]
            && *self.all[id.index()].name == *name
        {
            return id;
        }
        let id = match self.by_name.get(name) {
            Some(&id) => id,
            None if self.all.len() >= MAX_FUNCTIONS => self.add(OTHERS),
            None => self.add(name),
        };
        self.recent[slot] = Some(id);
        id
    }

    fn add(&mut self, name: &str) -> FunctionId {
        if let Some(&id) = self.by_name.get(name) {
            return id;
        }
        let id = FunctionId(u32::try_from(self.all.len()).expect("at most MAX_FUNCTIONS"));
        self.all.push(Function {
            name: name.into(),
            canonical: canonical(name).into(),
            class: class(name),
            api: Api::of(name),
            returns_code: result(name) == ResultKind::Code,
        });
        self.by_name.insert(name.into(), id);
        id
    }

    pub fn get(&self, id: FunctionId) -> &Function {
        &self.all[id.index()]
    }

    /// `None` if no line has had it.
    pub fn find(&self, name: &str) -> Option<FunctionId> {
        self.by_name.get(name).copied()
    }

    pub fn ids(&self) -> impl Iterator<Item = FunctionId> + use<> {
        (0..u32::try_from(self.all.len()).expect("at most MAX_FUNCTIONS")).map(FunctionId)
    }
}

fn recent_slot(name: &str) -> usize {
    let bytes = name.as_bytes();
    let at = |back: usize| bytes.len().checked_sub(back).map_or(0, |at| usize::from(bytes[at]));
    (bytes.len().wrapping_mul(7) ^ at(1) ^ at(6).wrapping_mul(5) ^ at(10).wrapping_mul(3)) % 32
}

/// Figures of each function, as many as there are.
#[derive(Debug, Clone)]
pub struct PerFunction<T>(Vec<T>);

impl<T> Default for PerFunction<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Default> PerFunction<T> {
    pub fn of(&mut self, id: FunctionId) -> &mut T {
        if id.index() >= self.0.len() {
            self.0.resize_with(id.index() + 1, T::default);
        }
        &mut self.0[id.index()]
    }

    pub fn get(&self, id: FunctionId) -> Option<&T> {
        self.0.get(id.index())
    }
}

/// What a question takes a function for: found out by its name once.
#[derive(Debug, Clone)]
pub struct ByName<T>(Vec<Option<T>>);

impl<T> Default for ByName<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Copy> ByName<T> {
    /// `of` gets the name as it stands in the line.
    pub fn get(&mut self, id: FunctionId, functions: &Functions, of: impl Fn(&str) -> T) -> T {
        if id.index() >= self.0.len() {
            self.0.resize(id.index() + 1, None);
        }
        *self.0[id.index()].get_or_insert_with(|| of(&functions.get(id).name))
    }
}

/// FNV-1a: names are short, and a line has no time for more.
#[derive(Default, Clone, Copy)]
pub struct Hasher;

impl std::hash::BuildHasher for Hasher {
    type Hasher = Fnv;

    fn build_hasher(&self) -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

pub struct Fnv(u64);

impl std::hash::Hasher for Fnv {
    fn finish(&self) -> u64 {
        // The table takes its upper and its lower bits.
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 29;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_number_and_strangers_do_not_fill_the_memory() {
        let mut functions = Functions::default();
        let first = functions.intern("cuInit");
        assert_eq!(functions.intern("cuMemAlloc_v2").0, 1);
        assert_eq!(functions.intern("cuInit"), first);
        assert_eq!(&*functions.get(FunctionId(1)).canonical, "cuMemAlloc");
        for number in 0..MAX_FUNCTIONS * 2 {
            functions.intern(&format!("cu{number}"));
        }
        assert_eq!(functions.all.len(), MAX_FUNCTIONS + 1);
        let other = functions.intern("cuSomethingElse");
        assert_eq!(&*functions.get(other).name, OTHERS);
    }
}
