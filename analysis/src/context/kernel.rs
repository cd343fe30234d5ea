//! Kernels by their number in the run.

use std::collections::HashMap;

use trace::line;

use super::function::Hasher;

#[derive(Debug, Clone, Default)]
pub struct Kernel {
    /// As the module has it.
    pub name: Option<Box<str>>,
    pub demangled: Option<Box<str>>,
    pub reason: Option<Box<str>>,
}

impl Kernel {
    /// As the source has it, else as the module has it.
    pub fn full_name(&self) -> Option<&str> {
        self.demangled.as_deref().or(self.name.as_deref())
    }
}

#[derive(Default)]
pub struct Kernels(HashMap<u32, Kernel, Hasher>);

impl Kernels {
    pub(crate) fn name(&mut self, told: &line::Kernel) {
        let line::Kernel { id, name, demangled, reason } = told;
        let text = |text: &Option<String>| text.as_deref().map(Box::from);
        let kernel = Kernel { name: text(name), demangled: text(demangled), reason: text(reason) };
        self.0.insert(*id, kernel);
    }

    /// `None` if no line has told: one is missing.
    pub fn get(&self, id: u32) -> Option<&Kernel> {
        self.0.get(&id)
    }

    /// By their numbers.
    pub fn sorted(&self) -> Vec<(u32, &Kernel)> {
        let mut all: Vec<_> = self.0.iter().map(|(id, kernel)| (*id, kernel)).collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all
    }
}
